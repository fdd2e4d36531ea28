package guard

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/pires/go-proxyproto"
)

// Bounds of PROXY headers. The library bounds one in octets: 107 in the first form, 4096 behind the fixed part in the second.
const (
	// ProxyHeaderTimeout bounds how long a proxy may take to say who the client is. Proxies send the header with the connection.
	ProxyHeaderTimeout = 5 * time.Second
	// MaxProxyHeaders bounds the connections of a listener that have not said it yet. One more is closed at once.
	MaxProxyHeaders = 256
	// proxyBuffer is read at once; a header of the first form must be whole in it.
	proxyBuffer = 512
)

// errTooManyHeaders: a proxy opens connections and says nothing.
var errTooManyHeaders = errors.New("guard: too many connections without a PROXY header")

// proxiedAddr is the address of a client that a proxy told of.
type proxiedAddr struct{ net.TCPAddr }

// PlaceOf says where the client of a connection stands, by the connection's RemoteAddr; loopback is [Place.Loopback].
func PlaceOf(remote net.Addr, loopback bool) Place {
	_, proxied := remote.(*proxiedAddr)
	return Place{Remote: Unmap(remote), Loopback: loopback && !proxied, Proxied: proxied}
}

// proxiedConn is a connection through a proxy, as one from the client.
type proxiedConn struct {
	net.Conn
	// head is what came with the header. It is read before anything else.
	head   []byte
	remote net.Addr
}

// RemoteAddr implements net.Conn.
func (c *proxiedConn) RemoteAddr() net.Addr { return c.remote }

// NetConn returns the connection of the proxy.
func (c *proxiedConn) NetConn() net.Conn { return c.Conn }

// Read implements net.Conn.
func (c *proxiedConn) Read(p []byte) (int, error) {
	if len(c.head) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.head)
	if c.head = c.head[n:]; len(c.head) == 0 {
		c.head = nil
	}
	return n, nil
}

// proxies reports whether a connection comes from where clients come through a proxy: a listed address, or a unix socket, which nobody
// on the network can reach.
func (l *Listener) proxies(c net.Conn) bool {
	remote := c.RemoteAddr()
	if _, unix := remote.(*net.UnixAddr); unix {
		return true
	}
	a := Unmap(remote)
	return slices.ContainsFunc(l.o.Proxies, func(n netip.Prefix) bool { return n.Contains(a) })
}

// client returns a connection as one from the client: as it is, or with the address of a PROXY header, versions 1 and 2. A proxy that sends
// none, or one that is out of form, is hung up on: what it says of its clients decides who may send. It returns nil then.
func (l *Listener) client(c net.Conn) net.Conn {
	if !l.proxies(c) {
		return c
	}
	through, err := l.readProxyHeader(c)
	if err != nil {
		l.sometimes(&l.headers, "connection of a proxy closed: no good PROXY header", "proxy", c.RemoteAddr().String(), "err", err)
		_ = c.Close() // refused
		return nil
	}
	return through
}

func (l *Listener) readProxyHeader(c net.Conn) (net.Conn, error) {
	if l.unnamed.Add(1) > MaxProxyHeaders {
		l.unnamed.Add(-1)
		return nil, errTooManyHeaders
	}
	defer l.unnamed.Add(-1)
	if err := c.SetReadDeadline(time.Now().Add(ProxyHeaderTimeout)); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(l.ctx, func() { _ = c.Close() })
	defer stop()
	r := bufio.NewReaderSize(c, proxyBuffer)
	header, err := proxyproto.Read(r)
	if err != nil {
		return nil, err
	}
	through := &proxiedConn{Conn: c, remote: c.RemoteAddr()}
	if n := r.Buffered(); n > 0 {
		through.head = make([]byte, n)
		if _, err := r.Read(through.head); err != nil { // it is there
			return nil, err
		}
	}
	// A connection of the proxy's own (LOCAL), such as a health check, and one of which it does not know the client (UNKNOWN) stay the proxy's.
	if !header.Command.IsLocal() {
		source, err := sourceOf(header)
		if err != nil {
			return nil, err
		}
		if source != nil {
			through.remote = source
		}
	}
	return through, c.SetReadDeadline(time.Time{})
}

// sourceOf is the client's address in a header; nil if that is a loopback address. Who stands at the proxy's loopback does not stand at ours,
// where passwords may come in the clear: the connection is the proxy's own.
func sourceOf(header *proxyproto.Header) (*proxiedAddr, error) {
	source, ok := header.SourceAddr.(*net.TCPAddr)
	if !ok {
		return nil, fmt.Errorf("guard: PROXY header for %v, not for TCP", header.TransportProtocol)
	}
	a := Unmap(source)
	if a.IsLoopback() {
		return nil, nil
	}
	if !a.IsValid() || a.IsUnspecified() || a.IsMulticast() {
		return nil, fmt.Errorf("guard: PROXY header with the source %s", a)
	}
	return &proxiedAddr{*net.TCPAddrFromAddrPort(netip.AddrPortFrom(a, uint16(source.Port)))}, nil
}
