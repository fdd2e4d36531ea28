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
	release io.Closer
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

// appendLine appends the first line with its CRLF: printable ASCII, at most maxReplyLine octets.
func (r reply) appendLine(b []byte) []byte {
	start := len(b)
	if r.ok {
		b = append(b, "+OK"...)
	} else {
		b = append(b, "-ERR"...)
	}
	if r.code != CodeNone {
		b = append(append(append(b, " ["...), printable(string(r.code))...), ']')
	}
	if text := printable(r.text); text != "" {
		b = append(append(b, ' '), text...)
	}
	b = b[:min(len(b), start+maxReplyLine-len(crlf))]
	return append(b, crlf...)
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

// copyExactly sends size octets, no more and no fewer. lend is asked for a buffer if r needs one.
func copyExactly(w *dotWriter, r io.Reader, size int64, lend func() []byte) error {
	e := &exactWriter{w: w, left: size}
	if from, ok := r.(io.WriterTo); ok {
		if _, err := from.WriteTo(e); err != nil {
			return err
		}
	} else if _, err := io.CopyBuffer(e, r, lend()); err != nil {
		return err
	}
	if e.left > 0 {
		return errShort
	}
	return nil
}

// exactWriter passes on as many octets as are left, and fails rather than take more.
type exactWriter struct {
	w    io.Writer
	left int64
}

func (e *exactWriter) Write(p []byte) (int, error) {
	if int64(len(p)) > e.left {
		return 0, errShort
	}
	n, err := e.w.Write(p)
	e.left -= int64(n)
	return n, err
}
