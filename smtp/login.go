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

// AuthMechanisms lists what the connection may use as it is now: PLAIN and LOGIN where it may carry a password, and behind them the challenges. Where
// there is none, EHLO does not offer AUTH (RFC 4954 §4).
func (s *session) AuthMechanisms() []string {
	if s.authHere() != nil {
		return nil
	}
	var names []string
	if s.passwordAllowed() {
		names = []string{"PLAIN", "LOGIN"}
	}
	if names = append(names, s.challenges()...); s.srv.opts.OldClients == nil {
		return names
	}
	// Deviation: Outlook Express 4 and the client of Exchange 5.0 look for AUTH=, as drafts of RFC 2554 had it. go-smtp makes lines of a reply
	// at LF, so the last name brings a line of its own.
	names[0], names[1] = "LOGIN", "PLAIN"
	all := strings.Join(names, " ")
	names[len(names)-1] += "\nAUTH=" + all
	return names
}

// authHere says why AUTH is not possible at this door, or nil.
func (s *session) authHere() error {
	if s.srv.opts.Door != MX {
		return nil
	}
	settings, err := s.srv.opts.Store.Settings(s.ctx)
	if err == nil && !settings.AuthOnMX {
		err = refuse(refusal.AuthNotHere)
	}
	return err
}

// passwordAllowed reports whether a password may come over the connection as it is now.
func (s *session) passwordAllowed() bool {
	return s.tls != nil || s.srv.opts.OldClients != nil || s.srv.opts.Auth.CleartextAllowed(s.ctx, s.remote)
}

// challenges lists the mechanisms that carry no password.
func (s *session) challenges() []string {
	if s.srv.opts.Challenges == nil {
		return nil
	}
	return s.srv.opts.Challenges.Mechanisms(s.ctx, s.attempt(""), s.tls)
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
	if err := s.authHere(); err != nil {
		return nil, err
	}
	e := &exchange{session: s}
	login := func(username, password string) error {
		e.asked = true
		return s.login(mech, username, password)
	}
	switch {
	case mech == "NTLM", mech == "GSSAPI":
		return nil, refuse(refusal.AuthSPA)
	case slices.Contains(s.challenges(), mech):
		return s.beginChallenge(e, mech)
	case !s.passwordAllowed() && mech == "PLAIN":
		return &clearExchange{session: s}, nil
	case !s.passwordAllowed():
		return nil, auth.ErrCleartext
	case mech == "PLAIN":
		e.server = auth.NewPlainServer(login)
	case mech == "LOGIN":
		e.server = auth.NewLoginServer(login)
	default:
		return nil, refuse(refusal.AuthMechanism)
	}
	return e, nil
}

// beginChallenge begins an exchange of a mechanism that carries no password. Its server says itself which errors are of form.
func (s *session) beginChallenge(e *exchange, mech string) (sasl.Server, error) {
	admit := func(identity auth.Identity) error { return s.admitOwner(mech, identity) }
	server, err := s.srv.opts.Challenges.Begin(s.ctx, s.attempt(mech), s.tls, admit)
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
	s.who = authenticated{identity: identity}
	s.wire.loggedIn()
	s.noted(mech, identity)
	return nil
}

// noted tells the inventory of a login. Of the habits of SMTP clients it has the greeting; the name in it is the client's own affair.
func (s *session) noted(mech string, who auth.Identity) {
	if s.srv.opts.Inventory == nil {
		return
	}
	now := s.srv.opts.Now()
	c := store.Client{
		Account: who.Account, Program: "EHLO", Door: s.srv.opts.Name, Mechanism: mech, Device: who.DeviceName, Address: s.remote,
		First: now, Last: now, Sessions: 1,
	}
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
	case errors.Is(err, auth.ErrDeviceNetwork), errors.Is(err, auth.ErrDeviceScope), errors.Is(err, auth.ErrDeviceExpired),
		errors.Is(err, auth.ErrExposed):
		s.authFailures++
		err = s.notThisPassword(err)
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

// clearExchange refuses PLAIN where no password may come, and tells of the one that came all the same with the command (RFC 4954 §4: an initial
// response).
type clearExchange struct{ session *session }

// Next asks for nothing. Whatever the response is, the answer is the same.
func (e *clearExchange) Next(response []byte) (challenge []byte, done bool, err error) {
	s := e.session
	err = s.safely("AUTH", func() error {
		if response != nil {
			auth.ReadPlain(response, func(username, password string) {
				s.srv.opts.Auth.ArrivedInClear(s.attempt("PLAIN"), username, password)
			})
		}
		return auth.ErrCleartext
	})
	return nil, false, s.answer("AUTH", err)
}

func tooManyLogins() *refused {
	return refuse(refusal.AuthFailures)
}
