package message

import (
	"bytes"
	"errors"
	"io"
)

// MaxLineLen is the longest line that a message should have, in octets without CRLF (RFC 5322 §2.1.1).
const MaxLineLen = 998

// repairBuffer bounds what a RepairReader reads ahead, in octets.
const repairBuffer = 16 << 10

var (
	// ErrBareCR: a CR is not followed by LF.
	ErrBareCR = errors.New("message: bare CR")
	// ErrBareLF: a LF does not follow CR.
	ErrBareLF = errors.New("message: bare LF")
)

// crlf is the only line end (RFC 5321 §2.3.8).
const crlf = "\r\n"

// lineCount measures lines as they pass.
type lineCount struct {
	length int64 // octets of the line so far
	long   int64
}

// LongLines is the number of lines longer than MaxLineLen that were read so far.
func (c *lineCount) LongLines() int64 { return c.long }

func (c *lineCount) end() {
	if c.length > MaxLineLen {
		c.long++
	}
	c.length = 0
}

// StrictReader yields a message whose line ends are CRLF, and an error at the first bare CR or LF.
type StrictReader struct {
	lineCount
	r    io.Reader
	cr   bool   // the last octet was CR
	tail string // the final line end that is still owed
	err  error
}

// NewStrictReader reads from r. A final line end that is missing (BDAT allows it, RFC 3030 §2) is added.
func NewStrictReader(r io.Reader) *StrictReader { return &StrictReader{r: r} }

// Reset makes s what NewStrictReader(r) returns.
func (s *StrictReader) Reset(r io.Reader) { *s = StrictReader{r: r} }

// Read fails with ErrBareCR or ErrBareLF, and then for ever; the octets of that Read are not handed out.
func (s *StrictReader) Read(p []byte) (int, error) {
	if s.err != nil {
		return s.drain(p)
	}
	if len(p) == 0 {
		return 0, nil
	}
	n, err := s.r.Read(p)
	if bad := s.check(p[:n]); bad != nil {
		s.err = bad
		return 0, bad
	}
	if err == nil {
		return n, nil
	}
	s.err = err
	if errors.Is(err, io.EOF) {
		switch {
		case s.cr:
			s.err = ErrBareCR
		case s.length > 0:
			s.tail = crlf
			s.end()
		}
	}
	if n > 0 {
		return n, nil
	}
	return s.drain(p)
}

func (s *StrictReader) drain(p []byte) (int, error) {
	if s.tail == "" {
		return 0, s.err
	}
	n := copy(p, s.tail)
	s.tail = s.tail[n:]
	return n, nil
}

// check looks at the octets of one Read. A CR that ends them is judged by the next one.
func (s *StrictReader) check(b []byte) error {
	if s.cr && len(b) > 0 {
		if b[0] != '\n' {
			return ErrBareCR
		}
		s.cr = false
		s.end()
		b = b[1:]
	}
	for len(b) > 0 {
		lf := bytes.IndexByte(b, '\n')
		line := b
		if lf >= 0 {
			line = b[:lf]
		}
		cr := bytes.IndexByte(line, '\r')
		switch {
		case cr >= 0 && cr != len(line)-1:
			return ErrBareCR
		case lf >= 0 && cr < 0:
			return ErrBareLF
		case lf < 0 && cr < 0:
			s.length += int64(len(line))
			return nil
		case lf < 0:
			s.length += int64(len(line) - 1)
			s.cr = true
			return nil
		}
		s.length += int64(len(line) - 1)
		s.end()
		b = b[lf+1:]
	}
	return nil
}

// RepairReader yields a message with CRLF line ends whatever the line ends of its source are.
type RepairReader struct {
	lineCount
	r          io.Reader
	buf        []byte
	start, end int
	cr         bool   // a run of one or more CRs was read, and nothing written for it yet
	extra      bool   // the run has more than one
	out        string // what is owed before anything else
	repaired   int64
	err        error
}

// NewRepairReader reads from r. A bare LF, a bare CR and a run of CRs with or without LF each become one CRLF; a final line end
// that is missing is added.
func NewRepairReader(r io.Reader) *RepairReader {
	return &RepairReader{r: r}
}

// Reset makes r what NewRepairReader(source) returns. Its buffer, which it has from the first Read on, is used again.
func (r *RepairReader) Reset(source io.Reader) { *r = RepairReader{r: source, buf: r.buf} }

// Repaired is the number of line ends that were changed so far.
func (r *RepairReader) Repaired() int64 { return r.repaired }

// Read yields repaired octets.
func (r *RepairReader) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		if r.out != "" {
			c := copy(p[n:], r.out)
			r.out = r.out[c:]
			n += c
			continue
		}
		if r.start == r.end && !r.fill(n > 0) {
			break
		}
		if r.start < r.end {
			n += r.step(p[n:])
		}
	}
	if n == 0 && len(p) > 0 {
		return 0, r.err
	}
	return n, nil
}

// fill reads more, or settles what is owed at the end. It reports whether there is something to go on with.
func (r *RepairReader) fill(have bool) bool {
	if have {
		return false // hand out what there is before waiting for more
	}
	if r.err == nil {
		if r.buf == nil {
			r.buf = make([]byte, repairBuffer)
		}
		r.start = 0
		r.end, r.err = r.r.Read(r.buf)
		return true
	}
	if !errors.Is(r.err, io.EOF) {
		return false
	}
	if r.cr {
		r.lineEnd(true)
		return true
	}
	if r.length > 0 {
		r.lineCount.end()
		r.out = crlf
		return true
	}
	return false
}

// step handles lines with nothing to repair, or one line end, or the octets up to the next one.
func (r *RepairReader) step(p []byte) int {
	b := r.buf[r.start:r.end]
	if n := r.sound(b[:min(len(b), len(p))]); n > 0 {
		r.start += n
		return copy(p, b[:n])
	}
	switch {
	case b[0] == '\n':
		r.lineEnd(!r.cr)
		r.start++
		return 0
	case b[0] == '\r':
		r.extra = r.extra || r.cr
		r.cr = true
		r.start++
		return 0
	case r.cr:
		r.lineEnd(true)
		return 0
	}
	if i := bytes.IndexByte(b, '\r'); i >= 0 {
		b = b[:i]
	}
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		b = b[:i]
	}
	n := copy(p, b)
	r.start += n
	r.length += int64(n)
	return n
}

// sound counts the lines at the beginning of b that end as they should, and returns how many octets they are.
func (r *RepairReader) sound(b []byte) int {
	n := 0
	for !r.cr {
		lf := bytes.IndexByte(b[n:], '\n')
		if lf < 1 || bytes.IndexByte(b[n:n+lf], '\r') != lf-1 {
			break
		}
		r.length += int64(lf - 1)
		r.lineCount.end()
		n += lf + 1
	}
	return n
}

func (r *RepairReader) lineEnd(changed bool) {
	if changed || r.extra {
		r.repaired++
	}
	r.cr, r.extra = false, false
	r.lineCount.end()
	r.out = crlf
}
