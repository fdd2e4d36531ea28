package message

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// readHeader reads into a header that was used before.
func readHeader(r io.Reader) (*Header, io.Reader, error) {
	h := &Header{}
	if _, err := h.Read(strings.NewReader("Old: " + strings.Repeat("x", maxKeptOctets/2) + "\r\n\tx\r\nBcc: x\r\nOld\r\n")); err != nil {
		return nil, nil, err
	}
	err := errors.Join(h.Prepend("Received", "old"), h.Append("Old", "x"))
	if _, writeErr := h.WriteTo(io.Discard); err != nil || writeErr != nil {
		return nil, nil, errors.Join(err, writeErr)
	}
	h.Reset()
	body, err := h.Read(r)
	return h, body, err
}

func parse(t *testing.T, in string) (*Header, string) {
	t.Helper()
	h, body, err := readHeader(strings.NewReader(in))
	if err != nil {
		t.Fatalf("Read(%q): %v", in, err)
	}
	rest, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	return h, string(rest)
}

func render(t *testing.T, h *Header) string {
	t.Helper()
	var b bytes.Buffer
	n, err := h.WriteTo(&b)
	if err != nil || n != int64(b.Len()) {
		t.Fatalf("WriteTo: %d, %v; wrote %d", n, err, b.Len())
	}
	return b.String()
}

func TestReadHeader(t *testing.T) {
	tests := []struct {
		name, in     string
		header, body string
		fields       int
	}{
		{"plain", "A: 1\r\nB: 2\r\n\r\nbody\r\n", "A: 1\r\nB: 2\r\n\r\n", "body\r\n", 2},
		{"folded", "A: 1\r\n\t2\r\n 3\r\nB:\r\n\r\n", "A: 1\r\n\t2\r\n 3\r\nB:\r\n\r\n", "", 2},
		{"no body", "A: 1\r\n", "A: 1\r\n", "", 1},
		{"empty", "", "", "", 0},
		{"no header", "\r\nbody\r\n", "\r\n", "body\r\n", 0},
		{"not a header at all", "Hello world\r\nA: 1\r\n", "\r\n", "Hello world\r\nA: 1\r\n", 0},
		{"a line that is no field", "A: 1\r\nHello\r\n\r\nbody\r\n", "A: 1\r\n\r\n", "Hello\r\n\r\nbody\r\n", 1},
		{"begins with a blank", " x\r\nA: 1\r\n", "\r\n", " x\r\nA: 1\r\n", 0},
		{"mbox line", "From x Mon\r\nA: 1\r\n", "\r\n", "From x Mon\r\nA: 1\r\n", 0},
		{"blank before the colon", "A : 1\r\n\r\n", "A : 1\r\n\r\n", "", 1},
		{"blank line of blanks", "A: 1\r\n \r\nB: 2\r\n\r\nx", "A: 1\r\n \r\nB: 2\r\n\r\n", "x", 2},
		{"8 bits", "A: \xff\xc3\xa4\r\n\r\n", "A: \xff\xc3\xa4\r\n\r\n", "", 1},
		{"8 bits in the name", "\xff: 1\r\n\r\n", "\r\n", "\xff: 1\r\n\r\n", 0},
		{"no name", ": 1\r\n\r\n", "\r\n", ": 1\r\n\r\n", 0},
	}
	for _, tt := range tests {
		h, body := parse(t, tt.in)
		if got := render(t, h); got != tt.header || body != tt.body || len(h.fields) != tt.fields {
			t.Errorf("%s: got %q, %q, %d fields; want %q, %q, %d", tt.name, got, body, len(h.fields), tt.header, tt.body, tt.fields)
		}
	}
}

// TestResetKeepsLittle: one message with a large header must not keep its memory for the small ones after it.
func TestResetKeepsLittle(t *testing.T) {
	for name, in := range map[string]string{
		"octets": "A: " + strings.Repeat("x", maxKeptOctets) + "\r\n",
		"fields": strings.Repeat("A: 1\r\n", maxKeptFields+1),
	} {
		h, _ := parse(t, in)
		if _, err := h.WriteTo(io.Discard); err != nil {
			t.Fatal(err)
		}
		h.Reset()
		if cap(h.raw) > maxKeptOctets || cap(h.top) > maxKeptOctets || cap(h.out) > maxKeptOctets || cap(h.fields) > maxKeptFields {
			t.Errorf("%s: keeps %d, %d, %d octets, %d fields", name, cap(h.raw), cap(h.top), cap(h.out), cap(h.fields))
		}
	}
}

func TestHeaderCaps(t *testing.T) {
	fields := func(n int) string { return strings.Repeat("A: 1\r\n", n) + "\r\n" }
	line := func(n int) string { return "A: " + strings.Repeat("x", n-5) + "\r\n\r\n" }
	octets := func(n int) string {
		var b strings.Builder
		for b.Len() < n-2_000 {
			b.WriteString("A: " + strings.Repeat("x", 990) + "\r\n")
		}
		b.WriteString("B: " + strings.Repeat("y", n-b.Len()-7) + "\r\n\r\n")
		return b.String()
	}
	tests := []struct {
		name, in string
		want     error
	}{
		{"fields, limit-1", fields(MaxHeaderFields - 1), nil},
		{"fields, limit", fields(MaxHeaderFields), nil},
		{"fields, limit+1", fields(MaxHeaderFields + 1), ErrTooManyFields},
		{"header bomb", fields(10_000), ErrTooManyFields},
		{"line, limit-1", line(MaxHeaderLine - 1), nil},
		{"line, limit", line(MaxHeaderLine), nil},
		{"line, limit+1", line(MaxHeaderLine + 1), ErrHeaderLine},
		{"octets, limit-1", octets(MaxHeaderOctets - 1), nil},
		{"octets, limit", octets(MaxHeaderOctets), nil},
		{"octets, limit+1", octets(MaxHeaderOctets + 1), ErrHeaderTooLarge},
		{"folded bomb", "A: 1\r\n" + strings.Repeat(" x\r\n", MaxHeaderOctets), ErrHeaderTooLarge},
		{"NUL", "A: \x00\r\n\r\n", ErrHeaderNUL},
		{"NUL in the body", "A: 1\r\n\r\n\x00", nil},
	}
	for _, tt := range tests {
		if _, _, err := readHeader(strings.NewReader(tt.in)); !errors.Is(err, tt.want) {
			t.Errorf("%s (%d octets): got %v, want %v", tt.name, len(tt.in), err, tt.want)
		}
	}
	broken := errors.New("broken")
	if _, _, err := readHeader(io.MultiReader(strings.NewReader("A: 1\r\nB"), iotest.ErrReader(broken))); !errors.Is(err, broken) {
		t.Errorf("read error: got %v", err)
	}
}

func TestHeaderEdit(t *testing.T) {
	h, body := parse(t, "To: a\r\nBCC: x,\r\n\ty\r\nbcc : z\r\nFrom: me\r\nX-Bcc: stays\r\n\r\nbody")
	if n := h.Remove("Bcc"); n != 2 {
		t.Errorf("removed %d Bcc fields, want 2", n)
	}
	for _, err := range []error{h.Prepend("Received", "from a", "by b;", "now"), h.Append("Date", "today")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	want := "Received: from a\r\n\tby b;\r\n\tnow\r\nTo: a\r\nFrom: me\r\nX-Bcc: stays\r\nDate: today\r\n\r\n"
	if got := render(t, h); got != want || body != "body" {
		t.Errorf("got %q, %q; want %q", got, body, want)
	}
	if got := string(h.Octets()); got != strings.TrimSuffix(want, crlf) {
		t.Errorf("Octets: got %q", got)
	}
	if h.Count("date") != 1 || h.Count("Bcc") != 0 || h.Count("Fro") != 0 {
		t.Errorf("Count: %d %d %d", h.Count("date"), h.Count("Bcc"), h.Count("Fro"))
	}
}

func TestHeaderValues(t *testing.T) {
	h, _ := parse(t, "A:  1\r\nB: x\r\na : 2\r\n  3 \r\n\r\n")
	if got := fmt.Sprintf("%q", h.Values("A")); got != `["1" "2  3"]` {
		t.Errorf("got %s", got)
	}
}

func TestHeaderInjection(t *testing.T) {
	h := &Header{}
	for _, bad := range [][]string{
		{"Subject", "a\r\nBcc: x"}, {"Subject", "a\nBcc: x"}, {"Subject", "a\rb"}, {"Subject", "a\x00"}, {"Subject", "ok", "\x7f"},
		{"", "a"}, {"A B", "a"}, {"A:", "a"}, {"A\r\nB", "a"}, {"Ä", "a"},
	} {
		if err := h.Append(bad[0], bad[1:]...); !errors.Is(err, ErrInjection) {
			t.Errorf("Append(%q): got %v", bad, err)
		}
		if err := h.Prepend(bad[0], bad[1:]...); !errors.Is(err, ErrInjection) {
			t.Errorf("Prepend(%q): got %v", bad, err)
		}
	}
	if got := string(h.Octets()); got != "" {
		t.Errorf("refused fields left %q", got)
	}
	if err := h.Append("Subject", "tab\tand é"); err != nil {
		t.Error(err)
	}
}

func FuzzHeader(f *testing.F) {
	for _, s := range []string{"A: 1\r\n\r\nb", "A: 1\r\n B\r\nC", " x\r\n", "A\r\n", ": \r\n", "Bcc: x\r\n\ty\r\n\r\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		clean, err := io.ReadAll(NewRepairReader(strings.NewReader(in)))
		if err != nil {
			t.Fatal(err)
		}
		h, body, err := readHeader(bytes.NewReader(clean))
		if err != nil {
			return
		}
		rest, err := io.ReadAll(body)
		if err != nil {
			t.Fatal(err)
		}
		// Without edits a message comes out as it came; only a header that a broken line ended gets its empty line.
		got := render(t, h) + string(rest)
		if want := string(clean); got != want && (!h.broken || len(got) != len(want)+2) {
			t.Fatalf("%q became %q", want, got)
		}
		h.Remove("Bcc")
		if err := h.Prepend("Received", "x"); err != nil {
			t.Fatal(err)
		}
		again, _, err := readHeader(strings.NewReader(render(t, h)))
		if err != nil {
			if errors.Is(err, ErrTooManyFields) || errors.Is(err, ErrHeaderTooLarge) {
				return
			}
			t.Fatal(err)
		}
		if again.Count("Bcc") != 0 || again.Count("Received") != h.Count("Received")+1 {
			t.Fatalf("edited header reads as %q", again.Octets())
		}
	})
}

// TestPrependOrder: the newest trace field is the topmost one (RFC 5321 §4.4).
func TestPrependOrder(t *testing.T) {
	h, _, err := readHeader(strings.NewReader("Subject: x\r\n\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(h.Prepend("Received", "first"), h.Prepend("Received", "second")); err != nil {
		t.Fatal(err)
	}
	if got, want := string(h.Octets()), "Received: second\r\nReceived: first\r\nSubject: x\r\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestRemoveIf: of the fields of a name those go whose whole value is one to drop.
func TestRemoveIf(t *testing.T) {
	h, _ := parse(t, "X: a\r\nY: b\r\nX :\r\n b\r\nx: c\r\n\r\n")
	if n := h.RemoveIf("X", func(v string) bool { return v == "b" }); n != 1 || string(h.Octets()) != "X: a\r\nY: b\r\nx: c\r\n" {
		t.Errorf("removed %d, left %q", n, h.Octets())
	}
}

// TestTidy: blanks before a colon go behind it, and nothing else moves.
func TestTidy(t *testing.T) {
	for _, tt := range []struct {
		header, want string
		n            int
	}{
		{"Subject: a\r\n", "Subject: a\r\n", 0},
		{"Subject : a\r\n", "Subject:  a\r\n", 1},
		{"Subject \t :\r\n a : b\r\nTo: c : d\r\nX\t:\r\n", "Subject: \t \r\n a : b\r\nTo: c : d\r\nX:\t\r\n", 2},
	} {
		var h Header
		if _, err := h.Read(strings.NewReader(tt.header + "\r\n")); err != nil {
			t.Fatal(err)
		}
		if n := h.Tidy(); n != tt.n || string(h.Octets()) != tt.want {
			t.Errorf("%q: %d, %q; want %d, %q", tt.header, n, h.Octets(), tt.n, tt.want)
		}
		if h.Tidy() != 0 || len(h.Values("Subject")) != 1 {
			t.Errorf("%q: not tidy", tt.header)
		}
	}
}
