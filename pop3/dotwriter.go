package pop3

import (
	"bytes"
	"io"
)

// dotWriter writes the lines of a multi-line reply: a line that begins with the termination octet gets one more (RFC 1939 §3). A line
// ends at LF: content has CRLF only, and a client that reads up to LF must not see a dot alone either.
type dotWriter struct {
	w io.Writer
	// middle is set inside a line; tail are the last two octets.
	middle bool
	tail   [2]byte
	n      int64
}

var dot, crlf = []byte("."), []byte("\r\n")

func (d *dotWriter) Write(p []byte) (int, error) {
	written := 0
	for len(p) > 0 {
		if !d.middle && p[0] == '.' {
			if _, err := d.w.Write(dot); err != nil {
				return written, err
			}
		}
		line := p
		if i := bytes.IndexByte(p, '\n'); i >= 0 {
			line = p[:i+1]
		}
		n, err := d.w.Write(line)
		written += n
		if err != nil {
			return written, err
		}
		d.note(line)
		p = p[len(line):]
	}
	return written, nil
}

func (d *dotWriter) note(line []byte) {
	d.middle = line[len(line)-1] != '\n'
	if len(line) == 1 {
		d.tail = [2]byte{d.tail[1], line[0]}
	} else {
		d.tail = [2]byte(line[len(line)-2:])
	}
	d.n += int64(len(line))
}

// end writes the terminating line. It must begin after a CRLF: content without one at its end gets one, as framing.
func (d *dotWriter) end() error {
	if d.n > 0 && d.tail != [2]byte{'\r', '\n'} {
		if _, err := d.w.Write(crlf); err != nil {
			return err
		}
	}
	_, err := d.w.Write([]byte(".\r\n"))
	return err
}

// topReader yields the header, the empty line and a number of lines of the body (RFC 1939 §7, TOP).
type topReader struct {
	r     io.Reader
	lines int
	// inBody is set after the empty line; blank while nothing but CR was seen of the present line.
	inBody, blank bool
	done          bool
}

func newTopReader(r io.Reader, lines int) *topReader {
	return &topReader{r: r, lines: lines, blank: true}
}

func (t *topReader) Read(p []byte) (int, error) {
	if t.done {
		return 0, io.EOF
	}
	n, err := t.r.Read(p)
	for i, c := range p[:n] {
		if c != '\n' {
			t.blank = t.blank && c == '\r'
			continue
		}
		switch {
		case t.inBody:
			t.lines--
		case t.blank:
			t.inBody = true
		}
		t.blank = true
		if t.inBody && t.lines <= 0 {
			t.done = true
			return i + 1, nil
		}
	}
	return n, err
}
