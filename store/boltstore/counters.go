package boltstore

import (
	"container/heap"
	"context"
	"fmt"
	"sync"
	"time"

	"latchkey/store"
)

// Bounds of what is written down later.
const (
	// flushDelay is how long counters, grants and statistics wait for being written: what a crash may forget.
	flushDelay = 5 * time.Second
	// flushedPerGroup bounds how many of each one transaction writes.
	flushedPerGroup = 1000
)

// lazy holds what may be forgotten in a crash: it is in memory, and written a little later.
type lazy struct {
	flushing sync.Mutex // one flush at a time

	mu       sync.Mutex // guards the rest
	counters map[string]*counter
	order    byFull
	dirty    map[string]struct{} // keys of counters to be written, or removed if there is no such counter
	days     map[store.Day]*day
	timer    *time.Timer // nil when nothing is to be written
}

// counter is one leaky bucket. Its limit is kept to know when it is full.
type counter struct {
	key    string
	bucket store.Bucket
	limit  store.Limit
	i      int // in order
}

func (c *counter) fullAt() time.Time { return c.bucket.FullAt(c.limit) }

// byFull is a heap of counters; the first is the one that is full soonest, and the least loss.
type byFull []*counter

func (h byFull) Len() int           { return len(h) }
func (h byFull) Less(i, j int) bool { return h[i].fullAt().Before(h[j].fullAt()) }

func (h byFull) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].i, h[j].i = i, j
}

// Push implements heap.Interface.
func (h *byFull) Push(v any) {
	c, _ := v.(*counter)
	c.i = len(*h)
	*h = append(*h, c)
}

// Pop implements heap.Interface.
func (h *byFull) Pop() any {
	old := *h
	c := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return c
}

// Take implements store.Counters.
func (s *Store) Take(ctx context.Context, now time.Time, key string, cost int64, l store.Limit) (taken store.Taken, err error) {
	err = s.count(ctx, key, cost, l, func(b *store.Bucket) bool {
		taken = b.Take(now, cost, l)
		return taken.OK && cost > 0
	})
	return taken, err
}

// Give implements store.Counters.
func (s *Store) Give(ctx context.Context, now time.Time, key string, cost int64, l store.Limit) error {
	return s.count(ctx, key, cost, l, func(b *store.Bucket) bool {
		before := b.Used
		b.Give(now, cost, l)
		return b.Used != before
	})
}

// count runs change on a bucket, and keeps the bucket if change says so.
func (s *Store) count(ctx context.Context, key string, cost int64, l store.Limit, change func(*store.Bucket) bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.isClosing() {
		return store.ErrClosed
	}
	if err := l.Validate(); err != nil {
		return err
	}
	if len(key) == 0 || len(key) > store.MaxCounterKey || cost < 0 {
		return fmt.Errorf("%w: a counter has a key of 1 to %d octets and a cost of 0 or more", store.ErrInvalid, store.MaxCounterKey)
	}
	z := &s.lazy
	z.mu.Lock()
	defer z.mu.Unlock()
	c := z.counters[key]
	if c == nil {
		c = &counter{key: key, i: -1}
	}
	c.limit = l
	changed := change(&c.bucket)
	switch {
	case c.i >= 0:
		heap.Fix(&z.order, c.i)
	case changed:
		for uint64(len(z.counters)) >= s.bounds.counters {
			z.forget(z.order[0])
		}
		z.counters[key] = c
		heap.Push(&z.order, c)
	}
	if changed {
		z.dirty[key] = struct{}{}
		s.flushSoon()
	}
	return nil
}

func (z *lazy) forget(c *counter) {
	heap.Remove(&z.order, c.i)
	delete(z.counters, c.key)
	z.dirty[c.key] = struct{}{}
}

// flushSoon arranges that what is dirty gets written. z.mu is held. There is no timer while nothing is dirty.
func (s *Store) flushSoon() {
	if s.lazy.timer == nil {
		s.lazy.timer = time.AfterFunc(flushDelay, func() {
			if err := s.flushLazy(context.Background()); err != nil && s.usable() == nil {
				s.log.Warn("counters, grants and statistics could not be written", "error", err)
			}
		})
	}
}

// flushLazy writes what is dirty, in bounded steps.
func (s *Store) flushLazy(ctx context.Context) error {
	z := &s.lazy
	z.flushing.Lock()
	defer z.flushing.Unlock()
	z.mu.Lock()
	if z.timer != nil {
		z.timer.Stop()
		z.timer = nil
	}
	z.mu.Unlock()
	for {
		keys, figures := z.takeDirty()
		grants := s.grants.takeDirty()
		if len(keys)+len(figures)+len(grants) == 0 {
			return nil
		}
		if err := s.write(ctx, func(t *txn) error {
			s.writeCounters(t, keys)
			t.writeStats(figures)
			t.writeGrants(grants)
			return nil
		}); err != nil {
			s.markDirty(keys, figures)
			s.grants.markDirty(grants)
			return err
		}
	}
}

func (z *lazy) takeDirty() (keys []string, figures []store.Stat) {
	z.mu.Lock()
	defer z.mu.Unlock()
	for key := range z.dirty {
		if len(keys) == flushedPerGroup {
			break
		}
		keys = append(keys, key)
		delete(z.dirty, key)
	}
	return keys, z.takeFigures()
}

// markDirty puts back what could not be written; it goes with the next flush.
func (s *Store) markDirty(keys []string, figures []store.Stat) {
	z := &s.lazy
	z.mu.Lock()
	defer z.mu.Unlock()
	for _, key := range keys {
		z.dirty[key] = struct{}{}
	}
	for _, f := range figures {
		if d := z.days[f.Day]; d != nil {
			d.dirty[f.Name] = struct{}{}
		}
	}
}

// writeCounters writes the present state of counters; those that are full again are not worth a place.
func (s *Store) writeCounters(t *txn, keys []string) {
	z := &s.lazy
	z.mu.Lock()
	defer z.mu.Unlock()
	for _, key := range keys {
		c := z.counters[key]
		if c == nil || c.bucket.Used == 0 {
			t.delete(bCounters, []byte(key))
			continue
		}
		var e encoder
		e.varint(c.bucket.Used)
		e.time(c.bucket.At)
		e.varint(c.limit.N)
		e.varint(int64(c.limit.Window))
		t.put(bCounters, []byte(key), e.b)
	}
}

// loadCounters reads the counters that are not full yet.
func (s *Store) loadCounters(v *view) (err error) {
	now := s.now()
	v.scan(bCounters, nil, nil, func(key, value []byte) bool {
		d := decoder{b: value}
		c := &counter{key: string(key), bucket: store.Bucket{Used: d.varint(), At: d.time()}}
		c.limit = store.Limit{N: d.varint(), Window: time.Duration(d.varint())}
		if err = d.err; err != nil {
			return false
		}
		if c.limit.Validate() != nil || !c.fullAt().After(now) {
			s.lazy.dirty[c.key] = struct{}{} // to be removed with the next flush
			return true
		}
		s.lazy.counters[c.key] = c
		heap.Push(&s.lazy.order, c)
		return true
	})
	return err
}
