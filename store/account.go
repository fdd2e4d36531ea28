package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"latchkey/internal/mailaddr"
)

// Bounds of the account records.
const (
	// MaxNameLen is the longest local part, in octets (RFC 5321 §4.5.3.1.1).
	MaxNameLen = 64
	// MaxAliasTargets bounds the mailboxes that one alias leads to, MaxAliasOutside the addresses of other domains.
	MaxAliasTargets = 1000
	MaxAliasOutside = 100
	// MaxForwards bounds the addresses that the mail of one mailbox is sent on to.
	MaxForwards = 10
	// MaxSendAs bounds the further sender addresses of one account.
	MaxSendAs = 100
	// MaxSealed bounds a sealed password, in octets: a password has at most 1024, and sealing and a text form of it add to that.
	MaxSealed = 2 << 10
	// CatchAll is the alias name that takes every address of the domain that nothing else takes.
	CatchAll = "*"
)

// Account is one mailbox owner: a maildrop, and the password that opens it and sends with it.
type Account struct {
	// ID is given by the store and never reused.
	ID AccountID `json:"id"`
	// Name is the canonical local part (see mailaddr.CanonicalLocal), unique among accounts and aliases.
	Name string `json:"name"`
	// DisplayName is free text for people, at most 200 octets, no control characters.
	DisplayName string `json:"display_name,omitempty"`
	// Verifier is the password's PHC string ($argon2id$...). It never leaves the process and is never logged.
	Verifier Verifier `json:"-"`
	// CredentialVersion is raised by the store whenever Verifier or Suspended changes; sessions compare it.
	CredentialVersion uint64 `json:"credential_version"`
	// Suspended closes POP3 and SMTP to the account; incoming mail gets a temporary refusal.
	Suspended bool `json:"suspended"`
	// Owner lets the account manage the whole domain, not only its own mailbox.
	Owner bool `json:"owner,omitempty"`
	// Quota bounds the maildrop.
	Quota Quota `json:"quota"`
	// OldClientLogin lets the account be used by the old-client doors and by challenge logins (APOP, CRAM-MD5, SCRAM), for which its password
	// is kept in Sealed from its next login with it. [Settings.OldClientLogin] does the same for all accounts: see [Account.MaySeal].
	OldClientLogin bool `json:"old_client_login"`
	// Sealed is the password that Verifier is of, encrypted; empty if none was kept. Only SealPassword sets it. The store clears it in the same
	// transaction in which Verifier changes, or OldClientLogin ends for the account. It never leaves the process and is never logged.
	Sealed Sealed `json:"-"`
	// POP3 is how the account's maildrop is shown to its client.
	POP3 POP3Options `json:"pop3"`
	// SendAs lists addresses that the account may use as sender besides its own; at most MaxSendAs.
	SendAs []mailaddr.Address `json:"send_as,omitempty"`
	// Forward is where its mail is sent on to.
	Forward Forward `json:"forward,omitzero"`
	// Vacation is what it answers while its owner is away.
	Vacation Vacation `json:"vacation,omitzero"`
	// ExpireDays is after how many days its messages are removed, fetched or not: 0 as [Settings.ExpireDays] says, 1 to MaxExpireDays, or
	// ExpireNever. See [Account.ExpireAfter].
	ExpireDays int `json:"expire_days,omitempty"`
	// ClearSince is when the password was first seen to have crossed a network in the clear where TLS is needed: zero for never, and zero again
	// with a new Verifier. See [Settings.ClearPasswordDays].
	ClearSince time.Time `json:"clear_since,omitzero"`
	// Created is when the account was added.
	Created time.Time `json:"created"`
	// Version is raised by every change; UpdateAccount is refused with ErrConflict when it does not match.
	Version uint64 `json:"version"`
}

// Forward is where the mail of a mailbox is sent on to. The zero value sends nothing on.
type Forward struct {
	// To are addresses of other domains, at most MaxForwards, each once.
	To []mailaddr.Address `json:"to,omitempty"`
	// Keep leaves a copy in the mailbox.
	Keep bool `json:"keep,omitempty"`
}

// IsZero reports whether nothing is sent on.
func (f Forward) IsZero() bool { return len(f.To) == 0 && !f.Keep }

// POP3Options are work-arounds for old clients and the choice of what a session lists. The zero value changes nothing.
type POP3Options struct {
	// ReplaceNUL sends 0x80 for each NUL octet: Outlook and Outlook Express stop at NUL. Sizes stay.
	ReplaceNUL bool `json:"replace_nul,omitempty"`
	// EndHeader sends an empty line behind a header that has none: Outlook Express and Netscape wait for it. It counts in the size.
	EndHeader bool `json:"end_header,omitempty"`
	// StatusHeader puts a Status field before the messages that were fetched in an earlier session: Eudora's "first unread". It counts in
	// the size.
	StatusHeader bool `json:"status_header,omitempty"`
	// Last offers LAST (RFC 1460).
	Last bool `json:"last,omitempty"`
	// Select is what a login without a selection of its own lists: "" for all, "new" for what no earlier session has fetched, "7d" for the
	// last 1 to 3650 days, "max=200" for the last 1 to 1,000,000 messages.
	Select string `json:"select,omitempty"`
}

// Sealed is an encrypted password. It prints and logs as "[redacted]".
type Sealed string

// String hides it from logs and format verbs.
func (Sealed) String() string { return "[redacted]" }

// GoString hides it from %#v.
func (Sealed) GoString() string { return "[redacted]" }

// LogValue hides it from slog.
func (Sealed) LogValue() slog.Value { return slog.StringValue("[redacted]") }

// MarshalText keeps it out of JSON and every other text form.
func (Sealed) MarshalText() ([]byte, error) { return []byte("[redacted]"), nil }

// Verifier is a password verifier. It prints and logs as "[redacted]".
type Verifier string

// String hides the verifier from logs and format verbs.
func (Verifier) String() string { return "[redacted]" }

// GoString hides the verifier from %#v.
func (Verifier) GoString() string { return "[redacted]" }

// LogValue hides the verifier from slog.
func (Verifier) LogValue() slog.Value { return slog.StringValue("[redacted]") }

// MarshalText keeps the verifier out of JSON and every other text form.
func (Verifier) MarshalText() ([]byte, error) { return []byte("[redacted]"), nil }

// MaySeal reports whether a sealed password may be kept for the account under these settings: the owner switched old-client login on for it, or for
// all. Without that nobody may be able to compute the password.
func (a Account) MaySeal(s Settings) bool { return a.OldClientLogin || s.OldClientLogin }

// CheckSealed reports what SealPassword refuses to keep: ErrInvalid for nothing, ErrBound above MaxSealed.
func CheckSealed(sealed Sealed) error {
	switch {
	case sealed == "":
		return fmt.Errorf("%w: an empty sealed password", ErrInvalid)
	case len(sealed) > MaxSealed:
		return fmt.Errorf("%w: a sealed password has at most %d octets", ErrBound, MaxSealed)
	}
	return nil
}

// Succeed makes a the record that follows old in an update under these settings: it raises the versions as the contract of Accounts says, and keeps
// or clears what only the store sets. Engines call it in UpdateAccount.
func (a *Account) Succeed(old Account, s Settings) {
	a.Version, a.CredentialVersion, a.Sealed = old.Version+1, old.CredentialVersion, old.Sealed
	if a.Verifier != old.Verifier || a.Suspended != old.Suspended {
		a.CredentialVersion++
	}
	if a.Verifier != old.Verifier || !a.MaySeal(s) {
		a.Sealed = ""
	}
	if a.Verifier != old.Verifier {
		a.ClearSince = time.Time{}
	}
}

// Quota bounds a maildrop, or all maildrops of the domain together (see [Settings.DomainQuota]). Zero fields mean no bound.
type Quota struct {
	Octets   int64 `json:"octets"`
	Messages int64 `json:"messages"`
}

// Usage is what a maildrop holds, or all maildrops of the domain together. Every copy counts at its full size, prefix included, however
// many copies share one body. Queued mail to other domains counts nowhere.
type Usage struct {
	Octets   int64 `json:"octets"`
	Messages int64 `json:"messages"`
}

// Plus returns the sum of both.
func (u Usage) Plus(v Usage) Usage {
	return Usage{Octets: u.Octets + v.Octets, Messages: u.Messages + v.Messages}
}

// Minus returns u without v.
func (u Usage) Minus(v Usage) Usage {
	return Usage{Octets: u.Octets - v.Octets, Messages: u.Messages - v.Messages}
}

// Fits reports whether one more message of size octets stays within the quota.
func (q Quota) Fits(u Usage, size int64) bool {
	return (q.Octets == 0 || u.Octets+size <= q.Octets) && (q.Messages == 0 || u.Messages+1 <= q.Messages)
}

// Validate reports every field that is out of bounds, joined; each wraps ErrInvalid.
func (a Account) Validate() error {
	var errs []error
	if err := validName(a.Name); err != nil {
		errs = append(errs, err)
	}
	if len(a.DisplayName) > 200 || mailaddr.HasControl(a.DisplayName) {
		errs = append(errs, fmt.Errorf("%w: display name longer than 200 octets or with control characters", ErrInvalid))
	}
	if a.Quota.Octets < 0 || a.Quota.Messages < 0 {
		errs = append(errs, fmt.Errorf("%w: negative quota", ErrInvalid))
	}
	if len(a.SendAs) > MaxSendAs {
		errs = append(errs, fmt.Errorf("%w: more than %d send-as addresses", ErrInvalid, MaxSendAs))
	}
	if err := validOutside(a.Forward.To, MaxForwards); err != nil {
		errs = append(errs, err)
	}
	if a.Forward.Keep && len(a.Forward.To) == 0 {
		errs = append(errs, fmt.Errorf("%w: a copy is kept beside a forward, and there is none", ErrInvalid))
	}
	if _, err := ParseSelect(a.POP3.Select); err != nil {
		errs = append(errs, err)
	}
	errs = append(errs, a.Vacation.Validate(), validExpiry(a.ExpireDays))
	return errors.Join(errs...)
}

// validOutside looks at addresses of other domains that mail is sent on to. That they are not of this one is for the caller to see to.
func validOutside(to []mailaddr.Address, most int) error {
	if len(to) > most {
		return fmt.Errorf("%w: mail is sent on to %d addresses at most", ErrInvalid, most)
	}
	for i, a := range to {
		if a.IsZero() || a.IsLiteral() || mailaddr.HasControl(a.String()) || slices.Contains(to[:i], a) {
			return fmt.Errorf("%w: mail is sent on to addresses, each named once", ErrInvalid)
		}
	}
	return nil
}

// Alias is a further name that leads to one or more accounts, or to addresses of other domains. Targets are account ids, so a re-added name
// inherits no alias.
type Alias struct {
	// Name is a canonical local part, or CatchAll.
	Name string `json:"name"`
	// Targets are at most MaxAliasTargets accounts, each once, in ascending order.
	Targets []AccountID `json:"targets"`
	// Outside are at most MaxAliasOutside addresses of other domains, each once. There is at least one target or address.
	Outside []mailaddr.Address `json:"outside,omitempty"`
}

// Validate reports every field that is out of bounds, joined; each wraps ErrInvalid.
func (a Alias) Validate() error {
	var errs []error
	if a.Name != CatchAll {
		if err := validName(a.Name); err != nil {
			errs = append(errs, err)
		}
	}
	if len(a.Targets)+len(a.Outside) == 0 || len(a.Targets) > MaxAliasTargets {
		errs = append(errs, fmt.Errorf("%w: an alias has 1 to %d targets", ErrInvalid, MaxAliasTargets))
	}
	if err := validOutside(a.Outside, MaxAliasOutside); err != nil {
		errs = append(errs, err)
	}
	if !slices.IsSorted(a.Targets) || len(slices.Compact(slices.Clone(a.Targets))) != len(a.Targets) {
		errs = append(errs, fmt.Errorf("%w: alias targets are each named once, in ascending order", ErrInvalid))
	}
	return errors.Join(errs...)
}

func validName(name string) error {
	canonical, err := mailaddr.CanonicalLocal(name)
	if err != nil || canonical != name || len(name) > MaxNameLen || name == CatchAll {
		return fmt.Errorf("%w: %q is not a canonical local part of 1 to %d octets", ErrInvalid, name, MaxNameLen)
	}
	return nil
}

// Route is where mail for one address goes.
type Route struct {
	// Local lists the accounts that get a copy, each once, suspended ones included.
	Local []AccountID
	// Remote lists the addresses outside this domain: the address itself, if it is not of this domain.
	Remote []mailaddr.Address
	// Forwards is where mail for an address of this domain is sent on to, each address of another domain once.
	Forwards []Forwarding
	// Away lists those of Local whose vacation answers are switched on, in the same order, whatever their days are.
	Away []AccountID
	// CatchAll is set when nothing but the catch-all took the address; nobody owns such an address as a sender.
	CatchAll bool
}

// Forwarding is one address of another domain that mail for an address here is sent on to.
type Forwarding struct {
	To mailaddr.Address
	// By is the mailbox or alias here that says so, as an address.
	By mailaddr.Address
	// Account is that mailbox, one of Route.Local; 0 is an alias.
	Account AccountID
	// Keep says that the mailbox gets a copy beside it. Without it the mail is only sent on.
	Keep bool
}

// Forwards returns where mail for one account, found by its own name, is sent on to.
func (a Account) Forwards(domain string) []Forwarding {
	by, err := mailaddr.New(a.Name, domain)
	if err != nil {
		return nil // a canonical name and domain make an address
	}
	list := make([]Forwarding, 0, len(a.Forward.To))
	for _, to := range a.Forward.To {
		list = append(list, Forwarding{To: to, By: by, Account: a.ID, Keep: a.Forward.Keep})
	}
	return list
}

// Forwards returns where mail for an alias is sent on to by itself.
func (a Alias) Forwards(domain string) []Forwarding {
	by, err := mailaddr.New(a.Name, domain)
	if err != nil {
		return nil
	}
	list := make([]Forwarding, 0, len(a.Outside))
	for _, to := range a.Outside {
		list = append(list, Forwarding{To: to, By: by})
	}
	return list
}

// AddForwards adds to a route what is not in it yet: to each address mail is sent on once.
func (r *Route) AddForwards(list []Forwarding) {
	for _, f := range list {
		if !slices.ContainsFunc(r.Forwards, func(known Forwarding) bool { return known.To == f.To }) {
			r.Forwards = append(r.Forwards, f)
		}
	}
}

// Accounts keeps accounts and aliases and answers where an address leads. Removal, rename and suspension are ordered with
// deliveries: a commit that is acknowledged after the change returned has seen it.
type Accounts interface {
	// Account returns one account, or ErrNotFound.
	Account(ctx context.Context, id AccountID) (Account, error)
	// AccountByName returns the account with this canonical local part, or ErrNotFound. Aliases do not count.
	AccountByName(ctx context.Context, name string) (Account, error)
	// ListAccounts returns up to limit accounts in order of name, those after the given name only.
	ListAccounts(ctx context.Context, after string, limit int) ([]Account, error)
	// AddAccount stores a new account and returns it with its ID, CredentialVersion 1, Version 1 and nothing Sealed. ErrExists if the name is taken.
	AddAccount(ctx context.Context, a Account) (Account, error)
	// UpdateAccount replaces the account with this ID if a.Version is the stored one (else ErrConflict) and returns the new record.
	// A changed Name renames it. Sealed is not taken from a: what is stored stays, or is cleared with this change if Verifier is another one, or if
	// neither the account nor the settings allow old-client login any more. A changed Verifier clears ClearSince. ErrExists if the new name is taken; ErrReserved if postmaster or abuse
	// would lead nowhere.
	UpdateAccount(ctx context.Context, a Account) (Account, error)
	// SealPassword keeps the sealed form of the password that Verifier is of, durably, and changes no version. credentialVersion is that of the record
	// by which the password was found right. ErrConflict if it is not the stored one, or if neither the account nor the settings allow old-client
	// login; ErrNotFound; ErrBound above MaxSealed, ErrInvalid for nothing.
	SealPassword(ctx context.Context, id AccountID, credentialVersion uint64, sealed Sealed) error
	// RemoveAccount removes the account, its copies and its place in every alias (an alias without targets goes too). Jobs that it
	// submitted stay: they were accepted. ErrReserved if postmaster or abuse would lead nowhere.
	RemoveAccount(ctx context.Context, id AccountID) error
	// ListAliases returns up to limit aliases in order of name, those after the given name only.
	ListAliases(ctx context.Context, after string, limit int) ([]Alias, error)
	// PutAlias adds or replaces an alias. ErrExists if an account has the name, ErrNotFound if a target does not exist,
	// ErrReserved if postmaster or abuse would lead nowhere.
	PutAlias(ctx context.Context, a Alias) error
	// RemoveAlias removes an alias. ErrNotFound, or ErrReserved if postmaster or abuse would lead nowhere.
	RemoveAlias(ctx context.Context, name string) error
	// Resolve answers where mail for an address goes: the exact name, else the name before the first "+", else the catch-all.
	// An address outside this domain yields itself as Remote. ErrNotFound if the domain is ours and nobody takes it.
	Resolve(ctx context.Context, addr mailaddr.Address) (Route, error)
	// LentTo returns the accounts to which an address was lent, in ascending order: those that have it in SendAs, compared by LentName.
	LentTo(ctx context.Context, addr mailaddr.Address) ([]AccountID, error)
	// ExpireDaysInUse returns the values of ExpireDays that accounts have, 0 left out, each once and in ascending order. It is answered from
	// memory, but for the first time after one of them changed.
	ExpireDaysInUse(ctx context.Context) ([]int, error)
}
