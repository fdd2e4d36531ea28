package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"latchkey/internal/mailaddr"
)

// Bounds of the values.
const (
	// MaxAddresses bounds the addresses of one door.
	MaxAddresses = 16
	// MaxConnections bounds limits.connections and limits.connections_per_address; both are at least 1.
	MaxConnections = 100_000
	// maxPath bounds a path in octets: PATH_MAX of Linux, less its NUL.
	maxPath = 4095
)

// EnvPrefix starts the name of every environment variable.
const EnvPrefix = "LATCHKEY_"

// kind is the form of a value in the file; flags and variables are always text.
type kind string

// The forms.
const (
	text      kind = "text"
	number    kind = "number"
	addresses kind = "addresses"
)

// Key is one line of the table.
type Key struct {
	// Name is the key in the file; a dot separates the table from the key.
	Name string
	// Default is the value, as a flag would give it, when nothing sets it.
	Default string
	// Help is one sentence for people.
	Help string

	kind kind
	set  func(c *Config, value string) error
}

// Flag is the name of the key's flag, without dashes in front.
func (k Key) Flag() string { return strings.NewReplacer(".", "-", "_", "-").Replace(k.Name) }

// Env is the name of the key's environment variable.
func (k Key) Env() string { return EnvPrefix + strings.ToUpper(strings.ReplaceAll(k.Name, ".", "_")) }

// Keys returns the table of everything that can be configured.
func Keys() []Key {
	return slices.Concat(serverKeys(), acmeKeys(), webKeys(), outgoingKeys(), reputationKeys())
}

func serverKeys() []Key {
	return []Key{
		{
			Name: "data", kind: text,
			Help: "data directory of the domain; must be set",
			set:  setPath(func(c *Config) *string { return &c.Data }),
		},
		{
			Name: "hostname", kind: text,
			Help: "name of this server in greetings and Received lines; empty: the machine's own name",
			set:  setHostname(func(c *Config) *string { return &c.Hostname }),
		},
		{
			Name: "old_hostname", kind: text,
			Help: "name at which mail programs reach the doors for old clients, if those have an address of their own; empty: hostname",
			set:  setHostname(func(c *Config) *string { return &c.OldHostname }),
		},
		door("pop3", ":110", "POP3 with STLS", func(l *Listen) *[]string { return &l.POP3 }),
		door("pop3s", ":995", "POP3 with TLS from the start", func(l *Listen) *[]string { return &l.POP3S }),
		door("mx", ":25", "SMTP for mail from other servers", func(l *Listen) *[]string { return &l.MX }),
		door("submission", ":587", "SMTP submission with STARTTLS", func(l *Listen) *[]string { return &l.Submission }),
		door("smtps", ":465", "SMTP submission with TLS from the start", func(l *Listen) *[]string { return &l.SMTPS }),
		door("old_pop3", "", "POP3 with STLS for old clients", func(l *Listen) *[]string { return &l.OldPOP3 }),
		door("old_pop3s", "", "POP3 with TLS from the start for old clients", func(l *Listen) *[]string { return &l.OldPOP3S }),
		door("old_submission", "", "SMTP submission with STARTTLS for old clients", func(l *Listen) *[]string { return &l.OldSubmission }),
		door("old_smtps", "", "SMTP submission with TLS from the start for old clients", func(l *Listen) *[]string { return &l.OldSMTPS }),
		{
			Name: "listen.sniff", Default: strings.Join(clearDoors, ","), kind: addresses,
			Help: "which of the doors " + strings.Join(clearDoors, ", ") + " take a client that begins with TLS at once; empty: none",
			set:  setSniff,
		},
		{
			Name: "tls.cert", kind: text,
			Help: "certificate chain, PEM; read again when it changes",
			set:  setPath(func(c *Config) *string { return &c.TLS.Cert }),
		},
		{
			Name: "tls.key", kind: text,
			Help: "private key of the certificate, PEM; read again when it changes",
			set:  setPath(func(c *Config) *string { return &c.TLS.Key }),
		},
		{
			Name: "log.level", Default: "info", kind: text,
			Help: "least severity that is logged: debug, info, warn or error",
			set:  setWord(func(c *Config) *string { return &c.Log.Level }, "debug", "info", "warn", "error"),
		},
		{
			Name: "log.format", Default: "text", kind: text,
			Help: "form of the log on standard error: text or json",
			set:  setWord(func(c *Config) *string { return &c.Log.Format }, "text", "json"),
		},
		{
			Name: "limits.connections", Default: "2000", kind: number,
			Help: "most connections open at once at all doors together; one listening address has three of four",
			set:  setNumber(func(c *Config) *int { return &c.Limits.Connections }),
		},
		{
			Name: "limits.connections_per_address", Default: "50", kind: number,
			Help: "most of them from one client address (IPv6: one /64); the networks around it may have three and nine times as many",
			set:  setNumber(func(c *Config) *int { return &c.Limits.ConnectionsPerAddress }),
		},
		{
			Name: "limits.messages_per_mailbox", Default: "600", kind: number,
			Help: "most messages that one mailbox takes from outside in an hour; what comes beyond is put off",
			set:  setNumber(func(c *Config) *int { return &c.Limits.MessagesPerMailbox }),
		},
	}
}

func webKeys() []Key {
	return []Key{
		{
			Name: "web.listen", kind: addresses,
			Help: "pages and JSON API of the Webmanager: one or more host:port, or unix:/path; plain HTTP on loopback and sockets, HTTPS elsewhere; empty: off",
			set: func(c *Config, value string) (err error) {
				c.Web.Listen, err = parseAddresses(value)
				return err
			},
		},
		{
			Name: "web.url", kind: text,
			Help: "how browsers reach the pages, such as https://mail.example.com; passkeys are made for this name; empty: as web.listen says",
			set:  setWebURL,
		},
		{
			Name: "web.mta_sts", Default: string(STSOff), kind: text,
			Help: "MTA-STS policy of the domain, which the pages serve at https://mta-sts.DOMAIN: testing (failures are reported), " +
				"enforce (no mail without TLS), none (to take one back) or off",
			set: setSTSMode,
		},
		{
			Name: "web.mta_sts_days", Default: "14", kind: number,
			Help: "how many days others may keep that policy, 1 to 365; few while you try it, more once it stands",
			set:  setSTSDays,
		},
	}
}

// maxWebURL bounds web.url in octets.
const maxWebURL = 200

func setWebURL(c *Config, value string) error {
	if value == "" {
		c.Web.URL = ""
		return nil
	}
	u, err := url.Parse(value)
	if err != nil || len(value) > maxWebURL || mailaddr.HasControl(value) || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" ||
		u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return fmt.Errorf("%q is not https://host or http://host, with a port or without", value)
	}
	c.Web.URL = u.Scheme + "://" + u.Host
	return nil
}

func setSTSMode(c *Config, value string) error {
	modes := []string{string(STSOff), string(STSTesting), string(STSEnforce), string(STSNone)}
	if !slices.Contains(modes, value) {
		return fmt.Errorf("%q is not one of %s", value, strings.Join(modes, ", "))
	}
	c.Web.STS = STSMode(value)
	return nil
}

func setSTSDays(c *Config, value string) error {
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 || n > 365 {
		return fmt.Errorf("%q is not a whole number of 1 to 365", value)
	}
	c.Web.STSDays = n
	return nil
}

// clearDoors are the doors that start in the clear, as listen.sniff names them.
var clearDoors = []string{"pop3", "mx", "submission", "old_pop3", "old_submission"}

func setSniff(c *Config, value string) error {
	c.Listen.Sniff = nil
	if strings.TrimSpace(value) == "" {
		return nil
	}
	for field := range strings.SplitSeq(value, ",") {
		name := strings.TrimSpace(field)
		if !slices.Contains(clearDoors, name) {
			return fmt.Errorf("%q is not one of %s", name, strings.Join(clearDoors, ", "))
		}
		if slices.Contains(c.Listen.Sniff, name) {
			return fmt.Errorf("%q is named twice", name)
		}
		c.Listen.Sniff = append(c.Listen.Sniff, name)
	}
	return nil
}

func door(name, address, help string, field func(*Listen) *[]string) Key {
	return Key{
		Name: "listen." + name, Default: address, kind: addresses,
		Help: help + ": one or more host:port, or unix:/path for a socket behind a proxy; empty: off",
		set: func(c *Config, value string) error {
			list, err := parseAddresses(value)
			*field(&c.Listen) = list
			return err
		},
	}
}

func setPath(field func(*Config) *string) func(*Config, string) error {
	return func(c *Config, value string) error {
		switch {
		case len(value) > maxPath:
			return fmt.Errorf("a path has at most %d octets", maxPath)
		case mailaddr.HasControl(value):
			return errors.New("a path has no control characters")
		case value != "":
			value = filepath.Clean(value)
		}
		*field(c) = value
		return nil
	}
}

func setHostname(field func(*Config) *string) func(*Config, string) error {
	return func(c *Config, value string) error {
		if value != "" {
			name, err := mailaddr.CanonicalDomain(value)
			if err != nil || strings.HasPrefix(name, "[") {
				return fmt.Errorf("%q is not a host name", value)
			}
			value = name
		}
		*field(c) = value
		return nil
	}
}

func setWord(field func(*Config) *string, words ...string) func(*Config, string) error {
	return func(c *Config, value string) error {
		if !slices.Contains(words, value) {
			return fmt.Errorf("%q is not one of %s", value, strings.Join(words, ", "))
		}
		*field(c) = value
		return nil
	}
}

func setNumber(field func(*Config) *int) func(*Config, string) error {
	return func(c *Config, value string) error {
		n, err := strconv.Atoi(value)
		if err != nil || n < 1 || n > MaxConnections {
			return fmt.Errorf("%q is not a whole number of 1 to %d", value, MaxConnections)
		}
		*field(c) = n
		return nil
	}
}

// UnixPrefix begins the address of a door that is a unix socket; its path follows.
const UnixPrefix = "unix:"

// maxSocketPath is what fits into sockaddr_un with its NUL.
const maxSocketPath = 107

// checkSocket looks at what follows UnixPrefix.
func checkSocket(path string) error {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path || len(path) > maxSocketPath || mailaddr.HasControl(path) {
		return fmt.Errorf("%q: behind %s stands the whole path of a socket, of at most %d octets", path, UnixPrefix, maxSocketPath)
	}
	return nil
}

// parseAddresses reads host:port or unix:path, or several with commas between. The host is an IP address, "localhost" or empty for all: other
// names would make the doors depend on DNS at start-up.
func parseAddresses(value string) ([]string, error) {
	if strings.TrimSpace(value) == "" {
		return nil, nil
	}
	fields := strings.Split(value, ",")
	if len(fields) > MaxAddresses {
		return nil, fmt.Errorf("at most %d addresses", MaxAddresses)
	}
	list := make([]string, 0, len(fields))
	for _, field := range fields {
		address := strings.TrimSpace(field)
		if slices.Contains(list, address) {
			return nil, fmt.Errorf("%q is named twice", address)
		}
		if path, ok := strings.CutPrefix(address, UnixPrefix); ok {
			if err := checkSocket(path); err != nil {
				return nil, err
			}
			list = append(list, address)
			continue
		}
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, fmt.Errorf("%q is not host:port (an IPv6 host stands in brackets)", address)
		}
		if _, err := netip.ParseAddr(host); err != nil && host != "" && host != "localhost" {
			return nil, fmt.Errorf("%q: the host is an IP address, localhost, or empty for all", address)
		}
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return nil, fmt.Errorf("%q: the port is a number of 0 to 65535", address)
		}
		list = append(list, address)
	}
	return list, nil
}
