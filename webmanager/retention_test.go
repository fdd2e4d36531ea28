package webmanager

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// receives puts a message into a mailbox that came so long before noon.
func (f *fixture) receives(name string, age time.Duration) {
	f.Helper()
	draft, err := f.store.NewDraft(f.Context())
	if err != nil {
		f.Fatal(err)
	}
	const text = "Subject: x\r\n\r\n"
	if _, err := draft.Write([]byte(text)); err != nil {
		f.Fatal(err)
	}
	to, err := mailaddr.New(name, "example.com")
	if err != nil {
		f.Fatal(err)
	}
	_, err = draft.Commit(f.Context(), store.Envelope{
		Received: noon.Add(-age), HeaderLen: int64(len(text)), Recipients: []store.Recipient{{Address: to, Account: f.account(name).ID}},
	})
	if err != nil {
		f.Fatal(err)
	}
}

// TestRetention: what a number of days comes to, with the true number of messages that would go.
func TestRetention(t *testing.T) {
	f := newFixture(t)
	f.add("anna")
	for _, days := range []int{1, 10, 30, 31, 400} {
		f.receives("anna", time.Duration(days)*24*time.Hour)
	}
	for _, tt := range []struct {
		domain, own, asked int
		days               int
		leaving            int64
		sooner             bool
	}{
		{0, 0, 0, 0, 0, false},
		{0, 0, store.ExpireNever, 0, 0, false},
		{0, 0, 30, 30, 2, true}, // what came to the moment 30 days ago stays
		{0, 0, 29, 29, 3, true},
		{0, 0, 1, 1, 4, true},
		{0, 0, store.MaxExpireDays, store.MaxExpireDays, 0, true},
		{30, 0, 0, 30, 2, false},
		{30, 0, 31, 31, 1, false},
		{30, 0, store.ExpireNever, 0, 0, false},
		{30, store.ExpireNever, 0, 30, 2, true},
		{30, 60, 0, 30, 2, true},
		{30, 60, 59, 59, 1, true},
		{30, 60, 60, 60, 1, false},
		{30, 7, 0, 30, 2, false},
	} {
		f.set(tt.domain, tt.own)
		var got Retention
		f.do("GET", fmt.Sprintf("/v1/accounts/anna/retention?days=%d", tt.asked), nil, &got)
		if got.Own != tt.asked || got.Domain != tt.domain || got.Days != tt.days || got.Leaving.Messages != tt.leaving || got.Sooner != tt.sooner ||
			(got.Leaving.Octets > 0) != (tt.leaving > 0) {
			t.Errorf("%+v: got %+v", tt, got)
		}
		said := strings.Join(got.Consequences, "\n")
		if tt.days > 0 && !strings.Contains(said, count(tt.leaving, "message", "messages")+" (") || tt.days == 0 && !strings.Contains(said, "until somebody deletes them") {
			t.Errorf("%+v: %s", tt, said)
		}
	}
	f.set(30, 5)
	var got Retention
	if f.do("GET", "/v1/accounts/anna/retention", nil, &got); got.Own != 5 || got.Days != 5 || got.Sooner {
		t.Errorf("as it is: %+v", got)
	}
	for _, days := range []string{"-2", "3651", "x", "1.5"} {
		if status, answer := f.raw("GET", "/v1/accounts/anna/retention?days="+days, "", ""); status == 200 || !strings.Contains(answer, `"days"`) {
			t.Errorf("%s: %d %s", days, status, answer)
		}
	}
	yes := true
	f.do("PATCH", "/v1/accounts/anna", AccountChange{Suspended: &yes}, nil)
	f.do("GET", "/v1/accounts/anna/retention?days=1", nil, &got)
	if got.Leaving.Messages != 0 || !strings.Contains(got.Consequences[1], "suspended") {
		t.Errorf("of a suspended mailbox: %+v", got)
	}
}

// set makes the domain's and anna's own number of days.
func (f *fixture) set(domain, own int) {
	f.Helper()
	s, err := f.store.Settings(f.Context())
	if err != nil {
		f.Fatal(err)
	}
	s.ExpireDays = domain
	if _, err := f.store.UpdateSettings(f.Context(), s); err != nil {
		f.Fatal(err)
	}
	a := f.account("anna")
	a.ExpireDays = own
	if _, err := f.store.UpdateAccount(f.Context(), a); err != nil {
		f.Fatal(err)
	}
}

// TestRetentionConfirmed: what removes mail sooner needs the address, typed; the refusal says what it would do, and changes nothing.
func TestRetentionConfirmed(t *testing.T) {
	f := newFixture(t)
	f.add("anna")
	f.receives("anna", 40*24*time.Hour)
	f.set(60, 0)
	client := InProcess(f.api, Actor{Name: "owner", Role: RoleOwner})
	patch := func(days int, confirm string) error {
		return client.Do(t.Context(), "PATCH", "/v1/accounts/anna", AccountChange{ExpireDays: &days, Confirm: confirm}, nil)
	}
	for _, typed := range []string{"", "anna", "bert@example.com", "example.com"} {
		err := patch(30, typed)
		if !isCode(err, CodeConfirm) || !strings.Contains(fmt.Sprint(err.(*Error).Consequences), "1 message (14 octets) is older") { //nolint:errorlint // isCode said so
			t.Errorf("confirmed with %q: %v", typed, err)
		}
	}
	if got := f.account("anna").ExpireDays; got != 0 {
		t.Fatalf("changed to %d", got)
	}
	for _, step := range []struct {
		days    int
		confirm string
	}{{30, " Anna@Example.com "}, {30, ""}, {31, ""}, {store.ExpireNever, ""}, {0, "anna@example.com"}, {60, ""}} {
		if err := patch(step.days, step.confirm); err != nil || f.account("anna").ExpireDays != step.days {
			t.Errorf("%+v: %v, %d", step, err, f.account("anna").ExpireDays)
		}
	}
	for _, days := range []int{store.ExpireNever - 1, store.MaxExpireDays + 1} {
		if err := patch(days, "anna@example.com"); !isCode(err, CodeInvalid) {
			t.Errorf("%d: %v", days, err)
		}
	}
	if entry := f.audit()[0]; !strings.Contains(entry.After, `"expire_days":60`) || strings.Contains(entry.Before, "expire_days") {
		t.Errorf("audit %+v", entry)
	}
	var p SettingsPreview
	f.do("POST", "/v1/settings/preview", map[string]any{"expire_days": 90}, &p)
	if !strings.Contains(strings.Join(p.Consequences, "\n"), "expire_days of their own") {
		t.Errorf("the domain's owner is told %q", p.Consequences)
	}
}
