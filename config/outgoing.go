package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"latchkey/internal/mailaddr"
)

// MaxNetworks bounds a list of networks or servers.
const MaxNetworks = 100

// SmarthostTLS is how the connection to the smarthost is protected.
type SmarthostTLS string

// The ways, weakest first. A password goes over the last three only.
const (
	SmarthostNone          SmarthostTLS = "none"
	SmarthostOpportunistic SmarthostTLS = "opportunistic"
	SmarthostRequired      SmarthostTLS = "required"
	SmarthostVerify        SmarthostTLS = "verify"
	SmarthostImplicit      SmarthostTLS = "implicit"
)

// DNSSEC says whose word counts that an answer of the DNS is validated.
type DNSSEC string

// The choices. The empty one is DNSSECLoopback.
const (
	// DNSSECLoopback: that of name servers on a loopback address.
	DNSSECLoopback DNSSEC = "loopback"
	// DNSSECTrust: that of all name servers.
	DNSSECTrust DNSSEC = "trust"
	// DNSSECOff: nobody's.
	DNSSECOff DNSSEC = "off"
)

// Relay says how mail leaves for other domains.
type Relay struct {
	// Smarthost is host:port of the server that takes all of it; "" delivers to each domain's own servers.
	Smarthost string
	// SmarthostUser and the password in SmarthostPasswordFile (its first line) log in there; "" for no login.
	SmarthostUser, SmarthostPasswordFile string
	SmarthostTLS                         SmarthostTLS
	// AllowNetworks are private or loopback networks that mail may be delivered to all the same.
	AllowNetworks []netip.Prefix
	// Nameservers are asked instead of those of /etc/resolv.conf.
	Nameservers []netip.AddrPort
	// DNSSEC says whose word counts that an answer of the DNS is validated, as DANE needs it.
	DNSSEC DNSSEC
	// TLSReports sends other domains the reports on TLS that they ask for (RFC 8460).
	TLSReports bool
	// Port is where other domains' servers listen: 25, but in a laboratory.
	Port int
	// Sources are the addresses from which mail leaves; a family without any is left to the system.
	Sources []Source
	// Routes come before Smarthost: the first that takes a recipient's domain and a sender counts.
	Routes []Route
	// Connections bounds the connections over which mail is sent at once, ConnectionsPerHost those to one host.
	Connections, ConnectionsPerHost int
}

// outgoingKeys are the lines of the table about the way out, and about what stands between this server and its clients.
func outgoingKeys() []Key {
	return []Key{
		{
			Name: "proxies", kind: addresses,
			Help: "addresses or networks of proxies in front: each connection from one must begin with a PROXY header, version 1 or 2, " +
				"and is one of the client that it names",
			set: setNetworks(func(c *Config) *[]netip.Prefix { return &c.Proxies }),
		},
		{
			Name: "relay.smarthost", kind: text,
			Help: "host:port of a server that takes all mail to other domains; empty: each domain's own servers",
			set:  setSmarthost,
		},
		{
			Name: "relay.smarthost_user", kind: text,
			Help: "user name for the smarthost; empty: no login",
			set:  setLine(func(c *Config) *string { return &c.Relay.SmarthostUser }),
		},
		{
			Name: "relay.smarthost_password_file", kind: text,
			Help: "file whose first line is the password; read at each login",
			set:  setPath(func(c *Config) *string { return &c.Relay.SmarthostPasswordFile }),
		},
		{
			Name: "relay.smarthost_tls", Default: string(SmarthostVerify), kind: text,
			Help: "none, opportunistic, required (any certificate), verify (a certificate for its name) or implicit (verified TLS from the start)",
			set:  setSmarthostTLS,
		},
		{
			Name: "relay.allow_networks", kind: addresses,
			Help: "private, loopback or link-local networks to which mail may be delivered; none otherwise",
			set:  setNetworks(func(c *Config) *[]netip.Prefix { return &c.Relay.AllowNetworks }),
		},
		{
			Name: "relay.nameservers", kind: addresses,
			Help: "name servers, address or address:port; empty: those of /etc/resolv.conf",
			set:  setNameservers,
		},
		{
			Name: "relay.dnssec", Default: string(DNSSECLoopback), kind: text,
			Help: "whose word counts that a DNS answer is validated (DNSSEC), without which there is no DANE: loopback (name servers on this host), " +
				"trust (all of them: they validate, and nobody can stand in between) or off",
			set: setDNSSEC,
		},
		{
			Name: "relay.tls_reports", Default: "on", kind: text,
			Help: "on: domains that ask for it get a daily report on how well TLS with their servers worked (RFC 8460); off",
			set:  setSwitch(func(c *Config) *bool { return &c.Relay.TLSReports }),
		},
		{
			Name: "relay.port", Default: "25", kind: number,
			Help: "port of other domains' servers; anything but 25 is for laboratories",
			set:  setPort(func(c *Config) *int { return &c.Relay.Port }),
		},
		{
			Name: "relay.source_addresses", kind: addresses,
			Help: "addresses of this host from which mail leaves, IPv4 and IPv6, each as address or address=name-in-EHLO; one destination always " +
				"sees the same one; empty: the system chooses",
			set: setSources,
		},
		{
			Name: "relay.routes", kind: addresses,
			Help: "where some of the mail goes, the first that fits counts: domain, *.domain or from:address, then host:port or mx, and " +
				"tls=verify (as relay.smarthost_tls), user=name, password_file=path; before relay.smarthost",
			set: setRoutes,
		},
		{
			Name: "relay.connections", Default: "200", kind: number,
			Help: "connections over which mail is sent at once",
			set:  setConnections(func(c *Config) *int { return &c.Relay.Connections }),
		},
		{
			Name: "relay.connections_per_host", Default: "20", kind: number,
			Help: "the most of them to one host or one domain; each begins with 2, and gets more while it takes the mail well",
			set:  setConnections(func(c *Config) *int { return &c.Relay.ConnectionsPerHost }),
		},
	}
}

func setLine(field func(*Config) *string) func(*Config, string) error {
	return func(c *Config, value string) error {
		if len(value) > 255 || mailaddr.HasControl(value) {
			return errors.New("is one line of at most 255 octets")
		}
		*field(c) = value
		return nil
	}
}

func setSmarthost(c *Config, value string) error {
	if value == "" {
		c.Relay.Smarthost = ""
		return nil
	}
	host, port, err := net.SplitHostPort(value)
	if err != nil {
		return fmt.Errorf("%q is not host:port (an IPv6 host stands in brackets)", value)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("%q: the port is a number of 1 to 65535", value)
	}
	if _, err := netip.ParseAddr(host); err != nil {
		if host, err = mailaddr.CanonicalDomain(host); err != nil || strings.HasPrefix(host, "[") {
			return fmt.Errorf("%q: the host is a name or an IP address", value)
		}
	}
	c.Relay.Smarthost = net.JoinHostPort(host, port)
	return nil
}

func setSmarthostTLS(c *Config, value string) error {
	ways := []string{
		string(SmarthostNone), string(SmarthostOpportunistic), string(SmarthostRequired), string(SmarthostVerify), string(SmarthostImplicit),
	}
	if !slices.Contains(ways, value) {
		return fmt.Errorf("%q is not one of %s", value, strings.Join(ways, ", "))
	}
	c.Relay.SmarthostTLS = SmarthostTLS(value)
	return nil
}

func setDNSSEC(c *Config, value string) error {
	ways := []string{string(DNSSECLoopback), string(DNSSECTrust), string(DNSSECOff)}
	if !slices.Contains(ways, value) {
		return fmt.Errorf("%q is not one of %s", value, strings.Join(ways, ", "))
	}
	c.Relay.DNSSEC = DNSSEC(value)
	return nil
}

// setSwitch reads on or off.
func setSwitch(field func(*Config) *bool) func(*Config, string) error {
	return func(c *Config, value string) error {
		if value != "on" && value != "off" {
			return fmt.Errorf("%q is neither on nor off", value)
		}
		*field(c) = value == "on"
		return nil
	}
}

func setPort(field func(*Config) *int) func(*Config, string) error {
	return func(c *Config, value string) error {
		n, err := strconv.ParseUint(value, 10, 16)
		if err != nil || n == 0 {
			return fmt.Errorf("%q is not a port of 1 to 65535", value)
		}
		*field(c) = int(n)
		return nil
	}
}

// setNetworks reads addresses and networks with commas between.
func setNetworks(field func(*Config) *[]netip.Prefix) func(*Config, string) error {
	return func(c *Config, value string) error {
		list, err := parseList(value, func(one string) (netip.Prefix, error) {
			if addr, err := netip.ParseAddr(one); err == nil {
				addr = addr.Unmap().WithZone("")
				return netip.PrefixFrom(addr, addr.BitLen()), nil
			}
			network, err := netip.ParsePrefix(one)
			switch {
			case err != nil:
				return network, fmt.Errorf("%q is neither an address nor a network such as 192.0.2.0/24", one)
			case network.Addr().Is4In6():
				return network, fmt.Errorf("%q: write the IPv4 network itself", one)
			case network != network.Masked():
				return network, fmt.Errorf("%q has host bits set: %s is the network", one, network.Masked())
			}
			return network, nil
		})
		*field(c) = list
		return err
	}
}

func setNameservers(c *Config, value string) error {
	list, err := parseList(value, func(one string) (netip.AddrPort, error) {
		if addr, err := netip.ParseAddr(one); err == nil {
			return netip.AddrPortFrom(addr, 53), nil
		}
		server, err := netip.ParseAddrPort(one)
		if err != nil || server.Port() == 0 {
			return server, fmt.Errorf("%q is not an address, or an address and a port", one)
		}
		return server, nil
	})
	c.Relay.Nameservers = list
	return err
}

// parseList reads what stands between commas, each once.
func parseList[T comparable](value string, parse func(string) (T, error)) ([]T, error) {
	if strings.TrimSpace(value) == "" {
		return nil, nil
	}
	fields := strings.Split(value, ",")
	if len(fields) > MaxNetworks {
		return nil, fmt.Errorf("at most %d of them", MaxNetworks)
	}
	list := make([]T, 0, len(fields))
	for _, field := range fields {
		one, err := parse(strings.TrimSpace(field))
		if err != nil {
			return nil, err
		}
		if slices.Contains(list, one) {
			return nil, fmt.Errorf("%q is named twice", strings.TrimSpace(field))
		}
		list = append(list, one)
	}
	return list, nil
}

// checkRelay refuses a login without what it needs, and one that would show the password to the network.
func (l *loader) checkRelay() {
	r := l.config.Relay
	for _, name := range []string{"relay.smarthost", "relay.smarthost_user", "relay.smarthost_password_file", "relay.smarthost_tls"} {
		if l.bad[name] {
			return
		}
	}
	switch {
	case r.Smarthost == "" && r.SmarthostUser != "":
		l.mistake(l.origin["relay.smarthost_user"], "relay.smarthost_user: relay.smarthost is missing")
	case r.SmarthostUser != "" && r.SmarthostPasswordFile == "":
		l.mistake(l.origin["relay.smarthost_user"], "relay.smarthost_user: relay.smarthost_password_file is missing")
	case r.SmarthostUser == "" && r.SmarthostPasswordFile != "":
		l.mistake(l.origin["relay.smarthost_password_file"], "relay.smarthost_password_file: relay.smarthost_user is missing")
	case r.SmarthostUser != "" && (r.SmarthostTLS == SmarthostNone || r.SmarthostTLS == SmarthostOpportunistic):
		l.mistake(l.origin["relay.smarthost_tls"], "relay.smarthost_tls: %s would show the password to the network: required, verify or implicit", r.SmarthostTLS)
	}
}
