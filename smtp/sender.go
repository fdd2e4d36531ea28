package smtp

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"

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
	// mailbox is the address that answers for the mail, zero for none.
	mailbox() mailaddr.Address
	// way is how the sender proved itself, empty for not at all.
	way() store.SentWay
}

// submits reports whether mail of a sender is one of our own users', and not a stranger's.
func submits(who sender) bool { return who.way() != "" }

// anonymous is everybody who has not proved anything.
type anonymous struct{}

func (anonymous) LogValue() slog.Value      { return slog.StringValue("anonymous") }
func (anonymous) account() store.AccountID  { return 0 }
func (anonymous) mailbox() mailaddr.Address { return mailaddr.Address{} }
func (anonymous) way() store.SentWay        { return "" }

// authenticated has proved by AUTH to own a mailbox.
type authenticated struct {
	identity auth.Identity
	// device is the device credential that was proved, as it was at MAIL; nil for the main password, and before the first MAIL.
	device *store.Device
}

func (a authenticated) LogValue() slog.Value {
	text := a.identity.Address.String()
	if a.identity.Device != 0 {
		text += " by device " + a.identity.DeviceName
	}
	return slog.StringValue(text)
}
func (a authenticated) account() store.AccountID  { return a.identity.Account }
func (a authenticated) mailbox() mailaddr.Address { return a.identity.Address }
func (authenticated) way() store.SentWay          { return store.SentAuth }

// granted stands where the owner of a mailbox fetched mail a moment ago (POP before SMTP), and sends as that mailbox.
type granted struct {
	grant store.Grant
	// address is the mailbox's.
	address mailaddr.Address
	// device is the credential that opened the grant, as it was at MAIL; nil for the main password.
	device *store.Device
}

func (g granted) LogValue() slog.Value {
	text := fmt.Sprintf("%s by address grant %s", g.address, g.grant.ID)
	if g.device != nil {
		text += " of device " + g.device.Name
	}
	return slog.StringValue(text)
}
func (g granted) account() store.AccountID  { return g.grant.Account }
func (g granted) mailbox() mailaddr.Address { return g.address }
func (granted) way() store.SentWay          { return store.SentGrant }

// trusted stands in a network that the owner of the domain named, while authentication is not required.
type trusted struct {
	// network is the one that was named.
	network netip.Prefix
	// address is the reverse-path, owner the mailbox that alone owns it, 0 for none.
	address mailaddr.Address
	owner   store.AccountID
}

func (t trusted) LogValue() slog.Value {
	return slog.StringValue(fmt.Sprintf("%s by trusted network %s", t.address, t.network))
}
func (t trusted) account() store.AccountID  { return t.owner }
func (t trusted) mailbox() mailaddr.Address { return t.address }
func (trusted) way() store.SentWay          { return store.SentTrusted }

// ownership says by what right a mailbox uses an address as sender.
type ownership int

const (
	// foreign: by none.
	foreign ownership = iota
	// lent: the owner of the domain gave it by send-as.
	lent
	// own: mail for it goes to this mailbox and to no other; for a trusted sender, which has no mailbox: it exists in this domain.
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
	outside := slices.ContainsFunc(r.Forwards, func(f store.Forwarding) bool { return f.Account == 0 }) // of an alias, for others too
	if addr.Domain() == facts.domain && !r.CatchAll && len(r.Remote) == 0 && len(r.Local) == 1 && r.Local[0] == account && !outside {
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
