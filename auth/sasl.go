package auth

import (
	"errors"
	"strings"

	"github.com/emersion/go-sasl"
)

// ErrIdentity: a client asked to act as somebody else (RFC 4616 §2: the authorization identity), which nobody may.
var ErrIdentity = errors.New("auth: acting as somebody else is not supported")

// errExchange: a client answered out of turn.
var errExchange = errors.New("auth: unexpected response")

// NewPlainServer returns a server for PLAIN (RFC 4616). login decides; its error ends the exchange. The authorization identity must be
// empty or the name itself.
func NewPlainServer(login func(username, password string) error) sasl.Server {
	return sasl.NewPlainServer(func(identity, username, password string) error {
		if identity != "" && !strings.EqualFold(strings.TrimSpace(identity), strings.TrimSpace(username)) {
			return ErrIdentity
		}
		return login(username, password)
	})
}

// The prompts of LOGIN. Outlook compares them.
const (
	usernamePrompt = "Username:"
	passwordPrompt = "Password:"
)

// loginServer is the server side of LOGIN, which no RFC describes: two prompts, two answers. An initial response is the name.
type loginServer struct {
	login    func(username, password string) error
	username string
	step     int // how many answers were taken or asked for
}

// NewLoginServer returns a server for LOGIN. login decides; its error ends the exchange.
func NewLoginServer(login func(username, password string) error) sasl.Server {
	return &loginServer{login: login}
}

// Next takes one response; nil is none, as at the beginning without an initial response.
func (s *loginServer) Next(response []byte) (challenge []byte, done bool, err error) {
	switch {
	case s.step == 0 && response == nil:
		s.step = 1
		return []byte(usernamePrompt), false, nil
	case s.step <= 1:
		s.username, s.step = string(response), 2
		return []byte(passwordPrompt), false, nil
	case s.step == 2:
		s.step = 3
		return nil, true, s.login(s.username, string(response))
	default:
		return nil, true, errExchange
	}
}
