package smtp

import (
	"errors"

	"github.com/emersion/go-sasl"

	"latchkey/auth"
	"latchkey/internal/refusal"
)

// AuthMechanisms lists what the connection may use as it is now. On a connection in the clear that may not carry a password there is
// none, so EHLO does not offer AUTH (RFC 4954 §4).
func (s *session) AuthMechanisms() []string {
	if s.authPossible() != nil {
		return nil
	}
	return []string{"PLAIN", "LOGIN"}
}

// authPossible says why AUTH is not possible here and now, or nil.
func (s *session) authPossible() error {
	if s.srv.opts.Door == MX {
		settings, err := s.srv.opts.Store.Settings(s.ctx)
		if err != nil {
			return err
		}
		if !settings.AuthOnMX {
			return refuse(refusal.AuthNotHere)
		}
	}
	if s.tls == nil && !s.srv.opts.Auth.CleartextAllowed(s.ctx, s.remote) {
		return auth.ErrCleartext
	}
	return nil
}

// Auth begins an exchange.
func (s *session) Auth(mech string) (sasl.Server, error) {
	var server sasl.Server
	err := s.safely("AUTH", func() (err error) {
		server, err = s.beginAuth(mech)
		return err
	})
	return server, s.answer("AUTH", err)
}

func (s *session) beginAuth(mech string) (sasl.Server, error) {
	s.authAttempts++
	switch {
	case s.dead:
		return nil, closing()
	case s.tx.Load() != nil:
		// RFC 4954 §4: not during a mail transaction.
		return nil, refuse(refusal.AuthInTransaction)
	case s.authAttempts > s.srv.limits.AuthAttempts:
		return nil, tooManyLogins()
	}
	if err := s.authPossible(); err != nil {
		return nil, err
	}
	e := &exchange{session: s}
	login := func(username, password string) error {
		e.asked = true
		return s.login(mech, username, password)
	}
	switch mech {
	case "PLAIN":
		e.server = auth.NewPlainServer(login)
		return e, nil
	case "LOGIN":
		e.server = auth.NewLoginServer(login)
		return e, nil
	}
	return nil, refuse(refusal.AuthMechanism)
}

func (s *session) login(mech, username, password string) error {
	identity, err := s.srv.opts.Auth.Login(s.ctx, auth.Attempt{
		Service: "smtp", Mechanism: mech, Remote: s.remote, TLS: s.tls != nil,
	}, username, password)
	if err != nil {
		return err
	}
	s.who = authenticated{identity}
	s.wire.loggedIn()
	return nil
}

// exchange is one AUTH exchange, with every error turned into a reply.
type exchange struct {
	session *session
	server  sasl.Server
	// asked is set when a name and a password were looked at: an error before that is one of form.
	asked bool
}

// Next goes one step on.
func (e *exchange) Next(response []byte) (challenge []byte, done bool, err error) {
	s := e.session
	err = s.safely("AUTH", func() (err error) {
		challenge, done, err = e.server.Next(response)
		return err
	})
	switch {
	case err == nil:
		s.wire.earned()
		return challenge, done, nil
	case errors.Is(err, auth.ErrCredentials), errors.Is(err, auth.ErrSuspended), errors.Is(err, auth.ErrThrottled),
		errors.Is(err, auth.ErrIdentity):
		s.authFailures++
	case !e.asked && !errors.Is(err, errPanic):
		err = refuse(refusal.AuthMalformed).because(err)
	}
	if s.authFailures >= s.srv.limits.AuthFailures {
		err = tooManyLogins().because(err)
	}
	return nil, false, s.answer("AUTH", err)
}

// current makes sure that the password that was proved still is the account's.
func (s *session) current(who authenticated) error {
	err := s.srv.opts.Auth.Current(s.ctx, who.identity)
	if errors.Is(err, auth.ErrCredentials) || errors.Is(err, auth.ErrSuspended) {
		return refuse(refusal.AuthChanged).because(err)
	}
	return err
}

func tooManyLogins() *refused {
	return refuse(refusal.AuthFailures)
}
