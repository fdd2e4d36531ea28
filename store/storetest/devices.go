package storetest

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"latchkey/internal/mailaddr"
	"latchkey/store"
)

var deviceTests = []test{
	{"AddDevice", TestAddDevice},
	{"AddDeviceRefusals", TestAddDeviceRefusals},
	{"MostDevices", TestMostDevices},
	{"UpdateDevice", TestUpdateDevice},
	{"RemoveDevice", TestRemoveDevice},
	{"RemovedAccountsDevices", TestRemovedAccountsDevices},
	{"DeviceGrants", TestDeviceGrants},
}

// deviceFor is one with something in every field.
func deviceFor(a store.Account, name string) store.Device {
	return store.Device{
		Account: a.ID, Name: name, Verifier: "$device$" + store.Verifier(name), Send: true, Fetch: true,
		Networks:  []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")},
		OwnDomain: true, Addresses: []mailaddr.Address{address("boss@elsewhere.example"), address(`"a b"@two.example`)}, Domains: []string{"three.example"},
		MessageSize: 1 << 20, DailyRecipients: 70, Expires: time.Date(2030, 1, 2, 3, 4, 5, 6, time.UTC), Created: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}
}

func (h *harness) device(a store.Account, name string) store.Device {
	h.t.Helper()
	d, err := h.s.AddDevice(h.ctx, deviceFor(a, name))
	h.must(err)
	return d
}

func (h *harness) wantDevices(a store.Account, want ...store.Device) {
	h.t.Helper()
	got, err := h.s.ListDevices(h.ctx, a.ID)
	h.must(err)
	if len(got) != len(want) {
		h.t.Errorf("devices of %s: %+v, want %+v", a.Name, got, want)
		return
	}
	for i := range want {
		h.sameDevice(got[i], want[i])
		one, err := h.s.Device(h.ctx, a.ID, want[i].ID)
		h.must(err)
		h.sameDevice(one, want[i])
	}
}

// sameDevice compares every field. Times are in the zone of whoever reads them.
func (h *harness) sameDevice(got, want store.Device) {
	h.t.Helper()
	for _, d := range []*store.Device{&got, &want} {
		d.Expires, d.ClearSince, d.Created = d.Expires.UTC(), d.ClearSince.UTC(), d.Created.UTC()
	}
	if !reflect.DeepEqual(got, want) {
		h.t.Errorf("device %+v (verifier %q), want %+v (verifier %q)", got, string(got.Verifier), want, string(want.Verifier))
	}
}

// TestAddDevice: what was added is there with everything in it, under an id that no other has, also after a restart.
func TestAddDevice(t *testing.T, f Factory) {
	h := open(t, f)
	anna, bob := h.account("anna"), h.account("bob")
	h.wantDevices(anna)
	scanner := h.device(anna, "Office scanner")
	plain, err := h.s.AddDevice(h.ctx, store.Device{Account: anna.ID, Name: "Küche", Verifier: "v", Fetch: true, ID: 999, Version: 999})
	h.must(err)
	bobs := h.device(bob, "office SCANNER") // of another account
	want := deviceFor(anna, "Office scanner")
	want.ID, want.Version = scanner.ID, 1
	h.sameDevice(scanner, want)
	if scanner.ID == 0 || plain.ID <= scanner.ID || bobs.ID <= plain.ID || plain.Version != 1 {
		t.Errorf("ids %d, %d, %d, version %d", scanner.ID, plain.ID, bobs.ID, plain.Version)
	}
	for range 2 {
		h.wantDevices(anna, scanner, plain)
		h.wantDevices(bob, bobs)
		_, err = h.s.Device(h.ctx, bob.ID, scanner.ID) // a device of another account is none
		h.want(err, store.ErrNotFound)
		_, err = h.s.Device(h.ctx, 0, scanner.ID)
		h.want(err, store.ErrNotFound)
		h.reopen()
	}
	// What the caller does with its slices is its own affair.
	mine := deviceFor(anna, "third")
	third, err := h.s.AddDevice(h.ctx, mine)
	h.must(err)
	keep := third.Clone()
	mine.Domains[0], third.Domains[0], third.Networks[0] = "evil.example", "evil.example", netip.MustParsePrefix("0.0.0.0/0")
	h.wantDevices(anna, scanner, plain, keep)
}

// TestAddDeviceRefusals: nothing comes of what is refused, and no id is lost by it that anybody could see.
func TestAddDeviceRefusals(t *testing.T, f Factory) {
	h := open(t, f)
	anna := h.account("anna")
	scanner := h.device(anna, "Scanner")
	add := func(change func(*store.Device)) error {
		d := deviceFor(anna, "other")
		change(&d)
		return second(h.s.AddDevice(h.ctx, d))
	}
	h.want(add(func(d *store.Device) { d.Name = "SCANNER" }), store.ErrExists)
	h.want(add(func(d *store.Device) { d.Account = anna.ID + 1 }), store.ErrNotFound)
	h.want(add(func(d *store.Device) { d.Account = 0 }), store.ErrNotFound)
	for _, change := range []func(*store.Device){
		func(d *store.Device) { d.Name = "" },
		func(d *store.Device) { d.Name = " x" },
		func(d *store.Device) { d.Name = "a\nb" },
		func(d *store.Device) { d.Name = strings.Repeat("x", store.MaxDeviceName+1) },
		func(d *store.Device) { d.Send, d.Fetch = false, false },
		func(d *store.Device) { d.Verifier = "" },
		func(d *store.Device) { d.Verifier = store.Verifier(strings.Repeat("x", store.MaxDeviceVerifier+1)) },
		func(d *store.Device) { d.Networks = make([]netip.Prefix, 1) },
		func(d *store.Device) { d.Networks = []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")} },
		func(d *store.Device) {
			for range store.MaxDeviceNetworks {
				d.Networks = append(d.Networks, d.Networks[0])
			}
		},
		func(d *store.Device) { d.Domains = []string{"Three.example"} },
		func(d *store.Device) { d.Addresses = make([]mailaddr.Address, 1) },
		func(d *store.Device) {
			for range store.MaxDeviceRecipients {
				d.Domains = append(d.Domains, "three.example")
			}
		},
		func(d *store.Device) { d.MessageSize = -1 },
		func(d *store.Device) { d.DailyRecipients = -1 },
		func(d *store.Device) { d.DailyRecipients = store.MaxRecipientBudget + 1 },
	} {
		h.refused(add(change))
	}
	h.must(add(func(d *store.Device) {
		d.Name, d.DailyRecipients = strings.Repeat("x", store.MaxDeviceName), store.MaxRecipientBudget
		d.Verifier = store.Verifier(strings.Repeat("x", store.MaxDeviceVerifier))
		for len(d.Networks) < store.MaxDeviceNetworks {
			d.Networks = append(d.Networks, d.Networks[0])
		}
		for len(d.Domains)+len(d.Addresses) < store.MaxDeviceRecipients {
			d.Domains = append(d.Domains, "three.example")
		}
	}))
	list, err := h.s.ListDevices(h.ctx, anna.ID)
	h.must(err)
	if len(list) != 2 || list[0].ID != scanner.ID {
		t.Errorf("devices %+v", list)
	}
}

// TestMostDevices: the bound is one of each account, and a removal makes room.
func TestMostDevices(t *testing.T, f Factory) {
	h := open(t, f)
	anna, bob := h.account("anna"), h.account("bob")
	var all []store.Device
	for i := range store.MaxDevices {
		all = append(all, h.device(anna, fmt.Sprint("device ", i)))
	}
	h.want(second(h.s.AddDevice(h.ctx, deviceFor(anna, "one too many"))), store.ErrBound)
	h.device(bob, "first")
	last := all[len(all)-1]
	last.Name = "renamed"
	renamed, err := h.s.UpdateDevice(h.ctx, last) // takes no second place
	h.must(err)
	all[len(all)-1] = renamed
	h.must(h.s.RemoveDevice(h.ctx, anna.ID, all[0].ID))
	h.reopen()
	h.wantDevices(anna, append(all[1:], h.device(anna, "now there is room"))...)
}

// TestUpdateDevice: by version, with the verifier as it was.
func TestUpdateDevice(t *testing.T, f Factory) {
	h := open(t, f)
	anna := h.account("anna")
	scanner, other := h.device(anna, "Scanner"), h.device(anna, "Other")
	change := scanner.Clone()
	change.Name, change.Send, change.Networks, change.Addresses, change.Domains = "SCANNER", false, nil, nil, nil
	change.OwnDomain, change.MessageSize, change.DailyRecipients, change.Expires = false, 0, 0, time.Time{}
	want := change.Clone()
	want.Version = 2
	change.Verifier, change.Created = "another", h.now
	changed, err := h.s.UpdateDevice(h.ctx, change)
	h.must(err)
	h.sameDevice(changed, want)
	h.want(second(h.s.UpdateDevice(h.ctx, scanner)), store.ErrConflict)
	for _, tc := range []struct {
		change func(*store.Device)
		want   error
	}{
		{func(d *store.Device) { d.Name = "other" }, store.ErrExists},
		{func(d *store.Device) { d.Fetch = false }, store.ErrInvalid}, // neither of the two
		{func(d *store.Device) { d.ID = other.ID + 1 }, store.ErrNotFound},
		{func(d *store.Device) { d.Account++ }, store.ErrNotFound},
	} {
		d := changed.Clone()
		tc.change(&d)
		h.want(second(h.s.UpdateDevice(h.ctx, d)), tc.want)
	}
	for range 2 {
		h.wantDevices(anna, want, other)
		h.reopen()
	}
}

// TestRemoveDevice: one goes, the others stay, and its id never comes again.
func TestRemoveDevice(t *testing.T, f Factory) {
	h := open(t, f)
	anna, bob := h.account("anna"), h.account("bob")
	first, second := h.device(anna, "first"), h.device(anna, "second")
	bobs := h.device(bob, "first")
	h.want(h.s.RemoveDevice(h.ctx, bob.ID, first.ID), store.ErrNotFound)
	h.must(h.s.RemoveDevice(h.ctx, bob.ID, bobs.ID)) // the last one that was added
	h.reopen()
	h.must(h.s.RemoveDevice(h.ctx, anna.ID, first.ID))
	h.want(h.s.RemoveDevice(h.ctx, anna.ID, first.ID), store.ErrNotFound)
	for range 2 {
		h.wantDevices(anna, second)
		h.wantDevices(bob)
		h.reopen()
	}
	again := h.device(anna, "first") // its name is free
	if again.ID <= bobs.ID {
		t.Errorf("id %d is given again after %d", again.ID, bobs.ID)
	}
	h.wantDevices(anna, second, again)
}

// TestRemovedAccountsDevices: they go with the account, and a new owner of its name has none of them (WIRE.md §4, row 37).
func TestRemovedAccountsDevices(t *testing.T, f Factory) {
	h := open(t, f)
	old, bob := h.account("anna"), h.account("bob")
	bobs := h.device(bob, "scanner")
	var gone []store.Device
	for i := range store.MaxDevices {
		gone = append(gone, h.device(old, fmt.Sprint("device ", i)))
	}
	h.must(h.s.RemoveAccount(h.ctx, old.ID))
	h.want(second(h.s.AddDevice(h.ctx, deviceFor(old, "late"))), store.ErrNotFound)
	h.want(second(h.s.UpdateDevice(h.ctx, gone[0])), store.ErrNotFound)
	anna := h.account("anna")
	for range 2 {
		h.wantDevices(old)
		h.wantDevices(anna)
		h.wantDevices(bob, bobs)
		for _, d := range gone {
			for _, a := range []store.AccountID{old.ID, anna.ID} {
				_, err := h.s.Device(h.ctx, a, d.ID)
				h.want(err, store.ErrNotFound)
			}
		}
		h.reopen()
	}
	if d := h.device(anna, "device 0"); d.ID <= gone[len(gone)-1].ID {
		t.Errorf("id %d is given again", d.ID)
	}
}

// TestDeviceGrants: each device has a grant of its own at a network, beside that of the main password, and all count towards the bound.
func TestDeviceGrants(t *testing.T, f Factory) {
	h := open(t, f)
	anna := h.account("anna")
	of := func(device store.DeviceID) store.GrantRequest {
		r := grantFor(anna, "192.0.2.1/32")
		r.Device, r.MostLive = device, 3
		return r
	}
	var opened []store.Grant
	for _, device := range []store.DeviceID{0, 7, 8} {
		g, err := h.s.OpenGrant(h.ctx, h.now, of(device))
		h.must(err)
		if g.Device != device {
			t.Errorf("grant of device %d, want %d", g.Device, device)
		}
		opened = append(opened, g)
	}
	h.want(second(h.s.OpenGrant(h.ctx, h.now, of(9))), store.ErrBound)
	h.reopen()
	again, err := h.s.OpenGrant(h.ctx, h.now.Add(time.Minute), of(7))
	h.must(err)
	if again.ID != opened[1].ID {
		t.Errorf("device 7 has grant %s and then %s", opened[1].ID, again.ID)
	}
	list, err := h.s.ListGrants(h.ctx, store.GrantFilter{Remote: netip.MustParseAddr("192.0.2.1")}, 0, 10)
	h.must(err)
	if len(list) != 3 || list[0].Device != 0 || list[1].Device != 7 || list[2].Device != 8 {
		t.Errorf("grants %+v", list)
	}
	later := h.now.Add(24 * time.Hour) // 8 expired: its next one takes its place
	fresh, err := h.s.OpenGrant(h.ctx, later, of(8))
	h.must(err)
	_, err = h.s.Grant(h.ctx, opened[2].ID)
	h.want(err, store.ErrNotFound)
	h.reopen()
	if g, err := h.s.Grant(h.ctx, fresh.ID); err != nil || g.Device != 8 {
		t.Errorf("grant %+v, %v", g, err)
	}
	h.must(h.s.RemoveAccount(h.ctx, anna.ID))
	list, err = h.s.ListGrants(h.ctx, store.GrantFilter{}, 0, 10)
	h.must(err)
	if len(list) != 0 {
		t.Errorf("grants of nobody: %+v", list)
	}
}
