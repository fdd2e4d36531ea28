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
	"sync/atomic"
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
	// maxWaiting is how many goroutines wait to accept at most.
	maxWaiting = 4
	// acceptPause is the longest wait after an accept that failed for want of descriptors or memory.
	acceptPause = time.Second
	// refusalsLogged is the time in which one refusal is logged, whatever their number: a flood must not fill the disk.
	refusalsLogged = time.Second
	// eventsLogged is how many events of one kind that any stranger can cause are logged in eventsWindow; the others are counted.
	eventsLogged = 10
	eventsWindow = 10 * time.Second
	// reservedPart is the part of the connections that is kept for known clients where ConnLimits says nothing: one in so many.
	reservedPart = 8
)

// ConnLimits bounds connections. Zero fields are the defaults.
type ConnLimits struct {
	// Total bounds all connections of the listener, PerPrefix those of one client (see [Prefix]); the networks around a client may have
	// three and nine times as many.
	Total, PerPrefix int
	// Reserve is how many of Total only clients may have that ListenerOptions.Known knows, so that strangers, whatever their number, leave
	// room for those who were here before. Zero is an eighth of Total; without Known there is no reserve.
	Reserve int
	// Handshake bounds a TLS handshake, Handshakes how many are under way at once, together with greetings that are held back. One more ends
	// the oldest of a client that is not known, an honest client is done in a moment; who waits for a greeting then has it.
	Handshake  time.Duration
	Handshakes int
}

// ListenerOptions say how a door accepts.
type ListenerOptions struct {
	// TLS makes every connection TLS from its first octet (RFC 8314 §3); nil leaves them plain.
	TLS *tls.Config
	// Plaintext is the line, with CRLF, for a client that speaks without TLS where TLS is set, or waits for a greeting as long as a handshake
	// may take; empty: nothing is said.
	Plaintext string
	// Sniff looks, where TLS is nil, how a client begins. For that the greeting is held back for up to [SniffWait], but for clients that were
	// seen to wait for it (see [MannersAge]). Who speaks before it is marked: see [EarlyTalker].
	Sniff bool
	// SniffTLS serves those that begin with TLS where Sniff looks: some programs do so on any port that is not the one they know. nil: for them
	// there is no TLS.
	SniffTLS *tls.Config
	// Proxies are addresses from which clients come through a proxy: each connection begins with a PROXY header (HAProxy's protocol, version 1 or
	// 2) then, before TLS and everything else, and is one of the client that it names, in every respect. So does each connection to a unix socket.
	Proxies []netip.Prefix
	// Handle, if set, gets the ready connections in place of Accept, each on a goroutine of its own, which has done nothing that needs a large
	// stack: a connection that is served where it was accepted waits for nobody to pass it on. Handle closes what it gets.
	Handle func(net.Conn)
	// Wrap is put around each connection below TLS; nil puts nothing.
	Wrap   func(net.Conn) net.Conn
	Limits ConnLimits
	// Known reports whether somebody logged in from an address lately: such clients have the reserve of the connections, and strangers'
	// handshakes make room before theirs. It must not block and may be called from any goroutine; nil knows nobody and reserves nothing.
	Known func(netip.Addr) bool
	// Gate counts connections together with other listeners; with nil the listener has one of its own, of Limits.
	Gate *Gate
	// Bar says of a client that it may not come in now, and the line with CRLF for it; it must not block. nil bars nobody.
	Bar func(netip.Addr) (line string, barred bool)
	// Early is the line, with CRLF, for a client that spoke in the clear before it was greeted (see Sniff), and is not Known: it is refused. Empty:
	// such clients are marked and served.
	Early string
	// Refusal is the line, with CRLF, for a connection over a cap; where TLS is set there is none.
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
	// manners are of those that Sniff looked at, early how many of them spoke too early.
	manners *manners
	early   atomic.Uint64
	// failures, talkers and hellos let few of the events into the log that any stranger can cause.
	failures, talkers, hellos, headers sparse
	// unnamed is how many connections of proxies have not said yet who the client is.
	unnamed atomic.Int64

	mu         sync.Mutex // protects the fields below
	waiting    int        // goroutines that accept
	closing    bool
	handshakes *list.List // and waits, the oldest first
	refusing   int
	refused    int // since the last one was logged
	refusedAt  time.Time
	err        error

	own int // connections of this listener; the gate's lock protects it
}

// NewListener begins to accept from inner, which it owns from then on. The caller closes it.
func NewListener(inner net.Listener, o ListenerOptions) *Listener {
	o.Limits = o.Limits.withDefaults()
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Gate == nil {
		o.Gate = NewGate(o.Limits, o.Known)
		o.Gate.alone = true
	}
	l := &Listener{inner: inner, o: o, ready: make(chan net.Conn), handshakes: list.New(), manners: newManners()}
	l.ctx, l.stop = context.WithCancel(context.Background())
	l.waiting = 1
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
	if c.Reserve == 0 {
		c.Reserve = c.Total / reservedPart
	}
	if c.Handshake == 0 {
		c.Handshake = DefaultHandshakeTimeout
	}
	if c.Handshakes == 0 {
		c.Handshakes = DefaultMaxHandshakes
	}
	return c
}

// Accept returns the next ready connection, a bare *tls.Conn for TLS; net.ErrClosed after Close. Where Handle is set it returns only at the
// end.
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
	l.mu.Lock()
	l.closing = true
	l.mu.Unlock()
	l.stop()
	err := l.inner.Close()
	l.work.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// accept takes connections and brings each to its place. When it has one, another goroutine waits for the next; afterwards it waits again itself,
// unless enough others do. So a goroutine is there for whoever comes next, with a stack that has grown already.
func (l *Listener) accept() {
	for waits := true; waits; {
		c := l.next()
		if c == nil {
			l.stop()
			l.work.Done()
			return
		}
		if l.leave() {
			go l.accept()
		}
		if c = l.handOut(l.admit(c)); c != nil {
			l.o.Handle(c)
		}
		waits = l.join()
	}
}

// leave takes a goroutine off those that wait. another is set if there must be a new one in its place, which is counted in.
func (l *Listener) leave() (another bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting--
	if l.waiting > 0 {
		return false
	}
	l.waiting++
	l.work.Add(1)
	return true
}

// join makes the caller one of those that wait, unless there are enough.
func (l *Listener) join() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closing || l.waiting >= maxWaiting {
		return false
	}
	l.waiting++
	l.work.Add(1)
	return true
}

// handOut gives a connection to whom it is for, or returns the one that the caller is to handle on its own goroutine. It calls work.Done: Close
// waits for no connection that was handed out.
func (l *Listener) handOut(ready net.Conn) net.Conn {
	defer l.work.Done()
	_, secure := ready.(*tls.Conn)
	switch {
	case ready == nil:
	case l.o.Handle == nil:
		select {
		case l.ready <- ready:
		case <-l.ctx.Done():
			_ = ready.Close()
		}
	case l.ctx.Err() != nil:
		_ = ready.Close()
	case secure:
		go l.o.Handle(ready) // the handshake has left a large stack here
	default:
		return ready
	}
	return nil
}

// next waits for a connection; nil is the end of the listener.
func (l *Listener) next() net.Conn {
	var pause time.Duration
	for {
		c, err := l.inner.Accept()
		switch {
		case err == nil:
			return c
		case l.ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			return nil
		case passing(err):
			pause = min(max(2*pause, 5*time.Millisecond), acceptPause)
			l.o.Logger.Error("cannot accept connections", "listener", l.Addr().String(), "err", err)
			select {
			case <-time.After(pause):
			case <-l.ctx.Done():
				return nil
			}
		default:
			l.mu.Lock()
			l.err = err
			l.mu.Unlock()
			return nil
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

// admit counts a connection in and prepares it, or refuses it and returns nil.
func (l *Listener) admit(c net.Conn) net.Conn {
	if c = l.client(c); c == nil {
		return nil
	}
	remote := RemoteAddr(c)
	scopes := prefixes(remote)
	if l.o.Bar != nil {
		if words, barred := l.o.Bar(remote); barred {
			l.refuse(c, scopes, words, "connections of barred clients refused")
			return nil
		}
	}
	if l.o.Gate.enter(remote, scopes, &l.own) {
		leave := sync.OnceFunc(func() { l.o.Gate.leave(scopes, &l.own) })
		return l.prepare(&countedConn{Conn: c, client: scopes[0].prefix, release: leave})
	}
	l.refuse(c, scopes, l.o.Refusal, "connections refused over a cap")
	return nil
}

// refuse ends a connection that is not counted in, and says why as far as that can be done for so many at once.
func (l *Listener) refuse(c net.Conn, scopes []scope, line, event string) {
	tell, log := l.countRefused(time.Now(), line)
	if log > 0 {
		l.o.Logger.Info(event, "refused", log, "latest", scopes[0].prefix.String())
	}
	if tell {
		l.tell(c, line)
		return
	}
	_ = c.Close() // refused
}

// countRefused says whether the client can be told why, and how many refusals the log should learn of now.
func (l *Listener) countRefused(now time.Time, line string) (tell bool, log int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refused++
	if now.Sub(l.refusedAt) >= refusalsLogged {
		log, l.refused, l.refusedAt = l.refused, 0, now
	}
	tell = l.o.TLS == nil && line != "" && l.refusing < maxRefusals
	if tell {
		l.refusing++
	}
	return tell, log
}

// tell says why, to whoever listens.
func (l *Listener) tell(c net.Conn, line string) {
	l.say(c, line)
	l.mu.Lock()
	l.refusing--
	l.mu.Unlock()
}

// say writes a line to a client that is refused, whether it reads or not, and closes.
func (l *Listener) say(c net.Conn, line string) {
	stop := context.AfterFunc(l.ctx, func() { _ = c.Close() }) // nobody waits for a client that does not read
	defer stop()
	if line != "" {
		_ = c.SetWriteDeadline(time.Now().Add(refusalTimeout)) // a dead connection fails at the write
		_, _ = c.Write([]byte(line))                           // told or not, it is refused
	}
	_ = c.Close()
}

// sometimes logs an event that any stranger can cause, with the number of those before it that were not logged.
func (l *Listener) sometimes(s *sparse, event string, attrs ...any) {
	skipped, say := s.ask(time.Now())
	if !say {
		return
	}
	if skipped > 0 {
		attrs = append(attrs, "not_logged_before", skipped)
	}
	l.o.Logger.Info(event, attrs...)
}

// sparse says which events of one kind are logged. The zero value is ready.
type sparse struct {
	mu            sync.Mutex // protects the fields below
	began         time.Time  // of the present window
	said, skipped int
}

// ask reports whether an event is logged; skipped is how many were not since the last one that was.
func (s *sparse) ask(now time.Time) (skipped int, say bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.began) >= eventsWindow {
		s.began, s.said = now, 0
	}
	if s.said >= eventsLogged {
		s.skipped++
		return 0, false
	}
	s.said++
	skipped, s.skipped = s.skipped, 0
	return skipped, true
}

// prepare brings a connection to where it may be handed out, or ends it and returns nil.
func (l *Listener) prepare(c *countedConn) net.Conn {
	var ready net.Conn = c
	if l.o.Wrap != nil {
		ready = l.o.Wrap(c)
	}
	config := l.o.TLS
	if config == nil && l.o.Sniff {
		config = l.sniff(c)
	}
	if c.early && l.o.Early != "" && (l.o.Known == nil || !l.o.Known(RemoteAddr(c))) {
		l.say(c, l.o.Early)
		_ = ready.Close() // and whatever was put around it
		return nil
	}
	if config == nil {
		return ready
	}
	secure, err := l.secure(c, ready, config)
	if err != nil {
		l.sometimes(&l.failures, "TLS handshake failed", "remote", RemoteAddr(c).String(), "err", err)
		_ = ready.Close()
		return nil
	}
	return secure
}
