package relay

import (
	"net/netip"
	"testing"
)

// TestRefusedTargets: an MX record is written by a stranger, and must not lead into the networks around the server.
func TestRefusedTargets(t *testing.T) {
	own := func(ap netip.AddrPort) bool {
		return ap == netip.MustParseAddrPort("203.0.113.9:25") || ap == netip.MustParseAddrPort("10.9.9.9:25")
	}
	allow := []netip.Prefix{netip.MustParsePrefix("10.9.0.0/16"), netip.MustParsePrefix("fd00:1::/32")}
	tests := []struct {
		addr    string
		refused bool
	}{
		{"192.0.2.1", false}, {"198.51.100.1", false}, {"203.0.113.8", false}, {"8.8.8.8", false}, {"2001:db8::1", false}, {"2606:4700::1", false},
		{"0.0.0.0", true}, {"0.1.2.3", true}, {"10.0.0.1", true}, {"10.255.255.255", true}, {"9.255.255.255", false}, {"11.0.0.0", false},
		{"100.63.255.255", false}, {"100.64.0.0", true}, {"100.127.255.255", true}, {"100.128.0.0", false},
		{"126.255.255.255", false}, {"127.0.0.1", true}, {"127.255.255.254", true}, {"128.0.0.0", false},
		{"169.253.255.255", false}, {"169.254.0.1", true}, {"169.254.169.254", true}, {"169.255.0.0", false},
		{"172.15.255.255", false}, {"172.16.0.0", true}, {"172.31.255.255", true}, {"172.32.0.0", false},
		{"192.167.255.255", false}, {"192.168.0.0", true}, {"192.168.255.255", true}, {"192.169.0.0", false},
		{"223.255.255.255", false}, {"224.0.0.1", true}, {"239.255.255.255", true}, {"240.0.0.1", true}, {"255.255.255.255", true},
		{"::", true}, {"::1", true}, {"fc00::1", true}, {"fdff::1", true}, {"fe80::1", true}, {"fe80::1%eth0", true}, {"2001:db8::1%eth0", true},
		{"febf::1", true}, {"fec0::1", true}, {"ff02::1", true}, {"fbff::1", false}, {"2001::1", true}, {"64:ff9b:1::1", true},
		// Forms that hide an IPv4 address.
		{"::ffff:127.0.0.1", true}, {"::ffff:192.0.2.1", false}, {"::127.0.0.1", true}, {"::192.0.2.1", false}, {"::ffff:0:127.0.0.1", true},
		{"64:ff9b::127.0.0.1", true}, {"64:ff9b::10.0.0.1", true}, {"64:ff9b::192.0.2.1", false},
		{"2002:7f00:1::1", true}, {"2002:a00:1::1", true}, {"2002:c000:201::1", false},
		// Named by the operator: as it is dialled, not what hides in it.
		{"10.9.1.1", false}, {"::ffff:10.9.1.1", false}, {"fd00:1::5", false}, {"fd00:2::5", true}, {"64:ff9b::10.9.1.1", true}, {"10.10.0.1", true},
		// Our own listeners, named or not.
		{"203.0.113.9", true}, {"10.9.9.9", true}, {"::ffff:203.0.113.9", true}, {"64:ff9b::203.0.113.9", true}, {"2002:cb00:7109::1", true},
	}
	targets := newTargets(allow, own, 25)
	for _, tt := range tests {
		if got := targets.refused(netip.MustParseAddr(tt.addr)); (got != "") != tt.refused {
			t.Errorf("%s: refused %q, want refused: %v", tt.addr, got, tt.refused)
		}
	}
	if targets.refused(netip.Addr{}) == "" {
		t.Error("no address at all is a target")
	}
	if newTargets(nil, own, 2525).refused(netip.MustParseAddr("203.0.113.9")) != "" {
		t.Error("another port of our own address is refused")
	}
}
