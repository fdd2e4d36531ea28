package dkim

import (
	"bytes"
	"crypto/sha256"
	"hash"
	"math"
)

// bodyBuffer is how many octets are gathered before they are hashed.
const bodyBuffer = 4 << 10

var (
	crlf  = []byte("\r\n")
	blank = []byte(" ")
	// emptyLines is written for runs of empty lines, piece by piece.
	emptyLines = bytes.Repeat(crlf, bodyBuffer/len(crlf))
)

// octets hashes the octets of a form, or only the first of them (l=, RFC 6376 §3.5).
type octets struct {
	hash hash.Hash
	buf  []byte
	// seen are all octets of the form so far, limit is how many of them are hashed.
	seen, limit int64
}

func newOctets(limit int64) octets {
	return octets{hash: sha256.New(), buf: make([]byte, 0, bodyBuffer), limit: limit}
}

func (o *octets) put(p []byte) {
	room := max(0, o.limit-o.seen)
	o.seen += int64(len(p))
	p = p[:min(int64(len(p)), room)]
	if len(o.buf)+len(p) > bodyBuffer {
		o.hash.Write(o.buf)
		o.buf = o.buf[:0]
	}
	if len(p) >= bodyBuffer {
		o.hash.Write(p)
		return
	}
	o.buf = append(o.buf, p...)
}

// putLines puts a number of line ends.
func (o *octets) putLines(n int64) {
	for n > 0 {
		some := min(n, int64(len(emptyLines)/len(crlf)))
		o.put(emptyLines[:some*int64(len(crlf))])
		n -= some
	}
}

func (o *octets) sum() []byte {
	o.hash.Write(o.buf)
	o.buf = o.buf[:0]
	return o.hash.Sum(nil)
}

// bodyForm is a body on its way through a form. Line ends of what is written are CRLF.
type bodyForm interface {
	write(p []byte)
	// end ends the body, and returns the hash of its form and how many octets that has. It is called once.
	end() (sum []byte, size int64)
}

// simpleBody is the simple form (RFC 6376 §3.4.3): empty lines at the end are none, and there is one line end at least.
type simpleBody struct {
	out octets
	// ends are line ends not written yet, as they may be the last ones.
	ends int64
}

func (b *simpleBody) write(p []byte) {
	for len(p) > 0 {
		line, rest, ended := bytes.Cut(p, []byte{'\n'})
		if text := bytes.TrimSuffix(line, []byte{'\r'}); len(text) > 0 {
			b.out.putLines(b.ends)
			b.ends = 0
			b.out.put(text)
		}
		if ended {
			b.ends++
		}
		p = rest
	}
}

func (b *simpleBody) end() ([]byte, int64) {
	b.out.put(crlf)
	return b.out.sum(), b.out.seen
}

// bodyHash hashes a body in the relaxed form (RFC 6376 §3.4.4): white space at the end of a line is none, any other run of it is one
// space, and empty lines at the end are none.
type bodyHash struct {
	out octets
	// ends are line ends not written yet, as they may be the last ones; space is white space that may be the last of its line.
	ends  int64
	space bool
	// text is set when there is anything but empty lines.
	text bool
}

func newBodyHash() bodyHash { return bodyHash{out: newOctets(math.MaxInt64)} }

func (b *bodyHash) write(p []byte) {
	for i := 0; i < len(p); {
		switch p[i] {
		case '\r': // belongs to the line end behind it
			i++
		case '\n':
			b.ends++
			b.space = false
			i++
		case ' ', '\t':
			b.space = true
			i++
		default:
			start := i
			for i < len(p) && !isBreak(p[i]) {
				i++
			}
			b.word(p[start:i])
		}
	}
}

func isBreak(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

// word writes octets that are no white space, and what was owed before them.
func (b *bodyHash) word(p []byte) {
	b.out.putLines(b.ends)
	b.ends = 0
	if b.space {
		b.out.put(blank)
		b.space = false
	}
	b.out.put(p)
	b.text = true
}

func (b *bodyHash) end() ([]byte, int64) { return b.sum(), b.out.seen }

// sum ends the body. A body without text is empty in this form.
func (b *bodyHash) sum() []byte {
	if b.text {
		b.out.put(crlf)
	}
	return b.out.sum()
}

// appendRelaxed appends a header field in the relaxed form (RFC 6376 §3.4.2), without its line end: the name in lower case, no white
// space around the colon and at the end, every other run of it, and every fold, one space.
func appendRelaxed(out, field []byte) []byte {
	colon := bytes.IndexByte(field, ':')
	if colon < 0 {
		colon = len(field)
	}
	out = append(out, bytes.ToLower(bytes.TrimRight(field[:colon], " \t"))...)
	out = append(out, ':')
	empty, space := true, false
	for _, c := range field[min(colon+1, len(field)):] {
		switch {
		case isBreak(c):
			space = !empty
		default:
			if space {
				out = append(out, ' ')
			}
			out = append(out, c)
			empty, space = false, false
		}
	}
	return out
}

// field is one field of a header: its name in lower case, and all its octets without the last line end.
type field struct {
	name string
	all  []byte
}

// fields takes a header apart. What is no field, which a message from package message does not have, is an ErrHeader.
func fields(header []byte) ([]field, error) {
	var list []field
	start := 0
	for start < len(header) {
		end := start
		for {
			lf := bytes.IndexByte(header[end:], '\n')
			if lf < 0 {
				end = len(header)
				break
			}
			end += lf + 1
			if end == len(header) || header[end] != ' ' && header[end] != '\t' {
				break
			}
		}
		all := bytes.TrimRight(header[start:end], "\r\n")
		colon := bytes.IndexByte(all, ':')
		if colon < 0 {
			return nil, ErrHeader
		}
		name := bytes.TrimRight(all[:colon], " \t")
		if len(name) == 0 || bytes.ContainsAny(name, " \t\r\n") {
			return nil, ErrHeader
		}
		list = append(list, field{name: string(bytes.ToLower(name)), all: all})
		start = end
	}
	return list, nil
}
