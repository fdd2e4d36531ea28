package memstore

import (
	"context"
	"maps"
	"slices"
	"strings"

	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// Account implements store.Accounts.
func (s *Store) Account(ctx context.Context, id store.AccountID) (store.Account, error) {
	if err := s.begin(ctx); err != nil {
		return store.Account{}, err
	}
	defer s.end()
	return s.d.account(id)
}

// AccountByName implements store.Accounts.
func (s *Store) AccountByName(ctx context.Context, name string) (store.Account, error) {
	if err := s.begin(ctx); err != nil {
		return store.Account{}, err
	}
	defer s.end()
	return s.d.account(s.d.names[name])
}

// account returns the caller's own record of an account.
func (d *data) account(id store.AccountID) (store.Account, error) {
	a := d.accounts[id]
	if a == nil {
		return store.Account{}, store.ErrNotFound
	}
	return clone(a.Account), nil
}

func clone(a store.Account) store.Account {
	a.SendAs = slices.Clone(a.SendAs)
	a.Forward.To = slices.Clone(a.Forward.To)
	return a
}

// ListAccounts implements store.Accounts.
func (s *Store) ListAccounts(ctx context.Context, after string, limit int) ([]store.Account, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	defer s.end()
	var list []store.Account
	for _, name := range page(s.d.names, after, limit) {
		list = append(list, clone(s.d.accounts[s.d.names[name]].Account))
	}
	return list, nil
}

// page returns up to limit keys after the given one, in order.
func page[V any](m map[string]V, after string, limit int) []string {
	keys := slices.Sorted(maps.Keys(m))
	i, found := slices.BinarySearch(keys, after)
	if found {
		i++
	}
	return keys[i:min(len(keys), i+max(limit, 0))]
}

// AddAccount implements store.Accounts.
func (s *Store) AddAccount(ctx context.Context, a store.Account) (store.Account, error) {
	if err := a.Validate(); err != nil {
		return store.Account{}, err
	}
	if err := s.begin(ctx); err != nil {
		return store.Account{}, err
	}
	defer s.end()
	if s.d.taken(a.Name) {
		return store.Account{}, store.ErrExists
	}
	s.d.lastAccount++
	a.ID, a.CredentialVersion, a.Version, a.Sealed = s.d.lastAccount, 1, 1, ""
	s.d.accounts[a.ID] = &account{Account: clone(a)}
	s.d.names[a.Name] = a.ID
	return clone(a), nil
}

func (d *data) taken(name string) bool {
	_, account := d.names[name]
	_, alias := d.aliases[name]
	return account || alias
}

// UpdateAccount implements store.Accounts.
func (s *Store) UpdateAccount(ctx context.Context, a store.Account) (store.Account, error) {
	if err := a.Validate(); err != nil {
		return store.Account{}, err
	}
	if err := s.begin(ctx); err != nil {
		return store.Account{}, err
	}
	defer s.end()
	old := s.d.accounts[a.ID]
	switch {
	case old == nil:
		return store.Account{}, store.ErrNotFound
	case a.Version != old.Version:
		return store.Account{}, store.ErrConflict
	case a.Name != old.Name && s.d.taken(a.Name):
		return store.Account{}, store.ErrExists
	case a.Name != old.Name && s.d.strands(change{freed: old.Name, added: a.Name}):
		return store.Account{}, store.ErrReserved
	}
	a.Succeed(old.Account, s.d.settings)
	delete(s.d.names, old.Name)
	s.d.names[a.Name] = a.ID
	old.Account = clone(a)
	return clone(a), nil
}

// ExpireDaysInUse implements store.Accounts.
func (s *Store) ExpireDaysInUse(ctx context.Context) ([]int, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	defer s.end()
	days := map[int]bool{}
	for _, a := range s.d.accounts {
		days[a.ExpireDays] = true
	}
	delete(days, 0)
	return slices.Sorted(maps.Keys(days)), nil
}

// SealPassword implements store.Accounts.
func (s *Store) SealPassword(ctx context.Context, id store.AccountID, credentialVersion uint64, sealed store.Sealed) error {
	if err := store.CheckSealed(sealed); err != nil {
		return err
	}
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.end()
	a := s.d.accounts[id]
	if a == nil {
		return store.ErrNotFound
	}
	if a.CredentialVersion != credentialVersion || !a.MaySeal(s.d.settings) {
		return store.ErrConflict
	}
	a.Sealed = sealed
	return nil
}

// RemoveAccount implements store.Accounts.
func (s *Store) RemoveAccount(ctx context.Context, id store.AccountID) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.end()
	a := s.d.accounts[id]
	if a == nil {
		return store.ErrNotFound
	}
	if s.d.strands(change{freed: a.Name, removed: id}) {
		return store.ErrReserved
	}
	for _, c := range a.copies {
		s.d.release(c.Of)
	}
	s.d.usage = s.d.usage.Minus(a.usage)
	delete(s.d.accounts, id)
	delete(s.d.names, a.Name)
	maps.DeleteFunc(s.d.grants, func(_ store.GrantID, g *store.Grant) bool { return g.Account == id })
	for name, alias := range s.d.aliases {
		alias.Targets = slices.DeleteFunc(slices.Clone(alias.Targets), func(t store.AccountID) bool { return t == id })
		if s.d.aliases[name] = alias; len(alias.Targets)+len(alias.Outside) == 0 {
			delete(s.d.aliases, name)
		}
	}
	return nil
}

// change is what a verb is about to do to the names: zero fields are no part of it.
type change struct {
	freed   string          // no account has this name any more
	added   string          // an account has this name
	alias   string          // this alias is gone
	removed store.AccountID // no alias leads to this account any more
}

// strands reports whether a change would make postmaster or abuse, which lead to a mailbox now, lead nowhere (RFC 2142 §5).
func (d *data) strands(c change) bool {
	for _, name := range []string{"postmaster", "abuse"} {
		if d.leads(name, change{}) && !d.leads(name, c) {
			return true
		}
	}
	return false
}

// leads reports whether mail for a name would have somewhere to go after a change.
func (d *data) leads(name string, c change) bool {
	if _, ok := d.names[name]; ok && name != c.freed || name == c.added {
		return true
	}
	for _, alias := range []string{name, store.CatchAll} {
		if alias != c.alias && slices.ContainsFunc(d.aliases[alias].Targets, func(id store.AccountID) bool { return id != c.removed }) {
			return true
		}
	}
	return false
}

// ListAliases implements store.Accounts.
func (s *Store) ListAliases(ctx context.Context, after string, limit int) ([]store.Alias, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	defer s.end()
	var list []store.Alias
	for _, name := range page(s.d.aliases, after, limit) {
		list = append(list, cloneAlias(s.d.aliases[name]))
	}
	return list, nil
}

func cloneAlias(a store.Alias) store.Alias {
	a.Targets, a.Outside = slices.Clone(a.Targets), slices.Clone(a.Outside)
	return a
}

// PutAlias implements store.Accounts.
func (s *Store) PutAlias(ctx context.Context, a store.Alias) error {
	if err := a.Validate(); err != nil {
		return err
	}
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.end()
	if _, ok := s.d.names[a.Name]; ok {
		return store.ErrExists
	}
	for _, id := range a.Targets {
		if s.d.accounts[id] == nil {
			return store.ErrNotFound
		}
	}
	if len(a.Targets) == 0 && s.d.strands(change{alias: a.Name}) {
		return store.ErrReserved
	}
	s.d.aliases[a.Name] = cloneAlias(a)
	return nil
}

// RemoveAlias implements store.Accounts.
func (s *Store) RemoveAlias(ctx context.Context, name string) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.end()
	if _, ok := s.d.aliases[name]; !ok {
		return store.ErrNotFound
	}
	if s.d.strands(change{alias: name}) {
		return store.ErrReserved
	}
	delete(s.d.aliases, name)
	return nil
}

// LentTo implements store.Accounts.
func (s *Store) LentTo(ctx context.Context, addr mailaddr.Address) ([]store.AccountID, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	defer s.end()
	var ids []store.AccountID
	name := store.LentName(addr, s.d.settings.Domain)
	for id, a := range s.d.accounts {
		if slices.ContainsFunc(a.SendAs, func(lent mailaddr.Address) bool { return store.LentName(lent, s.d.settings.Domain) == name }) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids, nil
}

// Resolve implements store.Accounts.
func (s *Store) Resolve(ctx context.Context, addr mailaddr.Address) (store.Route, error) {
	if err := s.begin(ctx); err != nil {
		return store.Route{}, err
	}
	defer s.end()
	if addr.Domain() != s.d.settings.Domain {
		return store.Route{Remote: []mailaddr.Address{addr}}, nil
	}
	base, _, _ := strings.Cut(addr.Local(), "+")
	for _, local := range []string{addr.Local(), base} {
		name, err := mailaddr.CanonicalLocal(local)
		if err != nil || name == store.CatchAll {
			continue // no account or alias can have this name
		}
		if id, ok := s.d.names[name]; ok {
			return s.d.route(store.Alias{Targets: []store.AccountID{id}}), nil
		}
		if alias, ok := s.d.aliases[name]; ok {
			return s.d.route(alias), nil
		}
	}
	if alias, ok := s.d.aliases[store.CatchAll]; ok {
		r := s.d.route(alias)
		r.CatchAll = true
		return r, nil
	}
	return store.Route{}, store.ErrNotFound
}

// route is where an alias leads, or one account.
func (d *data) route(alias store.Alias) store.Route {
	r := store.Route{Local: slices.Clone(alias.Targets)}
	r.AddForwards(alias.Forwards(d.settings.Domain))
	for _, id := range alias.Targets {
		r.AddForwards(d.accounts[id].Forwards(d.settings.Domain))
		if d.accounts[id].Vacation.On {
			r.Away = append(r.Away, id)
		}
	}
	return r
}
