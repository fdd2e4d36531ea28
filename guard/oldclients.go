package guard

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"latchkey/store"
)

// OldClientStore is what OldClients needs of the store.
type OldClientStore interface {
	Account(ctx context.Context, id store.AccountID) (store.Account, error)
	Settings(ctx context.Context) (store.Settings, error)
}

// OldClients says which mailboxes may use a door for old clients, where cleartext and TLS 1.0 are taken. Its methods may be called from any
// goroutine.
type OldClients struct {
	store    OldClientStore
	hosts    *Hosts
	loopback bool
}

// NewOldClients returns the rule of one door. loopback is set when its listener is bound to a loopback address; see [Place].
func NewOldClients(st OldClientStore, hosts *Hosts, loopback bool) *OldClients {
	return &OldClients{store: st, hosts: hosts, loopback: loopback}
}

// Allowed reports whether a mailbox may use the door from an address: one whose owner switched old-client logins on, any if the owner of the
// domain did, and any from a network that is named for it. A network proves nothing where the address is not the client's own (see [Hosts.Bar]).
// The settings are asked each time.
func (o *OldClients) Allowed(ctx context.Context, remote netip.Addr, account store.AccountID) (bool, error) {
	settings, err := o.store.Settings(ctx)
	if err != nil {
		return false, fmt.Errorf("guard: settings: %w", err)
	}
	if settings.OldClientLogin {
		return true, nil
	}
	place := Place{Remote: remote, Loopback: o.loopback}
	contains := func(n netip.Prefix) bool { return n.Contains(place.address()) }
	if slices.ContainsFunc(settings.OldClientNetworks, contains) && o.hosts.Eligible(place) {
		return true, nil
	}
	a, err := o.store.Account(ctx, account)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("guard: account: %w", err)
	}
	return a.OldClientLogin, nil
}
