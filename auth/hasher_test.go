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

// client is the prefix of the i-th client.
func client(i int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 32)
}

// rush is a hasher whose one place is taken until release, and what came of those who wait for it.
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
	r.wg.Go(func() { _ = r.run(t.Context(), netip.Prefix{}, func() { <-r.release }) })
	synctest.Wait()
	return r
}

// wait puts somebody into the line, behind all who are there.
func (r *rush) wait(ctx context.Context, name string, prefix netip.Prefix) {
	r.wg.Go(func() {
		err := r.run(ctx, prefix, func() {
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
	if r.waiting != 0 || r.running != 0 || r.lines.Len() != 0 || len(r.byPrefix) != 0 {
		t.Errorf("at the end %d wait, %d run, %d lines", r.waiting, r.running, r.lines.Len())
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
	if h.running != 0 {
		t.Fatalf("%d places are lost", h.running)
	}
}

// TestHashesAtOnce: never more than maxHashes.
func TestHashesAtOnce(t *testing.T) {
	h := newHasher(func() {})
	defer h.stop()
	var now, most atomic.Int64
	var wg sync.WaitGroup
	for i := range maxWaiting {
		wg.Go(func() {
			_ = h.run(t.Context(), client(i), func() {
				if n := now.Add(1); n > most.Load() {
					most.Store(n)
				}
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
			if !errors.Is(err, ErrCredentials) && !errors.Is(err, ErrThrottled) {
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
