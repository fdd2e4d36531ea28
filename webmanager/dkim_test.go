package webmanager

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"latchkey/auth"
	"latchkey/internal/dkim"
	"latchkey/internal/zone"
	"latchkey/relay/signing"
)

// fakeDNS is records by name, a space and type.
type fakeDNS map[string][]string

func (d fakeDNS) Records(_ context.Context, name, rrtype string) ([]string, error) {
	if _, silent := d["!"]; silent {
		return nil, errors.New("no answer")
	}
	return d[strings.TrimSuffix(name, ".")+" "+rrtype], nil
}

// keyed gives a fixture keys, a clock and a DNS.
func keyed(t *testing.T) (f *fixture, dns fakeDNS, clock *time.Time) {
	t.Helper()
	f = newFixture(t)
	now, dns := noon, fakeDNS{}
	f.api.now = func() time.Time { return now }
	f.api.keys = signing.NewRing(f.store, auth.NewVault(f.store, "tests"), f.api.now)
	f.api.dns = dns
	f.api.where = func(context.Context) (zone.Place, error) {
		return zone.Place{Hostname: "mail." + domain, Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.7")}}, nil
	}
	return f, dns, &now
}

func (f *fixture) next(keys DKIMKeys) string {
	var list []string
	for _, k := range keys.Keys {
		list = append(list, k.Selector+" "+string(k.State)+": "+k.Next)
	}
	return strings.Join(list, "\n")
}

// TestDKIM: a rotation from the first key to the removal of the old one; each step is audited and says what comes next, and no answer has a
// private half.
func TestDKIM(t *testing.T) {
	f, dns, clock := keyed(t)
	var keys DKIMKeys
	step := func(method, path string, body any, want string) {
		t.Helper()
		f.do(method, path, body, &keys)
		if got := f.next(keys); !strings.Contains(got, want) {
			t.Errorf("%s %s: %s\nwant %s", method, path, got, want)
		}
	}
	publish := func() {
		for _, k := range keys.Keys {
			dns[k.Name+" TXT"] = []string{k.Record}
		}
	}
	refused := func(path string, body any, want Code) {
		t.Helper()
		if err := f.client.Do(t.Context(), http.MethodPost, path, body, nil); !isCode(err, want) {
			t.Errorf("%s: %v, want %s", path, err, want)
		}
	}
	one := NewDKIMKeys{Algorithms: []dkim.Algorithm{dkim.Ed25519}}
	step(http.MethodPost, "/v1/dkim", one, "new: publish its record; it signs once the record is seen")
	first := keys.Keys[0].Selector
	refused("/v1/dkim/"+first+"/activate", DKIMStep{}, CodeConflict)
	publish()
	step(http.MethodPost, "/v1/dkim/check", nil, first+" signing: in use")
	refused("/v1/dkim", one, CodeExists)
	*clock = clock.AddDate(1, 0, 0)
	one.Rotate = true
	step(http.MethodPost, "/v1/dkim", one, "new: publish its record")
	second := keys.Keys[0].Selector
	refused("/v1/dkim", one, CodeConflict)
	publish()
	step(http.MethodPost, "/v1/dkim/check", nil, second+" new: its record is seen; it takes the place of "+first+" after ")
	step(http.MethodPost, "/v1/dkim/"+second+"/activate", DKIMStep{}, first+" retired: signs no more; keep its record published until ")
	refused("/v1/dkim/"+first+"/remove", DKIMStep{}, CodeConflict)
	refused("/v1/dkim/nobody/remove", DKIMStep{}, CodeNotFound)
	*clock = clock.Add(signing.Overlap)
	step(http.MethodGet, "/v1/dkim", nil, first+" retired: remove its record from the DNS, then the key")
	step(http.MethodPost, "/v1/dkim/"+first+"/remove", DKIMStep{}, second+" signing")
	delete(dns, keys.Keys[0].Name+" TXT")
	step(http.MethodPost, "/v1/dkim/check", nil, second+" signing: its record is not as it should be (no key record)")
	if n := len(f.actions("dkim.add")) + len(f.actions("dkim.activate")) + len(f.actions("dkim.remove")); n != 5 {
		t.Errorf("%d steps in the audit log, want 5", n)
	}
	refused("/v1/dkim", NewDKIMKeys{Algorithms: []dkim.Algorithm{"dsa"}}, CodeInvalid)
	f.api.dns = nil
	refused("/v1/dkim/check", nil, CodeUnavailable)
}

// TestDNS: the records have the keys in them, a new one and an old one too; what is published is compared with them.
func TestDNS(t *testing.T) {
	f, dns, _ := keyed(t)
	var keys DKIMKeys
	f.do(http.MethodPost, "/v1/dkim", NewDKIMKeys{}, &keys)
	var records DNSRecords
	f.do(http.MethodGet, "/v1/dns", nil, &records)
	for _, r := range records.Records {
		if !r.Optional {
			dns[r.Name+" "+r.Type] = append(dns[r.Name+" "+r.Type], r.Data)
		}
	}
	for _, k := range keys.Keys {
		if !strings.Contains(records.Zone, k.Name+". 3600 IN TXT \"v=DKIM1;") {
			t.Errorf("%s is not in\n%s", k.Name, records.Zone)
		}
	}
	wrong := func() (list []string) {
		var found DNSFindings
		f.do(http.MethodGet, "/v1/dns/check", nil, &found)
		for _, one := range found.Findings {
			if one.State == zone.Wrong {
				list = append(list, one.Type+" "+one.Name)
			}
		}
		return list
	}
	if got := wrong(); len(got) != 2 || got[0] != "PTR 7.2.0.192.in-addr.arpa" || got[1] != "TXT _domainkey."+domain {
		t.Errorf("wrong: %q", got)
	}
	f.do(http.MethodPost, "/v1/dkim/check", nil, &keys)
	if got := wrong(); len(got) != 1 {
		t.Errorf("wrong once the keys sign: %q", got)
	}
	dns["!"] = nil
	if got := wrong(); len(got) != 0 {
		t.Errorf("wrong though nobody answers: %q", got)
	}
	f.api.dns = nil
	if err := f.client.Do(t.Context(), http.MethodGet, "/v1/dns/check", nil, nil); !isCode(err, CodeUnavailable) {
		t.Errorf("without a DNS: %v", err)
	}
}
