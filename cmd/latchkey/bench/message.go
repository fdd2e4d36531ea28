//go:build linux

package main

import (
	"bytes"
	"fmt"
)

// Of the messages that this program makes itself: lines of a fixed length, taken from a text without order.
const (
	lineLen   = 78
	textLines = 1 << 10
	// maxLetter bounds a message, in octets.
	maxLetter = 64 << 20
)

// letters makes messages, and knows them again. It is made by newLetters and may be used from several goroutines.
type letters struct {
	text []byte // twice, so that a message may begin at any line
}

func newLetters() *letters {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	text := make([]byte, 0, 2*textLines*lineLen)
	x := uint32(2463534242)
	for range textLines {
		for range lineLen - 2 {
			x ^= x << 13
			x ^= x >> 17
			x ^= x << 5
			text = append(text, alphabet[x%uint32(len(alphabet))])
		}
		text = append(text, "\r\n"...)
	}
	return &letters{text: append(text, text...)}
}

const tokenField = "X-Bench: "

// appendMessage appends a message of about size octets, in the form in which it is kept: no line begins with a dot.
func (l *letters) appendMessage(b []byte, seq, size int) []byte {
	begin := len(b)
	b = fmt.Appendf(b, "From: <sender@out.example>\r\nTo: <you@example.com>\r\nSubject: message %d\r\nMessage-ID: <%d@out.example>\r\n"+
		"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n%s%d %d\r\n\r\n", seq, seq, tokenField, seq, size)
	for left := max(size-(len(b)-begin), 0) / lineLen; left > 0; {
		lines := min(left, textLines)
		b = append(b, l.lines(seq, left, lines)...)
		left -= lines
	}
	return b
}

// lines are those of message seq when so many are left.
func (l *letters) lines(seq, left, lines int) []byte {
	at := (seq*7919 + left*31) % textLines * lineLen
	return l.text[at : at+lines*lineLen]
}

// check finds out which message a fetched one is, and compares all that a server must not touch: from its token to its end. buf is
// room for a message, and is returned for the next call.
func (l *letters) check(raw, buf []byte) (seq int, room []byte, err error) {
	at := bytes.Index(raw, []byte("\r\n"+tokenField))
	if at < 0 {
		return 0, buf, fmt.Errorf("a message of %d octets has no token", len(raw))
	}
	rest := raw[at+len("\r\n"):]
	line, _, _ := bytes.Cut(rest, []byte("\r\n"))
	var size int
	if _, err := fmt.Sscanf(string(line), tokenField+"%d %d", &seq, &size); err != nil || size < 0 || size > maxLetter {
		return 0, buf, fmt.Errorf("token %q", line)
	}
	made := l.appendMessage(buf[:0], seq, size)
	want := made[bytes.Index(made, []byte(tokenField)):]
	if !bytes.Equal(rest, want) {
		return 0, made, fmt.Errorf("message %d was changed: %d octets from its token, want %d", seq, len(rest), len(want))
	}
	return seq, made, nil
}

// headerLen is the number of octets up to and including the empty line.
func headerLen(b []byte) int64 { return int64(bytes.Index(b, []byte("\r\n\r\n")) + len("\r\n\r\n")) }
