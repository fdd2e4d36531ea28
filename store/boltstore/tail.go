package boltstore

import (
	"context"
	"errors"
	"sort"
	"sync"
	"time"

	"latchkey/internal/journal"
	"latchkey/store"
)

// Bounds of the tail: what is durable in the journal and not yet in the index. Beyond them the committer waits for the indexer.
const (
	maxTailEntries = 32 << 10
	maxTailOctets  = 24 << 20
)

// tailed is one record of the tail.
type tailed struct {
	entry  entry
	mark   journal.Mark // behind it
	octets int
}

// tail is what the index does not know yet. Readers lay it over the index.
type tail struct {
	maxEntries, maxOctets int
	delay                 time.Duration

	mu       sync.Mutex // guards the rest
	list     []tailed   // in order
	octets   int
	last     uint64       // the last durable record
	lastCopy store.CopyID // the last durable copy, of whatever account: they ascend
	lastJobs uint64       // the last durable record that concerns the queue
	applied  uint64       // the last record that is durable in the index
	since    time.Time    // when the first of them came; of those left by a transaction, when it took the others
	taken    time.Time    // when the indexer last took some
	// wanted is set when somebody waits for the index.
	wanted bool
	// stuck is why the last attempt to bring the index up to date failed, or nil. moved is closed when an attempt has ended.
	stuck    error
	moved    chan struct{}
	accounts map[store.AccountID]*tailPart
	large    map[store.MessageID]body
	// unlisted are the open snapshots that have no list: see handOver. There are no more than sessions.
	unlisted map[store.AccountID][]*maildrop
}

// tailPart is what of the tail concerns one maildrop. In the tail its slices only grow at the end and shrink at the front, so that readers keep
// what they were given.
type tailPart struct {
	copies []tailCopy
	gone   []tailGone
}

type tailCopy struct {
	seq uint64
	listing
	large *body // of a large message
}

// tailGone is one QUIT: copies that went, and copies that were fetched, some of which stay.
type tailGone struct {
	seq     uint64
	ids     []store.CopyID
	fetched []store.CopyID
	freed   store.Usage
}

func newTail(b bounds) tail {
	return tail{
		maxEntries: int(b.tailEntries), maxOctets: int(b.tailOctets), delay: time.Duration(b.indexDelay), moved: make(chan struct{}),
		accounts: make(map[store.AccountID]*tailPart), large: make(map[store.MessageID]body), unlisted: make(map[store.AccountID][]*maildrop),
	}
}

func (z *tail) account(id store.AccountID) *tailPart {
	a := z.accounts[id]
	if a == nil {
		a = &tailPart{}
		z.accounts[id] = a
	}
	return a
}

// add appends durable records, and reports whether the indexer should start at once.
func (z *tail) add(now time.Time, entries []tailed) (hurry bool) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if len(z.list) == 0 {
		z.since = now
	}
	for i := range entries {
		e := &entries[i]
		z.list = append(z.list, *e)
		z.octets += e.octets
		z.last = e.mark.Seq
		switch made := e.entry.(type) {
		case *messageEntry:
			z.addMessage(made, e.mark.Seq)
		case *expungeEntry:
			a := z.account(made.account)
			a.gone = append(a.gone, tailGone{seq: e.mark.Seq, ids: made.deleted, fetched: made.fetched, freed: made.freed})
			if len(z.unlisted[made.account]) > 0 {
				z.handOver(made.by.s, made.account, made.by.copies(made.deleted), &made.by.pins)
			}
			made.by = nil
		case *outcomesEntry:
			z.lastJobs = e.mark.Seq
		}
		hurry = hurry || z.lastJobs == e.mark.Seq
	}
	z.wanted = z.wanted || hurry
	return z.wanted || z.isLong()
}

// isLong reports whether there is enough for a transaction of its own.
func (z *tail) isLong() bool {
	return len(z.list) >= min(indexBatch, z.maxEntries/4) || z.octets >= z.maxOctets/4
}

func (z *tail) addMessage(m *messageEntry, seq uint64) {
	id := m.firstCopy
	jobs := len(m.outcomes) > 0
	for i := range m.holders {
		h := &m.holders[i]
		if h.account == 0 {
			jobs = true
			continue
		}
		a := z.account(h.account)
		c := tailCopy{seq: seq, listing: m.listing(id, h)}
		if m.body.large {
			c.large = &m.body
		}
		a.copies = append(a.copies, c)
		z.lastCopy = max(z.lastCopy, id)
		id++
	}
	if jobs {
		z.lastJobs = seq
	}
	if m.body.large {
		z.large[m.id] = m.body
	}
}

// tokens returns the large bodies that the tail names.
func (z *tail) tokens() (tokens []token) {
	z.mu.Lock()
	defer z.mu.Unlock()
	for _, b := range z.large {
		tokens = append(tokens, b.token)
	}
	return tokens
}

// look returns what concerns a maildrop. Records that the index has by the time it is read are told by their seq.
func (z *tail) look(id store.AccountID) tailPart {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.part(id)
}

// part is look with mu held.
func (z *tail) part(id store.AccountID) tailPart {
	if a := z.accounts[id]; a != nil {
		return *a
	}
	return tailPart{}
}

// take returns the records that the indexer applies next, as many as one transaction should have; more is set if there are others behind them.
// That somebody waits is forgotten with the last of them.
func (z *tail) take(now time.Time) (batch []tailed, more bool) {
	z.mu.Lock()
	defer z.mu.Unlock()
	n := 0
	for octets := 0; n < min(indexBatch, len(z.list)) && octets < indexOctets; n++ {
		octets += z.list[n].octets
	}
	more = n < len(z.list)
	z.wanted, z.taken = z.wanted && more, now
	return z.list[:n], more
}

// done notes that an attempt to apply n records has ended.
func (z *tail) done(n int, err error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.stuck = err; err == nil {
		z.forget(n)
	}
	close(z.moved)
	z.moved = make(chan struct{})
}

func (z *tail) forget(n int) {
	if n == 0 {
		return
	}
	z.applied = z.list[n-1].mark.Seq
	touched := make(map[store.AccountID]struct{})
	for i := range z.list[:n] {
		z.octets -= z.list[i].octets
		switch made := z.list[i].entry.(type) {
		case *messageEntry:
			delete(z.large, made.id)
			for j := range made.holders {
				touched[made.holders[j].account] = struct{}{}
			}
		case *expungeEntry:
			touched[made.account] = struct{}{}
		}
		z.list[i] = tailed{}
	}
	if z.list = z.list[n:]; len(z.list) == 0 {
		z.list = nil
	}
	z.since = z.taken
	for id := range touched {
		a := z.accounts[id]
		if a == nil {
			continue
		}
		for len(a.copies) > 0 && a.copies[0].seq <= z.applied {
			a.copies = a.copies[1:]
		}
		for len(a.gone) > 0 && a.gone[0].seq <= z.applied {
			a.gone = a.gone[1:]
		}
		if len(a.copies)+len(a.gone) == 0 {
			delete(z.accounts, id)
		}
	}
}

// waits says how much there is to apply, and since when.
func (z *tail) waits() (entries, octets int, since time.Time) {
	z.mu.Lock()
	defer z.mu.Unlock()
	return len(z.list), z.octets, z.since
}

// isDue reports whether there is something to apply, and whether it is time: somebody waits, there is much, or it is old enough.
func (z *tail) isDue(now time.Time) (some, due bool) {
	z.mu.Lock()
	defer z.mu.Unlock()
	return len(z.list) > 0, z.wanted || z.isLong() || now.Sub(z.since) >= z.delay
}

// full reports whether the bounds are reached; it returns what is closed when that may have changed, and why the index does not follow.
func (z *tail) full() (full bool, moved <-chan struct{}, stuck error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	return len(z.list) >= z.maxEntries || z.octets >= z.maxOctets, z.moved, z.stuck
}

// settle waits until the index has every durable record that concerns the queue, or (all) every one. If the index cannot be written the
// caller has to do with what it holds: the tail is kept.
func (s *Store) settle(ctx context.Context, all bool) error {
	z := &s.tail
	z.mu.Lock()
	upto := z.lastJobs
	if all {
		upto = z.last
	}
	for z.applied < upto && s.poisoned() == nil {
		z.wanted = true
		moved := z.moved
		z.mu.Unlock()
		s.wake()
		select {
		case <-moved:
		case <-s.stopped:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
		z.mu.Lock()
		if z.stuck != nil {
			break
		}
	}
	defer z.mu.Unlock()
	if z.stuck != nil && !errors.Is(z.stuck, store.ErrNoSpace) && !errors.Is(z.stuck, store.ErrPoisoned) {
		return z.stuck
	}
	return ctx.Err()
}

// upTo returns the part without what was added behind a record.
func (p tailPart) upTo(seq uint64) tailPart {
	copies, gone := p.split(seq)
	return tailPart{copies: p.copies[:copies], gone: p.gone[:gone]}
}

// since returns the part without what the index has when it has everything up to a record.
func (p tailPart) since(applied uint64) tailPart {
	copies, gone := p.split(applied)
	return tailPart{copies: p.copies[copies:], gone: p.gone[gone:]}
}

// split returns how many entries are from records up to seq.
func (p tailPart) split(seq uint64) (copies, gone int) {
	copies = sort.Search(len(p.copies), func(i int) bool { return p.copies[i].seq > seq })
	gone = sort.Search(len(p.gone), func(i int) bool { return p.gone[i].seq > seq })
	return copies, gone
}

// overlay is a maildrop's part of the tail beside a view of the index that has everything up to applied.
type overlay struct {
	copies []tailCopy
	quits  []tailGone
	gone   map[store.CopyID]struct{} // by them
}

func overlayOf(p tailPart, applied uint64) overlay {
	p = p.since(applied)
	o := overlay{copies: p.copies, quits: p.gone}
	for _, g := range p.gone {
		if o.gone == nil {
			o.gone = make(map[store.CopyID]struct{}, len(g.ids))
		}
		for _, id := range g.ids {
			o.gone[id] = struct{}{}
		}
	}
	return o
}

func (o *overlay) isGone(id store.CopyID) bool {
	_, gone := o.gone[id]
	return gone
}

// usageWith adds a maildrop's part of the tail to what the index says of it.
func usageWith(u store.Usage, p tailPart, applied uint64) store.Usage {
	p = p.since(applied)
	for i := range p.copies {
		u.Octets += p.copies[i].size
		u.Messages++
	}
	for _, g := range p.gone {
		u = u.Minus(g.freed)
	}
	return u
}
