package storetest

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"pgregory.net/rapid"

	"latchkey/store"
)

// deviceFact is what is known of one device credential, which is named by its token.
type deviceFact struct {
	account string // the token of its account
	id      store.DeviceID
	fate    fate
	size    register[int64] // its message size, which says how often it was changed
}

// changeDevice adds a device to an account, or changes or revokes one that the client itself added.
func (c *client) changeDevice() error {
	var own *deviceFact
	var token string
	c.l.ask(func() {
		for _, t := range slices.Sorted(maps.Keys(c.l.devices)) {
			if f := c.l.devices[t]; f.fate == acked && c.l.accounts[f.account].fate == acked && int(f.id)%c.peers == c.index {
				own, token = f, t
			}
		}
	})
	if own == nil || c.rng.IntN(2) == 0 {
		return c.addDevice()
	}
	account := c.l.accounts[own.account].id
	if c.rng.IntN(2) == 0 {
		return c.revokeDevice(own, account)
	}
	d, err := c.s.Device(c.ctx, account, own.id)
	if errors.Is(err, store.ErrNotFound) { // its account was removed meanwhile
		return nil
	}
	if err != nil {
		return fmt.Errorf("device: %w", err)
	}
	d.MessageSize++
	c.l.ask(func() { own.size.ask(d.MessageSize) })
	_, err = c.s.UpdateDevice(c.ctx, d)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("update device %s: %w", token, err)
	}
	c.l.hear(func() { own.size.told(d.MessageSize) })
	return nil
}

func (c *client) addDevice() error {
	a := c.anyAccount()
	if a == nil {
		return nil
	}
	f, token := &deviceFact{account: a.token, size: newRegister(int64(0))}, c.token()
	c.l.ask(func() { c.l.devices[token] = f })
	d, err := c.s.AddDevice(c.ctx, store.Device{Account: a.id, Name: token, Verifier: "v", Send: true})
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrBound) {
		c.l.hear(func() { f.fate = departed })
		return nil
	}
	if err != nil {
		return fmt.Errorf("add device: %w", err)
	}
	c.l.hear(func() { f.id, f.fate = d.ID, acked })
	return c.l.saw("device", d.ID.String(), token)
}

func (c *client) revokeDevice(f *deviceFact, account store.AccountID) error {
	c.l.ask(func() { f.fate = leaving })
	err := c.s.RemoveDevice(c.ctx, account, f.id)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("revoke device: %w", err)
	}
	c.l.hear(func() { f.fate = departed })
	return nil
}

// devices: each that was added is there, with the account that has it, until it is revoked or the account removed.
func (v *verifier) devices() {
	v.t.Helper()
	found := make(map[string]int)
	for token, a := range v.l.accounts {
		list, err := v.s.ListDevices(v.ctx, a.id)
		v.must(err)
		if len(list) > 0 && a.fate == departed {
			v.t.Errorf("account %s is gone, and has %d devices", token, len(list))
		}
		for _, d := range list {
			found[d.Name]++
			v.check(v.l.saw("device", d.ID.String(), d.Name))
			f := v.l.devices[d.Name]
			if f == nil || f.account != token || !f.size.can(d.MessageSize) {
				v.t.Errorf("account %s has device %+v, known as %+v", token, d, f)
				continue
			}
			f.id = d.ID
			f.size.told(d.MessageSize)
		}
	}
	for token, f := range v.l.devices {
		f.fate = v.judge("device "+token, f.fate, found[token], v.l.accounts[f.account].fate == departed)
	}
}

// changeSomeDevice adds, changes or revokes a device of an account of the model.
func (p *player) changeSomeDevice(rt *rapid.T) {
	a := p.anyAccount(rt)
	n := number(rt, "device", 0, len(a.devices))
	if n == len(a.devices) {
		p.serial++
		d, err := p.s.AddDevice(p.ctx, deviceFor(a.Account, fmt.Sprint("device ", p.serial)))
		p.must(err)
		if d.ID <= p.m.lastDevice {
			p.t.Errorf("device id %d after %d", d.ID, p.m.lastDevice)
		}
		p.m.lastDevice = d.ID
		a.devices = append(a.devices, d)
		return
	}
	if number(rt, "change", 0, 1) == 0 {
		p.must(p.s.RemoveDevice(p.ctx, a.ID, a.devices[n].ID))
		a.devices = slices.Delete(a.devices, n, n+1)
		return
	}
	d := a.devices[n].Clone()
	d.DailyRecipients++
	d.Verifier = "a caller's"
	got, err := p.s.UpdateDevice(p.ctx, d)
	p.must(err)
	a.devices[n].DailyRecipients++
	a.devices[n].Version++
	p.sameDevice(got, a.devices[n])
}

func (p *player) compareDevices() {
	for _, a := range p.m.accounts {
		p.wantDevices(a.Account, a.devices...)
	}
	for _, id := range p.m.removed {
		p.wantDevices(store.Account{ID: id})
	}
}
