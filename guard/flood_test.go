package guard

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// friends is a rule of who is known.
func friends(addresses ...string) func(netip.Addr) bool {
	return func(a netip.Addr) bool {
		for _, known := range addresses {
			if a == netip.MustParseAddr(known) {
				return true
			}
		}
		return false
	}
}

// TestReserve: strangers have all connections but the reserve, known clients all, and without a rule nothing is reserved.
func TestReserve(t *testing.T) {
	for _, tt := range []struct {
		name             string
		limits           ConnLimits
		known            func(netip.Addr) bool
		strangers, total int // how many are let in
	}{
		{"set", ConnLimits{Total: 5, Reserve: 2}, friends("198.51.100.200"), 3, 5},
		{"an eighth", ConnLimits{Total: 16}, friends("198.51.100.200"), 14, 16},
		{"too few for one", ConnLimits{Total: 7}, friends("198.51.100.200"), 7, 7},
		{"nobody is known", ConnLimits{Total: 8}, nil, 8, 8},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStage(t, ListenerOptions{Limits: tt.limits, Known: tt.known})
				var open []net.Conn
				let := func(address func(i int) string) int {
					for i := range 20 {
						s.connect(address(i))
						synctest.Wait()
						if s.count() == len(open) {
							break
						}
						c, _ := s.take()
						open = append(open, c)
					}
					return len(open)
				}
				if n := let(func(i int) string { return fmt.Sprintf("198.51.100.%d", i+1) }); n != tt.strangers {
					t.Errorf("%d strangers are let in, want %d", n, tt.strangers)
				}
				if n := let(func(int) string { return "198.51.100.200" }); n != tt.total {
					t.Errorf("%d connections in all, want %d", n, tt.total)
				}
			})
		})
	}
}

// TestKnownHandshakesStay: one handshake too many ends the oldest of a stranger, and that of a known client only where there are no others.
func TestKnownHandshakesStay(t *testing.T) {
	config := TLSConfig(selfSigned(t, t.TempDir()).GetCertificate)
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, ListenerOptions{TLS: config, Limits: ConnLimits{Handshakes: 2}, Known: friends("198.51.100.1", "198.51.100.2", "198.51.100.3")})
		ended := make([]bool, 6)
		for i, address := range []string{"198.51.100.1", "203.0.113.1", "203.0.113.2", "198.51.100.2", "198.51.100.3"} {
			c := s.connect(address)
			go func() {
				_, err := c.Read(make([]byte, 1))
				ended[i] = errors.Is(err, io.EOF)
			}()
			synctest.Wait()
			want := [][]bool{
				{false, false, false, false, false}, {false, false, false, false, false}, {false, true, false, false, false},
				{false, true, true, false, false}, {true, true, true, false, false},
			}[i]
			if fmt.Sprint(ended[:5]) != fmt.Sprint(want) {
				t.Errorf("after handshake %d: ended %v, want %v", i+1, ended[:5], want)
			}
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		synctest.Wait()
	})
}

// TestFloodLeavesFewLines: five thousand handshakes that fail, and as many clients that speak too early, are a few lines, and none of them is
// lost: the next line has how many there were.
func TestFloodLeavesFewLines(t *testing.T) {
	config := TLSConfig(selfSigned(t, t.TempDir()).GetCertificate)
	const flood = 5000
	for _, tt := range []struct {
		name, event, say string
		o                ListenerOptions
	}{
		{"handshakes", "TLS handshake failed", "\x16nonsense of eleven octets", ListenerOptions{TLS: config}},
		{"early talkers", "client spoke before it was greeted", "EHLO\r\n", ListenerOptions{Sniff: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStage(t, tt.o)
				go func() {
					for c, err := s.Accept(); err == nil; c, err = s.Accept() {
						_ = c.Close() // all that can be had of it is in the log
					}
				}()
				one := func(i int) {
					c := s.connect(fmt.Sprintf("198.%d.%d.1", 51+i/250, i%250))
					_, _ = io.WriteString(c, tt.say) // it may be cut off before its end
					_, _ = io.ReadAll(c)
				}
				for i := range flood {
					one(i)
				}
				if n := bytes.Count(s.log.Bytes(), []byte(tt.event)); n != eventsLogged {
					t.Errorf("%d lines of %q, want %d", n, tt.event, eventsLogged)
				}
				time.Sleep(eventsWindow)
				one(flood)
				s.wantLogged(fmt.Sprintf("not_logged_before=%d", flood-eventsLogged))
				time.Sleep(eventsWindow)
				one(flood + 1)
				synctest.Wait()
				if n := strings.Count(s.log.String(), "not_logged_before"); n != 1 {
					t.Errorf("%d lines tell of others, want 1", n)
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestHome: a client is known for HomeAge after somebody logged in from there, and so is its network of one client; the table is bounded.
func TestHome(t *testing.T) {
	g := NewLogins(LoginLimits{})
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	home, near := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
	other := netip.MustParseAddr("192.0.2.1")
	if g.Home(now, home) {
		t.Error("known before a login")
	}
	g.FailedProof(now, other, "anna")
	g.Failed(now, other, "anna", 1, "wrong")
	g.Succeeded(now, home, "anna")
	for _, tt := range []struct {
		after time.Duration
		who   netip.Addr
		want  bool
	}{{0, home, true}, {0, near, true}, {0, other, false}, {HomeAge - 1, home, true}, {HomeAge, home, false}} {
		if got := g.Home(now.Add(tt.after), tt.who); got != tt.want {
			t.Errorf("%v after %v: known %v, want %v", tt.who, tt.after, got, tt.want)
		}
	}
	for i := range MaxLoginHomes {
		if i == MaxLoginHomes-1 && !g.Home(now, home) {
			t.Error("forgotten before the table was full")
		}
		g.Succeeded(now, netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), "anna")
	}
	if g.Home(now, home) || len(g.homes.entries) != MaxLoginHomes {
		t.Errorf("%d clients are known, want %d", len(g.homes.entries), MaxLoginHomes)
	}
}

// FuzzBeginning: whatever a client begins with, in whatever pieces, is one offer, and is read again as it was sent.
func FuzzBeginning(f *testing.F) {
	for _, s := range []string{"", "USER a\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03rest", "\x16\x03\x00\x00\x31\x01\x00\x00\x2d\x03\x00", "\x80\x2e\x01\x00\x02",
		"\x80\x2e\x01\x03\x01", "\xff\xff\xff\xff\xff", "\x16"} {
		f.Add([]byte(s), uint8(1))
		f.Add([]byte(s), uint8(200))
	}
	f.Fuzz(func(t *testing.T, said []byte, piece uint8) {
		synctest.Test(t, func(t *testing.T) {
			ours, theirs := net.Pipe()
			c := &countedConn{Conn: theirs, release: func() {}}
			go func() {
				for rest := said; len(rest) > 0; {
					n := min(len(rest), 1+int(piece))
					if _, err := ours.Write(rest[:n]); err != nil {
						t.Error(err)
					}
					rest = rest[n:]
				}
				_ = ours.Close() // all is said
			}()
			o, _ := c.offer(t.Context())
			want, more := offerOf(said)
			if o != want {
				t.Errorf("got %q, want %q (%d)", o, want, more)
			}
			if len(c.head) > maxHead {
				t.Errorf("%d octets were read to see it", len(c.head))
			}
			got, err := io.ReadAll(c)
			if err != nil || !bytes.Equal(got, said) {
				t.Errorf("got %q (%v), want %q", got, err, said)
			}
			if o, more := offerOf(said[:min(len(said), helloHead)]); o != want && more == 0 {
				t.Errorf("its first octets are %q", o)
			}
			_ = theirs.Close() // nobody reads any more
		})
	})
}
