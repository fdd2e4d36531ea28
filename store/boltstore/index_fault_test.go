//go:build linux

package boltstore

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"latchkey/internal/vfs"
	"latchkey/store"
)

// swap is a vfs.FS that hands out the index's real file, whose descriptor a test can turn into that of a device.
type swap struct {
	vfs.OS
	mu    sync.Mutex
	index *os.File
}

func (s *swap) OpenIndex(name string, flag int, mode os.FileMode) (*os.File, error) {
	f, err := s.OS.OpenIndex(name, flag, mode)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.index = f
	return f, err
}

// replace makes the index's descriptor lead to another file until the returned function puts it back.
func (s *swap) replace(t *testing.T, device string) (restore func()) {
	t.Helper()
	fd := int(s.index.Fd())
	saved, err := syscall.Dup(fd)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no %s here", device)
	}
	defer func() { _ = f.Close() }()
	if err := syscall.Dup3(int(f.Fd()), fd, syscall.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := errors.Join(syscall.Dup3(saved, fd, syscall.O_CLOEXEC), syscall.Close(saved)); err != nil {
			t.Fatal(err)
		}
	}
}

// churn leaves free pages in the index, so that the next small transaction needs no growth.
func churn(t *testing.T, s *Store) {
	t.Helper()
	for range 20 {
		if err := s.PutSecret(t.Context(), "big", make([]byte, 20_000)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.RemoveSecret(t.Context(), "big"); err != nil {
		t.Fatal(err)
	}
	if err := s.PutSecret(t.Context(), "small", []byte("x")); err != nil {
		t.Fatal(err)
	}
}

// TestIndexOnFullDevice: bbolt's own write meets a full device. Nothing is changed, nothing is poisoned, and it works again after.
func TestIndexOnFullDevice(t *testing.T) {
	f := &swap{}
	clock := newClock(time.Now())
	s, _ := fresh(t, Options{fs: f, Now: clock.now})
	churn(t, s)
	restore := f.replace(t, "/dev/full")
	_, err := s.AddAccount(t.Context(), store.Account{Name: "carl"})
	restore()
	if !errors.Is(err, store.ErrNoSpace) {
		t.Errorf("AddAccount: %v, want %v", err, store.ErrNoSpace)
	}
	if _, err := s.AccountByName(t.Context(), "carl"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("carl: %v, want %v", err, store.ErrNotFound)
	}
	clock.pass(reserveRetry)
	if _, err := s.AddAccount(t.Context(), store.Account{Name: "carl"}); err != nil {
		t.Errorf("AddAccount when there is room: %v", err)
	}
	problems, err := s.Check(t.Context())
	if err != nil || len(problems) > 0 {
		t.Errorf("Check: %v, %v", problems, err)
	}
}

// TestIndexSyncFails: bbolt's own sync fails. Nothing is written any more, and reads go on.
func TestIndexSyncFails(t *testing.T) {
	f := &swap{}
	dir := filepath.Join(t.TempDir(), "data")
	initData(t, dir)
	s := openData(t, dir, Options{fs: f})
	churn(t, s)
	restore := f.replace(t, "/dev/null") // takes what is written, and cannot be synced
	_, err := s.AddAccount(t.Context(), store.Account{Name: "carl"})
	restore()
	if !errors.Is(err, store.ErrPoisoned) {
		t.Errorf("AddAccount: %v, want %v", err, store.ErrPoisoned)
	}
	if _, err := s.AddAccount(t.Context(), store.Account{Name: "dora"}); !errors.Is(err, store.ErrPoisoned) {
		t.Errorf("AddAccount after that: %v, want %v", err, store.ErrPoisoned)
	}
	if _, err := s.AccountByName(t.Context(), "anna"); err != nil {
		t.Errorf("reads do not go on: %v", err)
	}
	closeData(t, s)
	s = openData(t, dir, Options{})
	defer closeData(t, s)
	if _, err := s.AddAccount(t.Context(), store.Account{Name: "dora"}); err != nil {
		t.Errorf("AddAccount after a restart: %v", err)
	}
}
