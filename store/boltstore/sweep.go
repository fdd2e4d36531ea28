package boltstore

import (
	"errors"
	"io/fs"
	"slices"
	"sync"

	"latchkey/store"
)

// sweptPerGroup bounds the deleted copies whose space one transaction frees.
const sweptPerGroup = 512

// batch is a set of copies that were deleted together. They stay readable for the snapshots that were open then.
type batch struct {
	account store.AccountID
	horizon uint64         // pins up to this one may list the copies
	ids     []store.CopyID // nil: all copies of a removed account
}

// graveyard knows the open snapshots and what waits for their end. All of it is lost in a crash, with the snapshots; Open then finds
// the graves in the index.
type graveyard struct {
	mu      sync.Mutex
	last    uint64                                  // the pin given last
	pins    map[store.AccountID]map[uint64]struct{} // open snapshots
	waiting map[store.AccountID][]batch             // until no pin is at or below the horizon
	ready   []batch                                 // to be swept
	paused  bool                                    // the last sweep failed; the next delete or close tries again
}

// pin notes a snapshot of an account's maildrop that is about to be taken.
func (s *Store) pin(account store.AccountID) uint64 {
	g := &s.graves
	g.mu.Lock()
	defer g.mu.Unlock()
	g.last++
	if g.pins[account] == nil {
		g.pins[account] = make(map[uint64]struct{})
	}
	g.pins[account][g.last] = struct{}{}
	return g.last
}

// unpin notes that a snapshot is closed, and lets go of what only it could read.
func (s *Store) unpin(account store.AccountID, pin uint64) {
	g := &s.graves
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.pins[account], pin)
	if len(g.pins[account]) == 0 {
		delete(g.pins, account)
	}
	s.settleGraves(account)
}

// grave notes copies that were deleted durably. Every snapshot that may list them has its pin by now, as pins are taken first and
// the copies were visible until this commit.
func (s *Store) grave(account store.AccountID, ids []store.CopyID) {
	g := &s.graves
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting[account] = append(g.waiting[account], batch{account: account, horizon: g.last, ids: ids})
	s.settleGraves(account)
}

// settleGraves makes the account's batches ready that no open snapshot lists. g.mu is held.
func (s *Store) settleGraves(account store.AccountID) {
	g := &s.graves
	oldest := g.last + 1
	for pin := range g.pins[account] {
		oldest = min(oldest, pin)
	}
	waiting := g.waiting[account]
	n := 0
	for n < len(waiting) && waiting[n].horizon < oldest {
		n++
	}
	if n == 0 {
		return
	}
	g.ready = append(g.ready, waiting[:n]...)
	g.paused = false
	if waiting = slices.Clone(waiting[n:]); len(waiting) > 0 {
		g.waiting[account] = waiting
	} else {
		delete(g.waiting, account)
	}
	s.wake()
}

// wake makes the committer look for work.
func (s *Store) wake() {
	select {
	case s.poke <- struct{}{}:
	default:
	}
}

// sweepWaits reports whether the committer should sweep now rather than sleep.
func (s *Store) sweepWaits() bool {
	if s.isClosing() || s.poisoned() != nil || s.removing.Load() > 0 {
		return false
	}
	g := &s.graves
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.ready) > 0 && !g.paused
}

// sweep is one step of freeing.
type sweep struct {
	request
	batch batch
	left  *batch // what the step did not reach
}

// sweepStep returns the request that frees the next bounded number of deleted copies, or nil.
func (s *Store) sweepStep() *sweep {
	if !s.sweepWaits() {
		return nil
	}
	g := &s.graves
	g.mu.Lock()
	defer g.mu.Unlock()
	w := &sweep{batch: g.ready[0]}
	g.ready = g.ready[1:]
	w.request = request{frees: true, done: make(chan struct{}), apply: w.apply}
	return w
}

func (w *sweep) apply(t *txn) error {
	w.left = nil
	if w.batch.ids == nil {
		if t.sweepAccount(w.batch.account) {
			w.left = &w.batch
		}
		return nil
	}
	n := min(len(w.batch.ids), sweptPerGroup)
	for _, id := range w.batch.ids[:n] {
		t.sweepCopy(key16(uint64(w.batch.account), uint64(id)))
	}
	if n < len(w.batch.ids) {
		w.left = &batch{account: w.batch.account, ids: w.batch.ids[n:]}
	}
	return nil
}

// sweepDone puts back what a step left. After an error there is nothing to hurry for: the next delete or close tries again.
func (s *Store) sweepDone(w *sweep) {
	g := &s.graves
	g.mu.Lock()
	defer g.mu.Unlock()
	if w.err != nil {
		w.left, g.paused = &w.batch, true
	}
	if w.left != nil {
		g.ready = slices.Insert(g.ready, 0, *w.left)
	}
}

// sweepCopy removes a deleted copy from the index; its key is that of the copy and of the grave.
func (t *txn) sweepCopy(key []byte) {
	b := t.get(bCopies, key)
	if b == nil {
		return
	}
	c, err := decodeCopy(b)
	if err != nil {
		t.fail(err)
		return
	}
	t.delete(bCopies, key)
	if t.has(bGraves, key) {
		t.delete(bGraves, key)
	}
	t.unref(c.Message, 1)
}

// sweepAccount removes a bounded number of a removed account's copies, and reports whether there are more.
func (t *txn) sweepAccount(id store.AccountID) (more bool) {
	var keys [][]byte
	t.scan(bCopies, key8(uint64(id)), nil, func(key, _ []byte) bool {
		if more = len(keys) == sweptPerGroup; !more {
			keys = append(keys, slices.Clone(key))
		}
		return !more
	})
	for _, key := range keys {
		t.sweepCopy(key)
	}
	if !more {
		t.delete(bCondemned, key8(uint64(id)))
	}
	return more
}

// removeBodies unlinks bodies that the index no longer names, and that are flying, beside the committer: it goes on, but does not
// sweep meanwhile, so that deletes cannot pile up faster than the device removes them.
func (s *Store) removeBodies(tokens []token) {
	if len(tokens) == 0 {
		return
	}
	s.removing.Add(1)
	s.removers.Go(func() {
		for _, t := range tokens {
			s.removeBody(t)
			s.bodies.landed(t)
		}
		s.removing.Add(-1)
		s.wake()
	})
}

// removeBody unlinks one body. What cannot be removed now is an orphan that the next Open removes.
func (s *Store) removeBody(t token) {
	if err := s.fs.Remove(s.bodies.large(t)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Error("body without a message could not be removed", "body", t.String(), "error", err)
	}
}

// exhume finds what a crash or Close left to be swept.
func (s *Store) exhume(v *view) {
	g := &s.graves
	v.scan(bGraves, nil, nil, func(key, _ []byte) bool {
		account, id := store.AccountID(id8(key)), store.CopyID(id8(key[8:]))
		if n := len(g.ready); n > 0 && g.ready[n-1].account == account {
			g.ready[n-1].ids = append(g.ready[n-1].ids, id)
		} else {
			g.ready = append(g.ready, batch{account: account, ids: []store.CopyID{id}})
		}
		return true
	})
	v.scan(bCondemned, nil, nil, func(key, _ []byte) bool {
		g.ready = append(g.ready, batch{account: store.AccountID(id8(key))})
		return true
	})
}
