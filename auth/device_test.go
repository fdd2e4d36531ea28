package auth

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"latchkey/guard"
	"latchkey/store"
)

// deviceFixture is a fixture with devices.
func deviceFixture(t *testing.T) *fixture {
	f := newFixture(t)
	f.o.Devices = f.store
	return f
}

// device adds one to an account and returns its password.
func (f *fixture) device(a store.Account, name string, change func(*store.Device)) (store.Device, string) {
	f.t.Helper()
	secret := NewDeviceSecret()
	d := store.Device{Account: a.ID, Name: name, Verifier: secret.Verifier, Send: true, Fetch: true, Created: f.clock}
	if change != nil {
		change(&d)
	}
	d, err := f.store.AddDevice(f.t.Context(), d)
	if err != nil {
		f.t.Fatal(err)
	}
	return d, secret.Password(d.ID)
}

func sending(remote netip.Addr) Attempt {
	return Attempt{Service: "smtp", Mechanism: "PLAIN", Remote: remote, TLS: true}
}

// TestDeviceLogin: a device logs in with the mailbox's usual name and its own password, which costs no hash; the main password stays what it
// was.
func TestDeviceLogin(t *testing.T) {
	f := deviceFixture(t)
	d, password := f.device(f.alice, "Scanner", nil)
	for _, name := range []string{"alice", "Alice@example.com", `EXAMPLE.COM\alice`} {
		id := f.try(over(office), name, password, nil)
		if id.Account != f.alice.ID || id.Name != "alice" || id.Address.String() != "alice@example.com" || id.Device != d.ID || id.DeviceName != "Scanner" {
			t.Errorf("got %+v", id)
		}
	}
	// As people type it at a panel.
	f.try(sending(office), "alice", strings.ToUpper(password), nil)
	f.try(sending(office), "alice", "d"+d.ID.String()+"-"+strings.ReplaceAll(strings.TrimPrefix(password, "d"+d.ID.String()+"-"), "-", ""), nil)
	if n := f.ran(); n != 0 {
		t.Errorf("%d hashes ran", n)
	}
	if id := f.try(over(office), "alice", "open sesame", nil); id.Device != 0 || id.DeviceName != "" {
		t.Errorf("the main password is that of device %d", id.Device)
	}
	if f.ran() != 1 {
		t.Error("the main password cost no hash")
	}
	log := f.log.String()
	if !strings.Contains(log, "result=ok device=Scanner") || strings.Contains(log, password) {
		t.Errorf("log:\n%s", log)
	}
}

// TestDevicePasswordForm: 100 bits, short enough for a printer, no two alike, and nothing of it in what prints.
func TestDevicePasswordForm(t *testing.T) {
	seen := map[string]bool{}
	for i := range 200 {
		s := NewDeviceSecret()
		password := s.Password(store.DeviceID(i + 1))
		if len(password) > 32 || seen[s.secret] || len(s.secret) != 20 {
			t.Fatalf("password %q", password)
		}
		seen[s.secret] = true
		id, secret, ok := parseDevicePassword(password)
		if id != store.DeviceID(i+1) || secret != s.secret || !ok || !deviceMatches(s.Verifier, secret) {
			t.Errorf("%q is read as %d, %q, %t", password, id, secret, ok)
		}
		if text := fmt.Sprintf("%v %+v %#v %s", s, s, s, s.Verifier); strings.Contains(text, s.secret) {
			t.Errorf("it prints as %s", text)
		}
	}
	most := NewDeviceSecret().Password(^store.DeviceID(0))
	if len(most) != maxDevicePassword {
		t.Errorf("the longest has %d octets, want %d", len(most), maxDevicePassword)
	}
	if _, _, ok := parseDevicePassword(most); !ok {
		t.Errorf("%q is not read", most)
	}
	for _, text := range []string{
		"", "d", "d-", "d1", "d1-", "d0-abcde-fghij-klmno-pqrst", "d01-abcde-fghij-klmno-pqrst", "d+1-abcde-fghij-klmno-pqrst", "1-abcde-fghij-klmno-pqrst",
		"d1-abcde-fghij-klmno-pqrs", "d1-abcde-fghij-klmno-pqrstu", "d1-abcde-fghij-klmn1-pqrst", "d1-abcde-fghij-klmnö-pqrs", "d1-abcde-fghij-klmno-pqrst ",
		"d18446744073709551616-abcde-fghij-klmno-pqrst", most + "-",
	} {
		if id, _, ok := parseDevicePassword(text); ok {
			t.Errorf("%q is read as the password of device %d", text, id)
		}
	}
	for _, v := range []store.Verifier{"", noDevice, deviceScheme, deviceScheme + "AAAA$AAAA", "$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$a2V5"} {
		if deviceMatches(v, "") || deviceMatches(v, "abcdefghijklmnopqrst") {
			t.Errorf("verifier %q matches", string(v))
		}
	}
}

// TestDeviceWrong: whatever is wrong about a device's password, it costs and counts what every wrong password does, and says no more.
func TestDeviceWrong(t *testing.T) {
	f := deviceFixture(t)
	bob := f.add("bob", "bob's own")
	_, alices := f.device(f.alice, "Scanner", nil)
	_, bobs := f.device(bob, "Scanner", nil)
	other := NewDeviceSecret().Password(1)
	for _, tt := range []struct{ name, password string }{
		{"alice", bobs},   // of another mailbox
		{"nobody", other}, // of none
		{"alice", other},  // its number, and another secret
		{"alice", NewDeviceSecret().Password(77)},
		{"alice@example.org", alices},
	} {
		f.ran()
		f.try(over(office), tt.name, tt.password, ErrCredentials)
		if n := f.ran(); n != 1 {
			t.Errorf("%s with %s cost %d hashes", tt.name, tt.password, n)
		}
	}
	f.try(Attempt{Service: "web", Remote: office, TLS: true}, "alice", alices, ErrCredentials)
	f.try(Attempt{Service: "pop3", Remote: office}, "alice", alices, ErrCleartext)
}

// TestDeviceRules: a right password is refused by what the device may not, with a word for each, and that is no guess.
func TestDeviceRules(t *testing.T) {
	f := deviceFixture(t)
	there := []netip.Prefix{netip.MustParsePrefix("198.51.100.0/28"), netip.MustParsePrefix("2001:db8::/64")}
	_, here := f.device(f.alice, "here", func(d *store.Device) { d.Networks = there })
	_, sends := f.device(f.alice, "sends", func(d *store.Device) { d.Fetch = false })
	_, fetches := f.device(f.alice, "fetches", func(d *store.Device) { d.Send = false })
	_, brief := f.device(f.alice, "brief", func(d *store.Device) { d.Expires = f.clock.Add(time.Hour) })
	for _, tt := range []struct {
		at       Attempt
		password string
		want     error
	}{
		{over(office), here, nil},
		{over(netip.MustParseAddr("198.51.100.15")), here, nil},
		{over(netip.MustParseAddr("198.51.100.16")), here, ErrDeviceNetwork},
		{over(netip.MustParseAddr("2001:db8::5")), here, nil},
		{over(netip.MustParseAddr("2001:db8:0:1::5")), here, ErrDeviceNetwork},
		{over(office), sends, ErrDeviceScope},
		{sending(office), sends, nil},
		{over(office), fetches, nil},
		{sending(office), fetches, ErrDeviceScope},
		{Attempt{Service: "other", Remote: office, TLS: true}, here, ErrDeviceScope},
		{sending(office), brief, nil},
	} {
		f.try(tt.at, "alice", tt.password, tt.want)
	}
	f.clock = f.clock.Add(time.Hour - time.Nanosecond)
	f.try(sending(office), "alice", brief, nil)
	f.clock = f.clock.Add(time.Nanosecond)
	for range 30 { // no refusal counts
		f.try(sending(office), "alice", brief, ErrDeviceExpired)
	}
	f.try(over(office), "alice", "open sesame", nil)
	f.update(func(a *store.Account) { a.Suspended = true })
	f.try(over(office), "alice", here, ErrSuspended)
	if !strings.Contains(f.log.String(), "result=refused device=brief err=\"auth: device credential expired\"") {
		t.Errorf("log:\n%s", f.log)
	}
}

// TestAbuse04DeviceIsNotLockedOut: no number of guesses of others, from wherever they come, keeps a device out, and a device forgives no guesses.
func TestAbuse04DeviceIsNotLockedOut(t *testing.T) {
	f := deviceFixture(t)
	_, password := f.device(f.alice, "Scanner", nil)
	for i := range 10 {
		f.try(over(office), "alice", fmt.Sprint("guess ", i), ErrCredentials)
		f.try(over(office), "alice", password, nil)
	}
	f.try(over(office), "alice", "one more", ErrBanned)
	f.try(over(office), "alice", password, nil)
	f.try(over(office), "alice", "and another", ErrBanned)
	if f.o.Guard.Check(f.clock, office, "alice", 1, "x") != guard.Banned || !f.Known(office) {
		t.Error("the device took guesses out of the count, or is not known from there")
	}
}

// TestDeviceOutlivesMainPassword: a new main password, a resumed suspension and a new name of the mailbox leave devices as they are; a
// revocation ends one device, and no other.
func TestDeviceOutlivesMainPassword(t *testing.T) {
	f := deviceFixture(t)
	d, password := f.device(f.alice, "Scanner", nil)
	_, other := f.device(f.alice, "Other", nil)
	id := f.try(sending(office), "alice", password, nil)
	current := func(want error) {
		t.Helper()
		if err := f.Current(t.Context(), id); err != want { //nolint:errorlint // exactly this
			t.Errorf("current: %v, want %v", err, want)
		}
	}
	v, err := f.Hash(t.Context(), "a new one")
	if err != nil {
		t.Fatal(err)
	}
	f.update(func(a *store.Account) { a.Verifier = v })
	current(nil)
	f.try(sending(office), "alice", password, nil)
	f.update(func(a *store.Account) { a.Suspended = true })
	current(ErrSuspended)
	f.update(func(a *store.Account) { a.Suspended, a.Name = false, "alicia" })
	current(nil)
	f.try(sending(office), "alicia", password, nil)
	if got, err := f.CurrentDevice(t.Context(), id, office); err != nil || got.ID != d.ID {
		t.Errorf("device %+v, %v", got, err)
	}
	d.Networks = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	if d, err = f.store.UpdateDevice(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if _, err := f.CurrentDevice(t.Context(), id, office); err != ErrDeviceNetwork { //nolint:errorlint // exactly this
		t.Errorf("device from elsewhere: %v", err)
	}
	if err := f.store.RemoveDevice(t.Context(), f.alice.ID, d.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := f.CurrentDevice(t.Context(), id, office); err != ErrCredentials { //nolint:errorlint // exactly this
		t.Errorf("revoked device: %v", err)
	}
	f.try(sending(office), "alicia", password, ErrCredentials)
	f.try(sending(office), "alicia", other, nil)
}

// TestAbuse37DevicesOfFormerOwner: a removed mailbox's devices open nothing for the next owner of its name.
func TestAbuse37DevicesOfFormerOwner(t *testing.T) {
	f := deviceFixture(t)
	_, password := f.device(f.alice, "Scanner", nil)
	id := f.try(sending(office), "alice", password, nil)
	if err := f.store.RemoveAccount(t.Context(), f.alice.ID); err != nil {
		t.Fatal(err)
	}
	next := f.add("alice", "hers now")
	_, hers := f.device(next, "Scanner", nil)
	f.try(sending(office), "alice", password, ErrCredentials)
	f.try(over(office), "alice", hers, nil)
	if err := f.Current(t.Context(), id); err != ErrCredentials { //nolint:errorlint // exactly this
		t.Errorf("current: %v", err)
	}
	if _, err := f.CurrentDevice(t.Context(), id, office); err != ErrCredentials { //nolint:errorlint // exactly this
		t.Errorf("device: %v", err)
	}
}

// TestDeviceIsNeverSealed: what is kept for challenge logins is the main password, whoever logs in last; a device has no challenge logins.
func TestDeviceIsNeverSealed(t *testing.T) {
	f := deviceFixture(t)
	f.update(func(a *store.Account) { a.OldClientLogin = true })
	_, password := f.device(f.alice, "Scanner", nil)
	f.try(over(office), "alice", password, nil)
	a, err := f.sealing.Account(t.Context(), f.alice.ID)
	if err != nil || a.Sealed != "" {
		t.Errorf("sealed %q, %v", string(a.Sealed), err)
	}
	f.try(over(office), "alice", "open sesame", nil)
	before, err := f.sealing.Account(t.Context(), f.alice.ID)
	if err != nil || before.Sealed == "" {
		t.Fatalf("the main password was not sealed: %v", err)
	}
	f.try(over(office), "alice", password, nil)
	after, err := f.sealing.Account(t.Context(), f.alice.ID)
	if err != nil || after.Sealed != before.Sealed {
		t.Errorf("sealed again: %v", err)
	}
}
