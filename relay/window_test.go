package relay

import (
	"testing"
	"testing/synctest"
	"time"

	"latchkey/store"
)

// TestWindow walks a window through success, push-back and refusal.
func TestWindow(t *testing.T) {
	w := window{limit: firstConnections}
	now := origin
	want := func(when string, limit int, pace time.Duration) {
		t.Helper()
		if w.limit != limit || w.pace != pace {
			t.Errorf("%s: %d at once, a message each %v, want %d and %v", when, w.limit, w.pace, limit, pace)
		}
	}
	succeed := func(n, most int) {
		for range n {
			now = now.Add(time.Second)
			w.success(most, now)
		}
	}
	succeed(1, 20)
	want("half a round", 2, 0)
	succeed(1, 20)
	want("a round", 3, 0)
	succeed(2, 20)
	want("not yet the second", 3, 0)
	succeed(1+4+5, 20)
	want("four rounds", 6, 0)
	succeed(1000, 20)
	want("long", 20, 0)
	succeed(1000, 3) // the bound is never undercut by what is there already
	want("a bound that came later", 20, 0)
	begun := now
	now = now.Add(time.Second)
	w.pushBack(begun, now)
	want("pushed back", 10, 0)
	w.pushBack(begun, now.Add(time.Second))
	want("pushed back by what was begun before", 10, 0)
	for range 3 {
		now = now.Add(time.Second)
		w.pushBack(now, now)
	}
	want("pushed back to one", 1, 0)
	for _, pace := range []time.Duration{100, 200, 400, 800, 1600, 2000, 2000} {
		now = now.Add(time.Second)
		w.pushBack(now, now)
		want("pushed back on one", 1, pace*time.Millisecond)
	}
	for _, wait := range []time.Duration{0, 2 * time.Second, 4 * time.Second} {
		if got := w.wait(now); got != wait {
			t.Errorf("the next message waits %v, want %v", got, wait)
		}
	}
	if got := w.wait(now.Add(time.Minute)); got != 0 {
		t.Errorf("after a minute a message waits %v", got)
	}
	if succeed(30, 20); w.pace != maxPace {
		t.Errorf("after 30 messages there is a pause of %v", w.pace)
	}
	now = now.Add(ceilingTime)
	succeed(30, 20)
	if w.pace != 0 || w.wait(now) != 0 {
		t.Errorf("after 30 messages there is a pause of %v", w.pace)
	}
	w = window{limit: 9}
	w.refused(5, now)
	refused := now
	succeed(int(ceilingTime/time.Second)-1, 20)
	want("before the ceiling is over", 5, 0)
	if succeed(5, 20); w.limit != 6 || now.Before(refused.Add(ceilingTime)) {
		t.Errorf("%d at once after the ceiling", w.limit)
	}
	w.refused(0, now)
	want("refused the only one", 1, 0)
}

// TestPushesBack: which answers ask for less, and which for something else.
func TestPushesBack(t *testing.T) {
	for _, tt := range []struct {
		words, status string
		at            scope
		want          bool
	}{
		{"450 4.7.1 greylisted, come back", "4.7.1", aboutRecipient, false},
		{"451 4.7.1 Greylisting in action, too many tries", "4.7.1", aboutMessage, false},
		{"450 4.2.1 the user is receiving mail too fast", "4.2.1", aboutRecipient, false},
		{"452 4.2.2 quota exceeded", "4.2.2", aboutRecipient, false},
		{"452 4.5.3 too many recipients", "4.5.3", aboutRecipient, false},
		{"450 4.1.8 unknown sender", "4.1.8", aboutRecipient, false},
		{"450 4.7.0 later", "4.7.0", aboutRecipient, false},
		{"421 4.7.0 later", "4.7.0", aboutHost, true},
		{"421 closing", "4.0.0", aboutHost, true},
		{"450 4.7.28 rate limit of your network", "4.7.28", aboutRecipient, true},
		{"450 Too Many connections", "4.0.0", aboutRecipient, true},
		{"451 4.7.500 server busy", "4.7.500", aboutMessage, true},
		{"450 4.7.0 sender throttled", "4.7.0", aboutRecipient, true},
		{"451 4.3.2 system not accepting", "4.3.2", aboutMessage, true},
		{"451 4.3.0 disk", "4.3.0", aboutMessage, true},
		{"450 4.4.5 x", "4.4.5", aboutRecipient, true},
	} {
		v := verdict{kind: store.Deferred, words: tt.words, status: tt.status, scope: tt.at, answered: true, peer: peer{host: "mx"}}
		if got := pushesBack(v); got != tt.want {
			t.Errorf("%q: %v, want %v", tt.words, got, tt.want)
		}
		if v.kind = store.Failed; pushesBack(v) {
			t.Errorf("%q: a failure pushes back", tt.words)
		}
	}
	if !pushesBack(verdict{kind: store.Deferred, peer: peer{host: "mx"}}) || pushesBack(verdict{kind: store.Deferred}) {
		t.Error("a connection that broke pushes back, a trouble of our own does not")
	}
}

// TestMayHold: one mailbox alone, several, and the newcomer.
func TestMayHold(t *testing.T) {
	for _, tt := range []struct {
		most   int
		owners int
		each   int // what each gets when they take turns
	}{{64, 1, 48}, {64, 2, 28}, {64, 10, 7}, {200, 1, 150}, {1, 1, 1}, {2, 1, 2}, {20, 1, 15}} {
		held, used := make([]int, tt.owners), 0
		for more := true; more; {
			more = false
			for i := range held {
				if mayHold(held[i], used, tt.most) {
					held[i], used, more = held[i]+1, used+1, true
				}
			}
		}
		if tt.owners < tt.most-1 && tt.most > 2 && !mayHold(0, used, tt.most) {
			t.Errorf("%d owners of %d places: a newcomer finds none", tt.owners, tt.most)
		}
		if held[0] < tt.each || held[0] > tt.each+1 || held[tt.owners-1] < tt.each-1 || used > tt.most {
			t.Errorf("%d owners of %d places hold %v, want %d each", tt.owners, tt.most, held, tt.each)
		}
	}
}

// TestPlaces: whoever holds the fewest gets the next place, among equals whoever got fewer of late, and then whoever came first; who gives up waiting takes none.
func TestPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlaces(3, false)
		for _, owner := range []store.AccountID{1, 1, 2} {
			if !p.tryTake(owner) {
				t.Fatalf("no place for %d", owner)
			}
		}
		if p.tryTake(3) {
			t.Fatal("a fourth place of three")
		}
		got := make(chan store.AccountID, 10)
		for _, owner := range []store.AccountID{1, 2, 3, 2} {
			go func() {
				if p.take(t.Context(), owner) {
					got <- owner
				}
			}()
			synctest.Wait()
		}
		if !p.wanted(1, false) || p.wanted(3, false) || !p.wanted(3, true) {
			t.Error("whose place is wanted")
		}
		for _, give := range []struct{ from, to store.AccountID }{{1, 3}, {1, 1}, {2, 2}} {
			p.give(give.from)
			if owner := <-got; owner != give.to {
				t.Errorf("the place of %d went to %d, want %d", give.from, owner, give.to)
			}
		}
		p.resize(4)
		<-got
		if p.taken() != 4 || p.wanted(1, true) {
			t.Errorf("%d taken", p.taken())
		}
		p.resize(2)
		for _, owner := range []store.AccountID{3, 1} {
			p.give(owner)
			if p.tryTake(9) {
				t.Error("a place beyond the bound")
			}
		}
		p.give(2)
		if !p.tryTake(9) {
			t.Error("no place below the bound")
		}
	})
}
