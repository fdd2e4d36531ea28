package zone

import (
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"latchkey/internal/clientsetup"
	"latchkey/internal/dkim"
	"latchkey/internal/mtasts"
)

// Place is where a server stands, as far as the DNS must know.
type Place struct {
	// Domain is the mail domain in canonical form, Hostname the name that the server says in EHLO.
	Domain, Hostname string
	// Addresses are those from which mail leaves; empty if they are not known, as behind NAT.
	Addresses []netip.Addr
	// Smarthost is host:port of the server that sends the mail in the end; "" for none.
	Smarthost string
	Ports     Ports
	Keys      []Key
	// KeyDigest is the SHA-256 of the public key of the server's certificate, in hex; "" without a certificate. NextKeyDigest is that of the key
	// which comes after it; "" if that is not known.
	KeyDigest, NextKeyDigest string
	// DANE says that the zone is signed (RFC 4033), so that TLSA records are wanted.
	DANE bool
	// Sources are addresses from which mail leaves, where these are chosen; mail of a family without one leaves from Addresses.
	Sources []Source
	// Routes are host:port of servers that send some of the mail in the end.
	Routes []string
	// Policy is the domain's MTA-STS policy, which this server serves; nil if it serves none.
	Policy *mtasts.Policy
}

// Source is an address from which mail leaves, and the name that the server says in EHLO there; "" is Hostname.
type Source struct {
	Addr     netip.Addr
	Hostname string
}

// senders are the addresses from which mail leaves, each with its name in EHLO.
func (p *Place) senders() []Source {
	var list []Source
	for _, s := range p.Sources {
		if s.Hostname == "" {
			s.Hostname = p.Hostname
		}
		list = append(list, s)
	}
	for _, a := range p.Addresses {
		if !slices.ContainsFunc(p.Sources, func(s Source) bool { return addressType(s.Addr) == addressType(a) }) {
			list = append(list, Source{Addr: a, Hostname: p.Hostname})
		}
	}
	return list
}

// greetings are the names that the server says in EHLO, Hostname first.
func (p *Place) greetings() []string {
	names := []string{p.Hostname}
	for _, s := range p.senders() {
		if !slices.Contains(names, s.Hostname) {
			names = append(names, s.Hostname)
		}
	}
	return names
}

// Ports are those of the open doors; 0 is a closed one.
type Ports struct {
	POP3, POP3S, Submission, Submissions int
}

// Key is a DKIM key whose record is to be published.
type Key struct {
	Selector, Record string
	// Signs is set for a key that is in use; others wait for their record.
	Signs bool
	// Over is set for a retired key whose record may go, Retired for one whose record may not go yet too.
	Retired, Over bool
}

// Record is one record that the domain should have.
type Record struct {
	// Name is the owner, absolute, without the trailing dot.
	Name string `json:"name"`
	Type string `json:"type"`
	// Data is as in a zone file, but of a TXT record the text itself.
	Data string `json:"data"`
	// Purpose is what it is for, in one sentence.
	Purpose string `json:"purpose"`
	// Optional records are good to have where what they speak of is there; mail arrives without them.
	Optional bool `json:"optional,omitempty"`
}

// TTL is how long others may keep the records, in seconds: short enough for a change within the hour.
const TTL = 3600

// Wanted returns the records that a domain should have, in the order in which they are best understood.
func Wanted(p Place) []Record {
	list := []Record{{Name: p.Domain, Type: "MX", Data: "10 " + p.Hostname + ".", Purpose: "mail for the domain comes to this server"}}
	for _, a := range p.Addresses {
		list = append(list, Record{Name: p.Hostname, Type: addressType(a), Data: a.String(), Purpose: "where the server is", Optional: !p.ownsHost()})
	}
	for _, s := range p.senders() {
		if s.Hostname != p.Hostname {
			list = append(list, Record{
				Name: s.Hostname, Type: addressType(s.Addr), Data: s.Addr.String(), Purpose: "where mail leaves from", Optional: !p.owns(s.Hostname),
			})
		}
	}
	list = append(list, Record{Name: p.Domain, Type: "TXT", Data: p.spf(), Purpose: "SPF: who sends mail of the domain", Optional: p.Smarthost != ""})
	for _, name := range p.greetings() {
		if name != p.Domain {
			list = append(list, Record{
				Name: name, Type: "TXT", Data: p.bouncePolicy(name), Optional: !p.owns(name),
				Purpose: "SPF for bounces, which have no other sender than the server",
			})
		}
	}
	for _, k := range p.Keys {
		if !k.Over {
			list = append(list, Record{Name: dkim.Name(k.Selector, p.Domain), Type: "TXT", Data: k.Record, Purpose: "DKIM: " + k.purpose()})
		}
	}
	list = append(list, Record{
		Name: "_dmarc." + p.Domain, Type: "TXT", Data: "v=DMARC1; p=quarantine; rua=mailto:postmaster@" + p.Domain,
		Purpose: "DMARC: what others do with mail that only claims to be the domain's",
	})
	list = append(list, p.services()...)
	return append(list, p.extras()...)
}

func (k *Key) purpose() string {
	switch {
	case k.Retired:
		return "an old key, for mail that is still on its way"
	case k.Signs:
		return "the key that mail is signed with"
	}
	return "a new key, which signs once it is seen here"
}

// ownsHost reports whether the server's name is in the domain's own zone.
func (p *Place) ownsHost() bool { return p.owns(p.Hostname) }

// owns reports whether a name is in the domain's own zone.
func (p *Place) owns(name string) bool {
	return name == p.Domain || strings.HasSuffix(name, "."+p.Domain)
}

func addressType(a netip.Addr) string {
	if a.Unmap().Is4() {
		return "A"
	}
	return "AAAA"
}

// spf is the record for the domain: its mail exchanger, and addresses that are not the exchanger's own.
func (p *Place) spf() string {
	terms := []string{"v=spf1", "mx"}
	for _, a := range p.Addresses {
		terms = append(terms, mechanism(a))
	}
	for _, s := range p.Sources {
		if term := mechanism(s.Addr); !slices.Contains(terms, term) {
			terms = append(terms, term)
		}
	}
	if p.Smarthost != "" || len(p.Routes) > 0 {
		// RFC 7208 §2.5: neutral, as what the other server sends from is known to its operator only.
		return strings.Join(append(terms, "?all"), " ")
	}
	return strings.Join(append(terms, "-all"), " ")
}

// bouncePolicy is the record for a name in EHLO (RFC 7208 §2.4): its own addresses, and those that it sends from without having them.
func (p *Place) bouncePolicy(name string) string {
	terms := []string{"v=spf1", "a"}
	for _, s := range p.Sources {
		if s.Hostname == "" && name == p.Hostname && !slices.Contains(p.Addresses, s.Addr) {
			terms = append(terms, mechanism(s.Addr))
		}
	}
	return strings.Join(append(terms, "-all"), " ")
}

func mechanism(a netip.Addr) string {
	if a.Unmap().Is4() {
		return "ip4:" + a.Unmap().String()
	}
	return "ip6:" + a.String()
}

// services are the SRV records by which mail clients find the doors (RFC 6186, RFC 8314 §5.1). One that is closed, and IMAP, which there is
// none of, is said to be so (RFC 6186 §3.4).
func (p *Place) services() []Record {
	var list []Record
	for _, s := range clientsetup.Services(clientsetup.Place{
		POP3: p.Ports.POP3, POP3S: p.Ports.POP3S, Submission: p.Ports.Submission, Submissions: p.Ports.Submissions,
	}) {
		r := Record{Name: s.Name + "." + p.Domain, Type: "SRV", Data: "0 0 0 .", Purpose: "for mail clients: there is no " + s.What, Optional: true}
		if s.Port != 0 {
			r.Data, r.Purpose = "0 1 "+strconv.Itoa(s.Port)+" "+p.Hostname+".", "for mail clients: "+s.What
			r.Optional = false
		}
		list = append(list, r)
	}
	return list
}

// extras are records that are of use only beside something else.
func (p *Place) extras() []Record {
	served := p.Policy != nil
	list := []Record{{
		Name: "_smtp._tls." + p.Domain, Type: "TXT", Data: "v=TLSRPTv1; rua=mailto:postmaster@" + p.Domain,
		Purpose: "TLSRPT: where others report that TLS with this server failed", Optional: !served,
	}}
	text := Record{
		Name: mtasts.RecordName(p.Domain), Type: "TXT", Data: "v=STSv1; id=1", Optional: !served,
		Purpose: "MTA-STS: only once web.mta_sts is set, or another web server has the policy at https://" + mtasts.Host(p.Domain) + mtasts.Path +
			"; a new id for each change",
	}
	if served {
		text.Data, text.Purpose = p.Policy.Record(), "MTA-STS: there is a policy, "+string(p.Policy.Mode)+"; the id is of this one"
	}
	list = append(list, text, Record{
		Name: mtasts.Host(p.Domain), Type: "CNAME", Data: p.Hostname + ".", Purpose: "MTA-STS: the web server of the policy", Optional: !served,
	})
	for _, n := range clientsetup.WebNames() {
		list = append(list, Record{
			Name: n.Name + "." + p.Domain, Type: "CNAME", Data: p.Hostname + ".", Purpose: n.For + ": a web server with " + n.What, Optional: true,
		})
	}
	list = append(list, Record{
		Name: "_autodiscover._tcp." + p.Domain, Type: "SRV", Data: "0 0 443 " + p.Hostname + ".", Optional: true,
		Purpose: "Outlook: a web server with autodiscover, by the server's own name and certificate",
	})
	return append(list, p.keyRecords()...)
}

// keyRecords are the TLSA records (RFC 7672 §3.1.1): of the present key, and of the next one, so that it can be used when its record is known.
func (p *Place) keyRecords() (list []Record) {
	for _, one := range []struct{ digest, what string }{
		{p.KeyDigest, "only in a zone signed by DNSSEC, and to be changed before the certificate's key"},
		{p.NextKeyDigest, "the key that comes next, when acme.key_number is raised: published long before that"},
	} {
		if one.digest != "" {
			list = append(list, Record{
				Name: "_25._tcp." + p.Hostname, Type: "TLSA", Data: "3 1 1 " + one.digest, Purpose: "DANE: " + one.what, Optional: !p.DANE || !p.ownsHost(),
			})
		}
	}
	return list
}

// smarthostName is the host of Smarthost.
func (p *Place) smarthostName() string { return hostOf(p.Smarthost) }

// hostOf is the host of host:port.
func hostOf(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	return host
}
