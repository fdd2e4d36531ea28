package storetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"

	"latchkey/store"
)

// PowerEngine is an Engine whose store lies on a device that can lose power. Its bounds must be larger than what a history of some
// hundred verbs reaches, and whatever makes it reuse, move or compact what it keeps as small as it can be.
//
// An engine that keeps nothing but memory has no device: it counts no steps, and its power goes only while nothing is under way, which
// loses nothing. It shows that the suite asks for no more than the contract says.
type PowerEngine interface {
	Engine
	// PowerOn opens the store on the device as it is, to end as end says. An error is one of the end that came in the middle of opening;
	// whatever else fails ends the test.
	PowerOn(t *testing.T, end End) (store.Store, error)
	// Dead reports whether the end has come. It is set before the first operation fails because of it.
	Dead() bool
	// PowerOff brings the end if it has not come, gives up what is left of the store, and says what there was. The next PowerOn finds what
	// the device kept.
	PowerOff(t *testing.T) Life
	// Look opens the store on what the device kept when the power went, and leaves nothing of that behind: the next PowerOn finds the device as
	// if nobody had looked. The caller closes the store.
	Look(t *testing.T) store.Store
}

// End is how a store's life ends.
type End struct {
	// Seed decides what the device keeps of what was not durable.
	Seed uint64
	// Step is the step at which it ends, from 1; 0 is none. What counts as a step is the engine's, at least everything that changes the
	// device or makes a change durable.
	Step int
	// Killed: only the process ends. The next PowerOn finds all that was written, which is no more durable for that.
	Killed bool
}

// Life is what a store did between PowerOn and PowerOff.
type Life struct {
	// Steps is how many steps there were.
	Steps int
	// Last describes the last one, for people.
	Last string
}

// Seeds of `go test`; LATCHKEY_CRASH_SEEDS asks for more, -short for fewer.
const (
	powerSeeds  = 6
	powerSweeps = 6
	powerShort  = 2
	// SeedsVariable names the environment's variable that says how many power cuts RunPowerFailure makes of each sort.
	SeedsVariable = "LATCHKEY_CRASH_SEEDS"
)

// RunPowerFailure lets the power go under the hands of several clients, again and again, at random steps and in recovery, and then under
// those of one client at every k-th step of all that it does; the same again with a process that is killed there, whose successor loses its
// power. After each cut the store must be sound and all promises must hold: nothing
// that was acknowledged is lost, nothing is there twice, nothing that was removed is back, nothing came in part, no id has changed hands,
// and what is counted is what is there.
func RunPowerFailure(t *testing.T, f func(t *testing.T) PowerEngine) {
	seeds, sweeps := powerSeeds, powerSweeps
	if testing.Short() {
		seeds, sweeps = powerShort, powerShort
	}
	if n, err := strconv.Atoi(os.Getenv(SeedsVariable)); err == nil && n > 0 {
		seeds, sweeps = n, n
	}
	t.Run("Random", func(t *testing.T) {
		steps := countSteps(t, f(t))
		for seed := range uint64(seeds) {
			t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) { newHistory(t, f(t), seed, 3).random(steps) })
		}
	})
	for i, killed := range []bool{false, true} {
		t.Run([]string{"EveryStep", "EveryStepKilled"}[i], func(t *testing.T) {
			verbs, ends := sweepVerbs, sweeps
			if killed { // what is left undone by a killed process shows where little follows: many short lives
				verbs, ends = sweepVerbs/4, 4*sweeps
			}
			h := newHistory(t, f(t), uint64(i), 1)
			h.live(End{}, verbs, false)
			steps := h.last.Steps
			for n := range min(ends, steps) {
				at := 1 + n*steps/min(ends, steps)
				t.Run(strconv.Itoa(at), func(t *testing.T) { newHistory(t, f(t), uint64(i), 1).sweep(at, verbs, killed) })
			}
		})
	}
}

// fuzzSteps is beyond what a life of lifeVerbs takes.
const fuzzSteps = 1024

// FuzzPowerFailure is RunPowerFailure's random part as a fuzz target: each input is one history. The low bits of how say which lives end by a
// kill, the next one whether the store is closed in good order where nothing ends it, the others how many clients there are.
func FuzzPowerFailure(f *testing.F, engine func(t *testing.T) PowerEngine) {
	f.Add(uint64(1), uint16(10), uint16(3), uint16(400), byte(0))
	f.Add(uint64(2), uint16(200), uint16(40), uint16(5), byte(1))
	f.Add(uint64(3), uint16(100), uint16(6), uint16(90), byte(6))
	f.Fuzz(func(t *testing.T, seed uint64, first, second, third uint16, how byte) {
		h := newHistory(t, engine(t), seed, 1+int(how>>4)%4)
		for i, step := range []uint16{first, second, third} {
			h.live(End{Step: int(step % fuzzSteps), Killed: how>>i&1 != 0}, lifeVerbs, how>>3&1 != 0)
		}
		h.live(End{}, lifeVerbs/4, true)
	})
}

// How many things each client does in one life.
const (
	lifeVerbs  = 40
	sweepVerbs = 120
)

// history is one store over several lives.
type history struct {
	t       *testing.T
	e       PowerEngine
	l       *ledger
	seed    uint64
	rng     *rand.Rand
	clients int
	lives   int
	last    Life
	killed  bool // the last one was
}

func newHistory(t *testing.T, e PowerEngine, seed uint64, clients int) *history {
	return &history{t: t, e: e, l: newLedger(), seed: seed, rng: rand.New(rand.NewPCG(seed, 1)), clients: clients}
}

// countSteps says how many steps a life has that no cut ends.
func countSteps(t *testing.T, e PowerEngine) int {
	h := newHistory(t, e, 0, 3)
	h.live(End{}, lifeVerbs, false)
	return h.last.Steps
}

// random ends lives at random steps, every second one after the first while the store still recovers, and every fourth by a kill.
func (h *history) random(steps int) {
	const lives = 5
	for i := range lives {
		end := End{Step: 1 + h.rng.IntN(steps+steps/4+1), Killed: h.rng.IntN(4) == 0 && i < lives-1}
		verbs := lifeVerbs
		if i > 0 && h.rng.IntN(2) == 0 {
			end.Step = 1 + h.rng.IntN(recoverySteps)
			verbs *= h.rng.IntN(2)
		}
		h.live(end, verbs, h.rng.IntN(2) == 0)
	}
}

// recoverySteps is about how many steps it takes to open a store after a cut.
const recoverySteps = 12

// sweep ends a fixed history at one step, then lets the power go at a step of the recovery, and then lives on. What the successor of a
// killed process does beyond looking would make durable what its predecessor left behind.
func (h *history) sweep(at, verbs int, killed bool) {
	h.live(End{Step: at, Killed: killed}, verbs, false)
	if killed {
		h.live(End{}, 0, false)
	} else {
		h.live(End{Step: 1 + at%recoverySteps}, verbs/3, false)
	}
	h.live(End{}, verbs/3, true)
}

// live opens the store, lets the clients work until they are done or the end comes, and looks at what a power cut left. If tidy is set and
// the end has not come, the store is closed in good order first.
func (h *history) live(end End, verbs int, tidy bool) {
	h.t.Helper()
	if h.t.Failed() {
		return
	}
	h.lives++
	end.Seed = h.rng.Uint64()
	s, err := h.e.PowerOn(h.t, end)
	h.l.dead = h.e.Dead
	if err == nil {
		h.work(s, verbs)
		if tidy && !h.e.Dead() {
			h.closeTidily(s)
		}
	} else if !h.e.Dead() {
		h.t.Fatalf("PowerOn: %v", err)
	}
	h.last = h.e.PowerOff(h.t)
	h.l.dead = func() bool { return false }
	if h.killed = end.Killed; !h.killed {
		h.look()
	}
	for _, g := range h.l.grants {
		g.perhaps = h.killed && !g.kept
	}
	if h.t.Failed() {
		h.t.Fatalf("seed %d, life %d of %+v ended after %d steps with %s", h.seed, h.lives, end, h.last.Steps, h.last.Last)
	}
}

func (h *history) work(s store.Store, verbs int) {
	var clients []*client
	for i := range h.clients {
		clients = append(clients, &client{
			t: h.t, ctx: context.WithoutCancel(h.t.Context()), s: s, l: h.l, rng: rand.New(rand.NewPCG(h.seed, uint64(100*h.lives+i+2))),
			name: fmt.Sprintf("m%d-%d", h.lives, i), index: i, peers: h.clients,
		})
	}
	var err error
	if h.killed || verbs == 0 {
		err = clients[0].lookAround()
	}
	if verbs > 0 {
		err = firstOf(err, clients[0].prepare())
	}
	if err != nil && !h.e.Dead() {
		h.t.Errorf("at the beginning of a life: %v", err)
	}
	var wg sync.WaitGroup
	for _, c := range clients {
		wg.Go(func() { c.work(verbs) })
	}
	wg.Wait()
}

// closeTidily closes a store that has its power: then even what a crash may forget is written down.
func (h *history) closeTidily(s store.Store) {
	if err := s.Close(); err != nil && !h.e.Dead() {
		h.t.Errorf("Close: %v", err)
	} else if err == nil {
		h.l.hear(func() {
			for _, g := range h.l.grants {
				g.kept = g.kept || !g.perhaps
			}
		})
	}
}

// look opens what the device kept, and compares it with every promise.
func (h *history) look() {
	h.t.Helper()
	v := &verifier{t: h.t, ctx: context.WithoutCancel(h.t.Context()), s: h.e.Look(h.t), l: h.l}
	v.all()
	if err := v.s.Close(); err != nil {
		h.t.Errorf("Close: %v", err)
	}
}
