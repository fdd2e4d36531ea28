package pages

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"latchkey/webmanager"
)

// TestQuestionsChangeNothing: whoever only asks, as a scanner of mail does that opens every link, changes nothing: neither at the address of a form, nor
// with a method that a header or a field names. The one thing that a question leaves is that somebody looked into the mailbox of another.
func TestQuestionsChangeNothing(t *testing.T) {
	s := newSite(t, nil)
	s.send("bert", "<1@example.com>", "bert@example.com", "x@other.example")
	s.hold("bert", 1)
	var link webmanager.SignInLink
	s.do("POST", webmanager.Path("sign-in"), struct{}{}, &link)
	signIn := strings.TrimPrefix(link.URL, "http://127.0.0.1:2080")
	who := s.browsers()
	before, jobs := s.entries(), s.jobs()
	values := "?name=bert&mailbox=bert&verb=remove&all=yes&id=1&confirm=bert%40example.com&_method=POST&suspended=yes&device=1&password=12345678&repeat=12345678"
	for _, b := range who {
		b.header.Set("X-HTTP-Method-Override", "POST")
		b.header.Set("X-HTTP-Method", "DELETE")
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			for _, pattern := range append(s.patterns("POST"), s.patterns("GET")...) {
				if !strings.Contains(pattern, "/mail/") && pattern != "/logout" {
					b.do(httptest.NewRequest(method, concrete(pattern)+values, nil))
				}
			}
			b.do(httptest.NewRequest(method, signIn, nil))
		}
	}
	if after := s.entries(); after != before || s.jobs() != jobs {
		t.Errorf("%d changes were made; deliveries %s, before %s", after-before, s.jobs(), jobs)
	}
	if p := s.browser().get(signIn).submit("/sign-in", nil); p.status != http.StatusSeeOther {
		t.Errorf("the link was used up by those who only looked: %d %s", p.status, p.text())
	}
}

// TestForgedHeaders: what a client says of itself, of the way that it came and of the server's name decides nothing, and is repeated nowhere.
func TestForgedHeaders(t *testing.T) {
	for _, known := range []string{"", "https://mail.example.com/"} {
		s := newSite(t, func(o *Options) { o.URL = known })
		sent := s.send("anna", "<1@example.com>", "bert@example.com")
		b := s.browser()
		for name, value := range map[string]string{
			"X-Forwarded-For": "203.0.113.9", "X-Real-Ip": "203.0.113.9", "Forwarded": "for=203.0.113.9;host=evil.example;proto=https", "X-Forwarded-Proto": "https",
			"X-Forwarded-Host": "evil.example", "X-Original-Url": "/mailboxes", "X-Rewrite-Url": "/mailboxes", "X-Forwarded-Prefix": "//evil.example",
		} {
			b.header.Set(name, value)
		}
		b.remote = "127.0.0.44:1"
		p := b.login("anna", "password of anna")
		if c := p.head.Get("Set-Cookie"); p.status != http.StatusSeeOther || strings.Contains(c, "Secure") || p.head.Get("Location") != "/" {
			t.Errorf("%d to %q with %q", p.status, p.head.Get("Location"), c)
		}
		for _, path := range []string{"/", "/mailbox/anna", "/trail", "/nothing", "/mailboxes", "/explain"} {
			if p := b.get(path); strings.Contains(p.body+p.head.Get("Location"), "evil.example") || p.status == http.StatusOK && path == "/mailboxes" {
				t.Errorf("%s: %d %s", path, p.status, p.body)
			}
		}
		b.post("/mailbox/anna/change", url.Values{"display_name": {"A"}}).follow().shows(200)
		list, err := s.store.ListAudit(t.Context(), 0, 1)
		if err != nil || len(list) != 1 || list[0].Remote.String() != "127.0.0.44" {
			t.Errorf("the audit log has %+v, %v", list, err)
		}
		r := httptest.NewRequest(http.MethodPost, "http://evil.example/trail/proof", strings.NewReader(url.Values{"message": {sent}}.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if p := b.do(r); known != "" && (strings.Contains(p.body, "evil.example") || !strings.Contains(p.body, "https://mail.example.com/proof?token=")) {
			t.Errorf("a link for others: %d %s", p.status, p.text())
		}
	}
}

// TestOtherBodies: a body that is no form of a browser is refused, and not taken for a form in which everything was cleared.
func TestOtherBodies(t *testing.T) {
	s := newSite(t, nil)
	b := s.in("anna")
	b.post("/mailbox/anna/forward", url.Values{"forward": {"a@other.example"}}).follow()
	for media, body := range map[string]string{
		"multipart/form-data; boundary=b": "--b\r\nContent-Disposition: form-data; name=\"forward\"\r\n\r\nx@evil.example\r\n--b--\r\n",
		"text/plain":                      "forward=x@evil.example", "application/json": `{"forward":"x@evil.example"}`, "": "forward=x@evil.example", ";": "x",
	} {
		r := httptest.NewRequest(http.MethodPost, "/mailbox/anna/forward", strings.NewReader(body))
		if media != "" {
			r.Header.Set("Content-Type", media)
		}
		b.do(r).shows(422, "The form could not be read.")
		r = httptest.NewRequest(http.MethodPost, "/mailbox/anna/forward", struct{ *strings.Reader }{strings.NewReader(body)}) // of no known length
		r.Header.Set("Content-Type", media)
		b.do(r).shows(422, "The form could not be read.")
	}
	many := strings.Repeat("a=b&", maxForm/4)
	r := httptest.NewRequest(http.MethodPost, "/mailbox/anna/forward", strings.NewReader(many[:maxForm-1]))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	b.do(r).shows(422, "The form could not be read.") // of very many fields
	if to := s.account("anna").Forward.To; len(to) != 1 || to[0].String() != "a@other.example" {
		t.Errorf("mail goes to %v", to)
	}
}

// TestFormsTwice: a form that is sent twice, as by a second click, does what it says once, and the second time says so.
func TestFormsTwice(t *testing.T) {
	s := newSite(t, nil)
	s.send("bert", "<1@example.com>", "x@other.example")
	b := s.in("olga")
	for _, tt := range []struct {
		path, fields string
		first, again int
	}{
		{"/mailboxes/add", "name=new&password=12345678", 303, 409},
		{"/mailbox/new/devices/add", "device_name=x&send=on", 200, 409},
		{"/mailbox/new/devices/revoke", "device=x", 303, 404},
		{"/aliases", "name=info&targets=bert", 303, 303}, // it leads there already
		{"/aliases/remove", "alias=info", 303, 404},
		{"/bans", "network=192.0.2.0/24", 303, 303},
		{"/suppressions", "address=x@other.example", 303, 303},
		{"/suppressions/remove", "address=x@other.example", 303, 404},
		{"/queue/act", "verb=remove&id=1&go=yes", 303, 303}, // gone already, as it says
		{"/dns/keys", "rsa=on", 303, 409},
		{"/mailbox/new/suspend", "suspended=yes", 303, 303},
		{"/mailbox/new/remove", "confirm=new@example.com", 303, 404},
		{"/logout", "", 303, 303},
	} {
		if !slices.ContainsFunc(s.server.pages(), func(p pageRoute) bool {
			return p.pattern == "POST "+strings.Replace(tt.path, "/new/", "/{name}/", 1)
		}) {
			t.Errorf("%s is no page", tt.path)
			continue
		}
		values := parse(t, tt.fields)
		if p := b.post(tt.path, values); p.status != tt.first {
			t.Errorf("%s: %d, want %d: %s", tt.path, p.status, tt.first, p.text())
		}
		if p := b.post(tt.path, values); p.status != tt.again {
			t.Errorf("%s again: %d, want %d: %s", tt.path, p.status, tt.again, p.text())
		}
	}
}

// TestLinksForOnce: the operator's link lets in one of two who have it.
func TestLinksForOnce(t *testing.T) {
	s := newSite(t, nil)
	var link webmanager.SignInLink
	s.do("POST", webmanager.Path("sign-in"), struct{}{}, &link)
	path := strings.TrimPrefix(link.URL, "http://127.0.0.1:2080")
	first, second := s.browser().get(path), s.browser().get(path)
	if p := first.submit("/sign-in", nil); p.status != http.StatusSeeOther {
		t.Errorf("the first: %d", p.status)
	}
	second.submit("/sign-in", nil).shows(401, "This link was used already")
}

// TestDownloadIsWhole: whoever asks for a range of a message, or whether it has changed, gets all of it, and nobody keeps it.
func TestDownloadIsWhole(t *testing.T) {
	s := newSite(t, nil)
	const message = "From: x@other.example\nSubject: x\nContent-Type: text/html\n\n<script>alert(1)</script>\n"
	path := "/mailbox/anna/mail/" + s.put("anna", message) + "/download"
	b := s.in("anna")
	for _, header := range []http.Header{
		{}, {"Range": {"bytes=0-9"}}, {"Range": {"bytes=-1"}}, {"Range": {"bytes=5-1,0-0,0-0,0-0"}}, {"If-None-Match": {"*"}},
		{"If-Modified-Since": {"Mon, 01 Jan 2099 00:00:00 GMT"}}, {"If-Range": {`"x"`}, "Range": {"bytes=0-0"}},
	} {
		b.header = header
		p := b.get(path)
		if h := p.head; p.status != 200 || p.body != strings.ReplaceAll(message, "\n", "\r\n") || h.Get("Cache-Control") != "no-store" ||
			h.Get("Content-Type") != webmanager.MessageType || !strings.HasPrefix(h.Get("Content-Disposition"), "attachment;") ||
			!strings.Contains(h.Get("Content-Security-Policy"), "sandbox") || h.Get("Accept-Ranges") != "" || h.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%v: %d %v %q", header, p.status, h, p.body)
		}
	}
}

// TestLinesOfTheLog: what a client sends is no line of its own in the log, and neither a password nor a token is in one.
func TestLinesOfTheLog(t *testing.T) {
	var log bytes.Buffer
	s := newSite(t, func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	s.server.o.GuideHandles = func(path string) bool { return strings.HasPrefix(path, "/help/") }
	s.server.o.Guide = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("broken") })
	b := s.operator()
	b.header.Set("User-Agent", "x\r\nlevel=ERROR msg=forged")
	b.header.Set("Referer", "https://x.example/?token=secret")
	b.get("/help/a%0alevel=ERROR%20msg=forged%1b[2J?token=secret").shows(500)
	b.post("/sign-in", url.Values{"token": {"x\nlevel=ERROR msg=forged"}})
	b.post("/login", url.Values{"name": {"anna\nlevel=ERROR msg=forged"}, "password": {"secret"}})
	if text := log.String(); strings.Contains(text, "\nlevel=ERROR msg=forged") || strings.Contains(text, "\x1b") || strings.Contains(text, "secret") ||
		!strings.Contains(text, "operator signed in") || !strings.Contains(text, "panic in the pages") {
		t.Errorf("the log: %s", text)
	}
}

// TestManyCookies: the cookie is found among others, and of two of its name the first counts, as of a path that is nearer; none of them is shown.
func TestManyCookies(t *testing.T) {
	s := newSite(t, nil)
	b := s.in("anna")
	for i := range 200 {
		b.cookies["c"+strings.Repeat("x", i)] = "<script>"
	}
	if p := b.get("/mailbox/anna").shows(200); strings.Contains(p.body, "<script>") {
		t.Error("a cookie is on the page")
	}
	for _, planted := range []string{"", "x", strings.Repeat("A", 43), b.cookies["latchkey"] + "x", strings.Repeat("x", 9000)} {
		r := httptest.NewRequest(http.MethodGet, "/mailbox/anna", nil)
		r.Header.Set("Cookie", "latchkey="+planted+"; latchkey="+planted)
		w := httptest.NewRecorder()
		s.server.ServeHTTP(w, r)
		if w.Code != http.StatusSeeOther {
			t.Errorf("%.50q signs in: %d", planted, w.Code)
		}
	}
}

// TestForeignIDs: the owner of a mailbox names, at the pages of its own, what is another's: each is not there to it, and stays as it is.
func TestForeignIDs(t *testing.T) {
	s := newSite(t, nil)
	const secret = "for bert alone"
	uid := s.put("bert", "Subject: "+secret+"\n\n"+secret+"\n")
	var device webmanager.AddedDevice
	s.do("POST", webmanager.Path("accounts", "bert", "devices"), webmanager.DeviceRules{Name: secret, Send: true, Fetch: true}, &device)
	sent := s.send("bert", "<1@example.com>", "x@other.example")
	b := s.in("anna")
	before := s.entries()
	for _, path := range []string{
		"/mailbox/anna/mail/" + uid, "/mailbox/anna/mail/" + uid + "/download", "/mailbox/bert/mail/" + uid, "/mailbox/bert%2F..%2Fanna", "/mailbox/anna%2F..%2Fbert",
		"/queue/1", "/queue?sender=bert@example.com", "/trail?mailbox=bert", "/trail?for=" + sent, "/trail?from=bert@example.com", "/mailbox/anna/mail?before=" + uid,
		"/holds?mailbox=bert", "/grants?mailbox=bert", "/mailbox/bert@example.com", "/mailbox/BERT",
	} {
		p := b.get(path)
		if strings.Contains(p.body, secret) || strings.Contains(p.body, "x@other.example") && !strings.Contains(path, "x@other") {
			t.Errorf("%s: %d %s", path, p.status, p.text())
		}
	}
	for path, fields := range map[string]string{
		"/mailbox/anna/devices/revoke": "device=" + device.ID.String(), "/grants/revoke": "id=1&mailbox=bert", "/trail/proof": "message=" + sent,
		"/queue/act": "verb=remove&id=1&go=yes", "/mailbox/bert/forward": "forward=a@other.example", "/mailbox/bert%40example.com/forward": "forward=a@other.example",
	} {
		if p := b.post(path, parse(t, fields)); p.status != 403 && p.status != 404 || strings.Contains(p.body, secret) {
			t.Errorf("%s: %d %s", path, p.status, p.text())
		}
	}
	devices, err := s.store.ListDevices(t.Context(), s.account("bert").ID)
	if s.entries() != before || err != nil || len(devices) != 1 || s.jobs() == "" {
		t.Errorf("%d changes were made; %+v, %v", s.entries()-before, devices, err)
	}
}
