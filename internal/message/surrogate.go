package message

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"mime"
	"net/mail"
	"strings"
	"unicode/utf8"
)

// invalidAddress stands for an address that a client without UTF-8 can do nothing with (RFC 6858 §2.1): nobody has it.
const invalidAddress = "invalid@internationalized-address.invalid"

// fillerName begins the fields that make a surrogate as long as its message; fillerLine is the longest such line.
const (
	fillerName = "X-Surrogate: "
	fillerLine = 76
)

// remedy is what becomes of a field that is not ASCII; any other is left out (RFC 6858 §2.4).
type remedy int

const (
	remedyAddresses remedy = iota + 1 // addresses that are not ASCII become display names of invalidAddress (RFC 6858 §2.1)
	remedyText                        // encoded words (RFC 6858 §2.3)
	remedyMask                        // see mask
)

func remedyOf(name string) remedy {
	switch strings.ToLower(name) {
	case "from", "sender", "reply-to", "to", "cc", "bcc",
		"resent-from", "resent-sender", "resent-reply-to", "resent-to", "resent-cc", "resent-bcc":
		return remedyAddresses
	case "subject":
		return remedyText
	case "content-type", "content-disposition":
		return remedyMask
	}
	return 0
}

// Surrogate returns what a client that knows nothing of UTF-8 in headers gets instead of a header: ASCII, and exactly as many octets, so that every
// size told of the message is right without a look at it (RFC 6856 §2.1, RFC 6858 §2). The header may have its empty line or not; so has the surrogate.
// One that is ASCII is returned itself.
//
// Signatures go, as they are of another message. Where what is encoded is longer than what was there, fields that nobody reads make room: Received
// fields, the oldest first, then others that are not shown. Where it is shorter, X-Surrogate fields fill up. A header without such room is masked:
// each octet that is not ASCII is an underscore.
func Surrogate(header []byte) []byte {
	if isClean(header) {
		return header
	}
	fields, end := splitFields(header)
	end = mask(bytes.Clone(end)) // nothing, if the empty line is the last one
	size := len(end)
	for i, f := range fields {
		fields[i] = downgrade(f)
		size += len(fields[i])
	}
	for pass := range roomPasses {
		for i := len(fields) - 1; i >= 0 && size > len(header); i-- {
			if makesRoom(nameOf(fields[i]), pass) {
				size -= len(fields[i])
				fields[i] = nil
			}
		}
	}
	out := bytes.Join(fields, nil)
	gap := len(header) - size
	switch line, ended := bytes.CutSuffix(out, []byte(crlf)); {
	case gap < 0, !ended:
		return mask(bytes.Clone(header))
	case gap < len(fillerName)+len(crlf): // too little for a field: blanks behind the last one
		out = append(append(line, bytes.Repeat([]byte(" "), gap)...), crlf...)
	default:
		out = appendFiller(out, gap)
	}
	return append(out, end...)
}

// roomPasses is how many kinds of fields make room, one after the other.
const roomPasses = 2

func makesRoom(name string, pass int) bool {
	name = strings.ToLower(name)
	if pass == 0 {
		return name == "received"
	}
	return strings.HasPrefix(name, "x-") || strings.HasPrefix(name, "list-") || name == "authentication-results" || name == "received-spf"
}

// appendFiller adds gap octets of X-Surrogate fields; gap is enough for one.
func appendFiller(out []byte, gap int) []byte {
	least := len(fillerName) + len(crlf)
	for gap > 0 {
		n := min(gap, fillerLine)
		if rest := gap - n; rest > 0 && rest < least {
			n -= least
		}
		out = append(out, fillerName...)
		out = append(out, bytes.Repeat([]byte("-"), n-least)...)
		out = append(out, crlf...)
		gap -= n
	}
	return out
}

// splitFields cuts a header into fields, each with its line ends, and the empty line that ends it, if one does.
func splitFields(header []byte) (fields [][]byte, end []byte) {
	for start := 0; start < len(header); {
		at := start
		for {
			n := bytes.IndexByte(header[at:], '\n')
			if n < 0 {
				at = len(header)
			} else {
				at += n + 1
			}
			if at == len(header) || header[at] != ' ' && header[at] != '\t' {
				break
			}
		}
		if len(bytes.TrimRight(header[start:at], "\r\n")) == 0 {
			return fields, header[start:]
		}
		fields = append(fields, header[start:at])
		start = at
	}
	return fields, nil
}

func nameOf(field []byte) string {
	if n, ok := fieldName(field); ok {
		return string(field[:n])
	}
	return ""
}

// downgrade returns a field as it goes to a client without UTF-8; nil leaves it out.
func downgrade(field []byte) []byte {
	name := nameOf(field)
	switch low := strings.ToLower(name); {
	case low == "dkim-signature", strings.HasPrefix(low, "arc-"):
		return nil
	case isClean(field):
		return field
	case name == "":
		return mask(bytes.Clone(field))
	}
	_, value, _ := strings.Cut(string(field), ":")
	value = strings.ToValidUTF8(strings.Join(strings.Fields(value), " "), string(utf8.RuneError))
	switch remedyOf(name) {
	case remedyAddresses:
		value = downgradeAddresses(value)
	case remedyText:
		value = encodeWords(value)
	case remedyMask:
		return mask(bytes.Clone(field))
	default:
		return nil
	}
	return mask([]byte(name + ": " + value + "\r\n"))
}

// encodeWords makes encoded words of a text, each on a line of its own (RFC 2047 §2).
func encodeWords(text string) string {
	q, b := mime.QEncoding.Encode("utf-8", text), mime.BEncoding.Encode("utf-8", text)
	if len(b) < len(q) {
		q = b
	}
	return strings.ReplaceAll(q, "?= =?", "?=\r\n =?")
}

// downgradeAddresses writes a list of addresses in ASCII. What is no such list is shown as the name of somebody without an address.
func downgradeAddresses(value string) string {
	list, err := mail.ParseAddressList(value)
	if err != nil || len(list) == 0 {
		list = []*mail.Address{{Name: value, Address: invalidAddress}}
	}
	var b strings.Builder
	for i, a := range list {
		if i > 0 {
			b.WriteString(",\r\n ")
		}
		if !isClean([]byte(a.Address)) {
			if a.Name == "" {
				a.Name = a.Address
			} else {
				a.Name += " (" + a.Address + ")"
			}
			a.Address = invalidAddress
		}
		b.WriteString(strings.ReplaceAll(a.String(), "?= =?", "?=\r\n =?"))
	}
	return b.String()
}

// isClean reports whether b is ASCII without NUL.
func isClean(b []byte) bool {
	for _, c := range b {
		if c == 0 || c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// mask makes underscores of what is not clean, in place: a file name keeps its ending that way, and its program.
func mask(b []byte) []byte {
	for i, c := range b {
		if c == 0 || c >= utf8.RuneSelf {
			b[i] = '_'
		}
	}
	return b
}

// Bounds of what a SurrogateReader knows of the parts of a body.
const (
	maxPartDepth   = 32      // multiparts within each other; deeper ones are not looked into
	maxContentType = 2 << 10 // octets of a Content-Type field that are looked at
	surrogateLine  = 4 << 10 // octets read at once
)

// SurrogateReader yields a message for a client that knows nothing of UTF-8 in headers: its header as [Surrogate] has it, and of its body, which goes
// through in pieces, the headers of parts masked. It yields as many octets as it is made of. It closes nothing.
type SurrogateReader struct {
	piece       []byte // to be yielded yet
	source      *bufio.Reader
	boundaries  [][]byte // the delimiter lines of the multiparts around, without the hyphens that close
	contentType []byte   // of the header that is read
	inHeader    bool     // of a part, or of a message in it
	inType      bool     // the line before is of a Content-Type field
	within      bool     // the piece before did not end its line
}

// NewSurrogateReader returns a reader of the message that r yields, whose header has headerLen octets, or of its header alone. The header is read
// now; of one that is larger than a message may have (MaxHeaderOctets, and as much again for what the server put before it) nothing is encoded: it
// is masked. An error is that of r.
func NewSurrogateReader(r io.Reader, headerLen int64) (*SurrogateReader, error) {
	s := &SurrogateReader{source: bufio.NewReaderSize(r, surrogateLine)}
	if headerLen > 2*MaxHeaderOctets {
		s.inHeader = true
		return s, nil
	}
	header := make([]byte, headerLen)
	if _, err := io.ReadFull(s.source, header); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	fields, _ := splitFields(header)
	for _, f := range fields {
		s.noteType(f)
		s.inType = false
	}
	s.endHeader()
	s.piece = Surrogate(header)
	return s, nil
}

func (s *SurrogateReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if len(s.piece) == 0 {
		if len(s.boundaries) == 0 && !s.inHeader {
			return s.source.Read(p) // no parts, or none any more
		}
		line, err := s.source.ReadSlice('\n')
		if len(line) == 0 {
			return 0, err
		}
		s.piece = s.line(line)
	}
	n := copy(p, s.piece)
	s.piece = s.piece[n:]
	return n, nil
}

// line looks at a line of the body, or at a piece of one, and masks it if it is of a header.
func (s *SurrogateReader) line(line []byte) []byte {
	first := !s.within
	s.within = line[len(line)-1] != '\n'
	switch {
	case first && s.isDelimiter(line):
		return line
	case !s.inHeader:
		return line
	case first && len(bytes.TrimRight(line, "\r\n")) == 0:
		s.endHeader()
		return line
	}
	if first {
		s.noteType(line)
	}
	return mask(line)
}

// isDelimiter follows the parts: a delimiter begins the header of one or ends its multipart, and ends all that lie within (RFC 2046 §5.1).
func (s *SurrogateReader) isDelimiter(line []byte) bool {
	if !bytes.HasPrefix(line, []byte("--")) {
		return false
	}
	line = bytes.TrimRight(line, " \t\r\n")
	for i := len(s.boundaries) - 1; i >= 0; i-- {
		rest, found := bytes.CutPrefix(line, s.boundaries[i])
		if !found || len(rest) > 0 && string(rest) != "--" {
			continue
		}
		s.inHeader, s.inType, s.contentType = len(rest) == 0, false, s.contentType[:0]
		if s.boundaries = s.boundaries[:i+1]; len(rest) > 0 {
			s.boundaries = s.boundaries[:i]
		}
		return true
	}
	return false
}

// noteType keeps the Content-Type field that a line, or a whole field, is of.
func (s *SurrogateReader) noteType(line []byte) {
	if line[0] != ' ' && line[0] != '\t' {
		s.inType = strings.EqualFold(nameOf(line), "content-type")
	}
	if s.inType && len(s.contentType)+len(line) <= maxContentType {
		s.contentType = append(s.contentType, line...)
	}
}

// endHeader goes on with what the header that ends announces: parts, a message with a header of its own, or neither.
func (s *SurrogateReader) endHeader() {
	_, value, _ := strings.Cut(string(mask(s.contentType)), ":")
	value = strings.TrimSpace(value)
	kind := strings.ToLower(value)
	s.inHeader, s.inType, s.contentType = strings.HasPrefix(kind, "message/rfc822") || strings.HasPrefix(kind, "message/global"), false, s.contentType[:0]
	if !strings.HasPrefix(kind, "multipart/") || len(s.boundaries) >= maxPartDepth {
		return
	}
	if b := boundaryOf(value); b != "" {
		s.boundaries = append(s.boundaries, []byte("--"+b))
	}
}

// boundaryOf returns the boundary of a multipart type, however its other parameters are written.
func boundaryOf(value string) string {
	const name = "boundary="
	at := strings.Index(strings.ToLower(value), name)
	if at < 0 {
		return ""
	}
	value = value[at+len(name):]
	if quoted, is := strings.CutPrefix(value, `"`); is {
		value, _, _ = strings.Cut(quoted, `"`)
		return value
	}
	if end := strings.IndexAny(value, "; \t\r\n"); end >= 0 {
		value = value[:end]
	}
	return value
}
