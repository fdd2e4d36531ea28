package message

import (
	"bytes"
	"io"
	"mime"
	"net/mail"
	"strings"
	"testing"
	"testing/iotest"
)

const ourReceived = "Received: from mx.elsewhere.example (mx.elsewhere.example [192.0.2.9])\r\n by mail.example.com with UTF8SMTPS id 4242;" +
	"\r\n Sat, 28 Nov 2026 12:00:00 +0000\r\n"

// TestSurrogate: what each kind of field becomes; always ASCII, and as long as it was.
func TestSurrogate(t *testing.T) {
	signature := "DKIM-Signature: v=1; d=example.com; b=" + strings.Repeat("A", 300) + "\r\n"
	for _, tt := range []struct {
		name, header string
		want         []string
		not          []string
	}{
		{"ASCII is left alone", signature + "Subject: one\r\n\r\n", []string{signature + "Subject: one\r\n\r\n"}, []string{"X-Surrogate"}},
		{"subject", signature + "Subject: Grüße\r\n\r\n", []string{"Subject: =?utf-8?", "\r\nX-Surrogate: "}, []string{"DKIM"}},
		{
			"address", signature + "From: Jörg <jörg@bücher.example>\r\nTo: anna@example.com, ü@example.com\r\n\r\n",
			[]string{"<" + invalidAddress + ">", "To: <anna@example.com>,\r\n "},
			[]string{"example.com>>"},
		},
		{"address without form", signature + "From: Jörg <jörg\r\n\r\n", []string{"<" + invalidAddress + ">\r\n"}, nil},
		{
			"room of Received", ourReceived + ourReceived + "Subject: Grüße\r\n\r\n",
			[]string{"Received: ", "Subject: =?"},
			[]string{"2026 12:00:00 +0000\r\nReceived"},
		},
		{"file name", "Content-Type: text/plain; name=\"ü.pdf\"\r\nSubject: a\r\n\r\n", []string{"name=\"__.pdf\""}, nil},
		{"unknown field goes", ourReceived + "X-Größe: 3\r\nComments: Größe\r\n\r\n", []string{"X-Gr____e: 3"}, []string{"Comments"}},
		{"no room", "Subject: Grüße\r\n\r\n", []string{"Subject: Gr____e\r\n\r\n"}, nil},
		{"no line end", "Subject: ü", []string{"Subject: __"}, nil},
		{"no field left", "Comment: ü\r\n\r\n", []string{"Comment: __\r\n\r\n"}, nil},
		{"no empty line", signature + "Subject: ü\r\n", []string{"Subject: =?"}, []string{"\r\n\r\n"}},
		{"NUL", ourReceived + "Subject: a\x00b\r\n\r\n", []string{"Subject: =?"}, nil},
		{"not UTF-8", signature + "Subject: a\xffb\r\n\r\n", []string{"Subject: =?"}, nil},
		{"no field", ourReceived + "ü no field\r\nSubject: a\r\n\r\n", []string{"__ no field\r\nSubject: a"}, nil},
	} {
		got := string(Surrogate([]byte(tt.header)))
		if len(got) != len(tt.header) || !isClean([]byte(got)) {
			t.Errorf("%s: %d octets %q, want %d", tt.name, len(got), got, len(tt.header))
		}
		for _, want := range tt.want {
			if !strings.Contains(got, want) {
				t.Errorf("%s: %q has no %q", tt.name, got, want)
			}
		}
		for _, not := range tt.not {
			if strings.Contains(got, not) {
				t.Errorf("%s: %q has %q", tt.name, got, not)
			}
		}
	}
}

// TestSurrogateIsRead: a mail program of today finds in the surrogate who wrote and of what.
func TestSurrogateIsRead(t *testing.T) {
	long := strings.Repeat("Überraschung ", 20)
	header := "DKIM-Signature: " + strings.Repeat("A", 900) + "\r\nFrom: user@bücher.example\r\nTo: Zoë <zoe@example.com>\r\nSubject: " + long +
		"\r\n\r\n"
	got := Surrogate([]byte(header))
	m, err := mail.ReadMessage(bytes.NewReader(got))
	if err != nil {
		t.Fatal(err)
	}
	from, err := m.Header.AddressList("From")
	if err != nil || from[0].Name != "user@bücher.example" || from[0].Address != invalidAddress {
		t.Errorf("From %v: %v", from, err)
	}
	to, err := m.Header.AddressList("To")
	if err != nil || to[0].Name != "Zoë" || to[0].Address != "zoe@example.com" {
		t.Errorf("To %v: %v", to, err)
	}
	var words mime.WordDecoder
	if subject, err := words.DecodeHeader(m.Header.Get("Subject")); err != nil || subject != strings.TrimSpace(long) {
		t.Errorf("Subject %q: %v", subject, err)
	}
	for line := range strings.SplitSeq(string(got), "\r\n") {
		if len(line) > 998 {
			t.Errorf("line of %d octets", len(line))
		}
	}
}

// TestSurrogateFillsEveryGap: however much longer the header was.
func TestSurrogateFillsEveryGap(t *testing.T) {
	for n := range 400 {
		header := "Subject: a\r\nComments: ü" + strings.Repeat("c", n) + "\r\n\r\n"
		got := string(Surrogate([]byte(header)))
		if len(got) != len(header) || !isClean([]byte(got)) || !strings.HasPrefix(got, "Subject: a") || strings.Contains(got, "Comments") {
			t.Fatalf("%d: %q", n, got)
		}
		if _, err := mail.ReadMessage(strings.NewReader(got)); err != nil {
			t.Fatalf("%d: %q: %v", n, got, err)
		}
	}
}

const partsBody = "--a\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Description: ü\r\n\r\nTextü: ü\r\n" +
	"--a\r\nContent-Type: message/rfc822\r\n\r\nSubject: innen ü\r\nContent-Type: multipart/mixed;\r\n boundary=b\r\n\r\n" +
	"--b\r\nX: ü\r\n\r\nü\r\n--b--\r\nü after\r\n--a\r\nContent-Disposition: attachment; filename=\"ü.pdf\"\r\n\r\nü--a\r\n--a--\r\nü: end\r\n"

const partsMasked = "--a\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Description: __\r\n\r\nTextü: ü\r\n" +
	"--a\r\nContent-Type: message/rfc822\r\n\r\nSubject: innen __\r\nContent-Type: multipart/mixed;\r\n boundary=b\r\n\r\n" +
	"--b\r\nX: __\r\n\r\nü\r\n--b--\r\nü after\r\n--a\r\nContent-Disposition: attachment; filename=\"__.pdf\"\r\n\r\nü--a\r\n--a--\r\nü: end\r\n"

// TestSurrogateParts: headers of parts are masked, and text is not, whatever the reads are.
func TestSurrogateParts(t *testing.T) {
	header := "Subject: one\r\nContent-Type: multipart/mixed; name=ü; boundary=\"a\"\r\n\r\n"
	for _, wrap := range []func(io.Reader) io.Reader{func(r io.Reader) io.Reader { return r }, iotest.OneByteReader, iotest.DataErrReader} {
		s, err := NewSurrogateReader(wrap(strings.NewReader(header+partsBody)), int64(len(header)))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(s)
		if want := string(mask([]byte(header))) + partsMasked; err != nil || string(got) != want {
			t.Errorf("%v\ngot  %q\nwant %q", err, got, want)
		}
	}
}

// TestSurrogateBounds: the largest header that is encoded and one octet more; a line longer than is read at once; a header that ends too soon.
func TestSurrogateBounds(t *testing.T) {
	for _, size := range []int{2 * MaxHeaderOctets, 2*MaxHeaderOctets + 1} {
		const subject, end = "Subject: ü\r\n", "\r\n\r\n"
		header := subject + "X-Long: " + strings.Repeat("x", size-len(subject)-len("X-Long: ")-len(end)) + end
		s, err := NewSurrogateReader(strings.NewReader(header+"ü"), int64(len(header)))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(s)
		if err != nil || len(got) != len(header)+2 || !isClean(got[:len(header)]) || !strings.HasSuffix(string(got), "ü") {
			t.Fatalf("%d: %d octets, %v", size, len(got), err)
		}
		if encoded := strings.HasPrefix(string(got), "Subject: =?"); encoded != (size == 2*MaxHeaderOctets) {
			t.Errorf("%d: encoded %t", size, encoded)
		}
	}
	if _, err := NewSurrogateReader(strings.NewReader("Subject: a\r\n"), 100); err != io.ErrUnexpectedEOF { //nolint:errorlint // the very one
		t.Errorf("short header: %v", err)
	}
}

// TestSurrogateLongLines: what looks like a delimiter in the midst of a line that is read in pieces is none, nor is an empty piece an end.
func TestSurrogateLongLines(t *testing.T) {
	const header = "Content-Type: multipart/mixed; boundary=a\r\n\r\n"
	text := strings.Repeat("x", surrogateLine)
	body := "--a\r\nX: " + text[:surrogateLine-len("X: ")] + "\r\nY: ü\r\n\r\n" + text + "--a\r\nü: text\r\n"
	s, err := NewSurrogateReader(strings.NewReader(header+body), int64(len(header)))
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(s)
	if want := header + strings.Replace(body, "Y: ü", "Y: __", 1); err != nil || string(got) != want {
		t.Errorf("%v: %q", err, strings.ReplaceAll(string(got), "x", ""))
	}
}

// FuzzSurrogate: the header is ASCII, and nothing is longer or shorter than it was.
func FuzzSurrogate(f *testing.F) {
	f.Add([]byte("From: Jörg <j@bücher.example>\r\nSubject: ü\r\n\r\n"), []byte(partsBody))
	f.Add([]byte(ourReceived+"To: a:ü@b;, c\r\nContent-Type: multipart/mixed; boundary=a\r\n\r\n"), []byte(partsBody))
	f.Add([]byte("\r\n ü\n:\x00"), []byte("--\n"))
	f.Fuzz(func(t *testing.T, header, body []byte) {
		whole := append(bytes.Clone(header), body...)
		s, err := NewSurrogateReader(bytes.NewReader(whole), int64(len(header)))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(s)
		if err != nil || len(got) != len(whole) {
			t.Fatalf("%d octets of %d: %v", len(got), len(whole), err)
		}
		if !isClean(got[:len(header)]) {
			t.Fatalf("%q", got[:len(header)])
		}
		if again := Surrogate(got[:len(header)]); !bytes.Equal(again, got[:len(header)]) {
			t.Fatalf("not the same again: %q", again)
		}
	})
}
