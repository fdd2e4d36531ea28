package guard

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Bounds of accepting.
const (
	// DefaultMaxConns and DefaultMaxPerPrefix are the caps when ConnLimits has none. Eudora checks twenty mailboxes at once from one
	// address, and an office has several.
	DefaultMaxConns     = 2000
	DefaultMaxPerPrefix = 60
	// DefaultHandshakeTimeout bounds a TLS handshake.
	DefaultHandshakeTimeout = 10 * time.Second
	// refusalTimeout bounds how long a refused client may take to read why, maxRefusals how many are being told at once.
	refusalTimeout = 2 * time.Second
	maxRefusals    = 64
	// acceptPause is the longest wait after an accept that failed for want of descriptors or memory.
	acceptPause = time.Second
)

// ConnLimits bounds connections. Zero fields are the defaults.
type ConnLimits struct {
	// Total bounds all connections of the listener, PerPrefix those of one client (see [Prefix]).
	Total, PerPrefix int
	// Handshake bounds a TLS handshake.
	Handshake time.Duration
}

// ListenerOptions say how a door accepts.
type ListenerOptions struct {
	// TLS makes every connection TLS from its first octet (RFC 8314 §3); nil leaves them plain.
	TLS *tls.Config
	// Wrap is put around each connection below TLS; nil puts nothing.
	Wrap   func(net.Conn) net.Conn
	Limits ConnLimits
	// Refusal is the line, with CRLF, for a connection over a cap; a TLS client gets none.
	Refusal string
	Logger  *slog.Logger
}

// Listener hands out connections that are within the caps and, for TLS, have finished their handshake.
type Listener struct {
	inner net.Listener
	o     ListenerOptions
	ready chan net.Conn
	ctx   context.Context
	stop  context.CancelFunc
	work  sync.WaitGroup

	mu       sync.Mutex // protects the fields below
	total    int
	prefixes map[netip.Prefix]int
	refusing int
	err      error
}

// NewListener begins to accept from inner, which it owns from then on. The caller closes it.
func NewListener(inner net.Listener, o ListenerOptions) *Listener {
	if o.Limits.Total == 0 {
		o.Limits.Total = DefaultMaxConns
	}
	if o.Limits.PerPrefix == 0 {
		o.Limits.PerPrefix = DefaultMaxPerPrefix
	}
	if o.Limits.Handshake == 0 {
		o.Limits.Handshake = DefaultHandshakeTimeout
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	l := &Listener{inner: inner, o: o, ready: make(chan net.Conn), prefixes: map[netip.Prefix]int{}}
	l.ctx, l.stop = context.WithCancel(context.Background())
	l.work.Add(1)
	go l.accept()
	return l
}

// Accept returns the next ready connection, a bare *tls.Conn for TLS; net.ErrClosed after Close.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.ready:
		return c, nil
	case <-l.ctx.Done():
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.err != nil {
			return nil, l.err
		}
		return nil, net.ErrClosed
	}
}

// Addr returns the address that is listened on.
func (l *Listener) Addr() net.Addr { return l.inner.Addr() }

// Close stops accepting, ends handshakes that are under way and waits for them. Connections handed out live on.
func (l *Listener) Close() error {
	l.stop()
	err := l.inner.Close()
	l.work.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func (l *Listener) accept() {
	defer l.work.Done()
	defer l.stop()
	var pause time.Duration
	for {
		c, err := l.inner.Accept()
		var temporary interface{ Temporary() bool }
		switch {
		case err == nil:
			pause = 0
			l.admit(c)
			continue
		case l.ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			return
		case errors.As(err, &temporary) && temporary.Temporary():
			pause = min(max(2*pause, 5*time.Millisecond), acceptPause)
			l.o.Logger.Error("cannot accept connections", "listener", l.Addr().String(), "err", err)
			select {
			case <-time.After(pause):
			case <-l.ctx.Done():
				return
			}
		default:
			l.mu.Lock()
			l.err = err
			l.mu.Unlock()
			return
		}
	}
}

// admit counts a connection in, or refuses it, without ever blocking.
func (l *Listener) admit(c net.Conn) {
	prefix := Prefix(RemoteAddr(c))
	l.mu.Lock()
	over := l.total >= l.o.Limits.Total || l.prefixes[prefix] >= l.o.Limits.PerPrefix
	tell := over && l.o.TLS == nil && l.o.Refusal != "" && l.refusing < maxRefusals
	if tell {
		l.refusing++
	}
	if !over {
		l.total++
		l.prefixes[prefix]++
	}
	l.mu.Unlock()
	switch {
	case tell:
		l.work.Add(1)
		go l.refuse(c)
	case over:
		_ = c.Close() // refused
	default:
		l.work.Add(1)
		go l.prepare(&countedConn{Conn: c, release: sync.OnceFunc(func() { l.release(prefix) })})
	}
	if over {
		l.o.Logger.Info("connection refused over a cap", "remote", prefix.String())
	}
}

func (l *Listener) release(prefix netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total--
	if l.prefixes[prefix]--; l.prefixes[prefix] == 0 {
		delete(l.prefixes, prefix)
	}
}

func (l *Listener) refuse(c net.Conn) {
	defer l.work.Done()
	_ = c.SetWriteDeadline(time.Now().Add(refusalTimeout)) // a dead connection fails at the write
	_, _ = c.Write([]byte(l.o.Refusal))                    // told or not, it is refused
	_ = c.Close()
	l.mu.Lock()
	l.refusing--
	l.mu.Unlock()
}

// prepare brings a connection to where Accept may hand it out.
func (l *Listener) prepare(c net.Conn) {
	defer l.work.Done()
	if l.o.Wrap != nil {
		c = l.o.Wrap(c)
	}
	if l.o.TLS != nil {
		conn := tls.Server(c, l.o.TLS)
		ctx, cancel := context.WithTimeout(l.ctx, l.o.Limits.Handshake)
		err := conn.HandshakeContext(ctx)
		cancel()
		if err != nil {
			l.o.Logger.Info("TLS handshake failed", "remote", RemoteAddr(c).String(), "err", err)
			_ = c.Close()
			return
		}
		c = conn
	}
	select {
	case l.ready <- c:
	case <-l.ctx.Done():
		_ = c.Close()
	}
}

// countedConn counts itself out when it is closed.
type countedConn struct {
	net.Conn
	release func()
}

func (c *countedConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}
