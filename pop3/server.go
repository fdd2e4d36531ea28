package pop3

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"
)

// ErrServerClosed is returned by Serve after Shutdown or Close.
var ErrServerClosed = errors.New("pop3: server closed")

// Server serves POP3. Fields are set before the first Serve and not changed after. A Server with a Backend is ready to use.
type Server struct {
	// Backend begins sessions.
	Backend Backend
	// Hostname is named in the greeting.
	Hostname string
	// TLSConfig makes STLS available (RFC 2595 §4); nil takes it away. A connection that comes out of the listener as a *tls.Conn is
	// TLS from its first octet (RFC 8314 §3) and gets no STLS.
	TLSConfig *tls.Config
	// Implementation is CAPA's IMPLEMENTATION (RFC 2449 §6.9); empty leaves it out.
	Implementation string
	// Expire is CAPA's EXPIRE (RFC 2449 §6.7), "NEVER" or a number of days; empty leaves it out.
	Expire string
	Limits Limits
	// Logger gets an event for each session; nil discards them.
	Logger *slog.Logger

	writers sync.Pool // of *bufio.Writer
	buffers sync.Pool // of *[bodyBuffer]byte

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
			s.start(nc)
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

func (s *Server) each(do func(*Conn)) {
	s.mu.Lock()
	conns := make([]*Conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	s.mu.Unlock()
	for _, c := range conns {
		do(c)
	}
}

// start serves one connection on its own goroutine.
func (s *Server) start(nc net.Conn) {
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		_ = nc.Close() // too late
		return
	}
	s.lastID++
	c := newConn(s, nc, s.lastID)
	if s.conns == nil {
		s.conns = map[*Conn]struct{}{}
	}
	s.conns[c] = struct{}{}
	s.running.Add(1)
	s.mu.Unlock()
	go func() {
		defer s.running.Done()
		c.serve()
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	}()
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
