package memstore

import (
	"context"
	"maps"
	"slices"
	"time"

	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// NoteFailures implements store.Suppressions.
func (s *Store) NoteFailures(ctx context.Context, failures []store.Failure) error {
	if err := store.ValidateFailures(failures); err != nil {
		return err
	}
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.end()
	var now time.Time
	for _, f := range failures {
		key := f.Address.String()
		s.d.suppressions[key] = s.d.suppressions[key].Failed(f)
		if f.At.After(now) {
			now = f.At
		}
	}
	s.d.forgetSuppressions(now)
	return nil
}

func (d *data) forgetSuppressions(now time.Time) {
	for _, gone := range store.SurplusSuppressions(slices.Collect(maps.Values(d.suppressions)), now) {
		delete(d.suppressions, gone.Address.String())
	}
}

// PutSuppression implements store.Suppressions.
func (s *Store) PutSuppression(ctx context.Context, now time.Time, one store.Suppression) error {
	if err := one.Validate(); err != nil {
		return err
	}
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.end()
	key, manual := one.Address.String(), 0
	for other, known := range s.d.suppressions {
		if known.Manual && other != key {
			manual++
		}
	}
	if manual >= store.MaxSuppressions {
		return store.ErrBound
	}
	s.d.suppressions[key] = one
	s.d.forgetSuppressions(now)
	return nil
}

// Suppression implements store.Suppressions.
func (s *Store) Suppression(ctx context.Context, address mailaddr.Address) (store.Suppression, error) {
	if err := s.begin(ctx); err != nil {
		return store.Suppression{}, err
	}
	defer s.end()
	one, ok := s.d.suppressions[address.String()]
	if !ok {
		return store.Suppression{}, store.ErrNotFound
	}
	return one, nil
}

// ListSuppressions implements store.Suppressions.
func (s *Store) ListSuppressions(ctx context.Context, after string, limit int) ([]store.Suppression, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	defer s.end()
	var list []store.Suppression
	for _, key := range page(s.d.suppressions, after, limit) {
		list = append(list, s.d.suppressions[key])
	}
	return list, nil
}

// RemoveSuppression implements store.Suppressions.
func (s *Store) RemoveSuppression(ctx context.Context, address mailaddr.Address) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.end()
	key := address.String()
	if _, ok := s.d.suppressions[key]; !ok {
		return store.ErrNotFound
	}
	delete(s.d.suppressions, key)
	return nil
}
