package pop3

import (
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

var placeholder = regexp.MustCompile(`\{.`)

// TestMisspelling: both sides of what SASLprep prohibits (RFC 4013 §2.3).
func TestMisspelling(t *testing.T) {
	for _, good := range []string{
		"", "alice", " a~", "gr\u00fc\u00dfe", "\u00a0", "\u00ad", "\u06dc", "\u06de", "\u070e", "\u0710", "\u180d", "\u200b", "\u200c", "\u200d",
		"\u2010", "\u2027", "\u202f", "\u2060", "\u2064", "\u2069", "\u2070", "\u2fef", "\u2ffc", "\ud7ff", "\uf900", "\ufeff", "\U0001d172",
		"\U0001d17b", "\U0001f511", "\U000e0002", "\U000e001f", "\U000e0080",
	} {
		if got := misspelling([]byte(good)); got != textNone {
			t.Errorf("%+q: got %q", good, languages[english].texts[got])
		}
	}
	for _, bad := range []string{
		"\x00", "a\tb", "\x1f", "\x7f", "\u0080", "\u009f", "\u06dd", "\u070f", "\u180e", "\u200e", "\u200f", "\u2028", "\u202e", "\u2061", "\u2063",
		"\u206a", "\u206f", "\u2ff0", "\u2ffb", "\ue000", "\uf8ff", "\ufdd0", "\ufdef", "\ufff9", "\ufffd", "\uffff", "\U0001d173", "\U0001d17a",
		"\U0001fffe", "\U000e0001", "\U000e0020", "\U000e007f", "\U000f0000", "\U0010fffd", "\U0010ffff",
	} {
		if got := misspelling([]byte("gr" + bad + "x")); got != textProhibited {
			t.Errorf("%+q: got %q", bad, languages[english].texts[got])
		}
	}
	for _, octets := range []string{"\xff", "gr\xfcn", "\xed\xa0\x80", "\xc0\x80", "\xf4\x90\x80\x80"} {
		if got := misspelling([]byte(octets)); got != textNotUTF8 {
			t.Errorf("%q: got %q", octets, languages[english].texts[got])
		}
	}
}

// TestTexts: every language has every text, with the same numbers and strings in it; English is ASCII, and nothing looks like a response code.
func TestTexts(t *testing.T) {
	for l, language := range languages {
		if language.tag == "" || language.name == "" {
			t.Errorf("language %d has no name", l)
		}
		for i, got := range language.texts {
			want := englishTexts[i]
			if (got == "") != (text(i) == textNone) {
				t.Errorf("%s: text %d is %q", language.tag, i, got)
			}
			a, b := placeholder.FindAllString(got, -1), placeholder.FindAllString(want, -1)
			slices.Sort(a)
			slices.Sort(b)
			if !slices.Equal(a, b) {
				t.Errorf("%s: %q has %v, English %v", language.tag, got, a, b)
			}
			for _, p := range a {
				if !strings.Contains("{1 {2 {a {b", p) || !strings.Contains(got, p+"}") {
					t.Errorf("%s: %q: unknown %s", language.tag, got, p)
				}
			}
			if printable := string(voice{utf8: language.tag != "en"}.appendPrintable(nil, got)); printable != got || strings.HasPrefix(got, "[") {
				t.Errorf("%s: %q cannot be said", language.tag, got)
			}
		}
	}
	if slices.Equal(englishTexts[:], germanTexts[:]) {
		t.Error("German is English")
	}
}

// untranslated are the texts that have no words, or the same ones.
var untranslated = []text{textNone, textOwn, textNumber, textNumbers, textUID}

// TestTranslated: what is the same in two languages was meant to be.
func TestTranslated(t *testing.T) {
	for i := range textCount {
		if same := englishTexts[i] == germanTexts[i]; same != slices.Contains(untranslated, i) {
			t.Errorf("text %d: %q and %q", i, englishTexts[i], germanTexts[i])
		}
	}
}

// TestOnlyTextsAreSaid: nothing but say and ask writes to a client, replies are made of rows of the tables, and nothing else is made a text.
func TestOnlyTextsAreSaid(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) < 20 {
		t.Fatal(files, err)
	}
	writers, texts := map[string]bool{}, 0
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") || strings.HasPrefix(name, "texts_") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		function := ""
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				function = n.Name.Name
			case *ast.BasicLit:
				if function != "appendLine" && (strings.Contains(n.Value, "+OK") || strings.Contains(n.Value, "-ERR")) {
					t.Errorf("%s: %s says %s", name, function, n.Value)
				}
			case *ast.CallExpr:
				switch types.ExprString(n.Fun) {
				case "c.out.begin":
					writers[function] = true
				case "text":
					t.Errorf("%s: %s makes a text", name, function)
				}
			case *ast.Ident:
				if strings.HasPrefix(n.Name, "text") && len(n.Name) > len("text") && name != "text.go" {
					texts++
				}
			}
			return true
		})
	}
	if len(writers) != 2 || !writers["say"] || !writers["ask"] {
		t.Errorf("written to by %v", writers)
	}
	if texts < int(textCount) {
		t.Errorf("%d uses of %d texts", texts, textCount)
	}
}

// TestLookUp: RFC 4647 §2.1, §3.4.
func TestLookUp(t *testing.T) {
	for wanted, want := range map[string]string{
		"en": "en", "de": "de", "DE": "de", "de-CH": "de", "de-ch-1996": "de", "de-x-mine": "de", "en-GB-oed": "en", "*": "de",
		"": "", "-": "", "d": "", "dex": "", "fr": "", "de_DE": "", "de-": "", "de--CH": "", "de-*": "", "1de": "", "de-123456789": "", "x-de": "",
		"de-12345678": "de", "i-default": "", "deutsch": "",
	} {
		l, found := lookUp(wanted, german)
		got := ""
		if found {
			got = languages[l].tag
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", wanted, got, want)
		}
	}
	for tag, want := range map[string]language{"": english, "de": german, "de-AT": german, "fr": english, "*": english} {
		if got := (&Server{Language: tag}).preferred(); got != want {
			t.Errorf("preferred %q: got %v", tag, got)
		}
	}
}

// TestLineIsCut: a reply line has at most 512 octets with its CRLF, and ends at the border of a character.
func TestLineIsCut(t *testing.T) {
	for pad := range 8 {
		for _, character := range []string{"x", "ö", "€", "𐍈"} {
			for _, n := range []int{100, 600} {
				own := strings.Repeat("p", pad) + strings.Repeat(character, n)
				r := reply{text: textOwn, s: [2]string{own}}
				got := string(r.appendLine([]byte("before"), voice{utf8: true}))
				got = strings.TrimPrefix(got, "before")
				said, ok := strings.CutPrefix(strings.TrimSuffix(got, "\r\n"), "-ERR ")
				if !ok || !utf8.ValidString(got) || len(got) > maxReplyLine || !strings.HasPrefix(own, said) {
					t.Fatalf("%q: said %q in %d octets", own, said, len(got))
				}
				if said != own && len(got) <= maxReplyLine-len(character) {
					t.Errorf("%q: cut to %d octets", own, len(got))
				}
			}
		}
	}
}

// TestPrintable: what could end a line or turn it around is dropped.
func TestPrintable(t *testing.T) {
	const text = "a\r\n\x00\x7f\u0085\u2028\u202e\ufeff\xff\ufffdö€ b"
	if got := string(voice{utf8: true}.appendPrintable(nil, text)); got != "aö€ b" {
		t.Errorf("got %q", got)
	}
	if got := string(voice{}.appendPrintable(nil, text)); got != "a b" {
		t.Errorf("got %q", got)
	}
}

// TestCapability: a line of CAPA has at most 512 octets; arguments that do not fit are left out, whole.
func TestCapability(t *testing.T) {
	for _, tt := range []struct {
		arguments []string
		want      string
	}{
		{nil, "TAG"},
		{[]string{"", "a", "", "b"}, "TAG a b"},
		{[]string{"a\r\nb", "ö"}, "TAG ab"},
		{[]string{strings.Repeat("x", 506), "y"}, "TAG " + strings.Repeat("x", 506)},
		{[]string{strings.Repeat("x", 507), "y"}, "TAG"},
		{[]string{strings.Repeat("x", 504), "y"}, "TAG " + strings.Repeat("x", 504) + " y"},
		{[]string{strings.Repeat("x", 505), "y"}, "TAG " + strings.Repeat("x", 505)},
	} {
		if got := capability("TAG", tt.arguments...); got != tt.want {
			t.Errorf("%d arguments: got %d octets, want %d", len(tt.arguments), len(got), len(tt.want))
		}
	}
}
