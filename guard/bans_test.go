package guard

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/store"
	"latchkey/store/memstore"
)

// banned guesses until there is a ban, from an address without one.
func banned(t *testing.T, g *Logins, now time.Time, from netip.Addr, mailbox string) Ban {
	t.Helper()
	for i := range DefaultLoginLimits().Pair.N {
		check(t, g, now, from, mailbox, Proceed)
		g.Failed(now, from, mailbox, 1, fmt.Sprint(now, i))
	}
	b, is := g.Banned(now, from, mailbox)
	if !is {
		t.Fatalf("%s from %s is not banned", mailbox, from)
	}
	return b
}

// TestBansGrow: each further ban lasts twice as long, up to a day; a day without one begins anew. Guesses that were on their way change nothing.
func TestBansGrow(t *testing.T) {
	plenty := store.Limit{N: 1 << 40, Window: time.Hour}
	g := NewLogins(LoginLimits{Burst: plenty, Prefix: plenty, Mailbox: plenty})
	now := start
	for i, want := range []time.Duration{1, 2, 4, 8, 16, 32, 64, 96, 96} {
		want *= 15 * time.Minute
		b := banned(t, g, now, cafe, "alice")
		g.Failed(now, cafe, "alice", 1, "on its way")
		if again, _ := g.Banned(now, cafe, "alice"); again != b {
			t.Errorf("ban %d became %+v", i+1, again)
		}
		if got := b.Until.Sub(now); got != want || b.Times != i+1 || b.Reason != BanGuesses || b.Door != BanLogin || b.Mailbox != "alice" || b.Network != Prefix(cafe) {
			t.Errorf("ban %d lasts %v, want %v: %+v", i+1, got, want, b)
		}
		check(t, g, b.Until.Add(-1), cafe, "alice", Banned)
		check(t, g, now, cafe, "bob", Proceed)
		check(t, g, now, home, "alice", Proceed)
		if now = b.Until; i == 8 {
			now = now.Add(BanMemory - 1)
			if b := banned(t, g, now, cafe, "alice"); b.Times != 10 {
				t.Errorf("before a day is over: %+v", b)
			}
			now = now.Add(LongestBan + BanMemory)
		}
	}
	if b := banned(t, g, now, cafe, "alice"); b.Until.Sub(now) != BanTime || b.Times != 1 {
		t.Errorf("after a day: %+v", b)
	}
}

// TestBanRules: a ban that somebody made holds for its network and its mailbox or all, also for those who are known there, at both ends of its time.
func TestBanRules(t *testing.T) {
	g := NewLogins(LoginLimits{})
	g.Succeeded(start, cafe, "alice")
	near := netip.MustParsePrefix("198.51.100.0/24")
	for _, b := range []Ban{
		{Network: near, Mailbox: "alice", By: "root", Reason: "stolen phone", Until: start.Add(time.Hour)},
		{Network: netip.MustParsePrefix("2001:db8::/48"), Until: start.Add(2 * time.Hour)},
	} {
		if err := g.AddBan(start, b); err != nil {
			t.Fatal(err)
		}
	}
	check(t, g, start, cafe, "alice", Banned)
	check(t, g, start, netip.MustParseAddr("::ffff:198.51.100.200"), "alice", Banned)
	check(t, g, start, cafe, "bob", Proceed)
	check(t, g, start, home, "alice", Proceed)
	check(t, g, start, netip.MustParseAddr("2001:db8::5"), "bob", Banned)
	check(t, g, start.Add(time.Hour-1), cafe, "alice", Banned)
	check(t, g, start.Add(time.Hour), cafe, "alice", Proceed)
	if err := g.AddBan(start, Ban{Network: near, Mailbox: "alice", Until: start.Add(3 * time.Hour)}); err != nil {
		t.Fatal(err)
	}
	if bans := g.Bans(start); len(bans) != 2 || bans[0].Network != near || bans[0].Until != start.Add(3*time.Hour) || bans[0].Since != start {
		t.Errorf("one in place of the other: %+v", bans)
	}
	if bans := g.Bans(start.Add(2 * time.Hour)); len(bans) != 1 {
		t.Errorf("later: %+v", bans)
	}
}

// TestBanRuleBounds: what cannot be a ban, and how many there are.
func TestBanRuleBounds(t *testing.T) {
	g := NewLogins(LoginLimits{})
	for _, tt := range []struct {
		network, mailbox, reason string
		last                     time.Duration
		ok                       bool
	}{
		{"198.51.0.0/16", "", "", time.Hour, true}, {"198.50.0.0/15", "", "", time.Hour, false},
		{"2001:db8::/32", "", "", time.Hour, true}, {"2001:db8::/31", "", "", time.Hour, false},
		{"198.51.100.7/24", "", "", time.Hour, false}, {"::ffff:198.51.100.0/120", "", "", time.Hour, false},
		{"198.51.100.0/24", strings.Repeat("m", store.MaxNameLen), strings.Repeat("r", MaxBanReason), MaxBanRuleTime, true},
		{"198.51.100.0/24", strings.Repeat("m", store.MaxNameLen+1), "", time.Hour, false},
		{"198.51.100.0/24", "", strings.Repeat("r", MaxBanReason+1), time.Hour, false}, {"198.51.100.0/24", "", "a\nb", time.Hour, false},
		{"198.51.100.0/24", "", "", 0, false}, {"198.51.100.0/24", "", "", MaxBanRuleTime + 1, false}, {"198.51.100.0/24", "a\x00", "", time.Hour, false},
	} {
		b := Ban{Network: netip.MustParsePrefix(tt.network), Mailbox: tt.mailbox, Reason: tt.reason, Until: start.Add(tt.last)}
		if err := g.AddBan(start, b); (err == nil) != tt.ok || err != nil && !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%+v: %v", tt, err)
		}
	}
	if err := g.AddBan(start, Ban{Until: start.Add(1)}); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("without a network: %v", err)
	}
	g = NewLogins(LoginLimits{})
	for i := range MaxBanRules + 1 {
		b := Ban{Network: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 32), Until: start.Add(time.Hour)}
		if err := g.AddBan(start, b); errors.Is(err, store.ErrBound) != (i == MaxBanRules) {
			t.Errorf("ban %d: %v", i+1, err)
		}
	}
	if err := g.AddBan(start.Add(time.Hour), Ban{Network: netip.MustParsePrefix("192.0.2.0/24"), Until: start.Add(2 * time.Hour)}); err != nil {
		t.Errorf("in place of those that are over: %v", err)
	}
}

// TestLiftBans: by network, by mailbox, by both; what was counted there is forgotten, and nothing else.
func TestLiftBans(t *testing.T) {
	far := netip.MustParseAddr("203.0.113.5")
	for _, tt := range []struct {
		network, mailbox string
		want             string // those that are over
	}{
		{"198.51.100.0/24", "", "198.51.100.9/32 alice, 198.51.100.9/32 bob"}, {"", "alice", "198.51.100.9/32 alice, 203.0.113.5/32 alice"},
		{"198.51.100.9/32", "bob", "198.51.100.9/32 bob"}, {"192.0.2.0/24", "", ""}, {"", "carol", ""},
	} {
		plenty := store.Limit{N: 1 << 40, Window: time.Hour}
		g := NewLogins(LoginLimits{Burst: plenty, Mailbox: plenty})
		banned(t, g, start, cafe, "alice")
		banned(t, g, start, cafe, "bob")
		banned(t, g, start, far, "alice")
		var network netip.Prefix
		if tt.network != "" {
			network = netip.MustParsePrefix(tt.network)
		}
		lifted, err := g.LiftBans(start, network, tt.mailbox)
		if err != nil {
			t.Error(err)
		}
		var got []string
		for _, b := range lifted {
			got = append(got, fmt.Sprint(b.Network, " ", b.Mailbox))
			check(t, g, start, b.Network.Addr(), b.Mailbox, Proceed)
			g.Failed(start, b.Network.Addr(), b.Mailbox, 1, "once more")
			check(t, g, start, b.Network.Addr(), b.Mailbox, Proceed)
		}
		if strings.Join(got, ", ") != tt.want || len(g.Bans(start)) != 3-len(got) {
			t.Errorf("%s %s: lifted %q, want %q; left %d", tt.network, tt.mailbox, got, tt.want, len(g.Bans(start)))
		}
	}
	g := NewLogins(LoginLimits{})
	if _, err := g.LiftBans(start, netip.Prefix{}, ""); err == nil {
		t.Error("everything was lifted")
	}
	guess(g, start, cafe, "x", DefaultLoginLimits().Burst.N)
	check(t, g, start, cafe, "bob", Throttled)
	if _, err := g.LiftBans(start, Prefix(cafe), ""); err != nil {
		t.Error(err)
	}
	check(t, g, start, cafe, "bob", Proceed)
}

// TestBansAreKept over a restart: those that somebody made and those after guesses, until their time is over; and no more than fit.
func TestBansAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := memstore.New("example.com")
		defer func() { _ = st.Close() }()
		g := NewLogins(LoginLimits{})
		k := NewBanKeeper(g, st, time.Now, nil)
		if err := k.Load(t.Context()); err != nil {
			t.Fatalf("with nothing kept: %v", err)
		}
		now := time.Now()
		first := banned(t, g, now, cafe, "alice")
		banned(t, g, now.Add(time.Minute), home, "not \xff a mailbox")
		rule := Ban{Network: netip.MustParsePrefix("203.0.113.0/24"), By: "root", Reason: "spam", Until: now.Add(48 * time.Hour)}
		if err := g.AddBan(now, rule); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { k.Run(ctx); close(ended) }()
		time.Sleep(bansKeptEvery + time.Second)
		stop()
		<-ended
		again := NewLogins(LoginLimits{})
		if err := NewBanKeeper(again, st, time.Now, nil).Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		if bans := again.Bans(now); len(bans) != 2 || bans[0].Until.Compare(first.Until) != 0 || bans[0].Times != 1 || bans[1].By != "root" {
			t.Errorf("after a restart: %+v", bans)
		}
		check(t, again, first.Until.Add(-1), cafe, "alice", Banned)
		check(t, again, first.Until, cafe, "alice", Proceed)

		for i := range 2000 {
			again.mu.Lock()
			again.bans.guessed(now, pairKey{Prefix(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})), "mailbox"})
			again.mu.Unlock()
		}
		blob, _ := again.snapshot(now)
		if len(blob) > store.MaxSecretSize || len(blob) < store.MaxSecretSize-1000 || !strings.Contains(string(blob), "203.0.113.0/24") {
			t.Errorf("%d octets are kept", len(blob))
		}
		NewBanKeeper(again, st, time.Now, nil).Close()
		last := NewLogins(LoginLimits{})
		if err := NewBanKeeper(last, st, time.Now, nil).Load(t.Context()); err != nil || len(last.Bans(now)) < 200 {
			t.Errorf("%d bans are kept: %v", len(last.Bans(now)), err)
		}
		if err := st.PutSecret(t.Context(), bansSecret, []byte("x")); err != nil {
			t.Fatal(err)
		}
		if err := k.Load(t.Context()); err == nil {
			t.Error("what is no list was read")
		}
	})
}
