package boltstore

import (
	"context"
	"maps"
	"slices"
	"sync"

	"latchkey/store"
)

// expiries are the values of ExpireDays that accounts have. Reading them takes all accounts, so they are kept until one of them changes.
type expiries struct {
	mu        sync.Mutex // guards the rest
	known     bool
	inUse     []int // never changed
	forgotten uint64
}

func (x *expiries) forget() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.known, x.inUse = false, nil
	x.forgotten++
}

func (x *expiries) find() (inUse []int, known bool, since uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Clone(x.inUse), x.known, x.forgotten
}

func (x *expiries) keep(inUse []int, since uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.forgotten == since {
		x.known, x.inUse = true, slices.Clone(inUse)
	}
}

// ExpireDaysInUse implements store.Accounts.
func (s *Store) ExpireDaysInUse(ctx context.Context) ([]int, error) {
	inUse, known, since := s.expiries.find()
	if known {
		return inUse, s.answers(ctx)
	}
	err := s.read(ctx, func(v *view) (err error) {
		days := make(map[int]struct{})
		v.scan(bAccounts, nil, nil, func(_, value []byte) bool {
			var a store.Account
			if a, err = decodeAccount(value); err != nil {
				return false
			}
			if a.ExpireDays != 0 {
				days[a.ExpireDays] = struct{}{}
			}
			return true
		})
		inUse = slices.Sorted(maps.Keys(days))
		return err
	})
	if err != nil {
		return nil, err
	}
	s.expiries.keep(inUse, since)
	return inUse, nil
}
