package zone

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"blitiri.com.ar/go/spf"

	"latchkey/internal/resolver"
)

// isSPF reports whether a text is an SPF record (RFC 7208 §4.5).
func isSPF(text string) bool {
	text = strings.ToLower(text)
	return text == "v=spf1" || strings.HasPrefix(text, "v=spf1 ")
}

// spfResult is the result for mail from an address of the server, with a sender of a domain, and why in words for people.
func spfResult(ctx context.Context, dns DNS, a netip.Addr, helo, domain string) (spf.Result, string) {
	result, err := spf.CheckHostWithSender(net.IP(a.AsSlice()), helo, "postmaster@"+domain, spf.WithContext(ctx), spf.WithResolver(spfDNS{dns}))
	switch {
	case err == nil:
		return result, ""
	case errors.Is(err, spf.ErrLookupLimitReached):
		return result, "it takes more than 10 lookups (RFC 7208 §4.6.4), so that nobody follows it to its end"
	case errors.Is(err, spf.ErrVoidLookupLimitReached):
		return result, "more than 2 of the names in it do not exist (RFC 7208 §4.6.4)"
	case errors.Is(err, spf.ErrMultipleRecords):
		return result, "there are several records of SPF, so that none counts (RFC 7208 §4.5)"
	case errors.Is(err, spf.ErrUnknownField):
		return result, "it has a word that SPF does not know (RFC 7208 §4.6.1)"
	case errors.Is(err, spf.ErrInvalidIP), errors.Is(err, spf.ErrInvalidMask), errors.Is(err, spf.ErrInvalidMacro), errors.Is(err, spf.ErrInvalidDomain):
		return result, "it is misspelt: an address, a network or a name in it is none"
	}
	return result, ""
}

// spfDNS lets package spf ask the same servers.
type spfDNS struct{ dns DNS }

// records are those of one type. Like the standard library's, an error is a *net.DNSError: package spf looks at its type.
func (d spfDNS) records(ctx context.Context, name, rrtype string) ([]string, error) {
	list, err := d.dns.Records(ctx, name, rrtype)
	switch {
	case err != nil:
		return nil, &net.DNSError{Err: "no answer", Name: name, IsTemporary: true}
	case len(list) == 0:
		return nil, &net.DNSError{Err: "no such record", Name: name, IsNotFound: true}
	}
	return list, nil
}

// LookupTXT is for package spf.
func (d spfDNS) LookupTXT(ctx context.Context, name string) ([]string, error) {
	return d.records(ctx, name, "TXT")
}

// LookupMX is for package spf.
func (d spfDNS) LookupMX(ctx context.Context, name string) ([]*net.MX, error) {
	list, err := d.records(ctx, name, "MX")
	var found []*net.MX
	for _, one := range list {
		mx := &net.MX{}
		if _, err := fmt.Sscan(one, &mx.Pref, &mx.Host); err == nil {
			found = append(found, mx)
		}
	}
	return found, err
}

// LookupIPAddr is for package spf.
func (d spfDNS) LookupIPAddr(ctx context.Context, host string) ([]net.IPAddr, error) {
	list, err := addresses(ctx, d.dns, host)
	if err != nil {
		return nil, &net.DNSError{Err: "no answer", Name: host, IsTemporary: true}
	}
	if len(list) == 0 {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	var found []net.IPAddr
	for _, a := range list {
		found = append(found, net.IPAddr{IP: net.IP(a.AsSlice())})
	}
	return found, nil
}

// LookupAddr is for package spf.
func (d spfDNS) LookupAddr(ctx context.Context, address string) ([]string, error) {
	a, err := netip.ParseAddr(address)
	if err != nil {
		return nil, &net.DNSError{Err: "no address", Name: address, IsNotFound: true}
	}
	return d.records(ctx, resolver.ReverseName(a), "PTR")
}

// addresses are those of a host, of both families.
func addresses(ctx context.Context, dns DNS, host string) ([]netip.Addr, error) {
	var found []netip.Addr
	for _, rrtype := range []string{"A", "AAAA"} {
		list, err := dns.Records(ctx, host, rrtype)
		if err != nil {
			return nil, err
		}
		for _, one := range list {
			if a, err := netip.ParseAddr(one); err == nil {
				found = append(found, a.Unmap())
			}
		}
	}
	return found, nil
}
