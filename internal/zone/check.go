package zone

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unicode"

	"latchkey/internal/mailaddr"
	"latchkey/internal/mtasts"
	"latchkey/internal/resolver"
)

// DNS is asked for what is published: *resolver.Resolver is one.
type DNS interface {
	// Records returns the records of a name and a type in the form of a zone file, of TXT the text itself; none is no error.
	Records(ctx context.Context, name, rrtype string) ([]string, error)
}

// State says how a record stands.
type State string

// The states, the best first.
const (
	// OK: as it should be.
	OK State = "ok"
	// Note: mail arrives, but there is something to know.
	Note State = "note"
	// Unknown: no name server could say.
	Unknown State = "unknown"
	// Wrong: mail is lost, refused or put into junk folders because of it.
	Wrong State = "wrong"
)

// Finding is how one record, or one rule about several, stands.
type Finding struct {
	Name  string `json:"name"`
	Type  string `json:"type"`
	State State  `json:"state"`
	// About is what the record is for, in a word or two.
	About string `json:"about"`
	// Published is what is there.
	Published []string `json:"published,omitempty"`
	// Text says what is the matter, Cure what to do; empty if all is well.
	Text string `json:"text,omitempty"`
	Cure string `json:"cure,omitempty"`
}

// maxShown bounds the records of one finding, maxShownLen each of them in octets: what is there was written by somebody.
const (
	maxShown    = 10
	maxShownLen = 300
)

// checker gathers findings.
type checker struct {
	ctx  context.Context // of one Check
	p    Place
	dns  DNS
	list []Finding
	// ours are the addresses of the server as far as they are known: those it sends from, and those of its name.
	ours []netip.Addr
	// fetch gets the policy, hosts are the hosts that the MX records name.
	fetch FetchPolicy
	hosts []string
	// spf and dkim are set when mail passes by it, for DMARC. unsure is set when that could not be found out.
	spf, dkim, unsure bool
}

// FetchPolicy gets the MTA-STS policy that a domain serves, as others get it; the errors are those of mtasts.Fetcher.
type FetchPolicy func(ctx context.Context, domain string) (mtasts.Policy, error)

// Check compares what is published with what [Wanted] wants, and with what a server of mail needs besides. It never fails: what could not
// be asked is [Unknown]. policy may be nil: then no policy is looked at. Of a domain under .localhost nobody is asked.
func Check(ctx context.Context, p Place, dns DNS, policy FetchPolicy) []Finding {
	c := &checker{ctx: ctx, p: p, dns: dns, fetch: policy, ours: slices.Clone(p.Addresses)}
	if mailaddr.IsLocalhost(p.Domain) {
		c.add("trial", p.Domain, "MX", nil).is(Note, "choose a domain that is yours for a server which others write to",
			"names that end in .localhost are for trials on one computer, and stand in no DNS")
		return c.list
	}
	c.host()
	c.exchangers()
	c.reverse()
	c.senderPolicy()
	c.keys()
	c.policy()
	c.services()
	c.extras()
	return c.list
}

// add makes a finding of a record, and returns it to be filled in.
func (c *checker) add(about, name, rrtype string, published []string) *Finding {
	f := Finding{Name: name, Type: rrtype, About: about, State: OK}
	for _, one := range published[:min(len(published), maxShown)] {
		f.Published = append(f.Published, shown(one))
	}
	c.list = append(c.list, f)
	return &c.list[len(c.list)-1]
}

// is says how it stands.
func (f *Finding) is(s State, cure, format string, args ...any) {
	f.State, f.Cure, f.Text = s, cure, fmt.Sprintf(format, args...)
}

// records asks, and makes a finding. ok is false if nobody could say; that is noted.
func (c *checker) records(about, name, rrtype string) (f *Finding, list []string, ok bool) {
	list, err := c.dns.Records(c.ctx, name, rrtype)
	f = c.add(about, name, rrtype, list)
	if err != nil {
		f.is(Unknown, "ask again later; if it stays, look whether all name servers of the zone answer", "no name server could say what is there")
		return f, nil, false
	}
	return f, list, true
}

// shown is a record for people: control characters and what is too long are cut out.
func shown(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar || unicode.Is(unicode.Cf, r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	if len(text) > maxShownLen {
		text = strings.ToValidUTF8(text[:maxShownLen], "") + "..."
	}
	return text
}

// publish is the cure for a record that is missing.
func publish(name, rrtype, data string) string {
	return "publish: " + name + ". " + rrtype + " " + zoneData(Record{Type: rrtype, Data: data})
}

// host looks at the server's name: others find it there, and compare it with what the server says in EHLO.
func (c *checker) host() {
	if alias, err := c.dns.Records(c.ctx, c.p.Hostname, "CNAME"); err == nil && len(alias) > 0 {
		c.add("server", c.p.Hostname, "CNAME", alias).is(Wrong, "give the name its own A and AAAA records instead of the alias",
			"the server's name is an alias; mail for a mail exchanger that is one is refused by some (RFC 2181 §10.3)")
	}
	for _, rrtype := range []string{"A", "AAAA"} {
		var want []string
		for _, a := range c.p.Addresses {
			if addressType(a) == rrtype {
				want = append(want, a.String())
			}
		}
		f, list, ok := c.records("server", c.p.Hostname, rrtype)
		if !ok {
			continue
		}
		c.hostAddresses(f, list, want)
	}
}

func (c *checker) hostAddresses(f *Finding, list, want []string) {
	var have []string
	for _, one := range list {
		if a, err := netip.ParseAddr(one); err == nil {
			have = append(have, a.Unmap().String())
			c.ours = append(c.ours, a.Unmap())
		}
	}
	var missing []string
	for _, a := range want {
		if !slices.Contains(have, a) {
			missing = append(missing, a)
		}
	}
	switch {
	case len(missing) > 0:
		f.is(Wrong, publish(f.Name, f.Type, missing[0]), "the address %s of this server is not there, so that its name and its address do not agree",
			strings.Join(missing, ", "))
	case len(want) == 0 && len(list) == 0 && f.Type == "AAAA":
		f.is(Note, "", "no IPv6; mail from hosts that have nothing else does not come")
	case len(want) == 0 && len(list) == 0 && len(c.p.Addresses) == 0:
		f.is(Wrong, "publish the public address of this server", "the server's name leads nowhere")
	case len(list) == 0:
		f.State = Note
		f.Text = "none; hosts that have nothing else do not reach the server"
	}
}

// exchangers looks at where mail for the domain goes (RFC 5321 §5.1).
func (c *checker) exchangers() {
	f, list, ok := c.records("incoming mail", c.p.Domain, "MX")
	if !ok {
		return
	}
	cure := publish(c.p.Domain, "MX", "10 "+c.p.Hostname+".")
	if len(list) == 0 {
		f.is(Wrong, cure, "there is none; mail goes to the domain's own address then, if it has one")
		return
	}
	var foreign []string
	for _, one := range list {
		if _, host, ok := strings.Cut(one, " "); ok {
			c.hosts = append(c.hosts, strings.TrimSuffix(host, "."))
		}
	}
	if slices.Equal(c.hosts, []string{""}) {
		f.is(Wrong, cure, "the domain says that it takes no mail (null MX, RFC 7505)")
		return
	}
	reached := false
	for _, host := range c.hosts {
		if c.exchanger(host) {
			reached = true
		} else {
			foreign = append(foreign, shown(host))
		}
	}
	f = c.finding("MX")
	switch {
	case !reached:
		f.is(Wrong, cure+" and remove the others", "mail for the domain goes to %s, which is not this server (%s)",
			strings.Join(foreign, ", "), c.p.Hostname)
	case len(foreign) > 0:
		f.is(Note, "remove "+strings.Join(foreign, ", ")+" unless it is a server of yours that passes mail on to this one",
			"mail may also go to %s, which is not this server", strings.Join(foreign, ", "))
	}
}

// finding is the one of a type that was made last; adding others may have moved it.
func (c *checker) finding(rrtype string) *Finding {
	for i := len(c.list) - 1; i >= 0; i-- {
		if c.list[i].Type == rrtype {
			return &c.list[i]
		}
	}
	return c.add("", "", rrtype, nil)
}

// exchanger looks at one mail exchanger, and reports whether it is this server.
func (c *checker) exchanger(host string) bool {
	if strings.EqualFold(host, c.p.Hostname) {
		return true // host has looked at it
	}
	name := shown(host)
	if alias, err := c.dns.Records(c.ctx, host, "CNAME"); err == nil && len(alias) > 0 {
		c.add("mail exchanger", name, "CNAME", alias).is(Wrong, "let the MX record name "+strings.TrimSuffix(shown(alias[0]), ".")+" itself",
			"a mail exchanger must not be an alias (RFC 2181 §10.3)")
	}
	list, err := addresses(c.ctx, c.dns, host)
	switch {
	case err != nil:
		c.add("mail exchanger", name, "A", nil).is(Unknown, "ask again later", "no name server could say where it is")
		return false
	case len(list) == 0:
		c.add("mail exchanger", name, "A", nil).is(Wrong, "give it an address, or remove it from the MX records", "the mail exchanger has no address")
	}
	return slices.ContainsFunc(list, func(a netip.Addr) bool { return slices.Contains(c.ours, a) })
}

// reverse looks at the names of the addresses: many receivers refuse mail from one whose name does not lead back (RFC 1912 §2.1).
func (c *checker) reverse() {
	if c.p.Smarthost != "" {
		return // its addresses are its operator's matter
	}
	senders := c.p.senders()
	if len(senders) == 0 {
		c.add("reverse name", c.p.Hostname, "PTR", nil).is(Unknown, "name the addresses from which mail leaves in reputation.addresses",
			"the public addresses of this server are not known")
		return
	}
	for _, s := range senders {
		c.reverseOf(s)
	}
}

// reverseOf looks at the name of one address, and whether that name leads back to it.
func (c *checker) reverseOf(s Source) {
	f, list, ok := c.records("reverse name of "+s.Addr.String(), strings.TrimSuffix(resolver.ReverseName(s.Addr), "."), "PTR")
	if !ok {
		return
	}
	cure := "ask whoever gave you the address to name it " + s.Hostname
	named := func(name string) bool { return strings.EqualFold(strings.TrimSuffix(name, "."), s.Hostname) }
	switch {
	case len(list) == 0:
		f.is(Wrong, cure, "the address has no name; many servers refuse mail from it")
	case !slices.ContainsFunc(list, named):
		setting := "hostname"
		if slices.ContainsFunc(c.p.Sources, func(one Source) bool { return one.Addr == s.Addr }) {
			setting = "its name in relay.source_addresses"
		}
		f.is(Wrong, cure+", or set "+setting+" to the name that it has",
			"the address is called %s, but the server introduces itself as %s; many refuse mail where the two differ",
			shown(strings.TrimSuffix(list[0], ".")), s.Hostname)
	}
	if s.Hostname == c.p.Hostname && slices.Contains(c.p.Addresses, s.Addr) {
		return // host has looked at it
	}
	switch back, err := addresses(c.ctx, c.dns, s.Hostname); {
	case err != nil:
		c.add("where mail leaves from", s.Hostname, addressType(s.Addr), nil).is(Unknown, "ask again later", "no name server could say where it is")
	case !slices.Contains(back, s.Addr):
		var published []string
		for _, a := range back {
			published = append(published, a.String())
		}
		c.add("where mail leaves from", s.Hostname, addressType(s.Addr), published).is(Wrong, publish(s.Hostname, addressType(s.Addr), s.Addr.String()),
			"mail leaves from %s by this name, which does not lead back there; many servers refuse mail from such an address", s.Addr)
	default:
		c.add("where mail leaves from", s.Hostname, addressType(s.Addr), []string{s.Addr.String()})
	}
}
