package smtp

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"latchkey/guard"
	"latchkey/internal/mailaddr"
	"latchkey/internal/refusal"
	"latchkey/store"
)

// place is where the client stands.
func (s *session) place() guard.Place {
	return s.at
}

// facts are what a refusal may say.
func (s *session) facts(reversePath mailaddr.Address, settings store.Settings) refusal.Facts {
	f := refusal.Facts{Remote: s.remote, Help: settings.HelpURL}
	if reversePath.Domain() == settings.Domain {
		f.Mailbox = reversePath
	}
	return f
}

// decide says who the sender of a transaction is. Kinds are asked in the order authenticated (which is final: who has logged in is
// nobody else), granted, trusted, anonymous; the first one that may use the reverse-path is it.
func (s *session) decide(reversePath mailaddr.Address, size int64, settings store.Settings) (sender, error) {
	if who, ok := s.who.(authenticated); ok {
		if err := s.current(who); err != nil {
			return nil, err
		}
		who, err := s.withDevice(who)
		if err != nil {
			return nil, err
		}
		right, err := s.right(s.ctx, who, reversePath, settings.Domain)
		if err != nil {
			return nil, err
		}
		return who, s.may(who, reversePath, right, settings)
	}
	if who, err := s.grantedAs(reversePath, settings); who != nil || err != nil {
		return who, err
	}
	who, stands, err := s.trustedAs(reversePath, settings)
	if who != nil || err != nil {
		return who, err
	}
	r := authorizeSender(anonymous{}, s.srv.opts.Door, reversePath, foreign, settings, s.srv.opts.Now())
	if r == nil {
		return anonymous{}, nil
	}
	return s.unproved(r, reversePath, size, settings, stands)
}

// may is authorizeSender with the facts of the refusal.
func (s *session) may(who sender, reversePath mailaddr.Address, right ownership, settings store.Settings) error {
	if r := authorizeSender(who, s.srv.opts.Door, reversePath, right, settings, s.srv.opts.Now()); r != nil {
		if who.account() != 0 {
			r = r.because(fmt.Errorf("%s wants to send as %s", who.LogValue(), reversePath.Path()))
		}
		return r.with(s.facts(reversePath, settings))
	}
	return nil
}

// whyError puts into words why there is no grant, for the log and whoever asks what a refusal was about.
func whyError(why guard.NoGrant, now time.Time) error {
	text := "grant: " + string(why.Kind)
	if !why.When.IsZero() {
		text += fmt.Sprintf(" since %s, %v ago", why.When.UTC().Format(time.RFC3339), now.Sub(why.When).Round(time.Second))
	}
	if why.Cause != "" {
		text += " (" + why.Cause + ")"
	}
	if why.OtherFamily {
		text += "; there is one for an address of the other family"
	}
	return errors.New(text)
}

// grantedAs looks for a live grant of a mailbox that owns the reverse-path: rather one that owns it than one that it was lent to, rather one that
// has something left, and rather one of the main password than one of a device; of several devices the one that fetched mail last. It returns nil if there is none. Only mailboxes that may have a right on the address are asked
// about: an office with hundreds of grants costs a stranger's mail from there nothing.
func (s *session) grantedAs(reversePath mailaddr.Address, settings store.Settings) (sender, error) {
	if s.srv.opts.Grants == nil || reversePath.IsZero() {
		return nil, nil
	}
	accounts, err := s.srv.opts.Store.LentTo(s.ctx, reversePath)
	if err != nil {
		return nil, err
	}
	route, err := s.ownRoute(s.ctx, reversePath, settings.Domain)
	if err != nil {
		return nil, err
	}
	if len(route.Local) == 1 && !slices.Contains(accounts, route.Local[0]) {
		accounts = append(accounts, route.Local[0])
	}
	if len(accounts) == 0 {
		return nil, nil
	}
	grants, err := s.srv.opts.Grants.Live(s.ctx, s.place(), accounts)
	if err != nil {
		return nil, err
	}
	var best sender
	rank, latest := -1, time.Time{}
	for _, g := range grants {
		account, err := s.srv.opts.Store.Account(s.ctx, g.Account)
		if errors.Is(err, store.ErrNotFound) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		address, err := mailaddr.New(account.Name, settings.Domain)
		if err != nil {
			return nil, err
		}
		device, gone, err := s.grantDevice(g)
		if err != nil {
			return nil, err
		}
		if gone {
			continue
		}
		who := granted{grant: g, address: address, device: device}
		right, err := s.right(s.ctx, who, reversePath, settings.Domain)
		if err != nil {
			return nil, err
		}
		if s.may(who, reversePath, right, settings) != nil {
			continue
		}
		n := int(right)
		if g.Left > 0 {
			n += int(own) + 1
		}
		if n *= 2; device == nil {
			n++
		}
		if n > rank || n == rank && device != nil && g.LastLogin.After(latest) {
			best, rank, latest = who, n, g.LastLogin
		}
	}
	return best, nil
}

// trustedAs asks for a named network. It returns nil if there is none or the reverse-path does not exist here; stands says whether the
// client is in such a network.
func (s *session) trustedAs(reversePath mailaddr.Address, settings store.Settings) (who sender, stands bool, err error) {
	if s.srv.opts.Hosts == nil {
		return nil, false, nil
	}
	network, ok := trustedNetwork(settings, s.srv.opts.Now(), s.remote)
	if !ok || !s.srv.opts.Hosts.Eligible(s.place()) {
		return nil, false, nil
	}
	route, err := s.ownRoute(s.ctx, reversePath, settings.Domain)
	if err != nil {
		return nil, true, err
	}
	t := trusted{network: network, address: reversePath}
	if len(route.Local) == 1 && len(route.Remote) == 0 {
		t.owner = route.Local[0]
	}
	right, err := s.right(s.ctx, t, reversePath, settings.Domain)
	if err != nil || s.may(t, reversePath, right, settings) != nil {
		return nil, true, err
	}
	return t, true, nil
}

// unproved completes the refusal of an anonymous sender who uses our own domain: with the cure, which depends on what is known of the
// client's address; or lets it wait for a grant. An address that does not exist is answered like one that nobody fetched mail for.
func (s *session) unproved(
	r *refused, reversePath mailaddr.Address, size int64, settings store.Settings, inTrusted bool,
) (sender, error) {
	f := s.facts(reversePath, settings)
	switch {
	case reversePath.Domain() != settings.Domain || s.srv.opts.Grants == nil && !inTrusted:
		return nil, r.with(f)
	case inTrusted:
		return nil, refuse(refusal.RelayUnknownSender).with(f)
	}
	route, err := s.ownRoute(s.ctx, reversePath, settings.Domain)
	if err != nil {
		return nil, err
	}
	var account store.AccountID
	if len(route.Local) == 1 && len(route.Remote) == 0 {
		account = route.Local[0]
	}
	why, err := s.srv.opts.Grants.Why(s.ctx, s.place(), account)
	if err != nil {
		return nil, err
	}
	if mayWait(why, size, settings) {
		return waiting{address: reversePath, owner: account}, nil
	}
	return nil, refuse(withoutGrant(why, s.srv.opts.Door)).because(whyError(why, s.srv.opts.Now())).with(f)
}

// moment is when a sender is asked again.
type moment int

const (
	// atRcpt: a recipient is named.
	atRcpt moment = iota
	// atCommit: the message is there, and about to be taken. What only grew old since RCPT is good for it.
	atCommit
)

// still makes sure that what stood in for AUTH at MAIL still does.
func (s *session) still(tx *transaction, when moment) error {
	switch who := tx.who.(type) {
	case granted:
		good, err := s.srv.opts.Grants.Current(s.ctx, s.place(), who.grant)
		if good || err != nil {
			return err
		}
		why, err := s.srv.opts.Grants.Why(s.ctx, s.place(), who.grant.Account)
		if err != nil || when == atCommit && (why.Kind == guard.NoGrantExpired || why.Kind == "") {
			return err
		}
		return refuse(withoutGrant(why, s.srv.opts.Door)).because(whyError(why, s.srv.opts.Now())).with(s.facts(tx.reversePath, tx.settings))
	case waiting:
		if when == atCommit { // it has not become granted
			return refuse(refusal.RelayCheckFirst).with(s.facts(tx.reversePath, tx.settings))
		}
	case trusted:
		settings, err := s.srv.opts.Store.Settings(s.ctx)
		if err != nil {
			return err
		}
		right, err := s.right(s.ctx, who, tx.reversePath, settings.Domain)
		if err != nil {
			return err
		}
		if authorizeSender(who, s.srv.opts.Door, tx.reversePath, right, settings, s.srv.opts.Now()) != nil ||
			!s.srv.opts.Hosts.Eligible(s.place()) {
			return refuse(refusal.RelayDenied).with(s.facts(tx.reversePath, settings))
		}
	}
	return nil
}

// right asks the store by what right a sender uses an address.
func (s *session) right(ctx context.Context, who sender, addr mailaddr.Address, domain string) (ownership, error) {
	if addr.IsZero() {
		return foreign, nil
	}
	route, err := s.ownRoute(ctx, addr, domain)
	if err != nil {
		return foreign, err
	}
	if _, ok := who.(trusted); ok {
		return s.existing(ctx, route)
	}
	account, err := s.srv.opts.Store.Account(ctx, who.account())
	if errors.Is(err, store.ErrNotFound) {
		return foreign, nil // removed meanwhile
	}
	if err != nil {
		return foreign, err
	}
	return ownershipOf(account.ID, addr, addressFacts{route: route, sendAs: account.SendAs, domain: domain}), nil
}

// ownRoute is where an address of our domain leads by its own name: zero if it leads nowhere, by the catch-all only, or is not ours.
func (s *session) ownRoute(ctx context.Context, addr mailaddr.Address, domain string) (store.Route, error) {
	if addr.Domain() != domain {
		return store.Route{}, nil
	}
	route, err := s.srv.opts.Store.Resolve(ctx, addr)
	if errors.Is(err, store.ErrNotFound) || route.CatchAll {
		return store.Route{}, nil
	}
	return route, err
}

// existing is the right of a trusted sender on an address of our domain: it leads to a mailbox that is not suspended.
func (s *session) existing(ctx context.Context, route store.Route) (ownership, error) {
	for _, id := range route.Local {
		account, err := s.srv.opts.Store.Account(ctx, id)
		if errors.Is(err, store.ErrNotFound) {
			continue // removed meanwhile
		}
		if err != nil {
			return foreign, err
		}
		if !account.Suspended {
			return own, nil
		}
	}
	return foreign, nil
}
