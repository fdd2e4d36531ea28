package auth

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of hashing: each run takes 19 MiB and some 35 ms of a core.
const (
	// maxHashes is how many run at once, maxWaiting how many may wait for their turn, and maxWaitingPerPrefix how many of these may come
	// from one client, so that one cannot keep all others out.
	maxHashes           = 1
	maxWaiting          = 64
	maxWaitingPerPrefix = 16
	// idleBeforeFree is how long after the last run the memory is given back to the system.
	idleBeforeFree = 2 * time.Second
)

// hasher lets password hashes run a few at a time, in the order in which they were asked for.
type hasher struct {
	slots chan struct{}
	free  func()
	runs  atomic.Int64 // hashes that were run

	mu       sync.Mutex // protects the fields below
	waiting  int
	prefixes map[netip.Prefix]int
	timer    *time.Timer
}

func newHasher(free func()) *hasher {
	return &hasher{slots: make(chan struct{}, maxHashes), free: free, prefixes: map[netip.Prefix]int{}}
}

// run calls work when it is its turn. ErrBusy if too many wait already; the context's error if it ends first.
func (h *hasher) run(ctx context.Context, prefix netip.Prefix, work func()) error {
	if !h.queue(prefix) {
		return ErrBusy
	}
	select {
	case h.slots <- struct{}{}:
		h.leave(prefix)
	case <-ctx.Done():
		h.leave(prefix)
		return ctx.Err()
	}
	defer h.done()
	h.runs.Add(1)
	work()
	return nil
}

func (h *hasher) queue(prefix netip.Prefix) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.waiting >= maxWaiting || h.prefixes[prefix] >= maxWaitingPerPrefix {
		return false
	}
	h.waiting++
	h.prefixes[prefix]++
	return true
}

func (h *hasher) leave(prefix netip.Prefix) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.waiting--
	if h.prefixes[prefix]--; h.prefixes[prefix] == 0 {
		delete(h.prefixes, prefix)
	}
}

// done ends a run, and starts the clock after which the burst's memory is given back. Without that a process of 2 MiB stays one of
// 40 MiB for minutes after a single login.
func (h *hasher) done() {
	<-h.slots
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.timer == nil {
		h.timer = time.AfterFunc(idleBeforeFree, h.free)
		return
	}
	h.timer.Reset(idleBeforeFree)
}

// stop forgets to give memory back: the process, or a test, is at its end.
func (h *hasher) stop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.timer != nil {
		h.timer.Stop()
	}
}
