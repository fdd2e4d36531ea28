package auth

import (
	"errors"
	"net/netip"
	"time"

	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// Attempt is where a login comes from; the name and password go beside it.
type Attempt struct {
	// Service is "pop3", "smtp" or "web".
	Service string
	// Mechanism is how the password came: "USER", "PLAIN" or "LOGIN"; for a challenge login its mechanism.
	Mechanism string
	// Remote is the client's address, unmapped.
	Remote netip.Addr
	// TLS is set when the password was not sent in the clear.
	TLS bool
	// OldDoor is set for a client that came by an old-client listener, which takes passwords in the clear from anywhere. Whether the
	// account may use it is the door's question.
	OldDoor bool
}

// Identity is who logged in.
type Identity struct {
	Account store.AccountID
	// Name is the account's canonical local part, Address the mailbox's address.
	Name    string
	Address mailaddr.Address
	// CredentialVersion is the one that was proved; when the account's differs, the password was changed or the account suspended.
	CredentialVersion uint64
	// Device is the device credential that was proved, and DeviceName its name; 0 and empty for the main password. A device does not end with
	// the main password, so CredentialVersion counts for nothing then but for grants.
	Device     store.DeviceID
	DeviceName string
}

// Why a login is refused. The reply to the client must be the same for ErrCredentials whatever the cause.
var (
	// ErrCredentials: no such mailbox, or not its password.
	ErrCredentials = errors.New("auth: wrong name or password")
	// ErrSuspended: the password is right, and the account suspended.
	ErrSuspended = errors.New("auth: account suspended")
	// ErrThrottled: too many failures from there; the password was not looked at.
	ErrThrottled = errors.New("auth: too many failed logins")
	// ErrBanned: this client is banned from the mailbox; the password was not looked at. The error is a *Banned.
	ErrBanned = errors.New("auth: banned after wrong passwords")
	// ErrCleartext: the password would cross, or has crossed, a network without TLS.
	ErrCleartext = errors.New("auth: TLS needed before a password")
	// ErrExposed: the password is right, crossed a network in the clear so long ago that it has ended (see [store.Settings.ClearPasswordEnds]), and
	// has to be changed.
	ErrExposed = errors.New("auth: the password was seen in the clear, and has ended")
	// ErrBinding: SCRAM is not bound to the connection that it came over, or was talked out of it on its way (RFC 5802 §6).
	ErrBinding = errors.New("auth: SCRAM is not bound to this connection")
	// ErrDeviceExpired, ErrDeviceNetwork, ErrDeviceScope: the password of a device is right, and it has ended by itself, may not be used from
	// there, or not for this.
	ErrDeviceExpired = errors.New("auth: device credential expired")
	ErrDeviceNetwork = errors.New("auth: device credential not from there")
	ErrDeviceScope   = errors.New("auth: device credential not for this")
	// ErrBusy: too many logins wait for their turn; try again.
	ErrBusy = errors.New("auth: too many logins at once")
)

// Banned is [ErrBanned] with what the client may know of it.
type Banned struct {
	// Wait is how long the ban still lasts.
	Wait time.Duration
}

// Error implements error.
func (b *Banned) Error() string { return ErrBanned.Error() }

// Is makes it ErrBanned.
func (b *Banned) Is(target error) bool { return target == ErrBanned }
