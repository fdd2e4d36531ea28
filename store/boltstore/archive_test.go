package boltstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"latchkey/internal/archive"
	"latchkey/internal/vfs"
	"latchkey/internal/vfs/vfstest"
	"latchkey/store"
)

// backUp brings the backup in a directory up to date.
func backUp(s *Store, dir archive.Dir) (archive.Received, error) {
	ctx := context.Background()
	var have bytes.Buffer
	if err := errors.Join(dir.Prepare(), dir.Have(&have)); err != nil {
		return archive.Received{}, err
	}
	in, out := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := s.Archive(ctx, &have, out)
		ended <- errors.Join(err, out.CloseWithError(err))
	}()
	got, err := dir.Receive(ctx, in)
	_ = in.CloseWithError(err) // nil is io.ErrClosedPipe for the writer, which has ended
	return got, errors.Join(err, <-ended)
}

func mustBackUp(t *testing.T, s *Store, dir archive.Dir) archive.Received {
	t.Helper()
	got, err := backUp(s, dir)
	if err != nil {
		t.Fatalf("backup: %v", err)
	}
	return got
}

// backupDir is a directory for a backup, that is not there yet.
func backupDir(t testing.TB) archive.Dir {
	return archive.Dir{FS: vfs.OS{}, Path: filepath.Join(vfstest.TempDir(t), "backup")}
}

// mustRestore restores to where nothing is, and returns the directory.
func mustRestore(t *testing.T, from archive.Source) string {
	t.Helper()
	to := filepath.Join(vfstest.TempDir(t), "restored")
	if got, err := Restore(context.Background(), to, from, false, Options{}); err != nil || got.Domain != domain {
		t.Fatalf("restore: %+v, %v", got, err)
	}
	return to
}

// at returns what was promised at this moment.
func (l *ledger) at() *ledger {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := newLedger()
	maps.Copy(c.messages, l.messages)
	maps.Copy(c.jobs, l.jobs)
	maps.Copy(c.uids, l.uids)
	return c
}

// between is what a backup may hold that began when the promises were those of before, and ended when they were those of after: what was
// acknowledged before is there unless its removal was asked for meanwhile, and what was removed before is not.
func between(before, after *ledger) *ledger {
	c := newLedger()
	merge := func(into, was, is map[string]fate) {
		for name, f := range is {
			switch w, known := was[name]; {
			case known && w == departed:
				into[name] = departed
			case known && w == acked && f == acked:
				into[name] = acked
			default:
				into[name] = tried
			}
		}
	}
	merge(c.messages, before.messages, after.messages)
	merge(c.jobs, before.jobs, after.jobs)
	c.uids = after.uids
	return c
}

// someWork does n random things; the first error ends it.
func someWork(s *Store, l *ledger, rng *rand.Rand, name string, n int) error {
	for i := range n {
		var err error
		switch op := fmt.Sprintf("%s-%d", name, i); rng.IntN(7) {
		case 0, 1, 2:
			err = send(s, l, op, rng.IntN(2000), false)
		case 3:
			err = send(s, l, op, rng.IntN(3*blockSize), true)
		case 4:
			err = send(s, l, op, rng.IntN(200), true)
		case 5:
			err = fetch(s, l, rng)
		case 6:
			err = run(s, l, rng)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// TestBackupUnderLoad: while clients send, fetch, delete and work off jobs, backups are made one after the other into the same directory, and
// whole ones beside. Each is restored elsewhere: everything acknowledged before it began is there, nothing removed before, and it is sound.
func TestBackupUnderLoad(t *testing.T) {
	s, _ := fresh(t, Options{journal: smallSegments()})
	l := newLedger()
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for c := range 3 {
		rng := rand.New(rand.NewPCG(uint64(c), 7))
		clients.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				if err := someWork(s, l, rng, fmt.Sprintf("%d-%d", c, i), 10); err != nil {
					t.Errorf("client %d: %v", c, err)
					return
				}
			}
		})
	}
	dir := backupDir(t)
	var all []string
	var ledgers []*ledger
	for range 6 {
		for range 3 {
			before := l.at()
			mustBackUp(t, s, dir)
			promised := between(before, l.at())
			all, ledgers = append(all, mustRestore(t, dir)), append(ledgers, promised)
		}
		before := l.at()
		var whole bytes.Buffer
		if err := s.Archive(t.Context(), nil, &whole); err != nil {
			t.Fatal(err)
		}
		promised := between(before, l.at())
		all, ledgers = append(all, mustRestore(t, archive.Stream{R: &whole})), append(ledgers, promised)
	}
	close(stop)
	clients.Wait()
	for i, restored := range all {
		verify(t, restored, ledgers[i])
		if t.Failed() {
			t.Fatalf("backup %d", i)
		}
	}
	if problems, err := s.Check(t.Context()); err != nil || len(problems) > 0 {
		t.Errorf("the store itself: %+v, %v", problems, err)
	}
}

// uids returns the unique-ids of anna's copies by the name of the message.
func uids(t *testing.T, s *Store) map[string]string {
	t.Helper()
	m, err := s.OpenMaildrop(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = m.Close() }()
	found := make(map[string]string)
	for _, msg := range listed(t, m) {
		r, err := m.OpenMessage(t.Context(), msg.ID)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil {
			t.Fatal(err)
		}
		found[nameOf(string(b))] = msg.UID
	}
	return found
}

// content returns what anna has: the octets by unique-id.
func content(t *testing.T, s *Store) map[string]string {
	t.Helper()
	m := openDrop(t, s, 1)
	defer func() { _ = m.Close() }()
	found := make(map[string]string)
	for _, msg := range listed(t, m) {
		found[msg.UID] = string(readCopy(t, m, msg.ID))
	}
	return found
}

func sameContent(t *testing.T, what string, got, want map[string]string) {
	t.Helper()
	for uid, text := range want {
		if got[uid] != text {
			t.Errorf("%s: copy %s has %d octets, want %d", what, uid, len(got[uid]), len(text))
		}
	}
	if len(got) != len(want) {
		t.Errorf("%s: %d copies, want %d", what, len(got), len(want))
	}
}

// restored restores a backup, compares what anna has in it, and checks it.
func restored(t *testing.T, what string, from archive.Source, want map[string]string) string {
	t.Helper()
	dir := mustRestore(t, from)
	s := openData(t, dir, Options{})
	defer closeData(t, s)
	mustBeSound(t, s)
	sameContent(t, what, content(t, s), want)
	return dir
}

// TestIncrementsFollowTheStore: increments after deletes, after segments were copied forward and used again, after the index was compacted,
// and after the store was closed and opened; each is restored and compared.
func TestIncrementsFollowTheStore(t *testing.T) {
	s, data := fresh(t, Options{journal: smallSegments()})
	dir := backupDir(t)
	seen := map[string]bool{}
	for round := range 8 {
		for i := range 40 {
			deliver(t, s, 3000+i, 1)
		}
		deliver(t, s, spillAbove+1+round, 1)
		m := openDrop(t, s, 1)
		expungeBut(t, m, 4*(round+1)) // a few stay in each segment
		noError(t, m.Close())
		sweepAll(t, s)
		if round%3 == 2 {
			_, err := s.Compact(t.Context())
			noError(t, err)
		}
		want := content(t, s)
		mustBackUp(t, s, dir)
		restored(t, fmt.Sprintf("round %d", round), dir, want)
		if problems := mustVerify(t, dir); len(problems) > 0 {
			t.Fatalf("round %d: %+v", round, problems)
		}
		_, err := dir.Walk(t.Context(), func(p archive.Piece) error {
			seen[p.Name] = true
			return nil
		})
		noError(t, err)
	}
	got := mustBackUp(t, s, dir)
	if index := got.Octets - got.New; index <= 0 || got.New > got.Octets/2 {
		t.Errorf("nothing happened, and %d of %d octets are new", got.New, got.Octets)
	}
	if len(seen) < 3*got.Pieces {
		t.Errorf("%d pieces in all, %d now: nothing was given back", len(seen), got.Pieces)
	}
	want := content(t, s)
	closeData(t, s)
	s = openData(t, data, Options{journal: smallSegments()})
	defer closeData(t, s)
	mustBackUp(t, s, dir)
	restored(t, "after a restart", dir, want)
}

func mustVerify(t *testing.T, dir archive.Dir) []store.Problem {
	t.Helper()
	_, problems, err := Verify(t.Context(), dir, Options{})
	noError(t, err)
	return problems
}

// TestTwoLivesOneDirectory: the store that was backed up goes on, its backup is restored and goes on too, and both are backed up into the same
// directory in turn. Their segments have the same generations.
func TestTwoLivesOneDirectory(t *testing.T) {
	first, _ := fresh(t, Options{journal: smallSegments()})
	dir := backupDir(t)
	deliver(t, first, 1000, 1)
	mustBackUp(t, first, dir)
	second := openData(t, mustRestore(t, dir), Options{journal: smallSegments()})
	defer closeData(t, second)
	rounds := 4
	if testing.Short() {
		rounds = 2
	}
	for round := range rounds {
		for i, s := range []*Store{first, second} {
			for range 20 + 30*i {
				deliver(t, s, 5000, 1)
			}
			mustBackUp(t, s, dir)
			restored(t, fmt.Sprintf("round %d, life %d", round, i), dir, content(t, s))
			if problems := mustVerify(t, dir); len(problems) > 0 {
				t.Fatalf("round %d, life %d: %+v", round, i, problems)
			}
		}
	}
}

// slowWriter takes octets only when it is let.
type slowWriter struct {
	begun chan struct{} // closed by the first Write
	pass  chan struct{} // closed to let everything through
	once  sync.Once
	b     bytes.Buffer
}

func (w *slowWriter) Write(p []byte) (int, error) {
	w.once.Do(func() { close(w.begun) })
	<-w.pass
	return w.b.Write(p)
}

// TestSlowBackupHoldsUpNobody: while a receiver takes nothing, mail comes and goes, segments and large bodies are given up, and the index is
// compacted; the backup is of the moment when it began, and afterwards what was kept for it is given back.
func TestSlowBackupHoldsUpNobody(t *testing.T) {
	s, data := fresh(t, Options{journal: smallSegments()})
	for range 60 {
		deliver(t, s, 5000, 1)
	}
	large := deliver(t, s, spillAbove+1, 1)
	want := content(t, s)
	w := &slowWriter{begun: make(chan struct{}), pass: make(chan struct{})}
	ended := make(chan error, 1)
	go func() { ended <- s.Archive(context.Background(), nil, w) }()
	<-w.begun
	if err := s.Archive(t.Context(), nil, io.Discard); !errors.Is(err, store.ErrBusy) {
		t.Errorf("a second backup: %v", err)
	}
	if _, err := s.Compact(t.Context()); !errors.Is(err, store.ErrBusy) {
		t.Errorf("a compaction: %v", err)
	}
	m := openDrop(t, s, 1)
	expungeBut(t, m, 0)
	noError(t, m.Close())
	for range 200 {
		deliver(t, s, 5000, 2)
	}
	m = openDrop(t, s, 2)
	expungeBut(t, m, 1)
	noError(t, m.Close())
	sweepAll(t, s)
	asked := make(chan error, 1)
	s.compactAsked.Store(&asked)
	s.wake()
	noError(t, <-asked)
	kept := s.journalSize()
	if n := count(t, data, largeName); n != 1 {
		t.Errorf("%d large bodies while the backup needs one, want 1", n)
	}
	if problems, err := s.Check(t.Context()); err != nil || len(problems) > 0 {
		t.Errorf("Check beside a backup: %+v, %v", problems, err)
	}
	close(w.pass)
	noError(t, <-ended)
	restored(t, "the moment when it began", archive.Stream{R: &w.b}, want)
	waitUntil(t, "what was kept is given back", func() bool { sweepAll(t, s); return s.journalSize() < kept && count(t, data, largeName) == 0 })
	if n := count(t, data, tmpName); n != 0 {
		t.Errorf("%d files are left in tmp", n)
	}
	if large.Message == 0 || s.space.archive != nil {
		t.Error("something is kept still")
	}
}

// failingWriter fails after some octets.
type failingWriter struct{ left int }

var errReceiver = errors.New("the receiver has gone")

func (w *failingWriter) Write(p []byte) (int, error) {
	if w.left -= len(p); w.left < 0 {
		return 0, errReceiver
	}
	return len(p), nil
}

// TestBackupBrokenOff: whenever the receiver goes, the caller gives up or the store is closed, nothing is kept.
func TestBackupBrokenOff(t *testing.T) {
	s, data := fresh(t, Options{journal: smallSegments()})
	for range 30 {
		deliver(t, s, 5000, 1)
	}
	deliver(t, s, spillAbove+1, 1)
	var whole bytes.Buffer
	noError(t, s.Archive(t.Context(), nil, &whole))
	for octets := 0; octets < whole.Len(); octets += 20_000 {
		if err := s.Archive(t.Context(), nil, &failingWriter{octets}); !errors.Is(err, errReceiver) {
			t.Fatalf("after %d octets: %v", octets, err)
		}
		if s.space.archive != nil || count(t, data, tmpName) > 0 {
			t.Fatalf("after %d octets: something is kept", octets)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Archive(ctx, nil, io.Discard); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	w := &slowWriter{begun: make(chan struct{}), pass: make(chan struct{})}
	ended := make(chan error, 1)
	go func() { ended <- s.Archive(context.Background(), nil, w) }()
	<-w.begun
	noError(t, s.Close())
	close(w.pass)
	if err := <-ended; !errors.Is(err, store.ErrClosed) {
		t.Errorf("closed meanwhile: %v", err)
	}
	if err := s.Archive(t.Context(), nil, io.Discard); !errors.Is(err, store.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	s = openData(t, data, Options{})
	defer closeData(t, s)
	if n := count(t, data, tmpName); n != 0 {
		t.Errorf("%d files in tmp after the next start", n)
	}
	mustBeSound(t, s)
}

// TestBackupRefused: what the receiver says that it has must be a manifest of this domain.
func TestBackupRefused(t *testing.T) {
	s, _ := fresh(t, Options{})
	deliver(t, s, 1000, 1)
	other := backupDir(t)
	mustBackUp(t, s, other)
	var have bytes.Buffer
	noError(t, other.Have(&have))
	for _, tt := range []struct{ name, have string }{
		{"another domain", string(bytes.Replace(have.Bytes(), []byte(domain), []byte("other.example"), 1))},
		{"nonsense", "nonsense"},
		{"cut short", have.String()[:have.Len()-5]},
	} {
		if err := s.Archive(t.Context(), bytes.NewReader([]byte(tt.have)), io.Discard); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	if err := s.Archive(t.Context(), bytes.NewReader(nil), io.Discard); err != nil {
		t.Errorf("nothing: %v", err)
	}
}

// TestBackupOfDamage: a backup that would lack something is none.
func TestBackupOfDamage(t *testing.T) {
	for _, tt := range []struct {
		name   string
		damage func(t *testing.T, data string)
	}{
		{"segment missing", func(t *testing.T, data string) { noError(t, os.Remove(segmentFile(data, 1))) }},
		{"segment without header", func(t *testing.T, data string) { overwrite(t, segmentFile(data, 1), 0, make([]byte, 64)) }},
		{"large body missing", func(t *testing.T, data string) { noError(t, os.Remove(onlyBody(t, data))) }},
	} {
		data := filepath.Join(t.TempDir(), "data")
		initData(t, data)
		s := openData(t, data, Options{journal: smallSegments()})
		for range 60 {
			deliver(t, s, 5000, 1)
		}
		deliver(t, s, spillAbove+1, 1)
		closeData(t, s)
		s = openData(t, data, Options{journal: smallSegments()})
		tt.damage(t, data)
		if _, err := backUp(s, backupDir(t)); !errors.Is(err, store.ErrDamaged) {
			t.Errorf("%s: %v", tt.name, err)
		}
		closeData(t, s)
	}
}

// TestBackupOnFullDevice: there is no room for a copy of the index, and nothing else suffers.
func TestBackupOnFullDevice(t *testing.T) {
	full := &vfstest.Full{}
	s, data := fresh(t, Options{fs: full})
	deliver(t, s, 1000, 1)
	full.SetRoom(4096)
	if err := s.Archive(t.Context(), nil, io.Discard); !errors.Is(err, store.ErrNoSpace) {
		t.Errorf("got %v", err)
	}
	full.SetRoom(-1)
	noError(t, s.Archive(t.Context(), nil, io.Discard))
	deliver(t, s, 1000, 1)
	if n := count(t, data, tmpName); n != 0 {
		t.Errorf("%d files are left in tmp", n)
	}
}

// TestBackupMemory: the memory of a backup and of a restore does not grow with what is in it.
func TestBackupMemory(t *testing.T) {
	s, _ := fresh(t, Options{})
	const most = 6 << 20
	d, err := s.NewDraft(t.Context())
	noError(t, err)
	piece := make([]byte, 64<<10)
	for range 40 << 20 / len(piece) {
		_, err := d.Write(piece)
		noError(t, err)
	}
	_, err = d.Commit(t.Context(), envelopeTo(1))
	noError(t, err)
	for range 100 {
		deliver(t, s, 100_000, 1)
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	start := m.TotalAlloc
	dir := backupDir(t)
	mustBackUp(t, s, dir)
	mustRestore(t, dir)
	runtime.ReadMemStats(&m)
	if used := m.TotalAlloc - start; used > most {
		t.Errorf("%d octets were allocated, want at most %d", used, most)
	}
}
