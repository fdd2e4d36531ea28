package guard

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"latchkey/store"
	"latchkey/store/memstore"
)

// device adds a device that may do everything, and changes it.
func (d *domain) device(a store.Account, name string, change func(*store.Device)) store.Device {
	d.t.Helper()
	v := store.Device{Account: a.ID, Name: name, Verifier: "v", Send: true, Fetch: true}
	if change != nil {
		change(&v)
	}
	v, err := d.store.AddDevice(d.t.Context(), v)
	if err != nil {
		d.t.Fatal(err)
	}
	return v
}

// fetch is a POP3 login with a device's password; it returns what the log says of the grant.
func (d *domain) fetch(p Place, a store.Account, v store.Device) string {
	d.t.Helper()
	d.log.Reset()
	d.g.LoggedIn(d.t.Context(), p, a.ID, a.Name, a.CredentialVersion, v.ID)
	return d.log.String()
}

// devicesLive returns the devices that have a live grant of alice's at a place.
func (d *domain) devicesLive(p Place) string {
	d.t.Helper()
	grants, err := d.g.Live(d.t.Context(), p, []store.AccountID{d.alice.ID})
	if err != nil {
		d.t.Fatal(err)
	}
	var ids []string
	for _, grant := range grants {
		current, err := d.g.Current(d.t.Context(), p, grant)
		if err != nil || !current {
			d.t.Errorf("grant %+v is live and not current: %v", grant, err)
		}
		ids = append(ids, grant.Device.String())
	}
	return strings.Join(ids, " ")
}

// TestDeviceGrant: fetching with a device's password opens a grant of the device, beside that of the main password, if the device may send.
func TestDeviceGrant(t *testing.T) {
	d := newDomain(t)
	here, elsewhere := place("198.51.100.7"), place("203.0.113.7")
	both := d.device(d.alice, "both", nil)
	fetches := d.device(d.alice, "fetches", func(v *store.Device) { v.Send = false })
	near := d.device(d.alice, "near", func(v *store.Device) { v.Networks = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")} })
	over := d.device(d.alice, "over", func(v *store.Device) { v.Expires = start })
	bobs := d.device(d.bob, "bob's", nil)
	for _, v := range []store.Device{fetches, near, over, bobs, {ID: 999}} {
		if log := d.fetch(here, d.alice, v); !strings.Contains(log, "grant not given") || !strings.Contains(log, withheldDevice) {
			t.Errorf("device %q: %s", v.Name, log)
		}
	}
	if got := d.devicesLive(here); got != "" {
		t.Errorf("live grants of devices %q", got)
	}
	if log := d.fetch(here, d.alice, both); !strings.Contains(log, "grant opened") {
		t.Errorf("log %s", log)
	}
	if log := d.login(here, d.alice); !strings.Contains(log, "grant opened") {
		t.Errorf("log %s", log)
	}
	d.at(time.Minute)
	if log := d.fetch(here, d.alice, both); !strings.Contains(log, "grant renewed") {
		t.Errorf("log %s", log)
	}
	d.fetch(elsewhere, d.alice, near)
	if here, there := d.devicesLive(here), d.devicesLive(elsewhere); here != both.ID.String()+" 0" || there != near.ID.String() {
		t.Errorf("live grants of devices %q, elsewhere %q", here, there)
	}
}

// TestDeviceGrantEnds: with the device's revocation, its end, its scope and its networks, with a suspension and a new main password, at once; the
// refusal says that it was taken back. Other devices' grants stay.
func TestDeviceGrantEnds(t *testing.T) {
	for name, end := range map[string]func(d *domain, v store.Device) error{
		"revoked": func(d *domain, v store.Device) error { return d.store.RemoveDevice(d.t.Context(), v.Account, v.ID) },
		"expired": func(d *domain, v store.Device) error {
			return d.updated(v, func(v *store.Device) { v.Expires = d.now() })
		},
		"fetches": func(d *domain, v store.Device) error { return d.updated(v, func(v *store.Device) { v.Send = false }) },
		"sends":   func(d *domain, v store.Device) error { return d.updated(v, func(v *store.Device) { v.Fetch = false }) },
		"moved": func(d *domain, v store.Device) error {
			return d.updated(v, func(v *store.Device) { v.Networks = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} })
		},
		"suspended": func(d *domain, _ store.Device) error {
			d.change(&d.alice, func(a *store.Account) { a.Suspended = true })
			return nil
		},
		"password": func(d *domain, _ store.Device) error {
			d.change(&d.alice, func(a *store.Account) { a.Verifier = "another" })
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDomain(t)
			here := place("198.51.100.7")
			v, other := d.device(d.alice, "scanner", nil), d.device(d.alice, "other", nil)
			d.fetch(here, d.alice, v)
			grants, err := d.g.Live(t.Context(), here, []store.AccountID{d.alice.ID})
			if err != nil || len(grants) != 1 {
				t.Fatalf("grants %+v, %v", grants, err)
			}
			if err := end(d, v); err != nil {
				t.Fatal(err)
			}
			if got := d.devicesLive(here); got != "" {
				t.Errorf("live grants of devices %q", got)
			}
			if current, err := d.g.Current(t.Context(), here, grants[0]); err != nil || current {
				t.Errorf("current: %t, %v", current, err)
			}
			if why, err := d.g.Why(t.Context(), here, d.alice.ID); err != nil || why.Kind != NoGrantRevoked {
				t.Errorf("why: %+v, %v", why, err)
			}
			if name == "suspended" {
				return
			}
			d.fetch(here, d.alice, other)
			if got := d.devicesLive(here); got != other.ID.String() {
				t.Errorf("live grants of devices %q, want %s", got, other.ID)
			}
		})
	}
}

func (d *domain) updated(v store.Device, change func(*store.Device)) error {
	change(&v)
	_, err := d.store.UpdateDevice(d.t.Context(), v)
	return err
}

// TestAbuse37DeviceGrantOfFormerOwner: what a removed mailbox's device opened is nothing to the next owner of the name.
func TestAbuse37DeviceGrantOfFormerOwner(t *testing.T) {
	d := newDomain(t)
	here := place("198.51.100.7")
	d.fetch(here, d.alice, d.device(d.alice, "scanner", nil))
	if err := d.store.RemoveAccount(t.Context(), d.alice.ID); err != nil {
		t.Fatal(err)
	}
	d.alice = d.add("alice")
	if got := d.devicesLive(here); got != "" {
		t.Errorf("live grants of devices %q", got)
	}
}

// TestDeviceBudget: each device has its own, it comes back evenly over a day, and a refund gives back what was taken.
func TestDeviceBudget(t *testing.T) {
	clock := start
	s := NewSending(memstore.New("example.com"), func() time.Time { return clock })
	take := func(device store.DeviceID, n int, want bool) time.Duration {
		t.Helper()
		ok, wait, err := s.Take(t.Context(), DeviceDay(device, 10), int64(n))
		if err != nil || ok != want {
			t.Errorf("%d of device %s: %t, %v, want %t", n, device, ok, err, want)
		}
		return wait
	}
	take(1, 9, true)
	take(1, 2, false)
	take(2, 10, true)
	take(1, 1, true)
	if wait := take(1, 1, false); fmt.Sprint(wait) != "2h24m0s" {
		t.Errorf("wait %v", wait)
	}
	if err := s.Give(t.Context(), DeviceDay(1, 10), 3); err != nil {
		t.Error(err)
	}
	take(1, 3, true)
	clock = clock.Add(24 * time.Hour / 10)
	take(1, 1, true)
	take(1, 1, false)
}
