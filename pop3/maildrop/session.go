package maildrop

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/emersion/go-sasl"

	"latchkey/auth"
	"latchkey/guard"
	"latchkey/internal/refusal"
	"latchkey/pop3"
	"latchkey/store"
)

// backend begins sessions on a store.
type backend struct {
	store    Store
	auth     *auth.Authenticator
	grants   Grants // nil: nobody is told of logins
	loopback bool
	old      OldClients // nil: no door for old clients
	hostname string
	delays   *Delays
	locks    *Locks
	now      func() time.Time
	// inventory is told of sessions at this door; nil is nobody.
	inventory *Inventory
	door      string
	refusals  *refusal.Recent
	tally     *store.Tally
	log       *slog.Logger
}

// NewSession begins a session; at a door for old clients it is one with APOP.
func (b *backend) NewSession(_ context.Context, c *pop3.Conn) (pop3.Session, error) {
	s := &session{backend: b, conn: c}
	if b.old != nil {
		return &oldSession{s}, nil
	}
	return s, nil
}

// session is one client before and after login.
type session struct {
	*backend
	conn *pop3.Conn
	who  auth.Identity
	// mechanism is the one by which who was proved, drop what was opened then.
	mechanism string
	drop      *maildrop
	// selection is what the client asked for beside its name; chosen is set if it did.
	selection store.Selection
	chosen    bool
	// hold is the session's lock of its maildrop; nil without.
	hold *hold
}

var (
	_ pop3.AuthSession   = (*session)(nil)
	_ pop3.ClearSession  = (*session)(nil)
	_ pop3.PolicySession = (*session)(nil)
)

func (s *session) attempt(mechanism string) auth.Attempt {
	_, secure := s.conn.TLS()
	return auth.Attempt{Service: "pop3", Mechanism: mechanism, Remote: guard.Unmap(s.conn.RemoteAddr()), TLS: secure, OldDoor: s.old != nil}
}

func (s *session) login(ctx context.Context, mechanism, username, password string) error {
	name := s.selects(username)
	who, err := s.auth.Login(ctx, s.attempt(mechanism), name, password)
	if err != nil {
		return s.told(mechanism, s.loginError(ctx, err))
	}
	s.who, s.mechanism = who, mechanism
	return nil
}

// Login is USER and PASS.
func (s *session) Login(ctx context.Context, username, password string) error {
	return s.login(ctx, "USER", username, password)
}

// passwordAllowed reports whether a password may come over the connection as it is now.
func (s *session) passwordAllowed() bool {
	at := s.attempt("")
	return at.TLS || at.OldDoor || s.auth.CleartextAllowed(context.Background(), at.Remote)
}

// RefusePassword keeps USER and PASS from a connection without TLS, unless it is allowed there.
func (s *session) RefusePassword() *pop3.Error {
	if s.passwordAllowed() {
		return nil
	}
	refused := reply(refusal.AuthCleartext, nil)
	_ = s.told("USER", refused) // the same
	return refused
}

// PasswordInClear is told of a PASS behind a USER that was refused.
func (s *session) PasswordInClear(username, password string) {
	name, _, _ := splitSelection(username)
	s.auth.ArrivedInClear(s.attempt("USER"), name, password)
}

// ResponseInClear is told of a password that came with AUTH. The exchange may have been refused for another reason.
func (s *session) ResponseInClear(mech string, response []byte) {
	if mech == sasl.Plain && !s.passwordAllowed() {
		auth.ReadPlain(response, func(username, password string) {
			name, _, _ := splitSelection(username)
			s.auth.ArrivedInClear(s.attempt(mech), name, password)
		})
	}
}

// told remembers a refusal for whoever asks what it was about, and returns it. The name that a client gave is not kept: some give their password.
func (s *session) told(command string, err error) error {
	var refused *pop3.Error
	if s.refusals == nil || !errors.As(err, &refused) {
		return err
	}
	_, mark := refusal.Unmarked(refused.Text)
	row, ok := refusal.Find(mark)
	if !ok {
		return err
	}
	e := refusal.Event{
		Time: s.now(), Name: row.Name, Door: s.door, Command: command, Remote: guard.Unmap(s.conn.RemoteAddr()), Text: refused.Text, Mailbox: s.who.Name,
	}
	if refused.Err != nil {
		e.Why = refused.Err.Error()
	}
	s.refusals.Note(e)
	return err
}

// Policy is what CAPA tells of how long mail is kept, and of polling. How long is told of the shortest before login and of the mailbox after it
// (RFC 2449 §6.7).
func (s *session) Policy(ctx context.Context) pop3.Policy {
	settings, err := s.store.Settings(ctx)
	if err != nil {
		return pop3.Policy{}
	}
	p := pop3.Policy{Expire: pop3.ExpireNever, LoginDelay: time.Duration(settings.LoginDelay) * time.Second}
	days, differs, err := s.expiry(ctx, settings)
	if err != nil {
		return pop3.Policy{LoginDelay: p.LoginDelay}
	}
	if days > 0 {
		p.Expire = days
	}
	p.ExpireByUser = differs
	return p
}

// expiry is after how many days mail is removed, 0 for never: of the mailbox that is open, or of the one where it goes soonest.
func (s *session) expiry(ctx context.Context, settings store.Settings) (days int, differs bool, err error) {
	if s.drop != nil {
		account, err := s.store.Account(ctx, s.who.Account)
		return account.ExpireAfter(settings), false, err
	}
	inUse, err := s.store.ExpireDaysInUse(ctx)
	days, differs = store.ShortestExpiry(settings, inUse)
	return days, differs, err
}

// AuthMechanisms lists what carries a password, where one may come, and behind it the challenges.
func (s *session) AuthMechanisms() []string {
	var list []string
	if s.passwordAllowed() {
		list = []string{sasl.Plain, sasl.Login}
	}
	return append(list, s.challenges()...)
}

// Auth begins an exchange.
func (s *session) Auth(ctx context.Context, mech string) (sasl.Server, error) {
	if mech == "NTLM" || mech == "GSSAPI" {
		return nil, reply(refusal.AuthSPA, nil)
	}
	if slices.Contains(s.challenges(), mech) {
		return s.challenge(ctx, mech), nil
	}
	login := func(username, password string) error { return s.login(ctx, mech, username, password) }
	switch {
	case mech != sasl.Plain && mech != sasl.Login:
		return nil, reply(refusal.AuthMechanism, nil)
	case !s.passwordAllowed():
		return nil, reply(refusal.AuthCleartext, nil)
	case mech == sasl.Plain:
		return &mechanism{auth.NewPlainServer(login)}, nil
	default:
		return &mechanism{auth.NewLoginServer(login)}, nil
	}
}

// mechanism gives a mechanism's own errors a text for the client.
type mechanism struct{ sasl.Server }

func (m *mechanism) Next(response []byte) (challenge []byte, done bool, err error) {
	challenge, done, err = m.Server.Next(response)
	var refused *pop3.Error
	switch {
	case err == nil, errors.As(err, &refused):
		return challenge, done, err
	case errors.Is(err, auth.ErrIdentity):
		return nil, true, loginError(err)
	}
	return nil, true, reply(refusal.AuthMalformed, nil)
}

// Open takes the snapshot. Then the login has succeeded, by whatever mechanism, and its grant is given before +OK leaves: mail programs
// that know nothing of POP before SMTP send in the same moment.
func (s *session) Open(ctx context.Context) (pop3.Maildrop, error) {
	if err := s.mayUseDoor(ctx); err != nil {
		return nil, s.told(s.mechanism, err)
	}
	m, err := s.open(ctx)
	if err != nil {
		return nil, s.told(s.mechanism, err)
	}
	s.drop.snapshot.ReadBy(s.client())
	if s.grants != nil {
		place := guard.PlaceOf(s.conn.RemoteAddr(), s.loopback)
		s.grants.LoggedIn(ctx, place, s.who.Account, s.who.Name, s.who.CredentialVersion, s.who.Device)
	}
	return m, nil
}

// open takes the snapshot and makes of it what the mailbox's client is to see.
func (s *session) open(ctx context.Context) (pop3.Maildrop, error) {
	settings, err := s.store.Settings(ctx)
	if err != nil {
		return nil, storeError(err)
	}
	account, err := s.store.Account(ctx, s.who.Account)
	if err != nil {
		return nil, storeError(err)
	}
	view := view{selection: s.selection, options: account.POP3, now: s.now(), surrogates: !s.conn.UTF8()}
	if !s.chosen {
		view.selection, _ = store.ParseSelect(account.POP3.Select) // the store takes no other
	}
	if !s.delays.admit(view.now, s.who.Account, time.Duration(settings.LoginDelay)*time.Second) {
		return nil, reply(refusal.LoginDelay, nil)
	}
	if settings.ExclusiveMaildrop {
		if err := s.lock(); err != nil {
			s.delays.takeBack(view.now, s.who.Account)
			return nil, err
		}
	}
	m, err := s.snapshot(ctx, view)
	if err != nil {
		s.unlock() // RFC 1939 §4: before the refusal
		return nil, err
	}
	s.drop = m
	if account.POP3.Last {
		return &lastMaildrop{m}, nil
	}
	return m, nil
}

// client is who reads the maildrop, for the trail.
func (s *session) client() store.Origin {
	o := store.Origin{Door: "pop3", Remote: guard.Unmap(s.conn.RemoteAddr()), Device: s.who.Device}
	if state, secure := s.conn.TLS(); secure {
		o.TLS = tls.VersionName(state.Version)
	}
	return o
}

// snapshot opens the maildrop.
func (s *session) snapshot(ctx context.Context, v view) (*maildrop, error) {
	snapshot, err := s.store.OpenMaildrop(ctx, s.who.Account)
	if err != nil {
		return nil, storeError(err)
	}
	m := &maildrop{snapshot: snapshot, view: v, hold: s.hold, log: s.log, account: s.who.Name}
	if !v.plain() { // what there is has to be looked at before it can be counted
		if _, err := m.Messages(ctx); err != nil {
			return nil, errors.Join(err, snapshot.Close())
		}
	}
	return m, nil
}

// Logout gives the lock of the maildrop back, however the session ended, counts what it fetched, and tells the inventory of it.
func (s *session) Logout() error {
	s.unlock()
	if s.drop != nil {
		s.tally.Count(store.DailyFetched, s.drop.fetches+s.drop.wholeTops)
	}
	s.noted(s.conn)
	return nil
}
