package guard

import (
	"bytes"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// stage is a listener over pipes in a bubble of false time.
type stage struct {
	*testing.T
	*Listener
	in  *scripted
	log *bytes.Buffer
}

func newStage(t *testing.T, o ListenerOptions) *stage {
	s := &stage{T: t, in: &scripted{conns: make(chan any), done: make(chan struct{})}, log: &bytes.Buffer{}}
	o.Logger = slog.New(slog.NewTextHandler(s.log, nil))
	s.Listener = NewListener(s.in, o)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// connect is a client at an address.
func (s *stage) connect(address string) net.Conn {
	s.Helper()
	ours, theirs := net.Pipe()
	s.Cleanup(func() { _ = ours.Close() })
	s.in.conns <- from{theirs, address}
	return ours
}

// take accepts, and says how long that took.
func (s *stage) take() (net.Conn, time.Duration) {
	s.Helper()
	began := time.Now()
	c, err := s.Accept()
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = c.Close() })
	return c, time.Since(began)
}

// heldBack is how long the greeting of a silent client is.
func (s *stage) heldBack(address string) time.Duration {
	s.Helper()
	client := s.connect(address)
	c, took := s.take()
	if _, isTLS := c.(*tls.Conn); isTLS || EarlyTalker(c) {
		s.Errorf("%s said nothing, and is a %T or an early talker", address, c)
	}
	_, _ = c.Close(), client.Close()
	return took
}

func (s *stage) wantHeldBack(address string, want time.Duration) {
	s.Helper()
	if took := s.heldBack(address); took != want {
		s.Errorf("%s: greeting held back for %v, want %v", address, took, want)
	}
}

func (s *stage) wantLogged(texts ...string) {
	s.Helper()
	synctest.Wait() // until all is written
	for _, text := range texts {
		if !strings.Contains(s.log.String(), text) {
			s.Errorf("no %q in the log: %s", text, s.log)
		}
	}
}

// TestGreetingIsHeldBackOnce: a client that waited for it has it at once for the next day, and so has nobody else.
func TestGreetingIsHeldBackOnce(t *testing.T) {
	config := TLSConfig(selfSigned(t, t.TempDir()).GetCertificate)
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, ListenerOptions{Sniff: true, SniffTLS: config})
		s.wantHeldBack("198.51.100.1", SniffWait)
		noted := time.Now()
		for range 3 {
			s.wantHeldBack("198.51.100.1", 0)
		}
		s.wantHeldBack("::ffff:198.51.100.1", 0)
		s.wantHeldBack("198.51.100.2", SniffWait)
		s.wantHeldBack("2001:db8::1", SniffWait)
		s.wantHeldBack("2001:db8::2", 0)
		s.wantHeldBack("2001:db8:0:1::1", SniffWait)
		time.Sleep(MannersAge - time.Since(noted) - 1)
		s.wantHeldBack("198.51.100.1", 0)
		time.Sleep(time.Nanosecond)
		s.wantHeldBack("198.51.100.1", SniffWait)
		s.wantHeldBack("198.51.100.1", 0)
		off := newStage(t, ListenerOptions{SniffTLS: config})
		off.wantHeldBack("198.51.100.1", 0)
	})
}

// TestHeldBackGreetingsHoldNobodyUp: neither one another nor those who need not wait.
func TestHeldBackGreetingsHoldNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, ListenerOptions{Sniff: true})
		s.wantHeldBack("198.51.100.1", SniffWait)
		for i := range 100 {
			s.connect(fmt.Sprint("203.0.113.", i))
		}
		s.wantHeldBack("198.51.100.1", 0)
		for i := range 100 {
			want := time.Duration(0)
			if i == 0 {
				want = SniffWait
			}
			if _, took := s.take(); took != want {
				t.Errorf("client %d: %v more, want %v", i, took, want)
			}
		}
	})
}

func prefixOf(address string) netip.Prefix { return Prefix(netip.MustParseAddr(address)) }

// TestMannersAreBounded: at both ends of the bound.
func TestMannersAreBounded(t *testing.T) {
	m := newManners()
	client := func(i int) string { return fmt.Sprintf("10.%d.%d.1", i/256, i%256) }
	for i := range MaxManners {
		m.waits(start, prefixOf(client(i)))
	}
	if !m.patient(start, prefixOf(client(0))) {
		t.Error("one of MaxManners clients is forgotten")
	}
	m.waits(start, prefixOf(client(MaxManners)))
	if m.patient(start, prefixOf(client(1))) || len(m.clients.entries) != MaxManners {
		t.Errorf("%d clients are remembered", len(m.clients.entries))
	}
	if !m.patient(start, prefixOf(client(0))) || !m.patient(start, prefixOf(client(MaxManners))) {
		t.Error("not the one that was seen longest ago is forgotten")
	}
	if m.patient(start, prefixOf("192.0.2.1")) || len(m.clients.entries) != MaxManners {
		t.Error("a question is remembered")
	}
}

// hello begins TLS over a connection, and reports how that went.
func hello(c net.Conn) <-chan error {
	done := make(chan error, 1)
	go func() { done <- tls.Client(c, &tls.Config{InsecureSkipVerify: true}).Handshake() }() // the test's own certificate
	return done
}

// dribbling writes its first octets one at a time.
type dribbling struct {
	net.Conn
	octets int
	pause  time.Duration
}

func (d *dribbling) Write(p []byte) (written int, err error) {
	for ; d.octets > 0 && written < len(p); d.octets-- {
		if _, err := d.Conn.Write(p[written : written+1]); err != nil {
			return written, err
		}
		written++
		time.Sleep(d.pause)
	}
	n, err := d.Conn.Write(p[written:])
	return written + n, err
}

// TestClientThatBeginsWithTLS is served with it, without a wait, and however small its pieces are; no program at its address is taken for a
// patient one then, for a day.
func TestClientThatBeginsWithTLS(t *testing.T) {
	config := TLSConfig(selfSigned(t, t.TempDir()).GetCertificate)
	for _, pause := range []time.Duration{0, SniffWait / 5} {
		synctest.Test(t, func(t *testing.T) {
			var wrapped net.Conn
			s := newStage(t, ListenerOptions{Sniff: true, SniffTLS: config, Wrap: func(c net.Conn) net.Conn {
				wrapped = struct{ net.Conn }{c}
				return wrapped
			}})
			s.wantHeldBack("198.51.100.1", SniffWait)
			done := hello(&dribbling{s.connect("203.0.113.1"), 2 * helloHead, pause})
			c, took := s.take()
			secure, isTLS := c.(*tls.Conn)
			if !isTLS || secure.NetConn() != wrapped || EarlyTalker(c) {
				t.Fatalf("a client that begins with TLS is a %T", c)
			}
			if err := <-done; err != nil || pause == 0 && took != 0 {
				t.Errorf("after %v: %v", took, err)
			}
			noted := time.Now()
			s.wantHeldBack("203.0.113.1", SniffWait)
			s.wantHeldBack("203.0.113.1", SniffWait)
			s.wantHeldBack("198.51.100.1", 0)
			time.Sleep(MannersAge - time.Since(noted))
			s.heldBack("203.0.113.1")
			s.wantHeldBack("203.0.113.1", 0)
			if s.EarlyTalkers() != 0 {
				t.Errorf("%d early talkers", s.EarlyTalkers())
			}
		})
	}
}

// TestTLSAfterTheGreeting: where one program waits for the greeting and another begins with TLS, the second is served at its next try.
func TestTLSAfterTheGreeting(t *testing.T) {
	config := TLSConfig(selfSigned(t, t.TempDir()).GetCertificate)
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, ListenerOptions{Sniff: true, SniffTLS: config})
		s.wantHeldBack("198.51.100.1", SniffWait)
		client := s.connect("198.51.100.1")
		done := hello(client)
		c, _ := s.take()
		if _, isTLS := c.(*tls.Conn); isTLS {
			t.Fatal("the greeting was held back")
		}
		var head [3]byte
		if _, err := io.ReadFull(c, head[:]); err != nil || head[0] != 0x16 || head[1] != 3 {
			t.Errorf("the server read % x (%v)", head, err)
		}
		_ = c.Close()
		if err := <-done; err == nil {
			t.Error("a handshake without a server")
		}
		s.wantLogged("began with TLS", "remote=198.51.100.1")
		done = hello(s.connect("198.51.100.1"))
		if c, _ := s.take(); c != nil {
			if _, isTLS := c.(*tls.Conn); !isTLS {
				t.Fatal("not served at the next try")
			}
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestEarlyTalker: who speaks in the clear before the greeting is marked and counted, and what it said is neither lost nor logged.
func TestEarlyTalker(t *testing.T) {
	config := TLSConfig(selfSigned(t, t.TempDir()).GetCertificate)
	sniffing := map[string]struct {
		tls  *tls.Config
		says string
	}{
		"command":               {config, "EHLO secret\r\nMAIL FROM:<x@y>\r\n"},
		"one octet":             {config, "E"},
		"hello without a use":   {nil, string(oldHellos(t)["TLS"].hello)},
		"8 bits, and no hello":  {config, "\xc3\xa9\xc3\xa9\xc3\xa9"},
		"longer than is looked": {config, strings.Repeat("x", 2*maxHead)},
	}
	for name, tt := range sniffing {
		synctest.Test(t, func(t *testing.T) {
			s := newStage(t, ListenerOptions{Sniff: true, SniffTLS: tt.tls, Wrap: func(c net.Conn) net.Conn { return below{c} }})
			client := s.connect("198.51.100.1")
			go func() { _, _ = io.WriteString(client, tt.says) }()
			c, took := s.take()
			if took != 0 || !EarlyTalker(c) || !EarlyTalker(tls.Server(c, config)) || EarlyTalker(client) {
				t.Errorf("%s: after %v: marked %v", name, took, EarlyTalker(c))
			}
			got := make([]byte, len(tt.says))
			if _, err := io.ReadFull(c, got); err != nil || string(got) != tt.says {
				t.Errorf("%s: the server read %q (%v)", name, got, err)
			}
			s.wantLogged("spoke before it was greeted", "remote=198.51.100.1", "since_start=1")
			if s.EarlyTalkers() != 1 || strings.Contains(s.log.String(), "secret") {
				t.Errorf("%s: %d counted; %s", name, s.EarlyTalkers(), s.log)
			}
			s.wantHeldBack("198.51.100.1", SniffWait)
		})
	}
}

// below is a wrapper that says what is below it.
type below struct{ net.Conn }

func (b below) NetConn() net.Conn { return b.Conn }

// TestClientGoneWhileHeldBack is handed on like any other that goes, and nothing is learnt of it.
func TestClientGoneWhileHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, ListenerOptions{Sniff: true})
		_ = s.connect("198.51.100.1").Close()
		c, took := s.take()
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) || took != 0 {
			t.Errorf("after %v: got %v", took, err)
		}
		s.wantHeldBack("198.51.100.1", SniffWait)
	})
}

// TestHeldBackAtOnce: the one over the bound has the oldest greeted at once; nothing is learnt of that one, and it is not refused.
func TestHeldBackAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, ListenerOptions{Sniff: true, Limits: ConnLimits{Handshakes: 2}})
		first := s.connect("198.51.100.1")
		synctest.Wait() // it is the oldest
		s.connect("198.51.100.2")
		time.Sleep(SniffWait / 2)
		s.connect("198.51.100.3")
		c, took := s.take()
		if took != 0 || RemoteAddr(c).String() != "198.51.100.1" {
			t.Errorf("after %v: %v", took, RemoteAddr(c))
		}
		go func() { _, _ = io.WriteString(first, "NOOP\r\n") }()
		if _, err := c.Read(make([]byte, 6)); err != nil {
			t.Errorf("the deadline of the wait is left: %v", err)
		}
		for want := range 2 {
			if _, took := s.take(); took != SniffWait/2 {
				t.Errorf("%d: %v more", want+2, took)
			}
		}
		s.wantHeldBack("198.51.100.2", 0)
		s.wantHeldBack("198.51.100.1", SniffWait)
		if n := s.handshakes.Len(); n != 0 {
			t.Errorf("%d waits are left", n)
		}
	})
}

// TestCloseWhileHeldBack: a listener can be closed at once.
func TestCloseWhileHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, ListenerOptions{Sniff: true})
		client := s.connect("198.51.100.1")
		synctest.Wait()
		began := time.Now()
		_ = s.Close()
		if _, err := client.Read(make([]byte, 1)); !errors.Is(err, io.EOF) || time.Since(began) != 0 {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		if n := s.count(); n != 0 {
			t.Errorf("%d connections are left", n)
		}
	})
}

// oldHello is a hello and what it offers.
type oldHello struct {
	hello []byte
	offer offer
}

// oldHellos are hellos that nobody here can serve, and one of TLS 1.0 to compare.
func oldHellos(t testing.TB) map[string]oldHello {
	t.Helper()
	raw := func(s string) []byte {
		b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	random, challenge := strings.Repeat("5a", 32), strings.Repeat("a5", 16)
	return map[string]oldHello{
		"TLS":              {raw("16 0301 002d 01 000029 0301" + random + "00 0002 000a 01 00"), offerTLS},
		"SSL 3.0":          {raw("16 0300 002d 01 000029 0300" + random + "00 0002 000a 01 00"), offerSSL3},
		"SSL 2.0":          {raw("802e 01 0002 0015 0000 0010 010080 020080 030080 040080 050080 060040 0700c0" + challenge), offerSSL2},
		"TLS, old form":    {raw("802e 01 0301 0015 0000 0010 00000a 000009 000064 000062 000003 000006 010080" + challenge), offerSSL2Hello},
		"SSL 3.0, longer":  {raw("8131 01 0300 0015 0000 0010"), offerSSL2Hello},
		"8 bits, no hello": {[]byte("\xc3\xa9\xc3\xa9\xc3"), offerClear},
	}
}

// TestOffers: what clients begin with is known as soon as it can be, from pieces of any size.
func TestOffers(t *testing.T) {
	for name, h := range oldHellos(t) {
		need := helloHead
		if h.hello[0] >= 0x80 {
			need = oldHelloHead
		}
		for n := range len(h.hello) + 1 {
			got, more := offerOf(h.hello[:n])
			if n == 0 && (got != offerNone || more != 1) || n > 0 && n < need && more != need || n >= need && (got != h.offer || more != 0) {
				t.Errorf("%s, %d octets: got %s, %d", name, n, got, more)
			}
		}
	}
	for b := range 0x80 {
		if got, more := offerOf([]byte{byte(b)}); b != 0x16 && (got != offerClear || more != 0) {
			t.Errorf("%#x: got %s, %d", b, got, more)
		}
	}
}

// TestOldSSLIsRefused: the log names the client and what it knows, so that somebody finds the device.
func TestOldSSLIsRefused(t *testing.T) {
	config := OldTLSConfig(selfSigned(t, t.TempDir()).GetCertificate)
	for name, h := range oldHellos(t) {
		if h.offer == offerTLS || h.offer == offerClear {
			continue
		}
		for door, o := range map[string]ListenerOptions{"TLS": {TLS: config}, "clear": {Sniff: true, SniffTLS: config}} {
			synctest.Test(t, func(t *testing.T) {
				s := newStage(t, o)
				client := s.connect("198.51.100.9")
				go func() { _, _ = client.Write(append(h.hello, make([]byte, 400)...)) }()
				answer, _ := io.ReadAll(client)
				synctest.Wait()
				if n := s.count(); n != 0 || len(answer) > 0 && answer[0] != 0x15 {
					t.Errorf("%s at %s: %d connections are left, answered % x", name, door, n, answer)
				}
				s.wantLogged("TLS handshake failed", "remote=198.51.100.9", "client offers "+string(h.offer))
			})
		}
	}
}

// TestClearTextWhereTLSIsExpected: a client is told in its own words, at once if it speaks and in the end if it waits. A client that does not
// read holds nobody up.
func TestClearTextWhereTLSIsExpected(t *testing.T) {
	const line = "-ERR turn on SSL/TLS\r\n"
	config := TLSConfig(selfSigned(t, t.TempDir()).GetCertificate)
	for says, want := range map[string]time.Duration{"CAPA\r\n": 0, "Q": 0, "": DefaultHandshakeTimeout} {
		synctest.Test(t, func(t *testing.T) {
			s := newStage(t, ListenerOptions{TLS: config, Plaintext: line})
			client := s.connect("198.51.100.1")
			go func() { _, _ = io.WriteString(client, says) }()
			began := time.Now()
			got, err := io.ReadAll(client)
			if string(got) != line || err != nil || time.Since(began) != want {
				t.Errorf("%q: after %v: got %q (%v)", says, time.Since(began), got, err)
			}
			s.wantLogged("TLS handshake failed", "remote=198.51.100.1")
			if n := s.count(); n != 0 {
				t.Errorf("%q: %d connections are left", says, n)
			}
			deaf := s.connect("198.51.100.1")
			go func() { _, _ = io.WriteString(deaf, "CAPA\r\n") }()
			synctest.Wait()
			if n := s.count(); n != 1 {
				t.Errorf("%d connections, want the deaf one", n)
			}
			time.Sleep(refusalTimeout)
			synctest.Wait()
			if n := s.count(); n != 0 {
				t.Errorf("%d deaf connections are left", n)
			}
			done := hello(s.connect("198.51.100.1"))
			s.take()
			if err := <-done; err != nil {
				t.Errorf("a client with TLS: %v", err)
			}
			deaf = s.connect("198.51.100.1")
			go func() { _, _ = io.WriteString(deaf, "CAPA\r\n") }()
			synctest.Wait()
			began = time.Now()
			if _ = s.Close(); time.Since(began) != 0 {
				t.Errorf("Close waited %v for a deaf client", time.Since(began))
			}
		})
	}
}

// BenchmarkAccept shows what looking at clients costs those who are known to wait for the greeting.
func BenchmarkAccept(b *testing.B) {
	for name, o := range map[string]ListenerOptions{"plain": {}, "sniff": {Sniff: true}} {
		b.Run(name, func(b *testing.B) {
			inner, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			l := NewListener(inner, o)
			defer func() { _ = l.Close() }()
			connect := func() {
				client, err := net.Dial("tcp", l.Addr().String())
				if err != nil {
					b.Fatal(err)
				}
				c, err := l.Accept()
				if err != nil {
					b.Fatal(err)
				}
				_, _ = c.Close(), client.Close()
			}
			connect() // the one that is held back
			b.ReportAllocs()
			for b.Loop() {
				connect()
			}
		})
	}
}

// TestHandshakeStalls: who begins a hello, and not more, has the time of a handshake and no longer.
func TestHandshakeStalls(t *testing.T) {
	config := TLSConfig(selfSigned(t, t.TempDir()).GetCertificate)
	l := listen(t, ListenerOptions{TLS: config, Limits: ConnLimits{Handshake: 50 * time.Millisecond}})
	c := dialFrom(t, l, "127.0.0.1")
	if _, err := c.Write([]byte{0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("got %v, want the end", err)
	}
}
