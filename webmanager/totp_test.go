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

// factor is anna's authenticator, and time that a test moves on.
type factor struct {
	*fixture
	own    *Client
	now    time.Time
	secret []byte
}

// factorPath is where the API keeps it.
const factorPath = "/v1/accounts/anna/totp"

func newFactor(t *testing.T) *factor {
	f := &factor{fixture: provingFixture(t), now: noon}
	f.api.now = func() time.Time { return f.now }
	f.own = InProcess(f.api, actorFor(f.fixture, callMailboxOwn))
	return f
}

// try asks in anna's name.
func (f *factor) try(method, path string, in, out any) error {
	return f.own.Do(f.Context(), method, path, in, out)
}

// at is the code at a time from now.
func (f *factor) at(d time.Duration) string { return totpCode(f.secret, f.now.Add(d).Unix()/30) }

func (f *factor) needs(want bool) {
	f.Helper()
	if got, err := f.api.NeedsTOTP(f.Context(), f.account("anna").ID); got != want || err != nil {
		f.Errorf("needed: %t, %v", got, err)
	}
}

func (f *factor) check(code string) bool {
	f.Helper()
	ok, err := f.api.CheckTOTP(f.Context(), f.account("anna").ID, code)
	if err != nil {
		f.Error(err)
	}
	return ok
}

// begin makes a secret, and shows a code of it.
func (f *factor) begin() TOTPSecret {
	f.Helper()
	var made TOTPSecret
	if err := f.try("POST", factorPath, NewTOTP{Current: "old"}, &made); err != nil {
		f.Fatal(err)
	}
	var err error
	if f.secret, err = base32.StdEncoding.DecodeString(made.Secret); err != nil || len(f.secret) != totpSize {
		f.Fatalf("%q: %v", made.Secret, err)
	}
	f.needs(false)
	if f.check(f.at(0)) {
		f.Error("a secret that was not confirmed counts")
	}
	if err := f.try("PUT", factorPath, TOTPCode{Code: "000000"}, nil); !isCode(err, CodeInvalid) {
		f.Errorf("a wrong code: %v", err)
	}
	f.needs(false)
	if err := f.try("PUT", factorPath, TOTPCode{Code: f.at(0)}, nil); err != nil {
		f.Fatal(err)
	}
	f.needs(true)
	return made
}

// TestTOTPLife: a secret is made with the password, counts once a code of it was shown, and ends with the password, by the operator, or with the
// mailbox.
func TestTOTPLife(t *testing.T) {
	f := newFactor(t)
	if err := f.try("POST", factorPath, NewTOTP{Current: "wrong"}, nil); !isCode(err, CodeInvalid) {
		t.Errorf("without the password: %v", err)
	}
	made := f.begin()
	if !strings.HasPrefix(made.URI, "otpauth://totp/example.com:anna@example.com?") || !strings.Contains(made.URI, "secret="+made.Secret) {
		t.Errorf("got %+v", made)
	}
	if err := f.try("POST", factorPath, NewTOTP{Current: "old"}, nil); !isCode(err, CodeExists) {
		t.Errorf("a second secret: %v", err)
	}
	if err := f.try("POST", factorPath+"/end", NewTOTP{Current: "wrong"}, nil); !isCode(err, CodeInvalid) {
		t.Errorf("ended without the password: %v", err)
	}
	f.needs(true)
	f.do("POST", factorPath+"/end", NewTOTP{}, nil) // the operator's help for a lost telephone
	f.needs(false)
	for _, e := range f.audit() {
		if strings.Contains(e.Before+e.After, made.Secret) {
			t.Errorf("the audit log has the secret: %+v", e)
		}
	}
	anna := f.account("anna").ID
	for _, take := range []func(){
		func() { f.do("POST", "/v1/accounts/anna/purge", Purge{Password: "a new password"}, nil) },
		func() { f.do("DELETE", "/v1/accounts/anna", nil, nil) },
	} {
		if err := f.api.putTOTP(t.Context(), anna, &keptTOTP{Secret: f.secret, Confirmed: true}); err != nil {
			t.Fatal(err)
		}
		take()
		if on, err := f.api.NeedsTOTP(t.Context(), anna); on || err != nil {
			t.Errorf("still needed: %v", err)
		}
	}
}

// TestTOTP: each code counts once, for its time and one step around it; and so many may be tried.
func TestTOTP(t *testing.T) {
	f := newFactor(t)
	f.begin()
	for _, tt := range []struct {
		after, of time.Duration
		ok        bool
	}{
		{0, 0, false}, // it was used
		{30 * time.Second, 0, true},
		{0, 0, false},
		{10 * time.Minute, -60 * time.Second, false},
		{0, -30 * time.Second, true},
		{0, 30 * time.Second, true},
		{0, 0, false}, // a later one was used
		{totpWindow, 60 * time.Second, false},
	} {
		f.now = f.now.Add(tt.after)
		if ok := f.check(f.at(tt.of)); ok != tt.ok {
			t.Errorf("after %s the code of %s: %t", tt.after, tt.of, ok)
		}
	}
	f.now = f.now.Add(totpWindow)
	for range totpTries {
		if f.check("") {
			t.Error("nothing is a code")
		}
	}
	if f.check(f.at(0)) {
		t.Error("one more try than there may be")
	}
}
