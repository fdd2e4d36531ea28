package readable

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"
)

// read reads a message whose lines end with \n here.
func read(t *testing.T, text string) Message {
	t.Helper()
	wire := strings.ReplaceAll(text, "\n", "\r\n")
	m, err := Read(strings.NewReader(wire))
	if err != nil {
		t.Fatal(err)
	}
	slow, err := Read(iotest.OneByteReader(strings.NewReader(wire)))
	if err != nil || fmt.Sprint(slow) != fmt.Sprint(m) {
		t.Errorf("octet by octet it is another: %+v, %v", slow, err)
	}
	return m
}

// TestText: which text of a message is shown, and how it is decoded.
func TestText(t *testing.T) {
	for name, tt := range map[string]struct{ message, want string }{
		"no MIME":            {"Subject: x\n\nHello\n\nyou\n", "Hello\n\nyou"},
		"no body":            {"Subject: x\n", ""},
		"nothing":            {"", ""},
		"empty lines":        {"\n\n\n\nx\n\n", "x"},
		"quoted-printable":   {"Content-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: Quoted-Printable\n\nGr=FC=DFe=\n!\n", "Grüße!"},
		"base64":             {"Content-Transfer-Encoding: base64\nContent-Type: text/plain; charset=utf-8\n\nR3LDvMOfZQ==\n", "Grüße"},
		"koi8":               {"Content-Type: text/plain; charset=koi8-r\n\n\xF0\xD2\xC9\xD7\xC5\xD4\n", "Привет"},
		"iso-2022-jp":        {"Content-Type: text/plain; charset=ISO-2022-JP\n\n\x1b$B$3$s\x1b(B\n", "こん"},
		"utf-8 with a mark":  {"Content-Type: text/plain; charset=utf-8\n\n\xEF\xBB\xBFx\n", "x"},
		"no charset, UTF-8":  {"\nGrüße\n", "Grüße"},
		"no charset, 8 bits": {"\nGr\xFC\xDFe\n", "Grüße"},
		"unknown charset":    {"Content-Type: text/plain; charset=x-none\n\nGr\xFC\xDFe\n", "Grüße"},
		"UTF-7":              {"Content-Type: text/plain; charset=utf-7\n\n+ADw-script+AD4-\n", "+ADw-script+AD4-"},
		"UTF-7, none said":   {"\n+ADw-script+AD4-\n", "+ADw-script+AD4-"},
		"not a type":         {"Content-Type: ;;;\n\nx\n", "x"},
		"a type of one word": {"Content-Type: text\n\nx\n", "x"},
		"the first of two":   {"Content-Type: text/plain\nContent-Type: text/html\n\n<b>\n", "<b>"},
		"HTML":               {"Content-Type: text/html\n\n<p>Hello <b>you</b></p><p>there</p>\n", "Hello you\n\nthere"},
		"HTML's own charset": {"Content-Type: text/html\n\n<meta charset=koi8-r>\xF0\xD2\xC9\n", "При"},
		"alternatives": {"Content-Type: multipart/alternative; boundary=b\n\npreamble\n--b\n\nplain\n--b\nContent-Type: text/html\n\n<p>html\n--b--\nepilogue\n",
			"plain"},
		"an empty alternative": {"Content-Type: multipart/alternative; boundary=b\n\n--b\n\n  \n--b\nContent-Type: text/html\n\n<p>html\n--b--\n", "html"},
		"two texts":            {"Content-Type: multipart/mixed; boundary=\"b c\"\n\n--b c\n\none\n--b c  \nContent-Type: text/plain\n\ntwo\n--b c--\n", "one\ntwo"},
		"nested":               {"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: multipart/mixed; boundary=bb\n\n--bb\n\ninner\n--bb--\n--b\n\nouter\n--b--\n", "inner\nouter"},
		"an inner one without an end": {"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: multipart/mixed; boundary=i\n\n--i\n\ninner\n--b\n\nouter\n--b--\n",
			"inner\nouter"},
		"no end":                {"Content-Type: multipart/mixed; boundary=b\n\n--b\n\none", "one"},
		"ends in a header":      {"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/pl", ""},
		"ends in a delimiter":   {"Content-Type: multipart/mixed; boundary=b\n\n--b\n\none\n--b", "one"},
		"a delimiter in a line": {"Content-Type: multipart/mixed; boundary=b\n\n--b\n\none --b\n--bx\n -b\n--b--\n", "one --b\n--bx\n -b"},
		"no boundary":           {"Content-Type: multipart/mixed\n\n--b\n\none\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := read(t, tt.message).Text; got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// TestParts: what is beside the text is listed by name, type and decoded size.
func TestParts(t *testing.T) {
	for name, tt := range map[string]struct{ part, want string }{
		"a file":          {"Content-Type: image/png; name=a.png\nContent-Transfer-Encoding: base64\n\nQUJD\nREVG\n", "a.png image/png 6"},
		"a text file":     {"Content-Disposition: attachment; filename=\"a b.txt\"\n\nx\n", "a b.txt text/plain 1"},
		"in other words":  {"Content-Type: a/b\nContent-Disposition: attachment; filename*=utf-8''Gr%C3%BC%C3%9Fe.pdf\n\n\n", "Grüße.pdf a/b 0"},
		"an encoded word": {"Content-Type: a/b; name=\"=?utf-8?Q?Gr=C3=BC=C3=9Fe?=\"\n\nx\n", "Grüße a/b 1"},
		"no name":         {"Content-Type: A/B\n\nxyz\n", " a/b 3"},
		"a message":       {"Content-Type: message/rfc822\n\nSubject: x\n\nbody\n", " message/rfc822 18"},
		"an odd type":     {"Content-Type: a/\u202Eb\x01" + strings.Repeat("x", 200) + "; name=x\n\nxyz\n", " a/[U+202E]b[U+0001]" + strings.Repeat("x", 78) + "… 3"},
		"a path":          {"Content-Type: a/b; name=\"../../etc/passwd\"\n\n\n", "../../etc/passwd a/b 0"},
	} {
		t.Run(name, func(t *testing.T) {
			m := read(t, "Content-Type: multipart/mixed; boundary=b\n\n--b\n\ntext\n--b\n"+tt.part+"--b--\n")
			got := ""
			for _, p := range m.Parts {
				got += fmt.Sprintf("%s %s %d", p.Name, p.Type, p.Size)
			}
			if got != tt.want || m.Text != "text" || m.Damaged || m.Cut {
				t.Errorf("got %q, want %q, in %+v", got, tt.want, m)
			}
		})
	}
}

// TestHeader: what stands above a message.
func TestHeader(t *testing.T) {
	m := read(t, "From: =?utf-8?B?w4Q=?= <a@example.com>\nTO : b@example.com,\n c@example.com\nSubject: =?iso-8859-2?Q?=B1?=\n =?utf-8?Q?_x?=\n"+
		"Date: Wed, 01 Apr 2026 14:00:00 +0200 (CEST)\nCC: d@example.com\n\n")
	if m.From != "Ä <a@example.com>" || m.To != "b@example.com, c@example.com" || m.Subject != "ą x" || m.Cc != "d@example.com" ||
		m.Date.Format("2006-01-02 15:04 MST") != "2026-04-01 12:00 UTC" || !strings.Contains(m.Header, "TO : b@example.com,\n c@example.com\n") {
		t.Errorf("got %+v", m)
	}
	s, err := Summarise(strings.NewReader("Subject: =?x-none?Q?=B1?=\r\nFrom: Gr\xFC\xDFe\r\nDate: yesterday\r\n"))
	if err != nil || s.Subject != "=?x-none?Q?=B1?=" || s.From != "Grüße" || !s.Date.IsZero() {
		t.Errorf("got %+v, %v", s, err)
	}
}

// TestHTML: what HTML says, as plain text.
func TestHTML(t *testing.T) {
	for text, want := range map[string]string{
		`<script>alert(1)</script>x<style>y</style><title>z</title>`: "x",
		`<script>alert(1)`:                                             "",
		`a<br>b<br><br>c`:                                              "a\nb\n\nc",
		`a   b` + "\n\t" + `c&nbsp;&nbsp;d`:                            "a b c d",
		`<ul><li>one<li>two</ul>`:                                      "- one\n- two",
		`<a href="https://x.example/">here</a>`:                        "here <https://x.example/>",
		`<a href="https://x.example/">https://x.example/</a>`:          "https://x.example/",
		`<a href="javascript:alert(1)">here</a>`:                       "here",
		`<a href="https://bank.example.evil.example/"><img src=x></a>`: "",
		`<img alt="a > b" onerror=x>`:                                  "[a > b]",
		`<table><tr><td>a<td>b<tr><td>c</table>`:                       "a b\nc",
		`<pre>a  b` + "\n" + `c</pre>`:                                 "a  b\nc",
		`a &lt;script&gt; b`:                                           "a <script> b",
		`<!-- <p>no --><p>yes`:                                         "yes",
		`<div><div><div>a</div></div></div><div>b</div>`:               "a\nb",
		`<<<>>>`:              "<<<>>>",
		`<svg><text>x</svg>y`: "y",
		`<svg><b>y</b>z</svg>x<object><i>y</i>z</object>`:                         "x",
		`<base href="https://evil.example/">x`:                                    "x",
		`<meta http-equiv=refresh content="0; url=https://evil.example/">x`:       "x",
		`<form action="https://evil.example/">x<input value=y></form>`:            "x",
		`<picture><source srcset="https://evil.example/a.png">x</picture>`:        "x",
		`<img src="https://evil.example/a.png" srcset="b.png 2x">x`:               "x",
		`<div style="background:url(https://evil.example/)" title=y>x</div>`:      "x",
		`<link rel=stylesheet href="https://evil.example/"><embed src=y>x`:        "x",
		`<iframe src="https://evil.example/" srcdoc="y">z</iframe>x`:              "x",
		`<noscript>y</noscript><textarea>y</textarea><template>y</template>x`:     "x",
		`<object data=y>z</object><math>z</math><select><option>z</select>x`:      "x",
		`<script>"</style>"</script>x<style>"</script>"</style>`:                  "x",
		`<a href="data:text/html,y">x</a>`:                                        "x",
		`<a href=" JAVAscript:y">x</a><a href="vbscript:y">x</a>`:                 "xx",
		`<a href="//evil.example/">x</a><a href="/y">x</a>`:                       "xx",
		`<a title="https://y.example/" href="HTTPS://x.example/" name=z>here</a>`: "here <HTTPS://x.example/>",
		`<a href="mailto:x@y.example">here</a>`:                                   "here <mailto:x@y.example>",
	} {
		if got, more := plain(strings.NewReader(text), 1000); got != want || more {
			t.Errorf("%s: got %q (%t), want %q", text, got, more, want)
		}
	}
}

// TestEscape: what is seen as nothing, or turns text around, is written out.
func TestEscape(t *testing.T) {
	for text, want := range map[string]string{
		"Grüße, Привет, 你好, \U0001F600 a\u0301": "Grüße, Привет, 你好, \U0001F600 a\u0301",
		"a\u202Egpj.exe":                   "a[U+202E]gpj.exe",
		"\u2066a\u2069\u200Fb":             "[U+2066]a[U+2069][U+200F]b",
		"a\x00b\x1b[31m\x7F":               "a[U+0000]b[U+001B][31m[U+007F]",
		"a\u2028b\u2029\u0085":             "a[U+2028]b[U+2029][U+0085]",
		"a\u200B\uFEFFb":                   "a[U+200B][U+FEFF]b",
		"a\r\nb\rc\td":                     "a\nb[U+000D]c\td",
		"\u3164\u2800":                     "[U+3164][U+2800]",
		"می\u200Cخواهم":                    "می\u200Cخواهم",
		"\uE000":                           "[U+E000]",
		"a\u0301\u0301\u0301\u0301\u0301b": "a\u0301\u0301\u0301\u0301[U+0301]b",
	} {
		got, changed := escape(text, true)
		if got != want || changed != strings.Contains(want, "[U+") {
			t.Errorf("%q: got %q %t, want %q", text, got, changed, want)
		}
	}
	if got := line("a\r\nb \t c\u202E", 100); got != "a b c[U+202E]" {
		t.Errorf("on one line: %q", got)
	}
}

// TestHostile: whatever a message is made of, it is read in one pass, and no more is kept of it than the bounds say.
func TestHostile(t *testing.T) {
	nested := func(depth int) string {
		var b strings.Builder
		for i := range depth {
			fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=b%dx\n\n--b%dx\n", i, i)
		}
		b.WriteString("\ninnermost\n")
		for i := depth - 1; i >= 0; i-- {
			fmt.Fprintf(&b, "--b%dx--\n", i)
		}
		return b.String()
	}
	const big = 8 << 20
	for name, tt := range map[string]struct {
		message string
		check   func(Message) bool
	}{
		"10,000 parts": {"Content-Type: multipart/mixed; boundary=b\n\n" + strings.Repeat("--b\nContent-Type: a/b\n\nx\n", 10_000) + "--b--\n",
			func(m Message) bool { return len(m.Parts) == MaxParts && m.MoreParts == 10_000-MaxParts }},
		"10,000 texts": {"Content-Type: multipart/mixed; boundary=b\n\n" + strings.Repeat("--b\n\nx\n", 10_000) + "--b--\n",
			func(m Message) bool {
				return len(m.Text) == 2*MaxParts-1 && len(m.Parts)+m.MoreParts == 10_000-MaxParts
			}},
		"as deep as is read": {nested(MaxDepth), func(m Message) bool { return m.Text == "innermost" && len(m.Parts) == 0 }},
		"one deeper":         {nested(MaxDepth + 1), func(m Message) bool { return m.Text == "" && len(m.Parts) == 1 && m.Parts[0].Type == "multipart/mixed" }},
		"1,000 deep":         {nested(1000), func(m Message) bool { return len(m.Parts) == 1 }},
		"truncated base64": {"Content-Type: text/plain\nContent-Transfer-Encoding: base64\n\nR3LDvMOf",
			func(m Message) bool { return m.Text == "Grüß" && !m.Damaged }},
		"base64 of other letters": {"Content-Type: text/plain\nContent-Transfer-Encoding: base64\n\nQUJD!!!!REVG\n",
			func(m Message) bool { return m.Text == "ABC" && m.Damaged }},
		"8 MB in one line": {"\n" + strings.Repeat("x", big), func(m Message) bool { return m.Cut && len(m.Text) == MaxText }},
		"8 MB of quoted-printable in one line": {"Content-Transfer-Encoding: quoted-printable\n\n" + strings.Repeat("=41", big/3),
			func(m Message) bool { return m.Damaged && len(m.Text) > 0 && len(m.Text) <= MaxText }},
		"8 MB of base64 in one line": {"Content-Type: a/b\nContent-Transfer-Encoding: base64\n\n" + strings.Repeat("QUJD", big/4),
			func(m Message) bool { return m.Parts[0].Size == big/4*3 && !m.Damaged }},
		"8 MB of HTML in one line": {"Content-Type: text/html\n\n" + strings.Repeat("x", big), func(m Message) bool { return m.Cut && len(m.Text) == MaxText }},
		"8 MB in an attribute":     {"Content-Type: text/html\n\nbefore<img src='" + strings.Repeat("x", big) + "'>after", func(m Message) bool { return m.Cut && m.Text == "before" }},
		"8 MB of tags":             {"Content-Type: text/html\n\n" + strings.Repeat("<div>", big/5), func(m Message) bool { return m.Cut && m.Text == "" }},
		"8 MB of links":            {"Content-Type: text/html\n\n" + strings.Repeat("<a href=http://x>x", big/18), func(m Message) bool { return m.Cut && len(m.Text) == MaxText }},
		"8 MB in one field":        {"Subject: " + strings.Repeat("x", big) + "\n\nbody", func(m Message) bool { return len(m.Subject) <= MaxValue && m.Text == "body" }},
		"8 MB of fields":           {strings.Repeat("X: y\n", big/5) + "\nbody", func(m Message) bool { return len(m.Header) <= maxHeaderText && m.Text == "body" }},
		"8 MB of folds":            {"Subject: x\n" + strings.Repeat(" y\n", big/3) + "\nbody", func(m Message) bool { return len(m.Subject) <= MaxValue && m.Text == "body" }},
		"8 MB in a part's field":   {"Content-Type: multipart/mixed; boundary=b\n\n--b\nX: " + strings.Repeat("x", big) + "\n\nbody\n--b--\n", func(m Message) bool { return m.Text == "body" }},
		"8 MB of NUL": {"\n" + strings.Repeat("\x00", big), func(m Message) bool {
			return m.Cut && m.Escaped && len(m.Text) <= MaxText && !strings.Contains(m.Text, "\x00")
		}},
		"8 MB of encoded words": {"Subject: " + strings.Repeat("=?utf-8?Q?x?= ", big/14) + "\n\nbody", func(m Message) bool { return len(m.Subject) <= MaxValue }},
		"a long boundary":       {"Content-Type: multipart/mixed; boundary=" + strings.Repeat("b", maxBoundary+1) + "\n\nx", func(m Message) bool { return len(m.Parts) == 1 }},
		"a file name of 8 KiB":  {"Content-Type: a/b; name=\"" + strings.Repeat("n", 3<<10) + "\"\n\nx", func(m Message) bool { return len(m.Parts[0].Name) <= MaxFileName }},
		"a type with a script":  {"Content-Type: <script>/x\n\nx", func(m Message) bool { return len(m.Parts) == 1 }},
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			m, err := Read(strings.NewReader(strings.ReplaceAll(tt.message, "\n", "\r\n")))
			runtime.ReadMemStats(&after)
			if err != nil || !tt.check(m) {
				m.Text, m.Header = cut(m.Text, 200), cut(m.Header, 200)
				t.Errorf("%v: %.3000s", err, fmt.Sprintf("%+v", m))
			}
			// The message itself is made twice; ten thousand readers of parts are garbage at once, and under the race detector pools forget.
			if used := int64(after.TotalAlloc-before.TotalAlloc) - 2*int64(len(tt.message)); used > 64<<20 {
				t.Errorf("%d octets were allocated", used)
			}
			for _, text := range []string{m.Text, m.Subject, m.From, m.Header} {
				if !utf8.ValidString(text) {
					t.Errorf("not UTF-8: %.100q", text)
				}
			}
		})
	}
}

// TestTextEdge: a text as long as is shown is whole, and one octet more is not.
func TestTextEdge(t *testing.T) {
	for _, kind := range []string{"text/plain", "text/html"} {
		for n, wantCut := range map[int]bool{MaxText - 1: false, MaxText: false, MaxText + 1: true} {
			m, err := Read(strings.NewReader("Content-Type: " + kind + "\r\n\r\n" + strings.Repeat("x", n)))
			if err != nil || m.Cut != wantCut || len(m.Text) != min(n, MaxText) {
				t.Errorf("%s of %d: cut %t, %d octets, %v", kind, n, m.Cut, len(m.Text), err)
			}
		}
	}
}

// TestFlat: a part of any size costs the same memory.
func TestFlat(t *testing.T) {
	line := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 57)) + "\r\n"
	used := func(lines int) uint64 {
		head := "Content-Type: a/b\r\nContent-Transfer-Encoding: base64\r\n\r\n"
		r := io.MultiReader(strings.NewReader(head), io.LimitReader(&repeated{text: line}, int64(lines*len(line))))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		m, err := Read(r)
		runtime.ReadMemStats(&after)
		if err != nil || len(m.Parts) != 1 || m.Parts[0].Size != int64(57*lines) {
			t.Fatalf("%+v, %v", m, err)
		}
		return after.TotalAlloc - before.TotalAlloc
	}
	used(10)
	if small, large := used(1000), used(500_000); large > small+64<<10 {
		t.Errorf("%d octets for a small part, %d for a large one", small, large)
	}
}

// repeated is a text without end.
type repeated struct {
	text string
	at   int
}

func (r *repeated) Read(p []byte) (int, error) {
	n := copy(p, r.text[r.at:])
	r.at = (r.at + n) % len(r.text)
	return n, nil
}

// TestReaderFails: what fails is said, and is no end of a message.
func TestReaderFails(t *testing.T) {
	broken := errors.New("broken")
	for _, text := range []string{"", "Subject: x\r\n", "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx", "Content-Transfer-Encoding: base64\r\n\r\nQUJD"} {
		if _, err := Read(io.MultiReader(strings.NewReader(text), iotest.ErrReader(broken))); !errors.Is(err, broken) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := Summarise(iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("a header: %v", err)
	}
}

// FuzzRead: whatever a message is, reading it ends, keeps to its bounds, and leaves nothing that hides.
func FuzzRead(f *testing.F) {
	f.Add([]byte("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>x\r\n--b--\r\n"))
	f.Add([]byte("Subject: =?utf-8?B?w4Q=?=\r\nContent-Transfer-Encoding: base64\r\n\r\nR3LDvMOf"))
	f.Fuzz(func(t *testing.T, message []byte) {
		m, err := Read(bytes.NewReader(message))
		if err != nil {
			t.Fatal(err)
		}
		if len(m.Text) > MaxText || len(m.Parts) > MaxParts || len(m.Subject) > MaxValue {
			t.Errorf("%d %d %d", len(m.Text), len(m.Parts), len(m.Subject))
		}
		for _, text := range []string{m.Text, m.Subject, m.From, m.To, m.Cc} {
			if safe, changed := escape(text, true); changed || safe != text || !utf8.ValidString(text) {
				t.Errorf("not escaped: %q", text)
			}
		}
	})
}
