package relay

import (
	"net/netip"
	"slices"
)

// closedNetworks are those that mail never goes to by itself: an MX record can name any address, and a mail server must not be a way
// into the networks around it. Documentation networks are not among them: nobody is there.
func closedNetworks() []closedNetwork {
	return []closedNetwork{
		{netip.MustParsePrefix("0.0.0.0/8"), "an unspecified address"},
		{netip.MustParsePrefix("10.0.0.0/8"), "a private address"},
		{netip.MustParsePrefix("100.64.0.0/10"), "an address of a provider's inner network"},
		{netip.MustParsePrefix("127.0.0.0/8"), "a loopback address"},
		{netip.MustParsePrefix("169.254.0.0/16"), "a link-local address"},
		{netip.MustParsePrefix("172.16.0.0/12"), "a private address"},
		{netip.MustParsePrefix("192.168.0.0/16"), "a private address"},
		{netip.MustParsePrefix("224.0.0.0/4"), "a multicast address"},
		{netip.MustParsePrefix("240.0.0.0/4"), "a reserved or broadcast address"},
		{netip.MustParsePrefix("::/128"), "an unspecified address"},
		{netip.MustParsePrefix("::1/128"), "a loopback address"},
		{netip.MustParsePrefix("64:ff9b:1::/48"), "an address of an inner translator"},
		{netip.MustParsePrefix("2001::/32"), "a Teredo address"},
		{netip.MustParsePrefix("fc00::/7"), "a private address"},
		{netip.MustParsePrefix("fe80::/10"), "a link-local address"},
		{netip.MustParsePrefix("fec0::/10"), "a private address"},
		{netip.MustParsePrefix("ff00::/8"), "a multicast address"},
	}
}

type closedNetwork struct {
	prefix netip.Prefix
	what   string
}

// targets decides which addresses may be connected to. It never changes once it is made.
type targets struct {
	closed []closedNetwork
	allow  []netip.Prefix
	own    func(netip.AddrPort) bool
	port   uint16
}

func newTargets(allow []netip.Prefix, own func(netip.AddrPort) bool, port uint16) *targets {
	return &targets{closed: closedNetworks(), allow: allow, own: own, port: port}
}

// isOwn reports whether one of our listeners answers there. Those are never a target: the message would go in circles.
func (t *targets) isOwn(a netip.Addr, port uint16) bool {
	if t.own == nil {
		return false
	}
	a = a.Unmap()
	inner, ok := embedded(a)
	return t.own(netip.AddrPortFrom(a, port)) || ok && t.own(netip.AddrPortFrom(inner, port))
}

// refused says why an address may not be connected to, or "" if it may. Addresses in which another one is hidden are judged by both,
// and the operator's word counts for the address as it is dialled.
func (t *targets) refused(a netip.Addr) string {
	switch {
	case !a.IsValid() || a.Zone() != "":
		return "not a global address"
	case t.isOwn(a, t.port):
		return "an address of this server itself"
	}
	if t.named(a) {
		return ""
	}
	a = a.Unmap()
	for _, n := range t.closed {
		if n.prefix.Contains(a) {
			return n.what
		}
	}
	if inner, ok := embedded(a); ok {
		for _, n := range t.closed {
			if n.prefix.Contains(inner) {
				return n.what + " inside an IPv6 one"
			}
		}
	}
	return ""
}

// named reports whether the operator named a network that the address is in.
func (t *targets) named(a netip.Addr) bool {
	a = a.Unmap()
	return slices.ContainsFunc(t.allow, func(p netip.Prefix) bool { return p.Contains(a) })
}

// embedded returns the IPv4 address that an IPv6 address leads to: by NAT64 (RFC 6052), 6to4 (RFC 3056), or as an IPv4-compatible or
// IPv4-translated one (RFC 4291 §2.5.5.1, RFC 2765 §2.1).
func embedded(a netip.Addr) (netip.Addr, bool) {
	if !a.Is6() || a.Is4In6() {
		return netip.Addr{}, false
	}
	b := a.As16()
	switch {
	case netip.MustParsePrefix("64:ff9b::/96").Contains(a),
		netip.MustParsePrefix("::/96").Contains(a) && a != netip.IPv6Unspecified() && a != netip.IPv6Loopback(),
		netip.MustParsePrefix("::ffff:0:0:0/96").Contains(a):
		return netip.AddrFrom4([4]byte(b[12:])), true
	case netip.MustParsePrefix("2002::/16").Contains(a):
		return netip.AddrFrom4([4]byte(b[2:6])), true
	}
	return netip.Addr{}, false
}
