package auth

import (
	"container/list"
	"context"
	"net/netip"
	"sync"
	"time"
)

// Bounds of hashing: each run takes 19 MiB and some 35 ms of a core.
const (
	// maxHashes is how many run at once, maxWaiting how many may wait for their turn, and maxWaitingPerPrefix how many of these may come
	// from one client.
	maxHashes           = 1
	maxWaiting          = 64
	maxWaitingPerPrefix = 16
	// idleBeforeFree is how long after the last run the memory is given back to the system.
	idleBeforeFree = 2 * time.Second
)

// hasher lets password hashes, or in another instance the proofs of challenge logins, run a few at a time. Turns go round the clients
// that wait, so that one who asks a hundred times is not served a hundred times before the next; and when all places are taken, a newcomer
// gets one from the client that has most.
type hasher struct {
	free func() // nil: the runs leave nothing worth giving back

	mu      sync.Mutex // protects the fields below
	running int
	waiting int
	// lines are the clients that wait, whose turn is next first; values are *line. byPrefix finds them.
	lines    *list.List
	byPrefix map[netip.Prefix]*list.Element
	timer    *time.Timer
}

// line is one client's place, with at least one waiter.
type line struct {
	prefix  netip.Prefix
	waiters []*waiter
}

// waiter waits until turn yields nil, for its turn, or ErrBusy, when it had to make room.
type waiter struct {
	prefix netip.Prefix
	turn   chan error
}

func newHasher(free func()) *hasher {
	return &hasher{free: free, lines: list.New(), byPrefix: map[netip.Prefix]*list.Element{}}
}

// run calls work when it is the client's turn. ErrBusy if too many wait; the context's error if it ends first.
func (h *hasher) run(ctx context.Context, prefix netip.Prefix, work func()) error {
	w, err := h.enter(prefix)
	if err != nil {
		return err
	}
	select {
	case err := <-w.turn:
		if err != nil {
			return err
		}
	case <-ctx.Done():
		if !h.leave(w) && <-w.turn == nil {
			h.done() // its turn came at the same moment
		}
		return ctx.Err()
	}
	defer h.done()
	work()
	return nil
}

// enter begins to wait.
func (h *hasher) enter(prefix netip.Prefix) (*waiter, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.timer != nil {
		h.timer.Stop()
	}
	w := &waiter{prefix: prefix, turn: make(chan error, 1)}
	if h.running < maxHashes {
		h.running++
		w.turn <- nil
		return w, nil
	}
	e, waits := h.byPrefix[prefix]
	own := 0
	if waits {
		own = len(e.Value.(*line).waiters)
	}
	if own >= maxWaitingPerPrefix || h.waiting >= maxWaiting && !h.makeRoom(own) {
		return nil, ErrBusy
	}
	if !waits {
		e = h.lines.PushBack(&line{prefix: prefix})
		h.byPrefix[prefix] = e
	}
	l := e.Value.(*line)
	l.waiters = append(l.waiters, w)
	h.waiting++
	return w, nil
}

// makeRoom sends the last one of the longest line away, if that line is longer than the newcomer's will be.
func (h *hasher) makeRoom(own int) bool {
	var longest *line
	for e := h.lines.Front(); e != nil; e = e.Next() {
		if l := e.Value.(*line); longest == nil || len(l.waiters) > len(longest.waiters) {
			longest = l
		}
	}
	if len(longest.waiters) <= own+1 {
		return false
	}
	w := longest.waiters[len(longest.waiters)-1]
	h.remove(w)
	w.turn <- ErrBusy
	return true
}

// leave ends a wait early. It is false if the wait has ended already.
func (h *hasher) leave(w *waiter) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.remove(w)
}

// remove takes a waiter out of its line. h.mu is held.
func (h *hasher) remove(w *waiter) bool {
	e, waits := h.byPrefix[w.prefix]
	if !waits {
		return false
	}
	l := e.Value.(*line)
	for i := range l.waiters {
		if l.waiters[i] != w {
			continue
		}
		l.waiters = append(l.waiters[:i], l.waiters[i+1:]...)
		h.waiting--
		if len(l.waiters) == 0 {
			h.lines.Remove(e)
			delete(h.byPrefix, w.prefix)
		}
		return true
	}
	return false
}

// done ends a run and gives the turn to the next client. After the last run of a burst it starts the clock after which the burst's
// memory is given back: without that a process of 2 MiB stays one of 40 MiB for minutes after a single login.
func (h *hasher) done() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e := h.lines.Front(); e != nil {
		h.lines.MoveToBack(e)
		next := e.Value.(*line).waiters[0]
		h.remove(next)
		next.turn <- nil
		return
	}
	h.running--
	if h.running > 0 || h.free == nil {
		return
	}
	if h.timer == nil {
		h.timer = time.AfterFunc(idleBeforeFree, h.free)
		return
	}
	h.timer.Reset(idleBeforeFree)
}
