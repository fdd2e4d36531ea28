package zone

import (
	"errors"
	"slices"
	"strings"

	"blitiri.com.ar/go/spf"

	"latchkey/internal/dkim"
)

// senderPolicy looks at SPF, by evaluating it for the server's own addresses (RFC 7208), for mail and for bounces.
func (c *checker) senderPolicy() {
	c.spf = c.policyOf("SPF", c.p.Domain, c.p.spf())
	for _, name := range c.p.greetings() {
		if name != c.p.Domain {
			c.policyOf("SPF of bounces", name, c.p.bouncePolicy(name))
		}
	}
}

// policyOf looks at the SPF record of one domain, and reports whether mail passes by it.
func (c *checker) policyOf(about, domain, want string) bool {
	f, all, ok := c.records(about, domain, "TXT")
	if !ok {
		c.unsure = true
		return false
	}
	var list []string
	for _, text := range all {
		if isSPF(text) {
			list = append(list, text)
		}
	}
	f.Published = nil
	for _, text := range list[:min(len(list), maxShown)] {
		f.Published = append(f.Published, shown(text))
	}
	bounces := domain != c.p.Domain
	switch {
	case len(list) == 0 && bounces:
		f.is(Note, publish(domain, "TXT", want), "there is none for the server's own name, by which bounces are judged (RFC 7208 §2.4)")
		return false
	case len(list) == 0:
		f.is(Wrong, publish(domain, "TXT", want), "there is no SPF record, so that anybody may send as the domain")
		return false
	case len(list) > 1:
		f.is(Wrong, "make one record of them: v=spf1, then what stands between v=spf1 and the last word in each, then -all",
			"there are %d SPF records, so that none counts (RFC 7208 §4.5)", len(list))
		return false
	case c.p.Smarthost != "" && !bounces:
		c.unsure = true
		f.is(Note, "ask its operator what belongs into the record", "mail leaves through %s; whether the record covers it is not known here",
			c.p.smarthostName())
		return false
	case len(c.p.senders()) == 0:
		c.unsure = true
		f.is(Unknown, "name the addresses from which mail leaves in reputation.addresses", "the addresses to try the record with are not known")
		return false
	}
	return c.evaluate(f, domain, list[0])
}

// evaluate tries a record with each address; one for bounces with those where the server says its name.
func (c *checker) evaluate(f *Finding, domain, record string) bool {
	var terms, outside []string
	why, result := "", spf.Pass
	for _, s := range c.p.senders() {
		if domain != c.p.Domain && s.Hostname != domain {
			continue
		}
		a := s.Addr
		got, reason := spfResult(c.ctx, c.dns, a, s.Hostname, domain)
		if got != spf.Pass {
			terms, outside = append(terms, mechanism(a)), append(outside, a.String())
			result, why = got, reason
		}
	}
	last := record[strings.LastIndexByte(record, ' ')+1:]
	switch {
	case len(outside) == 0 && strings.EqualFold(strings.TrimLeft(last, "+"), "all"):
		f.is(Wrong, "let it end in -all", "it lets every address in the world send as the domain")
	case len(outside) == 0:
		if len(c.p.Routes) > 0 && domain == c.p.Domain {
			f.is(Note, "ask their operators what belongs into the record",
				"some of the mail leaves through %s; whether the record covers it is not known here",
				strings.Join(hostsOf(c.p.Routes), ", "))
		}
		return true
	case result == spf.TempError:
		c.unsure = true
		f.is(Unknown, "ask again later", "a name in it could not be looked up")
	case result == spf.PermError:
		if why == "" {
			why = "it cannot be followed"
		}
		f.is(Wrong, "mend it, or "+publish(domain, "TXT", c.wantedPolicy(domain)), "the record is in error, so that it does not count: %s", why)
	default:
		f.is(Wrong, "put "+strings.Join(terms, " ")+" into the record, before its last word",
			"it leaves out %s, from which this server sends, so that others take the mail for forged (%s)",
			strings.Join(outside, ", "), result)
	}
	return false
}

func (c *checker) wantedPolicy(domain string) string {
	if domain == c.p.Domain {
		return c.p.spf()
	}
	return c.p.bouncePolicy(domain)
}

func hostsOf(addresses []string) (list []string) {
	for _, one := range addresses {
		list = append(list, hostOf(one))
	}
	return list
}

// keys looks at the records of the DKIM keys.
func (c *checker) keys() {
	signs := slices.ContainsFunc(c.p.Keys, func(k Key) bool { return k.Signs })
	if !signs {
		f := c.add("DKIM", "_domainkey."+c.p.Domain, "TXT", nil)
		switch {
		case len(c.p.Keys) == 0:
			f.is(Wrong, "make DKIM keys", "there are no keys, so that mail leaves unsigned")
		default:
			f.is(Wrong, "publish the records below; signing begins by itself once they are seen", "no key signs yet, so that mail leaves unsigned")
		}
	}
	for i := range c.p.Keys {
		c.key(&c.p.Keys[i])
	}
}

func (c *checker) key(k *Key) {
	name := dkim.Name(k.Selector, c.p.Domain)
	f, list, ok := c.records("DKIM", name, "TXT")
	if !ok {
		c.unsure = c.unsure || k.Signs
		return
	}
	found := error(nil)
	switch len(list) {
	case 0:
	case 1:
		found = dkim.Compare(list[0], k.Record)
	default:
		f.is(Wrong, "remove all but this one: "+name+". TXT "+zoneData(Record{Type: "TXT", Data: k.Record}),
			"there are %d texts at the name, and nobody can tell which is the key (RFC 6376 §3.6.2.2)", len(list))
		return
	}
	cure := publish(name, "TXT", k.Record)
	switch {
	case k.Over && len(list) > 0:
		f.is(Note, "remove the record, then the key "+k.Selector, "the key is over, and its record no longer needed")
	case k.Over:
		f.is(Note, "remove the key "+k.Selector, "the key is over, and its record is gone")
	case len(list) == 0 && k.Retired:
		f.is(Note, cure, "the record of the old key is gone; mail signed by it that is still on its way fails")
	case len(list) == 0 && k.Signs:
		f.is(Wrong, cure, "mail is signed with this key, and nobody can verify it")
	case len(list) == 0:
		f.is(Note, cure, "the new key waits for its record")
	case errors.Is(found, dkim.ErrTruncated):
		f.is(Wrong, "write the text as several strings, each at most 255 octets long, behind each other: "+zoneData(Record{Type: "TXT", Data: k.Record}),
			"the key in the record is cut off: what is there has %d octets, and should have %d", len(list[0]), len(k.Record))
	case errors.Is(found, dkim.ErrTesting):
		f.is(Note, "remove t=y", "the record is marked as a test, so that some treat the mail as unsigned")
		c.dkim = c.dkim || k.Signs
	case found != nil:
		f.is(Wrong, cure, "%s", keyWords(found))
	default:
		c.dkim = c.dkim || k.Signs
	}
}

func keyWords(err error) string {
	switch {
	case errors.Is(err, dkim.ErrRevoked):
		return "the record says that the key is revoked (its p= is empty)"
	case errors.Is(err, dkim.ErrOtherKey):
		return "the record has another key than the one that mail is signed with"
	case errors.Is(err, dkim.ErrRestricted):
		return "its h= or s= does not allow the key to sign mail by SHA-256"
	}
	return "the text at the name is no key record"
}

// policy looks at DMARC (RFC 7489 §6.3, §6.6.3): there is one record, and mail of this server passes by it.
func (c *checker) policy() {
	name := "_dmarc." + c.p.Domain
	f, all, ok := c.records("DMARC", name, "TXT")
	if !ok {
		return
	}
	var list []string
	for _, text := range all {
		if first, _, _ := strings.Cut(text, ";"); strings.ReplaceAll(first, " ", "") == "v=DMARC1" {
			list = append(list, text)
		}
	}
	cure := publish(name, "TXT", "v=DMARC1; p=quarantine; rua=mailto:postmaster@"+c.p.Domain)
	switch {
	case len(list) == 0 && len(all) > 0:
		f.is(Wrong, cure, "what is there is no DMARC record: it must begin with v=DMARC1")
		return
	case len(list) == 0:
		f.is(Wrong, cure, "there is none; the large providers want one, and anybody may claim to be the domain")
		return
	case len(list) > 1:
		f.is(Wrong, "remove all but one", "there are %d DMARC records, so that none counts (RFC 7489 §6.6.3)", len(list))
		return
	}
	tags := tagsOf(list[0])
	p := tags["p"]
	switch {
	case p != "none" && p != "quarantine" && p != "reject":
		f.is(Wrong, cure, "its p= is %q, and should be none, quarantine or reject", shown(p))
	case !c.dkim && !c.spf && !c.unsure:
		f.is(Wrong, "mend SPF or DKIM above; until then set p=none", "mail of this server passes neither SPF nor DKIM for %s, and others treat it by p=%s",
			c.p.Domain, p)
	case !c.dkim && c.unsure:
		f.is(Note, "", "whether mail of this server passes could not be found out")
	case !c.dkim:
		f.is(Note, "publish the DKIM records above", "mail passes by SPF alone; what is forwarded fails")
	case p == "none":
		f.is(Note, "once the reports look well: p=quarantine", "p=none asks others to do nothing against forgeries")
	}
}

// tagsOf reads a list of name=value with semicolons.
func tagsOf(text string) map[string]string {
	tags := map[string]string{}
	for one := range strings.SplitSeq(text, ";") {
		name, value, _ := strings.Cut(one, "=")
		tags[strings.ToLower(strings.TrimSpace(name))] = strings.TrimSpace(value)
	}
	return tags
}

// services looks at the SRV records for mail clients.
func (c *checker) services() {
	for _, want := range c.p.services() {
		if want.Optional {
			continue
		}
		f, list, ok := c.records("mail clients", want.Name, "SRV")
		switch cure := publish(want.Name, "SRV", want.Data); {
		case !ok:
		case len(list) == 0:
			f.is(Note, cure, "there is none; programs that look for it ask their user instead")
		case !slices.ContainsFunc(list, func(have string) bool { return samePlace(have, want.Data) }):
			f.is(Wrong, cure+" in its place", "it leads programs elsewhere than to this server")
		}
	}
}

// samePlace compares the port and the host of SRV records.
func samePlace(a, b string) bool {
	x, y := strings.Fields(a), strings.Fields(b)
	return len(x) == 4 && len(y) == 4 && x[2] == y[2] && strings.EqualFold(x[3], y[3])
}
