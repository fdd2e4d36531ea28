package memstore

import (
	"context"
	"maps"
	"slices"

	"latchkey/store"
)

// NoteClients implements store.Clients.
func (s *Store) NoteClients(ctx context.Context, seen []store.Client) error {
	if err := store.ValidateClients(seen); err != nil {
		return err
	}
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.end()
	for _, c := range seen {
		a := s.d.accounts[c.Account]
		if a == nil {
			continue
		}
		c = c.Cleaned()
		i, is, ok := store.PlaceClient(a.clients, c)
		switch {
		case !ok:
		case is:
			a.clients[i] = a.clients[i].With(c)
		case i == len(a.clients):
			a.clients = append(a.clients, c)
		default:
			a.clients[i] = c
		}
	}
	return nil
}

// ListClients implements store.Clients.
func (s *Store) ListClients(ctx context.Context, account store.AccountID, limit int) ([]store.Client, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	defer s.end()
	var list []store.Client
	for _, id := range slices.Sorted(maps.Keys(s.d.accounts)) {
		if account == 0 || account == id {
			list = append(list, slices.SortedFunc(slices.Values(s.d.accounts[id].clients), store.CompareClients)...)
		}
	}
	return list[:max(0, min(len(list), limit))], nil
}
