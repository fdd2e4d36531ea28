package boltstore

import (
	"io"
	"path/filepath"
	"strings"
	"testing"

	"latchkey/store"
)

// utf8To delivers a message of so many octets that came with SMTPUTF8.
func utf8To(t *testing.T, s *Store, octets int, to ...store.AccountID) store.CopyID {
	t.Helper()
	d, err := s.NewDraft(t.Context())
	noError(t, err)
	_, err = io.WriteString(d, strings.Repeat("x", octets))
	noError(t, err)
	e := envelopeTo(to...)
	e.UTF8 = true
	r, err := d.Commit(t.Context(), e)
	noError(t, err)
	return r.Copies[0].ID
}

// TestMovesKeepFlags: copying forward takes along what is known of a copy, whether it was fetched before or at the same time.
func TestMovesKeepFlags(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	initData(t, dir)
	s := openData(t, dir, Options{journal: smallSegments()})
	type known struct{ fetched, utf8 bool }
	want := make(map[store.CopyID]known)
	var fetched, rest []store.CopyID
	for i := range 60 { // four segments
		var id store.CopyID
		if i%2 == 0 {
			id = utf8To(t, s, 9_000, 1)
		} else {
			id = deliver(t, s, 9_000, 1).Copies[0].ID
		}
		if i%20 > 3 {
			rest = append(rest, id)
			continue
		}
		want[id] = known{fetched: i%20 < 2, utf8: i%2 == 0}
		if i%20 < 2 {
			fetched = append(fetched, id)
		}
	}
	m := openDrop(t, s, 1)
	listed(t, m)
	before := make(map[store.CopyID]uint64)
	drop, ok := m.(*maildrop)
	if !ok {
		t.Fatalf("%T", m)
	}
	for i := range drop.list {
		before[drop.list[i].id] = drop.list[i].segment
	}
	noError(t, m.Expunge(t.Context(), nil, fetched[:3]))
	sweepAll(t, s)
	noError(t, m.Expunge(t.Context(), rest, fetched))
	noError(t, m.Close())
	sweepAll(t, s)
	for range 2 {
		moved := 0
		m := late(t, s, 1)
		for _, got := range listed(t, m) {
			l, err := m.lookUp(t.Context(), got.ID)
			noError(t, err)
			if l.segment != before[got.ID] {
				moved++
			}
			if is := (known{got.Fetched, got.UTF8}); is != want[got.ID] {
				t.Errorf("copy %d: %+v, want %+v", got.ID, is, want[got.ID])
			}
		}
		if len(m.list) != len(want) || moved < len(want)/2 {
			t.Errorf("%d copies of %d are there, %d of them elsewhere", len(m.list), len(want), moved)
		}
		noError(t, m.Close())
		closeData(t, s)
		s = openData(t, dir, Options{journal: smallSegments()})
	}
	closeData(t, s)
}

// TestFetchedWrites: a record of a QUIT writes a copy only if it stays and was not marked before, so that who fetches and deletes everything writes
// what he wrote without the mark; and it may be applied again.
func TestFetchedWrites(t *testing.T) {
	s, _ := fresh(t, Options{})
	var all []store.CopyID
	for range 5 {
		all = append(all, deliver(t, s, 100, 1).Copies[0].ID)
	}
	noError(t, s.settle(t.Context(), true))
	tx, err := s.begin()
	noError(t, err)
	defer tx.rollback()
	writes := func(deleted, fetched []store.CopyID) int {
		before, events := tx.writes, tx.tally.Trail
		(&expungeEntry{account: 1, at: s.now(), deleted: deleted, fetched: fetched}).apply(tx)
		noError(t, tx.err)
		return tx.writes - before - int(tx.tally.Trail-events)
	}
	marked := func() (n int) {
		noError(t, tx.eachCopy(1, func(l *listing) bool {
			if l.fetched() {
				n++
			}
			return true
		}))
		return n
	}
	for i, tt := range []struct {
		deleted, fetched []store.CopyID
		writes, marked   int
	}{
		{nil, all[:2], 2, 2},
		{nil, all[:2], 0, 2},
		{nil, all[:3], 1, 3},
		{all[:1], all[:4], 2, 3},     // one goes, one more is marked
		{all[:1], all[:4], 0, 3},     // again
		{all[3:], all[3:], 2, 2},     // all that he fetched goes
		{all[1:], all[1:], 2, 0},     // also what was fetched before
		{all, append(all, 99), 0, 0}, // there is nothing
	} {
		if got, is := writes(tt.deleted, tt.fetched), marked(); got != tt.writes || is != tt.marked {
			t.Errorf("record %d: %d writes, %d marked, want %d, %d", i, got, is, tt.writes, tt.marked)
		}
	}
}

// TestFetchedInTheTail: a start after a crash has the marks from the journal, and lays them over an index that has none of them.
func TestFetchedInTheTail(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	initData(t, dir)
	s := openData(t, dir, Options{})
	var all []store.CopyID
	for range 3 {
		all = append(all, deliver(t, s, 100, 1).Copies[0].ID)
	}
	noError(t, s.settle(t.Context(), true))
	killed := filepath.Join(t.TempDir(), "killed")
	m := openDrop(t, s, 1)
	noError(t, m.Expunge(t.Context(), all[:1], all[:2]))
	noError(t, m.Close())
	copyData(t, dir, killed) // of a process that has not closed it
	closeData(t, s)
	for range 2 {
		s := openData(t, killed, Options{})
		list := listed(t, openDrop(t, s, 1))
		if len(list) != 2 || !list[0].Fetched || list[1].Fetched {
			t.Errorf("listed %+v", list)
		}
		closeData(t, s)
	}
}
