package message

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// sources reads the same text whole, octet by octet, and with the end in the last read.
func sources(s string) map[string]io.Reader {
	return map[string]io.Reader{
		"whole":      strings.NewReader(s),
		"one by one": iotest.OneByteReader(strings.NewReader(s)),
		"data+EOF":   iotest.DataErrReader(strings.NewReader(s)),
	}
}

func TestStrictReader(t *testing.T) {
	tests := []struct {
		name, in, want string
		err            error
	}{
		{"empty", "", "", nil},
		{"lines", "a\r\n\r\nb\r\n", "a\r\n\r\nb\r\n", nil},
		{"no final line end", "a\r\nb", "a\r\nb\r\n", nil},
		{"only a line end", "\r\n", "\r\n", nil},
		{"NUL and 8 bits stay", "a\x00\xff\r\n", "a\x00\xff\r\n", nil},
		{"bare LF", "a\nb\r\n", "", ErrBareLF},
		{"bare LF first", "\n", "", ErrBareLF},
		{"bare LF after a line", "a\r\n\n", "", ErrBareLF},
		{"bare CR", "a\rb\r\n", "", ErrBareCR},
		{"CR CR LF", "a\r\r\n", "", ErrBareCR},
		{"CR at the end", "a\r", "", ErrBareCR},
		{"LF CR", "a\n\r", "", ErrBareLF},
		{"smuggled end LF.LF", "a\n.\n", "", ErrBareLF},
		{"smuggled end LF.CRLF", "a\n.\r\n", "", ErrBareLF},
		{"smuggled end CR.CR", "a\r.\r", "", ErrBareCR},
		{"smuggled end CRLF.LF", "a\r\n.\n", "", ErrBareLF},
		{"smuggled end CRLF.CR", "a\r\n.\rx\r\n", "", ErrBareCR},
		{"smuggled end CRCRLF.CRLF", "a\r\r\n.\r\n", "", ErrBareCR},
	}
	for _, tt := range tests {
		for how, src := range sources(tt.in) {
			r := NewStrictReader(iotest.ErrReader(io.ErrClosedPipe))
			_, _ = r.Read(make([]byte, 1))
			r.Reset(src)
			got, err := io.ReadAll(r)
			if !errors.Is(err, tt.err) || err == nil && string(got) != tt.want {
				t.Errorf("%s (%s): got %q, %v; want %q, %v", tt.name, how, got, err, tt.want, tt.err)
			}
			if n, again := r.Read(make([]byte, 10)); tt.err != nil && (n != 0 || !errors.Is(again, tt.err)) {
				t.Errorf("%s (%s): read after the error: got %d, %v", tt.name, how, n, again)
			}
		}
	}
}

func TestRepairReader(t *testing.T) {
	tests := []struct {
		name, in, want string
		repaired       int64
	}{
		{"empty", "", "", 0},
		{"nothing to do", "a\r\n\r\nb\r\n", "a\r\n\r\nb\r\n", 0},
		{"bare LF", "a\nb\n", "a\r\nb\r\n", 2},
		{"bare CR", "a\rb", "a\r\nb\r\n", 1},
		{"CR CR LF is one line end", "a\r\r\nb\r\n", "a\r\nb\r\n", 1},
		{"many CRs", "a\r\r\r\rb\r\n", "a\r\nb\r\n", 1},
		{"CR at the end", "a\r", "a\r\n", 1},
		{"CRs at the end", "a\r\r", "a\r\n", 1},
		{"LF CR", "a\n\rb", "a\r\n\r\nb\r\n", 2},
		{"no final line end", "a", "a\r\n", 0},
		{"smuggled ends", "a\n.\nb\r.\rc\n.\r\nd\r\n.\n", "a\r\n.\r\nb\r\n.\r\nc\r\n.\r\nd\r\n.\r\n", 6},
		{"NUL and 8 bits stay", "a\x00\xff\r\n", "a\x00\xff\r\n", 0},
	}
	for _, tt := range tests {
		for how, src := range sources(tt.in) {
			for _, size := range []int{1, 3, 4096} {
				r := NewRepairReader(strings.NewReader("a\nb\r\r"))
				_, _ = r.Read(make([]byte, 2))
				r.Reset(src)
				var got bytes.Buffer
				if _, err := io.CopyBuffer(&got, struct{ io.Reader }{r}, make([]byte, size)); err != nil {
					t.Fatal(err)
				}
				if got.String() != tt.want || r.Repaired() != tt.repaired {
					t.Errorf("%s (%s, %d): got %q, %d repaired; want %q, %d", tt.name, how, size, got.String(), r.Repaired(), tt.want, tt.repaired)
				}
				src = strings.NewReader(tt.in)
			}
		}
	}
}

func TestReadErrorsPass(t *testing.T) {
	broken := errors.New("broken")
	for _, r := range []io.Reader{
		NewStrictReader(io.MultiReader(strings.NewReader("a\r\nb"), iotest.ErrReader(broken))),
		NewRepairReader(io.MultiReader(strings.NewReader("a\r\nb"), iotest.ErrReader(broken))),
	} {
		got, err := io.ReadAll(r)
		if !errors.Is(err, broken) || string(got) != "a\r\nb" {
			t.Errorf("got %q, %v; want the error and nothing added", got, err)
		}
	}
}

func TestLongLinesAreCountedNotCut(t *testing.T) {
	line := func(n int) string { return strings.Repeat("x", n) + "\r\n" }
	in := line(MaxLineLen-1) + line(MaxLineLen) + line(MaxLineLen+1) + line(100_000)
	strict, repair := NewStrictReader(strings.NewReader(in)), NewRepairReader(strings.NewReader(in))
	for name, r := range map[string]interface {
		io.Reader
		LongLines() int64
	}{"strict": strict, "repair": repair} {
		got, err := io.ReadAll(r)
		if err != nil || string(got) != in || r.LongLines() != 2 {
			t.Errorf("%s: got %d octets, %d long lines, %v; want %d octets, 2 long lines", name, len(got), r.LongLines(), err, len(in))
		}
	}
}

func FuzzLines(f *testing.F) {
	for _, s := range []string{"", "a\r\n", "a\n.\r\n", "a\r\r\nb", "\r", "\n\r\n", "x\r.\r\n"} {
		f.Add([]byte(s), uint8(1))
	}
	f.Fuzz(func(t *testing.T, in []byte, chunk uint8) {
		size := int(chunk)%7 + 1
		read := func(r io.Reader) ([]byte, error) {
			var out bytes.Buffer
			_, err := io.CopyBuffer(&out, struct{ io.Reader }{r}, make([]byte, size))
			return out.Bytes(), err
		}
		repaired, err := read(NewRepairReader(iotest.HalfReader(bytes.NewReader(in))))
		if err != nil {
			t.Fatal(err)
		}
		if again, err := read(NewStrictReader(bytes.NewReader(repaired))); err != nil || !bytes.Equal(again, repaired) {
			t.Fatalf("repaired %q is not clean: %q, %v", repaired, again, err)
		}
		strict, err := read(NewStrictReader(iotest.HalfReader(bytes.NewReader(in))))
		bare := strings.ContainsAny(strings.ReplaceAll(string(in), crlf, ""), crlf)
		if bare != (err != nil) {
			t.Fatalf("%q: bare %v, error %v", in, bare, err)
		}
		if err == nil && !bytes.Equal(strict, repaired) {
			t.Fatalf("clean text changed: %q, %q", strict, repaired)
		}
	})
}
