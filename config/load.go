package config

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// Sources are where values come from, the strongest first.
type Sources struct {
	// Flags holds the flags that were given, by [Key.Name].
	Flags map[string]string
	// LookupEnv is os.LookupEnv, or nil for no environment.
	LookupEnv func(name string) (string, bool)
	// File is the path of the TOML file; "" for none.
	File string
}

// Mistake is one thing that is wrong.
type Mistake struct {
	// Where is "file:line", a flag, a variable, or a key that nobody set.
	Where string
	// Text says what is wrong and what would be right.
	Text string
}

// Mistakes are all things that are wrong: those in the file in order of lines, then variables, flags, and what does not fit together.
type Mistakes []Mistake

// Error lists all of them, one a line.
func (m Mistakes) Error() string {
	lines := make([]string, len(m))
	for i, one := range m {
		lines[i] = one.Text
		if prefix := one.Where + ": "; !strings.HasPrefix(one.Text, prefix) { // a key that nobody set is named once
			lines[i] = prefix + one.Text
		}
	}
	return strings.Join(lines, "\n")
}

// loader collects values, where each came from, and mistakes.
type loader struct {
	config   Config
	origin   map[string]string
	bad      map[string]bool // keys with a mistake: what depends on them is not looked at
	mistakes Mistakes
}

// Load returns the configuration for a command that only looks for the data directory. The error is of type [Mistakes].
func Load(s Sources) (Config, error) {
	return load(s).result()
}

// LoadServer returns the configuration for a server, which also has to fit together. The error is of type [Mistakes].
func LoadServer(s Sources) (Config, error) {
	l := load(s)
	l.checkDoors()
	l.checkTLS()
	l.checkACME()
	l.checkWeb()
	l.checkRelay()
	return l.result()
}

func load(s Sources) *loader {
	l := &loader{origin: map[string]string{}, bad: map[string]bool{}}
	for _, k := range Keys() {
		if err := k.set(&l.config, k.Default); err != nil {
			l.mistake(k.Name, "default: %v", err)
		}
		l.origin[k.Name] = k.Name
	}
	if s.File != "" {
		l.readFile(s.File)
	}
	if s.LookupEnv != nil {
		for _, k := range Keys() {
			if value, ok := s.LookupEnv(k.Env()); ok {
				l.set(k, k.Env(), value)
			}
		}
	}
	for _, k := range Keys() {
		if value, ok := s.Flags[k.Name]; ok {
			l.set(k, "--"+k.Flag(), value)
		}
	}
	if l.config.Data == "" {
		l.mistake("data", "no data directory: give --data, %sDATA, or data in the file", EnvPrefix)
	}
	return l
}

func (l *loader) result() (Config, error) {
	if len(l.mistakes) > 0 {
		return Config{}, l.mistakes
	}
	return l.config, nil
}

func (l *loader) set(k Key, where, value string) {
	if err := k.set(&l.config, value); err != nil {
		l.bad[k.Name] = true
		l.mistake(where, "%s: %v", k.Name, err)
	}
	l.origin[k.Name] = where
}

func (l *loader) mistake(where, format string, args ...any) {
	l.mistakes = append(l.mistakes, Mistake{Where: where, Text: fmt.Sprintf(format, args...)})
}

// doors lists the doors with the names of their keys, in the order of the table.
func (l *loader) doors() []struct {
	name string
	list []string
} {
	listen := l.config.Listen
	return []struct {
		name string
		list []string
	}{
		{"listen.pop3", listen.POP3},
		{"listen.pop3s", listen.POP3S},
		{"listen.mx", listen.MX},
		{"listen.submission", listen.Submission},
		{"listen.smtps", listen.SMTPS},
		{"listen.old_pop3", listen.OldPOP3},
		{"listen.old_pop3s", listen.OldPOP3S},
		{"listen.old_submission", listen.OldSubmission},
		{"listen.old_smtps", listen.OldSMTPS},
		{"web.listen", l.config.Web.Listen},
		{"acme.http_listen", l.config.ACME.HTTPListen},
	}
}

// checkDoors refuses two doors at one address, and a house without doors.
func (l *loader) checkDoors() {
	taken := map[string]string{}
	open := false
	for _, d := range l.doors() {
		open = open || len(d.list) > 0 && d.name != "acme.http_listen" || l.bad[d.name]
		for _, address := range d.list {
			if other, ok := taken[address]; ok && !l.bad[d.name] {
				l.mistake(l.origin[d.name], "%s: %s is the address of %s already", d.name, address, other)
			}
			if _, port, err := net.SplitHostPort(address); err == nil && strings.Trim(port, "0") != "" {
				taken[address] = d.name
			}
		}
	}
	if !open {
		l.mistake("listen", "every door is off: nothing to serve")
	}
}

// servesWithoutTLS reports whether a door is of use without a certificate: one for old clients takes passwords in the clear.
func servesWithoutTLS(door string) bool {
	switch door {
	case "listen.pop3", "listen.mx", "listen.old_pop3", "listen.old_submission", "acme.http_listen":
		return true
	}
	return false
}

// onThisHost reports whether only this host can connect to all of some addresses.
func onThisHost(list []string) bool {
	return !slices.ContainsFunc(list, func(address string) bool {
		if strings.HasPrefix(address, UnixPrefix) {
			return false
		}
		host, _, err := net.SplitHostPort(address)
		ip, ipErr := netip.ParseAddr(host)
		return err != nil || host != "localhost" && (ipErr != nil || !ip.IsLoopback())
	})
}

// checkTLS refuses half a certificate, and doors that are of no use without one.
func (l *loader) checkTLS() {
	cert, key := l.config.TLS.Cert, l.config.TLS.Key
	switch {
	case l.bad["tls.cert"] || l.bad["tls.key"]:
	case cert != "" && key == "":
		l.mistake(l.origin["tls.cert"], "tls.cert: tls.key is missing")
	case cert == "" && key != "":
		l.mistake(l.origin["tls.key"], "tls.key: tls.cert is missing")
	case cert == "" && !l.config.ACME.On() && !l.bad["acme.directory"]:
		for _, d := range l.doors() {
			if len(d.list) > 0 && !servesWithoutTLS(d.name) && !l.bad[d.name] && (d.name != "web.listen" || !onThisHost(d.list)) {
				l.mistake(l.origin[d.name], "%s: needs tls.cert and tls.key, or acme.directory; or set it to \"\" to switch it off", d.name)
			}
		}
	}
}

// checkWeb refuses a policy that nobody serves.
func (l *loader) checkWeb() {
	w := l.config.Web
	if w.STS != STSOff && len(w.Listen) == 0 && !l.bad["web.listen"] && !l.bad["web.mta_sts"] {
		l.mistake(l.origin["web.mta_sts"], "web.mta_sts: web.listen is missing, which would serve the policy")
	}
}
