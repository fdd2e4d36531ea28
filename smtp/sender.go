package smtp

import (
	"log/slog"

	"latchkey/auth"
	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// sender is who gives us mail. It is exactly one of the types below, and is decided at MAIL.
type sender interface {
	// LogValue names the sender in the log.
	slog.LogValuer
	// account is the mailbox that answers for the mail, 0 for none.
	account() store.AccountID
}

// anonymous is everybody who has not proved anything.
type anonymous struct{}

func (anonymous) LogValue() slog.Value     { return slog.StringValue("anonymous") }
func (anonymous) account() store.AccountID { return 0 }

// authenticated has proved by AUTH to own a mailbox.
type authenticated struct {
	identity auth.Identity
}

func (a authenticated) LogValue() slog.Value     { return slog.StringValue(a.identity.Address.String()) }
func (a authenticated) account() store.AccountID { return a.identity.Account }

// ownership says by what right a mailbox uses an address as sender.
type ownership int

const (
	// foreign: by none.
	foreign ownership = iota
	// lent: the owner of the domain gave it by send-as.
	lent
	// own: mail for it goes to this mailbox and to no other.
	own
)

// addressFacts is what the store knows of an address that somebody wants to send as.
type addressFacts struct {
	// route is where mail for the address goes; zero if nowhere.
	route store.Route
	// sendAs are the addresses lent to the mailbox.
	sendAs []mailaddr.Address
	// domain is ours.
	domain string
}

// ownershipOf decides whether a mailbox owns an address: its own, the plus-forms of it, aliases that lead to it alone, and what was
// lent to it. What only the catch-all takes is nobody's.
func ownershipOf(account store.AccountID, addr mailaddr.Address, facts addressFacts) ownership {
	if account == 0 || addr.IsZero() {
		return foreign
	}
	r := facts.route
	if addr.Domain() == facts.domain && !r.CatchAll && len(r.Remote) == 0 && len(r.Local) == 1 && r.Local[0] == account {
		return own
	}
	for _, a := range facts.sendAs {
		if sameMailbox(a, addr, facts.domain) {
			return lent
		}
	}
	return foreign
}

// sameMailbox compares addresses: within our own domain as the mailbox they name, elsewhere octet for octet, because local parts of
// others are not ours to interpret (RFC 5321 §2.4).
func sameMailbox(a, b mailaddr.Address, domain string) bool {
	if a == b {
		return true
	}
	if a.Domain() != domain || b.Domain() != domain {
		return false
	}
	ca, errA := mailaddr.CanonicalLocal(a.Local())
	cb, errB := mailaddr.CanonicalLocal(b.Local())
	return errA == nil && errB == nil && ca == cb
}
