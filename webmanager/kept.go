package webmanager

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Bounds of what is kept of readings.
const (
	// keptFresh is for how long a reading is good for others.
	keptFresh = 10 * time.Second
	// keptMost is how many are kept, or under way, at a time.
	keptMost = 8
)

// errReadingFailed is what others get whose reading ended in a panic.
var errReadingFailed = errors.New("webmanager: a reading failed")

// kept lets many who ask the same at once have it read once, and keeps what was costly to read for a short time. It keeps facts of the domain alone,
// never an answer: who may see what of them is decided for each who asks.
type kept[K comparable, V any] struct {
	mu       sync.Mutex // protects readings
	readings map[K]*reading[V]
}

// reading is one reading. What is beside done is set before it is closed, and stays.
type reading[V any] struct {
	done  chan struct{}
	at    time.Time
	value V
	err   error
}

// over reports whether it has ended.
func (r *reading[V]) over() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// get returns what is kept under a key, or has it read. Whoever begins a reading ends it, also if nobody waits for it any more; read says whether it was
// so costly that it is to be kept. An error is everybody's who waits for it, and is not kept.
func (k *kept[K, V]) get(ctx context.Context, now time.Time, key K, read func(context.Context) (value V, costly bool, err error)) (V, error) {
	r, mine := k.join(now, key)
	switch {
	case r == nil:
		var none V
		return none, say("in_progress").refusal(CodeUnavailable)
	case mine:
		costly := false
		defer func() { k.end(key, r, costly && r.err == nil) }()
		r.err = errReadingFailed // what stays if read panics
		r.value, costly, r.err = read(context.WithoutCancel(ctx))
		return r.value, r.err
	}
	select {
	case <-r.done:
		return r.value, r.err
	case <-ctx.Done():
		var none V
		return none, ctx.Err()
	}
}

// join finds the reading that is good for who asks now, or begins one; nil: there are too many.
func (k *kept[K, V]) join(now time.Time, key K) (r *reading[V], mine bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if r := k.readings[key]; r != nil {
		if age := now.Sub(r.at); !r.over() || age >= 0 && age < keptFresh {
			return r, false
		}
		delete(k.readings, key)
	}
	if len(k.readings) >= keptMost && !k.forgetOldest() {
		return nil, false
	}
	if k.readings == nil {
		k.readings = map[K]*reading[V]{}
	}
	r = &reading[V]{done: make(chan struct{}), at: now}
	k.readings[key] = r
	return r, true
}

// forgetOldest makes room; it needs mu.
func (k *kept[K, V]) forgetOldest() bool {
	var oldest *reading[V]
	var at K
	for key, r := range k.readings {
		if r.over() && (oldest == nil || r.at.Before(oldest.at)) {
			oldest, at = r, key
		}
	}
	if oldest == nil {
		return false
	}
	delete(k.readings, at)
	return true
}

// end lets those who wait have the reading.
func (k *kept[K, V]) end(key K, r *reading[V], keep bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	close(r.done)
	if !keep {
		delete(k.readings, key)
	}
}
