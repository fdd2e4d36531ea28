package smtp

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"latchkey/guard"
	"latchkey/store"
)

// watch gives a door an eye on how mailboxes send.
func watch(o *Options) {
	o.Conduct = guard.NewConduct(guard.ConductOptions{Store: o.Store.(store.Store), Logger: o.Logger})
}

// settled makes a network one that a mailbox has been used from for a year.
func (f *fixture) settled(name, remote string) {
	f.t.Helper()
	then := time.Now().AddDate(-1, 0, 0)
	f.must(f.store.NoteHabits(context.Background(), []store.Habit{{
		Account: f.ids[name], Kind: store.HabitNetwork, Name: guard.HabitNetwork(netip.MustParseAddr(remote)).String(), First: then, Last: then,
	}}))
}

// submit sends one message to n people outside.
func (c *client) submit(kind string, n int, reply string) {
	c.f.t.Helper()
	c.ask("MAIL FROM:<alice@example.com>", "250 ")
	for i := range n {
		c.ask(fmt.Sprintf("RCPT TO:<%s%d@remote.example>", kind, i), "250 ")
	}
	c.ask("DATA", "354 ")
	c.send("From: alice@example.com\r\n\r\nx\r\n.\r\n")
	c.expect(reply)
}

// Row 6 on the wire: a stolen password at work is answered 250 and its mail put on hold, with all that follows from there; the owner's mail
// from home goes on, and nothing is said that a thief could learn from.
func TestAbuse06HoldOnTheWire(t *testing.T) {
	onProofs(t, Submission, func(t *testing.T, f *proofs) {
		f.settled("alice", office)
		thief := f.from(elsewhere)
		thief.login("alice")
		thief.submit("a", 10, "250 2.0.0 queued as ")
		thief.submit("b", 60, "250 2.0.0 queued as ")
		again := f.from("192.0.2.77") // of the same network
		again.login("alice")
		again.submit("c", 1, "250 2.0.0 queued as ")
		owner := f.from(office)
		owner.login("alice")
		owner.submit("d", 5, "250 2.0.0 queued as ")
		f.fetch("alice", office)
		granted := f.from(office)
		granted.submit("e", 1, "250 2.0.0 queued as ")
		held := map[byte]int{}
		out := map[byte]int{}
		for _, j := range f.jobs() {
			kind := j.Recipient.Local()[0]
			if j.Held {
				held[kind]++
				if j.HoldReason == "" || j.Submitter != f.ids["alice"] {
					t.Errorf("held: %+v", j)
				}
				continue
			}
			out[kind]++
		}
		if fmt.Sprint(held) != fmt.Sprint(map[byte]int{'b': 60, 'c': 1}) || fmt.Sprint(out) != fmt.Sprint(map[byte]int{'a': 10, 'd': 5, 'e': 1}) {
			t.Errorf("held %v, out %v", held, out)
		}
		if log := f.log.String(); !strings.Contains(log, `hold="many recipients from networks that are new to the mailbox"`) {
			t.Error("the log does not say why")
		}
	}, watch)
}

// The hour of a mailbox, the hour and the day of the domain, and octets, each at both ends and with the cure.
func TestFurtherBudgets(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(s *store.Settings)
		want   string
		wait   time.Duration
	}{
		"hour": {func(s *store.Settings) { s.HourlyRecipients = 2 },
			"450 4.7.1 Try again in 30 minutes: this mailbox has named as many recipients as it may in an hour", 30 * time.Minute},
		"domain hour": {func(s *store.Settings) { s.DomainHourlyRecipients = 2 },
			"450 4.7.1 Try again in 30 minutes: all senders of this domain together have named as many recipients as they may", 30 * time.Minute},
		"domain day": {func(s *store.Settings) { s.DomainDailyRecipients = 2 },
			"450 4.7.1 Try again in 12 hours: all senders of this domain together have named as many recipients as they may", 12 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			onProofs(t, Submission, func(t *testing.T, f *proofs) {
				f.settings(tt.change)
				c := f.from(elsewhere)
				c.login("alice")
				c.ask("MAIL FROM:<alice@example.com>", "250 ")
				c.ask("RCPT TO:<a@remote.example>", "250 ")
				c.ask("RCPT TO:<b@remote.example>", "250 ")
				if got := c.ask("RCPT TO:<c@remote.example>", "450 "); got != tt.want {
					t.Errorf("got %q", got)
				}
				c.ask("RCPT TO:<bob@example.com>", "250 ")
				time.Sleep(tt.wait)
				c.ask("RCPT TO:<c@remote.example>", "250 ")
				c.ask("RCPT TO:<d@remote.example>", "450 ")
			})
		})
	}
}

// Octets are counted for each recipient outside, when the message is there; what is refused takes nothing.
func TestOctetBudget(t *testing.T) {
	onProofs(t, Submission, func(t *testing.T, f *proofs) {
		c := f.from(elsewhere)
		c.login("alice")
		f.settings(func(s *store.Settings) { s.DailyOctets = 1000 })
		c.submit("a", 1, "250 ")
		if size := f.jobs()[0].Size; size < 260 || size > 330 {
			t.Fatalf("a message has %d octets, and the figures below do not fit", size)
		}
		c.submit("b", 3, "450 4.7.1 Try again in 3 hours, or send less: this mailbox has sent as many octets as it may in a day")
		c.submit("c", 1, "250 ")
		c.submit("d", 2, "450 4.7.1 ")
		c.submit("e", 1, "250 ")
		c.submit("f", 1, "450 4.7.1 ")
		if n := len(f.jobs()); n != 3 {
			t.Errorf("%d jobs, want 3", n)
		}
	})
}

// blind cannot judge.
type blind struct{ Conduct }

var errBlind = errors.New("blind")

func (blind) Judge(context.Context, guard.Outgoing) (*guard.Opinion, error) { return nil, errBlind }

// What cannot be judged is not taken, and gives everything back.
func TestConductThatFails(t *testing.T) {
	l := &ledger{}
	onProofs(t, Submission, func(t *testing.T, f *proofs) {
		c := f.from(elsewhere)
		c.login("alice")
		c.submit("a", 3, "451 4.3.0")
		c.ask("NOOP", "250 ")
		if got := l.sums(); got != [4]int{} || len(f.jobs()) != 0 {
			t.Errorf("%v taken, %d jobs", got, len(f.jobs()))
		}
	}, keep(l), watch, func(o *Options) { o.Conduct = blind{o.Conduct} })
}

// Row 7: recipients that do not exist count against the mailbox that names them, if it has proved itself.
func TestAbuse07RefusedRecipientsCount(t *testing.T) {
	onProofs(t, Submission, func(t *testing.T, f *proofs) {
		f.settled("alice", office)
		c := f.from(office)
		c.login("alice")
		c.ask("MAIL FROM:<alice@example.com>", "250 ")
		for i := range 25 {
			c.ask(fmt.Sprintf("RCPT TO:<nobody%d@example.com>", i), "550 5.1.1")
		}
		c.ask("RSET", "250 ")
		c.submit("a", 1, "250 ")
		if jobs := f.jobs(); len(jobs) != 1 || jobs[0].HoldReason != string(guard.HoldFailing) {
			t.Errorf("jobs %+v, want one on hold", jobs)
		}
	}, watch)
}
