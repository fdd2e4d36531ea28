package guard

import (
	"context"
	"net/netip"
	"time"

	"latchkey/store"
)

// NoGrantKind says why a mailbox has no grant that can be used from where a client stands. It is empty if it has one.
type NoGrantKind string

// The kinds. Only NoGrantExpired passes by itself, by the mailbox's next POP3 login: it is refused for a while (450), because devices
// try again. All others are refused for good (550), each with its cure.
const (
	// NoGrantOff: POP before SMTP, or outgoing mail, is switched off. The cure is AUTH.
	NoGrantOff NoGrantKind = "off"
	// NoGrantShared: strangers share the address, or it is not the client's own; see Cause. No login gives a grant there: the cure is AUTH.
	NoGrantShared NoGrantKind = "shared"
	// NoGrantNever: the mailbox did not log in from there lately. The cure is to fetch mail first.
	NoGrantNever NoGrantKind = "never"
	// NoGrantExpired: it did, at most [store.GrantMemory] ago.
	NoGrantExpired NoGrantKind = "expired"
	// NoGrantRevoked: the grant was ended, or the account was suspended or its password changed since; see Cause.
	NoGrantRevoked NoGrantKind = "revoked"
	// NoGrantSpent: the grant has no recipients left, and logins do not refill it. The cure is AUTH.
	NoGrantSpent NoGrantKind = "spent"
	// NoGrantOtherFamily: there is a live grant, but for an address of the other IP family, and none in this one.
	NoGrantOtherFamily NoGrantKind = "other family"
	// NoGrantElsewhere: there is a live grant for another address of this family.
	NoGrantElsewhere NoGrantKind = "elsewhere"
)

// Causes of NoGrantRevoked beside those of [store.GrantEnd].
const (
	CauseSuspended = "suspended"
	CauseChanged   = "credential changed"
)

// NoGrant is the answer of [Grants.Why].
type NoGrant struct {
	Kind NoGrantKind
	// When is when the grant expired or was ended; zero if that is not known or not the matter.
	When time.Time
	// Cause is a phrase for the log: a [Bar], a [store.GrantEnd], CauseSuspended or CauseChanged.
	Cause string
	// OtherFamily is set, whatever the kind, when there is a live grant for an address of the other IP family: a client that fetches
	// over IPv6 and sends over IPv4 never matches.
	OtherFamily bool
}

// Why says why an account has no grant that can be used by a client, for the refusal. Account 0 is an address that is nobody's: it is
// answered like a mailbox that never logged in.
func (g *Grants) Why(ctx context.Context, p Place, account store.AccountID) (NoGrant, error) {
	t, err := g.terms(ctx, p)
	if err != nil {
		return NoGrant{}, err
	}
	a, err := g.account(ctx, account)
	if err != nil {
		return NoGrant{}, err
	}
	var grants []store.Grant
	if account != 0 { // which would match every account's
		err = g.each(ctx, store.GrantFilter{Account: account}, func(page []store.Grant) error {
			grants = append(grants, page...) // at most store.MaxAccountGrants
			return nil
		})
		if err == nil {
			grants, err = g.voided(ctx, t, grants)
		}
		if err != nil {
			return NoGrant{}, err
		}
	}
	return whyNot(t, g.crowds.crowded(t.now, t.network), a, grants), nil
}

// whyNot decides. The grants are all those of the account, which is zero if it does not exist.
func whyNot(t terms, crowded bool, a store.Account, grants []store.Grant) NoGrant {
	switch {
	case !t.on:
		return NoGrant{Kind: NoGrantOff}
	case t.bar != "":
		return NoGrant{Kind: NoGrantShared, Cause: string(t.bar)}
	}
	why := NoGrant{Kind: NoGrantNever}
	var latest time.Time
	otherFamily, elsewhere := false, false
	for _, grant := range grants {
		switch good := grant.Live(t.now) && valid(grant, a); {
		case t.covers(grant):
			here := whyNotHere(t.now, a, grant)
			if here.Kind == "" {
				return NoGrant{}
			}
			if grant.LastLogin.After(latest) {
				why, latest = here, grant.LastLogin
			}
		case good && sameFamily(grant.Network.Addr(), t.remote):
			elsewhere = true
		case good:
			otherFamily = true
		}
	}
	switch {
	case crowded && why.Kind != NoGrantSpent:
		why = NoGrant{Kind: NoGrantShared, Cause: string(BarCrowded)}
	case why.Kind == NoGrantNever && elsewhere:
		why.Kind = NoGrantElsewhere
	case why.Kind == NoGrantNever && otherFamily:
		why.Kind = NoGrantOtherFamily
	}
	why.OtherFamily = otherFamily
	return why
}

// whyNotHere looks at the grant that the account has, or had, where the client stands. What is void for another reason than its age
// counts as that, so that no device tries again in vain.
func whyNotHere(now time.Time, a store.Account, g store.Grant) NoGrant {
	switch {
	case g.End != "":
		return NoGrant{Kind: NoGrantRevoked, When: g.Ended, Cause: string(g.End)}
	case a.Suspended:
		return NoGrant{Kind: NoGrantRevoked, Cause: CauseSuspended}
	case !valid(g, a):
		return NoGrant{Kind: NoGrantRevoked, Cause: CauseChanged}
	case !g.Live(now) && !now.Before(g.Expires.Add(store.GrantMemory)):
		return NoGrant{Kind: NoGrantNever}
	case !g.Live(now):
		return NoGrant{Kind: NoGrantExpired, When: g.Expires}
	case g.Left <= 0:
		return NoGrant{Kind: NoGrantSpent}
	}
	return NoGrant{}
}

func sameFamily(a, b netip.Addr) bool { return a.Is4() == b.Is4() }
