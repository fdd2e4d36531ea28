package memstore

import (
	"context"

	"latchkey/store"
)

// Reserve implements store.Maildrops.
func (s *Store) Reserve(ctx context.Context, account store.AccountID, octets int64) (store.ReservationID, error) {
	if err := store.ValidReservation(octets); err != nil {
		return 0, err
	}
	if err := s.begin(ctx); err != nil {
		return 0, err
	}
	defer s.end()
	if err := s.d.room(account, store.Usage{}, octets); err != nil {
		return 0, err
	}
	s.d.reserved.Max = s.d.bounds.reservations
	return s.d.reserved.Add(account, octets)
}

// Unreserve implements store.Maildrops.
func (s *Store) Unreserve(ids ...store.ReservationID) {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	if !s.closed {
		s.d.reserved.Remove(ids...)
	}
}

// room says why an account takes no message of this size now, or nil. added is what the same message adds to other maildrops.
func (d *data) room(id store.AccountID, added store.Usage, octets int64) error {
	a := d.accounts[id]
	switch {
	case a == nil:
		return store.ErrNotFound
	case a.Suspended:
		return store.ErrSuspended
	case !a.Quota.Fits(a.usage.Plus(d.reserved.In(id)), octets):
		return store.ErrMaildropFull
	case !d.settings.DomainQuota().Fits(d.usage.Plus(d.reserved.Domain()).Plus(added), octets):
		return store.ErrDomainFull
	}
	return nil
}

// charge changes what an account's maildrop and the domain hold.
func (d *data) charge(a *account, u store.Usage) {
	a.usage = a.usage.Plus(u)
	d.usage = d.usage.Plus(u)
}
