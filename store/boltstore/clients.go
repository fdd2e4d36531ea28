package boltstore

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"latchkey/store"
)

// clientKeyLen is the length of a bClients key: an account and the number of one of its clients, from 0.
const clientKeyLen = 8 + 1

func clientKey(account store.AccountID, number int) []byte {
	return append(key8(uint64(account)), byte(number))
}

func encodeClient(c *store.Client) []byte {
	var e encoder
	for _, text := range []string{c.Program, c.Door, c.Mechanism, c.TLS, c.Device} {
		e.string(text)
	}
	e.addr(c.Address)
	e.time(c.First)
	e.time(c.Last)
	for _, n := range []int64{c.Sessions, c.Fetched, c.Deleted, c.Keeps} {
		e.uvarint(uint64(n))
	}
	return e.b
}

func decodeClient(key, b []byte) (store.Client, error) {
	if len(key) != clientKeyLen || key[8] >= store.MaxClients {
		return store.Client{}, errShortRecord
	}
	d := decoder{b: b}
	c := store.Client{
		Account: store.AccountID(id8(key)), Program: d.string(), Door: d.string(), Mechanism: d.string(), TLS: d.string(), Device: d.string(),
		Address: d.addr(), First: d.time(), Last: d.time(),
		Sessions: int64(d.uvarint()), Fetched: int64(d.uvarint()), Deleted: int64(d.uvarint()), Keeps: int64(d.uvarint()),
	}
	if d.err == nil && (c != c.Cleaned() || min(c.Sessions, c.Fetched, c.Deleted, c.Keeps) < 0) {
		d.fail()
	}
	return c, d.err
}

// accountClients are the clients of one account, in a transaction that adds to them.
type accountClients struct {
	list    []store.Client // in order of their numbers
	numbers []int
	changed []bool
}

// clients returns the clients that are known of an account.
func (t *txn) clients(account store.AccountID) (*accountClients, error) {
	a := &accountClients{}
	var err error
	t.scan(bClients, key8(uint64(account)), nil, func(key, value []byte) bool {
		var c store.Client
		if c, err = decodeClient(key, value); err != nil {
			return false
		}
		a.list, a.numbers, a.changed = append(a.list, c), append(a.numbers, int(key[8])), append(a.changed, false)
		return true
	})
	return a, err
}

// note adds what was seen of a client.
func (a *accountClients) note(seen store.Client) {
	i, is, ok := store.PlaceClient(a.list, seen)
	switch {
	case !ok:
		return
	case is:
		a.list[i] = a.list[i].With(seen)
	case i == len(a.list):
		a.list, a.numbers, a.changed = append(a.list, seen), append(a.numbers, a.free()), append(a.changed, false)
	default:
		a.list[i] = seen
	}
	a.changed[i] = true
}

// free returns the lowest number that no client has.
func (a *accountClients) free() int {
	for n := 0; ; n++ {
		if !slices.Contains(a.numbers, n) {
			return n
		}
	}
}

// NoteClients implements store.Clients.
func (s *Store) NoteClients(ctx context.Context, seen []store.Client) error {
	if err := store.ValidateClients(seen); err != nil {
		return err
	}
	const perClient = 200
	seen = slices.Clone(seen)
	for i := range seen {
		seen[i] = seen[i].Cleaned()
	}
	return s.submit(ctx, &request{octets: perClient * len(seen), apply: func(t *txn) error {
		all := make(map[store.AccountID]*accountClients)
		var order []store.AccountID
		for _, c := range seen {
			if all[c.Account] == nil {
				if !t.has(bAccounts, key8(uint64(c.Account))) {
					continue
				}
				a, err := t.clients(c.Account)
				if err != nil {
					return err
				}
				all[c.Account] = a
				order = append(order, c.Account)
			}
			all[c.Account].note(c)
		}
		for _, id := range order {
			a := all[id]
			for i := range a.list {
				if a.changed[i] {
					t.put(bClients, clientKey(id, a.numbers[i]), encodeClient(&a.list[i]))
				}
			}
		}
		return nil
	}})
}

// ListClients implements store.Clients.
func (s *Store) ListClients(ctx context.Context, account store.AccountID, limit int) (list []store.Client, err error) {
	var prefix []byte
	if account != 0 {
		prefix = key8(uint64(account))
	}
	var read error
	err = s.read(ctx, func(v *view) error {
		v.scan(bClients, prefix, nil, func(key, value []byte) bool {
			var c store.Client
			if c, read = decodeClient(key, value); read != nil {
				return false
			}
			if n := len(list); n > 0 && n >= limit && list[n-1].Account != c.Account {
				return false // all of the accounts before is there, and enough
			}
			list = append(list, c)
			return true
		})
		return read
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(list, func(a, b store.Client) int {
		return cmp.Or(cmp.Compare(a.Account, b.Account), store.CompareClients(a, b))
	})
	return list[:max(0, min(len(list), limit))], nil
}

// removeClients forgets the clients of an account.
func (t *txn) removeClients(account store.AccountID) {
	for n := range store.MaxClients {
		if key := clientKey(account, n); t.has(bClients, key) {
			t.delete(bClients, key)
		}
	}
}

// clientSeeker looks at the clients of all accounts in the order of their keys.
type clientSeeker struct {
	v      *view
	before []store.Client // of the same account
}

// stray says why there should be no such client, or "".
func (k *clientSeeker) stray(key []byte, c store.Client) (why string) {
	if len(k.before) > 0 && k.before[0].Account != c.Account {
		k.before = k.before[:0]
	}
	switch {
	case !k.v.has(bAccounts, key[:8]):
		why = fmt.Sprintf("account %d does not exist", c.Account)
	case slices.ContainsFunc(k.before, c.Same):
		why = "the account has it twice"
	}
	k.before = append(k.before, c)
	return why
}

func clientObject(key []byte) string { return fmt.Sprintf("client %d of account %d", key[8], id8(key)) }
