package readable

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"mime"
	"net/mail"
	"strings"
	"time"

	"golang.org/x/net/html/charset"
)

// Bounds of a header.
const (
	// MaxHeader bounds what is kept of a header, and of that of each part, in octets. What follows is passed over.
	MaxHeader = 64 << 10
	// MaxValue bounds the value of one field as it is shown, in octets.
	MaxValue = 500
	// maxDecoded bounds what is decoded of a field, in octets.
	maxDecoded = 4 << 10
)

// Summary is what a list says of a message. All of it is text for people.
type Summary struct {
	From    string `json:"from"`
	Subject string `json:"subject"`
	// Date is what the message says of itself; zero if it cannot be read.
	Date time.Time `json:"date,omitzero"`
}

// Summarise reads the header of a message. The error is the reader's.
func Summarise(r io.Reader) (Summary, error) {
	h, err := readHeader(bufio.NewReader(r))
	return h.summary(), err
}

func (h header) summary() Summary {
	s := Summary{From: h.text("From"), Subject: h.text("Subject")}
	if date, err := mail.ParseDate(strings.TrimSpace(h.value("Date"))); err == nil {
		s.Date = date.UTC()
	}
	return s
}

// header is a header as it came, at most MaxHeader octets.
type header struct {
	raw []byte
	cut bool
}

// readHeader reads up to and including the empty line. A line that is longer than the buffer comes in pieces, which is the same to it.
func readHeader(br *bufio.Reader) (h header, err error) {
	begins := true
	for {
		piece, err := br.ReadSlice('\n')
		if begins && isEmptyLine(piece) && err == nil {
			return h, nil
		}
		h.add(piece)
		begins = bytes.HasSuffix(piece, []byte("\n"))
		switch {
		case errors.Is(err, io.EOF):
			return h, nil
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			return h, err
		}
	}
}

func (h *header) add(piece []byte) {
	room := MaxHeader - len(h.raw)
	if len(piece) > room {
		piece, h.cut = piece[:room], true
	}
	h.raw = append(h.raw, piece...)
}

func isEmptyLine(piece []byte) bool {
	return len(piece) == 0 || string(piece) == "\r\n" || string(piece) == "\n"
}

// value is the first field of a name, unfolded, as it came; "" if there is none.
func (h header) value(name string) string {
	rest := string(h.raw)
	for rest != "" {
		var current string
		current, rest, _ = strings.Cut(rest, "\n")
		field, value, ok := strings.Cut(current, ":")
		if !ok || !strings.EqualFold(strings.TrimRight(field, " \t"), name) {
			continue // a folded line has no name that is asked for
		}
		var unfolded strings.Builder
		unfolded.WriteString(strings.TrimSuffix(value, "\r"))
		for (strings.HasPrefix(rest, " ") || strings.HasPrefix(rest, "\t")) && unfolded.Len() < maxDecoded {
			current, rest, _ = strings.Cut(rest, "\n")
			unfolded.WriteString(strings.TrimSuffix(current, "\r"))
		}
		return strings.TrimSpace(unfolded.String()[:min(unfolded.Len(), maxDecoded)])
	}
	return ""
}

// text is the value of a field for people: its encoded words (RFC 2047) are decoded.
func (h header) text(name string) string { return decoded(h.value(name), MaxValue) }

// decoded is a value with its encoded words decoded, on one line.
func decoded(value string, most int) string {
	d := mime.WordDecoder{CharsetReader: charset.NewReaderLabel}
	text, err := d.DecodeHeader(value)
	if err != nil {
		text = value // in letters that nobody knows
	}
	return line(unlabelled(text), most)
}
