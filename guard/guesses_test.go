package guard

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"latchkey/store"
)

// TestCrowd: forty mailboxes of one address get their grants and keep them, the forty-first gets none, and neither does anybody else
// until one of them has been away for an hour.
func TestCrowd(t *testing.T) {
	d := newDomain(t)
	p := Place{Remote: home}
	var all []store.Account
	for i := range MaxMailboxesPerAddress {
		a := d.add(fmt.Sprint("mailbox", i))
		all = append(all, a)
		d.at(time.Duration(i) * time.Second)
		for range 3 { // the same mailbox counts once
			if log := d.login(p, a); strings.Contains(log, "not given") {
				t.Fatalf("mailbox %d: %s", i, log)
			}
		}
	}
	d.at(MaxMailboxesPerAddress * time.Second)
	withheld := func(p Place, a store.Account, want bool) {
		t.Helper()
		log := d.login(p, a)
		if got := strings.Contains(log, `"grant not given"`) && strings.Contains(log, "reason=crowded"); got != want {
			t.Errorf("%s at %v: withheld %v: %s", a.Name, d.now().Sub(start), got, log)
		}
	}
	withheld(p, all[3], false)
	withheld(p, d.alice, true)
	withheld(p, all[5], true)
	withheld(place("192.0.2.2"), d.alice, false)
	if got := d.why(p, d.alice); got.Kind != NoGrantShared || got.Cause != string(BarCrowded) {
		t.Errorf("why: %+v", got)
	}
	if got := d.live(p); len(strings.Fields(got)) != MaxMailboxesPerAddress {
		t.Errorf("live: %s", got)
	}
	// The first of them came at second 0; all others, alice too, are within their hour.
	d.at(CrowdWindow - 1)
	withheld(p, d.alice, true)
	d.at(CrowdWindow)
	withheld(p, d.alice, false)
	withheld(p, d.bob, true)
}

// TestCrowdNetworks: what counts as one address is what a grant would be bound to.
func TestCrowdNetworks(t *testing.T) {
	for _, tt := range []struct {
		bits int
		want bool
	}{{64, true}, {128, false}} {
		d := newDomain(t)
		d.set(func(s *store.Settings) { s.GrantIPv6Bits = tt.bits })
		for i := range MaxMailboxesPerAddress {
			d.login(place(fmt.Sprintf("2001:db8::%x", 0x100+i)), d.add(fmt.Sprint("mailbox", i)))
		}
		if got := strings.Contains(d.login(place("2001:db8::7"), d.alice), "crowded"); got != tt.want {
			t.Errorf("/%d: crowded %v, want %v", tt.bits, got, tt.want)
		}
	}
}

// TestGatewaysAreNoCrowd: places that get no grant fill no table.
func TestGatewaysAreNoCrowd(t *testing.T) {
	d := newDomain(t)
	d.login(place("172.17.0.1"), d.alice)
	d.login(Place{}, d.alice)
	if n := len(d.g.crowds.networks.entries); n != 0 {
		t.Errorf("%d places remembered", n)
	}
}

// guessed tells of n different wrong passwords.
func (d *domain) guessed(remote, mailbox string, n int) {
	d.t.Helper()
	for range n {
		d.g.Guessed(d.t.Context(), netip.MustParseAddr(remote), mailbox)
	}
}

// TestGuessBurst: five wrong passwords for one mailbox end its grant from there, and no other; the reason is remembered.
func TestGuessBurst(t *testing.T) {
	for _, tt := range []struct {
		name                  string
		grantAt, guessAt, who string
		n                     int
		ends                  bool
	}{
		{"five", "203.0.113.7", "203.0.113.7", "alice", GuessBurst, true},
		{"six", "203.0.113.7", "203.0.113.7", "alice", GuessBurst + 1, true},
		{"four", "203.0.113.7", "203.0.113.7", "alice", GuessBurst - 1, false},
		{"mapped", "203.0.113.7", "::ffff:203.0.113.7", "alice", GuessBurst, true},
		{"from next door", "203.0.113.7", "203.0.113.8", "alice", GuessBurst, false},
		{"at another mailbox", "203.0.113.7", "203.0.113.7", "bob", GuessBurst, false},
		{"at a mailbox that does not exist", "203.0.113.7", "203.0.113.7", "nobody", GuessBurst, false},
		{"from the same /64", "2001:db8:1:2::3", "2001:db8:1:2::4", "alice", GuessBurst, true},
		{"from another /64", "2001:db8:1:2::3", "2001:db8:1:3::3", "alice", GuessBurst, false},
		{"behind Teredo", "2001::3", "2001::4", "alice", GuessBurst, false},
		{"with a zone", "203.0.113.7", "fe80::1%eth0", "alice", GuessBurst, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDomain(t)
			d.login(place(tt.grantAt), d.alice)
			d.login(place("198.51.100.20"), d.alice)
			d.login(place("198.51.100.20"), d.bob)
			d.log.Reset()
			d.guessed(tt.guessAt, tt.who, tt.n)
			want := "alice"
			if tt.ends {
				want = ""
				if got := d.why(place(tt.grantAt), d.alice); got.Kind != NoGrantRevoked || got.Cause != string(store.GrantGuessed) {
					t.Errorf("why: %+v", got)
				}
			}
			d.wantLive(place(tt.grantAt), want)
			d.wantLive(place("198.51.100.20"), "alice bob")
			if n := strings.Count(d.log.String(), "grant revoked"); (n == 1) != tt.ends || strings.Contains(d.log.String(), tt.who) {
				t.Errorf("the log says %q", d.log)
			}
			// The owner's next login makes good.
			d.login(place(tt.grantAt), d.alice)
			d.wantLive(place(tt.grantAt), "alice")
		})
	}
}

// TestGuessBurstOverOneNetwork: where grants are bound to single IPv6 addresses, a client is still a /64.
func TestGuessBurstOverOneNetwork(t *testing.T) {
	d := newDomain(t)
	d.set(func(s *store.Settings) { s.GrantIPv6Bits = 128 })
	d.login(place("2001:db8:1:2::3"), d.alice)
	d.login(place("2001:db8:1:3::3"), d.alice)
	for i := range GuessBurst {
		d.guessed(fmt.Sprintf("2001:db8:1:2::%x", 0x100+i), "alice", 1)
	}
	d.wantLive(place("2001:db8:1:2::3"), "")
	d.wantLive(place("2001:db8:1:3::3"), "alice")
}

// TestGuessWindow: guesses count for ten minutes, and not longer.
func TestGuessWindow(t *testing.T) {
	for _, tt := range []struct {
		last time.Duration
		want string
	}{{GuessWindow - 1, ""}, {GuessWindow, "alice"}, {GuessWindow + 1, "alice"}} {
		for _, spray := range []bool{false, true} {
			d := newDomain(t)
			d.login(Place{Remote: home}, d.alice)
			for i := range GuessBurst {
				if i > 0 {
					d.at(tt.last)
				}
				mailbox := "alice"
				if spray {
					mailbox = fmt.Sprint("mailbox", i)
				}
				d.guessed(home.String(), mailbox, 1)
			}
			d.wantLive(Place{Remote: home}, tt.want)
		}
	}
}

// TestSprayBurst: wrong passwords for five mailboxes from one client, known or not, end every grant from there.
func TestSprayBurst(t *testing.T) {
	d := newDomain(t)
	p := Place{Remote: home}
	d.login(p, d.alice)
	d.login(p, d.bob)
	d.login(Place{Remote: cafe}, d.bob)
	for i := range GuessBurst - 1 {
		d.guessed(home.String(), fmt.Sprint("mailbox", i), 1)
		d.guessed(home.String(), "mailbox0", 1) // the same one counts once
		d.guessed(cafe.String(), "other", 1)
	}
	d.wantLive(p, "alice bob")
	d.guessed(home.String(), "the fifth", 1)
	d.wantLive(p, "")
	d.wantLive(Place{Remote: cafe}, "bob")
	// While the burst lasts, each further guess does it again.
	d.login(p, d.alice)
	d.guessed(home.String(), "alice", 1)
	d.wantLive(p, "")
	d.at(GuessWindow)
	d.login(p, d.alice)
	d.guessed(home.String(), "alice", 1)
	d.wantLive(p, "alice")
}

// TestManyGrantsFromOneClient: all of them end, however many there are.
func TestManyGrantsFromOneClient(t *testing.T) {
	d := newDomain(t)
	network := netip.PrefixFrom(home, 32)
	for i := range grantPage + 1 {
		if _, err := d.grants.OpenGrant(t.Context(), start, store.GrantRequest{
			Account: d.add(fmt.Sprint("mailbox", i)).ID, Network: network, CredentialVersion: 1, Window: GrantWindow, Longest: GrantLongest,
			Recipients: 1, MostLive: 1,
		}); err != nil {
			t.Fatal(err)
		}
	}
	if got := d.live(Place{Remote: home}); len(strings.Fields(got)) != grantPage+1 {
		t.Errorf("%d live grants", len(strings.Fields(got)))
	}
	for i := range GuessBurst {
		d.guessed(home.String(), fmt.Sprint("mailbox", i), 1)
	}
	d.wantLive(Place{Remote: home}, "")
}

// TestGuesserHangsUp: a client that is gone before the burst is noted saves nothing by it. One without an address has nothing to lose.
func TestGuesserHangsUp(t *testing.T) {
	d := newDomain(t)
	d.login(Place{Remote: home}, d.alice)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range GuessBurst {
		d.g.Guessed(ctx, home, "alice")
		d.g.Guessed(ctx, netip.Addr{}, "alice")
	}
	d.wantLive(Place{Remote: home}, "")
	if n := len(d.g.guesses.clients.entries); n != 1 {
		t.Errorf("%d clients remembered, want 1", n)
	}
}

// TestTablesOfGrantsAreBounded: a hundred thousand addresses leave no more than the bounds, and what is in use stays.
func TestTablesOfGrantsAreBounded(t *testing.T) {
	c, g := newCrowds(), newGuesses()
	client := netip.PrefixFrom(home, 32)
	for i := range 100_000 {
		other := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32)
		c.note(start, other, 1)
		g.note(start, other, fmt.Sprint("mailbox", i))
		if i%100 > 0 {
			continue
		}
		// One client and one mailbox that never stop.
		c.note(start, client, store.AccountID(i))
		g.note(start, client, fmt.Sprint("mailbox", i))
		g.note(start, client, "alice")
	}
	if n := len(c.networks.entries); n != MaxCrowds {
		t.Errorf("%d networks, want %d", n, MaxCrowds)
	}
	if n := len(g.pairs.entries); n != MaxGuessPairs {
		t.Errorf("%d pairs, want %d", n, MaxGuessPairs)
	}
	if n := len(g.clients.entries); n != MaxGuessClients {
		t.Errorf("%d clients, want %d", n, MaxGuessClients)
	}
	if n := len(*c.networks.peek(client)); n != MaxMailboxesPerAddress+1 {
		t.Errorf("%d mailboxes of one address, want %d", n, MaxMailboxesPerAddress+1)
	}
	if n := len(*g.clients.peek(client)); n != GuessBurst {
		t.Errorf("%d mailboxes of one guesser, want %d", n, GuessBurst)
	}
	if n := len(*g.pairs.peek(pairKey{client, "alice"})); n != GuessBurst {
		t.Errorf("%d guesses of one pair, want %d", n, GuessBurst)
	}
}
