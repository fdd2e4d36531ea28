package boltstore

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	bolt "go.etcd.io/bbolt"

	"latchkey/internal/vfs"
	"latchkey/internal/vfs/vfstest"
	"latchkey/store"
)

func TestInit(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b", "data")
	if _, err := Open(t.Context(), dir, Options{}); !errors.Is(err, store.ErrNotInitialised) {
		t.Errorf("Open of nothing: %v, want %v", err, store.ErrNotInitialised)
	}
	if err := Init(t.Context(), dir, store.Settings{Domain: "Not Canonical"}, Options{}); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("Init with bad settings: %v, want %v", err, store.ErrInvalid)
	}
	initData(t, dir)
	if err := Init(t.Context(), dir, store.DefaultSettings(domain), Options{}); !errors.Is(err, store.ErrExists) {
		t.Errorf("second Init: %v, want %v", err, store.ErrExists)
	}
	s := openData(t, dir, Options{})
	settings, err := s.Settings(t.Context())
	if err != nil || settings.Domain != domain || settings.Version != 1 {
		t.Errorf("settings %+v, %v, want those of Init with version 1", settings, err)
	}
	if err := send(s, newLedger(), "one", 10, false); err != nil {
		t.Fatal(err)
	}
	closeData(t, s)
	err = filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		want := os.FileMode(vfs.FileMode)
		if e.IsDir() {
			want = vfs.DirMode
		}
		if err == nil && info.Mode().Perm() != want {
			t.Errorf("%s has mode %o, want %o", path, info.Mode().Perm(), want)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestInitCutShort: whatever step of Init fails, no half domain is left, and Init can be run again.
func TestInitCutShort(t *testing.T) {
	for at := 1; ; at++ {
		dir := filepath.Join(t.TempDir(), "data")
		f := vfstest.NewFaulty(vfs.OS{}, at, false, func(vfstest.Op) error { return syscall.EIO })
		err := Init(t.Context(), dir, store.DefaultSettings(domain), Options{fs: f})
		hit, failed := f.Hit()
		if !failed {
			if at < 4 {
				t.Fatalf("Init has %d steps only", at)
			}
			return
		}
		if err == nil {
			t.Errorf("%s failed, and Init did not", hit.Kind)
		}
		if err := Init(t.Context(), dir, store.DefaultSettings(domain), Options{}); err != nil && !errors.Is(err, store.ErrExists) {
			t.Errorf("Init after a failed %s: %v", hit.Kind, err)
		}
		closeData(t, openData(t, dir, Options{}))
	}
}

// TestInitIsDurable: Init returns after the new name and every new directory above it were synced.
func TestInitIsDurable(t *testing.T) {
	base := t.TempDir()
	dir := filepath.Join(base, "a", "b")
	f := vfstest.NewTrace(vfs.OS{})
	if err := Init(t.Context(), dir, store.DefaultSettings(domain), Options{fs: f}); err != nil {
		t.Fatal(err)
	}
	synced := make(map[string]bool)
	for _, op := range f.Ops() {
		if op.Kind == vfstest.SyncDir {
			synced[op.Name] = true
		}
	}
	for _, d := range []string{dir, filepath.Join(base, "a"), base} {
		if !synced[d] {
			t.Errorf("%s was not synced", d)
		}
	}
	if n := f.Count(vfstest.IndexSync); n != 1 {
		t.Errorf("%d commits, want 1", n)
	}
}

func TestLocked(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	initData(t, dir)
	s := openData(t, dir, Options{})
	if _, err := Open(t.Context(), dir, Options{}); !errors.Is(err, ErrLocked) {
		t.Errorf("second Open: %v, want %v", err, ErrLocked)
	}
	closeData(t, s)
	closeData(t, openData(t, dir, Options{}))
}

func TestNewerFormat(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	initData(t, dir)
	change(t, dir, func(tx *bolt.Tx) error {
		return tx.Bucket([]byte("meta")).Put([]byte(metaFormat), binary.BigEndian.AppendUint32(nil, formatVersion+1))
	})
	if s, err := Open(t.Context(), dir, Options{}); err == nil {
		closeData(t, s)
		t.Error("a newer format was opened")
	}
	for _, content := range []string{"", "not a database, but longer than nothing"} {
		if err := os.WriteFile(filepath.Join(dir, indexName), []byte(content), vfs.FileMode); err != nil {
			t.Fatal(err)
		}
		if s, err := Open(t.Context(), dir, Options{}); !errors.Is(err, store.ErrDamaged) {
			if err == nil {
				closeData(t, s)
			}
			t.Errorf("mail.db of %q: error %v, want %v", content, err, store.ErrDamaged)
		}
	}
}

// change edits the index of a closed store behind its back.
func change(t *testing.T, dir string, edit func(*bolt.Tx) error) {
	t.Helper()
	db, err := bolt.Open(filepath.Join(dir, indexName), vfs.FileMode, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(edit), db.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestOpenCleansUp: drafts of the last process, bodies without a message, and deleted copies that were still to be swept.
func TestOpenCleansUp(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	initData(t, dir)
	s := openData(t, dir, Options{})
	l := newLedger()
	for _, name := range []string{"one", "two"} {
		if err := send(s, l, name, spillAbove, false); err != nil {
			t.Fatal(err)
		}
	}
	m, err := s.OpenMaildrop(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Expunge(t.Context(), ids(t, m)[:1], nil); err != nil {
		t.Fatal(err)
	}
	defer func() { noError(t, m.Close()) }()
	closeData(t, s) // with the maildrop open, which keeps the body
	if n := count(t, dir, largeName); n != 2 {
		t.Fatalf("%d bodies, want 2: one of them is of a deleted copy", n)
	}
	for _, name := range []string{filepath.Join(tmpName, newToken().String()), filepath.Join(largeName, newToken().String())} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("left over"), vfs.FileMode); err != nil {
			t.Fatal(err)
		}
	}
	s = openData(t, dir, Options{})
	sweepAll(t, s)
	if n, drafts := count(t, dir, largeName), count(t, dir, tmpName); n != 1 || drafts != 0 {
		t.Errorf("%d bodies and %d drafts, want 1 and 0", n, drafts)
	}
	problems, err := s.Check(t.Context())
	if err != nil || len(problems) > 0 {
		t.Errorf("Check: %v, %v", problems, err)
	}
	closeData(t, s)
}

// copyData copies a data directory as kill -9 would leave it.
func copyData(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// listed returns what a snapshot lists, which has to be what it says that it holds.
func listed(t testing.TB, m store.Maildrop) []store.Message {
	t.Helper()
	list, err := m.Messages(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	messages := slices.Collect(list)
	var sum store.Usage
	for _, message := range messages {
		sum = sum.Plus(store.Usage{Octets: message.Size, Messages: 1})
	}
	if is := m.Stat(); is != sum {
		t.Errorf("the snapshot lists %+v, and says that it holds %+v", sum, is)
	}
	return messages
}

func ids(t testing.TB, m store.Maildrop) (ids []store.CopyID) {
	t.Helper()
	for _, msg := range listed(t, m) {
		ids = append(ids, msg.ID)
	}
	return ids
}

func count(t *testing.T, dir, sub string) int {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, sub))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
