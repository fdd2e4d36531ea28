package pop3

import (
	"bytes"
	"encoding/base64"
	"errors"
	"slices"

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
func cmdAuth(c *Conn, arg []byte) reply {
	c.state.(*authorization).named = false
	args := words(arg)
	s, available := c.session.(AuthSession)
	switch {
	case args.n == 0:
		var l lines
		for _, m := range c.mechanisms() {
			l = append(l, ascii(m))
		}
		return list(textMechanisms, l)
	case args.n > maxArguments:
		return bad(textAuthArguments)
	case !available:
		return no(CodeNone, textNoMechanism)
	}
	mechanism := string(bytes.ToUpper(args.at[0]))
	w := c.newWork()
	server, err := s.Auth(w, mechanism)
	if err != nil {
		c.responseInClear(mechanism, args)
		return c.failedLogin(err)
	}
	if !slices.Contains(s.AuthMechanisms(), mechanism) {
		return no(CodeNone, textNoMechanism)
	}
	var initial []byte
	if args.n == 2 {
		if initial, err = decodeInitial(args.at[1]); err != nil {
			return bad(textInitialNotBase64)
		}
	}
	return c.exchange(server, initial, w)
}

// responseInClear tells a session that wants to know it what came with an AUTH that was refused.
func (c *Conn) responseInClear(mechanism string, args arguments) {
	s, told := c.session.(ClearSession)
	if !told || args.n != 2 {
		return
	}
	if response, err := decodeInitial(args.at[1]); err == nil {
		s.ResponseInClear(mechanism, response)
	}
}

// exchange passes challenges and responses until the mechanism is done. A client that goes away cancels the mechanism's context.
func (c *Conn) exchange(server sasl.Server, response []byte, w *work) reply {
	for {
		w.begin()
		challenge, done, err := server.Next(response)
		w.end()
		if err != nil {
			return c.failedLogin(err)
		}
		if done && len(challenge) == 0 {
			return c.open()
		}
		response, err = c.ask(challenge)
		switch {
		case errors.Is(err, errCancelled):
			return reply{text: textCancelled, failed: true}
		case errors.Is(err, errLineTooLong):
			return reply{text: textResponseTooLong, failed: true}
		case errors.Is(err, errBase64):
			return reply{text: textNotBase64, failed: true}
		case errors.Is(err, errDrained):
			return c.lastWords()
		case err != nil:
			return reply{lost: true, cause: err}
		case done && len(response) > 0:
			return reply{text: textUnexpectedResponse, failed: true}
		case done:
			return c.open()
		}
	}
}

var (
	errCancelled = errors.New("pop3: client has cancelled the exchange")
	errBase64    = errors.New("pop3: not base64")
)

// ask sends a challenge and reads the response. The mark is "+ " and never "+OK" (RFC 5034 §4).
func (c *Conn) ask(challenge []byte) ([]byte, error) {
	if _, err := c.out.begin(c.ends()).WriteString("+ " + base64.StdEncoding.EncodeToString(challenge) + "\r\n"); err != nil {
		return nil, err
	}
	if err := c.out.Flush(); err != nil {
		return nil, err
	}
	line, err := c.readLine(maxResponseLine)
	if err != nil {
		return nil, err
	}
	if string(line) == "*" {
		return nil, errCancelled
	}
	return decode(line)
}

// decode reads base64, and nothing else: the decoder would pass over a CR (RFC 5034 §4).
func decode(text []byte) ([]byte, error) {
	if bytes.IndexByte(text, '\r') >= 0 {
		return nil, errBase64
	}
	octets, err := base64.StdEncoding.AppendDecode([]byte{}, text)
	if err != nil {
		return nil, errBase64
	}
	return octets, nil
}

// decodeInitial reads an initial response; "=" is an empty one (RFC 5034 §4).
func decodeInitial(text []byte) ([]byte, error) {
	if string(text) == "=" {
		return []byte{}, nil
	}
	return decode(text)
}
