package pop3_test

import (
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"

	"github.com/emersion/go-sasl"

	"latchkey/pop3"
)

// readCounter counts the reads of a connection.
type readCounter struct {
	net.Conn
	reads atomic.Int64
}

func (c *readCounter) Read(p []byte) (int, error) {
	c.reads.Add(1)
	return c.Conn.Read(p)
}

// TestWatchOnlyForWhoWaits: a login that is decided at once costs no read beside those of the commands; one that waits for its context does.
func TestWatchOnlyForWhoWaits(t *testing.T) {
	for _, tt := range []struct {
		name  string
		work  func(ctx context.Context)
		reads int64
	}{
		{"decided at once", func(ctx context.Context) { _ = ctx.Err() }, 4},
		{"waits", func(ctx context.Context) { _ = ctx.Done() }, 5},
		{"waits below", func(ctx context.Context) { _, cancel := context.WithCancel(ctx); cancel() }, 5},
	} {
		b := newBackend()
		b.Work = tt.work
		s := newServer(b)
		client, server := net.Pipe()
		counted := &readCounter{Conn: server}
		done := make(chan struct{})
		go func() { defer close(done); s.ServeConn(counted) }()
		c := newClient(t, client)
		c.line()
		for _, command := range []string{"USER alice", "PASS secret", "STAT", "QUIT"} {
			c.want("+OK", command)
		}
		<-done
		if got := counted.reads.Load(); got != tt.reads {
			t.Errorf("%s: %d reads, want %d", tt.name, got, tt.reads)
		}
	}
}

// TestServeConn: it returns when the connection has ended, and serves none after Close.
func TestServeConn(t *testing.T) {
	s := newServer(newBackend())
	client, server := net.Pipe()
	done := make(chan struct{})
	go func() { defer close(done); s.ServeConn(server) }()
	c := newClient(t, client)
	c.line()
	select {
	case <-done:
		t.Error("it has returned, and the client is there")
	default:
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	<-done
	client, server = net.Pipe()
	s.ServeConn(server)
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("after Close: got %v, want EOF", err)
	}
}

// earlySession waits in its exchange for the end of a context that it made of the one that Auth got.
type earlySession struct {
	pop3.AuthSession
	started, cancelled chan struct{}
}

func (s *earlySession) Auth(ctx context.Context, _ string) (sasl.Server, error) {
	ctx, cancel := context.WithCancel(ctx)
	return waiter(func() { close(s.started); <-ctx.Done(); cancel(); close(s.cancelled) }), nil
}

type waiter func()

func (w waiter) Next([]byte) (challenge []byte, done bool, err error) {
	w()
	return nil, false, io.ErrUnexpectedEOF
}

// TestClientGoneCancelsExchange: the client is watched too if it was long before the exchange that somebody began to wait.
func TestClientGoneCancelsExchange(t *testing.T) {
	s := &earlySession{started: make(chan struct{}), cancelled: make(chan struct{})}
	b := newBackend()
	c := newClient(t, dial(t, serve(t, newServer(sessionBackend(func(ctx context.Context, c *pop3.Conn) (pop3.Session, error) {
		session, err := b.NewSession(ctx, c)
		s.AuthSession, _ = session.(pop3.AuthSession)
		return s, err
	})))))
	c.line()
	if _, err := io.WriteString(c, "AUTH PLAIN\r\n"); err != nil {
		t.Fatal(err)
	}
	<-s.started
	_ = c.Close()
	<-s.cancelled
}

// sessionBackend is a function that begins sessions.
type sessionBackend func(ctx context.Context, c *pop3.Conn) (pop3.Session, error)

func (f sessionBackend) NewSession(ctx context.Context, c *pop3.Conn) (pop3.Session, error) {
	return f(ctx, c)
}
