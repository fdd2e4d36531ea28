package gcpace

import (
	"runtime"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestNext(t *testing.T) {
	const mib = 1 << 20
	for _, tt := range []struct {
		name    string
		percent int
		since   time.Duration
		live    uint64
		want    int
	}{
		{"often", 100, often - 1, mib, 200},
		{"not quite often", 100, often, mib, 100},
		{"not quite seldom", 400, seldom, mib, 400},
		{"seldom", 400, seldom + 1, mib, 200},
		{"never below the usual", 100, time.Hour, mib, 100},
		{"never above the most", most, 0, mib, most},
		{"nothing known to be alive", most / 2, 0, 0, most},
		{"at the headroom", 200, often, Headroom / 2, 200},
		{"beyond the headroom", 400, often, Headroom / 2, 200},
		{"alive as much as the headroom", 400, often, Headroom, 100},
		{"alive more than the headroom", 400, often, Headroom / 4 * 5, 80},
		{"alive twice the headroom", 100, often, 2 * Headroom, least},
		{"far beyond the headroom", 400, 0, 4 * Headroom, least},
		{"small again", least, often, mib, 100},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := next(tt.percent, tt.since, tt.live); got != tt.want {
				t.Errorf("%d, want %d", got, tt.want)
			}
		})
	}
}

// TestPacer: collections that come often let the heap grow, and a process that rests gives everything back, once.
func TestPacer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var set []int
		var freed atomic.Int32
		p := &pacer{percent: usual, last: time.Now(), live: func() uint64 { return 1 << 20 }}
		p.set = func(percent int) { set = append(set, percent) } // p.mu is held
		p.free = func() { freed.Add(1) }
		want := func(when string, frees int32, growths ...int) {
			t.Helper()
			synctest.Wait()
			p.mu.Lock()
			defer p.mu.Unlock()
			if freed.Load() != frees || !slices.Equal(set, growths) {
				t.Fatalf("%s: freed %d times, set %v; want %d and %v", when, freed.Load(), set, frees, growths)
			}
		}
		for range 3 {
			time.Sleep(often / 2)
			p.collected()
		}
		want("at work", 0, 200, 400, 800)
		time.Sleep(restAfter - 1)
		want("not yet at rest", 0, 200, 400, 800)
		time.Sleep(time.Nanosecond)
		want("at rest", 1, 200, 400, 800, usual)
		p.collected() // of its own making, right behind the last one
		time.Sleep(time.Hour)
		want("much later", 1, 200, 400, 800, usual)
		p.collected() // an hour after the last: no work
		time.Sleep(often / 2)
		p.collected()
		want("at work again", 1, 200, 400, 800, usual, 200)
		p.stop()
		time.Sleep(time.Hour)
		want("ended", 1, 200, 400, 800, usual, 200, usual)
	})
}

// held keeps what TestStart allocates on the heap.
var held []byte

// TestStart: in a real process that allocates without end the growth is raised, and put back at the end.
func TestStart(t *testing.T) {
	t.Setenv("GOGC", "")
	before := debug.SetGCPercent(usual)
	defer debug.SetGCPercent(before)
	now := func() int { // there is no way to ask
		percent := debug.SetGCPercent(usual)
		debug.SetGCPercent(percent)
		return percent
	}
	stop := Start()
	raised := false
	for i := 0; i < 10_000 && !raised; i++ {
		held = make([]byte, 1<<20)
		runtime.Gosched()
		raised = i%16 == 0 && now() > usual
	}
	if !raised {
		t.Error("the growth was not raised")
	}
	stop()
	if got := now(); got != usual {
		t.Errorf("%d per cent after the end", got)
	}
	t.Setenv("GOGC", "50")
	Start()()
	if got := now(); got != usual {
		t.Errorf("%d per cent although the environment says another", got)
	}
}
