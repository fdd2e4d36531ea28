package pages

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/html"

	"latchkey/auth"
	"latchkey/guard"
	"latchkey/internal/refusal"
	"latchkey/internal/zone"
	"latchkey/relay/signing"
	"latchkey/store"
	"latchkey/store/memstore"
	"latchkey/webmanager"
)

const domain = "example.com"

var noon = time.Date(2026, 4, 1, 12, 0, 0, 0, time.UTC)

func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			_, _ = io.WriteString(os.Stderr, err.Error()+"\n")
			code = 1
		}
	}
	os.Exit(code)
}

// site is a domain with pages: olga owns it, and anna and bert have mailboxes. The password of each is "password of " and its name.
type site struct {
	*testing.T
	store    *memstore.Store
	api      *webmanager.API
	logins   *guard.Logins
	server   *Server
	refusals *refusal.Recent
	dns      records
	web      string // where browsers have the pages

	mu  sync.Mutex // protects now
	now time.Time
}

func (s *site) clock() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

func (s *site) later(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = s.now.Add(d)
}

// newSite has no waits for wrong passwords but those that a test asks for.
func newSite(t *testing.T, change func(*Options)) *site {
	t.Helper()
	s := &site{T: t, store: memstore.New(domain), now: noon, refusals: new(refusal.Recent), dns: records{}, web: "http://127.0.0.1:2080"}
	t.Cleanup(func() { _ = s.store.Close() })
	s.logins = guard.NewLogins(guard.LoginLimits{Delays: []time.Duration{time.Nanosecond}})
	authenticator := auth.New(auth.Options{
		Accounts: s.store, Settings: s.store, Devices: s.store, Guard: s.logins, Cost: auth.Cost{Memory: 64, Time: 1}, Now: s.clock,
	})
	desk := &guard.BanDesk{
		Logins: s.logins, Keeper: guard.NewBanKeeper(s.logins, s.store, s.clock, nil), Strangers: guard.NewStrangers(guard.StrangerLimits{}, nil),
	}
	s.api = webmanager.New(webmanager.Options{
		Bans: desk, Keys: signing.NewRing(s.store, auth.NewVault(s.store, "tests"), s.clock), DNS: s.dns,
		Place: func(context.Context) (zone.Place, error) {
			return zone.Place{Hostname: "mx." + domain, Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.7")}}, nil
		},
		Store: s.store, Hasher: authenticator, Prover: authenticator, Now: s.clock, Refusals: s.refusals, Version: "v1", Go: "go1",
		WebURL: func() string { return s.web },
	})
	o := Options{API: s.api, Login: authenticator, Now: s.clock, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}
	if change != nil {
		change(&o)
	}
	s.server = New(o)
	for _, name := range []string{"postmaster", "olga", "anna", "bert"} {
		s.do("POST", webmanager.Path("accounts"), webmanager.NewAccount{Name: name, Password: "password of " + name, Owner: name == "olga"}, nil)
	}
	return s
}

// records are a DNS, by name, a blank and type.
type records map[string][]string

// Records implements zone.DNS.
func (d records) Records(_ context.Context, name, rrtype string) ([]string, error) {
	return d[strings.TrimSuffix(name, ".")+" "+rrtype], nil
}

// do is the operator's.
func (s *site) do(method, path string, in, out any) {
	s.Helper()
	client := webmanager.InProcess(s.api, webmanager.Actor{Name: "tester", Role: webmanager.RoleOperator})
	if err := client.Do(context.Background(), method, path, in, out); err != nil {
		s.Fatalf("%s %s: %v", method, path, err)
	}
}

func (s *site) account(name string) store.Account {
	s.Helper()
	a, err := s.store.AccountByName(s.Context(), name)
	if err != nil {
		s.Fatal(err)
	}
	return a
}

// browser is somebody's, with cookies.
type browser struct {
	*site
	cookies map[string]string
	remote  string
	header  http.Header
	tls     bool
}

func (s *site) browser() *browser {
	return &browser{site: s, cookies: map[string]string{}, remote: "127.0.0.1:4711", header: http.Header{}}
}

// in is a browser in which somebody signed in.
func (s *site) in(name string) *browser {
	s.Helper()
	b := s.browser()
	if p := b.login(name, "password of "+name); p.status != http.StatusSeeOther {
		s.Fatalf("signing in as %s: %d %s", name, p.status, p.text())
	}
	return b
}

// operator is a browser in which the operator signed in by a link.
func (s *site) operator() *browser {
	s.Helper()
	var link webmanager.SignInLink
	s.do("POST", webmanager.Path("sign-in"), struct{}{}, &link)
	b := s.browser()
	p := b.get(strings.TrimPrefix(link.URL, "http://127.0.0.1:2080"))
	if p = p.submit("/sign-in", nil); p.status != http.StatusSeeOther {
		s.Fatalf("signing in by a link: %d %s", p.status, p.text())
	}
	return b
}

func (b *browser) login(name, password string) *page {
	b.Helper()
	return b.get("/login").submit("/login", map[string]string{"name": name, "password": password})
}

// page is an answer.
type page struct {
	*browser
	status int
	head   http.Header
	body   string
	root   *html.Node
}

func (b *browser) do(r *http.Request) *page {
	b.Helper()
	r.RemoteAddr = b.remote
	for name, values := range b.header {
		r.Header[name] = values
	}
	for name, value := range b.cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	if b.tls {
		r.TLS = tlsState
	}
	w := httptest.NewRecorder()
	b.server.ServeHTTP(w, r)
	for _, c := range w.Result().Cookies() {
		if b.cookies[c.Name] = c.Value; c.MaxAge < 0 {
			delete(b.cookies, c.Name)
		}
	}
	root, err := html.Parse(strings.NewReader(w.Body.String()))
	if err != nil {
		b.Fatal(err)
	}
	return &page{browser: b, status: w.Code, head: w.Header(), body: w.Body.String(), root: root}
}

func (b *browser) get(path string) *page {
	b.Helper()
	return b.do(httptest.NewRequest(http.MethodGet, path, nil))
}

func (b *browser) post(path string, values url.Values) *page {
	b.Helper()
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(values.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return b.do(r)
}

// follow goes where an answer sends a browser.
func (p *page) follow() *page {
	p.Helper()
	if p.status != http.StatusSeeOther {
		p.Fatalf("%d, want a redirection: %s", p.status, p.text())
	}
	return p.get(p.head.Get("Location"))
}

func attribute(n *html.Node, name string) (string, bool) {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val, true
		}
	}
	return "", false
}

// all are the elements of a name below a node.
func all(n *html.Node, names ...string) (list []*html.Node) {
	for d := range n.Descendants() {
		if d.Type == html.ElementNode && slices.Contains(names, d.Data) {
			list = append(list, d)
		}
	}
	return list
}

// text is what can be read on a page.
func (p *page) text() string {
	var b strings.Builder
	for d := range p.root.Descendants() {
		if d.Type == html.TextNode {
			b.WriteString(d.Data)
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// shows fails unless all words can be read on a page of this status.
func (p *page) shows(status int, words ...string) *page {
	p.Helper()
	if p.status != status {
		p.Fatalf("status %d, want %d: %s", p.status, status, p.text())
	}
	for _, w := range words {
		if !strings.Contains(p.text(), w) {
			p.Errorf("%q is not on the page: %s", w, p.text())
		}
	}
	return p
}

// submit sends the first form of an action as a browser does, with what is typed in place of what it holds: "" takes the tick off a box.
func (p *page) submit(action string, typed map[string]string) *page {
	p.Helper()
	return p.submitNth(action, 0, typed)
}

func (p *page) submitNth(action string, n int, typed map[string]string) *page {
	p.Helper()
	var forms []*html.Node
	for _, f := range all(p.root, "form") {
		if to, _ := attribute(f, "action"); to == action {
			forms = append(forms, f)
		}
	}
	if n >= len(forms) {
		p.Fatalf("%d forms for %s on the page: %s", len(forms), action, p.text())
	}
	values := url.Values{}
	for _, field := range all(forms[n], "input", "textarea", "select", "button") {
		name, _ := attribute(field, "name")
		value, given := fieldValue(field)
		wanted, ok := typed[name]
		if field.Data == "button" && (!ok || name == "") {
			continue // another button is pressed
		}
		if ok {
			delete(typed, name)
			kind, _ := attribute(field, "type")
			switch {
			case kind == "checkbox" && wanted == "":
				continue
			case kind == "radio":
				typed[name] = wanted // each of the group
				if value, _ = attribute(field, "value"); value != wanted {
					continue
				}
			}
			value, given = wanted, true
		}
		if name != "" && given {
			values.Add(name, value)
		}
	}
	for name := range typed {
		if !values.Has(name) {
			p.Fatalf("the form %s has no field %s", action, name)
		}
	}
	method, _ := attribute(forms[n], "method")
	if method == "get" {
		return p.get(action + "?" + values.Encode())
	}
	return p.post(action, values)
}

// fieldValue is what a field of a form would send.
func fieldValue(field *html.Node) (value string, given bool) {
	value, _ = attribute(field, "value")
	kind, _ := attribute(field, "type")
	_, checked := attribute(field, "checked")
	switch {
	case field.Data == "textarea":
		if field.FirstChild != nil {
			return field.FirstChild.Data, true
		}
		return "", true
	case field.Data == "select":
		for i, option := range all(field, "option") {
			_, selected := attribute(option, "selected")
			if v, _ := attribute(option, "value"); i == 0 || selected {
				value = v
			}
		}
		return value, true
	case kind == "checkbox" && checked && value == "":
		return "on", true
	case kind == "checkbox", kind == "radio":
		return value, checked
	}
	return value, true
}
