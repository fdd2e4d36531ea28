package memstore

import (
	"context"
	"slices"

	"latchkey/store"
)

// habitKey is what names a habit of an account.
type habitKey struct {
	kind store.HabitKind
	name string
}

// NoteHabits implements store.Habits.
func (s *Store) NoteHabits(ctx context.Context, seen []store.Habit) error {
	if err := store.ValidateHabits(seen); err != nil {
		return err
	}
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.end()
	for _, h := range seen {
		a := s.d.accounts[h.Account]
		if a == nil {
			continue
		}
		if a.habits == nil {
			a.habits = map[habitKey]store.Habit{}
		}
		key := habitKey{h.Kind, h.Name}
		if known, ok := a.habits[key]; ok {
			h = known.With(h)
		}
		a.habits[key] = h
	}
	done := map[store.Habit]bool{}
	for _, h := range seen {
		group := store.Habit{Account: h.Account, Kind: h.Kind}
		if a := s.d.accounts[h.Account]; a != nil && !done[group] {
			done[group] = true
			for _, gone := range store.Surplus(a.habitsOf(h.Kind)) {
				delete(a.habits, habitKey{gone.Kind, gone.Name})
			}
		}
	}
	return nil
}

func (a *account) habitsOf(kind store.HabitKind) (list []store.Habit) {
	for key, h := range a.habits {
		if key.kind == kind {
			list = append(list, h)
		}
	}
	return list
}

// KnownHabits implements store.Habits.
func (s *Store) KnownHabits(ctx context.Context, account store.AccountID, kind store.HabitKind, names ...string) ([]store.Habit, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	defer s.end()
	var known []store.Habit
	if a := s.d.accounts[account]; a != nil {
		for _, name := range names {
			if h, ok := a.habits[habitKey{kind, name}]; ok {
				known = append(known, h)
			}
		}
	}
	return known, nil
}

// ListHabits implements store.Habits.
func (s *Store) ListHabits(ctx context.Context, account store.AccountID, kind store.HabitKind, limit int) ([]store.Habit, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	defer s.end()
	var list []store.Habit
	for id, a := range s.d.accounts {
		if account == 0 || account == id {
			list = append(list, a.habitsOf(kind)...)
		}
	}
	slices.SortFunc(list, store.CompareHabits)
	return list[:max(0, min(len(list), limit))], nil
}

// ForgetHabits implements store.Habits.
func (s *Store) ForgetHabits(ctx context.Context, account store.AccountID, kind store.HabitKind, names ...string) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.end()
	a := s.d.accounts[account]
	if a == nil {
		return nil
	}
	if len(names) == 0 {
		for _, h := range a.habitsOf(kind) {
			names = append(names, h.Name)
		}
	}
	for _, name := range names {
		delete(a.habits, habitKey{kind, name})
	}
	return nil
}
