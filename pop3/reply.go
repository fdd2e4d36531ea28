package pop3

import (
	"errors"
	"io"
	"strings"
)

// reply is what a command answers. One place writes, counts and logs it: Conn.answer.
type reply struct {
	ok   bool
	code ResponseCode
	text string
	// body is what follows a positive first line, up to the terminating dot (RFC 1939 §3); nil for a single-line reply.
	body func(w *dotWriter) error
	// then runs after the reply was sent; release runs last, sent or not.
	then    func() error
	release func() error
	// bad counts the command as a strike, failed as a failed login, closing ends the connection.
	bad, failed, closing bool
	// cause is for the log.
	cause error
}

func ok(text string) reply { return reply{ok: true, text: text} }

func list(text string, body func(w *dotWriter) error) reply {
	return reply{ok: true, text: text, body: body}
}

// no refuses a command that is well formed.
func no(code ResponseCode, text string) reply { return reply{code: code, text: text} }

// bad refuses a command that is not.
func bad(text string) reply { return reply{text: text, bad: true} }

// refusal is the one way from a backend's error to a reply.
func refusal(err error) reply {
	var e *Error
	if !errors.As(err, &e) {
		return reply{code: CodeTemp, text: "temporary failure, try again later", cause: err}
	}
	return reply{code: e.Code, text: e.Text, closing: e.Close, cause: e.Err}
}

// line is the first line with its CRLF: printable ASCII, at most maxReplyLine octets.
func (r reply) line() string {
	var b strings.Builder
	if r.ok {
		b.WriteString("+OK")
	} else {
		b.WriteString("-ERR")
	}
	if r.code != CodeNone {
		b.WriteString(" [" + printable(string(r.code)) + "]")
	}
	if text := printable(r.text); text != "" {
		b.WriteString(" " + text)
	}
	line := b.String()
	return line[:min(len(line), maxReplyLine-2)] + "\r\n"
}

// printable drops what is not printable ASCII, so that nothing can end a line early.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, s)
}

// errShort: a message did not have the octets that the snapshot promised.
var errShort = errors.New("pop3: message is not as long as listed")

// copyExactly sends size octets, no more and no fewer.
func copyExactly(w *dotWriter, r io.Reader, size int64, buf []byte) error {
	n, err := io.CopyBuffer(w, io.LimitReader(r, size), buf)
	if err != nil {
		return err
	}
	if n < size {
		return errShort
	}
	switch n, err := io.ReadFull(r, buf[:1]); {
	case n > 0:
		return errShort
	case errors.Is(err, io.EOF):
		return nil
	default:
		return err
	}
}
