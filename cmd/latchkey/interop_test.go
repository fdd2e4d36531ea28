//go:build interop

package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Real mail programs, each with every kind of connection and every AUTH mechanism that it has.

// security is how a program protects its connection.
type security string

const (
	cleartext security = "plain" // allowed from loopback only
	startTLS  security = "starttls"
	implicit  security = "tls"
)

var securities = []security{cleartext, startTLS, implicit}

const (
	annasPassword = "anna's key: 17"
	bertsPassword = "correct-horse-battery"
)

// interopServer has the mailboxes anna and bert.
func interopServer(t *testing.T) *testServer {
	t.Helper()
	s := startServer(t, "example.com")
	s.addAccount("anna", annasPassword)
	s.addAccount("bert", bertsPassword)
	return s
}

// port returns the door of a protocol for a kind of connection.
func (s *testServer) port(sec security, plain, tls string) string {
	s.t.Helper()
	door := plain
	if sec == implicit {
		door = tls
	}
	_, port, err := net.SplitHostPort(s.addr(door))
	if err != nil {
		s.t.Fatal(err)
	}
	return port
}

// run runs a program with input and fails the test with what it said if it fails.
func run(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "LC_ALL=C.UTF-8")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s%s", strings.Join(args, " "), err, out.String(), errs.String())
	}
	return out.String()
}

// file writes a configuration file that only its owner may read.
func file(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// sendingProgram sends a message from anna to bert.
type sendingProgram struct {
	name, program string
	mechanisms    []string
	securities    []security
	send          func(t *testing.T, s *testServer, sec security, mechanism, message string)
}

var sendingPrograms = []sendingProgram{
	{"curl", "curl", []string{"PLAIN", "LOGIN"}, securities, sendCurl},
	{"swaks", "swaks", []string{"PLAIN", "LOGIN"}, securities, sendSwaks},
	{"msmtp", "msmtp", []string{"plain", "login"}, securities, sendMsmtp},
	{"s-nail", "s-nail", []string{"plain", "login"}, securities, sendSNail},
	{"smtplib", "python3", []string{"plain", "login"}, securities, sendPython},
}

func sendCurl(t *testing.T, s *testServer, sec security, mechanism, message string) {
	scheme := "smtp"
	if sec == implicit {
		scheme = "smtps"
	}
	args := []string{
		"curl", "-sS", "--cacert", s.config.TLS.Cert, "--login-options", "AUTH=" + mechanism, "-u", "anna@example.com:" + annasPassword,
		"--mail-from", "anna@example.com", "--mail-rcpt", "bert@example.com", "-T", "-",
		scheme + "://127.0.0.1:" + s.port(sec, "submission", "smtps"),
	}
	if sec == startTLS {
		args = append(args, "--ssl-reqd")
	}
	run(t, message, args...)
}

func sendSwaks(t *testing.T, s *testServer, sec security, mechanism, message string) {
	args := []string{
		"swaks", "--server", "127.0.0.1", "--port", s.port(sec, "submission", "smtps"), "--auth", mechanism,
		"--auth-user", "anna@example.com", "--auth-password", annasPassword, "--from", "anna@example.com", "--to", "bert@example.com",
		"--data", file(t, "message", message),
	}
	switch sec {
	case startTLS:
		args = append(args, "--tls", "--tls-verify", "--tls-ca-path", s.config.TLS.Cert)
	case implicit:
		args = append(args, "--tls-on-connect", "--tls-verify", "--tls-ca-path", s.config.TLS.Cert)
	}
	run(t, "", args...)
}

func sendMsmtp(t *testing.T, s *testServer, sec security, mechanism, message string) {
	args := []string{
		"msmtp", "--host=127.0.0.1", "--port=" + s.port(sec, "submission", "smtps"), "--auth=" + mechanism, "--user=anna@example.com",
		"--passwordeval=cat " + file(t, "password", annasPassword), "--from=anna@example.com",
	}
	switch sec {
	case cleartext:
		args = append(args, "--tls=off")
	case startTLS:
		args = append(args, "--tls=on", "--tls-starttls=on", "--tls-trust-file="+s.config.TLS.Cert)
	case implicit:
		args = append(args, "--tls=on", "--tls-starttls=off", "--tls-trust-file="+s.config.TLS.Cert)
	}
	run(t, message, append(args, "bert@example.com")...)
}

func sendSNail(t *testing.T, s *testServer, sec security, mechanism, message string) {
	scheme := "smtp"
	if sec == implicit {
		scheme = "smtps"
	}
	subject := strings.TrimPrefix(strings.SplitN(message, "\r\n", 2)[0], "Subject: ")
	args := []string{
		"s-nail", "-:/", "-S", "v15-compat=yes", "-S", "sendwait", "-S", "from=anna@example.com", "-S", "tls-ca-file=" + s.config.TLS.Cert,
		"-S", "tls-ca-no-defaults", "-S", "tls-verify=strict", "-S", "smtp-auth=" + mechanism, "-S", "user=anna@example.com",
		"-S", "password=" + annasPassword, "-S", "mta=" + scheme + "://127.0.0.1:" + s.port(sec, "submission", "smtps"),
	}
	if sec == startTLS {
		args = append(args, "-S", "smtp-use-starttls")
	}
	_, body, _ := strings.Cut(message, "\r\n\r\n")
	run(t, strings.ReplaceAll(body, "\r\n", "\n"), append(args, "-s", subject, "bert@example.com")...)
}

const pythonSend = `
import smtplib, ssl, sys
kind, mechanism, port, ca, password = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
if kind == "tls":
    smtp = smtplib.SMTP_SSL("127.0.0.1", int(port), context=context)
else:
    smtp = smtplib.SMTP("127.0.0.1", int(port))
smtp.ehlo()
if kind == "starttls":
    smtp.starttls(context=context)
    smtp.ehlo()
smtp.user, smtp.password = "anna@example.com", password
smtp.auth(mechanism.upper(), getattr(smtp, "auth_" + mechanism))
smtp.sendmail("anna@example.com", ["bert@example.com"], sys.stdin.buffer.read())
smtp.quit()
`

func sendPython(t *testing.T, s *testServer, sec security, mechanism, message string) {
	run(t, message, "python3", "-c", pythonSend, string(sec), mechanism, s.port(sec, "submission", "smtps"), s.config.TLS.Cert, annasPassword)
}

func TestInteropSend(t *testing.T) {
	s := interopServer(t)
	for _, p := range sendingPrograms {
		for _, sec := range p.securities {
			for _, mechanism := range p.mechanisms {
				t.Run(fmt.Sprintf("%s/%s/%s", p.name, sec, mechanism), func(t *testing.T) {
					need(t, p.program)
					subject := fmt.Sprintf("from %s by %s with %s", p.name, sec, mechanism)
					before := len(s.fetch("bert", bertsPassword))
					p.send(t, s, sec, mechanism, "Subject: "+subject+"\r\nFrom: anna@example.com\r\nTo: bert@example.com\r\n\r\nbody\r\n.dot\r\n..\r\n")
					messages := s.fetch("bert", bertsPassword)
					if len(messages) != before+1 {
						t.Fatalf("%d messages more, want 1", len(messages)-before)
					}
					got := messages[before]
					with := "ESMTPSA"
					if sec == cleartext {
						with = "ESMTPA"
					}
					for _, want := range []string{"Subject: " + subject + "\n", "\n\nbody\n.dot\n..\n", "with " + with, "\nMessage-I", "\nDate: "} {
						if !strings.Contains(got, want) {
							t.Errorf("no %q in\n%s", want, got)
						}
					}
				})
			}
		}
	}
}

// fetchingProgram fetches bert's mail and returns what it got. With keep it leaves mail on the server, and remembers what it has by
// unique-id in dir.
type fetchingProgram struct {
	name, program string
	mechanisms    []string
	securities    []security
	keeps         bool
	fetch         func(t *testing.T, s *testServer, sec security, mechanism, dir string, keep bool) string
}

var fetchingPrograms = []fetchingProgram{
	{"curl", "curl", []string{"PLAIN", "LOGIN"}, securities, false, fetchCurl},
	{"fetchmail", "fetchmail", []string{"password"}, securities, true, fetchFetchmail},
	{"mpop", "mpop", []string{"user", "plain", "login"}, securities, true, fetchMpop},
	{"getmail", "getmail", []string{"user"}, []security{cleartext, implicit}, true, fetchGetmail},
	{"poplib", "python3", []string{"user"}, securities, false, fetchPython},
	{"s-nail", "s-nail", []string{"user"}, []security{cleartext, startTLS, implicit}, false, fetchSNail},
}

func fetchCurl(t *testing.T, s *testServer, sec security, mechanism, _ string, _ bool) string {
	scheme := "pop3"
	if sec == implicit {
		scheme = "pop3s"
	}
	base := scheme + "://127.0.0.1:" + s.port(sec, "pop3", "pop3s")
	args := []string{"curl", "-sS", "--cacert", s.config.TLS.Cert, "--login-options", "AUTH=" + mechanism, "-u", "bert@example.com:" + bertsPassword}
	if sec == startTLS {
		args = append(args, "--ssl-reqd")
	}
	got := run(t, "", append(args, base+"/1")...)
	run(t, "", append(args, "-l", "-X", "DELE", base+"/1")...)
	return got
}

// runFetchmail runs fetchmail with a configuration, and returns what it said. What it remembers is in dir.
func runFetchmail(t *testing.T, rc, dir string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "fetchmail", "-f", rc, "-i", filepath.Join(dir, "ids"), "--nodetach", "--nosyslog", "-v")
	cmd.Env = append(os.Environ(), "FETCHMAILHOME="+dir, "HOME="+dir)
	said, err := cmd.CombinedOutput()
	if code := cmd.ProcessState.ExitCode(); code > 1 { // 1: no mail
		t.Fatalf("fetchmail: %v\n%s", err, said)
	}
	return string(said)
}

func fetchFetchmail(t *testing.T, s *testServer, sec security, mechanism, dir string, keep bool) string {
	out := filepath.Join(dir, "mail")
	options := map[security]string{
		cleartext: `sslproto ""`, startTLS: `sslproto "auto" sslcertck sslcertfile "` + s.config.TLS.Cert + `"`,
		implicit: `ssl sslcertck sslcertfile "` + s.config.TLS.Cert + `"`,
	}[sec]
	how, uidl := "fetchall nokeep", ""
	if keep {
		how, uidl = "keep", " uidl"
	}
	rc := file(t, "fetchmailrc", fmt.Sprintf("set no bouncemail\npoll localhost protocol pop3 port %s%s auth %s\n  user \"bert@example.com\" password \"%s\" %s %s\n  mda \"cat >>%s\"\n",
		s.port(sec, "pop3", "pop3s"), uidl, mechanism, bertsPassword, options, how, out))
	said := runFetchmail(t, rc, dir)
	if wantTLS := sec != cleartext; strings.Contains(said, "TLS") != wantTLS && strings.Contains(said, "SSL/TLS: using protocol") != wantTLS {
		t.Errorf("TLS: want %v\n%s", wantTLS, said)
	}
	got, err := os.ReadFile(out)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(got)
}

func fetchMpop(t *testing.T, s *testServer, sec security, mechanism, dir string, keep bool) string {
	out := filepath.Join(dir, "mbox")
	args := []string{
		"mpop", "--host=127.0.0.1", "--port=" + s.port(sec, "pop3", "pop3s"), "--auth=" + mechanism, "--user=bert@example.com",
		"--passwordeval=cat " + file(t, "password", bertsPassword), "--delivery=mbox," + out, "--uidls-file=" + filepath.Join(dir, "uidls"),
	}
	if keep {
		args = append(args, "--keep=on", "--only-new=on")
	} else {
		args = append(args, "--keep=off")
	}
	switch sec {
	case cleartext:
		args = append(args, "--tls=off")
	case startTLS:
		args = append(args, "--tls=on", "--tls-starttls=on", "--tls-trust-file="+s.config.TLS.Cert)
	case implicit:
		args = append(args, "--tls=on", "--tls-starttls=off", "--tls-trust-file="+s.config.TLS.Cert)
	}
	run(t, "", args...)
	got, err := os.ReadFile(out)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(got)
}

func fetchGetmail(t *testing.T, s *testServer, sec security, _, dir string, keep bool) string {
	out := filepath.Join(dir, "mbox")
	f, err := os.OpenFile(out, os.O_CREATE|os.O_RDONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	retriever, ca := "SimplePOP3Retriever", ""
	if sec == implicit {
		retriever, ca = "SimplePOP3SSLRetriever", "ca_certs = "+s.config.TLS.Cert+"\n"
	}
	readAll, remove := "true", "true"
	if keep {
		readAll, remove = "false", "false"
	}
	rc := file(t, "getmailrc", fmt.Sprintf(`[retriever]
type = %s
server = 127.0.0.1
port = %s
username = bert@example.com
password = %s
%s
[destination]
type = MDA_external
path = /bin/sh
arguments = ("-c", "cat >>%s")
allow_root_commands = true

[options]
read_all = %s
delete = %s
verbose = 0
`, retriever, s.port(sec, "pop3", "pop3s"), bertsPassword, ca, out, readAll, remove))
	run(t, "", "getmail", "--getmaildir="+dir, "--rcfile="+rc)
	got, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return string(got)
}

// pythonFetch fetches all, compares every size, and deletes.
const pythonFetch = `
import poplib, ssl, sys
kind, port, ca, password = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
if kind == "tls":
    pop = poplib.POP3_SSL("127.0.0.1", int(port), context=context)
else:
    pop = poplib.POP3("127.0.0.1", int(port))
before = pop.capa()
if kind == "starttls":
    pop.stls(context=context)
pop.user("bert@example.com")
pop.pass_(password)
assert set(pop.capa()) - {"STLS"} == set(before) - {"STLS"}, (before, pop.capa())
count, octets = pop.stat()
sizes = dict(map(int, line.split()) for line in pop.list()[1])
assert sum(sizes.values()) == octets and len(sizes) == count, (sizes, count, octets)
assert len({line.split()[1] for line in pop.uidl()[1]}) == count
for n in range(1, count + 1):
    _, lines, _ = pop.retr(n)
    message = b"".join(line + b"\r\n" for line in lines)
    assert len(message) == sizes[n], (len(message), sizes[n])
    _, top, _ = pop.top(n, 0)
    assert message.startswith(b"".join(line + b"\r\n" for line in top))
    sys.stdout.write(message.decode("latin-1"))
    pop.dele(n)
pop.quit()
`

func fetchPython(t *testing.T, s *testServer, sec security, _, _ string, _ bool) string {
	return run(t, "", "python3", "-c", pythonFetch, string(sec), s.port(sec, "pop3", "pop3s"), s.config.TLS.Cert, bertsPassword)
}

func fetchSNail(t *testing.T, s *testServer, sec security, _, _ string, _ bool) string {
	scheme := "pop3"
	if sec == implicit {
		scheme = "pop3s"
	}
	args := []string{
		"s-nail", "-:/", "-S", "v15-compat=yes", "-S", "pop3-auth=plain", "-S", "tls-ca-file=" + s.config.TLS.Cert, "-S", "tls-ca-no-defaults",
		"-S", "tls-verify=strict", "-S", "user=bert@example.com", "-S", "password=" + bertsPassword, "-S", "showlast=0",
	}
	if sec == startTLS {
		args = append(args, "-S", "pop3-use-starttls")
	}
	args = append(args, "-Y", "Print *", "-Y", "delete *", "-Y", "quit", "-f", scheme+"://127.0.0.1:"+s.port(sec, "pop3", "pop3s"))
	return run(t, "", args...)
}

func TestInteropFetch(t *testing.T) {
	s := interopServer(t)
	for _, p := range fetchingPrograms {
		for _, sec := range p.securities {
			for _, mechanism := range p.mechanisms {
				t.Run(fmt.Sprintf("%s/%s/%s", p.name, sec, mechanism), func(t *testing.T) {
					need(t, p.program)
					subject := fmt.Sprintf("for %s by %s with %s", p.name, sec, mechanism)
					s.send("anna", annasPassword, []string{"bert@example.com"}, "Subject: "+subject+"\r\nFrom: anna@example.com\r\n\r\nbody\r\n")
					if p.keeps {
						s.keepAndFetchAgain(t, p, sec, mechanism, subject)
					}
					got := p.fetch(t, s, sec, mechanism, t.TempDir(), false)
					if !strings.Contains(got, "Subject: "+subject) || !strings.Contains(got, "body") {
						t.Errorf("got\n%s", got)
					}
					if left := s.fetch("bert", bertsPassword); len(left) != 0 {
						t.Errorf("%d messages left, want none", len(left))
					}
				})
			}
		}
	}
}

// keepAndFetchAgain: a program that leaves mail on the server gets each message once, by unique-id.
func (s *testServer) keepAndFetchAgain(t *testing.T, p fetchingProgram, sec security, mechanism, subject string) {
	t.Helper()
	dir := t.TempDir()
	first := p.fetch(t, s, sec, mechanism, dir, true)
	if n := strings.Count(first, "Subject: "+subject); n != 1 {
		t.Errorf("keeping: got the message %d times, want once\n%s", n, first)
	}
	second := p.fetch(t, s, sec, mechanism, dir, true)
	if n := strings.Count(second, "Subject: "+subject); n != 1 {
		t.Errorf("keeping, again: have the message %d times, want once", n)
	}
	if left := s.fetch("bert", bertsPassword); len(left) != 1 {
		t.Errorf("keeping: %d messages left, want 1", len(left))
	}
}
