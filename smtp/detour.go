package smtp

import (
	"bytes"
	"errors"
	"io"

	gosmtp "github.com/emersion/go-smtp"
)

// The detour: go-smtp reads a message of DATA octet by octet, and above the wire there is no way round that. On a connection in the
// clear the wire is what go-smtp reads from, so the message can be read from there in blocks, and go-smtp never sees an octet of it. No
// octet has two readers, so there are no two opinions on where a message ends:
//
//   - divert makes the wire answer go-smtp's next read with errDetour, which go-smtp hands on to the session as it is. That this was the
//     first thing to happen after DATA says that go-smtp holds nothing back, and is at the beginning of a line.
//   - The session reads the message from the wire. What came behind its end goes back to the wire.
//   - go-smtp looks for the end of the message too, gets errDetour, and gives that up; it answers, and resets the session. Then rejoin
//     lets it read commands again, from the octet behind the message on.
//
// A client that sent a part of the message before it was asked for it, with DATA in one packet, takes go-smtp's way, and so does TLS.

// errDetour is what go-smtp reads while a message goes past it.
var errDetour = errors.New("smtp: message goes past the library")

// divert makes what comes next bypass go-smtp. False means that it cannot: below TLS there is nothing to be read here, and in the middle
// of a line there is something that go-smtp has not given to the session yet.
func (w *wire) divert() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.detour = !w.secure && w.tail == '\n'
	return w.detour
}

// rejoin ends the detour, if there is one.
func (w *wire) rejoin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.detour = false
}

// giveBack makes octets that were read past the end of a message what go-smtp reads next. They are copied.
func (w *wire) giveBack(b []byte) {
	if len(b) == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ahead = append(bytes.Clone(b), w.ahead...)
}

// source is where a message is to be read from: r, which go-smtp made, or the wire itself.
func (s *session) source(r io.Reader) io.Reader {
	if _, chunks := r.(*io.PipeReader); chunks {
		return r // BDAT: go-smtp counts octets, and copies them in blocks
	}
	if !s.wire.divert() {
		return r
	}
	var first [1]byte
	n, err := r.Read(first[:])
	if n == 0 && err == errDetour { //nolint:errorlint // exactly this: nothing was read, by anybody
		return &dataReader{wire: s.wire, line: 1}
	}
	s.wire.rejoin()
	return io.MultiReader(bytes.NewReader(first[:n]), r)
}

// dataState is where in a line the next octet is.
type dataState int

const (
	lineBegins dataState = iota
	inLine
	afterCR
	// afterDot: a dot began the line. It is held back.
	afterDot
	// afterDotCR: so is a CR behind it.
	afterDotCR
)

// dataReader reads one message from the wire: up to CRLF . CRLF, without the dots that were put before dots (RFC 5321 §4.5.2). It does
// to every octet what go-smtp would have done, its deviations included (see docs/rfc.md), so that a message is the same by all ways.
type dataReader struct {
	wire  *wire
	state dataState
	// line counts the octets since the last LF, with that, as go-smtp's limit on lines does.
	line int
	// err ends the message: io.EOF behind its end.
	err error
}

// Read hands out a block. Octets behind the end of the message go back to the wire.
func (d *dataReader) Read(p []byte) (int, error) {
	for d.err == nil && len(p) > 0 {
		read, err := d.wire.receive(p)
		n, used := d.unstuff(p[:read])
		switch {
		case errors.Is(d.err, io.EOF):
			d.wire.giveBack(p[used:read])
		case d.err != nil:
			return 0, d.err
		case errors.Is(err, io.EOF):
			d.err = io.ErrUnexpectedEOF
		default:
			d.err = err
		}
		if n > 0 {
			return n, nil
		}
	}
	return 0, d.err
}

// finish must be called when nobody reads the message any more. One that was not read to its end ends the connection: no octet of it may
// become a command.
func (d *dataReader) finish() {
	switch {
	case d.err == nil:
		_ = d.wire.fail(io.ErrUnexpectedEOF)
	case !errors.Is(d.err, io.EOF):
		_ = d.wire.fail(d.err) // the wire's own, or a line that is too long: go-smtp says so and closes
	}
}

// unstuff takes the stuffed dots out of b, in place, and sets err at the end of the message or at a line that is too long. n is how many
// octets are left of the used ones.
func (d *dataReader) unstuff(b []byte) (n, used int) {
	i := 0
	keep := func(end int) {
		d.count(b[i:end])
		if n < i {
			copy(b[n:], b[i:end])
		}
		n += end - i
		i = end
	}
	for i < len(b) && d.err == nil {
		c := b[i]
		switch d.state {
		case inLine:
			if cr := bytes.IndexByte(b[i:], '\r'); cr >= 0 {
				keep(i + cr + 1)
				d.state = afterCR
			} else {
				keep(len(b))
			}
		case afterCR:
			keep(i + 1)
			d.state = inLine
			if c == '\n' {
				d.state = lineBegins
			}
		case lineBegins:
			d.state = inLine
			if c == '.' {
				d.state = afterDot
				i++
				d.line++
			}
		case afterDot:
			d.state = inLine
			if c == '\r' {
				d.state = afterDotCR
				i++
				d.line++
			}
		case afterDotCR:
			if c == '\n' {
				d.err = io.EOF
				return n, i + 1
			}
			keep(i + 1)
			d.state = inLine
		}
	}
	return n, i
}

// count counts octets as they came; a line that is longer than maxLine is an error.
func (d *dataReader) count(b []byte) {
	if d.line+len(b) <= maxLine {
		if bytes.IndexByte(b, '\n') >= 0 { // rarely: unstuff gives an LF behind a CR alone
			d.line, b = 0, b[bytes.LastIndexByte(b, '\n'):]
		}
		d.line += len(b)
		return
	}
	for _, c := range b {
		if c == '\n' {
			d.line = 0
		}
		if d.line++; d.line > maxLine {
			d.err = gosmtp.ErrTooLongLine
			return
		}
	}
}
