package smtp

import (
	"context"
	"encoding/base64"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"latchkey/auth"
	"latchkey/internal/mailaddr"
	"latchkey/store"
)

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// Guesses are bounded on a connection: 535 5.7.8 for each, and the last one ends it (RFC 4954 §4).
func TestAuthGuessing(t *testing.T) {
	guesses := map[string]func(c *client) string{
		"PLAIN": func(c *client) string { c.send("AUTH PLAIN " + plain("alice", "wrong") + "\r\n"); return c.reply() },
		"LOGIN": func(c *client) string {
			c.ask("AUTH LOGIN", "334 VXNlcm5hbWU6")
			c.ask(b64("alice"), "334 UGFzc3dvcmQ6")
			c.send(b64("wrong") + "\r\n")
			return c.reply()
		},
		"unknown name": func(c *client) string { c.send("AUTH PLAIN " + plain("nobody", "wrong") + "\r\n"); return c.reply() },
		"somebody else": func(c *client) string {
			c.send("AUTH PLAIN " + b64("bob\x00alice\x00alice-pw") + "\r\n")
			return c.reply()
		},
		"suspended": func(c *client) string { c.send("AUTH PLAIN " + plain("carol", "carol-pw") + "\r\n"); return c.reply() },
	}
	for name, guess := range guesses {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, Submission).serve()
			c := f.greeted()
			for n := 1; n < defaultLimits().AuthFailures; n++ {
				if line := guess(c); !strings.HasPrefix(line, "535 5.7.") {
					t.Fatalf("guess %d: got %q", n, line)
				}
			}
			if line := guess(c); !strings.HasPrefix(line, "421 4.7.0") {
				t.Errorf("last guess: got %q", line)
			}
			c.closed()
		})
	}
	// A right password before the last guess opens the door.
	f := newFixture(t, Submission).serve()
	c := f.greeted()
	for range defaultLimits().AuthFailures - 1 {
		c.ask("AUTH PLAIN "+plain("alice", "wrong"), "535 5.7.8")
	}
	c.login("alice")
	// Exchanges that are given up are bounded too.
	c = f.greeted()
	for range defaultLimits().AuthAttempts {
		c.ask("AUTH LOGIN", "334 ")
		c.ask("*", "501 5.0.0")
	}
	c.ask("AUTH LOGIN", "421 4.7.0")
	c.closed()
	// The reply never says which half was wrong.
	c = f.greeted()
	if a, b := guesses["PLAIN"](c), guesses["unknown name"](c); a != b {
		t.Errorf("wrong password %q, unknown name %q", a, b)
	}
}

func TestAuthMechanisms(t *testing.T) {
	good := []func(c *client){
		func(c *client) { c.ask("AUTH PLAIN "+plain("alice", "alice-pw"), "235 2.") },
		func(c *client) { c.ask("auth plain "+b64("alice\x00alice\x00alice-pw"), "235 2.") },
		func(c *client) {
			if line := c.ask("AUTH PLAIN", "334"); line != "334 " {
				c.f.t.Errorf("empty challenge: got %q, want %q", line, "334 ")
			}
			c.ask(plain("alice", "alice-pw"), "235 2.")
		},
		func(c *client) {
			if line := c.ask("AUTH LOGIN", "334"); line != "334 VXNlcm5hbWU6" {
				c.f.t.Errorf("got %q", line)
			}
			if line := c.ask(b64("alice"), "334"); line != "334 UGFzc3dvcmQ6" {
				c.f.t.Errorf("got %q", line)
			}
			c.ask(b64("alice-pw"), "235 2.")
		},
		func(c *client) {
			c.ask("AUTH LOGIN "+b64("alice"), "334 UGFzc3dvcmQ6")
			c.ask(b64("alice-pw"), "235 2.")
		},
	}
	for i, login := range good {
		f := newFixture(t, Submission).serve()
		c := f.greeted()
		login(c)
		c.ask("AUTH PLAIN "+plain("alice", "alice-pw"), "503 5.5.1")
		c.message("alice@example.com", "bob@example.com", "From: alice@example.com\r\n\r\n")
		if got := f.oneMail("bob"); !strings.Contains(got, " with ESMTPA id ") {
			t.Errorf("%d: got %q", i, got)
		}
	}
	f := newFixture(t, Submission).serve()
	c := f.greeted()
	for _, tt := range []struct{ command, want string }{
		{"AUTH", "502 5.5.4"},
		{"AUTH CRAM-MD5", "504 5.5.4"},
		{"AUTH NTLM", "504 5.5.4 Untick"},
		{"AUTH GSSAPI", "504 5.5.4 Untick"},
		{"AUTH PLAIN !!!", "454 4.7.0"}, // Deviation: go-smtp's code for bad base64
		{"AUTH PLAIN " + b64("no separators"), "501 5.5.2"},
		{"AUTH PLAIN =", "501 5.5.2"},
		{"AUTH PLAIN " + b64("a\x00b\x00c\x00d"), "501 5.5.2"},
	} {
		c.ask(tt.command, tt.want)
	}
	c.ask("MAIL FROM:<alice@example.com>", "530 5.7.0")
}

// EHLO offers AUTH exactly where a password may be sent.
func TestAuthIsOfferedWhereItWorks(t *testing.T) {
	tests := []struct {
		name      string
		door      Door
		cleartext bool
		onMX      bool
		tls       bool
		want      string // "" if offered
	}{
		{"submission, TLS", Submission, false, true, true, ""},
		{"submission, clear, allowed", Submission, true, true, false, ""},
		{"submission, clear", Submission, false, true, false, "538 5.7.11"},
		{"MX, TLS", MX, false, true, true, ""},
		{"MX, clear, allowed", MX, true, true, false, ""},
		{"MX, clear", MX, false, true, false, "538 5.7.11"},
		{"MX, switched off", MX, true, false, true, "502 5.5.1"},
		{"MX, switched off, clear", MX, false, false, false, "502 5.5.1"},
		{"submission, switched off on MX", Submission, true, false, false, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, tt.door)
			f.auth.cleartext = tt.cleartext
			f.settings(func(s *store.Settings) { s.AuthOnMX = tt.onMX })
			f.serve()
			c := f.greeted()
			if tt.tls {
				c.starttls()
			}
			c.send("EHLO client.example\r\n")
			offered := false
			for {
				line, err := c.r.ReadLine()
				f.must(err)
				offered = offered || line[4:] == "AUTH PLAIN LOGIN"
				if line[3] == ' ' {
					break
				}
			}
			if offered != (tt.want == "") {
				t.Errorf("offered: %v", offered)
			}
			if tt.want == "" {
				c.login("alice")
				return
			}
			c.ask("AUTH PLAIN "+plain("alice", "alice-pw"), tt.want)
			c.ask("AUTH LOGIN", tt.want)
			if f.auth.logins != 0 {
				t.Errorf("%d passwords were looked at", f.auth.logins)
			}
			var clear []string
			if tt.want == "538 5.7.11" {
				clear = []string{`smtp PLAIN 127.0.0.1 "alice" "alice-pw" false`}
			}
			for _, nothing := range []string{"AUTH PLAIN", "AUTH PLAIN =", "AUTH PLAIN " + plain("alice", "")[:8], "AUTH LOGIN YWxpY2U="} {
				c.ask(nothing, tt.want)
			}
			if got := f.auth.inClear(); !slices.Equal(got, clear) {
				t.Errorf("in the clear came %q, want %q", got, clear)
			}
		})
	}
}

func TestAuthErrors(t *testing.T) {
	for err, want := range map[error]string{
		auth.ErrThrottled: "454 4.7.0", auth.ErrBusy: "454 4.7.0", auth.ErrCleartext: "538 5.7.11",
		store.ErrDamaged: "451 4.3.0", fmt.Errorf("x: %w", auth.ErrCredentials): "535 5.7.8",
	} {
		f := newFixture(t, Submission).serve()
		f.auth.fail = err
		f.greeted().ask("AUTH PLAIN "+plain("alice", "alice-pw"), want)
	}
}

// AUTH during a transaction is out of order (RFC 4954 §4).
func TestAuthInTransaction(t *testing.T) {
	f := newFixture(t, MX).serve()
	c := f.greeted()
	c.ask("MAIL FROM:<x@remote.example>", "250 ")
	c.ask("AUTH PLAIN "+plain("alice", "alice-pw"), "503 5.5.1")
	c.ask("RSET", "250 ")
	c.login("alice")
}

// A password that was changed ends the session at the next MAIL; so do suspension and removal.
func TestPasswordChangeEndsSession(t *testing.T) {
	changes := map[string]func(f *fixture){
		"password":   func(f *fixture) { f.update("alice", func(a *store.Account) { a.Verifier = "$argon2id$new" }) },
		"suspension": func(f *fixture) { f.update("alice", func(a *store.Account) { a.Suspended = true }) },
		"removal": func(f *fixture) {
			f.must(f.store.RemoveAlias(context.Background(), "sales"))
			f.must(f.store.RemoveAccount(context.Background(), f.ids["alice"]))
		},
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, Submission).serve()
			c := f.loggedIn("alice")
			c.message("alice@example.com", "bob@example.com", "From: alice@example.com\r\n\r\n")
			change(f)
			c.ask("MAIL FROM:<alice@example.com>", "421 4.7.0")
			c.closed()
		})
	}
}

// Who may use which reverse-path and From, over the wire.
func TestSenderOwnership(t *testing.T) {
	const notYours = "550 5.7.1"
	tests := []struct {
		name, from, header string
		mail, data         string
	}{
		{"own address", "alice@example.com", "From: alice@example.com", "250", "250"},
		{"other case", "ALICE@Example.COM", "From: Alice <Alice@EXAMPLE.com>", "250", "250"},
		{"plus form", "alice+x@example.com", "From: alice+y@example.com", "250", "250"},
		{"alias", "sales@example.com", "From: Sales <sales@example.com>", "250", "250"},
		{"lent", "press@partner.example", "From: press@partner.example", "250", "250"},
		{"null reverse-path", "", "From: alice@example.com", "250", "250"},
		{"alias with several targets", "team@example.com", "From: alice@example.com", notYours, ""},
		{"another's", "bob@example.com", "From: alice@example.com", notYours, ""},
		{"catch-all", "anything@example.com", "From: alice@example.com", notYours, ""},
		{"foreign", "alice@remote.example", "From: alice@example.com", notYours, ""},
		{"our name in a literal", "alice@[127.0.0.1]", "From: alice@example.com", notYours, ""},
		{"From another's", "alice@example.com", "From: bob@example.com", "250", notYours},
		{"From foreign", "alice@example.com", "From: ceo@bank.example", "250", notYours},
		{"From with our address as a name", "alice@example.com", `From: "alice@example.com" <ceo@bank.example>`, "250", notYours},
		{"From with two, one foreign", "alice@example.com", "From: alice@example.com, ceo@bank.example", "250", notYours},
		{"From with two of ours", "alice@example.com", "From: alice@example.com, sales@example.com", "250", "250"},
		{"From without an address", "alice@example.com", "From: alice", "250", notYours},
		{"From empty", "alice@example.com", "From: ", "250", notYours},
		{"two From lines", "alice@example.com", "From: alice@example.com\r\nFrom: ceo@bank.example", "250", "550 5.6.0"},
		{"no From", "alice@example.com", "Subject: x", "250", "250"},
		{"redirect", "alice@example.com", "Resent-From: alice@example.com\r\nFrom: ceo@bank.example", "250", "250"},
		{"redirect by another", "alice@example.com", "Resent-From: bob@example.com\r\nFrom: ceo@bank.example", "250", notYours},
		{"redirect, not the last one", "alice@example.com", "Resent-From: bob@example.com\r\nResent-From: alice@example.com\r\nFrom: ceo@bank.example", "250", notYours},
	}
	for _, door := range []Door{Submission, MX} {
		for _, tt := range tests {
			t.Run(string(door)+" "+tt.name, func(t *testing.T) {
				f := newFixture(t, door)
				f.must(f.store.PutAlias(context.Background(), store.Alias{Name: store.CatchAll, Targets: []store.AccountID{f.ids["alice"]}}))
				f.serve()
				c := f.loggedIn("alice")
				if c.ask("MAIL FROM:<"+tt.from+">", tt.mail); tt.data == "" {
					return
				}
				c.ask("RCPT TO:<bob@example.com>", "250 ")
				c.ask("DATA", "354 ")
				c.send(tt.header + "\r\n\r\nx\r\n.\r\n")
				c.expect(tt.data)
				want := 0
				if tt.data == "250" {
					want = 1
				}
				if n := len(f.mail("bob")); n != want {
					t.Errorf("%d messages stored, want %d", n, want)
				}
			})
		}
	}
}

// header returns the header of what bob got, without what final delivery and tracing put before it.
func (f *fixture) submitted() string {
	f.t.Helper()
	got := f.oneMail("bob")
	_, rest, ok := strings.Cut(got, ";\r\n\t")
	if !ok {
		f.t.Fatalf("no Received line in %q", got)
	}
	_, rest, _ = strings.Cut(rest, "\r\n")
	return rest
}

// A submitted message is completed (RFC 6409 §8), and no more than that.
func TestFixUps(t *testing.T) {
	const date = "Date: Sun, 9 Sep 2001 01:46:40 +0000\r\n"
	tests := []struct{ name, from, in, want string }{
		{"complete", "alice@example.com", "From: alice@example.com\r\nDate: x\r\nMessage-ID: <a@b>\r\n\r\nbody\r\n", "From: alice@example.com\r\nDate: x\r\nMessage-ID: <a@b>\r\n\r\nbody\r\n"},
		{"Date and Message-ID", "alice@example.com", "From: alice@example.com\r\n\r\nbody\r\n", "From: alice@example.com\r\n" + date + "Message-ID: <ID@mail.example.com>\r\n\r\nbody\r\n"},
		{"From", "sales@example.com", "Date: x\r\nMessage-ID: <a@b>\r\n\r\n", "Date: x\r\nMessage-ID: <a@b>\r\nFrom: sales@example.com\r\n\r\n"},
		{"From of a null reverse-path", "", "Date: x\r\nMessage-ID: <a@b>\r\n\r\n", "Date: x\r\nMessage-ID: <a@b>\r\nFrom: alice@example.com\r\n\r\n"},
		{
			"blind copies", "alice@example.com",
			"Bcc: secret@example.com,\r\n\tother@example.com\r\nFrom: alice@example.com\r\nbCC : third@example.com\r\nResent-Bcc: x@y.example\r\nDate: x\r\nMessage-ID: <a@b>\r\n\r\nBcc: in the body\r\n",
			"From: alice@example.com\r\nDate: x\r\nMessage-ID: <a@b>\r\n\r\nBcc: in the body\r\n",
		},
		{
			"blanks before a colon", "alice@example.com", "From : alice@example.com\r\nDate: x\r\nMessage-ID: <a@b>\r\nSubject \t: a : b\r\n\r\n",
			"From:  alice@example.com\r\nDate: x\r\nMessage-ID: <a@b>\r\nSubject: \t a : b\r\n\r\n",
		},
		{"Return-Path", "alice@example.com", "Return-Path: <x@y.example>\r\nFrom: alice@example.com\r\nDate: x\r\nMessage-ID: <a@b>\r\n\r\n", "From: alice@example.com\r\nDate: x\r\nMessage-ID: <a@b>\r\n\r\n"},
		{"Sender for a lent address", "alice@example.com", "From: press@partner.example\r\nDate: x\r\nMessage-ID: <a@b>\r\n\r\n", "From: press@partner.example\r\nDate: x\r\nMessage-ID: <a@b>\r\nSender: alice@example.com\r\n\r\n"},
		{"Sender that is somebody else", "alice@example.com", "Sender: bob@example.com\r\nFrom: alice@example.com\r\nDate: x\r\nMessage-ID: <a@b>\r\n\r\n", "From: alice@example.com\r\nDate: x\r\nMessage-ID: <a@b>\r\nSender: alice@example.com\r\n\r\n"},
		{"Sender of one's own", "alice@example.com", "Sender: sales@example.com\r\nFrom: press@partner.example\r\nDate: x\r\nMessage-ID: <a@b>\r\n\r\n", "Sender: sales@example.com\r\nFrom: press@partner.example\r\nDate: x\r\nMessage-ID: <a@b>\r\n\r\n"},
		{"two Senders", "alice@example.com", "Sender: sales@example.com\r\nSender: alice@example.com\r\nFrom: alice@example.com\r\nDate: x\r\nMessage-ID: <a@b>\r\n\r\n", "From: alice@example.com\r\nDate: x\r\nMessage-ID: <a@b>\r\nSender: alice@example.com\r\n\r\n"},
		{"redirect keeps Sender", "alice@example.com", "Resent-From: alice@example.com\r\nSender: x@bank.example\r\nFrom: ceo@bank.example\r\nDate: x\r\nMessage-ID: <a@b>\r\n\r\n", "Resent-From: alice@example.com\r\nSender: x@bank.example\r\nFrom: ceo@bank.example\r\nDate: x\r\nMessage-ID: <a@b>\r\n\r\n"},
		{"bare LF", "alice@example.com", "From: alice@example.com\nDate: x\nMessage-ID: <a@b>\n\nbody\nmore\n\r\n", "From: alice@example.com\r\nDate: x\r\nMessage-ID: <a@b>\r\n\r\nbody\r\nmore\r\n\r\n"},
		{"one long line", "alice@example.com", "From: alice@example.com\r\nDate: x\r\nMessage-ID: <a@b>\r\n\r\n" + strings.Repeat("x", 4096) + "\r\n", "From: alice@example.com\r\nDate: x\r\nMessage-ID: <a@b>\r\n\r\n" + strings.Repeat("x", 4096) + "\r\n"},
	}
	id := regexp.MustCompile(`Message-ID: <[0-9a-f]{16}\.[0-9a-f]{16}@`)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, Submission, func(o *Options) { o.Now = func() time.Time { return time.Unix(1e9, 0).UTC() } }).serve()
			c := f.loggedIn("alice")
			c.message(tt.from, "bob@example.com", tt.in)
			if got := id.ReplaceAllString(f.submitted(), "Message-ID: <ID@"); got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
}

// Remote recipients become jobs with everything that was asked for them; nobody else's address is in the message.
func TestRemoteJobs(t *testing.T) {
	f := newFixture(t, Submission).serve()
	c := f.loggedIn("alice")
	c.ask("MAIL FROM:<alice@example.com> BODY=8BITMIME RET=HDRS ENVID=QQ+3D1", "250 ")
	c.ask("RCPT TO:<X.y@Remote.EXAMPLE> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;orig+2Bx@else.example", "250 ")
	c.ask(`RCPT TO:<"a b"@remote.example> NOTIFY=NEVER`, "250 ")
	c.ask("RCPT TO:<X.y@remote.example>", "250 ") // the same mailbox: one job, and what either asked for
	c.ask("RCPT TO:<bob@example.com>", "250 ")
	c.ask("RCPT TO:<team@example.com>", "250 ") // bob has his copy already
	c.ask("DATA", "354 ")
	c.send("From: alice@example.com\r\nMessage-ID: <m@x>\r\nBcc: secret@example.com\r\n\r\nx\r\n.\r\n")
	c.expect("250 2.")
	jobs := f.jobs()
	if len(jobs) != 2 {
		t.Fatalf("%d jobs, want 2: %+v", len(jobs), jobs)
	}
	j := jobs[0]
	if j.Recipient.String() != "X.y@remote.example" || j.ReversePath != address("alice@example.com") || j.Submitter != f.ids["alice"] ||
		!j.EightBit || j.UTF8 || j.Return != store.ReturnHeader || j.EnvelopeID != "QQ=1" || j.HeaderID != "<m@x>" ||
		j.Notify != store.NotifySuccess|store.NotifyFailure|store.NotifyDelay || j.Original != "rfc822;orig+x@else.example" {
		t.Errorf("job: %+v", j)
	}
	if j = jobs[1]; j.Recipient.String() != `"a b"@remote.example` || j.Notify != store.NotifyNever || j.Original != "" {
		t.Errorf("job: %+v", j)
	}
	for _, name := range []string{"alice", "bob"} {
		if got := f.oneMail(name); strings.Contains(got, "secret@") || strings.Contains(got, "Remote") {
			t.Errorf("%s got %q", name, got)
		}
	}
}

func TestOutgoingMailOff(t *testing.T) {
	f := newFixture(t, Submission)
	f.settings(func(s *store.Settings) { s.OutgoingMail = false })
	f.serve()
	c := f.loggedIn("alice")
	c.ask("MAIL FROM:<alice@example.com>", "250 ")
	c.ask("RCPT TO:<x@remote.example>", "550 5.7.1")
	c.ask("RCPT TO:<bob@example.com>", "250 ")
}

// A null reverse-path is for read receipts: one recipient.
func TestNullSenderOneRecipient(t *testing.T) {
	f := newFixture(t, Submission).serve()
	c := f.loggedIn("alice")
	c.ask("MAIL FROM:<>", "250 ")
	c.ask("RCPT TO:<x@remote.example>", "250 ")
	c.ask("RCPT TO:<y@remote.example>", "550 5.7.1")
	c.ask("RCPT TO:<bob@example.com>", "550 5.7.1")
	c.ask("RSET", "250 ")
	// On the MX door a bounce may have many.
	m := newFixture(t, MX).serve().greeted()
	m.ask("MAIL FROM:<>", "250 ")
	m.ask("RCPT TO:<bob@example.com>", "250 ")
	m.ask("RCPT TO:<alice@example.com>", "250 ")
}

// Our own domain in the reverse-path comes from outside only for those whom the owner named.
func TestOwnDomainFromOutside(t *testing.T) {
	f := newFixture(t, MX)
	f.settings(func(s *store.Settings) { s.OutsideSenders = []mailaddr.Address{address("news@example.com")} })
	f.serve()
	c := f.greeted()
	for _, from := range []string{"alice@example.com", "nobody@example.com", "Alice@EXAMPLE.com", "news+x@example.com", "alice@example.com."} {
		if line := c.ask("MAIL FROM:<"+from+">", "550 5.7.1"); !strings.Contains(line, "Authenticate") {
			t.Errorf("%s: got %q", from, line)
		}
	}
	for _, from := range []string{"news@example.com", "News@example.com", "alice@sub.example.com", ""} {
		c.ask("MAIL FROM:<"+from+">", "250 ")
		c.ask("RSET", "250 ")
	}
}
