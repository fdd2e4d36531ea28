package boltstore

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"latchkey/store"
)

// grantBlock is how many grant ids are reserved at once. A reservation is renewed with the flush when half of it is used, so a login
// waits for one only after a start, or if so many networks come within a few seconds.
const grantBlock = 1000

// grants holds all grants. They are changed in memory and written a little later, except that revocations are written at once.
type grants struct {
	mu        sync.Mutex // guards the rest; the index is looked at under it
	byID      map[store.GrantID]*grant
	byAccount map[store.AccountID]map[grantPlace]*grant
	byNetwork map[netip.Prefix]map[grantOwner]*grant
	order     byOver
	// dirty are those to be written, or removed if there is no such grant, by their place in the index.
	dirty map[grantKey]struct{}
	// last is the id given last, reserved the last one that no other process will give.
	last, reserved store.GrantID
}

// grantPlace is what an account has at most one grant for, grantOwner what a network has.
type grantPlace struct {
	network netip.Prefix
	device  store.DeviceID
}

type grantOwner struct {
	account store.AccountID
	device  store.DeviceID
}

// grantKey is the place of a grant in the index.
type grantKey struct {
	account store.AccountID
	id      store.GrantID
}

func (k grantKey) octets() []byte { return key16(uint64(k.account), uint64(k.id)) }

// grant is a grant in memory.
type grant struct {
	store.Grant
	i int // in order
}

func (g *grant) key() grantKey     { return grantKey{g.Account, g.ID} }
func (g *grant) place() grantPlace { return grantPlace{g.Network, g.Device} }
func (g *grant) owner() grantOwner { return grantOwner{g.Account, g.Device} }

// byOver is a heap of grants; the first is the one that is over first.
type byOver []*grant

func (h byOver) Len() int           { return len(h) }
func (h byOver) Less(i, j int) bool { return compareOver(h[i], h[j]) < 0 }

func compareOver(a, b *grant) int { return cmp.Or(a.Over().Compare(b.Over()), cmp.Compare(a.ID, b.ID)) }

func (h byOver) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].i, h[j].i = i, j
}

// Push implements heap.Interface.
func (h *byOver) Push(v any) {
	g, _ := v.(*grant)
	g.i = len(*h)
	*h = append(*h, g)
}

// Pop implements heap.Interface.
func (h *byOver) Pop() any {
	old := *h
	g := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return g
}

func newGrants() grants {
	return grants{
		byID: make(map[store.GrantID]*grant), byAccount: make(map[store.AccountID]map[grantPlace]*grant),
		byNetwork: make(map[netip.Prefix]map[grantOwner]*grant), dirty: make(map[grantKey]struct{}),
	}
}

// add puts a grant into memory. z.mu is held, as for all below that change it.
func (z *grants) add(given *store.Grant) {
	g := &grant{Grant: *given}
	z.byID[g.ID] = g
	if z.byAccount[g.Account] == nil {
		z.byAccount[g.Account] = make(map[grantPlace]*grant)
	}
	z.byAccount[g.Account][g.place()] = g
	if z.byNetwork[g.Network] == nil {
		z.byNetwork[g.Network] = make(map[grantOwner]*grant)
	}
	z.byNetwork[g.Network][g.owner()] = g
	heap.Push(&z.order, g)
}

// forget takes a grant out of memory, and out of the index with the next flush.
func (z *grants) forget(g *grant) {
	delete(z.byID, g.ID)
	if delete(z.byAccount[g.Account], g.place()); len(z.byAccount[g.Account]) == 0 {
		delete(z.byAccount, g.Account)
	}
	if delete(z.byNetwork[g.Network], g.owner()); len(z.byNetwork[g.Network]) == 0 {
		delete(z.byNetwork, g.Network)
	}
	heap.Remove(&z.order, g.i)
	z.dirty[g.key()] = struct{}{}
}

// changed notes that a grant has other fields now, and is to be written.
func (z *grants) changed(g *grant) {
	heap.Fix(&z.order, g.i)
	z.dirty[g.key()] = struct{}{}
}

// flushGrantsSoon arranges that dirty grants get written.
func (s *Store) flushGrantsSoon() {
	s.lazy.mu.Lock()
	defer s.lazy.mu.Unlock()
	s.flushSoon()
}

// makeRoom forgets what is over for too long, and what is over first beyond the bounds with one more grant of an account.
func (z *grants) makeRoom(now time.Time, account store.AccountID, b *bounds) {
	for len(z.order) > 0 && !now.Before(z.order[0].Over().Add(store.GrantMemory)) {
		z.forget(z.order[0])
	}
	for uint64(len(z.byAccount[account])) >= b.accountGrants {
		var first *grant
		for _, g := range z.byAccount[account] {
			if first == nil || compareOver(g, first) < 0 {
				first = g
			}
		}
		z.forget(first)
	}
	for uint64(len(z.order)) >= b.grants {
		z.forget(z.order[0])
	}
}

// OpenGrant implements store.Grants.
func (s *Store) OpenGrant(ctx context.Context, now time.Time, r store.GrantRequest) (store.Grant, error) {
	if err := errors.Join(r.Validate(), s.grantsUsable(ctx)); err != nil {
		return store.Grant{}, err
	}
	for {
		g, reserved, err := s.openGrant(ctx, now, &r)
		if err != nil || reserved {
			return g, err
		}
		if err := s.reserveGrants(ctx); err != nil {
			return store.Grant{}, err
		}
	}
}

// openGrant renews or makes a grant; reserved is false, and nothing is changed, if there is no id for it.
func (s *Store) openGrant(ctx context.Context, now time.Time, r *store.GrantRequest) (opened store.Grant, reserved bool, err error) {
	z := &s.grants
	z.mu.Lock()
	defer z.mu.Unlock()
	// The lock is held over the look, so that RemoveAccount, which comes for the grants after its commit, misses none.
	if _, err := s.Account(ctx, r.Account); err != nil {
		return store.Grant{}, false, err
	}
	same := z.byAccount[r.Account][grantPlace{r.Network, r.Device}]
	if same != nil && same.Live(now) && same.CredentialVersion == r.CredentialVersion {
		if expires := r.Expires(now, same.Created); now.Before(expires) {
			same.LastLogin, same.Expires = now, expires
			z.changed(same)
			s.flushGrantsSoon()
			return same.Grant, true, nil
		}
	}
	others := 0
	for _, g := range z.byAccount[r.Account] {
		if g != same && g.Live(now) && g.CredentialVersion == r.CredentialVersion {
			others++
		}
	}
	if others >= r.MostLive {
		return store.Grant{}, false, fmt.Errorf("%w: the account has %d live grants", store.ErrBound, others)
	}
	if z.last >= z.reserved {
		return store.Grant{}, false, nil
	}
	if same != nil {
		z.forget(same)
	}
	z.makeRoom(now, r.Account, &s.bounds)
	z.last++
	opened = store.Grant{
		ID: z.last, Account: r.Account, Network: r.Network, Device: r.Device, CredentialVersion: r.CredentialVersion,
		Created: now, LastLogin: now, Expires: r.Expires(now, now), Recipients: r.Recipients, Left: r.Recipients,
	}
	z.add(&opened)
	z.dirty[grantKey{opened.Account, opened.ID}] = struct{}{}
	s.flushGrantsSoon()
	return opened, true, nil
}

// reserveGrants reserves ids durably, so that one that was given and then forgotten in a crash is never another grant's.
func (s *Store) reserveGrants(ctx context.Context) error {
	return s.release(ctx, func(t *txn) error {
		s.grants.mu.Lock()
		defer s.grants.mu.Unlock()
		t.reserveGrants()
		return nil
	})
}

// reserveGrants reserves a block of ids if no more than half of one is left. The lock of the grants is held.
func (t *txn) reserveGrants() {
	z := &t.s.grants
	if z.last+grantBlock/2 < z.reserved {
		return
	}
	reserved := z.last + grantBlock
	t.tally.Grant = uint64(reserved)
	t.durable = append(t.durable, func() {
		z.mu.Lock()
		defer z.mu.Unlock()
		z.reserved = max(z.reserved, reserved)
	})
}

// Grant implements store.Grants.
func (s *Store) Grant(ctx context.Context, id store.GrantID) (found store.Grant, err error) {
	err = s.onGrant(ctx, id, 0, func(g *grant) bool {
		found = g.Grant
		return false
	})
	if err == nil && found.ID == 0 {
		err = fmt.Errorf("grant %s: %w", id, store.ErrNotFound)
	}
	return found, err
}

// SpendGrant implements store.Grants.
func (s *Store) SpendGrant(ctx context.Context, now time.Time, id store.GrantID, n int) (ok bool, err error) {
	err = s.onGrant(ctx, id, n, func(g *grant) bool {
		if ok = g.Live(now) && g.Left >= n; ok {
			g.Left -= n
		}
		return ok && n > 0
	})
	return ok, err
}

// RefundGrant implements store.Grants.
func (s *Store) RefundGrant(ctx context.Context, id store.GrantID, n int) error {
	return s.onGrant(ctx, id, n, func(g *grant) bool {
		back := min(n, g.Recipients-g.Left)
		g.Left += back
		return back > 0
	})
}

// onGrant does something about n recipients to a grant, if there is such a grant; do says whether it changed it.
func (s *Store) onGrant(ctx context.Context, id store.GrantID, n int, do func(*grant) bool) error {
	if n < 0 {
		return fmt.Errorf("%w: %d recipients", store.ErrInvalid, n)
	}
	if err := s.grantsUsable(ctx); err != nil {
		return err
	}
	z := &s.grants
	z.mu.Lock()
	defer z.mu.Unlock()
	if g := z.byID[id]; g != nil && do(g) {
		z.changed(g)
		s.flushGrantsSoon()
	}
	return nil
}

func (s *Store) grantsUsable(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.isClosing() {
		return store.ErrClosed
	}
	return nil
}

// ListGrants implements store.Grants. An address costs a look at each of the networks that may hold it, an account one at its own grants.
func (s *Store) ListGrants(ctx context.Context, f store.GrantFilter, after store.GrantID, limit int) ([]store.Grant, error) {
	if err := s.grantsUsable(ctx); err != nil {
		return nil, err
	}
	z := &s.grants
	z.mu.Lock()
	defer z.mu.Unlock()
	var list []store.Grant
	add := func(g *grant) {
		if g.ID > after && f.Matches(g.Grant) {
			list = append(list, g.Grant)
		}
	}
	switch {
	case f.Account != 0:
		for _, g := range z.byAccount[f.Account] {
			add(g)
		}
	case f.Remote.IsValid():
		for _, bits := range []int{32, 64, 128} {
			network, err := f.Remote.Prefix(bits)
			if err != nil {
				continue // an IPv4 address has fewer
			}
			for _, g := range z.byNetwork[network] {
				add(g)
			}
		}
	default:
		for _, g := range z.order {
			add(g)
		}
	}
	slices.SortFunc(list, func(a, b store.Grant) int { return cmp.Compare(a.ID, b.ID) })
	return list[:min(len(list), max(limit, 0))], nil
}
