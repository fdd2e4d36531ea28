// Package gcpace lets the garbage collector of a busy process work less often, within a bound, and gives the memory back when it rests.
//
// A mail server that holds little collects all the time while mail comes in, because the heap may only double: with 3 MiB alive every few
// hundred messages. The pace follows how often collections come, so a process that is not busy stays as small as it is without all this.
package gcpace

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
)

// Headroom is how far a heap may grow between two collections, in octets. Only one that holds more than twice as much may grow further: by
// half.
const Headroom = 28 << 20

const (
	// usual is the growth between two collections, in per cent of what is alive, of a process that is not busy; least and most bound that of
	// one that is.
	usual, least, most = 100, 50, 1600
	// Collections that follow each other sooner than often let the heap grow more, those that come later than seldom less.
	often, seldom = 250 * time.Millisecond, 2 * time.Second
	// restAfter is how long there is no collection before the process counts as resting.
	restAfter = 10 * time.Second
)

// next is the growth after a collection that followed the one before after so much time and left so many octets alive.
func next(percent int, since time.Duration, live uint64) int {
	switch {
	case since < often:
		percent *= 2
	case since > seldom:
		percent /= 2
	}
	bound := most
	if live > 0 {
		bound = min(bound, int(Headroom*100/live))
	}
	return max(min(max(percent, usual), bound), least)
}

// pacer sets the growth after each collection.
type pacer struct {
	set  func(percent int) // applies the growth
	free func()            // collects, and returns all memory that is free to the system
	live func() uint64     // what the last collection left, in octets

	mu      sync.Mutex // guards the rest
	percent int
	last    time.Time
	timer   *time.Timer
	stopped bool
}

// Start begins to set the pace of this process, and returns what ends that and puts the usual growth back. If GOGC is set in the
// environment, both do nothing: whoever set it wants something else. GOMEMLIMIT bounds the heap as ever, whatever the pace.
func Start() (stop func()) {
	if os.Getenv("GOGC") != "" {
		return func() {}
	}
	p := &pacer{set: func(percent int) { debug.SetGCPercent(percent) }, free: debug.FreeOSMemory, live: liveHeap, percent: usual, last: time.Now()}
	p.watch()
	return p.stop
}

func liveHeap() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	if sample[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return sample[0].Value.Uint64()
}

// sentinel dies in the next collection.
type sentinel struct{ of *pacer }

// watch arranges that collected is called after the next collection.
func (p *pacer) watch() {
	runtime.AddCleanup(&sentinel{p}, (*pacer).collected, p)
}

// collected looks at the collection that has just ended, and waits for the next one.
func (p *pacer) collected() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return
	}
	now := time.Now()
	since := now.Sub(p.last)
	p.last = now
	if percent := next(p.percent, since, p.live()); percent != p.percent {
		p.percent = percent
		p.set(percent)
	}
	if p.percent > usual {
		if p.timer == nil {
			p.timer = time.AfterFunc(restAfter, p.rest)
		}
		p.timer.Reset(restAfter)
	}
	p.watch()
}

// rest gives back what the process took while it was busy.
func (p *pacer) rest() {
	p.mu.Lock()
	if p.stopped || p.percent == usual {
		p.mu.Unlock()
		return
	}
	p.percent = usual // and the collection that free makes comes too late to raise it
	p.set(usual)
	p.mu.Unlock()
	p.free()
}

func (p *pacer) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped = true; p.timer != nil {
		p.timer.Stop()
	}
	if p.percent != usual {
		p.set(usual)
	}
}
