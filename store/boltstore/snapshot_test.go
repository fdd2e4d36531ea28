package boltstore

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"latchkey/internal/vfs"
	"latchkey/store"
)

// late returns an open snapshot that has no list.
func late(t testing.TB, s *Store, id store.AccountID) *maildrop {
	t.Helper()
	m, ok := openDrop(t, s, id).(*maildrop)
	if !ok || m.listed {
		t.Fatalf("%T has a list", m)
	}
	return m
}

// crowd makes a store where anna has n copies of one message.
func crowd(t testing.TB, n int) *Store {
	t.Helper()
	s, _ := fresh(t, Options{})
	if err := send(s, newLedger(), "one", 10, false); err != nil {
		t.Fatal(err)
	}
	multiply(t, s, n)
	return s
}

// TestOpenCost: opening a maildrop and asking what it holds costs the same whatever it holds.
func TestOpenCost(t *testing.T) {
	const few, many, visits = 10, 50_000, 50
	var allocs, octets []float64
	for _, n := range []int{few, many} {
		s := crowd(t, n)
		visit := func() {
			m, err := s.OpenMaildrop(t.Context(), 1)
			if err != nil {
				t.Fatal(err)
			}
			if got := m.Stat().Messages; got != int64(n) {
				t.Fatalf("%d messages, want %d", got, n)
			}
			if err := m.Close(); err != nil {
				t.Fatal(err)
			}
		}
		allocs = append(allocs, testing.AllocsPerRun(visits, visit))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range visits {
			visit()
		}
		runtime.ReadMemStats(&after)
		octets = append(octets, float64(after.TotalAlloc-before.TotalAlloc)/visits)
	}
	t.Logf("%d messages: %.0f allocations, %.0f octets; %d: %.0f, %.0f", few, allocs[0], octets[0], many, allocs[1], octets[1])
	if allocs[1] > allocs[0]*1.2 || octets[1] > octets[0]*1.5+2048 { // a buffer more or less from the pool is no matter
		t.Errorf("a visit to %d messages takes %.0f allocations and %.0f octets, to %d it takes %.0f and %.0f", many, allocs[1], octets[1], few, allocs[0], octets[0])
	}
}

// TestOpenReadsNoCopies: an entry that cannot be read is in the way of the list alone, and each try says so.
func TestOpenReadsNoCopies(t *testing.T) {
	s := crowd(t, 10)
	whole := late(t, s, 1)
	listed(t, whole)
	var kept []byte
	set := func(value []byte) {
		noError(t, s.write(t.Context(), func(tx *txn) error {
			kept = append([]byte(nil), tx.get(bCopies, key16(1, 5))...)
			tx.put(bCopies, key16(1, 5), value)
			return nil
		}))
	}
	set([]byte{0})
	m := late(t, s, 1)
	for range 2 {
		if _, err := m.Messages(t.Context()); err == nil {
			t.Error("there is a list, want an error")
		}
		if _, err := m.OpenMessage(t.Context(), 1); err == nil || errors.Is(err, store.ErrNotFound) {
			t.Errorf("a message without a list: %v", err)
		}
		if got := m.Stat(); got != whole.Stat() {
			t.Errorf("the snapshot holds %+v, want %+v", got, whole.Stat())
		}
	}
	// What goes meanwhile is handed over to a snapshot whose list failed, too.
	noError(t, whole.Expunge(t.Context(), ids(t, whole)[5:7], nil))
	noError(t, s.settle(t.Context(), true))
	set(kept)
	if got, want := ids(t, m), ids(t, whole); !slices.Equal(got, want) {
		t.Errorf("in the end listed %v, want %v", got, want)
	}
	noError(t, m.Expunge(t.Context(), ids(t, m), nil))
}

// TestOvertaken: where the index has more than the snapshot knows, its counter is not taken, and the list is the snapshot's still.
func TestOvertaken(t *testing.T) {
	s, _ := fresh(t, Options{})
	old := deliver(t, s, 100, 1).Copies[0].ID
	gone := deliver(t, s, 200, 1).Copies[0].ID
	m := &maildrop{s: s, account: 1, seen: s.snapshots.open(1)}
	part := s.tail.begin(m)
	defer func() { noError(t, m.Close()) }()
	deliver(t, s, 300, 1)
	other := late(t, s, 1)
	noError(t, other.Expunge(t.Context(), []store.CopyID{gone}, nil))
	noError(t, m.measure(t.Context(), part)) // the index is behind
	want := store.Usage{Octets: 300, Messages: 2}
	if m.stat != want {
		t.Errorf("the snapshot holds %+v, want %+v", m.stat, want)
	}
	noError(t, s.settle(t.Context(), true))
	m.stat, m.measured = store.Usage{}, false
	if err := m.measure(t.Context(), part); !errors.Is(err, errOvertaken) || m.measured {
		t.Fatalf("with an index that is ahead: %v", err)
	}
	noError(t, m.makeList(t.Context()))
	if got := ids(t, m); !slices.Equal(got, []store.CopyID{old, gone}) || m.Stat() != want {
		t.Errorf("the snapshot lists %v and holds %+v, want %v and %+v", got, m.Stat(), []store.CopyID{old, gone}, want)
	}
	if b := readCopy(t, m, gone); len(b) != 200 {
		t.Errorf("what was deleted has %d octets", len(b))
	}
}

// TestListedWhileDeleted: what goes between a list's look at the tail and that at the index is in the list.
func TestListedWhileDeleted(t *testing.T) {
	s, _ := fresh(t, Options{})
	for range 20 {
		if listWhileDeleting(t, s) {
			return
		}
	}
	t.Fatal("the index never followed between the two looks")
}

// listWhileDeleting deletes two of three messages while a list of them is half made, and reports whether the index had that before the
// list went on.
func listWhileDeleting(t *testing.T, s *Store) (followed bool) {
	t.Helper()
	var want []store.CopyID
	for range 3 {
		want = append(want, deliver(t, s, 100, 1).Copies[0].ID)
	}
	noError(t, s.settle(t.Context(), true))
	m, other := late(t, s, 1), late(t, s, 1)
	listed(t, other)
	s.gate.Lock() // no look at the index begins
	unlock := sync.OnceFunc(s.gate.Unlock)
	defer unlock()
	half := make(chan error, 1)
	go func() {
		_, err := m.Messages(t.Context())
		half <- err
	}()
	stacks := make([]byte, 1<<20)
	waitUntil(t, "the list is half made", func() bool {
		for stack := range bytes.SplitSeq(stacks[:runtime.Stack(stacks, true)], []byte("\n\n")) {
			if bytes.Contains(stack, []byte("(*maildrop).makeList")) && bytes.Contains(stack, []byte("(*Store).read(")) {
				return true
			}
		}
		return false
	})
	noError(t, other.Expunge(t.Context(), want[:2], nil))
	// The indexer does not need the gate for that, but may have come to it just before.
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	err := s.settle(ctx, true)
	unlock()
	noError(t, <-half)
	if got := ids(t, m); !slices.Equal(got, want) {
		t.Errorf("listed %v, want %v", got, want)
	}
	for _, id := range want {
		if n := len(readCopy(t, m, id)); n != 100 {
			t.Errorf("copy %d has %d octets", id, n)
		}
	}
	noError(t, m.Expunge(t.Context(), want, nil))
	return err == nil
}

// TestMiscounted: a counter that is wrong costs one session its list. It is told, and the next one counts for itself.
func TestMiscounted(t *testing.T) {
	var log bytes.Buffer
	dir := filepath.Join(t.TempDir(), "data")
	initData(t, dir)
	s := openData(t, dir, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	defer closeData(t, s)
	for range 3 {
		deliver(t, s, 100, 1)
	}
	noError(t, s.settle(t.Context(), true))
	noError(t, s.write(t.Context(), func(tx *txn) error { tx.charge(1, 5, 0); return nil }))
	first := late(t, s, 1)
	for range 2 {
		if _, err := first.Messages(t.Context()); err == nil {
			t.Error("a list that is not what the client was told")
		}
	}
	if err := first.Expunge(t.Context(), []store.CopyID{1}, nil); err == nil {
		t.Error("deleted without a list")
	}
	if !strings.Contains(log.String(), "counted wrong") {
		t.Errorf("the log has %q", &log)
	}
	deliver(t, s, 100, 1)
	if next := openDrop(t, s, 1); next.Stat() != (store.Usage{Octets: 400, Messages: 4}) || len(listed(t, next)) != 4 {
		t.Errorf("the next session is told %+v", next.Stat())
	}
	if other := late(t, s, 2); other.Stat() != (store.Usage{}) {
		t.Errorf("the other account holds %+v", other.Stat())
	}
	noError(t, s.write(t.Context(), func(tx *txn) error { tx.charge(1, -5, 0); return nil }))
}

// TestRemovedAndListed: what the sweep of a removed account takes away in many steps is handed over, and can be read though its segments are
// freed.
func TestRemovedAndListed(t *testing.T) {
	s, dir := fresh(t, Options{journal: smallSegments()})
	var want []int
	for i := range 40 {
		deliver(t, s, 8_000+i, 1)
		want = append(want, 8_000+i)
	}
	const more = 2*sweptPerTxn + 100
	for range more {
		deliver(t, s, 30, 1)
		want = append(want, 30)
	}
	deliver(t, s, spillAbove+1, 1)
	want = append(want, spillAbove+1)
	m := late(t, s, 1)
	noError(t, s.RemoveAccount(t.Context(), 1))
	for range 100 { // the space is wanted
		deliver(t, s, 8_000, 2)
	}
	sweepAll(t, s)
	if n := s.space.usage().Messages; n != 100 {
		t.Errorf("%d messages are alive, want 100", n)
	}
	for i, id := range ids(t, m) {
		if n := len(readCopy(t, m, id)); n != want[i] {
			t.Fatalf("message %d has %d octets, want %d", i, n, want[i])
		}
	}
	noError(t, m.Close())
	waitUntil(t, "no removed file is open", func() bool { return descriptors(t, ".seg (deleted)") == 0 })
	sweepAll(t, s)
	if n := count(t, dir, largeName); n != 0 {
		t.Errorf("%d large bodies after the maildrop was closed, want none", n)
	}
}

// TestMovedAndListed: copies that were moved before a snapshot was listed, and deleted before or after that, are read from where they are.
func TestMovedAndListed(t *testing.T) {
	s, _ := fresh(t, Options{journal: smallSegments()})
	var all []store.CopyID
	for i := range 100 {
		all = append(all, deliver(t, s, 4_000+i, 1).Copies[0].ID)
	}
	m, other := late(t, s, 1), late(t, s, 1)
	var dead, rest []store.CopyID
	for i, id := range all {
		if i%10 == 0 {
			rest = append(rest, id)
		} else {
			dead = append(dead, id)
		}
	}
	noError(t, other.Expunge(t.Context(), dead, nil))
	noError(t, other.Close())
	places := func() (places []where) {
		for i := range rest {
			noError(t, s.read(t.Context(), func(v *view) error {
				key := key16(1, uint64(rest[i]))
				l, err := decodeListing(key, v.get(bCopies, key))
				places = append(places, l.where())
				return err
			}))
		}
		return places
	}
	noError(t, s.settle(t.Context(), true))
	before := places()
	waitUntil(t, "copies are moved", func() bool {
		deliver(t, s, 4_000, 2)
		sweepAll(t, s)
		return !slices.Equal(before[:5], places()[:5])
	})
	again := late(t, s, 1)
	noError(t, again.Expunge(t.Context(), rest[:3], nil))
	noError(t, again.Close())
	sweepAll(t, s)
	for i, id := range ids(t, m) {
		if n := len(readCopy(t, m, id)); id != all[i] || n != 4_000+i {
			t.Fatalf("message %d is copy %d of %d octets, want %d of %d", i, id, n, all[i], 4_000+i)
		}
	}
}

// fewFiles is a file system that may refuse to open segments.
type fewFiles struct {
	vfs.OS
	refuse atomic.Bool
}

func (f *fewFiles) Open(name string) (vfs.File, error) {
	if f.refuse.Load() && strings.Contains(name, journalName) {
		return nil, syscall.EMFILE
	}
	return f.OS.Open(name)
}

// TestListWithoutDescriptors: a list that cannot pin its segments is made later, and has what was handed over before and after that.
func TestListWithoutDescriptors(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	initData(t, dir)
	s := openData(t, dir, Options{journal: smallSegments()})
	var all []store.CopyID
	for i := range 30 {
		all = append(all, deliver(t, s, 8_000+i, 1).Copies[0].ID)
	}
	closeData(t, s)
	f := &fewFiles{}
	s = openData(t, dir, Options{journal: smallSegments(), fs: f}) // so that no segment is open
	defer closeData(t, s)
	m := late(t, s, 1)
	f.refuse.Store(true)
	if _, err := m.Messages(t.Context()); !errors.Is(err, syscall.EMFILE) {
		t.Errorf("a list without descriptors: %v", err)
	}
	f.refuse.Store(false)
	other := openDrop(t, s, 1)
	noError(t, other.Expunge(t.Context(), all[:20], nil))
	noError(t, other.Close())
	sweepAll(t, s)
	if got := ids(t, m); !slices.Equal(got, all) {
		t.Errorf("listed %v, want %v", got, all)
	}
	for i, id := range all {
		if n := len(readCopy(t, m, id)); n != 8_000+i {
			t.Errorf("message %d has %d octets", i, n)
		}
	}
}

// TestSnapshotsAreForgotten: closed snapshots leave nothing behind, listed or not.
func TestSnapshotsAreForgotten(t *testing.T) {
	s, _ := fresh(t, Options{})
	deliver(t, s, 100, 1)
	deliver(t, s, spillAbove+1, 1)
	wipe := func(keep int) {
		m := late(t, s, 1)
		expungeBut(t, m, keep)
		noError(t, m.Close())
	}
	for _, visit := range []func(m *maildrop){
		func(*maildrop) {},
		func(m *maildrop) { listed(t, m) },
		func(*maildrop) { wipe(1) },
		func(m *maildrop) { wipe(0); listed(t, m) },
	} {
		m := late(t, s, 1)
		visit(m)
		noError(t, m.Close())
	}
	if _, err := s.OpenMaildrop(t.Context(), 99); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("an unknown account: %v", err)
	}
	s.tail.mu.Lock()
	waiting := len(s.tail.unlisted)
	s.tail.mu.Unlock()
	s.space.mu.Lock()
	held := len(s.space.held)
	s.space.mu.Unlock()
	s.snapshots.mu.Lock()
	counted := len(s.snapshots.byAccount)
	s.snapshots.mu.Unlock()
	if waiting+held+counted != 0 {
		t.Errorf("%d accounts have snapshots that wait for a list, %d have open ones, %d bodies are held", waiting, counted, held)
	}
}
