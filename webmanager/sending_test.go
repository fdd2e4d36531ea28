package webmanager

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"latchkey/store"
)

// TestConfirmation: what loosens needs the domain's name, and is refused with what it would do; what tightens needs nothing.
func TestConfirmation(t *testing.T) {
	f := newFixture(t)
	f.add("anna")
	f.sent(29, store.SentAuth, "anna", "192.0.2.7", 12)
	loosening := map[string]any{"require_auth": false, "trusted_networks": []string{"192.0.2.0/24"}}
	for _, typed := range []any{nil, "", "yes", "other.example", "example.com.evil.example"} {
		if typed != nil {
			loosening["confirm"] = typed
		}
		err := f.client.Do(t.Context(), "PATCH", "/v1/settings", loosening, nil)
		if !isCode(err, CodeConfirm) || !strings.Contains(err.Error(), "1 address sent 12 messages from 192.0.2.0/24 in the last 30 days") {
			t.Errorf("typed %v: got %v", typed, err)
		}
	}
	status, body := f.raw("PATCH", "/v1/settings", "application/json", `{"cleartext_login":true}`)
	var e Error
	if err := json.Unmarshal([]byte(body), &e); err != nil || status != 428 || len(e.Consequences) != 1 {
		t.Errorf("got %d %s", status, body)
	}
	if s, err := f.store.Settings(t.Context()); err != nil || !s.RequireAuth || s.CleartextLogin {
		t.Errorf("refused, and changed: %+v, %v", s, err)
	}
	for body, message := range map[string]string{
		`{"cleartext_login":true}`:                     "this allows more than before, so it must be confirmed",
		`{"expire_days":30}`:                           "this removes mail for good, so it must be confirmed",
		`{"old_client_login":true,"expire_days":3650}`: "this allows more than before and removes mail for good, so it must be confirmed",
	} {
		if status, answer := f.raw("PATCH", "/v1/settings", "application/json", body); status != 428 || !strings.Contains(answer, message) {
			t.Errorf("%s: got %d %s", body, status, answer)
		}
	}
	if s, err := f.store.Settings(t.Context()); err != nil || s.ExpireDays != 0 || s.OldClientLogin {
		t.Errorf("refused, and changed: %+v, %v", s, err)
	}
	loosening["confirm"] = "EXAMPLE.com"
	f.do("PATCH", "/v1/settings", loosening, nil)
	f.do("PATCH", "/v1/settings", map[string]any{"require_auth": true}, nil)
	if s, err := f.store.Settings(t.Context()); err != nil || !s.RequireAuth {
		t.Errorf("got %+v, %v", s, err)
	}
}

// TestTimerBounds: authentication may be off for a minute to 30 days, or without end.
func TestTimerBounds(t *testing.T) {
	f := newFixture(t)
	for _, tt := range []struct {
		key, value string
		ok         bool
		want       time.Duration
	}{
		{"require_auth_for", "59s", false, 0}, {"require_auth_for", "60s", true, time.Minute}, {"require_auth_for", "61s", true, 61 * time.Second},
		{"require_auth_for", "719h", true, 719 * time.Hour}, {"require_auth_for", "30d", true, 720 * time.Hour}, {"require_auth_for", "720h1s", false, 0},
		{"require_auth_for", "31d", false, 0}, {"require_auth_for", "-2h", false, 0}, {"require_auth_for", "soon", false, 0}, {"require_auth_for", "70000d", false, 0},
		{"require_auth_at", "2026-04-01T12:00:59Z", false, 0}, {"require_auth_at", "2026-04-01T12:01:00Z", true, time.Minute},
		{"require_auth_at", "2026-05-01T12:00:00Z", true, 720 * time.Hour}, {"require_auth_at", "2026-05-01T12:00:01Z", false, 0},
		{"require_auth_at", "2026-04-01T14:00:00+02:00", false, 0}, {"require_auth_at", "tomorrow", false, 0},
	} {
		var changed SettingsChanged
		err := f.client.Do(t.Context(), "PATCH", "/v1/settings", map[string]any{"require_auth": false, tt.key: tt.value, "confirm": domain}, &changed)
		if (err == nil) != tt.ok || err == nil && !changed.RequireAuthAt.Equal(noon.Add(tt.want)) {
			t.Errorf("%s=%s: got %v, %v", tt.key, tt.value, changed.RequireAuthAt, err)
		}
		if err != nil && !isCode(err, CodeInvalid) {
			t.Errorf("%s=%s: got %v", tt.key, tt.value, err)
		}
		changed = SettingsChanged{}
		f.do("PATCH", "/v1/settings", map[string]any{"require_auth": true}, &changed)
		if !changed.RequireAuthAt.IsZero() || !changed.AuthRequired {
			t.Errorf("on again: got %+v", changed)
		}
	}
	for _, body := range []map[string]any{
		{"require_auth_for": "2h"}, {"require_auth_at": noon.Add(time.Hour)},
		{"require_auth": false, "require_auth_for": "2h", "require_auth_at": noon.Add(time.Hour)},
		{"require_auth": true, "require_auth_for": "2h"}, {"require_auth": false, "require_auth_for": 7}, {"require_auth": false, "confirm": 7},
	} {
		if err := f.client.Do(t.Context(), "PATCH", "/v1/settings", body, nil); !isCode(err, CodeInvalid) {
			t.Errorf("%v: got %v", body, err)
		}
	}
}

// TestTimeThatHasCome: a timer that ran out counts as on, for what is shown and for what the next change starts from.
func TestTimeThatHasCome(t *testing.T) {
	f := newFixture(t)
	f.do("PATCH", "/v1/settings", map[string]any{"require_auth": false, "require_auth_for": "1m", "confirm": domain}, nil)
	now := noon.Add(time.Minute)
	f.api.now = func() time.Time { return now }
	var view SettingsView
	f.do("GET", "/v1/settings", nil, &view)
	if view.RequireAuth || !view.AuthRequired {
		t.Errorf("got %+v", view)
	}
	if err := f.client.Do(t.Context(), "PATCH", "/v1/settings", map[string]any{"require_auth": false}, nil); !isCode(err, CodeConfirm) {
		t.Errorf("off again without a confirmation: %v", err)
	}
	var changed SettingsChanged
	f.do("PATCH", "/v1/settings", map[string]any{"recipients": 200}, &changed)
	if !changed.RequireAuth || !changed.RequireAuthAt.IsZero() {
		t.Errorf("got %+v", changed)
	}
}

func TestNetworkBounds(t *testing.T) {
	f := newFixture(t)
	for _, key := range []string{"trusted_networks", "no_grant_networks"} {
		for n := store.MaxNetworks - 1; n <= store.MaxNetworks+1; n++ {
			list := make([]string, n)
			for i := range list {
				list[i] = fmt.Sprintf("192.0.2.%d", i)
			}
			if err := f.client.Do(t.Context(), "PATCH", "/v1/settings", map[string]any{key: list, "confirm": domain}, nil); (err == nil) != (n <= store.MaxNetworks) {
				t.Errorf("%s, %d networks: got %v", key, n, err)
			}
		}
	}
	for _, tt := range []struct {
		network string
		ok      bool
	}{
		{"0.0.0.0/0", false}, {"10.0.0.0/8", false}, {"10.0.0.0/15", false}, {"10.0.0.0/16", true}, {"10.0.0.0/17", true}, {"10.0.0.1/17", false},
		{"2001:db8::/47", false}, {"2001:db8::/48", true}, {"2001:db8::/49", true}, {"::ffff:192.0.2.0/120", false}, {"fe80::1%eth0", false},
		{"192.0.2.7", true}, {"::ffff:192.0.2.7", true}, {"localhost", false}, {"", false},
	} {
		var changed SettingsChanged
		err := f.client.Do(t.Context(), "PATCH", "/v1/settings", map[string]any{"trusted_networks": []string{tt.network}}, &changed)
		if (err == nil) != tt.ok || err != nil && !isCode(err, CodeInvalid) {
			t.Errorf("%q: got %v, %v", tt.network, changed.TrustedNetworks, err)
		}
	}
	var changed SettingsChanged
	f.do("PATCH", "/v1/settings", map[string]any{"trusted_networks": []string{"192.0.2.7", "10.0.0.0/16", "::ffff:192.0.2.7"}}, &changed)
	if want := networks("10.0.0.0/16", "192.0.2.7/32"); !slices.Equal(changed.TrustedNetworks, want) {
		t.Errorf("got %v, want %v", changed.TrustedNetworks, want)
	}
}

// inbox returns the mail of a mailbox, the newest last.
func (f *fixture) inbox(name string) []string {
	f.Helper()
	m, err := f.store.OpenMaildrop(f.Context(), f.account(name).ID)
	if err != nil {
		f.Fatal(err)
	}
	defer func() {
		if err := m.Close(); err != nil {
			f.Error(err)
		}
	}()
	messages, err := m.Messages(f.Context())
	if err != nil {
		f.Fatal(err)
	}
	var mail []string
	for message := range messages {
		r, err := m.OpenMessage(f.Context(), message.ID)
		if err != nil {
			f.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			f.Fatal(err)
		}
		if err := r.Close(); err != nil {
			f.Fatal(err)
		}
		mail = append(mail, string(text))
	}
	return mail
}

// TestNotice: postmaster is told of what loosens, and of authentication that is on again; of nothing else.
func TestNotice(t *testing.T) {
	f := newFixture(t)
	f.add("postmaster")
	for i, tt := range []struct {
		body map[string]any
		mail int
		want []string
	}{
		{map[string]any{"recipients": 200, "trusted_networks": []string{"192.0.2.0/24"}}, 0, nil},
		{map[string]any{"require_auth": false, "require_auth_for": "2h", "confirm": domain}, 1, []string{
			"Return-Path: <>\r\nDelivered-To: postmaster@example.com\r\nFrom: Latchkey <postmaster@example.com>\r\n", "\r\nAuto-Submitted: auto-generated\r\n",
			"\r\n\r\ntester changed the settings of example.com at 2026-04-01T12:00:00Z.\r\n\r\n  require_auth: off, before: on\r\n",
			"\r\n  require_auth_at: 2026-04-01T14:00:00Z, before: nothing\r\n", "\r\n- whoever is in 192.0.2.0/24 can send to other domains without AUTH, as any\r\n  address of",
		}},
		{map[string]any{"recipients": 300, "exclusive_maildrop": true, "login_delay": 60}, 1, nil},
		{map[string]any{"require_auth": true}, 2, []string{"  require_auth: on, before: off\r\n"}},
		{map[string]any{"expire_days": 3000, "confirm": domain}, 3, []string{"  expire_days: 3000, before: 0\r\n"}},
	} {
		f.do("PATCH", "/v1/settings", tt.body, nil)
		mail := f.inbox("postmaster")
		if len(mail) != tt.mail {
			t.Fatalf("change %d: got %d messages, want %d", i, len(mail), tt.mail)
		}
		for _, want := range tt.want {
			if got := mail[len(mail)-1]; !strings.Contains(got, want) {
				t.Errorf("change %d: got\n%s\nwant %q", i, got, want)
			}
		}
		for _, line := range strings.Split(strings.Join(mail, ""), "\r\n") {
			if len(line) > 78 || strings.ContainsAny(line, "\r\n") {
				t.Errorf("change %d: line of %d octets: %q", i, len(line), line)
			}
		}
	}
}
