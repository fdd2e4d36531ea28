package refusal

import (
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"latchkey/internal/mailaddr"
)

var update = flag.Bool("update", false, "write docs/refusals.md")

func TestDocumentIsUpToDate(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "refusals.md")
	if *update {
		if err := os.WriteFile(path, []byte(Markdown()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil || string(got) != Markdown() {
		t.Errorf("docs/refusals.md is not what the table says (%v); run go generate ./internal/refusal", err)
	}
}

// names reads the constants: a name without a row would be answered as a temporary failure.
func names(t *testing.T) (list []Name) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "names.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if l, ok := n.(*ast.BasicLit); ok {
			s, err := strconv.Unquote(l.Value)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, Name(s))
		}
		return true
	})
	return list
}

func TestEveryNameHasOneRow(t *testing.T) {
	var rows []Name
	for _, r := range All() {
		rows = append(rows, r.Name)
	}
	if want := names(t); !slices.Equal(rows, want) {
		t.Errorf("rows %q\nnames %q", rows, want)
	}
	slices.Sort(rows)
	if len(slices.Compact(slices.Clone(rows))) != len(rows) {
		t.Errorf("a name twice: %q", rows)
	}
}

// worst are the facts that make a text longest.
func worst(t *testing.T) Facts {
	t.Helper()
	mailbox, err := mailaddr.Parse(strings.Repeat("m", maxMailbox-12) + "@example.com")
	if err != nil {
		t.Fatal(err)
	}
	return Facts{Remote: netip.MustParseAddr("2001:db8:1111:2222:3333:4444:5555:6666"), Mailbox: mailbox, Wait: 24 * time.Hour}
}

// TestRows: form, code and status agree, cure within what a mail program shows, one sentence each to explain.
func TestRows(t *testing.T) {
	form := regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	sentence := regexp.MustCompile(`^[A-Z][^|\n]*\.$`)
	for _, r := range All() {
		if !form.MatchString(string(r.Name)) {
			t.Errorf("%s: not in kebab case", r.Name)
		}
		if !sentence.MatchString(r.Cause) || !sentence.MatchString(r.Cure) {
			t.Errorf("%s: no sentence: %q, %q", r.Name, r.Cause, r.Cure)
		}
		if r.SMTP.Code == 0 && r.POP3.Text == "" {
			t.Errorf("%s is said nowhere", r.Name)
		}
		if c := r.SMTP.Code / 100; r.SMTP.Code != 0 && (c != 4 && c != 5 || r.SMTP.Status[0] != c || r.SMTP.Text == "") {
			t.Errorf("%s: %+v", r.Name, r.SMTP)
		}
		if !slices.Contains([]string{"", "AUTH", "IN-USE", "LOGIN-DELAY", "SYS/TEMP", "SYS/PERM"}, r.POP3.Code) {
			t.Errorf("%s: POP3 code %q", r.Name, r.POP3.Code)
		}
		if strings.ContainsAny(r.POP3.Text, "{}") || len(r.POP3Line()) > MaxText {
			t.Errorf("%s: %q", r.Name, r.POP3.Text)
		}
		for _, text := range []string{r.SMTP.Text, r.POP3.Text} {
			if text != Clean(text) || strings.Contains(text, "|") || strings.Contains(strings.TrimSuffix(text, "{help}"), "{help}") {
				t.Errorf("%s: text %q", r.Name, text)
			}
			f := worst(t)
			short := Fill(text, f) + r.Name.mark()
			if len(short) > MaxText || strings.ContainsAny(short, "{}") {
				t.Errorf("%s: %d octets, or a placeholder is left: %q", r.Name, len(short), short)
			}
			f.Help = "https://" + strings.Repeat("h", 92)
			if long := Fill(text, f); len(long) >= MaxReply {
				t.Errorf("%s: cut short: %q", r.Name, long)
			}
		}
	}
}

func TestFill(t *testing.T) {
	address := func(s string) mailaddr.Address {
		a, err := mailaddr.FromUnquoted(s)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	v4, v6 := netip.MustParseAddr("203.0.113.7"), netip.MustParseAddr("2001:db8::1")
	long := strings.Repeat("m", maxMailbox-12)
	tests := []struct {
		text string
		f    Facts
		want string
	}{
		{"{remote} {here} {there}", Facts{Remote: v4}, "203.0.113.7 IPv4 IPv6"},
		{"{remote} {here} {there}", Facts{Remote: v6.WithZone("eth0")}, "2001:db8::1 IPv6 IPv4"},
		{"{remote}", Facts{}, "this address"},
		{"{mailbox}", Facts{Mailbox: address("u.ser+x@example.com")}, "u.ser+x@example.com"},
		{"{mailbox}", Facts{}, "your mailbox"},
		{"{mailbox}", Facts{Mailbox: address("a b@example.com")}, "your mailbox"},
		{"{mailbox}", Facts{Mailbox: address(`a"b@example.com`)}, "your mailbox"},
		{"{mailbox}", Facts{Mailbox: address("jürgen@example.com")}, "your mailbox"},
		{"{mailbox}", Facts{Mailbox: address(long + "@example.com")}, long + "@example.com"},
		{"{mailbox}", Facts{Mailbox: address(long + "m@example.com")}, "your mailbox"},
		{"x{help}", Facts{}, "x"},
		{"x{help}", Facts{Help: "https://h.example/"}, "x - see https://h.example/"},
		{"{mailbox}", Facts{Mailbox: address("{help}@example.com"), Help: "https://h.example/"}, "{help}@example.com"},
	}
	for wait, want := range map[time.Duration]string{
		0: "1 minute", time.Second: "1 minute", time.Minute: "1 minute", time.Minute + 1: "2 minutes", 90 * time.Minute: "90 minutes",
		90*time.Minute + 1: "2 hours", 2 * time.Hour: "2 hours", 2*time.Hour + 1: "3 hours",
	} {
		tests = append(tests, struct {
			text string
			f    Facts
			want string
		}{"{wait}", Facts{Wait: wait}, want})
	}
	for _, tt := range tests {
		if got := Fill(tt.text, tt.f); got != tt.want {
			t.Errorf("%q with %+v: got %q, want %q", tt.text, tt.f, got, tt.want)
		}
	}
}

func TestCleanIsOneShortLine(t *testing.T) {
	for _, text := range []string{"a\r\n250 ok", "a\nb", "tab\tnul\x00", "é", strings.Repeat("x", MaxReply+1)} {
		got := Clean(text)
		if strings.ContainsFunc(got, func(r rune) bool { return r < ' ' || r > '~' }) || len(got) > MaxReply {
			t.Errorf("%q became %q", text, got)
		}
	}
}

func TestOf(t *testing.T) {
	if r := Of(RelayGrantExpired); r.Name != RelayGrantExpired {
		t.Errorf("got %+v", r)
	}
	if r := Of("nothing"); r.Name != TemporaryFailure {
		t.Errorf("unknown name: got %+v", r)
	}
	if _, ok := Lookup("nothing"); ok {
		t.Error("found what is not there")
	}
	// The table cannot be changed from outside.
	All()[0].Name = "changed"
	if All()[0].Name == "changed" {
		t.Error("All hands out the table itself")
	}
}

// TestCodes: each name has a code of its own, by which it is found, however it is typed.
func TestCodes(t *testing.T) {
	form, seen := regexp.MustCompile(`^L-[0-9A-HJKMNP-TV-Z]{3}$`), map[string]Name{}
	for _, r := range All() {
		code := r.Name.Code()
		if other, ok := seen[code]; ok || !form.MatchString(code) {
			t.Errorf("%s has the code %s of %s: give the new one another name", r.Name, code, other)
		}
		seen[code] = r.Name
		for _, text := range []string{code, strings.ToLower(code), "(" + code + ")", " " + string(r.Name)} {
			if found, ok := Find(text); !ok || found.Name != r.Name {
				t.Errorf("%q finds %s, want %s", text, found.Name, r.Name)
			}
		}
		if plain, mark := Unmarked("text" + r.Name.mark()); plain != "text" || mark != r.Name.mark() {
			t.Errorf("%q %q", plain, mark)
		}
	}
	for _, text := range []string{"", "L-", "L-0000", "nothing"} {
		if r, ok := Find(text); ok {
			t.Errorf("%q finds %s", text, r.Name)
		}
	}
	if RelayGrantExpired.Code() != "L-RE1" {
		t.Errorf("a code has changed: %s", RelayGrantExpired.Code())
	}
}

// transcriptLine is a refusal in a golden transcript of any package, without what a code adds.
func transcriptLine(r Refusal) (forms []*regexp.Regexp) {
	any := regexp.MustCompile(`\\\{[a-z]+\\\}`)
	form := func(text string) {
		forms = append(forms, regexp.MustCompile(`^S: `+any.ReplaceAllString(regexp.QuoteMeta(text), `.*`)+`$`))
	}
	if s := r.SMTP; s.Code != 0 {
		form(strconv.Itoa(s.Code) + " " + strconv.Itoa(s.Status[0]) + "." + strconv.Itoa(s.Status[1]) + "." + strconv.Itoa(s.Status[2]) + " " + s.Text)
	}
	if r.POP3.Text != "" {
		form(strings.TrimSuffix(r.POP3Line(), r.Name.mark()))
	}
	return forms
}

// TestTranscriptsHaveCodes: a refusal in a golden transcript ends with its code. With -update it is put there.
func TestTranscriptsHaveCodes(t *testing.T) {
	found, forms := 0, map[Name][]*regexp.Regexp{}
	for _, r := range All() {
		forms[r.Name] = transcriptLine(r)
	}
	for _, pattern := range []string{"../../smtp/testdata/*.txt", "../../pop3/maildrop/testdata/*.txt", "../../pop3/maildrop/testdata/*/*.txt", "../../cmd/latchkey/testdata/*.txt"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			lines, changed := strings.Split(string(text), "\n"), false
			for i, line := range lines {
				for _, r := range All() {
					plain, mark := Unmarked(line)
					if mark != "" && mark != r.Name.mark() || !strings.HasPrefix(line, "S: ") || !slices.ContainsFunc(forms[r.Name], func(f *regexp.Regexp) bool { return f.MatchString(plain) }) {
						continue
					}
					if found++; mark == "" {
						lines[i], changed = line+r.Name.mark(), true
						if !*update {
							t.Errorf("%s:%d: %s lacks %s", file, i+1, line, r.Name.mark())
						}
						break
					}
				}
			}
			if changed && *update {
				if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if found < 30 {
		t.Errorf("only %d refusals were found in transcripts", found)
	}
}
