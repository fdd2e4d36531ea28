package dkim

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	msgauth "github.com/emersion/go-msgauth/dkim"
)

var testKeys = sync.OnceValue(func() []Key {
	var list []Key
	for i, a := range []Algorithm{RSA, Ed25519} {
		private, err := Generate(a)
		if err != nil {
			panic(err)
		}
		list = append(list, Key{Selector: fmt.Sprintf("s%d", i), Private: private})
	}
	return list
})

// sign signs a message that is written in pieces of some size.
func sign(t *testing.T, message string, piece int) (string, error) {
	t.Helper()
	d := NewDigest()
	for rest := message; rest != ""; {
		n := min(piece, len(rest))
		if _, err := io.WriteString(d, rest[:n]); err != nil {
			return "", err
		}
		rest = rest[n:]
	}
	out, err := d.Sign("example.org", time.Now(), testKeys()...)
	return string(out), err
}

// verify has go-msgauth judge a message, and returns what is wrong with its signatures.
func verify(t *testing.T, message string) []error {
	t.Helper()
	list, err := msgauth.VerifyWithOptions(strings.NewReader(message), &msgauth.VerifyOptions{LookupTXT: func(name string) ([]string, error) {
		for _, k := range testKeys() {
			if name == Name(k.Selector, "example.org") {
				record, err := RecordOf(k.Private.Public())
				return []string{record}, err
			}
		}
		return nil, errors.New("asked for " + name)
	}})
	if err != nil {
		t.Fatal(err)
	}
	var errs []error
	for _, v := range list {
		errs = append(errs, v.Err)
	}
	return errs
}

// TestSign: both signatures hold for another implementation, however the octets come, and none of their lines is long.
func TestSign(t *testing.T) {
	const from = "From: anna@example.org\r\n"
	for _, tt := range []struct{ name, message string }{
		{"plain", from + "Subject: one\r\n\r\nA line.\r\n"},
		{"empty body", from + "\r\n"},
		{"only empty lines", from + "\r\n\r\n\r\n\r\n"},
		{"only blanks", from + "\r\n  \t \r\n \r\n"},
		{"empty lines first", from + "\r\n\r\n\r\ntext\r\n"},
		{"empty lines between and last", from + "\r\none\r\n\r\n\r\ntwo\r\n\r\n\r\n"},
		{"blanks everywhere", from + "Subject:   a \t b  \r\n\r\n  a\t\tb  \r\n\t\r\nc \r\n"},
		{"folded", "From:\r\n anna@example.org\r\nSubject: a\r\n\tb\r\n  c\r\n\r\nx\r\n"},
		{"a fold of blanks alone", from + "Subject: a\r\n \t \r\n b\r\n\r\nx\r\n"},
		{"blanks before the colon", from + "Subject \t: a\r\n\r\nx\r\n"},
		{"capitals", "FROM: anna@example.org\r\nsUBJECT: A\r\n\r\nx\r\n"},
		{"twice", from + "To: a@x.example\r\nTo: b@x.example\r\nSubject: 1\r\nSubject: 2\r\n\r\nx\r\n"},
		{"more than are signed", from + strings.Repeat("To: a@x.example\r\n", MaxInstances+5) + "\r\nx\r\n"},
		{"empty fields", from + "Subject:\r\nTo: \r\nCc:\r\n \r\n\r\nx\r\n"},
		{"dots", from + "\r\n.\r\n..\r\n.a\r\n"},
		{"eight bits", from + "Subject: gr\xfc\xdf\r\n\r\n\xff\xfe\x80\r\n"},
		{"long lines", from + "Subject: " + strings.Repeat("x", 5000) + "\r\n\r\n" + strings.Repeat("y ", 9000) + "\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, piece := range []int{1, 2, 3, 7, 1 << 20} {
				signed, err := sign(t, tt.message, piece)
				if err != nil {
					t.Fatal(err)
				}
				for line := range strings.SplitSeq(signed, "\r\n") {
					if len(line) > maxLine {
						t.Errorf("a line of %d octets: %q", len(line), line)
					}
				}
				errs := verify(t, signed+tt.message)
				if len(errs) != 2 || errs[0] != nil || errs[1] != nil {
					t.Fatalf("in pieces of %d: %v, want two that hold\n%s", piece, errs, signed+tt.message)
				}
			}
		})
	}
}

// TestNoBody: a message that is all header, without an empty line, is one with an empty body.
func TestNoBody(t *testing.T) {
	const header = "From: anna@example.org\r\nSubject: one\r\n"
	signed, err := sign(t, header, 5)
	if err != nil {
		t.Fatal(err)
	}
	if errs := verify(t, signed+header+"\r\n"); len(errs) != 2 || errs[0] != nil || errs[1] != nil {
		t.Errorf("%v, want two that hold", errs)
	}
}

// TestGuarded: a field that is added, taken away or changed breaks the signatures; what hops on the way add does not.
func TestGuarded(t *testing.T) {
	const message = "From: anna@example.org\r\nTo: b@x.example\r\nSubject: one\r\nX-Mine: 1\r\n\r\nA line.\r\n"
	signed, err := sign(t, message, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, message string
		holds         bool
	}{
		{"as it was", signed + message, true},
		{"another From", "From: mallory@example.org\r\n" + signed + message, false},
		{"another Subject", "Subject: two\r\n" + signed + message, false},
		{"a Reply-To", signed + "Reply-To: mallory@x.example\r\n" + message, false},
		{"a Cc", signed + "Cc: mallory@x.example\r\n" + message, false},
		{"another type", signed + "Content-Type: text/html\r\n" + message, false},
		{"no To", signed + strings.Replace(message, "To: b@x.example\r\n", "", 1), false},
		{"another line", signed + message + "And another.\r\n", false},
		{"trace fields", "Return-Path: <a@x.example>\r\nReceived: from x\r\n\tby y\r\nAuthentication-Results: y; spf=pass\r\n" + signed + message, true},
		{"a field that is not signed", signed + strings.Replace(message, "X-Mine: 1\r\n", "", 1), true},
		{"white space", strings.ReplaceAll(signed, "\r\n\t", " ") + strings.Replace(message, "Subject: one", "Subject:\r\n  one ", 1), true},
		{"empty lines at the end", signed + message + "\r\n \r\n", true},
	} {
		errs := verify(t, tt.message)
		if len(errs) != 2 || (errs[0] == nil) != tt.holds || (errs[1] == nil) != tt.holds {
			t.Errorf("%s: %v, want that they hold %t", tt.name, errs, tt.holds)
		}
	}
}

// TestRefused: what cannot be signed is said so.
func TestRefused(t *testing.T) {
	header := func(octets int) string {
		from := "From: anna@example.org\r\nX: "
		return from + strings.Repeat("x", octets-len(from)-2) + "\r\n"
	}
	for _, tt := range []struct {
		name, message string
		want          error
	}{
		{"no From", "Subject: one\r\n\r\nx\r\n", ErrNoFrom},
		{"nothing", "", ErrNoFrom},
		{"no header", "\r\nx\r\n", ErrNoFrom},
		{"a line that is no field", "From: anna@example.org\r\nhello\r\n\r\nx\r\n", ErrHeader},
		{"a name with a blank", "From: anna@example.org\r\nno name: x\r\n\r\nx\r\n", ErrHeader},
		{"the longest header", header(MaxHeader-2) + "\r\nx\r\n", nil},
		{"too long a header", header(MaxHeader+1) + "\r\nx\r\n", ErrHeader},
	} {
		for _, piece := range []int{1000, 1 << 20} {
			if _, err := sign(t, tt.message, piece); !errors.Is(err, tt.want) {
				t.Errorf("%s in pieces of %d: %v, want %v", tt.name, piece, err, tt.want)
			}
		}
	}
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	d := NewDigest()
	if _, err := io.WriteString(d, "From: a@example.org\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Sign("example.org", time.Now(), Key{Selector: "s", Private: small}); !errors.Is(err, ErrKey) {
		t.Errorf("a key of 1024 bits: %v, want %v", err, ErrKey)
	}
	if _, err := Generate("dsa"); !errors.Is(err, ErrKey) {
		t.Errorf("an unknown algorithm: %v, want %v", err, ErrKey)
	}
}

// TestFlat: neither a large body nor one of empty lines is kept.
func TestFlat(t *testing.T) {
	for _, piece := range [][]byte{bytes.Repeat([]byte("abc def\r\n"), 1000), bytes.Repeat(crlf, 5000), bytes.Repeat([]byte(" "), 10_000)} {
		d := NewDigest()
		if _, err := io.WriteString(d, "From: a@example.org\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range 3000 {
			if _, err := d.Write(piece); err != nil {
				t.Fatal(err)
			}
		}
		runtime.ReadMemStats(&after)
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 256<<10 {
			t.Errorf("30 MB of %.12q took %d octets of memory", piece, grown)
		}
	}
}

// TestBodyHash: the vectors of RFC 6376 §3.4.5 and §3.4.4.
func TestBodyHash(t *testing.T) {
	for _, tt := range []struct{ body, want string }{
		{"", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="},
		{"\r\n\r\n", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="},
		{" C \r\nD \t E\r\n\r\n\r\n", sumOf(" C\r\nD E\r\n")},
	} {
		b := newBodyHash()
		if _, err := io.Copy(writerOf(b.write), iotest.OneByteReader(strings.NewReader(tt.body))); err != nil {
			t.Fatal(err)
		}
		if got := base64.StdEncoding.EncodeToString(b.sum()); got != tt.want {
			t.Errorf("%q: %s, want %s", tt.body, got, tt.want)
		}
	}
	if got := string(appendRelaxed(nil, []byte("B \t:\tY\t\r\n\tZ  "))); got != "b:Y Z" {
		t.Errorf("header: %q", got)
	}
}

type writerOf func([]byte)

func (w writerOf) Write(p []byte) (int, error) {
	w(p)
	return len(p), nil
}

func sumOf(s string) string {
	h := crypto.SHA256.New()
	_, _ = io.WriteString(h, s) // never fails
	return base64.StdEncoding.EncodeToString(h.Sum(nil))
}

// TestCompare: each way in which a published record fails a key is told apart.
func TestCompare(t *testing.T) {
	keys := testKeys()
	own, err := RecordOf(keys[0].Private.Public())
	if err != nil {
		t.Fatal(err)
	}
	small, err := RecordOf(keys[1].Private.Public())
	if err != nil {
		t.Fatal(err)
	}
	_, other, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := RecordOf(other.Public())
	if err != nil {
		t.Fatal(err)
	}
	p := strings.TrimPrefix(own, "v=DKIM1; k=rsa; p=")
	for _, tt := range []struct {
		name, published, own string
		want                 error
	}{
		{"the same", own, own, nil},
		{"without v and k", "p=" + p, own, nil},
		{"in another order, with white space", " k = rsa ; p=" + p[:100] + " " + p[100:] + "; v=DKIM1;", own, nil},
		{"with notes and flags", "v=DKIM1; n=note; t=s; h=sha1:sha256; s=email; p=" + p, own, nil},
		{"for all services", "v=DKIM1; s=*; p=" + p, own, nil},
		{"Ed25519", small, small, nil},
		{"nothing", "", own, ErrNoRecord},
		{"SPF", "v=spf1 -all", own, ErrNoRecord},
		{"another version", "v=DKIM2; p=" + p, own, ErrNoRecord},
		{"a tag twice", own + "; p=" + p, own, ErrNoRecord},
		{"revoked", "v=DKIM1; p=", own, ErrRevoked},
		{"cut off", own[:255], own, ErrTruncated},
		{"another key", foreign, small, ErrOtherKey},
		{"another kind", small, own, ErrOtherKey},
		{"kind missing", strings.Replace(small, "k=ed25519; ", "", 1), small, ErrOtherKey},
		{"no base64", "v=DKIM1; k=rsa; p=!!", own, ErrOtherKey},
		{"SHA-1 only", "v=DKIM1; h=sha1; p=" + p, own, ErrRestricted},
		{"not for mail", "v=DKIM1; s=other; p=" + p, own, ErrRestricted},
		{"testing", "v=DKIM1; t=y:s; p=" + p, own, ErrTesting},
	} {
		if err := Compare(tt.published, tt.own); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
}

// FuzzSign: whatever octets come with a From in front, what is signed is held good by another implementation.
func FuzzSign(f *testing.F) {
	f.Add("Subject: a\r\n b\r\n\r\nbody \r\n\r\n", 3)
	f.Add("\r\n", 1)
	f.Fuzz(func(t *testing.T, rest string, piece int) {
		message := "From: a@example.org\r\n" + strings.ReplaceAll(strings.ReplaceAll(rest, "\r", ""), "\n", "\r\n")
		signed, err := sign(t, message, 1+max(0, piece%1000))
		if err != nil {
			return
		}
		if !strings.Contains(message, "\r\n\r\n") {
			message = strings.TrimRight(message, "\r\n") + "\r\n\r\n"
		}
		for _, err := range verify(t, signed+message) {
			if err != nil {
				t.Errorf("%v: %q", err, signed+message)
			}
		}
	})
}

// BenchmarkSign is a message of 4 KiB with an RSA and an Ed25519 signature, BenchmarkDigest the hashing of a large body alone.
func BenchmarkSign(b *testing.B) {
	message := []byte("From: a@example.org\r\nTo: b@x.example\r\nSubject: one\r\n\r\n" + strings.Repeat("A line of an ordinary message.\r\n", 128))
	for b.Loop() {
		d := NewDigest()
		if _, err := d.Write(message); err != nil {
			b.Fatal(err)
		}
		if _, err := d.Sign("example.org", time.Now(), testKeys()...); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDigest(b *testing.B) {
	d := NewDigest()
	piece := []byte(strings.Repeat(strings.Repeat("QUJD", 19)+"\r\n", 200))
	if _, err := d.Write([]byte("From: a@example.org\r\n\r\n")); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(piece)))
	for b.Loop() {
		if _, err := d.Write(piece); err != nil {
			b.Fatal(err)
		}
	}
}
