package guard

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
)

// TestGateCountsDoorsTogether: a client has its number at all doors together, one door three of four, and known clients have the reserve at every door.
func TestGateCountsDoorsTogether(t *testing.T) {
	limits := ConnLimits{Total: 16, PerPrefix: 3, Reserve: 2}
	g := NewGate(limits, friends("192.0.2.1"))
	var doors [3]int
	enter := func(door int, address string, want bool) {
		t.Helper()
		remote := netip.MustParseAddr(address)
		if got := g.enter(remote, prefixes(remote), &doors[door]); got != want {
			t.Errorf("%s at door %d with %v: got %v, want %v", address, door, doors, got, want)
		}
	}
	for door := range doors {
		enter(door, "198.51.100.1", true)
	}
	enter(0, "198.51.100.1", false)
	enter(2, "198.51.100.1", false)
	for i := range 11 {
		enter(0, fmt.Sprintf("203.0.%d.1", i), true)
	}
	enter(0, "203.0.113.1", false) // of four connections three are at this door
	enter(1, "203.0.113.1", false) // the reserve
	enter(0, "192.0.2.1", false)   // the door is full for those who are known too
	enter(1, "192.0.2.1", true)
	enter(2, "192.0.2.1", true)
	enter(2, "192.0.2.1", false)
	if g.Open() != 16 || doors != [3]int{12, 2, 2} {
		t.Errorf("%d connections, %v", g.Open(), doors)
	}
	remote := netip.MustParseAddr("198.51.100.1")
	g.leave(prefixes(remote), &doors[1])
	enter(2, "198.51.100.1", false) // there is a place, and it is of the reserve
	enter(2, "192.0.2.1", true)
	if n := g.Open(); n != 16 {
		t.Errorf("%d connections", n)
	}
}

// TestListenersShareAGate: what one listener has taken the other has not, and what is closed there is free here.
func TestListenersShareAGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := NewGate(ConnLimits{Total: 100, PerPrefix: 2}, nil)
		a, b := newStage(t, ListenerOptions{Gate: gate}), newStage(t, ListenerOptions{Gate: gate})
		var open []net.Conn
		take := func(s *stage) {
			s.connect("198.51.100.1")
			c, _ := s.take()
			open = append(open, c)
		}
		take(a)
		take(b)
		b.connect("198.51.100.1")
		synctest.Wait()
		if gate.Open() != 2 || a.count() != 1 || b.count() != 1 {
			t.Errorf("%d connections, %d and %d", gate.Open(), a.count(), b.count())
		}
		_ = open[0].Close()
		take(b)
		if gate.Open() != 2 || b.count() != 2 {
			t.Errorf("after one was closed: %d, %d", gate.Open(), b.count())
		}
		for _, c := range open {
			_ = c.Close()
		}
		if n := gate.Open(); n != 0 || len(gate.prefixes) != 0 {
			t.Errorf("at the end: %d connections, %d prefixes", n, len(gate.prefixes))
		}
		for _, s := range []*stage{a, b} {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}
