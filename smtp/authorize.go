package smtp

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"latchkey/guard"
	"latchkey/internal/mailaddr"
	"latchkey/internal/refusal"
	"latchkey/store"
)

// Door is what a listener is for. It says what an anonymous sender may do there, and nothing else.
type Door string

const (
	// MX is port 25: anybody delivers to the domain's mailboxes, and after AUTH a mailbox owner submits.
	MX Door = "mx"
	// Submission is 587 and 465: nobody sends anything before AUTH, or what stands in for it.
	Submission Door = "submission"
)

// authorizeSender decides whether a sender may use a reverse-path, on which it has a right, at a door: nil, or the refusal of MAIL. Who
// is refused as granted or trusted is asked again as anonymous: neither takes away what a stranger may do.
func authorizeSender(
	who sender, door Door, reversePath mailaddr.Address, right ownership, settings store.Settings, now time.Time,
) *refused {
	switch who := who.(type) {
	case authenticated:
		// The null reverse-path is for read receipts; RCPT holds it to one recipient.
		if reversePath.IsZero() || right != foreign {
			return nil
		}
		return refuse(refusal.SenderNotYours)
	case granted:
		if settings.OutgoingMail && settings.POPBeforeSMTP && !reversePath.IsZero() && right != foreign {
			return nil
		}
		return refuse(refusal.RelayNoGrant)
	case trusted:
		if settings.OutgoingMail && !settings.AuthRequired(now) && slices.Contains(settings.TrustedNetworks, who.network) &&
			reversePath.Domain() == settings.Domain && right != foreign {
			return nil
		}
		return refuse(refusal.RelayUnknownSender)
	case anonymous:
		switch {
		case door != MX:
			return refuse(refusal.AuthRequired)
		case reversePath.Domain() == settings.Domain && !slices.ContainsFunc(settings.OutsideSenders, func(a mailaddr.Address) bool {
			return sameMailbox(a, reversePath, settings.Domain)
		}):
			return refuse(refusal.OwnDomain)
		}
		return nil
	}
	return refuse(refusal.AuthRequired)
}

// authorizeRelay decides whether a sender may send to a recipient that leads where route says: nil, or the refusal of RCPT. Only who
// has proved itself, in one of three ways, ever sends out of the domain, whatever the settings.
func authorizeRelay(who sender, door Door, rcpt mailaddr.Address, route store.Route, settings store.Settings) *refused {
	proved := false
	switch who.(type) {
	case authenticated, granted, trusted:
		proved = true
	case waiting: // nothing of what it names is taken before it is granted
		proved = settings.POPBeforeSMTP && settings.SendThenCheck
	}
	switch {
	case !proved && door != MX:
		return refuse(refusal.AuthRequired)
	case len(route.Remote) == 0:
		return nil
	case !proved:
		return refuse(refusal.RelayDenied)
	case !settings.OutgoingMail:
		return refuse(refusal.OutgoingOff)
	case slices.ContainsFunc(append(slices.Clone(route.Remote), rcpt), hasRouting):
		return refuse(refusal.RecipientRouted)
	}
	return nil
}

// hasRouting reports an address that may mean another host than the one after its last @: one with a second @, a percent sign or a
// bang, or an address literal.
func hasRouting(a mailaddr.Address) bool {
	return a.IsLiteral() || strings.ContainsAny(a.Local(), "@%!")
}

// trustedNetwork finds the network by which a client is trusted now. The caller knows that the address is the client's own.
func trustedNetwork(settings store.Settings, now time.Time, remote netip.Addr) (netip.Prefix, bool) {
	if settings.AuthRequired(now) {
		return netip.Prefix{}, false
	}
	i := slices.IndexFunc(settings.TrustedNetworks, func(n netip.Prefix) bool { return n.Contains(remote) })
	if i < 0 {
		return netip.Prefix{}, false
	}
	return settings.TrustedNetworks[i], true
}

// withoutGrant names the refusal for somebody without AUTH who uses an address of our domain, by why there is no grant. What it tells
// of a mailbox it tells only to an address from which that mailbox had logged in; but that mail is fetched over the other IP family is
// said to everybody, because nobody else could tell the owner.
func withoutGrant(why guard.NoGrant, door Door) refusal.Name {
	switch why.Kind {
	case guard.NoGrantShared:
		return refusal.RelayShared
	case guard.NoGrantSpent:
		return refusal.RelayGrantSpent
	case guard.NoGrantExpired, "": // it may be that a grant came in this moment
		if why.OtherFamily {
			return refusal.RelayExpiredFamily
		}
		return refusal.RelayGrantExpired
	case guard.NoGrantRevoked, guard.NoGrantNever, guard.NoGrantElsewhere, guard.NoGrantOtherFamily:
		switch {
		case why.OtherFamily:
			return refusal.RelayOtherFamily
		case why.Kind == guard.NoGrantRevoked:
			return refusal.RelayGrantEnded
		}
		return refusal.RelayNoGrant
	}
	// POP before SMTP is off, so that fetching mail first is no way to name.
	if door == MX {
		return refusal.OwnDomain
	}
	return refusal.AuthRequired
}
