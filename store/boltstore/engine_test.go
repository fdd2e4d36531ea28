package boltstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"latchkey/internal/vfs"
	"latchkey/internal/vfs/vfstest"
	"latchkey/store"
)

func fresh(t testing.TB, o Options) (*Store, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	initData(t, dir)
	s := openData(t, dir, o)
	t.Cleanup(func() { closeData(t, s) })
	return s, dir
}

// envelopeTo is a plain envelope for anna and others.
func envelopeTo(accounts ...store.AccountID) store.Envelope {
	e := store.Envelope{Received: time.Unix(1_000_000_000, 0), ReversePath: mustAddress("sender@out.example")}
	for _, id := range accounts {
		e.Recipients = append(e.Recipients, store.Recipient{Address: mustAddress("anna@" + domain), Account: id})
	}
	return e
}

// descriptors counts the open files whose path has a part.
func descriptors(t *testing.T, part string) (n int) {
	t.Helper()
	const fds = "/proc/self/fd"
	entries, err := os.ReadDir(fds)
	if err != nil {
		t.Skip("this system does not list its open files")
	}
	for _, e := range entries {
		if path, err := os.Readlink(filepath.Join(fds, e.Name())); err == nil && strings.Contains(path, part) {
			n++
		}
	}
	return n
}

// TestMemoryFlat: 50 MB go in and out, and hardly anything is allocated.
func TestMemoryFlat(t *testing.T) {
	s, _ := fresh(t, Options{})
	const size, most = 50_000_000, 4 << 20
	buf := make([]byte, 32<<10)
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	start := m.TotalAlloc
	d, err := s.NewDraft(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for rest := size; rest > 0; rest -= len(buf) {
		if _, err := d.Write(buf[:min(rest, len(buf))]); err != nil {
			t.Fatal(err)
		}
	}
	r, err := d.Commit(t.Context(), envelopeTo(1))
	if err != nil {
		t.Fatal(err)
	}
	md, err := s.OpenMaildrop(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = md.Close() }()
	body, err := md.OpenMessage(t.Context(), r.Copies[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{body}, buf)
	if err := errors.Join(err, body.Close()); err != nil || n != size {
		t.Fatalf("read %d octets, want %d: %v", n, size, err)
	}
	runtime.ReadMemStats(&m)
	if used := m.TotalAlloc - start; used > most {
		t.Errorf("%d octets were allocated, want at most %d", used, most)
	}
}

// TestSnapshotSize: the list of a large maildrop costs less than 100 octets a message.
func TestSnapshotSize(t *testing.T) {
	s, _ := fresh(t, Options{})
	const n, most = 100_000, 100
	if err := send(s, newLedger(), "one", 10, false); err != nil {
		t.Fatal(err)
	}
	multiply(t, s, n)
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	start := m.TotalAlloc
	md, err := s.OpenMaildrop(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&m)
	if per := (m.TotalAlloc - start) / n; per > most {
		t.Errorf("the snapshot allocated %d octets a message, want at most %d", per, most)
	}
	if got := len(md.Messages()); got != n {
		t.Errorf("%d messages, want %d", got, n)
	}
	if err := md.Expunge(t.Context(), ids(md), nil); err != nil {
		t.Fatal(err)
	}
	if err := md.Close(); err != nil {
		t.Fatal(err)
	}
	sweepAll(t, s)
	mustBeSound(t, s)
}

// multiply makes n copies of anna's only one.
func multiply(t *testing.T, s *Store, n int) {
	t.Helper()
	var size int64
	err := s.write(t.Context(), func(tx *txn) error {
		l, ok := tx.copyOf(1, 1)
		if !ok || l.shared() {
			t.Fatal("anna has no copy of her own")
		}
		size = l.size
		l.flags |= copyShared
		shared := sharedRecord{Refs: uint64(n), where: l.where(), octets: l.octets(), body: body{size: l.octets()}}
		tx.put(bBodies, key8(uint64(l.message)), shared.encode())
		tx.putCopy(1, &l)
		for range n - 1 {
			tx.tally.Copy++
			l.id = store.CopyID(tx.tally.Copy)
			tx.putCopy(1, &l)
		}
		tx.charge(1, int64(n-1)*l.size, int64(n-1))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	s.holdings.mu.Lock()
	s.holdings.add(1, store.Usage{Octets: int64(n-1) * size, Messages: int64(n - 1)})
	s.holdings.mu.Unlock()
}

func mustBeSound(t *testing.T, s *Store) {
	t.Helper()
	problems, err := s.Check(t.Context())
	if err != nil || len(problems) > 0 {
		t.Errorf("Check: %v, %v", problems, err)
	}
}

// TestPins: a large body stays for every snapshot that lists it, and goes with the last.
func TestPins(t *testing.T) {
	s, dir := fresh(t, Options{})
	if err := send(s, newLedger(), "one", spillAbove, false); err != nil {
		t.Fatal(err)
	}
	var drops []store.Maildrop
	for range 3 {
		m, err := s.OpenMaildrop(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		drops = append(drops, m)
	}
	id := ids(drops[0])[0]
	if err := drops[0].Expunge(t.Context(), []store.CopyID{id}, nil); err != nil {
		t.Fatal(err)
	}
	late, err := s.OpenMaildrop(t.Context(), 1) // does not list it, so it does not keep it
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = late.Close() }()
	for i, m := range drops {
		sweepAll(t, s)
		if n := count(t, dir, largeName); n != 1 {
			t.Fatalf("with %d snapshots open that list it: %d bodies, want 1", len(drops)-i, n)
		}
		r, err := m.OpenMessage(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		sweepAll(t, s)
		// A reader outlives its snapshot, and even the file's name.
		b, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil || !strings.Contains(string(b), "Subject: one") {
			t.Errorf("read %d octets: %v", len(b), err)
		}
	}
	if n := count(t, dir, largeName); n != 0 {
		t.Errorf("%d bodies after the last snapshot, want 0", n)
	}
}

// TestGroupBounds: a group ends at its bound of postings and of octets, and what is beyond comes next.
func TestGroupBounds(t *testing.T) {
	s := &Store{postings: make(chan *posting, 2*maxGroupPostings)}
	add := func(n, octets int) {
		for range n {
			s.postings <- &posting{octets: octets}
		}
	}
	for _, n := range []int{maxGroupPostings - 1, maxGroupPostings, maxGroupPostings + 1} {
		add(n, 1)
		group, held := s.gather(nil, nil)
		if len(group) != min(n, maxGroupPostings) || held != nil || len(s.postings) != n-len(group) {
			t.Errorf("of %d postings: %d in the group, %d left", n, len(group), len(s.postings))
		}
		_, _ = s.gather(nil, nil)
	}
	for _, tt := range []struct{ octets, first int }{{maxGroupOctets/2 - 1, 2}, {maxGroupOctets / 2, 2}, {maxGroupOctets/2 + 1, 1}, {2 * maxGroupOctets, 1}} {
		add(2, tt.octets)
		group, held := s.gather(nil, nil)
		if len(group) != tt.first || (held != nil) != (tt.first == 1) {
			t.Errorf("two postings of %d octets: %d in the group, one held: %t", tt.octets, len(group), held != nil)
		}
		if held != nil {
			if group, held = s.gather(nil, held); len(group) != 1 || held != nil {
				t.Errorf("the held posting: %d in the group, another held: %t", len(group), held != nil)
			}
		}
	}
	// An alteration is a group of its own, wherever it comes.
	add(1, 1)
	s.postings <- &posting{alter: &request{}}
	add(1, 1)
	group, held := s.gather(nil, nil)
	if len(group) != 1 || held == nil || held.alter == nil {
		t.Errorf("before an alteration: %d in the group, held: %t", len(group), held != nil)
	}
	if group, held = s.gather(nil, held); len(group) != 1 || group[0].alter == nil || held != nil {
		t.Errorf("the alteration: %d in the group, held: %t", len(group), held != nil)
	}
}

// TestChangesInvisibleUntilDurable: while a change of what only the index has is written but not durable, no reader can begin.
func TestChangesInvisibleUntilDurable(t *testing.T) {
	v := vfstest.NewTrace(vfs.OS{})
	s, _ := fresh(t, Options{fs: v})
	looked := 0
	v.Done(func(op vfstest.Op, _ error) {
		if op.Kind != vfstest.IndexWrite {
			return
		}
		looked++
		if s.gate.TryRLock() {
			s.gate.RUnlock()
			t.Error("a reader could begin before the commit was durable")
		}
	})
	_, err := s.AddAccount(t.Context(), store.Account{Name: "carl"})
	v.Done(nil)
	if err != nil || looked != 1 {
		t.Errorf("%v after %d commits", err, looked)
	}
}

// TestFullDevice: mail is refused for now, mail can be deleted, and when there is room mail is taken again.
func TestFullDevice(t *testing.T) {
	f := &vfstest.Full{}
	now := time.Unix(1_000_000_000, 0)
	var clock sync.Mutex
	s, dir := fresh(t, Options{fs: f, Now: func() time.Time { clock.Lock(); defer clock.Unlock(); return now }})
	l := newLedger()
	for i := range 3 {
		if err := send(s, l, fmt.Sprint("before", i), 100, true); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.settle(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	f.SetRoom(0)
	// The journal has room of its own for a while; then it is over, for mail only.
	err := error(nil)
	for i := 0; err == nil; i++ {
		if err = send(s, l, fmt.Sprint("full", i), 100_000, false); i > 100 {
			t.Fatal("mail is taken for ever on a full device")
		}
	}
	for i := range 3 {
		if err != nil && !errors.Is(err, store.ErrNoSpace) {
			t.Errorf("delivery: %v, want %v", err, store.ErrNoSpace)
		}
		m, openErr := s.OpenMaildrop(t.Context(), 1)
		if openErr != nil {
			t.Fatal(openErr)
		}
		if err := m.Expunge(t.Context(), ids(m)[:1], nil); err != nil {
			t.Errorf("Expunge on a full device: %v", err)
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		err = send(s, l, fmt.Sprint("still full", i), 100, false)
	}
	jobs, err := s.Lease(t.Context(), now.Add(time.Hour*1e6), "out.example", 3, time.Minute)
	if err != nil || len(jobs) != 3 {
		t.Fatalf("%d jobs, %v", len(jobs), err)
	}
	at := now.Add(time.Hour * 1e6)
	if lost, err := s.Finish(t.Context(), at, store.Outcome{Job: jobs[0].ID, Lease: jobs[0].Lease, Kind: store.Delivered, At: at}); err != nil || len(lost) > 0 {
		t.Errorf("Finish on a full device: %v, %v", lost, err)
	}
	f.SetRoom(10 << 20) // somebody made room
	clock.Lock()
	now = now.Add(2 * reserveRetry)
	clock.Unlock()
	if err := send(s, l, "after", 100, false); err != nil {
		t.Errorf("delivery after room was made: %v", err)
	}
	if info, err := os.Stat(filepath.Join(dir, reserveName)); err != nil || info.Size() != reserveSize {
		t.Errorf("the reserve was not taken back: %v", err)
	}
	mustBeSound(t, s)
}

// TestOpenOnFullDevice: a store without room for its reserve can be read and deleted from.
func TestOpenOnFullDevice(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	initData(t, dir)
	l := newLedger()
	s := openData(t, dir, Options{})
	if err := send(s, l, "one", 10, false); err != nil {
		t.Fatal(err)
	}
	closeData(t, s)
	if err := os.Remove(filepath.Join(dir, reserveName)); err != nil {
		t.Fatal(err)
	}
	f := &vfstest.Full{}
	f.SetRoom(64 << 10)
	s = openData(t, dir, Options{fs: f})
	defer closeData(t, s)
	if err := send(s, l, "two", 10, false); !errors.Is(err, store.ErrNoSpace) {
		t.Errorf("delivery: %v, want %v", err, store.ErrNoSpace)
	}
	m, err := s.OpenMaildrop(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = m.Close() }()
	if err := m.Expunge(t.Context(), ids(m), nil); err != nil {
		t.Errorf("Expunge: %v", err)
	}
}

// TestClosed: after Close every verb says so, and drafts and maildrops are void.
func TestClosed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	initData(t, dir)
	before := descriptors(t, dir)
	s := openData(t, dir, Options{})
	d, err := s.NewDraft(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Write(make([]byte, spillAbove+1)); err != nil {
		t.Fatal(err)
	}
	m, err := s.OpenMaildrop(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	closeData(t, s)
	closeData(t, s)
	_, addErr := s.AddAccount(t.Context(), store.Account{Name: "carl"})
	_, commitErr := d.Commit(t.Context(), envelopeTo(1))
	_, accountErr := s.Account(t.Context(), 1)
	_, checkErr := s.Check(t.Context())
	_, takeErr := s.Take(t.Context(), time.Now(), "key", 1, store.Limit{N: 1, Window: time.Second})
	for i, err := range []error{addErr, commitErr, accountErr, checkErr, takeErr, m.Expunge(t.Context(), []store.CopyID{1}, nil)} {
		if !errors.Is(err, store.ErrClosed) {
			t.Errorf("verb %d: %v, want %v", i, err, store.ErrClosed)
		}
	}
	if after := descriptors(t, dir); after != before {
		t.Errorf("%d descriptors, before Open %d", after, before)
	}
}

// TestLazyFiguresAreWritten: counters and statistics reach the index with the flush, and need no Close.
func TestLazyFiguresAreWritten(t *testing.T) {
	s, dir := fresh(t, Options{})
	ctx := context.Background()
	limit := store.Limit{N: 10, Window: time.Hour}
	if _, err := s.Take(ctx, time.Now(), "key", 7, limit); err != nil {
		t.Fatal(err)
	}
	if err := s.AddStat(ctx, 20260101, "mail", 5); err != nil {
		t.Fatal(err)
	}
	if err := s.flushLazy(ctx); err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(t.TempDir(), "copy") // as after kill -9
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	again := openData(t, copied, Options{})
	defer closeData(t, again)
	taken, err := again.Take(ctx, time.Now(), "key", 0, limit)
	stats, statErr := again.ListStats(ctx, 20260101, 20260101)
	if err != nil || statErr != nil || taken.Left != 3 || len(stats) != 1 || stats[0].N != 5 {
		t.Errorf("left %+v, figures %+v, %v, %v, want 3 left and a figure of 5", taken, stats, err, statErr)
	}
}
