package boltstore

import (
	"errors"
	"runtime"
	"sync"
	"testing"
	"time"

	"latchkey/store"
)

// TestLeaseSurvivesRefusal: a commit that is refused, or that could not be written, leaves the leases that it would have settled.
func TestLeaseSurvivesRefusal(t *testing.T) {
	f := &full{}
	now := time.Unix(1_000_000_000, 0)
	s, _ := fresh(t, Options{fs: f, Now: func() time.Time { return now }})
	if err := send(s, newLedger(), "one", 100, true); err != nil {
		t.Fatal(err)
	}
	at := time.Now().Add(time.Minute)
	jobs, err := s.Lease(t.Context(), at, "out.example", 1, time.Hour)
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
	f.set(true, 8<<10) // enough for a body, not for the index
	if err := settle(1); !errors.Is(err, store.ErrNoSpace) {
		t.Errorf("commit on a full device: %v, want %v", err, store.ErrNoSpace)
	}
	f.set(false, 0)
	now = now.Add(reserveRetry)
	if err := settle(1); err != nil {
		t.Errorf("the lease was used up by commits that failed: %v", err)
	}
}

// TestOpenSyncsFirst: what a killed process wrote and did not sync is made durable before anybody can read it.
func TestOpenSyncsFirst(t *testing.T) {
	_, dir := fresh(t, Options{})
	copied := t.TempDir()
	copyData(t, dir, copied)
	r := &recorder{}
	s := openData(t, copied, Options{fs: r})
	defer closeData(t, s)
	if r.commits != 1 || len(r.dirs) == 0 {
		t.Errorf("Open made %d syncs of the index and synced the directories %v, want one and some", r.commits, r.dirs)
	}
}

// TestLeaseSurvivesRefusalInAGroup: the same when the refused commit shares its transaction with one that succeeds.
func TestLeaseSurvivesRefusalInAGroup(t *testing.T) {
	v, l := &valve{}, newLedger()
	s, _ := fresh(t, Options{fs: v})
	if err := send(s, l, "one", 100, true); err != nil {
		t.Fatal(err)
	}
	at := time.Now().Add(time.Minute)
	jobs, err := s.Lease(t.Context(), at, "out.example", 1, time.Hour)
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
	v.mu.Lock()
	v.entered, v.open = make(chan struct{}), make(chan struct{})
	v.mu.Unlock()
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := send(s, l, "first", 100, false); err != nil {
			t.Error(err)
		}
	})
	<-v.entered
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
	for len(s.requests) < 2 {
		runtime.Gosched()
	}
	v.open <- struct{}{}
	<-v.entered
	v.mu.Lock()
	v.entered = nil
	v.mu.Unlock()
	v.open <- struct{}{}
	wg.Wait()
	if err := settle(1); err != nil {
		t.Errorf("the lease was used up by a commit that was refused: %v", err)
	}
}

// TestReturnWhileSettling: a lease whose outcome is on its way to the device is not given back, so that nobody tries the job again.
func TestReturnWhileSettling(t *testing.T) {
	v := &valve{}
	s, _ := fresh(t, Options{fs: v})
	if err := send(s, newLedger(), "one", 100, true); err != nil {
		t.Fatal(err)
	}
	at := time.Now().Add(time.Minute)
	lease := func() []store.Job {
		t.Helper()
		jobs, err := s.Lease(t.Context(), at, "out.example", 10, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return jobs
	}
	jobs := lease()
	if len(jobs) != 1 {
		t.Fatalf("%d jobs, want 1", len(jobs))
	}
	v.mu.Lock()
	v.entered, v.open = make(chan struct{}), make(chan struct{})
	v.mu.Unlock()
	var wg sync.WaitGroup
	wg.Go(func() {
		lost, err := s.Finish(t.Context(), at, store.Outcome{Job: jobs[0].ID, Lease: jobs[0].Lease, Kind: store.Deferred, At: at, Next: at})
		if err != nil || len(lost) > 0 {
			t.Errorf("lost %v, %v", lost, err)
		}
	})
	<-v.entered
	if err := s.Return(t.Context(), jobs...); err != nil {
		t.Error(err)
	}
	s.leases.mu.Lock()
	if l := s.leases.out[jobs[0].ID]; l == nil || !l.settling {
		t.Error("a lease that is being settled was returned")
	}
	s.leases.mu.Unlock()
	v.mu.Lock()
	v.entered = nil
	v.mu.Unlock()
	v.open <- struct{}{}
	wg.Wait()
	if again := lease(); len(again) != 1 || again[0].Attempts != 1 {
		t.Errorf("leased %+v, want the job after its attempt", again)
	}
}
