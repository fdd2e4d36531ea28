package maildrop

import (
	"context"
	"crypto/tls"
	"errors"

	"github.com/emersion/go-sasl"

	"latchkey/auth"
	"latchkey/internal/refusal"
	"latchkey/pop3"
	"latchkey/store"
)

// oldSession is a client at a door for old clients: its greeting has a timestamp for APOP (RFC 1939 §7).
type oldSession struct{ *session }

var (
	_ pop3.APOPSession   = (*oldSession)(nil)
	_ pop3.AuthSession   = (*oldSession)(nil)
	_ pop3.ClearSession  = (*oldSession)(nil)
	_ pop3.PolicySession = (*oldSession)(nil)
)

// APOP proves who the client is by the digest of timestamp and password.
func (s *oldSession) APOP(ctx context.Context, username, timestamp string, digest [16]byte) error {
	name := s.selects(username)
	who, err := s.auth.APOP(ctx, s.attempt(auth.APOP), name, timestamp, digest)
	if err != nil {
		return s.loginError(ctx, err)
	}
	s.who, s.mechanism = who, auth.APOP
	return nil
}

// tlsState is the connection's, nil without TLS.
func (s *session) tlsState() *tls.ConnectionState {
	if state, secure := s.conn.TLS(); secure {
		return &state
	}
	return nil
}

// challenges lists the mechanisms that carry no password.
func (s *session) challenges() []string {
	return s.auth.ChallengeMechanisms(context.Background(), s.attempt(""), s.tlsState())
}

// challenge begins one of them. What a name asked for that did not log in is forgotten.
func (s *session) challenge(ctx context.Context, mech string) sasl.Server {
	s.selection, s.chosen = store.Selection{}, false
	at := s.attempt(mech)
	accept := func(who auth.Identity) error {
		s.who, s.mechanism = who, mech
		return nil
	}
	if mech == auth.CRAMMD5 {
		return &challenged{s.auth.NewCRAMMD5Server(ctx, at, s.hostname, accept), s}
	}
	return &challenged{s.auth.NewSCRAMServer(ctx, at, s.tlsState(), accept), s}
}

// challenged gives the errors of a challenge mechanism a text for the client.
type challenged struct {
	sasl.Server
	session *session
}

func (m *challenged) Next(response []byte) (challenge []byte, done bool, err error) {
	challenge, done, err = m.Server.Next(response)
	switch {
	case err == nil:
		return challenge, done, nil
	case errors.Is(err, sasl.ErrUnexpectedClientResponse):
		return nil, true, reply(refusal.AuthMalformed, nil)
	}
	return nil, true, m.session.loginError(context.Background(), err)
}
