package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"latchkey/store"
)

// lasts is how long the server lets a client be, who does what act says every second until he is cut off.
func (c *talk) lasts(most time.Duration, act func() error) time.Duration {
	begun := time.Now()
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_, _ = io.Copy(io.Discard, c.r) // until the server hangs up
	}()
	for time.Since(begun) < most {
		select {
		case <-gone:
			return time.Since(begun)
		case <-time.After(time.Second):
		}
		if act != nil && act() != nil {
			break
		}
	}
	if time.Since(begun) >= most {
		_ = c.conn.Close() // it would have gone on
	}
	<-gone
	return time.Since(begun)
}

// TestAbuse14Slowloris: who says nothing, says it slowly, begins TLS and does not end it, or sends a message octet by octet, is cut off in a
// bounded time; one address has a bounded number of connections, whatever it does with them, and others then have theirs.
func TestAbuse14Slowloris(t *testing.T) {
	onStreet(t, func(s *street) {
		const attacker = "198.51.100.66"
		dribble := func(c *talk, octet string) func() error {
			n := 0
			return func() error {
				if n++; n%10 != 0 {
					return nil
				}
				_, err := io.WriteString(c.conn, octet)
				return err
			}
		}
		for _, tt := range []struct {
			name  string
			most  time.Duration
			bring func() (*talk, func() error)
		}{
			{"POP3, silent", 61 * time.Second, func() (*talk, func() error) { return s.dial("pop3", attacker), nil }},
			{"POP3, a letter each ten seconds", 61 * time.Second, func() (*talk, func() error) { c := s.dial("pop3", attacker); return c, dribble(c, "x") }},
			{"POP3, NOOP for ever", 11 * time.Minute, func() (*talk, func() error) { c := s.dial("pop3", attacker); return c, dribble(c, "CAPA\r\n") }},
			{"POP3, TLS not ended", 11 * time.Second, func() (*talk, func() error) {
				c := s.dial("pop3", attacker)
				c.want("+OK", "STLS")
				return c, nil
			}},
			{"submission, silent", 61 * time.Second, func() (*talk, func() error) { return s.dial("submission", attacker), nil }},
			{"submission, TLS not ended", 11 * time.Second, func() (*talk, func() error) {
				c := s.ehlo("submission", attacker)
				c.want("220", "STARTTLS")
				return c, nil
			}},
			{"port 25, silent", 5*time.Minute + time.Second, func() (*talk, func() error) { return s.dial("mx", attacker), nil }},
			{"port 25, a message octet by octet", 5 * time.Minute, func() (*talk, func() error) {
				c := s.ehlo("mx", attacker)
				c.want("250", "MAIL FROM:<x@remote.example>")
				c.want("250", "RCPT TO:<anna@example.com>")
				c.want("354", "DATA")
				return c, dribble(c, "x")
			}},
		} {
			c, act := tt.bring()
			if d := c.lasts(time.Hour, act); d > tt.most {
				t.Errorf("%s: %v, want %v at most", tt.name, d, tt.most)
			}
		}
		if n := s.holds("anna"); n != 0 {
			t.Errorf("%d messages", n)
		}
		for door, full := range map[string]string{"mx": "421 4.7.0", "pop3": "-ERR [SYS/TEMP]"} {
			n := 0
			for ; n < 300; n++ {
				if got := s.connect(door, attacker).line(); strings.HasPrefix(got, full) {
					break
				}
			}
			if n > 90 {
				t.Errorf("%s: %d connections from one address", door, n)
			}
			s.dial(door, "203.0.113.5") // greets
		}
	})
}

// TestAbuse15EndlessCommands: nobody goes on for ever with commands that bring nothing, or are none; and none of it is held against his
// address: the next connection is as good as the first.
func TestAbuse15EndlessCommands(t *testing.T) {
	onStreet(t, func(s *street) {
		const address = "198.51.100.66"
		until := func(c *talk, most int, command string) int {
			t.Helper()
			for n := range most {
				if got := c.ask("%s", command); got == "" || strings.HasPrefix(got, "421") {
					return n + 1
				}
			}
			return most
		}
		if n := until(s.dial("pop3", address), 100, "XYZZY"); n != 4 {
			t.Errorf("POP3 before login: %d bad commands", n)
		}
		c := s.dial("pop3", address).secure("STLS", "+OK")
		c.want("+OK", "USER anna")
		c.want("+OK", "PASS password of anna")
		if n := until(c, 100, "XYZZY"); n < 15 || n > 22 {
			t.Errorf("POP3 after login: %d bad commands", n)
		}
		if n := until(s.ehlo("mx", address), 100, "XYZZY"); n > 5 {
			t.Errorf("SMTP: %d unknown verbs", n)
		}
		for _, command := range []string{"NOOP", "RSET", "EHLO x", "HELP", "MAIL FROM:<", "RCPT TO:<anna@example.com>"} {
			if n := until(s.ehlo("mx", address), 5000, command); n > 1100 {
				t.Errorf("SMTP: %d times %s", n, command)
			}
		}
		if got := s.popLogin(address, "anna", "password of anna"); !strings.HasPrefix(got, "+OK") {
			t.Errorf("afterwards: %s", got)
		}
		if got := s.ehlo("mx", address).message("x@remote.example", "anna@example.com", "A: b\r\n\r\n"); !strings.HasPrefix(got, "250") {
			t.Errorf("afterwards: %s", got)
		}
	})
}

// TestAbuse18Injection: commands that a stranger on the way puts behind STLS or STARTTLS, in the same packet, are not carried out under TLS:
// the state is that of a new connection, the first answer is to the first command under TLS, and the log tells.
func TestAbuse18Injection(t *testing.T) {
	s := startServer(t, "example.com")
	s.addAccount("anna", "password of anna")
	for _, tt := range []struct{ door, greet, begin, ready, ask, want string }{
		{"pop3", "+OK", "STLS\r\nUSER anna\r\nPASS password of anna\r\nDELE 1\r\n", "+OK begin TLS", "STAT\r\n", "-ERR log in first"},
		{"mx", "220", "EHLO x\r\nSTARTTLS\r\nEHLO y\r\nMAIL FROM:<evil@remote.example>\r\nRCPT TO:<anna@example.com>\r\n", "220 2.0.0 Ready", "EHLO z\r\nDATA\r\n", "250 "},
		{"submission", "220", "EHLO x\r\nstarttls\r\nAUTH PLAIN " + plainAuth("anna", "password of anna") + "\r\nNOOP\r\n", "220 2.0.0 Ready", "EHLO z\r\nMAIL FROM:<anna@example.com>\r\n", "250 "},
	} {
		before := strings.Count(s.log.String(), "data sent before the TLS handshake dropped")
		c := s.overTCP(tt.door)
		if got := c.line(); !strings.HasPrefix(got, tt.greet) {
			t.Fatal(got)
		}
		got := c.say(tt.begin)
		if strings.HasPrefix(tt.begin, "EHLO") {
			got = c.line()
		}
		if !strings.HasPrefix(got, tt.ready) {
			t.Fatalf("%s: %q", tt.door, got)
		}
		c.beginTLS(s.tls())
		if got := c.say(tt.ask); !strings.HasPrefix(got, tt.want) {
			t.Errorf("%s: %q is answered %q", tt.door, tt.ask, got)
		}
		if strings.HasPrefix(tt.ask, "EHLO") {
			// Nobody has named a sender, a recipient or himself.
			if got := c.line(); !strings.HasPrefix(got, "5") {
				t.Errorf("%s: behind EHLO: %q", tt.door, got)
			}
		}
		if strings.Count(s.log.String(), "data sent before the TLS handshake dropped") != before+1 {
			t.Errorf("%s: the log does not tell", tt.door)
		}
	}
}

// smuggledEnds are published ends of a message that are one for a lenient server and none for a strict one.
func smuggledEnds() []string {
	return []string{
		"\n.\n", "\n.\r", "\r.\n", "\r.\r", "\n.\r\n", "\r.\r\n", "\r\n.\n", "\r\n.\r", "\r\r\n.\r\r\n", "\r\n.\r\r\n", "\n\n.\r\n",
		"\r\n\x00.\r\n", "\r\n.\x00\r\n", "\r\n\x00.\x00\r\n", "\n.\r\r\n", "\r\r.\r\r", "\r\x00\n.\r\n", "\r\n .\r\n", "\r\n.\t\r\n",
	}
}

// evilTail is the message that is to be smuggled in behind an end that is none.
const evilTail = "MAIL FROM:<evil@remote.example>\r\nRCPT TO:<anna@example.com>\r\nDATA\r\nSubject: evil\r\n\r\nevil\r\n"

// TestAbuse19Smuggling: no published end of data but the real one ends a message at us, and one with a bare CR or LF is refused at port 25.
// What leaves us is clean, whoever wrote it: the most lenient receiver counts each message once.
func TestAbuse19Smuggling(t *testing.T) {
	world := newLenientSink(t)
	s := newTestServer(t, "example.com")
	s.sendsTo(world.port(), "other.example")
	s.start()
	s.addAccount("anna", "password of anna")
	s.addAccount("bert", "password of bert")
	s.smuggleIn(t)
	s.smuggleOut(t, world)
}

// smuggleIn sends every variant in at port 25.
func (s *testServer) smuggleIn(t *testing.T) {
	t.Helper()
	for i, end := range smuggledEnds() {
		c := s.rawSMTP("mx")
		c.cmd("250", "MAIL FROM:<x@remote.example>\r\n")
		c.cmd("250", "RCPT TO:<bert@example.com>\r\n")
		c.cmd("354", "DATA\r\n")
		got := c.cmd("", fmt.Sprintf("Subject: in %d\r\n\r\nbody%s%s\r\n.\r\n", i, end, evilTail))
		// Deviation: go-smtp loses the dot and the CR of CRLF . CR, what is left is clean.
		want := "250"
		if strings.ContainsAny(strings.NewReplacer("\r\n.\r\r\n", "", "\r\n.\r", "", "\r\n", "").Replace(end), "\r\n") {
			want = "550 5.5.2"
		}
		if !strings.HasPrefix(got, want) {
			t.Errorf("%q at port 25: %q, want %s", end, got, want)
		}
		c.cmd("250 2.0.0 I have successfully done nothing", "NOOP\r\n")
		_ = c.Close() // all is said
	}
	if evil := s.fetch("anna", "password of anna"); len(evil) != 0 {
		t.Errorf("smuggled: %q", evil)
	}
}

// smuggleOut sends every variant to another domain, as our own user, by DATA and by BDAT.
func (s *testServer) smuggleOut(t *testing.T, world *lenientSink) {
	t.Helper()
	sent := 0
	for i, end := range smuggledEnds() {
		for _, chunks := range []bool{false, true} {
			conn := tls.Client(s.startTLS(), s.tls())
			c := &rawSMTP{t: t, Conn: conn, r: bufio.NewReader(conn)}
			c.cmd("250", "EHLO client.example\r\n")
			c.cmd("235", "AUTH PLAIN "+plainAuth("anna", "password of anna")+"\r\n")
			c.cmd("250", "MAIL FROM:<anna@example.com>\r\n")
			c.cmd("250", "RCPT TO:<x@other.example>\r\n")
			text := fmt.Sprintf("From: anna@example.com\r\nSubject: out %d\r\n\r\nbody%s%s\r\n", i, end, evilTail)
			if sent++; chunks {
				c.bdat("250", text)
			} else {
				c.cmd("354", "DATA\r\n")
				c.cmd("250", text+".\r\n")
			}
			_ = c.Close() // all is said
		}
	}
	eventually(t, "an empty queue", func() bool { return len(s.queue()) == 0 })
	for _, from := range world.senders() {
		if from != "anna@example.com" {
			t.Errorf("smuggled through us: a message from %q", from)
		}
	}
	if n := len(world.senders()); n != sent {
		t.Errorf("the receiver counts %d messages of %d", n, sent)
	}
}

// startTLS connects to the submission door and brings it to where the handshake begins.
func (s *testServer) startTLS() net.Conn {
	s.t.Helper()
	c := s.rawSMTP("submission")
	c.cmd("220", "STARTTLS\r\n")
	return c.Conn
}

// TestAbuse20Bombs: what is too large is refused before it is sent; a header of ten thousand fields, of one endless line, or with endless
// parameters costs a refusal or a moment, and nobody else anything; a full mailbox says so at RCPT.
func TestAbuse20Bombs(t *testing.T) {
	s := startServer(t, "example.com")
	s.addAccount("anna", "password of anna")
	c := s.rawSMTP("mx")
	var settings store.Settings
	s.do("GET", "/v1/settings", nil, &settings)
	c.cmd("552 5.3.4", fmt.Sprintf("MAIL FROM:<x@remote.example> SIZE=%d\r\n", settings.MessageSize+1))
	parameters := func(format string, count int) string {
		var b strings.Builder
		b.WriteString("Content-Type: multipart/mixed")
		for i := range count {
			fmt.Fprintf(&b, format, i)
		}
		return b.String() + "\r\nSubject: caf\xc3\xa9\r\n"
	}
	for _, tt := range []struct{ name, header, want string }{
		{"ten thousand fields", strings.Repeat("X: y\r\n", 10_000), "552 5.3.4"},
		{"one field of a megabyte, folded", "X: " + strings.Repeat("y\r\n ", 1<<18) + "\r\n", "552 5.3.4"},
		{"one line of a megabyte", "X: " + strings.Repeat("y", 1<<20) + "\r\n", "550 5.6.0"},
		{"two hundred Received", strings.Repeat("Received: from a by b; Sun, 1 Jan 2023 00:00:00 +0000\r\n", 200), "554 5.4.6"},
		{"parameters of RFC 2231", parameters(";\r\n\tboundary*%d=x", 9000), "250"},
		{"parameters of RFC 2231, encoded", parameters(";\r\n\tname*%d*=utf-8''%%C3%%A9", 8000), "250"},
		{"comments within comments", "From: " + strings.Repeat("(", 20_000) + "\r\n", "250"},
		{"addresses", "To: " + strings.Repeat("a@b.example,\r\n\t", 12_000) + "c@d.example\r\n", "250"},
		{"parts within parts", nested(100), "250"},
	} {
		c := s.rawSMTP("mx")
		begun := time.Now()
		c.cmd("250", "MAIL FROM:<x@remote.example> BODY=8BITMIME SMTPUTF8\r\n")
		c.cmd("250", "RCPT TO:<anna@example.com>\r\n")
		c.cmd("354", "DATA\r\n")
		if got := c.cmd("", tt.header+"\r\nbody\r\n.\r\n"); !strings.HasPrefix(got, tt.want) {
			t.Errorf("%s: %q, want %s", tt.name, got, tt.want)
		}
		if d := time.Since(begun); d > 10*time.Second {
			t.Errorf("%s took %v", tt.name, d)
		}
		_ = c.Close() // all is said
	}
	begun := time.Now()
	if n := len(s.fetch("anna", "password of anna")); n != 5 { // to a client without UTF8, which gets surrogates
		t.Errorf("%d messages were taken, want 5", n)
	}
	if d := time.Since(begun); d > 20*time.Second {
		t.Errorf("reading them took %v", d)
	}
	s.do("PATCH", "/v1/accounts/anna", map[string]any{"quota": map[string]any{"octets": 1000}}, nil)
	wantCode(t, "a full mailbox", s.tryDeliver("x@other.example", []string{"anna@example.com"}, message("no room")), 452)
	s.deliver("x@other.example", []string{"postmaster@example.com"}, message("others have theirs"))
}

// TestAbuse20MailBomb: one mailbox takes six hundred messages an hour from strangers, whoever they are, and then puts them off. Its owner's colleagues
// and other mailboxes are not held up, and who only names it fills nothing.
func TestAbuse20MailBomb(t *testing.T) {
	onStreet(t, func(s *street) {
		const most = 600
		rcpt := func(remote, to string) string {
			c := s.ehlo("mx", remote)
			defer c.end()
			c.want("250", "MAIL FROM:<x@other.example>")
			return c.ask("RCPT TO:<%s@example.com>", to)
		}
		c := s.ehlo("mx", "198.51.100.65")
		for range most + 10 { // brings nothing
			c.want("250", "MAIL FROM:<x@other.example>")
			c.want("250", "RCPT TO:<anna@example.com>")
			c.want("250", "RSET")
		}
		for n := range most / 10 {
			if got := rcpt("198.51.100.65", "anna"); !strings.HasPrefix(got, "250") {
				t.Fatalf("after %d: %s", 10*n, got)
			}
			c := s.ehlo("mx", fmt.Sprintf("198.51.%d.1", 101+n))
			for range 10 {
				if got := c.message("x@other.example", "anna@example.com", "Subject: x\r\n\r\nx\r\n"); !strings.HasPrefix(got, "250") {
					t.Fatalf("after %d: %s", 10*n, got)
				}
			}
			c.end()
		}
		if got := rcpt("198.51.100.65", "anna"); !strings.HasPrefix(got, "450 4.2.1 ") || !strings.Contains(got, "try again later") {
			t.Errorf("one more: %s", got)
		}
		if got := rcpt("198.51.100.65", "bert"); !strings.HasPrefix(got, "250") {
			t.Errorf("to somebody else: %s", got)
		}
		colleague, _ := s.smtpLogin("203.0.113.5", "bert", "password of bert")
		if got := colleague.message("bert@example.com", "anna@example.com", "From: bert@example.com\r\n\r\nx\r\n"); !strings.HasPrefix(got, "250") {
			t.Errorf("from a colleague: %s", got)
		}
		time.Sleep(time.Minute) // ten come back
		if got := rcpt("198.51.100.65", "anna"); !strings.HasPrefix(got, "250") {
			t.Errorf("a minute later: %s", got)
		}
	})
}

// nested is a message of so many parts, each within the one before.
func nested(depth int) string {
	var b strings.Builder
	for i := range depth {
		fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=b%d\r\nSubject: caf\xc3\xa9\r\n\r\n--b%d\r\n", i, i)
	}
	return b.String()
}

// full is a store on a device that is full, once it is told so: nothing more is taken, deleting goes on.
type full struct {
	store.Store
	tight atomic.Bool
}

func (f *full) Room(ctx context.Context) error {
	if f.tight.Load() {
		return fmt.Errorf("device: %w", store.ErrNoSpace)
	}
	return f.Store.Room(ctx)
}

// TestAbuse30DiskFull: when there is no room, MAIL is answered with 452 4.3.1 before anything is sent, at both doors. Owners read on and
// delete, the owner of the domain works on, and when there is room again mail comes in.
func TestAbuse30DiskFull(t *testing.T) {
	s := newTestServer(t, "example.com")
	device := new(full)
	s.wrap = func(st store.Store) store.Store { device.Store = st; return device }
	s.start()
	s.addAccount("anna", "password of anna")
	s.deliver("x@other.example", []string{"anna@example.com"}, message("one"))
	sending := s.submission("anna", "password of anna")
	device.tight.Store(true)
	c := s.rawSMTP("mx")
	c.cmd("452 4.3.1", "MAIL FROM:<x@other.example>\r\n")
	wantCode(t, "submission", sending.Mail("anna@example.com"), 452)
	p := s.pop("pop3s")
	if err := p.login("anna", "password of anna"); err != nil {
		t.Fatal(err)
	}
	if text := p.multi("RETR 1"); !strings.Contains(text, "body of one") {
		t.Errorf("read: %q", text)
	}
	p.must("DELE 1")
	p.must("QUIT")
	s.setPassword("anna", "new password of anna")
	device.tight.Store(false)
	c.cmd("250", "MAIL FROM:<x@other.example>\r\n")
	s.deliver("x@other.example", []string{"anna@example.com"}, message("two"))
	holds(t, s.fetch("anna", "new password of anna"), "two")
}

// TestAbuse31GiantTransaction: one owner deletes thousands of messages in one QUIT. Meanwhile mail comes in for others without a pause
// that anybody would notice; and large bodies never get into the b-tree, whose writer they would hold up.
func TestAbuse31GiantTransaction(t *testing.T) {
	const giant = 3000
	s := startServer(t, "example.com")
	s.addAccount("anna", "password of anna")
	s.addAccount("bert", "password of bert")
	var work sync.WaitGroup
	for range 4 {
		work.Go(func() {
			c := s.rawSMTP("mx")
			for range giant / 4 {
				c.cmd("250", "MAIL FROM:<x@other.example>\r\n")
				c.cmd("250", "RCPT TO:<anna@example.com>\r\n")
				c.data("250", "Subject: many\r\n\r\nx\r\n")
			}
		})
	}
	work.Wait()
	large := "Subject: large\r\n\r\n" + strings.Repeat(strings.Repeat("x", 70)+"\r\n", 1<<14) // over a megabyte
	for range 10 {
		s.deliver("x@other.example", []string{"bert@example.com"}, large)
	}
	p := s.pop("pop3s")
	if err := p.login("anna", "password of anna"); err != nil {
		t.Fatal(err)
	}
	for n := range giant {
		p.must("DELE %d", n+1)
	}
	quit := make(chan error, 1)
	go func() {
		_, err := p.cmd("QUIT")
		quit <- err
	}()
	var longest time.Duration
	delivered := 0
	for gone := false; !gone || delivered < 20; delivered++ {
		begun := time.Now()
		s.deliver("x@other.example", []string{"bert@example.com"}, message("meanwhile"))
		longest = max(longest, time.Since(begun))
		select {
		case err := <-quit:
			if err != nil {
				t.Fatal(err)
			}
			gone = true
		default:
		}
	}
	if longest > 5*time.Second {
		t.Errorf("a delivery took %v", longest)
	}
	if n := len(s.fetch("anna", "password of anna")); n != 0 {
		t.Errorf("%d messages are left", n)
	}
	s.stop()
	info, err := os.Stat(filepath.Join(s.dir, "mail.db"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > 8<<20 {
		t.Errorf("the b-tree has %d octets: bodies are in it", info.Size())
	}
	t.Logf("%d deliveries meanwhile, the longest took %v; the b-tree has %d octets", delivered, longest, info.Size())
}

// TestAbuse32LocalClient: a program of our own user, or somebody who has it, gets nothing past the header: blind copies do not leave, a
// second From is refused, so is somebody else's; whoever sends for another is named; what it calls itself cannot make a header of its own.
func TestAbuse32LocalClient(t *testing.T) {
	world := newSink(t)
	s := newTestServer(t, "example.com")
	s.sendsTo(world.port(), "other.example")
	s.start()
	s.addAccount("anna", "password of anna")
	s.addAccount("bert", "password of bert")
	s.do("PATCH", "/v1/accounts/anna", map[string]any{"send_as": []string{"boss@example.com"}}, nil)
	for _, tt := range []struct {
		header string
		code   int
	}{
		{"From: anna@example.com\r\nFrom: bert@example.com\r\n", 550},
		{"From: anna@example.com\r\nfrom : ceo@bank.example\r\n", 550},
		{"From: bert@example.com\r\n", 550},
		{"From: anna@example.com, ceo@bank.example\r\n", 550},
		{"From: \"anna@example.com\" <ceo@bank.example>\r\n", 550},
		{"From: anna@example.com\rBcc: x@other.example\r\n", 250},
	} {
		err := s.trySend("anna", "password of anna", []string{"bert@example.com"}, tt.header+"Subject: x\r\n\r\nbody\r\n")
		if tt.code == 250 && err != nil {
			t.Errorf("%q: %v", tt.header, err)
		} else if tt.code != 250 {
			wantCode(t, fmt.Sprintf("%q", tt.header), err, tt.code)
		}
	}
	s.send("anna", "password of anna", []string{"x@other.example"}, "From: boss@example.com\r\nSender: ceo@bank.example\r\nBcc: secret@other.example\r\n"+
		"Resent-Bcc: secret2@other.example\r\nReturn-Path: <forged@other.example>\r\nSubject: out\r\n\r\nbody\r\n")
	got := world.wait(1)[0].data
	for _, leak := range []string{"Bcc", "secret", "forged", "ceo@bank.example"} {
		if strings.Contains(got, leak) {
			t.Errorf("%s leaves:\n%s", leak, got)
		}
	}
	if !strings.Contains(got, "Sender: anna@example.com\r\n") {
		t.Errorf("nobody is named as the sender:\n%s", got)
	}
	c := s.rawSMTP("mx")
	c.cmd("250", "EHLO evil)\tX-Spam: no;(\x0bBcc:\r\n")
	c.cmd("250", "MAIL FROM:<x@remote.example>\r\n")
	c.cmd("250", "RCPT TO:<bert@example.com>\r\n")
	c.data("250", "Subject: hello\r\n\r\nx\r\n")
	if text := strings.Join(s.fetch("bert", "password of bert"), ""); !strings.Contains(text, "Received: from evil?") || strings.Contains(text, "X-Spam: no") {
		t.Errorf("the name in EHLO: %s", text)
	}
}
