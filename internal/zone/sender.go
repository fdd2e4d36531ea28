package zone

import (
	"context"
	"net"
	"net/netip"

	"blitiri.com.ar/go/spf"

	"latchkey/internal/mailaddr"
)

// SenderResult evaluates SPF for a message that came from an address, with a name in EHLO and a reverse-path (RFC 7208 §2.3, §2.4). It
// returns the result (RFC 7208 §2.6) and whose policy that is: of the reverse-path's domain, or for the null reverse-path of the name in
// EHLO; none of nobody if that is no domain. Package spf bounds the lookups; ctx bounds their time.
func SenderResult(ctx context.Context, dns DNS, from netip.Addr, hello string, sender mailaddr.Address) (result, domain string) {
	if sender.IsZero() {
		name, err := mailaddr.CanonicalDomain(hello)
		if err == nil {
			sender, err = mailaddr.New("postmaster", name)
		}
		if err != nil {
			return string(spf.None), ""
		}
	}
	if sender.IsLiteral() {
		return string(spf.None), ""
	}
	r, _ := spf.CheckHostWithSender(net.IP(from.AsSlice()), hello, sender.String(), spf.WithContext(ctx), spf.WithResolver(spfDNS{dns}))
	return string(r), sender.Domain()
}
