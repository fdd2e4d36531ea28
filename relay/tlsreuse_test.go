package relay

import (
	"crypto/tls"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/internal/resolver"
	"latchkey/store"
)

// TestServes: which connection that stands is as good as a new one, as a table of doors.
func TestServes(t *testing.T) {
	key := func(b byte) resolver.TLSA { return resolver.TLSA{Usage: 3, Selector: 1, Matching: 1, Data: []byte{b}} }
	dane := func(domain string, keys ...resolver.TLSA) door {
		return door{
			mode: TLSRequired, policy: domain, wantedBy: ProofDANE,
			dane: &daneProof{records: keys, names: []string{"mx.example", "mx.example", domain}},
		}
	}
	plain := door{mode: TLSOpportunistic, policy: "a.example"}
	verified := door{mode: TLSVerify, policy: "a.example", wantedBy: ProofSTS}
	promise := door{mode: TLSVerify, policy: "a.example", wantedBy: ProofSTS, promise: true}
	for name, tt := range map[string]struct {
		was, wanted door
		caps        capabilities
		want        bool
	}{
		"no policy, another domain":             {plain, door{mode: TLSOpportunistic, policy: "b.example"}, capabilities{}, true},
		"MTA-STS, another domain's":             {verified, door{mode: TLSVerify, policy: "b.example", wantedBy: ProofSTS}, capabilities{}, true},
		"MTA-STS, after none":                   {plain, verified, capabilities{}, false},
		"none, after MTA-STS":                   {verified, plain, capabilities{}, false},
		"MTA-STS, after a sender's demand":      {door{mode: TLSVerify, wantedBy: ProofPKIX}, verified, capabilities{}, false},
		"DANE, the same":                        {dane("a.example", key(1)), dane("a.example", key(1)), capabilities{}, true},
		"DANE, in another order":                {dane("a.example", key(1), key(2)), dane("a.example", key(2), key(1)), capabilities{}, true},
		"DANE, another domain":                  {dane("a.example", key(1)), dane("b.example", key(1)), capabilities{}, false},
		"DANE, another key":                     {dane("a.example", key(1)), dane("a.example", key(2)), capabilities{}, false},
		"DANE, one key more":                    {dane("a.example", key(1), key(2)), dane("a.example", key(1)), capabilities{}, false},
		"DANE, after no usable record":          {door{mode: TLSRequired, wantedBy: ProofDANE}, dane("a.example", key(1)), capabilities{}, false},
		"no usable record, after DANE":          {dane("a.example", key(1)), door{mode: TLSRequired, wantedBy: ProofDANE}, capabilities{}, false},
		"a promise, of a host that gives none":  {verified, promise, capabilities{}, false},
		"a promise, of one that gives it":       {verified, promise, capabilities{requireTLS: true}, true},
		"no promise wanted, of one that has it": {promise, verified, capabilities{requireTLS: true}, true},
	} {
		l := &link{peer: peer{host: "mx.example", facts: TLSFacts{Version: tls.VersionTLS13}}, door: tt.was, caps: tt.caps}
		if got := l.serves("mx.example", tt.wanted); got != tt.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

// shareHost makes domains that have one mail exchanger, mx.shared.example, in the laboratory. All of the DNS is signed.
func (l *tlsLab) shareHost(s *server, domains ...string) *server {
	l.t.Helper()
	l.names.Sign("example", true)
	for _, domain := range domains {
		l.names.Set(domain, "MX", "10 mx.shared.example.")
	}
	return l.host("mx.shared.example", 1, s)
}

// policyOf publishes an MTA-STS policy of a domain.
func (l *tlsLab) policyOf(domain, mx string) {
	l.names.Set("_mta-sts."+domain, "TXT", `"v=STSv1; id=1;"`)
	l.names.Set("mta-sts."+domain, "A", "192.0.2.200")
	l.change(func() {
		l.pages["mta-sts."+domain] = "version: STSv1\nmode: enforce\nmx: " + mx + "\nmax_age: 604800\n"
	})
}

// TestReuseBetweenPolicies: a connection that stands, to the host of two domains, carries mail for one that wants no proof, and none of one that
// does: that one's policy is kept although the connection is there. The other way round it gets one that is proved.
func TestReuseBetweenPolicies(t *testing.T) {
	for name, good := range map[string]bool{"a certificate that holds": true, "one that does not": false} {
		t.Run(name, func(t *testing.T) {
			l := newTLSLab(t)
			cert := l.root.issue(nil, "other.example")
			if good {
				cert = l.root.issue(nil, "mx.shared.example")
			}
			s := l.shareHost(&server{cert: cert}, "open.example", "strict.example")
			l.cert = l.root.issue(nil, "mta-sts.strict.example")
			l.policyOf("strict.example", "mx.shared.example")
			l.resolve()
			open := l.queue(post{received: l.clock()}, "x@open.example").Message
			l.start()
			defer l.stop()
			l.until("the mail without a policy", func() bool { _, ok := l.became(open); return ok })
			// The connection stands about now, for idleTime.
			strict := l.queue(post{received: l.clock()}, "x@strict.example").Message
			l.until("the mail with one", func() bool { _, ok := l.became(strict); return ok })
			got, _ := l.became(strict)
			want := "deferred x@strict.example: mx.shared.example [192.0.2.1]: TLS handshake failed"
			if good {
				want = "delivered x@strict.example: mx.shared.example [192.0.2.1] TLS 1.3 (MTA-STS): 250"
			}
			if !strings.HasPrefix(got, want) || s.connections() != 2 {
				t.Errorf("got %s over %d connections, want %s over 2", got, s.connections(), want)
			}
		})
	}
}

// TestPolicyIsOfOneDomain: what one domain publishes wrong keeps its own mail back, and neither that of the others at the host nor what may go
// in the clear.
func TestPolicyIsOfOneDomain(t *testing.T) {
	for name, set := range map[string]func(l *tlsLab){
		"MTA-STS, another name": func(l *tlsLab) {
			l.cert = l.root.issue(nil, "mta-sts.strict.example")
			l.policyOf("strict.example", "mx.shared.example")
		},
		"MTA-STS, another exchanger": func(l *tlsLab) {
			l.cert = l.root.issue(nil, "mta-sts.strict.example")
			l.policyOf("strict.example", "mx.other.example")
		},
		"DANE, another key, of another name of the host": func(l *tlsLab) {
			l.names.Set("strict.example", "MX", "10 mx.strict.example.")
			l.names.Set("mx.strict.example", "A", "192.0.2.1")
			l.names.Set("_25._tcp.mx.strict.example", "TLSA", tlsa(3, l.root.cert))
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newTLSLab(t)
			s := l.shareHost(&server{cert: l.root.issue(nil, "nobody.example")}, "open.example", "strict.example")
			set(l)
			l.resolve()
			strict := l.queue(post{received: l.clock()}, "x@strict.example").Message
			l.start()
			defer l.stop()
			l.until("the mail with a policy", func() bool { _, ok := l.became(strict); return ok })
			if got, _ := l.became(strict); !strings.HasPrefix(got, "deferred") {
				t.Fatalf("got %s", got)
			}
			open := l.queue(post{received: l.clock()}, "x@open.example").Message
			clear := l.queue(post{received: l.clock(), tls: store.TLSOptional}, "y@strict.example").Message
			for _, id := range []store.MessageID{open, clear} {
				l.until("the other mail", func() bool { _, ok := l.became(id); return ok })
				if got, _ := l.became(id); !strings.HasPrefix(got, "delivered") {
					t.Errorf("got %s", got)
				}
			}
			if n := s.arrived("x@strict"); n != 0 {
				t.Errorf("the mail with a policy was sent")
			}
		})
	}
}

// TestDemandsInTurn: messages of all three demands, where each host gets one connection. Each goes as its sender wants it; no slot and no
// place is lost on the way from one connection to another, and what needs no demand goes to the best host.
func TestDemandsInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cert, pool := certificate(t, "mx.remote.example", "mx2.remote.example")
		r := newRig(t)
		r.opts.TLS = &tls.Config{RootCAs: pool}
		r.opts.Limits.PerDestination = 1
		best := r.site("remote.example", "192.0.2.1", &server{cert: cert})
		second := &server{cert: cert, caps: promising()}
		r.net.listen("192.0.2.2:25", second.serve)
		r.dns.host("mx2.remote.example", "192.0.2.2")
		r.dns.exchangers("remote.example",
			resolver.MX{Host: "mx.remote.example", Preference: 10, Secure: true}, resolver.MX{Host: "mx2.remote.example", Preference: 20, Secure: true})
		for range 5 {
			r.queue(post{tls: store.TLSRequired}, "required@remote.example")
			r.queue(post{}, "usual@remote.example")
			r.queue(post{tls: store.TLSOptional}, "optional@remote.example")
			r.queue(post{tls: store.TLSRequired, by: bob}, "required@remote.example")
		}
		r.start()
		time.Sleep(time.Minute)
		synctest.Wait()
		runner := r.runner
		for at, h := range runner.hosts.known {
			if n := h.slots.taken(); n != 0 {
				t.Errorf("%s: %d slots are taken", at, n)
			}
		}
		if a, b := runner.connecting.taken(), runner.transferring.taken(); a != 0 || b != 0 {
			t.Errorf("%d and %d places are taken", a, b)
		}
		r.stop()
		if n := second.arrived("required"); n != 10 || second.arrived("usual")+second.arrived("optional") != 0 {
			t.Errorf("the host that promises has %d, and %+v", n, second.taken())
		}
		if best.arrived("usual") != 5 || best.arrived("optional") != 5 || best.arrived("required") != 0 {
			t.Errorf("the best host has %+v\n%s", best.taken(), r.logged)
		}
		if slices.ContainsFunc(second.taken(), func(l letter) bool { return !strings.Contains(l.mail, "REQUIRETLS") }) {
			t.Errorf("it was not told: %+v", second.taken())
		}
	})
}

// TestDemandWaitsForSlot: a message with a demand waits for a host that has as many connections as it gets, and is not given up.
func TestDemandWaitsForSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cert, pool := certificate(t, "mx.shared.example")
		r := newRig(t)
		r.opts.TLS = &tls.Config{RootCAs: pool}
		r.opts.Limits.PerDestination = 1
		s := r.share("192.0.2.9", &server{cert: cert, caps: promising(), room: 1, answer: slow(10 * time.Second)}, "a.example", "b.example")
		r.dns.set(func() { r.dns.mx["b.example"][0].Secure = true })
		r.queue(post{}, "x@a.example")
		r.start()
		time.Sleep(time.Second)
		r.queue(post{tls: store.TLSRequired}, "x@b.example")
		time.Sleep(time.Minute)
		synctest.Wait()
		r.stop()
		if most, refused := s.crowd(); s.arrived("x@a") != 1 || s.arrived("x@b") != 1 || most != 1 || refused != 0 {
			t.Errorf("taken %+v, %d connections at once, %d refused\n%s", s.taken(), most, refused, r.logged)
		}
	})
}

// TestUnmetDemand: what no host promises bounces, by its smarthost too, and neither ends the connection's use nor puts the rest off.
func TestUnmetDemand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		s := r.site("smart.example", "192.0.2.1", &server{})
		r.opts.Smarthost = &Smarthost{Addr: "mx.smart.example:25", TLS: TLSOpportunistic}
		for range 3 {
			r.queue(post{}, "usual@remote.example")
			r.queue(post{tls: store.TLSRequired}, "required@remote.example")
		}
		r.runFor(10 * time.Second)
		if s.arrived("usual") != 3 || s.arrived("required") != 0 || len(r.mail()) != 3 || len(r.jobs()) != 0 {
			t.Errorf("taken %+v, %d bounces, %d wait\n%s", s.taken(), len(r.mail()), len(r.jobs()), r.logged)
		}
	})
}

// TestSentOnKeepsDemand: mail that is sent on from here is still REQUIRETLS, whatever its reverse-path is.
func TestSentOnKeepsDemand(t *testing.T) {
	for _, reversePath := range []string{"", "anna@example.org"} {
		j := &store.Job{TLS: store.TLSRequired, ForwardedBy: addr(t, "alice@example.org")}
		if reversePath != "" {
			j.ReversePath = addr(t, reversePath)
		}
		l := &link{peer: peer{facts: TLSFacts{Version: tls.VersionTLS13, Proof: ProofDANE}}, caps: capabilities{requireTLS: true, dsn: true}}
		if demanded(j) != store.TLSRequired || !l.mailOptions([]store.Job{*j}).RequireTLS {
			t.Errorf("%q: lost", reversePath)
		}
	}
}
