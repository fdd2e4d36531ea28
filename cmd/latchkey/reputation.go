package main

import (
	"log/slog"
	"net"
	"net/netip"
	"time"

	"latchkey/config"
	"latchkey/guard"
	"latchkey/internal/resolver"
	"latchkey/store"
	"latchkey/webmanager"
)

// newReputation builds the watch over this server's own addresses.
func newReputation(
	c config.Config, st store.Store, names *resolver.Resolver, conduct *guard.Conduct, listed func(bool), log *slog.Logger, now func() time.Time,
) *guard.Reputation {
	o := guard.ReputationOptions{
		Store: st, Conduct: conduct, Listed: listed, Addrs: names.Addrs, Notices: &webmanager.Notices{Store: st, Now: now, Logger: log}, Logger: log, Now: now,
		Addresses: func() []netip.Addr { return ownAddresses(c) },
	}
	for _, zone := range c.Reputation.Lists {
		o.Lists = append(o.Lists, guard.BlocklistOf(zone))
	}
	return guard.NewReputation(o)
}

// ownAddresses are those from which mail leaves: the configured ones, else the machine's own, unless a smarthost's stand before the world.
func ownAddresses(c config.Config) []netip.Addr {
	if len(c.Reputation.Addresses) > 0 || c.Relay.Smarthost != "" {
		return c.Reputation.Addresses
	}
	networks, err := net.InterfaceAddrs()
	if err != nil {
		return nil // the next round asks again
	}
	var list []netip.Addr
	for _, one := range networks {
		if network, ok := one.(*net.IPNet); ok {
			if a, ok := netip.AddrFromSlice(network.IP); ok {
				list = append(list, a.Unmap())
			}
		}
	}
	return list
}
