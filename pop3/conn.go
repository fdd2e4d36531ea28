package pop3

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"time"
)

// Conn is one client's connection. Backends ask it where the client is; the rest is the server's.
type Conn struct {
	server *Server
	limits Limits
	log    *slog.Logger
	ctx    context.Context
	cancel context.CancelFunc
	began  time.Time

	mu       sync.Mutex // protects the fields below
	net      net.Conn   // replaced by STLS
	deadline deadline   // of reading
	draining bool
	killed   bool

	// The rest belongs to the serving goroutine.
	in        *source
	r         *bufio.Reader
	out       output
	session   Session
	timestamp string // of the greeting, for APOP
	state     state
	strikes   int
	failed    int // logins
}

// state is what a connection may do. A state that has data is a type that carries it.
type state interface {
	commands() map[string]command
	// elsewhere says what to answer for a command of another state.
	elsewhere() string
}

func newConn(s *Server, nc net.Conn, id uint64) *Conn {
	c := &Conn{server: s, limits: s.Limits.withDefaults(), net: nc, began: time.Now(), state: &authorization{}}
	c.log = s.logger().With("conn", id, "remote", nc.RemoteAddr().String(), "service", "pop3")
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.use(nc)
	return c
}

// use makes nc what is read from and written to; whatever was read ahead is forgotten.
func (c *Conn) use(nc net.Conn) {
	c.deadline = deadline{}
	c.in = &source{Conn: nc}
	c.r = bufio.NewReaderSize(c.in, readBuffer)
	c.out = output{to: newPacer(nc), writers: &c.server.writers}
}

// RemoteAddr returns the client's address.
func (c *Conn) RemoteAddr() net.Addr {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.net.RemoteAddr()
}

// TLS returns the state of TLS; ok is false on a connection without.
func (c *Conn) TLS() (state tls.ConnectionState, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t, isTLS := c.net.(interface{ ConnectionState() tls.ConnectionState }); isTLS {
		return t.ConnectionState(), true
	}
	return tls.ConnectionState{}, false
}

// drain asks the connection to end before its next command.
func (c *Conn) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.draining = true
	_ = c.net.SetReadDeadline(time.Unix(1, 0)) // wakes a waiting read
}

// kill cuts the connection.
func (c *Conn) kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.killed = true
	c.cancel()
	_ = c.net.Close()
}

// errDrained, errQuit and errEnough end the command loop in good order.
var (
	errDrained = errors.New("pop3: server is stopping")
	errQuit    = errors.New("pop3: connection ended")
	errEnough  = errors.New("pop3: too many bad commands")
)

// serve is the life of a connection.
func (c *Conn) serve() {
	var err error
	defer func() { c.finish(err) }()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("pop3: panic: %v", p)
			c.log.Error("panic in a POP3 session", "panic", p, "stack", string(debug.Stack()))
			_ = c.say(no(CodeTemp, "internal error, closing")) // it ends in any case
		}
	}()
	if err = c.greet(); err != nil {
		return
	}
	for err == nil {
		err = c.step()
	}
}

// greet begins the session (RFC 1939 §4).
func (c *Conn) greet() error {
	session, err := c.server.Backend.NewSession(c.ctx, c)
	if err != nil {
		r := refusal(err)
		c.logCause(r)
		return errors.Join(c.say(r), errQuit)
	}
	c.session = session
	text := c.server.Hostname + " POP3 server ready"
	if _, ok := session.(APOPSession); ok {
		var unique [8]byte
		_, _ = rand.Read(unique[:]) // never fails: crypto/rand ends the process instead
		c.timestamp = fmt.Sprintf("<%d.%s@%s>", os.Getpid(), hex.EncodeToString(unique[:]), c.server.Hostname)
		text += " " + c.timestamp
	}
	return c.say(ok(text))
}

// step reads one command and answers it.
func (c *Conn) step() error {
	line, err := c.readLine(maxCommandLine)
	switch {
	case errors.Is(err, errLineTooLong):
		return c.answer(bad("command line too long"))
	case errors.Is(err, errDrained):
		return errors.Join(c.say(reply{code: CodeTemp, text: "server is stopping, try again soon"}), err)
	case err != nil:
		return err
	}
	name, arg := splitCommand(line)
	cmd, known := c.state.commands()[name]
	if !known {
		return c.answer(c.unknown(name))
	}
	return c.answer(cmd(c, arg))
}

// unknown answers a command that the state does not have.
func (c *Conn) unknown(name string) reply {
	switch {
	case name == "XTND":
		// Netscape probes for it and goes on without: not a strike.
		return no(CodeNone, "XTND is not supported")
	case commandNames[name]:
		return bad(c.state.elsewhere())
	default:
		return bad("unknown command")
	}
}

// answer sends a reply and draws the consequences. It is the only way for a command to speak.
func (c *Conn) answer(r reply) error {
	if r.release != nil {
		defer c.guarded("giving a message back", r.release.Close)
	}
	c.logCause(r)
	if r.bad {
		c.strikes++
	}
	if r.failed {
		c.failed++
	}
	_, early := c.state.(*authorization)
	tooMany := early && c.strikes >= maxBadEarly || c.strikes >= maxBadLate || c.failed >= maxFailedLogins
	if err := c.say(r); err != nil {
		return err
	}
	switch {
	case tooMany:
		return errEnough
	case r.closing:
		return errQuit
	case r.then != nil:
		return r.then()
	}
	return nil
}

// say writes a reply. What the client pipelined is answered in one write (RFC 2449 §6.6).
func (c *Conn) say(r reply) error {
	w := c.out.begin()
	if _, err := w.Write(r.appendLine(w.AvailableBuffer())); err != nil {
		return err
	}
	if r.body != nil {
		d := &dotWriter{w: w}
		if err := r.body(d); err != nil {
			return err
		}
		if err := d.end(); err != nil {
			return err
		}
	}
	if c.asked() && !r.closing && r.then == nil {
		return nil
	}
	return c.out.Flush()
}

func (c *Conn) logCause(r reply) {
	if r.cause != nil {
		c.log.Error("POP3 command failed", "reply", r.text, "err", r.cause)
	}
}

// wait is how long the next command may take to come.
func (c *Conn) wait() time.Duration {
	idle := c.limits.Idle
	if _, early := c.state.(*authorization); early {
		idle = c.limits.Login
	}
	return min(idle, c.limits.Session-time.Since(c.began))
}

// finish closes everything, whatever happened.
func (c *Conn) finish(err error) {
	c.cancel()
	if t, open := c.state.(*transaction); open {
		c.guarded("closing a maildrop", t.maildrop.Close)
	}
	if c.session != nil {
		c.guarded("ending a session", c.session.Logout)
	}
	_ = c.out.Flush() // what was said before the end; the connection may be gone
	c.mu.Lock()
	_ = c.net.Close() // ours or already closed
	c.mu.Unlock()
	c.log.Debug("connection ended", "err", err)
}

func (c *Conn) guarded(what string, do func() error) {
	defer func() {
		if p := recover(); p != nil {
			c.log.Error("panic in a POP3 session", "while", what, "panic", p, "stack", string(debug.Stack()))
		}
	}()
	if err := do(); err != nil {
		c.log.Error("POP3 session did not end well", "while", what, "err", err)
	}
}
