package zone

import (
	"errors"
	"slices"
	"strings"

	"latchkey/internal/mtasts"
)

// extras looks at what is good to have.
func (c *checker) extras() {
	for _, want := range c.p.extras() {
		if want.Type == "TLSA" {
			continue
		}
		f, list, ok := c.records(strings.SplitN(want.Purpose, ":", 2)[0], want.Name, want.Type)
		switch {
		case !ok:
		case len(list) > 0:
			c.extra(f, want, list)
		case want.Type == "CNAME" || want.Type == "SRV":
			c.list = c.list[:len(c.list)-1] // an A record or another name does as well; what uses the name would miss it
		case want.Optional:
			f.is(Note, "", "not published; mail arrives without it")
		default:
			f.is(Note, publish(want.Name, want.Type, want.Data), "not published, so that nobody knows of it")
		}
	}
	c.dane()
}

func (c *checker) extra(f *Finding, want Record, list []string) {
	starts := func(with string) bool { return strings.HasPrefix(strings.ReplaceAll(list[0], " ", "")+";", with+";") }
	switch {
	case want.Type == "TXT" && len(list) > 1:
		f.is(Wrong, "remove all but one", "there are %d records, so that none counts", len(list))
	case strings.HasPrefix(want.Name, "_smtp._tls.") && (!starts("v=TLSRPTv1") || tagsOf(list[0])["rua"] == ""):
		f.is(Wrong, publish(want.Name, "TXT", want.Data), "it is no TLSRPT record (RFC 8460 §3)")
	case want.Name == mtasts.RecordName(c.p.Domain):
		c.strict(f, want, list)
	}
}

// strict looks at MTA-STS: the record alone does nothing, and a policy that is not found leaves senders with what they knew.
func (c *checker) strict(f *Finding, want Record, list []string) {
	id, ok := mtasts.ParseRecord(list)
	if !ok {
		f.is(Wrong, publish(want.Name, "TXT", want.Data), "it is no MTA-STS record (RFC 8461 §3.1)")
		return
	}
	host := mtasts.Host(c.p.Domain)
	switch list, err := addresses(c.ctx, c.dns, host); {
	case err != nil:
		f.is(Unknown, "ask again later", "no name server could say where %s is", host)
		return
	case len(list) == 0:
		f.is(Wrong, "set up "+host+", or remove this record", "the record announces a policy, but %s, which should have it, has no address", host)
		return
	}
	if c.p.Policy != nil && id != c.p.Policy.ID() {
		f.is(Wrong, publish(want.Name, "TXT", want.Data)+" in its place",
			"its id is not of the present policy, so that those who know another one keep to that")
	}
	if c.fetch != nil {
		c.served(host)
	}
}

// served fetches the policy as others do, and looks whether mail for the domain can keep it.
func (c *checker) served(host string) {
	policy, err := c.fetch(c.ctx, c.p.Domain)
	f := c.add("MTA-STS", host, "policy", nil)
	if err == nil {
		for line := range strings.Lines(policy.Text()) {
			f.Published = append(f.Published, shown(strings.TrimRight(line, "\r\n")))
		}
		f.Published = f.Published[:min(len(f.Published), maxShown)]
	}
	var outside []string
	for _, exchanger := range c.hosts {
		if !policy.Matches(exchanger) {
			outside = append(outside, shown(exchanger))
		}
	}
	mode := policy.Mode
	switch {
	case errors.Is(err, mtasts.ErrCertificate):
		f.is(Wrong, "have the certificate name "+host+" (acme.names)", "the certificate there is not one for %s, so that nobody reads the policy", host)
	case errors.Is(err, mtasts.ErrInvalid):
		f.is(Wrong, "let this server serve it (web.mta_sts), or mend it", "what is there is no policy: %s", shown(err.Error()))
	case err != nil:
		f.is(Wrong, "let "+host+" lead to the pages of this server by HTTPS, and set web.mta_sts", "the policy cannot be fetched: %s", shown(err.Error()))
	case mode != mtasts.None && len(outside) > 0:
		state, what := Wrong, "nobody who keeps it sends mail there"
		if mode == mtasts.Testing {
			state, what = Note, "once it is enforced, nobody who keeps it sends mail there"
		}
		f.is(state, "remove them from the MX records, or put them into the policy",
			"it leaves out the mail exchanger %s: %s", strings.Join(outside, ", "), what)
	case c.p.Policy != nil && policy.Text() != c.p.Policy.Text():
		f.is(Wrong, "let "+host+" lead to this server", "what is there is not the policy of this server (%s)", c.p.Policy.Mode)
	case mode == mtasts.Testing:
		f.is(Note, "once the reports look well: web.mta_sts = \"enforce\"", "it is for testing: mail goes over connections that fail it too")
	}
}

// dane looks at the TLSA records: of the present key one must be there if there are any, of the next one should.
func (c *checker) dane() {
	wanted := c.p.keyRecords()
	if len(wanted) == 0 {
		return
	}
	f, list, ok := c.records("DANE", wanted[0].Name, "TLSA")
	if !ok {
		return
	}
	lacks := func(want Record) bool {
		return !slices.ContainsFunc(list, func(have string) bool { return sameTLSA(have, want.Data) })
	}
	switch {
	case len(list) == 0 && c.p.DANE:
		f.is(Note, publish(f.Name, "TLSA", wanted[0].Data), "there is none; with a signed zone, others could tell this server from an impostor")
	case len(list) == 0:
		f.is(Note, "", "not published; mail arrives without it")
	case lacks(wanted[0]):
		f.is(Wrong, "publish: "+f.Name+". TLSA "+wanted[0].Data+" and wait for the TTL of the old one before a new key is used",
			"none of the records is that of the server's certificate; hosts that keep to DANE do not deliver here")
	case len(wanted) > 1 && lacks(wanted[1]):
		f.is(Note, publish(f.Name, "TLSA", wanted[1].Data), "the next key has no record yet; it must have one before acme.key_number is raised")
	}
}

// sameTLSA compares TLSA records; white space within the digest does not count.
func sameTLSA(a, b string) bool {
	return strings.EqualFold(strings.Join(strings.Fields(a), ""), strings.Join(strings.Fields(b), ""))
}
