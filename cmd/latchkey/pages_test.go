package main

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"

	"latchkey/config"
)

// visitor is a browser without a face.
type visitor struct {
	t      *testing.T
	base   string
	client *http.Client
}

func newVisitor(t *testing.T, base string) *visitor {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &visitor{t, base, &http.Client{Jar: jar, Transport: transport}}
}

// ask makes a request, follows where it leads, and returns what is there; form nil is a question.
func (v *visitor) ask(path string, form url.Values) string {
	v.t.Helper()
	method, body := http.MethodGet, ""
	if form != nil {
		method, body = http.MethodPost, form.Encode()
	}
	r, err := http.NewRequestWithContext(v.t.Context(), method, v.base+path, strings.NewReader(body))
	if err != nil {
		v.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	answer, err := v.client.Do(r)
	if err != nil {
		v.t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }() // read to its end
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	return answer.Status + "\n" + string(text)
}

// has fails unless an answer has all words.
func (v *visitor) has(answer string, words ...string) {
	v.t.Helper()
	for _, w := range words {
		if !strings.Contains(answer, w) {
			v.t.Errorf("%q is not in %s", w, answer)
		}
	}
}

// TestPages: the pages of a real server: the owner of a mailbox comes in with the password of POP3, the operator by a link of the command line, and
// a program with a token. The server stops while browsers keep their connections.
func TestPages(t *testing.T) {
	s := newTestServer(t, "example.com")
	s.config.Web.Listen = []string{"127.0.0.1:0"}
	s.start()
	s.addAccount("anna", "password of anna")
	base := "http://localhost" + strings.TrimPrefix(s.addr("web"), "127.0.0.1")

	anna := newVisitor(t, base)
	anna.has(anna.ask("/", nil), "200 OK", "Sign in")
	anna.has(anna.ask("/login", url.Values{"name": {"anna"}, "password": {"wrong"}}), "401 ")
	anna.has(anna.ask("/login", url.Values{"name": {"anna@example.com"}, "password": {"password of anna"}}), "200 OK", "My mailbox")
	anna.has(anna.ask("/mailboxes", nil), "403 Forbidden")
	s.send("anna", "password of anna", []string{"anna@example.com"}, "From: anna@example.com\r\nSubject: x\r\n\r\nbody\r\n")
	anna.has(anna.ask("/trail", nil), "It was put into the mailbox of anna@example.com")

	status, link, _ := s.latchkey("web-login")
	link = strings.TrimSpace(link)
	if token, ok := strings.CutPrefix(link, base+"/sign-in?token="); status != 0 || !ok {
		t.Fatalf("%d %q", status, link)
	} else {
		operator := newVisitor(t, base)
		operator.has(operator.ask("/sign-in?token="+token, nil), "200 OK", "This link can be used once.")
		operator.has(operator.ask("/sign-in", url.Values{"token": {token}}), "200 OK", "Overview")
		operator.has(operator.ask("/mailboxes", nil), "200 OK", "anna@example.com", "postmaster@example.com")
		operator.has(newVisitor(t, base).ask("/sign-in", url.Values{"token": {token}}), "401 ", "used already")
	}

	status, token, _ := s.latchkey("token", "add", "panel", "--role", "owner")
	if status != 0 {
		t.Fatal(status)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/api/v1/accounts", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(token))
	answer, err := anna.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(answer.Body)
	_ = answer.Body.Close()
	if err != nil || answer.StatusCode != http.StatusOK || !strings.Contains(string(text), "anna@example.com") {
		t.Errorf("%d %s, %v", answer.StatusCode, text, err)
	}

	for path, words := range map[string][]string{
		"/help/": {"200 OK"}, "/help/thunderbird": {"200 OK", "anna@example.com"}, "/Mail/config-v1.1.xml?emailaddress=anna%40example.com": {"200 OK", "<clientConfig"},
	} {
		anna.has(anna.ask(path, nil), words...)
	}
	if stranger := newVisitor(t, base); strings.Contains(stranger.ask("/help/thunderbird", nil), "anna@example.com") {
		t.Error("a stranger is shown the values of anna")
	}
	anna.has(anna.ask("/mailbox/anna", nil), `href="/help/"`)

	s.setPassword("anna", "another password")
	anna.has(anna.ask("/mailbox/anna", nil), "Sign in")
	s.stop()
	s.config.Web.Listen = nil
	s.start()
	if status, _, stderr := s.latchkey("web-login"); status != 1 || !strings.Contains(stderr, "no pages are served") {
		t.Errorf("%d %q", status, stderr)
	}
}

// TestLookBesidePOP3: a look into a mailbox of a real server, by its owner and by the operator, leaves what POP3 serves as it is; a download, though large,
// is what POP3 would hand out, octet for octet.
func TestLookBesidePOP3(t *testing.T) {
	s := newTestServer(t, "example.com")
	s.config.Web.Listen = []string{"127.0.0.1:0"}
	s.start()
	s.addAccount("anna", "password of anna")
	s.deliver("x@other.example", []string{"anna@example.com"}, "From: x@other.example\r\nSubject: large\r\n\r\n"+strings.Repeat("0123456789abcdef\r\n", 60_000))
	base := "http://" + s.addr("web")
	before := s.uidl("anna", "password of anna")
	if len(before) != 1 {
		t.Fatalf("the mailbox holds %q", before)
	}
	anna := newVisitor(t, base)
	anna.ask("/login", url.Values{"name": {"anna"}, "password": {"password of anna"}})
	operator := newVisitor(t, base)
	_, link, _ := s.latchkey("web-login")
	_, token, _ := strings.Cut(strings.TrimSpace(link), "token=")
	operator.ask("/sign-in", url.Values{"token": {token}})
	path := "/mailbox/anna/mail/" + before[0]
	var downloads []string
	for _, v := range []*visitor{anna, operator} {
		v.has(v.ask("/mailbox/anna/mail", nil), "200 OK", "large", path)
		v.has(v.ask(path, nil), "200 OK", "0123456789abcdef", "The text is longer")
		_, text, _ := strings.Cut(v.ask(path+"/download", nil), "\n")
		downloads = append(downloads, strings.ReplaceAll(text, "\r\n", "\n")) // as fetch has it
	}
	operator.has(operator.ask("/audit", nil), "maildrop.read", "maildrop.download")
	after := s.uidl("anna", "password of anna")
	if len(after) != 2 || after[0] != before[0] {
		t.Errorf("%q became %q, want one notice more", before, after)
	}
	fetched := s.fetch("anna", "password of anna")
	for _, text := range downloads {
		if text != fetched[0] {
			t.Errorf("a download of %d octets is not what POP3 hands out, of %d", len(text), len(fetched[0]))
		}
	}
	if !strings.Contains(fetched[1], "Somebody looked into your mailbox") {
		t.Errorf("the notice is %q", fetched[1])
	}
}

// TestWebURL: where the operator's link leads.
func TestWebURL(t *testing.T) {
	s := newTestServer(t, "example.com")
	s.config.Web = config.Web{Listen: []string{"127.0.0.1:0"}, URL: "https://mail.example.com"}
	s.start()
	if got := s.process.webURL(s.config); got != "https://mail.example.com" {
		t.Errorf("got %q", got)
	}
	if got := s.process.webURL(config.Config{Web: config.Web{Listen: s.config.Web.Listen}}); got != "http://localhost"+strings.TrimPrefix(s.addr("web"), "127.0.0.1") {
		t.Errorf("got %q", got)
	}
	if _, link, _ := s.latchkey("web-login"); !strings.HasPrefix(link, "https://mail.example.com/sign-in?token=") {
		t.Errorf("got %q", link)
	}
}
