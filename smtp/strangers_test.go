package smtp

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/auth"
	"latchkey/guard"
	"latchkey/store"
)

// counted gives a door counters over all connections; 192.0.2.99 is known.
func counted(o *Options) {
	o.Known = func(a netip.Addr) bool { return a == netip.MustParseAddr("192.0.2.99") }
	o.Strangers = guard.NewStrangers(guard.StrangerLimits{}, o.Known)
}

// tries to relay once, over a connection of its own.
func (p *pipes) tries(f *fixture, from, want string) {
	f.t.Helper()
	c, _ := p.dialFrom(f, from)
	c.expect("220 ")
	c.ask("EHLO client.example", "250 ")
	c.ask("MAIL FROM:<x@remote.example>", "250 ")
	c.ask("RCPT TO:<victim@elsewhere.example>", want)
	_ = c.conn.Close() // all was said
	f.wait()
}

// TestRelayTriesBlockPort25: the third try ends the connection, whether it is the same one or not, and the client is kept from the door for half an hour,
// with the cure; others and known ones are not, and mail for the domain is taken afterwards.
func TestRelayTriesBlockPort25(t *testing.T) {
	onPipes(t, MX, func(t *testing.T, f *fixture, p *pipes) {
		f.settings(func(s *store.Settings) { s.HelpURL = "https://help.example" })
		f.wait = synctest.Wait
		p.tries(f, "192.0.2.1", "550 5.7.1")
		p.tries(f, "192.0.2.1", "550 5.7.1")
		p.tries(f, "192.0.2.1", "421 4.7.0 Relaying denied too often")
		for _, wait := range []string{"30 minutes", "1 minute"} {
			c, _ := p.dialFrom(f, "192.0.2.1")
			c.expect("421 4.7.0 " + testHost + ` Turn on "My server requires authentication" and use port 587 or 465, or wait ` + wait +
				": 192.0.2.1 tried to relay too often - see https://help.example")
			c.closed()
			time.Sleep(29 * time.Minute)
		}
		p.tries(f, "192.0.2.2", "550 5.7.1")
		for range 2 {
			p.tries(f, "192.0.2.99", "550 5.7.1")
		}
		p.tries(f, "192.0.2.99", "421 4.7.0")
		p.tries(f, "192.0.2.99", "421 4.7.0") // at RCPT, not at the door
		c, _ := p.dialFrom(f, "192.0.2.1")
		c.expect("220 ")
		c.ask("EHLO client.example", "250 ")
		c.ask("MAIL FROM:<x@remote.example>", "250 ")
		c.ask("RCPT TO:<alice@example.com>", "250 ")
	}, counted)
}

// TestBlockIsOfPort25Only: submission is open to a client that is kept from port 25, so that its user can do what the refusal says.
func TestBlockIsOfPort25Only(t *testing.T) {
	strangers := guard.NewStrangers(guard.StrangerLimits{}, nil)
	for range 3 {
		strangers.Relayed(time.Now(), netip.MustParseAddr("127.0.0.1"))
	}
	f := newFixture(t, Submission, func(o *Options) { o.Strangers = strangers }).serve()
	f.loggedIn("alice")
	f = newFixture(t, MX, func(o *Options) { o.Strangers = strangers }).serve()
	c := f.dial()
	c.expect("421 4.7.0 ")
	c.closed()
}

// TestHarvestOverConnections: who asks for one unknown recipient a connection is slowed down after ten, and sent away after fifty; a message that is
// accepted gives some back.
func TestHarvestOverConnections(t *testing.T) {
	onPipes(t, MX, func(t *testing.T, f *fixture, p *pipes) {
		l := guard.DefaultStrangerLimits()
		ask := func(i int, want string, took time.Duration) {
			t.Helper()
			c, _ := p.dialFrom(f, "192.0.2.1")
			c.expect("220 ")
			c.ask("EHLO client.example", "250 ")
			c.ask("MAIL FROM:<x@remote.example>", "250 ")
			begun := time.Now()
			c.ask(fmt.Sprintf("RCPT TO:<nobody%d@example.com>", i), want)
			if d := time.Since(begun); d != took {
				t.Errorf("ask %d took %v, want %v", i+1, d, took)
			}
			_ = c.conn.Close() // all was said
		}
		for i := range int(l.AsksAtOnce.N) {
			ask(i, "550 5.1.1", 0)
		}
		ask(10, "550 5.1.1", 5*time.Second)
		c, _ := p.dialFrom(f, "192.0.2.1")
		c.expect("220 ")
		c.ask("EHLO client.example", "250 ")
		c.ask("MAIL FROM:<x@remote.example>", "250 ")
		c.ask("RCPT TO:<alice@example.com>", "250 ")
		c.ask("DATA", "354 ")
		c.send("Subject: x\r\n\r\nx\r\n.\r\n")
		c.expect("250 2.")
		ask(11, "550 5.1.1", 0)
		for i := range int(l.Asks.N) - 11 {
			ask(12+i, "550 5.1.1", 5*time.Second)
		}
		for range 2 { // some came back in that time
			c, _ := p.dialFrom(f, "192.0.2.1")
			c.expect("220 ")
			c.ask("EHLO client.example", "250 ")
			c.ask("MAIL FROM:<x@remote.example>", "250 ")
			for {
				c.send("RCPT TO:<nobody@example.com>\r\n")
				text, err := c.r.ReadLine()
				if err != nil {
					t.Fatal(err)
				}
				if strings.HasPrefix(text, "421 4.7.0 Too many unknown recipients") {
					break
				}
				if !strings.HasPrefix(text, "550 5.1.1") {
					t.Fatalf("got %q", text)
				}
			}
			c.closed()
		}
	}, counted)
}

// TestEarlyTalkerIsRefusedOnPort25 and nowhere else; a known one is served.
func TestEarlyTalkerIsRefusedOnPort25(t *testing.T) {
	for _, tt := range []struct {
		door       Door
		from, want string
	}{
		{MX, "192.0.2.1", "421 4.7.0 " + testHost + " Wait for the greeting before you speak"}, {MX, "192.0.2.99", "220 "},
		{Submission, "192.0.2.1", "220 "},
	} {
		onPipes(t, tt.door, func(t *testing.T, f *fixture, p *pipes) {
			c, _ := p.dialFrom(f, tt.from)
			go c.send("EHLO client.example\r\n")
			c.expect(tt.want)
		}, counted, func(o *Options) { o.Sniff = true })
	}
}

// TestBanOverSMTP: 421 with how long it lasts and where help is, and the connection ends; the session's own count of failures is not touched.
func TestBanOverSMTP(t *testing.T) {
	f := newFixture(t, Submission).serve()
	f.settings(func(s *store.Settings) { s.HelpURL = "https://help.example" })
	f.auth.fail = &auth.Banned{Wait: 14*time.Minute + time.Second}
	c := f.greeted()
	c.ask("AUTH PLAIN "+plain("alice", "alice-pw"), "421 4.7.0 Correct the saved password, then wait 15 minutes, or ask the owner of the domain to lift the ban: "+
		"too many wrong passwords from 127.0.0.1 - see https://help.example")
	c.closed()
}
