package config

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	"latchkey/internal/mailaddr"
)

// MaxNames bounds acme.names.
const MaxNames = 20

// maxContacts bounds acme.contact, maxDirectory acme.directory in octets.
const (
	maxContacts  = 5
	maxDirectory = 500
)

// ACME says how the certificate comes from a CA (RFC 8555). It is off where Directory is "".
type ACME struct {
	// Directory is the URL of the CA's directory.
	Directory string
	// AgreeTerms says that the operator agrees to the CA's terms of service.
	AgreeTerms bool
	// Contact are mail addresses at which the CA reaches the operator.
	Contact []string
	// AccountKey is the file of the account's key; the processes of a host share it.
	AccountKey string
	// Names are further ones of the certificate: host names, or a single label that stands for that name of the domain.
	Names []string
	// HTTPListen are the addresses where the CA looks for its proof (RFC 8555 §8.3).
	HTTPListen []string
	// EABKeyID and the key in EABKeyFile (its first line, base64url) bind the account to one that the CA knows (RFC 8555 §7.3.4).
	EABKeyID, EABKeyFile string
	// CAFile has the certificates by which the directory's own is checked; "" is those of the system.
	CAFile string
	// KeyNumber tells the keys of the certificate apart: a higher one is another key.
	KeyNumber int
}

// On reports whether the certificate comes from a CA.
func (a ACME) On() bool { return a.Directory != "" }

func acmeKeys() []Key {
	return []Key{
		{
			Name: "acme.directory", kind: text,
			Help: "directory of a CA that issues the certificate by ACME, such as https://acme-v02.api.letsencrypt.org/directory; empty: tls.cert and tls.key",
			set:  setDirectory,
		},
		{
			Name: "acme.agree_terms", Default: "off", kind: text,
			Help: "on: you have read the CA's terms of service, and agree to them; without that there is no certificate",
			set:  setSwitch(func(c *Config) *bool { return &c.ACME.AgreeTerms }),
		},
		{
			Name: "acme.contact", kind: addresses,
			Help: "mail addresses at which the CA may reach you; best at another domain",
			set:  setContact,
		},
		{
			Name: "acme.account_key", kind: text,
			Help: "file of the key of the account with the CA, made when it is not there; the servers of one host share it",
			set:  setPath(func(c *Config) *string { return &c.ACME.AccountKey }),
		},
		{
			Name: "acme.names", kind: addresses,
			Help: "further names of the certificate beside hostname: host names, or mta-sts, autoconfig and the like for those names of the domain",
			set:  setNames,
		},
		{
			Name: "acme.http_listen", kind: addresses,
			Help: "where the CA looks whether the names are yours: one or more host:port, the port as seen from outside being 80, or unix:/path; " +
				"the rest is sent on to HTTPS; empty: the CA has to look at web.listen",
			set: func(c *Config, value string) (err error) {
				c.ACME.HTTPListen, err = parseAddresses(value)
				return err
			},
		},
		{
			Name: "acme.eab_key_id", kind: text,
			Help: "for a CA that wants its account bound to one of its customers: what it calls your key",
			set:  setLine(func(c *Config) *string { return &c.ACME.EABKeyID }),
		},
		{
			Name: "acme.eab_key_file", kind: text,
			Help: "file whose first line is that key, as the CA gave it (base64url)",
			set:  setPath(func(c *Config) *string { return &c.ACME.EABKeyFile }),
		},
		{
			Name: "acme.ca_file", kind: text,
			Help: "certificates, PEM, by which that of the directory is checked, for a CA of your own; empty: those of the system",
			set:  setPath(func(c *Config) *string { return &c.ACME.CAFile }),
		},
		{
			Name: "acme.key_number", Default: "1", kind: number,
			Help: "raise it by one to have the certificate for another key; the key stays over renewals",
			set:  setNumber(func(c *Config) *int { return &c.ACME.KeyNumber }),
		},
	}
}

func setDirectory(c *Config, value string) error {
	u, err := url.Parse(value)
	if value != "" && (err != nil || len(value) > maxDirectory || mailaddr.HasControl(value) || u.Scheme != "https" || u.Host == "" || u.User != nil ||
		u.Fragment != "") {
		return fmt.Errorf("%q is not the https:// URL of a CA's directory", value)
	}
	c.ACME.Directory = value
	return nil
}

func setContact(c *Config, value string) error {
	list, err := parseList(value, func(one string) (string, error) {
		a, err := mailaddr.Parse(one)
		if err != nil || a.IsZero() || a.IsLiteral() {
			return "", fmt.Errorf("%q is not a mail address", one)
		}
		return a.String(), nil
	})
	if err == nil && len(list) > maxContacts {
		err = fmt.Errorf("at most %d of them", maxContacts)
	}
	c.ACME.Contact = list
	return err
}

func setNames(c *Config, value string) error {
	list, err := parseList(value, func(one string) (string, error) {
		name, err := mailaddr.CanonicalDomain(one)
		if err != nil || strings.ContainsAny(name, "[*_") {
			return "", fmt.Errorf("%q is not a host name", one)
		}
		return name, nil
	})
	if err == nil && len(list) > MaxNames {
		err = fmt.Errorf("at most %d of them", MaxNames)
	}
	c.ACME.Names = list
	return err
}

// CertificateNames are those of the certificate for a domain, hostname first, each once.
func (a ACME) CertificateNames(domain, hostname string) []string {
	names := []string{hostname}
	for _, name := range a.Names {
		if !strings.Contains(name, ".") {
			name += "." + domain
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// ServesHTTPS reports whether one of the addresses of the pages is HTTPS.
func (w Web) ServesHTTPS() bool { return !onThisHost(w.Listen) }

// checkACME refuses ACME without what it needs, and what has no meaning without it.
func (l *loader) checkACME() {
	a := l.config.ACME
	missing := func(key, other, why string) { l.mistake(l.origin[key], "%s: %s is missing%s", key, other, why) }
	for key := range l.bad {
		if strings.HasPrefix(key, "acme.") {
			return
		}
	}
	switch {
	case a.EABKeyID != "" && a.EABKeyFile == "":
		missing("acme.eab_key_id", "acme.eab_key_file", "")
	case a.EABKeyID == "" && a.EABKeyFile != "":
		missing("acme.eab_key_file", "acme.eab_key_id", "")
	}
	if !a.On() {
		for _, one := range []struct {
			key string
			set bool
		}{
			{"acme.agree_terms", a.AgreeTerms}, {"acme.names", len(a.Names) > 0}, {"acme.http_listen", len(a.HTTPListen) > 0},
			{"acme.eab_key_id", a.EABKeyID != ""},
		} {
			if one.set {
				missing(one.key, "acme.directory", "")
			}
		}
		return
	}
	if l.config.TLS.Cert != "" || l.config.TLS.Key != "" {
		l.mistake(l.origin["acme.directory"], "acme.directory: tls.cert and tls.key are set too; the certificate comes from one of the two")
	}
	if !a.AgreeTerms {
		l.mistake(l.origin["acme.agree_terms"], "acme.agree_terms: read the terms of service of the CA at %s, then set it to on", hostOf(a.Directory))
	}
	if a.AccountKey == "" {
		missing("acme.directory", "acme.account_key", "")
	}
	if len(a.HTTPListen) == 0 && !l.config.Web.ServesHTTPS() && !l.bad["web.listen"] {
		missing("acme.directory", "acme.http_listen", ", and web.listen has no HTTPS: the CA must see at port 80 or 443 whether the names are yours")
	}
}

func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	if host, _, err := net.SplitHostPort(u.Host); err == nil {
		return host
	}
	return u.Host
}
