package smtp

import (
	"context"
	"crypto/tls"

	"github.com/emersion/go-sasl"

	"latchkey/auth"
)

// scripted are CRAM-MD5 of the fixture's passwords, and SCRAM-SHA-256 that knows one dialogue, that of RFC 7677 §3, and takes it for alice.
type scripted struct{ auth *fakeAuth }

func (*scripted) Mechanisms(_ context.Context, _ auth.Attempt, state *tls.ConnectionState) []string {
	if state != nil {
		return []string{"SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "CRAM-MD5"}
	}
	return []string{"SCRAM-SHA-256", "CRAM-MD5"}
}

func (c *scripted) Begin(ctx context.Context, at auth.Attempt, state *tls.ConnectionState, proved func(auth.Identity) error) (sasl.Server, error) {
	if at.Mechanism == "CRAM-MD5" {
		return (&cramMD5{auth: c.auth}).Begin(ctx, at, state, proved)
	}
	return &scramScript{c, ctx, at, proved, 0}, nil
}

type scramScript struct {
	*scripted
	ctx    context.Context
	at     auth.Attempt
	proved func(auth.Identity) error
	step   int
}

// What both say in RFC 7677 §3.
var scramSaid = [][2]string{
	{"n,,n=user,r=rOprNGfwEbeRWgbNEkqO", "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"},
	{"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="},
}

func (s *scramScript) Next(response []byte) (challenge []byte, done bool, err error) {
	if s.step == 0 && response == nil {
		return []byte{}, false, nil
	}
	s.step++
	switch {
	case s.step <= 2 && string(response) == scramSaid[s.step-1][0]:
		return []byte(scramSaid[s.step-1][1]), false, nil
	case s.step == 2:
		return nil, true, auth.ErrCredentials
	case s.step != 3 || len(response) > 0:
		return nil, true, sasl.ErrUnexpectedClientResponse
	}
	at := s.at
	at.TLS = true // no password has come
	identity, err := s.auth.Login(s.ctx, at, "alice", "alice-pw")
	if err == nil {
		err = s.proved(identity)
	}
	return nil, true, err
}
