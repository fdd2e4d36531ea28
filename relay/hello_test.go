package relay

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/textproto"
	"reflect"
	"strings"
	"testing"
	"time"

	gosmtp "github.com/emersion/go-smtp"
)

func TestParseCapabilities(t *testing.T) {
	for _, tt := range []struct {
		text string
		want capabilities
	}{
		{"", capabilities{recipients: 100}},
		{"host", capabilities{recipients: 100}},
		{"STARTTLS", capabilities{recipients: 100}}, // the first line greets
		{"host\nSTARTTLS\n8bitmime\nSmtpUtf8\nDSN", capabilities{recipients: 100, startTLS: true, eightBit: true, utf8: true, dsn: true}},
		{"host\nSIZE", capabilities{recipients: 100, sized: true}},
		{"host\nSIZE 0", capabilities{recipients: 100, sized: true}},
		{"host\nSIZE 1", capabilities{recipients: 100, sized: true, size: 1}},
		{"host\nSIZE -1", capabilities{recipients: 100, sized: true}},
		{"host\nSIZE 99999999999999999999", capabilities{recipients: 100, sized: true}},
		{"host\nLIMITS RCPTMAX=1", capabilities{recipients: 1}},
		{"host\nLIMITS RCPTMAX=0 rcptmax=7", capabilities{recipients: 7}},
		{"host\nLIMITS RCPTMAX=1000", capabilities{recipients: 100}},
		{"host\nAUTH plain Login", capabilities{recipients: 100, auth: []string{"PLAIN", "LOGIN"}}},
		{"host\n\n \n=\x00", capabilities{recipients: 100}},
		{"host" + strings.Repeat("\nX", maxCapabilities-1) + "\nDSN", capabilities{recipients: 100, dsn: true}},
		{"host" + strings.Repeat("\nX", maxCapabilities) + "\nDSN", capabilities{recipients: 100}},
	} {
		if got := parseCapabilities(tt.text); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%.60q: got %+v, want %+v", tt.text, got, tt.want)
		}
	}
}

// canned is a connection on which everything was said already.
type canned struct {
	net.Conn
	r io.Reader
}

func (c canned) Read(p []byte) (int, error)       { return c.r.Read(p) }
func (c canned) Write(p []byte) (int, error)      { return len(p), nil }
func (c canned) SetReadDeadline(time.Time) error  { return nil }
func (c canned) SetWriteDeadline(time.Time) error { return nil }

func cannedTalk(input string) *talk {
	return newTalk(newWire(canned{r: strings.NewReader(input)}, time.Minute, time.Minute))
}

func TestReplyBound(t *testing.T) {
	line := "220-" + strings.Repeat("x", 506) + "\r\n" // 512 octets
	for _, n := range []int{maxReply/512 - 1, maxReply / 512, maxReply/512 + 1} {
		_, err := cannedTalk(strings.Repeat(line, n) + "220 end\r\n").read(220)
		if (err != nil) != (n*512 >= maxReply) || err != nil && !errors.Is(err, errReplyTooLong) {
			t.Errorf("reply of %d lines: %v", n, err)
		}
	}
}

func TestUnaskedInput(t *testing.T) {
	if _, err := cannedTalk("220 a\r\n250 b\r\n").read(220); !errors.Is(err, errUnasked) {
		t.Errorf("got %v", err)
	}
}

func TestToReply(t *testing.T) {
	for _, tt := range []struct {
		text string
		want gosmtp.SMTPError
	}{
		{"no", gosmtp.SMTPError{Message: "no"}},
		{"5.1.1 no\n5.1.1 user", gosmtp.SMTPError{EnhancedCode: gosmtp.EnhancedCode{5, 1, 1}, Message: "no\nuser"}},
		{"5.1.1", gosmtp.SMTPError{EnhancedCode: gosmtp.EnhancedCode{5, 1, 1}}},
		{"5.1 no", gosmtp.SMTPError{Message: "5.1 no"}},
		{"5.1.1000 no", gosmtp.SMTPError{Message: "5.1.1000 no"}},
		{"5.-1.1 no", gosmtp.SMTPError{Message: "5.-1.1 no"}},
	} {
		if got := toReply(0, tt.text); *got != tt.want {
			t.Errorf("%q: got %+v", tt.text, got)
		}
	}
}

// FuzzHello throws octets at the conversation before the client: it ends, within its bounds, and what go-smtp is told is well formed.
func FuzzHello(f *testing.F) {
	f.Add([]byte("220 host\r\n250-host\r\n250-SIZE 10\r\n250 AUTH PLAIN\r\n"))
	f.Add([]byte("220 host\r\n502 what\r\n250 hello\r\n"))
	f.Add([]byte("220-a\n220\x00b\r\n"))
	f.Add([]byte("554 5.7.1 go away\r\n"))
	f.Fuzz(func(t *testing.T, input []byte) {
		// Each write lets one more reply come, as a host would send it; what is one reply is the fuzzer's.
		w := newWire(canned{r: oneLine{bufio.NewReader(bytes.NewReader(input))}}, time.Minute, time.Minute)
		talk := newTalk(w)
		if _, err := talk.read(220); err != nil {
			return
		}
		c, err := talk.hello("mail.example.org")
		if err != nil {
			return
		}
		if c.size < 0 || c.recipients < 1 || c.recipients > defaultRecipients {
			t.Fatalf("capabilities %+v", c)
		}
		if _, _, err := textproto.NewReader(bufio.NewReader(bytes.NewReader(c.reply()))).ReadResponse(250); err != nil {
			t.Fatalf("reply for go-smtp: %v", err)
		}
	})
}

// oneLine yields at most a line in each read.
type oneLine struct{ r *bufio.Reader }

func (o oneLine) Read(p []byte) (int, error) {
	for i := range p {
		c, err := o.r.ReadByte()
		if err != nil {
			return i, err
		}
		if p[i] = c; c == '\n' {
			return i + 1, nil
		}
	}
	return len(p), nil
}
