package config

import (
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

// outgoing loads flags, and returns what came of them and every mistake.
func outgoing(flags map[string]string) (Config, string) {
	flags["data"] = "d"
	for _, door := range []string{"pop3s", "submission", "smtps"} {
		flags["listen."+door] = ""
	}
	c, err := LoadServer(Sources{Flags: flags})
	var mistakes Mistakes
	if errors.As(err, &mistakes) {
		return c, mistakes.Error()
	}
	return c, ""
}

func TestRelayKeys(t *testing.T) {
	c, mistakes := outgoing(map[string]string{
		"proxies": "192.0.2.1, 10.0.0.0/8,::ffff:192.0.2.9,fe80::1", "relay.smarthost": "Smart.Example.:587", "relay.smarthost_user": "us",
		"relay.smarthost_password_file": "/etc/latchkey//password", "relay.smarthost_tls": "implicit", "relay.allow_networks": "127.0.0.0/8,::1",
		"relay.nameservers": "127.0.0.1,[::1]:5353,127.0.0.2:54", "relay.port": "2525", "relay.dnssec": "trust",
		"relay.tls_reports": "off",
	})
	want := Relay{
		Smarthost: "smart.example:587", SmarthostUser: "us", SmarthostPasswordFile: "/etc/latchkey/password", SmarthostTLS: SmarthostImplicit,
		AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")},
		Nameservers: []netip.AddrPort{
			netip.MustParseAddrPort("127.0.0.1:53"), netip.MustParseAddrPort("[::1]:5353"), netip.MustParseAddrPort("127.0.0.2:54"),
		},
		DNSSEC: DNSSECTrust, Port: 2525, Connections: 200, ConnectionsPerHost: 20,
	}
	proxies := []netip.Prefix{
		netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.9/32"),
		netip.MustParsePrefix("fe80::1/128"),
	}
	if mistakes != "" || !reflect.DeepEqual(c.Relay, want) || !reflect.DeepEqual(c.Proxies, proxies) {
		t.Errorf("got %+v, %v, %s", c.Relay, c.Proxies, mistakes)
	}
}

func TestRelayMistakes(t *testing.T) {
	addresses := func(n int) string {
		list := make([]string, n)
		a := netip.MustParseAddr("192.0.2.0")
		for i := range list {
			list[i], a = a.String(), a.Next()
		}
		return strings.Join(list, ",")
	}
	for _, tt := range []struct {
		name  string
		flags map[string]string
		want  string // "" for none
	}{
		{"unknown word for DNSSEC", map[string]string{"relay.dnssec": "yes"}, "is not one of"},
		{"reports perhaps", map[string]string{"relay.tls_reports": "true"}, "neither on nor off"},
		{"address as smarthost", map[string]string{"relay.smarthost": "[2001:db8::1]:25"}, ""},
		{"smarthost without a port", map[string]string{"relay.smarthost": "smart.example"}, "is not host:port"},
		{"smarthost on port 0", map[string]string{"relay.smarthost": "smart.example:0"}, "1 to 65535"},
		{"smarthost on port 65536", map[string]string{"relay.smarthost": "smart.example:65536"}, "1 to 65535"},
		{"smarthost with a bad name", map[string]string{"relay.smarthost": "-x-:25"}, "a name or an IP address"},
		{"user without a smarthost", map[string]string{"relay.smarthost_user": "u"}, "relay.smarthost is missing"},
		{"user without a password", map[string]string{"relay.smarthost": "s.example:25", "relay.smarthost_user": "u"}, "password_file is missing"},
		{"password without a user", map[string]string{"relay.smarthost": "s.example:25", "relay.smarthost_password_file": "/p"}, "user is missing"},
		{"password in the clear", map[string]string{
			"relay.smarthost": "s.example:25", "relay.smarthost_user": "u", "relay.smarthost_password_file": "/p", "relay.smarthost_tls": "opportunistic",
		}, "would show the password"},
		{"user of two lines", map[string]string{"relay.smarthost_user": "u\nv"}, "one line"},
		{"longest user", map[string]string{
			"relay.smarthost": "s.example:25", "relay.smarthost_user": strings.Repeat("u", 255), "relay.smarthost_password_file": "/p",
		}, ""},
		{"user too long", map[string]string{"relay.smarthost_user": strings.Repeat("u", 256)}, "at most 255"},
		{"unknown TLS", map[string]string{"relay.smarthost_tls": "maybe"}, "is not one of"},
		{"most networks", map[string]string{"proxies": addresses(MaxNetworks)}, ""},
		{"too many networks", map[string]string{"proxies": addresses(MaxNetworks + 1)}, "at most 100"},
		{"network with host bits", map[string]string{"relay.allow_networks": "10.0.0.1/8"}, "10.0.0.0/8 is the network"},
		{"mapped network", map[string]string{"relay.allow_networks": "::ffff:10.0.0.0/104"}, "the IPv4 network itself"},
		{"name as network", map[string]string{"proxies": "proxy.example"}, "neither an address nor a network"},
		{"network named twice", map[string]string{"proxies": "10.0.0.1,10.0.0.1/32"}, "named twice"},
		{"name as name server", map[string]string{"relay.nameservers": "dns.example"}, "is not an address"},
		{"name server on port 0", map[string]string{"relay.nameservers": "127.0.0.1:0"}, "is not an address"},
		{"port 0", map[string]string{"relay.port": "0"}, "1 to 65535"},
		{"last port", map[string]string{"relay.port": "65535"}, ""},
		{"port too high", map[string]string{"relay.port": "65536"}, "1 to 65535"},
	} {
		_, got := outgoing(tt.flags)
		if tt.want == "" && got != "" || !strings.Contains(got, tt.want) || strings.Count(got, "\n") > 0 {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}
