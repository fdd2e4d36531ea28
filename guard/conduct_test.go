package guard

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"latchkey/internal/mailaddr"
	"latchkey/store"
	"latchkey/store/memstore"
)

// office is where the owner has always been, bot somewhere else.
var (
	office = netip.MustParseAddr("192.0.2.20")
	bot    = netip.MustParseAddr("203.0.113.80")
)

// told are the notices that were given.
type told struct {
	mu   sync.Mutex
	list []Notice
}

func (n *told) Tell(_ context.Context, notice Notice) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.list = append(n.list, notice)
}

func (n *told) count(subject string) (c int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, notice := range n.list {
		if strings.Contains(notice.Subject, subject) {
			c++
		}
	}
	return c
}

// lab is a mailbox that has been used from the office for a year.
type lab struct {
	t     *testing.T
	st    *memstore.Store
	c     *Conduct
	told  *told
	clock time.Time
	id    store.AccountID
}

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{t: t, st: memstore.New("example.com"), told: &told{}, clock: start}
	t.Cleanup(func() { _ = l.st.Close() })
	a, err := l.st.AddAccount(t.Context(), store.Account{Name: "anna", Created: start.AddDate(-1, 0, 0)})
	l.must(err)
	l.id = a.ID
	l.c = NewConduct(ConductOptions{Store: l.st, Notices: l.told, Now: func() time.Time { return l.clock }})
	l.must(l.st.NoteHabits(t.Context(), []store.Habit{
		{Account: a.ID, Kind: store.HabitNetwork, Name: HabitNetwork(office).String(), First: start.AddDate(-1, 0, 0), Last: start},
	}))
	return l
}

func (l *lab) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

// people are n addresses of a kind.
func people(kind string, n int) (list []mailaddr.Address) {
	for i := range n {
		a, err := mailaddr.Parse(fmt.Sprintf("%s%d@elsewhere.example", kind, i))
		if err != nil {
			panic(err)
		}
		list = append(list, a)
	}
	return list
}

// send sends one message and returns why it was held.
func (l *lab) send(from netip.Addr, to []mailaddr.Address) HoldReason {
	l.t.Helper()
	o, err := l.c.Judge(l.t.Context(), Outgoing{Account: l.id, Remote: from, Recipients: to, NewRecipients: 200})
	l.must(err)
	o.Took(l.t.Context())
	return o.Hold
}

// each sends a message to each, and returns how many went out.
func (l *lab) each(from netip.Addr, to []mailaddr.Address, every time.Duration) (out int) {
	for _, a := range to {
		if l.send(from, []mailaddr.Address{a}) == "" {
			out++
		}
		l.clock = l.clock.Add(every)
	}
	return out
}

// TestAbuse06StolenMailbox: with the right password from a new country, whatever the pace and the number of hosts, at most 50 recipients get
// mail, one notice is written, and the owner's own mail goes on.
func TestAbuse06StolenMailbox(t *testing.T) {
	for _, tt := range []struct {
		name  string
		hosts int
		each  time.Duration
		batch int
		known bool // the thief writes to people whom the mailbox knows
	}{
		{"500 in five minutes", 1, 600 * time.Millisecond, 1, false},
		{"one message to 500", 1, time.Second, 500, false},
		{"batches of 10", 1, time.Minute, 10, false},
		{"1,000 hosts", 1000, time.Second, 1, false},
		{"one in ten minutes", 1, 10 * time.Minute, 1, false},
		{"people whom the mailbox knows, 20 an hour", 1, 3 * time.Minute, 1, true},
		{"people whom the mailbox knows, 1,000 hosts", 1000, time.Second, 1, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab(t)
			victims := people("victim", 500)
			if tt.known {
				for _, v := range victims {
					l.c.note(store.Habit{Account: l.id, Kind: store.HabitRecipient, Name: recipientName(v), First: start, Last: start})
				}
			}
			out := 0
			for i := 0; i < len(victims); i += tt.batch {
				host := netip.AddrFrom4([4]byte{198, 18, byte(i % tt.hosts), 9})
				if l.send(host, victims[i:i+tt.batch]) == "" {
					out += tt.batch
				}
				l.clock = l.clock.Add(tt.each)
				if tt.each*time.Duration(i) > noticeEvery/2 {
					break
				}
			}
			if out > 50 {
				t.Errorf("%d recipients got mail", out)
			}
			if got := l.told.count("is on hold"); got != 1 {
				t.Errorf("%d notices, want 1: %+v", got, l.told.list)
			}
			if hold := l.send(office, people("friend", 5)); hold != "" {
				t.Errorf("the owner's own mail was held: %s", hold)
			}
		})
	}
}

// TestNotHeld: a newsletter to known members from home, a holiday, a new mailbox, somebody who moved and was released.
func TestNotHeld(t *testing.T) {
	l := newLab(t)
	members := people("member", 200)
	if out := l.each(office, members, time.Second); out != 200 { // the new ones of a day
		t.Fatalf("%d of the first newsletter went out", out)
	}
	for range 50 {
		l.clock = l.clock.Add(7 * 24 * time.Hour)
		if hold := l.send(office, members); hold != "" {
			t.Fatalf("a newsletter to members was held: %s", hold)
		}
	}
	for day := range 14 {
		if out := l.each(netip.MustParseAddr("198.51.100.3"), people(fmt.Sprint("card", day, "."), 3), time.Hour); out != 3 {
			t.Fatalf("on day %d of a holiday %d of 3 cards went out", day, out)
		}
		if out := l.each(netip.MustParseAddr("198.51.100.3"), members[:2], time.Minute); out != 2 {
			t.Fatalf("on day %d of a holiday mail to members was held", day)
		}
		l.clock = l.clock.Add(21 * time.Hour)
	}
	young, err := l.st.AddAccount(t.Context(), store.Account{Name: "young", Created: l.clock})
	l.must(err)
	l.id = young.ID
	if out := l.each(bot, members, time.Second); out != 200 {
		t.Errorf("a new mailbox sent to %d", out)
	}
	if l.send(bot, people("more", 1)) != HoldNew {
		t.Error("a new mailbox has no bound")
	}
	if hold := l.send(bot, members[:10]); hold != "" {
		t.Errorf("what went beyond the bound holds up mail to known people: %s", hold)
	}
}

// TestHoldAndLift: what is on hold stays so, over a restart, until somebody lifts it; then the network is the mailbox's own.
func TestHoldAndLift(t *testing.T) {
	l := newLab(t)
	if hold := l.send(bot, people("x", 41)); hold != HoldBurst {
		t.Fatalf("held for %q", hold)
	}
	l.st = l.st.Reopen()
	l.c = NewConduct(ConductOptions{Store: l.st, Notices: l.told, Now: func() time.Time { return l.clock }})
	l.clock = l.clock.AddDate(0, 1, 0)
	for _, tt := range []struct {
		from netip.Addr
		want HoldReason
	}{{bot, HoldNetwork}, {bot.Next(), HoldNetwork}, {cafe, HoldElsewhere}, {office, ""}} {
		if hold := l.send(tt.from, people("x", 1)); hold != tt.want {
			t.Errorf("from %s: held for %q, want %q", tt.from, hold, tt.want)
		}
	}
	l.c.Seen(t.Context(), l.id, bot)
	if known, err := l.c.known(t.Context(), l.id, store.HabitNetwork, HabitNetwork(bot).String()); err != nil || len(known) != 0 {
		t.Errorf("a network on hold became one of the mailbox's: %+v, %v", known, err)
	}
	networks, err := l.c.Lift(t.Context(), l.id)
	l.must(err)
	if len(networks) != 2 {
		t.Errorf("lifted %v, want two networks", networks)
	}
	if hold := l.send(bot, people("y", 41)); hold != "" {
		t.Errorf("after the lift: held for %q", hold)
	}
}

// TestHoldAll: a mailbox on hold everywhere, and purged.
func TestHoldAll(t *testing.T) {
	l := newLab(t)
	l.must(l.c.HoldAll(t.Context(), l.id, HoldListed))
	if hold := l.send(office, people("x", 1)); hold != HoldNetwork {
		t.Errorf("held for %q", hold)
	}
	l.c.note(store.Habit{Account: l.id, Kind: store.HabitNetwork, Name: HabitNetwork(cafe).String(), First: l.clock, Last: l.clock})
	l.c.Flush(t.Context())
	l.must(l.c.Purge(t.Context(), l.id))
	if hold := l.send(office, people("x", 100)); hold != "" {
		t.Errorf("at home after the purge: held for %q", hold)
	}
	if known, err := l.st.KnownHabits(t.Context(), l.id, store.HabitNetwork, HabitNetwork(cafe).String()); err != nil || len(known) != 0 {
		t.Errorf("a network of the last days is still known: %+v %v", known, err)
	}
}

// TestAbuse07Failures: recipients that fail or do not exist raise a flag for the domain's owner, once a day, and then put mail on hold; a lift
// forgives.
func TestAbuse07Failures(t *testing.T) {
	l := newLab(t)
	l.send(office, people("member", 50))
	for i := range 10 {
		if got := l.told.count("look at how"); got != 0 {
			t.Fatalf("told after %d failures", i)
		}
		l.c.Failed(t.Context(), l.id)
	}
	if n := l.told.list[0]; n.Owner || !n.Postmaster || len(l.told.list) != 1 {
		t.Errorf("told %+v, want the domain's owner once", l.told.list)
	}
	for range 15 {
		l.c.Refused(t.Context(), l.id)
	}
	if hold := l.send(office, people("member", 1)); hold != "" {
		t.Errorf("25 of 66: held for %q", hold)
	}
	for range 5 {
		l.c.Failed(t.Context(), l.id)
	}
	if hold := l.send(office, people("member", 1)); hold != HoldFailing {
		t.Errorf("30 of 67: held for %q", hold)
	}
	_, err := l.c.Lift(t.Context(), l.id)
	l.must(err)
	if hold := l.send(office, people("member", 1)); hold != "" {
		t.Errorf("forgiven: held for %q", hold)
	}
}

// TestFree: where the owner of the domain wants no holds, nothing is held but what somebody put on hold.
func TestFree(t *testing.T) {
	l := newLab(t)
	free := func(n int) HoldReason {
		o, err := l.c.Judge(t.Context(), Outgoing{Account: l.id, Remote: bot, Recipients: people("x", n), NewRecipients: 1, Free: true})
		l.must(err)
		o.Took(t.Context())
		return o.Hold
	}
	for range 100 {
		l.c.Failed(t.Context(), l.id)
	}
	if hold := free(500); hold != "" {
		t.Errorf("held for %q", hold)
	}
	l.must(l.c.HoldAll(t.Context(), l.id, HoldByOperator))
	if hold := free(1); hold != HoldNetwork {
		t.Errorf("on hold: held for %q", hold)
	}
}

// TestJudgeTakesNothing: of what is held or given up, nothing counts as sent to anybody.
func TestJudgeTakesNothing(t *testing.T) {
	l := newLab(t)
	for range 10 {
		o, err := l.c.Judge(t.Context(), Outgoing{Account: l.id, Remote: bot, Recipients: people("x", 25), NewRecipients: 200})
		l.must(err)
		if o.Hold != "" {
			t.Fatalf("held for %q", o.Hold)
		}
		o.GaveUp(t.Context())
	}
	if l.send(bot, people("x", 25)) != "" {
		t.Error("what was given up was counted")
	}
	o, err := l.c.Judge(t.Context(), Outgoing{Account: l.id, Remote: office, Recipients: people("y", 201), NewRecipients: 200})
	l.must(err)
	o.Took(t.Context())
	if o.Hold != HoldNew || l.send(office, people("z", 175)) != "" || l.send(office, people("y", 1)) != HoldNew {
		t.Error("what was held was counted as sent, or known")
	}
}

// TestConductRaces: many at once, from many hosts: what goes out is bounded all the same.
func TestConductRaces(t *testing.T) {
	l := newLab(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	out := 0
	for n := range 20 {
		wg.Go(func() {
			o, err := l.c.Judge(t.Context(), Outgoing{
				Account: l.id, Remote: netip.AddrFrom4([4]byte{198, 18, byte(n), 1}), Recipients: people(fmt.Sprint("v", n, "."), 10), NewRecipients: 200,
			})
			if err != nil {
				t.Error(err)
				return
			}
			if o.Hold == "" {
				mu.Lock()
				out += 10
				mu.Unlock()
			}
			o.Took(context.Background())
		})
	}
	wg.Wait()
	if out > BurstStrangers {
		t.Errorf("%d went out at once", out)
	}
	if n := l.told.count("is on hold"); n != 1 {
		t.Errorf("%d notices", n)
	}
}

// brokenHabits cannot tell.
type brokenHabits struct{ ConductStore }

func (brokenHabits) KnownHabits(context.Context, store.AccountID, store.HabitKind, ...string) ([]store.Habit, error) {
	return nil, errBroken
}

// TestJudgeFails: what cannot be judged is not taken.
func TestJudgeFails(t *testing.T) {
	l := newLab(t)
	l.c.o.Store = brokenHabits{l.st}
	o, err := l.c.Judge(t.Context(), Outgoing{Account: l.id, Remote: bot, Recipients: people("x", 1), NewRecipients: 200})
	if o != nil || !errors.Is(err, errBroken) {
		t.Errorf("%+v, %v", o, err)
	}
}

// TestHabitsBound: what waits to be written is bounded, and nothing is lost of what fits.
func TestHabitsBound(t *testing.T) {
	l := newLab(t)
	for i := range maxHabits + 10 {
		l.c.note(store.Habit{Account: l.id, Kind: store.HabitRecipient, Name: fmt.Sprint(i), First: start, Last: start})
	}
	if n := len(l.c.seen); n != maxHabits {
		t.Errorf("%d wait, want %d", n, maxHabits)
	}
	l.c.Close()
	if n := len(l.c.seen); n != 0 {
		t.Errorf("%d are left", n)
	}
	list, err := l.st.ListHabits(t.Context(), l.id, store.HabitRecipient, maxHabits)
	l.must(err)
	if len(list) != store.MaxHabits(store.HabitRecipient) {
		t.Errorf("%d recipients are known", len(list))
	}
}
