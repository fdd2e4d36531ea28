package resolver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/miekg/dns"

	"latchkey/internal/resolver/resolvertest"
)

// What was said is kept for as long as it holds, within bounds, and no longer (RFC 2308 §5 for what does not exist).
func TestKeptFor(t *testing.T) {
	mx := func(ttl uint32) func(*resolvertest.Server) {
		return func(s *resolvertest.Server) {
			s.Set("example.org", "MX", "10 mail.example.org.", "20 other.example.org.")
			s.SetTTL("example.org", "MX", ttl)
		}
	}
	missing := func(ttl int) func(*resolvertest.Server) {
		return func(s *resolvertest.Server) { s.SetNegativeTTL(ttl) }
	}
	behave := func(b resolvertest.Behaviour) func(*resolvertest.Server) {
		return func(s *resolvertest.Server) { s.Behave("", "", b) }
	}
	tests := []struct {
		name  string
		setUp func(*resolvertest.Server)
		kept  time.Duration
	}{
		{"TTL", mx(300), 300 * time.Second},
		{"TTL of an hour", mx(3600), time.Hour},
		{"TTL beyond the bound", mx(3601), time.Hour},
		{"TTL on the floor", mx(5), 5 * time.Second},
		{"TTL below the floor", mx(4), 5 * time.Second},
		{"TTL of 0", mx(0), 5 * time.Second},
		{"largest TTL", mx(1<<31 - 1), time.Hour},
		{"negative TTL", mx(1 << 31), 5 * time.Second},
		{"alias with the lesser TTL", func(s *resolvertest.Server) {
			s.Set("example.org", "CNAME", "example.net.")
			s.SetTTL("example.org", "CNAME", 30)
			s.Set("example.net", "MX", "10 mail.example.org.")
		}, 30 * time.Second},
		{"alias with the greater TTL", func(s *resolvertest.Server) {
			s.Set("example.org", "CNAME", "example.net.")
			s.SetTTL("example.org", "CNAME", 3000)
			s.Set("example.net", "MX", "10 mail.example.org.")
		}, resolvertest.DefaultTTL * time.Second},
		{"null MX", func(s *resolvertest.Server) { s.Set("example.org", "MX", "0 .") }, resolvertest.DefaultTTL * time.Second},
		{"name that does not exist", missing(60), time.Minute},
		{"on the bound", missing(300), 5 * time.Minute},
		{"beyond the bound", missing(301), 5 * time.Minute},
		{"minimum of 0", missing(0), 0},
		{"without SOA record", missing(-1), 0},
		{"no data", func(s *resolvertest.Server) {
			s.SetNegativeTTL(60)
			s.Set("example.org", "A", "192.0.2.1")
		}, time.Minute},
		{"alias of a name that does not exist", func(s *resolvertest.Server) {
			s.Set("example.org", "CNAME", "example.net.")
			s.SetTTL("example.org", "CNAME", 30)
		}, 30 * time.Second},
		{"failure", behave(resolvertest.ServFail), 5 * time.Second},
		{"refusal", behave(resolvertest.Refuse), 5 * time.Second},
		{"loop", func(s *resolvertest.Server) { s.Set("example.org", "CNAME", "example.org.") }, 5 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := setUp(t, 1, Options{})
			tt.setUp(f.Server)
			first := f.hosts(t, "example.org")
			asked := f.Count("", "MX", "")
			if tt.kept > 0 {
				f.pass(tt.kept - 1)
				f.hosts(t, "example.org")
				if n := f.Count("", "MX", ""); n != asked {
					t.Errorf("asked again before %s", tt.kept)
				}
				f.pass(1)
			}
			if again := f.hosts(t, "example.org"); len(again) != len(first) {
				t.Errorf("got %q and then %q", first, again)
			}
			if n := f.Count("", "MX", ""); n != 2*asked {
				t.Errorf("not asked again after %s", tt.kept)
			}
		})
	}
}

// A time-out is a failure like others, and a server that is well again is believed soon.
func TestTimeoutIsForgotten(t *testing.T) {
	t.Parallel()
	f := setUp(t, 1, Options{Timeout: 4 * shortTimeout, Attempts: 1})
	f.Set("example.org", "MX", "10 mail.example.org.")
	f.Behave("", "", resolvertest.Drop)
	for range 2 {
		if got := f.hosts(t, "example.org"); got != "temporary" {
			t.Errorf("got %q", got)
		}
	}
	if n := f.Count("", "", ""); n != 1 {
		t.Errorf("%d questions, want 1", n)
	}
	f.Behave("", "", resolvertest.Normal)
	f.pass(5 * time.Second)
	if got, want := f.hosts(t, "example.org"), "10 mail.example.org"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// waiting waits until n callers wait for the answer to a question.
func (f *fixture) waiting(t *testing.T, k key, n int) {
	t.Helper()
	for limit := time.Now().Add(maxTimeout); ; runtime.Gosched() {
		f.Resolver.mu.Lock()
		got := 0
		if fl := f.flights[k]; fl != nil {
			got = fl.waiters
		}
		f.Resolver.mu.Unlock()
		if got == n {
			return
		}
		if time.Now().After(limit) {
			t.Fatalf("%d callers wait, want %d", got, n)
		}
	}
}

// Many who ask the same are one question, and one who goes away takes the answer from nobody, not even the first one.
func TestAskedOnce(t *testing.T) {
	f := setUp(t, 1, Options{Timeout: maxTimeout})
	f.Set("example.org", "MX", "10 mail.example.org.")
	until := make(chan struct{})
	f.Delay("", "", until)
	k := key{"example.org", dns.TypeMX}
	const callers = 10
	first, cancel := context.WithCancel(t.Context())
	gone, got := make(chan error), make(chan error, callers)
	go func() {
		_, err := f.MX(first, "example.org")
		gone <- err
	}()
	f.waiting(t, k, 1)
	for range callers {
		go func() {
			list, err := f.MX(t.Context(), "example.org")
			if err == nil && (len(list) != 1 || list[0].Host != "mail.example.org") {
				err = fmt.Errorf("got %v", list)
			}
			got <- err
		}()
	}
	f.waiting(t, k, callers+1)
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	f.waiting(t, k, callers)
	close(until)
	for range callers {
		if err := <-got; err != nil {
			t.Error(err)
		}
	}
	if n := f.Count("", "", ""); n != 1 {
		t.Errorf("%d questions, want 1", n)
	}
	f.waiting(t, k, 0)
}

// The last one who goes away ends the question, and leaves no trace that the next one could join.
func TestLastWaiterEnds(t *testing.T) {
	f := setUp(t, 1, Options{Timeout: maxTimeout})
	f.Set("example.org", "MX", "10 mail.example.org.")
	until := make(chan struct{})
	f.Delay("", "", until)
	ctx, cancel := context.WithCancel(t.Context())
	const callers = 3
	gone := make(chan error)
	for range callers {
		go func() {
			_, err := f.MX(ctx, "example.org")
			gone <- err
		}()
	}
	k := key{"example.org", dns.TypeMX}
	f.waiting(t, k, callers)
	asking := f.flights[k]
	cancel()
	for range callers {
		if err := <-gone; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	}
	select {
	case <-asking.done:
	default:
		t.Error("the question goes on")
	}
	if n := len(f.flights); n != 0 {
		t.Errorf("%d questions can be joined", n)
	}
	if n := len(f.cache.entries); n != 0 {
		t.Errorf("%d answers are kept of what nobody waited for", n)
	}
	close(until)
	if got, want := f.hosts(t, "example.org"), "10 mail.example.org"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestCacheBounds(t *testing.T) {
	now := time.Unix(0, 0)
	k := func(i int) key { return key{fmt.Sprintf("n%04d.example", i), dns.TypeMX} }
	nothing := &answer{noData: true}
	one := nothing.size(k(0))
	for name, c := range map[string]*cache{"entries": newCache(3, 1<<20), "octets": newCache(1000, 3*one), "octets, but one": newCache(1000, 4*one-1)} {
		for i := range 3 {
			c.put(k(i), nothing, time.Hour, now)
		}
		for i := range 3 {
			if c.get(k(i), now) == nil {
				t.Errorf("%s: entry %d of 3 is gone", name, i)
			}
		}
		c.get(k(0), now) // so 1 was not used for the longest
		c.put(k(3), nothing, time.Hour, now)
		for i, want := range []bool{true, false, true, true} {
			if got := c.get(k(i), now) != nil; got != want {
				t.Errorf("%s: entry %d: got %v, want %v", name, i, got, want)
			}
		}
		c.put(k(3), nothing, time.Hour, now)
		if len(c.entries) != 3 || c.order.Len() != 3 || c.octets != 3*one {
			t.Errorf("%s: %d entries, %d in order, %d octets", name, len(c.entries), c.order.Len(), c.octets)
		}
		for i := range 4 {
			c.put(k(i), nothing, 0, now)
		}
		if len(c.entries) != 0 || c.order.Len() != 0 || c.octets != 0 {
			t.Errorf("%s: emptied, and %d entries, %d in order, %d octets are left", name, len(c.entries), c.order.Len(), c.octets)
		}
	}
	c := newCache(1000, one-1)
	c.put(k(0), nothing, time.Hour, now)
	if len(c.entries) != 0 || c.octets != 0 {
		t.Errorf("an answer larger than the cache is kept")
	}
}

// However many names are asked for, and however much each answer has, memory has its bound.
func TestCacheMemory(t *testing.T) {
	c := newCache(maxCached, maxCachedOctets)
	now := time.Unix(0, 0)
	host := string(make([]byte, maxName))
	large := &answer{}
	for range MaxMX {
		large.mx = append(large.mx, MX{Host: host})
	}
	small := &answer{addrs: []netip.Addr{netip.IPv4Unspecified()}}
	for i := range 100_000 {
		a := small
		if i%10 == 0 {
			a = large
		}
		c.put(key{fmt.Sprintf("n%d.example", i), dns.TypeMX}, a, time.Hour, now)
		if len(c.entries) > maxCached || c.octets > maxCachedOctets || c.order.Len() != len(c.entries) {
			t.Fatalf("after %d names: %d entries, %d in order, %d octets", i, len(c.entries), c.order.Len(), c.octets)
		}
	}
	for i := range 2 * maxCached {
		c.put(key{fmt.Sprintf("m%d.example", i), dns.TypeMX}, small, time.Hour, now)
	}
	if len(c.entries) != maxCached {
		t.Errorf("%d small answers are kept, want %d", len(c.entries), maxCached)
	}
}
