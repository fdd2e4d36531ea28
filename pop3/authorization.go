package pop3

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"time"
)

// PasswordSession is a Session that does not always take USER and PASS, for example not before TLS (RFC 2595 §2.3).
type PasswordSession interface {
	Session
	// RefusePassword returns why USER and PASS may not be used on the connection as it is now, or nil. CAPA then leaves USER out.
	RefusePassword() *Error
}

// ClearSession is a PasswordSession that is told of passwords which came all the same, with a command that was refused: by then they have crossed
// the network. Nothing that it does changes the answer.
type ClearSession interface {
	PasswordSession
	// PasswordInClear is told the name of a USER and the password of a PASS that RefusePassword refused.
	PasswordInClear(username, password string)
	// ResponseInClear is told the initial response (RFC 5034 §4), decoded, of an AUTH that Auth refused; mech is in upper case.
	ResponseInClear(mech string, response []byte)
}

// authorization is the AUTHORIZATION state (RFC 1939 §4).
type authorization struct {
	// user is the name of the last USER; named is set after one, until the next other login command.
	user  string
	named bool
	// refused is the name of the last USER if that was refused.
	refused string
}

func (*authorization) commands() map[string]command { return authorizationCommands }

func (*authorization) elsewhere() text { return textLogInFirst }

// passwordRefusal returns why USER and PASS may not be used now, or nil.
func (c *Conn) passwordRefusal() *Error {
	if s, ok := c.session.(PasswordSession); ok {
		return s.RefusePassword()
	}
	return nil
}

// cmdUser takes a name (RFC 1939 §7). The answer is the same for every name, so it tells nobody which mailboxes exist.
func cmdUser(c *Conn, arg []byte) reply {
	a := c.state.(*authorization)
	a.named = false
	if refused := c.passwordRefusal(); refused != nil {
		a.refused = string(arg)
		return c.failedLogin(refused)
	}
	switch {
	case isEmpty(arg):
		return bad(textUserNeedsName)
	case c.isMisspelt(arg):
		return misspelt(arg)
	}
	a.user, a.named = string(arg), true
	return ok(textNowPassword)
}

// cmdPass takes the password: everything after the one space, blanks included (RFC 1939 §7).
func cmdPass(c *Conn, arg []byte) reply {
	a := c.state.(*authorization)
	user, named := a.user, a.named
	a.user, a.named = "", false
	if refused := c.passwordRefusal(); refused != nil {
		if s, told := c.session.(ClearSession); told && a.refused != "" {
			s.PasswordInClear(a.refused, string(arg))
		}
		a.refused = ""
		return c.failedLogin(refused)
	}
	switch {
	case !named:
		return bad(textUserFirst)
	case c.isMisspelt(arg):
		return misspelt(arg)
	}
	password := string(arg)
	return c.login(func(ctx context.Context) error { return c.session.Login(ctx, user, password) })
}

// cmdAPOP takes a name and a digest (RFC 1939 §7).
func cmdAPOP(c *Conn, arg []byte) reply {
	c.state.(*authorization).named = false
	s, available := c.session.(APOPSession)
	if !available {
		return bad(textNoAPOP)
	}
	args := words(arg)
	if args.n != 2 {
		return bad(textAPOPArguments)
	}
	var digest [16]byte
	raw, err := hex.DecodeString(string(args.at[1]))
	switch {
	case err != nil || len(raw) != len(digest):
		return bad(textAPOPDigest)
	case c.isMisspelt(args.at[0]):
		return misspelt(args.at[0])
	}
	copy(digest[:], raw)
	user := string(args.at[0])
	return c.login(func(ctx context.Context) error { return s.APOP(ctx, user, c.timestamp, digest) })
}

// isMisspelt reports whether a name or password must be refused: where UTF-8 is promised for them (RFC 6856 §2.2), for what it is made of.
func (c *Conn) isMisspelt(arg []byte) bool {
	return misspelling(arg) != textNone && c.policy().UTF8User
}

func misspelt(arg []byte) reply { return reply{code: CodeAuth, text: misspelling(arg), failed: true} }

// login proves who the client is and opens the maildrop.
func (c *Conn) login(prove func(ctx context.Context) error) reply {
	w := c.newWork()
	w.begin()
	err := prove(w)
	w.end()
	if err != nil {
		return c.failedLogin(err)
	}
	return c.open()
}

func (c *Conn) failedLogin(err error) reply {
	r := c.refusal(err)
	r.failed = true
	return r
}

// open enters the TRANSACTION state (RFC 1939 §5).
func (c *Conn) open() reply {
	maildrop, err := c.session.Open(c.ctx)
	if err != nil {
		return c.refusal(err)
	}
	t := newTransaction(c, maildrop)
	c.state, c.strikes = t, 0
	return t.summary()
}

// maySTLS reports whether STLS is possible now (RFC 2595 §4, RFC 6856 §2.1); if not, why.
func (c *Conn) maySTLS() (refused text, is bool) {
	_, secure := c.TLS()
	switch {
	case secure:
		return textTLSActive, false
	case c.server.TLSConfig == nil:
		return textNoTLS, false
	case c.utf8:
		return textTLSAfterUTF8, false
	}
	return textNone, true
}

// cmdSTLS begins TLS (RFC 2595 §4).
func cmdSTLS(c *Conn, arg []byte) reply {
	if !isEmpty(arg) {
		return bad(textNoArguments).with("STLS")
	}
	if refused, is := c.maySTLS(); !is {
		return bad(refused)
	}
	return reply{ok: true, text: textBeginTLS, then: c.startTLS}
}

// startTLS does the handshake and forgets what was said in the clear, what was read ahead included: a stranger on the way may have
// put it there.
func (c *Conn) startTLS() error {
	if n := c.r.Buffered(); n > 0 {
		if skipped, say := c.server.injections.ask(time.Now()); say {
			c.log().Warn("data sent before the TLS handshake dropped", "octets", n, "not_logged_before", skipped)
		}
	}
	conn := tls.Server(c.in.Conn, c.server.TLSConfig)
	if err := c.handshake(conn); err != nil {
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
	c.state, c.voice = &authorization{}, voice{}
	return nil
}

// handshaker is what a *tls.Conn has.
type handshaker interface {
	HandshakeContext(ctx context.Context) error
}

// handshake does a TLS handshake, on a goroutine of its own: it needs a large stack, which this one would keep for all of the session.
func (c *Conn) handshake(conn handshaker) error {
	if err := c.setReadDeadline(c.limits.Handshake); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.ctx, c.limits.Handshake)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		err := errors.New("pop3: TLS handshake panicked")
		defer func() { done <- err }()
		c.guarded("doing a TLS handshake", func() error {
			err = conn.HandshakeContext(ctx)
			return nil
		})
	}()
	err := <-done
	if err == nil {
		return nil
	}
	if skipped, say := c.server.failures.ask(time.Now()); say {
		c.log().Info("TLS handshake failed", "err", err, "not_logged_before", skipped)
	}
	return err
}

// cmdQuitEarly ends a connection that has no maildrop: nothing is updated (RFC 1939 §4).
func cmdQuitEarly(*Conn, []byte) reply { return reply{ok: true, text: textBye, closing: true} }
