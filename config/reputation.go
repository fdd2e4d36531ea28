package config

import (
	"fmt"
	"net/netip"
	"strings"

	"latchkey/internal/mailaddr"
)

// Reputation says which blocklists are asked for this server's own addresses.
type Reputation struct {
	// Lists are the zones of DNS blocklists.
	Lists []string
	// Addresses are those from which mail leaves; none: the public ones of this machine.
	Addresses []netip.Addr
}

// maxLists and maxWatched bound them; package guard looks at no more.
const maxLists, maxWatched = 20, 20

func reputationKeys() []Key {
	return []Key{
		{
			Name: "reputation.lists", Default: "zen.spamhaus.org,bl.spamcop.net,psbl.surriel.com", kind: addresses,
			Help: "DNS blocklists that are asked every hour whether an address of this server is on them; empty: none",
			set:  setLists,
		},
		{
			Name: "reputation.addresses", kind: addresses,
			Help: "public addresses from which mail leaves, if they are not the machine's own; with a smarthost nothing else is asked about",
			set:  setWatched,
		},
	}
}

func setLists(c *Config, value string) error {
	list, err := parseList(value, func(one string) (string, error) {
		zone, err := mailaddr.CanonicalDomain(one)
		if err != nil || strings.HasPrefix(zone, "[") {
			return "", fmt.Errorf("%q is not a domain", one)
		}
		return zone, nil
	})
	if err == nil && len(list) > maxLists {
		err = fmt.Errorf("at most %d of them", maxLists)
	}
	c.Reputation.Lists = list
	return err
}

func setWatched(c *Config, value string) error {
	list, err := parseList(value, func(one string) (netip.Addr, error) {
		a, err := netip.ParseAddr(one)
		if err != nil || a.Zone() != "" {
			return a, fmt.Errorf("%q is not an IP address", one)
		}
		return a.Unmap(), nil
	})
	if err == nil && len(list) > maxWatched {
		err = fmt.Errorf("at most %d of them", maxWatched)
	}
	c.Reputation.Addresses = list
	return err
}
