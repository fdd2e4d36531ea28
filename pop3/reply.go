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
	text text
	// n and s are the numbers and strings in the text.
	n [2]int64
	s [2]string
	// body is what follows a positive first line, up to the terminating dot (RFC 1939 §3); nil for a single-line reply.
	body body
	// then runs after the reply was sent; release runs last, sent or not.
	then    func() error
	release io.Closer
	// bad counts the command as a strike, failed as a failed login, closing ends the connection. lost ends it without a word, for its cause: there
	// is nobody to answer, or time is up (RFC 1939 §3).
	bad, failed, closing, lost bool
	// cause is for the log.
	cause error
}

// body writes the lines of a multi-line reply.
type body interface {
	writeTo(w *dotWriter) error
}

// lines is a short body.
type lines []string

func (l lines) writeTo(w *dotWriter) error {
	for _, line := range l {
		if _, err := io.WriteString(w, line+"\r\n"); err != nil {
			return err
		}
	}
	return nil
}

func ok(t text, n ...int64) reply {
	r := reply{ok: true, text: t}
	copy(r.n[:], n)
	return r
}

func list(t text, b body) reply { return reply{ok: true, text: t, body: b} }

// no refuses a command that is well formed.
func no(code ResponseCode, t text, n ...int64) reply {
	r := reply{code: code, text: t}
	copy(r.n[:], n)
	return r
}

// bad refuses a command that is not.
func bad(t text) reply { return reply{text: t, bad: true} }

// with puts strings into the text.
func (r reply) with(s ...string) reply {
	copy(r.s[:], s)
	return r
}

// refuse makes a reply that a helper of a handler returns, nil being none.
func refuse(r reply) *reply { return &r }

// refusal is the one way from a backend's error to a reply.
func (c *Conn) refusal(err error) reply {
	var e *Error
	if !errors.As(err, &e) {
		return reply{code: CodeTemp, text: textTemporary, cause: err}
	}
	own := e.Text
	if t, translates := c.server.Backend.(Translator); translates && c.voice.language != english {
		own = t.Translate(languages[c.voice.language].tag, own)
	}
	if e.Code == CodeNone {
		own = strings.TrimLeft(own, "[ ") // else it would be taken for a code (RFC 2449 §6.4)
	}
	return reply{code: e.Code, text: textOwn, s: [2]string{own}, closing: e.Close, cause: e.Err}
}

// appendLine appends the first line with its CRLF: printable, at most maxReplyLine octets.
func (r *reply) appendLine(b []byte, v voice) []byte {
	start := len(b)
	if r.ok {
		b = append(b, "+OK"...)
	} else {
		b = append(b, "-ERR"...)
	}
	if r.code != CodeNone {
		b = append(voice{}.appendPrintable(append(b, " ["...), string(r.code)), ']')
	}
	end := len(b)
	b = v.appendText(append(b, ' '), r.text, &r.n, &r.s)
	if len(b) == end+1 {
		b = b[:end] // there is no text
	}
	return append(cut(b, start+maxReplyLine-len(crlf)), crlf...)
}

// render returns the text alone.
func (r *reply) render(v voice) string { return string(v.appendText(nil, r.text, &r.n, &r.s)) }

// errShort: a message did not have the octets that the snapshot promised.
var errShort = errors.New("pop3: message is not as long as listed")

// copyExactly sends as many octets as to has left, no more and no fewer. copyAll is asked if r does not write itself.
func copyExactly(to *exactWriter, r io.Reader, copyAll func(to io.Writer, from io.Reader) error) error {
	var err error
	if from, ok := r.(io.WriterTo); ok {
		_, err = from.WriteTo(to)
	} else {
		err = copyAll(to, r)
	}
	if err == nil && to.left > 0 {
		return errShort
	}
	return err
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
