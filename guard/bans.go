package guard

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// Bounds of bans.
const (
	// BanTime is how long the first ban after guesses lasts. Each further one within BanMemory of the end of the last lasts twice as long as it,
	// at most LongestBan.
	BanTime    = 15 * time.Minute
	LongestBan = 24 * time.Hour
	BanMemory  = 24 * time.Hour
	// MaxBans bounds the bans after guesses: beyond it the one that was met longest ago is forgotten.
	MaxBans = 4000
	// MaxBanRules bounds the bans that somebody made, MaxBanRuleTime how long one lasts, MaxBanReason its reason in octets. Their networks are
	// at most a /16 (IPv4) or a /32 (IPv6) wide.
	MaxBanRules    = 200
	MaxBanRuleTime = 366 * 24 * time.Hour
	MaxBanReason   = 100
	minBanBits4    = 16
	minBanBits6    = 32
)

// Reasons of bans that nobody made.
const (
	// BanGuesses: too many different wrong passwords for the mailbox came from the client.
	BanGuesses = "wrong passwords"
	// BanRelaying: the client tried to relay without a login, see [Strangers].
	BanRelaying = "tried to relay"
)

// Doors of bans.
const (
	// BanLogin keeps a client from logging in, at whatever door.
	BanLogin = "login"
	// BanMX keeps a client from port 25.
	BanMX = "mx"
)

// Ban keeps the clients of a network from something until its time is over.
type Ban struct {
	Network netip.Prefix `json:"network"`
	// Mailbox is the one that they are kept from; empty is every mailbox. It is what was typed, and need not exist.
	Mailbox string `json:"mailbox,omitempty"`
	Door    string `json:"door"`
	Reason  string `json:"reason"`
	// By is who made it; empty if nobody did.
	By    string    `json:"by,omitempty"`
	Since time.Time `json:"since"`
	Until time.Time `json:"until"`
	// Times is how often in a row a ban after guesses came.
	Times int `json:"times,omitempty"`
}

// Validate reports why a ban cannot be made by somebody; it wraps store.ErrInvalid.
func (b Ban) Validate() error {
	bits := minBanBits4
	if b.Network.Addr().Is6() {
		bits = minBanBits6
	}
	length := b.Until.Sub(b.Since)
	switch {
	case !b.Network.IsValid() || b.Network != b.Network.Masked() || b.Network.Addr().Is4In6():
		return fmt.Errorf("%w: not a network", store.ErrInvalid)
	case b.Network.Bits() < bits:
		return fmt.Errorf("%w: a network is at most a /%d wide", store.ErrInvalid, bits)
	case length <= 0 || length > MaxBanRuleTime:
		return fmt.Errorf("%w: a ban lasts at most %d days", store.ErrInvalid, MaxBanRuleTime/(24*time.Hour))
	case len(b.Mailbox) > store.MaxNameLen || mailaddr.HasControl(b.Mailbox):
		return fmt.Errorf("%w: not the name of a mailbox", store.ErrInvalid)
	case len(b.Reason) > MaxBanReason || mailaddr.HasControl(b.Reason):
		return fmt.Errorf("%w: a reason has at most %d octets, and no control characters", store.ErrInvalid, MaxBanReason)
	}
	return nil
}

// live reports whether a ban counts.
func (b Ban) live(now time.Time) bool { return now.Before(b.Until) }

// bans are those from logins. The lock of Logins protects them.
type bans struct {
	guesses *table[pairKey, Ban]
	rules   []Ban
	// changes counts what is worth keeping.
	changes uint64
}

func newBans() bans { return bans{guesses: newTable[pairKey, Ban](MaxBans)} }

// find returns the ban that an attempt meets, the one that lasts longest.
func (b *bans) find(now time.Time, remote netip.Addr, key pairKey) (found Ban, is bool) {
	if one := b.guesses.peek(key); one != nil && one.live(now) {
		found, is = *b.guesses.use(key), true
	}
	remote = remote.Unmap().WithZone("")
	for _, one := range b.rules {
		if one.live(now) && (one.Mailbox == "" || one.Mailbox == key.mailbox) && one.Network.Contains(remote) && one.Until.After(found.Until) {
			found, is = one, true
		}
	}
	return found, is
}

// guessed bans a pair.
func (b *bans) guessed(now time.Time, key pairKey) {
	one := b.guesses.use(key)
	if one.live(now) {
		return // for guesses that were being looked at when it came
	}
	if one.Times > 0 && now.Sub(one.Until) >= BanMemory {
		*one = Ban{}
	}
	length := BanTime
	for range one.Times {
		length = min(2*length, LongestBan)
	}
	*one = Ban{
		Network: key.prefix, Mailbox: key.mailbox, Door: BanLogin, Reason: BanGuesses, Since: now, Until: now.Add(length), Times: one.Times + 1,
	}
	b.changes++
}

// Banned returns the ban that keeps a client from a mailbox, if there is one.
func (g *Logins) Banned(now time.Time, remote netip.Addr, mailbox string) (Ban, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.bans.find(now, remote, pairKey{Prefix(remote), mailbox})
}

// Bans returns the bans from logins that count now, in order of network and mailbox.
func (g *Logins) Bans(now time.Time) []Ban {
	g.mu.Lock()
	defer g.mu.Unlock()
	list := slices.DeleteFunc(slices.Clone(g.bans.rules), func(b Ban) bool { return !b.live(now) })
	for e := g.bans.guesses.order.Front(); e != nil; e = e.Next() {
		if b := e.Value.(*tableEntry[pairKey, Ban]).value; b.live(now) {
			list = append(list, b)
		}
	}
	slices.SortFunc(list, compareBans)
	return list
}

func compareBans(a, b Ban) int {
	return cmp.Or(a.Network.Addr().Compare(b.Network.Addr()), cmp.Compare(a.Network.Bits(), b.Network.Bits()), strings.Compare(a.Mailbox, b.Mailbox),
		strings.Compare(a.Door, b.Door), a.Until.Compare(b.Until))
}

// AddBan makes a ban from logins, in place of one for the same network and mailbox that somebody made before. It counts at once, also for those
// who are
// known there; sessions that are open go on. ErrInvalid (of store) says what is wrong with it, ErrBound that there are MaxBanRules.
func (g *Logins) AddBan(now time.Time, b Ban) error {
	b.Door, b.Since = BanLogin, now
	if err := b.Validate(); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	rules := slices.DeleteFunc(slices.Clone(g.bans.rules), func(old Ban) bool {
		return !old.live(now) || old.Network == b.Network && old.Mailbox == b.Mailbox
	})
	if len(rules) >= MaxBanRules {
		return fmt.Errorf("%w: at most %d bans are made by hand", store.ErrBound, MaxBanRules)
	}
	g.bans.rules = append(rules, b)
	g.bans.changes++
	return nil
}

// errLiftNothing: LiftBans was not told what to lift.
var errLiftNothing = errors.New("guard: say which bans, by network or by mailbox")

// LiftBans ends the bans from logins whose network overlaps with the one given and whose mailbox is the one given; the zero Prefix is every
// network and
// "" every mailbox, but not both. It returns those that it ended, and forgets the wrong passwords that were counted for these clients and
// mailboxes, so
// that the next login there begins anew.
func (g *Logins) LiftBans(now time.Time, network netip.Prefix, mailbox string) ([]Ban, error) {
	if !network.IsValid() && mailbox == "" {
		return nil, errLiftNothing
	}
	meant := func(prefix netip.Prefix, name string) bool {
		return (!network.IsValid() || network.Overlaps(prefix)) && (mailbox == "" || mailbox == name)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	var lifted []Ban
	g.bans.rules = slices.DeleteFunc(g.bans.rules, func(b Ban) bool {
		if !meant(b.Network, b.Mailbox) {
			return false
		}
		if b.live(now) {
			lifted = append(lifted, b)
		}
		return true
	})
	g.bans.guesses.removeFunc(func(key pairKey, b *Ban) bool {
		if !meant(key.prefix, key.mailbox) {
			return false
		}
		if b.live(now) {
			lifted = append(lifted, *b)
		}
		return true
	})
	g.forget(network, mailbox, meant)
	if len(lifted) > 0 {
		g.bans.changes++
	}
	slices.SortFunc(lifted, compareBans)
	return lifted, nil
}

// forget empties the counts that a lifted ban leaves behind. g.mu is held.
func (g *Logins) forget(network netip.Prefix, mailbox string, meant func(netip.Prefix, string) bool) {
	g.pairs.removeFunc(func(key pairKey, _ *misses) bool { return meant(key.prefix, key.mailbox) })
	for e := g.known.order.Front(); e != nil; e = e.Next() {
		if entry := e.Value.(*tableEntry[pairKey, misses]); meant(entry.key.prefix, entry.key.mailbox) {
			entry.value.bucket, entry.value.own = store.Bucket{}, store.Bucket{}
		}
	}
	if network.IsValid() {
		g.prefixes.removeFunc(func(prefix netip.Prefix, _ *clientMisses) bool { return network.Overlaps(prefix) })
	}
	if mailbox != "" {
		g.mailboxes.remove(mailbox)
	}
}
