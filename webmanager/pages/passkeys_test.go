package pages

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"latchkey/guard"
	"latchkey/internal/passkey/passkeytest"
	"latchkey/webmanager"
)

// named is a site with a name, at which browsers make passkeys.
func named(t *testing.T) *site {
	s := newSite(t, nil)
	s.web = "https://example.com" // httptest's host
	return s
}

// key is an authenticator in a browser that comes by TLS.
type key struct {
	*browser
	device *passkeytest.Authenticator
}

func (s *site) key() *key {
	b := s.browser()
	b.tls = true
	return &key{b, passkeytest.New(s.web)}
}

// element is the first one of a page with an id.
func (p *page) element(id string) *html.Node {
	p.Helper()
	for d := range p.root.Descendants() {
		if got, _ := attribute(d, "id"); d.Type == html.ElementNode && got == id {
			return d
		}
	}
	p.Fatalf("nothing has the id %s: %s", id, p.text())
	return nil
}

// made is what the browser makes of the page that asks for a passkey.
func (k *key) made(p *page) string {
	k.Helper()
	options, _ := attribute(p.element("passkey"), "data-options")
	response, err := k.device.Create([]byte(options))
	if err != nil {
		k.Fatal(err)
	}
	return string(response)
}

// add makes a passkey for whoever is signed in.
func (k *key) add(name, title string) *page {
	k.Helper()
	box := "/mailbox/" + name
	p := k.get(box).submit(box+"/passkeys", map[string]string{"passkey_name": title, "passkey_current": "password of " + name}).shows(200, "Make the passkey")
	return p.submit(box+"/passkeys/add", map[string]string{"response": k.made(p)})
}

// proof shows the passkey to the login, and is what its form sends.
func (k *key) proof(next string) (p *page, form map[string]string) {
	k.Helper()
	p = k.get("/login?next="+url.QueryEscape(next)).shows(200, "Sign in with a passkey")
	begin, _ := attribute(p.element("passkey"), "data-begin")
	var asked webmanager.PasskeyOptions
	answer := k.post(begin, nil)
	if err := json.Unmarshal([]byte(answer.body), &asked); err != nil || answer.status != 200 || answer.head.Get("Content-Type") != "application/json" {
		k.Fatalf("%d %s: %v", answer.status, answer.body, err)
	}
	response, err := k.device.Prove(asked.Options)
	if err != nil {
		k.Fatal(err)
	}
	return p, map[string]string{"ticket": asked.Ticket, "response": string(response)}
}

func (k *key) signIn(next string) *page {
	k.Helper()
	p, form := k.proof(next)
	return p.submit("/login/passkey", form)
}

// withPasskey is anna, whose browser has a passkey and is signed out.
func withPasskey(s *site) *key {
	s.Helper()
	k := s.key()
	k.login("anna", "password of anna").follow()
	k.add("anna", "Telephone").follow().shows(200, "The passkey Telephone is there.")
	k.post("/logout", nil)
	return k
}

// TestPasskeyJourney: the owner of a mailbox adds a passkey, signs in with it without password and code, to where he wanted to go and in a new session,
// and removes it: then it is worth nothing.
func TestPasskeyJourney(t *testing.T) {
	s := named(t)
	k := s.key()
	k.login("anna", "password of anna").follow()
	shown := k.get("/mailbox/anna").shows(200, "Passkeys", "Add a passkey", "A passkey needs JavaScript")
	form := func(name, password string) *page {
		return shown.submit("/mailbox/anna/passkeys", map[string]string{"passkey_name": name, "passkey_current": password})
	}
	form("Telephone", "wrong").shows(422, "is not the present password")
	form(strings.Repeat("x", webmanager.MaxPasskeyName+1), "password of anna").shows(422, "has 1 to 60 octets")
	asked := form("Telephone", "password of anna").shows(200, "where “Telephone” is to be kept", "A passkey needs JavaScript")
	for _, secret := range []string{"password of anna", "wrong"} {
		if strings.Contains(asked.body, secret) {
			t.Errorf("the page repeats %q", secret)
		}
	}
	asked.submit("/mailbox/anna/passkeys/add", map[string]string{"response": "no JSON"}).shows(422, "The browser's answer is not right")
	made := k.made(asked)
	asked.submit("/mailbox/anna/passkeys/add", map[string]string{"response": made}).follow().shows(200, "The passkey Telephone is there.", "never")
	asked.submit("/mailbox/anna/passkeys/add", map[string]string{"response": made}).shows(422, "is that of another passkey")
	before := k.cookies["__Host-latchkey"]
	k.post("/logout", nil)
	k.get("/mailbox/anna").follow().shows(200, "Sign in")

	k.cookies["__Host-latchkey"] = before
	p := k.signIn("/trail")
	if p.status != http.StatusSeeOther || p.head.Get("Location") != "/trail" {
		t.Fatalf("signing in: %d to %q: %s", p.status, p.head.Get("Location"), p.text())
	}
	if after := k.cookies["__Host-latchkey"]; after == before || len(after) != 43 {
		t.Errorf("the session is %q", after)
	}
	mailbox := k.get("/mailbox/anna").shows(200, "Telephone")
	if strings.Contains(mailbox.text(), "never") {
		t.Error("it was not used")
	}
	mailbox.submit("/mailbox/anna/passkeys/remove", nil).follow().shows(200, "The passkey lets nobody in any more.")
	k.post("/logout", nil)
	k.signIn("/").shows(401, "That did not let you in")
}

// TestPasskeyForAnother: the owner of the domain sees those of a mailbox, whatever their names are, removes them, and makes none.
func TestPasskeyForAnother(t *testing.T) {
	s := named(t)
	k := s.key()
	k.login("anna", "password of anna").follow()
	k.add("anna", hostile[:60]).follow().shows(200)
	k.post("/logout", nil)
	olga := s.key()
	olga.login("olga", "password of olga").follow()
	p := olga.get("/mailbox/anna").shows(200, hostile[:60])
	p.harmless("/mailbox/anna")
	if strings.Contains(p.body, "/mailbox/anna/passkeys\"") {
		t.Error("the owner of the domain is offered a passkey for another")
	}
	olga.post("/mailbox/anna/passkeys", url.Values{"passkey_name": {"x"}, "passkey_current": {"password of olga"}}).shows(403)
	p.submit("/mailbox/anna/passkeys/remove", nil).follow().shows(200, "The passkey lets nobody in any more.")
	k.signIn("/").shows(401, "That did not let you in")
	if p := olga.get("/mailbox/anna"); strings.Contains(p.text(), "Passkeys") {
		t.Error("there is still something about passkeys")
	}
	bert := s.key()
	bert.login("bert", "password of bert").follow()
	bert.post("/mailbox/anna/passkeys/remove", url.Values{"passkey": {"1"}}).shows(403)
}

// TestPasskeyAndCode: a passkey stands for the password and the code.
func TestPasskeyAndCode(t *testing.T) {
	s := named(t)
	k := withPasskey(s)
	k.login("anna", "password of anna").follow()
	shown := k.get("/mailbox/anna").submit("/mailbox/anna/factor", map[string]string{"totp_current": "password of anna"}).shows(200)
	secret := ""
	for _, n := range all(shown.root, "code") {
		if class, _ := attribute(n, "class"); class == "secret" {
			secret = n.FirstChild.Data
		}
	}
	shown.submit("/mailbox/anna/factor/start", map[string]string{"code": s.code(secret)}).follow().shows(200, "From now on a code is needed.")
	k.post("/logout", nil)
	k.login("anna", "password of anna").shows(200, "One more step")
	k.signIn("/").follow().follow().shows(200, "My mailbox")
}

// TestPasskeyIsRefused: as a wrong password is, with the same page; too late is another answer, as nothing was looked at.
func TestPasskeyIsRefused(t *testing.T) {
	s := named(t)
	k := withPasskey(s)
	p, form := k.proof("/trail")
	s.later(webmanager.CeremonyTime)
	late := p.submit("/login/passkey", maps.Clone(form)).shows(422, "That took too long", "Sign in with a passkey")
	if next, _ := attribute(all(late.element("passkey"), "input")[0], "value"); next != "/trail" {
		t.Errorf("it is forgotten where to: %q", next)
	}
	for _, text := range []string{"", "{}", "no JSON", strings.Repeat("x", 100_000)} {
		p.submit("/login/passkey", map[string]string{"ticket": form["ticket"], "response": text}).shows(422, "That took too long")
	}
	p, form = k.proof("/")
	p.submit("/login/passkey", maps.Clone(form)).follow()
	k.post("/logout", nil)
	p.submit("/login/passkey", form).shows(401, "That did not let you in")
	for _, spoil := range []func(){func() { k.device.Flags = passkeytest.Present }, func() { k.device.Origin = "https://evil.example" }} {
		device := *k.device
		spoil()
		k.signIn("/").shows(401, "That did not let you in")
		*k.device = device
	}
	k.device.Count += 10 // beyond those that were refused
	suspended := true
	s.do("PATCH", webmanager.Path("accounts", "anna"), webmanager.AccountChange{Suspended: &suspended}, nil)
	k.signIn("/").shows(401, "That did not let you in")
	if len(k.cookies) > 0 {
		t.Errorf("somebody who was refused has a session: %v", k.cookies)
	}
	suspended = false
	s.do("PATCH", webmanager.Path("accounts", "anna"), webmanager.AccountChange{Suspended: &suspended}, nil)
	k.signIn("/").follow().follow().shows(200, "My mailbox")
}

// TestPasskeysCountWithPasswords: wrong passkeys and wrong passwords end in one ban, after which neither lets in.
func TestPasskeysCountWithPasswords(t *testing.T) {
	s := named(t)
	k := withPasskey(s)
	k.remote = "192.0.2.9:4711" // where anna never was
	n := int(guard.DefaultLoginLimits().Pair.N)
	for i := range n {
		if i%2 == 0 {
			k.login("anna", strings.Repeat("x", i+1)).shows(401)
			continue
		}
		device := *k.device
		k.device.Flags = passkeytest.Present
		k.signIn("/").shows(401)
		*k.device = device
	}
	k.device.Count += 100
	k.signIn("/").shows(401, "That did not let you in")
	k.login("anna", "password of anna").shows(401, "That did not let you in")
	k.remote = "192.0.2.200:4711"
	s.later(time.Hour)
	k.signIn("/").follow()
}

// TestPasskeySessions: what was asked for in one session is not added in another, and a change of the password ends sessions and no passkeys.
func TestPasskeySessions(t *testing.T) {
	s := named(t)
	k, other := s.key(), s.key()
	k.login("anna", "password of anna").follow()
	other.login("anna", "password of anna").follow()
	asked := k.get("/mailbox/anna").submit("/mailbox/anna/passkeys", map[string]string{"passkey_name": "x", "passkey_current": "password of anna"})
	ticket := ""
	for _, n := range all(asked.element("passkey"), "input") {
		if name, _ := attribute(n, "name"); name == "ticket" {
			ticket, _ = attribute(n, "value")
		}
	}
	form := url.Values{"passkey_name": {"x"}, "ticket": {ticket}, "response": {k.made(asked)}}
	other.post("/mailbox/anna/passkeys/add", form).shows(422, "The browser's answer is not right")
	k.post("/mailbox/anna/passkeys/add", form).follow().shows(200, "The passkey x is there.")
	change := map[string]string{"current": "password of anna", "password": "a long password", "repeat": "a long password"}
	k.get("/mailbox/anna").submit("/mailbox/anna/password", change).shows(200, "The password was set.")
	other.get("/mailbox/anna").follow().shows(200, "Sign in")
	k.signIn("/").follow().follow().shows(200, "My mailbox")
}

// TestScriptIsWhereItIsNeeded: two pages have the script for passkeys, and a policy that lets it run; the others, and answers with mistakes on them, have
// neither. It is hidden until it runs, and the pages say why.
func TestScriptIsWhereItIsNeeded(t *testing.T) {
	s := named(t)
	k := s.key()
	stranger := []*page{k.get("/login"), k.login("anna", "wrong")}
	k.login("anna", "password of anna").follow()
	mailbox := k.get("/mailbox/anna")
	asked := mailbox.submit("/mailbox/anna/passkeys", map[string]string{"passkey_name": "x", "passkey_current": "password of anna"})
	for i, p := range append(stranger, asked) {
		scripts := all(p.root, "script")
		if len(scripts) != 1 || scripts[0].FirstChild != nil || p.head.Get("Content-Security-Policy") != policy+"; script-src 'self'; connect-src 'self'" {
			t.Fatalf("page %d: %d scripts, policy %q", i, len(scripts), p.head.Get("Content-Security-Policy"))
		}
		if src, _ := attribute(scripts[0], "src"); src != s.server.render.script.path {
			t.Errorf("page %d has the script %q", i, src)
		}
		for _, id := range []string{"passkey", "passkey-none"} {
			if !slices.ContainsFunc(p.element(id).Attr, func(a html.Attribute) bool { return a.Key == "hidden" }) {
				t.Errorf("page %d shows %s without a script", i, id)
			}
		}
		if len(all(p.root, "noscript")) != 1 {
			t.Errorf("page %d does not say that scripts are off", i)
		}
	}
	wrong := mailbox.submit("/mailbox/anna/passkeys", map[string]string{"passkey_name": "x", "passkey_current": "wrong"})
	for i, p := range []*page{mailbox, wrong, k.get("/trail"), k.get("/nothing"), k.get("/explain")} {
		if len(all(p.root, "script")) != 0 || p.head.Get("Content-Security-Policy") != policy {
			t.Errorf("page %d without passkeys: policy %q", i, p.head.Get("Content-Security-Policy"))
		}
	}
	script := k.get(s.server.render.script.path)
	if script.status != 200 || script.head.Get("Content-Type") != "text/javascript; charset=utf-8" || !strings.Contains(script.head.Get("Cache-Control"), "immutable") ||
		script.head.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("the script: %d %v", script.status, script.head)
	}
	if size := len(script.body) + len(stranger[0].body) + len(k.get(s.server.render.style.path).body); size > 60<<10 {
		t.Errorf("the first page takes %d octets", size)
	}
}

// TestNoPasskeysHere: by an address, another name, or without TLS there is no script and nothing to press, and the mailbox says why.
func TestNoPasskeysHere(t *testing.T) {
	for _, tt := range []struct {
		web  string
		tls  bool
		says string
	}{
		{"http://127.0.0.1:2080", false, "There are no passkeys at this address"},
		{"", false, "There are no passkeys at this address"},
		{"https://example.com", false, "at https://example.com only"},
		{"https://mail.example.com", true, "at https://mail.example.com only"},
		{"https://example.com:8443", true, "at https://example.com:8443 only"},
		{"https://example.com", true, ""},
	} {
		s := newSite(t, nil)
		s.web = tt.web
		b := s.browser()
		b.tls = tt.tls
		login := b.get("/login")
		if has := len(all(login.root, "script")) > 0; has != (tt.says == "") || has != strings.Contains(login.body, "passkey") {
			t.Errorf("%+v: the login has passkeys: %t", tt, has)
		}
		b.login("anna", "password of anna").follow()
		p := b.get("/mailbox/anna").shows(200, tt.says)
		if has := strings.Contains(p.body, "/mailbox/anna/passkeys\""); has != (tt.says == "") {
			t.Errorf("%+v: a passkey can be added: %t", tt, has)
		}
		if strings.HasPrefix(tt.web, "https:") {
			continue
		}
		b.post("/login/passkey/begin", nil).shows(503, "Browsers make passkeys")
		b.post("/login/passkey", nil).shows(503, "Browsers make passkeys")
		b.post("/mailbox/anna/passkeys", url.Values{"passkey_name": {"x"}, "passkey_current": {"password of anna"}}).shows(503, "Browsers make passkeys")
	}
}
