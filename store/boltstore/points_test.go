package boltstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"latchkey/internal/archive"
	"latchkey/internal/journal"
	"latchkey/internal/vfs"
	"latchkey/internal/vfs/vfstest"
	"latchkey/store"
)

// The points of the engine's design, one test each. docs/durability.md explains them.

// smallSegments make the journal go through many segments in a short time.
func smallSegments() journal.Options {
	return journal.Options{MinSegment: 64 << 10, MaxSegment: 256 << 10, Reserve: 8 << 10}
}

// deliver commits a message of so many octets to accounts.
func deliver(t testing.TB, s *Store, octets int, to ...store.AccountID) store.Receipt {
	t.Helper()
	r, err := commitTo(t, s, octets, to...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func commitTo(t testing.TB, s *Store, octets int, to ...store.AccountID) (store.Receipt, error) {
	t.Helper()
	d, err := s.NewDraft(t.Context())
	if err != nil {
		return store.Receipt{}, err
	}
	head := "Subject: point\r\n\r\n"
	if _, err := io.WriteString(d, head+strings.Repeat("x", max(octets-len(head), 0))); err != nil {
		return store.Receipt{}, errors.Join(err, d.Abort())
	}
	e := envelopeTo(to...)
	e.HeaderLen = int64(len(head))
	return d.Commit(t.Context(), e)
}

func openDrop(t testing.TB, s *Store, id store.AccountID) store.Maildrop {
	t.Helper()
	m, err := s.OpenMaildrop(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

func readCopy(t testing.TB, m store.Maildrop, id store.CopyID) []byte {
	t.Helper()
	r, err := m.OpenMessage(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err = errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	return b
}

// expunge deletes all that the snapshot lists but the last n.
func expungeBut(t testing.TB, m store.Maildrop, n int) {
	t.Helper()
	all := ids(t, m)
	if err := m.Expunge(t.Context(), all[:len(all)-n], nil); err != nil {
		t.Fatal(err)
	}
}

// TestPoint01Draft: small bodies go into the journal, also from a file of tmp/ when the memory of all drafts is used up; only large ones
// become files.
func TestPoint01Draft(t *testing.T) {
	s, dir := fresh(t, Options{DraftMemory: firstChunk})
	for _, tt := range []struct{ octets, files int }{{100, 0}, {firstChunk + 1, 0}, {spillAbove, 0}, {spillAbove + 1, 1}} {
		r := deliver(t, s, tt.octets, 1)
		m := openDrop(t, s, 1)
		if b := readCopy(t, m, r.Copies[0].ID); len(b) != tt.octets {
			t.Errorf("%d octets became %d", tt.octets, len(b))
		}
		if n := count(t, dir, largeName); n != tt.files {
			t.Errorf("after a message of %d octets: %d files in large/, want %d", tt.octets, n, tt.files)
		}
	}
	if n := count(t, dir, tmpName); n != 0 {
		t.Errorf("%d drafts are left", n)
	}
}

// TestPoint02Truth: an index that is behind is brought up to date from the journal, and nothing comes twice.
func TestPoint02Truth(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	initData(t, dir)
	s := openData(t, dir, Options{})
	deliver(t, s, 100, 1)
	closeData(t, s)
	behind, err := os.ReadFile(filepath.Join(dir, indexName))
	if err != nil {
		t.Fatal(err)
	}
	s = openData(t, dir, Options{})
	kept := deliver(t, s, 200, 1, 2).Copies
	deliver(t, s, 300, 2)
	deliver(t, s, spillAbove+1, 1)
	m := openDrop(t, s, 2)
	expungeBut(t, m, 1)
	want := uidsOf(t, s)
	closeData(t, s)
	if err := os.WriteFile(filepath.Join(dir, indexName), behind, vfs.FileMode); err != nil {
		t.Fatal(err)
	}
	s = openData(t, dir, Options{})
	if got := uidsOf(t, s); !slices.Equal(got, want) {
		t.Errorf("after the replay: %q, want %q", got, want)
	}
	if next := deliver(t, s, 10, 1).Copies[0].ID; next <= kept[0].ID {
		t.Errorf("copy id %d was given again", next)
	}
	mustBeSound(t, s)
	closeData(t, s)
	s = openData(t, dir, Options{})
	defer closeData(t, s)
	if got := uidsOf(t, s); len(got) != len(want)+1 {
		t.Errorf("after one more start: %d copies, want %d", len(got), len(want)+1)
	}
}

// uidsOf lists what both accounts see.
func uidsOf(t *testing.T, s *Store) (uids []string) {
	t.Helper()
	for id := range store.AccountID(2) {
		m := openDrop(t, s, id+1)
		for _, msg := range listed(t, m) {
			uids = append(uids, msg.UID)
		}
	}
	return uids
}

// TestPoint03LargeBody: the file is synced, then renamed, then its entry is synced, and only then the record is written.
func TestPoint03LargeBody(t *testing.T) {
	f := vfstest.NewTrace(vfs.OS{})
	s, dir := fresh(t, Options{fs: f})
	deliver(t, s, 100, 1) // the journal has its segment
	f.Forget()
	deliver(t, s, spillAbove+1, 1)
	var order []string
	for _, op := range f.Ops() {
		rel, err := filepath.Rel(dir, op.Name)
		if err != nil {
			t.Fatal(err)
		}
		if top, _, _ := strings.Cut(rel, "/"); (op.Kind == vfstest.Sync || op.Kind == vfstest.Rename || op.Kind == vfstest.SyncDir || op.Kind == vfstest.Write && top == journalName) && top != indexName {
			order = append(order, string(op.Kind)+" "+top)
		}
	}
	want := []string{"sync tmp", "rename tmp", "sync directory large", "write journal", "sync journal"}
	if len(order) < len(want) || !slices.Equal(order[:len(want)], want) {
		t.Errorf("order %q, want %q", order, want)
	}
}

// TestPoint04Committer: what waits shares one sync; before it nobody is told and nobody sees; the next group is written after it.
func TestPoint04Committer(t *testing.T) {
	f := vfstest.NewTrace(vfs.OS{})
	s, _ := fresh(t, Options{fs: f})
	deliver(t, s, 10, 1)
	gate := f.Hold(t, vfstest.Sync)
	const writers = 64
	var wg sync.WaitGroup
	told := make(chan struct{}, writers+1)
	send := func() {
		wg.Go(func() {
			if _, err := commitTo(t, s, 100, 1); err != nil {
				t.Error(err)
			}
			told <- struct{}{}
		})
	}
	send()
	gate.Wait()
	for range writers {
		send()
	}
	waitUntil(t, "the others wait", func() bool { return len(s.postings) == writers })
	if n := len(listed(t, openDrop(t, s, 1))); n != 1 || len(told) > 0 {
		t.Errorf("before the sync: %d messages are seen and %d senders told, want 1 and 0", n, len(told))
	}
	f.Forget()
	gate.Pass()
	gate.Wait()
	if n := f.Count(vfstest.Write); n != 1 {
		t.Errorf("the second group was written in %d pieces, want 1", n)
	}
	gate.Open()
	wg.Wait()
	if n := f.Count(vfstest.Sync); n != 1 {
		t.Errorf("%d messages took %d syncs, want 1", writers, n)
	}
	if n := len(listed(t, openDrop(t, s, 1))); n != writers+2 {
		t.Errorf("%d messages, want %d", n, writers+2)
	}
}

func waitUntil(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never came to this: %s", what)
		}
	}
}

// TestPoint05Indexer: the mark of the journal is in the transaction of what it covers, and the committer waits when the tail is full.
func TestPoint05Indexer(t *testing.T) {
	f := vfstest.NewTrace(vfs.OS{})
	o := Options{fs: f}.withDefaults()
	o.bounds.tailEntries = 8
	s, _ := fresh(t, o)
	gate := f.Hold(t, vfstest.IndexWrite)
	for range 8 {
		deliver(t, s, 10, 1)
	}
	done := make(chan error, 1)
	go func() {
		_, err := commitTo(t, s, 10, 1)
		done <- err
	}()
	gate.Wait()
	waitUntil(t, "the committer has taken the ninth", func() bool { return len(s.postings) == 0 })
	select {
	case err := <-done:
		t.Fatalf("the ninth message was taken while the tail was full: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	gate.Open()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := s.settle(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	err := s.read(t.Context(), func(v *view) error {
		mark, err := v.applied()
		n := 0
		v.scan(bCopies, nil, nil, func(_, _ []byte) bool { n++; return true })
		if n != 9 || mark != s.journal.Durable() {
			t.Errorf("%d copies up to %+v, want 9 up to %+v", n, mark, s.journal.Durable())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestPoint06ReadYourWrites: a login does not wait for the index and misses nothing; a lease waits.
func TestPoint06ReadYourWrites(t *testing.T) {
	f := vfstest.NewTrace(vfs.OS{})
	s, _ := fresh(t, Options{fs: f})
	gate := f.Hold(t, vfstest.IndexWrite)
	first := deliver(t, s, 100, 1)
	deliver(t, s, spillAbove+1, 1)
	m := openDrop(t, s, 1)
	if n := len(listed(t, m)); n != 2 {
		t.Fatalf("%d messages, want 2", n)
	}
	if n := len(readCopy(t, m, first.Copies[0].ID)); n != 100 {
		t.Errorf("the message has %d octets, want 100", n)
	}
	if err := m.Expunge(t.Context(), []store.CopyID{first.Copies[0].ID}, nil); err != nil {
		t.Fatal(err)
	}
	u, err := s.Usage(t.Context(), 1)
	if n := len(listed(t, openDrop(t, s, 1))); err != nil || n != 1 || u != (store.Usage{Octets: spillAbove + 1, Messages: 1}) {
		t.Errorf("%d messages and %+v, %v, want the second only", n, u, err)
	}
	deliver(t, s, 10, 0)
	leased := make(chan int, 1)
	go func() {
		jobs, err := s.Lease(t.Context(), time.Now(), 0, domain, 10, time.Minute)
		if err != nil {
			t.Error(err)
		}
		leased <- len(jobs)
	}()
	gate.Wait()
	if len(leased) > 0 {
		t.Error("a lease did not wait for the index")
	}
	gate.Open()
	if n := <-leased; n != 1 {
		t.Errorf("%d jobs leased, want 1", n)
	}
}

// TestPoint07Recovery: a torn last record is cut off, and a bad record before a good one is damage.
func TestPoint07Recovery(t *testing.T) {
	for _, tt := range []struct {
		name string
		last bool // the last record is broken, not an earlier one
	}{{"torn end", true}, {"damage", false}} {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			initData(t, dir)
			s := openData(t, dir, Options{})
			var bodies []string
			for i := range 3 {
				deliver(t, s, 1000+i, 1)
				bodies = append(bodies, "")
			}
			cut := filepath.Join(t.TempDir(), "cut")
			copyData(t, dir, cut) // with the tail that the index does not have
			defer closeData(t, s)
			name := onlySegment(t, cut)
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			at := bytes.LastIndex(b, []byte("Subject: point"))
			if !tt.last {
				at = bytes.Index(b, []byte("Subject: point"))
			}
			b[at] ^= 1
			if err := os.WriteFile(name, b, vfs.FileMode); err != nil {
				t.Fatal(err)
			}
			again, err := Open(t.Context(), cut, Options{})
			if !tt.last {
				if !errors.Is(err, store.ErrDamaged) {
					t.Errorf("Open: %v, want %v", err, store.ErrDamaged)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer closeData(t, again)
			if n := len(listed(t, openDrop(t, again, 1))); n != len(bodies)-1 {
				t.Errorf("%d messages, want %d", n, len(bodies)-1)
			}
			mustBeSound(t, again)
		})
	}
}

func onlySegment(t *testing.T, dir string) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, journalName, "*"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no segment: %v", err)
	}
	return names[0]
}

// TestPoint08UniqueIDs: one width, never given twice, whatever was deleted and however often the store was opened.
func TestPoint08UniqueIDs(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	initData(t, dir)
	seen := make(map[string]bool)
	for range 3 {
		s := openData(t, dir, Options{})
		for range 3 {
			for _, c := range deliver(t, s, 10, 1, 2).Copies {
				if len(c.UID) != 24 || seen[c.UID] {
					t.Errorf("unique-id %q was given before, or has not 24 digits", c.UID)
				}
				seen[c.UID] = true
			}
		}
		expungeBut(t, openDrop(t, s, 1), 0)
		expungeBut(t, openDrop(t, s, 2), 0)
		closeData(t, s)
	}
}

// TestPoint09Space: segments without live messages are used again or go, mostly dead ones are copied forward, and mail.db shrinks.
func TestPoint09Space(t *testing.T) {
	s, dir := fresh(t, Options{journal: smallSegments()})
	for round := range 6 {
		for range 60 {
			deliver(t, s, 10_000, 1)
		}
		m := openDrop(t, s, 1)
		expungeBut(t, m, 2*(round+1)) // a few stay in each segment
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		sweepAll(t, s)
	}
	live := s.Metrics().LiveOctets
	waitUntil(t, "what is dead is given back", func() bool {
		deliver(t, s, 10, 2)
		sweepAll(t, s)
		return s.Metrics().DeadOctets < 4*live+1<<20 && s.Metrics().Segments < 10
	})
	if n := len(listed(t, openDrop(t, s, 1))); n != 12 {
		t.Errorf("%d messages, want 12", n)
	}
	mustBeSound(t, s)
	if used := usedUnder(t, filepath.Join(dir, journalName)); used > 3<<20 {
		t.Errorf("the journal takes %d octets for %d that are needed", used, live)
	}
}

// usedUnder adds up the sizes of files.
func usedUnder(t *testing.T, dir string) (octets int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			octets += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return octets
}

// TestPoint10Snapshot: what a maildrop lists can be read until it is closed, though it was deleted, its segment freed and its file gone.
func TestPoint10Snapshot(t *testing.T) {
	s, dir := fresh(t, Options{journal: smallSegments()})
	var want []int
	for i := range 40 {
		want = append(want, 8_000+i)
		deliver(t, s, 8_000+i, 1)
	}
	want = append(want, spillAbove+1)
	deliver(t, s, spillAbove+1, 1)
	m, early := openDrop(t, s, 1), openDrop(t, s, 1)
	all := ids(t, early)
	other := openDrop(t, s, 1)
	expungeBut(t, other, 0)
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	for range 100 { // the space is wanted
		deliver(t, s, 8_000, 2)
	}
	sweepAll(t, s)
	if n := s.space.usage().Messages; n != 100 {
		t.Errorf("%d messages are alive, want 100", n)
	}
	if got := ids(t, m); !slices.Equal(got, all) {
		t.Errorf("listed late: %v, want %v", got, all)
	}
	for i, id := range all {
		for _, m := range []store.Maildrop{early, m} {
			if n := len(readCopy(t, m, id)); n != want[i] {
				t.Errorf("message %d has %d octets, want %d", i, n, want[i])
			}
		}
	}
	if err := early.Close(); err != nil {
		t.Fatal(err)
	}
	if n := count(t, dir, largeName); n != 1 {
		t.Errorf("%d large bodies while one is listed, want 1", n)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "no removed file is open", func() bool { return descriptors(t, dir, ".seg (deleted)") == 0 })
	sweepAll(t, s)
	if n := count(t, dir, largeName); n != 0 {
		t.Errorf("%d large bodies after the maildrop was closed, want none", n)
	}
}

// TestPoint11Quota: what is in the tail counts, and what is deleted counts until that is durable.
func TestPoint11Quota(t *testing.T) {
	f := vfstest.NewTrace(vfs.OS{})
	s, _ := fresh(t, Options{fs: f})
	a, err := s.Account(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	a.Quota = store.Quota{Octets: 1000}
	if _, err := s.UpdateAccount(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	index := f.Hold(t, vfstest.IndexWrite)
	deliver(t, s, 600, 1)
	if _, err := commitTo(t, s, 401, 1); !errors.Is(err, store.ErrMaildropFull) {
		t.Errorf("one octet too many: %v, want %v", err, store.ErrMaildropFull)
	}
	deliver(t, s, 400, 1)
	index.Open()
	journal := f.Hold(t, vfstest.Sync)
	done := make(chan error, 1)
	m := openDrop(t, s, 1)
	go func() { done <- m.Expunge(t.Context(), ids(t, m)[:1], nil) }()
	journal.Wait()
	if _, err := s.Reserve(t.Context(), 1, 1); !errors.Is(err, store.ErrMaildropFull) {
		t.Errorf("before the delete is durable: %v, want %v", err, store.ErrMaildropFull)
	}
	journal.Open()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	deliver(t, s, 600, 1)
	if _, err := commitTo(t, s, 18, 1); !errors.Is(err, store.ErrMaildropFull) {
		t.Errorf("full again: %v, want %v", err, store.ErrMaildropFull)
	}
}

// TestPoint12Leases: a lease is in memory, and only its holder settles.
func TestPoint12Leases(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	initData(t, dir)
	s := openData(t, dir, Options{})
	deliver(t, s, 10, 0)
	now := time.Now()
	lease := func() []store.Job {
		t.Helper()
		jobs, err := s.Lease(t.Context(), now, 0, domain, 10, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return jobs
	}
	first := lease()
	if len(first) != 1 || len(lease()) != 0 {
		t.Fatalf("leased %d, then more", len(first))
	}
	closeData(t, s)
	s = openData(t, dir, Options{})
	defer closeData(t, s)
	second := lease()
	if len(second) != 1 {
		t.Fatalf("after a start %d jobs are leased, want 1", len(second))
	}
	for _, tt := range []struct {
		token store.LeaseToken
		lost  int
	}{{first[0].Lease, 1}, {second[0].Lease, 0}, {second[0].Lease, 1}} {
		lost, err := s.Finish(t.Context(), now, store.Outcome{Job: first[0].ID, Lease: tt.token, Kind: store.Delivered, At: now})
		if err != nil || len(lost) != tt.lost {
			t.Errorf("Finish with %d: lost %v, %v, want %d", tt.token, lost, err, tt.lost)
		}
	}
}

// TestPoint13NoOpenTransaction: neither an open maildrop nor a message that is being read holds a transaction of the index.
func TestPoint13NoOpenTransaction(t *testing.T) {
	s, _ := fresh(t, Options{})
	deliver(t, s, 1000, 1)
	deliver(t, s, spillAbove+1, 1)
	m := openDrop(t, s, 1)
	for _, id := range ids(t, m) {
		r, err := m.OpenMessage(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = r.Close() }()
		if _, err := r.Read(make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.index().Stats().OpenTxN; n != 0 {
		t.Errorf("%d transactions are open", n)
	}
}

// TestPoint14Backup: a backup is of the place in the journal that was durable when it began, though the index is behind and everything is
// deleted while it is sent. Only the index's copy takes a transaction. What was kept for it is then given back, and the next backup sends
// nothing that is there in full length.
func TestPoint14Backup(t *testing.T) {
	f := vfstest.NewTrace(vfs.OS{})
	s, data := fresh(t, Options{journal: smallSegments(), fs: f})
	for range 60 {
		deliver(t, s, 5_000, 1)
	}
	noError(t, s.settle(t.Context(), true))
	index := f.Hold(t, vfstest.IndexWrite)
	deliver(t, s, spillAbove+1, 1)
	last := s.journal.Durable() // P: one message is in the tail alone
	want := content(t, s)
	w := &slowWriter{begun: make(chan struct{}), pass: make(chan struct{})}
	ended := make(chan error, 1)
	go func() { ended <- s.Archive(context.Background(), nil, w) }()
	<-w.begun
	if n := s.index().Stats().OpenTxN; n != 0 {
		t.Errorf("%d transactions are open while the backup is sent", n)
	}
	index.Open()
	deliver(t, s, 5_000, 2) // behind P
	m := openDrop(t, s, 1)
	expungeBut(t, m, 0)
	noError(t, m.Close())
	sweepAll(t, s)
	if n := count(t, data, largeName); n != 1 {
		t.Errorf("%d large bodies while the backup needs one", n)
	}
	close(w.pass)
	noError(t, <-ended)
	dir := backupDir(t)
	noError(t, dir.Prepare())
	_, err := dir.Receive(t.Context(), &w.b)
	noError(t, err)
	if applied, end := placeOf(t, dir); applied.Seq >= last.Seq || end.Generation != last.Generation || end.Offset != last.Offset {
		t.Errorf("the index is of %+v and the journal ends at %+v, want less than and exactly %+v", applied, end, last)
	}
	restored(t, "the place where it began", dir, want)
	sweepAll(t, s)
	if n := count(t, data, largeName); n != 0 || s.space.archive != nil {
		t.Errorf("%d large bodies are kept after the backup", n)
	}
	mustBackUp(t, s, dir)
	before := journalOf(t, dir)
	deliver(t, s, 5_000, 1)
	got := mustBackUp(t, s, dir)
	after := journalOf(t, dir)
	grown := int64(0)
	for name, size := range after {
		if size < before[name] {
			t.Errorf("%s has shrunk from %d octets to %d", name, before[name], size)
		}
		grown += size - before[name]
	}
	if indexSize := got.Octets - sum(after); grown < 5_000 || grown > 10_000 || got.New != grown+indexSize {
		t.Errorf("%d octets were sent for a message of 5,000; segments grew by %d, the index has %d", got.New, grown, indexSize)
	}
}

// placeOf returns what the index of a backup has applied, and where its journal ends.
func placeOf(t *testing.T, dir archive.Dir) (applied, end journal.Mark) {
	t.Helper()
	_, err := dir.Walk(t.Context(), func(p archive.Piece) error {
		switch n, _ := archive.ParseName(p.Name); n.Kind {
		case archive.Segment:
			end = journal.Mark{Generation: n.Generation, Offset: p.Size} // the last is the newest
		case archive.Index:
			copied := filepath.Join(t.TempDir(), indexName)
			b, err := os.ReadFile(filepath.Join(dir.Path, p.Name))
			noError(t, errors.Join(err, os.WriteFile(copied, b, 0o600)))
			db, err := openIndex(copied, Options{}.withDefaults())
			noError(t, err)
			noError(t, db.View(func(tx *bolt.Tx) error {
				applied, err = (&view{tx: tx}).applied()
				return err
			}))
			return db.Close()
		}
		return nil
	})
	noError(t, err)
	return applied, end
}

// journalOf returns the segments of a backup and their lengths.
func journalOf(t *testing.T, dir archive.Dir) map[string]int64 {
	t.Helper()
	segments := make(map[string]int64)
	_, err := dir.Walk(t.Context(), func(p archive.Piece) error {
		if n, _ := archive.ParseName(p.Name); n.Kind == archive.Segment {
			segments[p.Name] = p.Size
		}
		return nil
	})
	noError(t, err)
	return segments
}

func sum(sizes map[string]int64) (octets int64) {
	for _, size := range sizes {
		octets += size
	}
	return octets
}

// TestPoint15SmallDomain: a domain with little mail is small, at rest and after much came and went.
func TestPoint15SmallDomain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	initData(t, dir)
	o := Options{}.withDefaults()
	o.bounds.idle = uint64(100 * time.Millisecond)
	s := openData(t, dir, o)
	deliver(t, s, 1000, 1)
	if err := s.settle(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if used := blocksUnder(t, dir); used > 3<<20 {
		t.Errorf("one message of 1,000 octets takes %d", used)
	}
	for round := range 4 {
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 100 {
					if _, err := commitTo(t, s, 4_000, 1); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		m := openDrop(t, s, 1)
		expungeBut(t, m, 0)
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		sweepAll(t, s)
		_ = round
	}
	defer closeData(t, s)
	defer func() {
		if t.Failed() {
			t.Logf("segments %+v, %+v", segmentsOf(s), s.Metrics())
		}
	}()
	waitUntil(t, "an empty domain takes at most 5 MiB", func() bool {
		sweepAll(t, s)
		return blocksUnder(t, dir) <= 5<<20
	})
	mustBeSound(t, s)
}

func blocksUnder(t *testing.T, dir string) (octets int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err == nil {
			octets += blocksOf(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(fmt.Errorf("%s: %w", dir, err))
	}
	return octets
}
