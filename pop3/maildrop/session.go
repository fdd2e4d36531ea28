package maildrop

import (
	"context"
	"errors"
	"io"
	"log/slog"

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
	log      *slog.Logger
}

func (b *backend) NewSession(_ context.Context, c *pop3.Conn) (pop3.Session, error) {
	return &session{backend: b, conn: c}, nil
}

// session is one client before and after login.
type session struct {
	*backend
	conn *pop3.Conn
	who  auth.Identity
}

var (
	_ pop3.AuthSession     = (*session)(nil)
	_ pop3.PasswordSession = (*session)(nil)
)

func (s *session) attempt(mechanism string) auth.Attempt {
	_, secure := s.conn.TLS()
	return auth.Attempt{Service: "pop3", Mechanism: mechanism, Remote: guard.Unmap(s.conn.RemoteAddr()), TLS: secure}
}

func (s *session) login(ctx context.Context, mechanism, username, password string) error {
	who, err := s.auth.Login(ctx, s.attempt(mechanism), username, password)
	if err != nil {
		return loginError(err)
	}
	s.who = who
	return nil
}

// Login is USER and PASS.
func (s *session) Login(ctx context.Context, username, password string) error {
	return s.login(ctx, "USER", username, password)
}

// passwordAllowed reports whether a password may come over the connection as it is now.
func (s *session) passwordAllowed() bool {
	at := s.attempt("")
	return at.TLS || s.auth.CleartextAllowed(context.Background(), at.Remote)
}

// RefusePassword keeps USER and PASS from a connection without TLS, unless it is allowed there.
func (s *session) RefusePassword() *pop3.Error {
	if s.passwordAllowed() {
		return nil
	}
	return reply(refusal.AuthCleartext, nil)
}

// AuthMechanisms lists what carries a password, where one may come.
func (s *session) AuthMechanisms() []string {
	if s.passwordAllowed() {
		return []string{sasl.Plain, sasl.Login}
	}
	return nil
}

// Auth begins an exchange.
func (s *session) Auth(ctx context.Context, mech string) (sasl.Server, error) {
	if mech == "NTLM" || mech == "GSSAPI" {
		return nil, reply(refusal.AuthSPA, nil)
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
	m, err := s.store.OpenMaildrop(ctx, s.who.Account)
	if err != nil {
		return nil, storeError(err)
	}
	if s.grants != nil {
		place := guard.Place{Remote: guard.Unmap(s.conn.RemoteAddr()), Loopback: s.loopback}
		s.grants.LoggedIn(ctx, place, s.who.Account, s.who.Name, s.who.CredentialVersion)
	}
	return &maildrop{snapshot: m, log: s.log, account: s.who.Name}, nil
}

// Logout has nothing left to end.
func (s *session) Logout() error { return nil }

// maildrop is one open snapshot. Message n of the protocol is messages[n-1], and the store calls it ids[n-1]. There is neither before somebody
// asks for the list.
type maildrop struct {
	snapshot store.Maildrop
	messages []pop3.Message // the connection reads it too
	ids      []store.CopyID
	// fetched are the messages, by n-1, that a RETR sent to its end; nil if there are none, fetches how many.
	fetched []bool
	fetches int
	log     *slog.Logger
	account string
}

// Stat counts the snapshot.
func (m *maildrop) Stat() (count int, octets int64) {
	u := m.snapshot.Stat()
	return int(u.Messages), u.Octets
}

// Messages lists the snapshot. Of what the store says of a message only what a session needs is kept.
func (m *maildrop) Messages(ctx context.Context) ([]pop3.Message, error) {
	list, err := m.snapshot.Messages(ctx)
	if err != nil {
		return nil, storeError(err)
	}
	m.messages, m.ids = make([]pop3.Message, len(list)), make([]store.CopyID, len(list))
	for i := range list {
		m.messages[i] = pop3.Message{UID: list[i].UID, Size: list[i].Size}
		m.ids[i] = list[i].ID
	}
	return m.messages, nil
}

// Retrieve yields message n; for no lines of its text, the header alone is opened.
func (m *maildrop) Retrieve(ctx context.Context, n, lines int) (io.ReadCloser, error) {
	open := m.snapshot.OpenMessage
	if lines == 0 {
		open = m.snapshot.OpenHeader
	}
	r, err := open(ctx, m.ids[n-1])
	if err != nil {
		return nil, storeError(err)
	}
	body := &body{ReadCloser: r, of: m, n: n, left: m.messages[n-1].Size, retr: lines < 0}
	if _, ok := r.(io.WriterTo); ok && lines < 0 {
		return &directBody{body}, nil
	}
	return body, nil
}

// sent notes that a RETR sent message n to its end.
func (m *maildrop) sent(n int) {
	if m.fetched == nil {
		m.fetched = make([]bool, len(m.messages))
	}
	if !m.fetched[n-1] {
		m.fetched[n-1] = true
		m.fetches++
	}
}

// unreadable notes that message n cannot be read.
func (m *maildrop) unreadable(n int, err error) {
	m.log.Error("stored message cannot be read", "account", m.account, "copy", uint64(m.ids[n-1]), "uid", m.messages[n-1].UID, "err", err)
}

// Update deletes.
func (m *maildrop) Update(ctx context.Context, deleted []int) error {
	gone := make([]store.CopyID, len(deleted))
	for i, n := range deleted {
		gone[i] = m.ids[n-1]
	}
	fetched := make([]store.CopyID, 0, m.fetches)
	for i, is := range m.fetched {
		if is {
			fetched = append(fetched, m.ids[i])
		}
	}
	if len(gone) == 0 && len(fetched) == 0 {
		return nil
	}
	err := m.snapshot.Expunge(ctx, gone, fetched)
	switch {
	case err == nil:
		return nil
	case len(gone) == 0:
		// Nobody asked for a change: a trail that cannot be written is no reason to refuse a QUIT.
		m.log.Error("what was fetched could not be noted in the trail", "account", m.account, "err", err)
		return nil
	}
	return storeError(err)
}

// Close gives the snapshot back.
func (m *maildrop) Close() error { return m.snapshot.Close() }

// body notes when a message was read to its end, or cannot be.
type body struct {
	io.ReadCloser
	of   *maildrop
	n    int
	left int64 // of the whole message
	retr bool  // and not TOP
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.left -= int64(n)
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		b.of.unreadable(b.n, err)
	case b.left == 0 && b.retr:
		b.of.sent(b.n)
	}
	return n, err
}

// directBody is the body of a message that can be written without a copy in between.
type directBody struct{ *body }

// WriteTo implements io.WriterTo.
func (b *directBody) WriteTo(w io.Writer) (int64, error) {
	source, _ := b.ReadCloser.(io.WriterTo)
	to := &failingWriter{w: w}
	n, err := source.WriteTo(to)
	b.left -= n
	switch {
	case err != nil && to.err == nil:
		b.of.unreadable(b.n, err)
	case err == nil && b.left == 0:
		b.of.sent(b.n)
	}
	return n, err
}

// failingWriter keeps the error of its writer, to tell it from one of the source.
type failingWriter struct {
	w   io.Writer
	err error
}

func (f *failingWriter) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	if err != nil {
		f.err = err
	}
	return n, err
}
