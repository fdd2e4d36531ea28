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
	jobs, err := s.Lease(t.Context(), at, 1, time.Hour)
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
	jobs, err := s.Lease(t.Context(), at, 1, time.Hour)
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
