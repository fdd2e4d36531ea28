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
	"strings"
	"sync"
	"time"
)

// Conn is one client's connection. Backends ask it where the client is; the rest is the server's.
type Conn struct {
	server *Server
	limits Limits
	id     uint64
	ctx    context.Context
	cancel context.CancelFunc
	began  time.Time
	// silence says since when the client is waited for.
	silence silence

	mu       sync.Mutex // protects the fields below
	net      net.Conn   // replaced by STLS
	deadline deadline   // of reading
	draining bool
	killed   bool
	waiting  bool // for a line of the client's
	ended    bool // by End, with farewell for the client
	farewell *Error
	utf8     bool // read by the serving goroutine without the lock, as nobody else writes it

	// The rest belongs to the serving goroutine.
	in        *source
	r         *bufio.Reader
	out       output
	dots      dotWriter // of the reply that is being sent
	session   Session
	timestamp string // of the greeting, for APOP
	voice     voice
	state     state
	strikes   int
	failed    int // logins
	habits    habits
}

// state is what a connection may do. A state that has data is a type that carries it.
type state interface {
	commands() map[string]command
	// elsewhere says what to answer for a command of another state.
	elsewhere() text
}

func newConn(s *Server, nc net.Conn, id uint64) *Conn {
	c := &Conn{server: s, limits: s.Limits.withDefaults(), net: nc, id: id, began: time.Now(), state: &authorization{}}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.silence.began = c.began
	c.use(nc)
	return c
}

// use makes nc what is read from and written to; whatever was read ahead is forgotten.
func (c *Conn) use(nc net.Conn) {
	c.deadline = deadline{}
	c.in = &source{Conn: nc, silence: &c.silence}
	c.r = bufio.NewReaderSize(c.in, readBuffer)
	c.out = output{to: newPacer(nc, &c.silence), writers: &c.server.writers}
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

// handshaken reports whether TLS has begun already: whoever accepted the connection may have seen to that.
func (c *Conn) handshaken() bool {
	state, _ := c.TLS()
	return state.HandshakeComplete
}

// UTF8 reports whether the client has said UTF8 (RFC 6856 §2.1): then messages go out as they are. Without it no octet above 0x7F may be in a
// header, see [UTF8Maildrop]. The mode is chosen before login, so it is what it is when a maildrop is opened.
func (c *Conn) UTF8() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.utf8
}

// drain asks the connection to end before its next command.
func (c *Conn) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wake()
}

// wake is drain with mu held.
func (c *Conn) wake() {
	c.draining = true
	_ = c.net.SetReadDeadline(time.Unix(1, 0)) // wakes a waiting read
}

// kill cuts the connection.
func (c *Conn) kill() {
	c.mu.Lock()
	c.killed = true
	conn := c.net
	c.mu.Unlock()
	c.cancel()
	_ = conn.Close() // without the lock: TLS says that it ends
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
			c.log().Error("panic in a POP3 session", "panic", p, "stack", string(debug.Stack()))
			r := no(CodeTemp, textInternal)
			_ = c.say(&r) // it ends in any case
		}
	}()
	for err = c.welcome(); err == nil; {
		err = c.step()
	}
}

// welcome brings the connection to where commands come.
//
//go:noinline
func (c *Conn) welcome() error {
	if conn, secure := c.net.(handshaker); secure && !c.handshaken() {
		if err := c.handshake(conn); err != nil {
			return err
		}
	}
	return c.greet()
}

// greet begins the session (RFC 1939 §4).
func (c *Conn) greet() error {
	session, err := c.server.Backend.NewSession(c.ctx, c)
	if err != nil {
		r := c.refusal(err)
		c.logCause(&r)
		return errors.Join(c.say(&r), errQuit)
	}
	c.session = session
	host := c.server.host()
	r := ok(textGreeting).with(strings.Trim(host, "[]")) // a bracket would begin a response code (RFC 2449 §6.4)
	if _, ok := session.(APOPSession); ok {
		var unique [8]byte
		_, _ = rand.Read(unique[:]) // never fails: crypto/rand ends the process instead
		c.timestamp = fmt.Sprintf("<%d.%s@%s>", os.Getpid(), hex.EncodeToString(unique[:]), host)
		r.text, r.s[1] = textGreetingAPOP, c.timestamp
	}
	return c.say(&r)
}

// step reads one command and answers it. Idle sessions wait in here, and what waits with them on their stack is theirs for as long: nothing
// that is needed later is.
func (c *Conn) step() error { return c.obey(c.readLine(maxCommandLine)) }

// obey answers a command, or what came in place of one.
//
//go:noinline
func (c *Conn) obey(line []byte, err error) error {
	switch {
	case errors.Is(err, errLineTooLong):
		return c.answer(bad(textLineTooLong))
	case errors.Is(err, errDrained):
		r := c.lastWords()
		c.logCause(&r)
		return errors.Join(c.say(&r), err)
	case err != nil:
		return err
	}
	name, arg := splitCommand(line)
	c.habits.note(name, arg)
	cmd, known := c.state.commands()[string(name)]
	if !known {
		return c.answer(c.unknown(name))
	}
	return c.answer(cmd(c, arg))
}

// unknown answers a command that the state does not have.
func (c *Conn) unknown(name []byte) reply {
	switch {
	case string(name) == "XTND":
		// Netscape probes for it and goes on without: not a strike.
		return no(CodeNone, textNoXTND)
	case commandNames[string(name)]:
		return bad(c.state.elsewhere())
	default:
		return bad(textUnknown)
	}
}

// answer sends a reply and draws the consequences. It is the only way for a command to speak.
func (c *Conn) answer(r reply) error {
	if r.lost {
		return r.cause
	}
	if r.release != nil {
		defer c.guarded("giving a message back", r.release.Close)
	}
	c.logCause(&r)
	if r.bad {
		c.strikes++
	}
	if r.failed {
		c.failed++
	}
	tooMany := c.early() && c.strikes >= maxBadEarly || c.strikes >= maxBadLate || c.failed >= maxFailedLogins
	if err := c.say(&r); err != nil {
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
func (c *Conn) say(r *reply) error {
	w := c.out.begin(c.ends())
	if _, err := w.Write(r.appendLine(w.AvailableBuffer(), c.voice)); err != nil {
		return err
	}
	if r.body != nil {
		c.dots = dotWriter{w: w}
		err := r.body.writeTo(&c.dots)
		if err == nil {
			err = c.dots.end()
		}
		c.dots = dotWriter{} // the writer is lent
		if err != nil {
			return err
		}
	}
	if c.asked() && !r.closing && r.then == nil {
		return nil
	}
	return c.out.Flush()
}

func (c *Conn) logCause(r *reply) {
	if r.cause != nil {
		c.log().Error("POP3 command failed", "reply", r.render(c.voice), "err", r.cause)
	}
}

// early reports whether nobody has logged in yet.
func (c *Conn) early() bool {
	_, early := c.state.(*authorization)
	return early
}

// ends is when the connection's time is over, however busy it is.
func (c *Conn) ends() time.Time {
	if c.early() {
		return c.began.Add(min(maxLoginWaits*c.limits.Login, c.limits.Session))
	}
	return c.began.Add(c.limits.Session)
}

// wait is how long the next command may take to come.
func (c *Conn) wait() time.Duration {
	left := time.Until(c.ends())
	if c.early() {
		return min(c.limits.Login, left)
	}
	return min(c.limits.Idle, left)
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
	conn := c.net
	c.mu.Unlock()
	_ = conn.Close() // ours or already closed
	if !c.server.logger().Enabled(context.Background(), slog.LevelDebug) {
		return
	}
	attrs := []any{"err", err}
	if t, secure := c.TLS(); secure {
		attrs = append(attrs, "tls", tls.VersionName(t.Version), "cipher", tls.CipherSuiteName(t.CipherSuite)) // RFC 8314 §4
	}
	c.log().Debug("connection ended", attrs...)
}

// log is where the connection's events go. Most have none, so it is made when it is needed.
func (c *Conn) log() *slog.Logger {
	return c.server.logger().With("conn", c.id, "remote", c.RemoteAddr().String(), "service", "pop3")
}

func (c *Conn) guarded(what string, do func() error) {
	defer func() {
		if p := recover(); p != nil {
			c.log().Error("panic in a POP3 session", "while", what, "panic", p, "stack", string(debug.Stack()))
		}
	}()
	if err := do(); err != nil {
		c.log().Error("POP3 session did not end well", "while", what, "err", err)
	}
}
