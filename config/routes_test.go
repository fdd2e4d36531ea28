package config

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"latchkey/internal/mailaddr"
)

func TestRoutes(t *testing.T) {
	news, err := mailaddr.Parse("news@example.org")
	if err != nil {
		t.Fatal(err)
	}
	c, mistakes := outgoing(map[string]string{
		"relay.routes": "Partner.Example GW.partner.example:587 tls=required user=us password_file=/etc//p, *.corp.example [2001:db8::1]:25 tls=none," +
			"from:news@Example.org bulk.example:465 tls=implicit,special.example mx",
		"relay.source_addresses": "192.0.2.1=Mail1.Example.org, 2001:db8::2,::ffff:192.0.2.3", "relay.connections": "1", "relay.connections_per_host": "10000",
	})
	routes := []Route{
		{Domain: "partner.example", Host: "gw.partner.example:587", TLS: SmarthostRequired, User: "us", PasswordFile: "/etc/p"},
		{Domain: "*.corp.example", Host: "[2001:db8::1]:25", TLS: SmarthostNone},
		{Sender: news, Host: "bulk.example:465", TLS: SmarthostImplicit},
		{Domain: "special.example", TLS: SmarthostVerify},
	}
	sources := []Source{
		{Addr: netip.MustParseAddr("192.0.2.1"), Hostname: "mail1.example.org"}, {Addr: netip.MustParseAddr("2001:db8::2")},
		{Addr: netip.MustParseAddr("192.0.2.3")},
	}
	if mistakes != "" || !reflect.DeepEqual(c.Relay.Routes, routes) || !reflect.DeepEqual(c.Relay.Sources, sources) {
		t.Errorf("got %+v, %+v, %s", c.Relay.Routes, c.Relay.Sources, mistakes)
	}
	if c.Relay.Connections != 1 || c.Relay.ConnectionsPerHost != 10_000 {
		t.Errorf("connections %d, %d a host", c.Relay.Connections, c.Relay.ConnectionsPerHost)
	}
}

func TestRouteMistakes(t *testing.T) {
	for _, tt := range []struct{ key, value, want string }{
		{"routes", "a.example", "a route is a domain"},
		{"routes", "* h.example:25", "not a domain"},
		{"routes", "[192.0.2.1] h.example:25", "not a domain"},
		{"routes", "from:nobody h.example:25", "not an address"},
		{"routes", "a.example h.example", "is not host:port"},
		{"routes", "a.example h.example:0", "1 to 65535"},
		{"routes", "a.example mx tls=none", "nothing follows mx"},
		{"routes", "a.example h.example:25 tls=some", "is not one of none"},
		{"routes", "a.example h.example:25 colour=red", "is not one of tls="},
		{"routes", "a.example h.example:25 user=u", "go together"},
		{"routes", "a.example h.example:25 password_file=/p", "go together"},
		{"routes", "a.example h.example:25 tls=opportunistic user=u password_file=/p", "would show the password"},
		{"routes", "a.example mx,a.example mx", "named twice"},
		{"routes", strings.Repeat("a.example mx,", MaxNetworks) + "a.example mx", "at most 100"},
		{"source_addresses", "mail.example", "is not an address of this host"},
		{"source_addresses", "0.0.0.0", "is not an address of this host"},
		{"source_addresses", "fe80::1%eth0", "is not an address of this host"},
		{"source_addresses", "192.0.2.1=", "is not a host name"},
		{"source_addresses", "192.0.2.1=[192.0.2.1]", "is not a host name"},
		{"source_addresses", "192.0.2.1,192.0.2.1=a.example", "named twice"},
		{"connections", "0", "1 to 10000"},
		{"connections_per_host", "10001", "1 to 10000"},
	} {
		_, got := outgoing(map[string]string{"relay." + tt.key: tt.value})
		if !strings.Contains(got, tt.want) || strings.Count(got, "\n") > 0 {
			t.Errorf("%s %.60q: got %q, want %q", tt.key, tt.value, got, tt.want)
		}
	}
}
