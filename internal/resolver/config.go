package resolver

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// systemFile is where the system names its servers.
	systemFile = "/etc/resolv.conf"
	// maxFile bounds how much of the file is read, in octets. What is behind that is not looked at.
	maxFile = 64 << 10
	// maxFileServers is how many name servers of the file count (MAXNS of resolver(3)).
	maxFileServers = 3
	// dnsPort is the port of servers from the file, which cannot name one.
	dnsPort = 53
	// maxQuoted bounds, in octets, how much of a line that is not understood gets into the log.
	maxQuoted = 100
)

// settings are whom to ask, and how patiently.
type settings struct {
	servers  []netip.AddrPort
	timeout  time.Duration
	attempts int
}

// config is the Options' servers, or the file's, read again when it changes.
type config struct {
	log   *slog.Logger
	given settings // by the Options: 0 is not given
	file  string   // "" if servers are given

	mu      sync.Mutex // protects the fields below; the file is looked at under it
	current settings
	read    bool // current is from the file, or from its absence
	seen    stamp
	trouble string // the last error, so that it is logged once
}

// stamp tells one state of a file from the next. The zero stamp is a file that does not exist.
type stamp struct {
	modified time.Time
	size     int64
}

func newConfig(o Options) *config {
	c := &config{log: o.Logger, given: settings{servers: slices.Clone(o.Servers), timeout: o.Timeout, attempts: o.Attempts}}
	if len(c.given.servers) == 0 {
		c.file = o.File
		if c.file == "" {
			c.file = systemFile
		}
	}
	c.current = c.given.over(settings{})
	return c
}

// over puts what is given over what the file says, and the defaults under both.
func (s settings) over(file settings) settings {
	out := s
	if len(out.servers) == 0 {
		out.servers = file.servers
	}
	if len(out.servers) == 0 {
		out.servers = []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), dnsPort)}
	}
	for _, timeout := range []time.Duration{file.timeout, DefaultTimeout} {
		if out.timeout == 0 {
			out.timeout = timeout
		}
	}
	for _, attempts := range []int{file.attempts, DefaultAttempts} {
		if out.attempts == 0 {
			out.attempts = attempts
		}
	}
	return out
}

// get gives the settings of now. A file that cannot be read leaves the settings as they were.
func (c *config) get() settings {
	if c.file == "" {
		return c.current
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now, err := look(c.file)
	if err == nil && c.read && now.modified.Equal(c.seen.modified) && now.size == c.seen.size {
		return c.current
	}
	var text []byte
	if err == nil && now != (stamp{}) {
		text, err = readFile(c.file)
	}
	if err != nil {
		if c.trouble != err.Error() {
			c.log.Warn("name servers not read", slog.String("file", c.file), slog.Any("error", err))
		}
		c.trouble = err.Error()
		return c.current
	}
	parsed, odd := parseResolvConf(text)
	for _, line := range odd {
		c.log.Warn("name server not understood", slog.String("file", c.file), slog.String("line", line))
	}
	c.current, c.seen, c.read, c.trouble = c.given.over(parsed), now, true, ""
	return c.current
}

func look(file string) (stamp, error) {
	info, err := os.Stat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return stamp{}, nil
	}
	if err != nil {
		return stamp{}, err
	}
	return stamp{info.ModTime(), info.Size()}, nil
}

func readFile(file string) ([]byte, error) {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was read only
	text, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err == nil && len(text) == maxFile {
		text = text[:bytes.LastIndexByte(text, '\n')+1] // not half a line
	}
	return text, err
}

// parseResolvConf reads the text of a resolv.conf(5): nameserver lines, and timeout and attempts of options, cut to what resolver(3)
// allows. 0 is not said. Search domains and all else mean nothing to us. odd are nameserver lines that are none, quoted.
func parseResolvConf(text []byte) (s settings, odd []string) {
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		if len(words) < 2 {
			continue // "#" and ";" begin comments, and so no keyword
		}
		switch words[0] {
		case "nameserver":
			ip, err := netip.ParseAddr(words[1])
			server := netip.AddrPortFrom(ip.Unmap(), dnsPort)
			switch {
			case err != nil && len(odd) < maxFileServers:
				line = strings.TrimSpace(line)
				odd = append(odd, strconv.QuoteToASCII(line[:min(len(line), maxQuoted)]))
			case err == nil && len(s.servers) < maxFileServers && !slices.Contains(s.servers, server):
				s.servers = append(s.servers, server)
			}
		case "options":
			for _, word := range words[1:] {
				if n, ok := option(word, "timeout:"); ok {
					s.timeout = time.Duration(max(1, min(n, int(maxTimeout/time.Second)))) * time.Second
				}
				if n, ok := option(word, "attempts:"); ok {
					s.attempts = max(1, min(n, maxAttempts))
				}
			}
		}
	}
	return s, odd
}

// option reads an option like timeout:3. A number that is none is not said; one that is too large for us is very large.
func option(word, name string) (int, bool) {
	digits, ok := strings.CutPrefix(word, name)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 31)
	return int(n), err == nil || errors.Is(err, strconv.ErrRange)
}
