package boltstore

import (
	"context"
	"errors"
	"slices"
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

// boxes are the accounts that mail was for lately. An alteration empties it.
type boxes struct {
	mu   sync.Mutex // guards the rest
	byID map[store.AccountID]*box
	// emptied counts the alterations: what was read before one is not kept after it.
	emptied uint64
}

// forget makes everything be read again.
func (z *boxes) forget() {
	z.mu.Lock()
	defer z.mu.Unlock()
	clear(z.byID)
	z.emptied++
}

// find returns what is known, or nil, and when that was.
func (z *boxes) find(id store.AccountID) (*box, uint64) {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.byID[id], z.emptied
}

// keep keeps what was read since then.
func (z *boxes) keep(id store.AccountID, b *box, since uint64) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.emptied != since {
		return
	}
	if len(z.byID) >= maxBoxes {
		clear(z.byID)
	}
	z.byID[id] = b
}

// box returns what is known of an account, or nil if there is none. An alteration that has returned is known.
func (s *Store) box(ctx context.Context, id store.AccountID) (*box, error) {
	b, since := s.boxes.find(id)
	if b != nil {
		return b, s.answers(ctx)
	}
	a, err := s.Account(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	b = &box{suspended: a.Suspended, quota: a.Quota}
	s.boxes.keep(id, b, since)
	return b, nil
}

// answers returns why nothing is answered any more, or nil.
func (s *Store) answers(ctx context.Context) error {
	if s.isClosing() {
		return store.ErrClosed
	}
	return ctx.Err()
}

// maxRoutes bounds the addresses that are kept in memory.
const maxRoutes = 4096

// routes are addresses of the domain that mail was for lately, and where they lead. A change of names, aliases, forwards and of who is away
// empties it. What leads nowhere is not kept: a stranger may ask for any number of that.
type routes struct {
	mu      sync.Mutex             // guards the rest
	byLocal map[string]store.Route // by local part, as written; what Local holds never changes
	emptied uint64
}

func (z *routes) forget() {
	z.mu.Lock()
	defer z.mu.Unlock()
	clear(z.byLocal)
	z.emptied++
}

func (z *routes) find(local string) (r store.Route, ok bool, since uint64) {
	z.mu.Lock()
	defer z.mu.Unlock()
	r, ok = z.byLocal[local]
	r.Local, r.Forwards, r.Away = slices.Clone(r.Local), slices.Clone(r.Forwards), slices.Clone(r.Away)
	return r, ok, z.emptied
}

func (z *routes) keep(local string, r store.Route, since uint64) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.emptied != since {
		return
	}
	if len(z.byLocal) >= maxRoutes {
		clear(z.byLocal)
	}
	r.Local, r.Forwards, r.Away = slices.Clone(r.Local), slices.Clone(r.Forwards), slices.Clone(r.Away)
	z.byLocal[local] = r
}

// seat is what an account is asked for: room for a copy of so many octets.
func (s *Store) seat(id store.AccountID, octets int64) (seat, error) {
	p := seat{account: id, octets: octets}
	b, err := s.box(context.Background(), id)
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
