package boltstore

import (
	"context"
	"fmt"
	"net/netip"

	"latchkey/store"
)

func deviceKey(account store.AccountID, id store.DeviceID) []byte {
	return key16(uint64(account), uint64(id))
}

// Flags of a device.
const (
	deviceSends = 1 << iota
	deviceFetches
	deviceOwnDomain
)

func encodeDevice(d *store.Device) []byte {
	var flags uint8
	for i, set := range []bool{d.Send, d.Fetch, d.OwnDomain} {
		if set {
			flags |= 1 << i
		}
	}
	var e encoder
	e.string(d.Name)
	e.string(string(d.Verifier))
	e.uint8(flags)
	e.uvarint(uint64(len(d.Networks)))
	for _, n := range d.Networks {
		e.bytes(n.Addr().AsSlice())
		e.uint8(uint8(n.Bits()))
	}
	e.uvarint(uint64(len(d.Addresses)))
	for _, a := range d.Addresses {
		e.mailbox(a)
	}
	e.uvarint(uint64(len(d.Domains)))
	for _, name := range d.Domains {
		e.string(name)
	}
	e.uvarint(uint64(d.MessageSize))
	e.uvarint(uint64(d.DailyRecipients))
	e.time(d.Expires)
	e.time(d.ClearSince)
	e.time(d.Created)
	e.uvarint(d.Version)
	return e.b
}

func decodeDevice(key, b []byte) (store.Device, error) {
	if len(key) != 16 {
		return store.Device{}, errShortRecord
	}
	d := decoder{b: b}
	v := store.Device{Account: store.AccountID(id8(key)), ID: store.DeviceID(id8(key[8:])), Name: d.string(), Verifier: store.Verifier(d.string())}
	flags := d.uint8()
	v.Send, v.Fetch, v.OwnDomain = flags&deviceSends != 0, flags&deviceFetches != 0, flags&deviceOwnDomain != 0
	for n := d.uvarint(); n > 0 && d.err == nil; n-- {
		addr, ok := netip.AddrFromSlice(d.bytes())
		if v.Networks = append(v.Networks, netip.PrefixFrom(addr, int(d.uint8()))); !ok {
			d.fail()
		}
	}
	for n := d.uvarint(); n > 0 && d.err == nil; n-- {
		v.Addresses = append(v.Addresses, d.mailbox())
	}
	for n := d.uvarint(); n > 0 && d.err == nil; n-- {
		v.Domains = append(v.Domains, d.string())
	}
	v.MessageSize, v.DailyRecipients = int64(d.uvarint()), int(d.uvarint())
	v.Expires, v.ClearSince, v.Created = d.time(), d.time(), d.time()
	v.Version = d.uvarint()
	// One that cannot be what was written must open nothing.
	if d.err == nil && v.CheckNew() != nil {
		d.fail()
	}
	if d.err != nil {
		return store.Device{}, d.err
	}
	return v, nil
}

func (v *view) device(account store.AccountID, id store.DeviceID) (store.Device, error) {
	key := deviceKey(account, id)
	b := v.get(bDevices, key)
	if b == nil {
		return store.Device{}, fmt.Errorf("device %s of account %d: %w", id, account, store.ErrNotFound)
	}
	return decodeDevice(key, b)
}

// devices returns the devices of an account in order of id.
func (v *view) devices(account store.AccountID) (list []store.Device, err error) {
	v.scan(bDevices, key8(uint64(account)), nil, func(key, value []byte) bool {
		var d store.Device
		if d, err = decodeDevice(key, value); err != nil {
			return false
		}
		list = append(list, d)
		return true
	})
	return list, err
}

// Device implements store.Devices.
func (s *Store) Device(ctx context.Context, account store.AccountID, id store.DeviceID) (d store.Device, err error) {
	err = s.read(ctx, func(v *view) (err error) {
		d, err = v.device(account, id)
		return err
	})
	return d, err
}

// ListDevices implements store.Devices.
func (s *Store) ListDevices(ctx context.Context, account store.AccountID) (list []store.Device, err error) {
	err = s.read(ctx, func(v *view) (err error) {
		list, err = v.devices(account)
		return err
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// AddDevice implements store.Devices.
func (s *Store) AddDevice(ctx context.Context, d store.Device) (store.Device, error) {
	if err := d.CheckNew(); err != nil {
		return store.Device{}, err
	}
	d = d.Clone()
	d.ID, d.Version = 0, 1
	err := s.write(ctx, func(t *txn) error {
		if !t.has(bAccounts, key8(uint64(d.Account))) {
			return fmt.Errorf("account %d: %w", d.Account, store.ErrNotFound)
		}
		known, err := t.devices(d.Account)
		if err != nil {
			return err
		}
		if err := store.PlaceDevice(known, d); err != nil {
			return err
		}
		t.tally.Device++
		d.ID = store.DeviceID(t.tally.Device)
		t.put(bDevices, deviceKey(d.Account, d.ID), encodeDevice(&d))
		return nil
	})
	if err != nil {
		return store.Device{}, err
	}
	return d, nil
}

// UpdateDevice implements store.Devices.
func (s *Store) UpdateDevice(ctx context.Context, d store.Device) (store.Device, error) {
	if err := d.Validate(); err != nil {
		return store.Device{}, err
	}
	d = d.Clone()
	given := d.Version
	err := s.write(ctx, func(t *txn) error {
		old, err := t.device(d.Account, d.ID)
		if err != nil {
			return err
		}
		if old.Version != given {
			return fmt.Errorf("device %s: %w", d.ID, store.ErrConflict)
		}
		known, err := t.devices(d.Account)
		if err != nil {
			return err
		}
		if err := store.PlaceDevice(known, d); err != nil {
			return err
		}
		d.Succeed(old)
		t.put(bDevices, deviceKey(d.Account, d.ID), encodeDevice(&d))
		return nil
	})
	if err != nil {
		return store.Device{}, err
	}
	return d, nil
}

// RemoveDevice implements store.Devices. A device that cannot be read can be removed all the same.
func (s *Store) RemoveDevice(ctx context.Context, account store.AccountID, id store.DeviceID) error {
	return s.release(ctx, func(t *txn) error {
		key := deviceKey(account, id)
		if !t.has(bDevices, key) {
			return fmt.Errorf("device %s of account %d: %w", id, account, store.ErrNotFound)
		}
		t.delete(bDevices, key)
		return nil
	})
}

// removeDevices forgets the devices of a removed account.
func (t *txn) removeDevices(account store.AccountID) {
	var keys [][]byte
	t.scan(bDevices, key8(uint64(account)), nil, func(key, _ []byte) bool {
		keys = append(keys, append([]byte(nil), key...))
		return true
	})
	for _, key := range keys {
		t.delete(bDevices, key)
	}
}

// deviceSeeker looks at the devices of all accounts in the order of their keys.
type deviceSeeker struct {
	v      *view
	before []store.Device // of the same account
}

// stray says why there should be no such device, or "".
func (k *deviceSeeker) stray(d store.Device) (why string) {
	if len(k.before) > 0 && k.before[0].Account != d.Account {
		k.before = k.before[:0]
	}
	if !k.v.has(bAccounts, key8(uint64(d.Account))) {
		return fmt.Sprintf("account %d does not exist", d.Account)
	}
	if err := store.PlaceDevice(k.before, d); err != nil {
		return err.Error()
	}
	k.before = append(k.before, d)
	return ""
}

func deviceObject(d store.Device) string {
	return fmt.Sprintf("device %s of account %d", d.ID, d.Account)
}
