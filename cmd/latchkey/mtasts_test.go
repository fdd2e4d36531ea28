package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"latchkey/config"
	"latchkey/guard"
	"latchkey/internal/mtasts"
	"latchkey/internal/resolver/resolvertest"
	"latchkey/internal/zone"
	"latchkey/store/memstore"
	"latchkey/webmanager"
)

// TestPolicyIsServed: what others fetch is what dns announces, under the name and type that RFC 8461 §3.2 and §3.3 have; and dns --check sees it as
// they do.
func TestPolicyIsServed(t *testing.T) {
	dns := labDNS(t, "example.com")
	s := newTestServer(t, "example.com")
	s.config.TLS = config.TLS{Cert: filepath.Join(t.TempDir(), "c.pem"), Key: filepath.Join(t.TempDir(), "k.pem")}
	if err := guard.SelfSigned(s.config.TLS.Cert, s.config.TLS.Key, []string{"mta-sts.example.com"}); err != nil {
		t.Fatal(err)
	}
	s.config.Relay.Nameservers = []netip.AddrPort{dns.Addr()}
	s.config.Web = config.Web{Listen: []string{":0"}, STS: config.STSEnforce, STSDays: 30}
	s.start()
	_, port, _ := net.SplitHostPort(s.addr(pagesDoor))
	text, err := os.ReadFile(s.config.TLS.Cert)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	fetcher := mtasts.Fetcher{TLS: &tls.Config{RootCAs: roots}, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, "127.0.0.1:"+port)
	}}
	got, err := fetcher.Fetch(t.Context(), "example.com")
	want := *stsPolicy(s.config, "mail.example.com")
	if err != nil || !reflect.DeepEqual(got, want) || want.Mode != mtasts.Enforce || want.MaxAge.Hours() != 720 || !want.Matches("mail.example.com") {
		t.Errorf("fetched %+v, %v, want %+v", got, err, want)
	}
	for method, status := range map[string]int{http.MethodGet: 200, http.MethodHead: 200, http.MethodDelete: 405} {
		got, kind := s.askWeb(port, method)
		if got != status || status == 200 && kind != "text/plain" {
			t.Errorf("%s: %d, %q", method, got, kind)
		}
	}

	_, out, _ := s.latchkey("dns")
	for _, line := range []string{
		"\n_mta-sts.example.com. 3600 IN TXT \"" + want.Record() + "\"\n", "\nmta-sts.example.com. 3600 IN CNAME mail.example.com.\n",
		"\n; _25._tcp.mail.example.com. 3600 IN TLSA 3 1 1 " + keyDigest(s.config.TLS.Cert),
	} {
		if !strings.Contains(out, line) {
			t.Errorf("no %q in\n%s", line, out)
		}
	}
	if _, out, _ := s.latchkey("dns", "--dane"); !strings.Contains(out, "\n_25._tcp.mail.example.com. 3600 IN TLSA 3 1 1 ") {
		t.Errorf("with --dane:\n%s", out)
	}

	for name, rrtype := range map[string]string{"_mta-sts.example.com": "TXT", "mta-sts.example.com": "A"} {
		dns.Set(name, rrtype, map[string]string{"TXT": `"` + want.Record() + `"`, "A": "127.0.0.1"}[rrtype])
		dns.Behave(name, rrtype, resolvertest.Normal)
	}
	dns.Set("mta-sts.example.com", "AAAA")
	dns.Behave("mta-sts.example.com", "AAAA", resolvertest.Normal)
	var answer webmanager.DNSFindings
	s.do(http.MethodGet, "/v1/dns/check?dane=true", nil, &answer)
	found := false
	for _, f := range answer.Findings {
		if f.Type == "policy" { // it is on loopback, where nobody looks for policies
			found = f.State == zone.Wrong && strings.Contains(f.Text, "127.0.0.1 is")
		}
	}
	if !found {
		t.Errorf("the policy was not looked for as others do: %+v", answer.Findings)
	}
	if status, _, errs := s.latchkey("dns", "--check", "--dane=x"); status == 0 || errs == "" {
		t.Errorf("--dane=x: %d, %q", status, errs)
	}
	s.stop()
	s.config.Web.STS = config.STSOff
	s.start()
	_, port, _ = net.SplitHostPort(s.addr(pagesDoor))
	if status, _ := s.askWeb(port, http.MethodGet); status != 404 {
		t.Errorf("a policy that is off: %d", status)
	}
}

// askWeb asks for the policy, whatever the certificate, and returns the answer's status and media type.
func (s *testServer) askWeb(port, method string) (status int, kind string) {
	s.t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(s.t.Context(), method, "https://127.0.0.1:"+port+mtasts.Path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	answer, err := (&http.Client{Transport: transport}).Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	_, err = io.Copy(io.Discard, answer.Body)
	if err = errors.Join(err, answer.Body.Close()); err != nil {
		s.t.Fatal(err)
	}
	return answer.StatusCode, answer.Header.Get("Content-Type")
}

// TestPlaceKnowsTheWayOut: dns hears of the addresses from which mail leaves, and of the servers that send some of it.
func TestPlaceKnowsTheWayOut(t *testing.T) {
	c := config.Config{Relay: config.Relay{
		Sources: []config.Source{{Addr: netip.MustParseAddr("203.0.113.1"), Hostname: "out1.example.com"}, {Addr: netip.MustParseAddr("10.0.0.1")}},
		Routes:  []config.Route{{Domain: "a.example", Host: "smtp.a.example:25"}, {Domain: "b.example"}, {Domain: "c.example", Host: "smtp.a.example:25"}},
	}}
	p, err := placeOf(c, memstore.New("example.com"), "mail.example.com")(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if want := []zone.Source{{Addr: netip.MustParseAddr("203.0.113.1"), Hostname: "out1.example.com"}}; !reflect.DeepEqual(p.Sources, want) {
		t.Errorf("sources %v", p.Sources)
	}
	if !reflect.DeepEqual(p.Routes, []string{"smtp.a.example:25"}) || p.Policy != nil {
		t.Errorf("routes %v, policy %v", p.Routes, p.Policy)
	}
}
