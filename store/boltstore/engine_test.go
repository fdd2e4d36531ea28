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
	"syscall"
	"testing"
	"time"

	"latchkey/internal/vfs"
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

// descriptors counts the open files.
func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("this system does not list its open files")
	}
	return len(entries)
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
	err := s.write(t.Context(), func(tx *txn) error {
		c, err := decodeCopy(tx.get(bCopies, key16(1, 1)))
		if err != nil {
			return err
		}
		for range n - 1 {
			tx.tally.Copy++
			tx.put(bCopies, key16(1, tx.tally.Copy), c.encode())
		}
		tx.charge(1, (n-1)*c.Size, n-1)
		body, err := tx.body(1)
		body.Refs = n
		tx.put(bBodies, key8(1), body.encode())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
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
	problems, err := s.Check(t.Context())
	if err != nil || len(problems) > 0 {
		t.Errorf("Check: %v, %v", problems, err)
	}
}

// TestPins: a body stays for every snapshot that lists it, and goes with the last.
func TestPins(t *testing.T) {
	s, dir := fresh(t, Options{})
	if err := send(s, newLedger(), "one", 10, false); err != nil {
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
			t.Errorf("read %q: %v", b, err)
		}
	}
	if n := count(t, dir, largeName); n != 0 {
		t.Errorf("%d bodies after the last snapshot, want 0", n)
	}
}

// valve is a vfs.FS whose commits wait for the test.
type valve struct {
	vfs.OS
	mu      sync.Mutex
	entered chan struct{} // one value for each commit that waits
	open    chan struct{} // one value lets one commit go
	after   func()        // runs when the transaction is written, before the commit returns
	commits int
	dirs    int
	files   int
}

func (v *valve) Commit(name string, commit func() error) error {
	v.mu.Lock()
	entered, after := v.entered, v.after
	v.commits++
	v.mu.Unlock()
	if entered != nil {
		entered <- struct{}{}
		<-v.open
	}
	err := commit()
	if after != nil {
		after()
	}
	return err
}

func (v *valve) SyncDir(dir string) error {
	v.mu.Lock()
	v.dirs++
	v.mu.Unlock()
	return v.OS.SyncDir(dir)
}

func (v *valve) Create(name string) (vfs.File, error) {
	f, err := v.OS.Create(name)
	return valveFile{f, v}, err
}

type valveFile struct {
	vfs.File
	v *valve
}

func (f valveFile) Sync() error {
	f.v.mu.Lock()
	f.v.files++
	f.v.mu.Unlock()
	return f.File.Sync()
}

// TestGroupCommit: what arrives while a transaction is on its way shares the next one, and one sync of the directory.
func TestGroupCommit(t *testing.T) {
	v := &valve{}
	s, _ := fresh(t, Options{fs: v})
	const writers = 64
	v.mu.Lock()
	v.entered, v.open = make(chan struct{}), make(chan struct{})
	v.commits, v.dirs, v.files = 0, 0, 0
	v.mu.Unlock()
	var wg sync.WaitGroup
	l := newLedger()
	deliver := func(i int) {
		wg.Go(func() {
			if err := send(s, l, fmt.Sprint("m", i), 100, false); err != nil {
				t.Error(err)
			}
		})
	}
	deliver(0)
	<-v.entered
	for i := range writers {
		deliver(i + 1)
	}
	for len(s.requests) < writers {
		runtime.Gosched()
	}
	v.open <- struct{}{} // the first goes alone,
	<-v.entered          // and all the others together
	v.mu.Lock()
	commits, dirs, files := v.commits, v.dirs, v.files
	v.entered = nil
	v.mu.Unlock()
	v.open <- struct{}{}
	wg.Wait()
	if commits != 2 || dirs != 2 || files != writers+1 {
		t.Errorf("%d commits, %d directory syncs, %d file syncs, want 2, 2, %d", commits, dirs, files, writers+1)
	}
}

// TestGroupBounds: a group ends at its bound of requests and of octets, and what is beyond comes next.
func TestGroupBounds(t *testing.T) {
	s := &Store{requests: make(chan *request, 2*maxGroupRequests)}
	add := func(n, octets int) {
		for range n {
			s.requests <- &request{octets: octets}
		}
	}
	for _, n := range []int{maxGroupRequests - 1, maxGroupRequests, maxGroupRequests + 1} {
		add(n, 1)
		group, held := s.gather(nil, nil)
		if len(group) != min(n, maxGroupRequests) || held != nil || len(s.requests) != n-len(group) {
			t.Errorf("of %d requests: %d in the group, %d left", n, len(group), len(s.requests))
		}
		_, _ = s.gather(nil, nil)
	}
	for _, tt := range []struct{ octets, first int }{{maxGroupOctets/2 - 1, 2}, {maxGroupOctets / 2, 2}, {maxGroupOctets/2 + 1, 1}, {2 * maxGroupOctets, 1}} {
		add(2, tt.octets)
		group, held := s.gather(nil, nil)
		if len(group) != tt.first || (held != nil) != (tt.first == 1) {
			t.Errorf("two requests of %d octets: %d in the group, one held: %t", tt.octets, len(group), held != nil)
		}
		if held != nil {
			if group, held = s.gather(nil, held); len(group) != 1 || held != nil {
				t.Errorf("the held request: %d in the group, another held: %t", len(group), held != nil)
			}
		}
	}
}

// TestInvisibleUntilDurable: while a transaction is written but its commit has not returned, no reader can begin, and nobody was told.
func TestInvisibleUntilDurable(t *testing.T) {
	v := &valve{}
	s, _ := fresh(t, Options{fs: v})
	told := make(chan struct{})
	looked := 0
	v.mu.Lock()
	v.after = func() {
		looked++
		if s.gate.TryRLock() {
			s.gate.RUnlock()
			t.Error("a reader could begin before the commit was durable")
		}
		select {
		case <-told:
			t.Error("the sender was told before the commit was durable")
		default:
		}
	}
	v.mu.Unlock()
	err := send(s, newLedger(), "one", 10, false)
	close(told)
	if err != nil || looked != 1 {
		t.Errorf("%v after %d commits", err, looked)
	}
}

// full is a device without room: writes of the index and of files fail until room is made, or the reserve is given up.
type full struct {
	vfs.OS
	mu   sync.Mutex
	free int // octets
	on   bool
}

func (f *full) take(n int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.on && f.free < n {
		return &os.PathError{Op: "write", Err: syscall.ENOSPC}
	}
	f.free -= n
	return nil
}

func (f *full) set(on bool, free int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.on, f.free = on, free
}

func (f *full) Commit(name string, commit func() error) error {
	if err := f.take(16 << 10); err != nil {
		return err
	}
	return commit()
}

func (f *full) Remove(name string) error {
	if filepath.Base(name) == reserveName {
		f.mu.Lock()
		f.free += reserveSize
		f.mu.Unlock()
	}
	return f.OS.Remove(name)
}

func (f *full) Create(name string) (vfs.File, error) {
	inner, err := f.OS.Create(name)
	return fullFile{inner, f}, err
}

type fullFile struct {
	vfs.File
	f *full
}

func (f fullFile) Write(p []byte) (int, error) {
	if err := f.f.take(len(p)); err != nil {
		return 0, err
	}
	return f.File.Write(p)
}

// TestFullDevice: mail is refused for now, mail can be deleted, and when there is room mail is taken again.
func TestFullDevice(t *testing.T) {
	f := &full{}
	now := time.Unix(1_000_000_000, 0)
	var clock sync.Mutex
	s, dir := fresh(t, Options{fs: f, Now: func() time.Time { clock.Lock(); defer clock.Unlock(); return now }})
	l := newLedger()
	for i := range 3 {
		if err := send(s, l, fmt.Sprint("before", i), 100, true); err != nil {
			t.Fatal(err)
		}
	}
	f.set(true, 0)
	for i := range 3 {
		if err := send(s, l, fmt.Sprint("full", i), 100, false); !errors.Is(err, store.ErrNoSpace) {
			t.Errorf("delivery: %v, want %v", err, store.ErrNoSpace)
		}
		m, err := s.OpenMaildrop(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Expunge(t.Context(), ids(m)[:1], nil); err != nil {
			t.Errorf("Expunge on a full device: %v", err)
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
	jobs, err := s.Lease(t.Context(), now.Add(time.Hour*1e6), "out.example", 3, time.Minute)
	if err != nil || len(jobs) != 3 {
		t.Fatalf("%d jobs, %v", len(jobs), err)
	}
	at := now.Add(time.Hour * 1e6)
	if lost, err := s.Finish(t.Context(), at, store.Outcome{Job: jobs[0].ID, Lease: jobs[0].Lease, Kind: store.Delivered, At: at}); err != nil || len(lost) > 0 {
		t.Errorf("Finish on a full device: %v, %v", lost, err)
	}
	f.set(true, 10<<20) // somebody made room
	clock.Lock()
	now = now.Add(2 * reserveRetry)
	clock.Unlock()
	if err := send(s, l, "after", 100, false); err != nil {
		t.Errorf("delivery after room was made: %v", err)
	}
	if info, err := os.Stat(filepath.Join(dir, reserveName)); err != nil || info.Size() != reserveSize {
		t.Errorf("the reserve was not taken back: %v", err)
	}
	problems, err := s.Check(t.Context())
	if err != nil || len(problems) > 0 {
		t.Errorf("Check: %v, %v", problems, err)
	}
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
	f := &full{on: true, free: 64 << 10}
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
	before := descriptors(t)
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
	if after := descriptors(t); after != before {
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
