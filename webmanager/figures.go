package webmanager

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"latchkey/store"
)

// figureDays is how many days a preview looks back, today included.
const figureDays = 30

// statStarts is the daily figure of how often the server started. It also marks the day when counting began.
const statStarts = "starts"

// figures are what the last figureDays days say about who sent mail out of the domain, and how.
type figures struct {
	// since is the first day of the window on which anything could be counted; the zero Time if nothing was counted yet.
	since time.Time
	// whole is set when counting began before the window.
	whole bool
	// full is set when a day had more senders than are counted.
	full bool
	// mailboxes and addresses are the numbers of messages.
	mailboxes map[store.SentWay]map[string]int64
	addresses map[store.SentWay]map[netip.Addr]int64
	// grants is how many grants are live now; looked at only if they are to end.
	grants int64
	// ended is how many passwords that were seen in the clear end at once; looked at only if clear_password_days is to change.
	ended int64
	// ownExpiry is set if a mailbox has an expire_days of its own.
	ownExpiry bool
	// usage is what all mailboxes hold; looked at only if the quota of the domain is to change.
	usage store.Usage
}

// figures reads the statistics day by day: a day has at most store.MaxStatNames figures, a month thirty times as many.
func (a *API) figures(ctx context.Context) (figures, error) {
	f := figures{mailboxes: map[store.SentWay]map[string]int64{}, addresses: map[store.SentWay]map[netip.Addr]int64{}}
	today := a.now().UTC()
	first := today.AddDate(0, 0, 1-figureDays)
	byID := map[store.SentWay]map[store.AccountID]int64{}
	for back := store.MaxStatDays - 1; back >= 0; back-- {
		date := today.AddDate(0, 0, -back)
		if date.Before(first) && !f.since.IsZero() {
			continue
		}
		day := store.DayOf(date)
		stats, err := a.store.ListStats(ctx, day, day)
		if err != nil {
			return f, err
		}
		if len(stats) > 0 && f.since.IsZero() {
			f.since, f.whole = date, !date.After(first)
		}
		if date.Before(first) {
			continue
		}
		f.full = f.full || len(stats) >= store.MaxStatNames
		for _, s := range stats {
			f.count(s, byID)
		}
	}
	return f, a.nameMailboxes(ctx, f, byID)
}

// liveGrants counts the grants that are live.
func (a *API) liveGrants(ctx context.Context) (int64, error) {
	filter, total := store.GrantFilter{LiveAt: a.now()}, int64(0)
	for after := store.GrantID(0); ; {
		grants, err := a.store.ListGrants(ctx, filter, after, MaxListLimit)
		if err != nil || len(grants) == 0 {
			return total, err
		}
		total += int64(len(grants))
		after = grants[len(grants)-1].ID
	}
}

// count adds one figure of [store.SentByMailbox] or [store.SentFromAddress]; others are none of ours.
func (f figures) count(s store.Stat, byID map[store.SentWay]map[store.AccountID]int64) {
	parts := strings.SplitN(s.Name, "/", 4)
	if len(parts) != 4 || parts[0] != "sent" {
		return
	}
	way := store.SentWay(parts[1])
	switch parts[2] {
	case "mailbox":
		if id, err := strconv.ParseUint(parts[3], 10, 64); err == nil {
			add(byID, way, store.AccountID(id), s.N)
		}
	case "address":
		if address, err := netip.ParseAddr(parts[3]); err == nil {
			add(f.addresses, way, address, s.N)
		}
	}
}

func add[K comparable](into map[store.SentWay]map[K]int64, way store.SentWay, key K, n int64) {
	if into[way] == nil {
		into[way] = map[K]int64{}
	}
	into[way][key] += n
}

// nameMailboxes puts names to the accounts.
func (a *API) nameMailboxes(ctx context.Context, f figures, byID map[store.SentWay]map[store.AccountID]int64) error {
	for way, numbers := range byID {
		for id, n := range numbers {
			name := ""
			switch account, err := a.store.Account(ctx, id); {
			case err == nil:
				name = account.Name
			case errors.Is(err, store.ErrNotFound):
				name = fmt.Sprintf("removed mailbox %d", id)
			default:
				return err
			}
			add(f.mailboxes, way, name, n)
		}
	}
	return nil
}

// sent is what was sent in some ways from some place.
type sent struct {
	mailboxes, addresses []string // those with most messages first
	messages             int64
}

// by sums up what was sent in these ways. Each message is counted for a mailbox and for an address; a mailbox may be unknown.
func (f figures) by(ways ...store.SentWay) sent {
	mailboxes, addresses := map[string]int64{}, map[netip.Addr]int64{}
	for _, way := range ways {
		for name, n := range f.mailboxes[way] {
			mailboxes[name] += n
		}
		for address, n := range f.addresses[way] {
			addresses[address] += n
		}
	}
	return sent{
		mailboxes: mostFirst(mailboxes), addresses: mostFirst(texts(addresses)),
		messages: max(sum(mailboxes), sum(addresses)),
	}
}

// from sums up what was sent in these ways from addresses of the networks.
func (f figures) from(networks []netip.Prefix, ways ...store.SentWay) sent {
	addresses := map[netip.Addr]int64{}
	for _, way := range ways {
		for address, n := range f.addresses[way] {
			if slices.ContainsFunc(networks, client(address).Overlaps) {
				addresses[address] += n
			}
		}
	}
	return sent{addresses: mostFirst(texts(addresses)), messages: sum(addresses)}
}

// client is what the figure of an address is of: see [store.SentFromAddress].
func client(address netip.Addr) netip.Prefix {
	bits := address.BitLen()
	if masked, err := address.Prefix(64); address.Is6() && err == nil && masked.Addr() == address {
		bits = 64
	}
	return netip.PrefixFrom(address, bits)
}

func texts(numbers map[netip.Addr]int64) map[string]int64 {
	named := make(map[string]int64, len(numbers))
	for address, n := range numbers {
		named[address.String()] = n
	}
	return named
}

func sum[K comparable](numbers map[K]int64) int64 {
	total := int64(0)
	for _, n := range numbers {
		total += n
	}
	return total
}

func mostFirst(numbers map[string]int64) []string {
	return slices.SortedFunc(maps.Keys(numbers), func(a, b string) int {
		return cmp.Or(cmp.Compare(numbers[b], numbers[a]), cmp.Compare(a, b))
	})
}
