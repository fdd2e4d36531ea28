package guard

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"latchkey/store"
)

const (
	// floodAddresses is how many different addresses TestMemoryIsBounded has come, half of them IPv4 and half IPv6 /64s: enough to fill every table many
	// times. With the build tag torture it is manyAddresses.
	floodAddresses = 45_000
	// maxFloodHeap bounds what all counters together may hold after that, in octets.
	maxFloodHeap = 40 << 20
)

// floodAddress is the i-th address, spread over all there are.
func floodAddress(i int) netip.Addr {
	var b [16]byte
	x := uint64(i)*0x9E3779B97F4A7C15 + 1 // odd: no two are the same
	if i%2 == 0 {
		binary.BigEndian.PutUint32(b[:], uint32(x>>32))
		return netip.AddrFrom4([4]byte(b[:4]))
	}
	binary.BigEndian.PutUint64(b[:], x>>3|0x2000<<48)
	return netip.AddrFrom16(b)
}

func heap() int64 {
	runtime.GC()
	runtime.GC() // what finalizers held
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestMemoryIsBounded: whatever the number of addresses, all counters together hold no more than maxFloodHeap.
func TestMemoryIsBounded(t *testing.T) { flood(t, floodAddresses) }

// flood has every counter meet n addresses.
func flood(t *testing.T, n int) {
	before := heap()
	g := NewLogins(LoginLimits{})
	s := NewStrangers(StrangerLimits{}, func(a netip.Addr) bool { return g.Home(start, a) })
	stale := NewStaleDevices(nil, nil)
	burst, crowd, habits := newGuesses(), newCrowds(), newManners()
	gate := NewGate(ConnLimits{}, nil)
	own := 0
	now := start
	names := [...]string{"anna", "bert", "carl", "dora", "emil", "frieda", "gerd", "hans"}
	for i := range n {
		if i%1000 == 0 {
			now = now.Add(time.Millisecond)
		}
		a, name := floodAddress(i), names[i%len(names)]
		scopes := prefixes(a)
		if gate.enter(a, scopes, &own) {
			gate.leave(scopes, &own)
		}
		g.Check(now, a, name, 1, name)
		g.Failed(now, a, name, 1, name)
		g.Delay(now, a, name)
		switch i % 4 {
		case 0:
			g.Succeeded(now, a, name)
		case 1:
			for range g.limits.Pair.N { // a ban
				g.FailedProof(now, a, name)
			}
		}
		s.Asked(now, a)
		s.Relayed(now, a)
		stale.Seen(now, StaleDevice{Account: store.AccountID(i%5000 + 1), Mailbox: name, Remote: a})
		burst.note(now, scopes[0].prefix, name)
		crowd.note(now, scopes[0].prefix, store.AccountID(i%50+1))
		habits.waits(now, scopes[0].prefix)
	}
	grown := heap() - before
	t.Logf("%d addresses: %.1f MiB", n, float64(grown)/(1<<20))
	if grown > maxFloodHeap {
		t.Errorf("%d addresses hold %d octets, at most %d may be", n, grown, maxFloodHeap)
	}
	for name, size := range map[string][2]int{
		"pairs": {len(g.pairs.entries), MaxLoginPairs}, "prefixes": {len(g.prefixes.entries), MaxLoginPrefixes}, "homes": {len(g.homes.entries), MaxLoginHomes},
		"bans": {len(g.bans.guesses.entries), MaxBans}, "strangers": {len(s.clients.entries), MaxStrangers}, "devices": {len(stale.devices.entries), MaxStaleDevices},
		"guesses": {len(burst.pairs.entries), MaxGuessPairs}, "crowds": {len(crowd.networks.entries), MaxCrowds}, "manners": {len(habits.clients.entries), MaxManners},
	} {
		if size[0] != size[1] {
			t.Errorf("%s: %d entries after all addresses, want the bound %d", name, size[0], size[1])
		}
	}
	if len(gate.prefixes) != 0 || own != 0 {
		t.Errorf("%d prefixes are left at the gate", len(gate.prefixes))
	}
	runtime.KeepAlive(g)
	runtime.KeepAlive(s)
	runtime.KeepAlive(stale)
}
