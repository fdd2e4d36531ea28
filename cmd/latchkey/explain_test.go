package main

import (
	"net/smtp"
	"net/url"
	"strings"
	"testing"
	"time"

	"latchkey/internal/refusal"
	"latchkey/webmanager"
)

// TestExplainCoversEveryRefusal: by code and by name, also while no server runs.
func TestExplainCoversEveryRefusal(t *testing.T) {
	s := newTestServer(t, "example.com")
	s.start()
	for _, row := range refusal.All() {
		for _, word := range []string{row.Name.Code(), string(row.Name)} {
			var e webmanager.Explanation
			s.do("GET", "/v1/refusals/"+url.PathEscape(word), nil, &e)
			if e.Name != row.Name || e.Code != row.Name.Code() || e.Cause == "" || e.Cure == "" || e.SMTP+e.POP3 == "" || e.Events == nil {
				t.Errorf("%s: %+v", word, e)
			}
		}
	}
	s.stop()
	status, out, _ := s.latchkey("explain", refusal.RelayDenied.Code())
	if status != 0 || !strings.Contains(out, "relay-denied") || !strings.Contains(out, "never, since the server was started") {
		t.Errorf("offline: %d %s", status, out)
	}
	if status, _, stderr := s.latchkey("explain", "L-000"); status != 1 || !strings.Contains(stderr, "there is no refusal of that code or name") {
		t.Errorf("an unknown code: %d %s", status, stderr)
	}
}

// TestExplainShowsTheDecision: who was refused, and by which facts; passwords and what was typed in the place of a name are in none of it.
func TestExplainShowsTheDecision(t *testing.T) {
	s := newTestServer(t, "example.com")
	s.config.Proxies = append(s.config.Proxies, proxiedServer(t).config.Proxies...)
	s.start()
	s.addAccount("anna", "password of anna")
	s.do("PATCH", "/v1/settings", map[string]any{"cleartext_login": true, "confirm": "example.com"}, nil)
	explain := func(name refusal.Name, args ...string) string {
		t.Helper()
		status, out, stderr := s.latchkey(append([]string{"explain", name.Code()}, args...)...)
		if status != 0 {
			t.Fatalf("%d %s", status, stderr)
		}
		return out
	}
	p := s.popOn(s.throughProxy("pop3", behindProxy))
	if err := p.login("anna", "password of anna"); err != nil {
		t.Fatal(err)
	}
	p.must("QUIT")
	s.turnClock(24 * time.Minute) // a grant lives for 20
	c, err := smtp.NewClient(s.throughProxy("mx", behindProxy), "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, "with an expired grant", c.Mail("anna@example.com"), 450)
	out := explain(refusal.RelayGrantExpired)
	for _, want := range []string{"at mx to 203.0.113.7 MAIL", "mailbox     anna@example.com", "facts       grant: expired since ", ", 4m0s ago", "(" + refusal.RelayGrantExpired.Code() + ")"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	if out := explain(refusal.RelayGrantExpired, "--address", "203.0.113.8"); strings.Contains(out, "203.0.113.7") {
		t.Errorf("of another address\n%s", out)
	}
	p = s.popOn(s.throughProxy("pop3", behindProxy))
	wantAuthRefusal(t, "a wrong password", p.login("secretname", "secretword"))
	out = explain(refusal.AuthWrongPassword)
	if !strings.Contains(out, "at pop3 to 203.0.113.7 USER") || strings.Contains(out, "secret") {
		t.Errorf("got\n%s", out)
	}
	client := s.submission("anna", "password of anna")
	wantCode(t, "somebody else's address", client.Mail("postmaster@example.com"), 550)
	if out := explain(refusal.SenderNotYours); !strings.Contains(out, "facts       anna@example.com wants to send as <postmaster@example.com>") {
		t.Errorf("got\n%s", out)
	}
}
