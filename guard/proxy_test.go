package guard

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// header2 is a PROXY header of version 2.
func header2(command byte, source, destination netip.AddrPort, tlvs ...byte) string {
	var b bytes.Buffer
	b.WriteString("\r\n\r\n\x00\r\nQUIT\n")
	family := byte(0x11)
	addresses := append(source.Addr().AsSlice(), destination.Addr().AsSlice()...)
	if source.Addr().Is6() {
		family = 0x21
	}
	b.Write([]byte{0x20 | command, family})
	block := binary.BigEndian.AppendUint16(addresses, source.Port())
	block = append(binary.BigEndian.AppendUint16(block, destination.Port()), tlvs...)
	b.Write(binary.BigEndian.AppendUint16(nil, uint16(len(block))))
	b.Write(block)
	return b.String()
}

var (
	client4 = netip.MustParseAddrPort("203.0.113.7:4711")
	server4 = netip.MustParseAddrPort("192.0.2.25:25")
	client6 = netip.MustParseAddrPort("[2001:db8::7]:4711")
	server6 = netip.MustParseAddrPort("[2001:db8::25]:25")
	mapped  = netip.MustParseAddrPort("[::ffff:203.0.113.7]:4711")
)

const proxyAddress = "127.0.0.5"

// proxied is a listener behind a proxy at proxyAddress.
func proxied(t *testing.T, o ListenerOptions) *Listener {
	t.Helper()
	o.Proxies = append(o.Proxies, netip.MustParsePrefix(proxyAddress+"/32"))
	return listen(t, o)
}

// sends connects from an address and sends text, and what comes back is refused if the server hangs up.
func sends(t *testing.T, l *Listener, from, text string) net.Conn {
	t.Helper()
	c := dialFrom(t, l, from)
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	return c
}

// Row 35 of the abuse scenarios: what a listed proxy says of the client counts, in both forms of the header, and what follows it is not lost.
func TestAbuse35HeaderNamesTheClient(t *testing.T) {
	l := proxied(t, ListenerOptions{})
	for name, tt := range map[string]struct {
		header, remote string
		proxied        bool
	}{
		"version 1":                 {"PROXY TCP4 203.0.113.7 192.0.2.25 4711 25\r\n", "203.0.113.7", true},
		"version 1, IPv6":           {"PROXY TCP6 2001:db8::7 2001:db8::25 4711 25\r\n", "2001:db8::7", true},
		"version 1, mapped":         {"PROXY TCP6 ::ffff:203.0.113.7 2001:db8::25 4711 25\r\n", "203.0.113.7", true},
		"version 1, unknown":        {"PROXY UNKNOWN\r\n", proxyAddress, false},
		"loopback":                  {"PROXY TCP4 127.0.0.1 192.0.2.25 4711 25\r\n", proxyAddress, false},
		"loopback, mapped":          {"PROXY TCP6 ::ffff:127.0.0.1 2001:db8::25 4711 25\r\n", proxyAddress, false},
		"version 2":                 {header2(1, client4, server4), "203.0.113.7", true},
		"version 2, IPv6":           {header2(1, client6, server6), "2001:db8::7", true},
		"version 2, mapped":         {header2(1, mapped, server6), "203.0.113.7", true},
		"version 2, with TLVs":      {header2(1, client4, server4, 0x02, 0, 3, 'a', 'b', 'c', 0x04, 0, 0), "203.0.113.7", true},
		"version 2, many TLVs":      {header2(1, client4, server4, make([]byte, 4096-12)...), "203.0.113.7", true},
		"version 2, health check":   {header2(0, client4, server4), proxyAddress, false},
		"version 2, bare LOCAL":     {"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00", proxyAddress, false},
		"this host, as everybody":   {"PROXY TCP4 192.0.2.25 192.0.2.25 4711 25\r\n", "192.0.2.25", true},
		"the proxy, through itself": {"PROXY TCP4 10.0.0.3 192.0.2.25 4711 25\r\n", "10.0.0.3", true},
	} {
		t.Run(name, func(t *testing.T) {
			sends(t, l, proxyAddress, tt.header+"EHLO x\r\n")
			c := accept(t, l)
			got := make([]byte, 8)
			if _, err := io.ReadFull(c, got); err != nil || string(got) != "EHLO x\r\n" {
				t.Errorf("behind the header: %q, %v", got, err)
			}
			p := PlaceOf(c.RemoteAddr(), true)
			if RemoteAddr(c).String() != tt.remote || p.Remote.String() != tt.remote || p.Proxied != tt.proxied || p.Loopback == tt.proxied {
				t.Errorf("got %s, %+v", RemoteAddr(c), p)
			}
			hosts := NewHosts(HostsOptions{
				Proxies:    []netip.Prefix{netip.MustParsePrefix("10.0.0.3/32"), netip.MustParsePrefix(proxyAddress + "/32")},
				Interfaces: func() ([]netip.Addr, error) { return []netip.Addr{server4.Addr()}, nil },
				Gateways:   func() ([]netip.Addr, error) { return nil, nil },
			})
			if got := hosts.Bar(p); (got == "") != tt.proxied {
				t.Errorf("bar %q", got)
			}
		})
	}
}

// Row 35: what is no good header ends the connection, and so does none; nothing is said, because who speaks there is a proxy.
func TestAbuse35BadHeaders(t *testing.T) {
	for name, text := range map[string]string{
		"none":                    "EHLO x\r\n",
		"none, of TLS":            "\x16\x03\x01\x00\x05hello",
		"version 1 without CR":    "PROXY TCP4 203.0.113.7 192.0.2.25 4711 25\n",
		"version 1, too long":     "PROXY TCP4 " + strings.Repeat("1", 120) + "\r\n",
		"version 1, wrong family": "PROXY TCP4 2001:db8::7 2001:db8::25 4711 25\r\n",
		"version 1, a name":       "PROXY TCP4 localhost 192.0.2.25 4711 25\r\n",
		"version 1, two spaces":   "PROXY  TCP4 203.0.113.7 192.0.2.25 4711 25\r\n",
		"version 1, more words":   "PROXY TCP4 203.0.113.7 192.0.2.25 4711 25 x\r\n",
		"unspecified":             "PROXY TCP4 0.0.0.0 192.0.2.25 4711 25\r\n",
		"multicast":               "PROXY TCP4 224.0.0.1 192.0.2.25 4711 25\r\n",
		"version 2, UDP":          strings.Replace(header2(1, client4, server4), "\x21\x11", "\x21\x12", 1),
		"version 2, unix":         "\r\n\r\n\x00\r\nQUIT\n\x21\x31\x00\xd8" + strings.Repeat("/", 216),
		"version 2, unspecified":  "\r\n\r\n\x00\r\nQUIT\n\x21\x00\x00\x00",
		"version 2, too long":     header2(1, client4, server4, make([]byte, 4096-11)...),
		"version 2, too short":    "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x04abcd",
		"version 3":               strings.Replace(header2(1, client4, server4), "\x21\x11", "\x31\x11", 1),
	} {
		t.Run(name, func(t *testing.T) {
			l := proxied(t, ListenerOptions{Refusal: "421 full\r\n", Plaintext: "554 TLS\r\n", Handle: func(c net.Conn) {
				t.Errorf("let in from %s", c.RemoteAddr())
				_ = c.Close()
			}})
			refused(t, sends(t, l, proxyAddress, text), "")
		})
	}
}

// Row 35: from an address that is not listed a header is what any client may say, and counts for nothing.
func TestAbuse35HeaderOfAStranger(t *testing.T) {
	l := proxied(t, ListenerOptions{})
	const header = "PROXY TCP4 203.0.113.7 192.0.2.25 4711 25\r\n"
	sends(t, l, "127.0.0.6", header)
	c := accept(t, l)
	got := make([]byte, len(header))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != header || RemoteAddr(c).String() != "127.0.0.6" || PlaceOf(c.RemoteAddr(), false).Proxied {
		t.Errorf("%q from %s, %v", got, RemoteAddr(c), err)
	}
}

// Row 35: the caps count clients, not the proxy; and what a refused client is told comes through.
func TestAbuse35CapsCountTheClient(t *testing.T) {
	l := proxied(t, ListenerOptions{Limits: ConnLimits{Total: 10, PerPrefix: 1}, Refusal: "421 full\r\n"})
	for i := range 4 {
		sends(t, l, proxyAddress, fmt.Sprintf("PROXY TCP4 203.0.113.%d 192.0.2.25 4711 25\r\n", 64*i+1))
		accept(t, l)
	}
	refused(t, sends(t, l, proxyAddress, "PROXY TCP4 203.0.113.65 192.0.2.25 4711 25\r\n"), "421 full\r\n")
}

// Row 35: the header comes before TLS, and before the look at how a client begins.
func TestAbuse35HeaderBeforeTLS(t *testing.T) {
	config := TLSConfig(selfSigned(t, t.TempDir()).GetCertificate)
	for name, o := range map[string]ListenerOptions{"implicit": {TLS: config}, "sniffed": {Sniff: true, SniffTLS: config}} {
		t.Run(name, func(t *testing.T) {
			l := proxied(t, o)
			raw := sends(t, l, proxyAddress, header2(1, client6, server6))
			shaken := make(chan error, 1)
			go func() { shaken <- tls.Client(raw, &tls.Config{InsecureSkipVerify: true}).Handshake() }()
			c := accept(t, l)
			if _, ok := c.(*tls.Conn); !ok || RemoteAddr(c) != client6.Addr() {
				t.Errorf("%T from %s", c, RemoteAddr(c))
			}
			if err := <-shaken; err != nil {
				t.Error(err)
			}
		})
	}
	l := proxied(t, ListenerOptions{Sniff: true})
	sends(t, l, proxyAddress, header2(1, client6, server6)+"EHLO early\r\n")
	if c := accept(t, l); !EarlyTalker(c) {
		t.Error("who spoke early through a proxy is not known for it")
	}
}

// Row 35: a proxy that says nothing is not waited for beyond ProxyHeaderTimeout, nor beyond MaxProxyHeaders.
func TestAbuse35SilentProxy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conns := make(chan net.Conn)
		l := NewListener(&pipeListener{conns: conns, done: make(chan struct{})}, ListenerOptions{
			Proxies: []netip.Prefix{netip.MustParsePrefix(proxyAddress + "/32")}, Handle: func(c net.Conn) { _ = c.Close() },
			Logger: slog.New(slog.DiscardHandler),
		})
		var ended sync.WaitGroup
		dial := func() (lived func() time.Duration) {
			near, far := net.Pipe()
			conns <- &fromProxy{far}
			began := time.Now()
			lives := make(chan time.Duration, 1)
			ended.Go(func() {
				_, _ = io.ReadAll(near) // until it is closed
				lives <- time.Since(began)
			})
			return func() time.Duration { return <-lives }
		}
		first := dial()
		for range MaxProxyHeaders - 1 {
			dial()
		}
		synctest.Wait()
		if got := dial()(); got != 0 {
			t.Errorf("one too many lived for %v", got)
		}
		if got := first(); got != ProxyHeaderTimeout {
			t.Errorf("a silent one lived for %v, want %v", got, ProxyHeaderTimeout)
		}
		ended.Wait()
		last := dial()
		synctest.Wait()
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if got := last(); got != 0 {
			t.Errorf("the end of the listener waited %v for a proxy", got)
		}
	})
}

// pipeListener hands out what it is given.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { close(l.done); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

// fromProxy is a pipe that comes from the proxy.
type fromProxy struct{ net.Conn }

func (fromProxy) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.ParseIP(proxyAddress)} }

// Row 35: behind a unix socket there is always a proxy.
func TestAbuse35UnixSocket(t *testing.T) {
	dir, err := os.MkdirTemp("", "socket") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	inner, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	l := NewListener(inner, ListenerOptions{})
	t.Cleanup(func() { _ = l.Close() })
	dial := func(text string) net.Conn {
		c, err := net.Dial("unix", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		if _, err := io.WriteString(c, text); err != nil {
			t.Fatal(err)
		}
		return c
	}
	dial(header2(1, client4, server4))
	if got := RemoteAddr(accept(t, l)); got != client4.Addr() {
		t.Errorf("got %s", got)
	}
	dial(header2(0, client4, server4))
	if got := PlaceOf(accept(t, l).RemoteAddr(), false); got.Remote.IsValid() || got.Proxied {
		t.Errorf("a health check stands at %+v", got)
	}
	refused(t, dial("EHLO x\r\n"), "")
}
