package guide

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"latchkey/internal/clientsetup"
	"latchkey/internal/refusal"
)

var place = clientsetup.Place{
	Domain: "example.org", Host: "mail.example.org", POP3: 110, POP3S: 995, MX: 25, Submission: 587, Submissions: 465,
	OldPOP3: 2110, OldPOP3S: 2995, OldSubmission: 2587, OldSubmissions: 2465, TLS: true,
}

var languages = []clientsetup.Lang{clientsetup.English, clientsetup.German}

// situations are servers and settings in which every page must be right.
var situations = map[string]clientsetup.Setup{
	"example": ExampleSetup(),
	"defaults": clientsetup.New(place, clientsetup.Rules{RequireAuth: true, POPBeforeSMTP: true, OutgoingMail: true, AuthOnMX: true},
		clientsetup.Mailbox{Address: "anna@example.org"}),
	"old client": clientsetup.New(place, clientsetup.Rules{RequireAuth: true, OutgoingMail: true}, clientsetup.Mailbox{Address: "anna@example.org", OldClientLogin: true}),
	"everything": clientsetup.New(place, clientsetup.Rules{
		POPBeforeSMTP: true, OutgoingMail: true, CleartextLogin: true, OldClientLogin: true, TrustedNetworks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
	}, clientsetup.Mailbox{Address: "anna@example.org"}),
	"other ports": clientsetup.New(clientsetup.Place{
		Domain: "example.org", Host: "mail.example.org", POP3: 1110, POP3S: 1995, MX: 1025, Submission: 1587, Submissions: 1465,
		OldPOP3: 3110, OldPOP3S: 3995, OldSubmission: 3587, OldSubmissions: 3465, TLS: true,
	}, clientsetup.Rules{POPBeforeSMTP: true, OutgoingMail: true, OldClientLogin: true}, clientsetup.Mailbox{Address: "anna@example.org"}),
	"inbound only": clientsetup.New(place, clientsetup.Rules{RequireAuth: true}, clientsetup.Mailbox{Address: "anna@example.org"}),
	"no certificate": clientsetup.New(clientsetup.Place{Domain: "example.org", Host: "mail.example.org", POP3: 110, Submission: 587},
		clientsetup.Rules{RequireAuth: true, OutgoingMail: true, CleartextLogin: true}, clientsetup.Mailbox{Address: "anna@example.org"}),
	"trial": clientsetup.New(clientsetup.Place{
		Domain: "demo.localhost", Host: "mail.demo.localhost", POP3: 2110, POP3S: 2995, MX: 2025, Submission: 2587, Submissions: 2465, TLS: true,
	}, clientsetup.Rules{RequireAuth: true, POPBeforeSMTP: true, OutgoingMail: true}, clientsetup.Mailbox{Address: "anna@demo.localhost"}),
	"nothing": clientsetup.New(clientsetup.Place{Domain: "example.org", Host: "mail.example.org"}, clientsetup.Rules{}, clientsetup.Mailbox{Address: "anna@example.org"}),
	"hostile": clientsetup.New(place, clientsetup.Rules{RequireAuth: true, OutgoingMail: true}, clientsetup.Mailbox{Address: `"><script>alert(1)</script>&'{}@example.org`, OldClientLogin: true}),
}

// plainLayout is the least that holds a page.
func plainLayout(w http.ResponseWriter, _ *http.Request, p Page) {
	w.WriteHeader(p.Status)
	_, _ = fmt.Fprintf(w, `<html lang="%s"><h1>%s</h1><a href="%s">%s</a>%s</html>`, p.Lang, p.Title, template.HTMLEscapeString(p.Other), p.OtherName, p.Body)
}

func newGuide(t testing.TB, o Options) *Guide {
	t.Helper()
	o.Layout = plainLayout
	g, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

var withoutEnd = regexp.MustCompile(`<(input|br|img)\b([^>]*)>`)

// markup reads a fragment as XML, which it is but for the elements without an end, and finds what a strict content security policy would stop.
func markup(body string) error {
	d := xml.NewDecoder(strings.NewReader("<body>" + withoutEnd.ReplaceAllString(body, "<$1$2/>") + "</body>"))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		e, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		if slices.Contains([]string{"script", "style", "link", "iframe", "object", "embed", "base", "meta"}, e.Name.Local) {
			return errors.New("has an element " + e.Name.Local)
		}
		for _, at := range e.Attr {
			outside := (at.Name.Local == "src" || at.Name.Local == "href" || at.Name.Local == "action") && !strings.HasPrefix(at.Value, "/")
			if outside || at.Name.Local == "style" || strings.HasPrefix(at.Name.Local, "on") {
				return errors.New("has an attribute " + at.Name.Local + "=" + at.Value)
			}
		}
	}
}

var (
	forbidden = regexp.MustCompile(`(?i)<(script|style|link|iframe|object|embed|base|meta)\b|\bstyle=|\son[a-z]+=|javascript:|(src|href)="(https?:)?//`)
	number    = regexp.MustCompile(`<kbd>(\d+)</kbd>|Port=(\d+)|port (\d+)`)
)

// TestPages: in every situation and language each page can be made, is well-formed, and names no port but those of its program's ways.
func TestPages(t *testing.T) {
	g := newGuide(t, Options{Root: "/help"})
	for name, s := range situations {
		for _, l := range languages {
			for _, c := range clients {
				for _, own := range []bool{false, true} {
					f, err := g.Page(l, c.Name, Values{s, own})
					if err != nil {
						t.Fatalf("%s %s %s: %v", name, l, c.Name, err)
					}
					body := string(f.Body)
					if err := markup(body); err != nil {
						t.Errorf("%s %s %s: %v\n%s", name, l, c.Name, err, body)
					}
					checkPorts(t, name+" "+string(l)+" "+c.Name, s, c, body)
				}
			}
		}
	}
}

// checkPorts: numbers that stand as something to type are ports of the ways that the page may tell of, and the first of them is there.
func checkPorts(t *testing.T, where string, s clientsetup.Setup, c Client, body string) {
	t.Helper()
	var ports []string
	for _, k := range slices.Concat(c.Fetch, c.Send, c.Also) {
		if w, ok := clientsetup.Pick(slices.Concat(s.Fetch, s.Send), k); ok {
			ports = append(ports, strconv.Itoa(w.Port))
		}
	}
	found := map[string]bool{}
	for _, m := range number.FindAllStringSubmatch(body, -1) {
		for _, n := range m[1:] {
			if n != "" {
				found[n] = true
			}
		}
	}
	for n := range found {
		if !slices.Contains(ports, n) {
			t.Errorf("%s: says %s, which is no port of its ways %v", where, n, ports)
		}
	}
	if s.Trial { // TestTrial
		return
	}
	in, can := clientsetup.Pick(s.Fetch, c.Fetch...)
	out, send := clientsetup.Pick(s.Send, c.Send...)
	if can && send && (!found[strconv.Itoa(in.Port)] || !found[strconv.Itoa(out.Port)]) {
		t.Errorf("%s: does not say %d and %d", where, in.Port, out.Port)
	}
	if can && send && c.Name != "unix" && !strings.Contains(body, in.Security.Words(clientsetup.English)) && in.Security != clientsetup.Clear {
		t.Errorf("%s: does not say %s", where, in.Security)
	}
}

// TestEveryPageHasItsDialogues: no page is without one to fetch and one to send. That they show what the page tells is tested in cmd/latchkey, where
// they are played.
func TestEveryPageHasItsDialogues(t *testing.T) {
	for _, c := range clients {
		if !slices.ContainsFunc(c.Dialogues, func(n string) bool { return strings.Contains(n, "_fetch") && !strings.Contains(n, "after_fetch") }) ||
			!slices.ContainsFunc(c.Dialogues, func(n string) bool { return strings.Contains(n, "_send") }) {
			t.Errorf("%s has the dialogues %v", c.Name, c.Dialogues)
		}
		for _, name := range c.Dialogues {
			if _, err := os.Stat("testdata/" + name + ".txt"); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestValues: the page follows the mailbox and the settings.
func TestValues(t *testing.T) {
	g := newGuide(t, Options{Root: "/help"})
	for _, tt := range []struct {
		situation, client string
		own               bool
		has, hasNot       []string
	}{
		{"defaults", "thunderbird", true, []string{"anna@example.org", "mail.example.org", "<kbd>995</kbd>", "<kbd>465</kbd>"}, []string{"Sign in to see", "<kbd>587</kbd>"}},
		{"defaults", "thunderbird", false, []string{"Sign in to see"}, nil},
		{"defaults", "eudora", true, []string{"has no door that Eudora could use"}, []string{"Options…"}},
		{"old client", "eudora", true, []string{"APOP", "POPPort=2110", "SMTPPort=2587", "for old programs"}, []string{"Sending without a login"}},
		{"everything", "eudora", true, []string{"Sending without a login"}, nil},
		{"everything", "printer", true, []string{"192.0.2.0/24", "known network", "POP before SMTP"}, nil},
		{"defaults", "printer", true, []string{"POP before SMTP"}, []string{"known network"}},
		{"everything", "outlook", true, []string{"has switched authenticated SMTP off"}, nil},
		{"defaults", "outlook", true, []string{"works here as well"}, []string{"has switched authenticated SMTP off"}},
		{"inbound only", "outlook", true, []string{"switched off mail to other domains"}, []string{"Log on to incoming mail server before sending mail"}},
		{"no certificate", "outlook-express", true, []string{"takes your password without encryption", "<kbd>110</kbd>"}, nil},
		{"nothing", "ios", true, []string{"has no door"}, []string{"VPN"}},
		{"defaults", "ios", true, []string{`href="/apple/mail.mobileconfig?emailaddress=anna%40example.org"`, `src="/apple/mail.svg?emailaddress=anna%40example.org"`}, nil},
		{"defaults", "ios", false, nil, []string{"/apple/mail"}},
		{"example", "thunderbird", false, []string{"up to 50 MB"}, nil},
	} {
		f, err := g.Page(clientsetup.English, tt.client, Values{situations[tt.situation], tt.own})
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range tt.has {
			if !strings.Contains(string(f.Body), want) {
				t.Errorf("%s %s: no %q in\n%s", tt.situation, tt.client, want, f.Body)
			}
		}
		for _, not := range tt.hasNot {
			if strings.Contains(string(f.Body), not) {
				t.Errorf("%s %s: has %q", tt.situation, tt.client, not)
			}
		}
	}
	if _, err := g.Page(clientsetup.English, "lotus-notes", Values{}); !errors.Is(err, ErrNoPage) {
		t.Errorf("got %v", err)
	}
}

// TestLanguages: the pages of both languages have the same parts: headings, steps, messages, values.
func TestLanguages(t *testing.T) {
	g := newGuide(t, Options{Root: "/help"})
	for name, s := range situations {
		for _, c := range clients {
			var shapes [2]map[string]int
			for i, l := range languages {
				f, err := g.Page(l, c.Name, Values{s, true})
				if err != nil {
					t.Fatal(err)
				}
				shapes[i] = map[string]int{}
				for _, part := range []string{"<h2", "<li>", "<dt>", "<pre>", "<tr>", "<p"} {
					shapes[i][part] = strings.Count(string(f.Body), part)
				}
				for _, m := range number.FindAllString(string(f.Body), -1) {
					shapes[i][m]++
				}
			}
			for part, n := range shapes[0] {
				if strings.HasPrefix(part, "port ") {
					continue
				}
				if shapes[1][part] != n {
					t.Errorf("%s %s: %d times %s in English, %d in German", name, c.Name, n, part, shapes[1][part])
				}
			}
		}
	}
	for _, p := range problems {
		if len(p.steps[0]) != len(p.steps[1]) || len(p.steps[0]) == 0 || p.title[0] == p.title[1] || p.meaning[0] == p.meaning[1] {
			t.Errorf("%s differs in the languages", p.numbers[0])
		}
	}
	for name := range german {
		if _, ok := refusal.Lookup(name); !ok {
			t.Errorf("there is no refusal %s", name)
		}
	}
}

// TestSearch: what people see on their screens leads to the cure.
func TestSearch(t *testing.T) {
	g := newGuide(t, Options{Root: "/help"})
	for _, tt := range []struct {
		l           clientsetup.Lang
		query, want string // want is the URL of the first hit; "" is none
	}{
		{"en", "0x800CCC79", "/help/problems#0x800ccc79"},
		{"en", "0x800ccc78", "/help/problems#0x800ccc78"},
		{"en", "800CCC92", "/help/problems#0x800ccc92"},
		{"de", "0X800CCC0E", "/help/problems#0x800ccc0e"},
		{"en", "0x800CCC0F", "/help/problems#0x800ccc0f"},
		{"en", "0x800CCC19", "/help/problems#0x800ccc19"},
		{"en", "0x800CCC67", "/help/problems#0x800ccc67"},
		{"en", "0x800CCC1A", "/help/problems#0x800ccc1a"},
		{"en", "Error (0x800CCC6D)", "/help/problems#0x800ccc6c"},
		{"en", "0x800CCC62", "/help/problems#0x800ccc60"},
		{"en", "550 5.7.1", "/help/problems#0x800ccc79"},
		{"de", "550 5.7.1", "/help/problems#0x800ccc79"},
		{"en", "535 5.7.8", "/help/problems#0x800ccc92"},
		{
			"en", `The message could not be sent because one of the recipients was rejected by the server. Server Response: '550 5.7.1 Relaying denied for 203.0.113.7: turn on', Error Number: 0x800CCC79`,
			"/help/problems#0x800ccc79",
		},
		{"en", "eudora", "/help/eudora"},
		{"en", "iphone profile", "/help/ios"},
		{"de", "drucker", "/help/printer"},
		{"de", "verschlüsselung kommt nicht zustande", "/help/problems#0x800ccc1a"},
		{"de", "verschluesselung kommt nicht zustande", "/help/problems#0x800ccc1a"},
		{"en", "SSL Negotiation Failed", "/help/problems#0x800ccc1a"},
		{"en", "full mailbox", "/help/problems#0x800ccc6c"},
		{"fr", "eudora", "/help/eudora"},
		{"en", "0x800CCC7F", ""},
		{"en", "xyzzy", ""},
		{"en", "", ""},
		{"en", "<>", ""},
	} {
		hits := g.Search(tt.l, tt.query)
		got := ""
		if len(hits) > 0 {
			got = hits[0].URL
		}
		if got != tt.want {
			t.Errorf("%s %q: got %v, want %s", tt.l, tt.query, hits, tt.want)
		}
	}
}

// TestEveryNumberIsFound: each number and each word of the table leads to its problem.
func TestEveryNumberIsFound(t *testing.T) {
	g := newGuide(t, Options{})
	for _, l := range languages {
		for _, p := range problems {
			for _, n := range p.numbers {
				hits := g.Search(l, n)
				if len(hits) == 0 || hits[0].URL != "/problems#"+anchor(p.numbers[0]) {
					t.Errorf("%s %s: %v", l, n, hits)
				}
			}
		}
	}
}

// TestRefusals: every code of this server is found, by itself and in the message that ends with it.
func TestRefusals(t *testing.T) {
	for _, r := range refusal.All() {
		smtp, pop3 := r.Replies()
		for _, query := range []string{r.Name.Code(), strings.ToLower(r.Name.Code()), "(" + r.Name.Code() + ")", "it says: " + smtp + pop3} {
			if len(query) > maxQuery {
				continue
			}
			list := refusals(clientsetup.English, query)
			if len(list) == 0 || list[0].Code != r.Name.Code() || list[0].Cause != r.Cause || list[0].Cure != r.Cure || len(list[0].Says) == 0 {
				t.Errorf("%q: %+v", query, list)
			}
		}
		list := refusals(clientsetup.German, r.Name.Code())
		if _, translated := german[r.Name]; len(list) != 1 || list[0].Foreign == translated {
			t.Errorf("%s in German: %+v", r.Name, list)
		}
	}
	if list := refusals(clientsetup.English, "552 5.3.4"); len(list) == 0 || !strings.HasPrefix(list[0].Says[0], "552 5.3.4 ") {
		t.Errorf("by the code of SMTP: %+v", list)
	}
	if list := refusals(clientsetup.English, "550 5.7.1"); len(list) != 0 {
		t.Errorf("%d refusals for a code that says little", len(list))
	}
}

// TestQueryIsBounded: both ends of the limits.
func TestQueryIsBounded(t *testing.T) {
	g := newGuide(t, Options{})
	fits := "eudora " + strings.Repeat("x", maxQuery-len("eudora ")-len(" 0x800ccc79")) + " 0x800ccc79"
	if hits := g.Search("en", fits); len(hits) == 0 || !strings.HasSuffix(hits[0].URL, "#0x800ccc79") {
		t.Errorf("%d octets: %v", len(fits), hits)
	}
	for _, h := range g.Search("en", "x"+fits) {
		if strings.HasSuffix(h.URL, "#0x800ccc79") {
			t.Errorf("what is behind %d octets was looked at", maxQuery)
		}
	}
	words := func(n int) string { return strings.Repeat("server ", n) + "eudora" }
	e := g.index["en"][slices.IndexFunc(g.index["en"], func(e entry) bool { return e.hit.URL == "/eudora" })]
	least, most := e.score(wordsOf(words(maxWords)), ""), e.score(wordsOf(words(maxWords-1)), "")
	if most <= least {
		t.Errorf("the last word of %d is not looked for: %d, and %d without it", maxWords, most, least)
	}
	if more := e.score(wordsOf(words(maxWords)+" eudora"), ""); more != least {
		t.Errorf("a word beyond %d is looked for", maxWords)
	}
	if hits := g.Search("en", "server"); len(hits) > maxHits {
		t.Errorf("%d hits", len(hits))
	}
}

func get(g *Guide, target string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, target, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	g.ServeHTTP(w, r)
	return w
}

// TestHandler: routes, languages, who sees whose values, and the headers.
func TestHandler(t *testing.T) {
	own := situations["defaults"]
	example := situations["example"]
	example.Domain = "public.example"
	g := newGuide(t, Options{
		Root:    "/help",
		Values:  func(r *http.Request) (clientsetup.Setup, bool) { return own, r.Header.Get("Test-User") != "" },
		Example: func(context.Context) (clientsetup.Setup, error) { return example, nil },
	})
	for _, tt := range []struct {
		target string
		header []string
		status int
		want   string
	}{
		{"/help/", nil, 200, "Set up your mail program"},
		{"/help", nil, 200, `href="/help/eudora"`},
		{"/help/", []string{"Accept-Language", "de-AT,de;q=0.9,en;q=0.8"}, 200, `<html lang="de">`},
		{"/help/", []string{"Accept-Language", "fr, en;q=0.3, de;q=0.7"}, 200, `<html lang="de">`},
		{"/help/", []string{"Accept-Language", "fr;q=x"}, 200, `<html lang="en">`},
		{"/help/?lang=de", nil, 200, "E-Mail-Programm einrichten"},
		{"/help/?lang=xx", []string{"Cookie", "lang=de"}, 200, "E-Mail-Programm einrichten"},
		{"/help/?lang=en", []string{"Cookie", "lang=de"}, 200, "Set up your mail program"},
		{"/help/thunderbird", nil, 200, "public.example"},
		{"/help/thunderbird", []string{"Test-User", "anna"}, 200, "anna@example.org"},
		{"/help/problems", nil, 200, `<section id="0x800ccc79">`},
		{"/help/search?q=0x800CCC79", nil, 200, `href="/help/problems#0x800ccc79"`},
		{"/help/search?q=L-YEM", nil, 200, "nobody fetched that mailbox"},
		{"/help/search?lang=de&q=L-YEM", nil, 200, "über diesen Internetanschluss"},
		{"/help/search?lang=de&q=L-529", nil, 200, "nur auf Englisch"},
		{"/help/search?q=" + url.QueryEscape(`"><script>x</script>`), nil, 200, `value="&#34;&gt;&lt;script&gt;x&lt;/script&gt;"`},
		{"/help/search", nil, 200, "All programs"},
		{"/help/search?lang=de&q=a%20b%26c", nil, 200, `<a href="/help/search?lang=en&amp;q=a+b%26c">English</a>`},
		{"/help/nothing", nil, 404, `<a href="/help/">All programs</a>`},
		{"/help/nothing?lang=de", nil, 404, "Diese Seite gibt es nicht"},
		{"/help/../secret", nil, 404, ""},
		{"/helpless", nil, 404, ""},
		{"/", nil, 404, ""},
	} {
		w := get(g, tt.target, tt.header...)
		if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.want) {
			t.Errorf("%s %v: got %d, want %d with %q\n%s", tt.target, tt.header, w.Code, tt.status, tt.want, w.Body)
		}
		page := w.Body.String()
		if bad := forbidden.FindString(page); bad != "" {
			t.Errorf("%s: has %q", tt.target, bad)
		}
	}
	w := httptest.NewRecorder()
	g.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/help/", nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", w.Code)
	}
	if c := get(g, "/help/?lang=de").Header().Get("Set-Cookie"); c != "lang=de; Path=/; Max-Age=31536000; HttpOnly; Secure; SameSite=Lax" {
		t.Errorf("cookie %q", c)
	}
}

// TestHandlerFails: what goes wrong at our side is not shown.
func TestHandlerFails(t *testing.T) {
	g := newGuide(t, Options{Example: func(context.Context) (clientsetup.Setup, error) {
		return clientsetup.Setup{}, errors.New("the store is closed")
	}})
	if w := get(g, "/"); w.Code != http.StatusServiceUnavailable || strings.Contains(w.Body.String(), "store") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestPagesAreSmall: a page leaves room for layout and style within 60 kB, uncompressed.
func TestPagesAreSmall(t *testing.T) {
	g := newGuide(t, Options{Root: "/help"})
	for _, target := range []string{"/help/", "/help/problems?lang=de", "/help/eudora?lang=de"} {
		if n := get(g, target).Body.Len(); n > 40_000 {
			t.Errorf("%s: %d octets", target, n)
		}
	}
}

// FuzzSearch: no query fails, and none gets out of its place.
func FuzzSearch(f *testing.F) {
	for _, s := range []string{"0x800CCC79", "L-YEM", "550 5.7.1", `"><script>`, "\xff\x00", "ä ö ü"} {
		f.Add(s)
	}
	g := newGuide(f, Options{Root: "/help"})
	f.Fuzz(func(t *testing.T, query string) {
		for _, l := range languages {
			page, err := g.Results(l, query, Values{Setup: situations["defaults"]})
			if err != nil {
				t.Fatal(err)
			}
			if bad := forbidden.FindString(string(page.Body)); bad != "" && !strings.Contains(query, bad) {
				t.Fatalf("%q: %q in\n%s", query, bad, page.Body)
			}
			if strings.Contains(string(page.Body), "<script") {
				t.Fatalf("%q:\n%s", query, page.Body)
			}
		}
	})
}

// TestTrial: on a trial's pages Thunderbird, which takes no certificate that nobody signed, is told to use no encryption, and others to accept it.
func TestTrial(t *testing.T) {
	g := newGuide(t, Options{})
	for _, l := range languages {
		for client, want := range map[string]string{"thunderbird": "2110", "outlook": "2995"} {
			p, err := g.Page(l, client, Values{Setup: situations["trial"], Own: true})
			if err != nil {
				t.Fatal(err)
			}
			body := string(p.Body)
			if !strings.Contains(body, "<td><kbd>"+want+"</kbd></td>") || strings.Contains(body, `class="warning"`) {
				t.Errorf("%s, %s: no port %s, or a warning:\n%s", l, client, want, body)
			}
			if asks := strings.Contains(body, "accept it") || strings.Contains(body, "Nehmen Sie es an"); asks != (client == "outlook") {
				t.Errorf("%s, %s: to accept the certificate is said: %v", l, client, asks)
			}
		}
	}
}
