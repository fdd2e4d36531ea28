package resolver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"latchkey/internal/resolver/resolvertest"
)

// RFC 7766 §5: what does not fit into a packet is asked for again over TCP.
func TestTruncated(t *testing.T) {
	f := setUp(t, 1, Options{})
	f.Set("example.org", "MX", "10 mail.example.org.")
	f.Behave("example.org", "", resolvertest.Truncate)
	if got, want := f.hosts(t, "example.org"), "10 mail.example.org"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if udp, tcp := f.Count("example.org", "MX", "udp"), f.Count("example.org", "MX", "tcp"); udp != 1 || tcp != 1 {
		t.Errorf("%d questions over UDP and %d over TCP, want one each", udp, tcp)
	}
	// Half an answer over UDP is none, although it has records.
	var many []string
	for i := range 60 {
		many = append(many, fmt.Sprintf("%d mail%d.example.net.", i, i))
	}
	f.Set("example.net", "MX", many...)
	list, err := f.MX(t.Context(), "example.net")
	if err != nil || len(list) != MaxMX {
		t.Errorf("%d hosts, %v", len(list), err)
	}
	if tcp := f.Count("example.net", "MX", "tcp"); tcp != 1 {
		t.Errorf("%d questions over TCP, want 1", tcp)
	}
}

// RFC 6891 §6.2.3: we say what we can take, and RFC 6891 §7: a server may not know the extension, over either transport.
func TestEDNS(t *testing.T) {
	f := setUp(t, 1, Options{})
	f.Set("example.org", "MX", "10 mail.example.org.")
	f.hosts(t, "example.org")
	if got := f.EDNS("example.org", "MX"); got != ednsSize {
		t.Errorf("offered %d octets, want %d", got, ednsSize)
	}
	f.Behave("", "", resolvertest.NoEDNS)
	f.Set("old.example", "MX", "10 mail.example.org.")
	if got, want := f.hosts(t, "old.example"), "10 mail.example.org"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, n := f.EDNS("old.example", "MX"), f.Count("old.example", "MX", "udp"); got != 0 || n != 2 {
		t.Errorf("offered %d octets in question %d, want none in question 2", got, n)
	}
	var many []string
	for i := range 60 {
		many = append(many, fmt.Sprintf("%d mail%d.example.net.", i, i))
	}
	f.Set("large.example", "MX", many...)
	if list, err := f.MX(t.Context(), "large.example"); err != nil || len(list) != MaxMX {
		t.Errorf("without EDNS0 over TCP: %d hosts, %v", len(list), err)
	}
}

// What we did not ask for is not an answer (RFC 5452 §9.1), and does not end the wait for one.
func TestForgeries(t *testing.T) {
	f := setUp(t, 1, Options{})
	f.Behave("", "", resolvertest.Forge)
	f.Set("example.org", "MX", "10 mail.example.org.")
	f.Set("example.org", "A", "192.0.2.1")
	f.Set("example.org", "AAAA", "2001:db8::1")
	if got, want := f.hosts(t, "example.org"), "10 mail.example.org"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := f.addrs(t, "example.org"), "192.0.2.1 2001:db8::1"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if n := f.Count("", "", "tcp"); n != 0 {
		t.Errorf("%d questions over TCP, want none", n)
	}
}

// Whoever guesses ids is left to guess: TCP cannot be forged by that.
func TestFlood(t *testing.T) {
	f := setUp(t, 1, Options{})
	f.Behave("", "", resolvertest.Flood)
	f.Set("example.org", "MX", "10 mail.example.org.")
	if got, want := f.hosts(t, "example.org"), "10 mail.example.org"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if n := f.Count("", "", "tcp"); n != 1 {
		t.Errorf("%d questions over TCP, want 1", n)
	}
}

// Whoever cannot answer is passed over: the next server is asked at once, and nobody is asked twice what he refused. If there is no
// other, that is a temporary error which names him and what he did.
func TestNextServer(t *testing.T) {
	tests := []struct {
		name  string
		b     resolvertest.Behaviour
		cause string
		asked int // of one server, by both transports
	}{
		{"SERVFAIL", resolvertest.ServFail, "SERVFAIL", 1},
		{"REFUSED", resolvertest.Refuse, "REFUSED", 1},
		{"lame", resolvertest.Lame, "lame", 1},
		{"referral", resolvertest.Referral, "lame", 1},
		{"malformed", resolvertest.Malformed, "malformed", 1},
		{"breaks off between records", resolvertest.BreakOff, "breaks off", 1},
		{"record without data", resolvertest.Empty, "without data", 1},
		{"truncated over TCP", resolvertest.TruncateAlways, "truncated", 2},
		{"truncated, and TCP breaks off", resolvertest.TruncateThenClose, "broke off", 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := setUp(t, 2, Options{})
			for _, s := range f.servers {
				s.Set("example.org", "MX", "10 mail.example.org.")
				s.Set("example.org", "A", "192.0.2.1")
			}
			f.Behave("", "", tt.b)
			if got, want := f.hosts(t, "example.org"), "10 mail.example.org"; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			if got, want := f.addrs(t, "example.org"), "192.0.2.1"; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			f.second.Behave("", "", resolvertest.Refuse)
			_, err := f.MX(t.Context(), "other.example")
			if class(t, err) != "temporary" {
				t.Fatalf("got %v, want a temporary error", err)
			}
			var e *Error
			errors.As(err, &e)
			for i, cause := range []string{tt.cause, "REFUSED"} {
				part := strings.Split(e.Cause, "; ")[i]
				if !strings.HasPrefix(part, f.servers[i].Addr().String()+": ") || !strings.Contains(part, cause) {
					t.Errorf("cause %q, want server %d and %q", e.Cause, i, cause)
				}
				if strings.Contains(e.Text, f.servers[i].Addr().String()) {
					t.Errorf("text %q names our servers", e.Text)
				}
			}
			for i, want := range []int{tt.asked, 1} {
				if n := f.servers[i].Count("other.example", "MX", ""); n != want {
					t.Errorf("server %d was asked %d times, want %d", i, n, want)
				}
			}
		})
	}
}

// A name that does not exist is an answer, and nobody else is asked.
func TestNotFoundIsAnAnswer(t *testing.T) {
	f := setUp(t, 2, Options{})
	f.second.Set("example.org", "MX", "10 mail.example.org.")
	if got := f.hosts(t, "example.org"); got != "not found" {
		t.Errorf("got %q", got)
	}
	if n := f.second.Count("", "", ""); n != 0 {
		t.Errorf("the second server was asked %d times", n)
	}
}

// Nobody listens there.
func TestNoServer(t *testing.T) {
	taken, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := taken.LocalAddr().(*net.UDPAddr).AddrPort()
	if err := taken.Close(); err != nil {
		t.Fatal(err)
	}
	f := setUp(t, 1, Options{Servers: []netip.AddrPort{dead}})
	f.Set("example.org", "MX", "10 mail.example.org.")
	if got, want := f.hosts(t, "example.org"), "10 mail.example.org"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	f.Behave("", "", resolvertest.Refuse)
	_, err = f.MX(t.Context(), "other.example")
	if class(t, err) != "temporary" || !strings.Contains(err.Error(), dead.String()+": connection refused") {
		t.Errorf("got %v", err)
	}
}

// Who is silent, or talks of something else, is asked again in the next round; the others are not waited for longer than needed.
func TestTimeout(t *testing.T) {
	for name, b := range map[string]resolvertest.Behaviour{
		"silence": resolvertest.Drop, "wrong id": resolvertest.WrongID, "wrong question": resolvertest.WrongQuestion,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setUp(t, 2, Options{Timeout: shortTimeout, Attempts: 3})
			f.second.Behave("", "", resolvertest.Refuse)
			f.Behave("", "", b)
			_, err := f.MX(t.Context(), "example.org")
			if class(t, err) != "temporary" || !strings.Contains(err.Error(), f.Addr().String()+": "+errNoAnswer.Error()) {
				t.Errorf("got %v, want a temporary error that names the server", err)
			}
			for i, want := range []int{3, 1} {
				f.servers[i].Wait("example.org", "MX", want)
				if n := f.servers[i].Count("example.org", "MX", ""); n != want {
					t.Errorf("server %d was asked %d times, want %d", i, n, want)
				}
			}
		})
	}
}

// After a server that is silent the next one is asked in the same round.
func TestTimeoutGoesOn(t *testing.T) {
	t.Parallel()
	f := setUp(t, 2, Options{Timeout: 4 * shortTimeout})
	f.second.Set("example.org", "MX", "10 mail.example.org.")
	f.Behave("", "", resolvertest.Drop)
	if got, want := f.hosts(t, "example.org"), "10 mail.example.org"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if n := f.Count("", "", ""); n != 1 {
		t.Errorf("the silent server was asked %d times, want 1", n)
	}
}

// asking is what a question came with.
type asking struct {
	id   uint16
	port uint16
	rd   bool
}

// answerWith answers questions over UDP until conn is closed, and then closes the channel that it gives.
func answerWith(conn net.PacketConn, asked chan<- asking, answer func(*dns.Msg) *dns.Msg) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, dns.MinMsgSize)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			q := &dns.Msg{}
			if q.Unpack(buf[:n]) != nil {
				continue
			}
			asked <- asking{q.Id, from.(*net.UDPAddr).AddrPort().Port(), q.RecursionDesired}
			if raw, err := answer(q).Pack(); err == nil {
				_, _ = conn.WriteTo(raw, from)
			}
		}
	}()
	return done
}

// RFC 5452 §9.2: neither id nor source port can be told from those before.
func TestIDsAndPorts(t *testing.T) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	const questions = 64
	asked := make(chan asking, questions)
	done := answerWith(conn, asked, func(q *dns.Msg) *dns.Msg {
		m := new(dns.Msg).SetReply(q)
		m.Rcode, m.RecursionAvailable = dns.RcodeNameError, true
		return m
	})
	defer func() { _ = conn.Close(); <-done }()
	r, err := New(Options{Servers: []netip.AddrPort{conn.LocalAddr().(*net.UDPAddr).AddrPort()}})
	if err != nil {
		t.Fatal(err)
	}
	ids, ports, steps := map[uint16]bool{}, map[uint16]bool{}, map[uint16]bool{}
	last := uint16(0)
	for i := range questions {
		if _, err := r.MX(t.Context(), fmt.Sprintf("n%d.example", i)); class(t, err) != "not found" {
			t.Fatal(err)
		}
		a := <-asked
		if !a.rd {
			t.Error("recursion was not asked for")
		}
		ids[a.id], ports[a.port], steps[a.id-last] = true, true, true
		last = a.id
	}
	if len(ids) < questions/2 || len(ports) < questions/2 || len(steps) < questions/2 {
		t.Errorf("%d questions had %d ids in %d kinds of steps, and %d ports", questions, len(ids), len(steps), len(ports))
	}
}

// A context ends the wait at once, and what it cut short is not kept.
func TestContext(t *testing.T) {
	f := setUp(t, 2, Options{Timeout: maxTimeout})
	f.Set("example.org", "MX", "10 mail.example.org.")
	until := make(chan struct{})
	f.Delay("example.org", "", until)
	for name, cause := range map[string]error{"cancel": context.Canceled, "deadline": context.DeadlineExceeded} {
		ctx, cancel := context.WithCancel(t.Context())
		if errors.Is(cause, context.DeadlineExceeded) {
			ctx, cancel = context.WithTimeout(t.Context(), 4*shortTimeout)
		}
		before := f.Count("example.org", "MX", "")
		failed := make(chan error)
		go func() {
			_, err := f.MX(ctx, "example.org")
			failed <- err
		}()
		f.Wait("example.org", "MX", before+1)
		if errors.Is(cause, context.Canceled) {
			cancel()
		}
		select {
		case err := <-failed:
			if !errors.Is(err, cause) || class(t, err) != "temporary" {
				t.Errorf("%s: got %v", name, err)
			}
		case <-time.After(maxTimeout / 2):
			t.Fatalf("%s: the wait went on", name)
		}
		cancel()
	}
	close(until)
	if got, want := f.hosts(t, "example.org"), "10 mail.example.org"; got != want {
		t.Errorf("afterwards: got %q, want %q", got, want)
	}
	if n := f.second.Count("", "", ""); n != 0 {
		t.Errorf("the second server was asked %d times for what was cut short", n)
	}
}
