package pop3_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/pop3"
	"latchkey/pop3/pop3test"
)

// handed is a backend that hands out the connection of each session, in the order of their greetings.
type handed struct {
	*pop3test.Backend
	conns chan *pop3.Conn
}

func newHanded() *handed { return &handed{newBackend(), make(chan *pop3.Conn, 10)} }

func (h *handed) NewSession(ctx context.Context, c *pop3.Conn) (pop3.Session, error) {
	h.conns <- c
	return h.Backend.NewSession(ctx, c)
}

var errGuestsLeave = &pop3.Error{Code: pop3.CodeTemp, Text: "somebody else is to have this maildrop"}

const guestsLeave = "-ERR [SYS/TEMP] somebody else is to have this maildrop"

// TestIdle: what counts is how long the client was waited for, to the last octet, and not what the server took.
func TestIdle(t *testing.T) {
	b := newHanded()
	b.Add("alice", "secret", "Subject: long\r\n\r\n"+strings.Repeat("0123456789\r\n", 20_000))
	b.Work = func(context.Context) { time.Sleep(time.Hour) }
	bubble(t, b, func(t *testing.T, _ *pop3.Server, l *pipeListener) {
		c := l.dial(t)
		conn := <-b.conns
		idle := func(what string, want time.Duration) {
			t.Helper()
			synctest.Wait()
			if got := conn.Idle(); got != want {
				t.Errorf("%s: idle for %v, want %v", what, got, want)
			}
		}
		idle("greeting not taken", 0)
		time.Sleep(3 * time.Second)
		idle("greeting not taken", 3*time.Second)
		c.line()
		idle("greeting taken", 0)
		time.Sleep(7 * time.Second)
		idle("waiting for a command", 7*time.Second)
		c.want("+OK", "USER alice")
		idle("command answered", 0)
		if _, err := io.WriteString(c, "PASS sec"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(9 * time.Second)
		idle("half a line", 9*time.Second)
		if _, err := io.WriteString(c, "r"); err != nil {
			t.Fatal(err)
		}
		idle("another octet of it", 0)
		if _, err := io.WriteString(c, "et\r\n"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour - time.Second)
		idle("the server at work", 0)
		c.line()
		c.want("+OK", "RETR 1")
		time.Sleep(11 * time.Second)
		idle("a message not taken", 11*time.Second)
		for c.line() != "." {
		}
		idle("the message taken", 0)
	})
}

// TestEnd: a client that is waited for hears why, whatever it was in the middle of, and nothing is deleted.
func TestEnd(t *testing.T) {
	for name, before := range map[string][]string{
		"after the greeting": nil,
		"before the password": {
			"USER alice", "+OK",
		},
		"in an exchange": {"AUTH PLAIN", "+ "},
		"with deletes":   {"USER alice", "+OK", "PASS secret", "+OK", "DELE 1", "+OK", "DELE 2", "+OK"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newHanded()
			bubble(t, b, func(t *testing.T, _ *pop3.Server, l *pipeListener) {
				c := l.dial(t)
				c.line()
				for i := 0; i < len(before); i += 2 {
					c.want(before[i+1], before[i])
				}
				synctest.Wait()
				conn := <-b.conns
				conn.End(errGuestsLeave)
				conn.End(&pop3.Error{Text: "and again"})
				if got := c.line(); got != guestsLeave {
					t.Errorf("got %q", got)
				}
				c.ended()
				synctest.Wait()
				if n := b.Logouts(); n != 1 {
					t.Errorf("%d logouts, want 1", n)
				}
				conn.End(errGuestsLeave) // there is nothing left to end
			})
			if got := b.UIDs("alice"); len(got) != 3 {
				t.Errorf("left: %v, want all", got)
			}
		})
	}
}

// TestEndWithoutAWord: no error is no reply.
func TestEndWithoutAWord(t *testing.T) {
	b := newHanded()
	bubble(t, b, func(t *testing.T, _ *pop3.Server, l *pipeListener) {
		c := l.dial(t)
		c.login()
		synctest.Wait()
		(<-b.conns).End(nil)
		c.ended()
	})
}

// TestEndCutsAnAnswer: a client that does not take its message does not hold the connection, which ends at once.
func TestEndCutsAnAnswer(t *testing.T) {
	b := newHanded()
	b.Add("alice", "secret", "Subject: long\r\n\r\n"+strings.Repeat("0123456789\r\n", 20_000))
	bubble(t, b, func(t *testing.T, _ *pop3.Server, l *pipeListener) {
		c := l.dial(t)
		c.login()
		c.want("+OK", "RETR 1")
		synctest.Wait()
		(<-b.conns).End(errGuestsLeave)
		synctest.Wait()
		if n := b.Logouts(); n != 1 {
			t.Errorf("%d logouts, want 1", n)
		}
		if rest, _ := io.ReadAll(c.r); strings.HasSuffix(string(rest), "\r\n.\r\n") || strings.Contains(string(rest), "-ERR") {
			t.Errorf("the message ends with %q", rest[max(len(rest)-80, 0):])
		}
	})
}

// TestEndStopsWhatComesNext: a command that is worked on has its context cancelled, and those that wait behind it are not run.
func TestEndStopsWhatComesNext(t *testing.T) {
	b := newHanded()
	b.Listing = func() error {
		(<-b.conns).End(errGuestsLeave)
		return nil
	}
	bubble(t, b, func(t *testing.T, _ *pop3.Server, l *pipeListener) {
		c := l.dial(t)
		c.login()
		if _, err := io.WriteString(c, "DELE 1\r\nDELE 2\r\nQUIT\r\n"); err != nil {
			t.Fatal(err)
		}
		if rest, _ := io.ReadAll(c.r); strings.Contains(string(rest), "bye") {
			t.Errorf("got %q", rest)
		}
	})
	if got := b.UIDs("alice"); !slices.Equal(got, []string{"uid1", "uid2", "uid3"}) {
		t.Errorf("left: %v, want all", got)
	}

	work := newHanded()
	cancelled := make(chan error, 1)
	work.Work = func(ctx context.Context) {
		(<-work.conns).End(errGuestsLeave)
		<-ctx.Done()
		cancelled <- ctx.Err()
	}
	bubble(t, work, func(t *testing.T, _ *pop3.Server, l *pipeListener) {
		c := l.dial(t)
		c.line()
		c.want("+OK", "USER alice")
		if _, err := io.WriteString(c, "PASS secret\r\n"); err != nil {
			t.Fatal(err)
		}
		c.ended()
		if err := <-cancelled; !errors.Is(err, context.Canceled) {
			t.Errorf("the backend's context: %v", err)
		}
	})
}

// TestEndUnderTLS: the last word is said in TLS too.
func TestEndUnderTLS(t *testing.T) {
	b := newHanded()
	bubble(t, b, func(t *testing.T, s *pop3.Server, l *pipeListener) {
		s.TLSConfig = certificate(t) // no connection has asked for it yet
		c := l.dial(t)
		c.line()
		c.want("+OK begin TLS", "STLS")
		secure := newClient(t, tls.Client(c.Conn, &tls.Config{InsecureSkipVerify: true})) // the test's own certificate
		secure.want("+OK", "USER alice")
		synctest.Wait()
		(<-b.conns).End(errGuestsLeave)
		if got := secure.line(); got != guestsLeave {
			t.Errorf("got %q", got)
		}
		secure.ended()
	})
}

// endingConn ends its connection in the moment in which QUIT has come.
type endingConn struct {
	net.Conn
	end func()
}

func (c endingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if bytes.Contains(p[:n], []byte("QUIT")) {
		c.end()
	}
	return n, err
}

// TestEndComesFirst: a line that had come when End returned, and was not looked at, is no command any more.
func TestEndComesFirst(t *testing.T) {
	b := newHanded()
	bubble(t, b, func(t *testing.T, _ *pop3.Server, l *pipeListener) {
		ours, theirs := net.Pipe()
		l.conns <- endingConn{theirs, func() { (<-b.conns).End(errGuestsLeave) }}
		c := newClient(t, ours)
		c.login()
		c.want("+OK", "DELE 1")
		c.want(guestsLeave, "QUIT")
		c.ended()
	})
	if got := b.UIDs("alice"); len(got) != 3 {
		t.Errorf("left: %v, want all", got)
	}
}
