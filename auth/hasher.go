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
	// strangersTurn is how many turns known clients have while a stranger waits: after them it is the stranger's.
	strangersTurn = 8
	// idleBeforeFree is how long after the last run the memory is given back to the system.
	idleBeforeFree = 2 * time.Second
)

// hasher lets password hashes, or in another instance the proofs of challenge logins, run a few at a time. Clients from where somebody logged in
// lately go before strangers. Among each of the two kinds turns go round the clients that wait, so that one who asks a hundred times is not
// served a hundred times before the next. When all places are taken, a known client gets one from a stranger, and otherwise a newcomer gets
// one from the client of its kind that has most.
type hasher struct {
	free func() // nil: the runs leave nothing worth giving back

	mu      sync.Mutex // protects the fields below
	running int
	waiting int
	// known and strangers are the clients that wait, whose turn is next first; values are *line. byAsker finds them.
	known, strangers *list.List
	byAsker          map[asker]*list.Element
	// passed is how many known clients in a row had a turn while a stranger waited.
	passed int
	timer  *time.Timer
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
	return &hasher{free: free, known: list.New(), strangers: list.New(), byAsker: map[asker]*list.Element{}}
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
			h.done() // its turn came at the same moment
		}
		return ctx.Err()
	}
	defer h.done()
	work()
	return nil
}

// linesOf are the clients of one kind.
func (h *hasher) linesOf(a asker) *list.List {
	if a.known {
		return h.known
	}
	return h.strangers
}

// enter begins to wait.
func (h *hasher) enter(from asker) (*waiter, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.timer != nil {
		h.timer.Stop()
	}
	w := &waiter{asker: from, turn: make(chan error, 1)}
	if h.running < maxHashes {
		h.running++
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
		e = h.linesOf(from).PushBack(&line{asker: from})
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
	victims, least := h.strangers, own+1
	switch {
	case from.known && h.strangers.Len() > 0:
		least = 0
	case from.known:
		victims = h.known
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
			h.linesOf(w.asker).Remove(e)
			delete(h.byAsker, w.asker)
		}
		return true
	}
	return false
}

// next is the line whose turn it is, nil if nobody waits. h.mu is held.
func (h *hasher) next() *list.Element {
	known, stranger := h.known.Front(), h.strangers.Front()
	switch {
	case stranger == nil:
		h.passed = 0
		return known
	case known == nil || h.passed >= strangersTurn:
		h.passed = 0
		return stranger
	}
	h.passed++
	return known
}

// done ends a run and gives the turn to the next client. After the last run of a burst it starts the clock after which the burst's
// memory is given back: without that a process of 2 MiB stays one of 40 MiB for minutes after a single login.
func (h *hasher) done() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e := h.next(); e != nil {
		l := e.Value.(*line)
		h.linesOf(l.asker).MoveToBack(e)
		first := l.waiters[0]
		h.remove(first)
		first.turn <- nil
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
