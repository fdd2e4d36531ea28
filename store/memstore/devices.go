package memstore

import (
	"context"
	"slices"

	"latchkey/store"
)

// Device implements store.Devices.
func (s *Store) Device(ctx context.Context, account store.AccountID, id store.DeviceID) (store.Device, error) {
	if err := s.begin(ctx); err != nil {
		return store.Device{}, err
	}
	defer s.end()
	a, i := s.d.device(account, id)
	if i < 0 {
		return store.Device{}, store.ErrNotFound
	}
	return a.devices[i].Clone(), nil
}

// device finds a device of an account; i is -1 if there is none.
func (d *data) device(account store.AccountID, id store.DeviceID) (a *account, i int) {
	if a = d.accounts[account]; a == nil {
		return nil, -1
	}
	return a, slices.IndexFunc(a.devices, func(d store.Device) bool { return d.ID == id })
}

// ListDevices implements store.Devices.
func (s *Store) ListDevices(ctx context.Context, account store.AccountID) ([]store.Device, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	defer s.end()
	var list []store.Device
	if a := s.d.accounts[account]; a != nil {
		for _, d := range a.devices { // they ascend by id
			list = append(list, d.Clone())
		}
	}
	return list, nil
}

// AddDevice implements store.Devices.
func (s *Store) AddDevice(ctx context.Context, d store.Device) (store.Device, error) {
	if err := d.CheckNew(); err != nil {
		return store.Device{}, err
	}
	if err := s.begin(ctx); err != nil {
		return store.Device{}, err
	}
	defer s.end()
	a := s.d.accounts[d.Account]
	if a == nil {
		return store.Device{}, store.ErrNotFound
	}
	d.ID = 0
	if err := store.PlaceDevice(a.devices, d); err != nil {
		return store.Device{}, err
	}
	s.d.lastDevice++
	d.ID, d.Version = s.d.lastDevice, 1
	a.devices = append(a.devices, d.Clone())
	return d.Clone(), nil
}

// UpdateDevice implements store.Devices.
func (s *Store) UpdateDevice(ctx context.Context, d store.Device) (store.Device, error) {
	if err := d.Validate(); err != nil {
		return store.Device{}, err
	}
	if err := s.begin(ctx); err != nil {
		return store.Device{}, err
	}
	defer s.end()
	a, i := s.d.device(d.Account, d.ID)
	switch {
	case i < 0:
		return store.Device{}, store.ErrNotFound
	case a.devices[i].Version != d.Version:
		return store.Device{}, store.ErrConflict
	}
	if err := store.PlaceDevice(a.devices, d); err != nil {
		return store.Device{}, err
	}
	d.Succeed(a.devices[i])
	a.devices[i] = d.Clone()
	return d.Clone(), nil
}

// RemoveDevice implements store.Devices.
func (s *Store) RemoveDevice(ctx context.Context, account store.AccountID, id store.DeviceID) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.end()
	a, i := s.d.device(account, id)
	if i < 0 {
		return store.ErrNotFound
	}
	a.devices = slices.Delete(a.devices, i, i+1)
	return nil
}
