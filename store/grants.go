package store

import (
	"context"
	"net/netip"
	"strconv"
	"time"
)

// Bounds of the grants.
const (
	// MaxGrants bounds the grants that are kept, live and ended: beyond it the one that expired longest ago is forgotten.
	MaxGrants = 20_000
	// MaxAccountGrants bounds those of one account, likewise.
	MaxAccountGrants = 200
	// GrantMemory is how long a grant is remembered after it expired, so that a refusal can say so.
	GrantMemory = 30 * 24 * time.Hour
)

// GrantID names a grant. Ids are never reused.
type GrantID uint64

// String is the decimal form, as people type it.
func (id GrantID) String() string { return strconv.FormatUint(uint64(id), 10) }

// GrantEnd says why a grant ended before it expired. It is empty for one that did not.
type GrantEnd string

// The ends. Expiry is none of them: a clock decides that, when the grant is used.
const (
	// GrantRevoked: by the owner's word, or by the operator's.
	GrantRevoked GrantEnd = "revoked"
	// GrantGuessed: somebody guessed at passwords from there.
	GrantGuessed GrantEnd = "guessed"
	// GrantSwitchedOff: POP before SMTP was switched off.
	GrantSwitchedOff GrantEnd = "switched off"
)

// Grant lets one mailbox send from one network without AUTH for a while, because its owner fetched mail from there a moment ago (POP
// before SMTP). There is at most one for each account and network.
type Grant struct {
	ID GrantID `json:"id"`
	// Account is the mailbox, and the only one that may be sent as.
	Account AccountID `json:"account"`
	// Network is one IPv4 address (/32), or an IPv6 /64 or /128.
	Network netip.Prefix `json:"network"`
	// CredentialVersion is the account's when the grant was made or renewed; a grant of another version is void.
	CredentialVersion uint64    `json:"credential_version"`
	Created           time.Time `json:"created"`
	LastLogin         time.Time `json:"last_login"`
	// Expires is asked at every use: a grant is live before it and not at it.
	Expires time.Time `json:"expires"`
	// Left is how many recipients may still be named.
	Left int `json:"left"`
	// End is set when the grant ended before it expired, Ended then says when.
	End   GrantEnd  `json:"end,omitempty"`
	Ended time.Time `json:"ended,omitzero"`
}

// Live reports whether the grant is good at now, as far as the store knows: the account's credential version is the caller's to compare.
func (g Grant) Live(now time.Time) bool { return g.End == "" && now.Before(g.Expires) }

// GrantRequest asks for a grant to be made or renewed after a POP3 login.
type GrantRequest struct {
	Account           AccountID
	Network           netip.Prefix // masked; /32, /64 or /128
	CredentialVersion uint64
	// Window is how long the grant lives after the login; Longest how long after it was made, whatever logins follow.
	Window, Longest time.Duration
	// Recipients is what a new grant may spend. A renewed one keeps what it has left.
	Recipients int
	// MostLive bounds the live grants of the account.
	MostLive int
}

// GrantFilter narrows a listing; zero fields match all.
type GrantFilter struct {
	Account AccountID
	// Remote is an address that the grant's network must contain.
	Remote netip.Addr
	// LiveAt is a moment at which the grant must be live.
	LiveAt time.Time
}

// Grants keeps the grants of POP before SMTP. They survive a restart; a crash may forget the last seconds of what was made, renewed
// and spent, so that no login waits for a sync, but nothing of what was revoked. RemoveAccount forgets the account's grants.
type Grants interface {
	// OpenGrant renews the live grant of this account, network and credential version, or makes one; an ended or void one of the same
	// account and network gives way to it. ErrBound if the account has MostLive other live grants: then nothing is changed. ErrNotFound
	// if the account does not exist. ErrInvalid for a request out of bounds.
	OpenGrant(ctx context.Context, now time.Time, r GrantRequest) (Grant, error)
	// Grant returns one grant, or ErrNotFound.
	Grant(ctx context.Context, id GrantID) (Grant, error)
	// SpendGrant takes n recipients from a grant that is live at now and has them left; ok is false, and nothing is taken, otherwise.
	SpendGrant(ctx context.Context, now time.Time, id GrantID, n int) (ok bool, err error)
	// RefundGrant gives n recipients back, at most up to what the grant was made with. An unknown grant is no error.
	RefundGrant(ctx context.Context, id GrantID, n int) error
	// ListGrants returns up to limit grants that match, live or ended, in order of id, those after the given id only.
	ListGrants(ctx context.Context, f GrantFilter, after GrantID, limit int) ([]Grant, error)
	// RevokeGrants ends grants for a reason, durably. Those that are unknown, ended or expired are left alone; revoked lists the others.
	RevokeGrants(ctx context.Context, now time.Time, end GrantEnd, ids ...GrantID) (revoked []GrantID, err error)
	// RevokeAllGrants ends every grant that is live at now, durably, and returns how many those were.
	RevokeAllGrants(ctx context.Context, now time.Time, end GrantEnd) (int, error)
}
