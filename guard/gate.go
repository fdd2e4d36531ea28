package guard

import (
	"net/netip"
	"sync"
)

// doorShare is the part of a Gate's connections that one door may have: three of four, so that a flood at one leaves room at the others.
const doorShareOf, doorShare = 4, 3

// Gate counts the connections of several listeners together: in all, and by client. Its methods may be called from any goroutine.
type Gate struct {
	limits ConnLimits
	known  func(netip.Addr) bool
	// alone is set where there is one listener only, which may have all.
	alone bool

	mu       sync.Mutex // protects the fields below
	total    int
	prefixes map[netip.Prefix]int
}

// NewGate returns a gate for the listeners that get it by ListenerOptions.Gate. Of the limits it has Total, PerPrefix and Reserve; known says for whom the
// reserve is (see [ListenerOptions]), nil is nobody.
func NewGate(limits ConnLimits, known func(netip.Addr) bool) *Gate {
	return &Gate{limits: limits.withDefaults(), known: known, prefixes: map[netip.Prefix]int{}}
}

// Open returns how many connections are counted now.
func (g *Gate) Open() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.total
}

// share is how many connections one listener may have.
func (g *Gate) share() int {
	if g.alone {
		return g.limits.Total
	}
	return max(1, g.limits.Total*doorShare/doorShareOf)
}

// enter counts a connection, unless that is one too many; own is how many the listener has, which it counts itself.
func (g *Gate) enter(remote netip.Addr, scopes []scope, own *int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	over := g.total >= g.limits.Total || *own >= g.share()
	if g.known != nil && g.total >= g.limits.Total-g.limits.Reserve {
		over = over || !g.known(remote)
	}
	for _, s := range scopes {
		over = over || g.prefixes[s.prefix] >= g.limits.PerPrefix*s.times
	}
	if over {
		return false
	}
	g.total++
	*own++
	for _, s := range scopes {
		g.prefixes[s.prefix]++
	}
	return true
}

func (g *Gate) leave(scopes []scope, own *int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.total--
	*own--
	for _, s := range scopes {
		countDown(g.prefixes, s.prefix)
	}
}
