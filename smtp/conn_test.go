package smtp

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// onPipes runs a test of time: the server, its clients and the clock are in one bubble.
func onPipes(t *testing.T, door Door, test func(t *testing.T, f *fixture, p *pipes), edit ...func(*Options)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, door, edit...)
		f.wait = synctest.Wait
		p := newPipes()
		f.serveOn(p)
		test(t, f, p)
	})
}

// inData brings a client to the middle of a message.
func inData(f *fixture, p *pipes) *client {
	c, _ := p.dial(f)
	c.expect("220 ")
	c.ask("EHLO client.example", "250 ")
	c.ask("MAIL FROM:<x@remote.example>", "250 2.")
	c.ask("RCPT TO:<bob@example.com>", "250 2.")
	c.ask("DATA", "354 ")
	c.send("Subject: slow\r\n\r\n")
	return c
}

// A slow message takes as long as it takes, if something keeps coming (RFC 5321 §4.5.3.2).
func TestSlowUploadSurvives(t *testing.T) {
	onPipes(t, MX, func(t *testing.T, f *fixture, p *pipes) {
		c := inData(f, p)
		begun := time.Now()
		line := strings.Repeat("x", 998) + "\r\n"
		for time.Since(begun) < 20*time.Minute {
			time.Sleep(8 * time.Second) // the bubble's clock: 125 octets a second
			c.send(line)
		}
		c.send(".\r\n")
		c.expect("250 2.0.0 queued as ")
		if got := len(f.oneMail("bob")); got < 120*1000 {
			t.Errorf("stored %d octets", got)
		}
	})
}

func TestTooSlowUploadIsCut(t *testing.T) {
	onPipes(t, MX, func(t *testing.T, f *fixture, p *pipes) {
		c := inData(f, p)
		sender := make(chan struct{})
		go func() {
			defer close(sender)
			for {
				time.Sleep(10 * time.Second)
				if _, err := io.WriteString(c.conn, strings.Repeat("x", 900)+"\r\n"); err != nil {
					return
				}
			}
		}()
		begun := time.Now()
		c.expect("421 4.4.2")
		c.closed()
		if d := time.Since(begun); d < 2*time.Minute || d > 5*time.Minute {
			t.Errorf("cut after %v", d)
		}
		<-sender
		if n := len(f.mail("bob")); n != 0 {
			t.Errorf("stored %d messages", n)
		}
	})
}

// A time-out inside DATA ends the connection: what comes later is never read as commands.
func TestTimeoutInDataIsFinal(t *testing.T) {
	onPipes(t, MX, func(t *testing.T, f *fixture, p *pipes) {
		c := inData(f, p)
		c.expect("421 4.4.2")
		c.closed()
		if _, err := io.WriteString(c.conn, "QUIT\r\n"); err == nil {
			t.Error("the connection still takes commands")
		}
	})
}

func TestIdleTimes(t *testing.T) {
	tests := []struct {
		name  string
		door  Door
		login bool
		want  time.Duration
	}{
		{"MX", MX, false, 5 * time.Minute},
		{"submission before login", Submission, false, time.Minute},
		{"submission after login", Submission, true, 5 * time.Minute},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			onPipes(t, tt.door, func(t *testing.T, f *fixture, p *pipes) {
				c, _ := p.dial(f)
				c.expect("220 ")
				c.ask("EHLO client.example", "250 ")
				if tt.login {
					c.login("alice")
				}
				time.Sleep(tt.want - time.Second)
				c.ask("NOOP", "250 ") // the time rolls with every command
				time.Sleep(tt.want - time.Second)
				c.ask("NOOP", "250 ")
				begun := time.Now()
				c.expect("421 4.4.2")
				c.closed()
				if d := time.Since(begun); d != tt.want {
					t.Errorf("closed after %v, want %v", d, tt.want)
				}
			})
		})
	}
}

func TestSessionHasACap(t *testing.T) {
	onPipes(t, MX, func(t *testing.T, f *fixture, p *pipes) {
		c, _ := p.dial(f)
		c.expect("220 ")
		begun := time.Now()
		for range 89 {
			time.Sleep(4 * time.Minute)
			c.ask("NOOP", "250 ")
		}
		c.expect("421 4.4.2")
		c.closed()
		if d := time.Since(begun); d != 6*time.Hour {
			t.Errorf("closed after %v", d)
		}
	})
}

// TestEnvelopeHasACap: recipients hold room, so a message has to begin in time; what comes after it is not bounded by that.
func TestEnvelopeHasACap(t *testing.T) {
	const limit = 15 * time.Minute
	envelope := func(c *client, left time.Duration) {
		c.ask("MAIL FROM:<x@remote.example> SIZE=1000", "250 ")
		for at := time.Duration(0); at < limit-left; at += min(4*time.Minute, limit-left-at) {
			time.Sleep(min(4*time.Minute, limit-left-at))
			c.ask("RCPT TO:<bob@example.com>", "250 ")
		}
	}
	onPipes(t, MX, func(t *testing.T, f *fixture, p *pipes) {
		c, _ := p.dial(f)
		c.expect("220 ")
		c.ask("EHLO client.example", "250 ")
		envelope(c, time.Second)
		c.ask("DATA", "354 ")
		time.Sleep(time.Minute) // the rest is a transfer
		c.ask("Subject: late\r\n\r\nhello\r\n.", "250 ")
		envelope(c, time.Second)
		c.send("BDAT 7\r\nSubject")
		c.expect("250 ")
		time.Sleep(time.Minute)
		c.send("BDAT 10 LAST\r\n: late\r\n\r\n")
		c.expect("250 ")
		time.Sleep(4 * time.Minute) // nothing is open
		envelope(c, time.Second)
		c.ask("RSET", "250 ")
		time.Sleep(4 * time.Minute) // nor is it now
		c.ask("NOOP", "250 ")
		envelope(c, time.Second)
		begun := time.Now()
		c.expect("421 4.4.2")
		c.closed()
		if d := time.Since(begun); d != time.Second {
			t.Errorf("closed %v after the last recipient, want a second", d)
		}
	})
}

func TestPeerThatReadsNothing(t *testing.T) {
	onPipes(t, MX, func(t *testing.T, f *fixture, p *pipes) {
		c, _ := p.dial(f) // never reads the greeting
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		c.closed()
	})
}

func TestRepliesAreCorked(t *testing.T) {
	onPipes(t, MX, func(t *testing.T, f *fixture, p *pipes) {
		c, server := p.dial(f)
		c.expect("220 ")
		before := server.writes.Load()
		c.ask("EHLO client.example", "250 ")
		if n := server.writes.Load() - before; n != 1 {
			t.Errorf("EHLO was answered with %d writes, want 1", n)
		}
		before = server.writes.Load()
		c.send("MAIL FROM:<x@remote.example>\r\nRCPT TO:<bob@example.com>\r\nRCPT TO:<nobody@example.com>\r\nDATA\r\n")
		for _, want := range []string{"250 2.", "250 2.", "550 5.1.1", "354 "} {
			c.expect(want)
		}
		if n := server.writes.Load() - before; n != 1 {
			t.Errorf("a pipelined group was answered with %d writes, want 1", n)
		}
	})
}

func TestIdleCommandsAreBounded(t *testing.T) {
	for _, command := range []string{"NOOP", "VRFY x", "RSET", "EHLO x"} {
		t.Run(command, func(t *testing.T) {
			onPipes(t, MX, func(t *testing.T, f *fixture, p *pipes) {
				c, _ := p.dial(f)
				c.expect("220 ")
				c.ask("EHLO client.example", "250 ")
				go func() {
					_, _ = io.WriteString(c.conn, strings.Repeat(command+"\r\n", 5000))
				}()
				n := 0
				for ; n < 5000; n++ {
					if line := c.reply(); line[0] != '2' {
						if !strings.HasPrefix(line, "421 4.4.0") {
							t.Errorf("got %q", line)
						}
						break
					}
				}
				if n >= 2000 {
					t.Errorf("%d replies", n)
				}
				c.closed()
			})
		})
	}
}

// Commands that do work do not use up the bucket.
func TestBusyClientIsNotIdle(t *testing.T) {
	onPipes(t, MX, func(t *testing.T, f *fixture, p *pipes) {
		c, _ := p.dial(f)
		c.expect("220 ")
		c.ask("EHLO client.example", "250 ")
		for range defaultLimits().IdleReplies + 100 {
			c.message("x@remote.example", "bob@example.com", "A: 1\r\n\r\n")
		}
	}, func(o *Options) { o.Logger = slog.New(slog.DiscardHandler) })
}

func TestFloodAfterRefusalIsBounded(t *testing.T) {
	onPipes(t, MX, func(t *testing.T, f *fixture, p *pipes) {
		c := inData(f, p)
		go func() {
			line := strings.Repeat("x", 998) + "\r\n"
			_, _ = io.WriteString(c.conn, "bare\n")
			for {
				if _, err := io.WriteString(c.conn, line); err != nil {
					return
				}
			}
		}()
		c.expect("550 5.5.2")
		c.expect("421 4.4.0")
		c.closed()
	}, func(o *Options) { o.Limits.Flood = 100_000 })
}

// starttls upgrades a connection.
func (c *client) starttls() {
	c.f.t.Helper()
	c.ask("STARTTLS", "220 2.")
	conn := tls.Client(c.conn, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // the test's own certificate
	if err := conn.Handshake(); err != nil {
		c.f.t.Fatal(err)
	}
	*c = *c.f.over(conn)
}

func TestStartTLS(t *testing.T) {
	f := newFixture(t, Submission).serve()
	f.auth.cleartext = false
	c := f.greeted()
	c.ask("AUTH PLAIN "+plain("alice", "alice-pw"), "538 5.7.11")
	c.starttls()
	c.ask("MAIL FROM:<alice@example.com>", "502 5.5.1") // everything before is forgotten (RFC 3207 §4.2)
	c.ask("EHLO client.example", "250 ")
	c.ask("STARTTLS", "502 5.5.1")
	c.login("alice")
	c.message("alice@example.com", "bob@example.com", "From: alice@example.com\r\n\r\nx\r\n")
	if got := f.oneMail("bob"); !strings.Contains(got, " with ESMTPSA tls TLS_") {
		t.Errorf("got %q", got)
	}
	c.ask("QUIT", "221 ")
	c.closed()
}

// What was sent in the clear behind STARTTLS is never a command (RFC 3207 §5, CVE-2011-0411).
func TestStartTLSInjection(t *testing.T) {
	f := newFixture(t, MX).serve()
	c := f.greeted()
	c.send("STARTTLS\r\nMAIL FROM:<evil@remote.example>\r\nRCPT TO:<bob@example.com>\r\nNOOP\r\n")
	c.expect("220 2.0.0 Ready to start TLS")
	conn := tls.Client(c.conn, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // the test's own certificate
	if err := conn.Handshake(); err != nil {
		t.Fatal(err)
	}
	s := f.over(conn)
	s.ask("EHLO client.example", "250 ") // the first reply is this one's
	s.ask("DATA", "502 5.5.1")
}

// A failed handshake ends the connection; nothing more is said in the clear (RFC 3207 §4.1).
func TestStartTLSHandshakeFails(t *testing.T) {
	f := newFixture(t, MX).serve()
	for _, garbage := range []string{"EHLO again.example\r\n", "\x17\x03\x01\x00\x02xx", strings.Repeat("\x00", 600)} {
		c := f.greeted()
		c.ask("STARTTLS", "220 2.")
		c.send(garbage)
		rest, err := io.ReadAll(c.conn) // a reset is an end too
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("after %q the connection goes on", garbage)
		}
		for _, b := range [][]byte{rest[:min(len(rest), 1)]} {
			if len(b) > 0 && (b[0] < firstRecord || b[0] > lastRecord) {
				t.Errorf("after %q the server said %q in the clear", garbage, rest)
			}
		}
		if strings.Contains(string(rest), "550") || strings.Contains(string(rest), "Handshake") {
			t.Errorf("after %q the server said %q in the clear", garbage, rest)
		}
	}
}

func TestStartTLSHandshakeHasATime(t *testing.T) {
	onPipes(t, MX, func(t *testing.T, f *fixture, p *pipes) {
		c, _ := p.dial(f)
		c.expect("220 ")
		c.ask("EHLO client.example", "250 ")
		c.ask("STARTTLS", "220 2.")
		begun := time.Now()
		c.closed()
		if d := time.Since(begun); d > 11*time.Second {
			t.Errorf("closed after %v", d)
		}
	})
}

func TestImplicitTLS(t *testing.T) {
	f := newFixture(t, Submission, func(o *Options) { o.ImplicitTLS = true }).serve()
	f.auth.cleartext = false
	conn, err := tls.Dial("tcp", f.addr, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // the test's own certificate
	f.must(err)
	c := f.over(conn)
	c.expect("220 ")
	c.send("EHLO client.example\r\n")
	for {
		line, err := c.r.ReadLine()
		f.must(err)
		if strings.Contains(line, "STARTTLS") {
			t.Errorf("STARTTLS under TLS: %q", line)
		}
		if line[3] == ' ' {
			break
		}
	}
	c.login("alice")
	c.message("alice@example.com", "bob@example.com", "From: alice@example.com\r\n\r\nx\r\n")
	if got := f.oneMail("bob"); !strings.Contains(got, " with ESMTPSA tls TLS_") {
		t.Errorf("got %q", got)
	}
	c.ask("QUIT", "221 ")
	if _, err := conn.Read(make([]byte, 1)); err != io.EOF { //nolint:errorlint // exactly this: a clean end of TLS
		t.Errorf("end of TLS: got %v, want EOF", err)
	}
}

// The keyword of the Received line is that of RFC 3848 and RFC 6531 §4.3.
func TestKeyword(t *testing.T) {
	tests := []struct {
		helo, utf8, secure, proved bool
		want                       string
	}{
		{true, false, false, false, "SMTP"}, {true, true, true, true, "SMTP"},
		{false, false, false, false, "ESMTP"}, {false, false, true, false, "ESMTPS"},
		{false, false, false, true, "ESMTPA"}, {false, false, true, true, "ESMTPSA"},
		{false, true, false, false, "UTF8SMTP"}, {false, true, true, false, "UTF8SMTPS"},
		{false, true, false, true, "UTF8SMTPA"}, {false, true, true, true, "UTF8SMTPSA"},
	}
	for _, tt := range tests {
		if got := keyword(tt.helo, tt.utf8, tt.secure, tt.proved); got != tt.want {
			t.Errorf("%+v: got %s", tt, got)
		}
	}
}

func TestHeloIsSeen(t *testing.T) {
	tests := []struct{ sent, want string }{
		{"HELO client.example", "SMTP"}, {"helo client.example", "SMTP"}, {"EHLO client.example", "ESMTP"},
		{"NOOP\r\nHELO client.example", "SMTP"}, {"VRFY EHLO\r\nHELO client.example", "SMTP"},
	}
	for _, tt := range tests {
		f := newFixture(t, MX).serve()
		c := f.dial()
		c.expect("220 ")
		for line := range strings.SplitSeq(tt.sent, "\r\n") {
			c.ask(line, "2")
		}
		c.message("x@remote.example", "bob@example.com", shortMessage)
		if got := f.oneMail("bob"); !strings.Contains(got, " with "+tt.want+" id ") {
			t.Errorf("%q: got %q", tt.sent, got)
		}
	}
}

// After a 421 nothing that was pipelined behind it is carried out or answered.
func TestNothingAfter421(t *testing.T) {
	f := newFixture(t, MX, func(o *Options) { o.Limits.UnknownMax = 1 }).serve()
	c := f.greeted()
	c.send("MAIL FROM:<x@remote.example>\r\nRCPT TO:<bob@example.com>\r\nRCPT TO:<nobody@example.com>\r\n" +
		"BDAT 8 LAST\r\nA: 1\r\n\r\nNOOP\r\nQUIT\r\n")
	for _, want := range []string{"250 2.", "250 2.", "421 4.7.0"} {
		c.expect(want)
	}
	c.closed()
	if n := len(f.mail("bob")); n != 0 {
		t.Errorf("stored %d messages", n)
	}
}

// failingConn fails to be read, with what the system says.
type failingConn struct{ net.Conn }

func (failingConn) Read([]byte) (int, error) {
	return 0, &net.OpError{Op: "read", Err: fmt.Errorf("reset by peer")}
}
func (failingConn) SetReadDeadline(time.Time) error { return nil }

func TestReadErrorIsForEver(t *testing.T) {
	near, far := net.Pipe()
	defer func() { _ = near.Close() }()
	w := newWire(t.Context(), failingConn{far}, defaultLimits(), newRegistry())
	w.adopt(false)
	_, first := w.Read(make([]byte, 1))
	w.Conn = far                                                             // the network is well again
	if _, again := w.Read(make([]byte, 1)); first == nil || again != first { //nolint:errorlint // the very same
		t.Errorf("got %v, then %v", first, again)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}
