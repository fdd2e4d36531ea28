package pop3test

import (
	"context"
	"crypto/hmac"
	"crypto/md5" //nolint:gosec // CRAM-MD5 is defined with MD5 (RFC 2195 §2)
	"crypto/rand"
	"encoding/hex"
	"strings"

	"github.com/emersion/go-sasl"

	"latchkey/pop3"
)

// mechanism makes the server's side of one of Backend.Mechanisms.
func (s *session) mechanism(ctx context.Context, name string) sasl.Server {
	switch name {
	case "LOGIN":
		return &login{s: s, ctx: ctx}
	case "CRAM-MD5":
		return &cramMD5{s: s, ctx: ctx}
	case "TWO-STEP":
		return &twoStep{login: func(name string) error { return s.login(ctx, name, func(string) bool { return true }) }}
	}
	return sasl.NewPlainServer(func(identity, username, password string) error {
		if identity != "" && identity != username {
			return &pop3.Error{Code: pop3.CodeAuth, Text: "one cannot log in for another"}
		}
		return s.Login(ctx, username, password)
	})
}

var errMalformed = &pop3.Error{Text: "malformed response"}

// login is LOGIN: the name and then the password, each asked for.
type login struct {
	s     *session
	ctx   context.Context
	name  string
	named bool
}

func (m *login) Next(response []byte) (challenge []byte, done bool, err error) {
	switch {
	case m.named:
		return nil, true, m.s.Login(m.ctx, m.name, string(response))
	case response == nil:
		return []byte("Username:"), false, nil
	}
	m.name, m.named = string(response), true
	return []byte("Password:"), false, nil
}

// cramMD5 is CRAM-MD5 (RFC 2195 §2): the client sends its name and a keyed digest of the challenge.
type cramMD5 struct {
	s         *session
	ctx       context.Context
	challenge string
}

func (m *cramMD5) Next(response []byte) (challenge []byte, done bool, err error) {
	if m.challenge == "" {
		if response != nil {
			return nil, true, errMalformed // the server speaks first (RFC 5034 §4)
		}
		m.challenge = "<" + rand.Text() + "@pop3test>"
		return []byte(m.challenge), false, nil
	}
	at := strings.LastIndexByte(string(response), ' ')
	if at < 0 {
		return nil, true, errMalformed
	}
	digest, err := hex.DecodeString(string(response[at+1:]))
	if err != nil {
		return nil, true, errMalformed
	}
	return nil, true, m.s.login(m.ctx, string(response[:at]), func(password string) bool {
		mac := hmac.New(md5.New, []byte(password))
		_, _ = mac.Write([]byte(m.challenge)) // never fails
		return hmac.Equal(digest, mac.Sum(nil))
	})
}

// twoStep is a mechanism whose last step has data for the client: the name, and then its own "v=".
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
