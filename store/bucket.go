package store

import (
	"fmt"
	"math/bits"
	"time"
)

// Bucket is the state of one counter: a leaky bucket in whole units. The zero Bucket is full. Engines keep it by key; the clock is
// always the caller's, and a clock that goes back gives nothing back.
type Bucket struct {
	// Used is how many units are out, as of At.
	Used int64
	// At is the moment from which the next unit is on its way back.
	At time.Time
}

// Validate reports a limit that has no meaning; it wraps ErrInvalid.
func (l Limit) Validate() error {
	if l.N <= 0 || l.Window <= 0 {
		return fmt.Errorf("%w: a limit has a positive number and window", ErrInvalid)
	}
	return nil
}

// Take takes cost units if they are there. l is valid and cost is not negative.
func (b *Bucket) Take(now time.Time, cost int64, l Limit) Taken {
	b.refill(now, l)
	left := l.N - b.Used
	switch {
	case cost > l.N:
		return Taken{Left: max(left, 0), RetryAfter: l.Window}
	case cost > left:
		return Taken{Left: max(left, 0), RetryAfter: b.At.Add(l.span(cost - left)).Sub(now)}
	}
	b.Used += cost
	return Taken{OK: true, Left: left - cost}
}

// Give puts cost units back, at most until the bucket is full. l is valid and cost is not negative.
func (b *Bucket) Give(now time.Time, cost int64, l Limit) {
	b.refill(now, l)
	b.Used = max(b.Used-cost, 0)
}

// FullAt is when the bucket will be full again if nothing more is taken.
func (b *Bucket) FullAt(l Limit) time.Time { return b.At.Add(l.span(b.Used)) }

// refill accounts for the units that came back until now.
func (b *Bucket) refill(now time.Time, l Limit) {
	if b.Used == 0 {
		b.At = now
		return
	}
	elapsed := now.Sub(b.At)
	if elapsed <= 0 {
		return
	}
	if elapsed >= l.span(b.Used) {
		b.Used, b.At = 0, now
		return
	}
	// elapsed < Used*Window/N, so the quotient is below Used and cannot overflow.
	hi, lo := bits.Mul64(uint64(elapsed), uint64(l.N))
	back, _ := bits.Div64(hi, lo, uint64(l.Window))
	b.Used -= int64(back)
	b.At = b.At.Add(l.span(int64(back)))
}

// span is how long units take to come back, rounded up to the nanosecond; at most the longest Duration.
func (l Limit) span(units int64) time.Duration {
	hi, lo := bits.Mul64(uint64(units), uint64(l.Window))
	lo, carry := bits.Add64(lo, uint64(l.N-1), 0)
	hi += carry
	const longest = 1<<63 - 1
	if hi >= uint64(l.N) {
		return longest
	}
	q, _ := bits.Div64(hi, lo, uint64(l.N))
	return time.Duration(min(q, longest))
}
