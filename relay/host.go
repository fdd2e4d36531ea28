package relay

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"latchkey/store"
)

const (
	// maxHosts bounds the hosts that are known. Beyond it one with which nothing goes on is forgotten.
	maxHosts = 10_000
	// idleTime is how long a connection waits for the next message, whoever's that is; maxIdle bounds those that wait.
	idleTime = 2 * time.Second
	maxIdle  = 500
	// nobody holds the slots of connections that wait, closer those of connections that are being closed.
	nobody, closer = ^store.AccountID(0), ^store.AccountID(0) - 1
)

// host is one address that mail goes to. All destinations whose mail exchanger it is share what is known of it, its connections and its
// back-off.
type host struct {
	at netip.AddrPort
	// slots are the connections that it gets at once.
	slots *places

	// What follows is protected by hosts.mu.
	window window
	// down says that it cannot be had.
	down remembered
	// messages, if it is not 0, is how many it takes over one connection.
	messages int
	// idle are connections that wait. Each has a slot of nobody's, or one that was granted to a worker which is about to take it.
	idle []idleLink
}

// idleLink is a connection that waits until a moment.
type idleLink struct {
	link  *link
	until time.Time
}

// hosts are those that are known.
type hosts struct {
	most int // connections to one at once

	mu    sync.Mutex // protects what follows, and much of each host
	known map[netip.AddrPort]*host
	idle  int
	// soonest is not after the moment when the first of those that wait has waited long enough.
	soonest time.Time
}

func newHosts(most int) *hosts { return &hosts{most: most, known: map[netip.AddrPort]*host{}} }

// get returns the host at an address, which is not forgotten while somebody has a slot or waits for one.
func (s *hosts) get(at netip.AddrPort, now time.Time) *host {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.known[at]; h != nil {
		return h
	}
	if len(s.known) >= maxHosts {
		s.makeRoom(now)
	}
	first := min(firstConnections, s.most)
	h := &host{at: at, slots: newPlaces(first, false), window: window{limit: first}}
	s.known[at] = h
	return h
}

// makeRoom forgets hosts with which nothing goes on: those that are not down, or else any. s.mu is held.
func (s *hosts) makeRoom(now time.Time) {
	for _, any := range []bool{false, true} {
		for at, h := range s.known {
			if len(s.known) < maxHosts {
				return
			}
			if h.slots.idle() && (any || !now.Before(h.down.until)) {
				delete(s.known, at)
			}
		}
	}
}

// downUntil returns why a host is left alone, and until when.
func (s *hosts) downUntil(h *host, now time.Time) (remembered, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return h.down, now.Before(h.down.until)
}

// succeeded notes a delivery.
func (s *hosts) succeeded(h *host, now time.Time) {
	s.mu.Lock()
	h.window.success(s.most, now)
	limit := h.window.limit
	s.mu.Unlock()
	h.slots.resize(limit)
}

// pushedBack notes that the host wants less, in answer to what was begun at a moment.
func (s *hosts) pushedBack(h *host, begun, now time.Time) {
	s.mu.Lock()
	h.window.pushBack(begun, now)
	limit := h.window.limit
	s.mu.Unlock()
	h.slots.resize(limit)
}

// reached notes that the host is there.
func (s *hosts) reached(h *host) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h.down = remembered{}
}

// failed notes that no connection came about. busy means that the host has others of ours, so that it is there and wants no more of them;
// otherwise it is left alone for a while.
func (s *hosts) failed(h *host, v verdict, now time.Time, random float64) (busy bool) {
	others := h.slots.taken() - 1
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case v.kind != store.Deferred || v.at > atHello:
	case others > 0:
		h.window.refused(others, now)
		h.slots.resize(h.window.limit)
		return true
	default:
		h.down.failures++
		h.down.verdict, h.down.until = v, next(h.down.failures, now, now, random)
	}
	return false
}

// wait says how long the next message to a host has to wait.
func (s *hosts) wait(h *host, now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return h.window.wait(now)
}

// learn notes that a host closes a connection after so many messages.
func (s *hosts) learn(h *host, messages int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if messages > 0 {
		h.messages = messages
	}
}

// enough reports whether a connection has had all the messages that it should.
func (s *hosts) enough(l *link, most int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range []int{l.caps.messages, l.at.messages} {
		if n > 0 {
			most = min(most, n)
		}
	}
	return l.sent >= most
}

// take gives whoever asks a connection that waits, or leave to make one: then the link is nil. Neither is no, because the host has as many
// as it gets. granted says that the asker was given a slot before.
func (s *hosts) take(h *host, owner store.AccountID, name string, d door, granted bool) (l *link, ok bool) {
	s.mu.Lock()
	i := slices.IndexFunc(h.idle, func(w idleLink) bool { return w.link.serves(name, d) })
	// A slot that was granted is that of a connection which waits, unless all those have slots of nobody's.
	theirs := granted && h.slots.count(nobody) < len(h.idle)
	fits := i >= 0
	if i < 0 {
		i = 0
	}
	switch {
	case fits && granted:
		if !theirs {
			h.slots.give(nobody)
		}
	case fits && h.slots.rename(nobody, owner), theirs:
	case granted, h.slots.tryTake(owner):
		s.mu.Unlock()
		return nil, true
	case len(h.idle) > 0 && h.slots.rename(nobody, owner):
		fits = false
	default:
		s.mu.Unlock()
		return nil, false
	}
	l = s.pull(h, i)
	s.mu.Unlock()
	if fits {
		return l, true
	}
	l.close() // its slot is the asker's now
	return nil, true
}

// decline returns a slot that was granted and is not used: with it goes the connection that waits in it, if it is that one's.
func (s *hosts) decline(h *host, owner store.AccountID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.slots.count(nobody) < len(h.idle) {
		h.slots.handOver(owner, nobody)
	} else {
		h.slots.give(owner)
	}
}

// pull takes a connection out of those that wait. s.mu is held.
func (s *hosts) pull(h *host, i int) *link {
	l := h.idle[i].link
	h.idle = slices.Delete(h.idle, i, i+1)
	s.idle--
	return l
}

// park lets a connection wait for the next message, and reports whether it may. Its slot is nobody's then, or goes to whoever waits.
func (s *hosts) park(l *link, owner store.AccountID, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.idle >= maxIdle {
		return false
	}
	if s.idle++; s.idle == 1 {
		s.soonest = now.Add(idleTime)
	}
	l.at.idle = append(l.at.idle, idleLink{link: l, until: now.Add(idleTime)})
	l.at.slots.handOver(owner, nobody)
	return true
}

// expire returns the connections that have waited long enough, or all, and when the next one has. Whoever closes one gives the slot
// of closer back.
func (s *hosts) expire(now time.Time, all bool) (old []*link, next time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.idle == 0:
		return nil, time.Time{}
	case !all && now.Before(s.soonest):
		return nil, s.soonest
	}
	for _, h := range s.known {
		for i := 0; i < len(h.idle); i++ {
			until := h.idle[i].until
			if !now.Before(until) {
				until = now.Add(idleTime / 4) // one that is granted is about to be taken; it is looked at again, but not all the time
			}
			switch {
			case (all || !now.Before(h.idle[i].until)) && (h.slots.rename(nobody, closer) || all && h.slots.force(closer)):
				old = append(old, s.pull(h, i))
				i--
			case next.IsZero() || until.Before(next):
				next = until
			}
		}
	}
	s.soonest = next
	return old, next
}
