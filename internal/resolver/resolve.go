package resolver

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// resolve asks until the question is answered, through aliases that one answer does not follow to their end. It says how long the
// answer may be kept.
func (r *Resolver) resolve(ctx context.Context, k key) (*answer, time.Duration) {
	name, hops := dns.Fqdn(k.name), 0
	ttl, secure := maxTTL, true
	for {
		msg, err := r.ask(ctx, k, name)
		if err != nil {
			return &answer{err: err}, failureTTL
		}
		secure = secure && msg.AuthenticatedData
		w := walk{name: name, hops: hops, ttl: ttl}
		if !w.follow(msg, k.qtype) {
			return &answer{err: temporary("", "the aliases (CNAME) of %s go round in a loop, or are more than %d", k.name, maxCNAMEs)}, failureTTL
		}
		switch {
		case msg.Rcode == dns.RcodeNameError:
			return &answer{err: notFound("NXDOMAIN", "%s does not exist in the DNS", k.name)}, negativeTTL(msg, w.ttl)
		case len(w.found) > 0:
			a := r.read(k, w.found)
			a.secure = secure
			if w.hops > 0 {
				a.alias, _ = hostName(w.name)
			}
			return a, max(w.ttl, minTTL)
		case w.hops > hops && negativeTTL(msg, maxTTL) == 0:
			// The server stopped at an alias, and did not say that there is nothing behind it.
			name, hops, ttl = w.name, w.hops, w.ttl
		default:
			return &answer{noData: true, secure: secure}, negativeTTL(msg, w.ttl)
		}
	}
}

// walk goes from a name through the aliases of an answer to the records.
type walk struct {
	name  string
	hops  int
	ttl   time.Duration // the least of what was seen
	found []dns.RR
}

// follow walks as far as the answer leads. False is a walk of more than maxCNAMEs steps.
func (w *walk) follow(msg *dns.Msg, qtype uint16) bool {
	for {
		w.found = w.records(msg.Answer, qtype)
		if len(w.found) > 0 {
			return true
		}
		aliases := w.records(msg.Answer, dns.TypeCNAME)
		if len(aliases) == 0 {
			return true
		}
		if w.hops++; w.hops > maxCNAMEs {
			return false
		}
		w.name = dns.Fqdn(aliases[0].(*dns.CNAME).Target)
	}
}

// records are those of the walk's name and of one type, and shorten the walk's TTL.
func (w *walk) records(all []dns.RR, rrtype uint16) []dns.RR {
	var found []dns.RR
	for _, rr := range all {
		h := rr.Header()
		if h.Rrtype != rrtype || h.Class != dns.ClassINET || !strings.EqualFold(h.Name, w.name) {
			continue
		}
		found = append(found, rr)
		w.ttl = min(w.ttl, seconds(h.Ttl))
	}
	return found
}

// seconds reads a TTL. One with the top bit set is 0 (RFC 2181 §8).
func seconds(ttl uint32) time.Duration {
	if ttl > 1<<31-1 {
		return 0
	}
	return time.Duration(ttl) * time.Second
}

// negativeTTL is how long "there is nothing" holds: the lesser of the TTL of the SOA record and its minimum (RFC 2308 §5), and of what
// the aliases on the way have. Without a SOA record it is 0: not to be kept.
func negativeTTL(msg *dns.Msg, ttl time.Duration) time.Duration {
	for _, rr := range msg.Ns {
		if soa, ok := rr.(*dns.SOA); ok {
			return min(ttl, seconds(soa.Hdr.Ttl), seconds(soa.Minttl), maxNegativeTTL)
		}
	}
	return 0
}

// read makes an answer of records, which are all of the type that was asked for.
func (r *Resolver) read(k key, records []dns.RR) *answer {
	switch k.qtype {
	case dns.TypeMX:
		return r.readMX(k.name, records)
	case dns.TypeTLSA:
		return readTLSA(records)
	case dns.TypeTXT:
		return readTXT(records)
	}
	a := &answer{}
	for _, rr := range records {
		var octets []byte
		switch rr := rr.(type) {
		case *dns.A:
			octets = rr.A
		case *dns.AAAA:
			octets = rr.AAAA
		}
		if ip, ok := netip.AddrFromSlice(octets); ok && len(a.addrs) < MaxAddrs && !slices.Contains(a.addrs, ip.Unmap()) {
			a.addrs = append(a.addrs, ip.Unmap())
		}
	}
	return a
}

// readMX keeps the best MaxMX hosts that can be used. A host that is named twice counts with its best preference.
func (r *Resolver) readMX(domain string, records []dns.RR) *answer {
	if !slices.ContainsFunc(records, func(rr dns.RR) bool { return !isNullMX(rr.(*dns.MX)) }) {
		return &answer{err: &Error{Class: ErrNullMX, Text: domain + " takes no mail (null MX)", Cause: "MX 0 ."}}
	}
	var list []MX
	dropped := 0
	for _, rr := range records {
		mx := rr.(*dns.MX)
		if host, ok := hostName(mx.Mx); ok {
			list = append(list, MX{Host: host, Preference: mx.Preference})
		} else if dropped++; dropped <= maxDroppedLogged {
			r.log.Info("MX record not usable", slog.String("domain", domain), slog.String("host", short(mx.Mx)),
				slog.Int("preference", int(mx.Preference)))
		}
	}
	if len(list) == 0 {
		return &answer{err: notFound("MX records without a host name", "none of the MX records of %s names a host that can be used", domain)}
	}
	sortMX(list)
	seen := map[string]bool{}
	list = slices.DeleteFunc(list, func(mx MX) bool {
		twice := seen[mx.Host]
		seen[mx.Host] = true
		return twice
	})
	return &answer{mx: slices.Clone(list[:min(len(list), MaxMX)])}
}

// isNullMX knows the record of RFC 7505 §3. Beside other records it means nothing, and with another preference it is only a record
// that names no host.
func isNullMX(mx *dns.MX) bool { return mx.Mx == "." && mx.Preference == 0 }

// maxDroppedLogged is how many unusable MX records of one answer are logged.
const maxDroppedLogged = 3

// short cuts what came out of the DNS for the log. The library has made it printable.
func short(s string) string { return s[:min(len(s), maxName)] }

// ask asks the servers in turn for the records of one name, until one gives an answer that can be believed. k is the question behind
// it, for the error.
func (r *Resolver) ask(ctx context.Context, k key, name string) (*dns.Msg, *Error) {
	system := r.conf.get()
	failures := make([]error, len(system.servers))
	for range system.attempts {
		for i, server := range system.servers {
			if failures[i] != nil && !errors.Is(failures[i], errNoAnswer) {
				continue
			}
			msg, err := exchange(ctx, server, name, k.qtype, system.timeout)
			if ctx.Err() != nil {
				return nil, cutShort(ctx, k)
			}
			if err == nil {
				msg.AuthenticatedData = msg.AuthenticatedData && r.trusts(server.Addr())
				return msg, nil
			}
			failures[i] = err
		}
	}
	causes := make([]string, len(failures))
	for i, err := range failures {
		causes[i] = system.servers[i].String() + ": " + err.Error()
	}
	return nil, temporary(strings.Join(causes, "; "), "the name servers could not answer the %s lookup for %s", dns.TypeToString[k.qtype], k.name)
}
