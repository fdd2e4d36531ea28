package journal

import (
	"errors"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
)

// TestPowerCut cuts the power at random steps, in recovery too, and compares what is there afterwards with what was promised.
func TestPowerCut(t *testing.T) {
	seeds := 150
	if n, err := strconv.Atoi(os.Getenv("LATCHKEY_CRASH_SEEDS")); err == nil {
		seeds = n
	}
	if testing.Short() {
		seeds = 20
	}
	for seed := range uint64(seeds) {
		powerCuts(t, seed)
	}
}

func powerCuts(t *testing.T, seed uint64) {
	defer func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	}()
	rng := rand.New(rand.NewPCG(seed, 2))
	w := newWorld(t, seed)
	if err := w.open(); err != nil {
		t.Fatal(err)
	}
	keeps := []int{0, 20, 50, 80, 100}
	for range 4 {
		w.disk.cutIn(1 + rng.IntN(60))
		for range 200 {
			err := w.random(rng)
			if errors.Is(err, errCut) {
				break
			} else if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
		w.group = nil   // of which nothing was written
		_ = w.j.Close() // for the goroutine
		for first := true; ; first = false {
			w.disk = w.disk.survive(rng.Uint64(), keeps[rng.IntN(len(keeps))])
			if first || rng.IntN(2) == 0 {
				w.disk.cutIn(1 + rng.IntN(12))
			}
			err := w.open()
			if err == nil {
				break
			}
			if !errors.Is(err, errCut) {
				t.Fatalf("seed %d: Open: %v\n%v", seed, err, w.disk.last)
			}
		}
		if w.disk.keepPower() { // it went in the background, after Open
			_ = w.j.Close()
			w.disk = w.disk.survive(rng.Uint64(), 50)
			if err := w.open(); err != nil {
				t.Fatal(err)
			}
		}
		w.verify()
	}
	w.shut()
}
