package guard

import (
	"net"
	"net/netip"
)

// RemoteAddr returns the address at the other end, unmapped (::ffff:192.0.2.1 is 192.0.2.1); the zero Addr if it has none, as a
// unix socket.
func RemoteAddr(c net.Conn) netip.Addr { return Unmap(c.RemoteAddr()) }

// Unmap is RemoteAddr for an address that somebody else took from the connection.
func Unmap(addr net.Addr) netip.Addr {
	switch a := addr.(type) {
	case *net.TCPAddr:
		return a.AddrPort().Addr().Unmap().WithZone("")
	case *proxiedAddr:
		return a.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}

// shared are prefixes behind which one /64 is many strangers: NAT64, Teredo, the discard prefix.
var shared = [...]netip.Prefix{
	netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("2001::/32"), netip.MustParsePrefix("100::/64"),
}

// Prefix returns what counts as one client: an IPv4 address, an IPv6 /64, or one address of those ranges where a /64 is shared.
func Prefix(a netip.Addr) netip.Prefix { return prefixes(a)[0].prefix }

// scope is one of the prefixes that an address counts for, and how many times as much it may do as one client.
type scope struct {
	prefix netip.Prefix
	times  int
}

// prefixes returns the client itself and the networks around it that one tenant may hold alone; wider ones may do more. Shared ranges
// have no network around a client.
func prefixes(a netip.Addr) []scope {
	a = a.Unmap()
	bits := []int{32, 26, 21}
	if a.Is6() {
		bits = []int{64, 48, 32}
		for _, p := range shared {
			if p.Contains(a) {
				bits = []int{128}
			}
		}
	}
	if !a.IsValid() {
		bits = []int{0} // no address, as over a unix socket: one client
	}
	scopes := make([]scope, len(bits))
	times := 1
	for i, n := range bits {
		p, _ := a.Prefix(n) // n fits the address
		scopes[i] = scope{p, times}
		times *= 3
	}
	return scopes
}
