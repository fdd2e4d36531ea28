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
	"regexp"
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

// port returns the door of a protocol for a kind of connection: one for old clients, if the server has them.
func (s *testServer) port(sec security, plain, tls string) string {
	s.t.Helper()
	door := plain
	if sec == implicit {
		door = tls
	}
	if len(s.config.Listen.OldPOP3) > 0 {
		door = "old_" + door
	}
	if s.proxied != "" && door == "pop3" {
		return s.proxied
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
	challenge     string // CRAM-MD5 as the program calls it
	securities    []security
	send          func(t *testing.T, s *testServer, sec security, mechanism, message string)
}

var sendingPrograms = []sendingProgram{
	{"curl", "curl", []string{"PLAIN", "LOGIN"}, "CRAM-MD5", securities, sendCurl},
	{"swaks", "swaks", []string{"PLAIN", "LOGIN"}, "CRAM-MD5", securities, sendSwaks},
	{"msmtp", "msmtp", []string{"plain", "login"}, "cram-md5", securities, sendMsmtp},
	{"s-nail", "s-nail", []string{"plain", "login"}, "cram-md5", securities, sendSNail},
	{"smtplib", "python3", []string{"plain", "login"}, "cram_md5", securities, sendPython},
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
smtp.auth(mechanism.upper().replace("_", "-"), getattr(smtp, "auth_" + mechanism))
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

// fetchingProgram fetches bert's mail and returns what it got, in order. With keep it leaves mail on the server, and remembers what it has by
// unique-id in dir.
type fetchingProgram struct {
	name, program string
	// mechanisms are for every door, challenges for those for old clients.
	mechanisms, challenges []string
	securities             []security
	keeps                  bool
	octets                 fidelity
	// pipelines says that it sends commands before it has the replies to those before.
	pipelines bool
	fetch     func(t *testing.T, s *testServer, sec security, mechanism, dir string, keep bool) string
}

// fidelity is how a program hands messages on.
type fidelity int

const (
	octetForOctet fidelity = iota
	lineForLine            // with LF for CRLF
	refolded               // the same, and with headers folded elsewhere
	inMbox                 // line for line, but for empty lines at the end of a message
)

var (
	fold     = regexp.MustCompile(`\n[ \t]+`)
	lastLine = regexp.MustCompile(`\n+(Return-Path: |$)`)
)

// of is what is left of messages.
func (f fidelity) of(text string) string {
	if f != octetForOctet {
		text = strings.ReplaceAll(text, "\r\n", "\n")
	}
	switch f {
	case refolded:
		return fold.ReplaceAllString(text, " ")
	case inMbox:
		return lastLine.ReplaceAllString(text, "\n$1")
	default:
		return text
	}
}

// compare fails the test if what a program handed on is not all of the messages in their order, and nothing else.
func (f fidelity) compare(t *testing.T, got string, messages []string) {
	t.Helper()
	want := f.of(strings.Join(messages, ""))
	if got = f.of(got); got != want {
		t.Error(differs(got, want))
	}
}

var fetchingPrograms = []fetchingProgram{
	{"curl", "curl", []string{"PLAIN", "LOGIN"}, []string{"+APOP", "CRAM-MD5"}, securities, false, octetForOctet, false, fetchCurl},
	{"fetchmail", "fetchmail", []string{"password"}, []string{"apop", "cram-md5"}, securities, true, lineForLine, false, fetchFetchmail},
	{"mpop", "mpop", []string{"user", "plain", "login"}, []string{"apop", "cram-md5", "scram-sha-1", "scram-sha-256"}, securities, true, lineForLine, true, fetchMpop},
	{"getmail", "getmail", []string{"user"}, []string{"apop"}, []security{cleartext, implicit}, true, refolded, false, fetchGetmail},
	{"poplib", "python3", []string{"user"}, []string{"apop"}, securities, false, octetForOctet, false, fetchPython},
	{"ruby", "ruby", []string{"user"}, []string{"apop"}, []security{cleartext, implicit}, false, octetForOctet, false, fetchRuby},
	{"s-nail", "s-nail", []string{"user"}, []string{"apop"}, securities, false, inMbox, false, fetchSNail},
	{"mutt", "mutt", []string{"user"}, []string{"apop", "cram-md5", "scram-sha-1", "scram-sha-256"}, securities, false, inMbox, false, fetchMutt},
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
	var urls []string
	for n := range strings.Count(run(t, "", append(args, "-l", base)...), "\n") {
		urls = append(urls, fmt.Sprintf("%s/%d", base, n+1))
	}
	got := run(t, "", append(args, urls...)...)
	for i, url := range urls { // each is a session of its own, at whose end the message goes
		run(t, "", append(args, "-l", "-X", "DELE", strings.Replace(url, fmt.Sprintf("/%d", i+1), "/1", 1))...)
	}
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
	protocol, auth := "pop3", mechanism
	if mechanism == "apop" {
		protocol, auth = "apop", "password"
	}
	rc := file(t, "fetchmailrc", fmt.Sprintf("set no bouncemail\nset invisible\npoll localhost protocol %s port %s%s auth %s\n"+
		"  user \"bert@example.com\" password \"%s\" %s %s no rewrite\n  mda \"cat >>%s\"\n",
		protocol, s.port(sec, "pop3", "pop3s"), uidl, auth, bertsPassword, options, how, out))
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
		"--passwordeval=cat " + file(t, "password", bertsPassword), "--received-header=off",
		"--delivery=mda,cat >>" + out, "--uidls-file=" + filepath.Join(dir, "uidls"),
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

func fetchGetmail(t *testing.T, s *testServer, sec security, mechanism, dir string, keep bool) string {
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
use_apop = %v
%s
[destination]
type = MDA_external
path = /bin/sh
arguments = ("-c", "cat >>%s")
allow_root_commands = true

[options]
read_all = %s
delete = %s
received = false
delivered_to = false
verbose = 0
`, retriever, s.port(sec, "pop3", "pop3s"), bertsPassword, mechanism == "apop", ca, out, readAll, remove))
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
kind, mechanism, port, ca, password = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
if kind == "tls":
    pop = poplib.POP3_SSL("127.0.0.1", int(port), context=context)
else:
    pop = poplib.POP3("127.0.0.1", int(port))
before = pop.capa()
if kind == "starttls":
    pop.stls(context=context)
if mechanism == "apop":
    pop.apop("bert@example.com", password)
else:
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
    sys.stdout.buffer.write(message)
    pop.dele(n)
pop.quit()
`

func fetchPython(t *testing.T, s *testServer, sec security, mechanism, _ string, _ bool) string {
	return run(t, "", "python3", "-c", pythonFetch, string(sec), mechanism, s.port(sec, "pop3", "pop3s"), s.config.TLS.Cert, bertsPassword)
}

// rubyFetch fetches all and deletes.
const rubyFetch = `
require "net/pop"
kind, mechanism, port, ca, password = ARGV
pop = Net::POP3.new("127.0.0.1", port.to_i, mechanism == "apop")
pop.enable_ssl(OpenSSL::SSL::VERIFY_PEER, ca) if kind == "tls"
$stdout.binmode
pop.start("bert@example.com", password) { |p| p.each_mail { |m| $stdout.write(m.pop); m.delete } }
`

func fetchRuby(t *testing.T, s *testServer, sec security, mechanism, _ string, _ bool) string {
	return run(t, "", "ruby", "-e", rubyFetch, string(sec), mechanism, s.port(sec, "pop3", "pop3s"), s.config.TLS.Cert, bertsPassword)
}

func fetchSNail(t *testing.T, s *testServer, sec security, mechanism, dir string, _ bool) string {
	scheme, out := "pop3", filepath.Join(dir, "mbox")
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
	if mechanism == "user" {
		args = append(args, "-S", "pop3-no-apop")
	}
	args = append(args, "-Y", "copy * "+out, "-Y", "delete *", "-Y", "quit", "-f", scheme+"://127.0.0.1:"+s.port(sec, "pop3", "pop3s"))
	run(t, "", args...)
	return fromMbox(t, out)
}

// fetchMutt has mutt fetch into an mbox. It needs a terminal, which script is.
func fetchMutt(t *testing.T, s *testServer, sec security, mechanism, dir string, _ bool) string {
	scheme, out := "pop", filepath.Join(dir, "mbox")
	if sec == implicit {
		scheme = "pops"
	}
	rc := file(t, "muttrc", fmt.Sprintf(`set folder=%[1]s spoolfile=%[2]s mbox_type=mbox quit=yes move=no pop_checkinterval=0 mail_check=600
set pop_host="%[3]s://bert@example.com@127.0.0.1:%[4]s" pop_pass="%[5]s" pop_delete=yes pop_last=no pop_authenticators="%[6]s"
set ssl_starttls=%[7]s ssl_force_tls=%[7]s certificate_file=%[8]s ssl_use_system_certs=no
set message_cachedir="" wait_key=no confirmappend=no
`, dir, out, scheme, s.port(sec, "pop3", "pop3s"), bertsPassword, mechanism,
		map[bool]string{true: "yes", false: "no"}[sec == startTLS], s.config.TLS.Cert))
	if err := os.WriteFile(out, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "", "script", "-qec", "TERM=vt100 mutt -n -F "+rc+" -e 'push <fetch-mail><exit>'", filepath.Join(dir, "typescript"))
	return fromMbox(t, out)
}

// ofMbox are header lines that programs put into an mbox.
var ofMbox = regexp.MustCompile(`^(Status|Content-Length|Lines|X-Account-Key|X-UIDL|X-Mozilla-[A-Za-z0-9]+): `)

// fromMbox returns the messages of an mbox without what belongs to the mbox: the lines between the messages, and those of their state.
func fromMbox(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	header := false
	for line := range strings.Lines(string(text)) {
		switch {
		case strings.HasPrefix(line, "From "):
			header = true
			continue
		case header && ofMbox.MatchString(line):
			continue
		case line == "\n":
			header = false
		}
		b.WriteString(line)
	}
	return b.String()
}

// nastyBody has what is lost first: dots, blanks at ends, octets beyond ASCII, a long line, empty lines at the end.
var nastyBody = "body\r\n.dot\r\n..\r\n.\tx\r\n\r\nblanks  \r\n\t\r\n8 bits: \xc3\xa4\xc3\xb6\r\n" +
	strings.Repeat("long ", 60) + "\r\n+OK\r\n-ERR\r\nlast\r\n\r\n"

// differs says where two texts part.
func differs(got, want string) string {
	n := 0
	for n < min(len(got), len(want)) && got[n] == want[n] {
		n++
	}
	part := func(s string) string { return s[max(n-40, 0):min(n+80, len(s))] }
	return fmt.Sprintf("%d octets, want %d; at %d it is\n%q\nwant\n%q", len(got), len(want), n, part(got), part(want))
}

// bertsMail are the octets of what bert has on the server, each with the nasty body that was sent.
func (s *testServer) bertsMail(t *testing.T) (messages []string) {
	t.Helper()
	for _, m := range s.fetch("bert", bertsPassword) {
		m = strings.ReplaceAll(m, "\n", "\r\n")
		if _, body, _ := strings.Cut(m, "\r\n\r\n"); body != nastyBody {
			t.Error(differs(body, nastyBody))
		}
		messages = append(messages, m)
	}
	return messages
}

func TestInteropFetch(t *testing.T) {
	s := interopServer(t)
	for _, p := range fetchingPrograms {
		for _, sec := range p.securities {
			for _, mechanism := range p.mechanisms {
				t.Run(fmt.Sprintf("%s/%s/%s", p.name, sec, mechanism), func(t *testing.T) {
					need(t, p.program)
					subject := fmt.Sprintf("for %s by %s with %s", p.name, sec, mechanism)
					for n := range 2 {
						s.send("anna", annasPassword, []string{"bert@example.com"},
							fmt.Sprintf("Subject: %s, %d\r\nFrom: anna@example.com\r\n\r\n%s", subject, n, nastyBody))
					}
					if p.keeps {
						s.keepAndFetchAgain(t, p, sec, mechanism)
					}
					want := s.bertsMail(t)
					p.octets.compare(t, p.fetch(t, s, sec, mechanism, t.TempDir(), false), want)
					if left := s.fetch("bert", bertsPassword); len(left) != 0 {
						t.Errorf("%d messages left, want none", len(left))
					}
				})
			}
		}
	}
}

// keepAndFetchAgain: a program that leaves mail on the server gets each message once, by unique-id.
func (s *testServer) keepAndFetchAgain(t *testing.T, p fetchingProgram, sec security, mechanism string) {
	t.Helper()
	dir, want := t.TempDir(), s.bertsMail(t)
	for range 2 {
		p.octets.compare(t, p.fetch(t, s, sec, mechanism, dir, true), want)
	}
	if left := s.fetch("bert", bertsPassword); len(left) != len(want) {
		t.Errorf("keeping: %d messages left, want %d", len(left), len(want))
	}
}
