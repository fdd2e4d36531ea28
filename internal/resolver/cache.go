package resolver

import (
	"container/list"
	"context"
	"net/netip"
	"time"
)

// The bounds of the cache. Both count: many small answers or few large ones, memory stays the same.
const (
	maxCached       = 10_000
	maxCachedOctets = 8 << 20

	// entryOverhead is about what an entry takes beside its texts and addresses: list, map and structs.
	entryOverhead = 400
)

// How long an answer is kept.
const (
	// maxTTL bounds what a zone asks for: mail follows a move within the hour.
	maxTTL = time.Hour
	// minTTL is the floor for answers with data.
	//
	// Deviation: RFC 1035 §3.2.1 wants a TTL of 0 not to be cached. A queue with many messages for one domain would ask for each.
	minTTL = 5 * time.Second
	// maxNegativeTTL bounds answers without data: a domain that was just set up gets its mail soon (RFC 2308 §5 allows hours).
	maxNegativeTTL = 5 * time.Minute
	// failureTTL is how long a failure is kept (RFC 2308 §7, RFC 9520 §3.2: at least 1 s, 5 min at most). It spares servers that are
	// in trouble, and is over before anybody tries again.
	failureTTL = 5 * time.Second
)

// key is a question.
type key struct {
	name  string // as from hostName
	qtype uint16
}

// answer is what is known about a key: data of its type, or noData, or an error; always one of the three. Nobody changes it.
type answer struct {
	mx     []MX
	addrs  []netip.Addr
	tlsa   []TLSA
	txt    []string
	noData bool // the name exists, but has nothing of the type
	err    *Error
	// secure is set if a trusted server has validated all of it, the aliases on the way included.
	secure bool
	// alias is the name at the end of the aliases, "" if there were none.
	alias string
}

// size is about how many octets of memory an answer takes.
func (a *answer) size(k key) int {
	n := entryOverhead + len(k.name) + len(a.alias) + 24*len(a.addrs)
	for _, t := range a.tlsa {
		n += 32 + len(t.Data)
	}
	for _, t := range a.txt {
		n += 16 + len(t)
	}
	for _, mx := range a.mx {
		n += 24 + len(mx.Host)
	}
	if a.err != nil {
		n += len(a.err.Text) + len(a.err.Cause)
	}
	return n
}

// cache keeps answers until they expire, or until it is full: then what was not asked for the longest goes first. It is not safe for
// concurrent use.
type cache struct {
	maxEntries, maxOctets int

	entries map[key]*list.Element // of cached
	order   list.List             // the newest use first
	octets  int
}

type cached struct {
	key    key
	answer *answer
	size   int
	until  time.Time
}

func newCache(maxEntries, maxOctets int) *cache {
	return &cache{maxEntries: maxEntries, maxOctets: maxOctets, entries: map[key]*list.Element{}}
}

// get gives nil for what is not known, or not any more.
func (c *cache) get(k key, now time.Time) *answer {
	e, ok := c.entries[k]
	if !ok {
		return nil
	}
	entry := e.Value.(*cached)
	if !now.Before(entry.until) {
		c.remove(e)
		return nil
	}
	c.order.MoveToFront(e)
	return entry.answer
}

// put keeps an answer for ttl; not at all if that is 0 or less.
func (c *cache) put(k key, a *answer, ttl time.Duration, now time.Time) {
	if e, ok := c.entries[k]; ok {
		c.remove(e)
	}
	if ttl <= 0 {
		return
	}
	entry := &cached{key: k, answer: a, size: a.size(k), until: now.Add(ttl)}
	c.entries[k] = c.order.PushFront(entry)
	c.octets += entry.size
	for len(c.entries) > c.maxEntries || c.octets > c.maxOctets {
		c.remove(c.order.Back())
	}
}

func (c *cache) remove(e *list.Element) {
	entry := c.order.Remove(e).(*cached)
	delete(c.entries, entry.key)
	c.octets -= entry.size
}

// flight is a question that is being asked, for all who wait for its answer.
type flight struct {
	waiters int // protected by Resolver.mu
	ctx     context.Context
	cancel  context.CancelFunc
	done    chan struct{}
	answer  *answer // set before done is closed
}

// lookup gives the answer to a question out of the cache, or asks. Equal questions at the same time are asked once. If ctx ends, the
// question goes on for the others who wait; the last one who leaves ends it.
func (r *Resolver) lookup(ctx context.Context, k key) *answer {
	if ctx.Err() != nil {
		return &answer{err: cutShort(ctx, k)}
	}
	r.mu.Lock()
	if a := r.cache.get(k, r.now()); a != nil {
		r.mu.Unlock()
		return a
	}
	f, ok := r.flights[k]
	if !ok {
		f = &flight{done: make(chan struct{})}
		f.ctx, f.cancel = context.WithCancel(context.WithoutCancel(ctx))
		r.flights[k] = f
		go r.fly(f, k)
	}
	f.waiters++
	r.mu.Unlock()

	select {
	case <-f.done:
		return f.answer
	case <-ctx.Done():
		r.leave(f, k)
		return &answer{err: cutShort(ctx, k)}
	}
}

// leave takes one waiter off a flight. The last one ends it, and waits for that: the sockets are unblocked at once.
func (r *Resolver) leave(f *flight, k key) {
	r.mu.Lock()
	f.waiters--
	last := f.waiters == 0
	if last && r.flights[k] == f {
		delete(r.flights, k) // whoever comes now must not join what is ending
	}
	r.mu.Unlock()
	if last {
		f.cancel()
		<-f.done
	}
}

// fly asks, and keeps the answer unless the question was given up.
func (r *Resolver) fly(f *flight, k key) {
	defer close(f.done)
	defer f.cancel()
	a, ttl := r.resolve(f.ctx, k)
	f.answer = a
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.flights[k] == f {
		delete(r.flights, k)
		r.cache.put(k, a, ttl, r.now())
	}
}
