package maildrop

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"latchkey/auth"
	"latchkey/guard"
	"latchkey/store"
)

// device adds one of alice's and returns its password.
func (f *fixture) device(name string, change func(*store.Device)) (store.Device, string) {
	f.t.Helper()
	secret := auth.NewDeviceSecret()
	d := store.Device{Account: f.alice.ID, Name: name, Verifier: secret.Verifier, Send: true, Fetch: true}
	change(&d)
	d, err := f.store.AddDevice(f.t.Context(), d)
	if err != nil {
		f.t.Fatal(err)
	}
	return d, secret.Password(d.ID)
}

// TestDeviceFetches: a device fetches with its own password, by USER and by SASL, and is told with the cure what it may not. The inventory has
// its name.
func TestDeviceFetches(t *testing.T) {
	f := newFixture(t)
	f.set(func(s *store.Settings) { s.CleartextLogin = true })
	f.auth = auth.New(auth.Options{Accounts: f.store, Settings: f.store, Cost: cheap, Devices: f.store, Guard: f.guard})
	_, good := f.device("Telephone", func(*store.Device) {})
	_, sends := f.device("sends", func(d *store.Device) { d.Fetch = false })
	_, far := f.device("far", func(d *store.Device) { d.Networks = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} })
	_, over := f.device("over", func(d *store.Device) { d.Expires = time.Unix(1, 0) })
	v := NewInventory(f.store, nil)
	g := &devicesTold{}
	address := f.serve(Options{Inventory: v, Door: "pop3", Grants: g}, nil)
	for _, tt := range []struct{ password, want string }{
		{sends, "-ERR [SYS/PERM] have fetching allowed for the device, or use another password: this one is for sending mail only (L-Z86)\r\n"},
		{far, "-ERR [SYS/PERM] use the device in its own network, or have this one allowed for it: its password may not be used from here (L-Y6A)\r\n"},
		{over, "-ERR [AUTH] have a new password made for the device: this one has expired (L-72F)\r\n"},
		{auth.NewDeviceSecret().Password(1), "-ERR [AUTH] check the mailbox name and the password: one of them is wrong (L-0HV)\r\n"},
	} {
		c := f.hello(address)
		c.say("USER alice", "+OK")
		c.say("PASS "+tt.password, tt.want)
	}
	for _, say := range [][]string{
		{"USER alice@example.com", "+OK", "PASS " + good, "+OK 2 messages", "RETR 1", "+OK"},
		{"AUTH PLAIN " + plain("alice", good), "+OK 2 messages"},
	} {
		c := f.hello(address)
		for i := 0; i < len(say); i += 2 {
			c.say(say[i], say[i+1])
		}
		ended(t, c.Conn)
	}
	v.Close()
	seen := f.clients()
	if len(seen) != 2 || seen[0].Device != "Telephone" || seen[1].Device != "Telephone" {
		t.Errorf("seen %+v", seen)
	}
	if len(g.devices) != 2 || g.devices[0] != 1 || g.devices[1] != 1 {
		t.Errorf("grants were asked for by devices %v", g.devices)
	}
}

// devicesTold remembers whose logins it was told of.
type devicesTold struct{ devices []store.DeviceID }

func (g *devicesTold) LoggedIn(_ context.Context, _ guard.Place, _ store.AccountID, _ string, _ uint64, device store.DeviceID) {
	g.devices = append(g.devices, device)
}
