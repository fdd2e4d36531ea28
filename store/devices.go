package store

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"latchkey/internal/mailaddr"
)

// Bounds of device credentials.
const (
	// MaxDevices bounds those of one account.
	MaxDevices = 50
	// MaxDeviceName bounds a name, in octets.
	MaxDeviceName = 60
	// MaxDeviceNetworks bounds the networks from which one may be used, MaxDeviceRecipients the addresses and domains to which it may send.
	MaxDeviceNetworks   = 20
	MaxDeviceRecipients = 100
	// MaxDeviceVerifier bounds the verifier, in octets.
	MaxDeviceVerifier = 256
)

// DeviceID names a device credential for ever. Ids are never reused. 0 names none: the main password.
type DeviceID uint64

// String is the decimal form, as people type it.
func (id DeviceID) String() string { return strconv.FormatUint(uint64(id), 10) }

// Device is a password of its own for one device or program of a mailbox: a scanner, a cron job, a telephone. It does no more than it says,
// and can be taken back alone.
type Device struct {
	// ID is given by the store.
	ID      DeviceID  `json:"id"`
	Account AccountID `json:"account"`
	// Name is for people: 1 to MaxDeviceName octets without control characters. No two devices of an account have the same, whatever their
	// letters' case.
	Name string `json:"name"`
	// Verifier is of the device's password. It is set when the device is added, and never again; it never leaves the process and is never logged.
	Verifier Verifier `json:"-"`
	// Send and Fetch say what it is for: SMTP, POP3; at least one of them.
	Send  bool `json:"send"`
	Fetch bool `json:"fetch"`
	// Networks are those from which it may be used, at most MaxDeviceNetworks; none is from anywhere.
	Networks []netip.Prefix `json:"networks,omitempty"`
	// OwnDomain, Addresses and Domains (in canonical form) say to whom it may send: to the domain of the mailbox, to these addresses, to every
	// address of these domains, which are not those below them. With none of the three it may send to everybody. Addresses and Domains are at
	// most MaxDeviceRecipients together.
	OwnDomain bool               `json:"own_domain"`
	Addresses []mailaddr.Address `json:"addresses,omitempty"`
	Domains   []string           `json:"domains,omitempty"`
	// MessageSize bounds a message that it sends, in octets, DailyRecipients the recipients that it names in a day, those of the own domain
	// among them (at most MaxRecipientBudget); 0 is no bound but that of the domain.
	MessageSize     int64 `json:"message_size,omitempty"`
	DailyRecipients int   `json:"daily_recipients,omitempty"`
	// Expires is when it ends by itself: it is good before and not at that moment. Zero is never.
	Expires time.Time `json:"expires,omitzero"`
	// ClearSince is that of [Account], for the device's password. It never changes back: a device has one password.
	ClearSince time.Time `json:"clear_since,omitzero"`
	Created    time.Time `json:"created"`
	// Version is raised by every change; UpdateDevice is refused with ErrConflict when it does not match.
	Version uint64 `json:"version"`
}

// Expired reports whether the device has ended at now.
func (d Device) Expired(now time.Time) bool { return !d.Expires.IsZero() && !now.Before(d.Expires) }

// From reports whether the device may be used from an address.
func (d Device) From(remote netip.Addr) bool {
	return len(d.Networks) == 0 || slices.ContainsFunc(d.Networks, func(n netip.Prefix) bool { return n.Contains(remote.Unmap()) })
}

// SendsTo reports whether the device may send to an address; domain is that of the mailbox. Within it local parts are compared as the mailboxes
// that they name, elsewhere octet for octet, because local parts of others are not ours to interpret (RFC 5321 §2.4).
func (d Device) SendsTo(addr mailaddr.Address, domain string) bool {
	if !d.OwnDomain && len(d.Addresses) == 0 && len(d.Domains) == 0 {
		return true
	}
	if d.OwnDomain && addr.Domain() == domain || slices.Contains(d.Domains, addr.Domain()) {
		return true
	}
	name := LentName(addr, domain)
	return slices.ContainsFunc(d.Addresses, func(a mailaddr.Address) bool { return LentName(a, domain) == name })
}

// SameDeviceName reports whether two names are the same for people.
func SameDeviceName(a, b string) bool { return strings.EqualFold(a, b) }

// Validate reports every field that is out of bounds, joined; each wraps ErrInvalid.
func (d Device) Validate() error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: "+format, append([]any{ErrInvalid}, args...)...))
	}
	if d.Name == "" || len(d.Name) > MaxDeviceName || mailaddr.HasControl(d.Name) || strings.TrimSpace(d.Name) != d.Name {
		bad("a device's name has 1 to %d octets, no control characters, and no blanks around it", MaxDeviceName)
	}
	if !d.Send && !d.Fetch {
		bad("a device sends, fetches, or does both")
	}
	if len(d.Networks) > MaxDeviceNetworks {
		bad("a device has at most %d networks", MaxDeviceNetworks)
	}
	for _, n := range d.Networks {
		if !validNetwork(n) {
			bad("%s is no network, or has host bits set", n)
		}
	}
	if len(d.Addresses)+len(d.Domains) > MaxDeviceRecipients {
		bad("a device has at most %d recipients, addresses and domains together", MaxDeviceRecipients)
	}
	for _, a := range d.Addresses {
		if a.IsZero() {
			bad("an empty address among the recipients of a device")
		}
	}
	for _, name := range d.Domains {
		if canonical, err := mailaddr.CanonicalDomain(name); err != nil || canonical != name {
			bad("%q is no domain in canonical form", name)
		}
	}
	if d.MessageSize < 0 {
		bad("a device's message size is 0 (no bound of its own) or more")
	}
	if d.DailyRecipients < 0 || d.DailyRecipients > MaxRecipientBudget {
		bad("a device's daily recipients are 0 (no bound of their own) to %d", MaxRecipientBudget)
	}
	return errors.Join(errs...)
}

// CheckNew reports what AddDevice refuses to keep: what Validate reports, and ErrInvalid for a verifier that is empty or too long.
func (d Device) CheckNew() error {
	err := d.Validate()
	if d.Verifier == "" || len(d.Verifier) > MaxDeviceVerifier {
		err = errors.Join(err, fmt.Errorf("%w: a device has a verifier of at most %d octets", ErrInvalid, MaxDeviceVerifier))
	}
	return err
}

// Succeed makes d the record that follows old in an update: it raises the version, and keeps what no update changes. Engines call it in
// UpdateDevice.
func (d *Device) Succeed(old Device) {
	d.Version, d.Verifier, d.Created = old.Version+1, old.Verifier, old.Created
	if !old.ClearSince.IsZero() {
		d.ClearSince = old.ClearSince
	}
}

// PlaceDevice says whether a device may be added, or take the place of the one with its id, beside those that the account has: ErrExists if
// another one has its name, ErrBound if there is no room.
func PlaceDevice(known []Device, d Device) error {
	others := 0
	for i := range known {
		if known[i].ID == d.ID {
			continue
		}
		if others++; SameDeviceName(known[i].Name, d.Name) {
			return fmt.Errorf("%w: a device named %q", ErrExists, known[i].Name)
		}
	}
	if others >= MaxDevices {
		return fmt.Errorf("%w: a mailbox has at most %d devices", ErrBound, MaxDevices)
	}
	return nil
}

// Clone returns a device that shares nothing with d.
func (d Device) Clone() Device {
	d.Networks, d.Addresses, d.Domains = slices.Clone(d.Networks), slices.Clone(d.Addresses), slices.Clone(d.Domains)
	return d
}

// Devices keeps the device credentials of accounts. Whoever reads after a change has seen it, and changes are durable when the verb returns.
// RemoveAccount removes the account's devices with it; a new account of the same name has none.
type Devices interface {
	// Device returns one device of an account, or ErrNotFound.
	Device(ctx context.Context, account AccountID, id DeviceID) (Device, error)
	// ListDevices returns the devices of an account in order of id, none of an account that does not exist.
	ListDevices(ctx context.Context, account AccountID) ([]Device, error)
	// AddDevice stores a new device of d.Account and returns it with its ID and Version 1. ErrNotFound if there is no such account, ErrExists
	// if it has a device of the name, ErrBound beyond MaxDevices, ErrInvalid.
	AddDevice(ctx context.Context, d Device) (Device, error)
	// UpdateDevice replaces the device with this Account and ID if d.Version is the stored one (else ErrConflict) and returns the new record.
	// Verifier and Created are not taken from d: they stay, and a ClearSince that is set. ErrNotFound, ErrExists, ErrInvalid.
	UpdateDevice(ctx context.Context, d Device) (Device, error)
	// RemoveDevice forgets a device, for good. ErrNotFound.
	RemoveDevice(ctx context.Context, account AccountID, id DeviceID) error
}
