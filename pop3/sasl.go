package pop3

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/emersion/go-sasl"
)

func (c *Conn) mechanisms() []string {
	if s, ok := c.session.(AuthSession); ok {
		return s.AuthMechanisms()
	}
	return nil
}

// cmdAuth logs in by SASL (RFC 5034 §4). Without an argument it lists the mechanisms, one a line, as Outlook and Netscape expect from
// the days before CAPA.
func cmdAuth(c *Conn, arg string) reply {
	c.state.(*authorization).named = false
	args := fields(arg)
	s, available := c.session.(AuthSession)
	switch {
	case len(args) == 0:
		return list("mechanisms follow", func(w *dotWriter) error {
			for _, m := range c.mechanisms() {
				if _, err := io.WriteString(w, printable(m)+"\r\n"); err != nil {
					return err
				}
			}
			return nil
		})
	case len(args) > 2:
		return bad("AUTH needs a mechanism and at most one initial response")
	case !available:
		return no(CodeNone, "no such mechanism")
	}
	mechanism := strings.ToUpper(args[0])
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	server, err := s.Auth(ctx, mechanism)
	if err != nil {
		return failedLogin(err)
	}
	if !slices.Contains(s.AuthMechanisms(), mechanism) {
		return no(CodeNone, "no such mechanism")
	}
	var initial []byte
	if len(args) == 2 {
		if initial, err = decodeResponse(args[1]); err != nil {
			return bad("the initial response is not base64")
		}
	}
	return c.exchange(server, initial, cancel)
}

var errCancelled = &Error{Text: "authentication cancelled"}

// exchange passes challenges and responses until the mechanism is done. A client that goes away cancels the mechanism's context.
func (c *Conn) exchange(server sasl.Server, response []byte, cancel func()) reply {
	for {
		stop := c.watch(cancel)
		challenge, done, err := server.Next(response)
		stop()
		if err != nil {
			return failedLogin(err)
		}
		if done && len(challenge) == 0 {
			return c.open()
		}
		response, err = c.ask(challenge)
		switch {
		case errors.Is(err, errCancelled), errors.Is(err, errLineTooLong), errors.Is(err, errBase64):
			return reply{text: exchangeText(err), failed: true}
		case err != nil:
			return reply{code: CodeTemp, text: "connection lost", closing: true}
		case done && len(response) > 0:
			return reply{text: "unexpected response", failed: true}
		case done:
			return c.open()
		}
	}
}

func exchangeText(err error) string {
	switch {
	case errors.Is(err, errLineTooLong):
		return "response too long"
	case errors.Is(err, errBase64):
		return "the response is not base64"
	}
	return errCancelled.Text
}

// ask sends a challenge and reads the response. The mark is "+ " and never "+OK" (RFC 5034 §4).
func (c *Conn) ask(challenge []byte) ([]byte, error) {
	if _, err := c.out.begin().WriteString("+ " + base64.StdEncoding.EncodeToString(challenge) + "\r\n"); err != nil {
		return nil, err
	}
	if err := c.out.Flush(); err != nil {
		return nil, err
	}
	line, err := c.readLine(maxResponseLine)
	if err != nil {
		return nil, err
	}
	if line == "*" {
		return nil, errCancelled
	}
	response, err := base64.StdEncoding.DecodeString(line)
	if err != nil {
		return nil, errBase64
	}
	return response, nil
}

var errBase64 = errors.New("pop3: not base64")

// decodeResponse reads an initial response; "=" is an empty one (RFC 5034 §4).
func decodeResponse(text string) ([]byte, error) {
	if text == "=" {
		return []byte{}, nil
	}
	return base64.StdEncoding.DecodeString(text)
}
