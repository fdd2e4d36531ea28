package pop3

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
)

// ErrServerClosed is returned by Serve after Shutdown or Close.
var ErrServerClosed = errors.New("pop3: server closed")

// Server serves POP3. Fields are set before the first Serve and not changed after. A Server with a Backend is ready to use.
type Server struct {
	// Backend begins sessions.
	Backend Backend
	// Hostname is named in the greeting and in the timestamp for APOP, which is a msg-id (RFC 1939 §7): a domain in ASCII, or an address in
	// brackets (RFC 5321 §4.1.3), of at most 220 octets. In place of anything else, nothing among it, localhost is said.
	Hostname string
	// TLSConfig makes STLS available (RFC 2595 §4); nil takes it away. A connection that comes out of the listener as a *tls.Conn is
	// TLS from its first octet (RFC 8314 §3) and gets no STLS.
	TLSConfig *tls.Config
	// Implementation is CAPA's IMPLEMENTATION (RFC 2449 §6.9); empty leaves it out.
	Implementation string
	// Language is the tag of the language that a client gets for LANG * (RFC 6856 §3.2), "en" or "de"; any other is "en". Who does not say LANG
	// gets English.
	Language string
	// Limits are the times that are kept; the zero value is the defaults.
	Limits Limits
	// Logger gets an event for each session; nil discards them.
	Logger *slog.Logger

	writers sync.Pool // of *bufio.Writer
	buffers sync.Pool // of *[bodyBuffer]byte
	// failures and injections let few of the events into the log that any stranger can cause.
	failures, injections sparse

	mu        sync.Mutex // protects the fields below
	listeners map[net.Listener]struct{}
	conns     map[*Conn]struct{}
	closing   bool
	lastID    uint64
	running   sync.WaitGroup // one for each Conn; Add under mu and not after closing
}

// Serve accepts connections until the listener fails or the server is closed; then it returns ErrServerClosed. It closes the
// listener. Several listeners may be served at once.
func (s *Server) Serve(l net.Listener) error {
	defer func() { _ = l.Close() }() // it may be closed already
	if !s.track(l) {
		return ErrServerClosed
	}
	defer s.untrack(l)
	var pause time.Duration
	for {
		nc, err := l.Accept()
		if err == nil {
			pause = 0
			go s.ServeConn(nc)
			continue
		}
		if s.isClosing() {
			return ErrServerClosed
		}
		var temporary interface{ Temporary() bool }
		if !errors.As(err, &temporary) || !temporary.Temporary() {
			return err
		}
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		s.logger().Error("cannot accept connections", "err", err)
		time.Sleep(pause)
	}
}

// Shutdown stops listening, tells idle clients, waits for running commands and their sessions until ctx ends, and then behaves as
// Close. No delete is lost by it: what had no QUIT is not deleted.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stopListening()
	s.each((*Conn).drain)
	done := make(chan struct{})
	go func() {
		s.running.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		s.each((*Conn).kill)
		<-done
		return ctx.Err()
	}
}

// Close stops listening, cuts every connection and waits until their sessions have logged out. It may be called at any time, also
// during or after Shutdown.
func (s *Server) Close() error {
	s.stopListening()
	s.each((*Conn).kill)
	s.running.Wait()
	return nil
}

func (s *Server) track(l net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}
	if s.listeners == nil {
		s.listeners = map[net.Listener]struct{}{}
	}
	s.listeners[l] = struct{}{}
	return true
}

func (s *Server) untrack(l net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, l)
}

func (s *Server) isClosing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}

func (s *Server) stopListening() {
	s.mu.Lock()
	s.closing = true
	listeners := make([]net.Listener, 0, len(s.listeners))
	for l := range s.listeners {
		listeners = append(listeners, l)
	}
	s.mu.Unlock()
	for _, l := range listeners {
		_ = l.Close() // Serve notices
	}
}

// each does something to all connections, at once: closing one may wait for its client to take the last of TLS.
func (s *Server) each(do func(*Conn)) {
	var all sync.WaitGroup
	defer all.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		all.Go(func() { do(c) })
	}
}

// ServeConn serves one connection on the calling goroutine, returns when it has ended, and closes it. It is for connections that something
// else than [Server.Serve] accepts; after Shutdown or Close they are closed at once.
func (s *Server) ServeConn(nc net.Conn) {
	c := s.begin(nc)
	if c == nil {
		return
	}
	c.serve()
	s.ended(c)
}

// begin counts a connection in, or closes it and returns nil.
func (s *Server) begin(nc net.Conn) *Conn {
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		_ = nc.Close() // too late
		return nil
	}
	s.lastID++
	c := newConn(s, nc, s.lastID)
	if s.conns == nil {
		s.conns = map[*Conn]struct{}{}
	}
	s.conns[c] = struct{}{}
	s.running.Add(1)
	s.mu.Unlock()
	return c
}

// ended counts a connection out.
func (s *Server) ended(c *Conn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	s.running.Done()
}

func (s *Server) logger() *slog.Logger {
	if s.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.Logger
}

// lend gives a buffer, which goes back to s.buffers.
func (s *Server) lend() *[bodyBuffer]byte {
	if b, ok := s.buffers.Get().(*[bodyBuffer]byte); ok {
		return b
	}
	return new([bodyBuffer]byte)
}

// copyAll copies through a lent buffer.
func (s *Server) copyAll(to io.Writer, from io.Reader) error {
	b := s.lend()
	defer s.buffers.Put(b)
	_, err := io.CopyBuffer(to, from, b[:])
	return err
}

// host is the Hostname, if it can be the right side of a msg-id (RFC 5322 §3.6.4).
func (s *Server) host() string {
	isLabel := func(label string) bool {
		return label != "" && !strings.ContainsFunc(label, func(r rune) bool {
			return (r|0x20 < 'a' || r|0x20 > 'z') && (r < '0' || r > '9') && r != '-' && r != '_'
		})
	}
	name := s.Hostname
	inside, literal := strings.CutPrefix(name, "[")
	inside, closed := strings.CutSuffix(inside, "]")
	switch {
	case len(name) > maxHostname:
	case literal && closed && inside != "" && !strings.ContainsFunc(inside, func(r rune) bool { return r <= ' ' || r > '~' || r >= '[' && r <= ']' }):
		return name
	case !slices.ContainsFunc(strings.Split(name, "."), func(label string) bool { return !isLabel(label) }):
		return name
	}
	return defaultHostname
}

// preferred is the language for LANG *.
func (s *Server) preferred() language {
	l, _ := lookUp(s.Language, english)
	return l
}
