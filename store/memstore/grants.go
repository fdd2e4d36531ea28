package memstore

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"latchkey/store"
)

// OpenGrant implements store.Grants.
func (s *Store) OpenGrant(ctx context.Context, now time.Time, r store.GrantRequest) (store.Grant, error) {
	if err := r.Validate(); err != nil {
		return store.Grant{}, err
	}
	if err := s.begin(ctx); err != nil {
		return store.Grant{}, err
	}
	defer s.end()
	if s.d.accounts[r.Account] == nil {
		return store.Grant{}, store.ErrNotFound
	}
	var same *store.Grant
	others := 0
	for _, g := range s.d.grants {
		switch {
		case g.Account != r.Account:
		case g.Network == r.Network && g.Device == r.Device:
			same = g
		case g.Live(now) && g.CredentialVersion == r.CredentialVersion:
			others++
		}
	}
	if same != nil && same.Live(now) && same.CredentialVersion == r.CredentialVersion {
		if expires := r.Expires(now, same.Created); now.Before(expires) {
			same.LastLogin, same.Expires = now, expires
			return *same, nil
		}
	}
	if others >= r.MostLive {
		return store.Grant{}, fmt.Errorf("%w: the account has %d live grants", store.ErrBound, others)
	}
	if same != nil {
		delete(s.d.grants, same.ID)
	}
	s.d.forgetGrants(now, r.Account)
	s.d.lastGrant++
	g := &store.Grant{
		ID: s.d.lastGrant, Account: r.Account, Network: r.Network, Device: r.Device, CredentialVersion: r.CredentialVersion,
		Created: now, LastLogin: now, Expires: r.Expires(now, now), Recipients: r.Recipients, Left: r.Recipients,
	}
	s.d.grants[g.ID] = g
	return *g, nil
}

// forgetGrants forgets the grants that are over for too long, and makes room for one more of an account.
func (d *data) forgetGrants(now time.Time, account store.AccountID) {
	maps.DeleteFunc(d.grants, func(_ store.GrantID, g *store.Grant) bool { return !now.Before(g.Over().Add(store.GrantMemory)) })
	d.boundGrants(d.bounds.accountGrants, func(g *store.Grant) bool { return g.Account == account })
	d.boundGrants(d.bounds.grants, func(*store.Grant) bool { return true })
}

// boundGrants forgets those of some grants that are over first, until there is room for one more.
func (d *data) boundGrants(bound int, counts func(*store.Grant) bool) {
	list := slices.DeleteFunc(slices.Collect(maps.Values(d.grants)), func(g *store.Grant) bool { return !counts(g) })
	slices.SortFunc(list, func(a, b *store.Grant) int { return cmp.Or(a.Over().Compare(b.Over()), cmp.Compare(a.ID, b.ID)) })
	for _, g := range list[:max(len(list)-bound+1, 0)] {
		delete(d.grants, g.ID)
	}
}

// Grant implements store.Grants.
func (s *Store) Grant(ctx context.Context, id store.GrantID) (store.Grant, error) {
	if err := s.begin(ctx); err != nil {
		return store.Grant{}, err
	}
	defer s.end()
	g := s.d.grants[id]
	if g == nil {
		return store.Grant{}, store.ErrNotFound
	}
	return *g, nil
}

// SpendGrant implements store.Grants.
func (s *Store) SpendGrant(ctx context.Context, now time.Time, id store.GrantID, n int) (ok bool, err error) {
	if n < 0 {
		return false, fmt.Errorf("%w: %d recipients", store.ErrInvalid, n)
	}
	if err := s.begin(ctx); err != nil {
		return false, err
	}
	defer s.end()
	g := s.d.grants[id]
	if g == nil || !g.Live(now) || g.Left < n {
		return false, nil
	}
	g.Left -= n
	return true, nil
}

// RefundGrant implements store.Grants.
func (s *Store) RefundGrant(ctx context.Context, id store.GrantID, n int) error {
	if n < 0 {
		return fmt.Errorf("%w: %d recipients", store.ErrInvalid, n)
	}
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.end()
	if g := s.d.grants[id]; g != nil {
		g.Left += min(n, g.Recipients-g.Left)
	}
	return nil
}

// ListGrants implements store.Grants.
func (s *Store) ListGrants(ctx context.Context, f store.GrantFilter, after store.GrantID, limit int) ([]store.Grant, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	defer s.end()
	var list []store.Grant
	for id, g := range s.d.grants {
		if id > after && f.Matches(*g) {
			list = append(list, *g)
		}
	}
	slices.SortFunc(list, func(a, b store.Grant) int { return cmp.Compare(a.ID, b.ID) })
	return list[:min(len(list), max(limit, 0))], nil
}

// RevokeGrants implements store.Grants.
func (s *Store) RevokeGrants(ctx context.Context, now time.Time, end store.GrantEnd, ids ...store.GrantID) ([]store.GrantID, error) {
	return s.revoke(ctx, now, end, func(id store.GrantID) bool { return slices.Contains(ids, id) })
}

// RevokeAllGrants implements store.Grants.
func (s *Store) RevokeAllGrants(ctx context.Context, now time.Time, end store.GrantEnd) (int, error) {
	revoked, err := s.revoke(ctx, now, end, func(store.GrantID) bool { return true })
	return len(revoked), err
}

// revoke ends the live ones of the chosen grants.
func (s *Store) revoke(ctx context.Context, now time.Time, end store.GrantEnd, chosen func(store.GrantID) bool) ([]store.GrantID, error) {
	if end == "" {
		return nil, fmt.Errorf("%w: a grant ends for a reason", store.ErrInvalid)
	}
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	defer s.end()
	var revoked []store.GrantID
	for id, g := range s.d.grants {
		if chosen(id) && g.Live(now) {
			g.End, g.Ended = end, now
			revoked = append(revoked, id)
		}
	}
	slices.Sort(revoked)
	return revoked, nil
}
