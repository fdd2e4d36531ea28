package pop3_test

import (
	"bufio"
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"latchkey/pop3"
)

// client is a connection that a test talks over, one command at a time.
type client struct {
	t testing.TB
	net.Conn
	r *bufio.Reader
}

func newClient(t testing.TB, c net.Conn) *client {
	t.Helper()
	cl := &client{t: t, Conn: c, r: bufio.NewReader(c)}
	t.Cleanup(func() { _ = c.Close() })
	return cl
}

func (c *client) line() string {
	c.t.Helper()
	line, err := c.r.ReadString('\n')
	if err != nil {
		c.t.Fatalf("reading a reply: %v (got %q)", err, line)
	}
	return strings.TrimSuffix(line, "\r\n")
}

// cmd sends a command and returns the first line of the answer.
func (c *client) cmd(line string) string {
	c.t.Helper()
	if _, err := io.WriteString(c, line+"\r\n"); err != nil {
		c.t.Fatal(err)
	}
	return c.line()
}

// want sends a command whose answer must begin so.
func (c *client) want(prefix, line string) string {
	c.t.Helper()
	got := c.cmd(line)
	if !strings.HasPrefix(got, prefix) {
		c.t.Fatalf("%s: got %q, want %s", line, got, prefix)
	}
	return got
}

// login brings the connection to the TRANSACTION state.
func (c *client) login() {
	c.t.Helper()
	c.line()
	c.want("+OK", "USER alice")
	c.want("+OK", "PASS secret")
}

// ended fails unless the server closes without another octet.
func (c *client) ended() {
	c.t.Helper()
	if b, err := c.r.ReadByte(); err == nil {
		rest, _ := c.r.Peek(c.r.Buffered())
		c.t.Fatalf("got %q, want the end of the connection", string(b)+string(rest))
	}
}

// TestStatBeyond4GiB: sums are 64 bits wide.
func TestStatBeyond4GiB(t *testing.T) {
	b := newBackend()
	b.Lie("alice", 1, 3<<30)
	b.Lie("alice", 2, 3<<30)
	b.Lie("alice", 3, 5<<40)
	c := newClient(t, dial(t, serve(t, newServer(b))))
	c.login()
	if got, want := c.cmd("STAT"), fmt.Sprintf("+OK 3 %d", int64(6<<30+5<<40)); got != want {
		t.Errorf("STAT: got %q, want %q", got, want)
	}
	if got, want := c.cmd("LIST 3"), fmt.Sprintf("+OK 3 %d", int64(5<<40)); got != want {
		t.Errorf("LIST 3: got %q, want %q", got, want)
	}
}

// TestShortMessageIsNotTerminated: a client must never take part of a message for all of it.
func TestShortMessageIsNotTerminated(t *testing.T) {
	for _, size := range []int64{int64(len(messageOne)) + 1, int64(len(messageOne)) - 1} {
		b := newBackend()
		b.Lie("alice", 1, size)
		c := newClient(t, dial(t, serve(t, newServer(b))))
		c.login()
		c.want("+OK", "RETR 1")
		if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil { // a server that goes on fails the test
			t.Fatal(err)
		}
		rest, _ := io.ReadAll(c.r)
		if strings.HasSuffix(string(rest), "\r\n.\r\n") {
			t.Errorf("size %d: got the terminator after %q", size, rest)
		}
	}
}

func TestAPOP(t *testing.T) {
	b := newBackend()
	c := newClient(t, dial(t, serve(t, newServer(b.APOP()))))
	greeting := c.line()
	open, end := strings.Index(greeting, "<"), strings.Index(greeting, ">")
	if open < 0 || end < open || !strings.HasSuffix(greeting[:end], "@pop.test") {
		t.Fatalf("greeting %q has no timestamp", greeting)
	}
	digest := func(password string) string {
		sum := md5.Sum([]byte(greeting[open:end+1] + password)) // RFC 1939 §7
		return hex.EncodeToString(sum[:])
	}
	c.want("-ERR APOP needs", "APOP alice")
	c.want("-ERR a digest", "APOP alice 123")
	c.want("-ERR [AUTH]", "APOP alice "+digest("wrong"))
	c.want("+OK 3 messages", "APOP alice "+digest("secret"))
}

// TestBackendText: what a backend says goes out as one printable line, and an unknown error's words do not go out at all.
func TestBackendText(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
		want string
	}{
		{"control characters", &pop3.Error{Code: pop3.CodePerm, Text: "no\r\n+OK yes\x00\xff"}, "-ERR [SYS/PERM] no+OK yes"},
		{"wrapped", fmt.Errorf("opening: %w", &pop3.Error{Text: "locked"}), "-ERR locked"},
		{"what looks like a code", &pop3.Error{Text: " [IN-USE] no"}, "-ERR IN-USE] no"},
		{"unknown", errors.New("/var/secret/path"), "-ERR [SYS/TEMP] temporary failure, try again later"},
		{"long", &pop3.Error{Text: strings.Repeat("x", 1000)}, "-ERR " + strings.Repeat("x", 505)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBackend()
			b.Opening = tt.err
			c := newClient(t, dial(t, serve(t, newServer(b))))
			c.line()
			c.want("+OK", "USER alice")
			if got := c.cmd("PASS secret"); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// TestPanicIsContained: a backend that panics ends its connection with a reply, and no other.
func TestPanicIsContained(t *testing.T) {
	b := newBackend()
	b.Work = func(context.Context) { panic("backend") }
	address := serve(t, newServer(b))
	other := newClient(t, dial(t, address))
	other.line()
	c := newClient(t, dial(t, address))
	c.line()
	c.want("+OK", "USER alice")
	c.want("-ERR [SYS/TEMP]", "PASS secret")
	c.ended()
	other.want("+OK", "CAPA")
	if b.Logouts() != 1 {
		t.Errorf("got %d logouts, want 1", b.Logouts())
	}
}

// TestSessionsAreSnapshots: numbers and marks of one session are its own.
func TestSessionsAreSnapshots(t *testing.T) {
	b := newBackend()
	address := serve(t, newServer(b))
	one, two := newClient(t, dial(t, address)), newClient(t, dial(t, address))
	one.login()
	two.login()
	one.want("+OK", "DELE 1")
	one.want("+OK bye", "QUIT")
	two.want("+OK 1 24", "LIST 1")
	two.want("+OK 24 octets", "RETR 1")
}
