package boltstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"latchkey/internal/journal"
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

// clock is a time that passes when a test says so. The store asks for it on its own goroutines.
type clock struct{ at atomic.Pointer[time.Time] }

func newClock(at time.Time) *clock {
	c := &clock{}
	c.at.Store(&at)
	return c
}

func (c *clock) now() time.Time { return *c.at.Load() }

func (c *clock) pass(d time.Duration) {
	at := c.now().Add(d)
	c.at.Store(&at)
}

// descriptors counts the open files whose path has all parts.
func descriptors(t *testing.T, parts ...string) (n int) {
	t.Helper()
	const fds = "/proc/self/fd"
	entries, err := os.ReadDir(fds)
	if err != nil {
		t.Skip("this system does not list its open files")
	}
	for _, e := range entries {
		path, err := os.Readlink(filepath.Join(fds, e.Name()))
		if err == nil && !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(path, part) }) {
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

// TestSnapshotSize: the list of a large maildrop costs less than 100 octets a message, and what a session is given of it a store.Message and its
// unique-id.
func TestSnapshotSize(t *testing.T) {
	s, _ := fresh(t, Options{})
	n := 100_000
	if testing.Short() {
		n = 20_000
	}
	if err := send(s, newLedger(), "one", 10, false); err != nil {
		t.Fatal(err)
	}
	multiply(t, s, n)
	md, err := s.OpenMaildrop(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		name string
		most uint64
		do   func() error
	}{
		{"the list", 100, func() error { _, err := md.OpenMessage(t.Context(), 0); return err }},
		{"what is given", 104, func() error { _, err := md.Messages(t.Context()); return err }},
	} {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		start := m.TotalAlloc
		if err := step.do(); err != nil && !errors.Is(err, store.ErrNotFound) {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&m)
		if per := (m.TotalAlloc - start) / uint64(n); per > step.most {
			t.Errorf("%s allocated %d octets a message, want at most %d", step.name, per, step.most)
		}
	}
	if got := len(listed(t, md)); got != n {
		t.Errorf("%d messages, want %d", got, n)
	}
	if err := md.Expunge(t.Context(), ids(t, md), nil); err != nil {
		t.Fatal(err)
	}
	if err := md.Close(); err != nil {
		t.Fatal(err)
	}
	sweepAll(t, s)
	mustBeSound(t, s)
}

// multiply makes n copies of anna's only one.
func multiply(t testing.TB, s *Store, n int) {
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
	s.tail.mu.Lock()
	s.tail.lastCopy += store.CopyID(n - 1)
	s.tail.mu.Unlock()
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
	id := ids(t, drops[0])[0]
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
	fresh := func() *pipeline { return &pipeline{s: s, filling: &group{s: s}} }
	for _, n := range []int{maxGroupPostings - 1, maxGroupPostings, maxGroupPostings + 1} {
		add(n, 1)
		p := fresh()
		p.take(s.postings)
		if len(p.batch) != min(n, maxGroupPostings) || p.held != nil || len(s.postings) != n-len(p.batch) {
			t.Errorf("of %d postings: %d in the group, %d left", n, len(p.batch), len(s.postings))
		}
		fresh().take(s.postings)
	}
	// What is staged already counts.
	for _, staged := range []int{maxGroupPostings - 2, maxGroupPostings - 1} {
		add(2, 1)
		p := fresh()
		p.filling.postings = make([]*posting, staged)
		if p.take(s.postings); len(p.batch) != maxGroupPostings-staged {
			t.Errorf("behind %d postings: %d more", staged, len(p.batch))
		}
		fresh().take(s.postings)
	}
	for _, tt := range []struct{ octets, first int }{{maxGroupOctets/2 - 1, 2}, {maxGroupOctets / 2, 2}, {maxGroupOctets/2 + 1, 1}, {2 * maxGroupOctets, 1}} {
		add(2, tt.octets)
		p := fresh()
		p.take(s.postings)
		if len(p.batch) != tt.first || (p.held != nil) != (tt.first == 1) {
			t.Errorf("two postings of %d octets: %d in the group, one held: %t", tt.octets, len(p.batch), p.held != nil)
		}
	}
	// An alteration is a group of its own, wherever it comes, and so is what wants to be alone.
	for _, other := range []*posting{{alter: &request{}}, {alone: true}} {
		add(1, 1)
		s.postings <- other
		add(1, 1)
		p := fresh()
		if p.take(s.postings); len(p.batch) != 1 || p.held != other || len(s.postings) != 1 {
			t.Errorf("before it: %d in the group, held: %t", len(p.batch), p.held != nil)
		}
		<-s.postings
		p = fresh()
		if p.take(s.postings, other); len(p.batch) != 0 || p.held != other {
			t.Errorf("at the beginning: %d in the group, held: %t", len(p.batch), p.held != nil)
		}
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
	if err := s.Room(t.Context()); !errors.Is(err, store.ErrNoSpace) {
		t.Errorf("Room on a full device: %v, want %v", err, store.ErrNoSpace)
	}
	for i := range 3 {
		if err != nil && !errors.Is(err, store.ErrNoSpace) {
			t.Errorf("delivery: %v, want %v", err, store.ErrNoSpace)
		}
		m, openErr := s.OpenMaildrop(t.Context(), 1)
		if openErr != nil {
			t.Fatal(openErr)
		}
		if err := m.Expunge(t.Context(), ids(t, m)[:1], nil); err != nil {
			t.Errorf("Expunge on a full device: %v", err)
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		err = send(s, l, fmt.Sprint("still full", i), 100, false)
	}
	jobs, err := s.Lease(t.Context(), now.Add(time.Hour*1e6), 0, "out.example", 3, time.Minute)
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
	if err := m.Expunge(t.Context(), ids(t, m), nil); err != nil {
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

// TestRestBehindTheIndex: a domain that is idle before its index has the last deletes is made small when the index has them.
func TestRestBehindTheIndex(t *testing.T) {
	f := vfstest.NewTrace(vfs.OS{})
	o := Options{fs: f, journal: smallSegments()}.withDefaults()
	o.bounds.idle, o.bounds.indexDelay, o.bounds.journal = uint64(20*time.Millisecond), uint64(time.Second), 100<<10
	s, _ := fresh(t, o)
	for range 50 {
		deliver(t, s, 5_000, 1)
	}
	if !slices.ContainsFunc(segmentsOf(s), func(i journal.Info) bool { return i.Active && i.Size > 100<<10 }) {
		t.Fatalf("segments %+v, want a large one that is written", segmentsOf(s))
	}
	noError(t, s.settle(t.Context(), true))
	index := f.Hold(t, vfstest.IndexWrite)
	m := openDrop(t, s, 1)
	expungeBut(t, m, 0)
	noError(t, m.Close())
	<-time.After(10 * s.idleAfter()) // it has looked, and what is deleted was alive still
	index.Open()
	waitUntil(t, "the journal is small", func() bool {
		return !slices.ContainsFunc(segmentsOf(s), func(i journal.Info) bool { return i.Size > 100<<10 })
	})
}

func segmentsOf(s *Store) []journal.Info {
	list, _, _ := s.journal.Segments()
	return list
}

// TestTailForgets: of what the index has nothing stays in the tail, whatever it was.
func TestTailForgets(t *testing.T) {
	s, _ := fresh(t, Options{})
	deliver(t, s, 100, 1, 2, 0)
	deliver(t, s, spillAbove+1, 1)
	noError(t, s.settle(t.Context(), true)) // what follows concerns no message of the tail
	m := openDrop(t, s, 1)
	noError(t, m.Expunge(t.Context(), ids(t, m)[:1], ids(t, m)[1:]))
	jobs, err := s.Lease(t.Context(), time.Now(), 0, domain, 10, time.Hour)
	if err != nil || len(jobs) != 1 {
		t.Fatalf("leased %d jobs, %v", len(jobs), err)
	}
	_, err = s.Finish(t.Context(), time.Now(), store.Outcome{Job: jobs[0].ID, Lease: jobs[0].Lease, Kind: store.Delivered, At: time.Now()})
	noError(t, err)
	noError(t, s.settle(t.Context(), true))
	z := &s.tail
	z.mu.Lock()
	defer z.mu.Unlock()
	if len(z.list)+z.octets+len(z.accounts)+len(z.large) > 0 || z.applied != z.last {
		t.Errorf("the tail holds %d records of %d octets, %d accounts and %d large bodies, up to %d of %d", len(z.list), z.octets, len(z.accounts), len(z.large), z.applied, z.last)
	}
}
