package pop3_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/pop3"
)

// trickled reads a little now and then until the server ends the connection, and says how long that took.
func trickled(c io.Reader, each int, pause time.Duration) time.Duration {
	begun := time.Now()
	for {
		if _, err := io.CopyN(io.Discard, c, int64(each)); err != nil {
			return time.Since(begun)
		}
		time.Sleep(pause)
	}
}

// TestSlowReaderEndsWithTheSession: a client that reads as fast as it must, and no faster, is still cut off when its day is over, in the middle of
// a message; and before login when the time for that is over.
func TestSlowReaderEndsWithTheSession(t *testing.T) {
	b := newBackend()
	b.Add("alice", "secret", "Subject: big\r\n\r\n"+strings.Repeat("0123456789\r\n", 2_000_000))
	bubble(t, b, func(t *testing.T, _ *pop3.Server, l *pipeListener) {
		c := l.dial(t)
		c.login()
		c.want("+OK", "RETR 1")
		if took := trickled(c, 12_000, time.Minute); took < pop3.DefaultMaxSession-time.Minute || took > pop3.DefaultMaxSession+2*time.Minute {
			t.Errorf("after login: cut off after %v, want %v", took, pop3.DefaultMaxSession)
		}
	})
	bubble(t, newBackend(), func(t *testing.T, _ *pop3.Server, l *pipeListener) {
		c := l.dial(t)
		c.line()
		go func() { _, _ = io.WriteString(c, strings.Repeat("CAPA\r\n", 100_000)) }() // it is cut off
		limit := 10 * pop3.DefaultLoginTimeout
		if took := trickled(c, 8_000, time.Minute); took < limit-time.Minute || took > limit+2*time.Minute {
			t.Errorf("before login: cut off after %v, want %v", took, limit)
		}
	})
}

// TestStalledReaderTLS: over TLS no write can be cut, so a client that stops reading, or reads an octet a second, has the eleven minutes of a piece
// twice at most.
func TestStalledReaderTLS(t *testing.T) {
	config := certificate(t)
	for _, pause := range []time.Duration{time.Second, 24 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			b := newBackend()
			b.Add("alice", "secret", "Subject: big\r\n\r\n"+strings.Repeat("0123456789\r\n", 100_000))
			s, l := newServer(b), newPipeListener()
			done, ended := make(chan error, 1), endedOnce(b)
			go func() { done <- s.Serve(tls.NewListener(l, config)) }()
			ours, theirs := net.Pipe()
			l.conns <- theirs
			raw := &valve{Conn: ours}
			c := newClient(t, tls.Client(raw, &tls.Config{InsecureSkipVerify: true})) // the test's own certificate
			c.login()
			if _, err := io.WriteString(c, "RETR 1\r\n"); err != nil {
				t.Fatal(err)
			}
			raw.pause = pause
			gone := make(chan struct{})
			go func() {
				defer close(gone)
				_, _ = io.Copy(io.Discard, c) // it is cut off
			}()
			if took := wait(ended); took < 10*time.Minute || took > 23*time.Minute {
				t.Errorf("cut off after %v", took)
			}
			_ = ours.Close()
			<-gone
			if err := errors.Join(s.Close(), unlessClosed(<-done)); err != nil {
				t.Error(err)
			}
		})
	}
}

// valve lets an octet in now and then once pause is set.
type valve struct {
	net.Conn
	pause time.Duration
}

func (v *valve) Read(p []byte) (int, error) {
	if v.pause > 0 {
		time.Sleep(v.pause)
		p = p[:min(len(p), 1)]
	}
	return v.Conn.Read(p)
}

// slowToClose is a connection that takes its time to close, as TLS does whose client takes nothing any more.
type slowToClose struct{ net.Conn }

func (c slowToClose) Close() error {
	time.Sleep(5 * time.Second)
	return c.Conn.Close()
}

// TestManySlowCloses: the server's end waits for one of them, not for one after the other.
func TestManySlowCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, l := newServer(newBackend()), newPipeListener()
		done := make(chan error, 1)
		go func() { done <- s.Serve(l) }()
		for range 100 {
			ours, theirs := net.Pipe()
			l.conns <- slowToClose{theirs}
			newClient(t, ours).line()
		}
		begun := time.Now()
		if err := errors.Join(s.Close(), unlessClosed(<-done)); err != nil {
			t.Error(err)
		}
		if took := time.Since(begun); took > 11*time.Second { // the connection's own end closes it too
			t.Errorf("closed after %v", took)
		}
	})
}

// TestFailedHandshakesAreFewLines: of handshakes behind STLS that fail, and of what was sent before them, the log has a few, and then how many there
// were.
func TestFailedHandshakesAreFewLines(t *testing.T) {
	config := certificate(t)
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		s, l := newServer(newBackend()), newPipeListener()
		s.TLSConfig, s.Logger = config, slog.New(slog.NewTextHandler(&log, nil))
		done := make(chan error, 1)
		go func() { done <- s.Serve(l) }()
		const flood, said = 1000, 10
		one := func() {
			c := l.dial(t)
			c.line()
			c.want("+OK", "STLS\r\nUSER alice\r\nPASS secret")
			_, _ = io.WriteString(c, "PASS secret\r\n") // it may be cut off before its end
			_, _ = io.ReadAll(c)
		}
		for range flood {
			one()
		}
		events := []string{"TLS handshake failed", "data sent before the TLS handshake dropped"}
		for _, event := range events {
			if n := strings.Count(log.String(), event); n != said {
				t.Errorf("%d lines of %q, want %d", n, event, said)
			}
		}
		time.Sleep(time.Minute)
		one()
		if err := errors.Join(s.Close(), unlessClosed(<-done)); err != nil {
			t.Error(err)
		}
		if n := strings.Count(log.String(), fmt.Sprintf("not_logged_before=%d\n", flood-said)); n != len(events) {
			t.Errorf("%d lines tell of the others, want %d", n, len(events))
		}
		if strings.Contains(log.String(), "secret") {
			t.Error("the log has the password that was injected")
		}
	})
}

// TestExchangeEndsWithoutAWord: when time is up in an exchange nothing is said (RFC 1939 §3); when the server stops, its client is told as any other.
func TestExchangeEndsWithoutAWord(t *testing.T) {
	for _, tt := range []struct {
		name, want string
		end        func(ctx context.Context, s *pop3.Server) error
	}{
		{"time is up", "", func(context.Context, *pop3.Server) error { return nil }},
		{
			"the server stops", "-ERR [SYS/TEMP] server is stopping, try again soon\r\n",
			func(ctx context.Context, s *pop3.Server) error { return s.Shutdown(ctx) },
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, newBackend(), func(t *testing.T, s *pop3.Server, l *pipeListener) {
				c := l.dial(t)
				c.line()
				c.want("+ ", "AUTH PLAIN")
				ended := make(chan error, 1)
				go func() { ended <- tt.end(t.Context(), s) }()
				if rest, _ := io.ReadAll(c.r); string(rest) != tt.want {
					t.Errorf("got %q, want %q", rest, tt.want)
				}
				if err := <-ended; err != nil {
					t.Error(err)
				}
			})
		})
	}
}
