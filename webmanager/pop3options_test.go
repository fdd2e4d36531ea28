package webmanager

import (
	"slices"
	"strings"
	"testing"

	"latchkey/store"
)

// TestPOP3Options: each is changed alone, the others stay; what is in the answer is in the store and in the audit log.
func TestPOP3Options(t *testing.T) {
	f := newFixture(t)
	f.add("anna")
	want := store.POP3Options{}
	for _, step := range []struct {
		body string
		set  func(o *store.POP3Options)
	}{
		{`{"replace_nul":true}`, func(o *store.POP3Options) { o.ReplaceNUL = true }},
		{`{"end_header":true}`, func(o *store.POP3Options) { o.EndHeader = true }},
		{`{"status_header":true}`, func(o *store.POP3Options) { o.StatusHeader = true }},
		{`{"last":true}`, func(o *store.POP3Options) { o.Last = true }},
		{`{"select":"new"}`, func(o *store.POP3Options) { o.Select = "new" }},
		{`{}`, func(*store.POP3Options) {}},
		{`{"select":"max=1000000","last":false}`, func(o *store.POP3Options) { o.Select, o.Last = "max=1000000", false }},
		{`{"replace_nul":false}`, func(o *store.POP3Options) { o.ReplaceNUL = false }},
		{`{"end_header":false,"status_header":false,"select":""}`, func(o *store.POP3Options) { *o = store.POP3Options{} }},
	} {
		step.set(&want)
		if status, answer := f.raw("PATCH", "/v1/accounts/anna", "application/json", `{"pop3":`+step.body+`}`); status != 200 {
			t.Fatalf("%s: %d %s", step.body, status, answer)
		}
		var a Account
		f.do("GET", "/v1/accounts/anna", nil, &a)
		if got := f.account("anna").POP3; got != want || a.POP3 != want {
			t.Errorf("%s: got %+v, told %+v, want %+v", step.body, got, a.POP3, want)
		}
	}
	status, answer := f.raw("PATCH", "/v1/accounts/anna", "application/json", `{"suspended":false,"pop3":{}}`)
	entries := f.audit()
	if status != 200 || entries[0].Action != "account.change" {
		t.Errorf("%d %s: %+v", status, answer, entries[0])
	}
	if first := entries[len(entries)-2]; first.Action != "account.change" || !strings.Contains(first.After, `"replace_nul":true`) {
		t.Errorf("audit: %+v", first)
	}
}

// TestOldClientLogin: it is switched by mailbox, and off forgets what was kept of the password. Whether something is kept is told, and never what.
func TestOldClientLogin(t *testing.T) {
	f := newFixture(t)
	f.add("anna")
	on, off := true, false
	var a Account
	f.do("PATCH", "/v1/accounts/anna", AccountChange{OldClientLogin: &on}, &a)
	if got := f.account("anna"); !a.OldClientLogin || a.PasswordKept || !got.OldClientLogin {
		t.Fatalf("switched on: %+v, %+v", a, got)
	}
	if err := f.store.SealPassword(t.Context(), a.ID, f.account("anna").CredentialVersion, "a secret that is sealed"); err != nil {
		t.Fatal(err)
	}
	f.do("GET", "/v1/accounts/anna", nil, &a)
	if !a.PasswordKept {
		t.Error("that a password is kept is not told")
	}
	name := "Anna"
	f.do("PATCH", "/v1/accounts/anna", AccountChange{DisplayName: &name}, &a)
	if !a.OldClientLogin || !a.PasswordKept {
		t.Errorf("after another change: %+v", a)
	}
	if _, answer := f.raw("GET", "/v1/accounts/anna", "", ""); strings.Contains(answer, "sealed") {
		t.Errorf("told: %s", answer)
	}
	f.do("PATCH", "/v1/accounts/anna", AccountChange{OldClientLogin: &off}, &a)
	if got := f.account("anna"); a.OldClientLogin || a.PasswordKept || got.Sealed != "" {
		t.Errorf("switched off: %+v", a)
	}
	var said []string
	for _, e := range f.audit() {
		said = append(said, e.Before+e.After)
	}
	if text := strings.Join(said, "\n"); strings.Count(text, `"old_client_login":true`) != 4 || strings.Contains(text, "sealed") {
		t.Errorf("audit: %s", text)
	}
}

// TestPOP3OptionsRefusals, among those of the other fields.
func TestPOP3OptionsRefusals(t *testing.T) {
	f := newFixture(t)
	f.add("anna")
	before := f.account("anna")
	for body, words := range map[string]string{
		`{"pop3":{"select":"3650d1"}}`:                       `"pop3.select","message":"is empty for all, \"new\", \"1d\" to \"3650d\", or \"max=1\" to \"max=1000000\"`,
		`{"pop3":{"select":"3651d"}}`:                        `"pop3.select","message":"is empty`,
		`{"pop3":{"select":"max=1000001"}}`:                  `"pop3.select","message":"is empty`,
		`{"pop3":{"select":"NEW","last":true},"name":"a b"}`: `"pop3.select","message":"is empty`,
		`{"pop3":{"last":"yes"}}`:                            `"pop3.last","message":"is not of the right type`,
		`{"pop3":{"lasts":true}}`:                            `unknown field`,
		`{"old_client_login":"on"}`:                          `"old_client_login","message":"is not of the right type`,
		`{"password_kept":true}`:                             `unknown field`,
	} {
		status, answer := f.raw("PATCH", "/v1/accounts/anna", "application/json", body)
		if status != 422 && status != 400 || !strings.Contains(answer, words) {
			t.Errorf("%s: %d %s", body, status, answer)
		}
	}
	if after := f.account("anna"); after.Version != before.Version || !slices.Equal(after.SendAs, before.SendAs) || after.POP3 != before.POP3 {
		t.Errorf("changed: %+v", after)
	}
}
