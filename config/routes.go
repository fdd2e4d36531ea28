package config

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"latchkey/internal/mailaddr"
)

// MaxOutgoing bounds Relay.Connections and Relay.ConnectionsPerHost.
const MaxOutgoing = 10_000

// Source is an address of this host from which mail leaves.
type Source struct {
	Addr netip.Addr
	// Hostname is its name in EHLO; "" is that of the server.
	Hostname string
}

// Route sends some of the mail elsewhere than the rest.
type Route struct {
	// Domain is the recipients': a domain, "*." and one for those below it, or "" for any. Sender is an address of this domain whose mailbox's
	// mail is meant, or the zero address for anybody's. One of them is set.
	Domain string
	Sender mailaddr.Address
	// Host is host:port; "" delivers to each domain's own servers.
	Host string
	// TLS, User and PasswordFile are as those of the smarthost.
	TLS                SmarthostTLS
	User, PasswordFile string
}

// setSources reads addresses, each with "=" and a name behind it or not.
func setSources(c *Config, value string) error {
	list, err := parseList(value, func(one string) (Source, error) {
		text, name, named := strings.Cut(one, "=")
		a, err := netip.ParseAddr(strings.TrimSpace(text))
		if err != nil || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() {
			return Source{}, fmt.Errorf("%q is not an address of this host, with =name behind it or without", one)
		}
		s := Source{Addr: a.Unmap()}
		if named {
			if s.Hostname, err = mailaddr.CanonicalDomain(strings.TrimSpace(name)); err != nil || strings.HasPrefix(s.Hostname, "[") {
				return s, fmt.Errorf("%q: %q is not a host name", one, name)
			}
		}
		return s, nil
	})
	for i, s := range list {
		if err == nil && slices.ContainsFunc(list[:i], func(o Source) bool { return o.Addr == s.Addr }) {
			err = fmt.Errorf("%s is named twice", s.Addr)
		}
	}
	c.Relay.Sources = list
	return err
}

func setRoutes(c *Config, value string) error {
	list, err := parseList(value, parseRoute)
	c.Relay.Routes = list
	return err
}

// parseRoute reads WHOM WHERE [tls=HOW] [user=NAME password_file=FILE].
func parseRoute(text string) (Route, error) {
	fields := strings.Fields(text)
	if len(fields) < 2 {
		return Route{}, fmt.Errorf("%q: a route is a domain, *.domain or from:address, then host:port or mx", text)
	}
	r := Route{TLS: SmarthostVerify}
	if err := r.setWhom(fields[0]); err != nil {
		return r, err
	}
	for _, field := range fields[2:] {
		name, value, _ := strings.Cut(field, "=")
		var where Config
		var err error
		switch name {
		case "tls":
			err = setSmarthostTLS(&where, value)
			r.TLS = where.Relay.SmarthostTLS
		case "user":
			err = setLine(func(*Config) *string { return &r.User })(&where, value)
		case "password_file":
			err = setPath(func(*Config) *string { return &r.PasswordFile })(&where, value)
		default:
			err = fmt.Errorf("%q is not one of tls=, user= and password_file=", field)
		}
		if err != nil {
			return r, fmt.Errorf("route for %s: %w", fields[0], err)
		}
	}
	var err error
	switch {
	case fields[1] == "mx" && len(fields) > 2:
		err = errors.New("nothing follows mx")
	case fields[1] == "mx":
	default:
		var where Config
		err = setSmarthost(&where, fields[1])
		r.Host = where.Relay.Smarthost
	}
	switch {
	case err != nil:
	case (r.User == "") != (r.PasswordFile == ""):
		err = errors.New("user and password_file go together")
	case r.User != "" && (r.TLS == SmarthostNone || r.TLS == SmarthostOpportunistic):
		err = fmt.Errorf("tls=%s would show the password to the network", r.TLS)
	}
	if err != nil {
		err = fmt.Errorf("route for %s: %w", fields[0], err)
	}
	return r, err
}

// setWhom reads whose mail it is.
func (r *Route) setWhom(text string) (err error) {
	if from, ok := strings.CutPrefix(text, "from:"); ok {
		if r.Sender, err = mailaddr.Parse(from); err != nil || r.Sender.IsZero() {
			return fmt.Errorf("%q: %q is not an address", text, from)
		}
		return nil
	}
	below, wild := strings.CutPrefix(text, "*.")
	domain, err := mailaddr.CanonicalDomain(below)
	if err != nil || strings.HasPrefix(domain, "[") {
		return fmt.Errorf("%q is not a domain, *.domain or from:address", text)
	}
	if r.Domain = domain; wild {
		r.Domain = "*." + domain
	}
	return nil
}

// setConnections reads how many there may be.
func setConnections(field func(*Config) *int) func(*Config, string) error {
	return func(c *Config, value string) error {
		n, err := strconv.Atoi(value)
		if err != nil || n < 1 || n > MaxOutgoing {
			return fmt.Errorf("%q is not a number of 1 to %d", value, MaxOutgoing)
		}
		*field(c) = n
		return nil
	}
}
