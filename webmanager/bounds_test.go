package webmanager

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"latchkey/store"
)

func TestBodyBounds(t *testing.T) {
	f := newFixture(t)
	for _, n := range []int{MaxBodySize - 1, MaxBodySize, MaxBodySize + 1} {
		body := `{"name":"x","password":"`
		body += strings.Repeat("p", n-len(body)-2) + `"}`
		_, answer := f.raw("POST", "/v1/accounts", "application/json", body)
		want := string(CodeInvalid) // the password is too long
		if n > MaxBodySize {
			want = string(CodeTooLarge)
		}
		if !strings.Contains(answer, `"code":"`+want+`"`) {
			t.Errorf("%d octets: got %.80s, want %s", n, answer, want)
		}
	}
	for _, media := range []string{"", "text/plain", "application/x-www-form-urlencoded", "application/json; charset=\""} {
		if status, _ := f.raw("POST", "/v1/accounts", media, "{}"); status != http.StatusUnsupportedMediaType {
			t.Errorf("media type %q: got %d", media, status)
		}
	}
	if status, _ := f.raw("POST", "/v1/accounts", "application/json; charset=utf-8", "{}"); status != http.StatusUnprocessableEntity {
		t.Errorf("media type with charset: got %d", status)
	}
}

func TestNewAccountBounds(t *testing.T) {
	f := newFixture(t)
	x := func(n int) string { return strings.Repeat("x", n) }
	for _, tt := range []struct {
		name string
		body NewAccount
		ok   bool
	}{
		{"password of 7", NewAccount{Name: "a7", Password: x(7)}, false},
		{"password of 8", NewAccount{Name: "a8", Password: x(8)}, true},
		{"password of 8 characters of two octets", NewAccount{Name: "a8u", Password: strings.Repeat("ü", 8)}, true},
		{"password of 7 characters of two octets", NewAccount{Name: "a7u", Password: strings.Repeat("ü", 7)}, false},
		{"password of 1023", NewAccount{Name: "a1023", Password: x(1023)}, true},
		{"password of 1024", NewAccount{Name: "a1024", Password: x(1024)}, true},
		{"password of 1025", NewAccount{Name: "a1025", Password: x(1025)}, false},
		{"empty name", NewAccount{Name: "", Password: x(8)}, false},
		{"name of 1", NewAccount{Name: "y", Password: x(8)}, true},
		{"name of 63", NewAccount{Name: x(63), Password: x(8)}, true},
		{"name of 64", NewAccount{Name: x(64), Password: x(8)}, true},
		{"name of 65", NewAccount{Name: x(65), Password: x(8)}, false},
		{"display name of 199", NewAccount{Name: "d199", Password: x(8), DisplayName: x(199)}, true},
		{"display name of 200", NewAccount{Name: "d200", Password: x(8), DisplayName: x(200)}, true},
		{"display name of 201", NewAccount{Name: "d201", Password: x(8), DisplayName: x(201)}, false},
	} {
		if err := f.client.Do(t.Context(), "POST", "/v1/accounts", tt.body, nil); (err == nil) != tt.ok {
			t.Errorf("%s: got %v, want ok %v", tt.name, err, tt.ok)
		}
	}
}

func TestListBounds(t *testing.T) {
	f := newFixture(t)
	f.add("y")
	for n := store.MaxSendAs - 1; n <= store.MaxSendAs+1; n++ {
		list := make([]string, n)
		for i := range list {
			list[i] = fmt.Sprintf("a%d@other.example", i)
		}
		if err := f.client.Do(t.Context(), "PATCH", "/v1/accounts/y", AccountChange{SendAs: &list}, nil); (err == nil) != (n <= store.MaxSendAs) {
			t.Errorf("%d send-as addresses: got %v", n, err)
		}
	}
	for n := store.MaxAliasTargets - 1; n <= store.MaxAliasTargets+1; n++ {
		targets := AliasTargets{make([]string, n)}
		for i := range targets.Targets {
			targets.Targets[i] = "y"
		}
		if err := f.client.Do(t.Context(), "PUT", "/v1/aliases/all", targets, nil); (err == nil) != (n <= store.MaxAliasTargets) {
			t.Errorf("%d targets: got %v", n, err)
		}
	}
}

func TestSettingBounds(t *testing.T) {
	f := newFixture(t)
	for _, tt := range []struct {
		key   string
		value int64
		ok    bool
	}{
		{"message_size", store.MinMessageSize - 1, false}, {"message_size", store.MinMessageSize, true}, {"message_size", store.MinMessageSize + 1, true},
		{"message_size", store.MaxMessageSize - 1, true}, {"message_size", store.MaxMessageSize, true}, {"message_size", store.MaxMessageSize + 1, false},
		{"recipients", store.MinRecipients - 1, false}, {"recipients", store.MinRecipients, true}, {"recipients", store.MinRecipients + 1, true},
		{"recipients", store.MaxRecipients - 1, true}, {"recipients", store.MaxRecipients, true}, {"recipients", store.MaxRecipients + 1, false},
	} {
		if err := f.client.Do(t.Context(), "PATCH", "/v1/settings", map[string]int64{tt.key: tt.value}, nil); (err == nil) != tt.ok {
			t.Errorf("%s = %d: got %v, want ok %v", tt.key, tt.value, err, tt.ok)
		}
	}
	for n := store.MaxOutsideSenders - 1; n <= store.MaxOutsideSenders+1; n++ {
		list := make([]string, n)
		for i := range list {
			list[i] = fmt.Sprintf("a%d@example.com", i)
		}
		if err := f.client.Do(t.Context(), "PATCH", "/v1/settings", map[string]any{"outside_senders": list, "confirm": domain}, nil); (err == nil) != (n <= store.MaxOutsideSenders) {
			t.Errorf("%d outside senders: got %v", n, err)
		}
	}
}

func TestQueryBounds(t *testing.T) {
	f := newFixture(t)
	for n := maxTrailWords - 1; n <= maxTrailWords+1; n++ {
		if err := f.client.Do(t.Context(), "GET", "/v1/trail?for="+strings.Repeat("x", n), nil, nil); (err == nil) != (n <= maxTrailWords) {
			t.Errorf("trail of %d octets: got %v", n, err)
		}
	}
	for _, limit := range []int{1, MaxListLimit - 1, MaxListLimit} {
		f.do("GET", fmt.Sprintf("/v1/accounts?limit=%d", limit), nil, nil)
	}
	for _, limit := range []int{1, MaxTrailLimit - 1, MaxTrailLimit} {
		f.do("GET", fmt.Sprintf("/v1/trail?for=x&limit=%d", limit), nil, nil)
	}
}

func TestAuditTextIsBounded(t *testing.T) {
	for n := maxAuditText - 1; n <= maxAuditText+1; n++ {
		got := auditText(strings.Repeat("x", n-2)) // and two quotes
		if len(got) != min(n, maxAuditText) || strings.HasSuffix(got, "...") != (n > maxAuditText) {
			t.Errorf("%d octets: got %d, ends %q", n, len(got), got[len(got)-3:])
		}
	}
	if got := auditText(strings.Repeat("ü", maxAuditText)); !strings.HasSuffix(got, "ü...") {
		t.Errorf("cut within a character: ends %q", got[len(got)-6:])
	}
}
