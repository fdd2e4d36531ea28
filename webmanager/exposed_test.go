package webmanager

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"latchkey/auth"
	"latchkey/store"
)

// exposure is one of a mailbox's password, an hour ago.
func (f *fixture) exposure(name string) auth.Exposed {
	f.Helper()
	return auth.Exposed{
		Account: f.account(name), When: noon.Add(-time.Hour),
		At: auth.Attempt{Service: "smtp", Mechanism: "PLAIN", Remote: netip.MustParseAddr("198.51.100.9")},
	}
}

func (f *fixture) expose(e auth.Exposed) {
	f.Helper()
	if err := NoteExposed(f.Context(), f.store, e, noon); err != nil {
		f.Fatal(err)
	}
}

// TestNoteExposed: the owner reads what happened, where and what to do, the account and the audit log say since when, and nothing of it is said of a
// password that was changed meanwhile.
func TestNoteExposed(t *testing.T) {
	f := newFixture(t)
	f.add("anna", "bert")
	device := f.device("anna", "Scanner ü")
	e := f.exposure("anna")
	f.expose(e)
	f.expose(e) // it is known
	mail := f.inbox("anna")
	if len(mail) != 1 {
		t.Fatalf("%d messages", len(mail))
	}
	for _, words := range []string{
		"To: <anna@example.com>\r\n", "Auto-Submitted: auto-generated\r\n", "of the mailbox anna@example.com", "2026-04-01T11:00:00Z",
		"It was refused", "address: 198.51.100.9\r\n", "for: outgoing mail (SMTP)\r\n", "new password", "encryption",
	} {
		if !strings.Contains(mail[0], words) {
			t.Errorf("no %q in\n%s", words, mail[0])
		}
	}
	if strings.Contains(mail[0], "Until") {
		t.Errorf("it tells of an end that there is not:\n%s", mail[0])
	}
	var shown Account
	f.do("GET", "/v1/accounts/anna", nil, &shown)
	if !shown.ClearSince.Equal(e.When) || f.account("bert").ClearSince != (time.Time{}) {
		t.Errorf("seen in the clear since %v", shown.ClearSince)
	}
	first := f.audit()[0]
	if first.Action != "password.clear" || first.Object != "anna" || first.Actor != clearActor || first.Remote != e.At.Remote {
		t.Errorf("audited %+v", first)
	}

	s := settingsOf(t, f.store)
	s.ClearPasswordDays, s.HelpURL = 30, "https://help.example/"
	if _, err := f.store.UpdateSettings(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	e.Device = store.Device{ID: device.ID, Name: device.Name}
	f.expose(e)
	if mail = f.inbox("anna"); len(mail) != 2 || !strings.Contains(mail[1], "Until 2026-05-01T11:00:00Z") || !strings.Contains(mail[1], "Help: https://help.example/") ||
		!strings.Contains(mail[1], `the device "Scanner ü"`) {
		t.Errorf("%d messages, the last\n%s", len(mail), mail[len(mail)-1])
	}
	var d Device
	f.do("GET", Path("accounts", "anna", "devices", device.ID.String()), nil, &d)
	if !d.ClearSince.Equal(e.When) {
		t.Errorf("the device was seen in the clear since %v", d.ClearSince)
	}

	old := f.exposure("bert")
	f.do("PUT", "/v1/accounts/bert/password", Password{Password: "another one"}, nil)
	f.expose(old)
	if got := f.account("bert"); len(f.inbox("bert")) != 0 || !got.ClearSince.IsZero() {
		t.Errorf("of the password before: told %d times, since %v", len(f.inbox("bert")), got.ClearSince)
	}
	f.do("PUT", "/v1/accounts/anna/password", Password{Password: "another one"}, nil)
	if got := f.account("anna"); !got.ClearSince.IsZero() {
		t.Errorf("the new password was seen in the clear since %v", got.ClearSince)
	}
	old.Account.ID = 99
	f.expose(old) // gone: nobody is told, and nothing is wrong
}

// TestNoteExposedAgain: a process that ended behind the notice tells again; one that could not tell notes it all the same, and says so.
func TestNoteExposedAgain(t *testing.T) {
	f := newFixture(t)
	f.add("anna", "bert")
	e := f.exposure("anna")
	if err := NoteExposed(t.Context(), &stopped{f.store}, e, noon); !errors.Is(err, errStopped) {
		t.Fatalf("got %v", err)
	}
	if got := f.account("anna"); len(f.inbox("anna")) != 1 || !got.ClearSince.IsZero() {
		t.Fatalf("told %d times, since %v", len(f.inbox("anna")), got.ClearSince)
	}
	f.expose(e)
	if got := f.account("anna"); len(f.inbox("anna")) != 2 || got.ClearSince.IsZero() {
		t.Errorf("told %d times, since %v", len(f.inbox("anna")), got.ClearSince)
	}
	f.do("PATCH", "/v1/accounts/bert", AccountChange{Quota: &store.Quota{Octets: 1}}, nil)
	if err := NoteExposed(t.Context(), f.store, f.exposure("bert"), noon); err == nil {
		t.Error("a full mailbox was told")
	}
	if f.account("bert").ClearSince.IsZero() {
		t.Error("it is not noted, because nobody could be told")
	}
}

var errStopped = errors.New("the process has ended")

// stopped is a store that writes no accounts any more.
type stopped struct{ Store }

func (*stopped) UpdateAccount(context.Context, store.Account) (store.Account, error) {
	return store.Account{}, errStopped
}

// TestPreviewOfClearPasswords: it says how many passwords end at once, the devices' among them, at both ends of the days.
func TestPreviewOfClearPasswords(t *testing.T) {
	f := newFixture(t)
	f.add("anna", "bert", "carl")
	scanner := f.device("carl", "Scanner")
	for _, name := range []string{"anna", "carl"} {
		e := f.exposure(name)
		e.When = noon.AddDate(0, 0, -10)
		if name == "carl" {
			e.Device.ID = scanner.ID
			e.When = e.When.Add(time.Nanosecond)
		}
		f.expose(e)
	}
	const list = "the lists of mailboxes and of devices say which"
	for _, tt := range []struct {
		days int
		want []string
	}{
		{11, []string{"a password that came without TLS where it is needed is refused 11 days later, until it is changed"}},
		{10, []string{"a password that came without TLS where it is needed is refused 10 days later, until it is changed", "1 password ends at once: " + list}},
		{9, []string{"a password that came without TLS where it is needed is refused 9 days later, until it is changed", "2 passwords end at once: " + list}},
	} {
		if p := f.preview(map[string]any{"clear_password_days": tt.days}); p.Loosens || strings.Join(p.Consequences, "\n") != strings.Join(tt.want, "\n") {
			t.Errorf("%d days: %q (loosens: %t)", tt.days, p.Consequences, p.Loosens)
		}
	}
	f.do("PATCH", "/v1/settings", map[string]any{"clear_password_days": 9}, nil)
	if p := f.preview(map[string]any{"clear_password_days": 8}); len(p.Consequences) != 1 || p.Loosens {
		t.Errorf("8 days: %q", p.Consequences)
	}
	if p := f.preview(map[string]any{"clear_password_days": 0}); !p.Loosens || strings.Join(p.Consequences, "") != "a password that came without TLS where it is needed is good until it is changed" {
		t.Errorf("never: %q (loosens: %t)", p.Consequences, p.Loosens)
	}
}
