package main

import (
	"encoding/json"
	"html"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"latchkey/internal/passkey/passkeytest"
	"latchkey/webmanager"
)

// hiddenTicket and dataOptions find what a page gives its script.
var (
	hiddenTicket = regexp.MustCompile(`name="ticket" value="([^"]+)"`)
	dataOptions  = regexp.MustCompile(`data-options="([^"]+)"`)
)

// shown is what a page has where a pattern says so.
func shown(t *testing.T, page string, pattern *regexp.Regexp) string {
	t.Helper()
	found := pattern.FindStringSubmatch(page)
	if found == nil {
		t.Fatalf("%s is not in %s", pattern, page)
	}
	return html.UnescapeString(found[1])
}

// showPasskey signs in with a passkey.
func (v *visitor) showPasskey(device *passkeytest.Authenticator) string {
	v.t.Helper()
	_, answer, _ := strings.Cut(v.ask("/login/passkey/begin", url.Values{}), "\n")
	var asked webmanager.PasskeyOptions
	if err := json.Unmarshal([]byte(answer), &asked); err != nil {
		v.t.Fatalf("%s: %v", answer, err)
	}
	response, err := device.Prove(asked.Options)
	if err != nil {
		v.t.Fatal(err)
	}
	return v.ask("/login/passkey", url.Values{"ticket": {asked.Ticket}, "response": {string(response)}})
}

// TestPasskeySurvives: a passkey that was made signs in to the server that was started again, and the command line ends it.
func TestPasskeySurvives(t *testing.T) {
	s := newTestServer(t, "example.com")
	s.config.Web.Listen = []string{"127.0.0.1:0"}
	s.start()
	s.addAccount("anna", "password of anna")
	base := func() string { return "http://localhost" + strings.TrimPrefix(s.addr("web"), "127.0.0.1") }
	s.config.Web.Listen = []string{s.addr("web")} // the same after the next start

	anna, device := newVisitor(t, base()), passkeytest.New(base())
	anna.ask("/login", url.Values{"name": {"anna"}, "password": {"password of anna"}})
	page := anna.ask("/mailbox/anna/passkeys", url.Values{"passkey_name": {"Telephone"}, "passkey_current": {"password of anna"}})
	response, err := device.Create([]byte(shown(t, page, dataOptions)))
	if err != nil {
		t.Fatal(err)
	}
	made := url.Values{"passkey_name": {"Telephone"}, "ticket": {shown(t, page, hiddenTicket)}, "response": {string(response)}}
	anna.has(anna.ask("/mailbox/anna/passkeys/add", made), "200 OK", "The passkey Telephone is there.")
	anna.has(newVisitor(t, base()).showPasskey(device), "200 OK", "My mailbox")
	s.stop()
	s.start()
	anna.has(newVisitor(t, base()).showPasskey(device), "200 OK", "My mailbox")
	if status, list, _ := s.latchkey("passkey", "list", "anna"); status != 0 || !strings.Contains(list, "Telephone") || strings.Contains(list, "never") {
		t.Errorf("%d %s", status, list)
	}
	s.must("passkey", "remove", "anna", "telephone")
	anna.has(newVisitor(t, base()).showPasskey(device), "401 ", "That did not let you in")
	if _, log, _ := s.latchkey("audit"); !strings.Contains(log, "passkey.add") || !strings.Contains(log, "passkey.sign-in") || !strings.Contains(log, "passkey.remove") {
		t.Errorf("the audit log is %s", log)
	}
}
