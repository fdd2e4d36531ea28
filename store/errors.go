package store

import (
	"errors"
	"fmt"
)

// Looking something up.
var (
	// ErrNotFound: there is no such account, alias, message, job, grant, secret or session.
	ErrNotFound = errors.New("store: not found")
	// ErrNotInitialised: the data directory holds no domain yet.
	ErrNotInitialised = errors.New("store: no domain in this data directory")
)

// Changing something.
var (
	// ErrExists: the name is taken by an account or an alias.
	ErrExists = errors.New("store: exists already")
	// ErrConflict: the record was changed since it was read; read it again.
	ErrConflict = errors.New("store: changed meanwhile")
	// ErrInvalid: a field is out of its bounds; the error that wraps it says which.
	ErrInvalid = errors.New("store: invalid")
	// ErrReserved: the change would leave postmaster or abuse without a mailbox (RFC 2142 §5, RFC 5321 §4.5.1).
	ErrReserved = errors.New("store: postmaster and abuse must lead to a mailbox")
	// ErrBound: a named bound of the store is reached (for example [MaxSecretSize]).
	ErrBound = errors.New("store: bound reached")
)

// Taking responsibility for a message.
var (
	// ErrSuspended: the account is suspended; deliveries to it wait at the sender.
	ErrSuspended = errors.New("store: account suspended")
	// ErrMaildropFull: the maildrop's quota has no room for this message.
	ErrMaildropFull = errors.New("store: maildrop full")
	// ErrDomainFull: the quota of the domain has no room for this copy, though the maildrop's own may have.
	ErrDomainFull = errors.New("store: domain full")
	// ErrNoRecipients: no recipient of the envelope could be served, so nothing was stored.
	ErrNoRecipients = errors.New("store: no recipient left")
	// ErrSettled: the draft was committed or aborted already.
	ErrSettled = errors.New("store: draft already settled")
	// ErrLeaseLost: the job's lease expired or was taken by another; nothing was changed.
	ErrLeaseLost = errors.New("store: lease lost")
)

// The engine's own state.
var (
	// ErrNoSpace: the device is full; what was asked was not done, and may be asked again when there is room.
	ErrNoSpace = errors.New("store: no space left")
	// ErrPoisoned: a sync failed, so nothing new is accepted until the process is started again; reads go on.
	ErrPoisoned = errors.New("store: stopped after a failed sync")
	// ErrDamaged: stored octets do not match their checksum or length; they are never handed out as mail.
	ErrDamaged = errors.New("store: damaged")
	// ErrBusy: that is being done already, and once at a time is enough.
	ErrBusy = errors.New("store: busy")
	// ErrClosed: the store is closed.
	ErrClosed = errors.New("store: closed")
)

// RecipientError says why one recipient of an envelope was left out of a commit that otherwise succeeded.
type RecipientError struct {
	// Index is the position in Envelope.Recipients, from 0.
	Index int
	// Err is ErrNotFound (the account was removed), ErrSuspended, ErrMaildropFull or ErrDomainFull.
	Err error
}

func (e *RecipientError) Error() string { return fmt.Sprintf("recipient %d: %v", e.Index, e.Err) }

// Unwrap returns the cause.
func (e *RecipientError) Unwrap() error { return e.Err }
