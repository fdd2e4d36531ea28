package boltstore

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"latchkey/internal/archive"
	"latchkey/internal/vfs"
	"latchkey/internal/vfs/vfstest"
	"latchkey/store"
)

// smallBackup makes a backup with a bit of everything, and returns what anna has in it.
func smallBackup(t *testing.T) (archive.Dir, map[string]string) {
	t.Helper()
	s, _ := fresh(t, Options{journal: smallSegments()})
	l := newLedger()
	for i := range 8 {
		noError(t, send(s, l, "m"+string(rune('0'+i)), 9000, i%4 == 0))
	}
	deliver(t, s, spillAbove+1, 1)
	dir := backupDir(t)
	mustBackUp(t, s, dir)
	return dir, content(t, s)
}

// TestUniqueIDsAfterRestore: copies keep their unique-ids, and those that come after a restore have ids that the store that was lost cannot
// have given out; nor has another life of the same backup.
func TestUniqueIDsAfterRestore(t *testing.T) {
	lost, _ := fresh(t, Options{})
	given := make(map[string]string) // unique-id -> whose
	give := func(s *Store, whose string, n int) {
		t.Helper()
		for range n {
			uid := deliver(t, s, 100, 1).Copies[0].UID
			if before, ok := given[uid]; ok {
				t.Fatalf("%s is given out by %s, and was by %s", uid, whose, before)
			}
			given[uid] = whose
		}
	}
	give(lost, "the first life", 5)
	dir := backupDir(t)
	mustBackUp(t, lost, dir)
	want := content(t, lost)
	give(lost, "the first life, after the backup", 20)
	for i, when := range []time.Time{time.Now(), time.Now().Add(time.Second), time.Unix(0, 0), time.Unix(1<<33, 0)} {
		to := filepath.Join(vfstest.TempDir(t), "restored")
		if _, err := Restore(t.Context(), to, dir, false, Options{Now: func() time.Time { return when }}); err != nil {
			t.Fatal(err)
		}
		s := openData(t, to, Options{})
		sameContent(t, "restored", content(t, s), want)
		if i < 3 { // the last two have no clock to go by
			give(s, "a later life", 20)
		}
		want := content(t, s)
		closeData(t, s)
		s = openData(t, to, Options{})
		sameContent(t, "after a restart", content(t, s), want)
		closeData(t, s)
		// Once more, from a backup of this life.
		again := backupDir(t)
		s = openData(t, to, Options{})
		mustBackUp(t, s, again)
		closeData(t, s)
		restored(t, "a backup of a restored store", again, want)
	}
}

// TestEpochs: the rule, and its bounds.
func TestEpochs(t *testing.T) {
	at := func(n uint32) time.Time { return time.Unix(int64(n), 0) }
	e := epochs{{1, 1}}
	for _, tt := range []struct {
		now  time.Time
		next store.CopyID
		want string
	}{
		{at(1000), 10, "[{1 1} {1000 10}]"},
		{at(1000), 20, "[{1 1} {1000 10} {1001 20}]"}, // the same second
		{at(5), 30, "[{1 1} {1000 10} {1001 20} {1002 30}]"},
		{at(2000), 30, "[{1 1} {1000 10} {1001 20} {2000 30}]"}, // nothing came in between
		{time.Unix(1<<32, 0), 31, "[{1 1} {1000 10} {1001 20} {2000 30} {2001 31}]"},
		{time.Unix(1<<32-1, 0), 32, "[{1 1} {1000 10} {1001 20} {2000 30} {2001 31} {4294967295 32}]"},
	} {
		e = e.raised(tt.now, tt.next)
		if got := sprint(e); got != tt.want {
			t.Fatalf("got %s, want %s", got, tt.want)
		}
		decoded, err := decodeEpochs(e.encode())
		if err != nil || sprint(decoded) != tt.want {
			t.Fatalf("decoded: %v, %v", decoded, err)
		}
	}
	for id, want := range map[store.CopyID]uint32{1: 1, 9: 1, 10: 1000, 19: 1000, 20: 1001, 31: 2001, 32: 1<<32 - 1, 1 << 60: 1<<32 - 1} {
		if got := e.of(id); got != want {
			t.Errorf("copy %d is of epoch %d, want %d", id, got, want)
		}
	}
	e = epochs{{1, 1}}
	for i := range uint32(maxEpochs) {
		if len(e) != int(i)+1 {
			t.Fatalf("%d epochs after %d restores", len(e), i)
		}
		e = e.raised(at(1000+10*i), store.CopyID(100+i))
	}
	if len(e) != maxEpochs || e.of(1) != 1000 || e.of(101) != 1010 || e.last() != 1000+10*(maxEpochs-1) {
		t.Errorf("beyond the bound: %v", e)
	}
	if _, err := decodeEpochs(e.encode()); err != nil {
		t.Error(err)
	}
	for _, bad := range []epochs{{}, {{1, 1}, {1, 2}}, {{2, 1}, {1, 2}}, {{1, 2}, {2, 2}}, append(e, epochFrom{1<<32 - 1, 1 << 40})} {
		if _, err := decodeEpochs(bad.encode()); !errors.Is(err, store.ErrDamaged) {
			t.Errorf("%v: %v", bad, err)
		}
	}
	if _, err := decodeEpochs(epochs{{1, 1}}.encode()[:11]); err == nil {
		t.Error("a record that is cut short")
	}
}

func sprint(e epochs) string {
	var b strings.Builder
	b.WriteString("[")
	for i, each := range e {
		if i > 0 {
			b.WriteString(" ")
		}
		b.WriteString("{" + utoa(uint64(each.epoch)) + " " + utoa(uint64(each.first)) + "}")
	}
	return b.String() + "]"
}

// TestRestoreRefused: a directory that holds anything of ours is left alone.
func TestRestoreRefused(t *testing.T) {
	dir, _ := smallBackup(t)
	full, _ := fresh(t, Options{})
	before := content(t, full)
	if _, err := Restore(t.Context(), full.dir, dir, false, Options{}); !errors.Is(err, store.ErrExists) {
		t.Errorf("onto a domain: %v", err)
	}
	sameContent(t, "the domain", content(t, full), before)
	for _, name := range []string{indexName, newIndexName, reserveName, journalName, largeName, tmpName} {
		to := t.TempDir()
		noError(t, os.WriteFile(filepath.Join(to, name), nil, vfs.FileMode))
		if _, err := Restore(t.Context(), to, dir, false, Options{}); !errors.Is(err, store.ErrExists) {
			t.Errorf("onto %s: %v", name, err)
		}
	}
	to := t.TempDir()
	noError(t, os.WriteFile(filepath.Join(to, "notes"), nil, vfs.FileMode))
	if _, err := Restore(t.Context(), to, dir, false, Options{}); err != nil {
		t.Errorf("beside notes: %v", err)
	}
	if _, err := Restore(t.Context(), filepath.Join(t.TempDir(), "a", "b"), backupDir(t), false, Options{}); !errors.Is(err, archive.ErrNone) {
		t.Errorf("of nothing: %v", err)
	}
}

// TestRestoreEndsVisits: grants and web sessions are over, and the queue is held if that is asked for.
func TestRestoreEndsVisits(t *testing.T) {
	s, _ := fresh(t, Options{})
	now := time.Now()
	openGrant(t, s, now, 1)
	noError(t, s.flushLazy(t.Context()))
	noError(t, s.PutWebSession(t.Context(), store.WebSession{Token: [32]byte{1}, Expires: now.Add(time.Hour)}))
	for _, name := range []string{"a", "b", "c"} {
		noError(t, send(s, newLedger(), name, 10, true))
	}
	noError(t, s.HoldJobs(t.Context(), "before", 2))
	dir := backupDir(t)
	taken := mustBackUp(t, s, dir).Taken
	for _, hold := range []bool{false, true} {
		to := filepath.Join(vfstest.TempDir(t), "restored")
		got, err := Restore(t.Context(), to, dir, hold, Options{})
		if err != nil || got.Jobs != 3 || !got.Taken.Equal(taken) {
			t.Fatalf("hold %t: %+v, %v", hold, got, err)
		}
		r := openData(t, to, Options{})
		mustBeSound(t, r)
		if n := len(allGrants(t, r)); n != 0 {
			t.Errorf("%d grants are there", n)
		}
		if _, err := r.WebSession(t.Context(), now, [32]byte{1}); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("the web session: %v", err)
		}
		jobs, err := r.Lease(t.Context(), now.Add(time.Hour), 0, "out.example", 10, time.Hour)
		if want := map[bool]int{false: 2, true: 0}[hold]; err != nil || len(jobs) != want {
			t.Errorf("hold %t: %d jobs are due, want %d: %v", hold, len(jobs), want, err)
		}
		j, err := r.Job(t.Context(), 1)
		if err != nil || j.Held != hold || hold && !strings.HasPrefix(j.HoldReason, "restored from the backup of ") {
			t.Errorf("hold %t: %+v, %v", hold, j, err)
		}
		closeData(t, r)
	}
}

// TestRestoreKeepsWhatAccountsHave: the sealed password goes with the verifier that it is of, and what is known of clients stays.
func TestRestoreKeepsWhatAccountsHave(t *testing.T) {
	s, _ := fresh(t, Options{})
	a, err := s.Account(t.Context(), 1)
	noError(t, err)
	a.Owner, a.OldClientLogin, a.POP3 = true, true, store.POP3Options{EndHeader: true, Select: "7d"}
	a, err = s.UpdateAccount(t.Context(), a)
	noError(t, err)
	noError(t, s.SealPassword(t.Context(), 1, a.CredentialVersion, "sealed"))
	a.Sealed = "sealed"
	seen := store.Client{Account: 1, Program: "Eudora", Door: "pop3", First: time.Unix(1, 0).UTC(), Last: time.Unix(2, 0).UTC(), Sessions: 7}
	noError(t, s.NoteClients(t.Context(), []store.Client{seen}))
	device, err := s.AddDevice(t.Context(), store.Device{Account: 1, Name: "Scanner", Verifier: "v", Send: true})
	noError(t, err)
	fetched := deliver(t, s, 100, 1).Copies[0].ID
	deliver(t, s, 100, 1)
	m := openDrop(t, s, 1)
	noError(t, m.Expunge(t.Context(), nil, []store.CopyID{fetched}))
	noError(t, m.Close())
	dir := backupDir(t)
	mustBackUp(t, s, dir)
	to := filepath.Join(vfstest.TempDir(t), "restored")
	_, err = Restore(t.Context(), to, dir, false, Options{})
	noError(t, err)
	r := openData(t, to, Options{})
	defer closeData(t, r)
	mustBeSound(t, r)
	got, err := r.Account(t.Context(), 1)
	if err != nil || !reflect.DeepEqual(got, a) {
		t.Errorf("restored %+v with %q, %v, want %+v", got, string(got.Sealed), err, a)
	}
	clients, err := r.ListClients(t.Context(), 0, 10)
	if err != nil || len(clients) != 1 || clients[0] != seen {
		t.Errorf("restored clients %+v, %v, want %+v", clients, err, seen)
	}
	if kept, err := r.Device(t.Context(), 1, device.ID); err != nil || !reflect.DeepEqual(kept, device) {
		t.Errorf("restored device %+v, %v, want %+v", kept, err, device)
	}
	list := listed(t, openDrop(t, r, 1))
	if len(list) != 2 || !list[0].Fetched || list[1].Fetched {
		t.Errorf("restored messages %+v", list)
	}
}

// TestRestoreCutShort: whenever the power goes during a restore there is no domain, or the whole one; a second restore succeeds, unless the
// first one was done.
func TestRestoreCutShort(t *testing.T) {
	dir, want := smallBackup(t)
	base := vfstest.TempDir(t)
	stride := 1
	if testing.Short() {
		stride = 5
	}
	done := false
	for step := 1; !done; step += stride {
		root := filepath.Join(base, "disk")
		noError(t, os.Mkdir(root, vfs.DirMode))
		d := vfstest.NewDisk(t, root, uint64(step), step)
		_, err := Restore(context.Background(), filepath.Join(root, "new", "data"), dir, false, Options{fs: d})
		done = !d.Dead()
		if done {
			noError(t, err)
		}
		after := filepath.Join(base, "after")
		noError(t, os.Mkdir(after, vfs.DirMode))
		d.Restore(after)
		to := filepath.Join(after, "new", "data")
		s, openErr := Open(t.Context(), to, Options{})
		switch {
		case openErr == nil:
			noError(t, s.Close())
		case !errors.Is(openErr, store.ErrNotInitialised) || err == nil:
			t.Fatalf("step %d: %v, after a restore that ended with %v", step, openErr, err)
		}
		_, again := Restore(t.Context(), to, dir, false, Options{})
		if openErr == nil != errors.Is(again, store.ErrExists) || openErr != nil && again != nil {
			t.Fatalf("step %d: a second restore: %v (%v)", step, again, openErr)
		}
		s = openData(t, to, Options{})
		sameContent(t, "restored", content(t, s), want)
		mustBeSound(t, s)
		closeData(t, s)
		if t.Failed() {
			t.Fatalf("step %d", step)
		}
		noError(t, errors.Join(os.RemoveAll(after), os.RemoveAll(root)))
	}
}

// TestRestoreFaults: whatever fails, it is said, and a restore can be run again.
func TestRestoreFaults(t *testing.T) {
	dir, want := smallBackup(t)
	for step := 1; ; step++ {
		to := filepath.Join(vfstest.TempDir(t), "data")
		f := vfstest.NewFaulty(vfs.OS{}, step, true, func(vfstest.Op) error { return syscall.EIO })
		_, err := Restore(context.Background(), to, dir, false, Options{fs: f})
		hit, ok := f.Hit()
		if !ok {
			noError(t, err)
			break
		}
		if err == nil && hit.Kind != vfstest.Remove {
			t.Fatalf("step %d (%+v) failed, and nobody noticed", step, hit)
		}
		if _, err := Restore(t.Context(), to, dir, false, Options{}); err != nil && !errors.Is(err, store.ErrExists) {
			t.Fatalf("step %d (%+v), again: %v", step, hit, err)
		}
		s := openData(t, to, Options{})
		sameContent(t, "restored", content(t, s), want)
		closeData(t, s)
	}
}

// TestInitWhereARestoreBrokeOff: nobody makes a new domain of half an old one.
func TestInitWhereARestoreBrokeOff(t *testing.T) {
	dir, _ := smallBackup(t)
	to := filepath.Join(t.TempDir(), "data")
	f := vfstest.NewFaulty(vfs.OS{}, 6, false, func(vfstest.Op) error { return syscall.EIO })
	if _, err := Restore(t.Context(), to, dir, false, Options{fs: f}); err == nil {
		t.Fatal("it was restored")
	}
	if err := Init(t.Context(), to, store.DefaultSettings(domain), Options{}); !errors.Is(err, ErrRestoring) {
		t.Errorf("Init: %v", err)
	}
	if _, err := Repair(t.Context(), to, Options{}); !errors.Is(err, ErrRestoring) {
		t.Errorf("Repair: %v", err)
	}
	mustFindNothing(t, to)
}

func mustFindNothing(t *testing.T, dir string) {
	t.Helper()
	if _, err := Diagnose(t.Context(), dir, Options{}); !errors.Is(err, store.ErrNotInitialised) {
		t.Errorf("Diagnose: %v", err)
	}
}

// TestVerifyBackup: every file of a backup is found when one octet of it is not what was written, and nothing in the directory is touched.
func TestVerifyBackup(t *testing.T) {
	dir, _ := smallBackup(t)
	snapshot := func() map[string]string {
		files := make(map[string]string)
		noError(t, filepath.WalkDir(dir.Path, func(path string, e os.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			b, err := os.ReadFile(path)
			files[path] = string(b)
			return err
		}))
		return files
	}
	before := snapshot()
	if problems := mustVerify(t, dir); len(problems) > 0 {
		t.Fatalf("a sound backup: %+v", problems)
	}
	for path, text := range before {
		b := []byte(text)
		b[len(b)/2] ^= 4
		noError(t, os.WriteFile(path, b, vfs.FileMode))
		problems := mustVerify(t, dir)
		if len(problems) != 1 || problems[0].Kind != store.ProblemBackupFile || !strings.HasSuffix(problems[0].Object, filepath.Base(path)) {
			t.Errorf("%s: %+v", path, problems)
		}
		if _, err := Restore(t.Context(), filepath.Join(t.TempDir(), "x"), dir, false, Options{}); !errors.Is(err, archive.ErrDamaged) {
			t.Errorf("%s: restored: %v", path, err)
		}
		noError(t, os.WriteFile(path, []byte(text), vfs.FileMode))
	}
	after := snapshot()
	for path, text := range before {
		if after[path] != text {
			t.Errorf("%s was changed", path)
		}
	}
	if len(after) != len(before) {
		t.Errorf("%d files, were %d", len(after), len(before))
	}
	if left, err := filepath.Glob(filepath.Join(os.TempDir(), "latchkey-verify-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestVerifyLooksInside: files that are as they were written and hold nonsense are found too.
func TestVerifyLooksInside(t *testing.T) {
	s, data := fresh(t, Options{journal: smallSegments()})
	l := newLedger()
	for i := range 12 {
		noError(t, send(s, l, "m"+utoa(uint64(i)), 9000, false))
	}
	noError(t, s.settle(t.Context(), true))
	overwrite(t, segmentFile(data, 1), 20_000, bytes.Repeat([]byte{7}, 100)) // before it is backed up
	dir := backupDir(t)
	mustBackUp(t, s, dir)
	problems := mustVerify(t, dir)
	if len(problems) != 1 || problems[0].Kind != store.ProblemMessage {
		t.Errorf("got %+v", problems)
	}
}

// TestCompact: what is dead goes, the rest stays as it is, and mail comes and goes meanwhile.
func TestCompact(t *testing.T) {
	s, _ := fresh(t, Options{journal: smallSegments()})
	for range 900 {
		deliver(t, s, 4000, 1, 2)
	}
	m := openDrop(t, s, 1)
	all := ids(t, m)
	var half []store.CopyID
	for i, id := range all {
		if i%2 == 0 {
			half = append(half, id)
		}
	}
	noError(t, m.Expunge(t.Context(), half, nil))
	noError(t, m.Close())
	m = openDrop(t, s, 2)
	noError(t, m.Expunge(t.Context(), ids(t, m)[:880], nil))
	noError(t, m.Close())
	sweepAll(t, s)
	want := content(t, s)
	stop := make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				ended <- nil
				return
			default:
				if _, err := commitTo(t, s, 500, 2); err != nil {
					ended <- err
					return
				}
			}
		}
	}()
	got, err := s.Compact(t.Context())
	close(stop)
	noError(t, errors.Join(err, <-ended))
	if got.JournalAfter >= got.JournalBefore*9/10 {
		t.Errorf("%+v: the journal did not shrink", got)
	}
	sameContent(t, "compacted", content(t, s), want)
	mustBeSound(t, s)
	again, err := s.Compact(t.Context())
	if err != nil || again.IndexAfter > again.IndexBefore {
		t.Errorf("again: %+v, %v", again, err)
	}
}

// TestCompactRefused: without room, or after a failed sync, nothing is lost.
func TestCompactRefused(t *testing.T) {
	full := &vfstest.Full{}
	var passed atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(passed.Load())) }
	s, _ := fresh(t, Options{fs: full, journal: smallSegments(), Now: now})
	for range 600 {
		deliver(t, s, 2000, 1)
	}
	m := openDrop(t, s, 1)
	var fourth []store.CopyID
	for i, id := range ids(t, m) {
		if i%4 == 0 {
			fourth = append(fourth, id)
		}
	}
	noError(t, m.Expunge(t.Context(), fourth, nil))
	noError(t, m.Close())
	sweepAll(t, s)
	want := content(t, s)
	full.SetRoom(0)
	if _, err := s.Compact(t.Context()); !errors.Is(err, store.ErrNoSpace) {
		t.Errorf("full: %v", err)
	}
	full.SetRoom(-1)
	passed.Store(int64(2 * reserveRetry))
	_, err := s.Compact(t.Context())
	noError(t, err)
	sameContent(t, "compacted", content(t, s), want)
	_ = s.poison(errors.New("the disk failed"))
	if _, err := s.Compact(t.Context()); !errors.Is(err, store.ErrPoisoned) {
		t.Errorf("poisoned: %v", err)
	}
}

func utoa(n uint64) string { return strconv.FormatUint(n, 10) }
