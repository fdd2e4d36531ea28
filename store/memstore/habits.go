package memstore

import (
	"context"
	"maps"
	"slices"
	"time"

	"latchkey/store"
)

// habits are those of one account, by kind and name.
type habits map[store.HabitKind]map[string]store.Habit

// NoteHabits implements store.Habits.
func (s *Store) NoteHabits(ctx context.Context, seen []store.Habit) error {
	if err := store.ValidateHabits(seen); err != nil {
		return err
	}
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.end()
	s.d.noteHabits(seen)
	return nil
}

func (d *data) noteHabits(seen []store.Habit) {
	for _, h := range seen {
		a := d.accounts[h.Account]
		if a == nil {
			continue
		}
		if a.habits == nil {
			a.habits = habits{}
		}
		if a.habits[h.Kind] == nil {
			a.habits[h.Kind] = map[string]store.Habit{}
		}
		if known, ok := a.habits[h.Kind][h.Name]; ok {
			h = known.With(h)
		}
		a.habits[h.Kind][h.Name] = h
	}
	for _, h := range seen {
		if a := d.accounts[h.Account]; a != nil && len(a.habits[h.Kind]) > store.MaxHabits(h.Kind) {
			for _, gone := range store.Surplus(a.habitsOf(h.Kind)) {
				delete(a.habits[h.Kind], gone.Name)
			}
		}
	}
}

// ClaimHabit implements store.Habits.
func (s *Store) ClaimHabit(ctx context.Context, seen store.Habit, apart time.Duration) (claimed bool, err error) {
	if err := store.ValidateHabits([]store.Habit{seen}); err != nil {
		return false, err
	}
	if err := s.begin(ctx); err != nil {
		return false, err
	}
	defer s.end()
	a := s.d.accounts[seen.Account]
	if a == nil {
		return false, nil
	}
	if known, ok := a.habits[seen.Kind][seen.Name]; ok && known.SeenWithin(seen.Last, apart) {
		return false, nil
	}
	s.d.noteHabits([]store.Habit{seen})
	return true, nil
}

func (a *account) habitsOf(kind store.HabitKind) []store.Habit {
	return slices.AppendSeq(make([]store.Habit, 0, len(a.habits[kind])), maps.Values(a.habits[kind]))
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
			if h, ok := a.habits[kind][name]; ok {
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
		names = slices.Collect(maps.Keys(a.habits[kind]))
	}
	for _, name := range names {
		delete(a.habits[kind], name)
	}
	return nil
}
