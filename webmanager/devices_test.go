package webmanager

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"latchkey/auth"
	"latchkey/guard"
	"latchkey/store"
)

// device adds one that may do everything.
func (f *fixture) device(mailbox, name string) AddedDevice {
	f.Helper()
	var added AddedDevice
	f.do("POST", Path("accounts", mailbox, "devices"), DeviceRules{Name: name, Send: true, Fetch: true}, &added)
	return added
}

// TestDevices: the password that is shown logs in, once it was shown it is nowhere, and every change is audited.
func TestDevices(t *testing.T) {
	f := newFixture(t)
	f.add("anna", "bert")
	added := f.device("anna", "Scanner/7 ü")
	login := auth.New(auth.Options{Accounts: f.store, Settings: f.store, Devices: f.store, Guard: guard.NewLogins(guard.LoginLimits{}), Now: func() time.Time { return noon }})
	at := auth.Attempt{Service: "smtp", Remote: netip.MustParseAddr("198.51.100.1"), TLS: true}
	if id, err := login.Login(t.Context(), at, "anna", added.Password); err != nil || id.Device != added.ID {
		t.Fatalf("login: %+v, %v", id, err)
	}
	path := Path("accounts", "anna", "devices", "scanner/7 Ü")
	var d Device
	f.do("GET", path, nil, &d)
	if d.Name != "Scanner/7 ü" || d.ID != added.ID || !d.Created.Equal(noon) {
		t.Errorf("got %+v", d)
	}
	off, later := false, noon.Add(time.Hour)
	f.do("PATCH", path, DeviceChange{Fetch: &off, Recipients: &[]string{"@Partner.Example", "x@y.example"}, Expires: &later}, &d)
	if d.Fetch || !d.Send || strings.Join(d.Recipients, " ") != "x@y.example @partner.example" || !d.Expires.Equal(later) {
		t.Errorf("changed to %+v", d)
	}
	if err := f.client.Do(t.Context(), "PATCH", path, DeviceChange{Fetch: &off, Version: 1}, nil); !isCode(err, CodeConflict) {
		t.Errorf("an old version: %v", err)
	}
	if err := f.client.Do(t.Context(), "GET", Path("accounts", "bert", "devices", "1"), nil, nil); !isCode(err, CodeNotFound) {
		t.Errorf("the device of another mailbox: %v", err)
	}
	f.do("DELETE", Path("accounts", "anna", "devices", added.ID.String()), nil, nil)
	if _, err := login.Login(t.Context(), at, "anna", added.Password); err == nil {
		t.Error("a revoked device logs in")
	}
	var actions []string
	for _, e := range f.audit() {
		actions = append(actions, e.Action)
		if text := e.Before + e.After; strings.Contains(text, added.Password) || strings.Contains(text, "hmac") || strings.Contains(text, added.Password[3:8]) {
			t.Errorf("the audit log has %s", text)
		}
	}
	if got := strings.Join(actions, " "); got != "device.revoke device.change device.add account.add account.add" {
		t.Errorf("audited %s", got)
	}
	for i := range store.MaxDevices {
		f.device("bert", strings.Repeat("x", i+1))
	}
	err := f.client.Do(t.Context(), "POST", Path("accounts", "bert", "devices"), DeviceRules{Name: "more", Send: true}, nil)
	if !isCode(err, CodeInvalid) || !strings.Contains(err.Error(), "has 50 devices") {
		t.Errorf("one too many: %v", err)
	}
}

// TestDeviceGrantIsShown: the listing says whose it is and whether it counts, and a revocation ends it there too, and no other.
func TestDeviceGrantIsShown(t *testing.T) {
	f := newFixture(t)
	f.add("anna")
	scanner, other := f.device("anna", "scanner"), f.device("anna", "other")
	for _, device := range []store.DeviceID{0, scanner.ID, other.ID} {
		_, err := f.store.OpenGrant(t.Context(), noon, store.GrantRequest{
			Account: f.account("anna").ID, Network: netip.MustParsePrefix("192.0.2.7/32"), Device: device, CredentialVersion: f.account("anna").CredentialVersion,
			Window: time.Hour, Longest: time.Hour, Recipients: 50, MostLive: 5,
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	want := func(words string) {
		t.Helper()
		var page GrantPage
		f.do("GET", "/v1/grants", nil, &page)
		var got []string
		for _, g := range page.Grants {
			got = append(got, g.Device+":"+string(g.State))
		}
		if strings.Join(got, " ") != words {
			t.Errorf("grants %q, want %q", got, words)
		}
	}
	want(":live scanner:live other:live")
	off, elsewhere := false, []string{"198.51.100.0/24"}
	f.do("PATCH", Path("accounts", "anna", "devices", "other"), DeviceChange{Send: &off}, nil)
	f.do("PATCH", Path("accounts", "anna", "devices", "scanner"), DeviceChange{Networks: &elsewhere}, nil)
	want(":live scanner:void other:void")
	f.do("DELETE", Path("accounts", "anna", "devices", "scanner"), nil, nil)
	want(":live device 1:revoked other:void")
}

// TestPasswordKeepsDevices: unless they are to go too.
func TestPasswordKeepsDevices(t *testing.T) {
	f := newFixture(t)
	f.add("anna")
	f.device("anna", "scanner")
	f.device("anna", "other")
	for _, too := range []bool{false, true} {
		f.do("PUT", Path("accounts", "anna", "password"), Password{Password: "a new password", Devices: too}, nil)
		var page DevicePage
		f.do("GET", "/v1/devices", nil, &page)
		if (len(page.Devices) == 2) == too || too && len(page.Devices) > 0 {
			t.Errorf("devices too: %t, left %+v", too, page.Devices)
		}
	}
}

// TestDevicePages: limit counts mailboxes.
func TestDevicePages(t *testing.T) {
	f := newFixture(t)
	f.add("anna", "bert", "carl")
	for _, name := range []string{"anna", "carl", "carl"} {
		f.device(name, "x"+strings.Repeat("y", len(f.audit())))
	}
	var names []string
	after := ""
	for range 4 {
		var page DevicePage
		f.do("GET", "/v1/devices?limit=1&after="+after, nil, &page)
		for _, d := range page.Devices {
			names = append(names, d.Mailbox)
		}
		if after = page.Next; after == "" {
			break
		}
	}
	if strings.Join(names, " ") != "anna carl carl" || after != "" {
		t.Errorf("pages %v, next %q", names, after)
	}
}
