package guard

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"

	"latchkey/store"
)

// Bounds of what is remembered of clients' logins and guesses; beyond each of the tables' the entry that was used longest ago is
// forgotten.
const (
	// MaxMailboxesPerAddress is how many different mailboxes may log in from one address in CrowdWindow before it counts as crowded.
	MaxMailboxesPerAddress = 40
	CrowdWindow            = time.Hour
	// GuessBurst different wrong passwords for one mailbox from one client (see [Prefix]) within GuessWindow end the mailbox's grants from
	// there; wrong passwords for as many mailboxes end all grants from there.
	GuessBurst  = 5
	GuessWindow = 10 * time.Minute
	// MaxCrowds, MaxGuessPairs and MaxGuessClients bound the tables.
	MaxCrowds       = 10_000
	MaxGuessPairs   = 20_000
	MaxGuessClients = 20_000
)

// crowds remembers which mailboxes logged in from where.
type crowds struct {
	mu       sync.Mutex // protects networks
	networks *table[netip.Prefix, visits]
}

// visits are the latest logins of different mailboxes, at most one more than are allowed.
type visits []visit

type visit struct {
	account store.AccountID
	at      time.Time
}

func newCrowds() *crowds { return &crowds{networks: newTable[netip.Prefix, visits](MaxCrowds)} }

// note remembers a login and reports whether the network is crowded with it.
func (c *crowds) note(now time.Time, network netip.Prefix, account store.AccountID) (crowded bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v := c.networks.use(network)
	*v = slices.DeleteFunc(*v, func(old visit) bool { return old.account == account || !now.Before(old.at.Add(CrowdWindow)) })
	if len(*v) > MaxMailboxesPerAddress {
		*v = slices.Delete(*v, 0, 1)
	}
	*v = append(*v, visit{account, now})
	return v.crowded(now)
}

// crowded reports whether too many mailboxes logged in from the network lately.
func (c *crowds) crowded(now time.Time, network netip.Prefix) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	v := c.networks.peek(network)
	return v != nil && v.crowded(now)
}

func (v visits) crowded(now time.Time) bool {
	n := 0
	for _, one := range v {
		if now.Before(one.at.Add(CrowdWindow)) {
			n++
		}
	}
	return n > MaxMailboxesPerAddress
}

// guesses remembers wrong passwords until they make a burst.
type guesses struct {
	mu      sync.Mutex // protects the tables
	pairs   *table[pairKey, []time.Time]
	clients *table[netip.Prefix, []guessed]
}

// guessed is the latest wrong password for one mailbox.
type guessed struct {
	mailbox string
	at      time.Time
}

func newGuesses() *guesses {
	return &guesses{
		pairs: newTable[pairKey, []time.Time](MaxGuessPairs), clients: newTable[netip.Prefix, []guessed](MaxGuessClients),
	}
}

// note remembers a guess and reports whether there were too many lately, at this mailbox or at different ones.
func (g *guesses) note(now time.Time, client netip.Prefix, mailbox string) (pair, spray bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	times := g.pairs.use(pairKey{client, mailbox})
	*times = slices.DeleteFunc(*times, func(t time.Time) bool { return !now.Before(t.Add(GuessWindow)) })
	if len(*times) == GuessBurst {
		*times = slices.Delete(*times, 0, 1)
	}
	*times = append(*times, now)
	mailboxes := g.clients.use(client)
	*mailboxes = slices.DeleteFunc(*mailboxes, func(m guessed) bool {
		return m.mailbox == mailbox || !now.Before(m.at.Add(GuessWindow))
	})
	if len(*mailboxes) == GuessBurst {
		*mailboxes = slices.Delete(*mailboxes, 0, 1)
	}
	*mailboxes = append(*mailboxes, guessed{mailbox, now})
	return len(*times) == GuessBurst, len(*mailboxes) == GuessBurst
}

// Guessed counts a wrong password for a mailbox, known or not, that this client had not sent before (see [Logins.Failed]), over
// whatever door. A burst of them ends grants from there durably; each further guess while the burst lasts does so again. The owner's
// next login by POP3 opens a new grant.
func (g *Grants) Guessed(ctx context.Context, remote netip.Addr, mailbox string) {
	client := Prefix(remote.WithZone(""))
	if !client.IsValid() {
		return // over a unix socket: there are no grants
	}
	now := g.o.Now()
	pair, spray := g.guesses.note(now, client, mailbox)
	if !pair && !spray {
		return
	}
	// A guesser who hangs up at once must not save the grant.
	ctx = context.WithoutCancel(ctx)
	filter := store.GrantFilter{LiveAt: now}
	if client.IsSingleIP() {
		filter.Remote = client.Addr()
	}
	if !spray {
		a, err := g.o.Accounts.AccountByName(ctx, mailbox)
		if errors.Is(err, store.ErrNotFound) {
			return
		}
		if err != nil {
			g.o.Logger.Error("grants not revoked after guesses", "remote", remote.String(), "err", err)
			return
		}
		filter.Account = a.ID
	}
	g.revoke(ctx, now, filter, client)
}

// revoke ends the grants of a client after guesses.
func (g *Grants) revoke(ctx context.Context, now time.Time, f store.GrantFilter, client netip.Prefix) {
	err := g.each(ctx, f, func(page []store.Grant) error {
		var ids []store.GrantID
		for _, grant := range page {
			if grant.Network.Overlaps(client) {
				ids = append(ids, grant.ID)
			}
		}
		if len(ids) == 0 {
			return nil
		}
		revoked, err := g.o.Grants.RevokeGrants(ctx, now, store.GrantGuessed, ids...)
		for _, grant := range page {
			if slices.Contains(revoked, grant.ID) {
				g.o.Logger.Info("grant revoked", "id", uint64(grant.Account), "grant", grant.ID.String(), "network", grant.Network.String(),
					"reason", string(store.GrantGuessed))
			}
		}
		return err
	})
	if err != nil {
		g.o.Logger.Error("grants not revoked after guesses", "client", client.String(), "err", err)
	}
}
