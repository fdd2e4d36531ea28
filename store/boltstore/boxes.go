package boltstore

import (
	"context"
	"errors"
	"sync"

	"latchkey/store"
)

// maxBoxes bounds the accounts that are kept in memory for the next delivery.
const maxBoxes = 10_000

// box is what a delivery has to know of one account besides what it holds.
type box struct {
	suspended bool
	quota     store.Quota
}

// boxes are the accounts that were delivered to lately. The committer fills it; an alteration empties it.
type boxes struct {
	mu   sync.Mutex // guards the map
	byID map[store.AccountID]*box
}

// forget makes everything be read again.
func (z *boxes) forget() {
	z.mu.Lock()
	defer z.mu.Unlock()
	clear(z.byID)
}

// box returns what is known of an account, or nil if there is none. Only the committer calls it.
func (s *Store) box(id store.AccountID) (*box, error) {
	z := &s.boxes
	z.mu.Lock()
	defer z.mu.Unlock()
	if b := z.byID[id]; b != nil {
		return b, nil
	}
	a, err := s.Account(context.Background(), id)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if len(z.byID) >= maxBoxes {
		clear(z.byID)
	}
	b := &box{suspended: a.Suspended, quota: a.Quota}
	z.byID[id] = b
	return b, nil
}

// seat is what an account is asked for: room for a copy of so many octets.
func (s *Store) seat(id store.AccountID, octets int64) (seat, error) {
	p := seat{account: id, octets: octets}
	b, err := s.box(id)
	switch {
	case err != nil:
	case b == nil:
		p.err = store.ErrNotFound
	case b.suspended:
		p.err = store.ErrSuspended
	default:
		p.quota = b.quota
	}
	return p, err
}
