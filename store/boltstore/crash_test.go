package boltstore

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"latchkey/internal/vfs"
	"latchkey/store"
)

// crashSeeds is how many power cuts `go test` makes; LATCHKEY_CRASH_SEEDS asks for more.
const crashSeeds = 60

// TestPowerCut works with several clients until the power goes at a random step, looks at what a device would have kept, and goes on
// from there until the power goes again. After every cut all promises must hold.
func TestPowerCut(t *testing.T) {
	seeds := crashSeeds
	if v, err := strconv.Atoi(os.Getenv("LATCHKEY_CRASH_SEEDS")); err == nil {
		seeds = v
	} else if testing.Short() {
		seeds = 20
	}
	template := filepath.Join(t.TempDir(), "data")
	initData(t, template)
	for seed := range seeds {
		t.Run(strconv.Itoa(seed), func(t *testing.T) { powerCut(t, template, uint64(seed)) })
	}
}

func powerCut(t *testing.T, template string, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 1))
	base := t.TempDir()
	dir := filepath.Join(base, "0")
	if err := os.CopyFS(dir, os.DirFS(template)); err != nil {
		t.Fatal(err)
	}
	l := newLedger()
	for cut := range 3 {
		steps := 1 + rng.IntN(120)
		if cut > 0 && rng.IntN(2) == 0 {
			steps = 1 + rng.IntN(8) // while Open still cleans up
		}
		d := newDisk(t, dir, rng, steps)
		l.dead = d.isDead
		s, err := Open(t.Context(), dir, Options{fs: d})
		if err == nil {
			var wg sync.WaitGroup
			for client := range 3 {
				rng := rand.New(rand.NewPCG(seed, uint64(10*cut+client+2)))
				wg.Go(func() {
					err := work(s, l, rng, fmt.Sprintf("%d-%d-%d", seed, cut, client), 60)
					if !errors.Is(err, errCrashed) && !errors.Is(err, store.ErrPoisoned) && err != nil {
						t.Errorf("client %d: %v", client, err)
					}
				})
			}
			wg.Wait()
			_ = s.Close() // of a process that is no more
		} else if !errors.Is(err, errCrashed) {
			t.Fatal(err)
		}
		if !d.dead {
			d.mu.Lock()
			d.cut(nil)
			d.mu.Unlock()
		}
		dir = filepath.Join(base, strconv.Itoa(cut+1))
		d.restore(t, dir)
		l.dead = nil
		look := filepath.Join(base, "look"+strconv.Itoa(cut))
		d.restore(t, look)
		verify(t, look, l)
		if t.Failed() {
			t.Fatalf("seed %d, cut %d at step %d", seed, cut, d.steps)
		}
	}
}

// TestFaultAtEveryStep lets every single operation fail in turn, once, or from then on. Whatever happens, what was acknowledged is
// there after the next start; a failed sync ends all writing, and a full device does not.
func TestFaultAtEveryStep(t *testing.T) {
	template := filepath.Join(t.TempDir(), "data")
	initData(t, template)
	for _, fault := range []syscall.Errno{syscall.EIO, syscall.ENOSPC} {
		for _, once := range []bool{true, false} {
			for at := 1; ; at++ {
				f := &faulty{at: at, last: once, fault: func(op string) error {
					if fault == syscall.ENOSPC && op == "remove" {
						return nil // removing needs no space
					}
					return fault
				}}
				if ended := faultAt(t, template, f, fault); ended {
					break
				}
				if t.Failed() {
					t.Fatalf("%v at step %d (%s), once %t", fault, at, f.hit, once)
				}
			}
		}
	}
}

// faultAt runs a fixed piece of work with one fault; ended is true if the work was over before the fault came.
func faultAt(t *testing.T, template string, f *faulty, fault error) (ended bool) {
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.CopyFS(dir, os.DirFS(template)); err != nil {
		t.Fatal(err)
	}
	l := newLedger()
	s, err := Open(t.Context(), dir, Options{fs: f})
	if err == nil {
		err = fixedWork(s, l)
		isSync := f.hit == "sync" || f.hit == "syncdir" || f.hit == "indexsync"
		if isSync && err == nil && s.poisoned() == nil {
			t.Errorf("%s failed, and nobody noticed", f.hit)
		}
		if poisoned := s.poisoned(); poisoned != nil {
			if vfs.IsNoSpace(fault) && !isSync && f.last {
				t.Errorf("%s: a full device ended all writing: %v", f.hit, poisoned)
			}
			_, addErr := s.AddAccount(t.Context(), store.Account{Name: "late"})
			sendErr := send(s, l, "late", 10, false)
			if !errors.Is(addErr, store.ErrPoisoned) || !errors.Is(sendErr, store.ErrPoisoned) {
				t.Errorf("after a failed %s: %v, %v, want %v", f.hit, addErr, sendErr, store.ErrPoisoned)
			}
			if _, err := s.OpenMaildrop(t.Context(), 1); err != nil {
				t.Errorf("reads do not go on: %v", err)
			}
		}
		_ = s.Close()
	}
	ended = f.hit == "" && f.n < f.at
	verify(t, dir, l)
	return ended
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
