package smtp

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"latchkey/internal/mailaddr"
	"latchkey/internal/message"
	"latchkey/store"
)

func TestRecipients(t *testing.T) {
	f := newFixture(t, MX)
	f.must(f.store.PutAlias(context.Background(), store.Alias{Name: "mixed", Targets: []store.AccountID{f.ids["bob"], f.ids["carol"]}}))
	f.must(f.store.PutAlias(context.Background(), store.Alias{Name: "away", Targets: []store.AccountID{f.ids["carol"], f.ids["dave"]}}))
	f.must(f.store.PutAlias(context.Background(), store.Alias{Name: "postmaster", Targets: []store.AccountID{f.ids["alice"]}}))
	f.serve()
	c := f.greeted()
	c.ask("MAIL FROM:<x@remote.example> SIZE=1000", "250 ")
	for _, tt := range []struct{ rcpt, want string }{
		{"bob@example.com", "250 2."},
		{"BOB@EXAMPLE.COM", "250 2."},
		{"bob+tag@example.com", "250 2."},
		{"bob@example.com.", "250 2."},
		{"@relay.example:bob@example.com", "250 2."}, // RFC 5321 §4.1.1.3: the route is ignored
		{"postmaster@example.com", "250 2."},
		{"Postmaster@Example.Com", "250 2."},
		{"mixed@example.com", "250 2."},
		{"carol@example.com", "450 4.2.1"},
		{"dave@example.com", "452 4.2.2"},
		{"away@example.com", "450 4.2.1"},
		{"nobody@example.com", "550 5.1.1"},
		{"bad\x01@example.com", "553 5.1.3"},
		{"b\xc3\xa4d@example.com", "553 5.6.7"},
		{"bob@ex\xc3\xa4mple.com", "553 5.6.7"},
		{"\xff@example.com", "553 5.1.3"},
		{strings.Repeat("a", 65) + "@example.com", "553 5.1.3"},
		{"bob@-example.com", "553 5.1.3"},
		{"bob@" + strings.Repeat("a.", 130) + "example", "553 5.1.3"},
		{"bob@[not-an-address", "553 5.1.3"},
	} {
		c.send("RCPT TO:<" + tt.rcpt + ">\r\n")
		if line := c.reply(); !strings.HasPrefix(line, tt.want) {
			t.Errorf("%q: got %q, want %q", tt.rcpt, line, tt.want)
		}
	}
	c.ask("DATA", "354 ")
	c.send(shortMessage + ".\r\n")
	c.expect("250 2.")
	if jobs := f.jobs(); len(jobs) != 0 {
		t.Errorf("jobs: %+v", jobs)
	}
	for name, want := range map[string]int{"alice": 1, "bob": 1, "dave": 0} {
		if got := len(f.mail(name)); got != want {
			t.Errorf("%s has %d messages, want %d", name, got, want)
		}
	}
}

// What does not fit is refused at RCPT, by the declared size; what fills up meanwhile at the end of DATA.
func TestQuota(t *testing.T) {
	f := newFixture(t, MX)
	f.update("dave", func(a *store.Account) { a.Quota = store.Quota{Octets: 1000} })
	f.serve()
	c := f.greeted()
	for size, want := range map[int]string{999: "250 ", 1000: "250 ", 1001: "452 4.2.2"} {
		c.ask(fmt.Sprintf("MAIL FROM:<x@remote.example> SIZE=%d", size), "250 ")
		c.ask("RCPT TO:<dave@example.com>", want)
		c.ask("RSET", "250 ")
	}
	c.ask("MAIL FROM:<x@remote.example>", "250 ")
	c.ask("RCPT TO:<dave@example.com>", "250 ")
	c.ask("DATA", "354 ")
	c.send(bodyOf(2000) + ".\r\n")
	c.expect("452 4.2.2")
}

// A mailbox that is suspended or removed between RCPT and the end of DATA is answered for what it is.
func TestChangesBeforeCommit(t *testing.T) {
	for want, change := range map[string]func(f *fixture){
		"450 4.2.1": func(f *fixture) { f.update("bob", func(a *store.Account) { a.Suspended = true }) },
		"550 5.1.1": func(f *fixture) { f.must(f.store.RemoveAccount(context.Background(), f.ids["bob"])) },
	} {
		f := newFixture(t, MX).serve()
		c := f.greeted()
		c.ask("MAIL FROM:<x@remote.example>", "250 ")
		c.ask("RCPT TO:<bob@example.com>", "250 ")
		c.ask("DATA", "354 ")
		change(f)
		c.send(shortMessage + ".\r\n")
		c.expect(want)
	}
}

func TestRecipientLimit(t *testing.T) {
	f := newFixture(t, Submission)
	f.settings(func(s *store.Settings) { s.Recipients = store.MinRecipients })
	f.serve()
	c := f.loggedIn("alice")
	c.ask("MAIL FROM:<alice@example.com>", "250 ")
	for i := range store.MinRecipients {
		c.ask(fmt.Sprintf("RCPT TO:<u%d@remote.example>", i), "250 ")
	}
	c.ask("RCPT TO:<more@remote.example>", "452 4.5.3")
	c.ask("DATA", "354 ")
	c.send("From: alice@example.com\r\n\r\n.\r\n")
	c.expect("250 2.")
	if n := len(f.jobs()); n != store.MinRecipients {
		t.Errorf("%d jobs", n)
	}
}

// The limit holds at once for who is connected already, though go-smtp does not know it.
func TestRecipientLimitOfTheMoment(t *testing.T) {
	f := newFixture(t, Submission).serve()
	c := f.loggedIn("alice")
	f.settings(func(s *store.Settings) { s.Recipients = store.MinRecipients })
	c.ask("MAIL FROM:<alice@example.com>", "250 ")
	for i := range store.MinRecipients {
		c.ask(fmt.Sprintf("RCPT TO:<u%d@remote.example>", i), "250 ")
	}
	c.ask("RCPT TO:<more@remote.example>", "452 4.5.3")
}

// An alias may lead to many: what does not fit whole is refused whole.
func TestExpandedRecipientsAreBounded(t *testing.T) {
	tx := &transaction{recipients: make([]store.Recipient, store.MaxRecipients-2)}
	for n, want := range map[int]bool{1: true, 2: true, 3: false} {
		if got := tx.fits(store.Route{Local: make([]store.AccountID, n)}); got != want {
			t.Errorf("%d more: got %v", n, got)
		}
		if got := tx.fits(store.Route{Local: make([]store.AccountID, n-1), Remote: make([]mailaddr.Address, 1)}); got != want {
			t.Errorf("%d more, one remote: got %v", n, got)
		}
	}
	f := newFixture(t, MX)
	s := &session{srv: New(f.opts), ctx: context.Background(), who: anonymous{}}
	tx.who, tx.settings = anonymous{}, store.DefaultSettings(testDomain)
	tx.accounts = map[store.AccountID]bool{}
	tx.put(store.Recipient{})
	s.tx.Store(tx)
	var r *refused
	if err := s.rcpt("team@example.com", &gosmtp.RcptOptions{}); !errors.As(err, &r) || verdict(r) != "452 4.5.3" {
		t.Errorf("two more with room for one: got %v", err)
	}
	if err := s.rcpt("bob@example.com", &gosmtp.RcptOptions{}); err != nil || len(tx.recipients) != store.MaxRecipients {
		t.Errorf("one more with room for one: got %v, %d recipients", err, len(tx.recipients))
	}
	s.forget()
}

// Searching for addresses becomes slow and then ends; our own users are not meant.
func TestHarvest(t *testing.T) {
	onPipes(t, MX, func(t *testing.T, f *fixture, p *pipes) {
		l := defaultLimits()
		c, _ := p.dial(f)
		c.expect("220 ")
		c.ask("EHLO client.example", "250 ")
		c.ask("MAIL FROM:<x@remote.example>", "250 ")
		for n := 1; n < l.UnknownMax; n++ {
			begun := time.Now()
			c.ask(fmt.Sprintf("RCPT TO:<nobody%d@example.com>", n), "550 5.1.1 No such mailbox here")
			want := time.Duration(0)
			if n > l.UnknownFree {
				want = l.Tarpit
			}
			if d := time.Since(begun); d != want {
				t.Errorf("unknown recipient %d took %v, want %v", n, d, want)
			}
		}
		c.ask("RCPT TO:<nobody@example.com>", "421 4.7.0")
		c.closed()
	})
	f := newFixture(t, Submission).serve()
	c := f.loggedIn("alice")
	c.ask("MAIL FROM:<alice@example.com>", "250 ")
	for range 2 * defaultLimits().UnknownMax {
		c.ask("RCPT TO:<nobody@example.com>", "550 5.1.1")
	}
}

// Close does not wait for a tarpit.
func TestCloseInTarpit(t *testing.T) {
	onPipes(t, MX, func(t *testing.T, f *fixture, p *pipes) {
		c, _ := p.dial(f)
		c.expect("220 ")
		c.ask("EHLO client.example", "250 ")
		c.ask("MAIL FROM:<x@remote.example>", "250 ")
		c.send("RCPT TO:<a@example.com>\r\n")
		synctest.Wait()
		begun := time.Now()
		f.must(f.srv.Close())
		if d := time.Since(begun); d != 0 {
			t.Errorf("Close took %v", d)
		}
	}, func(o *Options) { o.Limits.UnknownFree = -1; o.Limits.Tarpit = time.Hour })
}

func TestRelayTriesAreBounded(t *testing.T) {
	f := newFixture(t, MX).serve()
	c := f.greeted()
	c.ask("MAIL FROM:<x@remote.example>", "250 ")
	for n := 1; n < defaultLimits().RelayTries; n++ {
		c.ask("RCPT TO:<victim@elsewhere.example>", "550 5.7.1 Relaying denied for 127.0.0.1")
	}
	c.ask("RCPT TO:<victim@elsewhere.example>", "421 4.7.0")
	c.closed()
}

func TestSMTPUTF8(t *testing.T) {
	f := newFixture(t, Submission).serve()
	c := f.loggedIn("alice")
	c.ask("MAIL FROM:<alice@example.com> SMTPUTF8", "250 ")
	c.ask("RCPT TO:<jürgen@bücher.example>", "250 ")
	c.ask("DATA", "354 ")
	c.send("From: alice@example.com\r\nSubject: grüße\r\n\r\n.\r\n")
	c.expect("250 2.")
	jobs := f.jobs()
	if len(jobs) != 1 || !jobs[0].UTF8 || jobs[0].Recipient.String() != "jürgen@xn--bcher-kva.example" {
		t.Errorf("jobs: %+v", jobs)
	}
	c.ask("MAIL FROM:<alice@example.com>", "250 ")
	c.ask("RCPT TO:<jürgen@remote.example>", "553 5.6.7")
	c.ask("RCPT TO:<j@bücher.example>", "553 5.6.7")
	c.ask("RCPT TO:<j@xn--bcher-kva.example>", "250 ")
}

func TestDSNBounds(t *testing.T) {
	f := newFixture(t, Submission).serve()
	c := f.loggedIn("alice")
	for n, want := range map[int]string{maxEnvelopeID - 1: "250 ", maxEnvelopeID: "250 ", maxEnvelopeID + 1: "501 5.5.4"} {
		c.ask("MAIL FROM:<alice@example.com> ENVID="+strings.Repeat("e", n), want)
		c.ask("RSET", "250 ")
	}
	c.ask("MAIL FROM:<alice@example.com> SMTPUTF8", "250 ")
	orcpt := func(n int) string { return "rfc822;" + strings.Repeat("o", n-7) }
	for n, want := range map[int]string{maxOriginal - 1: "250 ", maxOriginal: "250 ", maxOriginal + 1: "501 5.5.4"} {
		c.ask(fmt.Sprintf("RCPT TO:<u%d@remote.example> ORCPT=%s", n, orcpt(n)), want)
	}
	c.ask(`RCPT TO:<v@remote.example> ORCPT=utf-8;a\x{01}b@c.example`, "501 5.5.4")
}

// bounced finds the only message in a maildrop and takes it for a bounce.
func (f *fixture) bounced(name string) string {
	f.t.Helper()
	got := f.oneMail(name)
	if !strings.HasPrefix(got, "Return-Path: <>\r\nDelivered-To: ") || !strings.Contains(got, "report-type=delivery-status") {
		f.t.Fatalf("not a bounce: %q", got)
	}
	return got
}

// leaveOut sends a message of which bob's copy cannot be stored although RCPT took him.
func (f *fixture) leaveOut(c *client, reply, from string, rcpts ...string) {
	f.t.Helper()
	c.ask("MAIL FROM:<"+from+">", "250 ")
	for _, r := range rcpts {
		c.ask("RCPT TO:"+r, "250 ")
	}
	c.ask("DATA", "354 ")
	f.update("bob", func(a *store.Account) { a.Suspended = true })
	c.send("From: alice@example.com\r\nSubject: original\r\nBcc: secret@example.com\r\n\r\nbody\r\n.\r\n")
	f.t.Logf("answered %q", c.expect(reply))
	f.update("bob", func(a *store.Account) { a.Suspended = false })
}

// Who was left out at the commit is reported to the sender by a bounce.
func TestLeftOutIsBounced(t *testing.T) {
	f := newFixture(t, Submission).serve()
	c := f.loggedIn("alice")
	f.leaveOut(c, "250 2.", "alice@example.com", "<bob@example.com> ORCPT=rfc822;bobby@example.com", "<x@remote.example>")
	got := f.bounced("alice")
	for _, part := range []string{"Final-Recipient: rfc822; bob@example.com\r\n", "Original-Recipient: rfc822; bobby@example.com\r\n", "Action: failed\r\nStatus: 5.2.1\r\n", "Subject: original\r\n", "To: <alice@example.com>\r\n", "From: Mail Delivery System <postmaster@example.com>"} {
		if !strings.Contains(got, part) {
			t.Errorf("%q is not in the bounce: %q", part, got)
		}
	}
	if strings.Contains(got, "body\r\n") || strings.Contains(got, "secret") || strings.Contains(got, "x@remote") {
		t.Errorf("too much in the bounce: %q", got)
	}
	if n := len(f.jobs()); n != 1 {
		t.Errorf("%d jobs, want the other recipient's", n)
	}
}

// A bounce has the international form only if something in it needs that, whatever the client declared.
func TestBounceNeedsUTF8(t *testing.T) {
	for _, tt := range []struct {
		name, from, rcpt, header string
		want                     bool
	}{
		{"declared only", "alice@example.com", "bob@example.com", "Subject: x\r\n\r\n", false},
		{"header", "alice@example.com", "bob@example.com", "Subject: \u00fc\r\n\r\n", true},
		{"sender", "\u00e4lice@example.com", "bob@example.com", "Subject: x\r\n\r\n", true},
		{"recipient", "alice@example.com", "b\u00f6b@example.com", "Subject: x\r\n\r\n", true},
	} {
		h := &message.Header{}
		if _, err := h.Read(strings.NewReader(tt.header)); err != nil {
			t.Fatal(err)
		}
		tx := &transaction{reversePath: address(tt.from)}
		if got := needsUTF8(tx, h, []message.FailedRecipient{{Address: address(tt.rcpt)}}); got != tt.want {
			t.Errorf("%s: %t, want %t", tt.name, got, tt.want)
		}
	}
}

// TestStrangersAreNotBounced: a stranger's message that one of its addresses cannot take any more is refused while he is there. Nothing is
// stored, and nobody gets a bounce for what he may never have sent.
func TestStrangersAreNotBounced(t *testing.T) {
	for _, from := range []string{"x@remote.example", ""} {
		f := newFixture(t, MX).serve()
		f.leaveOut(f.greeted(), "450 4.2.1", from, "<bob@example.com>", "<alice@example.com>")
		if jobs := f.jobs(); len(jobs) != 0 || len(f.mail("alice")) != 0 {
			t.Errorf("from %q: jobs %+v, alice has %q", from, jobs, f.mail("alice"))
		}
		// Somebody else of the alias takes it.
		f.leaveOut(f.greeted(), "250 2.", from, "<team@example.com>", "<alice@example.com>")
		if jobs := f.jobs(); len(jobs) != 0 || len(f.mail("alice")) != 1 {
			t.Errorf("from %q: jobs %+v, alice has %q", from, jobs, f.mail("alice"))
		}
	}
}

func TestLeftOutWithoutBounce(t *testing.T) {
	for _, tt := range []struct {
		name  string
		rcpts []string
	}{
		{"NOTIFY=NEVER", []string{"<bob@example.com> NOTIFY=NEVER", "<alice@example.com>"}},
		{"NOTIFY=SUCCESS", []string{"<bob@example.com> NOTIFY=SUCCESS", "<alice@example.com>"}},
		{"another of the alias got it", []string{"<team@example.com>"}},
		{"another of the alias got it by another address", []string{"<alice@example.com>", "<team@example.com>"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, Submission).serve()
			f.leaveOut(f.loggedIn("alice"), "250 2.", "alice@example.com", tt.rcpts...)
			if jobs := f.jobs(); len(jobs) != 0 {
				t.Errorf("jobs: %+v", jobs)
			}
			if n := len(f.mail("alice")); n != 1 {
				t.Errorf("alice has %d messages, want the original", n)
			}
		})
	}
}
