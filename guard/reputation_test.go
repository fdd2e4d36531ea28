package guard

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"latchkey/internal/resolver"
	"latchkey/internal/resolver/resolvertest"
	"latchkey/store"
	"latchkey/store/memstore"
)

// watchtower is a domain whose addresses are watched on the list bl.example.
type watchtower struct {
	t     *testing.T
	dns   *resolvertest.Server
	st    *memstore.Store
	r     *Reputation
	c     *Conduct
	told  *told
	clock time.Time
	// listed is what was said last of whether a list lists us, said how often.
	listed bool
	said   int
}

const (
	ourAddress = "8.8.4.9"
	ourName    = "9.4.8.8.bl.example"
)

func newWatchtower(t *testing.T, addresses ...string) *watchtower {
	t.Helper()
	w := &watchtower{t: t, dns: resolvertest.New(t), st: memstore.New("example.com"), told: &told{}, clock: start}
	t.Cleanup(func() { _ = w.st.Close() })
	w.dns.SetNegativeTTL(0)
	w.healthy()
	w.build(addresses...)
	return w
}

// build makes the watch anew, as a start does.
func (w *watchtower) build(addresses ...string) {
	w.t.Helper()
	now := func() time.Time { return w.clock }
	names, err := resolver.New(resolver.Options{Servers: []netip.AddrPort{w.dns.Addr()}, Now: now, Timeout: time.Second, Attempts: 1})
	if err != nil {
		w.t.Fatal(err)
	}
	if len(addresses) == 0 {
		addresses = []string{ourAddress, "10.0.0.1", "127.0.0.1", "100.64.0.1", "fe80::1"}
	}
	w.c = NewConduct(ConductOptions{Store: w.st, Notices: w.told, Now: now})
	w.r = NewReputation(ReputationOptions{
		Store: w.st, Conduct: w.c, Addrs: names.Addrs, Notices: w.told, Now: now,
		Listed: func(listed bool) {
			w.listed = listed
			w.said++
		},
		Lists: []Blocklist{{Zone: "bl.example", Codes: []byte{2, 4}, Link: "https://bl.example/why"}},
		Addresses: func() (list []netip.Addr) {
			for _, a := range addresses {
				list = append(list, netip.MustParseAddr(a))
			}
			return list
		},
	})
}

func (w *watchtower) healthy() {
	w.dns.Remove("1.0.0.127.bl.example")
	w.dns.Set("2.0.0.127.bl.example", "A", "127.0.0.2")
	w.dns.SetTTL("2.0.0.127.bl.example", "A", 0)
}

func (w *watchtower) answer(name, address string) {
	w.dns.Set(name, "A", address)
	w.dns.SetTTL(name, "A", 0)
}

// round is one more hour, and what is known of our address after it.
func (w *watchtower) round() Standing {
	w.t.Helper()
	w.clock = w.clock.Add(ReputationEvery)
	w.r.Round(w.t.Context())
	got := w.r.Standings()
	if len(got) != 1 || got[0].Address.String() != ourAddress {
		w.t.Fatalf("standings %+v, want one of %s", got, ourAddress)
	}
	if w.said == 0 || w.listed != (got[0].State == ListListed) {
		w.t.Errorf("mail goes out carefully: %v (said %d times), and %+v", w.listed, w.said, got[0])
	}
	w.said = 0
	return got[0]
}

func (w *watchtower) mailbox(name string, named, failed, complaints int64) store.AccountID {
	w.t.Helper()
	a, err := w.st.AddAccount(w.t.Context(), store.Account{Name: name})
	if err != nil {
		w.t.Fatal(err)
	}
	for figure, n := range map[store.SendingFigure]int64{
		store.FigureRecipients: named, store.FigureFailed: failed, store.FigureComplaints: complaints,
	} {
		if err := w.st.AddStat(w.t.Context(), store.DayOf(w.clock), store.SendingOf(figure, a.ID), n); err != nil {
			w.t.Fatal(err)
		}
	}
	return a.ID
}

// TestAbuse26Listed: within an hour of a listing postmaster knows, with the link and the likely mailbox, which is on hold; the listing is told once,
// over a restart too; when it is over and comes back it is told again.
func TestAbuse26Listed(t *testing.T) {
	w := newWatchtower(t)
	thief := w.mailbox("thief", 400, 100, 0)
	w.mailbox("busy", 300, 3, 0)
	if s := w.round(); s.State != ListClean || len(w.told.list) != 0 {
		t.Fatalf("%+v, told %+v", s, w.told.list)
	}
	w.answer(ourName, "127.0.0.4")
	for range 3 {
		if s := w.round(); s.State != ListListed || s.Suspect != "thief" || s.Link != "https://bl.example/why" || s.Detail != "127.0.0.4" {
			t.Errorf("%+v", s)
		}
		if n := w.told.count("is on the blocklist"); n != 1 {
			t.Errorf("told %d times", n)
		}
	}
	if n := w.told.list[len(w.told.list)-1]; !n.Postmaster || n.Account != thief || !strings.Contains(strings.Join(n.Lines, " "), "https://bl.example/why") {
		t.Errorf("told %+v", n)
	}
	if held, err := w.st.ListHabits(t.Context(), 0, store.HabitHeld, 10); err != nil || len(held) != 1 || held[0].Account != thief || held[0].Name != everywhere {
		t.Errorf("on hold: %+v, %v", held, err)
	}
	w.build()
	if s := w.round(); s.State != ListListed || w.told.count("is on the blocklist") != 1 {
		t.Errorf("after a restart: %+v, told %d times", s, w.told.count("is on the blocklist"))
	}
	w.dns.Remove(ourName)
	if s := w.round(); s.State != ListClean {
		t.Errorf("after the listing: %+v", s)
	}
	w.answer(ourName, "127.0.0.2")
	if w.round(); w.told.count("is on the blocklist") != 2 {
		t.Error("a second listing was not told")
	}
}

// TestNobodyStandsOut: without a mailbox that stands out nobody is put on hold; complaints weigh more than volume.
func TestNobodyStandsOut(t *testing.T) {
	for name, tt := range map[string]struct {
		boxes map[string][3]int64
		want  string
	}{
		"three alike":         {map[string][3]int64{"a": {300, 0, 0}, "b": {300, 0, 0}, "c": {300, 0, 0}}, ""},
		"half":                {map[string][3]int64{"a": {300, 0, 0}, "b": {200, 0, 0}, "c": {100, 0, 0}}, "a"},
		"too little":          {map[string][3]int64{"a": {19, 0, 0}}, ""},
		"enough":              {map[string][3]int64{"a": {20, 0, 0}}, "a"},
		"complaints":          {map[string][3]int64{"a": {500, 0, 0}, "b": {50, 0, 20}}, "b"},
		"nobody sent a thing": {nil, ""},
	} {
		w := newWatchtower(t)
		for box, n := range tt.boxes {
			w.mailbox(box, n[0], n[1], n[2])
		}
		w.answer(ourName, "127.0.0.2")
		s := w.round()
		held, err := w.st.ListHabits(t.Context(), 0, store.HabitHeld, 10)
		if err != nil || s.Suspect != tt.want || (len(held) == 1) != (tt.want != "") || w.told.count("is on the blocklist") != 1 {
			t.Errorf("%s: suspect %q, held %+v, %v", name, s.Suspect, held, err)
		}
	}
}

// TestAbuse25ListTrouble: what a list says that is no listing, and what becomes of it: nobody is put on hold, and postmaster is told of the
// list once, if at all.
func TestAbuse25ListTrouble(t *testing.T) {
	for _, tt := range []struct {
		name  string
		setup func(w *watchtower)
		state ListState
		after int // rounds until somebody is told; 0: never
	}{
		{"refuses our name server", func(w *watchtower) {
			w.answer("2.0.0.127.bl.example", "127.255.255.254")
			w.answer(ourName, "127.255.255.254")
		}, ListError, 1},
		{"lists the world", func(w *watchtower) {
			w.answer("1.0.0.127.bl.example", "127.0.0.2")
			w.answer(ourName, "127.0.0.2")
		}, ListDead, 1},
		{"shut down", func(w *watchtower) { w.dns.Remove("2.0.0.127.bl.example") }, ListDead, 1},
		{"parked at another address", func(w *watchtower) {
			for _, name := range []string{"2.0.0.127.bl.example", "1.0.0.127.bl.example", ourName} {
				w.answer(name, "203.0.113.66")
			}
		}, ListDead, 1},
		{"fails", func(w *watchtower) { w.dns.Behave("2.0.0.127.bl.example", "A", resolvertest.ServFail) }, ListError, listTrouble},
		{"unknown code", func(w *watchtower) { w.answer(ourName, "127.0.0.3") }, ListClean, 0},
		{"another address", func(w *watchtower) { w.answer(ourName, "127.1.0.2") }, ListClean, 0},
		{"refuses for our address only", func(w *watchtower) { w.answer(ourName, "127.255.255.255") }, ListError, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWatchtower(t)
			w.mailbox("busy", 1000, 0, 0)
			tt.setup(w)
			for round := 1; round <= listTrouble+1; round++ {
				if s := w.round(); s.State != tt.state {
					t.Fatalf("round %d: %+v, want %s", round, s, tt.state)
				}
				want := 0
				if tt.after > 0 && round >= tt.after {
					want = 1
				}
				if n := w.told.count("is of no use"); n != want || len(w.told.list) != want {
					t.Fatalf("round %d: told %d times, want %d: %+v", round, n, want, w.told.list)
				}
			}
			if held, err := w.st.ListHabits(t.Context(), 0, store.HabitHeld, 10); err != nil || len(held) != 0 {
				t.Errorf("on hold: %+v, %v", held, err)
			}
		})
	}
}

// TestReversed: how RFC 5782 §2.1 and §2.4 write addresses.
func TestReversed(t *testing.T) {
	for a, want := range map[string]string{
		"192.0.2.99":                "99.2.0.192",
		"2001:db8:1:2:3:4:567:89ab": "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2",
	} {
		if got := reversed(netip.MustParseAddr(a)); got != want {
			t.Errorf("%s: %s, want %s", a, got, want)
		}
	}
	zones := []string{}
	for _, l := range KnownBlocklists() {
		if zones = append(zones, l.Zone); l.Link == "" || BlocklistOf(l.Zone).Link != l.Link {
			t.Errorf("%s has no link", l.Zone)
		}
	}
	if slices.Sort(zones); len(slices.Compact(zones)) != len(KnownBlocklists()) {
		t.Error("a list is known twice")
	}
	if got := BlocklistOf("bl.example"); got.Zone != "bl.example" || got.Codes != nil {
		t.Errorf("an unknown list: %+v", got)
	}
}
