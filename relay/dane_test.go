package relay

import (
	"crypto/tls"
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"latchkey/internal/resolver"
	"latchkey/internal/resolver/resolvertest"
)

// TestDANE is RFC 7672 as a table, over real TLS and a real resolver. wait means that nothing was sent and the job says why.
func TestDANE(t *testing.T) {
	const name, wait = "mx.remote.example", "deferred: "
	publish := func(l *tlsLab, records ...string) { l.names.Set("_25._tcp."+name, "TLSA", records...) }
	old := func(c *x509.Certificate) { c.NotAfter = time.Now().AddDate(0, 0, -1) }
	for _, tt := range []struct {
		name string
		set  func(l *tlsLab) *server
		want string
	}{
		{"the host's own key", func(l *tlsLab) *server {
			cert, _ := certificate(l.t, "whoever.example")
			publish(l, tlsa(3, leaf(l.t, cert)))
			return l.usual(cert)
		}, "delivered: mx.remote.example [192.0.2.1] TLS 1.3 (DANE): 250"},
		{"own key of an expired certificate", func(l *tlsLab) *server {
			cert := l.root.issue(old, name)
			publish(l, tlsa(3, cert.Leaf))
			return l.usual(cert)
		}, "delivered: mx.remote.example [192.0.2.1] TLS 1.3 (DANE): 250"},
		{"another key", func(l *tlsLab) *server {
			publish(l, tlsa(3, l.root.issue(nil, name).Leaf))
			return l.usual(l.root.issue(nil, name))
		}, wait + "mx.remote.example [192.0.2.1]: TLS handshake failed: the certificate is none of those that the domain publishes in the DNS; " +
			"remote.example requires it (DANE), so nothing is sent"},
		{"rollover: the record of the old key still stands", func(l *tlsLab) *server {
			cert := l.root.issue(nil, name)
			publish(l, tlsa(3, l.root.issue(nil, name).Leaf), tlsa(3, cert.Leaf))
			return l.usual(cert)
		}, "delivered: mx.remote.example [192.0.2.1] TLS 1.3 (DANE): 250"},
		{"no STARTTLS", func(l *tlsLab) *server {
			publish(l, tlsa(3, l.root.cert))
			return l.usual(nil)
		}, wait + "mx.remote.example [192.0.2.1]: the host offers no STARTTLS; remote.example requires it (DANE)"},
		{"STARTTLS refused", func(l *tlsLab) *server {
			publish(l, tlsa(3, l.root.cert))
			s := l.usual(l.root.issue(nil, name))
			s.answer = reply("STARTTLS", "454 4.7.0 not now")
			return s
		}, wait + "mx.remote.example [192.0.2.1]: 454 4.7.0 not now"},
		{"a handshake that breaks", func(l *tlsLab) *server {
			publish(l, tlsa(3, l.root.cert))
			return l.usual(&tls.Certificate{})
		}, wait + "mx.remote.example [192.0.2.1]: TLS handshake failed: connection failed; remote.example requires it (DANE), so nothing is sent"},
		{"an authority, for the host's name", func(l *tlsLab) *server {
			publish(l, tlsa(2, l.root.cert))
			return l.usual(l.root.issue(nil, name))
		}, "delivered: mx.remote.example [192.0.2.1] TLS 1.3 (DANE): 250"},
		{"an authority, for the domain's name", func(l *tlsLab) *server {
			publish(l, tlsa(2, l.root.cert))
			return l.usual(l.root.issue(nil, "remote.example"))
		}, "delivered: mx.remote.example [192.0.2.1] TLS 1.3 (DANE): 250"},
		{"an authority, for another name", func(l *tlsLab) *server {
			publish(l, tlsa(2, l.root.cert))
			return l.usual(l.root.issue(nil, "other.example"))
		}, wait + "mx.remote.example [192.0.2.1]: TLS handshake failed: the certificate is for another name; " +
			"remote.example requires it (DANE), so nothing is sent"},
		{"an authority, and an expired certificate", func(l *tlsLab) *server {
			publish(l, tlsa(2, l.root.cert))
			return l.usual(l.root.issue(old, name))
		}, wait + "mx.remote.example [192.0.2.1]: TLS handshake failed: the certificate has expired or is not valid yet; " +
			"remote.example requires it (DANE), so nothing is sent"},
		{"no usable record: any certificate", func(l *tlsLab) *server {
			publish(l, tlsa(1, l.root.cert), tlsa(0, l.root.cert))
			return l.usual(l.root.issue(old, "other.example"))
		}, "delivered: mx.remote.example [192.0.2.1] TLS 1.3: 250"},
		{"no usable record: but not in the clear", func(l *tlsLab) *server {
			publish(l, tlsa(1, l.root.cert))
			return l.usual(nil)
		}, wait + "mx.remote.example [192.0.2.1]: the host offers no STARTTLS; remote.example requires it (DANE)"},
		{"MX not signed", func(l *tlsLab) *server {
			publish(l, tlsa(3, l.root.cert))
			s := l.usual(l.root.issue(nil, "other.example"))
			l.names.Sign("remote.example", false)
			l.names.Sign(name, true)
			l.names.Sign("_25._tcp."+name, true)
			return s
		}, "delivered: mx.remote.example [192.0.2.1] TLS 1.3: 250"},
		{"MX bogus", func(l *tlsLab) *server {
			l.names.Behave("remote.example", "MX", resolvertest.ServFail)
			return l.usual(nil)
		}, wait + "the name servers could not answer the MX lookup for remote.example"},
		{"address bogus", func(l *tlsLab) *server {
			l.names.Behave(name, "", resolvertest.ServFail)
			return l.usual(nil)
		}, wait + "the name servers could not answer the A lookup for mx.remote.example"},
		{"record bogus", func(l *tlsLab) *server {
			l.names.Behave("_25._tcp."+name, "TLSA", resolvertest.ServFail)
			return l.usual(l.root.issue(nil, name))
		}, wait + "mx.remote.example: the name servers could not answer the TLSA lookup for _25._tcp.mx.remote.example"},
		{"records say that there is none", func(l *tlsLab) *server { return l.usual(nil) }, "delivered: mx.remote.example [192.0.2.1]: 250"},
		{"a name server that nobody trusts", func(l *tlsLab) *server {
			l.trust = resolver.TrustNobody
			publish(l, tlsa(3, l.root.cert))
			return l.usual(nil)
		}, "delivered: mx.remote.example [192.0.2.1]: 250"},
		{"the second exchanger is the right one", func(l *tlsLab) *server {
			cert := l.root.issue(nil, "mx2.remote.example")
			publish(l, tlsa(3, cert.Leaf))
			first := l.usual(l.root.issue(nil, name))
			l.names.Set("remote.example", "MX", "10 mx.remote.example.", "20 mx2.remote.example.")
			l.names.Set("_25._tcp.mx2.remote.example", "TLSA", tlsa(3, cert.Leaf))
			l.host("mx2.remote.example", 2, &server{cert: cert})
			return first
		}, "delivered: mx2.remote.example [192.0.2.2] TLS 1.3 (DANE): 250"},
		{"the records of the second exchanger are not bogus", func(l *tlsLab) *server {
			cert := l.root.issue(nil, "mx2.remote.example")
			first := l.usual(l.root.issue(nil, name))
			l.names.Behave("_25._tcp."+name, "TLSA", resolvertest.ServFail)
			l.names.Set("remote.example", "MX", "10 mx.remote.example.", "20 mx2.remote.example.")
			l.names.Set("_25._tcp.mx2.remote.example", "TLSA", tlsa(3, cert.Leaf))
			l.host("mx2.remote.example", 2, &server{cert: cert})
			return first
		}, "delivered: mx2.remote.example [192.0.2.2] TLS 1.3 (DANE): 250"},
		{"no MX at all", func(l *tlsLab) *server {
			cert := l.root.issue(nil, name)
			l.names.Sign("example", true)
			l.names.Set("_25._tcp.remote.example", "TLSA", tlsa(3, cert.Leaf))
			return l.host("remote.example", 1, &server{cert: cert})
		}, "delivered: remote.example [192.0.2.1] TLS 1.3 (DANE): 250"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newTLSLab(t)
			s := tt.set(l)
			got := l.deliver(post{})
			if !strings.HasPrefix(got, tt.want) {
				t.Errorf("got  %s\nwant %s\n%s", got, tt.want, l.logged)
			}
			if waits := strings.HasPrefix(tt.want, wait); waits && (len(s.taken()) != 0 || s.served("MAIL") != 0 || len(l.jobs()) != 1) {
				t.Errorf("the host has %+v, %d jobs wait", s.taken(), len(l.jobs()))
			}
			for _, sni := range s.askedFor() {
				if strings.Contains(tt.want, "(DANE)") && sni != "mx.remote.example" && sni != "remote.example" {
					t.Errorf("asked for %s", sni)
				}
			}
		})
	}
}

// TestDANEAlias: records at the end of an alias count, and the handshake asks for that name (RFC 7672 §2.2.3, §8.1).
func TestDANEAlias(t *testing.T) {
	l := newTLSLab(t)
	cert := l.root.issue(nil, "real.hoster.example")
	s := l.usual(cert)
	l.names.Remove("mx.remote.example")
	l.names.Set("mx.remote.example", "CNAME", "real.hoster.example.")
	l.names.Set("real.hoster.example", "A", "192.0.2.1")
	l.names.Set("_25._tcp.real.hoster.example", "TLSA", tlsa(2, l.root.cert))
	if got := l.deliver(post{}); !strings.HasPrefix(got, "delivered: mx.remote.example [192.0.2.1] TLS 1.3 (DANE): 250") {
		t.Errorf("got %s\n%s", got, l.logged)
	}
	if sni := s.askedFor(); len(sni) != 1 || sni[0] != "real.hoster.example" {
		t.Errorf("asked for %q", sni)
	}
}

// TestEnforcedFailureBounces: what a policy keeps back waits as everything does that is put off, and then comes back with the reason.
func TestEnforcedFailureBounces(t *testing.T) {
	l := newTLSLab(t)
	s := l.usual(l.root.issue(nil, "mx.remote.example"))
	l.names.Set("_25._tcp.mx.remote.example", "TLSA", tlsa(3, l.root.cert))
	if got := l.deliver(post{}); !strings.HasPrefix(got, "deferred: ") {
		t.Fatal(got)
	}
	l.pass(GiveUpAge)
	l.deliver(post{}) // the first one is due too
	mail := strings.Join(l.mail(), "\n")
	if !strings.Contains(mail, "none of those that the domain publishes in the DNS") || len(s.taken()) != 0 {
		t.Errorf("bounce %s", mail)
	}
}

func leaf(t *testing.T, c *tls.Certificate) *x509.Certificate {
	t.Helper()
	parsed, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}
