package guard

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"latchkey/store"
)

// The terms of a grant.
const (
	// GrantWindow is how long a grant lives after a POP3 login, GrantLongest how long after it was opened, whatever logins follow.
	GrantWindow  = 20 * time.Minute
	GrantLongest = 12 * time.Hour
	// GrantRecipients is how many recipients may be named by one grant.
	GrantRecipients = 50
	// MaxLiveGrants bounds those of one mailbox.
	MaxLiveGrants = 5
)

// grantPage is how many grants are listed at once.
const grantPage = 200

// Accounts is what grants need to know of mailboxes.
type Accounts interface {
	Account(ctx context.Context, id store.AccountID) (store.Account, error)
	AccountByName(ctx context.Context, name string) (store.Account, error)
}

// GrantOptions are what Grants is made of. Grants, Accounts, Settings and Hosts must be set.
type GrantOptions struct {
	Grants   store.Grants
	Accounts Accounts
	Settings store.SettingsStore
	Hosts    *Hosts
	// Devices are the device credentials; nil: there are none, and what they opened is void.
	Devices Devices
	// Conduct is told from where mail is fetched, and tells owners of grants from places that are new; nil: nobody does.
	Conduct *Conduct
	// Logger gets one event for each grant that is opened, renewed, withheld or revoked; nil discards them.
	Logger *slog.Logger
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Grants is POP before SMTP: who fetches mail from an address may send from there for a while, as that mailbox. Its methods may be
// called from any goroutine. What it remembers of crowds and guesses dies with the process; the grants do not.
type Grants struct {
	o       GrantOptions
	crowds  *crowds
	guesses *guesses
	waits   *loginWaits
}

// NewGrants starts nothing.
func NewGrants(o GrantOptions) *Grants {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Grants{o: o, crowds: newCrowds(), guesses: newGuesses(), waits: newLoginWaits()}
}

// terms are what decides whether a client has, or may get, a grant. They are read anew for every question.
type terms struct {
	now    time.Time
	remote netip.Addr
	// network is what a grant to the client is bound to.
	network netip.Prefix
	// on is set when the owner wants POP before SMTP, and mail to go out at all.
	on bool
	// bar is what is known against the place.
	bar Bar
}

func (g *Grants) terms(ctx context.Context, p Place) (terms, error) {
	s, err := g.o.Settings.Settings(ctx)
	if err != nil {
		return terms{}, fmt.Errorf("guard: settings: %w", err)
	}
	t := terms{now: g.o.Now(), remote: p.address(), on: s.POPBeforeSMTP && s.OutgoingMail, bar: g.o.Hosts.Bar(p)}
	t.network = grantNetwork(t.remote, s.GrantIPv6Bits)
	contains := func(n netip.Prefix) bool { return n.Contains(t.remote) }
	switch {
	case t.bar != "":
	case carrier.Contains(t.remote):
		t.bar = BarCarrier
	case slices.ContainsFunc(s.NoGrantNetworks, contains):
		t.bar = BarConfigured
	}
	return t, nil
}

// grantNetwork returns what a grant to an address is bound to.
func grantNetwork(a netip.Addr, ipv6Bits int) netip.Prefix {
	bits := a.BitLen()
	if a.Is6() && Prefix(a).Bits() < bits {
		bits = ipv6Bits
	}
	p, _ := a.Prefix(bits) // fits but for no address, which has no network
	return p
}

// open reports whether the terms let anybody there have a grant.
func (t terms) open() bool { return t.on && t.bar == "" }

// covers reports whether a grant is bound to where the client stands, and not to more than the owner allows now.
func (t terms) covers(g store.Grant) bool {
	return g.Network.Contains(t.remote) && g.Network.Bits() >= t.network.Bits()
}

// valid reports whether the account is still what the grant was given to. The zero Account is one that does not exist.
func valid(g store.Grant, a store.Account) bool {
	return a.ID == g.Account && !a.Suspended && a.CredentialVersion == g.CredentialVersion
}

// account returns the zero Account if there is none.
func (g *Grants) account(ctx context.Context, id store.AccountID) (store.Account, error) {
	a, err := g.o.Accounts.Account(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return store.Account{}, nil
	}
	if err != nil {
		return store.Account{}, fmt.Errorf("guard: account: %w", err)
	}
	return a, nil
}

// LoggedIn opens a grant for a mailbox that has logged in by POP3, or renews the one that it has there; version is the credential
// version that was proved, device the device whose password it was, 0 for the main one. It is called before the client learns of its success, because some send mail at once. It never fails: a
// client that gets no grant has its mail all the same, and the log says why.
func (g *Grants) LoggedIn(ctx context.Context, p Place, account store.AccountID, name string, version uint64, device store.DeviceID) {
	attrs := []any{"account", name, "id", uint64(account), "remote", p.address().String()}
	newPlace := g.o.Conduct != nil && g.o.Conduct.Seen(ctx, account, p.address())
	grant, withheld, err := g.give(ctx, p, account, version, device)
	switch {
	case err != nil:
		g.o.Logger.Error("grant not given", append(attrs, "err", err)...)
	case withheld == withheldOff:
		g.o.Logger.Debug("grant not given", append(attrs, "reason", withheld)...)
	case withheld != "":
		g.o.Logger.Info("grant not given", append(attrs, "reason", withheld)...)
	default:
		attrs = append(attrs, "grant", grant.ID.String(), "network", grant.Network.String(), "expires", grant.Expires, "left", grant.Left)
		g.waits.wake(grant)
		if grant.Created.Before(grant.LastLogin) { // as every poll does
			g.o.Logger.Debug("grant renewed", attrs...)
			return
		}
		g.o.Logger.Info("grant opened", attrs...)
		if newPlace {
			g.tellOwner(ctx, grant)
		}
	}
}

// tellOwner says that mail was fetched from a new place, if the domain's owner wants that said.
func (g *Grants) tellOwner(ctx context.Context, grant store.Grant) {
	s, err := g.o.Settings.Settings(ctx)
	if err == nil && s.GrantNotices {
		g.o.Conduct.GrantOpened(ctx, grant.Account, grant.Network)
	}
}

// Reasons for the log beside the bars.
const (
	withheldOff     = "POP before SMTP is off"
	withheldMany    = "too many live grants"
	withheldChanged = "account changed meanwhile"
)

// give makes or renews a grant, or says why not.
func (g *Grants) give(
	ctx context.Context, p Place, account store.AccountID, version uint64, device store.DeviceID,
) (grant store.Grant, withheld string, err error) {
	t, err := g.terms(ctx, p)
	if err != nil {
		return store.Grant{}, "", err
	}
	crowded := t.bar == "" && g.crowds.note(t.now, t.network, account)
	switch {
	case !t.on:
		return store.Grant{}, withheldOff, nil
	case t.bar != "":
		return store.Grant{}, string(t.bar), nil
	case crowded:
		return store.Grant{}, string(BarCrowded), nil
	}
	a, err := g.account(ctx, account)
	if err != nil {
		return store.Grant{}, "", err
	}
	if a.ID != account || a.Suspended || a.CredentialVersion != version {
		return store.Grant{}, withheldChanged, nil
	}
	if gives, err := g.gives(ctx, t, account, device); err != nil || !gives {
		return store.Grant{}, withheldDevice, err
	}
	request := store.GrantRequest{
		Account: account, Network: t.network, Device: device, CredentialVersion: version,
		Window: GrantWindow, Longest: GrantLongest, Recipients: GrantRecipients, MostLive: MaxLiveGrants,
	}
	grant, err = g.o.Grants.OpenGrant(ctx, t.now, request)
	if errors.Is(err, store.ErrBound) && g.displace(ctx, t, account) {
		grant, err = g.o.Grants.OpenGrant(ctx, t.now, request)
	}
	switch {
	case errors.Is(err, store.ErrBound):
		return store.Grant{}, withheldMany, nil
	case errors.Is(err, store.ErrNotFound):
		return store.Grant{}, withheldChanged, nil
	}
	return grant, "", err
}

// displace ends one live grant of a mailbox that is for a network which is not its own, for a login from one that is: who farms grants with a
// stolen password must not keep the owner from sending. It reports whether there was one.
func (g *Grants) displace(ctx context.Context, t terms, account store.AccountID) bool {
	if g.o.Conduct == nil || !g.o.Conduct.ownNetwork(ctx, account, t.remote) {
		return false
	}
	done := false
	err := g.each(ctx, store.GrantFilter{Account: account, LiveAt: t.now}, func(page []store.Grant) error {
		for _, grant := range page {
			if done || g.o.Conduct.ownNetwork(ctx, account, grant.Network.Addr()) {
				continue
			}
			revoked, err := g.o.Grants.RevokeGrants(ctx, t.now, store.GrantDisplaced, grant.ID)
			if err != nil {
				return err
			}
			done = len(revoked) > 0
		}
		return nil
	})
	if err != nil {
		g.o.Logger.Error("no grant made room for the owner's", "id", uint64(account), "err", err)
	}
	return done
}

// Live returns the grants of some accounts that are good for a client now, in order of id: POP before SMTP and outgoing mail are on,
// nothing is known against the place, the grant is live and covers the address, and its account exists, is not suspended and has the same
// credential. Grants with nothing left to spend are among them: their mailboxes have proved themselves, and [Grants.Spend] says no.
func (g *Grants) Live(ctx context.Context, p Place, accounts []store.AccountID) ([]store.Grant, error) {
	t, err := g.terms(ctx, p)
	if err != nil || !t.open() {
		return nil, err
	}
	var live []store.Grant
	for _, id := range accounts {
		if id == 0 {
			continue // which would match every account's
		}
		err = g.each(ctx, store.GrantFilter{Account: id, Remote: t.remote, LiveAt: t.now}, func(page []store.Grant) error {
			for _, grant := range page {
				a, err := g.account(ctx, grant.Account)
				if err != nil {
					return err
				}
				good, err := g.good(ctx, t, grant, a)
				if err != nil {
					return err
				}
				if good {
					live = append(live, grant)
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	slices.SortFunc(live, func(a, b store.Grant) int { return cmp.Compare(a.ID, b.ID) })
	return live, nil
}

// each calls visit with the grants that match, a page at a time.
func (g *Grants) each(ctx context.Context, f store.GrantFilter, visit func(page []store.Grant) error) error {
	var after store.GrantID
	for {
		page, err := g.o.Grants.ListGrants(ctx, f, after, grantPage)
		if err != nil {
			return fmt.Errorf("guard: grants: %w", err)
		}
		if err := visit(page); err != nil {
			return err
		}
		if len(page) < grantPage {
			return nil
		}
		after = page[len(page)-1].ID
	}
}

// Current reports whether a grant that [Grants.Live] returned a moment ago is still good for the client. What is left of it is not
// looked at.
func (g *Grants) Current(ctx context.Context, p Place, grant store.Grant) (bool, error) {
	t, err := g.terms(ctx, p)
	if err != nil || !t.open() {
		return false, err
	}
	now, err := g.o.Grants.Grant(ctx, grant.ID)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("guard: grants: %w", err)
	}
	a, err := g.account(ctx, now.Account)
	if err != nil || now.Account != grant.Account {
		return false, err
	}
	return g.good(ctx, t, now, a)
}

// Spend takes n recipients from a grant; ok is false, and nothing is taken, if it is not live or has not as many left.
func (g *Grants) Spend(ctx context.Context, id store.GrantID, n int) (ok bool, err error) {
	ok, err = g.o.Grants.SpendGrant(ctx, g.o.Now(), id, n)
	if err != nil {
		return false, fmt.Errorf("guard: grants: %w", err)
	}
	return ok, nil
}

// Refund gives n recipients back, to a grant that may have ended.
func (g *Grants) Refund(ctx context.Context, id store.GrantID, n int) error {
	if err := g.o.Grants.RefundGrant(ctx, id, n); err != nil {
		return fmt.Errorf("guard: grants: %w", err)
	}
	return nil
}
