package guard

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"latchkey/store"
)

var (
	start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	home  = netip.MustParseAddr("192.0.2.1")
	cafe  = netip.MustParseAddr("198.51.100.9")
)

// guess counts n different wrong passwords.
func guess(g *Logins, now time.Time, from netip.Addr, mailbox string, n int64) {
	for i := range n {
		g.Failed(now, from, mailbox, 1, fmt.Sprintf("guess %s %d", mailbox, i))
	}
}

func check(t *testing.T, g *Logins, now time.Time, from netip.Addr, mailbox string, want Verdict) {
	t.Helper()
	if got := g.Check(now, from, mailbox, 1, "another"); got != want {
		t.Errorf("%s from %s: got %v, want %v", mailbox, from, got, want)
	}
}

// TestPairLimit: at the limit minus one, at the limit, and when the ban is over.
func TestPairLimit(t *testing.T) {
	g := NewLogins(LoginLimits{})
	l := DefaultLoginLimits().Pair
	guess(g, start, cafe, "alice", l.N-1)
	check(t, g, start, cafe, "alice", Proceed)
	g.Failed(start, cafe, "alice", 1, "the last")
	check(t, g, start, cafe, "alice", Banned)
	check(t, g, start.Add(time.Minute), cafe, "bob", Proceed)
	check(t, g, start, home, "alice", Proceed)
	check(t, g, start.Add(BanTime-1), cafe, "alice", Banned)
	check(t, g, start.Add(BanTime), cafe, "alice", Proceed)
}

// TestKnownPairIsNotBanned: where the owner is known three times as many are looked at; beyond it the client waits for the next to come back, and there
// is no ban.
func TestKnownPairIsNotBanned(t *testing.T) {
	g := NewLogins(LoginLimits{})
	g.Succeeded(start, home, "alice")
	l := DefaultLoginLimits().Pair
	guess(g, start, home, "alice", 3*l.N-1)
	check(t, g, start, home, "alice", Proceed)
	g.Failed(start, home, "alice", 1, "the last")
	check(t, g, start, home, "alice", Throttled)
	next := l.Window / time.Duration(3*l.N)
	check(t, g, start.Add(next-1), home, "alice", Throttled)
	check(t, g, start.Add(next), home, "alice", Proceed)
	if bans := g.Bans(start); len(bans) != 0 {
		t.Errorf("bans %+v", bans)
	}
}

// TestBurstLimit: one address that tries many mailboxes has ten misses a minute.
func TestBurstLimit(t *testing.T) {
	g := NewLogins(LoginLimits{})
	g.Succeeded(start, cafe, "alice")
	for i := range 10 {
		check(t, g, start, cafe, "bob", Proceed)
		guess(g, start, cafe, fmt.Sprint("mailbox", i), 1)
	}
	check(t, g, start, cafe, "bob", Throttled)
	check(t, g, start, cafe, "alice", Proceed)
	check(t, g, start, home, "bob", Proceed)
	check(t, g, start.Add(6*time.Second-1), cafe, "bob", Throttled)
	check(t, g, start.Add(6*time.Second), cafe, "bob", Proceed)
}

// TestSprayLimit: one address that tries many mailboxes as fast as it may is stopped after fifty in a day, but those who log in there stay welcome.
func TestSprayLimit(t *testing.T) {
	g := NewLogins(LoginLimits{})
	g.Succeeded(start, cafe, "alice")
	n, now := DefaultLoginLimits().Prefix.N, start
	for i := range n {
		check(t, g, now, cafe, "bob", Proceed)
		guess(g, now, cafe, fmt.Sprintf("mailbox%d", i), 1)
		now = now.Add(6 * time.Second)
	}
	check(t, g, now, cafe, "bob", Throttled)
	check(t, g, now, cafe, "alice", Proceed)
	check(t, g, now, home, "bob", Proceed)
	next := start.Add(24 * time.Hour / 50)
	check(t, g, next.Add(-1), cafe, "bob", Throttled)
	check(t, g, next, cafe, "bob", Proceed)
}

// TestSlowSprayLimit: many addresses that try one mailbox make it slow, but not for its owner at home.
func TestSlowSprayLimit(t *testing.T) {
	g := NewLogins(LoginLimits{})
	g.Succeeded(start, home, "alice")
	n := DefaultLoginLimits().Mailbox.N
	for i := range n {
		check(t, g, start, cafe, "alice", Proceed)
		guess(g, start, netip.AddrFrom4([4]byte{byte(10 + i), 0, 0, 1}), "alice", 1)
	}
	check(t, g, start, cafe, "alice", Slow)
	check(t, g, start, home, "alice", Proceed)
	check(t, g, start, cafe, "bob", Proceed)
	check(t, g, start.Add(time.Hour/100-1), cafe, "alice", Slow)
	check(t, g, start.Add(time.Hour/100), cafe, "alice", Proceed)
}

// TestNothingDrivesOwnersOut: neither the homes nor what is known of old devices there are forgotten for guesses from elsewhere, however many.
func TestNothingDrivesOwnersOut(t *testing.T) {
	g := NewLogins(LoginLimits{})
	g.Succeeded(start, home, "alice")
	g.Failed(start, home, "alice", 1, "last year's")
	for i := range MaxLoginPairs + 100 {
		g.Failed(start, netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), "alice", 1, "x")
	}
	check(t, g, start, home, "alice", Proceed)
	if got := g.Check(start, home, "alice", 1, "last year's"); got != Stale {
		t.Errorf("the old device: got %v, want Stale", got)
	}
	if !g.Known(start.Add(KnownAge-1), home, "alice") || g.Known(start.Add(KnownAge), home, "alice") || g.Known(start, home, "bob") || g.Known(start, cafe, "alice") {
		t.Error("known for too long, not long enough, or elsewhere")
	}
}

// TestOldPhone: the same wrong password again and again is an old device; it throttles nobody and costs no second look.
func TestOldPhone(t *testing.T) {
	g := NewLogins(LoginLimits{})
	counted := 0
	for range 1000 {
		if g.Failed(start, home, "alice", 1, "last year's") {
			counted++
		}
	}
	if counted != 1 {
		t.Errorf("counted %d times, want once", counted)
	}
	if got := g.Check(start, home, "alice", 1, "last year's"); got != Stale {
		t.Errorf("got %v, want Stale", got)
	}
	check(t, g, start, home, "alice", Proceed)
	check(t, g, start, home, "bob", Proceed)
	if got := g.Check(start, home, "alice", 2, "last year's"); got != Proceed {
		t.Errorf("after a change of the password: got %v, want Proceed", got)
	}
	if got := g.Check(start, cafe, "alice", 1, "last year's"); got != Proceed {
		t.Errorf("from elsewhere: got %v, want Proceed", got)
	}
}

// TestProofs: wrong proofs count each time, with the wrong passwords, for the pair, the client and the mailbox; a success forgives both.
func TestProofs(t *testing.T) {
	g := NewLogins(LoginLimits{})
	l := DefaultLoginLimits()
	proof := func(from netip.Addr, mailbox string, want Verdict) {
		t.Helper()
		if got := g.CheckProof(start, from, mailbox); got != want {
			t.Errorf("%s from %s: got %v, want %v", mailbox, from, got, want)
		}
	}
	guess(g, start, cafe, "alice", 4)
	for range l.Pair.N - 1 - 4 {
		g.FailedProof(start, cafe, "alice")
	}
	proof(cafe, "alice", Proceed)
	check(t, g, start, cafe, "alice", Proceed)
	g.FailedProof(start, cafe, "alice")
	proof(cafe, "alice", Banned)
	check(t, g, start, cafe, "alice", Banned)
	proof(home, "alice", Proceed)
	g.Succeeded(start, cafe, "alice")
	proof(cafe, "alice", Proceed)

	for i := range l.Burst.N {
		proof(cafe, "bob", Proceed)
		g.FailedProof(start, cafe, fmt.Sprint("mailbox", i))
	}
	proof(cafe, "bob", Throttled)
	check(t, g, start, cafe, "bob", Throttled)
	proof(cafe, "alice", Proceed) // who logged in there stays welcome
	for i := range l.Mailbox.N {
		g.FailedProof(start, netip.AddrFrom4([4]byte{byte(10 + i), 0, 0, 1}), "carol")
	}
	proof(home, "carol", Slow)
	check(t, g, start, home, "carol", Slow)
}

// TestSuccessForgives: who finds the right password in the end starts anew.
func TestSuccessForgives(t *testing.T) {
	g := NewLogins(LoginLimits{})
	guess(g, start, home, "alice", DefaultLoginLimits().Pair.N-1)
	g.Succeeded(start, home, "alice")
	guess(g, start, home, "alice", DefaultLoginLimits().Pair.N-1)
	check(t, g, start, home, "alice", Proceed)
}

// TestSuccessGivesBack: what somebody mistyped before is not held against their neighbours.
func TestSuccessGivesBack(t *testing.T) {
	g := NewLogins(LoginLimits{Burst: store.Limit{N: 1000, Window: time.Hour}})
	l := DefaultLoginLimits()
	for i := range l.Prefix.N / 5 {
		name := fmt.Sprint("colleague", i)
		guess(g, start, home, name, 4)
		g.Succeeded(start, home, name)
	}
	for i := range l.Prefix.N - 1 {
		guess(g, start, home, fmt.Sprint("mailbox", i), 1)
	}
	check(t, g, start, home, "newcomer", Proceed)
	guess(g, start, home, "the last", 1)
	check(t, g, start, home, "newcomer", Throttled)
	g.Succeeded(start, home, "mailbox1")
	check(t, g, start, home, "newcomer", Proceed)
}

// TestNetworkLimit: who spreads guesses over the addresses of one network may do three times as much, and nine times over a larger one.
func TestNetworkLimit(t *testing.T) {
	for _, tt := range []struct {
		name, inside, outside string
		times                 int64
		next                  func(i int64) netip.Addr
	}{
		{"/26", "198.51.100.127", "198.51.100.128", 3, func(i int64) netip.Addr {
			return netip.AddrFrom4([4]byte{198, 51, 100, byte(64 + i%60)})
		}},
		{"/21", "198.51.103.255", "198.51.104.0", 9, func(i int64) netip.Addr {
			return netip.AddrFrom4([4]byte{198, 51, byte(96 + i%8), byte(i)})
		}},
		{"/48", "2001:db8:1:ffff::", "2001:db8:2::", 3, func(i int64) netip.Addr {
			return netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, 1, byte(i >> 8), byte(i), 1})
		}},
		{"/32", "2001:db8:ffff::", "2001:db9::", 9, func(i int64) netip.Addr {
			return netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, byte(i >> 8), byte(i), 1})
		}},
	} {
		g := NewLogins(LoginLimits{Burst: store.Limit{N: 1000, Window: time.Hour}})
		limit := DefaultLoginLimits().Prefix.N * tt.times
		inside, outside := netip.MustParseAddr(tt.inside), netip.MustParseAddr(tt.outside)
		g.Succeeded(start, inside, "known")
		for i := range limit {
			if got := g.Check(start, inside, "new", 1, "x"); got != Proceed {
				t.Fatalf("%s: after %d of %d: got %v", tt.name, i, limit, got)
			}
			guess(g, start, tt.next(i), fmt.Sprint("mailbox", i), 1)
		}
		check(t, g, start, inside, "new", Throttled)
		check(t, g, start, inside, "known", Proceed)
		check(t, g, start, outside, "new", Proceed)
	}
}

// TestManyOldDevices: as many as are remembered come round and round for nothing; one more is looked at again.
func TestManyOldDevices(t *testing.T) {
	g := NewLogins(LoginLimits{})
	for round := range 3 {
		for i := range maxStale {
			password := fmt.Sprint("old", i)
			if got := g.Check(start, home, "alice", 1, password); (got == Stale) != (round > 0) {
				t.Errorf("round %d, device %d: got %v", round, i, got)
			}
			g.Failed(start, home, "alice", 1, password)
		}
	}
	check(t, g, start, home, "alice", Proceed)
	g.Failed(start, home, "alice", 1, "one more")
	if got := g.Check(start, home, "alice", 1, "old0"); got == Stale {
		t.Error("more passwords are remembered than the bound allows")
	}
	if got := g.Check(start, home, "alice", 1, "old1"); got != Stale {
		t.Errorf("the second oldest: got %v, want Stale", got)
	}
}

// TestTableBound: memory is bounded, and what is used stays.
func TestTableBound(t *testing.T) {
	table := newTable[int, misses](3)
	for i := range 3 {
		table.use(i)
	}
	table.use(0)
	table.use(3)
	if len(table.entries) != 3 || table.order.Len() != 3 {
		t.Fatalf("got %d entries, want 3", len(table.entries))
	}
	for key, want := range []bool{true, false, true, true} {
		if got := table.peek(key) != nil; got != want {
			t.Errorf("key %d: got %v, want %v", key, got, want)
		}
	}
	g := NewLogins(LoginLimits{})
	for i := range MaxLoginPairs + 10 {
		g.Failed(start, netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), "alice", 1, "x")
	}
	if n, m := len(g.pairs.entries), len(g.prefixes.entries); n != MaxLoginPairs || m != MaxLoginPrefixes {
		t.Errorf("got %d pairs and %d prefixes, want %d and %d", n, m, MaxLoginPairs, MaxLoginPrefixes)
	}
	for i := range MaxKnownPairs + 10 {
		g.Succeeded(start, netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)}), "alice")
	}
	if n := len(g.known.entries); n != MaxKnownPairs {
		t.Errorf("got %d pairs that are known, want %d", n, MaxKnownPairs)
	}
	small := newTable[int, int](3)
	for i := range 3 {
		*small.use(i) = i
	}
	small.remove(1)
	small.remove(7)
	small.removeFunc(func(key int, value *int) bool { return key == *value && key == 2 })
	if len(small.entries) != 1 || small.order.Len() != 1 || small.peek(0) == nil {
		t.Errorf("after removing: %d entries, %d in order", len(small.entries), small.order.Len())
	}
	small = newTable[int, int](1)
	*small.use(1) = 5
	if got := *small.use(2); got != 0 {
		t.Errorf("a new entry has %d of the one that it drove out", got)
	}
}

func TestPrefix(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"192.0.2.1", "192.0.2.1/32"}, {"::ffff:192.0.2.1", "192.0.2.1/32"}, {"2001:db8::1:2:3:4", "2001:db8::/64"},
		{"64:ff9b::c000:201", "64:ff9b::c000:201/128"}, {"2001::1", "2001::1/128"}, {"100::1", "100::1/128"}, {"2001:1::1", "2001:1::/64"},
	} {
		if got := Prefix(netip.MustParseAddr(tt.in)).String(); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.in, got, tt.want)
		}
	}
	for in, want := range map[string]int{"192.0.2.1": 3, "2001:db8::1": 3, "64:ff9b::1": 1, "2001::1": 1, "100::1": 1} {
		if got := len(prefixes(netip.MustParseAddr(in))); got != want {
			t.Errorf("%s: counts for %d prefixes, want %d", in, got, want)
		}
	}
	if Prefix(netip.Addr{}).IsValid() {
		t.Error("no address has no prefix")
	}
}
