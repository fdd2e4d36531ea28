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
	// maxHashes is how many run at once, one of each kind of client; maxWaiting is how many may wait for their turn, and maxWaitingPerPrefix how
	// many of these may come from one client.
	maxHashes           = 2
	maxWaiting          = 64
	maxWaitingPerPrefix = 16
	// idleBeforeFree is how long after the last run the memory is given back to the system.
	idleBeforeFree = 2 * time.Second
)

// hasher lets password hashes, or in another instance the proofs of challenge logins, run one at a time for clients from where somebody logged in
// lately, and one at a time for strangers: neither waits for the other. Among each of the two kinds turns go round the clients that wait, so that
// one who asks a hundred times is not served a hundred times before the next. When all places to wait are taken, a known client gets one from a
// stranger, and otherwise a newcomer gets one from the client of its kind that has most.
type hasher struct {
	free func() // nil: the runs leave nothing worth giving back

	mu      sync.Mutex // protects the fields below
	waiting int
	// known and strangers are the two kinds. byAsker finds the lines in them.
	known, strangers kind
	byAsker          map[asker]*list.Element
	timer            *time.Timer
}

// kind is one kind of client.
type kind struct {
	running bool
	// lines are the clients that wait, whose turn is next first; values are *line.
	lines list.List
}

// asker is a client (see [guard.Prefix]) as one that is known, or as a stranger.
type asker struct {
	prefix netip.Prefix
	known  bool
}

// line is one client's place, with at least one waiter.
type line struct {
	asker   asker
	waiters []*waiter
}

// waiter waits until turn yields nil, for its turn, or ErrBusy, when it had to make room.
type waiter struct {
	asker asker
	turn  chan error
}

func newHasher(free func()) *hasher {
	return &hasher{free: free, byAsker: map[asker]*list.Element{}}
}

// run calls work when it is the client's turn. ErrBusy if too many wait; the context's error if it ends first.
func (h *hasher) run(ctx context.Context, from asker, work func()) error {
	w, err := h.enter(from)
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
			h.done(from) // its turn came at the same moment
		}
		return ctx.Err()
	}
	defer h.done(from)
	work()
	return nil
}

// kindOf is the kind that a client is of.
func (h *hasher) kindOf(a asker) *kind {
	if a.known {
		return &h.known
	}
	return &h.strangers
}

// enter begins to wait.
func (h *hasher) enter(from asker) (*waiter, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.timer != nil {
		h.timer.Stop()
	}
	w := &waiter{asker: from, turn: make(chan error, 1)}
	k := h.kindOf(from)
	if !k.running {
		k.running = true
		w.turn <- nil
		return w, nil
	}
	e, waits := h.byAsker[from]
	own := 0
	if waits {
		own = len(e.Value.(*line).waiters)
	}
	if own >= maxWaitingPerPrefix || h.waiting >= maxWaiting && !h.makeRoom(from, own) {
		return nil, ErrBusy
	}
	if !waits {
		e = k.lines.PushBack(&line{asker: from})
		h.byAsker[from] = e
	}
	l := e.Value.(*line)
	l.waiters = append(l.waiters, w)
	h.waiting++
	return w, nil
}

// makeRoom sends somebody away for a newcomer that has own places: for a known client any stranger, and otherwise only one of a line that is longer
// than the newcomer's will be.
func (h *hasher) makeRoom(from asker, own int) bool {
	victims, least := &h.strangers.lines, own+1
	switch {
	case from.known && victims.Len() > 0:
		least = 0
	case from.known:
		victims = &h.known.lines
	}
	var longest *line
	for e := victims.Front(); e != nil; e = e.Next() {
		if l := e.Value.(*line); longest == nil || len(l.waiters) > len(longest.waiters) {
			longest = l
		}
	}
	if longest == nil || len(longest.waiters) <= least {
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
	e, waits := h.byAsker[w.asker]
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
			h.kindOf(w.asker).lines.Remove(e)
			delete(h.byAsker, w.asker)
		}
		return true
	}
	return false
}

// done ends a run and gives the turn to the next client of the kind. After the last run of a burst it starts the clock after which the burst's
// memory is given back: without that a process of 2 MiB stays one of 40 MiB for minutes after a single login.
func (h *hasher) done(from asker) {
	h.mu.Lock()
	defer h.mu.Unlock()
	k := h.kindOf(from)
	if e := k.lines.Front(); e != nil {
		k.lines.MoveToBack(e)
		first := e.Value.(*line).waiters[0]
		h.remove(first)
		first.turn <- nil
		return
	}
	k.running = false
	if h.known.running || h.strangers.running || h.free == nil {
		return
	}
	if h.timer == nil {
		h.timer = time.AfterFunc(idleBeforeFree, h.free)
		return
	}
	h.timer.Reset(idleBeforeFree)
}
