package boltstore

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"time"

	"latchkey/store"
)

// cachedDays is how many written days stay in memory.
const cachedDays = 3

// day holds a day's complete figures, as the index has them or will have them.
type day struct {
	figures map[string]int64
	dirty   map[string]struct{}
}

// AddStat implements store.Stats.
func (s *Store) AddStat(ctx context.Context, date store.Day, name string, n int64) error {
	if name == "" || len(name) > store.MaxStatName {
		return fmt.Errorf("%w: a figure's name has 1 to %d octets", store.ErrInvalid, store.MaxStatName)
	}
	if s.isClosing() {
		return store.ErrClosed
	}
	z := &s.lazy
	z.mu.Lock()
	defer z.mu.Unlock()
	d, err := s.day(ctx, date)
	if err != nil {
		return err
	}
	if _, known := d.figures[name]; !known && uint64(len(d.figures)) >= s.bounds.statNames {
		return nil // further names are not counted
	}
	d.figures[name] += n
	d.dirty[name] = struct{}{}
	s.flushSoon()
	return nil
}

// Stat implements store.Stats.
func (s *Store) Stat(ctx context.Context, date store.Day, name string) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if s.isClosing() {
		return 0, store.ErrClosed
	}
	z := &s.lazy
	z.mu.Lock()
	defer z.mu.Unlock()
	if d := z.days[date]; d != nil {
		return d.figures[name], nil
	}
	n := int64(0)
	err := s.read(ctx, func(v *view) error {
		if b := v.get(bStats, statKey(date, name)); b != nil {
			n = statValue(b)
		}
		return nil
	})
	return n, err
}

// day returns a day's figures from memory, or from the index. z.mu is held.
func (s *Store) day(ctx context.Context, date store.Day) (*day, error) {
	z := &s.lazy
	if d := z.days[date]; d != nil {
		return d, ctx.Err()
	}
	d := &day{figures: make(map[string]int64), dirty: make(map[string]struct{})}
	err := s.read(ctx, func(v *view) error {
		v.scan(bStats, statPrefix(date), nil, func(key, value []byte) bool {
			d.figures[string(key[4:])] = statValue(value)
			return true
		})
		return nil
	})
	if err != nil {
		return nil, err
	}
	z.days[date] = d
	return d, nil
}

func statValue(b []byte) int64 {
	d := decoder{b: b}
	return d.varint()
}

// takeFigures takes a bounded number of dirty figures, and lets go of days that are written. z.mu is held.
func (z *lazy) takeFigures() (figures []store.Stat) {
	for date, d := range z.days {
		for name := range d.dirty {
			if len(figures) == flushedPerGroup {
				return figures
			}
			figures = append(figures, store.Stat{Day: date, Name: name, N: d.figures[name]})
			delete(d.dirty, name)
		}
	}
	if len(figures) > 0 {
		return figures
	}
	// Everything is in the index, so any day may go; the latest ones are those that will be asked for.
	if dates := slices.Sorted(maps.Keys(z.days)); len(dates) > cachedDays {
		for _, date := range dates[:len(dates)-cachedDays] {
			delete(z.days, date)
		}
	}
	return nil
}

// writeStats writes complete figures, and forgets days beyond the bound.
func (t *txn) writeStats(figures []store.Stat) {
	var latest store.Day
	for _, f := range figures {
		var e encoder
		e.varint(f.N)
		t.put(bStats, statKey(f.Day, f.Name), e.b)
	}
	if key, _ := t.bucket(bStats).Cursor().Last(); key != nil {
		latest = store.Day(binary.BigEndian.Uint32(key))
	}
	var old [][]byte
	t.scan(bStats, nil, nil, func(key, _ []byte) bool {
		if store.Day(binary.BigEndian.Uint32(key)) >= oldestDay(latest) || len(old) == 2*flushedPerGroup {
			return false
		}
		old = append(old, slices.Clone(key))
		return true
	})
	for _, key := range old {
		t.delete(bStats, key)
	}
}

// oldestDay returns the first of the store.MaxStatDays days that end with latest.
func oldestDay(latest store.Day) store.Day {
	y, m, d := int(latest/10_000), time.Month(latest/100%100), int(latest%100)
	return store.DayOf(time.Date(y, m, d-store.MaxStatDays+1, 0, 0, 0, 0, time.UTC))
}

// ListStats implements store.Stats.
func (s *Store) ListStats(ctx context.Context, from, to store.Day) ([]store.Stat, error) {
	z := &s.lazy
	z.mu.Lock()
	defer z.mu.Unlock()
	var stats []store.Stat
	var latest store.Day
	err := s.read(ctx, func(v *view) error {
		if key, _ := v.bucket(bStats).Cursor().Last(); key != nil {
			latest = store.Day(binary.BigEndian.Uint32(key))
		}
		v.scan(bStats, nil, statPrefix(from), func(key, value []byte) bool {
			date := store.Day(binary.BigEndian.Uint32(key))
			if z.days[date] == nil && date <= to {
				stats = append(stats, store.Stat{Day: date, Name: string(key[4:]), N: statValue(value)})
			}
			return date <= to
		})
		return nil
	})
	if err != nil {
		return nil, err
	}
	for date, d := range z.days {
		for name, n := range d.figures {
			latest = max(latest, date)
			if from <= date && date <= to {
				stats = append(stats, store.Stat{Day: date, Name: name, N: n})
			}
		}
	}
	stats = slices.DeleteFunc(stats, func(f store.Stat) bool { return f.Day < oldestDay(latest) })
	slices.SortFunc(stats, func(a, b store.Stat) int { return cmp.Or(cmp.Compare(a.Day, b.Day), cmp.Compare(a.Name, b.Name)) })
	return stats, nil
}
