package message

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Caps of a header that is read. A header is kept in memory, so these bound it.
const (
	// MaxHeaderOctets bounds the header with its empty line.
	MaxHeaderOctets = 256 << 10
	// MaxHeaderFields bounds the number of fields: a header bomb has ten thousand.
	MaxHeaderFields = 2000
	// MaxHeaderLine bounds one line of the header with its CRLF. RFC 5322 §2.1.1 allows 1000; programs that do not fold exist.
	MaxHeaderLine = 32 << 10
)

// Why a header is refused.
var (
	// ErrHeaderTooLarge: more than MaxHeaderOctets.
	ErrHeaderTooLarge = errors.New("message: header too large")
	// ErrTooManyFields: more than MaxHeaderFields.
	ErrTooManyFields = errors.New("message: too many header fields")
	// ErrHeaderLine: a line longer than MaxHeaderLine.
	ErrHeaderLine = errors.New("message: header line too long")
	// ErrHeaderNUL: a NUL octet in the header.
	ErrHeaderNUL = errors.New("message: NUL in header")
	// ErrInjection: a field to be added is not one field.
	ErrInjection = errors.New("message: bad header field to add")
)

// field is one field as it came: where it begins and ends in Header.raw, line ends included, and how long its name is.
type field struct {
	start, end, name int
}

// Header is the header of a message with edits on it. The octets of fields that are not edited stay as they came.
type Header struct {
	raw    []byte
	fields []field
	// top are whole fields put before the others.
	top []byte
	// out is what WriteTo wrote.
	out []byte
	// ended is set when an empty line ended the header, broken when a line that is no field did.
	ended, broken bool
}

// maxKeptOctets and maxKeptFields bound each piece of memory that a Header keeps for the next message.
const (
	maxKeptOctets = 16 << 10
	maxKeptFields = 200
)

// Reset makes h an empty header. Its memory is used again, unless it is much.
func (h *Header) Reset() {
	*h = Header{raw: kept(h.raw, maxKeptOctets), fields: kept(h.fields, maxKeptFields), top: kept(h.top, maxKeptOctets), out: kept(h.out, maxKeptOctets)}
}

func kept[T any](s []T, most int) []T {
	if cap(s) > most {
		return nil
	}
	return s[:0]
}

// Read reads the header of a message that has CRLF line ends, and its empty line, into an empty h. It returns a reader of the body: r, if
// that is a bufio.Reader and all is well.
func (h *Header) Read(r io.Reader) (body io.Reader, err error) {
	br := bufio.NewReader(r)
	for {
		start := len(h.raw)
		if err := h.readLine(br); err != nil {
			return nil, err
		}
		line := h.raw[start:]
		switch {
		case len(line) == 0:
			return br, nil
		case string(line) == crlf:
			h.raw, h.ended = h.raw[:start], true
			return br, nil
		case bytes.IndexByte(line, 0) >= 0:
			return nil, ErrHeaderNUL
		}
		name, ok := fieldName(line)
		switch {
		case (line[0] == ' ' || line[0] == '\t') && len(h.fields) > 0:
			h.fields[len(h.fields)-1].end = len(h.raw)
		case !ok:
			rest := bytes.Clone(line)
			h.raw, h.broken = h.raw[:start], true
			return io.MultiReader(bytes.NewReader(rest), br), nil
		case len(h.fields) == MaxHeaderFields:
			return nil, ErrTooManyFields
		default:
			h.fields = append(h.fields, field{start: start, end: len(h.raw), name: name})
		}
	}
}

// readLine appends one line to raw, nothing at the end of the message.
func (h *Header) readLine(br *bufio.Reader) error {
	start := len(h.raw)
	for {
		part, err := br.ReadSlice('\n')
		h.raw = append(h.raw, part...)
		switch {
		case len(h.raw) > MaxHeaderOctets:
			return ErrHeaderTooLarge
		case len(h.raw)-start > MaxHeaderLine:
			return ErrHeaderLine
		case err == nil || errors.Is(err, io.EOF):
			return nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return err
		}
	}
}

// fieldName returns the length of the field name (RFC 5322 §3.6.8) that a line begins with. Blanks before the colon are obsolete
// syntax (RFC 5322 §4.5) and still a field.
func fieldName(line []byte) (int, bool) {
	colon := bytes.IndexByte(line, ':')
	if colon < 0 {
		return 0, false
	}
	name := bytes.TrimRight(line[:colon], " \t")
	return len(name), isFieldName(name)
}

func isFieldName(name []byte) bool {
	for _, c := range name {
		if c <= ' ' || c > '~' || c == ':' {
			return false
		}
	}
	return len(name) > 0
}

// Count returns how many fields of that name there are, prepended ones not counted.
func (h *Header) Count(name string) int {
	n := 0
	for _, f := range h.fields {
		if h.is(f, name) {
			n++
		}
	}
	return n
}

// Values returns the unfolded values of all fields of that name, prepended ones left out, in order, without blanks around them.
func (h *Header) Values(name string) []string {
	var values []string
	for _, f := range h.fields {
		if h.is(f, name) {
			values = append(values, h.value(f))
		}
	}
	return values
}

// Tidy moves blanks that stand before a colon behind it, in all fields, and returns in how many. They are obsolete syntax that nobody may
// write any more (RFC 5322 §4.5), and programs that verify signatures do not know it.
func (h *Header) Tidy() int {
	n := 0
	for _, f := range h.fields {
		raw := h.raw[f.start:f.end]
		colon := bytes.IndexByte(raw, ':')
		if colon == f.name {
			continue
		}
		copy(raw[f.name+1:], raw[f.name:colon])
		raw[f.name] = ':'
		n++
	}
	return n
}

// Remove drops all fields of that name but prepended ones, and returns how many there were.
func (h *Header) Remove(name string) int {
	return h.RemoveIf(name, func(string) bool { return true })
}

// RemoveIf drops the fields of that name but prepended ones whose unfolded value is one to drop, and returns how many there were.
func (h *Header) RemoveIf(name string, drop func(value string) bool) int {
	before := len(h.fields)
	h.fields = slices.DeleteFunc(h.fields, func(f field) bool { return h.is(f, name) && drop(h.value(f)) })
	return before - len(h.fields)
}

// Prepend puts a field before all others, as trace fields are (RFC 5321 §4.4). The parts of the value go on lines of their own.
// ErrInjection if the name is none, or a part has a control character.
func (h *Header) Prepend(name string, parts ...string) error {
	f, err := Field(name, parts...)
	if err != nil {
		return err
	}
	h.top = slices.Insert(h.top, 0, f...)
	return nil
}

// Append puts a field after all others; else like Prepend.
func (h *Header) Append(name string, parts ...string) error {
	f, err := Field(name, parts...)
	if err != nil {
		return err
	}
	start := len(h.raw)
	h.raw = append(h.raw, f...)
	h.fields = append(h.fields, field{start: start, end: len(h.raw), name: len(name)})
	return nil
}

// WriteTo writes the header with its edits, in one Write, and the empty line unless the message ended without one. It returns what
// store.Envelope.HeaderLen wants to know.
func (h *Header) WriteTo(w io.Writer) (int64, error) {
	h.out = h.appendFields(h.out[:0])
	if h.ended || h.broken {
		h.out = append(h.out, crlf...)
	}
	n, err := w.Write(h.out)
	return int64(n), err
}

// Octets returns the header with its edits, without the empty line.
func (h *Header) Octets() []byte { return h.appendFields(nil) }

func (h *Header) appendFields(b []byte) []byte {
	b = append(slices.Grow(b, len(h.top)+len(h.raw)+len(crlf)), h.top...)
	for i := 0; i < len(h.fields); {
		start, end := h.fields[i].start, h.fields[i].end
		for i++; i < len(h.fields) && h.fields[i].start == end; i++ { // fields that still stand side by side are one piece
			end = h.fields[i].end
		}
		b = append(b, h.raw[start:end]...)
	}
	return b
}

func (h *Header) is(f field, name string) bool {
	return f.name == len(name) && strings.EqualFold(string(h.raw[f.start:f.start+f.name]), name)
}

func (h *Header) value(f field) string {
	raw := h.raw[f.start:f.end]
	colon := bytes.IndexByte(raw, ':')
	return strings.Trim(strings.ReplaceAll(string(raw[colon+1:]), crlf, ""), " \t")
}

// Field returns one header field with its line end. The parts of its value are folded: each but the first begins a line of its own.
// ErrInjection if the name is none, or a part has a control character, so that nothing in a value can begin another field.
func Field(name string, parts ...string) ([]byte, error) {
	if !isFieldName([]byte(name)) {
		return nil, fmt.Errorf("%w: name", ErrInjection)
	}
	for _, part := range parts {
		if strings.ContainsFunc(part, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
			return nil, fmt.Errorf("%w: control character in %s", ErrInjection, name)
		}
	}
	size := len(name) + len(": ") + len(crlf)
	for _, part := range parts {
		size += len(part) + len(crlf+"\t")
	}
	field := append(append(make([]byte, 0, size), name...), ": "...)
	for i, part := range parts {
		if i > 0 {
			field = append(field, crlf+"\t"...)
		}
		field = append(field, part...)
	}
	return append(field, crlf...), nil
}
