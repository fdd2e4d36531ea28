package smtp

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/guard"
	"latchkey/store"
)

// ledger is what goes through to the real budgets, added up: what was taken and not given back.
type ledger struct {
	Grants
	Sending
	mu                              sync.Mutex
	grant, mailbox, address, domain int
}

func (l *ledger) note(sum *int, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	*sum += n
}

func (l *ledger) Spend(ctx context.Context, id store.GrantID, n int) (bool, error) {
	ok, err := l.Grants.Spend(ctx, id, n)
	if ok {
		l.note(&l.grant, n)
	}
	return ok, err
}

func (l *ledger) Refund(ctx context.Context, id store.GrantID, n int) error {
	l.note(&l.grant, -n)
	return l.Grants.Refund(ctx, id, n)
}

// sum is where the spending of a budget is added up; nil for those that only mirror another.
func (l *ledger) sum(b guard.Budget) *int {
	switch {
	case strings.HasPrefix(b.String(), "sent/mailbox/"):
		return &l.mailbox
	case strings.HasPrefix(b.String(), "sent/address/"):
		return &l.address
	case b.String() == "sent/domain":
		return &l.domain
	}
	return nil
}

func (l *ledger) Take(ctx context.Context, b guard.Budget, n int64) (bool, time.Duration, error) {
	ok, wait, err := l.Sending.Take(ctx, b, n)
	if sum := l.sum(b); ok && sum != nil {
		l.note(sum, int(n))
	}
	return ok, wait, err
}

func (l *ledger) Give(ctx context.Context, b guard.Budget, n int64) error {
	if sum := l.sum(b); sum != nil {
		l.note(sum, -int(n))
	}
	return l.Sending.Give(ctx, b, n)
}

// sums are grant, mailbox, address and domain.
func (l *ledger) sums() [4]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return [4]int{l.grant, l.mailbox, l.address, l.domain}
}

// keep puts a ledger between a door and its budgets.
func keep(l *ledger) func(*Options) {
	return func(o *Options) {
		l.Grants, l.Sending = o.Grants, o.Sending
		o.Grants, o.Sending = l, l
	}
}

// brokenDrafts is a store whose drafts cannot be committed.
type brokenDrafts struct{ Store }

type brokenDraft struct{ store.Draft }

func (b brokenDrafts) NewDraft(ctx context.Context) (store.Draft, error) {
	d, err := b.Store.NewDraft(ctx)
	return brokenDraft{d}, err
}

func (brokenDraft) Commit(context.Context, store.Envelope) (store.Receipt, error) {
	return store.Receipt{}, store.ErrNoSpace
}

// budgetSenders are the kinds whose recipients are counted, and what each recipient takes.
func budgetSenders() map[string]struct {
	begin func(f *proofs) *client
	takes [4]int
} {
	type sender = struct {
		begin func(f *proofs) *client
		takes [4]int
	}
	return map[string]sender{
		"authenticated": {func(f *proofs) *client { c := f.from(elsewhere); c.login("alice"); return c }, [4]int{0, 1, 0, 1}},
		"granted":       {func(f *proofs) *client { f.fetch("alice", office); return f.from(office) }, [4]int{1, 1, 0, 1}},
		"trusted":       {func(f *proofs) *client { f.settings(trust); return f.from(printer) }, [4]int{0, 0, 1, 1}},
	}
}

// Every recipient outside the domain is taken from the budgets of its sender when it is named, once; and given back, once, however the
// transaction ends, unless the message was accepted.
func TestBudgetIsSettledOnce(t *testing.T) {
	const text = "From: alice@example.com\r\n\r\nx\r\n"
	bdat := fmt.Sprintf("BDAT %d", len(text))
	endings := []struct {
		name string
		end  func(f *proofs, c *client)
		kept bool
	}{
		{"accepted", func(_ *proofs, c *client) {
			c.ask("DATA", "354 ")
			c.send(text + ".\r\n")
			c.expect("250 ")
		}, true},
		{"accepted, then RSET and QUIT", func(_ *proofs, c *client) {
			c.ask("DATA", "354 ")
			c.send(text + ".\r\n")
			c.expect("250 ")
			c.ask("RSET", "250 ")
			c.ask("QUIT", "221 ")
		}, true},
		{"accepted by chunks", func(_ *proofs, c *client) { c.send(bdat + " LAST\r\n" + text); c.expect("250 2.0.0 queued") }, true},
		{"RSET", func(_ *proofs, c *client) { c.ask("RSET", "250 ") }, false},
		{"RSET twice", func(_ *proofs, c *client) { c.ask("RSET", "250 "); c.ask("RSET", "250 ") }, false},
		{"EHLO", func(_ *proofs, c *client) { c.ask("EHLO client.example", "250 ") }, false},
		{"QUIT", func(_ *proofs, c *client) { c.ask("QUIT", "221 ") }, false},
		{"line dropped", func(f *proofs, c *client) { f.must(c.conn.Close()) }, false},
		{"line dropped in the message", func(f *proofs, c *client) {
			c.ask("DATA", "354 ")
			c.send("From: alice@example.com\r\n")
			f.must(c.conn.Close())
		}, false},
		{"line dropped in a chunk", func(f *proofs, c *client) { c.send("BDAT 100 LAST\r\nFrom"); f.must(c.conn.Close()) }, false},
		{"line dropped between chunks", func(f *proofs, c *client) { c.send(bdat + "\r\n" + text); c.expect("250 "); f.must(c.conn.Close()) }, false},
		{"RSET between chunks", func(_ *proofs, c *client) { c.send(bdat + "\r\n" + text); c.expect("250 "); c.ask("RSET", "250 ") }, false},
		{"RSET after an empty chunk", func(_ *proofs, c *client) { c.send("BDAT 0\r\n"); c.expect("250 "); c.ask("RSET", "250 ") }, false},
		{"message refused", func(_ *proofs, c *client) {
			c.ask("DATA", "354 ")
			c.send("From: ceo@bank.example\r\n\r\n.\r\n")
			c.expect("550 ")
		}, false},
		{"chunk refused", func(_ *proofs, c *client) {
			c.send("BDAT 10 LAST\r\nFrom: a\r\n\r")
			c.expect("5")
		}, false},
		{"silent for too long", func(*proofs, *client) { time.Sleep(25 * time.Hour) }, false},
		{"server closed", func(f *proofs, _ *client) { f.must(f.srv.Close()) }, false},
	}
	for kind, sender := range budgetSenders() {
		for _, tt := range endings {
			t.Run(kind+" "+tt.name, func(t *testing.T) {
				l := &ledger{}
				onProofs(t, Submission, func(t *testing.T, f *proofs) {
					c := sender.begin(f)
					c.ask("MAIL FROM:<alice@example.com>", "250 ")
					for _, to := range []string{"a@remote.example", "bob@example.com", "b@remote.example", "a@remote.example", "team@example.com"} {
						c.ask("RCPT TO:<"+to+">", "250 ")
					}
					want := func(n int) (w [4]int) {
						for i, takes := range sender.takes {
							w[i] = n * takes
						}
						return w
					}
					if got := l.sums(); got != want(2) {
						t.Errorf("after RCPT: %v, want %v", got, want(2))
					}
					tt.end(f, c)
					synctest.Wait()
					n := 0
					if tt.kept {
						n = 2
					}
					if got := l.sums(); got != want(n) {
						t.Errorf("in the end: %v, want %v", got, want(n))
					}
					if got := len(f.jobs()); got != n {
						t.Errorf("%d jobs, want %d", got, n)
					}
				}, keep(l))
			})
		}
	}
}

// A commit that fails gives everything back.
func TestBudgetOfRefusedCommit(t *testing.T) {
	for kind, sender := range budgetSenders() {
		t.Run(kind, func(t *testing.T) {
			l := &ledger{}
			onProofs(t, MX, func(t *testing.T, f *proofs) {
				c := sender.begin(f)
				c.ask("MAIL FROM:<alice@example.com>", "250 ")
				c.ask("RCPT TO:<"+away+">", "250 ")
				c.ask("DATA", "354 ")
				c.send("From: alice@example.com\r\n\r\n.\r\n")
				c.expect("452 4.3.1")
				if got := l.sums(); got != [4]int{} || len(f.figures()) != 0 {
					t.Errorf("not given back: %v, counted %v", got, f.figures())
				}
			}, keep(l), func(o *Options) { o.Store = brokenDrafts{o.Store} })
		})
	}
}

// brokenBudgets answers nothing.
type brokenBudgets struct{ *ledger }

var errBudget = errors.New("no budget")

func (b brokenBudgets) Take(ctx context.Context, budget guard.Budget, n int64) (bool, time.Duration, error) {
	if budget.String() == "sent/domain" { // the last one
		return false, 0, errBudget
	}
	return b.ledger.Take(ctx, budget, n)
}

// Where a budget cannot be asked nobody sends for now, and what was taken from another is given back.
func TestBudgetThatFails(t *testing.T) {
	for kind, sender := range budgetSenders() {
		t.Run(kind, func(t *testing.T) {
			l := &ledger{}
			onProofs(t, MX, func(t *testing.T, f *proofs) {
				c := sender.begin(f)
				c.ask("MAIL FROM:<alice@example.com>", "250 ")
				c.ask("RCPT TO:<"+away+">", "451 4.3.0")
				if got := l.sums(); got != [4]int{} {
					t.Errorf("not given back: %v", got)
				}
			}, keep(l), func(o *Options) { o.Sending = brokenBudgets{l} })
		})
	}
}

// A grant is for a number of recipients over all sessions: with two left the third is refused, with the cure, and local ones are free.
func TestGrantBudget(t *testing.T) {
	const spent = `550 5.7.1 Relaying denied for 203.0.113.7: turn on "My server requires authentication"; the recipients allowed without it are used up`
	onProofs(t, Submission, func(t *testing.T, f *proofs) {
		f.fetch("alice", office)
		f.leave("alice", 2)
		one, two := f.from(office), f.from(office)
		for _, c := range []*client{one, two} {
			c.ask("MAIL FROM:<alice@example.com>", "250 ")
			c.ask("RCPT TO:<x@remote.example>", "250 ")
		}
		for _, c := range []*client{one, two} {
			if got := c.ask("RCPT TO:<y@remote.example>", "550 "); got != spent {
				t.Errorf("got %q", got)
			}
			c.ask("RCPT TO:<x@remote.example>", "250 ")
			c.ask("RCPT TO:<bob@example.com>", "250 ")
		}
		one.ask("RSET", "250 ")
		two.ask("RCPT TO:<y@remote.example>", "250 ")
		two.ask("DATA", "354 ")
		two.send("From: alice@example.com\r\n\r\n.\r\n")
		two.expect("250 ")
		// Spent, it still proves who sends to the domain's own; another login does not refill it, and AUTH needs none.
		f.fetch("alice", office)
		one.ask("MAIL FROM:<alice@example.com>", "250 ")
		one.ask("RCPT TO:<bob@example.com>", "250 ")
		one.ask("RCPT TO:<x@remote.example>", "550 5.7.1")
		one.ask("RSET", "250 ")
		one.login("alice")
		one.message("alice@example.com", away, "From: alice@example.com\r\n\r\n")
		if g := f.granted("alice"); g.Left != 0 || len(f.jobs()) != 3 {
			t.Errorf("%d left, %d jobs", g.Left, len(f.jobs()))
		}
	})
}

// A new grant is for exactly as many recipients as guard says.
func TestGrantRecipients(t *testing.T) {
	onProofs(t, MX, func(_ *testing.T, f *proofs) {
		f.fetch("alice", office)
		c := f.from(office)
		c.ask("MAIL FROM:<alice@example.com>", "250 ")
		for i := range guard.GrantRecipients {
			c.ask(fmt.Sprintf("RCPT TO:<u%d@remote.example>", i), "250 ")
		}
		c.ask("RCPT TO:<more@remote.example>", "550 5.7.1")
	})
}

// Of two mailboxes to which an address was lent, the one whose grant has something left sends.
func TestGrantThatIsNotSpentIsPreferred(t *testing.T) {
	onProofs(t, MX, func(t *testing.T, f *proofs) {
		f.update("bob", func(a *store.Account) {
			a.SendAs = append(a.SendAs, address("press@partner.example"), address("alice@example.com"))
		})
		f.fetch("alice", office)
		f.fetch("bob", office)
		submitter := func(from string) store.AccountID {
			f.from(office).message(from, away, "From: "+from+"\r\n\r\n")
			return f.jobOf().Submitter
		}
		if got := submitter("alice@example.com"); got != f.ids["alice"] {
			t.Errorf("the owner's address: sent by %d", got)
		}
		f.leave("alice", 0)
		if got := submitter("press@partner.example"); got != f.ids["bob"] {
			t.Errorf("the lent address: sent by %d", got)
		}
		if got := submitter("alice@example.com"); got != f.ids["bob"] {
			t.Errorf("the owner's address, spent: sent by %d", got)
		}
	})
}

// The day of a mailbox is one, however it proves itself; it comes back evenly. What it refuses takes nothing of the grant.
func TestMailboxBudget(t *testing.T) {
	onProofs(t, MX, func(t *testing.T, f *proofs) {
		f.settings(func(s *store.Settings) { s.DailyRecipients = 3 })
		f.fetch("alice", office)
		auth := f.from(elsewhere)
		auth.login("alice")
		auth.ask("MAIL FROM:<alice@example.com>", "250 ")
		auth.ask("RCPT TO:<a@remote.example>", "250 ")
		auth.ask("RCPT TO:<b@remote.example>", "250 ")
		c := f.from(office)
		c.ask("MAIL FROM:<alice@example.com>", "250 ")
		c.ask("RCPT TO:<c@remote.example>", "250 ")
		const want = "450 4.7.1 Try again in 8 hours: this mailbox has named as many recipients as it may in a day"
		for _, c := range []*client{auth, c} {
			if got := c.ask("RCPT TO:<d@remote.example>", "450 "); got != want {
				t.Errorf("got %q", got)
			}
			c.ask("RCPT TO:<bob@example.com>", "250 ")
		}
		if g := f.granted("alice"); g.Left != guard.GrantRecipients-1 {
			t.Errorf("%d left of the grant", g.Left)
		}
		c.ask("RSET", "250 ")
		auth.ask("RCPT TO:<d@remote.example>", "250 ")
		time.Sleep(8 * time.Hour)
		auth.ask("RCPT TO:<e@remote.example>", "250 ")
		auth.ask("RCPT TO:<f@remote.example>", "450 4.7.1")
	})
}

// The hour of an address in a trusted network is its own.
func TestAddressBudget(t *testing.T) {
	onProofs(t, Submission, func(t *testing.T, f *proofs) {
		f.settings(func(s *store.Settings) { trust(s); s.TrustedRecipients = 2 })
		one, two, other := f.from(printer), f.from(printer), f.from("198.51.100.10")
		for i, c := range []*client{one, two, other, other} {
			if c != other || i == 2 {
				c.ask("MAIL FROM:<alice@example.com>", "250 ")
			}
			c.ask(fmt.Sprintf("RCPT TO:<u%d@remote.example>", i), "250 ")
		}
		const want = `450 4.7.1 Try again in 30 minutes, or turn on "My server requires authentication": 198.51.100.9 has named as many recipients as it may in an hour`
		if got := two.ask("RCPT TO:<x@remote.example>", "450 "); got != want {
			t.Errorf("got %q", got)
		}
		one.ask("RSET", "250 ")
		two.ask("RCPT TO:<x@remote.example>", "250 ")
		two.ask("RCPT TO:<y@remote.example>", "450 ")
		time.Sleep(30 * time.Minute)
		two.ask("RCPT TO:<y@remote.example>", "250 ")
	})
}

// Many sessions at once, each ending otherwise: what is left of the grant and the day is what was accepted, exactly.
func TestBudgetRaces(t *testing.T) {
	const clients, rounds = 12, 20
	l := &ledger{}
	f := newFixture(t, MX, func(o *Options) { provide(o); o.Loopback = true }, keep(l))
	f.settings(func(s *store.Settings) { s.DailyRecipients = 1000 })
	_, err := f.store.OpenGrant(context.Background(), time.Now(), store.GrantRequest{
		Account: f.ids["alice"], Network: netip.MustParsePrefix("127.0.0.1/32"), CredentialVersion: f.version("alice"),
		Window: time.Hour, Longest: time.Hour, Recipients: 40, MostLive: 1,
	})
	f.must(err)
	f.serve()
	const text = "From: alice@example.com\r\n\r\nx\r\n"
	whole := fmt.Sprintf("BDAT %d LAST\r\n%s", len(text), text)
	begun := "BDAT 8\r\nFrom: al"
	var group sync.WaitGroup
	for n := range clients {
		c := f.greeted()
		group.Go(func() {
			for i := range rounds {
				// Pipelined, so that the end comes while the rest is under way; the replies say nothing that the ledger does not.
				mail := fmt.Sprintf("MAIL FROM:<alice@example.com>\r\nRCPT TO:<u%d.%d@remote.example>\r\nRCPT TO:<bob@example.com>\r\n", n, i)
				end := []string{whole, begun + "RSET\r\n", begun + "EHLO again.example\r\n", "RSET\r\n", "BDAT 0\r\nRSET\r\n"}[(n+i)%5]
				c.send(mail + end + "NOOP\r\n")
				for !strings.HasPrefix(c.reply(), "250 2.0.0 I have successfully done nothing") {
				}
			}
			c.send("MAIL FROM:<alice@example.com>\r\nRCPT TO:<last@remote.example>\r\n" + begun)
			_ = c.conn.Close() // dropped in a chunk
		})
	}
	group.Wait()
	f.must(f.srv.Shutdown(context.Background()))
	jobs := len(f.jobs())
	if got := l.sums(); got != [4]int{jobs, jobs, 0, jobs} || jobs == 0 {
		t.Errorf("%v taken, %d jobs", got, jobs)
	}
	list, err := f.store.ListGrants(context.Background(), store.GrantFilter{}, 0, 10)
	f.must(err)
	if len(list) != 1 || list[0].Left != 40-jobs {
		t.Errorf("grants %+v, %d jobs", list, jobs)
	}
}

func (f *fixture) version(name string) uint64 {
	f.t.Helper()
	a, err := f.store.Account(context.Background(), f.ids[name])
	f.must(err)
	return a.CredentialVersion
}

// The phases: whoever comes first decides, and gets the recipients and the room to give back.
func TestReservationPhases(t *testing.T) {
	begin := func() *transaction {
		tx := &transaction{reserved: 3}
		if !tx.hold(places{{account: 1, id: 7}}) || !tx.holds(1) || tx.holds(2) {
			t.Error("room is not held")
		}
		return tx
	}
	settles := func(tx *transaction, from phase, want int) {
		t.Helper()
		if n, rooms := tx.settle(from); n != want || len(rooms) != min(want, 1) {
			t.Errorf("given back: %d recipients and room %v, want %d", n, rooms, want)
		}
	}
	tx := begin()
	if rooms, ok := tx.seal(); !ok || !slices.Equal(rooms, []store.ReservationID{7}) {
		t.Errorf("sealed: %t with room %v", ok, rooms)
	}
	if _, ok := tx.seal(); ok || tx.hold(places{{account: 2, id: 8}}) {
		t.Error("sealed twice, or more room taken under a commit")
	}
	settles(tx, open, 0)
	settles(tx, sealed, 3)
	settles(tx, sealed, 0)
	tx = begin()
	settles(tx, open, 3)
	if _, ok := tx.seal(); ok || tx.hold(places{{account: 2, id: 8}}) {
		t.Error("given up, and goes on")
	}
	settles(tx, open, 0)
}
