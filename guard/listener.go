package guard

import (
	"container/list"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// Bounds of accepting.
const (
	// DefaultMaxConns and DefaultMaxPerPrefix are the caps when ConnLimits has none. Eudora checks twenty mailboxes at once from one
	// address, and an office has several.
	DefaultMaxConns     = 2000
	DefaultMaxPerPrefix = 60
	// DefaultHandshakeTimeout bounds a TLS handshake, DefaultMaxHandshakes how many are under way at once.
	DefaultHandshakeTimeout = 10 * time.Second
	DefaultMaxHandshakes    = 256
	// refusalTimeout bounds how long a refused client may take to read why, maxRefusals how many are being told at once.
	refusalTimeout = 2 * time.Second
	maxRefusals    = 64
	// acceptPause is the longest wait after an accept that failed for want of descriptors or memory.
	acceptPause = time.Second
	// refusalsLogged is the time in which one refusal is logged, whatever their number: a flood must not fill the disk.
	refusalsLogged = time.Second
)

// ConnLimits bounds connections. Zero fields are the defaults.
type ConnLimits struct {
	// Total bounds all connections of the listener, PerPrefix those of one client (see [Prefix]); the networks around a client may have
	// three and nine times as many.
	Total, PerPrefix int
	// Handshake bounds a TLS handshake, Handshakes how many are under way at once. One more ends the oldest of them: an honest client is
	// done in a moment.
	Handshake  time.Duration
	Handshakes int
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

	mu         sync.Mutex // protects the fields below
	total      int
	prefixes   map[netip.Prefix]int
	handshakes *list.List // the oldest first; values are what ends one
	refusing   int
	refused    int // since the last one was logged
	refusedAt  time.Time
	err        error
}

// NewListener begins to accept from inner, which it owns from then on. The caller closes it.
func NewListener(inner net.Listener, o ListenerOptions) *Listener {
	o.Limits = o.Limits.withDefaults()
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	l := &Listener{inner: inner, o: o, ready: make(chan net.Conn), prefixes: map[netip.Prefix]int{}, handshakes: list.New()}
	l.ctx, l.stop = context.WithCancel(context.Background())
	l.work.Add(1)
	go l.accept()
	return l
}

func (c ConnLimits) withDefaults() ConnLimits {
	if c.Total == 0 {
		c.Total = DefaultMaxConns
	}
	if c.PerPrefix == 0 {
		c.PerPrefix = DefaultMaxPerPrefix
	}
	if c.Handshake == 0 {
		c.Handshake = DefaultHandshakeTimeout
	}
	if c.Handshakes == 0 {
		c.Handshakes = DefaultMaxHandshakes
	}
	return c
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
		switch {
		case err == nil:
			pause = 0
			l.admit(c)
			continue
		case l.ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			return
		case passing(err):
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

// passing reports whether an error of accept is about one connection, or about descriptors or memory that others may give back. Only
// errors that say that the socket itself is no good last.
func passing(err error) bool {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return false
	}
	switch errno {
	case syscall.EBADF, syscall.EINVAL, syscall.ENOTSOCK, syscall.EFAULT:
		return false
	}
	return true
}

// admit counts a connection in, or refuses it, without ever blocking.
func (l *Listener) admit(c net.Conn) {
	scopes := prefixes(RemoteAddr(c))
	if l.countIn(scopes) {
		l.work.Add(1)
		go l.prepare(&countedConn{Conn: c, release: sync.OnceFunc(func() { l.countOut(scopes) })})
		return
	}
	tell, log := l.countRefused(time.Now())
	if log > 0 {
		l.o.Logger.Info("connections refused over a cap", "refused", log, "latest", scopes[0].prefix.String())
	}
	if tell {
		l.work.Add(1)
		go l.tell(c)
		return
	}
	_ = c.Close() // refused
}

func (l *Listener) countIn(scopes []scope) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	over := l.total >= l.o.Limits.Total
	for _, s := range scopes {
		over = over || l.prefixes[s.prefix] >= l.o.Limits.PerPrefix*s.times
	}
	if over {
		return false
	}
	l.total++
	for _, s := range scopes {
		l.prefixes[s.prefix]++
	}
	return true
}

func (l *Listener) countOut(scopes []scope) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total--
	for _, s := range scopes {
		if l.prefixes[s.prefix]--; l.prefixes[s.prefix] == 0 {
			delete(l.prefixes, s.prefix)
		}
	}
}

// countRefused says whether the client can be told why, and how many refusals the log should learn of now.
func (l *Listener) countRefused(now time.Time) (tell bool, log int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refused++
	if now.Sub(l.refusedAt) >= refusalsLogged {
		log, l.refused, l.refusedAt = l.refused, 0, now
	}
	tell = l.o.TLS == nil && l.o.Refusal != "" && l.refusing < maxRefusals
	if tell {
		l.refusing++
	}
	return tell, log
}

// tell says why, to whoever listens.
func (l *Listener) tell(c net.Conn) {
	defer l.work.Done()
	stop := context.AfterFunc(l.ctx, func() { _ = c.Close() }) // nobody waits for a client that does not read
	defer stop()
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
		if err := l.handshake(conn); err != nil {
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

// handshake does a TLS handshake within its time.
func (l *Listener) handshake(c *tls.Conn) error {
	ctx, cancel := context.WithTimeout(l.ctx, l.o.Limits.Handshake)
	defer cancel()
	l.mu.Lock()
	if l.handshakes.Len() >= l.o.Limits.Handshakes {
		oldest := l.handshakes.Front()
		l.handshakes.Remove(oldest).(context.CancelFunc)()
	}
	own := l.handshakes.PushBack(cancel)
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.handshakes.Remove(own) // nothing if it made room
	}()
	return c.HandshakeContext(ctx)
}

// countedConn counts itself out when it is closed, and before the client can see that: one that comes back at once has its place.
type countedConn struct {
	net.Conn
	release func()
}

func (c *countedConn) Close() error {
	c.release()
	return c.Conn.Close()
}
