package resolver

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"latchkey/internal/resolver/resolvertest"
)

// TestTLSA walks the table of RFC 7672 §2.2: what is secure, what is not, where aliases lead, and what is bogus.
func TestTLSA(t *testing.T) {
	record := "3 1 1 " + strings.Repeat("ab", 32)
	usual := func(s *resolvertest.Server) {
		s.Sign("example", true)
		s.Set("mx.remote.example", "A", "192.0.2.1")
		s.Set("_25._tcp.mx.remote.example", "TLSA", record)
	}
	aliased := func(s *resolvertest.Server) {
		s.Sign("example", true)
		s.Set("mx.remote.example", "CNAME", "real.hoster.example.")
		s.Set("real.hoster.example", "A", "192.0.2.1")
		s.Set("_25._tcp.real.hoster.example", "TLSA", record)
		s.Set("_25._tcp.mx.remote.example", "TLSA", "2 0 1 "+strings.Repeat("cd", 32))
	}
	tests := []struct {
		name  string
		zones []func(*resolvertest.Server)
		trust Trust
		want  string
	}{
		{"all is secure", zones(usual), TrustLoopback, "mx.remote.example: 3 1 1 ab"},
		{"all is secure, and the operator says so", zones(usual), TrustServers, "mx.remote.example: 3 1 1 ab"},
		{"nobody is trusted", zones(usual), TrustNobody, "none"},
		{"nothing is signed", zones(usual, func(s *resolvertest.Server) { s.Sign("example", false) }), TrustLoopback, "none"},
		{"the address is not signed", zones(usual, func(s *resolvertest.Server) {
			s.Sign("mx.remote.example", false)
			s.Sign("_25._tcp.mx.remote.example", true)
		}), TrustLoopback, "none"},
		{"the record is not signed", zones(usual, func(s *resolvertest.Server) { s.Sign("_25._tcp.mx.remote.example", false) }),
			TrustLoopback, "none"},
		{"there is no record", zones(usual, func(s *resolvertest.Server) { s.Remove("_25._tcp.mx.remote.example") }), TrustLoopback, "none"},
		{"the record is bogus", zones(usual, func(s *resolvertest.Server) {
			s.Behave("_25._tcp.mx.remote.example", "TLSA", resolvertest.ServFail)
		}), TrustLoopback, "temporary"},
		{"nobody answers about the record", zones(usual, func(s *resolvertest.Server) {
			s.Behave("_25._tcp.mx.remote.example", "TLSA", resolvertest.Refuse)
		}), TrustLoopback, "temporary"},
		{"of an unsigned host the record is not asked for", zones(usual, func(s *resolvertest.Server) {
			s.Sign("mx.remote.example", false)
			s.Behave("_25._tcp.mx.remote.example", "TLSA", resolvertest.ServFail)
		}), TrustLoopback, "none"},
		{"one family fails and the other is secure", zones(usual, func(s *resolvertest.Server) {
			s.Behave("mx.remote.example", "AAAA", resolvertest.ServFail)
		}), TrustLoopback, "mx.remote.example: 3 1 1 ab"},
		{"an alias: the records at its end", zones(aliased), TrustLoopback, "real.hoster.example: 3 1 1 ab"},
		{"an alias: no records at its end, but at its beginning", zones(aliased, func(s *resolvertest.Server) {
			s.Remove("_25._tcp.real.hoster.example")
		}), TrustLoopback, "mx.remote.example: 2 0 1 cd"},
		{"an alias: bogus records at its end", zones(aliased, func(s *resolvertest.Server) {
			s.Behave("_25._tcp.real.hoster.example", "TLSA", resolvertest.ServFail)
		}), TrustLoopback, "temporary"},
		{"an alias in pieces", zones(aliased, func(s *resolvertest.Server) {
			s.Behave("mx.remote.example", "A", resolvertest.OneAlias)
		}), TrustLoopback, "real.hoster.example: 3 1 1 ab"},
		{"an alias in pieces, out of what is signed", zones(aliased, func(s *resolvertest.Server) {
			s.Sign("hoster.example", false)
			s.Behave("mx.remote.example", "A", resolvertest.OneAlias)
		}), TrustLoopback, "mx.remote.example: 2 0 1 cd"},
		{"a signed alias to an unsigned host", zones(aliased, func(s *resolvertest.Server) { s.Sign("hoster.example", false) }),
			TrustLoopback, "mx.remote.example: 2 0 1 cd"},
		{"an unsigned alias to a signed host", zones(aliased, func(s *resolvertest.Server) {
			s.Sign("mx.remote.example", false)
			s.Sign("_25._tcp.mx.remote.example", true)
		}), TrustLoopback, "none"},
		{"an unsigned alias in pieces to a signed host", zones(aliased, func(s *resolvertest.Server) {
			s.Sign("mx.remote.example", false)
			s.Sign("_25._tcp.mx.remote.example", true)
			s.Behave("mx.remote.example", "A", resolvertest.OneAlias)
		}), TrustLoopback, "none"},
		{"an alias that cannot be asked for", zones(aliased, func(s *resolvertest.Server) {
			s.Sign("hoster.example", false)
			s.Behave("mx.remote.example", "CNAME", resolvertest.ServFail)
		}), TrustLoopback, "temporary"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := resolvertest.New(t)
			for _, zone := range tt.zones {
				zone(s)
			}
			r := newResolver(t, Options{Trust: tt.trust}, s)
			if _, err := r.Addrs(t.Context(), "mx.remote.example"); err != nil {
				t.Fatal(err)
			}
			set, err := r.TLSA(t.Context(), "mx.remote.example", 25)
			got := "none"
			switch {
			case errors.Is(err, ErrTemporary):
				got = "temporary"
			case err != nil:
				got = err.Error()
			case len(set.Records) > 0:
				one := set.Records[0]
				got = fmt.Sprintf("%s: %d %d %d %s", set.Base, one.Usage, one.Selector, one.Matching, hex.EncodeToString(one.Data)[:2])
			}
			if got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func zones(list ...func(*resolvertest.Server)) []func(*resolvertest.Server) { return list }

// TestTrusts: the AD bit of a server on loopback counts, that of another one only if the operator says so (RFC 7672 §2.1.3).
func TestTrusts(t *testing.T) {
	for _, tt := range []struct {
		server   string
		loopback bool
	}{{"127.0.0.1", true}, {"127.0.0.53", true}, {"::1", true}, {"::ffff:127.0.0.1", true}, {"192.0.2.53", false}, {"2001:db8::53", false}, {"10.0.0.1", false}} {
		a := netip.MustParseAddr(tt.server)
		for trust, want := range map[Trust]bool{TrustLoopback: tt.loopback, TrustServers: true, TrustNobody: false} {
			if got := (&Resolver{trust: trust}).trusts(a); got != want {
				t.Errorf("%s by %d: %t", tt.server, trust, got)
			}
		}
	}
}

// TestSecureMX: mail exchangers are secure if the answer that names them is, also the answer that there are none.
func TestSecureMX(t *testing.T) {
	s := resolvertest.New(t)
	s.Sign("signed.example", true)
	s.Set("signed.example", "MX", "10 mx.signed.example.")
	s.Set("bare.signed.example", "A", "192.0.2.1")
	s.Set("plain.example", "MX", "10 mx.signed.example.")
	s.Set("alias.signed.example", "CNAME", "plain.example.")
	r := newResolver(t, Options{}, s)
	for domain, want := range map[string]bool{
		"signed.example": true, "bare.signed.example": true, "plain.example": false, "alias.signed.example": false,
	} {
		for range 2 { // asked for, and remembered
			mx, err := r.MX(t.Context(), domain)
			if err != nil || len(mx) != 1 || mx[0].Secure != want {
				t.Errorf("%s: got %+v, %v, want secure %t", domain, mx, err, want)
			}
		}
	}
}

// TestTXT: texts are put together, octets come as they are, and bounds hold.
func TestTXT(t *testing.T) {
	s := resolvertest.New(t)
	part := `"` + strings.Repeat("x", 255) + `" `
	s.Set("_mta-sts.example.org", "TXT", `"v=STSv1; " "id=1;"`, `"a\"b\\c\255"`)
	s.Set("long.example.org", "TXT", strings.Repeat(part, 16)+`"xxxxxxxxxxxxxxxx"`, strings.Repeat(part, 16)+`"xxxxxxxxxxxxxxxxx"`)
	s.Set("none.example.org", "A", "192.0.2.1")
	r := newResolver(t, Options{}, s)
	got, err := r.TXT(t.Context(), "_MTA-STS.example.org.")
	if want := "v=STSv1; id=1;|a\"b\\c\xff"; err != nil || strings.Join(got, "|") != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	got, err = r.TXT(t.Context(), "long.example.org")
	if err != nil || len(got) != 1 || len(got[0]) != MaxTXTOctets {
		t.Errorf("long ones: got %d, %v", len(got), err)
	}
	for _, name := range []string{"none.example.org", "nowhere.example", "[192.0.2.1]"} {
		if got, err := r.TXT(t.Context(), name); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
}

func newResolver(t *testing.T, o Options, s *resolvertest.Server) *Resolver {
	t.Helper()
	o.Servers = []netip.AddrPort{s.Addr()}
	r, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
