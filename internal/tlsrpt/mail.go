package tlsrpt

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"net/textproto"
	"strings"
)

const (
	// MaxMail bounds what Read takes of a message, in octets.
	MaxMail = 2 * MaxReport
	// maxParts bounds the parts that are looked at, maxDepth how deep they may lie in one another.
	maxParts = 50
	maxDepth = 3
)

// Read reads a report as it arrives: as JSON, under gzip, or as the message that it is attached to (RFC 8460 §5.3). The error wraps
// ErrInvalid or ErrTooLarge.
func Read(r io.Reader) (*Report, error) {
	b := bufio.NewReader(io.LimitReader(r, MaxMail))
	head, err := b.Peek(1)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if head[0] == 0x1f || head[0] == '{' {
		return Decode(b)
	}
	m, err := mail.ReadMessage(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	left := maxParts
	report, err := find(textproto.MIMEHeader(m.Header), m.Body, maxDepth, &left)
	if err == nil && report == nil {
		err = fmt.Errorf("%w: the message has no report", ErrInvalid)
	}
	return report, err
}

// find looks for the report in a part of a message, and in the parts of that. nil is none.
func find(header textproto.MIMEHeader, body io.Reader, depth int, left *int) (*Report, error) {
	kind, params, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil || *left == 0 {
		return nil, nil // a part of no kind is not the report
	}
	*left--
	switch {
	case kind == "application/tlsrpt+gzip" || kind == "application/tlsrpt+json":
		switch strings.ToLower(header.Get("Content-Transfer-Encoding")) {
		case "base64":
			body = base64.NewDecoder(base64.StdEncoding, body)
		case "quoted-printable":
			body = quotedprintable.NewReader(body)
		}
		return Decode(body)
	case !strings.HasPrefix(kind, "multipart/") || depth == 0:
		return nil, nil
	}
	parts := multipart.NewReader(body, params["boundary"])
	for {
		part, err := parts.NextRawPart()
		if err != nil {
			return nil, nil // the end, or what nobody can read
		}
		if report, err := find(part.Header, part, depth-1, left); report != nil || err != nil {
			return report, err
		}
	}
}
