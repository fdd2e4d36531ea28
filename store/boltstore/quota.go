package boltstore

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"latchkey/store"
)

// holdings are what the maildrops hold and what is reserved beside it, in memory, so that no RCPT has to add it up. Copies are charged when
// a group takes them, together with the end of their reservations, and come off again if the group is undone; what is deleted is given
// back when that is durable.
type holdings struct {
	mu       sync.Mutex // guards what follows; never held during I/O
	usage    map[store.AccountID]store.Usage
	domain   store.Usage // the sum of usage
	coming   store.Usage // the part of it that is not durable yet
	reserved store.Reserved
}

// seat is one recipient's part of an admission.
type seat struct {
	account store.AccountID // 0: a job, which needs no room
	quota   store.Quota
	octets  int64
	err     error // why it gets no copy
	again   bool  // an earlier recipient of the same account gets it
}

// charge is what one account's maildrop gets.
type charge struct {
	account store.AccountID
	room    store.Usage
}

// loadHoldings sums up what the accounts hold by the index. It costs a step for each account.
func (s *Store) loadHoldings(v *view) error {
	var failed error
	v.scan(bAccounts, nil, nil, func(key, _ []byte) bool {
		u, err := decodeUsage(v.get(bUsage, key))
		if failed = err; err != nil {
			return false
		}
		s.holdings.add(store.AccountID(id8(key)), u)
		return true
	})
	return failed
}

// replay counts a record that the index does not have yet. An account that is not in the index was removed: its maildrop holds nothing.
func (p *holdings) replay(made entry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	count := func(id store.AccountID, room store.Usage) {
		if _, known := p.usage[id]; known {
			p.add(id, room)
		}
	}
	switch e := made.(type) {
	case *messageEntry:
		for i := range e.holders {
			if h := &e.holders[i]; h.account != 0 {
				count(h.account, store.Usage{Octets: e.body.size + h.prefixLen, Messages: 1})
			}
		}
	case *expungeEntry:
		count(e.account, store.Usage{}.Minus(e.freed))
	}
}

// fits says why so many octets more find no room, or nil. It is called with mu held.
func (p *holdings) fits(account store.AccountID, mailbox, domain store.Quota, octets int64) error {
	switch {
	case !mailbox.Fits(p.usage[account].Plus(p.reserved.In(account)), octets):
		return store.ErrMaildropFull
	case !domain.Fits(p.domain.Plus(p.reserved.Domain()), octets):
		return store.ErrDomainFull
	}
	return nil
}

func (p *holdings) add(account store.AccountID, room store.Usage) {
	p.usage[account] = p.usage[account].Plus(room)
	p.domain = p.domain.Plus(room)
}

// admit ends the reservations of a message and charges its copies, one after the other, as far as there is room. Seats that get none say
// why. What it returns was charged, and is settled by arrived or takeBack.
func (p *holdings) admit(domain store.Quota, reserved []store.ReservationID, seats []seat) (charged []charge) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reserved.Remove(reserved...)
	var served map[store.AccountID]struct{}
	if len(seats) > 1 {
		served = make(map[store.AccountID]struct{}, len(seats))
	}
	charged = make([]charge, 0, len(seats))
	for i := range seats {
		a := &seats[i]
		if _, a.again = served[a.account]; a.again || a.account == 0 || a.err != nil {
			continue
		}
		if a.err = p.fits(a.account, a.quota, domain, a.octets); a.err != nil {
			continue
		}
		if served != nil {
			served[a.account] = struct{}{}
		}
		c := charge{a.account, store.Usage{Octets: a.octets, Messages: 1}}
		p.add(c.account, c.room)
		p.coming = p.coming.Plus(c.room)
		charged = append(charged, c)
	}
	return charged
}

// takeBack undoes what admit charged.
func (p *holdings) takeBack(charged []charge) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range charged {
		p.add(c.account, store.Usage{}.Minus(c.room))
		p.coming = p.coming.Minus(c.room)
	}
}

// arrived notes that what was charged is durable.
func (p *holdings) arrived(charged []charge) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range charged {
		p.coming = p.coming.Minus(c.room)
	}
}

// freed notes that copies were deleted durably.
func (p *holdings) freed(account store.AccountID, room store.Usage) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, known := p.usage[account]; known {
		p.add(account, store.Usage{}.Minus(room))
	}
}

// drop forgets a removed account with all that it held.
func (p *holdings) drop(id store.AccountID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.domain = p.domain.Minus(p.usage[id])
	delete(p.usage, id)
}

// quota is the domain's.
func (s *Store) quota() store.Quota {
	s.signals.Lock()
	defer s.signals.Unlock()
	return s.settings.DomainQuota()
}

// DomainUsage implements store.Maildrops.
func (s *Store) DomainUsage(ctx context.Context) (store.Usage, error) {
	if err := ctx.Err(); err != nil {
		return store.Usage{}, err
	}
	if s.isClosing() {
		return store.Usage{}, store.ErrClosed
	}
	s.holdings.mu.Lock()
	defer s.holdings.mu.Unlock()
	return s.holdings.domain.Minus(s.holdings.coming), nil
}

// Reserve implements store.Maildrops.
func (s *Store) Reserve(ctx context.Context, account store.AccountID, octets int64) (store.ReservationID, error) {
	if err := store.ValidReservation(octets); err != nil {
		return 0, err
	}
	b, err := s.box(ctx, account)
	switch {
	case err != nil:
		return 0, err
	case b == nil:
		return 0, fmt.Errorf("account %d: %w", account, store.ErrNotFound)
	case b.suspended:
		return 0, fmt.Errorf("account %d: %w", account, store.ErrSuspended)
	}
	domain := s.quota()
	s.holdings.mu.Lock()
	defer s.holdings.mu.Unlock()
	if err := s.holdings.fits(account, b.quota, domain, octets); err != nil {
		return 0, fmt.Errorf("account %d: %w", account, err)
	}
	return s.holdings.reserved.Add(account, octets)
}

// Unreserve implements store.Maildrops.
func (s *Store) Unreserve(ids ...store.ReservationID) {
	if len(ids) == 0 {
		return
	}
	s.holdings.mu.Lock()
	defer s.holdings.mu.Unlock()
	s.holdings.reserved.Remove(ids...)
}

// holdings compares the sums in memory with the index, while nothing is delivered and the index is up to date. After a failed sync nobody knows
// what the last group did.
func (c *checker) holdings(ctx context.Context) error {
	err := c.s.alter(ctx, true, func(t *txn) error {
		t.flushCharges()
		index := make(map[store.AccountID]store.Usage)
		c.each(&t.view, bUsage, func(key, value []byte) (err error) {
			index[store.AccountID(id8(key))], err = decodeUsage(value)
			return err
		})
		c.compareHoldings(index)
		return nil
	})
	if errors.Is(err, store.ErrPoisoned) {
		return nil
	}
	return err
}

func (c *checker) compareHoldings(index map[store.AccountID]store.Usage) {
	p := &c.s.holdings
	p.mu.Lock()
	defer p.mu.Unlock()
	var sum store.Usage
	for id, u := range p.usage {
		if sum = sum.Plus(u); u != index[id] {
			c.found(store.ProblemCounter, "room of "+accountObject(uint64(id)), "%+v noted, %+v in the index", u, index[id])
		}
		delete(index, id)
	}
	for id, u := range index {
		c.found(store.ProblemCounter, "room of "+accountObject(uint64(id)), "nothing noted, %+v in the index", u)
	}
	if sum != p.domain || p.coming != (store.Usage{}) {
		c.found(store.ProblemCounter, "room of the domain", "%+v noted, %+v by account, and %+v on its way", p.domain, sum, p.coming)
	}
}
