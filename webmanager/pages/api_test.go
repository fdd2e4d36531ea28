package pages

import (
	"encoding/json"
	"io"
	"net/http/httptest"
	"strings"
	"testing"

	"latchkey/webmanager"
)

// TestAPI: the JSON API takes tokens, in their role, and nothing else.
func TestAPI(t *testing.T) {
	s := newSite(t, nil)
	token := func(n webmanager.NewToken) string {
		t.Helper()
		var added webmanager.AddedToken
		s.do("POST", webmanager.Path("tokens"), n, &added)
		return "Bearer " + added.Text
	}
	owner, reader := token(webmanager.NewToken{Name: "o", Role: webmanager.RoleOwner}), token(webmanager.NewToken{Name: "r", Role: webmanager.RoleOperator, ReadOnly: true})
	anna := token(webmanager.NewToken{Name: "a", Role: webmanager.RoleMailbox, Mailbox: "anna"})
	signedIn := s.in("olga")
	for _, tt := range []struct {
		authorization, method, path, body string
		status                            int
		words                             string
	}{
		{"", "GET", "/api/v1/accounts", "", 401, "a token is needed"},
		{"Bearer", "GET", "/api/v1/accounts", "", 401, "no_token"},
		{"Bearer lkt_x_y", "GET", "/api/v1/accounts", "", 401, "no_token"},
		{"Basic " + strings.TrimPrefix(owner, "Bearer "), "GET", "/api/v1/accounts", "", 401, "no_token"},
		{owner, "GET", "/api/v1/accounts", "", 200, "anna@example.com"},
		{strings.Replace(owner, "Bearer", "bearer", 1), "GET", "/api/v1/accounts", "", 200, "anna@example.com"},
		{owner, "GET", "/api/v1/check", "", 403, "you may not do that"},
		{owner, "POST", "/api/v1/accounts", `{"name":"dora","password":"12345678"}`, 200, "dora@example.com"},
		{owner, "GET", "/api/v1/accounts/anna%40example.com", "", 200, "anna@example.com"},
		{reader, "GET", "/api/v1/check", "", 200, "problems"},
		{reader, "DELETE", "/api/v1/accounts/dora", "", 403, "this token may only read"},
		{anna, "GET", "/api/v1/accounts/anna", "", 200, "anna@example.com"},
		{anna, "GET", "/api/v1/accounts/bert", "", 403, "you may not do that"},
		{owner, "GET", "/api/v1/nothing", "", 404, "no such path"},
		{owner, "GET", "/api/", "", 404, "no such path"},
		{owner, "PATCH", "/api/v1/settings", `{"send_then_check":true,"grant_ipv6_bits":64,"cleartext_login":true}`, 428, "must be confirmed"},
	} {
		r := httptest.NewRequest(tt.method, tt.path, strings.NewReader(tt.body))
		r.Header.Set("Content-Type", "application/json")
		if tt.authorization != "" {
			r.Header.Set("Authorization", tt.authorization)
		}
		p := signedIn.do(r) // whose cookie counts for nothing here
		if p.status != tt.status || !strings.Contains(p.body, tt.words) || p.head.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s: %d %s, want %d %q", tt.method, tt.path, p.status, p.body, tt.status, tt.words)
		}
		if challenged := p.head.Get("WWW-Authenticate") != ""; challenged != (tt.status == 401) {
			t.Errorf("%s %s: challenge %q", tt.method, tt.path, p.head.Get("WWW-Authenticate"))
		}
	}
	if p := s.browser().get("/api/openapi.json"); p.status != 200 || !strings.Contains(p.body, `"openapi": "3.1.0"`) {
		t.Errorf("the description: %d %.100s", p.status, p.body)
	}
	entries, err := s.store.ListAudit(t.Context(), 0, 1)
	if err != nil || !strings.HasPrefix(entries[0].Actor, "token ") || entries[0].Remote.String() != "127.0.0.1" {
		t.Errorf("audited as %+v, %v", entries, err)
	}
	var refusal webmanager.Error
	r := httptest.NewRequest("GET", "/api/v1/accounts", nil)
	if err := json.NewDecoder(io.LimitReader(strings.NewReader(signedIn.do(r).body), 1<<16)).Decode(&refusal); err != nil || refusal.Code != webmanager.CodeNoToken {
		t.Errorf("got %+v, %v", refusal, err)
	}
}
