package boltstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"latchkey/internal/mailaddr"
	"latchkey/store"
)

func encodeAccount(a *store.Account) []byte {
	var e encoder
	e.uint64(uint64(a.ID))
	e.string(a.Name)
	e.string(a.DisplayName)
	e.string(string(a.Verifier))
	e.uvarint(a.CredentialVersion)
	e.bool(a.Suspended)
	e.varint(a.Quota.Octets)
	e.varint(a.Quota.Messages)
	e.mailboxes(a.SendAs)
	e.time(a.Created)
	e.uvarint(a.Version)
	e.bool(a.OldClientLogin)
	e.string(string(a.Sealed))
	var flags uint8
	for i, set := range []bool{a.POP3.ReplaceNUL, a.POP3.EndHeader, a.POP3.StatusHeader, a.POP3.Last} {
		if set {
			flags |= 1 << i
		}
	}
	e.uint8(flags)
	e.string(a.POP3.Select)
	e.mailboxes(a.Forward.To)
	e.bool(a.Forward.Keep)
	e.time(a.ClearSince)
	e.bool(a.Owner)
	e.varint(int64(a.ExpireDays))
	e.bool(a.Vacation.On)
	e.uint32(uint32(a.Vacation.From))
	e.uint32(uint32(a.Vacation.Until))
	e.string(a.Vacation.Subject)
	e.string(a.Vacation.Text)
	return e.b
}

func decodeAccount(b []byte) (store.Account, error) {
	d := decoder{b: b}
	a := store.Account{ID: store.AccountID(d.uint64()), Name: d.string(), DisplayName: d.string(), Verifier: store.Verifier(d.string())}
	a.CredentialVersion = d.uvarint()
	a.Suspended = d.bool()
	a.Quota = store.Quota{Octets: d.varint(), Messages: d.varint()}
	a.SendAs = d.mailboxes()
	a.Created = d.time()
	a.Version = d.uvarint()
	a.OldClientLogin = d.bool()
	a.Sealed = store.Sealed(d.string())
	flags := d.uint8()
	for i, set := range []*bool{&a.POP3.ReplaceNUL, &a.POP3.EndHeader, &a.POP3.StatusHeader, &a.POP3.Last} {
		*set = flags&(1<<i) != 0
	}
	a.POP3.Select = d.string()
	a.Forward = store.Forward{To: d.mailboxes(), Keep: d.bool()}
	a.ClearSince = d.time()
	a.Owner = d.bool()
	if d.more() { // a record of a version that knew nothing of them has an end here
		a.ExpireDays = int(d.varint())
		a.Vacation = store.Vacation{On: d.bool(), From: store.Day(d.uint32()), Until: store.Day(d.uint32()), Subject: d.string(), Text: d.string()}
	}
	if d.err != nil {
		return store.Account{}, d.err
	}
	return a, nil
}

func (v *view) account(id store.AccountID) (store.Account, error) {
	b := v.get(bAccounts, key8(uint64(id)))
	if b == nil {
		return store.Account{}, fmt.Errorf("account %d: %w", id, store.ErrNotFound)
	}
	return decodeAccount(b)
}

// byName returns where an exact name or alias leads; nowhere is an alias that leads to nobody.
func (v *view) byName(name string) (a store.Alias, err error) {
	if b := v.get(bAccountNames, []byte(name)); b != nil {
		a.Targets, err = decodeIDs(b)
		return a, err
	}
	if b := v.get(bAliases, []byte(name)); b != nil {
		return decodeAlias([]byte(name), b)
	}
	return a, nil
}

func encodeAlias(a *store.Alias) []byte {
	var e encoder
	e.uvarint(uint64(len(a.Targets)))
	for _, id := range a.Targets {
		e.uint64(uint64(id))
	}
	e.mailboxes(a.Outside)
	return e.b
}

func decodeAlias(key, b []byte) (store.Alias, error) {
	d := decoder{b: b}
	a := store.Alias{Name: string(key)}
	for n := d.count(); n > 0 && d.err == nil; n-- {
		a.Targets = append(a.Targets, store.AccountID(d.uint64()))
	}
	a.Outside = d.mailboxes()
	return a, d.err
}

// taken reports whether an account or an alias has the name.
func (v *view) taken(name string) bool {
	return v.has(bAccountNames, []byte(name)) || v.has(bAliases, []byte(name))
}

// Account implements store.Accounts.
func (s *Store) Account(ctx context.Context, id store.AccountID) (a store.Account, err error) {
	err = s.read(ctx, func(v *view) (err error) {
		a, err = v.account(id)
		return err
	})
	return a, err
}

// AccountByName implements store.Accounts.
func (s *Store) AccountByName(ctx context.Context, name string) (a store.Account, err error) {
	err = s.read(ctx, func(v *view) error {
		b := v.get(bAccountNames, []byte(name))
		if b == nil {
			return fmt.Errorf("account %q: %w", name, store.ErrNotFound)
		}
		ids, err := decodeIDs(b)
		if err != nil {
			return err
		}
		a, err = v.account(ids[0])
		return err
	})
	return a, err
}

// ListAccounts implements store.Accounts.
func (s *Store) ListAccounts(ctx context.Context, after string, limit int) (accounts []store.Account, err error) {
	err = s.read(ctx, func(v *view) (err error) {
		v.scan(bAccountNames, nil, []byte(after), func(key, value []byte) bool {
			if len(accounts) >= limit {
				return false
			}
			if string(key) == after {
				return true
			}
			var a store.Account
			if a, err = v.account(store.AccountID(id8(value))); err != nil {
				return false
			}
			accounts = append(accounts, a)
			return true
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	return accounts, nil
}

// AddAccount implements store.Accounts.
func (s *Store) AddAccount(ctx context.Context, a store.Account) (store.Account, error) {
	if err := a.Validate(); err != nil {
		return store.Account{}, err
	}
	a.SendAs, a.Forward.To = slices.Clone(a.SendAs), slices.Clone(a.Forward.To)
	err := s.write(ctx, func(t *txn) error {
		if t.taken(a.Name) {
			return fmt.Errorf("%q: %w", a.Name, store.ErrExists)
		}
		t.tally.Account++
		a.ID, a.CredentialVersion, a.Version, a.Sealed = store.AccountID(t.tally.Account), 1, 1, ""
		t.put(bAccounts, key8(uint64(a.ID)), encodeAccount(&a))
		t.put(bAccountNames, []byte(a.Name), key8(uint64(a.ID)))
		t.lend(a.ID, nil, a.SendAs)
		t.expires = t.expires || a.ExpireDays != 0
		return nil
	})
	if err != nil {
		return store.Account{}, err
	}
	return a, nil
}

// UpdateAccount implements store.Accounts.
func (s *Store) UpdateAccount(ctx context.Context, a store.Account) (store.Account, error) {
	if err := a.Validate(); err != nil {
		return store.Account{}, err
	}
	a.SendAs, a.Forward.To = slices.Clone(a.SendAs), slices.Clone(a.Forward.To)
	given := a.Version
	err := s.alter(ctx, false, func(t *txn) error {
		old, err := t.account(a.ID)
		if err != nil {
			return err
		}
		if old.Version != given {
			return fmt.Errorf("account %d: %w", a.ID, store.ErrConflict)
		}
		settings, err := t.settings()
		if err != nil {
			return err
		}
		if a.Name != old.Name {
			if t.taken(a.Name) {
				return fmt.Errorf("%q: %w", a.Name, store.ErrExists)
			}
			if err := t.keepsReserved(old.Name, a.Name, 0); err != nil {
				return err
			}
			t.delete(bAccountNames, []byte(old.Name))
			t.put(bAccountNames, []byte(a.Name), key8(uint64(a.ID)))
		}
		a.Succeed(old, settings)
		t.renames = t.renames || !slices.Equal(a.Forward.To, old.Forward.To) || a.Forward.Keep != old.Forward.Keep || a.Vacation.On != old.Vacation.On
		t.expires = t.expires || a.ExpireDays != old.ExpireDays
		t.put(bAccounts, key8(uint64(a.ID)), encodeAccount(&a))
		t.lend(a.ID, old.SendAs, a.SendAs)
		return nil
	})
	if err != nil {
		return store.Account{}, err
	}
	return a, nil
}

// RemoveAccount implements store.Accounts. The copies are gone for every reader at once; their space is freed in steps, after open
// maildrops are closed.
func (s *Store) RemoveAccount(ctx context.Context, id store.AccountID) error {
	return s.alter(ctx, true, func(t *txn) error {
		a, err := t.account(id)
		if err != nil {
			return err
		}
		if err := t.keepsReserved(a.Name, "", id); err != nil {
			return err
		}
		for _, name := range t.aliasesOf(id) {
			alias, err := decodeAlias([]byte(name), t.get(bAliases, []byte(name)))
			t.fail(err)
			before := alias.Targets
			alias.Targets = without(before, id)
			t.putAlias(before, alias)
		}
		key := key8(uint64(id))
		t.delete(bAccounts, key)
		t.delete(bAccountNames, []byte(a.Name))
		t.lend(id, a.SendAs, nil)
		t.expires = t.expires || a.ExpireDays != 0
		t.delete(bUsage, key)
		delete(t.charges, id)
		t.put(bCondemned, key, nil)
		t.removeGrants(id)
		t.removeClients(id)
		t.removeDevices(id)
		t.removeHabits(key8(uint64(id)))
		t.durable = append(t.durable, func() { s.condemn(id); s.holdings.drop(id) })
		return nil
	})
}

func (v *view) aliasesOf(id store.AccountID) (names []string) {
	v.scan(bAliasTargets, key8(uint64(id)), nil, func(key, _ []byte) bool {
		names = append(names, string(key[8:]))
		return true
	})
	return names
}

func without(ids []store.AccountID, id store.AccountID) []store.AccountID {
	return slices.DeleteFunc(slices.Clone(ids), func(v store.AccountID) bool { return v == id })
}

// keepsReserved refuses a change after which postmaster or abuse would lead nowhere, though it leads somewhere now (RFC 2142 §5,
// RFC 5321 §4.5.1). The change: the name gone is free, the name come is taken, and the account dead (0: none) is in no alias.
func (v *view) keepsReserved(gone, come string, dead store.AccountID) error {
	leads := func(name, gone, come string, dead store.AccountID) (bool, error) {
		if name == come {
			return true, nil
		}
		for _, n := range []string{name, store.CatchAll} {
			if n == gone {
				continue
			}
			a, err := v.byName(n)
			alive := slices.ContainsFunc(a.Targets, func(id store.AccountID) bool { return id != dead })
			if err != nil || alive {
				return alive, err
			}
		}
		return false, nil
	}
	for _, name := range []string{"postmaster", "abuse"} {
		before, err := leads(name, "", "", 0)
		if err != nil {
			return err
		}
		after, err := leads(name, gone, come, dead)
		if err != nil {
			return err
		}
		if before && !after {
			return fmt.Errorf("%s: %w", name, store.ErrReserved)
		}
	}
	return nil
}

// putAlias replaces an alias that had the targets before; without any, and without addresses outside, the alias goes.
func (t *txn) putAlias(before []store.AccountID, a store.Alias) {
	for _, id := range before {
		t.delete(bAliasTargets, append(key8(uint64(id)), a.Name...))
	}
	if len(a.Targets)+len(a.Outside) == 0 {
		t.delete(bAliases, []byte(a.Name))
		return
	}
	for _, id := range a.Targets {
		t.put(bAliasTargets, append(key8(uint64(id)), a.Name...), nil)
	}
	t.put(bAliases, []byte(a.Name), encodeAlias(&a))
}

// lentKey is the place of one address that was lent to one account. No address has a NUL.
func lentKey(addr mailaddr.Address, domain string, id store.AccountID) []byte {
	return append(lentPrefix(addr, domain), key8(uint64(id))...)
}

func lentPrefix(addr mailaddr.Address, domain string) []byte {
	return append([]byte(store.LentName(addr, domain)), 0)
}

// lend replaces the addresses that were lent to an account.
func (t *txn) lend(id store.AccountID, before, after []mailaddr.Address) {
	for _, addr := range before {
		t.delete(bLent, lentKey(addr, t.s.domain, id))
	}
	for _, addr := range after {
		t.put(bLent, lentKey(addr, t.s.domain, id), nil)
	}
}

// LentTo implements store.Accounts.
func (s *Store) LentTo(ctx context.Context, addr mailaddr.Address) (ids []store.AccountID, err error) {
	prefix := lentPrefix(addr, s.domain)
	err = s.read(ctx, func(v *view) error {
		v.scan(bLent, prefix, nil, func(key, _ []byte) bool {
			ids = append(ids, store.AccountID(id8(key[len(prefix):])))
			return true
		})
		return nil
	})
	return ids, err
}

// ListAliases implements store.Accounts.
func (s *Store) ListAliases(ctx context.Context, after string, limit int) (aliases []store.Alias, err error) {
	err = s.read(ctx, func(v *view) (err error) {
		v.scan(bAliases, nil, []byte(after), func(key, value []byte) bool {
			if len(aliases) >= limit {
				return false
			}
			if string(key) == after {
				return true
			}
			var a store.Alias
			if a, err = decodeAlias(key, value); err != nil {
				return false
			}
			aliases = append(aliases, a)
			return true
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	return aliases, nil
}

// PutAlias implements store.Accounts.
func (s *Store) PutAlias(ctx context.Context, a store.Alias) error {
	if err := a.Validate(); err != nil {
		return err
	}
	a.Targets, a.Outside = slices.Clone(a.Targets), slices.Clone(a.Outside)
	return s.write(ctx, func(t *txn) error {
		if t.has(bAccountNames, []byte(a.Name)) {
			return fmt.Errorf("%q: %w", a.Name, store.ErrExists)
		}
		for _, id := range a.Targets {
			if !t.has(bAccounts, key8(uint64(id))) {
				return fmt.Errorf("account %d: %w", id, store.ErrNotFound)
			}
		}
		if len(a.Targets) == 0 {
			if err := t.keepsReserved(a.Name, "", 0); err != nil {
				return err
			}
		}
		var before store.Alias
		if b := t.get(bAliases, []byte(a.Name)); b != nil {
			var err error
			if before, err = decodeAlias([]byte(a.Name), b); err != nil {
				return err
			}
		}
		t.putAlias(before.Targets, a)
		return nil
	})
}

// RemoveAlias implements store.Accounts.
func (s *Store) RemoveAlias(ctx context.Context, name string) error {
	return s.write(ctx, func(t *txn) error {
		b := t.get(bAliases, []byte(name))
		if b == nil {
			return fmt.Errorf("alias %q: %w", name, store.ErrNotFound)
		}
		alias, err := decodeAlias([]byte(name), b)
		if err != nil {
			return err
		}
		if err := t.keepsReserved(name, "", 0); err != nil {
			return err
		}
		t.putAlias(alias.Targets, store.Alias{Name: name})
		return nil
	})
}

// leads returns where an exact name leads; nowhere is the zero route.
func (v *view) leads(name, domain string) (r store.Route, err error) {
	a, err := v.byName(name)
	if err != nil {
		return r, err
	}
	r.Local = a.Targets
	r.AddForwards(a.Forwards(domain))
	for _, id := range a.Targets {
		account, err := v.account(id)
		switch {
		case errors.Is(err, store.ErrNotFound):
			continue // the index is damaged; the commit says so of this mailbox
		case err != nil:
			return store.Route{}, err
		}
		r.AddForwards(account.Forwards(domain))
		if account.Vacation.On {
			r.Away = append(r.Away, id)
		}
	}
	return r, nil
}

// Resolve implements store.Accounts.
func (s *Store) Resolve(ctx context.Context, addr mailaddr.Address) (store.Route, error) {
	if addr.Domain() != s.domain {
		return store.Route{Remote: []mailaddr.Address{addr}}, ctx.Err()
	}
	route, known, since := s.routes.find(addr.Local())
	if known {
		return route, s.answers(ctx)
	}
	var names []string
	if name, err := mailaddr.CanonicalLocal(addr.Local()); err == nil {
		names = append(names, name)
		if base, _, tagged := strings.Cut(name, "+"); tagged {
			names = append(names, base)
		}
	}
	err := s.read(ctx, func(v *view) (err error) {
		for _, name := range names {
			if name == store.CatchAll || name == "" {
				continue // what is written so in an address is a mailbox name that nobody has
			}
			if route, err = v.leads(name, s.domain); err != nil || len(route.Local)+len(route.Forwards) > 0 {
				return err
			}
		}
		if route, err = v.leads(store.CatchAll, s.domain); err != nil {
			return err
		}
		if route.CatchAll = len(route.Local)+len(route.Forwards) > 0; !route.CatchAll {
			return fmt.Errorf("%s: %w", addr, store.ErrNotFound)
		}
		return nil
	})
	if err != nil {
		return store.Route{}, err
	}
	s.routes.keep(addr.Local(), route, since)
	return route, nil
}
