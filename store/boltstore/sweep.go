package boltstore

import (
	"slices"
	"sync"

	"latchkey/store"
)

// sweptPerTxn bounds the copies of a removed account whose space one transaction frees.
const sweptPerTxn = 512

// condemned are the removed accounts whose copies are still to be freed.
type condemned struct {
	mu     sync.Mutex // guards the rest
	ids    []store.AccountID
	paused bool // the last sweep failed; the next removal tries again
}

// condemn notes an account that was removed durably.
func (s *Store) condemn(id store.AccountID) {
	z := &s.condemned
	z.mu.Lock()
	z.ids = append(z.ids, id)
	z.paused = false
	z.mu.Unlock()
	s.wake()
}

// sweepWaits reports whether the indexer should sweep now rather than sleep.
func (s *Store) sweepWaits() bool {
	if s.isClosing() || s.poisoned() != nil || s.removing.Load() > 0 {
		return false
	}
	z := &s.condemned
	z.mu.Lock()
	defer z.mu.Unlock()
	return len(z.ids) > 0 && !z.paused
}

// sweep is one step of freeing.
type sweep struct {
	request
	account store.AccountID
	more    bool
}

// sweepStep returns the request that frees the next bounded number of copies, or nil.
func (s *Store) sweepStep() *sweep {
	if !s.sweepWaits() {
		return nil
	}
	z := &s.condemned
	z.mu.Lock()
	defer z.mu.Unlock()
	w := &sweep{account: z.ids[0]}
	w.request = request{frees: true, done: make(chan struct{}), apply: func(t *txn) (err error) {
		w.more, err = t.sweepAccount(w.account)
		return err
	}}
	return w
}

// sweepDone notes how a step ended. After an error there is nothing to hurry for: the next removal tries again.
func (s *Store) sweepDone(w *sweep) {
	z := &s.condemned
	z.mu.Lock()
	defer z.mu.Unlock()
	switch {
	case w.err != nil:
		z.paused = true
	case !w.more:
		z.ids = slices.DeleteFunc(z.ids, func(id store.AccountID) bool { return id == w.account })
	}
}

// sweepAccount removes a bounded number of a removed account's copies, and reports whether there are more. Snapshots that have no list get them.
func (t *txn) sweepAccount(id store.AccountID) (more bool, err error) {
	var found []listing
	t.scan(bCopies, key8(uint64(id)), nil, func(key, value []byte) bool {
		if more = len(found) == sweptPerTxn; more {
			return false
		}
		l, err := decodeListing(key, value)
		t.fail(err)
		found = append(found, l)
		return err == nil
	})
	if err := t.s.handOverSwept(&t.view, id, found); err != nil {
		return true, err
	}
	for i := range found {
		t.removeCopy(id, &found[i])
	}
	if !more {
		t.delete(bCondemned, key8(uint64(id)))
	}
	return more, nil
}

// loadCondemned finds what a crash or Close left to be swept.
func (s *Store) loadCondemned(v *view) {
	v.scan(bCondemned, nil, nil, func(key, _ []byte) bool {
		s.condemned.ids = append(s.condemned.ids, store.AccountID(id8(key)))
		return true
	})
}
