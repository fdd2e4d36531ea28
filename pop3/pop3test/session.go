package pop3test

import (
	"context"
	"crypto/md5" //nolint:gosec // APOP is defined with MD5 (RFC 1939 §7)
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/emersion/go-sasl"

	"latchkey/pop3"
)

type session struct {
	backend *Backend
	conn    *pop3.Conn
	user    *user
	open    bool
}

type apopSession struct{ *session }

var (
	_ pop3.AuthSession   = (*session)(nil)
	_ pop3.ClearSession  = (*session)(nil)
	_ pop3.PolicySession = (*session)(nil)
	_ pop3.APOPSession   = (*apopSession)(nil)
	_ pop3.Translator    = (*Backend)(nil)
	_ pop3.UTF8Maildrop  = (*maildrop)(nil)
	_ pop3.LastMaildrop  = (*lastMaildrop)(nil)
)

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

func (s *session) Login(ctx context.Context, username, password string) error {
	return s.login(ctx, username, func(p string) bool { return p == password })
}

func (s *apopSession) APOP(ctx context.Context, username, timestamp string, digest [16]byte) error {
	return s.login(ctx, username, func(p string) bool { return md5.Sum([]byte(timestamp+p)) == digest }) //nolint:gosec // RFC 1939 §7
}

func (s *session) RefusePassword() *pop3.Error {
	if _, secure := s.conn.TLS(); secure {
		return nil
	}
	return s.backend.RefusePassword
}

func (s *session) PasswordInClear(username, password string) {
	if s.backend.InClear != nil {
		s.backend.InClear(username, password)
	}
}

func (s *session) ResponseInClear(mech string, response []byte) {
	if s.backend.InClear != nil {
		s.backend.InClear(mech, string(response))
	}
}

func (s *session) AuthMechanisms() []string { return s.backend.Mechanisms }

func (s *session) Auth(ctx context.Context, mech string) (sasl.Server, error) {
	if !slices.Contains(s.backend.Mechanisms, mech) {
		return nil, &pop3.Error{Text: "no such mechanism"}
	}
	return s.mechanism(ctx, mech), nil
}

func (s *session) Policy(context.Context) pop3.Policy {
	if s.open {
		return s.backend.AfterLogin
	}
	return s.backend.BeforeLogin
}

func (s *session) Open(context.Context) (pop3.Maildrop, error) {
	if s.backend.Opening != nil {
		return nil, s.backend.Opening
	}
	s.backend.mu.Lock()
	defer s.backend.mu.Unlock()
	s.open = true
	m := &maildrop{backend: s.backend, user: s.user, messages: slices.Clone(s.user.messages)}
	if surrogate := s.backend.Surrogate; surrogate != nil && !s.conn.UTF8() {
		for i, msg := range m.messages {
			if needsUTF8(msg.text) {
				msg.text = surrogate(msg.text)
				msg.size = int64(len(msg.text))
				m.messages[i] = msg
			}
		}
	}
	if s.backend.Last {
		return &lastMaildrop{m}, nil
	}
	return m, nil
}

func (s *session) Logout() error {
	s.backend.mu.Lock()
	s.backend.logouts++
	s.backend.mu.Unlock()
	if s.backend.Ended != nil {
		s.backend.Ended()
	}
	return nil
}

// maildrop is a snapshot.
type maildrop struct {
	backend  *Backend
	user     *user
	messages []message
	listed   bool
	updated  bool
	closed   bool
}

// lastMaildrop is one that offers LAST.
type lastMaildrop struct{ *maildrop }

func (m *maildrop) Stat() (count int, octets int64) {
	for _, msg := range m.messages {
		octets += msg.size
	}
	return len(m.messages), octets
}

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
func (m *maildrop) Retrieve(_ context.Context, n, lines int) (io.ReadCloser, error) {
	if m.closed {
		return nil, errors.New("pop3test: maildrop is closed")
	}
	msg := m.messages[n-1]
	if lines < 0 {
		m.fetched(msg.uid)
	}
	return io.NopCloser(strings.NewReader(msg.text)), nil
}

// fetched notes that a message was fetched, if it is still there.
func (m *maildrop) fetched(uid string) {
	m.backend.mu.Lock()
	defer m.backend.mu.Unlock()
	if i := slices.IndexFunc(m.user.messages, func(msg message) bool { return msg.uid == uid }); i >= 0 {
		m.user.messages[i].fetched = true
	}
}

func (m *maildrop) NeedsUTF8(n int) bool { return needsUTF8(m.messages[n-1].text) }

// needsUTF8 reports whether a message has octets above 0x7F in its header.
func needsUTF8(text string) bool {
	header, _, _ := strings.Cut(text, "\r\n\r\n")
	return strings.ContainsFunc(header, func(r rune) bool { return r > 0x7F })
}

func (m *lastMaildrop) Last(context.Context) (int, error) {
	for n := len(m.messages); n > 0; n-- {
		if m.messages[n-1].fetched {
			return n, nil
		}
	}
	return 0, nil
}

func (m *maildrop) Update(_ context.Context, deleted []int) error {
	if m.updated || m.closed {
		return errors.New("pop3test: updated twice, or after the end")
	}
	m.updated = true
	if m.backend.Updating != nil {
		return m.backend.Updating
	}
	gone := map[string]bool{}
	for _, n := range deleted {
		gone[m.messages[n-1].uid] = true
	}
	m.backend.mu.Lock()
	defer m.backend.mu.Unlock()
	m.user.messages = slices.DeleteFunc(m.user.messages, func(msg message) bool { return gone[msg.uid] })
	return nil
}

func (m *maildrop) Close() error {
	if m.closed {
		return errors.New("pop3test: closed twice")
	}
	m.closed = true
	return nil
}
