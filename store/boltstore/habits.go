package boltstore

import (
	"context"
	"fmt"
	"slices"
	"time"

	"latchkey/store"
)

// habitHead is how much of a bHabits key is not its name: the account and the kind.
const habitHead = 8 + 1

func habitKey(account store.AccountID, kind store.HabitKind, name string) []byte {
	return append(append(key8(uint64(account)), byte(kind)), name...)
}

func encodeHabit(h *store.Habit) []byte {
	var e encoder
	e.time(h.First)
	e.time(h.Last)
	e.string(h.Text)
	return e.b
}

func decodeHabit(key, b []byte) (store.Habit, error) {
	if len(key) <= habitHead {
		return store.Habit{}, errShortRecord
	}
	d := decoder{b: b}
	h := store.Habit{
		Account: store.AccountID(id8(key)), Kind: store.HabitKind(key[8]), Name: string(key[habitHead:]),
		First: d.time(), Last: d.time(), Text: d.string(),
	}
	if d.err == nil && store.ValidateHabits([]store.Habit{h}) != nil {
		d.fail()
	}
	return h, d.err
}

// habits returns the habits of a kind of an account.
func (v *view) habits(account store.AccountID, kind store.HabitKind) (list []store.Habit, err error) {
	v.scan(bHabits, habitKey(account, kind, ""), nil, func(key, value []byte) bool {
		var h store.Habit
		if h, err = decodeHabit(key, value); err != nil {
			return false
		}
		list = append(list, h)
		return true
	})
	return list, err
}

// NoteHabits implements store.Habits.
func (s *Store) NoteHabits(ctx context.Context, seen []store.Habit) error {
	if err := store.ValidateHabits(seen); err != nil {
		return err
	}
	const perHabit = 120
	seen = slices.Clone(seen)
	return s.submit(ctx, &request{octets: perHabit * len(seen), apply: func(t *txn) error {
		type group struct {
			account store.AccountID
			kind    store.HabitKind
		}
		groups := make(map[group]map[string]store.Habit)
		var order []group
		for _, h := range seen {
			g := group{h.Account, h.Kind}
			if groups[g] == nil {
				if !t.has(bAccounts, key8(uint64(h.Account))) {
					continue
				}
				groups[g] = make(map[string]store.Habit)
				order = append(order, g)
			}
			if b := t.get(bHabits, habitKey(h.Account, h.Kind, h.Name)); b != nil {
				known, err := decodeHabit(habitKey(h.Account, h.Kind, h.Name), b)
				if err != nil {
					return err
				}
				h = known.With(h)
			}
			if before, ok := groups[g][h.Name]; ok {
				h = before.With(h)
			}
			groups[g][h.Name] = h
		}
		known := make([][]store.Habit, len(order))
		for i, g := range order {
			var err error
			if known[i], err = t.habits(g.account, g.kind); err != nil {
				return err
			}
		}
		for i, g := range order {
			t.putHabits(known[i], groups[g])
		}
		return nil
	}})
}

// ClaimHabit implements store.Habits.
func (s *Store) ClaimHabit(ctx context.Context, seen store.Habit, apart time.Duration) (claimed bool, err error) {
	if err := store.ValidateHabits([]store.Habit{seen}); err != nil {
		return false, err
	}
	err = s.write(ctx, func(t *txn) error {
		claimed = false
		if !t.has(bAccounts, key8(uint64(seen.Account))) {
			return nil
		}
		h, key := seen, habitKey(seen.Account, seen.Kind, seen.Name)
		if b := t.get(bHabits, key); b != nil {
			known, err := decodeHabit(key, b)
			if err != nil {
				return err
			}
			if known.SeenWithin(seen.Last, apart) {
				return nil
			}
			h = known.With(seen)
		}
		all, err := t.habits(seen.Account, seen.Kind)
		if err != nil {
			return err
		}
		t.putHabits(all, map[string]store.Habit{h.Name: h})
		claimed = true
		return nil
	})
	return claimed && err == nil, err
}

// putHabits writes habits of one account and kind beside those that there are, and takes out what is too much.
func (t *txn) putHabits(all []store.Habit, added map[string]store.Habit) {
	all = slices.DeleteFunc(all, func(h store.Habit) bool {
		_, again := added[h.Name]
		return again
	})
	for _, h := range added {
		all = append(all, h)
	}
	for _, h := range store.Surplus(all) {
		delete(added, h.Name)
		if key := habitKey(h.Account, h.Kind, h.Name); t.has(bHabits, key) {
			t.delete(bHabits, key)
		}
	}
	for _, h := range added {
		t.put(bHabits, habitKey(h.Account, h.Kind, h.Name), encodeHabit(&h))
	}
}

// KnownHabits implements store.Habits.
func (s *Store) KnownHabits(
	ctx context.Context, account store.AccountID, kind store.HabitKind, names ...string,
) (known []store.Habit, err error) {
	err = s.read(ctx, func(v *view) error {
		for _, name := range names {
			key := habitKey(account, kind, name)
			b := v.get(bHabits, key)
			if b == nil || name == "" {
				continue
			}
			h, err := decodeHabit(key, b)
			if err != nil {
				return err
			}
			known = append(known, h)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return known, nil
}

// ListHabits implements store.Habits.
func (s *Store) ListHabits(ctx context.Context, account store.AccountID, kind store.HabitKind, limit int) (list []store.Habit, err error) {
	err = s.read(ctx, func(v *view) (err error) {
		if account != 0 {
			list, err = v.habits(account, kind)
			return err
		}
		v.scan(bHabits, nil, nil, func(key, value []byte) bool {
			var h store.Habit
			if h, err = decodeHabit(key, value); err != nil {
				return false
			}
			if h.Kind == kind {
				list = append(list, h)
			}
			return true
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(list, store.CompareHabits)
	return list[:max(0, min(len(list), limit))], nil
}

// ForgetHabits implements store.Habits.
func (s *Store) ForgetHabits(ctx context.Context, account store.AccountID, kind store.HabitKind, names ...string) error {
	names = slices.Clone(names)
	return s.release(ctx, func(t *txn) error {
		if len(names) == 0 {
			t.removeHabits(habitKey(account, kind, ""))
			return nil
		}
		for _, name := range names {
			if key := habitKey(account, kind, name); name != "" && t.has(bHabits, key) {
				t.delete(bHabits, key)
			}
		}
		return nil
	})
}

// removeHabits forgets the habits whose key begins with prefix.
func (t *txn) removeHabits(prefix []byte) {
	var keys [][]byte
	t.scan(bHabits, prefix, nil, func(key, _ []byte) bool {
		keys = append(keys, slices.Clone(key))
		return true
	})
	for _, key := range keys {
		t.delete(bHabits, key)
	}
}

func habitObject(key []byte) string {
	return fmt.Sprintf("habit %q of account %d", key[8:], id8(key))
}
