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
	if a, ok := addr.(*net.TCPAddr); ok {
		return a.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}

// shared are prefixes behind which one /64 is many strangers: NAT64, Teredo, the discard prefix.
var shared = [...]netip.Prefix{
	netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("2001::/32"), netip.MustParsePrefix("100::/64"),
}

// Prefix returns what counts as one client: an IPv4 address, an IPv6 /64, or one address of those ranges where a /64 is shared.
func Prefix(a netip.Addr) netip.Prefix {
	a = a.Unmap()
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
		for _, p := range shared {
			if p.Contains(a) {
				bits = 128
			}
		}
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}
