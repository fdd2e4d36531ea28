package auth

import (
	"errors"
	"fmt"
	"strings"

	"github.com/emersion/go-sasl"
)

// ErrIdentity: a client asked to act as somebody else (RFC 4616 §2: the authorization identity), which nobody may.
var ErrIdentity = errors.New("auth: acting as somebody else is not supported")

// errExchange: a client answered out of turn.
var errExchange = fmt.Errorf("auth: %w", sasl.ErrUnexpectedClientResponse)

// NewPlainServer returns a server for PLAIN (RFC 4616). login decides; its error ends the exchange. The authorization identity must be
// empty or name the same mailbox (RFC 4616 §2).
func NewPlainServer(login func(username, password string) error) sasl.Server {
	return sasl.NewPlainServer(func(identity, username, password string) error {
		if identity == "" {
			return login(username, password)
		}
		same, ok := sameMailbox(identity, username)
		if !ok {
			return ErrIdentity
		}
		return login(same, password)
	})
}

// ReadPlain tells of the name and password in a response of PLAIN, as NewPlainServer would; of none that is malformed, or of somebody who wants to
// act as another.
func ReadPlain(response []byte, tell func(username, password string)) {
	_, _, _ = NewPlainServer(func(username, password string) error {
		tell(username, password)
		return nil
	}).Next(response) // who sent it is refused in any case
}

// sameMailbox returns the fuller of two names if both name one mailbox, whatever our domain is: some programs send user@domain as the
// one and user as the other. A domain that is not ours makes the login fail later.
func sameMailbox(a, b string) (fuller string, same bool) {
	a, b = strings.TrimSpace(a), strings.TrimSpace(b)
	if strings.EqualFold(a, b) {
		return b, true
	}
	if !strings.Contains(a, "@") {
		a, b = b, a
	}
	user, _, _ := strings.Cut(a, "@")
	return a, strings.EqualFold(user, b)
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
