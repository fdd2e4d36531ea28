package guard

import (
	"context"
	"errors"
	"fmt"
	"time"

	"latchkey/store"
)

// Devices is what grants and budgets need to know of device credentials.
type Devices interface {
	// Device returns one device of an account, or store.ErrNotFound.
	Device(ctx context.Context, account store.AccountID, id store.DeviceID) (store.Device, error)
}

// withheldDevice is a reason for the log beside the bars.
const withheldDevice = "the device may not send from there"

// gives reports whether the credential with which mail was fetched gives the client a grant, or still does: the main password always; a device
// that is there, has not ended, may send as well as fetch, and may be used where the client stands.
func (g *Grants) gives(ctx context.Context, t terms, account store.AccountID, device store.DeviceID) (bool, error) {
	if device == 0 {
		return true, nil
	}
	if g.o.Devices == nil {
		return false, nil
	}
	d, err := g.o.Devices.Device(ctx, account, device)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("guard: device: %w", err)
	}
	return d.Send && d.Fetch && !d.Expired(t.now) && d.From(t.remote), nil
}

// good reports whether a grant is good for the client now: it is live, covers the address, and its account and credential are still what it was
// given to. The zero Account is one that does not exist.
func (g *Grants) good(ctx context.Context, t terms, grant store.Grant, a store.Account) (bool, error) {
	if !grant.Live(t.now) || !t.covers(grant) || !valid(grant, a) {
		return false, nil
	}
	return g.gives(ctx, t, grant.Account, grant.Device)
}

// voided returns grants with those of devices that give nothing any more marked as revoked: for the refusal they are.
func (g *Grants) voided(ctx context.Context, t terms, grants []store.Grant) ([]store.Grant, error) {
	for i := range grants {
		gives, err := g.gives(ctx, t, grants[i].Account, grants[i].Device)
		if err != nil {
			return nil, err
		}
		if !gives && grants[i].End == "" {
			grants[i].End = store.GrantRevoked
		}
	}
	return grants, nil
}

// DeviceWindow is the window of a device's own budget.
const DeviceWindow = 24 * time.Hour

// Device takes n recipients, whatever their domain, from what a device may name in [DeviceWindow]. If they are not there nothing is taken, and
// retryAfter says when they will be.
func (s *Sending) Device(ctx context.Context, device store.DeviceID, n, perDay int) (ok bool, retryAfter time.Duration, err error) {
	return s.take(ctx, deviceKey(device), n, store.Limit{N: int64(perDay), Window: DeviceWindow})
}

// RefundDevice gives n recipients back.
func (s *Sending) RefundDevice(ctx context.Context, device store.DeviceID, n, perDay int) error {
	return s.give(ctx, deviceKey(device), n, store.Limit{N: int64(perDay), Window: DeviceWindow})
}

func deviceKey(device store.DeviceID) string { return "sent/device/" + device.String() }
