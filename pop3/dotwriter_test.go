package pop3

import (
	"bytes"
	"errors"
	"io"
	"math"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"
)

// undo is a client's side of RFC 1939 §3: what comes after the first line, without stuffing and terminator.
func undo(t testing.TB, sent string) string {
	t.Helper()
	body, ok := strings.CutSuffix(sent, ".\r\n")
	if !ok || body != "" && !strings.HasSuffix(body, "\r\n") {
		t.Fatalf("not terminated: %q", sent)
	}
	var b strings.Builder
	for line := range strings.SplitAfterSeq(body, "\n") {
		if line == ".\r\n" || line == ".\n" {
			t.Fatalf("terminator inside the content: %q", sent)
		}
		b.WriteString(strings.TrimPrefix(line, "."))
	}
	return b.String()
}

// nasty are contents with CRLF line ends that have tripped servers up.
func nasty() []string {
	long := strings.Repeat("x", 10_000)
	return []string{
		"", "\r\n", ".\r\n", "..\r\n", ".\r\n.\r\n", "a\r\n", "a\r\n.b\r\n", ".a\r\n..\r\n...\r\n", "\r\n.\r\n", "h: v\r\n\r\n.\r\n\r\n",
		long + "\r\n", "." + long + "\r\n." + long + "\r\n", "nul \x00\r\n.\x00\r\n", "\xff\xfe\r\n.\xff\r\n", "cr\r.\r\nx\r\n",
		strings.Repeat(".\r\n", 5000), strings.Repeat(strings.Repeat(".", 77)+"\r\n", 500),
	}
}

// TestDotWriter writes each content in pieces of every small size and in random ones: the client must get back the same octets.
func TestDotWriter(t *testing.T) {
	for _, content := range nasty() {
		for _, size := range []int{1, 2, 3, 5, 64, 1 << 20} {
			var b bytes.Buffer
			d := &dotWriter{w: &b}
			for rest := content; rest != ""; {
				n := min(size, len(rest))
				if got, err := io.WriteString(d, rest[:n]); got != n || err != nil {
					t.Fatalf("wrote %d of %d: %v", got, n, err)
				}
				rest = rest[n:]
			}
			if err := d.end(); err != nil {
				t.Fatal(err)
			}
			if got := undo(t, b.String()); got != content || d.n != int64(len(content)) {
				t.Errorf("pieces of %d: got %d octets back, want the %d that were sent", size, len(got), len(content))
			}
		}
	}
}

// TestDotWriterFraming: content without a line end at its end gets one, as framing.
func TestDotWriterFraming(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"a", "a\r\n.\r\n"}, {".", "..\r\n.\r\n"}, {"a\n", "a\n\r\n.\r\n"}, {"a\r", "a\r\r\n.\r\n"}, {"a\r\n", "a\r\n.\r\n"}, {"\n", "\n\r\n.\r\n"},
	} {
		var b bytes.Buffer
		d := &dotWriter{w: &b}
		if _, err := io.WriteString(d, tt.in); err != nil {
			t.Fatal(err)
		}
		if err := d.end(); err != nil || b.String() != tt.want {
			t.Errorf("%q: got %q (%v), want %q", tt.in, b.String(), err, tt.want)
		}
	}
}

func TestDotWriterError(t *testing.T) {
	d := &dotWriter{w: iotestErrWriter{}}
	if _, err := d.Write([]byte("a")); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %v", err)
	}
	if err := d.end(); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %v", err)
	}
}

type iotestErrWriter struct{}

func (iotestErrWriter) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// TestTopReader: the header and the empty line do not count, whatever the pieces.
func TestTopReader(t *testing.T) {
	const message = "A: 1\r\nB: 2\r\n\r\none\r\n\r\nthree\r\n"
	for _, tt := range []struct {
		lines int
		in    string
		want  string
	}{
		{0, message, "A: 1\r\nB: 2\r\n\r\n"},
		{1, message, "A: 1\r\nB: 2\r\n\r\none\r\n"},
		{2, message, "A: 1\r\nB: 2\r\n\r\none\r\n\r\n"},
		{3, message, message},
		{4, message, message},
		{0, "A: 1\r\n", "A: 1\r\n"},
		{5, "\r\nbody\r\n", "\r\nbody\r\n"},
		{0, "\r\nbody\r\n", "\r\n"},
		{1, "A: 1\n\nx\ny\n", "A: 1\n\nx\n"},
	} {
		in := func() io.Reader { return strings.NewReader(tt.in) }
		for _, r := range []io.Reader{in(), iotest.OneByteReader(in()), iotest.DataErrReader(in())} {
			got, err := io.ReadAll(&topReader{r: r, lines: tt.lines, blank: true})
			if err != nil || string(got) != tt.want {
				t.Errorf("TOP %d of %q: got %q (%v), want %q", tt.lines, tt.in, got, err, tt.want)
			}
		}
	}
}

// TestCopyExactly: one octet too few or too many is an error, and never sent beyond the promise, whether the message is read or writes
// itself.
func TestCopyExactly(t *testing.T) {
	lent := 0
	lend := func(to io.Writer, from io.Reader) error {
		lent++
		_, err := io.CopyBuffer(to, from, make([]byte, 16))
		return err
	}
	for _, tt := range []struct {
		size int64
		want error
	}{{9, errShort}, {10, nil}, {11, errShort}} {
		text := func() io.Reader { return strings.NewReader("12345678\r\n") }
		for _, pieces := range []io.Reader{iotest.OneByteReader(text()), iotest.HalfReader(text()), text()} {
			var b bytes.Buffer
			err := copyExactly(&exactWriter{w: &dotWriter{w: &b}, left: tt.size}, pieces, lend)
			if !errors.Is(err, tt.want) || int64(b.Len()) > tt.size || err == nil && b.String() != "12345678\r\n" {
				t.Errorf("size %d: got %v after %q, want %v", tt.size, err, b.String(), tt.want)
			}
		}
	}
	if lent != 6 {
		t.Errorf("lent %d buffers, want none where a message writes itself", lent)
	}
	boom := errors.New("boom")
	late := io.MultiReader(strings.NewReader("123"), iotest.ErrReader(boom))
	if err := copyExactly(&exactWriter{w: &dotWriter{w: io.Discard}, left: 3}, late, lend); !errors.Is(err, boom) {
		t.Errorf("an error right after the last octet: got %v", err)
	}
	gone := &exactWriter{w: &dotWriter{w: iotestErrWriter{}}, left: 3}
	if err := copyExactly(gone, strings.NewReader("123"), lend); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("a client that went away: got %v", err)
	}
}

func FuzzDotWriter(f *testing.F) {
	for _, s := range nasty() {
		if len(s) < 1000 {
			f.Add([]byte(s), uint64(1))
		}
	}
	f.Fuzz(func(t *testing.T, content []byte, seed uint64) {
		content = bytes.ReplaceAll(bytes.ReplaceAll(content, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
		if len(content) > 0 && !bytes.HasSuffix(content, crlf) {
			content = append(content, crlf...)
		}
		random := rand.New(rand.NewPCG(seed, 0))
		var b bytes.Buffer
		d := &dotWriter{w: &b}
		for rest := content; len(rest) > 0; {
			n := 1 + random.IntN(len(rest))
			if _, err := d.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if err := d.end(); err != nil {
			t.Fatal(err)
		}
		if got := undo(t, b.String()); got != string(content) {
			t.Fatalf("got %q back, want %q", got, content)
		}
	})
}

func FuzzCommandLine(f *testing.F) {
	for _, s := range []string{"", " ", "USER a b", "list ", "TOP 1 2", "RETR 99999999999999999999", "\x00", "pass  ", "lang de",
		"\xff\xfe", "a\u2028b", "[AUTH] x"} {
		f.Add(s, uint8(len(s)))
	}
	f.Fuzz(func(t *testing.T, line string, kind uint8) {
		name, arg := splitCommand([]byte(line))
		if bytes.Contains(name, space) || len(name)+len(arg) > len(line) {
			t.Fatalf("%q became %q and %q", line, name, arg)
		}
		args := words(arg)
		for _, word := range args.at[:min(args.n, maxArguments)] {
			n, ok := number(word)
			want, valid := new(big.Int).SetString(string(word), 10)
			valid = valid && word[0] != '+' && word[0] != '-'
			if ok != valid {
				t.Fatalf("%q is a number: %t", word, ok)
			}
			if ok && want.IsInt64() && int64(n) != want.Int64() || ok && !want.IsInt64() && n != math.MaxInt {
				t.Fatalf("%q became number %d", word, n)
			}
		}
		if (args.n == 0) != isEmpty(arg) {
			t.Fatalf("%q has %d words", arg, args.n)
		}
		r := reply{text: text(kind) % textCount, s: [2]string{line, line}, code: ResponseCode(arg)}
		for _, v := range []voice{{}, {english, true}, {german, true}} {
			got := string(r.appendLine(nil, v))
			if len(got) > maxReplyLine || strings.Count(got, "\n") != 1 || !strings.HasSuffix(got, "\r\n") || !utf8.ValidString(got) {
				t.Fatalf("reply %q", got)
			}
			if !v.utf8 && strings.ContainsFunc(got, func(r rune) bool { return r > '~' }) {
				t.Fatalf("reply %q without LANG", got)
			}
		}
	})
}
