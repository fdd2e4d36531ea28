package guard

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"time"
)

// Bounds of looking at how a client begins.
const (
	// SniffWait is the longest that a greeting is held back to see whether the client speaks first. Who begins with TLS sends its hello in the
	// moment in which it is connected, so what is waited for is the network.
	SniffWait = 200 * time.Millisecond
	// MaxManners bounds the clients (see [Prefix]) of which a listener remembers who speaks first, MannersAge for how long it does.
	MaxManners = 4096
	MannersAge = 24 * time.Hour
	// helloHead is how many octets of a first TLS record say what it is: headers of the record and of the handshake message, and the version
	// (RFC 8446 §5.1, §4, §4.1.2). oldHelloHead is the same for a hello in the form of SSL 2.0: length, type and version (RFC 5246 §E.2).
	helloHead    = 11
	oldHelloHead = 5
	// maxHead bounds the octets that are read before it is known who reads them.
	maxHead = 512
)

// errClear and errSilent: a client does not begin TLS where it must.
var (
	errClear  = errors.New("guard: client speaks without TLS")
	errSilent = errors.New("guard: client waits for a greeting, or is gone")
)

// offer is what a client begins with.
type offer string

// The offers.
const (
	offerNone  offer = "nothing"
	offerClear offer = "clear text"
	offerTLS   offer = "TLS"
	offerSSL3  offer = "SSL 3.0 only"
	offerSSL2  offer = "SSL 2.0 only"
	// offerSSL2Hello: the client knows SSL 3.0 or TLS, and says so in the form of SSL 2.0, which nobody here reads.
	offerSSL2Hello offer = "a hello of SSL 2.0"
)

// offerOf says what the first octets of a client are; more is how many are needed to say it, 0 if these are enough. No command begins with
// an octet of either kind of hello.
func offerOf(head []byte) (o offer, more int) {
	switch {
	case len(head) == 0:
		return offerNone, 1
	case head[0] == 0x16 && len(head) < helloHead:
		return offerTLS, helloHead
	case head[0] == 0x16 && head[9] == 3 && head[10] == 0:
		return offerSSL3, 0
	case head[0] == 0x16:
		return offerTLS, 0
	case head[0] < 0x80:
		return offerClear, 0
	case len(head) < oldHelloHead:
		return offerSSL2Hello, oldHelloHead
	case head[2] != 1:
		return offerClear, 0
	case head[3] == 0 && head[4] == 2:
		return offerSSL2, 0
	default:
		return offerSSL2Hello, 0
	}
}

// manners are what a listener knows of how clients begin.
type manners struct {
	mu      sync.Mutex // protects clients
	clients *table[netip.Prefix, manner]
}

// manner is when a client was last seen to wait for the greeting, and to begin with TLS before it.
type manner struct{ waited, hello time.Time }

func newManners() *manners { return &manners{clients: newTable[netip.Prefix, manner](MaxManners)} }

// patient reports whether a client is known to wait for the greeting. If one program there begins with TLS, all of them are taken for it.
func (m *manners) patient(now time.Time, p netip.Prefix) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.clients.peek(p) == nil {
		return false
	}
	known := m.clients.use(p)
	return now.Sub(known.waited) < MannersAge && now.Sub(known.hello) >= MannersAge
}

// waits notes that a client waited for the greeting.
func (m *manners) waits(now time.Time, p netip.Prefix) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.clients.use(p).waited = now
}

// begins notes that a client began with TLS.
func (m *manners) begins(now time.Time, p netip.Prefix) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.clients.use(p).hello = now
}

// countedConn counts itself out when it is closed, and before the client can see that: one that comes back at once has its place.
type countedConn struct {
	net.Conn
	release func()
	// client is the one that it counts for.
	client netip.Prefix
	// head is what was read to see how the client begins. It is read again before anything else.
	head []byte
	// early is set when the client spoke in the clear before it was greeted.
	early bool
	// unheld learns of the first octet of a client that was greeted at once; nil when there is nothing to learn.
	unheld *Listener
	// held is what a handshake has written; nil without TLS.
	held *held
}

// Close implements net.Conn.
func (c *countedConn) Close() error {
	c.release()
	return c.Conn.Close()
}

// Write implements net.Conn.
func (c *countedConn) Write(p []byte) (int, error) {
	if c.held != nil {
		return c.held.write(c.Conn, p)
	}
	return c.Conn.Write(p)
}

// Read implements net.Conn.
func (c *countedConn) Read(p []byte) (int, error) {
	if len(c.head) > 0 {
		n := copy(p, c.head)
		if c.head = c.head[n:]; len(c.head) == 0 {
			c.head = nil
		}
		return n, nil
	}
	if c.held != nil {
		if err := c.held.flush(c.Conn); err != nil {
			return 0, err
		}
	}
	n, err := c.Conn.Read(p)
	if c.unheld != nil && n > 0 {
		c.unheld.learn(c, p[:n])
		c.unheld = nil
	}
	return n, err
}

// offer reads as little as says what the client begins with, or until ctx ends. Nothing of it is lost.
func (c *countedConn) offer(ctx context.Context) (o offer, err error) {
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		_ = c.SetReadDeadline(time.Unix(1, 0)) // a connection that fails here fails the read too
	})
	o, more := offerOf(c.head)
	for more > 0 && err == nil {
		if c.head == nil {
			c.head = make([]byte, 0, maxHead)
		}
		var n int
		n, err = c.Conn.Read(c.head[len(c.head):maxHead])
		c.head = c.head[:len(c.head)+n]
		o, more = offerOf(c.head)
	}
	if !stop() {
		<-ended
	}
	if len(c.head) == 0 {
		c.head = nil
	}
	if more == 0 {
		err = nil
	}
	return o, errors.Join(err, c.SetReadDeadline(time.Time{}))
}

// EarlyTalker reports whether a client spoke in the clear before it was greeted. SMTP and POP3 servers speak first (RFC 5321 §3.1, RFC 1939
// §3); programs that send without listening do not wait for them. It looks through TLS, and through wrappers that have a method NetConn. It
// is false where nobody looked: see [ListenerOptions.Sniff].
func EarlyTalker(c net.Conn) bool {
	for {
		switch w := c.(type) {
		case *countedConn:
			return w.early
		case interface{ NetConn() net.Conn }:
			c = w.NetConn()
		default:
			return false
		}
	}
}

// EarlyTalkers returns how many clients spoke in the clear before they were greeted.
func (l *Listener) EarlyTalkers() uint64 { return l.early.Load() }

// sniff looks whether a client begins with TLS on a door that starts in the clear, and returns the configuration for it or nil. Clients that
// are known to wait for the greeting are not looked at.
func (l *Listener) sniff(c *countedConn) *tls.Config {
	if l.manners.patient(time.Now(), c.client) {
		c.unheld = l
		return nil
	}
	ctx, end := l.turn(c, SniffWait)
	defer end()
	o, _ := c.offer(ctx) // whoever reads next meets the error again
	switch {
	case o == offerNone:
		if errors.Is(ctx.Err(), context.DeadlineExceeded) { // and neither gone nor cut short
			l.manners.waits(time.Now(), c.client)
		}
		return nil
	case o != offerClear && l.o.SniffTLS != nil:
		l.manners.begins(time.Now(), c.client)
		return l.o.SniffTLS
	}
	c.early = true
	since := l.early.Add(1)
	l.sometimes(&l.talkers, "client spoke before it was greeted", "remote", RemoteAddr(c).String(), "with", string(o), "since_start", since)
	return nil
}

// learn looks at the first octets of a client that was greeted at once. If it began with TLS all the same, it is waited for next time.
func (l *Listener) learn(c *countedConn, head []byte) {
	if o, _ := offerOf(head); o == offerClear {
		return
	}
	l.manners.begins(time.Now(), c.client)
	const event = "client began with TLS on a door that starts in the clear; its next connection is waited for"
	l.sometimes(&l.hellos, event, "remote", RemoteAddr(c).String())
}

// secure does the TLS handshake of a client. One that speaks in the clear, or waits for a greeting until the time of the handshake is over, is
// told that there is none here.
func (l *Listener) secure(c *countedConn, wrapped net.Conn, config *tls.Config) (*tls.Conn, error) {
	ctx, end := l.turn(c, l.o.Limits.Handshake)
	defer end()
	o, err := c.offer(ctx)
	switch {
	case o == offerClear:
		l.say(c, l.o.Plaintext)
		return nil, errClear
	case o == offerNone && errors.Is(ctx.Err(), context.DeadlineExceeded):
		l.say(c, l.o.Plaintext)
		return nil, errSilent
	case err != nil:
		return nil, err
	}
	growStack()
	c.held = new(held)
	defer c.held.end()
	conn := tls.Server(wrapped, config)
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) }) // HandshakeContext has a goroutine for that
	err = conn.Handshake()
	if err != nil || conn.ConnectionState().Version != tls.VersionTLS13 {
		err = errors.Join(err, c.held.flush(c.Conn)) // an alert, or what the client waits for
	}
	if !stop() {
		err = ctx.Err() // the connection is of no use any more
	}
	if err != nil {
		return nil, fmt.Errorf("client offers %s: %w", o, err)
	}
	return conn, nil
}

// growStack makes room for a handshake while little lies on the stack. To grow step by step, with a handshake on it, costs half as much as
// the agreement on a key.
//
//go:noinline
func growStack() {
	var room [handshakeStack]byte
	runtime.KeepAlive(&room)
}

// handshakeStack is about what a handshake needs.
const handshakeStack = 16 << 10

// handshake is one of those, or of the waits, that are under way at once.
type handshake struct {
	end   context.CancelFunc
	known bool // see ListenerOptions.Known
}

// turn makes the caller one of those handshakes and waits that are under way at once, for at most limit. One too many ends the oldest of a
// stranger, or the oldest: it is the likeliest to be for nothing. The caller calls end.
func (l *Listener) turn(c net.Conn, limit time.Duration) (ctx context.Context, end func()) {
	ctx, cancel := context.WithTimeout(l.ctx, limit)
	known := l.o.Known != nil && l.o.Known(RemoteAddr(c))
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.handshakes.Len() >= l.o.Limits.Handshakes {
		oldest := l.handshakes.Front()
		for e := oldest; e != nil; e = e.Next() {
			if !e.Value.(handshake).known {
				oldest = e
				break
			}
		}
		l.handshakes.Remove(oldest).(handshake).end()
	}
	own := l.handshakes.PushBack(handshake{cancel, known})
	return ctx, func() {
		cancel()
		l.mu.Lock()
		defer l.mu.Unlock()
		l.handshakes.Remove(own) // nothing if it made room
	}
}
