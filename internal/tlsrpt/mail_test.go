package tlsrpt

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// letter is a message with the report attached as others send it.
func letter(kind, encoding, body string) string {
	return "From: a@b.example\r\nSubject: Report Domain: x\r\nMIME-Version: 1.0\r\nContent-Type: multipart/report;\r\n report-type=\"tlsrpt\"; boundary=\"=_x\"\r\n\r\n" +
		"--=_x\r\nContent-Type: text/plain\r\n\r\nA report.\r\n--=_x\r\nContent-Type: " + kind + "\r\nContent-Transfer-Encoding: " + encoding + "\r\n\r\n" + body + "\r\n--=_x--\r\n"
}

func TestRead(t *testing.T) {
	r, err := Decode(strings.NewReader(theirs))
	if err != nil {
		t.Fatal(err)
	}
	zipped, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	coded := base64.StdEncoding.EncodeToString(zipped)
	for i := 76; i < len(coded); i += 78 {
		coded = coded[:i] + "\r\n" + coded[i:]
	}
	deep := func(n int) string {
		text := "Content-Type: application/tlsrpt+json\r\n\r\n" + theirs
		for i := range n {
			boundary := fmt.Sprintf("=_%d_", i)
			text = "Content-Type: multipart/mixed; boundary=\"" + boundary + "\"\r\n\r\n--" + boundary + "\r\n" + text + "\r\n--" + boundary + "--\r\n"
		}
		return text
	}
	many := func(n int) string {
		return "Content-Type: multipart/mixed; boundary=\"=_x\"\r\n\r\n" + strings.Repeat("--=_x\r\nContent-Type: text/plain\r\n\r\nx\r\n", n) +
			"--=_x\r\nContent-Type: application/tlsrpt+json\r\n\r\n" + theirs + "\r\n--=_x--\r\n"
	}
	for _, tt := range []struct {
		name, text string
		want       error
	}{
		{"JSON", theirs, nil},
		{"gzip", string(zipped), nil},
		{"mail", letter("application/tlsrpt+gzip; name=x.json.gz", "base64", coded), nil},
		{"mail with JSON", letter("application/tlsrpt+json", "7bit", theirs), nil},
		{"the report alone", "Content-Type: application/tlsrpt+json\r\n\r\n" + theirs, nil},
		{"deep", deep(maxDepth), nil},
		{"too deep", deep(maxDepth + 1), ErrInvalid},
		{"the last part", many(maxParts - 2), nil},
		{"one part too many", many(maxParts - 1), ErrInvalid},
		{"mail without one", letter("text/plain", "7bit", "x"), ErrInvalid},
		{"mail with a broken one", letter("application/tlsrpt+gzip", "base64", "AAAA"), ErrInvalid},
		{"no mail", "hello", ErrInvalid},
		{"nothing", "", ErrInvalid},
	} {
		got, err := Read(strings.NewReader(tt.text))
		if !errors.Is(err, tt.want) || tt.want == nil && (got == nil || got.ID != r.ID) {
			t.Errorf("%s: %v, %v", tt.name, got, err)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(letter("application/tlsrpt+json", "7bit", theirs))
	f.Fuzz(func(t *testing.T, text string) {
		if r, err := Read(strings.NewReader(text)); r == nil && err == nil {
			t.Error("neither a report nor an error")
		}
	})
}
