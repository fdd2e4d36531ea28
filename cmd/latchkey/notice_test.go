package main

import (
	"html"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"latchkey/webmanager"
)

// hiddenField is the value of a field that a form has for the next one.
func hiddenField(t *testing.T, page, name string) string {
	t.Helper()
	m := regexp.MustCompile(`type="hidden" name="` + name + `" value="([^"]*)"`).FindStringSubmatch(page)
	if m == nil {
		t.Fatalf("no hidden field %s in %s", name, page)
	}
	return html.UnescapeString(m[1])
}

// TestJourneyOfTheNotice is what the notice promised, by the pages alone and without a script: the domain's owner switches authentication off, reads
// who sent how much until now, names the office's network, types the domain's name. Then the office sends without AUTH and nobody else does, a refusal
// leads to its explanation, and the hour over it is as before.
func TestJourneyOfTheNotice(t *testing.T) {
	withoutWaits(t)
	world := newSink(t)
	s := newTestServer(t, "example.com")
	s.config.Web.Listen = []string{"127.0.0.1:0"}
	s.sendsTo(world.port(), "other.example")
	s.start()
	s.do("POST", webmanager.Path("accounts"), webmanager.NewAccount{Name: "olga", Password: "password of olga", Owner: true}, nil)
	s.addAccount("anna", "password of anna")
	s.addAccount("bert", "password of bert")
	const office, elsewhere = "127.0.0.9", "127.0.0.8"
	post := func(source, from string) error { return s.sendFrom(source, from, "friend@other.example") }

	// A day's work: anna twice with AUTH, bert three times from the office by POP before SMTP.
	for range 2 {
		s.send("anna", "password of anna", []string{"friend@other.example"}, message("with AUTH"))
	}
	bert := s.popOn(s.dialFrom(office, "pop3"))
	if err := bert.login("bert", "password of bert"); err != nil {
		t.Fatal(err)
	}
	bert.must("QUIT")
	for range 3 {
		if err := post(office, "bert@example.com"); err != nil {
			t.Fatal(err)
		}
	}
	world.wait(5)

	olga := newVisitor(t, "http://"+s.addr("web"))
	login := func() {
		t.Helper()
		olga.has(olga.ask("/login", url.Values{"name": {"olga"}, "password": {"password of olga"}}), "200 OK")
	}
	login()
	page := olga.ask("/sending", nil)
	olga.has(page, "200 OK", "Authenticated SMTP")
	form := url.Values{
		"version": {hiddenField(t, page, "version")}, "require_auth": {"off"}, "trusted_networks": {office + "/32"}, "off": {"1h"}, "outgoing_mail": {"on"},
	}
	preview := olga.ask("/sending", form)
	olga.has(preview, "200 OK",
		"Whoever is in 127.0.0.9/32 can send to other domains without AUTH, as any address of the domain that exists, to 100 recipients an hour",
		"1 address sent 3 messages from 127.0.0.9/32 in the last 30 days: 127.0.0.9.",
		"1 mailbox and 1 address sent 3 messages by POP before SMTP in the last 30 days; they will have to turn on AUTH: bert.",
		"1 grant that is live now would end at once.", "Authentication is asked for again by itself from ", "type the name of the domain: example.com")
	if err := post(office, "anna@example.com"); err == nil {
		t.Fatal("a preview let somebody in")
	}
	apply := url.Values{"change": {hiddenField(t, preview, "change")}, "confirm": {"another.example"}}
	olga.has(olga.ask("/sending/apply", apply), "is not the name of the domain")
	if err := post(office, "anna@example.com"); err == nil {
		t.Fatal("a word that is not the domain's name was enough")
	}
	apply.Set("confirm", "example.com")
	olga.has(olga.ask("/sending/apply", apply), "200 OK", "is off", "on again")

	for _, from := range []string{"anna@example.com", "bert@example.com"} {
		if err := post(office, from); err != nil {
			t.Errorf("%s from the office: %v", from, err)
		}
	}
	for _, got := range world.wait(7)[5:] {
		if !strings.Contains(got.data, "trusted network 127.0.0.9/32") {
			t.Errorf("delivered: %s", got.data)
		}
	}
	refused := post(elsewhere, "anna@example.com")
	wantCode(t, "from elsewhere", refused, 550)
	wantCode(t, "as nobody of the domain", post(office, "nobody@example.com"), 550)
	wantCode(t, "as a stranger", post(office, "somebody@else.example"), 550)
	code := regexp.MustCompile(`L-[0-9A-Za-z-]+`).FindString(refused.Error())
	olga.has(olga.ask("/explain/"+code, nil), "200 OK", elsewhere)
	olga.has(olga.ask("/audit", nil), "olga", "require_auth", "127.0.0.1")

	s.turnClock(time.Hour + time.Second)
	wantCode(t, "an hour later", post(office, "anna@example.com"), 550)
	login() // nobody was here for an hour
	page = olga.ask("/sending", nil)
	if m := regexp.MustCompile(`id="auth-on"[^>]*`).FindString(page); !strings.Contains(m, "checked") {
		t.Errorf("the page says that authentication is still off: %q", m)
	}
	s.stop()
	s.start() // the timer sleeps by the real clock; at the start it catches up
	eventually(t, "the timer to write it down", func() bool {
		var view webmanager.SettingsView
		s.do("GET", webmanager.Path("settings"), nil, &view)
		return view.RequireAuth && len(view.TrustedNetworks) == 1 && view.TrustedNetworks[0] == netip.MustParsePrefix(office+"/32")
	})
	if _, out, _ := s.latchkey("audit"); !strings.Contains(out, "timer") {
		t.Errorf("audit: %s", out)
	}
	if got := world.all(); len(got) != 7 {
		t.Errorf("%d messages left the domain, want 7", len(got))
	}
}
