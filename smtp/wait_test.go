package smtp

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/guard"
	"latchkey/store"
)

// sendFirst lets clients send before they fetch mail.
func sendFirst(s *store.Settings) { s.SendThenCheck = true }

// sendAs sends a message up to its end; the answer is still to come.
func (c *client) sendAs(from, size string, to ...string) {
	c.f.t.Helper()
	c.ask("MAIL FROM:<"+from+">"+size, "250 ")
	for _, a := range to {
		c.ask("RCPT TO:<"+a+">", "250 ")
	}
	c.ask("DATA", "354 ")
	c.send("From: " + from + "\r\n\r\nx\r\n.\r\n")
}

const checkFirst = `450 4.7.1 Relaying denied for 203.0.113.7: check mail for alice@example.com first, or turn on "My server requires authentication"`

// Whoever sends first and fetches mail meanwhile gets 250, as if he had done it the other way round; nothing is in the queue before that.
func TestSendThenCheck(t *testing.T) {
	for _, door := range []Door{MX, Submission} {
		onProofs(t, door, func(t *testing.T, f *proofs) {
			f.settings(sendFirst)
			c := f.from(office)
			begun := time.Now()
			c.sendAs("alice@example.com", "", away, "bob@example.com")
			time.Sleep(30 * time.Second)
			f.fetch("bob", office)        // another mailbox
			f.fetch("alice", "192.0.2.9") // another place
			time.Sleep(30 * time.Second)
			if n := len(f.jobs()); n != 0 {
				t.Errorf("%d jobs before the login", n)
			}
			f.fetch("alice", office)
			c.expect("250 2.0.0 queued as ")
			if d := time.Since(begun); d != time.Minute {
				t.Errorf("it took %v", d)
			}
			if j := f.jobOf(); j.Submitter != f.ids["alice"] || j.Held {
				t.Errorf("job %+v", j)
			}
			if g := f.granted("alice"); g.Left != guard.GrantRecipients-1 {
				t.Errorf("%d left of the grant", g.Left)
			}
			if text := f.oneMail("bob"); !strings.Contains(text, "(POP-before-SMTP grant ") {
				t.Errorf("got %q", text)
			}
			c.sendAs("alice@example.com", "", away) // and now it has one
			c.expect("250 ")
		})
	}
}

// Whoever does not fetch mail is refused for a while, with the cure, after two minutes; the next time at once. Nobody learns whether the
// address exists.
func TestSendThenCheckInVain(t *testing.T) {
	for _, from := range []string{"alice@example.com", "nobody@example.com", "carol@example.com"} {
		onProofs(t, Submission, func(t *testing.T, f *proofs) {
			f.settings(sendFirst)
			c := f.from(office)
			for _, wait := range []time.Duration{guard.LoginWait, 0} {
				begun := time.Now()
				c.sendAs(from, "", away, "bob@example.com")
				if got := c.reply(); got != strings.Replace(checkFirst, "alice@example.com", from, 1) {
					t.Errorf("%s: got %q", from, got)
				}
				if d := time.Since(begun); d != wait {
					t.Errorf("%s: it took %v, want %v", from, d, wait)
				}
			}
			if len(f.jobs()) != 0 || len(f.mail("bob")) != 0 {
				t.Errorf("%s: something was taken", from)
			}
			time.Sleep(guard.VainTime)
			c = f.from(office)
			begun := time.Now()
			c.sendAs(from, "", away)
			c.expect("450 4.7.1")
			if d := time.Since(begun); d != guard.LoginWait {
				t.Errorf("%s: after a day it took %v", from, d)
			}
		})
	}
}

// What is refused as before: without the setting, what is large or says so, a shared address, a strange sender; and more than ten recipients.
func TestSendThenCheckBounds(t *testing.T) {
	onProofs(t, Submission, func(t *testing.T, f *proofs) {
		c := f.from(office)
		c.ask("MAIL FROM:<alice@example.com>", "550 5.7.1")
		f.settings(sendFirst)
		c.ask("MAIL FROM:<alice@example.com> SIZE=65537", "550 5.7.1")
		c.ask("MAIL FROM:<x@remote.example>", "530 5.7.0")
		f.from("100.64.0.9").ask("MAIL FROM:<alice@example.com>", "550 5.7.1")
		c.ask("MAIL FROM:<alice@example.com> SIZE=65536", "250 ")
		for i := range maxWaitRecipients {
			c.ask(fmt.Sprintf("RCPT TO:<u%d@remote.example>", i), "250 ")
		}
		c.ask("RCPT TO:<more@remote.example>", "452 4.5.3")
		c.ask("DATA", "354 ")
		c.send("From: alice@example.com\r\n\r\n" + strings.Repeat(strings.Repeat("x", 62)+"\r\n", 1024) + ".\r\n")
		if got := c.reply(); got != checkFirst {
			t.Errorf("got %q", got)
		}
		if len(f.jobs()) != 0 {
			t.Error("it was taken")
		}
		f.settings(func(s *store.Settings) { s.POPBeforeSMTP = false })
		c.ask("MAIL FROM:<alice@example.com>", "530 5.7.0")
	})
}

// One of a client and mailbox waits at a time, and not more of one client than are allowed; the others are refused at once.
func TestSendThenCheckOneAtATime(t *testing.T) {
	onProofs(t, Submission, func(t *testing.T, f *proofs) {
		f.settings(sendFirst)
		first := f.from(office)
		first.sendAs("alice@example.com", "", away)
		synctest.Wait()
		begun := time.Now()
		second := f.from(office)
		second.sendAs("alice@example.com", "", away)
		second.expect("450 4.7.1")
		var waiting []*client
		for i := range guard.MaxClientWaits {
			c := f.from(office)
			c.sendAs(fmt.Sprintf("x%d@example.com", i), "", away)
			synctest.Wait()
			waiting = append(waiting, c)
		}
		waiting[len(waiting)-1].expect("450 4.7.1")
		if d := time.Since(begun); d != 0 {
			t.Errorf("they waited %v", d)
		}
		f.fetch("alice", office)
		first.expect("250 ")
		f.must(f.srv.Close()) // with three that wait
	})
}

// A budget that is short, a revoked grant, and an author who is somebody else are found when the login has come.
func TestSendThenCheckIsAskedAgain(t *testing.T) {
	onProofs(t, Submission, func(t *testing.T, f *proofs) {
		f.settings(func(s *store.Settings) { s.SendThenCheck, s.DailyRecipients = true, 1 })
		c := f.from(office)
		c.sendAs("alice@example.com", "", away, "second@remote.example")
		synctest.Wait()
		f.fetch("alice", office)
		c.expect("450 4.7.1 Try again in 24 hours: this mailbox")
		if g := f.granted("alice"); g.Left != guard.GrantRecipients {
			t.Errorf("%d left of the grant", g.Left)
		}
		f.revoke("alice")
		c.ask("MAIL FROM:<alice@example.com>", "250 ")
		c.ask("RCPT TO:<"+away+">", "250 ")
		c.ask("DATA", "354 ")
		c.send("From: bob@example.com\r\n\r\nx\r\n.\r\n")
		synctest.Wait()
		f.fetch("alice", office)
		c.expect("550 5.7.1 The From address of the message is not yours")
		if len(f.jobs()) != 0 {
			t.Error("it was taken")
		}
	})
}

// Over TCP: who hangs up while he waits has sent nothing, whatever login comes then.
func TestSendThenCheckHangsUp(t *testing.T) {
	f := newFixture(t, Submission, func(o *Options) { provide(o); o.Loopback = true })
	f.settings(sendFirst)
	f.serve()
	c := f.greeted()
	c.sendAs("alice@example.com", "", away)
	f.logs("client waits for a login")
	f.must(c.conn.Close())
	a, err := f.store.Account(context.Background(), f.ids["alice"])
	f.must(err)
	f.opts.Grants.(*guard.Grants).LoggedIn(
		context.Background(), guard.Place{Remote: guard.Unmap(c.conn.LocalAddr()), Loopback: true}, a.ID, "alice", a.CredentialVersion, 0)
	f.logs("refusal=relay-check-first")
	if n := len(f.jobs()); n != 0 {
		t.Errorf("%d jobs of a client that had gone", n)
	}
}

// logs waits until the server has logged something.
func (f *fixture) logs(words string) {
	f.t.Helper()
	for deadline := time.Now().Add(patience); !strings.Contains(f.log.String(), words); runtime.Gosched() {
		if time.Now().After(deadline) {
			f.t.Fatalf("nothing was logged about %q", words)
		}
	}
}
