package guard

import (
	"bytes"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func addrs(texts ...string) func() ([]netip.Addr, error) {
	return func() ([]netip.Addr, error) {
		var list []netip.Addr
		for _, text := range texts {
			list = append(list, netip.MustParseAddr(text))
		}
		return list, nil
	}
}

// testHosts is a container that Docker's bridge and a carrier's router lead to, behind proxies.
func testHosts(now func() time.Time) *Hosts {
	var proxies []netip.Prefix
	for _, text := range []string{"10.9.0.0/24", "::ffff:10.8.0.0/120", "2001:db8:9::/48", "127.0.0.9/32"} {
		proxies = append(proxies, netip.MustParsePrefix(text))
	}
	return NewHosts(HostsOptions{
		Proxies:    proxies,
		Interfaces: addrs("127.0.0.1", "::1", "172.17.0.2", "::ffff:192.0.2.10", "2001:db8::10", "fe80::10%eth0"),
		Gateways:   addrs("172.17.0.1", "::ffff:192.168.7.1", "fd00::1", "100.64.0.1", "198.51.100.1", "fe80::1"),
		Now:        now,
	})
}

// TestEligible: every kind of address that is not a client's own, beside its neighbours that are.
func TestEligible(t *testing.T) {
	h := testHosts(nil)
	for _, tt := range []struct {
		remote   string
		loopback bool
		want     Bar
	}{
		{"203.0.113.7", false, ""},
		{"203.0.113.7", true, ""},
		{"::ffff:203.0.113.7", false, ""},
		{"2001:db8::7", false, ""},
		{"192.168.1.20", false, ""}, // a client in the office's own net
		{"", false, BarNoClient},
		{"0.0.0.0", false, BarNoClient},
		{"::", false, BarNoClient},
		{"::ffff:0.0.0.0", false, BarNoClient},
		{"224.0.0.1", false, BarNoClient},
		{"ff02::1", false, BarNoClient},
		{"::ffff:224.0.0.1", false, BarNoClient},
		{"127.0.0.1", false, BarLoopback},
		{"127.255.255.254", false, BarLoopback},
		{"::1", false, BarLoopback},
		{"::ffff:127.0.0.1", false, BarLoopback},
		{"127.0.0.1", true, ""},
		{"127.3.2.1", true, ""},
		{"::1", true, ""},
		{"::ffff:127.0.0.1", true, ""},
		{"127.0.0.9", true, BarProxy},
		{"10.9.0.0", false, BarProxy},
		{"10.9.0.255", false, BarProxy},
		{"::ffff:10.9.0.3", false, BarProxy},
		{"10.9.1.0", false, ""},
		{"10.8.0.200", false, BarProxy},
		{"10.8.1.0", false, ""},
		{"2001:db8:9:ffff::1", false, BarProxy},
		{"2001:db8:a::1", false, ""},
		{"172.17.0.2", false, BarHost},
		{"::ffff:172.17.0.2", false, BarHost},
		{"192.0.2.10", false, BarHost},
		{"192.0.2.11", false, ""},
		{"2001:db8::10", false, BarHost},
		{"2001:db8::11", false, ""},
		{"172.17.0.2", true, BarHost},
		{"172.17.0.1", false, BarGateway},
		{"::ffff:172.17.0.1", false, BarGateway},
		{"172.17.0.3", false, ""},
		{"192.168.7.1", false, BarGateway},
		{"fd00::1", false, BarGateway},
		{"fd00::2", false, ""},
		{"100.64.0.1", false, BarGateway},
		{"100.64.0.2", false, ""}, // grants look further, see TestGrantPlaces
		{"198.51.100.1", false, ""},
		{"fe80::1", false, BarLinkLocal},
		{"fe80::99%eth0", false, BarLinkLocal},
		{"169.254.1.1", false, BarLinkLocal},
	} {
		p := Place{Loopback: tt.loopback}
		if tt.remote != "" {
			p.Remote = netip.MustParseAddr(tt.remote)
		}
		if got := h.Bar(p); got != tt.want {
			t.Errorf("%q (loopback %v): got %q, want %q", tt.remote, tt.loopback, got, tt.want)
		}
		if got := h.Eligible(p); got != (tt.want == "") {
			t.Errorf("%q (loopback %v): eligible %v", tt.remote, tt.loopback, got)
		}
	}
}

// system is a host whose addresses change, or cannot be read.
type system struct {
	mu    sync.Mutex
	now   time.Time
	own   []netip.Addr
	err   error
	asked int
}

func (s *system) hosts(log *bytes.Buffer) *Hosts {
	return NewHosts(HostsOptions{
		Interfaces: func() ([]netip.Addr, error) {
			s.asked++
			return s.own, s.err
		},
		Gateways: addrs(), Now: func() time.Time {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.now
		}, Logger: slog.New(slog.NewTextHandler(log, nil)),
	})
}

// TestFactsAreRefreshed when they are as old as they may be, and not before; a clock that was set back does not keep them.
func TestFactsAreRefreshed(t *testing.T) {
	s := &system{now: start}
	h := s.hosts(&bytes.Buffer{})
	p := Place{Remote: home}
	s.own = []netip.Addr{home}
	for _, tt := range []struct {
		after time.Duration
		asked int
		want  bool
	}{
		{0, 1, true}, {hostsInterval - 1, 1, true}, {hostsInterval, 2, false}, {hostsInterval + 1, 2, false}, {2*hostsInterval - 1, 2, false},
		{2 * hostsInterval, 3, false}, {0, 4, false},
	} {
		s.now = start.Add(tt.after)
		if got := h.Eligible(p); got != tt.want || s.asked != tt.asked {
			t.Errorf("after %v: eligible %v, asked %d times, want %v, %d", tt.after, got, s.asked, tt.want, tt.asked)
		}
	}
}

// TestFactsFailClosed: with no facts nobody is eligible, loopback included; with old ones they hold; the log says so once.
func TestFactsFailClosed(t *testing.T) {
	var log bytes.Buffer
	s := &system{now: start, err: errors.New("no netlink")}
	h := s.hosts(&log)
	for _, p := range []Place{{Remote: cafe}, {Remote: netip.MustParseAddr("127.0.0.1"), Loopback: true}} {
		if got := h.Bar(p); got != BarUnknown {
			t.Errorf("%v: got %q, want %q", p, got, BarUnknown)
		}
	}
	s.now = s.now.Add(hostsInterval)
	h.known()
	if n := strings.Count(log.String(), "no netlink"); n != 1 {
		t.Errorf("%d lines in the log, want 1", n)
	}
	s.err, s.own, s.now = nil, []netip.Addr{home}, s.now.Add(hostsInterval)
	if h.Bar(Place{Remote: home}) != BarHost || !h.Eligible(Place{Remote: cafe}) {
		t.Error("the facts are not read when they can be")
	}
	s.err, s.own, s.now = errors.New("no netlink"), nil, s.now.Add(hostsInterval)
	if h.Bar(Place{Remote: home}) != BarHost || !h.Eligible(Place{Remote: cafe}) {
		t.Error("the old facts do not stay")
	}
	if n := strings.Count(log.String(), "no netlink"); n != 2 {
		t.Errorf("%d lines in the log, want 2", n)
	}
}

// TestNobodyWaitsForFacts: while one caller reads them, which may take long, the others go by the old ones.
func TestNobodyWaitsForFacts(t *testing.T) {
	s := &system{now: start}
	h := s.hosts(&bytes.Buffer{})
	reads, goOn := make(chan struct{}), make(chan struct{})
	h.o.Interfaces = func() ([]netip.Addr, error) {
		close(reads) // a second reader would panic
		<-goOn
		return []netip.Addr{home}, nil
	}
	s.mu.Lock()
	s.now = start.Add(hostsInterval)
	s.mu.Unlock()
	reader := make(chan struct{})
	go func() {
		defer close(reader)
		if h.Eligible(Place{Remote: home}) {
			t.Error("who reads the facts does not go by them")
		}
	}()
	<-reads
	var others sync.WaitGroup
	for range 4 {
		others.Go(func() {
			for range 1000 {
				if !h.Eligible(Place{Remote: home}) {
					t.Error("not eligible while the facts are read")
				}
			}
		})
	}
	impatient := time.AfterFunc(patience, func() { // for callers that wait for the reader
		t.Error("they wait")
		close(goOn)
	})
	others.Wait()
	if impatient.Stop() {
		close(goOn)
	}
	<-reader
}

// TestThisHost: the system that the test runs on can be read.
func TestThisHost(t *testing.T) {
	own, err := systemAddresses()
	if err != nil || len(own) == 0 {
		t.Fatalf("addresses: %v (%v)", own, err)
	}
	gateways, err := systemGateways()
	if err != nil {
		t.Fatalf("gateways: %v", err)
	}
	h := NewHosts(HostsOptions{})
	for _, a := range own {
		if h.Eligible(Place{Remote: a}) {
			t.Errorf("%v of this host is eligible", a)
		}
	}
	for _, a := range gateways {
		if a.IsPrivate() && h.Eligible(Place{Remote: a}) {
			t.Errorf("%v, a gateway, is eligible", a)
		}
	}
	if !h.Eligible(Place{Remote: netip.MustParseAddr("127.0.0.1"), Loopback: true}) {
		t.Error("loopback is not eligible at a door on loopback")
	}
}
