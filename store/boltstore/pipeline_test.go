package boltstore

import (
	"errors"
	"testing"

	"latchkey/internal/vfs/vfstest"
	"latchkey/store"
)

// TestNextGroupIsStagedAgain: a group that finds no room takes the one behind it along, which is staged once more: nobody is told of what was
// not written.
func TestNextGroupIsStagedAgain(t *testing.T) {
	full, refuse := refusing()
	f := vfstest.NewTrace(full)
	s, dir := fresh(t, Options{fs: f})
	first := deliver(t, s, 100, 1).Copies[0].ID
	m := openDrop(t, s, 1)
	gate := f.Hold(t, vfstest.Write)
	errs := make(chan error, 3)
	send := func() {
		go func() {
			_, err := commitTo(t, s, 100, 2)
			errs <- err
		}()
	}
	send()
	gate.Wait()
	send()
	send()
	waitUntil(t, "two more wait", func() bool { return len(s.postings) == 2 })
	gate.Pass()
	gate.Wait() // the two share a group, so the committer does not write it itself
	if err := <-errs; err != nil {
		t.Fatal(err)
	}
	deleted := make(chan error, 1)
	version := s.snapshots.version(1)
	go func() { deleted <- m.Expunge(t.Context(), []store.CopyID{first}, nil) }()
	waitUntil(t, "the delete is staged", func() bool { return s.snapshots.version(1) != version })
	refuse()
	gate.Open()
	for range 2 {
		if err := <-errs; !errors.Is(err, store.ErrNoSpace) {
			t.Errorf("a message without room: %v, want %v", err, store.ErrNoSpace)
		}
	}
	if err := <-deleted; err != nil {
		t.Errorf("the delete behind them: %v", err)
	}
	for account, want := range map[store.AccountID]int{1: 0, 2: 1} {
		for _, at := range []*Store{s, killed(t, dir)} {
			if got := len(ids(t, openDrop(t, at, account))); got != want {
				t.Errorf("account %d holds %d messages, want %d", account, got, want)
			}
		}
	}
}

// TestHeldCounts: a verb that waited for the groups before it counts in its own.
func TestHeldCounts(t *testing.T) {
	for _, tt := range []struct{ octets, taken int }{{maxGroupOctets - 1, 1}, {maxGroupOctets, 0}} {
		s := &Store{postings: make(chan *posting, 1), tail: newTail(Options{}.withDefaults().bounds)}
		nothing := func(*group) error { return nil }
		p := &pipeline{s: s, filling: &group{s: s}, held: &posting{octets: tt.octets, stage: nothing}}
		p.takeHeld()
		s.postings <- &posting{octets: 1, stage: nothing}
		if p.take(s.postings); len(p.batch) != tt.taken || (p.held == nil) != (tt.taken == 1) {
			t.Errorf("beside one of %d octets %d more are taken, one is held: %t", tt.octets, len(p.batch), p.held != nil)
		}
	}
}
