package relay

import (
	"crypto/tls"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/store"
)

// TestRoutes: the first route that takes a destination and a sender counts, each smarthost is entered as it was said, and the rest goes to
// the exchangers or to the smarthost for all.
func TestRoutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		carol, err := r.store.AddAccount(t.Context(), store.Account{Name: "carol", Verifier: "$x", Created: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		cert, pool := certificate(t, "gw.example")
		servers := map[string]*server{
			"partner": {cert: cert, user: "u"}, "below": {}, "carol": {}, "rest": {}, "own": {},
		}
		r.dns.host("gw.example", "192.0.2.1")
		for name, at := range map[string]string{"partner": "192.0.2.1:587", "below": "192.0.2.2:25", "carol": "192.0.2.3:25", "rest": "192.0.2.4:25"} {
			r.net.listen(at, servers[name].serve)
		}
		r.site("own.corp.example", "192.0.2.5", servers["own"])
		r.opts.TLS = &tls.Config{RootCAs: pool}
		r.opts.Smarthost = &Smarthost{Addr: "192.0.2.4:25"}
		r.opts.Routes = []Route{
			{Domain: "partner.example", To: &Smarthost{Addr: "gw.example:587", User: "u", Password: func() (string, error) { return "secret", nil }}},
			{Domain: "own.corp.example"},
			{Domain: "*.corp.example", To: &Smarthost{Addr: "192.0.2.2:25"}},
			{Sender: addr(t, "carol@example.org"), To: &Smarthost{Addr: "192.0.2.3:25"}},
		}
		for _, p := range []struct {
			by store.AccountID
			to string
		}{
			{0, "a@partner.example"}, {carol.ID, "b@partner.example"}, {0, "c@own.corp.example"}, {0, "d@x.corp.example"}, {0, "e@y.x.corp.example"},
			{0, "f@corp.example"}, {carol.ID, "g@corp.example"}, {carol.ID, "h@x.example"}, {0, "i@x.example"},
		} {
			r.queue(post{by: p.by}, p.to)
		}
		r.runFor(5 * time.Second)
		for name, want := range map[string]string{"partner": "ab", "below": "de", "carol": "gh", "rest": "fi", "own": "c"} {
			var got []string
			for _, l := range servers[name].taken() {
				got = append(got, strings.TrimPrefix(l.to[0], "RCPT TO:<")[:1])
				if (name == "partner") != (l.tls && l.user == "u") {
					t.Errorf("%s: letter %+v", name, l)
				}
			}
			slices.Sort(got)
			if strings.Join(got, "") != want {
				t.Errorf("%s got %q, want %s", name, got, want)
			}
		}
		if strings.Contains(r.logged.String(), "secret") || len(r.jobs()) > 0 {
			t.Errorf("jobs %+v, or the password is in the log", r.jobs())
		}
	})
}

// TestRoutesAreBounded: at most MaxRoutes, and each of them is read.
func TestRoutesAreBounded(t *testing.T) {
	for _, n := range []int{MaxRoutes, MaxRoutes + 1} {
		if _, err := New(Options{Routes: make([]Route, n)}); (err != nil) != (n > MaxRoutes) {
			t.Errorf("%d routes: %v", n, err)
		}
	}
	if _, err := New(Options{Routes: []Route{{To: &Smarthost{Addr: "no port"}}}}); err == nil {
		t.Error("a route to nowhere")
	}
}

// TestSources: mail to a host leaves from one address of each family, always the same one and spread over all hosts, with that one's name in
// EHLO; a family without addresses is the system's matter.
func TestSources(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.opts.Sources = []Source{
			{Addr: netip.MustParseAddr("203.0.113.1"), Hostname: "one.example.org"}, {Addr: netip.MustParseAddr("203.0.113.2")},
			{Addr: netip.MustParseAddr("203.0.113.3"), Hostname: "three.example.org"},
		}
		names := map[string]string{"203.0.113.1": "one.example.org", "203.0.113.2": "mail.example.org", "203.0.113.3": "three.example.org"}
		used := map[string]int{}
		for i := range 30 {
			domain, at := fmt.Sprintf("d%d.example", i), addrOf(i)
			s := r.site(domain, at, &server{})
			from := func() string {
				r.net.mu.Lock()
				defer r.net.mu.Unlock()
				return strings.TrimSuffix(r.net.from[len(r.net.from)-1], " to "+at+":25")
			}
			r.queue(post{}, "x@"+domain)
			r.runFor(time.Second)
			first := from()
			r.queue(post{}, "y@"+domain)
			r.runFor(time.Second)
			if again := from(); again != first || s.served("EHLO "+names[first]) != 2 {
				t.Errorf("%s: from %s and then %s, commands %q", domain, first, again, s.commands())
			}
			used[first]++
		}
		if len(used) != 3 {
			t.Errorf("addresses used: %v", used)
		}
		r.dns.host("six.example", "2001:db8::1")
		s := &server{}
		r.net.listen("[2001:db8::1]:25", s.serve)
		before := len(r.net.from)
		r.queue(post{}, "x@six.example")
		r.runFor(time.Second)
		if len(s.taken()) != 1 || len(r.net.from) != before {
			t.Errorf("to IPv6 %d letters, from %q", len(s.taken()), r.net.from[before:])
		}
	})
}

// TestFamilies: IPv6 first, for a short while if there is IPv4 behind it; an IPv6-only host has all its time.
func TestFamilies(t *testing.T) {
	var addrs []netip.Addr
	for _, a := range []string{"192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1", "::ffff:192.0.2.4", "2001:db8::2"} {
		addrs = append(addrs, netip.MustParseAddr(a))
	}
	if got := fmt.Sprint(families(addrs)); got != "[2001:db8::1 192.0.2.1 2001:db8::2 192.0.2.2 192.0.2.3 ::ffff:192.0.2.4]" {
		t.Errorf("order %s", got)
	}
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		s := r.site("both.example", "192.0.2.1", &server{})
		r.dns.host("mx.both.example", "192.0.2.1", "2001:db8::1")
		r.net.silent["[2001:db8::1]:25"] = true
		r.queue(post{}, "x@both.example")
		r.start()
		time.Sleep(firstFamily - time.Millisecond)
		synctest.Wait()
		if len(s.taken()) != 0 || r.net.dialled("[2001:db8::1]:25") != 1 {
			t.Errorf("dialled %q", r.net.dials)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		r.queue(post{}, "y@both.example")
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
		if len(s.taken()) != 2 || r.net.dialled("[2001:db8::1]:25") != 1 {
			t.Errorf("%d letters, dialled %q: the silent address is remembered", len(s.taken()), r.net.dials)
		}
		r.dns.host("only.example", "2001:db8::2")
		r.net.listen("[2001:db8::2]:25", (&server{}).serve)
		only := r.queue(post{}, "x@only.example")
		time.Sleep(time.Second)
		synctest.Wait()
		if trail := r.trail(only.Message); !strings.HasPrefix(trail[len(trail)-1], "delivered x@only.example: only.example [IPv6:2001:db8::2]") {
			t.Errorf("trail %q", trail)
		}
	})
}
