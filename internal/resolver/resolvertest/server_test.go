package resolvertest

import (
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ask asks over a transport, and says what came: the data of the answer, or the RCODE.
func ask(t *testing.T, s *Server, transport, name, rrtype string) string {
	t.Helper()
	c := dns.Client{Net: transport, Timeout: patience}
	m, _, err := c.Exchange(new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.StringToType[rrtype]), s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	words := []string{dns.RcodeToString[m.Rcode]}
	if m.Truncated {
		words = append(words, "TC")
	}
	for _, rr := range m.Answer {
		words = append(words, strings.Join(strings.Fields(rr.String())[1:], " "))
	}
	return strings.Join(words, ", ")
}

func TestZone(t *testing.T) {
	s := New(t)
	s.Set("Example.org", "MX", "10 mail.example.org.")
	s.Set("empty.example", "MX")
	s.Set("alias.example", "CNAME", "example.org.")
	s.Set("loop.example", "CNAME", "loop.example.")
	s.Set("old.example", "A", "192.0.2.1")
	s.Set("old.example", "A", "192.0.2.2")
	s.SetTTL("old.example", "A", 7)
	s.Set("gone.example", "A", "192.0.2.1")
	s.Remove("gone.example")
	tests := []struct{ name, rrtype, want string }{
		{"example.org", "MX", "NOERROR, 300 IN MX 10 mail.example.org."},
		{"EXAMPLE.org", "MX", "NOERROR, 300 IN MX 10 mail.example.org."},
		{"example.org", "A", "NOERROR"},
		{"org", "A", "NOERROR"},
		{"empty.example", "MX", "NOERROR"},
		{"nowhere.example", "MX", "NXDOMAIN"},
		{"gone.example", "A", "NXDOMAIN"},
		{"alias.example", "MX", "NOERROR, 300 IN CNAME example.org., 300 IN MX 10 mail.example.org."},
		{"alias.example", "A", "NOERROR, 300 IN CNAME example.org."},
		{"old.example", "A", "NOERROR, 7 IN A 192.0.2.2"},
	}
	for _, transport := range []string{"udp", "tcp"} {
		for _, tt := range tests {
			if got := ask(t, s, transport, tt.name, tt.rrtype); got != tt.want {
				t.Errorf("%s: %s %s: got %q, want %q", transport, tt.name, tt.rrtype, got, tt.want)
			}
		}
		if got := strings.Count(ask(t, s, transport, "loop.example", "MX"), "CNAME"); got != maxAliases {
			t.Errorf("%s: %d aliases of a loop, want %d", transport, got, maxAliases)
		}
	}
}

func TestRules(t *testing.T) {
	s := New(t)
	for _, name := range []string{"one.example", "two.example"} {
		s.Set(name, "A", "192.0.2.1")
		s.Set(name, "AAAA", "2001:db8::1")
	}
	s.Behave("", "", Refuse)
	s.Behave("", "AAAA", ServFail)
	s.Behave("one.example", "", Truncate)
	s.Behave("one.example", "A", Normal)
	for _, tt := range []struct{ transport, name, rrtype, want string }{
		{"udp", "two.example", "A", "REFUSED"},
		{"udp", "two.example", "AAAA", "SERVFAIL"},
		{"udp", "one.example", "AAAA", "NOERROR, TC"},
		{"tcp", "one.example", "AAAA", "NOERROR, 300 IN AAAA 2001:db8::1"},
		{"udp", "one.example", "A", "NOERROR, 300 IN A 192.0.2.1"},
	} {
		if got := ask(t, s, tt.transport, tt.name, tt.rrtype); got != tt.want {
			t.Errorf("%s %s: got %q, want %q", tt.name, tt.rrtype, got, tt.want)
		}
	}
	for _, tt := range []struct {
		name, rrtype, transport string
		want                    int
	}{
		{"", "", "", 5}, {"", "", "udp", 4}, {"", "", "tcp", 1}, {"One.example.", "", "", 3}, {"", "AAAA", "", 3},
		{"one.example", "AAAA", "tcp", 1}, {"three.example", "", "", 0},
	} {
		if got := s.Count(tt.name, tt.rrtype, tt.transport); got != tt.want {
			t.Errorf("count of %q %q %q: got %d, want %d", tt.name, tt.rrtype, tt.transport, got, tt.want)
		}
	}
}

// A server that holds answers back can be stopped, and a question that is dropped gets none.
func TestHeldAndDropped(t *testing.T) {
	for name, set := range map[string]func(*Server){
		"held":    func(s *Server) { s.Delay("", "", make(chan struct{})) },
		"dropped": func(s *Server) { s.Behave("", "", Drop) },
	} {
		t.Run(name, func(t *testing.T) {
			s := New(t)
			set(s)
			conn, err := net.Dial("udp", s.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }() // nothing is lost
			c := &dns.Conn{Conn: conn}
			if err := c.WriteMsg(new(dns.Msg).SetQuestion("example.org.", dns.TypeMX)); err != nil {
				t.Fatal(err)
			}
			s.Wait("example.org", "MX", 1)
			if err := c.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
				t.Fatal(err)
			}
			if m, err := c.ReadMsg(); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("got %v, %v", m, err)
			}
		})
	}
}
