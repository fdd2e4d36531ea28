package smtp

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"latchkey/internal/mailaddr"
	"latchkey/internal/srs"
	"latchkey/store"
)

// testSRS makes the reverse-paths of the tests.
func testSRS(t testing.TB) *srs.Rewriter {
	t.Helper()
	r, err := srs.New(bytes.Repeat([]byte{7}, srs.KeySize), testDomain)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// onwardFixture has a clock that the test turns. bob's mail is sent on to b@other.example, alice's too with a copy kept; away leads outside only,
// mixed to dave and outside.
func onwardFixture(t *testing.T, door Door) (*fixture, *time.Time) {
	t.Helper()
	now := time.Now()
	f := newFixture(t, door, func(o *Options) { o.SRS = testSRS(t); o.Now = func() time.Time { return now } })
	f.update("bob", func(a *store.Account) { a.Forward = store.Forward{To: []mailaddr.Address{address("b@other.example")}} })
	f.update("alice", func(a *store.Account) {
		a.Forward = store.Forward{To: []mailaddr.Address{address("a@other.example")}, Keep: true}
	})
	f.update("dave", func(a *store.Account) { a.Quota = store.Quota{} })
	ctx := context.Background()
	f.must(f.store.PutAlias(ctx, store.Alias{Name: "away", Outside: []mailaddr.Address{address("x@other.example"), address("y@other.example")}}))
	f.must(f.store.PutAlias(ctx, store.Alias{Name: "mixed", Targets: []store.AccountID{f.ids["dave"]}, Outside: []mailaddr.Address{address("z@other.example")}}))
	return f.serve(), &now
}

const onwardLetter = "From: x@remote.example\r\nSubject: hello\r\n\r\nx\r\n.\r\n"

// post sends a message of a stranger, or of alice by a logged-in client, and returns the reply to it or the first refusal.
func (c *client) post(from string, letter string, rcpts ...string) string {
	c.send("MAIL FROM:<" + from + ">\r\n")
	reply := c.reply()
	for _, r := range rcpts {
		c.send("RCPT TO:" + r + "\r\n")
		if got := c.reply(); !strings.HasPrefix(got, "250 ") {
			reply = got
		}
	}
	if strings.HasPrefix(reply, "250 ") {
		c.ask("DATA", "354 ")
		c.send(letter)
		reply = c.reply()
	}
	c.send("RSET\r\n")
	c.reply()
	return reply
}

// queued are the jobs, as reverse-path, recipient, who sends it on, and whether a copy was kept.
func (f *fixture) queued() string {
	f.t.Helper()
	var list []string
	for _, j := range f.jobs() {
		line := j.ReversePath.Path() + " " + j.Recipient.String()
		if back, err := f.opts.SRS.Reverse(j.ReversePath, f.opts.Now()); err == nil {
			line = "<srs:" + back.String() + "> " + j.Recipient.String()
		}
		if !j.ForwardedBy.IsZero() {
			line += " by " + j.ForwardedBy.Local()
		}
		if j.Kept {
			line += ", kept"
		}
		list = append(list, line)
	}
	return strings.Join(list, "\n")
}

// TestSentOn: what is sent on, by whom, and who has a copy here.
func TestSentOn(t *testing.T) {
	for _, tt := range []struct {
		name, from, queued string
		rcpts              []string
		held               map[string]int // copies in mailboxes
	}{
		{"forward", "x@remote.example", "<srs:x@remote.example> b@other.example by bob", []string{"<bob@example.com>"}, map[string]int{"bob": 0}},
		{"kept", "x@remote.example", "<srs:x@remote.example> a@other.example by alice, kept", []string{"<Alice+tag@example.com>"}, map[string]int{"alice": 1}},
		{"null stays null", "", "<> b@other.example by bob", []string{"<bob@example.com>"}, map[string]int{"bob": 0}},
		{
			"alias", "x@remote.example", "<srs:x@remote.example> x@other.example by away\n<srs:x@remote.example> y@other.example by away",
			[]string{"<away@example.com>"}, nil,
		},
		{"alias of both kinds", "x@remote.example", "<srs:x@remote.example> z@other.example by mixed", []string{"<mixed@example.com>"}, map[string]int{"dave": 1}},
		{
			"alias of mailboxes", "x@remote.example", "<srs:x@remote.example> a@other.example by alice, kept\n<srs:x@remote.example> b@other.example by bob",
			[]string{"<team@example.com>"}, map[string]int{"alice": 1, "bob": 0},
		},
		{
			"named twice", "x@remote.example", "<srs:x@remote.example> a@other.example by alice, kept",
			[]string{"<alice@example.com>", "<sales@example.com>", "<alice@example.com>"}, map[string]int{"alice": 1},
		},
		{
			"DSN is not handed on", "x@remote.example", "<srs:x@remote.example> b@other.example by bob",
			[]string{"<bob@example.com> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;b@example.com"}, map[string]int{"bob": 0},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, _ := onwardFixture(t, MX)
			if got := f.greeted().post(tt.from, onwardLetter, tt.rcpts...); !strings.HasPrefix(got, "250 2.0.0") {
				t.Fatal(got)
			}
			if got := f.queued(); got != tt.queued {
				t.Errorf("queued\n%s\nwant\n%s", got, tt.queued)
			}
			for name, want := range tt.held {
				if got := len(f.mail(name)); got != want {
					t.Errorf("%s has %d messages, want %d", name, got, want)
				}
			}
			for _, j := range f.jobs() {
				if j.Notify != 0 || j.Original != "" || j.Submitter != 0 {
					t.Errorf("job %+v", j)
				}
			}
		})
	}
}

// TestNotSentOn: what may not leave stays in the mailbox, and an alias that leads outside only takes nothing meanwhile.
func TestNotSentOn(t *testing.T) {
	const paused = "450 4.7.1 Mail for this address is sent on"
	for name, stop := range map[string]func(f *fixture){
		"outgoing mail off": func(f *fixture) { f.settings(func(s *store.Settings) { s.OutgoingMail = false }) },
		"target does not exist": func(f *fixture) {
			for _, a := range []string{"a", "b", "x", "y"} {
				f.suppress(a+"@other.example", f.opts.Now().Add(time.Hour))
			}
		},
		"budget": func(f *fixture) {
			for _, by := range []string{"bob", "alice", "away"} {
				_, err := f.store.Take(context.Background(), f.opts.Now(), "onward/"+by, onwardPerDay, store.Limit{N: onwardPerDay, Window: 24 * time.Hour})
				f.must(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			f, now := onwardFixture(t, MX)
			stop(f)
			c := f.greeted()
			for _, rcpt := range []string{"<bob@example.com>", "<alice@example.com>"} {
				if got := c.post("x@remote.example", onwardLetter, rcpt); !strings.HasPrefix(got, "250 2.0.0") {
					t.Errorf("%s: %s", rcpt, got)
				}
			}
			if got := c.post("x@remote.example", onwardLetter, "<away@example.com>"); !strings.HasPrefix(got, paused) {
				t.Errorf("alias: %s", got)
			}
			if len(f.mail("bob")) != 1 || len(f.mail("alice")) != 1 || f.queued() != "" {
				t.Errorf("bob has %d, alice %d; queued %s", len(f.mail("bob")), len(f.mail("alice")), f.queued())
			}
			*now = now.Add(25 * time.Hour)
			f.settings(func(s *store.Settings) { s.OutgoingMail = true })
			if got := f.greeted().post("x@remote.example", onwardLetter, "<away@example.com>"); !strings.HasPrefix(got, "250 2.0.0") {
				t.Errorf("a day later: %s", got)
			}
		})
	}
}

// TestSentOnInCircles: a message that has been here on its way is refused, as are those with too many Received lines.
func TestSentOnInCircles(t *testing.T) {
	f, _ := onwardFixture(t, MX)
	c := f.greeted()
	for _, been := range []string{"Delivered-To: bob@example.com", "Delivered-To: <BOB@example.com>", "X: y\r\nDelivered-To: z@x.example\r\nDelivered-To: bob@example.com"} {
		if got := c.post("x@remote.example", been+"\r\n"+onwardLetter, "<bob@example.com>"); !strings.HasPrefix(got, "554 5.4.6") {
			t.Errorf("%q: %s", been, got)
		}
	}
	if got := c.post("x@remote.example", "Delivered-To: alice@example.com\r\n"+onwardLetter, "<bob@example.com>"); !strings.HasPrefix(got, "250 ") {
		t.Errorf("by another mailbox: %s", got)
	}
	if got := f.queued(); got != "<srs:x@remote.example> b@other.example by bob" {
		t.Errorf("queued %s", got)
	}
}

// TestSentOnIsDelivered: who asked to be told hears that it was delivered to the address that he wrote to, and nothing of where it goes.
func TestSentOnIsDelivered(t *testing.T) {
	f, _ := onwardFixture(t, MX)
	c := f.loggedIn("alice")
	letter := strings.ReplaceAll(onwardLetter, "x@remote.example", "alice@example.com")
	if got := c.post("alice@example.com", letter, "<bob@example.com> NOTIFY=SUCCESS"); !strings.HasPrefix(got, "250 ") {
		t.Fatal(got)
	}
	all := f.mail("alice")
	if len(all) != 1 || !strings.Contains(all[0], "Final-Recipient: rfc822; bob@example.com\r\nAction: delivered\r\n") || strings.Contains(all[0], "other.example") {
		t.Errorf("told %q", all)
	}
	if got := f.queued(); got != "<srs:alice@example.com> b@other.example by bob" {
		t.Errorf("queued %s", got)
	}
}

// TestReturnAddress: a report finds its way back to the sender of mail that was sent on, and nothing else does: not from a reverse-path, not with a
// hash that is not ours, not after its time, and not more of them than may be.
func TestReturnAddress(t *testing.T) {
	f, now := onwardFixture(t, MX)
	sent := *now
	back := testSRS(t).Forward(address("Victim@elsewhere.example"), *now).Path()
	home := testSRS(t).Forward(address("bob@example.com"), *now).Path()
	const refused = "550 5.7.1 This address takes reports"
	report := "From: mailer@other.example\r\n\r\nreport\r\n.\r\n"
	ask := func(from, rcpt, want string) {
		t.Helper()
		if got := f.greeted().post(from, report, rcpt); !strings.HasPrefix(got, want) {
			t.Errorf("from <%s> to %s: %s, want %s", from, rcpt, got, want)
		}
	}
	ask("", back, "250 2.0.0")
	ask("", strings.ToLower(back), "250 2.0.0")
	if got := f.queued(); got != "<> Victim@elsewhere.example\n<> victim@elsewhere.example" {
		t.Errorf("queued %s", got)
	}
	for _, j := range f.jobs() {
		if j.Notify != store.NotifyNever || j.Submitter != 0 {
			t.Errorf("job %+v", j)
		}
	}
	ask("x@remote.example", back, refused)
	ask("", strings.Replace(back, "elsewhere", "another", 1), refused)
	ask("", "<SRS0=aaaaaaaa=aa=elsewhere.example=victim@example.com>", refused)
	ask("", testSRS(t).Forward(address("a%b@elsewhere.example"), *now).Path(), refused)
	ask("", home, "250 2.0.0") // to a mailbox here, and not further
	if n := len(f.mail("bob")); n != 1 {
		t.Errorf("bob has %d", n)
	}
	f.settings(func(s *store.Settings) { s.OutgoingMail = false })
	ask("", back, "450 4.7.1")
	f.settings(func(s *store.Settings) { s.OutgoingMail = true })
	if got := f.greeted().post("", report, back, "<victim@elsewhere.example>"); !strings.HasPrefix(got, "550 5.7.1 Relaying denied") {
		t.Errorf("another one beside it: %s", got)
	}
	*now = sent.Add(24 * time.Hour)
	before := len(f.jobs())
	_, err := f.store.Take(context.Background(), *now, "return/victim@elsewhere.example", returnsPerAddress-1, store.Limit{N: returnsPerAddress, Window: 24 * time.Hour})
	f.must(err)
	ask("", back, "250 2.0.0")
	ask("", back, "450 4.7.1")
	ask("", strings.ToLower(back), "450 4.7.1") // in whatever letters
	if got := len(f.jobs()) - before; got != 1 {
		t.Errorf("%d reports beyond the bound", got)
	}
	*now = sent.Add(srs.MaxAge - time.Hour)
	ask("", back, "250 2.0.0")
	*now = sent.Add(srs.MaxAge + 48*time.Hour)
	ask("", back, refused)
	// Without the key nothing leads anywhere, and no mailbox has such a name.
	g := newFixture(t, MX).serve()
	if got := g.greeted().post("", report, back); !strings.HasPrefix(got, "550 5.1.1") {
		t.Errorf("without SRS: %s", got)
	}
}

// TestGuessedReturnAddresses: who guesses at return addresses is slowed and ended as one who searches for mailboxes.
func TestGuessedReturnAddresses(t *testing.T) {
	f := newFixture(t, MX, func(o *Options) {
		o.SRS, o.Limits = testSRS(t), Limits{UnknownFree: 1, UnknownMax: 3, Tarpit: time.Millisecond}
	}).serve()
	c := f.greeted()
	c.ask("MAIL FROM:<>", "250 ")
	ended := false
	for range 20 {
		c.send("RCPT TO:<SRS0=aaaaaaaa=aa=elsewhere.example=victim@example.com>\r\n")
		if got := c.reply(); strings.HasPrefix(got, "421") {
			ended = true
			break
		}
	}
	if !ended {
		t.Error("guessing has no end")
	}
}
