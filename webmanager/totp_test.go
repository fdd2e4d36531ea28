package webmanager

import (
	"encoding/base32"
	"strings"
	"testing"
	"time"
)

// TestTOTPExamples are those of RFC 6238 appendix B, of which the last six digits count here.
func TestTOTPExamples(t *testing.T) {
	for seconds, want := range map[int64]string{
		59: "94287082", 1111111109: "07081804", 1111111111: "14050471", 1234567890: "89005924", 2000000000: "69279037", 20000000000: "65353130",
	} {
		if got := totpCode([]byte("12345678901234567890"), seconds/30); got != want[2:] {
			t.Errorf("%d: got %s, want %s", seconds, got, want[2:])
		}
	}
}

// TestTOTP: a secret counts once a code of it was shown; each code counts once, for its time and one step around it; and so many may be tried.
func TestTOTP(t *testing.T) {
	f := provingFixture(t)
	now := noon
	f.api.now = func() time.Time { return now }
	own := InProcess(f.api, actorFor(f, callMailboxOwn))
	const path = "/v1/accounts/anna/totp"
	do := func(method, path string, in, out any) error {
		t.Helper()
		return own.Do(t.Context(), method, path, in, out)
	}
	var made TOTPSecret
	if err := do("POST", path, NewTOTP{Current: "wrong"}, &made); !isCode(err, CodeInvalid) {
		t.Errorf("without the password: %v", err)
	}
	if err := do("POST", path, NewTOTP{Current: "old"}, &made); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(made.URI, "otpauth://totp/example.com:anna@example.com?") || !strings.Contains(made.URI, "secret="+made.Secret) {
		t.Errorf("got %+v", made)
	}
	secret, err := base32.StdEncoding.DecodeString(made.Secret)
	if err != nil || len(secret) != totpSize {
		t.Fatalf("%q: %v", made.Secret, err)
	}
	at := func(d time.Duration) string { return totpCode(secret, now.Add(d).Unix()/30) }
	anna := f.account("anna").ID
	needs := func(want bool) {
		t.Helper()
		if got, err := f.api.NeedsTOTP(t.Context(), anna); got != want || err != nil {
			t.Errorf("needed: %t, %v", got, err)
		}
	}
	needs(false)
	if ok, err := f.api.CheckTOTP(t.Context(), anna, at(0)); ok || err != nil {
		t.Errorf("a secret that was not confirmed counts: %v", err)
	}
	if err := do("PUT", path, TOTPCode{Code: "000000"}, nil); !isCode(err, CodeInvalid) {
		t.Errorf("a wrong code: %v", err)
	}
	needs(false)
	if err := do("PUT", path, TOTPCode{Code: at(0)}, nil); err != nil {
		t.Fatal(err)
	}
	needs(true)
	for _, tt := range []struct {
		after time.Duration
		code  func() string
		ok    bool
	}{
		{0, func() string { return at(0) }, false}, // it was used
		{30 * time.Second, func() string { return at(0) }, true},
		{0, func() string { return at(0) }, false},
		{10 * time.Minute, func() string { return at(-60 * time.Second) }, false},
		{0, func() string { return at(-30 * time.Second) }, true},
		{0, func() string { return at(30 * time.Second) }, true},
		{0, func() string { return at(0) }, false}, // a later one was used
		{totpWindow, func() string { return at(60 * time.Second) }, false},
		{0, func() string { return "" }, false},
	} {
		now = now.Add(tt.after)
		if ok, err := f.api.CheckTOTP(t.Context(), anna, tt.code()); ok != tt.ok || err != nil {
			t.Errorf("after %s: %t, %v", tt.after, ok, err)
		}
	}
	now = now.Add(totpWindow)
	for range totpTries {
		if ok, _ := f.api.CheckTOTP(t.Context(), anna, "x"); ok {
			t.Error("x is a code")
		}
	}
	if ok, _ := f.api.CheckTOTP(t.Context(), anna, at(0)); ok {
		t.Error("one more try than there may be")
	}
	if err := do("POST", path, NewTOTP{Current: "old"}, nil); !isCode(err, CodeExists) {
		t.Errorf("a second secret: %v", err)
	}
	if err := do("POST", path+"/end", NewTOTP{Current: "wrong"}, nil); !isCode(err, CodeInvalid) {
		t.Errorf("ended without the password: %v", err)
	}
	needs(true)
	f.do("POST", path+"/end", NewTOTP{}, nil) // the operator's help for a lost telephone
	needs(false)
	for _, e := range f.audit() {
		if strings.Contains(e.Before+e.After, made.Secret) {
			t.Errorf("the audit log has the secret: %+v", e)
		}
	}
	for _, take := range []func(){
		func() { f.do("POST", "/v1/accounts/anna/purge", Purge{Password: "a new password"}, nil) },
		func() { f.do("DELETE", "/v1/accounts/anna", nil, nil) },
	} {
		if err := f.api.putTOTP(t.Context(), anna, &keptTOTP{Secret: secret, Confirmed: true}); err != nil {
			t.Fatal(err)
		}
		take()
		needs(false)
	}
}
