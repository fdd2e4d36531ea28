package resolver

import (
	"context"
	"net/netip"
	"strings"

	"github.com/miekg/dns"
)

// MaxRecords is how many records of one name and type are used.
const MaxRecords = 100

// Records gives the records of a name and a type as the name servers say now, past the cache, and MaxRecords at most: a TXT record with its
// strings joined, any other in the form of a zone file, behind the type. It follows aliases, unless the type is CNAME. None is an empty list;
// the only error is ErrTemporary. Names in it are in lower case and end in a dot. What it gives is what a stranger wrote: a caller that shows
// it cleans it.
func (r *Resolver) Records(ctx context.Context, name, rrtype string) ([]string, error) {
	qtype, ok := dns.StringToType[rrtype]
	if !ok {
		return nil, temporary("", "%q is no type of records", rrtype)
	}
	if _, ok := dns.IsDomainName(name); !ok {
		return nil, nil
	}
	k := key{strings.ToLower(strings.TrimSuffix(name, ".")), qtype}
	at, hops := dns.Fqdn(k.name), 0
	for {
		msg, err := r.ask(ctx, k, at)
		if err != nil {
			return nil, err
		}
		w := walk{name: at, hops: hops, ttl: maxTTL}
		if !w.follow(msg, qtype) {
			return nil, temporary("", "the aliases (CNAME) of %s go round in a loop, or are more than %d", k.name, maxCNAMEs)
		}
		if len(w.found) == 0 && w.hops > hops && msg.Rcode != dns.RcodeNameError && negativeTTL(msg, maxTTL) == 0 {
			at, hops = w.name, w.hops // the server stopped at an alias
			continue
		}
		list := make([]string, 0, len(w.found))
		for _, rr := range w.found[:min(len(w.found), MaxRecords)] {
			list = append(list, textOf(rr))
		}
		return list, nil
	}
}

// textOf is the data of a record.
func textOf(rr dns.RR) string {
	if txt, ok := rr.(*dns.TXT); ok {
		var b strings.Builder
		for _, s := range txt.Txt {
			b.WriteString(unescape(s))
		}
		return b.String()
	}
	text := strings.TrimPrefix(rr.String(), rr.Header().String())
	return strings.ToLower(text)
}

// unescape undoes what the library does to octets that are not printable, to quotes and to backslashes.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] != '\\' || i+1 == len(s):
			out = append(out, s[i])
		case i+3 < len(s) && isDigit(s[i+1]) && isDigit(s[i+2]) && isDigit(s[i+3]):
			out = append(out, (s[i+1]-'0')*100+(s[i+2]-'0')*10+(s[i+3]-'0'))
			i += 3
		default:
			i++
			out = append(out, s[i])
		}
	}
	return string(out)
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// ReverseName is the name at which the PTR record of an address is.
func ReverseName(a netip.Addr) string {
	name, err := dns.ReverseAddr(a.Unmap().WithZone("").String())
	if err != nil {
		return ""
	}
	return name
}
