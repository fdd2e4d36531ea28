package resolver

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestParseResolvConf(t *testing.T) {
	tests := []struct {
		name, text string
		servers    string
		timeout    time.Duration
		attempts   int
		odd        int
	}{
		{"empty", "", "", 0, 0, 0},
		{"one", "nameserver 192.0.2.53\n", "192.0.2.53:53", 0, 0, 0},
		{"no line end, odd space", "\t nameserver \t192.0.2.53", "192.0.2.53:53", 0, 0, 0},
		{"CRLF", "nameserver 192.0.2.53\r\nnameserver 192.0.2.54\r\n", "192.0.2.53:53 192.0.2.54:53", 0, 0, 0},
		{"IPv6", "nameserver 2001:db8::53\n", "[2001:db8::53]:53", 0, 0, 0},
		{"IPv6 with zone", "nameserver fe80::53%eth0\n", "[fe80::53%eth0]:53", 0, 0, 0},
		{"IPv4-mapped", "nameserver ::ffff:127.0.0.53\n", "127.0.0.53:53", 0, 0, 0},
		{"twice", "nameserver 192.0.2.53\nnameserver 192.0.2.53\n", "192.0.2.53:53", 0, 0, 0},
		{"three and more", "nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\nnameserver 192.0.2.4\n",
			"192.0.2.1:53 192.0.2.2:53 192.0.2.3:53", 0, 0, 0},
		{"comments", "# nameserver 192.0.2.1\n; nameserver 192.0.2.2\n#nameserver 192.0.2.3\nnameserver 192.0.2.4 # ours\n", "192.0.2.4:53", 0, 0, 0},
		{"odd", "nameserver ns.example.org\nnameserver\nnameserver 192.0.2.1:53\nnameserver 192.0.2.2\n", "192.0.2.2:53", 0, 0, 2},
		{"odd lines are bounded", strings.Repeat("nameserver x\n", 100), "", 0, 0, maxFileServers},
		{"other keywords", "search example.org\ndomain example.org\nsortlist 192.0.2.0\nNAMESERVER 192.0.2.1\n", "", 0, 0, 0},
		{"options", "options ndots:1 timeout:3 attempts:4 rotate\n", "", 3 * time.Second, 4, 0},
		{"options, the last counts", "options timeout:3\noptions timeout:4 attempts:1\n", "", 4 * time.Second, 1, 0},
		{"least", "options timeout:0 attempts:0\n", "", time.Second, 1, 0},
		{"most", "options timeout:30 attempts:5\n", "", maxTimeout, maxAttempts, 0},
		{"beyond", "options timeout:31 attempts:6\n", "", maxTimeout, maxAttempts, 0},
		{"far beyond", "options timeout:99999999999999999999 attempts:99999999999999999999\n", "", maxTimeout, maxAttempts, 0},
		{"no numbers", "options timeout:-1 attempts:x timeout: attempts\n", "", 0, 0, 0},
	}
	for _, tt := range tests {
		s, odd := parseResolvConf([]byte(tt.text))
		var servers []string
		for _, a := range s.servers {
			servers = append(servers, a.String())
		}
		if got := strings.Join(servers, " "); got != tt.servers || s.timeout != tt.timeout || s.attempts != tt.attempts || len(odd) != tt.odd {
			t.Errorf("%s: got %q, %s, %d attempts, %q", tt.name, got, s.timeout, s.attempts, odd)
		}
	}
}

func FuzzResolvConf(f *testing.F) {
	f.Add([]byte("nameserver 192.0.2.53\nnameserver fe80::1%eth0\noptions timeout:3 attempts:2\n"))
	f.Add([]byte("nameserver \x00\xff\r\n\noptions timeout:999999999999999999999999\nnameserver ::ffff:1.2.3.4"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, odd := parseResolvConf(text)
		if len(s.servers) > maxFileServers || len(odd) > maxFileServers {
			t.Errorf("%d servers, %d odd lines", len(s.servers), len(odd))
		}
		for _, a := range s.servers {
			if !a.IsValid() || a.Port() != dnsPort || a.Addr().Is4In6() {
				t.Errorf("server %s", a)
			}
		}
		for _, line := range odd {
			if len(line) > 5*maxQuoted || strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Errorf("line not fit for the log: %q", line)
			}
		}
		if s.timeout != 0 && (s.timeout < time.Second || s.timeout > maxTimeout) || s.attempts < 0 || s.attempts > maxAttempts {
			t.Errorf("%s, %d attempts", s.timeout, s.attempts)
		}
		full := settings{}.over(s)
		if len(full.servers) == 0 || full.timeout == 0 || full.attempts == 0 {
			t.Errorf("incomplete: %+v", full)
		}
	})
}

// write replaces a file as administrators' programs do. Each state has a time of its own.
func write(t *testing.T, file, text string, at int) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	when := time.Unix(1_700_000_000+int64(at), 0)
	if err := os.Chtimes(file, when, when); err != nil {
		t.Fatal(err)
	}
}

func (s settings) String() string { return fmt.Sprint(s.servers, " ", s.timeout, " ", s.attempts) }

// The file counts as it is now; without it the machine's own server is asked.
func TestFileIsReadAgain(t *testing.T) {
	file := filepath.Join(t.TempDir(), "resolv.conf")
	log := &bytes.Buffer{}
	c := newConfig(Options{File: file, Logger: slog.New(slog.NewTextHandler(log, nil))})
	const local = "[127.0.0.1:53] 5s 2"
	check := func(state, want string) {
		t.Helper()
		for range 2 {
			if got := c.get().String(); got != want {
				t.Errorf("%s: got %q, want %q", state, got, want)
			}
		}
	}
	check("missing", local)
	write(t, file, "nameserver 192.0.2.1\noptions timeout:3 attempts:4\n", 1)
	check("first", "[192.0.2.1:53] 3s 4")
	write(t, file, "nameserver 192.0.2.2\noptions timeout:3 attempts:4\n", 2)
	check("of the same size", "[192.0.2.2:53] 3s 4")
	write(t, file, "nameserver 192.0.2.3\n", 2)
	check("of the same time", "[192.0.2.3:53] 5s 2")
	write(t, file, "search example.org\n", 3)
	check("without servers", local)
	write(t, file, "nameserver 192.0.2.4\n", 4)
	check("with one again", "[192.0.2.4:53] 5s 2")
	if log.Len() > 0 {
		t.Errorf("log: %s", log)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(file, 0o700); err != nil { // it can be looked at, and not be read
		t.Fatal(err)
	}
	check("not readable", "[192.0.2.4:53] 5s 2")
	if n := strings.Count(log.String(), "name servers not read"); n != 1 {
		t.Errorf("%d lines, want 1:\n%s", n, log)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	check("missing again", local)
	log.Reset()
	write(t, file, "nameserver evil\x1b[2J\nnameserver 192.0.2.5\n", 5)
	check("with an odd line", "[192.0.2.5:53] 5s 2")
	if n := strings.Count(log.String(), "name server not understood"); n != 1 || strings.Contains(log.String(), "\x1b") {
		t.Errorf("%d lines, want 1:\n%s", n, log)
	}
}

func TestFileIsBounded(t *testing.T) {
	const line = "nameserver 192.0.2.1\n"
	for _, over := range []int{-1, 0, 1} {
		file := filepath.Join(t.TempDir(), "resolv.conf")
		// The address is at the edge: cut, it would be another one.
		write(t, file, strings.Repeat("\n", maxFile+over-len(line))+line, 1)
		c := newConfig(Options{File: file, Logger: slog.New(slog.DiscardHandler)})
		want := "192.0.2.1:53"
		if over > 0 {
			want = "127.0.0.1:53"
		}
		if got := c.get().servers[0].String(); got != want {
			t.Errorf("%d octets over the bound: got %s, want %s", over, got, want)
		}
	}
}

// What the Options say goes before what the file says, and given servers make the file count for nothing.
func TestOptionsGoFirst(t *testing.T) {
	file := filepath.Join(t.TempDir(), "resolv.conf")
	write(t, file, "nameserver 192.0.2.1\noptions timeout:3 attempts:4\n", 1)
	given := []netip.AddrPort{netip.MustParseAddrPort("192.0.2.9:5353")}
	tests := []struct {
		name string
		o    Options
		want string
	}{
		{"nothing given", Options{}, "[192.0.2.1:53] 3s 4"},
		{"time-out given", Options{Timeout: time.Second}, "[192.0.2.1:53] 1s 4"},
		{"attempts given", Options{Attempts: 1}, "[192.0.2.1:53] 3s 1"},
		{"servers given", Options{Servers: given}, "[192.0.2.9:5353] 5s 2"},
	}
	for _, tt := range tests {
		tt.o.File = file
		r, err := New(tt.o)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.conf.get().String(); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
	r, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got := r.conf.file; got != systemFile {
		t.Errorf("reads %q without being told", got)
	}
}
