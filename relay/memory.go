package relay

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	// maxRemembered bounds each memory: beyond it what is over goes first, then anything. What is forgotten is found out again.
	maxRemembered = 10_000
	// plainTime is how long a host is spoken to in the clear whose STARTTLS did not work.
	plainTime = time.Hour
)

// memory is what was found out about destinations and hosts, for a while.
type memory struct {
	mu      sync.Mutex // protects entries
	entries map[string]remembered
	max     int
}

// remembered holds until a moment.
type remembered struct {
	until time.Time
	// failures counts how often in a row a destination was out of reach, verdict is the last word on it.
	failures int
	verdict  verdict
}

func newMemory(limit int) *memory { return &memory{entries: map[string]remembered{}, max: limit} }

// get returns what is known, whether it still holds or not: the number of failures outlives the pause that they caused.
func (m *memory) get(key string) (remembered, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.entries[key]
	return r, ok
}

// holds returns what is known and holds at now.
func (m *memory) holds(key string, now time.Time) (remembered, bool) {
	r, ok := m.get(key)
	return r, ok && now.Before(r.until)
}

func (m *memory) put(key string, r remembered, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, known := m.entries[key]; !known && len(m.entries) >= m.max {
		m.makeRoom(now)
	}
	m.entries[key] = r
}

// makeRoom forgets what is over, and if nothing is, anything. m.mu is held.
func (m *memory) makeRoom(now time.Time) {
	for key, r := range m.entries {
		if !now.Before(r.until) {
			delete(m.entries, key)
		}
	}
	for key := range m.entries {
		if len(m.entries) < m.max {
			return
		}
		delete(m.entries, key)
	}
}

func (m *memory) forget(key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.entries, key)
}

// errHurried ends an attempt whose place others need.
var errHurried = errors.New("relay: slow while others wait")

// hurry knows which connections are being made. When destinations wait because all places are taken, it ends those attempts that have
// had their share of patience: a host that does not answer must not stand before one that does.
type hurry struct {
	mu       sync.Mutex // protects attempts and what they hold
	attempts map[*attempt]struct{}
}

type attempt struct {
	cancel context.CancelCauseFunc
	until  time.Time // when it has had its share
}

func newHurry() *hurry { return &hurry{attempts: map[*attempt]struct{}{}} }

// begin notes an attempt, whose share of patience is d from now on.
func (h *hurry) begin(cancel context.CancelCauseFunc, d time.Duration) *attempt {
	h.mu.Lock()
	defer h.mu.Unlock()
	a := &attempt{cancel: cancel, until: time.Now().Add(d)}
	h.attempts[a] = struct{}{}
	return a
}

// mark gives an attempt that has come on a new share.
func (h *hurry) mark(a *attempt, d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	a.until = time.Now().Add(d)
}

func (h *hurry) end(a *attempt) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.attempts, a)
}

// press ends the attempts that have had their share.
func (h *hurry) press() {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	for a := range h.attempts {
		if !now.Before(a.until) {
			a.cancel(errHurried)
		}
	}
}
