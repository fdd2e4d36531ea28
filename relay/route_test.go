package relay

import (
	"crypto/tls"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/internal/resolver"
	"latchkey/store"
)

type exchangerCase struct {
	name string
	// world sets up what the DNS says; 192.0.2.1 is a good host, .2 says 554, .3 says 421, .9 refuses, 203.0.113.9 is us.
	world  func(*dns)
	kind   store.OutcomeKind
	status string // of the bounce
	words  string
}

func exchangerCases() []exchangerCase {
	const to = "remote.example"
	mx := func(host string, preference uint16) resolver.MX {
		return resolver.MX{Host: host, Preference: preference}
	}
	return []exchangerCase{
		{name: "nothing there", world: func(*dns) {}, kind: store.Failed, status: "5.1.2", words: "does not exist"},
		{name: "A only", world: func(d *dns) { d.host(to, "192.0.2.1") }, kind: store.Delivered},
		{name: "null MX", world: func(d *dns) { d.fails[to] = &resolver.Error{Class: resolver.ErrNullMX, Text: "takes no mail"} }, kind: store.Failed, status: "5.1.10", words: "takes no mail"},
		{name: "DNS down", world: func(d *dns) { d.fails[to] = &resolver.Error{Class: resolver.ErrTemporary, Text: "nobody says"} }, kind: store.Deferred, words: "nobody says"},
		{name: "no address of the exchanger", world: func(d *dns) { d.exchangers(to, mx("a.example", 1)) }, kind: store.Failed, status: "5.4.4", words: "no address"},
		{name: "address of one unknown for now", world: func(d *dns) {
			d.exchangers(to, mx("a.example", 1), mx("b.example", 2))
			d.fails["a.example"] = &resolver.Error{Class: resolver.ErrTemporary, Text: "nobody says"}
		}, kind: store.Deferred, words: "nobody says"},
		{name: "second exchanger", world: func(d *dns) {
			d.exchangers(to, mx("a.example", 1), mx("b.example", 2))
			d.host("a.example", "192.0.2.9")
			d.host("b.example", "192.0.2.1")
		}, kind: store.Delivered},
		{name: "second address", world: func(d *dns) {
			d.exchangers(to, mx("a.example", 1))
			d.host("a.example", "192.0.2.9", "2001:db8::9", "192.0.2.1")
		}, kind: store.Delivered},
		{name: "554 greeting, then a good one", world: func(d *dns) {
			d.exchangers(to, mx("a.example", 1), mx("b.example", 2))
			d.host("a.example", "192.0.2.2")
			d.host("b.example", "192.0.2.1")
		}, kind: store.Delivered},
		{name: "554 greeting, then a dead one", world: func(d *dns) {
			d.exchangers(to, mx("a.example", 1), mx("b.example", 2))
			d.host("a.example", "192.0.2.2")
			d.host("b.example", "192.0.2.9")
		}, kind: store.Deferred, words: "connection refused"},
		{name: "554 greeting everywhere", world: func(d *dns) { d.host(to, "192.0.2.2", "192.0.2.2") }, kind: store.Failed, status: "5.7.1", words: "554 5.7.1 go away"},
		{name: "421 greeting", world: func(d *dns) { d.host(to, "192.0.2.9", "192.0.2.3", "192.0.2.2") }, kind: store.Deferred, words: "421 busy"},
		{name: "we are the best exchanger", world: func(d *dns) {
			d.exchangers(to, mx("mail.example.org", 1), mx("b.example", 2))
			d.host("b.example", "192.0.2.1")
		}, kind: store.Failed, status: "5.4.6", words: "come back to this server"},
		{name: "we are the second exchanger", world: func(d *dns) {
			d.exchangers(to, mx("a.example", 1), mx("mail.example.org", 2), mx("b.example", 2), mx("c.example", 3))
			d.host("a.example", "192.0.2.9")
			d.host("b.example", "192.0.2.1")
			d.host("c.example", "192.0.2.1")
		}, kind: store.Deferred, words: "connection refused"},
		{name: "we are the exchanger, by address", world: func(d *dns) {
			d.exchangers(to, mx("a.example", 1), mx("b.example", 2))
			d.host("a.example", "203.0.113.9")
			d.host("b.example", "192.0.2.1")
		}, kind: store.Failed, status: "5.4.6", words: "come back to this server"},
		{name: "private only", world: func(d *dns) { d.host(to, "10.0.0.1", "127.0.0.1", "fd00::1") }, kind: store.Failed, status: "5.4.6", words: "a private address"},
		{name: "private, then a good one", world: func(d *dns) { d.host(to, "10.0.0.1", "192.0.2.1") }, kind: store.Delivered},
		{name: "private, then a dead one", world: func(d *dns) { d.host(to, "10.0.0.1", "192.0.2.9") }, kind: store.Deferred, words: "connection refused"},
		{name: "the good one is the 8th address", world: func(d *dns) { d.host(to, append(dead(7), "192.0.2.1")...) }, kind: store.Delivered},
		{name: "the good one is the 9th address", world: func(d *dns) { d.host(to, append(dead(8), "192.0.2.1")...) }, kind: store.Deferred, words: "connection refused"},
		{name: "the good one is the 5th host", world: func(d *dns) { d.exchangers(to, ladder(d, 5, mx)...) }, kind: store.Delivered},
		{name: "the good one is the 6th host", world: func(d *dns) { d.exchangers(to, ladder(d, 6, mx)...) }, kind: store.Deferred, words: "connection refused"},
	}
}

// TestExchangers: which hosts are tried, in which order, and what it means when none can be had.
func TestExchangers(t *testing.T) {
	own := func(ap netip.AddrPort) bool { return ap == netip.MustParseAddrPort("203.0.113.9:25") }
	for _, tt := range exchangerCases() {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			r.opts.Own = own
			r.opts.AllowNetworks = []netip.Prefix{mustPrefix("203.0.113.0/24")}
			good := &server{}
			r.net.listen("192.0.2.1:25", good.serve)
			r.net.listen("192.0.2.2:25", (&server{greeting: "554 5.7.1 go away"}).serve)
			r.net.listen("192.0.2.3:25", (&server{greeting: "421 busy"}).serve)
			tt.world(r.dns)
			r.queue(post{}, "bob@remote.example")
			r.runFor(time.Second)
			got := store.Delivered
			status, words := "", ""
			switch jobs, mail := r.jobs(), r.mail(); {
			case len(jobs) == 1:
				got, words = store.Deferred, jobs[0].LastText
			case len(mail) == 1:
				b := readReport(t, mail[0])
				got, status, words = store.Failed, b.recipients[0].Get("Status"), b.recipients[0].Get("Diagnostic-Code")
			case len(good.taken()) != 1:
				t.Fatalf("%s: nothing became of it: %s", tt.name, r.logged)
			}
			if got != tt.kind || status != tt.status || !strings.Contains(words, tt.words) {
				t.Errorf("%s: got %s %q %q", tt.name, got, status, words)
			}
			if r.net.dialled("10.0.0.1:25")+r.net.dialled("127.0.0.1:25")+r.net.dialled("203.0.113.9:25") != 0 {
				t.Errorf("%s: connected to what is forbidden: %q", tt.name, r.net.dials)
			}
		})
	}
}

// dead are addresses where nobody answers.
func dead(n int) []string {
	var list []string
	for i := range n {
		list = append(list, netip.AddrFrom4([4]byte{192, 0, 2, byte(100 + i)}).String())
	}
	return list
}

// ladder is a list of n exchangers of which the last is good.
func ladder(d *dns, n int, mx func(string, uint16) resolver.MX) []resolver.MX {
	var list []resolver.MX
	for i := range n {
		name := string(rune('a'+i)) + ".example"
		d.host(name, "192.0.2.9")
		if i == n-1 {
			d.host(name, "192.0.2.1")
		}
		list = append(list, mx(name, uint16(i)))
	}
	return list
}

// TestNamedNetwork: what the operator names for outgoing mail is a target, our own listeners never.
func TestNamedNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.opts.AllowNetworks = []netip.Prefix{mustPrefix("10.0.0.0/8")}
		r.opts.Own = func(ap netip.AddrPort) bool { return ap == netip.MustParseAddrPort("10.0.0.2:25") }
		lab := r.site("lab.example", "10.0.0.1", &server{})
		us := r.site("us.example", "10.0.0.2", &server{})
		literal := r.queue(post{}, "bob@lab.example", "carol@us.example", "dave@[10.0.0.1]", "eve@[IPv6:fd00::1]", "frank@[192.0.2.77]")
		r.runFor(time.Second)
		if len(lab.taken()) != 2 || us.connections() != 0 || len(r.mail()) != 1 || strings.Count(r.mail()[0], "Final-Recipient") != 2 {
			t.Errorf("lab %+v, us %d, bounces %q", lab.taken(), us.connections(), r.mail())
		}
		if trail := strings.Join(r.trail(literal.Message), "\n"); !strings.Contains(trail, "delivered dave@[10.0.0.1]: [10.0.0.1]: 250") {
			t.Errorf("trail %s", trail)
		}
	})
}

// TestOpportunisticTLS: STARTTLS where it works, the clear where it does not, and no second try of what failed.
func TestOpportunisticTLS(t *testing.T) {
	cert, _ := certificate(t, "somebody.else.example")
	tests := []struct {
		name    string
		server  *server
		tls     bool
		conns   int // for two runs
		letters int
	}{
		{name: "works, whatever the certificate", server: &server{cert: cert}, tls: true, conns: 2, letters: 2},
		{name: "not offered", server: &server{}, conns: 2, letters: 2},
		{name: "454", server: &server{cert: cert, answer: reply("STARTTLS", "454 4.7.0 not now")}, conns: 2, letters: 2},
		{name: "502", server: &server{cert: cert, answer: reply("STARTTLS", "502 what")}, conns: 2, letters: 2},
		{name: "handshake fails", server: &server{cert: &tls.Certificate{}}, conns: 3, letters: 2},
	}
	for _, tt := range tests {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			r.site("remote.example", "192.0.2.1", tt.server)
			receipt := r.queue(post{}, "bob@remote.example")
			r.start()
			time.Sleep(idleTime + time.Second)
			synctest.Wait()
			r.queue(post{}, "bob@remote.example")
			time.Sleep(time.Second)
			synctest.Wait()
			r.stop()
			l := tt.server.taken()
			if len(l) != tt.letters || l[0].tls != tt.tls || tt.server.connections() != tt.conns {
				t.Fatalf("%s: letters %+v over %d connections\n%s", tt.name, l, tt.server.connections(), r.logged)
			}
			if trail := strings.Join(r.trail(receipt.Message), "\n"); strings.Contains(trail, "[192.0.2.1] TLS 1.3: 250") != tt.tls {
				t.Errorf("%s: trail %s", tt.name, trail)
			}
		})
	}
}

// TestStartTLSInjection: what a peer sends in the clear behind its 220 never counts as said under TLS (RFC 3207 §5).
func TestStartTLSInjection(t *testing.T) {
	cert, _ := certificate(t, "mx.remote.example")
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		s := r.site("remote.example", "192.0.2.1", &server{cert: cert, answer: reply("STARTTLS", "220 go\n250 you are through")})
		r.queue(post{}, "bob@remote.example")
		r.runFor(time.Second)
		if j := r.jobs(); len(j) != 1 || !strings.Contains(j[0].LastText, "talked out of turn") || s.served("MAIL") != 0 {
			t.Errorf("jobs %+v, commands %q", j, s.commands())
		}
	})
}

// reply answers one command.
func reply(command, with string) func(string) string {
	return func(c string) string {
		if strings.HasPrefix(c, command) {
			return with
		}
		return ""
	}
}

type smarthostCase struct {
	name   string
	smart  Smarthost
	server *server
	words  string // of a job that waits
	user   string
	tls    bool
}

func smarthostCases(good, other *tls.Certificate) []smarthostCase {
	secret := func() (string, error) { return "secret", nil }
	return []smarthostCase{
		{name: "plain", smart: Smarthost{}, server: &server{}},
		{name: "opportunistic", smart: Smarthost{}, server: &server{cert: other}, tls: true},
		{name: "none", smart: Smarthost{TLS: TLSNone}, server: &server{cert: good}},
		{name: "required", smart: Smarthost{TLS: TLSRequired}, server: &server{cert: other}, tls: true},
		{name: "required, not offered", smart: Smarthost{TLS: TLSRequired}, server: &server{}, words: "offers no STARTTLS"},
		{name: "required, refused", smart: Smarthost{TLS: TLSRequired}, server: &server{cert: good, answer: reply("STARTTLS", "454 no")}, words: "454 no"},
		{name: "required, broken", smart: Smarthost{TLS: TLSRequired}, server: &server{cert: &tls.Certificate{}}, words: "TLS handshake failed"},
		{name: "verify", smart: Smarthost{TLS: TLSVerify}, server: &server{cert: good}, tls: true},
		{name: "verify, wrong name", smart: Smarthost{TLS: TLSVerify}, server: &server{cert: other}, words: "the certificate is for another name"},
		{name: "implicit", smart: Smarthost{TLS: TLSImplicit}, server: &server{cert: good, implicit: true}, tls: true},
		{name: "implicit, wrong name", smart: Smarthost{TLS: TLSImplicit}, server: &server{cert: other, implicit: true}, words: "the certificate is for another name"},
		{name: "AUTH PLAIN", smart: Smarthost{User: "u", Password: secret}, server: &server{cert: good, user: "u"}, tls: true, user: "u"},
		{
			name: "AUTH LOGIN", smart: Smarthost{User: "u", Password: secret}, tls: true, user: "u",
			server: &server{cert: good, user: "u", caps: []string{"8BITMIME", "auth login"}, answer: loginOnly},
		},
		{name: "AUTH verifies", smart: Smarthost{User: "u", Password: secret}, server: &server{cert: other, user: "u"}, words: "the certificate is for another name"},
		{
			name: "wrong password", smart: Smarthost{User: "u", Password: func() (string, error) { return "hunter2", nil }},
			server: &server{cert: good, user: "u"}, words: "535 5.7.8 no",
		},
		{name: "no AUTH", smart: Smarthost{User: "u", Password: secret}, server: &server{cert: good}, words: "neither AUTH PLAIN nor AUTH LOGIN"},
		{
			name: "password unreadable", smart: Smarthost{User: "u", Password: func() (string, error) { return "", errTest }},
			server: &server{cert: good, user: "u"}, words: "password of the smarthost cannot be read",
		},
		{
			name: "never in the clear", smart: Smarthost{User: "u", Password: secret, TLS: TLSOpportunistic},
			server: &server{user: "u"}, words: "not sent without TLS",
		},
		{
			name: "in the clear where it is named", smart: Smarthost{User: "u", Password: secret, TLS: TLSNone, Addr: "10.7.7.7:587"},
			server: &server{user: "u"}, user: "u",
		},
		{
			name: "in the clear elsewhere", smart: Smarthost{User: "u", Password: secret, TLS: TLSNone},
			server: &server{user: "u"}, words: "not sent without TLS",
		},
		{name: "by name", smart: Smarthost{Addr: "localhost:25"}, server: &server{}},
		{name: "unknown name", smart: Smarthost{Addr: "gone.example:25"}, server: &server{}, words: "gone.example has no address"},
		{name: "closed to us", smart: Smarthost{}, server: &server{greeting: "554 5.7.1 go away"}, words: "554 5.7.1 go away"},
		{name: "ourselves", smart: Smarthost{Addr: "203.0.113.9:25"}, server: &server{}, words: "this server itself"},
	}
}

// TestSmarthost: modes of TLS, credentials, and that mail waits for the operator where they are wrong.
func TestSmarthost(t *testing.T) {
	good, pool := certificate(t, "smart.example")
	other, _ := certificate(t, "other.example")
	for _, tt := range smarthostCases(good, other) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			r.opts.TLS = &tls.Config{RootCAs: pool}
			r.opts.AllowNetworks = []netip.Prefix{mustPrefix("10.7.0.0/16")}
			r.opts.Own = func(ap netip.AddrPort) bool { return ap.Addr() == netip.MustParseAddr("203.0.113.9") }
			if tt.smart.Addr == "" {
				tt.smart.Addr = "smart.example:587"
			}
			r.opts.Smarthost = &tt.smart
			r.dns.host("smart.example", "192.168.3.3")
			for _, a := range []string{"192.168.3.3:587", "127.0.0.1:25", "10.7.7.7:587", "203.0.113.9:25"} {
				r.net.listen(a, tt.server.serve)
			}
			r.queue(post{}, "bob@one.example", "carol@two.example")
			r.queue(post{}, "dave@three.example")
			r.runFor(2 * time.Second)
			l, jobs := tt.server.taken(), r.jobs()
			if strings.Contains(r.logged.String(), "hunter2") || strings.Contains(r.logged.String(), "secret") || strings.Contains(r.logged.String(), encode("\x00u\x00secret")) {
				t.Errorf("%s: the password is logged", tt.name)
			}
			if tt.words != "" {
				if len(l) != 0 || len(jobs) != 3 || !strings.Contains(jobs[0].LastText, tt.words) || len(r.mail()) != 0 {
					t.Errorf("%s: letters %+v, jobs %+v\n%s", tt.name, l, jobs, r.logged)
				}
				return
			}
			if len(l) != 2 || len(l[0].to)+len(l[1].to) != 3 || l[0].user != tt.user || l[0].tls != tt.tls || len(jobs) != 0 || tt.server.connections() != 1 {
				t.Errorf("%s: letters %+v over %d connections, jobs %+v\n%s", tt.name, l, tt.server.connections(), jobs, r.logged)
			}
		})
	}
}

// loginOnly takes PLAIN away.
func loginOnly(c string) string {
	if strings.HasPrefix(c, "EHLO") {
		return "250-peer\n250-STARTTLS\n250 auth login"
	}
	return ""
}

func TestSmarthostIsChecked(t *testing.T) {
	for _, s := range []Smarthost{
		{Addr: "smart.example"}, {Addr: "smart.example:0"}, {Addr: "smart.example:smtp"}, {Addr: "smart.example:65536"}, {Addr: ":25"},
		{Addr: "smart.example:25", TLS: "always"}, {Addr: "smart.example:25", User: "u"},
	} {
		if _, err := New(Options{Smarthost: &s}); err == nil {
			t.Errorf("%+v is taken", s)
		}
	}
}

// TestTLSRequiredStaysSo: a handshake that fails is never followed by the clear where TLS is required.
func TestTLSRequiredStaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		s := &server{cert: &tls.Certificate{}}
		r.opts.Smarthost = &Smarthost{Addr: "192.168.3.3:25", TLS: TLSRequired}
		r.net.listen("192.168.3.3:25", s.serve)
		r.queue(post{}, "bob@one.example")
		r.runFor(time.Hour)
		if s.served("MAIL") != 0 || len(r.jobs()) != 1 {
			t.Errorf("commands %q", s.commands())
		}
	})
}
