//go:build torture

package main

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// state is what a client knows of one copy of a message.
type state int

const (
	// sent: no answer came. Once or not at all, and all copies of a message alike.
	sent state = iota
	// there: acknowledged, or seen by a reader, who sees nothing that is not durable. Exactly once.
	there
	// leaving: a QUIT that deletes it was sent, and no answer came. All that one QUIT deletes alike.
	leaving
)

// fate is what became of a message that was sent.
type fate int

const (
	unknown fate = iota
	// kept: acknowledged or seen. void: refused, or not there after a crash.
	kept
	void
)

// letter is one message that was sent.
type letter struct {
	token string
	fate  fate
	// open are the copies whose state is sent, by mailbox.
	open map[string]*letterCopy
}

// letterCopy is one copy that is there, or may be.
type letterCopy struct {
	letter *letter
	state  state
	since  int64 // the tick in which it came to be there
	uid    string
}

// deletion is what one QUIT deletes of one mailbox.
type deletion struct {
	account string
	tokens  []string
}

// entry is one message of a maildrop as a client sees it. token is empty if it was not looked at.
type entry struct {
	uid, token string
}

// ledger is what the clients of a victim were told, and so what has to be there. The mailboxes that it knows are those it was made with.
type ledger struct {
	acked atomic.Int64 // messages
	// uncertain is set while a refusal does not say that nothing was stored: after a failed sync nobody knows.
	uncertain atomic.Bool

	mu   sync.Mutex // protects the fields below
	tick int64
	live map[string]map[string]*letterCopy // mailbox, token: all that is there or may be
	// ended are copies that must never be seen again, by mailbox and token, with the tick from which that holds.
	ended map[string]int64
	// named are all unique-ids ever seen, by mailbox and unique-id, with the token of the message that they stood for.
	named    map[string]string
	batches  []*deletion // without an answer
	mark     int64       // reached is closed when so many were acknowledged
	reached  chan struct{}
	problems []string
	more     int // problems beyond maxProblems
}

// maxProblems bounds what is told of one round: one mistake loses hundreds of messages.
const maxProblems = 12

func newLedger(accounts ...string) *ledger {
	if len(accounts) == 0 {
		accounts = []string{"bert"}
	}
	l := &ledger{live: map[string]map[string]*letterCopy{}, ended: map[string]int64{}, named: map[string]string{}}
	for _, account := range accounts {
		l.live[account] = map[string]*letterCopy{}
	}
	return l
}

func of(account, what string) string { return account + "/" + what }

func (l *ledger) complain(format string, args ...any) {
	if len(l.problems) == maxProblems {
		l.more++
		return
	}
	l.problems = append(l.problems, fmt.Sprintf(format, args...))
}

// problem is complain for clients.
func (l *ledger) problem(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.complain(format, args...)
}

// report hands what was found to the test, and forgets it. It returns whether there was anything.
func (l *ledger) report(t testing.TB, where string) bool {
	t.Helper()
	l.mu.Lock()
	problems, more := l.problems, l.more
	l.problems, l.more = nil, 0
	l.mu.Unlock()
	for _, p := range problems {
		t.Errorf("%s: %s", where, p)
	}
	if more > 0 {
		t.Errorf("%s: and %d more", where, more)
	}
	return len(problems) > 0
}

// troubled reports whether something was found that is not reported yet: nobody need wait for anything then.
func (l *ledger) troubled() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.problems) > 0
}

// post notes that the last octet of a message is about to be sent. Every attempt has its own token.
func (l *ledger) post(token string, accounts []string) *letter {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := &letter{token: token, open: map[string]*letterCopy{}}
	for _, account := range accounts {
		c := &letterCopy{letter: m}
		m.open[account], l.live[account][token] = c, c
	}
	return m
}

// ack notes that a message was acknowledged.
func (l *ledger) ack(m *letter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if m.fate == void {
		l.complain("acknowledged, and not there: %s", m.token)
	}
	l.keep(m)
	if n := l.acked.Add(1); l.reached != nil && n >= l.mark {
		close(l.reached)
		l.reached = nil
	}
}

// keep notes that a message is there for good.
func (l *ledger) keep(m *letter) {
	l.tick++
	m.fate = kept
	for account, c := range m.open {
		c.state, c.since = there, l.tick
		delete(m.open, account)
	}
}

// refuse notes that a message was refused for good or for now: nothing of it may be there.
func (l *ledger) refuse(m *letter) {
	if l.uncertain.Load() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if m.fate == kept {
		l.complain("seen by a reader, and then refused: %s", m.token)
		return
	}
	l.drop(m)
}

func (l *ledger) drop(m *letter) {
	m.fate = void
	for account := range m.open {
		l.end(account, m.token)
		delete(m.open, account)
	}
}

// end notes that a copy must not be seen any more.
func (l *ledger) end(account, token string) {
	l.tick++
	l.ended[of(account, token)] = l.tick
	delete(l.live[account], token)
}

// forbid notes that a message was never sent to its end.
func (l *ledger) forbid(token string, accounts []string) {
	m := l.post(token, accounts)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.drop(m)
}

// now is a moment: what is certain before it is to be seen by a login that begins after it.
func (l *ledger) now() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tick
}

// after returns a channel that is closed when n more messages have been acknowledged.
func (l *ledger) after(n int64) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mark, l.reached = l.acked.Load()+n, make(chan struct{})
	return l.reached
}

// await waits until a channel of after is closed.
func (l *ledger) await(t testing.TB, reached <-chan struct{}) {
	t.Helper()
	over := time.NewTimer(patience)
	defer over.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-reached:
			return
		case <-tick.C:
			if !l.troubled() {
				continue
			}
		case <-over.C:
		}
		l.report(t, "while waiting")
		t.Fatalf("the load stands still: %d messages acknowledged in all", l.acked.Load())
	}
}

// claim gives a session copies to delete, of those that it would like to: nobody else deletes them meanwhile. It has not said QUIT yet,
// but from now on it may.
func (l *ledger) claim(account string, tokens []string) *deletion {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := &deletion{account: account}
	for _, token := range tokens {
		if c := l.live[account][token]; c != nil && c.state == there {
			c.state = leaving
			b.tokens = append(b.tokens, token)
		}
	}
	l.batches = append(l.batches, b)
	return b
}

// settle notes what became of a deletion: deleted, or left alone.
func (l *ledger) settle(b *deletion, deleted bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.batches = slices.DeleteFunc(l.batches, func(other *deletion) bool { return other == b })
	l.close(b, deleted)
}

func (l *ledger) close(b *deletion, deleted bool) {
	for _, token := range b.tokens {
		c := l.live[b.account][token]
		switch {
		case c == nil: // lost meanwhile, and told
		case deleted:
			l.end(b.account, token)
		default:
			c.state = there
		}
	}
}

// token is the message that a unique-id stands for, as far as it is known.
func (l *ledger) token(account, uid string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.named[of(account, uid)]
}

// identify looks at what holds of every listing: each message once, in the order of unique-ids, none of which ever stood for another.
func (l *ledger) identify(account string, list []entry) map[string]bool {
	seen := map[string]bool{}
	for i, e := range list {
		if i > 0 && list[i-1].uid >= e.uid {
			l.complain("%s: unique-id %s is listed before %s", account, list[i-1].uid, e.uid)
		}
		if before, known := l.named[of(account, e.uid)]; known && before != e.token {
			l.complain("%s: unique-id %s was given to %q and to %q", account, e.uid, before, e.token)
		}
		l.named[of(account, e.uid)] = e.token
		if seen[e.token] {
			l.complain("%s: stored twice: %s", account, e.token)
		}
		seen[e.token] = true
		c := l.live[account][e.token]
		if c == nil {
			continue
		}
		if c.uid != "" && c.uid != e.uid {
			l.complain("%s: %s had unique-id %s and has %s", account, e.token, c.uid, e.uid)
		}
		c.uid = e.uid
	}
	return seen
}

// stray complains of a message that must not be there, deleted before the tick or never sent.
func (l *ledger) stray(account, token string, before int64) {
	ended, known := l.ended[of(account, token)]
	switch {
	case known && ended <= before:
		l.complain("%s: %s is there although it was deleted, refused or broken off", account, token)
	case !known:
		l.complain("%s: %q is there, which nobody sent", account, token)
	}
}

// listed compares a listing, made by a login that began at a tick, with what is certain while others go on. What a reader sees is
// durable, all of it.
func (l *ledger) listed(account string, began int64, list []entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	seen := l.identify(account, list)
	for token := range seen {
		c := l.live[account][token]
		switch {
		case c == nil:
			l.stray(account, token, began)
		case c.state == sent:
			l.keep(c.letter)
		}
	}
	for token, c := range l.live[account] {
		if c.state == there && c.since <= began && !seen[token] {
			l.complain("%s: a login does not see %s, which is there", account, token)
		}
	}
}

// evict notes that a mailbox is removed, with all that it held: a later one of that name has nothing of it.
func (l *ledger) evict(account string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for token := range l.live[account] {
		l.end(account, token)
	}
}

// judge compares maildrops with what is certain, when nothing else goes on; what was open is decided by what is there.
func (l *ledger) judge(lists map[string][]entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	seen := map[string]map[string]bool{}
	for account, list := range lists {
		seen[account] = l.identify(account, list)
		for token := range seen[account] {
			if l.live[account][token] == nil {
				l.stray(account, token, l.tick)
			}
		}
	}
	l.decideBatches(seen)
	for account := range seen {
		for token, c := range l.live[account] {
			switch {
			case c.state == there && !seen[account][token]:
				l.complain("%s: acknowledged or seen, and lost: %s", account, token)
				l.end(account, token)
			case c.state == sent:
				l.decide(c.letter, seen)
			}
		}
	}
}

// decideBatches decides the QUITs that had no answer: all or none of each.
func (l *ledger) decideBatches(seen map[string]map[string]bool) {
	for _, b := range l.batches {
		left := 0
		for _, token := range b.tokens {
			if seen[b.account][token] {
				left++
			}
		}
		if left > 0 && left < len(b.tokens) {
			l.complain("%s: of %d messages that one QUIT deletes %d are there", b.account, len(b.tokens), left)
		}
		l.close(b, left == 0)
	}
	l.batches = nil
}

// decide decides a message that had no answer: all of its copies are there, or none.
func (l *ledger) decide(m *letter, seen map[string]map[string]bool) {
	var has, lacks []string
	for account := range m.open {
		if seen[account][m.token] {
			has = append(has, account)
		} else {
			lacks = append(lacks, account)
		}
	}
	if len(has) > 0 && len(lacks) > 0 {
		slices.Sort(has)
		slices.Sort(lacks)
		l.complain("half stored: %s is in %s and not in %s", m.token, strings.Join(has, ", "), strings.Join(lacks, ", "))
		for _, account := range lacks {
			l.end(account, m.token)
			delete(m.open, account)
		}
	}
	if len(has) > 0 {
		l.keep(m)
	} else {
		l.drop(m)
	}
}

// size is how many copies are there or may be.
func (l *ledger) size() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, copies := range l.live {
		n += len(copies)
	}
	return n
}

// ledgerCase is something that clients see, and what the ledger is to say of it: nothing, or a problem with these words.
type ledgerCase struct {
	name string
	do   func(l *ledger)
	want string
}

// Of the cases: mailboxes, and listings of them.
func bothMailboxes() []string { return []string{"anna", "bert"} }

func look(l *ledger, a, b []entry) { l.judge(map[string][]entry{"anna": a, "bert": b}) }

func listing(n int, token string) entry { return entry{fmt.Sprintf("%024x", n), token} }

func deliveryCases() []ledgerCase {
	a, both, e := "anna", bothMailboxes(), listing
	return []ledgerCase{
		{"acknowledged and there", func(l *ledger) {
			l.ack(l.post("x", both))
			look(l, []entry{e(1, "x")}, []entry{e(2, "x")})
		}, ""},
		{"lost", func(l *ledger) { l.ack(l.post("x", both)); look(l, []entry{e(1, "x")}, nil) }, "lost: x"},
		{"twice", func(l *ledger) { l.ack(l.post("x", both[:1])); look(l, []entry{e(1, "x"), e(2, "x")}, nil) }, "stored twice: x"},
		{"unanswered and absent", func(l *ledger) { l.post("x", both); look(l, nil, nil) }, ""},
		{"unanswered and there", func(l *ledger) { l.post("x", both); look(l, []entry{e(1, "x")}, []entry{e(2, "x")}) }, ""},
		{"unanswered, there, lost in the next crash", func(l *ledger) {
			l.post("x", both)
			look(l, []entry{e(1, "x")}, []entry{e(2, "x")})
			look(l, []entry{e(1, "x")}, nil)
		}, "lost: x"},
		{"unanswered and half there", func(l *ledger) { l.post("x", both); look(l, nil, []entry{e(2, "x")}) }, "half stored"},
		{"absent and back", func(l *ledger) {
			l.post("x", both)
			look(l, nil, nil)
			look(l, []entry{e(1, "x")}, []entry{e(2, "x")})
		}, "broken off"},
		{"seen, unanswered, lost", func(l *ledger) {
			l.post("x", both[:1])
			l.listed(a, 0, []entry{e(1, "x")})
			look(l, nil, nil)
		}, "lost: x"},
		{"seen by one, lost by the other", func(l *ledger) {
			l.post("x", both)
			l.listed(a, 0, []entry{e(1, "x")})
			look(l, []entry{e(1, "x")}, nil)
		}, "lost: x"},
		{"evicted and back", func(l *ledger) {
			l.ack(l.post("x", both[:1]))
			l.evict(a)
			look(l, nil, nil)
			look(l, []entry{e(1, "x")}, nil)
		}, "deleted"},
		{"refused and there", func(l *ledger) { l.refuse(l.post("x", both)); look(l, []entry{e(1, "x")}, nil) }, "refused"},
		{"seen and refused", func(l *ledger) {
			m := l.post("x", both[:1])
			l.listed(a, 0, []entry{e(1, "x")})
			l.refuse(m)
		}, "and then refused"},
	}
}

func deleteCases() []ledgerCase {
	a, both, e := "anna", bothMailboxes(), listing
	return []ledgerCase{
		{"not seen by a later login", func(l *ledger) { l.ack(l.post("x", both)); l.listed(a, l.now(), nil) }, "does not see x"},
		{"not seen by an earlier login", func(l *ledger) { began := l.now(); l.ack(l.post("x", both)); l.listed(a, began, nil) }, ""},
		{"deleted", func(l *ledger) {
			l.ack(l.post("x", both[:1]))
			l.settle(l.claim(a, []string{"x"}), true)
			look(l, nil, nil)
		}, ""},
		{"deleted and back", func(l *ledger) {
			l.ack(l.post("x", both[:1]))
			l.settle(l.claim(a, []string{"x"}), true)
			look(l, []entry{e(1, "x")}, nil)
		}, "deleted"},
		{"deleted and seen by a later login", func(l *ledger) {
			l.ack(l.post("x", both[:1]))
			l.settle(l.claim(a, []string{"x"}), true)
			l.listed(a, l.now(), []entry{e(1, "x")})
		}, "deleted"},
		{"deleted and seen by an earlier login", func(l *ledger) {
			l.ack(l.post("x", both[:1]))
			began := l.now()
			l.settle(l.claim(a, []string{"x"}), true)
			l.listed(a, began, []entry{e(1, "x")})
		}, ""},
		{"not deleted and gone", func(l *ledger) {
			l.ack(l.post("x", both[:1]))
			l.settle(l.claim(a, []string{"x"}), false)
			look(l, nil, nil)
		}, "lost: x"},
		{"half of a QUIT", func(l *ledger) {
			l.ack(l.post("x", both[:1]))
			l.ack(l.post("y", both[:1]))
			l.claim(a, []string{"x", "y"})
			look(l, []entry{e(1, "x")}, nil)
		}, "of 2 messages that one QUIT deletes 1"},
		{"a whole QUIT without an answer, and one that never was", func(l *ledger) {
			l.ack(l.post("x", both[:1]))
			l.ack(l.post("y", both[:1]))
			l.claim(a, []string{"x"})
			l.claim(a, []string{"y"})
			look(l, []entry{e(2, "y")}, nil)
			look(l, []entry{e(2, "y")}, nil)
		}, ""},
		{"unique-id given again", func(l *ledger) {
			l.ack(l.post("x", both[:1]))
			look(l, []entry{e(1, "x")}, nil)
			l.settle(l.claim(a, []string{"x"}), true)
			l.ack(l.post("y", both[:1]))
			look(l, []entry{e(1, "y")}, nil)
		}, "was given to"},
		{"unique-id changed", func(l *ledger) {
			l.ack(l.post("x", both[:1]))
			look(l, []entry{e(1, "x")}, nil)
			look(l, []entry{e(2, "x")}, nil)
		}, "had unique-id"},
		{"order", func(l *ledger) {
			l.ack(l.post("x", both[:1]))
			l.ack(l.post("y", both[:1]))
			look(l, []entry{e(2, "x"), e(1, "y")}, nil)
		}, "is listed before"},
		{"nobody sent it", func(l *ledger) { look(l, []entry{e(1, "z")}, nil) }, "nobody sent"},
	}
}

// TestTortureLedger: the oracle of the tortures notices what it is there for.
func TestTortureLedger(t *testing.T) {
	for _, tt := range append(deliveryCases(), deleteCases()...) {
		t.Run(tt.name, func(t *testing.T) {
			l := newLedger(bothMailboxes()...)
			tt.do(l)
			switch all := strings.Join(l.problems, "\n"); {
			case tt.want == "" && all != "":
				t.Errorf("got %s, want nothing", all)
			case !strings.Contains(all, tt.want):
				t.Errorf("got %q, want %q", all, tt.want)
			}
		})
	}
}
