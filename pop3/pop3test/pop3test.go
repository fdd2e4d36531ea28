// Package pop3test has an in-memory pop3.Backend, for tests and examples of programs that use package pop3.
package pop3test

import (
	"context"
	"crypto/md5" //nolint:gosec // APOP is defined with MD5 (RFC 1939 §7)
	"errors"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/emersion/go-sasl"

	"latchkey/pop3"
)

// Backend keeps maildrops in memory. Set its fields before it serves.
type Backend struct {
	// Mechanisms are offered for AUTH: PLAIN is all that there is.
	Mechanisms []string
	// RefusePassword, if set, is why USER and PASS are refused without TLS.
	RefusePassword *pop3.Error
	// Greeting, Opening and Updating are errors that the backend returns at these points.
	Greeting, Opening, Updating error
	// Listing, if set, is called before each list of a maildrop's messages; its error is returned.
	Listing func() error
	// Work is called before every login is decided, with its context.
	Work func(ctx context.Context)
	// Ended is called at the end of every session.
	Ended func()

	mu      sync.Mutex // protects the fields below
	users   map[string]*user
	logouts int
}

type user struct {
	password string
	messages []message
}

type message struct {
	uid, text string
	// size is what is listed; the text's length unless a test lies.
	size int64
}

// Add adds a maildrop with messages, which should have CRLF line ends. Unique-ids are uid1, uid2 and so on.
func (b *Backend) Add(name, password string, texts ...string) {
	u := &user{password: password}
	for i, text := range texts {
		u.messages = append(u.messages, message{uid: "uid" + string(rune('1'+i)), text: text, size: int64(len(text))})
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.users == nil {
		b.users = map[string]*user{}
	}
	b.users[name] = u
}

// Lie makes the listed size of message n (from 1) another than its length.
func (b *Backend) Lie(name string, n int, size int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.users[name].messages[n-1].size = size
}

// UIDs returns the unique-ids of the messages in a maildrop.
func (b *Backend) UIDs(name string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	uids := []string{}
	for _, m := range b.users[name].messages {
		uids = append(uids, m.uid)
	}
	return uids
}

// Logouts returns how many sessions have ended.
func (b *Backend) Logouts() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.logouts
}

// NewSession begins a session.
func (b *Backend) NewSession(_ context.Context, c *pop3.Conn) (pop3.Session, error) {
	if b.Greeting != nil {
		return nil, b.Greeting
	}
	return &session{backend: b, conn: c}, nil
}

// APOP returns a Backend that takes APOP too.
func (b *Backend) APOP() pop3.Backend { return apopBackend{b} }

type apopBackend struct{ *Backend }

func (b apopBackend) NewSession(_ context.Context, c *pop3.Conn) (pop3.Session, error) {
	return &apopSession{session{backend: b.Backend, conn: c}}, nil
}

type session struct {
	backend *Backend
	conn    *pop3.Conn
	user    *user
}

type apopSession struct{ session }

var errWrong = &pop3.Error{Code: pop3.CodeAuth, Text: "wrong name or password"}

func (s *session) login(ctx context.Context, name string, right func(password string) bool) error {
	if s.backend.Work != nil {
		s.backend.Work(ctx)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	s.backend.mu.Lock()
	defer s.backend.mu.Unlock()
	u, ok := s.backend.users[name]
	if !ok || !right(u.password) {
		return errWrong
	}
	s.user = u
	return nil
}

// Login is USER and PASS.
func (s *session) Login(ctx context.Context, username, password string) error {
	return s.login(ctx, username, func(p string) bool { return p == password })
}

// APOP compares the digest of the timestamp and the password.
func (s *apopSession) APOP(ctx context.Context, username, timestamp string, digest [16]byte) error {
	return s.login(ctx, username, func(p string) bool { return md5.Sum([]byte(timestamp+p)) == digest }) //nolint:gosec // RFC 1939 §7
}

// RefusePassword keeps passwords from a connection without TLS, if the backend says so.
func (s *session) RefusePassword() *pop3.Error {
	if _, secure := s.conn.TLS(); secure {
		return nil
	}
	return s.backend.RefusePassword
}

// AuthMechanisms lists the mechanisms.
func (s *session) AuthMechanisms() []string { return s.backend.Mechanisms }

// Auth begins an exchange.
func (s *session) Auth(ctx context.Context, mech string) (sasl.Server, error) {
	if !slices.Contains(s.backend.Mechanisms, mech) {
		return nil, &pop3.Error{Text: "no such mechanism"}
	}
	if mech == "TWO-STEP" {
		return &twoStep{login: func(name string) error { return s.login(ctx, name, func(string) bool { return true }) }}, nil
	}
	return sasl.NewPlainServer(func(_, username, password string) error {
		return s.login(ctx, username, func(p string) bool { return p == password })
	}), nil
}

// twoStep is a mechanism whose last step has data for the client, as SCRAM's has: the name, and then its own "v=".
type twoStep struct{ login func(name string) error }

func (m *twoStep) Next(response []byte) (challenge []byte, done bool, err error) {
	if response == nil {
		return []byte("name?"), false, nil
	}
	if err := m.login(string(response)); err != nil {
		return nil, true, err
	}
	return []byte("v=" + string(response)), true, nil
}

// Open takes the snapshot.
func (s *session) Open(context.Context) (pop3.Maildrop, error) {
	if s.backend.Opening != nil {
		return nil, s.backend.Opening
	}
	s.backend.mu.Lock()
	defer s.backend.mu.Unlock()
	return &maildrop{backend: s.backend, user: s.user, messages: slices.Clone(s.user.messages)}, nil
}

// Logout counts.
func (s *session) Logout() error {
	s.backend.mu.Lock()
	defer s.backend.mu.Unlock()
	s.backend.logouts++
	if s.backend.Ended != nil {
		s.backend.Ended()
	}
	return nil
}

type maildrop struct {
	backend  *Backend
	user     *user
	messages []message
	listed   bool
	updated  bool
	closed   bool
}

// Stat counts the snapshot.
func (m *maildrop) Stat() (count int, octets int64) {
	for _, msg := range m.messages {
		octets += msg.size
	}
	return len(m.messages), octets
}

// Messages lists the snapshot.
func (m *maildrop) Messages(context.Context) ([]pop3.Message, error) {
	if m.listed || m.closed {
		return nil, errors.New("pop3test: listed twice, or after the end")
	}
	if m.backend.Listing != nil {
		if err := m.backend.Listing(); err != nil {
			return nil, err
		}
	}
	m.listed = true
	list := make([]pop3.Message, len(m.messages))
	for i, msg := range m.messages {
		list[i] = pop3.Message{UID: msg.uid, Size: msg.size}
	}
	return list, nil
}

// Retrieve yields all of a message; the connection stops by itself where TOP ends.
func (m *maildrop) Retrieve(_ context.Context, n, _ int) (io.ReadCloser, error) {
	if m.closed {
		return nil, errors.New("pop3test: maildrop is closed")
	}
	return io.NopCloser(strings.NewReader(m.messages[n-1].text)), nil
}

// Update deletes.
func (m *maildrop) Update(_ context.Context, deleted []int) error {
	if m.updated || m.closed {
		return errors.New("pop3test: updated twice, or after the end")
	}
	m.updated = true
	if m.backend.Updating != nil {
		return m.backend.Updating
	}
	m.backend.mu.Lock()
	defer m.backend.mu.Unlock()
	for _, n := range deleted {
		uid := m.messages[n-1].uid
		m.user.messages = slices.DeleteFunc(m.user.messages, func(msg message) bool { return msg.uid == uid })
	}
	return nil
}

// Close ends the snapshot.
func (m *maildrop) Close() error {
	if m.closed {
		return errors.New("pop3test: closed twice")
	}
	m.closed = true
	return nil
}
