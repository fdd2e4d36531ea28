package webmanager

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/store"
	"latchkey/store/memstore"
)

// run starts Run and returns what stops it and waits.
func run(t *testing.T, api *API) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- api.Run(ctx) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
}

func settingsOf(t *testing.T, s Store) store.Settings {
	t.Helper()
	settings, err := s.Settings(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return settings
}

func timerEntries(t *testing.T, s Store) (list []store.AuditEntry) {
	t.Helper()
	entries, err := s.ListAudit(t.Context(), 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Actor == timerActor.Name {
			list = append(list, e)
		}
	}
	return list
}

// TestTimer: authentication is written on when its time has come, not before, whatever else is changed meanwhile; and the audit log and
// postmaster know.
func TestTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New(domain)
		api := New(Options{Store: s, Hasher: fakeHasher{}})
		client := InProcess(api, Actor{Role: RoleOperator, Name: "tester"})
		change := func(body map[string]any) {
			t.Helper()
			body["confirm"] = domain
			if err := client.Do(t.Context(), "PATCH", "/v1/settings", body, nil); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		if err := client.Do(t.Context(), "POST", "/v1/accounts", NewAccount{Name: "postmaster", Password: "12345678"}, nil); err != nil {
			t.Fatal(err)
		}
		stop := run(t, api)
		defer stop()
		change(map[string]any{"require_auth": false, "require_auth_for": "3h"})
		time.Sleep(2 * time.Hour)
		change(map[string]any{"require_auth_for": "90m"}) // half an hour later
		time.Sleep(90*time.Minute - time.Second)
		synctest.Wait()
		if now := settingsOf(t, s); now.RequireAuth || len(timerEntries(t, s)) > 0 {
			t.Errorf("a second before: got %+v", now)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if now := settingsOf(t, s); !now.RequireAuth || !now.RequireAuthAt.IsZero() {
			t.Errorf("after: got %+v", now)
		}
		entries := timerEntries(t, s)
		if len(entries) != 1 || entries[0].Action != "settings.change" || !strings.Contains(entries[0].Before, `"require_auth":false`) ||
			!strings.Contains(entries[0].After, `"require_auth":true`) {
			t.Errorf("audit: got %+v", entries)
		}
		var drop Account
		if err := client.Do(t.Context(), "GET", "/v1/accounts/postmaster", nil, &drop); err != nil || drop.Usage.Messages != 3 {
			t.Errorf("postmaster: got %+v, %v", drop, err)
		}
	})
}

// TestTimerCatchesUp: what came due while no server ran is written at the start; the figures know of the start.
func TestTimerCatchesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New(domain)
		settings := settingsOf(t, s)
		settings.RequireAuth, settings.RequireAuthAt = false, time.Now().Add(-time.Hour)
		if _, err := s.UpdateSettings(t.Context(), settings); err != nil {
			t.Fatal(err)
		}
		stop := run(t, New(Options{Store: s, Hasher: fakeHasher{}}))
		synctest.Wait()
		stop()
		if now := settingsOf(t, s); !now.RequireAuth || len(timerEntries(t, s)) != 1 {
			t.Errorf("got %+v", now)
		}
		stats, err := s.ListStats(t.Context(), 0, store.DayOf(time.Now()))
		if err != nil || len(stats) != 1 || stats[0] != (store.Stat{Day: store.DayOf(time.Now()), Name: statStarts, N: 1}) {
			t.Errorf("figures: got %+v, %v", stats, err)
		}
	})
}

// TestClockIsPutRight: a clock that jumps ahead is noticed within an hour, however long the timer still had to run.
func TestClockIsPutRight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, ahead := memstore.New(domain), atomic.Int64{}
		api := New(Options{Store: s, Hasher: fakeHasher{}, Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }})
		settings := settingsOf(t, s)
		settings.RequireAuth, settings.RequireAuthAt = false, time.Now().Add(20*24*time.Hour)
		if _, err := s.UpdateSettings(t.Context(), settings); err != nil {
			t.Fatal(err)
		}
		stop := run(t, api)
		defer stop()
		synctest.Wait()
		ahead.Store(int64(21 * 24 * time.Hour))
		time.Sleep(timerLook + time.Second)
		synctest.Wait()
		if !settingsOf(t, s).RequireAuth {
			t.Error("the jump was not noticed")
		}
	})
}

// refusingStore refuses the first updates of the settings.
type refusingStore struct {
	Store
	errs []error
}

func (s *refusingStore) UpdateSettings(ctx context.Context, settings store.Settings) (store.Settings, error) {
	if len(s.errs) > 0 {
		err := s.errs[0]
		s.errs = s.errs[1:]
		return store.Settings{}, err
	}
	return s.Store.UpdateSettings(ctx, settings)
}

// TestTimerTriesAgain: a disk that is full, or somebody who was quicker, does not end it; a closed store does.
func TestTimerTriesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New(domain)
		settings := settingsOf(t, s)
		settings.RequireAuth, settings.RequireAuthAt = false, time.Now()
		if _, err := s.UpdateSettings(t.Context(), settings); err != nil {
			t.Fatal(err)
		}
		refusing := &refusingStore{Store: s, errs: []error{store.ErrConflict, store.ErrNoSpace}}
		stop := run(t, New(Options{Store: refusing, Hasher: fakeHasher{}}))
		time.Sleep(timerRetry - time.Second)
		synctest.Wait()
		if settingsOf(t, s).RequireAuth {
			t.Error("written too early")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if !settingsOf(t, s).RequireAuth {
			t.Error("not tried again")
		}
		stop()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := New(Options{Store: s, Hasher: fakeHasher{}}).Run(t.Context()); !errors.Is(err, store.ErrClosed) {
			t.Errorf("closed: got %v", err)
		}
	})
}
