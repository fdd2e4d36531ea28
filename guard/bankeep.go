package guard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"
	"unicode/utf8"

	"latchkey/store"
)

const (
	// bansSecret is the name under which bans are kept, bansKeptEvery how often those after guesses are written down.
	bansSecret    = "guard/bans"
	bansKeptEvery = time.Minute
)

// BanStore is what BanKeeper needs of a store.
type BanStore interface {
	PutSecret(ctx context.Context, name string, blob []byte) error
	Secret(ctx context.Context, name string) ([]byte, error)
}

// BanKeeper keeps the bans of a Logins over a restart: those that somebody made at once, those after guesses every minute and at the end. They lie
// with the secrets, as a name that was typed for a mailbox may be somebody's password. What does not fit into one secret is forgotten, those after
// guesses first.
type BanKeeper struct {
	logins *Logins
	store  BanStore
	now    func() time.Time
	log    *slog.Logger
	kept   uint64 // the changes that are written down; only Load, Run and Close write
}

// NewBanKeeper returns a keeper; Load comes first. A nil logger discards what goes wrong.
func NewBanKeeper(logins *Logins, st BanStore, now func() time.Time, log *slog.Logger) *BanKeeper {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &BanKeeper{logins: logins, store: st, now: now, log: log}
}

// Load makes the bans that were kept count again.
func (k *BanKeeper) Load(ctx context.Context) error {
	blob, err := k.store.Secret(ctx, bansSecret)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	var list []Ban
	if err := json.Unmarshal(blob, &list); err != nil {
		return fmt.Errorf("guard: the bans that were kept cannot be read: %w", err)
	}
	k.logins.restore(k.now(), list)
	return nil
}

// Save writes the bans down.
func (k *BanKeeper) Save(ctx context.Context) error {
	blob, _ := k.logins.snapshot(k.now())
	return k.store.PutSecret(ctx, bansSecret, blob)
}

// Run writes down what changed, every minute until ctx ends.
func (k *BanKeeper) Run(ctx context.Context) {
	ticker := time.NewTicker(bansKeptEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			k.flush(context.WithoutCancel(ctx))
		case <-ctx.Done():
			return
		}
	}
}

// Close writes down what is left. Call it when Run and all doors have ended and the store is still open.
func (k *BanKeeper) Close() { k.flush(context.Background()) }

func (k *BanKeeper) flush(ctx context.Context) {
	blob, changes := k.logins.snapshot(k.now())
	if changes == k.kept {
		return
	}
	if err := k.store.PutSecret(ctx, bansSecret, blob); err != nil {
		k.log.Error("bans could not be written down", "err", err)
		return
	}
	k.kept = changes
}

// snapshot returns the bans that fit into one secret, and which state of them that is. Those that somebody made stand first, then those that last
// longest.
func (g *Logins) snapshot(now time.Time) (blob []byte, changes uint64) {
	list := g.Bans(now)
	slices.SortStableFunc(list, func(a, b Ban) int {
		if byHand := func(b Ban) bool { return b.Times == 0 }; byHand(a) != byHand(b) {
			if byHand(a) {
				return -1
			}
			return 1
		}
		return b.Until.Compare(a.Until)
	})
	g.mu.Lock()
	changes = g.bans.changes
	g.mu.Unlock()
	blob = []byte{'['}
	for _, b := range list {
		one, err := json.Marshal(b)
		if err != nil || !utf8.ValidString(b.Mailbox) {
			continue // JSON has no form for it, and no mailbox has that name
		}
		if len(blob)+len(one)+2 > store.MaxSecretSize {
			break
		}
		if len(blob) > 1 {
			blob = append(blob, ',')
		}
		blob = append(blob, one...)
	}
	return append(blob, ']'), changes
}

// restore makes bans count that were kept.
func (g *Logins) restore(now time.Time, list []Ban) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, b := range list {
		switch {
		case !b.live(now) || !b.Network.IsValid():
		case b.Times > 0:
			*g.bans.guesses.use(pairKey{b.Network, b.Mailbox}) = b
		case len(g.bans.rules) < MaxBanRules:
			g.bans.rules = append(g.bans.rules, b)
		}
	}
}

// BanDesk is where bans are seen, made and lifted by people. Logins and Keeper must be set; Strangers is nil where no doors are open.
type BanDesk struct {
	Logins    *Logins
	Keeper    *BanKeeper
	Strangers *Strangers
}

// List returns all that count now, those from port 25 too.
func (d *BanDesk) List(now time.Time) []Ban {
	list := d.Logins.Bans(now)
	if d.Strangers != nil {
		list = append(list, d.Strangers.Blocks(now)...)
	}
	slices.SortFunc(list, compareBans)
	return list
}

// Add makes a ban as [Logins.AddBan], and writes it down. With an error of the store it counts, but not over a restart.
func (d *BanDesk) Add(ctx context.Context, now time.Time, b Ban) error {
	if err := d.Logins.AddBan(now, b); err != nil {
		return err
	}
	return d.Keeper.Save(ctx)
}

// Lift ends bans as [Logins.LiftBans], and without a mailbox also those from port 25, and writes it down. What it returns beside an error of the store
// was ended, but may count again after a restart.
func (d *BanDesk) Lift(ctx context.Context, now time.Time, network netip.Prefix, mailbox string) ([]Ban, error) {
	lifted, err := d.Logins.LiftBans(now, network, mailbox)
	if err != nil {
		return nil, err
	}
	if d.Strangers != nil && mailbox == "" {
		lifted = append(lifted, d.Strangers.Lift(now, network)...)
	}
	return lifted, d.Keeper.Save(ctx)
}
