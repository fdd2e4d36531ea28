package auth

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// stop forgets to give memory back: a test is at its end.
func (h *hasher) stop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.timer != nil {
		h.timer.Stop()
	}
}

// client is the i-th client, a stranger.
func client(i int) asker {
	return asker{prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32)}
}

// friend is the i-th client as one that is known.
func friend(i int) asker { return asker{client(i).prefix, true} }

// rush is a hasher whose places are taken until release, and what came of those who wait for it.
type rush struct {
	*hasher
	release chan struct{}
	wg      sync.WaitGroup

	mu    sync.Mutex // protects the fields below
	order []string
	errs  map[string][]error
}

func newRush(t *testing.T) *rush {
	r := &rush{hasher: newHasher(func() {}), release: make(chan struct{}), errs: map[string][]error{}}
	for _, known := range []bool{false, true} {
		r.wg.Go(func() { _ = r.run(t.Context(), asker{known: known}, func() { <-r.release }) })
	}
	synctest.Wait()
	return r
}

// wait puts somebody into the line, behind all who are there.
func (r *rush) wait(ctx context.Context, name string, from asker) {
	r.wg.Go(func() {
		err := r.run(ctx, from, func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.order = append(r.order, name)
		})
		r.mu.Lock()
		defer r.mu.Unlock()
		r.errs[name] = append(r.errs[name], err)
	})
	synctest.Wait()
}

// finish lets everybody have their turn.
func (r *rush) finish(t *testing.T) {
	t.Helper()
	close(r.release)
	r.wg.Wait()
	r.stop()
	for _, k := range []*kind{&r.known, &r.strangers} {
		if r.waiting != 0 || k.running || k.lines.Len() != 0 || len(r.byAsker) != 0 {
			t.Errorf("at the end %d wait, one runs: %t, %d lines", r.waiting, k.running, k.lines.Len())
		}
	}
}

func (r *rush) busy(name string) int {
	n := 0
	for _, err := range r.errs[name] {
		if errors.Is(err, ErrBusy) {
			n++
		}
	}
	return n
}

// TestTurnsGoRoundTheClients: who asks often does not keep others waiting often.
func TestTurnsGoRoundTheClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRush(t)
		for i, name := range []string{"a1", "a2", "a3", "b1", "b2", "c1"} {
			r.wait(t.Context(), name, client([]int{1, 1, 1, 2, 2, 3}[i]))
		}
		r.finish(t)
		if want := []string{"a1", "b1", "c1", "a2", "b2", "a3"}; !slices.Equal(r.order, want) {
			t.Errorf("got %v, want %v", r.order, want)
		}
	})
}

// TestLineOfOneClient: its bound, at both ends.
func TestLineOfOneClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRush(t)
		for range maxWaitingPerPrefix {
			r.wait(t.Context(), "one", client(1))
		}
		if n := r.busy("one"); n != 0 {
			t.Errorf("%d of %d were refused", n, maxWaitingPerPrefix)
		}
		r.wait(t.Context(), "one", client(1))
		r.wait(t.Context(), "other", client(2))
		r.finish(t)
		if one, other := r.busy("one"), r.busy("other"); one != 1 || other != 0 {
			t.Errorf("refused: got %d of the one and %d of the other, want 1 and 0", one, other)
		}
	})
}

// TestLineIsFull: its bound, at both ends, when every client has one place.
func TestLineIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRush(t)
		for i := range maxWaiting {
			r.wait(t.Context(), "in", client(i))
		}
		r.wait(t.Context(), "out", client(maxWaiting))
		r.finish(t)
		if in, out := r.busy("in"), r.busy("out"); in != 0 || out != 1 {
			t.Errorf("refused: got %d of those in the line and %d beyond, want 0 and 1", in, out)
		}
	})
}

// TestCrowdMakesRoom: a few clients that hold all places lose the last of them to a newcomer.
func TestCrowdMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRush(t)
		for i := range maxWaiting {
			r.wait(t.Context(), "crowd", client(i/maxWaitingPerPrefix))
		}
		for i := range 3 {
			r.wait(t.Context(), "newcomer", client(100+i))
		}
		r.finish(t)
		if crowd, newcomer := r.busy("crowd"), r.busy("newcomer"); crowd != 3 || newcomer != 0 {
			t.Errorf("refused: got %d of the crowd and %d newcomers, want 3 and 0", crowd, newcomer)
		}
		if i := slices.Index(r.order, "newcomer"); i > maxWaiting/maxWaitingPerPrefix {
			t.Errorf("the first newcomer had turn %d", i+1)
		}
	})
}

// TestKnownClientsHaveTheirOwnTurns: those from where somebody logged in do not wait for strangers, nor strangers for them; each have turns among
// their kind.
func TestKnownClientsHaveTheirOwnTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHasher(func() {})
		const hash, each = time.Second, 8
		ended := map[string]time.Duration{}
		var mu sync.Mutex
		var wg sync.WaitGroup
		begun := time.Now()
		for i := range each {
			for name, from := range map[string]asker{fmt.Sprint("stranger", i): client(i % 3), fmt.Sprint("known", i): friend(100 + i%3)} {
				wg.Go(func() {
					if err := h.run(t.Context(), from, func() { time.Sleep(hash) }); err != nil {
						t.Error(err)
					}
					mu.Lock()
					defer mu.Unlock()
					ended[name] = time.Since(begun)
				})
				synctest.Wait()
			}
		}
		wg.Wait()
		h.stop()
		for i := range each {
			for _, name := range []string{fmt.Sprint("stranger", i), fmt.Sprint("known", i)} {
				if want := time.Duration(i+1) * hash; ended[name] != want {
					t.Errorf("%s was done after %v, want %v", name, ended[name], want)
				}
			}
		}
	})
}

// TestKnownClientHasRoom: a line full of strangers with one place each has room for those who are known, and for them only; a line full of those has
// none for a stranger.
func TestKnownClientHasRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRush(t)
		for i := range maxWaiting {
			r.wait(t.Context(), "stranger", client(i))
		}
		r.wait(t.Context(), "late", client(maxWaiting))
		for i := range maxWaiting {
			r.wait(t.Context(), "friend", friend(1000+i))
		}
		r.wait(t.Context(), "late", client(maxWaiting))
		r.wait(t.Context(), "friend too many", friend(5000))
		r.finish(t)
		if s, l, f, m := r.busy("stranger"), r.busy("late"), r.busy("friend"), r.busy("friend too many"); s != maxWaiting || l != 2 || f != 0 || m != 1 {
			t.Errorf("refused: %d strangers, %d late ones, %d friends, %d too many; want %d, 2, 0, 1", s, l, f, m, maxWaiting)
		}
	})
}

// TestGuessesLeaveKnownClientsInFront: with 500 guesses a second from as many networks and hashes of 35 ms, a login from a known network is looked at
// at once.
func TestGuessesLeaveKnownClientsInFront(t *testing.T) {
	const (
		hash, seconds = 35 * time.Millisecond, 20
		guesses       = 500
	)
	synctest.Test(t, func(t *testing.T) {
		h := newHasher(func() {})
		var wg sync.WaitGroup
		var looked, refused atomic.Int64
		for i := range guesses * seconds {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * time.Second / guesses)
				if err := h.run(t.Context(), client(i), func() { time.Sleep(hash); looked.Add(1) }); errors.Is(err, ErrBusy) {
					refused.Add(1)
				}
			})
		}
		var longest time.Duration // of the logins; they come one after the other
		wg.Go(func() {
			for i := range 2 * seconds {
				time.Sleep(time.Second/2 - 7*time.Millisecond)
				begun := time.Now()
				if err := h.run(t.Context(), friend(100_000+i%5), func() { time.Sleep(hash) }); err != nil {
					t.Error(err)
				}
				longest = max(longest, time.Since(begun))
			}
		})
		wg.Wait()
		h.stop()
		if longest > hash {
			t.Errorf("a known client waited for %v, a hash takes %v", longest, hash)
		}
		if n := looked.Load(); n < seconds*20 || refused.Load() == 0 {
			t.Errorf("%d guesses were looked at and %d refused: the queue was not under load, or stood still", n, refused.Load())
		}
	})
}

// TestCancelledWait: who goes away does not run and leaves no trace.
func TestCancelledWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRush(t)
		ctx, cancel := context.WithCancel(t.Context())
		for range maxWaitingPerPrefix {
			r.wait(ctx, "gone", client(1))
		}
		r.wait(t.Context(), "stays", client(1))
		if r.busy("stays") != 1 {
			t.Error("over the bound: not refused")
		}
		cancel()
		synctest.Wait()
		r.wait(t.Context(), "stays", client(1))
		r.finish(t)
		if !slices.Equal(r.order, []string{"stays"}) {
			t.Errorf("ran: %v", r.order)
		}
		for _, err := range r.errs["gone"] {
			if !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		}
	})
}

// TestTurnOfOneWhoIsGone goes to the next, also when both happen at once.
func TestTurnOfOneWhoIsGone(t *testing.T) {
	h := newHasher(func() {})
	defer h.stop()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 100 { // select takes one of two ready cases at random
		if err := h.run(ctx, client(1), func() {}); err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	if h.strangers.running {
		t.Fatal("a place is lost")
	}
}

// TestHashesAtOnce: never more than maxHashes.
func TestHashesAtOnce(t *testing.T) { synctest.Test(t, testHashesAtOnce) }

func testHashesAtOnce(t *testing.T) {
	h := newHasher(func() {})
	defer h.stop()
	var now, most atomic.Int64
	var wg sync.WaitGroup
	for i := range maxWaiting {
		wg.Go(func() {
			_ = h.run(t.Context(), asker{client(i).prefix, i%2 == 0}, func() {
				if n := now.Add(1); n > most.Load() {
					most.Store(n)
				}
				time.Sleep(time.Millisecond)
				now.Add(-1)
			})
		})
	}
	wg.Wait()
	if n := most.Load(); n != maxHashes {
		t.Errorf("%d ran at once, want %d", n, maxHashes)
	}
}

// TestMemoryIsGivenBack once after a burst: not within it, and not while somebody has a turn.
func TestMemoryIsGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var freed atomic.Int64
		h := newHasher(func() { freed.Add(1) })
		for range 5 {
			if err := h.run(t.Context(), client(1), func() { time.Sleep(2 * idleBeforeFree) }); err != nil {
				t.Fatal(err)
			}
			time.Sleep(idleBeforeFree - 1)
		}
		synctest.Wait()
		if n := freed.Load(); n != 0 {
			t.Errorf("freed %d times within the burst", n)
		}
		for _, later := range []time.Duration{1, time.Hour} {
			time.Sleep(later)
			synctest.Wait()
			if n := freed.Load(); n != 1 {
				t.Errorf("freed %d times after the burst, want once", n)
			}
		}
	})
}

// TestGuessesAtOnce: guesses that wait together are not looked at beyond the limit, and the right password given by many is hashed once.
func TestGuessesAtOnce(t *testing.T) {
	f := newFixture(t)
	f.ran()
	var wg sync.WaitGroup
	for i := range maxWaitingPerPrefix {
		wg.Go(func() {
			_, err := f.Login(t.Context(), over(office), "alice", fmt.Sprint("guess", i))
			if !errors.Is(err, ErrCredentials) && !errors.Is(err, ErrBanned) {
				t.Errorf("guess %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if n := f.ran(); n != 10 {
		t.Errorf("%d guesses were looked at, want 10", n)
	}
	home := netip.MustParseAddr("192.0.2.1")
	for range maxWaitingPerPrefix {
		wg.Go(func() {
			if _, err := f.Login(t.Context(), over(home), "alice", "open sesame"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := f.ran(); n != 1 {
		t.Errorf("the right password was hashed %d times, want once", n)
	}
	if n := strings.Count(f.log.String(), "result=ok"); n != maxWaitingPerPrefix {
		t.Errorf("%d logins in the log", n)
	}
}
