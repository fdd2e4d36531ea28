package readable

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
)

// scanner takes a message apart at the delimiters of its multiparts (RFC 2046 §5.1.1), in one pass whatever their number and depth.
type scanner struct {
	br *bufio.Reader
	// open are the boundaries of the multiparts that are open, the outermost first.
	open []string
	// at is the multipart, an index of open, whose delimiter was just met, ended set if that was its last one; -1 before the first and at the end
	// of the message.
	at    int
	ended bool
	// begins is set at the beginning of a line, eof at the end of the message.
	begins, eof bool
	// err is what a read failed with.
	err error
}

func newScanner(r io.Reader) *scanner {
	return &scanner{br: bufio.NewReaderSize(r, 32<<10), at: -1, begins: true}
}

// next returns a line, or a piece of one, or false at a delimiter and at the end. It is valid until the next call.
func (s *scanner) next() (piece []byte, ok bool) {
	if s.eof {
		s.at = -1
		return nil, false
	}
	piece, err := s.br.ReadSlice('\n')
	if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
		s.eof = true
		if !errors.Is(err, io.EOF) {
			s.err = err
		}
	}
	began := s.begins
	s.begins = bytes.HasSuffix(piece, []byte("\n"))
	if began && s.delimiter(piece) {
		return nil, false
	}
	if len(piece) == 0 {
		s.at = -1
		return nil, false
	}
	return piece, true
}

// delimiter notes the delimiter that a line is. The innermost multipart comes first: a boundary may begin with another's.
func (s *scanner) delimiter(line []byte) bool {
	rest, ok := bytes.CutPrefix(line, []byte("--"))
	if !ok {
		return false
	}
	rest = bytes.TrimRight(rest, " \t\r\n")
	for i := len(s.open) - 1; i >= 0; i-- {
		after, ok := bytes.CutPrefix(rest, []byte(s.open[i]))
		if ok && (len(after) == 0 || string(after) == "--") {
			s.at, s.ended = i, len(after) > 0
			return true
		}
	}
	return false
}

// header reads the header of an entity. It ends at a delimiter too, which is met then: bodyless is set.
func (s *scanner) header() (h header, bodyless bool) {
	for {
		began := s.begins
		piece, ok := s.next()
		switch {
		case !ok:
			return h, true
		case began && isEmptyLine(piece):
			return h, false
		}
		h.add(piece)
	}
}

// pass passes over what comes before the next delimiter.
func (s *scanner) pass() {
	for {
		if _, ok := s.next(); !ok {
			return
		}
	}
}

// body is the body of an entity up to the next delimiter, whose line end is not of it.
type body struct {
	s    *scanner
	now  []byte // of the scanner's buffer
	due  string // comes before now: the end of the line before
	held string // the end of the line that now is of
	done bool
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	for len(b.due)+len(b.now) == 0 {
		if b.done && b.s.err != nil {
			return 0, b.s.err
		}
		if b.done {
			return 0, io.EOF
		}
		piece, ok := b.s.next()
		b.due, b.done = b.held, !ok
		if b.done && b.s.at >= 0 {
			b.due = "" // the delimiter's
		}
		b.now, b.held = splitLine(piece)
	}
	n := copy(p, b.due)
	b.due = b.due[n:]
	m := copy(p[n:], b.now)
	b.now = b.now[m:]
	return n + m, nil
}

// splitLine splits the end of a line off.
func splitLine(piece []byte) (text []byte, end string) {
	for _, end := range [...]string{"\r\n", "\n", "\r"} {
		if text, ok := bytes.CutSuffix(piece, []byte(end)); ok {
			return text, end
		}
	}
	return piece, ""
}

// boundaryOf is the boundary of a multipart, "" for one that is none.
func boundaryOf(params map[string]string) string {
	boundary := strings.TrimRight(params["boundary"], " ")
	if len(boundary) > maxBoundary {
		return ""
	}
	return boundary
}

// maxBoundary bounds a boundary in octets: RFC 2046 §5.1.1 allows 70.
const maxBoundary = 200
