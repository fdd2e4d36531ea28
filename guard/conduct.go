package guard

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"latchkey/internal/mailaddr"
	"latchkey/store"
)

const (
	// habitsEvery is how often new habits are written down, maxHabits how many are kept until then; further ones are forgotten.
	habitsEvery = 5 * time.Second
	maxHabits   = store.MaxNotedHabits
	// seenAgain is how old the last sight of a habit must be for a new one to be worth a write.
	seenAgain = 24 * time.Hour
	// noticeEvery is how often a mailbox's owner is told of the same kind of thing.
	noticeEvery = 24 * time.Hour
	// conductTime bounds what is noted after a message was taken.
	conductTime = 5 * time.Second
	// Networks that a mailbox is used from are told apart by so many bits.
	habitBits4, habitBits6 = 24, 48
)

// ConductStore is what Conduct needs of the store.
type ConductStore interface {
	store.Habits
	store.Counters
	Account(ctx context.Context, id store.AccountID) (store.Account, error)
	Stat(ctx context.Context, day store.Day, name string) (int64, error)
	AddStat(ctx context.Context, day store.Day, name string, n int64) error
}

// Notice is something that people are told by mail.
type Notice struct {
	// Account is the mailbox that it is about, 0 for none; Owner is set when its owner is told, Postmaster when the domain's is.
	Account           store.AccountID
	Owner, Postmaster bool
	Subject           string
	// Lines are paragraphs. The words {mailbox} in them become the name of the mailbox.
	Lines []string
}

// Notices tells people. It must not take long, and its failure is its own to log.
type Notices interface {
	Tell(ctx context.Context, n Notice)
}

// ConductOptions are what Conduct is made of. Store must be set.
type ConductOptions struct {
	Store ConductStore
	// Notices tells owners; nil: nobody is told.
	Notices Notices
	// Logger gets one event for each hold; nil discards them.
	Logger *slog.Logger
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Conduct knows how each mailbox usually sends, and puts mail on hold when that changes at once: see [Jump]. Its methods may be called
// from any goroutine. What it remembers is in the store; of recipients and networks, the last seconds are lost in a crash.
type Conduct struct {
	o ConductOptions

	mu   sync.Mutex // protects seen; never held during I/O
	seen map[seenKey]store.Habit
}

type seenKey struct {
	account store.AccountID
	kind    store.HabitKind
	name    string
}

// NewConduct returns the conduct of all mailboxes of a store. Its Run writes down what is new.
func NewConduct(o ConductOptions) *Conduct {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Conduct{o: o, seen: map[seenKey]store.Habit{}}
}

// HabitNetwork is the network that an address is in, as far as habits go: a /24, a /48, or one address where a prefix is half the Internet.
func HabitNetwork(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := habitBits4
	switch {
	case !a.Is6():
	case Prefix(a).Bits() == a.BitLen():
		bits = a.BitLen()
	default:
		bits = habitBits6
	}
	p, _ := a.Prefix(bits) // fits but for no address, which has no network
	return p
}

// recipientName is what a recipient is kept as: nobody can read from it whom a mailbox writes to.
func recipientName(a mailaddr.Address) string {
	sum := sha256.Sum256([]byte(a.String()))
	return hex.EncodeToString(sum[:8])
}

// Outgoing is a message that a mailbox sends out of the domain.
type Outgoing struct {
	Account store.AccountID
	Remote  netip.Addr
	// Recipients are those outside the domain, each once.
	Recipients []mailaddr.Address
	// NewRecipients is how many recipients may be new to the mailbox a day.
	NewRecipients int
	// Free mail is held only if somebody said so, whatever it is like. What it shows of the mailbox's habits is kept all the same.
	Free bool
}

// Opinion is what Judge thinks of a message. Exactly one of Took and GaveUp is to be called on it.
type Opinion struct {
	// Hold is why the message is to be put on hold; empty if it is not.
	Hold HoldReason

	c       *Conduct
	m       Outgoing
	verdict JumpVerdict
	taken   []spending
	// strangers are the recipients that are new, home is set when the network is the mailbox's own.
	strangers []string
	home      bool
}

type spending struct {
	key   string
	n     int64
	limit store.Limit
}

// Judge decides about a message that is about to be taken, and counts it. An error means that it cannot be taken now.
func (c *Conduct) Judge(ctx context.Context, m Outgoing) (*Opinion, error) {
	o := &Opinion{c: c, m: m}
	f, err := c.facts(ctx, o)
	if err != nil {
		o.GaveUp(ctx)
		return nil, fmt.Errorf("guard: conduct: %w", err)
	}
	o.verdict = Jump(f)
	if o.Hold = o.verdict.Hold; o.Hold != "" {
		o.giveBack(ctx) // what is held has not gone out
	}
	return o, nil
}

// facts gathers what Jump wants to know, and takes from the budgets.
func (c *Conduct) facts(ctx context.Context, o *Opinion) (f JumpFacts, err error) {
	now, id := c.o.Now(), o.m.Account
	if o.home, err = c.home(ctx, now, id, o.m.Remote); err != nil {
		return f, err
	}
	f.Known = o.home
	held, err := c.o.Store.ListHabits(ctx, id, store.HabitHeld, store.MaxHabits(store.HabitHeld))
	if err != nil {
		return f, err
	}
	network := HabitNetwork(o.m.Remote).String()
	f.AnyHeld = len(held) > 0
	f.Held = slices.ContainsFunc(held, func(h store.Habit) bool { return h.Name == network || h.Name == everywhere })
	if o.strangers, err = c.strangers(ctx, id, o.m.Recipients); err != nil {
		return f, err
	}
	if o.m.Free {
		f.Known = true
		return f, nil
	}
	if f.Named, f.Failed, err = c.recent(ctx, now, id); err != nil {
		return f, err
	}
	f.Named += int64(len(o.m.Recipients))
	over := func(what string, n int, l store.Limit) (bool, error) {
		s := spending{fmt.Sprintf("conduct/%s/%d", what, id), int64(n), l}
		taken, err := c.o.Store.Take(ctx, now, s.key, s.n, l)
		if err == nil && taken.OK {
			o.taken = append(o.taken, s)
		}
		return !taken.OK, err
	}
	if f.New, err = over("new", len(o.strangers), store.Limit{N: int64(o.m.NewRecipients), Window: MailboxWindow}); err != nil || f.Known {
		return f, err
	}
	if f.Burst, err = over("burst", len(o.m.Recipients), store.Limit{N: BurstRecipients, Window: BurstWindow}); err != nil {
		return f, err
	}
	f.Strangers, err = over("strangers", len(o.strangers), store.Limit{N: BurstStrangers, Window: StrangersWindow})
	return f, err
}

// home reports whether a network is one of a mailbox's own. A mailbox that is young is at home everywhere.
func (c *Conduct) home(ctx context.Context, now time.Time, id store.AccountID, remote netip.Addr) (bool, error) {
	account, err := c.o.Store.Account(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	if err != nil || !account.Created.IsZero() && now.Before(account.Created.Add(KnownAfter)) {
		return true, err
	}
	known, err := c.known(ctx, id, store.HabitNetwork, HabitNetwork(remote).String())
	return len(known) > 0 && !now.Before(known[0].First.Add(KnownAfter)), err
}

// ownNetwork reports whether an address is in a network that a mailbox has long been used from, young or not.
func (c *Conduct) ownNetwork(ctx context.Context, id store.AccountID, remote netip.Addr) bool {
	known, err := c.known(ctx, id, store.HabitNetwork, HabitNetwork(remote).String())
	return err == nil && len(known) > 0 && !c.o.Now().Before(known[0].First.Add(KnownAfter))
}

// strangers are the names of the recipients to whom a mailbox has not written.
func (c *Conduct) strangers(ctx context.Context, id store.AccountID, recipients []mailaddr.Address) ([]string, error) {
	names := make([]string, len(recipients))
	for i, r := range recipients {
		names[i] = recipientName(r)
	}
	known, err := c.known(ctx, id, store.HabitRecipient, names...)
	if err != nil {
		return nil, err
	}
	is := make(map[string]bool, len(known))
	for _, h := range known {
		is[h.Name] = true
	}
	return slices.DeleteFunc(names, func(name string) bool { return is[name] }), nil
}

// known are the habits of those names, written down or not yet.
func (c *Conduct) known(ctx context.Context, id store.AccountID, kind store.HabitKind, names ...string) ([]store.Habit, error) {
	known, err := c.o.Store.KnownHabits(ctx, id, kind, names...)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range names {
		seen, ok := c.seen[seenKey{id, kind, name}]
		if ok && !slices.ContainsFunc(known, func(h store.Habit) bool { return h.Name == name }) {
			known = append(known, seen)
		}
	}
	return known, nil
}

// recent are the figures of today and yesterday.
func (c *Conduct) recent(ctx context.Context, now time.Time, id store.AccountID) (named, failed int64, err error) {
	for _, day := range []store.Day{store.DayOf(now), store.DayOf(now.Add(-24 * time.Hour))} {
		for figure, sign := range map[store.SendingFigure]int64{
			store.FigureRecipients: 0, store.FigureFailed: 1, store.FigureRefused: 1, store.FigureForgiven: -1,
		} {
			n, err := c.o.Store.Stat(ctx, day, store.SendingOf(figure, id))
			if err != nil {
				return 0, 0, err
			}
			failed += sign * n
			if figure == store.FigureRecipients || figure == store.FigureRefused {
				named += n
			}
		}
	}
	return named, max(failed, 0), nil
}

// GaveUp undoes Judge: the message was not taken.
func (o *Opinion) GaveUp(ctx context.Context) { o.giveBack(ctx) }

func (o *Opinion) giveBack(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), conductTime)
	defer cancel()
	for _, s := range o.taken {
		if err := o.c.o.Store.Give(ctx, o.c.o.Now(), s.key, s.n, s.limit); err != nil {
			o.c.o.Logger.Error("budget not given back", "budget", s.key, "err", err)
		}
	}
	o.taken = nil
}

// Took notes a message that was taken: who got it and from where is what the mailbox is used to from now on, unless it was put on hold; then
// its owner is told, and the network is remembered. The message has been accepted, so a failure is for the log only.
func (o *Opinion) Took(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), conductTime)
	defer cancel()
	c, id, now := o.c, o.m.Account, o.c.o.Now()
	c.count(ctx, now, store.FigureRecipients, id, len(o.m.Recipients))
	if o.verdict.Review && c.once(ctx, now, "review", id) {
		c.tell(ctx, reviewNotice(id))
	}
	if o.Hold == "" {
		for _, name := range o.strangers {
			c.note(store.Habit{Account: id, Kind: store.HabitRecipient, Name: name, First: now, Last: now})
		}
		c.Seen(ctx, id, o.m.Remote)
		return
	}
	c.count(ctx, now, store.FigureHeld, id, len(o.m.Recipients))
	network := HabitNetwork(o.m.Remote).String()
	if o.verdict.Network {
		h := store.Habit{Account: id, Kind: store.HabitHeld, Name: network, First: now, Last: now, Text: string(o.Hold)}
		if o.Hold == HoldNetwork {
			h.Kind = 0 // it is remembered already, with its reason
		}
		if err := c.hold(ctx, h); err != nil {
			c.o.Logger.Error("a network on hold could not be written down", "account", uint64(id), "network", network, "err", err)
		}
	}
	c.o.Logger.Warn("mail put on hold", "account", uint64(id), "remote", o.m.Remote.String(), "reason", string(o.Hold),
		"recipients", len(o.m.Recipients), "network", o.verdict.Network)
	if c.once(ctx, now, "hold", id) {
		c.tell(ctx, holdNotice(id, network, o.Hold))
	}
}

func (c *Conduct) hold(ctx context.Context, h store.Habit) error {
	if h.Kind == 0 {
		return nil
	}
	return c.o.Store.NoteHabits(ctx, []store.Habit{h})
}

// everywhere is the name of a hold on all networks of a mailbox, its own among them.
const everywhere = "everywhere"

// HoldAll puts all further mail of a mailbox on hold, wherever it comes from, and tells its owner and the domain's. It returns when that is
// durable.
func (c *Conduct) HoldAll(ctx context.Context, id store.AccountID, reason HoldReason) error {
	now := c.o.Now()
	err := c.o.Store.NoteHabits(ctx, []store.Habit{
		{Account: id, Kind: store.HabitHeld, Name: everywhere, First: now, Last: now, Text: string(reason)},
	})
	if err != nil {
		return fmt.Errorf("guard: conduct: %w", err)
	}
	c.o.Logger.Warn("mail put on hold", "account", uint64(id), "reason", string(reason), "network", everywhere)
	if c.once(ctx, now, "hold", id) {
		c.tell(ctx, holdNotice(id, everywhere, reason))
	}
	return nil
}

// Lift ends all holds of a mailbox: the networks are its own from now on, and what failed so far does not count any more. It returns the
// networks. What was put on hold already is the queue's.
func (c *Conduct) Lift(ctx context.Context, id store.AccountID) ([]string, error) {
	now := c.o.Now()
	held, err := c.o.Store.ListHabits(ctx, id, store.HabitHeld, store.MaxHabits(store.HabitHeld))
	if err != nil {
		return nil, fmt.Errorf("guard: conduct: %w", err)
	}
	var networks []string
	var own []store.Habit
	for _, h := range held {
		networks = append(networks, h.Name)
		if h.Name != everywhere {
			own = append(own, store.Habit{Account: id, Kind: store.HabitNetwork, Name: h.Name, First: now.Add(-KnownAfter), Last: now})
		}
	}
	_, failed, err := c.recent(ctx, now, id)
	if err == nil && failed > 0 {
		err = c.o.Store.AddStat(ctx, store.DayOf(now), store.SendingOf(store.FigureForgiven, id), failed)
	}
	if err == nil && len(own) > 0 {
		err = c.o.Store.NoteHabits(ctx, own)
	}
	if err == nil {
		err = c.o.Store.ForgetHabits(ctx, id, store.HabitHeld)
	}
	if err != nil {
		return nil, fmt.Errorf("guard: conduct: %w", err)
	}
	return networks, nil
}

// Purge ends all holds of a mailbox whose password somebody else had: the networks that were on hold, and those that were not its own yet,
// are strange to it as before.
func (c *Conduct) Purge(ctx context.Context, id store.AccountID) error {
	c.mu.Lock()
	for key := range c.seen {
		if key.account == id && key.kind == store.HabitNetwork {
			delete(c.seen, key)
		}
	}
	c.mu.Unlock()
	networks, err := c.o.Store.ListHabits(ctx, id, store.HabitNetwork, store.MaxHabits(store.HabitNetwork))
	if err != nil {
		return fmt.Errorf("guard: conduct: %w", err)
	}
	held, err := c.o.Store.ListHabits(ctx, id, store.HabitHeld, store.MaxHabits(store.HabitHeld))
	if err != nil {
		return fmt.Errorf("guard: conduct: %w", err)
	}
	var gone []string
	for _, h := range networks {
		on := slices.ContainsFunc(held, func(x store.Habit) bool { return x.Name == h.Name })
		if on || c.o.Now().Before(h.First.Add(KnownAfter)) {
			gone = append(gone, h.Name)
		}
	}
	if len(gone) > 0 {
		err = c.o.Store.ForgetHabits(ctx, id, store.HabitNetwork, gone...)
	}
	if err = errors.Join(err, c.o.Store.ForgetHabits(ctx, id, store.HabitHeld)); err != nil {
		return fmt.Errorf("guard: conduct: %w", err)
	}
	return nil
}

// Seen notes that a mailbox was used from an address by somebody who knew its password, and reports whether that is a new place: it has
// networks of its own, and this is none of them. While it has mail on hold, no further network becomes its own.
func (c *Conduct) Seen(ctx context.Context, id store.AccountID, remote netip.Addr) (newPlace bool) {
	now, network := c.o.Now(), HabitNetwork(remote).String()
	known, err := c.known(ctx, id, store.HabitNetwork, network)
	if err != nil {
		c.o.Logger.Error("the networks of a mailbox cannot be read", "account", uint64(id), "err", err)
		return false
	}
	if len(known) > 0 && now.Before(known[0].Last.Add(seenAgain)) {
		return false
	}
	if len(known) == 0 {
		if held, err := c.o.Store.ListHabits(ctx, id, store.HabitHeld, 1); err != nil || len(held) > 0 {
			return true
		}
		own, err := c.o.Store.ListHabits(ctx, id, store.HabitNetwork, 1)
		newPlace = err == nil && len(own) > 0
	}
	c.note(store.Habit{Account: id, Kind: store.HabitNetwork, Name: network, First: now, Last: now})
	return newPlace
}

// GrantOpened tells the owner of a mailbox of a grant of POP before SMTP to a network that is new to it, at most once a day. The owner of a
// mailbox that is not a day old knows.
func (c *Conduct) GrantOpened(ctx context.Context, id store.AccountID, network netip.Prefix) {
	now := c.o.Now()
	a, err := c.o.Store.Account(ctx, id)
	if err == nil && !now.Before(a.Created.Add(noticeEvery)) && c.once(ctx, now, "grant", id) {
		c.tell(ctx, grantNotice(id, network.String()))
	}
}

// Failed counts a delivery of a mailbox's mail that was given up.
func (c *Conduct) Failed(ctx context.Context, id store.AccountID) { c.bad(ctx, store.FigureFailed, id) }

// Refused counts a recipient that a mailbox named and that does not exist.
func (c *Conduct) Refused(ctx context.Context, id store.AccountID) {
	c.bad(ctx, store.FigureRefused, id)
}

func (c *Conduct) bad(ctx context.Context, figure store.SendingFigure, id store.AccountID) {
	if id == 0 {
		return
	}
	now := c.o.Now()
	c.count(ctx, now, figure, id, 1)
	named, failed, err := c.recent(ctx, now, id)
	if err == nil && Jump(JumpFacts{Known: true, Named: named, Failed: failed}).Review && c.once(ctx, now, "review", id) {
		c.tell(ctx, reviewNotice(id))
	}
}

func (c *Conduct) count(ctx context.Context, now time.Time, figure store.SendingFigure, id store.AccountID, n int) {
	if err := c.o.Store.AddStat(ctx, store.DayOf(now), store.SendingOf(figure, id), int64(n)); err != nil {
		c.o.Logger.Error("daily figure not kept", "figure", string(figure), "account", uint64(id), "err", err)
	}
}

// once reports whether it is time to tell somebody of something again.
func (c *Conduct) once(ctx context.Context, now time.Time, what string, id store.AccountID) bool {
	taken, err := c.o.Store.Take(ctx, now, fmt.Sprintf("notice/%s/%d", what, id), 1, store.Limit{N: 1, Window: noticeEvery})
	return err == nil && taken.OK
}

func (c *Conduct) tell(ctx context.Context, n Notice) {
	if c.o.Notices != nil {
		c.o.Notices.Tell(ctx, n)
	}
}

// note keeps a habit until it is written down.
func (c *Conduct) note(h store.Habit) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := seenKey{h.Account, h.Kind, h.Name}
	before, ok := c.seen[key]
	switch {
	case ok:
		h = before.With(h)
	case len(c.seen) >= maxHabits:
		return
	}
	c.seen[key] = h
}

// Run writes down what was seen every few seconds until ctx ends; what is seen after that is left for Close.
func (c *Conduct) Run(ctx context.Context) {
	ticker := time.NewTicker(habitsEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			c.Flush(context.WithoutCancel(ctx))
		case <-ctx.Done():
			return
		}
	}
}

// Close writes down what is left. Call it when Run and all sessions have ended and the store is still open.
func (c *Conduct) Close() { c.Flush(context.Background()) }

// Flush writes down what was seen so far. What the store does not take now is kept for the next time. Until it is written, what was seen
// stays known.
func (c *Conduct) Flush(ctx context.Context) {
	c.mu.Lock()
	seen := make([]store.Habit, 0, len(c.seen))
	for _, h := range c.seen {
		seen = append(seen, h)
	}
	c.mu.Unlock()
	if len(seen) == 0 {
		return
	}
	if err := c.o.Store.NoteHabits(ctx, seen); err != nil {
		if !errors.Is(err, store.ErrClosed) {
			c.o.Logger.Error("what mailboxes are used to could not be written down", "habits", len(seen), "err", err)
		}
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, h := range seen {
		if key := (seenKey{h.Account, h.Kind, h.Name}); c.seen[key] == h {
			delete(c.seen, key)
		}
	}
}
