package smtp

import (
	"crypto/tls"
	"errors"
	"slices"
	"strings"

	"github.com/emersion/go-sasl"

	"latchkey/auth"
	"latchkey/internal/refusal"
	"latchkey/store"
)

// AuthMechanisms lists what the connection may use as it is now. On a connection in the clear that may not carry a password there is
// none, so EHLO does not offer AUTH (RFC 4954 §4).
func (s *session) AuthMechanisms() []string {
	if s.authPossible() != nil {
		return nil
	}
	var further []string
	if s.srv.opts.Challenges != nil {
		further = s.srv.opts.Challenges.Mechanisms()
	}
	if s.srv.opts.OldClients == nil {
		return append([]string{"PLAIN", "LOGIN"}, further...)
	}
	// Deviation: Outlook Express 4 and the client of Exchange 5.0 look for AUTH=, as drafts of RFC 2554 had it. go-smtp makes lines of a reply
	// at LF, so the last name brings a line of its own.
	names := append([]string{"LOGIN", "PLAIN"}, further...)
	all := strings.Join(names, " ")
	names[len(names)-1] += "\nAUTH=" + all
	return names
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
	if s.tls == nil && s.srv.opts.OldClients == nil && !s.srv.opts.Auth.CleartextAllowed(s.ctx, s.remote) {
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
	case "NTLM", "GSSAPI":
		return nil, refuse(refusal.AuthSPA)
	}
	return s.beginChallenge(e, mech)
}

// beginChallenge begins an exchange of a mechanism beside PLAIN and LOGIN. Its server says itself which errors are of form.
func (s *session) beginChallenge(e *exchange, mech string) (sasl.Server, error) {
	c := s.srv.opts.Challenges
	if c == nil || !slices.Contains(c.Mechanisms(), mech) {
		return nil, refuse(refusal.AuthMechanism)
	}
	admit := func(identity auth.Identity) error { return s.admitOwner(mech, identity) }
	server, err := c.Begin(s.ctx, s.attempt(mech), mech, admit)
	if err != nil {
		return nil, err
	}
	e.server, e.asked = server, true
	return e, nil
}

func (s *session) attempt(mech string) auth.Attempt {
	return auth.Attempt{
		Service: "smtp", Mechanism: mech, Remote: s.remote, TLS: s.tls != nil, OldDoor: s.srv.opts.OldClients != nil,
	}
}

func (s *session) login(mech, username, password string) error {
	identity, err := s.srv.opts.Auth.Login(s.ctx, s.attempt(mech), username, password)
	if err != nil {
		return err
	}
	return s.admitOwner(mech, identity)
}

// admitOwner takes the client for whom it has proved to be, if that mailbox may use this door.
func (s *session) admitOwner(mech string, identity auth.Identity) error {
	if rule := s.srv.opts.OldClients; rule != nil {
		allowed, err := rule.Allowed(s.ctx, s.remote, identity.Account)
		if err != nil {
			return err
		}
		if !allowed {
			return s.notForOldClients()
		}
	}
	s.who = authenticated{identity}
	s.wire.loggedIn()
	s.noted(mech, identity.Account)
	return nil
}

// noted tells the inventory of a login. Of the habits of SMTP clients it has the greeting; the name in it is the client's own affair.
func (s *session) noted(mech string, account store.AccountID) {
	if s.srv.opts.Inventory == nil {
		return
	}
	now := s.srv.opts.Now()
	c := store.Client{Account: account, Program: "EHLO", Door: s.srv.opts.Name, Mechanism: mech, Address: s.remote, First: now, Last: now, Sessions: 1}
	if s.helo {
		c.Program = "HELO"
	}
	if s.tls != nil {
		c.TLS = tls.VersionName(s.tls.Version)
	}
	s.srv.opts.Inventory.Note(c)
}

// notForOldClients is the refusal of a right password at a door for old clients. Who listens on the way learns no more than of a wrong one
// (RFC 8314 §4.1); under TLS the client is told where to go.
func (s *session) notForOldClients() error {
	if s.tls == nil {
		s.log.Info("the password is right, but the mailbox may not use the door for old clients")
		return auth.ErrCredentials
	}
	settings, err := s.srv.opts.Store.Settings(s.ctx)
	if err != nil {
		return err
	}
	return refuse(refusal.AuthOldClient).with(refusal.Facts{Help: settings.HelpURL})
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
	case errors.Is(err, auth.ErrBanned):
		return nil, false, s.answer("AUTH", s.banned(err))
	case errors.Is(err, auth.ErrCredentials), errors.Is(err, auth.ErrSuspended), errors.Is(err, auth.ErrThrottled),
		errors.Is(err, auth.ErrIdentity):
		s.authFailures++
	case !e.asked && !errors.Is(err, errPanic), errors.Is(err, sasl.ErrUnexpectedClientResponse):
		err = refuse(refusal.AuthMalformed).because(err)
	}
	if s.authFailures >= s.srv.limits.AuthFailures {
		err = tooManyLogins().because(err)
	}
	return nil, false, s.answer("AUTH", err)
}

// banned says how long a ban lasts, and where help is.
func (s *session) banned(err error) error {
	facts := refusal.Facts{Remote: s.remote}
	var ban *auth.Banned
	if errors.As(err, &ban) {
		facts.Wait = ban.Wait
	}
	if settings, err := s.srv.opts.Store.Settings(s.ctx); err == nil {
		facts.Help = settings.HelpURL
	}
	return refuse(refusal.AuthBanned).because(err).with(facts)
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
