package pages

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"latchkey/auth"
	"latchkey/store"
	"latchkey/webmanager"
)

// mayOpen is what a stranger, the owner of a mailbox, the owner of the domain and the operator get of each page that is asked for: its status, of
// pages about a mailbox of bert's. A page that has no line here fails the test.
var mayOpen = map[string][4]int{
	"/{$}":            {303, 303, 200, 200},
	"/login":          {200, 303, 303, 303},
	"/sign-in":        {200, 200, 200, 200},
	"/mailboxes":      {303, 403, 200, 200},
	"/mailboxes/add":  {303, 403, 200, 200},
	"/mailbox/{name}": {303, 403, 200, 200},
	"/aliases":        {303, 403, 200, 200},
	"/sending":        {303, 403, 200, 200},
	"/sending/all":    {303, 403, 200, 200},
	"/grants":         {303, 403, 200, 200},
	"/holds":          {303, 200, 200, 200}, // its own only
	"/trail":          {303, 200, 200, 200},
	"/proof":          {200, 200, 200, 200},
	"/explain":        {200, 200, 200, 200},
	"/explain/{code}": {200, 200, 200, 200},
	"/audit":          {303, 403, 200, 200},
	"/queue":          {303, 200, 200, 200}, // its own only
	"/queue/{id}":     {303, 404, 200, 200}, // of bert's
	"/queue/act":      {303, 403, 422, 422}, // nothing was ticked
	"/bans":           {303, 403, 200, 200},
	"/suppressions":   {303, 403, 200, 200},
	"/dns":            {303, 403, 200, 200},
	"/tokens":         {303, 403, 403, 200},

	"/mailbox/{name}/mail":                {303, 403, 200, 200},
	"/mailbox/{name}/mail/{uid}":          {303, 403, 200, 200},
	"/mailbox/{name}/mail/{uid}/download": {303, 403, 200, 200},
}

// patterns are the paths of a method in the table of pages.
func (s *site) patterns(method string) (list []string) {
	for _, p := range s.server.pages() {
		if path, ok := strings.CutPrefix(p.pattern, method+" "); ok {
			list = append(list, path)
		}
	}
	return list
}

// concrete fills in a pattern.
func concrete(pattern string) string {
	return strings.NewReplacer("{name}", "bert", "{code}", "auth-banned", "{$}", "", "{id}", "1", "{uid}", store.UniqueID(1, 1)).Replace(pattern)
}

// browsers are one of each role.
func (s *site) browsers() [4]*browser {
	return [4]*browser{s.browser(), s.in("anna"), s.in("olga"), s.operator()}
}

// TestPagesByRole opens every page in every role, and sends every form in the roles that may not.
func TestPagesByRole(t *testing.T) {
	s := newSite(t, nil)
	s.send("bert", "<1@example.com>", "bert@example.com", "x@other.example")
	who := s.browsers()
	for _, pattern := range s.patterns("GET") {
		want, ok := mayOpen[pattern]
		if !ok {
			t.Errorf("%s has no line in the table of pages", pattern)
		}
		for i, b := range who {
			if p := b.get(concrete(pattern)); p.status != want[i] {
				t.Errorf("%s by %d: %d, want %d: %s", pattern, i, p.status, want[i], p.text())
			}
		}
	}
	for _, p := range s.server.pages() {
		if p.verb != open && s.api.May(webmanager.Actor{Role: webmanager.RoleOperator}, p.verb) != nil {
			t.Errorf("%s names %s, which is no route", p.pattern, p.verb)
		}
	}
	before := s.entries()
	for _, pattern := range s.patterns("POST") {
		if slices.Contains([]string{"/login", "/login/code", "/login/passkey", "/login/passkey/begin", "/logout", "/sign-in"}, pattern) {
			continue
		}
		if p := who[0].post(concrete(pattern), nil); p.status != 303 || p.head.Get("Location") != "/login" {
			t.Errorf("%s by a stranger: %d to %q", pattern, p.status, p.head.Get("Location"))
		}
		values := url.Values{"mailbox": {"bert"}, "alias": {"x"}, "name": {"new"}, "password": {"12345678"}, "repeat": {"12345678"}, "targets": {"anna"},
			"change": {`{"hold_jumps":false}`}, "confirm": {domain}, "device_name": {"x"}, "send": {"on"}, "device": {"1"}, "message": {"000000000000002a"},
			"verb": {"hold"}, "id": {"1"}, "network": {"192.0.2.0/24"}, "address": {"x@other.example"}, "rsa": {"on"}, "selector": {"s"}, "step": {"remove"},
			"role": {"mailbox"}}
		if p := who[1].post(concrete(pattern), values); p.status != 403 && p.status != 404 {
			t.Errorf("%s by the owner of another mailbox: %d %s", pattern, p.status, p.text())
		}
	}
	if after := s.entries(); after != before {
		t.Errorf("%d changes were made by those who may not", after-before)
	}
}

func (s *site) entries() int {
	s.Helper()
	list, err := s.store.ListAudit(s.Context(), 0, 1000)
	if err != nil {
		s.Fatal(err)
	}
	return len(list)
}

// TestCrossSite: no form of another site is taken, whoever is signed in, and one of these pages is.
func TestCrossSite(t *testing.T) {
	s := newSite(t, nil)
	b := s.in("olga")
	before := s.entries()
	for _, header := range []http.Header{
		{"Origin": {"https://evil.example"}}, {"Sec-Fetch-Site": {"cross-site"}}, {"Sec-Fetch-Site": {"same-site"}}, {"Origin": {"null"}},
		{"Origin": {"http://example.com.evil.example"}},
	} {
		b.header = header
		for _, pattern := range s.patterns("POST") {
			b.post(concrete(pattern), url.Values{"name": {"new"}, "password": {"12345678"}, "confirm": {"bert@example.com"}}).
				shows(403, "This came from a page of another site")
		}
	}
	if after := s.entries(); after != before {
		t.Errorf("%d changes were made", after-before)
	}
	for _, header := range []http.Header{{"Origin": {"http://example.com"}}, {"Sec-Fetch-Site": {"same-origin"}}, {}} { // httptest's host
		b.header = header
		b.post("/aliases", url.Values{"name": {"info"}, "targets": {"anna"}}).follow().shows(200, "info@example.com leads to anna.")
	}
}

// TestHeaders: every answer has what keeps it out of frames, from scripts, and out of caches.
func TestHeaders(t *testing.T) {
	s := newSite(t, nil)
	b := s.operator()
	paths := []string{"/nothing", "/robots.txt", "/api/v1/version", "/api/", "/static/nothing"}
	for _, pattern := range s.patterns("GET") {
		paths = append(paths, concrete(pattern))
	}
	for _, secure := range []bool{false, true} {
		b.tls = secure
		for _, path := range paths {
			h := b.get(path).head
			csp := h.Get("Content-Security-Policy")
			for _, part := range []string{"default-src 'none'", "style-src 'self'", "form-action 'self'", "frame-ancestors 'none'", "base-uri 'none'"} {
				if !strings.Contains(csp, part) || strings.Contains(csp, "unsafe") {
					t.Errorf("%s: policy %q", path, csp)
				}
			}
			if h.Get("X-Content-Type-Options") != "nosniff" || h.Get("X-Frame-Options") != "DENY" || h.Get("Cache-Control") != "no-store" ||
				h.Get("Referrer-Policy") != "same-origin" || (h.Get("Strict-Transport-Security") != "") != secure {
				t.Errorf("%s: %v", path, h)
			}
		}
	}
	style := b.get(s.server.render.style.path)
	if style.status != 200 || !strings.Contains(style.head.Get("Cache-Control"), "immutable") || style.head.Get("Content-Type") != "text/css; charset=utf-8" {
		t.Errorf("style sheet: %d %v", style.status, style.head)
	}
	if size := len(style.body) + len(s.browser().get("/login").body); size > 60<<10 {
		t.Errorf("the first page takes %d octets", size)
	}
}

// TestSessionIsNew: signing in makes another session than the browser brought, whose own then ends, and a cookie that somebody planted is worth nothing.
func TestSessionIsNew(t *testing.T) {
	s := newSite(t, nil)
	b := s.browser()
	planted := strings.Repeat("A", 43)
	b.cookies["latchkey"] = planted
	b.login("anna", "password of anna")
	first := b.cookies["latchkey"]
	if first == planted || len(first) != 43 {
		t.Fatalf("the cookie is %q", first)
	}
	thief := s.browser()
	thief.cookies["latchkey"] = planted
	thief.get("/mailbox/anna").follow().shows(200, "Sign in")
	if p := b.post("/login", url.Values{"name": {"bert"}, "password": {"password of bert"}}); p.status != 303 || b.cookies["latchkey"] == first {
		t.Error("a second sign-in kept the session")
	}
	b.get("/mailbox/bert").shows(200)
	thief.cookies["latchkey"] = first
	thief.get("/mailbox/anna").follow().shows(200, "Sign in")
	b.tls = true
	b.get("/mailbox/bert").follow().shows(200, "Sign in") // a cookie that could have gone in the clear is none by TLS
}

// TestCookie: what browsers are told about it.
func TestCookie(t *testing.T) {
	s := newSite(t, nil)
	for secure, want := range map[bool]string{
		true:  "__Host-latchkey=; Path=/; HttpOnly; Secure; SameSite=Lax",
		false: "latchkey=; Path=/; HttpOnly; SameSite=Lax",
	} {
		b := s.browser()
		b.tls = secure
		p := b.login("anna", "password of anna")
		name, rest, _ := strings.Cut(p.head.Get("Set-Cookie"), "=")
		if _, rest, _ = strings.Cut(rest, ";"); name+"=;"+rest != want {
			t.Errorf("got %q, want %q", p.head.Get("Set-Cookie"), want)
		}
	}
}

// TestSessionEnds: a session ends after half an hour without a request, after half a day in any case, and when its account is suspended, gets
// another password or is removed. The role is that of the moment.
func TestSessionEnds(t *testing.T) {
	s := newSite(t, nil)
	ended := func(b *browser, path string) bool { return b.get(path).status == 303 }
	b := s.in("anna")
	s.later(IdleTime - time.Second)
	if ended(b, "/mailbox/anna") {
		t.Error("it ended before its time")
	}
	s.later(IdleTime)
	if !ended(b, "/mailbox/anna") {
		t.Error("it lives although nobody came")
	}
	b = s.in("anna")
	for age := time.Duration(0); age < SessionTime-20*time.Minute; age += 20 * time.Minute {
		s.later(20 * time.Minute)
		if ended(b, "/mailbox/anna") {
			t.Fatalf("it ended after %s", age)
		}
	}
	s.later(20 * time.Minute)
	if !ended(b, "/mailbox/anna") {
		t.Error("it lives after half a day")
	}
	b = s.in("anna")
	yes, no := true, false
	s.do("PATCH", webmanager.Path("accounts", "anna"), webmanager.AccountChange{Owner: &yes}, nil)
	b.get("/mailboxes").shows(200)
	s.do("PATCH", webmanager.Path("accounts", "anna"), webmanager.AccountChange{Owner: &no}, nil)
	b.get("/mailboxes").shows(403)
	s.do("PATCH", webmanager.Path("accounts", "anna"), webmanager.AccountChange{Suspended: &yes}, nil)
	if !ended(b, "/mailbox/anna") {
		t.Error("a suspended mailbox is signed in")
	}
	b = s.in("bert")
	s.do("DELETE", webmanager.Path("accounts", "bert"), nil, nil)
	if !ended(b, "/mailbox/bert") {
		t.Error("a mailbox that is gone is signed in")
	}
}

// TestSessionBounds: a mailbox has so many sessions, and ends its own beyond that; all together there are so many.
func TestSessionBounds(t *testing.T) {
	now := noon
	table := newSessions(func() time.Time { return now })
	mine := make([]string, 0, MaxAccountSessions+1)
	other := table.begin(auth.Identity{Account: 2}, webmanager.Actor{})
	for range MaxAccountSessions + 1 {
		mine = append(mine, table.begin(auth.Identity{Account: 1}, webmanager.Actor{}))
	}
	if table.find(mine[0]) != nil || table.find(mine[1]) == nil || table.find(other) == nil {
		t.Error("not the oldest of the own sessions ended")
	}
	for i := range MaxSessions {
		table.begin(auth.Identity{Account: store.AccountID(10 + i)}, webmanager.Actor{})
	}
	if table.order.Len() != MaxSessions || len(table.byHash) != MaxSessions || table.find(other) != nil {
		t.Errorf("%d sessions", table.order.Len())
	}
	for hash := range table.byHash {
		if strings.Contains(fmt.Sprint(hash), mine[5]) {
			t.Error("a cookie is kept")
		}
	}
	for _, token := range []string{"", "x", strings.Repeat("x", 43), mine[5] + "="} {
		if token != "" && table.find(token) != nil {
			t.Errorf("%q is a session", token)
		}
	}
}

// TestSameWords: every login that fails is answered with the same page, whatever the cause.
func TestSameWords(t *testing.T) {
	s := newSite(t, nil)
	yes := true
	s.do("PATCH", webmanager.Path("accounts", "bert"), webmanager.AccountChange{Suspended: &yes}, nil)
	var device webmanager.AddedDevice
	s.do("POST", webmanager.Path("accounts", "anna", "devices"), webmanager.DeviceRules{Name: "x", Send: true, Fetch: true}, &device)
	pages := map[string]bool{}
	for _, try := range [][2]string{
		{"anna", "wrong"}, {"nobody", "wrong"}, {"bert", "password of bert"}, {"bert", "wrong"}, {"anna@other.example", "password of anna"},
		{"", ""}, {"anna", device.Password}, {"x\x00y", "z"}, {"anna", strings.Repeat("x", 5000)},
	} {
		b := s.browser()
		p := b.post("/login", url.Values{"name": {try[0]}, "password": {try[1]}})
		body := strings.ReplaceAll(p.body, ` value="`+html.EscapeString(strings.ReplaceAll(try[0], "\x00", "\uFFFD"))+`"`, ` value=""`)
		if pages[body] = true; p.status != 401 || len(b.cookies) > 0 {
			t.Errorf("%q: %d, cookies %v", try, p.status, b.cookies)
		}
	}
	if len(pages) != 1 {
		t.Errorf("%d different pages: %q", len(pages), slices.Collect(maps.Keys(pages)))
	}
}

// TestGuessesCount: guesses at the login of the pages count with those at the other doors, and end in a ban at all of them; so do those on the form
// that changes a password.
func TestGuessesCount(t *testing.T) {
	s := newSite(t, nil)
	b := s.browser()
	b.remote = "[2001:db8::7]:4711"
	b.tls = true
	for i := range 10 {
		b.post("/login", url.Values{"name": {"anna"}, "password": {fmt.Sprint("guess ", i)}}).shows(401)
	}
	b.post("/login", url.Values{"name": {"anna"}, "password": {"password of anna"}}).shows(401)
	at := auth.Attempt{Service: "pop3", Mechanism: "USER", Remote: netip.MustParseAddr("2001:db8::7"), TLS: true}
	if _, err := s.server.o.Login.Login(t.Context(), at, "anna", "password of anna"); !errors.Is(err, auth.ErrBanned) {
		t.Errorf("at the POP3 door: %v", err)
	}
	in := s.in("bert")
	for i := range 40 {
		in.post("/mailbox/bert/password", url.Values{"current": {fmt.Sprint("guess ", i)}, "password": {"87654321"}, "repeat": {"87654321"}}).shows(422)
	}
	in.post("/mailbox/bert/password", url.Values{"current": {"password of bert"}, "password": {"87654321"}, "repeat": {"87654321"}}).shows(422)
}

// TestLocalPath: nobody is sent to another site.
func TestLocalPath(t *testing.T) {
	for text, want := range map[string]string{
		"":                         "/",
		"/trail?for=a%20b":         "/trail?for=a%20b",
		"/explain/L-7QK":           "/explain/L-7QK",
		"//evil.example":           "/",
		"///evil.example":          "/",
		"/\\evil.example":          "/",
		"\\\\evil.example":         "/",
		"https://evil.example/":    "/",
		"HTTPS:evil.example":       "/",
		"javascript:alert(1)":      "/",
		"/a\r\nSet-Cookie: x=y":    "/",
		"/%0d%0aSet-Cookie:%20x=y": "/%0D%0ASet-Cookie:%20x=y",
		"/\t/evil.example":         "/",
		"evil.example":             "/",
		"/x#y":                     "/x",
		"//user@evil.example":      "/",
		"/%2f%2fevil.example":      "/",
	} {
		if got := localPath(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
	s := newSite(t, nil)
	for next, want := range map[string]string{"/trail?for=anna": "/trail?for=anna", "//evil.example": "/", "https://evil.example/x": "/"} {
		b := s.browser()
		p := b.get("/login?next="+url.QueryEscape(next)).submit("/login", map[string]string{"name": "anna", "password": "password of anna"})
		if got := p.head.Get("Location"); p.status != 303 || got != want {
			t.Errorf("next=%s leads to %q", next, got)
		}
	}
}

// hostile is what a stranger or a neighbour may put wherever text can be put.
const hostile = `"><script>alert(1)</script><img src=x onerror=alert(2)>' onmouseover='alert(3)' {{.}} javascript:alert(4)`

// harmless fails if anything on a page could run, or load from elsewhere.
func (p *page) harmless(path string) {
	p.Helper()
	for d := range p.root.Descendants() {
		if d.Type != html.ElementNode {
			continue
		}
		if src, _ := attribute(d, "src"); d.Data == "script" && src == p.server.render.script.path && d.FirstChild == nil {
			continue
		}
		if slices.Contains([]string{"script", "img", "iframe", "object", "embed", "base", "style"}, d.Data) {
			p.Errorf("%s has an element %s", path, d.Data)
		}
		for _, a := range d.Attr {
			value := strings.ToLower(strings.TrimSpace(a.Val))
			local := value == "" || value[0] == '/' || value[0] == '#' || value == "data:," || strings.HasPrefix(value, "http://example.com/proof?token=")
			if strings.HasPrefix(a.Key, "on") || a.Key == "style" || slices.Contains([]string{"href", "src", "action"}, a.Key) && !local {
				p.Errorf("%s has %s=%q on %s", path, a.Key, a.Val, d.Data)
			}
		}
	}
}

// TestHostileText: text of strangers and neighbours is text wherever it is shown.
func TestHostileText(t *testing.T) {
	s := newSite(t, nil)
	display := hostile
	s.do("PATCH", webmanager.Path("accounts", "bert"), webmanager.AccountChange{DisplayName: &display}, nil)
	s.do("POST", webmanager.Path("accounts", "bert", "devices"), webmanager.DeviceRules{Name: hostile[:60], Send: true}, nil)
	bert := s.account("bert").ID
	for _, err := range []error{
		s.store.NoteClients(t.Context(), []store.Client{{Account: bert, Program: hostile, Door: "pop3", Mechanism: "USER", First: noon, Last: noon, Sessions: 1}}),
		s.store.NoteHabits(t.Context(), []store.Habit{{Account: bert, Kind: store.HabitHeld, Name: "192.0.2.0/24", Text: hostile, First: noon, Last: noon}}),
		s.store.NoteHabits(t.Context(), []store.Habit{{
			Account: bert, Kind: store.HabitAnswered, Name: "x", Text: hostile[:min(len(hostile), store.MaxHabitText)], First: noon, Last: noon,
		}}),
		s.store.AppendAudit(t.Context(), store.AuditEntry{Time: noon, Actor: hostile, Action: "x", Object: hostile, Before: hostile, After: `{"a":"` + strings.ReplaceAll(hostile, `"`, `\"`) + `"}`}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	s.note("bert@example.com", hostile)
	s.send("bert", "<"+hostile+">", `"<script>alert(5)</script>"@other.example`, "anna@example.com")
	b := s.operator()
	paths := []string{
		"/trail?for=bert", "/trail?for=" + url.QueryEscape(hostile), "/trail?subject=" + url.QueryEscape(hostile), "/mailbox/bert", "/holds", "/audit",
		"/explain/auth-banned", "/explain/" + url.PathEscape(hostile), "/mailbox/" + url.PathEscape(hostile), "/mailboxes?find=" + url.QueryEscape(hostile),
		"/sign-in?token=" + url.QueryEscape(hostile), "/proof?token=" + url.QueryEscape(hostile), "/" + url.PathEscape(hostile), "/mailboxes?after=" + url.QueryEscape(hostile),
	}
	for _, pattern := range s.patterns("GET") {
		paths = append(paths, concrete(pattern))
	}
	for _, path := range paths {
		b.get(path).harmless(path)
	}
	if p := b.get("/trail?for=bert"); !strings.Contains(p.text(), "<script>alert(5)</script>") || !strings.Contains(p.text(), "onerror=alert(2)") {
		t.Errorf("the test's text is not on the page: %s", p.text())
	}
	for _, path := range []string{"/mailbox/bert", "/holds", "/audit", "/explain/auth-banned"} {
		if p := b.get(path); !strings.Contains(p.text(), "<script>alert(1)</script>") {
			t.Errorf("the test's text is not on %s", path)
		}
	}
	stranger := s.browser()
	for path, form := range map[string]url.Values{
		"/login": {"name": {hostile}, "password": {hostile}, "next": {hostile}},
	} {
		stranger.post(path, form).harmless(path)
	}
	for path, form := range map[string]url.Values{
		"/mailboxes/add": {"name": {hostile}, "display_name": {hostile}}, "/aliases": {"name": {hostile}, "targets": {hostile}},
		"/sending": {"trusted_networks": {hostile}, "require_auth": {"off"}, "off": {hostile}}, "/sending/apply": {"change": {`{"` + hostile[2:] + `":1}`}},
		"/mailbox/bert/forward": {"forward": {hostile}}, "/mailbox/bert/devices/add": {"device_name": {hostile}, "networks": {hostile}},
		"/mailbox/bert/vacation":  {"vacation_text": {"</textarea>" + hostile}, "vacation_subject": {hostile}, "vacation_from": {hostile}},
		"/mailbox/anna/vacation":  {"vacation_text": {"</textarea>" + hostile}, "vacation_subject": {hostile[:60]}, "do": {"preview"}},
		"/mailbox/bert/retention": {"expire": {hostile}, "expire_days": {hostile}, "expire_confirm": {hostile}},
		"/sending/all":            {"has_help_url": {"1"}, "help_url": {hostile}},
	} {
		b.post(path, form).harmless(path)
	}
}

// TestOddPaths: paths that try to leave their place find nothing.
func TestOddPaths(t *testing.T) {
	s := newSite(t, nil)
	b := s.operator()
	for _, path := range []string{
		"/static/style.css", "/static/..%2fserver.go", "/static/%2e%2e/%2e%2e/etc/passwd", "/..%2f..%2fetc%2fpasswd", "/mailbox/..%2f..%2fetc%2fpasswd",
		"/mailbox/bert%00", "/explain/..%2f..%2f", "/api/v1/..%2fmailboxes", "/mailbox/%2e%2e", "/mailbox/bert/devices",
	} {
		if p := b.get(path); p.status != 404 && p.status != 422 && p.status != 401 && p.status != 307 && p.status != 301 || strings.Contains(p.body, "root:") {
			t.Errorf("%s: %d %s", path, p.status, p.text())
		}
	}
}

// TestOddMethods: a method that a page does not have is refused as such, whoever asks, and finds out nothing about paths that are not there.
func TestOddMethods(t *testing.T) {
	s := newSite(t, nil)
	for _, b := range []*browser{s.browser(), s.in("anna"), s.operator()} {
		for _, method := range []string{"PUT", "DELETE", "PATCH", "TRACE", "OPTIONS", "ABC"} {
			for path, allow := range map[string]string{"/mailboxes": "GET, HEAD", "/mailbox/bert/suspend": "POST", "/queue/act": "GET, HEAD, POST"} {
				p := b.do(httptest.NewRequest(method, path, nil))
				if p.status != 405 || p.head.Get("Allow") != allow || !strings.Contains(p.body, "cannot be asked for in that way") {
					t.Errorf("%s %s: %d, Allow %q: %s", method, path, p.status, p.head.Get("Allow"), p.text())
				}
			}
			for _, path := range []string{"/nothing", "/"} {
				if p := b.do(httptest.NewRequest(method, path, nil)); p.status != 404 || p.head.Get("Allow") != "" {
					t.Errorf("%s %s: %d, Allow %q", method, path, p.status, p.head.Get("Allow"))
				}
			}
		}
	}
}

// TestBounds: what is too large is not read, and what is no form is none.
func TestBounds(t *testing.T) {
	s := newSite(t, nil)
	b := s.in("olga")
	targets := strings.Repeat("x", webmanager.MaxBodySize)
	b.post("/aliases", url.Values{"name": {"x"}, "targets": {targets}}).shows(422, "The form could not be read.")
	r := httptest.NewRequest(http.MethodPost, "/aliases", strings.NewReader("%zz=%"))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	b.do(r).shows(422, "The form could not be read.")
}

// TestPanicIsAPage: what goes wrong in a handler ends that answer and nothing else.
func TestPanicIsAPage(t *testing.T) {
	s := newSite(t, func(o *Options) {
		o.GuideHandles = func(path string) bool { return strings.HasPrefix(path, "/help/") }
		o.Help = "/help/"
		o.Guide = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/help/panic" {
				panic("secret cause")
			}
			actor, ok := Person(r.Context())
			fmt.Fprintf(w, "help for %s %t %s", actor.Name, ok, actor.Role)
		})
	})
	s.browser().get("/help/panic").shows(500, "Something failed inside.")
	if p := s.browser().get("/help/panic"); strings.Contains(p.body, "secret") {
		t.Error("the page tells the cause")
	}
	s.browser().get("/help/").shows(200, "help for false anyone")
	s.browser().get("/help").shows(404)
	s.in("anna").get("/help/").shows(200, "help for anna true mailbox")
	p := s.in("anna").get("/mailbox/anna")
	linked := slices.ContainsFunc(all(p.root, "a"), func(n *html.Node) bool { to, _ := attribute(n, "href"); return to == "/help/" })
	if !linked {
		t.Error("the help is not linked")
	}
}

// TestHalfLoginsAreBounded: those who have shown a password and no code yet are so many at most, and one says nothing of another.
func TestHalfLoginsAreBounded(t *testing.T) {
	now := noon
	table := newHalves(func() time.Time { return now })
	first := table.begin(auth.Identity{Account: 1})
	second := table.begin(auth.Identity{Account: 2})
	for range maxHalves - 1 {
		table.begin(auth.Identity{Account: 3})
	}
	if _, ok := table.try(first); ok || table.order.Len() != maxHalves || len(table.byHash) != maxHalves {
		t.Errorf("%d are kept", table.order.Len())
	}
	if id, ok := table.try(second); !ok || id.Account != 2 {
		t.Errorf("got %+v, %t", id, ok)
	}
	now = now.Add(halfTime)
	if _, ok := table.try(second); ok {
		t.Error("its time is over")
	}
}
