package pop3_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/pop3"
	"latchkey/pop3/pop3test"
)

// prologues bring a connection to a state, by the state's number.
var prologues = []string{
	"",
	"USER alice\r\nPASS secret\r\n",
	"AUTH PLAIN\r\n",
	"AUTH LOGIN\r\nYWxpY2U=\r\n",
	"AUTH TWO-STEP YWxpY2U=\r\n",
	"UTF8\r\nLANG de\r\nUSER alice\r\nPASS secret\r\n",
}

// FuzzSession says anything in every state, to the end or until the client says no more and hears no more: the connection must end, log out
// once, leave no goroutine, and answer in form. Time is fake.
func FuzzSession(f *testing.F) {
	for _, s := range []string{
		"USER alice\r\nPASS secret\r\nSTAT\r\nQUIT\r\n", "AUTH PLAIN\r\n*\r\nAUTH PLAIN =\r\n", "CAPA\nLIST \r\nTOP 1 0\r\nUIDL\r\nRETR 2\r\n",
		"DELE 1\r\nRSET\r\nDELE 2\r\nLAST\r\nQUIT\r\n", "\r\n\r\n\x00\xff\n", "LANG\r\nLANG de\r\nUTF8\r\nNOOP x\r\nLANG *\r\n", "YWxpY2U=\r\nc2VjcmV0\r\n",
		"=\r\n", "RETR 2\r\nRETR 2\r\nRETR 2\r\nTOP 2 1\r\n", "AUTH\r\nXTND\r\n\r\r\r\n", strings.Repeat("x", 600) + "\r\nNOOP\r\n",
		strings.Repeat("A", 13000) + "\r\n",
	} {
		for state := range prologues {
			f.Add([]byte(s), uint8(state), state%2 == 0)
		}
	}
	f.Fuzz(func(t *testing.T, input []byte, state uint8, stays bool) {
		synctest.Test(t, func(t *testing.T) { session(t, prologues[int(state)%len(prologues)], input, stays) })
	})
}

// session is one fuzzed session. A client that stays waits for the server to end it.
func session(t *testing.T, prologue string, input []byte, stays bool) {
	b := &pop3test.Backend{Mechanisms: []string{"PLAIN", "LOGIN", "TWO-STEP", "CRAM-MD5"}, Last: true}
	b.Add("alice", "secret", messageOne, messageDots, messageUTF8)
	s, l := newServer(b), newPipeListener()
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	ours, theirs := net.Pipe()
	l.conns <- theirs
	heard := make(chan []byte, 1)
	go func() {
		out, _ := io.ReadAll(ours)
		heard <- out
	}()
	_, _ = io.WriteString(ours, prologue)
	_, _ = ours.Write(input)
	if !stays {
		_, _ = io.WriteString(ours, "\r\n")
		_ = ours.Close()
	}
	out := <-heard
	_ = ours.Close()
	if err := errors.Join(s.Close(), unlessClosed(<-done)); err != nil {
		t.Error(err)
	}
	if b.Logouts() != 1 {
		t.Errorf("got %d logouts", b.Logouts())
	}
	if !bytes.HasPrefix(out, []byte("+OK pop.test")) || bytes.Contains(out, []byte("\x00")) {
		t.Errorf("heard %q", out)
	}
	if stays && !bytes.HasSuffix(out, []byte("\r\n")) {
		t.Errorf("heard %q, which ends inside a line", out)
	}
}

// wait waits for the end of a session, in fake time, and says how long that took.
func wait(ended <-chan struct{}) time.Duration {
	begun := time.Now()
	<-ended
	return time.Since(begun)
}

// endedOnce makes a backend say when a session ends. It is called where the session's time runs, before it begins.
func endedOnce(b *pop3test.Backend) <-chan struct{} {
	ended := make(chan struct{}, 1)
	b.Ended = func() { ended <- struct{}{} }
	return ended
}

// TestStalledReader: a client that asks for a message and does not read it is cut off, within two windows of two minutes, and so is one that does not
// read its greeting.
func TestStalledReader(t *testing.T) {
	for _, login := range []bool{true, false} {
		b := newBackend()
		b.Add("alice", "secret", "Subject: big\r\n\r\n"+strings.Repeat("0123456789\r\n", 100_000))
		bubble(t, b, func(t *testing.T, _ *pop3.Server, l *pipeListener) {
			ended := endedOnce(b)
			c := l.dial(t)
			if login {
				c.login()
				c.want("+OK", "RETR 1")
			}
			if took := wait(ended); took < time.Minute || took > 5*time.Minute {
				t.Errorf("login %v: cut off after %v", login, took)
			}
		})
	}
}

// TestSlowLoris: an octet a second holds no connection longer than the wait for a whole line; nor do whole lines that lead nowhere.
func TestSlowLoris(t *testing.T) {
	for _, tt := range []struct {
		name     string
		prologue []string // command, beginning of its answer
		say      string
		every    time.Duration
		limit    time.Duration
	}{
		{"before login", nil, "U", time.Second, pop3.DefaultLoginTimeout},
		{"in a name", []string{"USER alice", "+OK"}, "P", time.Second, pop3.DefaultLoginTimeout},
		{"in an exchange", []string{"AUTH PLAIN", "+ "}, "A", time.Second, pop3.DefaultLoginTimeout},
		{"after login", []string{"USER alice", "+OK", "PASS secret", "+OK"}, "N", time.Second, pop3.DefaultIdleTimeout},
		{"many lines before login", nil, "LANG en\r\n", 50 * time.Second, 10 * pop3.DefaultLoginTimeout},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBackend()
			bubble(t, b, func(t *testing.T, _ *pop3.Server, l *pipeListener) {
				ended := endedOnce(b)
				c := l.dial(t)
				begun := time.Now()
				c.line()
				for i := 0; i < len(tt.prologue); i += 2 {
					c.want(tt.prologue[i+1], tt.prologue[i])
				}
				go func() { _, _ = io.Copy(io.Discard, c) }()
				var err error
				for err == nil {
					time.Sleep(tt.every)
					_, err = io.WriteString(c, tt.say)
				}
				<-ended
				if took := time.Since(begun); took < tt.limit-tt.every || took > tt.limit+2*tt.every {
					t.Errorf("cut off after %v, want %v", took, tt.limit)
				}
			})
		})
	}
}

// TestSilentHandshake: a client of an implicit TLS listener that never says hello is cut off.
func TestSilentHandshake(t *testing.T) {
	config := certificate(t)
	synctest.Test(t, func(t *testing.T) {
		s, l := newServer(newBackend()), newPipeListener()
		done := make(chan error, 1)
		go func() { done <- s.Serve(tls.NewListener(l, config)) }()
		ours, theirs := net.Pipe()
		l.conns <- theirs
		begun := time.Now()
		_, _ = io.ReadAll(ours)
		if took := time.Since(begun); took < pop3.DefaultHandshakeTimeout || took > 2*pop3.DefaultHandshakeTimeout {
			t.Errorf("cut off after %v", took)
		}
		if err := errors.Join(s.Close(), unlessClosed(<-done)); err != nil {
			t.Error(err)
		}
	})
}

// TestBadCommandsEnd: a hundred thousand bad commands are three before login and twenty after.
func TestBadCommandsEnd(t *testing.T) {
	flood := []byte(strings.Repeat("NONSENSE\r\n", 100_000))
	for _, tt := range []struct {
		login   bool
		strikes int
	}{{false, 3}, {true, 20}} {
		b := newBackend()
		bubble(t, b, func(t *testing.T, _ *pop3.Server, l *pipeListener) {
			c := l.dial(t)
			if tt.login {
				c.login()
			} else {
				c.line()
			}
			go func() { _, _ = c.Write(flood) }()
			answers, _ := io.ReadAll(c.r)
			if want := strings.Repeat("-ERR unknown command\r\n", tt.strikes); string(answers) != want {
				t.Errorf("got %d octets of answers, want %d", len(answers), len(want))
			}
		})
	}
}

// TestGiantLine: a line of 8 MB is one bad command, or one refused response, and takes no memory.
func TestGiantLine(t *testing.T) {
	const size = 8 << 20
	chunk := bytes.Repeat([]byte("QUIT QUIT.QUIT=="), 4096)
	for _, tt := range []struct {
		name     string
		prologue []string
		want     string
	}{
		{"before login", nil, "-ERR command line too long"},
		{"in an exchange", []string{"AUTH PLAIN", "+ "}, "-ERR response too long"},
		{"after login", []string{"USER alice", "+OK", "PASS secret", "+OK"}, "-ERR command line too long"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, newBackend(), func(t *testing.T, _ *pop3.Server, l *pipeListener) {
				c := l.dial(t)
				c.line()
				for i := 0; i < len(tt.prologue); i += 2 {
					c.want(tt.prologue[i+1], tt.prologue[i])
				}
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				for range size / len(chunk) {
					if _, err := c.Write(chunk); err != nil {
						t.Fatal(err)
					}
				}
				runtime.ReadMemStats(&after)
				if took := after.TotalAlloc - before.TotalAlloc; took > 256<<10 {
					t.Errorf("%d octets were allocated for the line", took)
				}
				if got := c.cmd(""); got != tt.want {
					t.Errorf("got %q, want %q", got, tt.want)
				}
				c.want("+OK", "CAPA")
			})
		})
	}
}
