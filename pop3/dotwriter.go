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

var dot, crlf, terminator = []byte("."), []byte("\r\n"), []byte(".\r\n")

// Write looks for dots and not for lines: attachments have none, and a message is mostly attachments.
func (d *dotWriter) Write(p []byte) (int, error) {
	written := 0
	put := func(end int) error {
		n, err := d.w.Write(p[written:end])
		written += n
		return err
	}
	for at := 0; at < len(p); {
		i := bytes.IndexByte(p[at:], '.')
		if i < 0 {
			break
		}
		i += at
		for at = i + 1; at < len(p) && p[at] == '.'; { // these begin no line
			at++
		}
		if i == 0 && d.middle || i > 0 && p[i-1] != '\n' {
			continue
		}
		if err := put(i); err != nil {
			return written, err
		}
		if _, err := d.w.Write(dot); err != nil {
			return written, err
		}
	}
	if len(p) == 0 {
		return 0, nil
	}
	err := put(len(p))
	d.note(p)
	return written, err
}

func (d *dotWriter) note(piece []byte) {
	d.middle = piece[len(piece)-1] != '\n'
	if len(piece) == 1 {
		d.tail = [2]byte{d.tail[1], piece[0]}
	} else {
		d.tail = [2]byte(piece[len(piece)-2:])
	}
	d.n += int64(len(piece))
}

// end writes the terminating line. It must begin after a CRLF: content without one at its end gets one, as framing.
func (d *dotWriter) end() error {
	if d.n > 0 && d.tail != [2]byte{'\r', '\n'} {
		if _, err := d.w.Write(crlf); err != nil {
			return err
		}
	}
	_, err := d.w.Write(terminator)
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

func (t *topReader) Read(p []byte) (int, error) {
	if t.done {
		return 0, io.EOF
	}
	n, err := t.r.Read(p)
	for at := 0; at < n; {
		lf := bytes.IndexByte(p[at:n], '\n')
		if lf < 0 {
			t.blank = t.blank && onlyCR(p[at:n])
			break
		}
		switch {
		case t.inBody:
			t.lines--
		case t.blank && onlyCR(p[at:at+lf]):
			t.inBody = true
		}
		t.blank = true
		at += lf + 1
		if t.inBody && t.lines <= 0 {
			t.done = true
			return at, nil
		}
	}
	return n, err
}

func onlyCR(line []byte) bool {
	for _, c := range line {
		if c != '\r' {
			return false
		}
	}
	return true
}
