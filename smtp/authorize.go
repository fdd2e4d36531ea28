package smtp

import (
	"net/netip"
	"slices"
	"strings"

	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// Door is what a listener is for. It says what an anonymous sender may do there, and nothing else.
type Door string

const (
	// MX is port 25: anybody delivers to the domain's mailboxes, and after AUTH a mailbox owner submits.
	MX Door = "mx"
	// Submission is 587 and 465: nobody sends anything before AUTH.
	Submission Door = "submission"
)

// authorizeSender decides whether a sender may use a reverse-path at a door: nil, or the refusal of MAIL.
func authorizeSender(who sender, door Door, reversePath mailaddr.Address, ours ownership, settings store.Settings) *refusal {
	switch who.(type) {
	case authenticated:
		// The null reverse-path is for read receipts; RCPT holds it to one recipient.
		if reversePath.IsZero() || ours != foreign {
			return nil
		}
		return &refusal{550, status{5, 7, 1}, "That sender address is not yours: use the address of the mailbox you logged in with", nil}
	case anonymous:
		switch {
		case door != MX:
			return authRequired()
		case reversePath.Domain() == settings.Domain && !slices.ContainsFunc(settings.OutsideSenders, func(a mailaddr.Address) bool {
			return sameMailbox(a, reversePath, settings.Domain)
		}):
			return &refusal{550, status{5, 7, 1},
				`Authenticate to send as this domain: turn on "My server requires authentication" in your mail program`, nil}
		}
		return nil
	}
	return authRequired()
}

// authorizeRelay decides whether a sender may send to a recipient that leads where route says: nil, or the refusal of RCPT. Only an
// authenticated sender ever sends out of the domain, whatever the settings.
func authorizeRelay(who sender, door Door, rcpt mailaddr.Address, route store.Route, remote netip.Addr, settings store.Settings) *refusal {
	_, proved := who.(authenticated)
	switch {
	case !proved && door != MX:
		return authRequired()
	case len(route.Remote) == 0:
		return nil
	case !proved:
		return &refusal{550, status{5, 7, 1}, "Relaying denied for " + remote.String() +
			`: turn on "My server requires authentication" in your mail program, with the user name and password of your incoming mail`, nil}
	case !settings.OutgoingMail:
		return &refusal{550, status{5, 7, 1}, "Mail out of this domain is switched off: ask the owner of the domain", nil}
	case slices.ContainsFunc(append(slices.Clone(route.Remote), rcpt), hasRouting):
		return &refusal{550, status{5, 1, 2}, "Addresses with a route or an address literal are not relayed: give user@domain", nil}
	}
	return nil
}

// hasRouting reports an address that may mean another host than the one after its last @: one with a second @, a percent sign or a
// bang, or an address literal.
func hasRouting(a mailaddr.Address) bool {
	return a.IsLiteral() || strings.ContainsAny(a.Local(), "@%!")
}

func authRequired() *refusal {
	return &refusal{530, status{5, 7, 0},
		`Authentication required: turn on "My server requires authentication" in your mail program`, nil}
}
