package pages

import (
	"io/fs"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

var (
	keyInTemplate = regexp.MustCompile(`[{(]\s*t "([^"]+)"`)
	verb          = regexp.MustCompile(`%[a-z%]`)
)

// TestTexts: every text that a template names is there, and a German one takes what the English one does.
func TestTexts(t *testing.T) {
	err := fs.WalkDir(files, "templates", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := files.ReadFile(name)
		for _, found := range keyInTemplate.FindAllStringSubmatch(string(data), -1) {
			if _, ok := englishTexts[found[1]]; !ok {
				t.Errorf("%s names %s, which is no text", name, found[1])
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for key, text := range germanTexts {
		if !slices.Equal(verb.FindAllString(text, -1), verb.FindAllString(englishTexts[key], -1)) {
			t.Errorf("%s: %q and %q do not take the same", key, text, englishTexts[key])
		}
	}
}

// TestLanguage: a browser gets the language that it wants most of the two.
func TestLanguage(t *testing.T) {
	for header, want := range map[string]lang{
		"": english, "de": german, "de-AT,de;q=0.9,en;q=0.8": german, "en-GB,de;q=0.9": english, "fr,de;q=0.3,en;q=0.2": german, "de;q=0": english,
		"de;q=x": english, "en;q=0.1,de;q=0.2": german, ",;,": english, strings.Repeat("x", 500) + ",de": english,
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Accept-Language", header)
		if got := langOf(r); got != want {
			t.Errorf("%q: got %s, want %s", header, got, want)
		}
	}
}

// TestNoTextIsMissing: no page shows the key of a text, or a text without what it takes, in either language.
func TestNoTextIsMissing(t *testing.T) {
	key := regexp.MustCompile(`\b(nav|form|list|error|login|overview|signin|mailboxes|mailbox|remove|password|forward|device|client|aliases|sending|settings|preview|grants|holds|purge|vacation|retention|trail|step|proof|explain|audit|queue|bans|suppressions|dns|tokens|mail|factor|code|passkey)\.[a-z]+\b|%!|MISSING|EXTRA`)
	s := newSite(t, nil)
	s.send("anna", "<1@example.com>", "bert@example.com", "x@other.example")
	for _, b := range s.browsers() {
		for _, language := range []string{"en", "de"} {
			b.header.Set("Accept-Language", language)
			for _, pattern := range append(s.patterns("GET"), "/trail?for=anna", "/nothing", "/mailbox/anna", "/queue/act?verb=remove&all=yes", "/queue/act?verb=hold&id=1") {
				if p := b.get(concrete(pattern)); key.MatchString(p.text()) {
					t.Errorf("%s in %s shows %q", pattern, language, key.FindString(p.text()))
				}
			}
			if p := b.post("/dns/check", nil); key.MatchString(p.text()) {
				t.Errorf("the comparison shows %q", key.FindString(p.text()))
			}
		}
	}
}

// TestGerman: what the owner of a mailbox sees is German throughout, for those who want it.
func TestGerman(t *testing.T) {
	s := newSite(t, nil)
	s.send("anna", "<1@example.com>", "bert@example.com", "x@other.example")
	b := s.in("anna")
	b.header.Set("Accept-Language", "de-DE")
	used := map[string]bool{}
	uid := s.put("anna", "From: x@other.example\nContent-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/html\n\n<p>x\u202E\n--b\nContent-Type: a/b\n\nx\n")
	empty := s.put("anna", "\n")
	paths := []string{"/mailbox/anna", "/trail", "/explain", "/explain/auth-banned", "/proof", "/nothing", "/holds", "/queue", "/queue/1", "/queue?recipient=x@none.example",
		"/mailbox/anna/mail", "/mailbox/anna/mail/" + uid, "/mailbox/anna/mail/" + empty}
	for _, path := range paths {
		p := b.get(path)
		if lang, _ := attribute(all(p.root, "html")[0], "lang"); lang != "de" || p.head.Get("Content-Language") != "de" {
			t.Errorf("%s is in %q", path, lang)
		}
		for d := range p.root.Descendants() {
			if d.Type == html.TextNode {
				used[strings.TrimSpace(d.Data)] = true
			}
		}
	}
	for key, text := range englishTexts {
		if used[text] && germanTexts[key] != text && text != "" {
			t.Errorf("%s is shown in English: %q", key, text)
		}
	}
}
