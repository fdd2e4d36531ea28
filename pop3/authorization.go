package pop3

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"strings"
)

// PasswordSession is a Session that does not always take USER and PASS, for example not before TLS (RFC 2595 §2.1).
type PasswordSession interface {
	Session
	// RefusePassword returns why USER and PASS may not be used on the connection as it is now, or nil. CAPA then leaves USER out.
	RefusePassword() *Error
}

// authorization is the AUTHORIZATION state (RFC 1939 §4).
type authorization struct {
	// user is the name of the last USER; named is set after one, until the next other login command.
	user  string
	named bool
}

func (*authorization) commands() map[string]command { return authorizationCommands }

func (*authorization) elsewhere() string { return "log in first" }

// passwordRefusal returns why USER and PASS may not be used now, or nil.
func (c *Conn) passwordRefusal() *Error {
	if s, ok := c.session.(PasswordSession); ok {
		return s.RefusePassword()
	}
	return nil
}

// cmdUser takes a name (RFC 1939 §7). The answer is the same for every name, so it tells nobody which mailboxes exist.
func cmdUser(c *Conn, arg string) reply {
	a := c.state.(*authorization)
	a.named = false
	if refused := c.passwordRefusal(); refused != nil {
		return failedLogin(refused)
	}
	if strings.TrimSpace(arg) == "" {
		return bad("USER needs a name")
	}
	a.user, a.named = arg, true
	return ok("now the password")
}

// cmdPass takes the password: everything after the one space, blanks included (RFC 1939 §7).
func cmdPass(c *Conn, arg string) reply {
	a := c.state.(*authorization)
	user, named := a.user, a.named
	a.user, a.named = "", false
	if refused := c.passwordRefusal(); refused != nil {
		return failedLogin(refused)
	}
	if !named {
		return bad("USER first")
	}
	return c.login(func(ctx context.Context) error { return c.session.Login(ctx, user, arg) })
}

// cmdAPOP takes a name and a digest (RFC 1939 §7).
func cmdAPOP(c *Conn, arg string) reply {
	c.state.(*authorization).named = false
	s, available := c.session.(APOPSession)
	if !available {
		return bad("APOP is not available here")
	}
	args := fields(arg)
	if len(args) != 2 {
		return bad("APOP needs a name and a digest")
	}
	var digest [16]byte
	raw, err := hex.DecodeString(args[1])
	if err != nil || len(raw) != len(digest) {
		return bad("a digest has 32 hex digits")
	}
	copy(digest[:], raw)
	return c.login(func(ctx context.Context) error { return s.APOP(ctx, args[0], c.timestamp, digest) })
}

// login proves who the client is and opens the maildrop.
func (c *Conn) login(prove func(ctx context.Context) error) reply {
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	stop := c.watch(cancel)
	err := prove(ctx)
	stop()
	if err != nil {
		return failedLogin(err)
	}
	return c.open()
}

func failedLogin(err error) reply {
	r := refusal(err)
	r.failed = true
	return r
}

// open enters the TRANSACTION state (RFC 1939 §5).
func (c *Conn) open() reply {
	maildrop, err := c.session.Open(c.ctx)
	if err != nil {
		return refusal(err)
	}
	t := newTransaction(maildrop)
	c.state, c.strikes = t, 0
	return ok(t.summary())
}

// cmdSTLS begins TLS (RFC 2595 §4).
func cmdSTLS(c *Conn, arg string) reply {
	_, secure := c.TLS()
	switch {
	case len(fields(arg)) > 0:
		return bad("STLS has no arguments")
	case secure:
		return bad("TLS is active already")
	case c.server.TLSConfig == nil:
		return bad("TLS is not available")
	}
	return reply{ok: true, text: "begin TLS", then: c.startTLS}
}

// startTLS does the handshake and forgets what was said in the clear, what was read ahead included: a stranger on the way may have
// put it there.
func (c *Conn) startTLS() error {
	if n := c.r.Buffered(); n > 0 {
		c.log.Warn("data sent before the TLS handshake dropped", "octets", n)
	}
	if err := c.setReadDeadline(c.limits.Handshake); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.ctx, c.limits.Handshake)
	defer cancel()
	conn := tls.Server(c.in.Conn, c.server.TLSConfig)
	if err := conn.HandshakeContext(ctx); err != nil {
		c.log.Info("TLS handshake failed", "err", err)
		return err
	}
	c.mu.Lock()
	c.net = conn
	killed := c.killed
	c.mu.Unlock()
	if killed {
		return errQuit
	}
	c.use(conn)
	c.state = &authorization{}
	return nil
}

// cmdQuitEarly ends a connection that has no maildrop: nothing is updated (RFC 1939 §4).
func cmdQuitEarly(*Conn, string) reply { return reply{ok: true, text: "bye", closing: true} }
