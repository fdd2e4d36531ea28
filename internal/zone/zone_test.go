package zone

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"latchkey/internal/dkim"
	"latchkey/internal/mtasts"
	"latchkey/internal/resolver"
	"latchkey/internal/resolver/resolvertest"
)

// published is a DNS: records by name, a space and type. A type of "!" means that nobody answers.
type published map[string][]string

func (p published) Records(_ context.Context, name, rrtype string) ([]string, error) {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if _, silent := p[name+" !"]; silent {
		return nil, errors.New("no answer")
	}
	return p[name+" "+rrtype], nil
}

// keyRecords are a key record of each algorithm.
var keyRecords = sync.OnceValue(func() map[dkim.Algorithm]string {
	records := map[dkim.Algorithm]string{}
	for _, a := range []dkim.Algorithm{dkim.RSA, dkim.Ed25519} {
		private, err := dkim.Generate(a)
		if err != nil {
			panic(err)
		}
		if records[a], err = dkim.RecordOf(private.Public()); err != nil {
			panic(err)
		}
	}
	return records
})

func usualPlace() Place {
	return Place{
		Domain: "example.com", Hostname: "mail.example.com",
		Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::7")},
		Ports:     Ports{POP3: 110, POP3S: 995, Submission: 587, Submissions: 465},
		Keys: []Key{
			{Selector: "r1", Record: keyRecords()[dkim.RSA], Signs: true}, {Selector: "e1", Record: keyRecords()[dkim.Ed25519], Signs: true},
		},
		KeyDigest: strings.Repeat("ab", 32),
	}
}

// sound is a DNS that has all that a place wants.
func sound(p Place) published {
	dns := published{}
	for _, r := range Wanted(p) {
		if !r.Optional {
			dns[r.Name+" "+r.Type] = append(dns[r.Name+" "+r.Type], r.Data)
		}
	}
	for _, a := range p.Addresses {
		dns[strings.TrimSuffix(resolver.ReverseName(a), ".")+" PTR"] = []string{p.Hostname + "."}
	}
	return dns
}

// serves is the policy that a DNS of a test has under "policy": a text, or what is in its way.
func serves(p published) FetchPolicy {
	return func(_ context.Context, domain string) (mtasts.Policy, error) {
		text := strings.Join(p["policy"], "")
		switch {
		case domain != "example.com", text == "":
			return mtasts.Policy{}, mtasts.ErrFetch
		case text == "another name":
			return mtasts.Policy{}, mtasts.ErrCertificate
		}
		return mtasts.Parse(text)
	}
}

// servesPolicy makes a place serve a policy of a mode, and publishes it.
func servesPolicy(p *Place, d published, mode mtasts.Mode) {
	p.Policy = &mtasts.Policy{Mode: mode, MX: []string{p.Hostname}, MaxAge: 24 * time.Hour}
	d["policy"], d["_mta-sts.example.com TXT"] = []string{p.Policy.Text()}, []string{p.Policy.Record()}
	d["mta-sts.example.com A"], d["_smtp._tls.example.com TXT"] = []string{"192.0.2.7"}, []string{"v=TLSRPTv1; rua=mailto:x@example.com"}
}

// worst are the findings that are not ok, as "state type name: text | cure".
func worst(list []Finding) []string {
	var lines []string
	for _, f := range list {
		if f.State != OK && (f.State != Note || f.Text != "not published; mail arrives without it") {
			lines = append(lines, fmt.Sprintf("%s %s %s: %s | %s", f.State, f.Type, f.Name, f.Text, f.Cure))
		}
	}
	return lines
}

// withSources has mail leave from two addresses of their own, one of them by a name of its own, as it should be.
func withSources(p *Place, d published) {
	p.Sources = []Source{{netip.MustParseAddr("192.0.2.21"), "out1.example.com"}, {netip.MustParseAddr("192.0.2.22"), ""}}
	clear(d)
	for name, list := range sound(*p) {
		d[name] = list
	}
	d["mail.example.com A"] = append(d["mail.example.com A"], "192.0.2.22")
	for _, s := range p.senders() {
		d[strings.TrimSuffix(resolver.ReverseName(s.Addr), ".")+" PTR"] = []string{s.Hostname + "."}
	}
}

// TestSound: what Wanted wants is what Check is content with.
func TestSound(t *testing.T) {
	p := usualPlace()
	if lines := worst(Check(t.Context(), p, sound(p), nil)); len(lines) > 0 {
		t.Errorf("found:\n%s", strings.Join(lines, "\n"))
	}
}

// TestFindings: each mistake is found, in the record where it is, and its cure is said; everything else stays ok.
func TestFindings(t *testing.T) {
	const v4 = "7.2.0.192.in-addr.arpa"
	long := func(p Place) string { return p.Keys[0].Record }
	for _, tt := range []struct {
		name  string
		spoil func(p *Place, dns published)
		want  []string // the beginnings of the lines, or parts of them behind "..."
	}{
		{"no MX", func(_ *Place, d published) { delete(d, "example.com MX") }, []string{
			"wrong MX example.com: there is none...publish: example.com. MX 10 mail.example.com.",
		}},
		{"null MX", func(_ *Place, d published) { d["example.com MX"] = []string{"0 ."} }, []string{
			"wrong MX example.com: the domain says that it takes no mail",
		}},
		{"MX elsewhere", func(_ *Place, d published) {
			d["example.com MX"], d["mx.other.example A"] = []string{"10 mx.other.example."}, []string{"203.0.113.1"}
		}, []string{"wrong MX example.com: mail for the domain goes to mx.other.example, which is not this server"}},
		{"MX elsewhere too", func(_ *Place, d published) {
			d["example.com MX"] = append(d["example.com MX"], "20 mx.other.example.")
			d["mx.other.example A"] = []string{"203.0.113.1"}
		}, []string{"note MX example.com: mail may also go to mx.other.example"}},
		{"MX by another name", func(_ *Place, d published) {
			d["example.com MX"], d["mx.example.com A"] = []string{"10 mx.example.com."}, []string{"192.0.2.7"}
		}, nil},
		{"MX is an alias", func(_ *Place, d published) {
			d["example.com MX"], d["mx.example.com CNAME"] = []string{"10 mx.example.com."}, []string{"mail.example.com."}
			d["mx.example.com A"] = []string{"192.0.2.7"}
		}, []string{"wrong CNAME mx.example.com: a mail exchanger must not be an alias (RFC 2181 §10.3) | let the MX record name mail.example.com itself"}},
		{"MX without address", func(_ *Place, d published) { d["example.com MX"] = append(d["example.com MX"], "20 gone.example.com.") }, []string{
			"note MX example.com: mail may also go to gone.example.com", "wrong A gone.example.com: the mail exchanger has no address",
		}},
		{"server is an alias", func(_ *Place, d published) { d["mail.example.com CNAME"] = []string{"host.example.net."} }, []string{
			"wrong CNAME mail.example.com: the server's name is an alias",
		}},
		{"address missing", func(_ *Place, d published) { delete(d, "mail.example.com A") }, []string{
			"wrong A mail.example.com: the address 192.0.2.7 of this server is not there... | publish: mail.example.com. A 192.0.2.7",
			"wrong TXT mail.example.com: it leaves out 192.0.2.7, from which this server sends...forged (fail) | put ip4:192.0.2.7 into the record",
		}},
		{"no PTR", func(_ *Place, d published) { delete(d, v4+" PTR") }, []string{"wrong PTR " + v4 + ": the address has no name"}},
		{"PTR of the provider", func(_ *Place, d published) { d[v4+" PTR"] = []string{"host7.provider.example."} }, []string{
			"wrong PTR " + v4 + ": the address is called host7.provider.example, but the server introduces itself as mail.example.com",
		}},
		{"no SPF", func(_ *Place, d published) { delete(d, "example.com TXT") }, []string{
			`wrong TXT example.com: there is no SPF record... | publish: example.com. TXT "v=spf1 mx ip4:192.0.2.7 ip6:2001:db8::7 -all"`,
		}},
		{"two SPF records", func(_ *Place, d published) {
			d["example.com TXT"] = []string{"v=spf1 mx -all", "other", "v=spf1 a -all"}
		}, []string{
			"wrong TXT example.com: there are 2 SPF records, so that none counts",
		}},
		{"SPF leaves one out", func(_ *Place, d published) { d["example.com TXT"] = []string{"v=spf1 ip4:192.0.2.0/24 ~all"} }, []string{
			"wrong TXT example.com: it leaves out 2001:db8::7, from which this server sends...forged (softfail) | put ip6:2001:db8::7 into the record, before its last word",
		}},
		{"SPF lets all", func(_ *Place, d published) { d["example.com TXT"] = []string{"v=spf1 +all"} }, []string{
			"wrong TXT example.com: it lets every address in the world",
		}},
		{"SPF misspelt", func(_ *Place, d published) { d["example.com TXT"] = []string{"v=spf1 ipv4:192.0.2.7 -all"} }, []string{
			"wrong TXT example.com: the record is in error, so that it does not count: it has a word that SPF does not know",
		}},
		{"SPF of many lookups", func(_ *Place, d published) {
			d["example.com TXT"] = []string{"v=spf1" + strings.Repeat(" a:x.example.com", 11) + " -all"}
			d["x.example.com A"], d["x.example.com AAAA"] = []string{"203.0.113.1"}, []string{"2001:db8::1"}
		}, []string{"wrong TXT example.com: the record is in error, so that it does not count: it takes more than 10 lookups"}},
		{"SPF with a silent name", func(_ *Place, d published) {
			d["example.com TXT"], d["x.example.com !"] = []string{"v=spf1 include:x.example.com -all"}, nil
		}, []string{"unknown TXT example.com: a name in it could not be looked up"}},
		{"no SPF of bounces", func(_ *Place, d published) { delete(d, "mail.example.com TXT") }, []string{
			"note TXT mail.example.com: there is none for the server's own name",
		}},
		{"no keys", func(p *Place, _ published) { p.Keys = nil }, []string{
			"wrong TXT _domainkey.example.com: there are no keys, so that mail leaves unsigned | make DKIM keys",
			"note TXT _dmarc.example.com: mail passes by SPF alone",
		}},
		{"a key not published", func(p *Place, d published) { delete(d, "r1._domainkey.example.com TXT") }, []string{
			"wrong TXT r1._domainkey.example.com: mail is signed with this key, and nobody can verify it | publish: r1._domainkey.example.com. TXT \"v=DKIM1;",
		}},
		{"a key cut off", func(p *Place, d published) { d["r1._domainkey.example.com TXT"] = []string{long(*p)[:255]} }, []string{
			"wrong TXT r1._domainkey.example.com: the key in the record is cut off: what is there has 255 octets",
		}},
		{"another key", func(_ *Place, d published) { d["r1._domainkey.example.com TXT"] = []string{"v=DKIM1; k=rsa; p=AAAA"} }, []string{
			"wrong TXT r1._domainkey.example.com: the record has another key",
		}},
		{"a revoked key", func(_ *Place, d published) { d["e1._domainkey.example.com TXT"] = []string{"v=DKIM1; p="} }, []string{
			"wrong TXT e1._domainkey.example.com: the record says that the key is revoked",
		}},
		{"two texts at a key", func(p *Place, d published) {
			d["r1._domainkey.example.com TXT"] = append(d["r1._domainkey.example.com TXT"], "v=spf1 -all")
		}, []string{"wrong TXT r1._domainkey.example.com: there are 2 texts at the name"}},
		{"a key in test", func(p *Place, d published) { d["r1._domainkey.example.com TXT"] = []string{long(*p) + "; t=y"} }, []string{
			"note TXT r1._domainkey.example.com: the record is marked as a test",
		}},
		{"new and old keys", func(p *Place, d published) {
			p.Keys = append(p.Keys, Key{Selector: "r2", Record: long(*p)}, Key{Selector: "r0", Record: long(*p), Retired: true},
				Key{Selector: "q0", Record: long(*p), Retired: true, Over: true})
			d["q0._domainkey.example.com TXT"] = []string{long(*p)}
		}, []string{
			"note TXT r2._domainkey.example.com: the new key waits for its record", "note TXT r0._domainkey.example.com: the record of the old key is gone",
			"note TXT q0._domainkey.example.com: the key is over, and its record no longer needed | remove the record, then the key q0",
		}},
		{"no DMARC", func(_ *Place, d published) { delete(d, "_dmarc.example.com TXT") }, []string{
			`wrong TXT _dmarc.example.com: there is none... | publish: _dmarc.example.com. TXT "v=DMARC1; p=quarantine; rua=mailto:postmaster@example.com"`,
		}},
		{"two DMARC records", func(_ *Place, d published) {
			d["_dmarc.example.com TXT"] = append(d["_dmarc.example.com TXT"], "v=DMARC1; p=none")
		}, []string{"wrong TXT _dmarc.example.com: there are 2 DMARC records"}},
		{"DMARC misspelt", func(_ *Place, d published) { d["_dmarc.example.com TXT"] = []string{"DMARC1; p=none"} }, []string{
			"wrong TXT _dmarc.example.com: what is there is no DMARC record",
		}},
		{"DMARC without policy", func(_ *Place, d published) { d["_dmarc.example.com TXT"] = []string{"v=DMARC1; p=maybe"} }, []string{
			`wrong TXT _dmarc.example.com: its p= is "maybe"`,
		}},
		{"DMARC none", func(_ *Place, d published) { d["_dmarc.example.com TXT"] = []string{"v=DMARC1;p=none"} }, []string{
			"note TXT _dmarc.example.com: p=none asks others",
		}},
		{"nothing is aligned", func(p *Place, d published) { p.Keys = nil; delete(d, "example.com TXT") }, []string{
			"wrong TXT _dmarc.example.com: mail of this server passes neither SPF nor DKIM for example.com, and others treat it by p=quarantine",
			"wrong TXT _domainkey.example.com: there are no keys", "wrong TXT example.com: there is no SPF record",
		}},
		{"no SRV", func(_ *Place, d published) { delete(d, "_pop3s._tcp.example.com SRV") }, []string{
			"note SRV _pop3s._tcp.example.com: there is none...publish: _pop3s._tcp.example.com. SRV 0 1 995 mail.example.com.",
		}},
		{"SRV elsewhere", func(_ *Place, d published) {
			d["_submission._tcp.example.com SRV"] = []string{"0 1 587 smtp.other.example."}
		}, []string{
			"wrong SRV _submission._tcp.example.com: it leads programs elsewhere",
		}},
		{"TLSA of another key", func(_ *Place, d published) {
			d["_25._tcp.mail.example.com TLSA"] = []string{"3 1 1 " + strings.Repeat("cd", 32)}
		}, []string{
			"wrong TLSA _25._tcp.mail.example.com: none of the records is that of the server's certificate",
		}},
		{"TLSA of two keys", func(_ *Place, d published) {
			d["_25._tcp.mail.example.com TLSA"] = []string{"3 1 1 " + strings.Repeat("cd", 32), "3 1 1 " + strings.Repeat("AB", 32)}
		}, nil},
		{"MTA-STS without its host", func(_ *Place, d published) { d["_mta-sts.example.com TXT"] = []string{"v=STSv1; id=7;"} }, []string{
			"wrong TXT _mta-sts.example.com: the record announces a policy, but mta-sts.example.com, which should have it, has no address",
		}},
		{"MTA-STS elsewhere", func(p *Place, d published) {
			servesPolicy(p, d, mtasts.Enforce)
			p.Policy = nil
		}, nil},
		{"MTA-STS of this server", func(p *Place, d published) { servesPolicy(p, d, mtasts.Enforce) }, nil},
		{"MTA-STS taken back", func(p *Place, d published) { servesPolicy(p, d, mtasts.None) }, nil},
		{"MTA-STS in test", func(p *Place, d published) { servesPolicy(p, d, mtasts.Testing) }, []string{
			"note policy mta-sts.example.com: it is for testing",
		}},
		{"MTA-STS that nobody knows of", func(p *Place, d published) {
			servesPolicy(p, d, mtasts.Enforce)
			delete(d, "_mta-sts.example.com TXT")
		}, []string{"note TXT _mta-sts.example.com: not published, so that nobody knows of it | publish: _mta-sts.example.com. TXT \"v=STSv1; id="}},
		{"MTA-STS of before", func(p *Place, d published) {
			servesPolicy(p, d, mtasts.Testing)
			p.Policy.Mode = mtasts.Enforce
		}, []string{
			"wrong TXT _mta-sts.example.com: its id is not of the present policy",
			"wrong policy mta-sts.example.com: what is there is not the policy of this server (enforce)",
		}},
		{"MTA-STS not served", func(p *Place, d published) { servesPolicy(p, d, mtasts.Enforce); delete(d, "policy") }, []string{
			"wrong policy mta-sts.example.com: the policy cannot be fetched: mtasts: the policy cannot be fetched | let mta-sts.example.com lead to the pages",
		}},
		{"MTA-STS with another certificate", func(p *Place, d published) {
			servesPolicy(p, d, mtasts.Enforce)
			d["policy"] = []string{"another name"}
		}, []string{
			"wrong policy mta-sts.example.com: the certificate there is not one for mta-sts.example.com... | " +
				"have the certificate name mta-sts.example.com (acme.names)",
		}},
		{"MTA-STS with a page", func(p *Place, d published) { servesPolicy(p, d, mtasts.Enforce); d["policy"] = []string{"<html>"} }, []string{
			"wrong policy mta-sts.example.com: what is there is no policy: mtasts: invalid policy: a line without a colon",
		}},
		{"MTA-STS leaves an exchanger out", func(p *Place, d published) {
			servesPolicy(p, d, mtasts.Enforce)
			d["example.com MX"], d["mx.example.com A"] = append(d["example.com MX"], "20 mx.example.com."), []string{"192.0.2.7"}
		}, []string{"wrong policy mta-sts.example.com: it leaves out the mail exchanger mx.example.com: nobody who keeps it sends mail there"}},
		{"MTA-STS would leave an exchanger out", func(p *Place, d published) {
			servesPolicy(p, d, mtasts.Testing)
			d["example.com MX"], d["mx.example.com A"] = append(d["example.com MX"], "20 mx.example.com."), []string{"192.0.2.7"}
		}, []string{"note policy mta-sts.example.com: it leaves out the mail exchanger mx.example.com: once it is enforced"}},
		{"a signed zone without TLSA", func(p *Place, d published) { p.DANE = true; delete(d, "_25._tcp.mail.example.com TLSA") }, []string{
			"note TLSA _25._tcp.mail.example.com: there is none; with a signed zone... | publish: _25._tcp.mail.example.com. TLSA 3 1 1 abab",
		}},
		{"the next key unannounced", func(p *Place, d published) {
			p.NextKeyDigest = strings.Repeat("ef", 32)
			d["_25._tcp.mail.example.com TLSA"] = []string{"3 1 1 " + p.KeyDigest}
		}, []string{"note TLSA _25._tcp.mail.example.com: the next key has no record yet... | publish: _25._tcp.mail.example.com. TLSA 3 1 1 efef"}},
		{"the next key alone", func(p *Place, d published) {
			p.NextKeyDigest = strings.Repeat("ef", 32)
			d["_25._tcp.mail.example.com TLSA"] = []string{"3 1 1 " + p.NextKeyDigest}
		}, []string{"wrong TLSA _25._tcp.mail.example.com: none of the records is that of the server's certificate"}},
		{"source addresses", func(p *Place, d published) { withSources(p, d) }, nil},
		{"a source that SPF leaves out", func(p *Place, d published) {
			withSources(p, d)
			d["example.com TXT"] = []string{"v=spf1 mx -all"}
		}, []string{
			"wrong TXT example.com: it leaves out 192.0.2.21, from which this server sends...(fail) | put ip4:192.0.2.21 into the record",
		}},
		{"a source without a name", func(p *Place, d published) { withSources(p, d); delete(d, "21.2.0.192.in-addr.arpa PTR") }, []string{
			"wrong PTR 21.2.0.192.in-addr.arpa: the address has no name... | ask whoever gave you the address to name it out1.example.com",
		}},
		{"a source by another name", func(p *Place, d published) {
			withSources(p, d)
			d["21.2.0.192.in-addr.arpa PTR"] = []string{"host21.provider.example."}
		}, []string{
			"wrong PTR 21.2.0.192.in-addr.arpa: the address is called host21.provider.example, but the server introduces itself as out1.example.com... | " +
				"ask whoever gave you the address to name it out1.example.com, or set its name in relay.source_addresses",
		}},
		{"a source whose name leads elsewhere", func(p *Place, d published) {
			withSources(p, d)
			d["out1.example.com A"] = []string{"192.0.2.7"}
		}, []string{
			"wrong A out1.example.com: mail leaves from 192.0.2.21 by this name, which does not lead back there... | publish: out1.example.com. A 192.0.2.21",
			"wrong TXT out1.example.com: it leaves out 192.0.2.21",
		}},
		{"a source whose name says nothing of bounces", func(p *Place, d published) { withSources(p, d); delete(d, "out1.example.com TXT") }, []string{
			`note TXT out1.example.com: there is none for the server's own name... | publish: out1.example.com. TXT "v=spf1 a -all"`,
		}},
		{"a source under the server's own name", func(p *Place, d published) {
			withSources(p, d)
			d["mail.example.com A"] = []string{"192.0.2.7"}
		}, []string{
			"wrong A mail.example.com: mail leaves from 192.0.2.22 by this name, which does not lead back there... | publish: mail.example.com. A 192.0.2.22",
		}},
		{"a family without a source", func(p *Place, d published) {
			withSources(p, d)
			delete(d, strings.TrimSuffix(resolver.ReverseName(p.Addresses[1]), ".")+" PTR")
		}, []string{"wrong PTR 7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa: the address has no name"}},
		{"a route", func(p *Place, _ published) { p.Routes = []string{"smtp.provider.example:587"} }, []string{
			"note TXT example.com: some of the mail leaves through smtp.provider.example; whether the record covers it is not known here",
		}},
		{"MTA-STS without id", func(_ *Place, d published) { d["_mta-sts.example.com TXT"] = []string{"v=STSv1"} }, []string{
			"wrong TXT _mta-sts.example.com: it is no MTA-STS record",
		}},
		{"TLSRPT", func(_ *Place, d published) {
			d["_smtp._tls.example.com TXT"] = []string{"v=TLSRPTv1;rua=mailto:x@example.com"}
		}, nil},
		{"TLSRPT to nobody", func(_ *Place, d published) { d["_smtp._tls.example.com TXT"] = []string{"v=TLSRPTv1"} }, []string{
			"wrong TXT _smtp._tls.example.com: it is no TLSRPT record",
		}},
		{"addresses unknown", func(p *Place, _ published) { p.Addresses = nil }, []string{
			"unknown PTR mail.example.com: the public addresses of this server are not known",
			"unknown TXT example.com: the addresses to try the record with are not known", "unknown TXT mail.example.com: the addresses",
		}},
		{"silent", func(_ *Place, d published) { d["_dmarc.example.com !"] = nil }, []string{"unknown TXT _dmarc.example.com: no name server could say"}},
		{"a smarthost", func(p *Place, _ published) { p.Smarthost = "smtp.provider.example:587" }, []string{
			"note TXT example.com: mail leaves through smtp.provider.example; whether the record covers it is not known here",
		}},
		{"control characters", func(_ *Place, d published) {
			d["example.com MX"] = []string{"10 \x1b[31m" + strings.Repeat("x", 1000) + "."}
		}, []string{"wrong MX example.com: mail for the domain goes to ?[31mxxx", "wrong A ?[31mxxx"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := usualPlace()
			dns := sound(p)
			tt.spoil(&p, dns)
			lines := worst(Check(t.Context(), p, dns, serves(dns)))
			for _, want := range tt.want {
				if !slices.ContainsFunc(lines, func(line string) bool { return matches(line, want) }) {
					t.Errorf("nothing like %q in\n%s", want, strings.Join(lines, "\n"))
				}
			}
			if len(lines) != len(tt.want) {
				t.Errorf("%d findings, want %d:\n%s", len(lines), len(tt.want), strings.Join(lines, "\n"))
			}
		})
	}
}

// matches reports whether a line begins with the first part of a pattern and has the others, which "..." separates, in it.
func matches(line, pattern string) bool {
	parts := strings.Split(pattern, "...")
	if !strings.HasPrefix(line, parts[0]) {
		return false
	}
	for _, part := range parts[1:] {
		if !strings.Contains(line, part) {
			return false
		}
	}
	return true
}

// TestText: the zone can be pasted: a name server reads it, every string is short enough, and what it reads is what is wanted. What is
// optional is not in it.
func TestText(t *testing.T) {
	p := usualPlace()
	records := Wanted(p)
	text := Text(p, records)
	server := resolvertest.New(t)
	sets := map[[2]string][]string{}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, ";") || strings.TrimSpace(line) == "" {
			continue
		}
		f := strings.SplitN(strings.TrimSpace(line), " ", 5)
		if len(f) != 5 || f[1] != "3600" || f[2] != "IN" {
			t.Fatalf("line %q", line)
		}
		for _, s := range strings.Split(f[4], `" "`) {
			if len(strings.Trim(s, `"`)) > maxString {
				t.Errorf("a string of %d octets in %q", len(s), line)
			}
		}
		key := [2]string{strings.TrimSuffix(f[0], "."), f[3]}
		sets[key] = append(sets[key], f[4])
	}
	for key, list := range sets {
		server.Set(key[0], key[1], list...)
	}
	names, err := resolver.New(resolver.Options{Servers: []netip.AddrPort{server.Addr()}})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		got, err := names.Records(t.Context(), r.Name, r.Type)
		if err != nil || slices.Contains(got, r.Data) == r.Optional {
			t.Errorf("%s %s: %q, %v; want %q, optional %t", r.Name, r.Type, got, err, r.Data, r.Optional)
		}
	}
	for _, want := range []string{"; 192.0.2.7 must have the name mail.example.com (PTR)", "; _25._tcp.mail.example.com. 3600 IN TLSA 3 1 1 abab"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	p.Sources, p.Routes = []Source{{netip.MustParseAddr("192.0.2.21"), "out1.example.com"}}, []string{"a.example:25"}
	p.NextKeyDigest = strings.Repeat("ef", 32)
	p.Policy, p.DANE = &mtasts.Policy{Mode: mtasts.Testing, MX: []string{p.Hostname}, MaxAge: time.Hour}, true
	text = Text(p, Wanted(p))
	for _, want := range []string{
		"\nout1.example.com. 3600 IN A 192.0.2.21\n", "\nexample.com. 3600 IN TXT \"v=spf1 mx ip4:192.0.2.7 ip6:2001:db8::7 ip4:192.0.2.21 ?all\"\n",
		"; 192.0.2.21 must have the name out1.example.com (PTR)", "; 2001:db8::7 must have the name mail.example.com (PTR)",
		"some of the mail leaves through a.example.",
		"\n_mta-sts.example.com. 3600 IN TXT \"" + p.Policy.Record() + "\"\n", "\nmta-sts.example.com. 3600 IN CNAME mail.example.com.\n",
		"\n_25._tcp.mail.example.com. 3600 IN TLSA 3 1 1 abab", "\n_25._tcp.mail.example.com. 3600 IN TLSA 3 1 1 efef",
		"\n_smtp._tls.example.com. 3600 IN TXT ",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "192.0.2.7 must have the name") {
		t.Error("an address from which no mail leaves is to have a name")
	}
	p.Sources, p.Routes, p.NextKeyDigest, p.Policy, p.DANE = nil, nil, "", nil, false
	p.Keys, p.Addresses, p.Hostname, p.Smarthost = nil, nil, "mail.host.example", "smtp.provider.example:587"
	text = Text(p, Wanted(p))
	for _, want := range []string{
		"Make them first", "reputation.addresses", "mail.host.example is not in this zone", "Ask its operator", "; example.com. 3600 IN TXT \"v=spf1 mx ?all\"",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

// TestCut: Check ends when its time is over, whatever does not answer.
func TestCut(t *testing.T) {
	server := resolvertest.New(t)
	server.Behave("", "", resolvertest.Drop)
	names, err := resolver.New(resolver.Options{Servers: []netip.AddrPort{server.Addr()}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, f := range Check(ctx, usualPlace(), names, nil) {
		if f.State == OK {
			t.Errorf("%s %s is ok though nobody answered", f.Type, f.Name)
		}
	}
}

// TestTrial: of a domain that is on one computer only, nothing is asked and nothing is wrong.
func TestTrial(t *testing.T) {
	p := usualPlace()
	p.Domain = "demo.localhost"
	list := Check(t.Context(), p, published{p.Domain + " !": nil}, nil)
	if len(list) != 1 || list[0].State != Note || list[0].Text == "" || list[0].Cure == "" {
		t.Errorf("found %+v", list)
	}
	p.Domain = "demolocalhost"
	if list := Check(t.Context(), p, published{}, nil); len(list) < 5 {
		t.Errorf("%d findings of a domain of the DNS", len(list))
	}
}

// TestTLSAIsWanted: TLSA records are wanted where the zone is signed and has the server's name, and good to have everywhere else.
func TestTLSAIsWanted(t *testing.T) {
	for _, tt := range []struct {
		host   string
		signed bool
		wanted bool
	}{
		{"mail.example.com", true, true}, {"mail.example.com", false, false}, {"mail.host.example", true, false}, {"mail.host.example", false, false},
	} {
		p := Place{Domain: "example.com", Hostname: tt.host, DANE: tt.signed, KeyDigest: "aa", NextKeyDigest: "bb"}
		found := 0
		for _, r := range Wanted(p) {
			if r.Type == "TLSA" {
				found++
				if r.Optional == tt.wanted || r.Name != "_25._tcp."+tt.host {
					t.Errorf("%s, signed %t: %+v", tt.host, tt.signed, r)
				}
			}
		}
		if found != 2 {
			t.Errorf("%s, signed %t: %d records", tt.host, tt.signed, found)
		}
	}
}
