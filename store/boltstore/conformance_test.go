package boltstore

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"latchkey/store"
	"latchkey/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// engine runs the conformance suite on a data directory.
type engine struct {
	dir string
	o   Options
	s   *Store
}

// testBounds are small enough to be reached in a moment.
func testBounds() bounds {
	return bounds{counters: 300, grants: 60, accountGrants: 20, sessions: 200, entries: 150, statNames: 100, events: 500, reservations: 40, tailEntries: 100, tailOctets: 64 << 10, compact: 64 << 10, journal: smallJournal, idle: uint64(time.Hour), indexDelay: uint64(time.Second)}
}

func newEngine(t *testing.T) storetest.Engine {
	e := &engine{dir: filepath.Join(t.TempDir(), "data"), o: Options{bounds: testBounds()}}
	if err := Init(t.Context(), e.dir, store.DefaultSettings(storetest.Domain), e.o); err != nil {
		t.Fatal(err)
	}
	return e
}

func (e *engine) Open(t *testing.T) store.Store {
	t.Helper()
	s, err := Open(context.WithoutCancel(t.Context()), e.dir, e.o)
	if err != nil {
		t.Fatal(err)
	}
	e.s = s
	return s
}

func (e *engine) Reopen(t *testing.T) store.Store {
	t.Helper()
	if err := e.s.Close(); err != nil {
		t.Fatal(err)
	}
	return e.Open(t)
}

func (e *engine) Bounds() storetest.Bounds {
	b := testBounds()
	return storetest.Bounds{
		Counters: int(b.counters), Grants: int(b.grants), AccountGrants: int(b.accountGrants), WebSessions: int(b.sessions),
		AuditEntries: int(b.entries), StatNames: int(b.statNames), TrailEvents: int(b.events),
		Reservations: int(b.reservations),
	}
}

// Bodies counts the messages whose octets are kept, and the drafts in files, once what may be freed is freed.
func (e *engine) Bodies(t *testing.T) int {
	t.Helper()
	sweepAll(t, e.s)
	names, err := os.ReadDir(filepath.Join(e.dir, tmpName))
	if err != nil {
		t.Fatal(err)
	}
	large, err := os.ReadDir(filepath.Join(e.dir, largeName))
	if err != nil {
		t.Fatal(err)
	}
	kept := 0
	err = e.s.read(t.Context(), func(v *view) error {
		v.scan(bBodies, nil, nil, func(_, value []byte) bool {
			if r, err := decodeShared(value); err != nil {
				t.Error(err)
			} else if r.large {
				kept++
			}
			return true
		})
		return nil
	})
	if err != nil || kept != len(large) {
		t.Errorf("%d large bodies in files, %d in the index: %v", len(large), kept, err)
	}
	return int(e.s.space.usage().Messages) + len(names)
}

// sweepAll waits until the index is up to date and everything that may be freed is freed.
func sweepAll(t *testing.T, s *Store) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute) // a device may be slow
	for quiet := 0; quiet < 2; {
		if err := s.settle(context.Background(), true); err != nil {
			t.Fatal(err)
		}
		// A verb of no effect goes through the indexer after the step that is on its way.
		if err := s.RemoveWebSession(context.Background(), [32]byte{}); err != nil {
			t.Fatal(err)
		}
		s.condemned.mu.Lock()
		waits := len(s.condemned.ids) > 0 && !s.condemned.paused
		s.condemned.mu.Unlock()
		s.space.mu.Lock()
		waits = waits || s.space.changed || s.space.moving
		s.space.mu.Unlock()
		if quiet++; waits || s.removing.Load() > 0 {
			quiet = 0
		}
		if time.Now().After(deadline) {
			t.Fatal("the sweep does not end")
		}
	}
}

func TestConformance(t *testing.T) { storetest.Run(t, newEngine) }
