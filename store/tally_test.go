package store_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/internal/refusal"
	"latchkey/store"
	"latchkey/store/memstore"
)

// slowStats counts what is asked of it, and refuses while failing is set.
type slowStats struct {
	store.Stats
	adds    int
	failing atomic.Bool
}

func (s *slowStats) AddStat(ctx context.Context, day store.Day, name string, n int64) error {
	if s.failing.Load() {
		return errors.New("no")
	}
	s.adds++
	return s.Stats.AddStat(ctx, day, name, n)
}

// tallying runs a Tally over a store in memory, at midnight in synctest's year 2000.
func tallying(t *testing.T) (*store.Tally, *slowStats, func()) {
	t.Helper()
	mem := memstore.New("example.com")
	stats := &slowStats{Stats: mem}
	tally := store.NewTally(stats, time.Now, nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tally.Run(ctx)
	}()
	var once sync.Once
	stop := func() {
		once.Do(func() {
			cancel()
			<-done
			tally.Close()
		})
	}
	t.Cleanup(func() {
		stop()
		_ = mem.Close()
	})
	synctest.Wait()
	return tally, stats, stop
}

// lister is the store, or the Tally over it.
type lister interface {
	ListStats(ctx context.Context, from, to store.Day) ([]store.Stat, error)
}

func figures(t *testing.T, s lister, day store.Day) (list []string) {
	t.Helper()
	stats, err := s.ListStats(t.Context(), day, day)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range stats {
		list = append(list, fmt.Sprint(s.Name, " ", s.N))
	}
	return list
}

func want(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

// TestTally: what is counted is written down within a minute, however often it happens, and is seen before that by whoever asks the Tally.
func TestTally(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tally, stats, stop := tallying(t)
		today := store.DayOf(time.Now())
		for range 1000 {
			tally.Count(store.DailyReceived, 1)
			tally.Refused(refusal.RelayDenied)
		}
		tally.Refused("no such refusal")
		for service := range map[string]bool{"pop3": true, "smtp": true, "web": true, "nothing": true} {
			tally.Login(service, true)
			tally.Login(service, false)
			tally.Login(service, false)
		}
		all := []string{
			"day/login-refused/pop3 2", "day/login-refused/smtp 2", "day/login-refused/web 2", "day/login/pop3 1", "day/login/smtp 1", "day/login/web 1",
			"day/received 1000", "day/refused/relay-denied 1000",
		}
		want(t, "before", figures(t, stats, today))
		want(t, "pending", figures(t, tally, today), all...)
		time.Sleep(time.Minute - time.Nanosecond)
		synctest.Wait()
		want(t, "just before a minute", figures(t, stats, today))
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		written := slices.Insert(slices.Clone(all), 6, "day/ran 1")
		want(t, "after a minute", figures(t, stats, today), written...)
		want(t, "and not twice", figures(t, tally, today), written...)
		if stats.adds != len(written) {
			t.Errorf("%d calls of the store for %d figures", stats.adds, len(written))
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if stats.adds != len(written) {
			t.Errorf("%d calls of the store while nothing happened", stats.adds-len(written))
		}
		tally.Count(store.DailyReceived, 2)
		tally.Count(store.DailyFetched, 3)
		merged := slices.Insert(slices.Clone(written), 0, "day/fetched 3")
		merged[8] = "day/received 1002"
		want(t, "both", figures(t, tally, today), merged...)
		stop()
		want(t, "after Close", figures(t, stats, today), merged...)
	})
}

// TestTallyMidnight: what happens before midnight is of that day, and what happens after it of the next, which is marked too when nothing happens.
func TestTallyMidnight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tally, stats, _ := tallying(t)
		first := store.DayOf(time.Now())
		time.Sleep(24*time.Hour - 30*time.Second - time.Nanosecond)
		tally.Count(store.DailyFailed, 1)
		time.Sleep(30 * time.Second)
		tally.Count(store.DailyFailed, 10) // the last moment of the day
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		second := store.DayOf(time.Now())
		tally.Count(store.DailyFailed, 100)
		want(t, "the first day", figures(t, stats, first), "day/failed 11", "day/ran 1")
		want(t, "the second day, pending", figures(t, tally, second), "day/failed 100")
		want(t, "the first day is not added to", figures(t, tally, first), "day/failed 11", "day/ran 1")
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		want(t, "the second day", figures(t, stats, second), "day/failed 100", "day/ran 1")
		time.Sleep(time.Minute)
		synctest.Wait()
		want(t, "a day without anything", figures(t, stats, store.DayOf(time.Now())), "day/ran 1")
	})
}

// TestTallyKeeps: what the store does not take is kept, and written down later, for the day on which it happened.
func TestTallyKeeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tally, stats, stop := tallying(t)
		today := store.DayOf(time.Now())
		stats.failing.Store(true)
		tally.Count(store.DailyDelivered, 5)
		time.Sleep(24*time.Hour + time.Minute)
		synctest.Wait()
		tally.Count(store.DailyDelivered, 1)
		want(t, "kept", figures(t, tally, today), "day/delivered 6", "day/ran 1")
		stats.failing.Store(false)
		stop()
		want(t, "written", figures(t, stats, today), "day/delivered 6", "day/ran 1")
	})
}

// TestTallyNames: every figure has a name of its own that the store takes, and there are far fewer than a day may have.
func TestTallyNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tally, stats, stop := tallying(t)
		n := 0
		for d := store.Daily(0); d.String() != "no figure"; d++ {
			tally.Count(d, 1)
			n++
		}
		for _, row := range refusal.All() {
			tally.Refused(row.Name)
			n++
			if name, ok := store.RefusalOf(store.DailyRefused(row.Name)); name != row.Name || !ok {
				t.Errorf("%s is %q, %t", row.Name, name, ok)
			}
		}
		stop()
		got := figures(t, stats, store.DayOf(time.Now()))
		if len(got) != n || len(slices.Compact(got)) != n || n > store.MaxStatNames/10 {
			t.Errorf("%d names for %d figures", len(got), n)
		}
		if _, ok := store.RefusalOf(store.DailyReceived.String()); ok {
			t.Error("a figure of mail is taken for one of a refusal")
		}
	})
}

// TestTallyCost: to count makes no garbage, and without a Tally does nothing.
func TestTallyCost(t *testing.T) {
	mem := memstore.New("example.com")
	defer func() { _ = mem.Close() }()
	for _, tally := range []*store.Tally{store.NewTally(mem, nil, nil), nil} {
		if n := testing.AllocsPerRun(100, func() {
			tally.Count(store.DailyReceived, 1)
			tally.Login("pop3", true)
			tally.Refused(refusal.RelayDenied)
		}); n != 0 {
			t.Errorf("%v allocations", n)
		}
	}
}

// TestTallyConcurrent: nothing is lost or counted twice while others list and write down.
func TestTallyConcurrent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tally, stats, stop := tallying(t)
		today := store.DayOf(time.Now())
		var running sync.WaitGroup
		for range 8 {
			running.Go(func() {
				for range 500 {
					tally.Count(store.DailyReceived, 1)
					time.Sleep(time.Second)
				}
			})
		}
		seen := int64(0)
		for range 600 {
			time.Sleep(time.Second)
			list, err := tally.ListStats(t.Context(), today, today)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range list {
				if s.Name == store.DailyReceived.String() {
					if s.N < seen {
						t.Fatalf("%d after %d", s.N, seen)
					}
					seen = s.N
				}
			}
		}
		running.Wait()
		stop()
		want(t, "at the end", figures(t, stats, today), "day/ran 1", "day/received 4000")
	})
}
