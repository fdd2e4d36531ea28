package boltstore

import (
	"container/heap"
	"context"
	"fmt"
	"slices"
	"time"

	"latchkey/store"
)

// RevokeGrants implements store.Grants.
func (s *Store) RevokeGrants(ctx context.Context, now time.Time, end store.GrantEnd, ids ...store.GrantID) ([]store.GrantID, error) {
	ids = slices.Clone(ids)
	return s.revoke(ctx, now, end, func(z *grants) (chosen []*grant) {
		for _, id := range ids {
			if g := z.byID[id]; g != nil {
				chosen = append(chosen, g)
			}
		}
		return chosen
	})
}

// RevokeAllGrants implements store.Grants.
func (s *Store) RevokeAllGrants(ctx context.Context, now time.Time, end store.GrantEnd) (int, error) {
	revoked, err := s.revoke(ctx, now, end, func(z *grants) []*grant { return slices.Clone(z.order) })
	return len(revoked), err
}

// revoke ends the live ones of the chosen grants in one transaction. They count as ended from the moment in which it is made up, so that
// a flush beside it does not write them as live; if it fails they are as before.
func (s *Store) revoke(ctx context.Context, now time.Time, end store.GrantEnd, choose func(*grants) []*grant) (revoked []store.GrantID, err error) {
	if end == "" {
		return nil, fmt.Errorf("%w: a grant ends for a reason", store.ErrInvalid)
	}
	z := &s.grants
	err = s.release(ctx, func(t *txn) error {
		z.mu.Lock()
		defer z.mu.Unlock()
		revoked = nil
		for _, g := range choose(z) {
			if !g.Live(now) || !t.has(bAccounts, key8(uint64(g.Account))) {
				continue
			}
			g.End, g.Ended = end, now
			heap.Fix(&z.order, g.i)
			t.put(bGrants, g.key().octets(), encodeGrant(&g.Grant))
			t.undo = append(t.undo, func() { z.unrevoke(g) })
			revoked = append(revoked, g.ID)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.Sort(revoked)
	return revoked, nil
}

// unrevoke undoes a revocation that could not be written.
func (z *grants) unrevoke(g *grant) {
	z.mu.Lock()
	defer z.mu.Unlock()
	g.End, g.Ended = "", time.Time{}
	if z.byID[g.ID] == g { // no other has taken its place meanwhile
		heap.Fix(&z.order, g.i)
	}
}

// removeGrants takes the grants of a removed account out of the index, and out of memory once that is durable.
func (t *txn) removeGrants(account store.AccountID) {
	var keys [][]byte
	t.scan(bGrants, key8(uint64(account)), nil, func(key, _ []byte) bool {
		keys = append(keys, slices.Clone(key))
		return true
	})
	for _, key := range keys {
		t.delete(bGrants, key)
	}
	z := &t.s.grants
	t.durable = append(t.durable, func() {
		z.mu.Lock()
		defer z.mu.Unlock()
		for _, g := range z.byAccount[account] {
			z.forget(g)
			delete(z.dirty, g.key())
		}
	})
}

// takeDirty takes a bounded number of grants that are to be written.
func (z *grants) takeDirty() (keys []grantKey) {
	z.mu.Lock()
	defer z.mu.Unlock()
	for key := range z.dirty {
		if len(keys) == flushedPerGroup {
			break
		}
		keys = append(keys, key)
		delete(z.dirty, key)
	}
	return keys
}

// markDirty puts back what could not be written.
func (z *grants) markDirty(keys []grantKey) {
	z.mu.Lock()
	defer z.mu.Unlock()
	for _, key := range keys {
		z.dirty[key] = struct{}{}
	}
}

// writeGrants writes the present state of grants, and renews the reservation of ids that they use up. Grants of an account that is
// removed in the same group are gone already.
func (t *txn) writeGrants(keys []grantKey) {
	z := &t.s.grants
	z.mu.Lock()
	defer z.mu.Unlock()
	for _, key := range keys {
		g := z.byID[key.id]
		if g == nil || !t.has(bAccounts, key8(uint64(key.account))) {
			t.delete(bGrants, key.octets())
			continue
		}
		t.put(bGrants, key.octets(), encodeGrant(&g.Grant))
	}
	if z.last < z.reserved { // otherwise no grant was made yet, and perhaps none will be
		t.reserveGrants()
	}
}

// loadGrants reads the grants that are still worth remembering. Where a crash left two for one account, network and device, the later one
// counts. One that cannot be read gives nobody anything, and is no reason to open no store.
func (s *Store) loadGrants(v *view) error {
	t, err := decodeTally(v.get(bMeta, []byte(metaTally)))
	if err != nil {
		return err
	}
	z := &s.grants
	z.last, z.reserved = store.GrantID(t.Grant), store.GrantID(t.Grant)
	now := s.now()
	v.scan(bGrants, nil, nil, func(key, value []byte) bool {
		g, err := decodeGrant(key, value)
		if err != nil {
			s.log.Error("a grant of the index is damaged, and counts for nothing", "key", fmt.Sprintf("%x", key), "error", err)
			return true // it stays for Check
		}
		if old := z.byAccount[g.Account][grantPlace{g.Network, g.Device}]; old != nil {
			z.forget(old) // the keys ascend by id
		}
		z.add(&g)
		return true
	})
	for len(z.order) > 0 && !now.Before(z.order[0].Over().Add(store.GrantMemory)) {
		z.forget(z.order[0])
	}
	return nil
}
