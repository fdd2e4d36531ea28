package resolver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"latchkey/internal/resolver/resolvertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// shortTimeout is the time-out of tests in which a server does not answer.
const shortTimeout = 250 * time.Millisecond

// fixture is a Resolver that asks test servers, with a clock that stands still.
type fixture struct {
	*Resolver
	*resolvertest.Server                        // the first
	second               *resolvertest.Server   // nil unless asked for
	servers              []*resolvertest.Server // all
	log                  *lockedBuffer

	mu   sync.Mutex
	time time.Time
}

func (f *fixture) clock() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.time
}

func (f *fixture) pass(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.time = f.time.Add(d)
}

// setUp starts n servers and a Resolver that knows them.
func setUp(t *testing.T, n int, o Options) *fixture {
	t.Helper()
	f := &fixture{time: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), log: &lockedBuffer{}}
	for range n {
		f.servers = append(f.servers, resolvertest.New(t))
		o.Servers = append(o.Servers, f.servers[len(f.servers)-1].Addr())
	}
	f.Server = f.servers[0]
	if n > 1 {
		f.second = f.servers[1]
	}
	o.Now = f.clock
	o.Logger = slog.New(slog.NewTextHandler(f.log, nil))
	r, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	f.Resolver = r
	return f
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// hosts looks MX up and writes the result as "preference host", "implicit host" or the class of the error.
func (f *fixture) hosts(t *testing.T, domain string) string {
	t.Helper()
	list, err := f.MX(t.Context(), domain)
	if err != nil {
		return class(t, err)
	}
	var words []string
	for _, mx := range list {
		if mx.Implicit {
			words = append(words, "implicit "+mx.Host)
		} else {
			words = append(words, fmt.Sprintf("%d %s", mx.Preference, mx.Host))
		}
	}
	return strings.Join(words, ", ")
}

// addrs looks addresses up and writes them in the order that they came, or the class of the error.
func (f *fixture) addrs(t *testing.T, host string) string {
	t.Helper()
	list, err := f.Addrs(t.Context(), host)
	if err != nil {
		return class(t, err)
	}
	var words []string
	for _, a := range list {
		words = append(words, a.String())
	}
	return strings.Join(words, " ")
}

// class names an error's class, and checks that it has one and that its texts may be shown.
func class(t *testing.T, err error) string {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("error %v of type %T, want *Error", err, err)
	}
	if e.Text == "" {
		t.Errorf("error %v has no text", err)
	}
	for _, text := range []string{e.Text, e.Cause, e.Error()} {
		if len(text) > 1000 || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("text of %d octets not fit to be shown: %q", len(text), text)
		}
	}
	var classes []string
	for name, c := range map[string]error{"not found": ErrNotFound, "null MX": ErrNullMX, "temporary": ErrTemporary} {
		if errors.Is(err, c) {
			classes = append(classes, name)
		}
	}
	if len(classes) != 1 {
		t.Errorf("error %v is of the classes %v, want one", err, classes)
	}
	return strings.Join(classes, ", ")
}

// RFC 5321 §5.1: the lowest preference first, equals in random order.
func TestMXOrder(t *testing.T) {
	f := setUp(t, 1, Options{})
	f.Set("example.org", "MX", "20 backup.example.org.", "10 A.example.org.", "10 b.example.org.", "65535 last.example.org.", "5 best.example.org.")
	seen := map[string]int{}
	for range 64 {
		seen[f.hosts(t, "example.org")]++
	}
	const head, tail = "5 best.example.org, ", ", 20 backup.example.org, 65535 last.example.org"
	for _, equals := range []string{"10 a.example.org, 10 b.example.org", "10 b.example.org, 10 a.example.org"} {
		if seen[head+equals+tail] == 0 {
			t.Errorf("the order %q never came", equals)
		}
	}
	if len(seen) != 2 {
		t.Errorf("got the orders %v, want two", seen)
	}
	if n := f.Count("", "", ""); n != 1 {
		t.Errorf("%d questions, want 1", n)
	}
}

func TestMX(t *testing.T) {
	tests := []struct {
		name    string
		records []string
		want    string
	}{
		{"no MX records: the domain itself", nil, "implicit example.org"},
		{"null MX", []string{"0 ."}, "null MX"},
		{"null MX twice", []string{"0 .", "0 ."}, "null MX"},
		{"root with another preference", []string{"10 ."}, "not found"},
		{"root beside another host", []string{"0 .", "10 mail.example.org."}, "10 mail.example.org"},
		{"address as a host", []string{"10 192.0.2.1.", "20 mail.example.org."}, "20 mail.example.org"},
		{"nothing but an address", []string{"10 192.0.2.1."}, "not found"},
		{"odd characters", []string{`10 a\$b.example.org.`, `10 a\.b.example.org.`, `10 a\000b.example.org.`, "10 -x.example.org.", "20 mail.example.org."},
			"20 mail.example.org"},
		{"this machine's own names", []string{"10 localhost.", "10 mail.localhost.", "20 mail.example.org."}, "20 mail.example.org"},
		{"underscore", []string{"10 mail_1.example.org."}, "10 mail_1.example.org"},
		{"a host twice", []string{"30 mail.example.org.", "10 Mail.Example.org.", "20 other.example.org."}, "10 mail.example.org, 20 other.example.org"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := setUp(t, 1, Options{})
			f.Set("example.org", "MX", tt.records...)
			f.Set("example.org", "A", "192.0.2.7")
			for _, domain := range []string{"example.org", "Example.ORG."} {
				if got := f.hosts(t, domain); got != tt.want {
					t.Errorf("MX of %s: got %q, want %q", domain, got, tt.want)
				}
			}
			if n := f.Count("", "A", "") + f.Count("", "AAAA", ""); n != 0 {
				t.Errorf("%d questions for addresses, want none", n)
			}
			if n := f.Count("", "", ""); n != 1 {
				t.Errorf("%d questions, want 1", n)
			}
		})
	}
}

// What is dropped is told the log, in a bounded way.
func TestMXDroppedIsLogged(t *testing.T) {
	f := setUp(t, 1, Options{})
	f.Set("example.org", "MX", `10 a\010b.example.org.`, "10 192.0.2.1.", "10 localhost.", "10 127.0.0.1.", "20 mail.example.org.")
	f.hosts(t, "example.org")
	f.hosts(t, "example.org")
	if n := strings.Count(f.log.String(), "MX record not usable"); n != maxDroppedLogged {
		t.Errorf("%d lines, want %d:\n%s", n, maxDroppedLogged, f.log)
	}
	f.Set("null.example", "MX", "0 .")
	before := f.log.String()
	if f.hosts(t, "null.example"); f.log.String() != before {
		t.Errorf("a null MX is not a record that cannot be used:\n%s", f.log)
	}
}

// RFC 5321 §5.1: a name that does not exist is an error, and so is not knowing whether there are MX records. Addresses are not used.
func TestMXFails(t *testing.T) {
	f := setUp(t, 1, Options{})
	f.Set("broken.example", "A", "192.0.2.7")
	f.Behave("broken.example", "MX", resolvertest.ServFail)
	for domain, want := range map[string]string{"nowhere.example": "not found", "broken.example": "temporary"} {
		if got := f.hosts(t, domain); got != want {
			t.Errorf("MX of %s: got %q, want %q", domain, got, want)
		}
	}
	if n := f.Count("", "A", ""); n != 0 {
		t.Errorf("%d questions for addresses, want none", n)
	}
}

func TestMXBound(t *testing.T) {
	for _, n := range []int{MaxMX - 1, MaxMX, MaxMX + 1, 200} {
		f := setUp(t, 1, Options{})
		var records []string
		for i := range n {
			records = append(records, fmt.Sprintf("%d mail%d.example.org.", n-i, n-i)) // the worst first
		}
		f.Set("example.org", "MX", records...)
		list, err := f.MX(t.Context(), "example.org")
		if err != nil {
			t.Fatal(err)
		}
		if len(list) != min(n, MaxMX) {
			t.Errorf("%d hosts of %d, want %d", len(list), n, min(n, MaxMX))
		}
		for i, mx := range list {
			if int(mx.Preference) != i+1 {
				t.Fatalf("host %d of %d has preference %d: not the best were kept", i, n, mx.Preference)
			}
		}
	}
}

// The result is the caller's: what he does to it does not get into the cache.
func TestMXResultIsACopy(t *testing.T) {
	f := setUp(t, 1, Options{})
	f.Set("example.org", "MX", "10 mail.example.org.")
	list, err := f.MX(t.Context(), "example.org")
	if err != nil {
		t.Fatal(err)
	}
	list[0].Host = "elsewhere.example"
	if got := f.hosts(t, "example.org"); got != "10 mail.example.org" {
		t.Errorf("got %q", got)
	}
}

func TestMXThroughAlias(t *testing.T) {
	for _, b := range []resolvertest.Behaviour{resolvertest.Normal, resolvertest.OneAlias} {
		f := setUp(t, 1, Options{})
		f.Behave("", "", b)
		f.Set("alias.example", "CNAME", "Example.org.")
		f.Set("example.org", "MX", "10 mail.example.org.")
		f.Set("bare.example", "CNAME", "host.example.")
		f.Set("host.example", "A", "192.0.2.7")
		f.Set("dangling.example", "CNAME", "nowhere.example.")
		for domain, want := range map[string]string{
			"alias.example": "10 mail.example.org", "bare.example": "implicit bare.example", "dangling.example": "not found",
		} {
			if got := f.hosts(t, domain); got != want {
				t.Errorf("behaviour %d: MX of %s: got %q, want %q", b, domain, got, want)
			}
		}
		if got := f.addrs(t, "bare.example"); got != "192.0.2.7" {
			t.Errorf("behaviour %d: addresses of an alias: %q", b, got)
		}
	}
}

// A chain has an end, whether the server or we follow it.
func TestAliasBound(t *testing.T) {
	for _, b := range []resolvertest.Behaviour{resolvertest.Normal, resolvertest.OneAlias} {
		for n, want := range map[int]string{1: "10 mail.example.org", maxCNAMEs - 1: "10 mail.example.org", maxCNAMEs: "10 mail.example.org", maxCNAMEs + 1: "temporary"} {
			f := setUp(t, 1, Options{})
			f.Behave("", "", b)
			for i := range n {
				f.Set(fmt.Sprintf("a%d.example", i), "CNAME", fmt.Sprintf("a%d.example.", i+1))
			}
			f.Set(fmt.Sprintf("a%d.example", n), "MX", "10 mail.example.org.")
			if got := f.hosts(t, "a0.example"); got != want {
				t.Errorf("behaviour %d: %d aliases: got %q, want %q", b, n, got, want)
			}
		}
		f := setUp(t, 1, Options{})
		f.Behave("", "", b)
		f.Set("one.example", "CNAME", "two.example.")
		f.Set("two.example", "CNAME", "one.example.")
		f.Set("self.example", "CNAME", "self.example.")
		for _, domain := range []string{"one.example", "self.example"} {
			if got := f.hosts(t, domain); got != "temporary" {
				t.Errorf("behaviour %d: a loop of aliases: got %q, want temporary", b, got)
			}
		}
		if n := f.Count("", "", ""); n > 2*(maxCNAMEs+1) {
			t.Errorf("behaviour %d: %d questions for two loops", b, n)
		}
	}
}

func TestAddrs(t *testing.T) {
	f := setUp(t, 1, Options{})
	f.Set("both.example", "A", "192.0.2.1", "192.0.2.2")
	f.Set("both.example", "AAAA", "2001:db8::1")
	f.Set("v4.example", "A", "192.0.2.1")
	f.Set("v6.example", "AAAA", "2001:db8::1")
	f.Set("none.example", "MX", "10 v4.example.")
	f.Set("mapped.example", "AAAA", "::ffff:127.0.0.1")
	f.Set("twice.example", "A", "192.0.2.1", "192.0.2.1")
	f.Set("twice.example", "AAAA", "::ffff:192.0.2.1")
	f.Set("half4.example", "A", "192.0.2.1")
	f.Behave("half4.example", "AAAA", resolvertest.ServFail)
	f.Set("half6.example", "AAAA", "2001:db8::1")
	f.Behave("half6.example", "A", resolvertest.ServFail)
	f.Set("unsure.example", "A")
	f.Behave("unsure.example", "AAAA", resolvertest.ServFail)
	f.Behave("broken.example", "", resolvertest.ServFail)
	for host, want := range map[string]string{
		"v4.example": "192.0.2.1", "v6.example": "2001:db8::1", "V4.Example.": "192.0.2.1", "none.example": "not found",
		"nowhere.example": "not found", "mapped.example": "127.0.0.1", "twice.example": "192.0.2.1", "half4.example": "192.0.2.1",
		"half6.example": "2001:db8::1", "unsure.example": "temporary", "broken.example": "temporary",
	} {
		if got := f.addrs(t, host); got != want {
			t.Errorf("addresses of %s: got %q, want %q", host, got, want)
		}
	}
	seen := map[string]bool{}
	for range 64 {
		seen[f.addrs(t, "both.example")] = true
	}
	if len(seen) != 2 || !seen["192.0.2.1 2001:db8::1 192.0.2.2"] || !seen["192.0.2.2 2001:db8::1 192.0.2.1"] {
		t.Errorf("orders %v: want the families in turn, IPv4 first, and random order in each", seen)
	}
}

// Neither family waits for the other to be asked.
func TestAddrsAsksBothAtOnce(t *testing.T) {
	f := setUp(t, 1, Options{})
	f.Set("both.example", "A", "192.0.2.1")
	f.Set("both.example", "AAAA", "2001:db8::1")
	until := make(chan struct{})
	f.Delay("both.example", "", until)
	got := make(chan string)
	go func() { got <- f.addrs(t, "both.example") }()
	f.Wait("both.example", "A", 1)
	f.Wait("both.example", "AAAA", 1)
	close(until)
	if got, want := <-got, "192.0.2.1 2001:db8::1"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAddrsBound(t *testing.T) {
	for _, n := range []int{MaxAddrs - 1, MaxAddrs, MaxAddrs + 1, 100} {
		f := setUp(t, 1, Options{})
		var v4, v6 []string
		for i := range n {
			v4 = append(v4, fmt.Sprintf("192.0.2.%d", i))
			v6 = append(v6, fmt.Sprintf("2001:db8::%d", i))
		}
		f.Set("one.example", "A", v4...)
		f.Set("two.example", "A", v4...)
		f.Set("two.example", "AAAA", v6...)
		for host, want := range map[string]int{"one.example": min(n, MaxAddrs), "two.example": MaxAddrs} {
			list, err := f.Addrs(t.Context(), host)
			if err != nil || len(list) != want {
				t.Errorf("%s: %d addresses of %d (%v), want %d", host, len(list), n, err, want)
			}
			slices.SortFunc(list, netip.Addr.Compare)
			if len(slices.Compact(list)) != want {
				t.Errorf("%s: an address twice", host)
			}
		}
	}
}

// Names that are none are not asked for, and their octets get nowhere.
func TestBadNames(t *testing.T) {
	f := setUp(t, 1, Options{})
	long := strings.Repeat("a.", 126) + "a"
	label := strings.Repeat("a", maxLabel)
	tests := []struct {
		name string
		ok   bool
	}{
		{"example.org", true}, {"example", true}, {"xn--bcher-kva.example", true}, {"a_b.example", true}, {"1.example", true}, {"example.1a", true},
		{long, true}, {"a" + long, false}, {label + ".example", true}, {"a" + label + ".example", false},
		{"", false}, {".", false}, {"..", false}, {"a..b", false}, {".a", false}, {"a..", false}, {"-a.example", false}, {"a-.example", false},
		{"[192.0.2.1]", false}, {"192.0.2.1", false}, {"2130706433", false}, {"[IPv6:::1]", false}, {"::1", false},
		{"localhost", false}, {"LOCALHOST.", false}, {"a.localhost", false}, {"notlocalhost", true},
		{"a b", false}, {"a\r\nb", false}, {"a\x00b", false}, {"b\u00fccher.example", false}, {"\u212aelvin.example", false}, {"a\\.b", false},
		{strings.Repeat("\U0001f4e7", 5000), false},
	}
	asked := 0
	for _, tt := range tests {
		if _, ok := hostName(tt.name); ok != tt.ok {
			t.Errorf("%q of %d octets: got %v, want %v", short(tt.name), len(tt.name), ok, tt.ok)
		}
		if got, want := f.hosts(t, tt.name), "not found"; got != want {
			t.Errorf("MX of %q: got %q, want %q", short(tt.name), got, want)
		}
		if got, want := f.addrs(t, tt.name), "not found"; got != want {
			t.Errorf("addresses of %q: got %q, want %q", short(tt.name), got, want)
		}
		if tt.ok {
			asked += 3 // MX, A, AAAA
		}
	}
	if n := f.Count("", "", ""); n != asked {
		t.Errorf("%d questions, want %d", n, asked)
	}
}

func TestNewBounds(t *testing.T) {
	server := netip.MustParseAddrPort("127.0.0.1:53")
	tests := []struct {
		name string
		o    Options
		ok   bool
	}{
		{"zero", Options{}, true},
		{"most servers", Options{Servers: slices.Repeat([]netip.AddrPort{server}, MaxServers)}, true},
		{"too many servers", Options{Servers: slices.Repeat([]netip.AddrPort{server}, MaxServers+1)}, false},
		{"no address", Options{Servers: []netip.AddrPort{{}}}, false},
		{"no port", Options{Servers: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}}, false},
		{"longest time-out", Options{Timeout: maxTimeout}, true},
		{"time-out too long", Options{Timeout: maxTimeout + 1}, false},
		{"negative time-out", Options{Timeout: -1}, false},
		{"most attempts", Options{Attempts: maxAttempts}, true},
		{"too many attempts", Options{Attempts: maxAttempts + 1}, false},
		{"negative attempts", Options{Attempts: -1}, false},
	}
	for _, tt := range tests {
		if _, err := New(tt.o); (err == nil) != tt.ok {
			t.Errorf("%s: got %v, want ok: %v", tt.name, err, tt.ok)
		}
	}
}

// A context that has ended asks nobody.
func TestEndedContext(t *testing.T) {
	f := setUp(t, 1, Options{})
	f.Set("example.org", "MX", "10 mail.example.org.")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := f.MX(ctx, "example.org")
	if !errors.Is(err, context.Canceled) || class(t, err) != "temporary" {
		t.Errorf("got %v", err)
	}
	if n := f.Count("", "", ""); n != 0 {
		t.Errorf("%d questions, want none", n)
	}
}
