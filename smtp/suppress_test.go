package smtp

import (
	"context"
	"errors"
	"testing"
	"time"

	"latchkey/internal/mailaddr"
	"latchkey/store"
)

func (f *fixture) suppress(addr string, until time.Time) {
	f.t.Helper()
	now := f.opts.Now
	if now == nil {
		now = time.Now
	}
	f.must(f.store.PutSuppression(context.Background(), now(), store.Suppression{Address: address(addr), First: now(), Last: now(), Until: until, Manual: true}))
}

// TestSuppressed: mail to an address that failed for good lately is refused at RCPT, with its cure; others are not held up, nor is anybody once
// its time is over, the owner has taken it out, or the setting is off. A mailbox here is never suppressed.
func TestSuppressed(t *testing.T) {
	const refused = "550 5.1.1 Check this address for a slip: mail to it came back lately"
	now := time.Now()
	f := newFixture(t, MX, func(o *Options) { o.Now = func() time.Time { return now } }).serve()
	f.suppress("gone@remote.example", now.Add(time.Hour))
	f.suppress("bob@example.com", now.Add(time.Hour))
	f.must(f.store.NoteFailures(context.Background(), []store.Failure{{Address: address("once@remote.example"), At: now}}))
	c := f.loggedIn("alice")
	rcpt := func(addr, reply string) {
		t.Helper()
		c.ask("MAIL FROM:<alice@example.com>", "250 ")
		c.ask("RCPT TO:<"+addr+">", reply)
		c.ask("RSET", "250 ")
	}
	for range 5 { // as often as one likes
		rcpt("gone@remote.example", refused)
	}
	rcpt("gone@REMOTE.example", refused)
	rcpt("Gone@remote.example", "250 ") // its server tells these apart, or not (RFC 5321 §2.4)
	rcpt("once@remote.example", "250 ")
	rcpt("bob@example.com", "250 ")
	s := f.greeted() // a stranger learns nothing
	s.ask("MAIL FROM:<x@remote.example>", "250 ")
	s.ask("RCPT TO:<gone@remote.example>", "550 5.7.1 Relaying denied")
	s.ask("RCPT TO:<bob@example.com>", "250 ")
	f.settings(func(s *store.Settings) { s.SuppressFailed = false })
	rcpt("gone@remote.example", "250 ")
	f.settings(func(s *store.Settings) { s.SuppressFailed = true })
	rcpt("gone@remote.example", refused)
	now = now.Add(time.Hour - 1)
	rcpt("gone@remote.example", refused)
	now = now.Add(1)
	rcpt("gone@remote.example", "250 ")
	now = now.Add(-time.Minute)
	rcpt("gone@remote.example", refused)
	f.must(f.store.RemoveSuppression(context.Background(), address("gone@remote.example")))
	rcpt("gone@remote.example", "250 ")
}

// brokenList is a store whose suppressions cannot be read.
type brokenList struct{ Store }

func (brokenList) Suppression(context.Context, mailaddr.Address) (store.Suppression, error) {
	return store.Suppression{}, errors.New("torn")
}

// TestSuppressionsUnreadable: what cannot be read is a fault of ours, and no reason to let mail go where it may not.
func TestSuppressionsUnreadable(t *testing.T) {
	f := newFixture(t, Submission)
	f.opts.Store = brokenList{f.store}
	f.serve()
	c := f.loggedIn("alice")
	c.ask("MAIL FROM:<alice@example.com>", "250 ")
	c.ask("RCPT TO:<x@remote.example>", "451 4.3.0")
}
