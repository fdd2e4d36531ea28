package auth

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/guard"
	"latchkey/store"
)

// web is where passkeys are shown.
var web = Attempt{Service: "web", Remote: office, TLS: true}

// right and wrong are what is said of proofs.
func right() (bool, error) { return true, nil }
func wrong() (bool, error) { return false, nil }

// show shows a passkey.
func (f *fixture) show(account store.AccountID, proof func() (bool, error), want error) Identity {
	f.t.Helper()
	id, err := f.Passkey(f.t.Context(), web, account, proof)
	if !errors.Is(err, want) || want == nil && err != nil {
		f.t.Errorf("got %v, want %v", err, want)
	}
	return id
}

// TestPasskey: who has a right proof is its account; a wrong one, an account that is gone and a suspended one are refused, and what fails inside is an
// error and no guess.
func TestPasskey(t *testing.T) {
	f := newFixture(t)
	id := f.show(f.alice.ID, right, nil)
	if id.Account != f.alice.ID || id.Name != "alice" || id.Address.String() != "alice@example.com" || id.CredentialVersion != 1 || id.Device != 0 {
		t.Errorf("got %+v", id)
	}
	for _, account := range []store.AccountID{0, 4711} {
		if id := f.show(account, right, ErrCredentials); id != (Identity{}) {
			t.Errorf("nobody is %+v", id)
		}
	}
	f.show(f.alice.ID, wrong, ErrCredentials)
	inside := errors.New("the disk")
	for range 20 {
		f.show(f.alice.ID, func() (bool, error) { return true, inside }, inside)
	}
	f.update(func(a *store.Account) { a.Suspended = true })
	f.show(f.alice.ID, right, ErrSuspended)
	for _, want := range []string{
		"service=web mechanism=PASSKEY remote=" + office.String() + " tls=true account=alice result=ok",
		"account=alice result=refused", `account="" result=refused`, `account=alice result=error err="the disk"`,
	} {
		if !strings.Contains(f.log.String(), want) {
			t.Errorf("the log lacks %q:\n%s", want, f.log)
		}
	}
	if n := f.ran(); n != 0 {
		t.Errorf("%d passwords were looked at", n)
	}
	f.o.Accounts = &broken{Accounts: f.store, SettingsStore: f.store, accounts: inside}
	f.show(f.alice.ID, right, inside)
	f.o.Settings = &broken{Accounts: f.store, SettingsStore: f.store, settings: inside}
	f.show(f.alice.ID, right, inside)
}

// TestPasskeyOfAnExposedPassword: its owner comes in by a passkey, and can set another one.
func TestPasskeyOfAnExposedPassword(t *testing.T) {
	f := newFixture(t)
	f.update(func(a *store.Account) { a.ClearSince = f.clock.Add(-365 * 24 * time.Hour) })
	settings, err := f.store.Settings(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	settings.ClearPasswordDays = 7
	if _, err := f.store.UpdateSettings(t.Context(), settings); err != nil {
		t.Fatal(err)
	}
	f.try(over(office), "alice", "open sesame", ErrExposed)
	f.show(f.alice.ID, right, nil)
}

// TestPasskeysAreCounted: with the wrong passwords of the same mailbox and client, so that they end in the same ban, after which the proof is not
// looked at; a right one gives them back; those of nobody are counted by the client alone.
func TestPasskeysAreCounted(t *testing.T) {
	f := newFixture(t)
	n := int(guard.DefaultLoginLimits().Pair.N)
	for i := range n - 1 {
		f.try(over(office), "alice", fmt.Sprint("guess", i), ErrCredentials)
	}
	f.show(f.alice.ID, right, nil)
	f = newFixture(t)
	for i := range n {
		if i%2 == 0 {
			f.show(f.alice.ID, wrong, ErrCredentials)
			continue
		}
		f.try(over(office), "alice", fmt.Sprint("guess", i), ErrCredentials)
	}
	f.show(f.alice.ID, func() (bool, error) {
		t.Error("a proof of one who is banned was looked at")
		return true, nil
	}, ErrBanned)
	f.try(over(office), "alice", "open sesame", ErrBanned)

	f = newFixture(t)
	for range n {
		f.show(0, wrong, ErrCredentials)
	}
	f.show(0, right, ErrBanned)
	f.show(f.alice.ID, right, nil)
}

// TestWrongPasskeysWait: as wrong passwords do, and with them.
func TestWrongPasskeysWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := realTime(t)
		for _, want := range []time.Duration{2, 8, 15} {
			begun := time.Now()
			f.show(f.alice.ID, wrong, ErrCredentials)
			if got := time.Since(begun); got != want*time.Second {
				t.Errorf("took %v, want %vs", got, int(want))
			}
			if want == 2 {
				f.took(over(office), "alice", "a wrong one", ErrCredentials)
			}
		}
		begun := time.Now()
		f.show(f.alice.ID, right, nil)
		if got := time.Since(begun); got != 0 {
			t.Errorf("the right one took %v", got)
		}
	})
}
