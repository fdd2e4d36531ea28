package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// The files of the facts, in the demo's directory.
const (
	factsFile = "demo.env"
	// factsOldFile keeps the passwords until the demo is ready, so that no script takes the facts of the last run for this one's.
	factsOldFile = "demo.env.old"
	// maxFacts bounds what is read of them, in octets.
	maxFacts = 64 << 10
)

// fact is one line of demo.env.
type fact struct{ name, value string }

// demoFacts are what a script needs to use the demo; these names, in this order, are its interface.
func demoFacts(domain string, users []demoUser, certFile string, base int) []fact {
	port := func(offset int) string { return strconv.Itoa(base + offset) }
	return []fact{
		{"HOST", demoHost},
		{"DOMAIN", domain},
		{"POP3_PORT", port(offsetPOP3)},
		{"POP3S_PORT", port(offsetPOP3S)},
		{"SMTP_PORT", port(offsetMX)},
		{"SUBMISSION_PORT", port(offsetSubmission)},
		{"SMTPS_PORT", port(offsetSMTPS)},
		{"USER1", users[0].name + "@" + domain},
		{"PASS1", users[0].password},
		{"USER2", users[1].name + "@" + domain},
		{"PASS2", users[1].password},
		{"CA_FILE", certFile},
		{"PID", strconv.Itoa(os.Getpid())},
		{"WEB_URL", "http://localhost:" + port(offsetWeb)}, // a name, so that passkeys can be tried
	}
}

// readFacts reads the facts of the last run, none if there was none.
func readFacts(dir string) (map[string]string, error) {
	f, err := os.Open(filepath.Join(dir, factsFile))
	if errors.Is(err, fs.ErrNotExist) {
		f, err = os.Open(filepath.Join(dir, factsOldFile))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read from
	data, err := io.ReadAll(io.LimitReader(f, maxFacts))
	if err != nil {
		return nil, err
	}
	facts := map[string]string{}
	for line := range strings.Lines(string(data)) {
		if name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "="); ok {
			facts[name] = unquote(value)
		}
	}
	return facts, nil
}

// putFactsAside takes the facts of the last run out of sight. The caller has the store, so no other demo is described by them.
func putFactsAside(dir string) error {
	err := os.Rename(filepath.Join(dir, factsFile), filepath.Join(dir, factsOldFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// writeFacts writes demo.env for its owner only, all of it or nothing.
func writeFacts(dir string, facts []fact) error {
	var b bytes.Buffer
	for _, f := range facts {
		fmt.Fprintf(&b, "%s=%s\n", f.name, quote(f.value))
	}
	f, err := os.CreateTemp(dir, factsFile+".*") // 0600
	if err != nil {
		return err
	}
	_, err = f.Write(b.Bytes())
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, factsFile))
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	if err := os.Remove(filepath.Join(dir, factsOldFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// quote writes a value so that a shell reads it back whatever is in it.
func quote(value string) string {
	safe := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("@%+=:,./-_", r)
	}
	if value != "" && strings.IndexFunc(value, func(r rune) bool { return !safe(r) }) < 0 {
		return value
	}
	return "'" + strings.ReplaceAll(value, "'", `'\''`) + "'"
}

// unquote reads what quote writes.
func unquote(text string) string {
	inner, quoted := strings.CutPrefix(text, "'")
	if !quoted {
		return text
	}
	return strings.ReplaceAll(strings.TrimSuffix(inner, "'"), `'\''`, "'")
}

// printDemo prints what to type next.
func printDemo(w io.Writer, facts []fact, dir, fingerprint string) error {
	pairs := []string{"{DIR}", quote(dir), "{FINGERPRINT}", fingerprint, "{LATCHKEY}", quote(os.Args[0])}
	for _, f := range facts {
		pairs = append(pairs, "{"+f.name+"}", quote(f.value))
	}
	_, err := io.WriteString(w, strings.NewReplacer(pairs...).Replace(demoText))
	return err
}

const demoText = `
Latchkey serves {DOMAIN} on {HOST}. Two mailboxes, one password each for POP3 and SMTP:

  {USER1}   {PASS1}
  {USER2}   {PASS2}

Send a message from the first to the second, and fetch it:

  printf 'From: {USER1}\r\nTo: {USER2}\r\nSubject: Hello\r\n\r\nOne key, both doors.\r\n' |
    curl -sS --ssl-reqd --cacert {CA_FILE} smtp://{HOST}:{SUBMISSION_PORT} \
      -u {USER1}:{PASS1} --mail-from {USER1} --mail-rcpt {USER2} -T -

  curl -sS --cacert {CA_FILE} pop3s://{HOST}:{POP3S_PORT}/1 -u {USER2}:{PASS2}

The same with swaks, and as a stranger's server would deliver it:

  swaks --server {HOST}:{SUBMISSION_PORT} --tls --tls-verify --tls-ca-path {CA_FILE} --auth LOGIN --auth-user {USER1} --auth-password {PASS1} \
    --from {USER1} --to {USER2}
  swaks --server {HOST}:{SMTP_PORT} --from stranger@other.example --to {USER2}

POP before SMTP: look for mail, and for 20 minutes the same address may send without a password:

  curl -sS --cacert {CA_FILE} pop3s://{HOST}:{POP3S_PORT}/ -u {USER1}:{PASS1}
  swaks --server {HOST}:{SMTP_PORT} --from {USER1} --to {USER2}

For a mail program (accept the certificate, SHA-256 {FINGERPRINT}; Thunderbird takes none that nobody signed, so none there):

  incoming  POP3  {HOST}  port {POP3S_PORT} with TLS, or {POP3_PORT} with STARTTLS or none
  outgoing  SMTP  {HOST}  port {SMTPS_PORT} with TLS, or {SUBMISSION_PORT} with STARTTLS or none
  user name {USER1}, normal password, for both

The Webmanager, in a browser; {USER1} manages the domain there, and the operator signs in by a link of latchkey web-login:

  {WEB_URL}

Help there says what to type into each mail program: names under .localhost are this machine for most of them, {HOST} is for all.

Look after it:

  {LATCHKEY} account list --data {DIR}
  {LATCHKEY} trail {USER1} --data {DIR}
  {LATCHKEY} grant list --data {DIR}
  {LATCHKEY} settings preview pop_before_smtp=off --data {DIR}

Scripts find all this in {DIR}/demo.env. Ctrl-C stops it; the next start goes on with the same mail.

`
