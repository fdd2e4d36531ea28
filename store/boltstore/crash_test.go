package boltstore

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"latchkey/internal/vfs"
	"latchkey/internal/vfs/vfstest"
	"latchkey/store"
)

// TestFaultAtEveryStep lets every single operation fail in turn, once, or from then on. Whatever happens, what was acknowledged is
// there after the next start; a failed sync ends all writing, and a full device does not.
func TestFaultAtEveryStep(t *testing.T) {
	stride := 1
	if testing.Short() {
		stride = 5
	}
	template := filepath.Join(vfstest.TempDir(t), "data")
	initData(t, template)
	for _, fault := range []syscall.Errno{syscall.EIO, syscall.ENOSPC} {
		for _, once := range []bool{true, false} {
			for at := 1; ; at += stride {
				f := vfstest.NewFaulty(vfs.OS{}, at, once, func(op vfstest.Op) error {
					if fault == syscall.ENOSPC && op.Kind == vfstest.Remove {
						return nil // removing needs no space
					}
					return fault
				})
				if faultAt(t, template, f, fault, once); f.Steps() < at {
					break
				}
				if t.Failed() {
					hit, _ := f.Hit()
					t.Fatalf("%v at step %d, %+v, once %t", fault, at, hit, once)
				}
			}
		}
	}
}

// faultAt runs a fixed piece of work with one fault, or with a device that does not recover from it.
func faultAt(t *testing.T, template string, f *vfstest.Faulty, fault error, once bool) {
	dir := filepath.Join(vfstest.TempDir(t), "data")
	if err := os.CopyFS(dir, os.DirFS(template)); err != nil {
		t.Fatal(err)
	}
	l := newLedger()
	s, err := Open(t.Context(), dir, Options{fs: f})
	if err == nil {
		err = fixedWork(s, l)
		_ = s.settle(t.Context(), true)
		hit, _ := f.Hit()
		_ = s.settle(t.Context(), true) // a commit that was hit just now has told by then
		isSync := hit.Kind.IsSync()
		if isSync && err == nil && s.poisoned() == nil {
			t.Errorf("%s failed, and nobody noticed", hit.Kind)
		}
		if poisoned := s.poisoned(); poisoned != nil {
			if vfs.IsNoSpace(fault) && !isSync && once {
				t.Errorf("%s: a full device ended all writing: %v", hit.Kind, poisoned)
			}
			_, addErr := s.AddAccount(t.Context(), store.Account{Name: "late"})
			sendErr := send(s, l, "late", 10, false)
			if !errors.Is(addErr, store.ErrPoisoned) || !errors.Is(sendErr, store.ErrPoisoned) {
				t.Errorf("after a failed %s: %v, %v, want %v", hit.Kind, addErr, sendErr, store.ErrPoisoned)
			}
			if _, err := s.OpenMaildrop(t.Context(), 1); err != nil {
				t.Errorf("reads do not go on: %v", err)
			}
		}
		_ = s.Close()
	}
	verify(t, dir, l)
}

func fixedWork(s *Store, l *ledger) (err error) {
	rng := rand.New(rand.NewPCG(7, 7))
	for i, step := range []func() error{
		func() error { return send(s, l, "a", 100, false) },
		func() error { return send(s, l, "b", 3*blockSize, true) },
		func() error { return send(s, l, "c", 200_000, false) },
		func() error { return fetch(s, l, rng) },
		func() error { return run(s, l, rng) },
		func() error { return logIn(s, l, rng) },
		func() error { return send(s, l, "d", 10, true) },
		func() error { return logIn(s, l, rng) },
		func() error { return fetch(s, l, rng) },
		func() error { return run(s, l, rng) },
	} {
		if stepErr := step(); stepErr != nil {
			err = errors.Join(err, fmt.Errorf("step %d: %w", i, stepErr))
		}
	}
	return err
}
