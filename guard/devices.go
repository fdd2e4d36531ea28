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

// DeviceDay is what a device may name of recipients, whatever their domain, in a day.
func DeviceDay(device store.DeviceID, n int) Budget {
	return Budget{"sent/device/" + device.String(), store.Limit{N: int64(n), Window: 24 * time.Hour}}
}
