package smtp

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/auth"
	"latchkey/guard"
	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// onDevices is onProofs with the real authenticator, which knows devices.
func onDevices(t *testing.T, door Door, test func(t *testing.T, f *proofs), edit ...func(*Options)) {
	t.Helper()
	onProofs(t, door, test, append(edit, func(o *Options) {
		st := o.Store.(store.Store)
		o.Auth = auth.New(auth.Options{
			Accounts: st, Settings: st, Devices: st, Guard: guard.NewLogins(guard.LoginLimits{}), Logger: o.Logger,
		})
	})...)
}

// device adds a device of alice's and returns its password.
func (f *fixture) device(name string, change func(*store.Device)) (store.Device, string) {
	f.t.Helper()
	secret := auth.NewDeviceSecret()
	d := store.Device{Account: f.ids["alice"], Name: name, Verifier: secret.Verifier, Send: true, Fetch: true}
	if change != nil {
		change(&d)
	}
	d, err := f.store.AddDevice(context.Background(), d)
	f.must(err)
	return d, secret.Password(d.ID)
}

// withPassword is a session from an address that has logged in as alice.
func (f *proofs) withPassword(remote, password string) *client {
	f.t.Helper()
	c := f.from(remote)
	c.ask("AUTH PLAIN "+plain("alice", password), "235 2.")
	return c
}

// TestDeviceSends: what a device sends is its mailbox's; Received, the log and the inventory say which device it was.
func TestDeviceSends(t *testing.T) {
	seen := &noticed{}
	onDevices(t, Submission, func(t *testing.T, f *proofs) {
		f.settings(func(s *store.Settings) { s.CleartextLogin = true })
		_, password := f.device(`Büro "scanner" (2nd)`, nil)
		c := f.withPassword(office, password)
		c.ask("MAIL FROM:<bob@example.com>", "550 5.7.1 That sender address is not yours")
		c.message("alice@example.com", "bob@example.com", "From: alice@example.com\r\n\r\nscan\r\n")
		text := f.oneMail("bob")
		if !strings.Contains(text, "with ESMTPA id ") || !strings.Contains(text, `(device "B?ro ?scanner? ?2nd?")`) {
			t.Errorf("the message is\n%s", text)
		}
		if log := f.log.String(); !strings.Contains(log, `sender="alice@example.com by device Büro \"scanner\" (2nd)"`) || strings.Contains(log, password) {
			t.Errorf("log\n%s", log)
		}
		if len(seen.clients) != 1 || seen.clients[0].Device != `Büro "scanner" (2nd)` || seen.clients[0].Account != f.ids["alice"] {
			t.Errorf("seen %+v", seen.clients)
		}
	}, func(o *Options) { o.Inventory, o.Name = seen, "submission" })
}

// noticed is an inventory.
type noticed struct{ clients []store.Client }

func (n *noticed) Note(c store.Client) { n.clients = append(n.clients, c) }

// TestDeviceLogins: what a device may not at the door is said with its cure, and the session goes on.
func TestDeviceLogins(t *testing.T) {
	onDevices(t, Submission, func(t *testing.T, f *proofs) {
		f.settings(func(s *store.Settings) { s.CleartextLogin, s.HelpURL = true, "https://help.example/" })
		_, fetches := f.device("fetches", func(d *store.Device) { d.Send = false })
		_, near := f.device("near", func(d *store.Device) { d.Networks = []netip.Prefix{netip.MustParsePrefix(network)} })
		_, brief := f.device("brief", func(d *store.Device) { d.Expires = time.Now().Add(time.Hour) })
		c := f.from(office)
		time.Sleep(time.Hour)
		for _, tt := range []struct{ password, want string }{
			{fetches, "535 5.7.1 Have sending allowed for the device, or use another password: this one is for fetching mail only - see https://help.example/"},
			{near, "535 5.7.1 Use the device in its own network, or have 203.0.113.7 allowed for it: its password may not be used from here - see https://help.example/"},
			{brief, "535 5.7.8 Have a new password made for the device: this one has expired - see https://help.example/"},
			{auth.NewDeviceSecret().Password(1), "535 5.7.8 Wrong user name or password: use those of your incoming mail"},
		} {
			if got := c.ask("AUTH PLAIN "+plain("alice", tt.password), "5"); got != tt.want {
				t.Errorf("got %q\nwant %q", got, tt.want)
			}
		}
		c.ask("MAIL FROM:<alice@example.com>", "550 5.7.1 Relaying denied for 203.0.113.7")
		f.withPassword(printer, near).message("alice@example.com", "bob@example.com", shortFrom)
	})
}

const shortFrom = "From: alice@example.com\r\n\r\nscan\r\n"

// limited is a device with every bound.
func limited(d *store.Device) {
	d.OwnDomain, d.Domains, d.Addresses = true, []string{"partner.example"}, []mailaddr.Address{address("boss@remote.example")}
	d.MessageSize, d.DailyRecipients = 100, 4
}

// sendLimited holds a session of a limited device to its bounds. meanwhile is called every ten minutes of a pause.
func sendLimited(c *client, meanwhile func()) {
	c.ask("MAIL FROM:<alice@example.com> SIZE=101", "552 5.3.4 Send less at a time, or have larger messages allowed for the device")
	c.ask("MAIL FROM:<alice@example.com> SIZE=100", "250 ")
	for _, rcpt := range []string{"victim@elsewhere.example", "Boss@remote.example", "x@sub.partner.example", "partner.example@remote.example"} {
		c.ask("RCPT TO:<"+rcpt+">", "550 5.7.1 Have this recipient allowed for the device, or use the mailbox's own password: the device's may not send there")
	}
	c.ask("RCPT TO:<nobody@example.com>", "550 5.1.1")
	for _, rcpt := range []string{"bob@example.com", "boss@remote.example", "any@partner.example"} {
		c.ask("RCPT TO:<"+rcpt+">", "250 ")
	}
	c.ask("RSET", "250 ")
	c.ask("MAIL FROM:<alice@example.com>", "250 ")
	for i := range 4 { // what was reset is given back, to the last one
		c.ask(fmt.Sprintf("RCPT TO:<u%d@partner.example>", i), "250 ")
	}
	c.ask("RCPT TO:<bob@example.com>", "450 4.7.1 Try again in 6 hours, or have more recipients allowed for the device")
	c.ask("DATA", "354 ")
	c.send(shortFrom + strings.Repeat("x", 100-len(shortFrom)-2) + "\r\nx\r\n.\r\n")
	c.expect("552 5.3.4 Send less at a time, or have larger messages allowed for the device")
	c.ask("MAIL FROM:<alice@example.com>", "250 ") // and after a refused message too
	for i := range 4 {
		c.ask(fmt.Sprintf("RCPT TO:<u%d@partner.example>", i), "250 ")
	}
	c.ask("DATA", "354 ")
	c.send(shortFrom + strings.Repeat("x", 100-len(shortFrom)-2) + "\r\n.\r\n") // the bound itself
	c.expect("250 2.0.0 queued as ")
	c.ask("MAIL FROM:<alice@example.com>", "250 ")
	c.ask("RCPT TO:<bob@example.com>", "450 4.7.1 Try again in 6 hours")
	c.ask("RSET", "250 ")
	for range 36 {
		time.Sleep(10 * time.Minute)
		meanwhile()
	}
	c.ask("MAIL FROM:<alice@example.com>", "250 ")
	c.ask("RCPT TO:<bob@example.com>", "250 ")
	c.ask("RCPT TO:<bob@example.com>", "450 ")
	c.ask("RSET", "250 ")
}

// TestDeviceBounds: recipients, size and recipients a day hold for a device that logged in, at MAIL, RCPT and the end of the message.
func TestDeviceBounds(t *testing.T) {
	onDevices(t, Submission, func(t *testing.T, f *proofs) {
		f.settings(func(s *store.Settings) { s.CleartextLogin = true })
		d, password := f.device("scanner", limited)
		sendLimited(f.withPassword(office, password), func() {})
		if jobs := f.jobs(); len(jobs) != 4 {
			t.Errorf("%d jobs", len(jobs))
		}
		// What is changed counts from the next message on.
		c := f.withPassword(office, password)
		d.DailyRecipients, d.OwnDomain, d.Domains, d.Addresses = 0, false, nil, nil
		_, err := f.store.UpdateDevice(t.Context(), d)
		f.must(err)
		c.ask("MAIL FROM:<alice@example.com>", "250 ")
		c.ask("RCPT TO:<victim@elsewhere.example>", "250 ")
	})
}

// TestDeviceGrantBounds: the bounds of a device hold for mail that is sent by the grant that it opened, and end with it.
func TestDeviceGrantBounds(t *testing.T) {
	onDevices(t, Submission, func(t *testing.T, f *proofs) {
		f.grants = guard.NewGrants(guard.GrantOptions{
			Grants: f.store, Accounts: f.store, Settings: f.store, Devices: f.store,
			Hosts: guard.NewHosts(guard.HostsOptions{Interfaces: noAddresses, Gateways: noAddresses}),
		})
		d, _ := f.device("Scanner", limited)
		fetch := func(device store.DeviceID) {
			f.grants.LoggedIn(t.Context(), guard.Place{Remote: netip.MustParseAddr(office)}, f.ids["alice"], "alice", f.version("alice"), device)
		}
		fetch(d.ID)
		c := f.from(office)
		sendLimited(c, func() { fetch(d.ID) })
		c.message("alice@example.com", "bob@example.com", shortFrom)
		if text := f.oneMail("bob"); !strings.Contains(text, `of alice@example.com by device "Scanner")`) || strings.Contains(text, "with ESMTPA") {
			t.Errorf("the message is\n%s", text)
		}
		// The main password's grant there has no such bounds, and is preferred.
		fetch(0)
		c.ask("MAIL FROM:<alice@example.com>", "250 ")
		c.ask("RCPT TO:<victim@elsewhere.example>", "250 ")
		c.ask("RSET", "250 ")
		f.revoke("alice")
		c.ask("MAIL FROM:<alice@example.com>", "250 ")
		c.ask("RCPT TO:<victim@elsewhere.example>", "550 5.7.1 Have this recipient allowed")
		f.must(f.store.RemoveDevice(t.Context(), d.Account, d.ID))
		c.ask("RCPT TO:<bob@example.com>", "550 5.7.1 Relaying denied for 203.0.113.7: check mail for alice@example.com again")
		c.ask("RSET", "250 ")
		c.ask("MAIL FROM:<alice@example.com>", "550 5.7.1 Relaying denied for 203.0.113.7: check mail for alice@example.com again")
	}, func(o *Options) {
		st := o.Store.(store.Store)
		hosts := guard.NewHosts(guard.HostsOptions{Interfaces: noAddresses, Gateways: noAddresses})
		o.Grants = guard.NewGrants(guard.GrantOptions{Grants: st, Accounts: st, Settings: st, Devices: st, Hosts: hosts})
	})
}

// TestDeviceThatIsAwaited: a message whose sender was not known at RCPT is held to the bounds of the device that opens the grant, and to its day.
func TestDeviceThatIsAwaited(t *testing.T) {
	onDevices(t, Submission, func(t *testing.T, f *proofs) {
		f.settings(sendFirst)
		d, _ := f.device("Scanner", limited)
		fetch := func() {
			synctest.Wait()
			f.opts.Grants.(*guard.Grants).LoggedIn(
				t.Context(), guard.Place{Remote: netip.MustParseAddr(office)}, f.ids["alice"], "alice", f.version("alice"), d.ID)
		}
		first := f.from(office)
		first.sendAs("alice@example.com", "", "bob@example.com", "victim@elsewhere.example")
		fetch()
		first.expect("550 5.7.1 Have this recipient allowed")
		f.revoke("alice")
		for _, want := range []string{"250 ", "250 ", "450 4.7.1 "} { // the day has four
			c := f.from(office)
			c.sendAs("alice@example.com", "", "bob@example.com", "bob@example.com")
			fetch()
			c.expect(want)
			f.revoke("alice")
		}
		if n := len(f.mail("bob")); n != 2 {
			t.Errorf("bob has %d messages", n)
		}
	}, func(o *Options) {
		st := o.Store.(store.Store)
		hosts := guard.NewHosts(guard.HostsOptions{Interfaces: noAddresses, Gateways: noAddresses})
		o.Grants = guard.NewGrants(guard.GrantOptions{Grants: st, Accounts: st, Settings: st, Devices: st, Hosts: hosts})
	})
}

func noAddresses() ([]netip.Addr, error) { return nil, nil }

// TestDeviceIsRevokedAlone: a session of a revoked device is ended at its next MAIL; those of another device and of the main password go on, as
// do those of devices when the main password changes. A suspension ends all.
func TestDeviceIsRevokedAlone(t *testing.T) {
	onDevices(t, Submission, func(t *testing.T, f *proofs) {
		f.settings(func(s *store.Settings) { s.CleartextLogin = true })
		d, password := f.device("scanner", nil)
		brief, briefly := f.device("brief", func(d *store.Device) { d.Expires = time.Now().Add(time.Hour) })
		_, other := f.device("other", nil)
		gone, over, stays := f.withPassword(office, password), f.withPassword(office, briefly), f.withPassword(office, other)
		f.update("alice", func(a *store.Account) { a.Verifier = "another" })
		for _, c := range []*client{gone, over, stays} {
			c.message("alice@example.com", "bob@example.com", shortFrom)
		}
		f.must(f.store.RemoveDevice(t.Context(), d.Account, d.ID))
		time.Sleep(time.Until(brief.Expires))
		for _, c := range []*client{gone, over} {
			c.ask("MAIL FROM:<alice@example.com>", "421 4.7.0 Log in again, or have a new password made")
			c.closed()
		}
		stays.message("alice@example.com", "bob@example.com", shortFrom)
		f.update("alice", func(a *store.Account) { a.Suspended = true })
		stays.ask("MAIL FROM:<alice@example.com>", "421 4.7.0 Your password was changed or your mailbox suspended")
		stays.closed()
	})
}
