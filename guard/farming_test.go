package guard

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"latchkey/store"
)

// known gives a domain an eye on how its mailboxes are used, and alice a network of her own.
func (d *domain) known(own string) *told {
	d.t.Helper()
	n := &told{}
	c := NewConduct(ConductOptions{Store: d.store, Notices: n, Now: d.now})
	d.g = NewGrants(GrantOptions{
		Grants: d.store, Accounts: d.store, Settings: d.store, Hosts: testHosts(d.now), Conduct: c, Now: d.now, Logger: d.g.o.Logger,
	})
	d.seen(own)
	return n
}

func (d *domain) seen(own string) {
	d.t.Helper()
	then := start.AddDate(-1, 0, 0)
	err := d.store.NoteHabits(d.t.Context(), []store.Habit{{
		Account: d.alice.ID, Kind: store.HabitNetwork, Name: HabitNetwork(netip.MustParseAddr(own)).String(), First: then, Last: then,
	}})
	if err != nil {
		d.t.Fatal(err)
	}
}

// TestAbuse09OwnerDisplaces: a bot logs in from 1,000 hosts every 19 minutes with a stolen password. At most five grants are live at any time,
// the other logins succeed without one, the owner's own login gets one all the same, and he is told once a day.
func TestAbuse09OwnerDisplaces(t *testing.T) {
	d := newDomain(t)
	notices := d.known("192.0.2.20")
	opened := 0
	for round := range 3 {
		for i := range 1000 {
			d.at(time.Duration(round) * 19 * time.Minute)
			bot := netip.AddrFrom4([4]byte{198, 18, byte(i / 250), byte(i%250 + 1)}).String()
			switch log := d.login(place(bot), d.alice); {
			case strings.Contains(log, "grant opened"):
				opened++
			case strings.Contains(log, "grant renewed"), strings.Contains(log, withheldMany):
			default:
				t.Fatalf("the login from %s: %q", bot, log)
			}
		}
		live, err := d.store.ListGrants(t.Context(), store.GrantFilter{Account: d.alice.ID, LiveAt: d.now()}, 0, 100)
		if err != nil || len(live) != MaxLiveGrants {
			t.Errorf("round %d: %d live grants, %v", round, len(live), err)
		}
	}
	if opened != MaxLiveGrants {
		t.Errorf("%d grants were opened", opened)
	}
	if log := d.login(place("192.0.2.20"), d.alice); !strings.Contains(log, "grant opened") {
		t.Errorf("the owner at home: %q", log)
	}
	if log := d.login(place("203.0.113.99"), d.alice); !strings.Contains(log, withheldMany) {
		t.Errorf("somewhere else: %q", log)
	}
	if n := notices.count("fetched from a new place"); n != 1 {
		t.Errorf("the owner was told %d times", n)
	}
}

// TestGrantNotice: the owner is told of a grant from a network that is new, not from his own, once a day, and not if nobody wants it.
func TestGrantNotice(t *testing.T) {
	d := newDomain(t)
	notices := d.known("192.0.2.20")
	for i, tt := range []struct {
		after time.Duration
		from  string
		want  int
		off   bool
	}{
		{0, "192.0.2.99", 0, false}, // the same network
		{time.Minute, "203.0.113.1", 1, false},
		{2 * time.Minute, "203.0.113.1", 1, false},
		{3 * time.Minute, "198.51.100.1", 1, false}, // the same day
		{25 * time.Hour, "198.51.100.1", 1, false},  // known by now
		{25 * time.Hour, "100.64.0.9", 1, false},    // gets no grant
		{25 * time.Hour, "2001:db8:7::1", 2, false},
		{50 * time.Hour, "2001:db8:8::1", 2, true},
	} {
		d.set(func(s *store.Settings) { s.GrantNotices = !tt.off })
		d.at(tt.after)
		d.login(place(tt.from), d.alice)
		if n := notices.count("fetched from a new place"); n != tt.want {
			t.Errorf("%d, from %s: told %d times, want %d", i, tt.from, n, tt.want)
		}
	}
	if n := notices.list[0]; !n.Owner || n.Postmaster || n.Account != d.alice.ID {
		t.Errorf("told %+v", n)
	}
}

// TestFirstPlaceIsNoNews: a mailbox that is old and was never used has no place yet from which another one would differ; the second place is news.
func TestFirstPlaceIsNoNews(t *testing.T) {
	d := newDomain(t)
	notices := d.known("192.0.2.20")
	if err := d.store.ForgetHabits(t.Context(), d.alice.ID, store.HabitNetwork, HabitNetwork(netip.MustParseAddr("192.0.2.20")).String()); err != nil {
		t.Fatal(err)
	}
	for i, from := range []string{"203.0.113.1", "198.51.100.1"} {
		d.at(time.Duration(i) * time.Minute)
		d.login(place(from), d.alice)
		d.g.o.Conduct.Flush(t.Context())
		if n := notices.count("fetched from a new place"); n != i {
			t.Errorf("from %s: told %d times, want %d", from, n, i)
		}
	}
}

// TestAbuse08GrantIsShared: whoever shares the address of a victim gets no more than the victim's own grant gives: as that mailbox, 50
// recipients; nothing at all from a carrier's translator, or where many mailboxes log in.
func TestAbuse08GrantIsShared(t *testing.T) {
	d := newDomain(t)
	d.login(place("203.0.113.7"), d.alice)
	g := d.only(place("203.0.113.7"))
	if g.Account != d.alice.ID || g.Left != GrantRecipients {
		t.Errorf("grant %+v", g)
	}
	if ok, err := d.g.Spend(t.Context(), g.ID, GrantRecipients+1); ok || err != nil {
		t.Errorf("one more than the grant is for: %t, %v", ok, err)
	}
	for _, shared := range []string{"100.64.0.2", "100.127.255.254", "::ffff:100.64.0.2"} {
		if log := d.login(place(shared), d.alice); !strings.Contains(log, string(BarCarrier)) {
			t.Errorf("from %s: %q", shared, log)
		}
	}
	for _, own := range []string{"100.63.255.255", "100.128.0.0"} {
		if log := d.login(place(own), d.alice); !strings.Contains(log, "grant opened") {
			t.Errorf("from %s: %q", own, log)
		}
	}
	for i := range MaxMailboxesPerAddress {
		d.login(place("203.0.113.8"), d.add(fmt.Sprint("guest", i)))
	}
	if log := d.login(place("203.0.113.8"), d.alice); !strings.Contains(log, string(BarCrowded)) {
		t.Errorf("the one too many: %q", log)
	}
}
