package relay

import (
	"crypto/tls"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/store"
)

// promising are the capabilities of a host that knows REQUIRETLS.
func promising() []string { return []string{"SIZE 10000000", "8BITMIME", "DSN", "REQUIRETLS"} }

// TestRequireTLS is RFC 8689 §4.2.1 as a table: which hosts a message may go to whose sender said REQUIRETLS.
func TestRequireTLS(t *testing.T) {
	const name = "mx.remote.example"
	const delivered = "delivered: mx.remote.example [192.0.2.1] TLS 1.3 "
	good := func(l *tlsLab) *server {
		s := l.usual(l.root.issue(nil, name))
		s.caps = promising()
		return s
	}
	for _, tt := range []struct {
		name string
		set  func(l *tlsLab) *server
		want string
	}{
		{"DANE", func(l *tlsLab) *server {
			s := good(l)
			l.names.Set("_25._tcp."+name, "TLSA", tlsa(3, s.cert.Leaf))
			return s
		}, delivered + "(DANE): 250"},
		{"MTA-STS", func(l *tlsLab) *server {
			s := good(l)
			l.names.Sign("example", false)
			l.publish("1", enforce)
			return s
		}, delivered + "(MTA-STS): 250"},
		{"MTA-STS, for testing", func(l *tlsLab) *server {
			s := good(l)
			l.names.Sign("example", false)
			l.publish("1", strings.Replace(enforce, "enforce", "testing", 1))
			return s
		}, delivered + "(MTA-STS): 250"},
		{"a signed MX and a public certificate", good, delivered + "(PKIX): 250"},
		{"a signed MX and a wrong certificate", func(l *tlsLab) *server {
			s := l.usual(l.root.issue(nil, "other.example"))
			s.caps = promising()
			return s
		}, "failed: mx.remote.example [192.0.2.1]: TLS handshake failed: the certificate is for another name; the sender requires it (REQUIRETLS), so nothing is sent"},
		{"an MX that nothing proves", func(l *tlsLab) *server {
			s := good(l)
			l.names.Sign("example", false)
			return s
		}, "failed: mx.remote.example: nothing proves that this host takes mail for remote.example (neither DNSSEC nor MTA-STS), " +
			"and the sender requires TLS all the way (REQUIRETLS)"},
		{"no TLS", func(l *tlsLab) *server {
			s := l.usual(nil)
			s.caps = promising()
			return s
		}, "failed: mx.remote.example [192.0.2.1]: the host offers no STARTTLS; the sender requires it (REQUIRETLS)"},
		{"no promise", func(l *tlsLab) *server { return l.usual(l.root.issue(nil, name)) },
			"failed: mx.remote.example [192.0.2.1]: the host does not promise to use TLS all the way (REQUIRETLS), which the sender requires"},
		{"the second host promises", func(l *tlsLab) *server {
			first := l.usual(l.root.issue(nil, name))
			l.names.Set("remote.example", "MX", "10 mx.remote.example.", "20 mx2.remote.example.")
			l.host("mx2.remote.example", 2, &server{cert: l.root.issue(nil, "mx2.remote.example"), caps: promising()})
			return first
		}, "delivered: mx2.remote.example [192.0.2.2] TLS 1.3 (PKIX): 250"},
		{"the host is away, after another was good", func(l *tlsLab) *server {
			s := good(l)
			l.names.Set("remote.example", "MX", "10 mx.remote.example.")
			s.answer = reply("EHLO", "421 4.3.2 away")
			return s
		}, "deferred: mx.remote.example [192.0.2.1]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newTLSLab(t)
			s := tt.set(l)
			if got := l.deliver(post{tls: store.TLSRequired}); !strings.HasPrefix(got, tt.want) {
				t.Errorf("got  %s\nwant %s\n%s", got, tt.want, l.logged)
			}
			if strings.HasPrefix(tt.want, delivered) {
				if m := s.taken(); len(m) != 1 || !strings.Contains(m[0].mail, " REQUIRETLS") {
					t.Errorf("the host has %+v", m)
				}
			} else if s.served("MAIL") != 0 {
				t.Errorf("the host heard of the message: %q", s.commands())
			}
		})
	}
}

// TestRequireTLSBounce: the sender is told at once, with the status of RFC 8689, the header alone whatever RET says, and the report is
// protected as the message was.
func TestRequireTLSBounce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		s := r.site("remote.example", "192.0.2.1", &server{})
		r.site("back.example", "192.0.2.2", &server{greeting: "421 4.3.2 later"})
		r.queue(post{tls: store.TLSRequired, ret: store.ReturnFull}, "bob@remote.example")
		r.queue(post{}, "carol@remote.example")
		r.runFor(time.Second)
		mail := r.mail()
		if len(mail) != 1 || !strings.Contains(mail[0], "Status: 5.7.10\r\n") || strings.Contains(mail[0], "A line.") {
			t.Fatalf("mail %q", mail)
		}
		if m := s.taken(); len(m) != 1 || !strings.Contains(m[0].to[0], "carol") {
			t.Errorf("the host has %+v", m)
		}
		// Of a sender elsewhere the report is a job.
		r.queue(post{from: "x@back.example", tls: store.TLSRequired}, "bob@remote.example")
		r.runFor(time.Second)
		if jobs := r.jobs(); len(jobs) != 1 || jobs[0].TLS != store.TLSRequired || !jobs[0].ReversePath.IsZero() {
			t.Errorf("jobs %+v", jobs)
		}
	})
}

// TestRequireTLSReport: a report goes to a host that promises nothing too, and says REQUIRETLS to one that does.
func TestRequireTLSReport(t *testing.T) {
	l := newTLSLab(t)
	s := l.usual(nil)
	if got := l.deliver(post{from: "-", tls: store.TLSRequired}); !strings.HasPrefix(got, "delivered: ") {
		t.Errorf("got %s", got)
	}
	s.cert, s.caps = l.root.issue(nil, "other.example"), promising()
	if got := l.deliver(post{from: "-", tls: store.TLSRequired}); !strings.HasPrefix(got, "delivered: ") {
		t.Errorf("got %s", got)
	}
	if m := s.taken(); len(m) != 2 || strings.Contains(m[0].mail, "REQUIRETLS") || !strings.Contains(m[1].mail, "REQUIRETLS") {
		t.Errorf("the host has %+v", m)
	}
}

// TestRequireTLSInTheClear: what a host says of REQUIRETLS before TLS means nothing.
func TestRequireTLSInTheClear(t *testing.T) {
	l := newTLSLab(t)
	s := l.usual(nil)
	s.caps = promising()
	if got := l.deliver(post{from: "-", tls: store.TLSRequired}); !strings.HasPrefix(got, "delivered: ") {
		t.Errorf("got %s", got)
	}
	if m := s.taken(); len(m) != 1 || strings.Contains(m[0].mail, "REQUIRETLS") {
		t.Errorf("the host has %+v", m)
	}
}

// TestRequireTLSSmarthost: a smarthost gets such a message over verified TLS only, whatever the operator's mode is, and only if it
// promises to go on so.
func TestRequireTLSSmarthost(t *testing.T) {
	good, pool := certificate(t, "smart.example")
	other, _ := certificate(t, "other.example")
	for _, tt := range []struct {
		name   string
		mode   TLSMode
		server *server
		status string // of the bounce; "" is delivered
	}{
		{"verified", TLSVerify, &server{cert: good, caps: promising()}, ""},
		{"implicit", TLSImplicit, &server{cert: good, caps: promising(), implicit: true}, ""},
		{"opportunistic, and good", TLSOpportunistic, &server{cert: good, caps: promising()}, ""},
		{"opportunistic, and another name", TLSOpportunistic, &server{cert: other, caps: promising()}, "5.7.10"},
		{"no promise", TLSVerify, &server{cert: good}, "5.7.30"},
		{"no TLS", TLSNone, &server{}, "5.7.10"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.opts.TLS = &tls.Config{RootCAs: pool}
				r.opts.Smarthost = &Smarthost{Addr: "smart.example:25", TLS: tt.mode}
				r.site("x.example", "192.0.2.1", tt.server)
				r.dns.host("smart.example", "192.0.2.1")
				r.queue(post{tls: store.TLSRequired}, "bob@remote.example")
				r.runFor(time.Second)
				mail := strings.Join(r.mail(), "\n")
				if tt.status == "" && (len(tt.server.taken()) != 1 || mail != "") ||
					tt.status != "" && (len(tt.server.taken()) != 0 || !strings.Contains(mail, "Status: "+tt.status+"\r\n")) {
					t.Errorf("the smarthost has %+v, mail %s\n%s", tt.server.taken(), mail, r.logged)
				}
			})
		})
	}
}

// TestTLSOptional: "TLS-Required: No" goes where a policy keeps everything else out, and the rest still waits (RFC 8689 §4.2.2).
func TestTLSOptional(t *testing.T) {
	for name, set := range map[string]func(l *tlsLab) *server{
		"MTA-STS, no STARTTLS": func(l *tlsLab) *server {
			s := l.usual(nil)
			l.publish("1", enforce)
			return s
		},
		"MTA-STS, another name": func(l *tlsLab) *server {
			s := l.usual(l.root.issue(nil, "other.example"))
			l.publish("1", enforce)
			return s
		},
		"MTA-STS, another exchanger": func(l *tlsLab) *server {
			s := l.usual(l.root.issue(nil, "mx.remote.example"))
			l.publish("1", "mode: enforce, mx: other.example, max_age: 86400")
			return s
		},
		"DANE, another key": func(l *tlsLab) *server {
			s := l.usual(l.root.issue(nil, "mx.remote.example"))
			l.names.Set("_25._tcp.mx.remote.example", "TLSA", tlsa(3, l.root.cert))
			return s
		},
		"DANE, broken TLS": func(l *tlsLab) *server {
			s := l.usual(&tls.Certificate{})
			l.names.Set("_25._tcp.mx.remote.example", "TLSA", tlsa(3, l.root.cert))
			return s
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newTLSLab(t)
			s := set(l)
			other := l.queue(post{received: l.clock()}, "carol@remote.example").Message
			if got := l.deliver(post{tls: store.TLSOptional}); !strings.HasPrefix(got, "delivered: ") {
				t.Errorf("got %s\n%s", got, l.logged)
			}
			if m := s.taken(); len(m) != 1 || len(m[0].to) != 1 || !strings.Contains(m[0].to[0], "bob") {
				t.Errorf("the host has %+v", m)
			}
			if jobs := l.jobs(); len(jobs) != 1 || jobs[0].Message != other {
				t.Errorf("jobs %+v", jobs)
			}
		})
	}
}

// TestTLSOptionalInBackoff: it does not wait for the end of a pause that a policy began; and where the policy is kept, so is it for such mail.
func TestTLSOptionalInBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		s := r.site("remote.example", "192.0.2.1", &server{})
		r.dns.set(func() { r.dns.fails["_25._tcp.mx.remote.example"] = errTest })
		r.dns.set(func() { r.dns.mx["remote.example"][0].Secure = true })
		r.queue(post{}, "carol@remote.example")
		r.start()
		time.Sleep(time.Second)
		r.queue(post{tls: store.TLSOptional}, "bob@remote.example")
		time.Sleep(time.Second)
		synctest.Wait()
		late := r.queue(post{}, "dave@remote.example").Jobs[0] // the pause goes on for the others
		time.Sleep(time.Second)
		synctest.Wait()
		r.stop()
		if j, err := r.store.Job(t.Context(), late); err != nil || j.Attempts != 0 {
			t.Errorf("job %+v, %v: want no attempt of its own", j, err)
		}
		if m := s.taken(); len(m) != 1 || !strings.Contains(m[0].to[0], "bob") || len(r.jobs()) != 2 {
			t.Errorf("the host has %+v, %d jobs wait\n%s", m, len(r.jobs()), r.logged)
		}
	})
	l := newTLSLab(t)
	s := l.usual(nil)
	s.cert = l.root.issue(nil, "mx.remote.example")
	l.publish("1", enforce)
	if got := l.deliver(post{tls: store.TLSOptional}); !strings.Contains(got, "(MTA-STS)") {
		t.Errorf("got %s", got)
	}
}
