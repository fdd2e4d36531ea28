package store

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"time"
)

// Bounds of the grants.
const (
	// MaxGrants bounds the grants that are kept, live and over: beyond it the one whose [Grant.Over] is earliest is forgotten.
	MaxGrants = 20_000
	// MaxAccountGrants bounds those of one account, likewise.
	MaxAccountGrants = 200
	// GrantMemory is how long a grant is remembered after it was over, so that a refusal can say so. It is forgotten when the next grant
	// is opened, whoever's.
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
	// GrantDisplaced: the mailbox had as many as it may, and logged in from a network of its own.
	GrantDisplaced GrantEnd = "displaced"
	// GrantSwitchedOff: POP before SMTP was switched off.
	GrantSwitchedOff GrantEnd = "switched off"
)

// Grant lets one mailbox send from one network without AUTH for a while, because its owner fetched mail from there a moment ago (POP
// before SMTP). There is at most one for each account, network and device.
type Grant struct {
	ID GrantID `json:"id"`
	// Account is the mailbox, and the only one that may be sent as.
	Account AccountID `json:"account"`
	// Network is one IPv4 address (/32), or an IPv6 /64 or /128.
	Network netip.Prefix `json:"network"`
	// Device is the credential that mail was fetched with, 0 for the main password. A grant is void when that credential is gone, and allows no
	// more than it does; the caller looks at it.
	Device DeviceID `json:"device,omitempty"`
	// CredentialVersion is the account's when the grant was made or renewed; a grant of another version is void.
	CredentialVersion uint64    `json:"credential_version"`
	Created           time.Time `json:"created"`
	LastLogin         time.Time `json:"last_login"`
	// Expires is asked at every use: a grant is live before it and not at it.
	Expires time.Time `json:"expires"`
	// Recipients is how many recipients the grant was made for, Left how many of them may still be named.
	Recipients int `json:"recipients"`
	Left       int `json:"left"`
	// End is set when the grant ended before it expired, Ended then says when.
	End   GrantEnd  `json:"end,omitempty"`
	Ended time.Time `json:"ended,omitzero"`
}

// Live reports whether the grant is good at now, as far as the store knows: the account's credential version is the caller's to compare.
func (g Grant) Live(now time.Time) bool { return g.End == "" && now.Before(g.Expires) }

// Over is the moment from which the grant is good no more: when it ended, or else when it expires.
func (g Grant) Over() time.Time {
	if g.End != "" && g.Ended.Before(g.Expires) {
		return g.Ended
	}
	return g.Expires
}

// GrantRequest asks for a grant to be made or renewed after a POP3 login.
type GrantRequest struct {
	Account           AccountID
	Network           netip.Prefix // masked; /32, /64 or /128
	Device            DeviceID     // 0 for the main password
	CredentialVersion uint64
	// Window is how long the grant lives after the login; Longest how long after it was made, whatever logins follow. Both are positive.
	Window, Longest time.Duration
	// Recipients is what a new grant may spend, 1 to MaxRecipientBudget. A renewed one keeps what it has left.
	Recipients int
	// MostLive bounds the live grants of the account, 1 to MaxAccountGrants.
	MostLive int
}

// Validate reports every field that is out of bounds, joined; each wraps ErrInvalid.
func (r GrantRequest) Validate() error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: "+format, append([]any{ErrInvalid}, args...)...))
	}
	bits := r.Network.Bits()
	if !validNetwork(r.Network) || r.Network.Addr().Is4() && bits != 32 || r.Network.Addr().Is6() && bits != 64 && bits != 128 {
		bad("a grant is for an IPv4 address, or an IPv6 /64 or /128, not for %s", r.Network)
	}
	if r.Window <= 0 || r.Longest <= 0 {
		bad("a grant lives for a while")
	}
	if r.Recipients < 1 || r.Recipients > MaxRecipientBudget {
		bad("a grant is for 1 to %d recipients", MaxRecipientBudget)
	}
	if r.MostLive < 1 || r.MostLive > MaxAccountGrants {
		bad("an account has 1 to %d live grants", MaxAccountGrants)
	}
	return errors.Join(errs...)
}

// Expires is when a grant that was made at created expires after a login at now.
func (r GrantRequest) Expires(now, created time.Time) time.Time {
	window, longest := now.Add(r.Window), created.Add(r.Longest)
	if longest.Before(window) {
		return longest
	}
	return window
}

// GrantFilter narrows a listing; zero fields match all.
type GrantFilter struct {
	Account AccountID
	// Remote is an address that the grant's network must contain.
	Remote netip.Addr
	// LiveAt is a moment at which the grant must be live.
	LiveAt time.Time
}

// Matches reports whether a grant is in the listing.
func (f GrantFilter) Matches(g Grant) bool {
	return (f.Account == 0 || f.Account == g.Account) && (!f.Remote.IsValid() || g.Network.Contains(f.Remote)) &&
		(f.LiveAt.IsZero() || g.Live(f.LiveAt))
}

// Grants keeps the grants of POP before SMTP. They survive a restart; a crash may forget the last seconds of what was made, renewed
// and spent, so that no login waits for a sync, but nothing of what was revoked. RemoveAccount forgets the account's grants.
type Grants interface {
	// OpenGrant renews the live grant of this account, network, device and credential version, or makes one: then an ended, expired or void one
	// of the same account, network and device is forgotten, and if there are too many, or too old ones, those too. Either way the grant expires
	// at r.Expires; one that would have expired by now, because Longest became shorter, is not renewed. ErrBound if the account has
	// MostLive other live grants of this credential version, and none to renew: then nothing is changed. ErrNotFound if the account does
	// not exist. ErrInvalid for a request out of bounds.
	OpenGrant(ctx context.Context, now time.Time, r GrantRequest) (Grant, error)
	// Grant returns one grant, or ErrNotFound.
	Grant(ctx context.Context, id GrantID) (Grant, error)
	// SpendGrant takes n recipients from a grant that is live at now and has them left; ok is false, and nothing is taken, otherwise.
	// ErrInvalid for a negative n.
	SpendGrant(ctx context.Context, now time.Time, id GrantID, n int) (ok bool, err error)
	// RefundGrant gives n recipients back, at most up to what the grant was made with. An unknown grant is no error. ErrInvalid for a
	// negative n.
	RefundGrant(ctx context.Context, id GrantID, n int) error
	// ListGrants returns up to limit grants that match, live or over, in order of id, those after the given id only.
	ListGrants(ctx context.Context, f GrantFilter, after GrantID, limit int) ([]Grant, error)
	// RevokeGrants ends grants for a reason, durably. Those that are unknown, ended or expired are left alone; revoked lists the others,
	// each once, in order of id. ErrInvalid without a reason.
	RevokeGrants(ctx context.Context, now time.Time, end GrantEnd, ids ...GrantID) (revoked []GrantID, err error)
	// RevokeAllGrants ends every grant that is live at now, durably, and returns how many those were. ErrInvalid without a reason.
	RevokeAllGrants(ctx context.Context, now time.Time, end GrantEnd) (int, error)
}
