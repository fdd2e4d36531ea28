package pop3_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/pop3"
)

// pipeListener hands out the server's ends of pipes, so that time can be fake.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

func (l *pipeListener) dial(t testing.TB) *client {
	c, _ := l.dialCounted(t)
	return c
}

// dialCounted is dial, with the server's end.
func (l *pipeListener) dialCounted(t testing.TB) (*client, *countedConn) {
	ours, theirs := net.Pipe()
	server := &countedConn{Conn: theirs}
	l.conns <- server
	return newClient(t, ours), server
}

// countedConn counts writes.
type countedConn struct {
	net.Conn
	writes atomic.Int64
}

func (c *countedConn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

// bubble serves in fake time.
func bubble(t *testing.T, b pop3.Backend, do func(t *testing.T, s *pop3.Server, l *pipeListener)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s, l := newServer(b), newPipeListener()
		done := make(chan error, 1)
		go func() { done <- s.Serve(l) }()
		do(t, s, l)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; !errors.Is(err, pop3.ErrServerClosed) {
			t.Errorf("Serve: got %v", err)
		}
	})
}

// TestTimeouts: on either side of each time-out; the end comes without a reply (RFC 1939 §3).
func TestTimeouts(t *testing.T) {
	for _, tt := range []struct {
		name  string
		login bool
		limit time.Duration
	}{{"before login", false, pop3.DefaultLoginTimeout}, {"after login", true, pop3.DefaultIdleTimeout}} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBackend()
			bubble(t, b, func(t *testing.T, _ *pop3.Server, l *pipeListener) {
				c := l.dial(t)
				if tt.login {
					c.login()
					c.want("+OK", "DELE 1")
				} else {
					c.line()
				}
				time.Sleep(tt.limit - time.Second)
				c.want("+OK", "CAPA")
				for c.line() != "." {
				}
				time.Sleep(tt.limit + time.Second)
				c.ended()
			})
			if len(b.UIDs("alice")) != 3 {
				t.Error("a session that timed out has deleted messages")
			}
		})
	}
}

// TestDribbledLine: the wait is for the whole line, not for each octet.
func TestDribbledLine(t *testing.T) {
	bubble(t, newBackend(), func(t *testing.T, _ *pop3.Server, l *pipeListener) {
		c := l.dial(t)
		c.line()
		var err error
		for i := 0; i < 10 && err == nil; i++ {
			time.Sleep(pop3.DefaultLoginTimeout / 5)
			_, err = io.WriteString(c, "U")
		}
		if err == nil {
			t.Error("a line of one octet now and then kept the connection open")
		}
	})
}

// TestRepliesAreHeld: a reply is one write, with the message that belongs to it, and so are the replies to commands that came together.
func TestRepliesAreHeld(t *testing.T) {
	bubble(t, newBackend(), func(t *testing.T, _ *pop3.Server, l *pipeListener) {
		c, server := l.dialCounted(t)
		c.login()
		body := func() {
			for c.line() != "." {
			}
		}
		for _, tt := range []struct {
			send    string
			replies []bool // whether each has a body
		}{
			{"STAT", []bool{false}},
			{"RETR 1", []bool{true}},
			{"UIDL", []bool{true}},
			{"TOP 2 1", []bool{true}},
			{"RETR 1\r\nRETR 2\r\nDELE 1\r\nRETR 3\r\nNOOP", []bool{true, true, false, true, false}},
		} {
			before := server.writes.Load()
			if _, err := io.WriteString(c, tt.send+"\r\n"); err != nil {
				t.Fatal(err)
			}
			for _, multi := range tt.replies {
				if got := c.line(); !strings.HasPrefix(got, "+OK") {
					t.Fatalf("%q: got %q", tt.send, got)
				}
				if multi {
					body()
				}
			}
			synctest.Wait()
			if n := server.writes.Load() - before; n != 1 {
				t.Errorf("%q was answered in %d writes, want 1", tt.send, n)
			}
		}
	})
}

// TestHalfACommandHoldsNothing: replies do not wait for a command whose end is not there yet: its client may be waiting for them.
func TestHalfACommandHoldsNothing(t *testing.T) {
	bubble(t, newBackend(), func(t *testing.T, _ *pop3.Server, l *pipeListener) {
		c := l.dial(t)
		c.login()
		for _, part := range []string{"RETR 1\r\nNO", "OP\r\nSTA", "T\r\n"} {
			if _, err := io.WriteString(c, part); err != nil {
				t.Fatal(err)
			}
			if got := c.line(); !strings.HasPrefix(got, "+OK") {
				t.Errorf("%q: got %q", part, got)
			}
			for part[0] == 'R' && c.line() != "." {
			}
		}
	})
}

// TestSessionEnds: a session ends after its day, however busy.
func TestSessionEnds(t *testing.T) {
	bubble(t, newBackend(), func(t *testing.T, _ *pop3.Server, l *pipeListener) {
		c := l.dial(t)
		c.login()
		for range int(pop3.DefaultMaxSession/(5*time.Minute)) - 1 {
			time.Sleep(5 * time.Minute)
			c.want("+OK", "NOOP")
		}
		time.Sleep(5*time.Minute + time.Second)
		c.ended()
	})
}

// TestSlowReader: 200 octets a second is a slow line, one octet a second is an attack.
func TestSlowReader(t *testing.T) {
	for _, tt := range []struct {
		name  string
		pause time.Duration
		whole bool
	}{{"slow line", 5 * time.Millisecond, true}, {"attack", time.Second, false}} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBackend()
			message := "Subject: big\r\n\r\n" + strings.Repeat("0123456789\r\n", 5000)
			b.Add("alice", "secret", message)
			bubble(t, b, func(t *testing.T, _ *pop3.Server, l *pipeListener) {
				c := l.dial(t)
				c.login()
				c.want("+OK", "RETR 1")
				var got bytes.Buffer
				var octet [1]byte
				var err error
				for err == nil && !bytes.HasSuffix(got.Bytes(), []byte("\r\n.\r\n")) {
					time.Sleep(tt.pause)
					if _, err = io.ReadFull(c.r, octet[:]); err == nil {
						got.Write(octet[:])
					}
				}
				if whole := err == nil; whole != tt.whole {
					t.Errorf("got %d of %d octets (%v), want all: %v", got.Len(), len(message), err, tt.whole)
				}
			})
		})
	}
}

// TestShutdownDrains: idle clients are told, a running command finishes, and its client is told then.
func TestShutdownDrains(t *testing.T) {
	b := newBackend()
	started, release := make(chan struct{}), make(chan struct{})
	b.Work = func(context.Context) { close(started); <-release }
	s := newServer(b)
	address := serve(t, s)
	idle, busy := newClient(t, dial(t, address)), newClient(t, dial(t, address))
	idle.line()
	busy.line()
	busy.want("+OK", "USER alice")
	if _, err := io.WriteString(busy, "PASS secret\r\n"); err != nil {
		t.Fatal(err)
	}
	<-started
	done := make(chan error, 1)
	go func() { done <- s.Shutdown(t.Context()) }()
	if got := idle.line(); got != "-ERR [SYS/TEMP] server is stopping, try again soon" {
		t.Errorf("idle client: got %q", got)
	}
	idle.ended()
	close(release)
	if got := busy.line(); !strings.HasPrefix(got, "+OK 3 messages") {
		t.Errorf("busy client: got %q", got)
	}
	if got := busy.line(); !strings.HasPrefix(got, "-ERR [SYS/TEMP]") {
		t.Errorf("busy client after its command: got %q", got)
	}
	if err := <-done; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if _, err := net.Dial("tcp", address); err == nil {
		t.Error("still listening after Shutdown")
	}
}

// TestShutdownGivesUp: a client that does not go is cut off when the context ends, and Close works afterwards.
func TestShutdownGivesUp(t *testing.T) {
	b := newBackend()
	started := make(chan struct{})
	b.Work = func(ctx context.Context) { close(started); <-ctx.Done() }
	s := newServer(b)
	c := newClient(t, dial(t, serve(t, s)))
	c.line()
	c.want("+OK", "USER alice")
	if _, err := io.WriteString(c, "PASS secret\r\n"); err != nil {
		t.Fatal(err)
	}
	<-started
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Shutdown: got %v", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("Close after Shutdown: %v", err)
	}
	if err := s.Serve(newPipeListener()); !errors.Is(err, pop3.ErrServerClosed) {
		t.Errorf("Serve after Close: got %v", err)
	}
}

// TestClientGoneCancelsLogin: nobody hashes passwords for a client that has hung up.
func TestClientGoneCancelsLogin(t *testing.T) {
	for _, command := range []string{"USER alice\r\nPASS secret\r\n", "AUTH PLAIN " + plain("alice", "secret") + "\r\n"} {
		b := newBackend()
		started, cancelled := make(chan struct{}), make(chan struct{})
		b.Work = func(ctx context.Context) { close(started); <-ctx.Done(); close(cancelled) }
		c := newClient(t, dial(t, serve(t, newServer(b))))
		c.line()
		if _, err := io.WriteString(c, command); err != nil {
			t.Fatal(err)
		}
		<-started
		_ = c.Close()
		<-cancelled
	}
}

// TestWatchKeepsInput: what a client sends while its login is being looked at is not lost.
func TestWatchKeepsInput(t *testing.T) {
	b := newBackend()
	started, release := make(chan struct{}), make(chan struct{})
	b.Work = func(context.Context) { close(started); <-release }
	c := newClient(t, dial(t, serve(t, newServer(b))))
	c.line()
	c.want("+OK", "USER alice")
	if _, err := io.WriteString(c, "PASS secret\r\n"); err != nil {
		t.Fatal(err)
	}
	<-started
	if _, err := io.WriteString(c, "STAT\r\nQUIT\r\n"); err != nil {
		t.Fatal(err)
	}
	close(release)
	for _, want := range []string{"+OK 3 messages (81 octets)", "+OK 3 81", "+OK bye, 0 deleted, 3 left"} {
		if got := c.line(); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
}

// TestQuitThenGone: a client that hangs up right after QUIT has said QUIT.
func TestQuitThenGone(t *testing.T) {
	b := newBackend()
	ended := make(chan struct{})
	b.Ended = func() { close(ended) }
	c := newClient(t, dial(t, serve(t, newServer(b))))
	c.login()
	c.want("+OK", "DELE 2")
	if _, err := io.WriteString(c, "QUIT\r\n"); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	<-ended
	if got := b.UIDs("alice"); len(got) != 2 {
		t.Errorf("left: %v, want two messages", got)
	}
}

// TestSTLSInjection: what a stranger on the way put behind STLS is never run (the class of CVE-2011-0411).
func TestSTLSInjection(t *testing.T) {
	s := newServer(newBackend())
	s.TLSConfig = certificate(t)
	c := newClient(t, dial(t, serve(t, s)))
	c.line()
	if got := c.cmd("STLS\r\nUSER alice\r\nPASS secret"); got != "+OK begin TLS" {
		t.Fatalf("got %q", got)
	}
	conn := tls.Client(c.Conn, &tls.Config{InsecureSkipVerify: true}) // the test's own certificate
	if err := conn.Handshake(); err != nil {
		t.Fatal(err)
	}
	secure := newClient(t, conn)
	secure.want("-ERR log in first", "STAT")
	secure.want("-ERR USER first", "PASS secret")
}

// TestSTLSHandshakeFails: no session in the clear goes on after it.
func TestSTLSHandshakeFails(t *testing.T) {
	s := newServer(newBackend())
	s.TLSConfig = certificate(t)
	c := newClient(t, dial(t, serve(t, s)))
	c.line()
	c.want("+OK begin TLS", "STLS")
	if _, err := io.WriteString(c, "USER alice\r\nPASS secret\r\n"); err != nil {
		t.Fatal(err)
	}
	rest, _ := io.ReadAll(c.r)
	if bytes.Contains(rest, []byte("+OK")) || bytes.Contains(rest, []byte("-ERR")) {
		t.Errorf("got %q after a failed handshake", rest)
	}
}

// TestImplicitTLS: a *tls.Conn from the listener is TLS from the start, without STLS (RFC 8314 §3).
func TestImplicitTLS(t *testing.T) {
	s := newServer(newBackend())
	config := certificate(t)
	s.TLSConfig = config
	l, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	conn, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{InsecureSkipVerify: true}) // the test's own certificate
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(t, conn)
	c.login()
	c.want("+OK", "CAPA")
	for line := c.line(); line != "."; line = c.line() {
		if line == "STLS" {
			t.Error("STLS is listed under TLS")
		}
	}
	if err := errors.Join(s.Close(), unlessClosed(<-done)); err != nil {
		t.Error(err)
	}
}

// recordedConn remembers what was read.
type recordedConn struct {
	net.Conn
	read []byte
}

func (c *recordedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.read = append(c.read, p[:n]...)
	return n, err
}

// TestImplicitTLSEnds: TLS ends in order, with a close alert (RFC 8314 §3.4), and the log has what was negotiated (RFC 8314 §4).
func TestImplicitTLSEnds(t *testing.T) {
	var log bytes.Buffer
	b, ended := newBackend(), make(chan struct{})
	b.Ended = func() { close(ended) }
	s := newServer(b)
	s.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	l, err := tls.Listen("tcp", "127.0.0.1:0", certificate(t))
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, s, l)
	raw := &recordedConn{Conn: dial(t, l.Addr().String())}
	c := newClient(t, tls.Client(raw, &tls.Config{InsecureSkipVerify: true})) // the test's own certificate
	c.line()
	c.want("+OK", "QUIT")
	c.ended()
	// RFC 8446 §5.2: an alert is a record of two octets, one of type, and sixteen of tag.
	if alert := []byte{23, 3, 3, 0, 19}; len(raw.read) < 24 || !bytes.Equal(raw.read[len(raw.read)-24:][:5], alert) {
		t.Error("no close alert at the end")
	}
	<-ended
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := log.String(); !strings.Contains(got, `tls="TLS 1.3" cipher=TLS_`) {
		t.Errorf("the log has %q", got)
	}
}

// unlessClosed is an error of Serve's that is not the usual end.
func unlessClosed(err error) error {
	if errors.Is(err, pop3.ErrServerClosed) {
		return nil
	}
	return err
}

func plain(user, password string) string {
	return base64.StdEncoding.EncodeToString([]byte("\x00" + user + "\x00" + password))
}

// TestResponseLimit: a SASL response of 12,288 octets with its line end is read, one of 12,289 is refused (RFC 4954 §4).
func TestResponseLimit(t *testing.T) {
	c := newClient(t, dial(t, serve(t, newServer(newBackend()))))
	c.line()
	for _, tt := range []struct {
		octets int
		want   string
	}{{12287, "-ERR the response is not base64"}, {12288, "-ERR the response is not base64"}, {12289, "-ERR response too long"}} {
		if got := c.cmd("AUTH PLAIN"); got != "+ " {
			t.Fatalf("got %q", got)
		}
		if got := c.cmd(strings.Repeat("*", tt.octets-2)); got != tt.want {
			t.Errorf("%d octets: got %q, want %q", tt.octets, got, tt.want)
		}
	}
}
