package boltstore

import (
	"errors"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"latchkey/internal/vfs"
	"latchkey/internal/vfs/vfstest"
	"latchkey/store"
)

// refusing is a device that finds no room for the next write of the journal after refuse was called.
func refusing() (f vfs.FS, refuse func()) {
	var full atomic.Bool
	f = vfstest.NewFaulty(vfs.OS{}, 1, false, func(op vfstest.Op) error {
		if op.Kind == vfstest.Write && strings.Contains(op.Name, journalName) && full.CompareAndSwap(true, false) {
			return syscall.ENOSPC
		}
		return nil
	})
	return f, func() { full.Store(true) }
}

// TestLeaseSurvivesRefusal: a commit that is refused, or that could not be written, leaves the leases that it would have settled.
func TestLeaseSurvivesRefusal(t *testing.T) {
	f, refuse := refusing()
	clock := newClock(time.Unix(1_000_000_000, 0))
	s, _ := fresh(t, Options{fs: f, Now: clock.now})
	if err := send(s, newLedger(), "one", 100, true); err != nil {
		t.Fatal(err)
	}
	at := time.Now().Add(time.Minute)
	jobs, err := s.Lease(t.Context(), at, 0, "out.example", 1, time.Hour)
	if err != nil || len(jobs) != 1 {
		t.Fatalf("%d jobs, %v", len(jobs), err)
	}
	settle := func(to store.AccountID) error {
		d, err := s.NewDraft(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		e := envelopeTo(to)
		e.Settles = []store.Outcome{{Job: jobs[0].ID, Lease: jobs[0].Lease, Kind: store.Failed, At: at}}
		_, err = d.Commit(t.Context(), e)
		return err
	}
	if err := settle(99); !errors.Is(err, store.ErrNoRecipients) {
		t.Errorf("commit to nobody: %v, want %v", err, store.ErrNoRecipients)
	}
	refuse()
	if err := settle(1); !errors.Is(err, store.ErrNoSpace) {
		t.Errorf("commit on a full device: %v, want %v", err, store.ErrNoSpace)
	}
	clock.pass(reserveRetry)
	if err := settle(1); err != nil {
		t.Errorf("the lease was used up by commits that failed: %v", err)
	}
}

// TestOpenSyncsFirst: what a killed process wrote and did not sync is made durable before anybody can read it.
func TestOpenSyncsFirst(t *testing.T) {
	_, dir := fresh(t, Options{})
	copied := t.TempDir()
	copyData(t, dir, copied)
	r := vfstest.NewTrace(vfs.OS{})
	s := openData(t, copied, Options{fs: r})
	defer closeData(t, s)
	if commits, dirs := r.Count(vfstest.IndexSync), r.Count(vfstest.SyncDir); commits != 1 || dirs == 0 {
		t.Errorf("Open made %d syncs of the index and %d of directories, want one and some", commits, dirs)
	}
}

// TestLeaseSurvivesRefusalInAGroup: the same when the refused commit shares its transaction with one that succeeds.
func TestLeaseSurvivesRefusalInAGroup(t *testing.T) {
	v, l := vfstest.NewTrace(vfs.OS{}), newLedger()
	s, _ := fresh(t, Options{fs: v})
	if err := send(s, l, "one", 100, true); err != nil {
		t.Fatal(err)
	}
	at := time.Now().Add(time.Minute)
	jobs, err := s.Lease(t.Context(), at, 0, "out.example", 1, time.Hour)
	if err != nil || len(jobs) != 1 {
		t.Fatalf("%d jobs, %v", len(jobs), err)
	}
	settle := func(to store.AccountID) error {
		d, err := s.NewDraft(t.Context())
		if err != nil {
			return err
		}
		e := envelopeTo(to)
		e.Settles = []store.Outcome{{Job: jobs[0].ID, Lease: jobs[0].Lease, Kind: store.Failed, At: at}}
		_, err = d.Commit(t.Context(), e)
		return err
	}
	gate := v.Hold(t, vfstest.Sync)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := send(s, l, "first", 100, false); err != nil {
			t.Error(err)
		}
	})
	gate.Wait()
	wg.Go(func() {
		if err := settle(99); !errors.Is(err, store.ErrNoRecipients) {
			t.Errorf("commit to nobody: %v, want %v", err, store.ErrNoRecipients)
		}
	})
	wg.Go(func() {
		if err := send(s, l, "second", 100, false); err != nil {
			t.Error(err)
		}
	})
	for len(s.postings) < 2 {
		runtime.Gosched()
	}
	gate.Pass()
	gate.Wait()
	gate.Open()
	wg.Wait()
	if err := settle(1); err != nil {
		t.Errorf("the lease was used up by a commit that was refused: %v", err)
	}
}

// TestReturnWhileSettling: a lease whose outcome is on its way to the device is not given back, so that nobody tries the job again.
func TestReturnWhileSettling(t *testing.T) {
	v := vfstest.NewTrace(vfs.OS{})
	s, _ := fresh(t, Options{fs: v})
	if err := send(s, newLedger(), "one", 100, true); err != nil {
		t.Fatal(err)
	}
	at := time.Now().Add(time.Minute)
	lease := func() []store.Job {
		t.Helper()
		jobs, err := s.Lease(t.Context(), at, 0, "out.example", 10, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return jobs
	}
	jobs := lease()
	if len(jobs) != 1 {
		t.Fatalf("%d jobs, want 1", len(jobs))
	}
	gate := v.Hold(t, vfstest.Sync)
	var wg sync.WaitGroup
	wg.Go(func() {
		lost, err := s.Finish(t.Context(), at, store.Outcome{Job: jobs[0].ID, Lease: jobs[0].Lease, Kind: store.Deferred, At: at, Next: at})
		if err != nil || len(lost) > 0 {
			t.Errorf("lost %v, %v", lost, err)
		}
	})
	gate.Wait()
	if err := s.Return(t.Context(), jobs...); err != nil {
		t.Error(err)
	}
	s.leases.mu.Lock()
	if l := s.leases.out[jobs[0].ID]; l == nil || !l.settling {
		t.Error("a lease that is being settled was returned")
	}
	s.leases.mu.Unlock()
	gate.Open()
	wg.Wait()
	if again := lease(); len(again) != 1 || again[0].Attempts != 1 {
		t.Errorf("leased %+v, want the job after its attempt", again)
	}
}
