package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// nastyMessage is one message that has tripped mail servers up. It goes in at the MX door and must come out octet for octet, but for
// what docs/operator.md says is added.
type nastyMessage struct {
	name, text string
	// refused is set for what the MX door must not take (RFC 5321 §2.3.8).
	refused bool
}

func nastyMessages() []nastyMessage {
	const header = "From: stranger@other.example\r\nSubject: nasty\r\n"
	list := []nastyMessage{
		{name: "empty message", text: ""},
		{name: "empty body", text: header + "\r\n"},
		{name: "header only", text: header},
		{name: "body only", text: "\r\nbody\r\n"},
		{name: "no header, no empty line", text: "just some words\r\nand more\r\n"},
		{name: "header breaks off", text: header + "this is no field\r\nX: y\r\n"},
		{name: "continuation first", text: " folded\r\nSubject: x\r\n\r\nbody\r\n"},
		{name: "dots", text: header + "\r\n.\r\n..\r\n.a\r\n...\r\n. \r\n.\r\n"},
		{name: "dot first in header", text: ".Subject: x\r\n\r\nbody\r\n"},
		{name: "commands in body", text: header + "\r\nQUIT\r\n+OK\r\n-ERR\r\nRSET\r\nMAIL FROM:<>\r\n"},
		{name: "empty lines at the end", text: header + "\r\nbody\r\n\r\n\r\n\r\n"},
		{name: "NUL in body", text: header + "\r\na\x00b\r\n\x00\r\n"},
		{name: "all octets", text: header + "\r\n" + strings.NewReplacer("\r", "", "\n", "").Replace(allOctets()) + "\r\n"},
		{name: "8-bit header", text: "Subject: \xe4\xf6\xfc \xff\r\n\r\nbody\r\n"},
		{name: "10 kB lines", text: header + "X-Long: " + strings.Repeat("h", 10_000) + "\r\n\r\n" + strings.Repeat(strings.Repeat("x", 10_000)+"\r\n", 3)},
		{name: "a dot at each 4 KiB", text: header + "\r\n" + strings.Repeat(".\r\n"+strings.Repeat("y", 4091)+"\r\n", 40)},
		{name: "100 kB of short lines", text: header + "\r\n" + strings.Repeat("a\r\n", 33_000)},
		{name: "exactly the memory of a draft", text: header + "\r\n" + strings.Repeat("0123456789abcd\r\n", 128<<10/16)},
		{name: "25 MB", text: header + "\r\n" + strings.Repeat(strings.Repeat("z", 74)+"\r\n", 25<<20/76)},
		{name: "bare LF", text: header + "\r\na\nb\r\n", refused: true},
		{name: "bare CR", text: header + "\r\na\rb\r\n", refused: true},
		{name: "LF dot LF", text: header + "\r\na\n.\nb\r\n", refused: true},
		{name: "LF dot CRLF", text: header + "\r\na\n.\r\nb\r\n", refused: true},
		{name: "NUL in header", text: "Subject: a\x00b\r\n\r\nbody\r\n", refused: true},
	}
	return list
}

func allOctets() string {
	var b [256]byte
	for i := range b {
		b[i] = byte(i)
	}
	return string(b[:])
}

// pythonMessages are the e-mail test data of Debian's Python test-suite package, with CRLF line ends.
func pythonMessages(t *testing.T) []nastyMessage {
	t.Helper()
	files, err := filepath.Glob("/usr/lib/python3*/test/test_email/data/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("CI needs Debian's package libpython3.11-testsuite")
		}
		t.Log("without Python's e-mail test data: Debian's package libpython3.11-testsuite is not on this machine")
	}
	var list []nastyMessage
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		crlf := strings.ReplaceAll(strings.ReplaceAll(string(text), "\r\n", "\n"), "\n", "\r\n")
		bareCR := strings.Contains(strings.ReplaceAll(crlf, "\r\n", ""), "\r")
		list = append(list, nastyMessage{name: filepath.Base(name), text: crlf, refused: bareCR})
	}
	return list
}

// rawSMTP is a client that sends octets as they are.
type rawSMTP struct {
	t testing.TB
	net.Conn
	r *bufio.Reader
}

func (s *testServer) rawSMTP(door string) *rawSMTP {
	s.t.Helper()
	conn := s.dial(door)
	c := &rawSMTP{t: s.t, Conn: conn, r: bufio.NewReader(conn)}
	c.reply("220")
	c.cmd("250", "EHLO client.other.example\r\n")
	return c
}

// reply reads a whole reply and returns its last line.
func (c *rawSMTP) reply(want string) string {
	c.t.Helper()
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			c.t.Fatalf("reading a reply: %v", err)
		}
		if len(line) > 3 && line[3] == '-' {
			continue
		}
		if !strings.HasPrefix(line, want) {
			c.t.Fatalf("got %q, want %s", line, want)
		}
		return line
	}
}

func (c *rawSMTP) cmd(want, text string) string {
	c.t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		c.t.Fatal(err)
	}
	return c.reply(want)
}

// data sends a message by DATA, bdat by BDAT in two chunks; both return the last reply.
func (c *rawSMTP) data(want, text string) string {
	c.t.Helper()
	c.cmd("354", "DATA\r\n")
	stuffed := strings.ReplaceAll(text, "\r\n.", "\r\n..")
	if strings.HasPrefix(stuffed, ".") {
		stuffed = "." + stuffed
	}
	return c.cmd(want, stuffed+".\r\n")
}

func (c *rawSMTP) bdat(want, text string) string {
	c.t.Helper()
	half := len(text) / 2
	c.cmd("250", fmt.Sprintf("BDAT %d\r\n%s", half, text[:half]))
	return c.cmd(want, fmt.Sprintf("BDAT %d LAST\r\n%s", len(text)-half, text[half:]))
}

var headerField = regexp.MustCompile(`^[!-9;-~]+[ \t]*:`)

// asKept is what the server keeps of a message: a line that is no field ends the header, and gets an empty line before it.
func asKept(text string) string {
	for at := 0; at < len(text); {
		end := strings.Index(text[at:], "\r\n") + 2
		line := text[at : at+end]
		folded := at > 0 && (line[0] == ' ' || line[0] == '\t')
		switch {
		case line == "\r\n":
			return text
		case !folded && !headerField.MatchString(line):
			return text[:at] + "\r\n" + text[at:]
		}
		at += end
	}
	return text
}

var traceLines = regexp.MustCompile(`^Return-Path: <stranger@other\.example>\r\nDelivered-To: bert@example\.com\r\nReceived: [^\n]*\r\n(\t[^\n]*\r\n)*`)

// rawRetrieve fetches message n and returns its octets without stuffing, and the size that LIST gives.
func (p *popSession) rawRetrieve(n int) (octets []byte, listed int) {
	p.t.Helper()
	if _, err := fmt.Sscanf(p.must("LIST %d", n), "+OK %d %d", &n, &listed); err != nil {
		p.t.Fatal(err)
	}
	p.must("RETR %d", n)
	var b bytes.Buffer
	for {
		line, err := p.text.R.ReadSlice('\n')
		b.Write(line)
		if err == bufio.ErrBufferFull { //nolint:errorlint // bufio documents this very value
			continue
		}
		if err != nil {
			p.t.Fatal(err)
		}
		// The race detector looks at all that a comparison is given, so it is given no more than the end.
		if end := b.Bytes()[max(b.Len()-5, 0):]; string(end) == "\r\n.\r\n" || string(end) == ".\r\n" {
			break
		}
	}
	stuffed := b.Bytes()[:b.Len()-3]
	lines := bytes.SplitAfter(stuffed, []byte("\r\n"))
	for i, line := range lines {
		lines[i] = bytes.TrimPrefix(line, []byte("."))
	}
	return bytes.Join(lines, nil), listed
}

// TestNastyMessages: what goes in by SMTP comes out by POP3 octet for octet, and STAT and LIST tell the octets of RETR.
func TestNastyMessages(t *testing.T) {
	s := startServer(t, "example.com")
	s.addAccount("bert", "bert's password")
	messages := append(nastyMessages(), pythonMessages(t)...)
	for _, way := range []struct {
		name string
		send func(c *rawSMTP, want, text string) string
	}{{"DATA", (*rawSMTP).data}, {"BDAT", (*rawSMTP).bdat}} {
		t.Run(way.name, func(t *testing.T) {
			for _, m := range messages {
				t.Run(m.name, func(t *testing.T) {
					c := s.rawSMTP("mx")
					c.t = t
					c.cmd("250", "MAIL FROM:<stranger@other.example>\r\n")
					c.cmd("250", "RCPT TO:<bert@example.com>\r\n")
					if m.refused {
						if reply := way.send(c, "550", m.text); !strings.HasPrefix(reply, "550 5.") {
							t.Errorf("got %q", reply)
						}
						s.wantMaildrop(t, 0)
						return
					}
					way.send(c, "250", m.text)
					c.cmd("221", "QUIT\r\n")
					s.wantBack(t, m.text)
				})
			}
		})
	}
}

// wantBack fetches and deletes the one message of bert's, and compares.
func (s *testServer) wantBack(t *testing.T, text string) {
	t.Helper()
	p := s.pop("pop3s")
	p.t = t
	if err := p.login("bert", "bert's password"); err != nil {
		t.Fatal(err)
	}
	var count, octets int
	if _, err := fmt.Sscanf(p.must("STAT"), "+OK %d %d", &count, &octets); err != nil || count != 1 {
		t.Fatalf("%d messages, want 1 (%v)", count, err)
	}
	got, listed := p.rawRetrieve(1)
	if len(got) != listed || len(got) != octets {
		t.Errorf("RETR has %d octets, LIST says %d and STAT %d", len(got), listed, octets)
	}
	trace := traceLines.Find(got)
	if trace == nil {
		t.Fatalf("no trace lines in %.500q", got)
	}
	want := asKept(text)
	if back := string(got[len(trace):]); sha256.Sum256([]byte(back)) != sha256.Sum256([]byte(want)) {
		t.Errorf("got back\n%.2000q, want\n%.2000q", back, want)
	}
	p.must("DELE 1")
	p.must("QUIT")
}

func (s *testServer) wantMaildrop(t *testing.T, count int) {
	t.Helper()
	p := s.pop("pop3s")
	p.t = t
	if err := p.login("bert", "bert's password"); err != nil {
		t.Fatal(err)
	}
	if got := p.must("STAT"); !strings.HasPrefix(got, fmt.Sprintf("+OK %d ", count)) {
		t.Errorf("STAT: got %q, want %d messages", got, count)
	}
	p.must("QUIT")
}

// TestBareLinesFromOurUsers: programs of our own users that know only LF are mended, not refused.
func TestBareLinesFromOurUsers(t *testing.T) {
	s := startServer(t, "example.com")
	s.addAccount("bert", "bert's password")
	c := s.rawSMTP("submission")
	c.cmd("235", "AUTH PLAIN AGJlcnQAYmVydCdzIHBhc3N3b3Jk\r\n")
	c.cmd("250", "MAIL FROM:<bert@example.com>\r\n")
	c.cmd("250", "RCPT TO:<bert@example.com>\r\n")
	c.data("250", "From: bert@example.com\nDate: Thu, 1 Jan 2026 00:00:00 +0000\nMessage-ID: <1@x>\nSubject: LF\n\none\ntwo\rthree\n.x\r\n")
	p := s.pop("pop3s")
	if err := p.login("bert", "bert's password"); err != nil {
		t.Fatal(err)
	}
	got, _ := p.rawRetrieve(1)
	const want = "Subject: LF\r\n\r\none\r\ntwo\r\nthree\r\n.x\r\n"
	if !strings.HasSuffix(string(got), want) {
		t.Errorf("got %q, want the end %q", got, want)
	}
}
