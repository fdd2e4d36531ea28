package auth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"latchkey/store"
)

// A device's password is "d", the device's number, and 20 letters and digits of base 32 in four groups: d17-abcde-fghij-klmno-pqrst. Those
// are 100 bits that nobody chose, so a fast hash is as good as a slow one, and the number says which of the mailbox's devices it is: one look,
// however many there are. See docs/adr/0010-device-passwords-have-a-fast-hash.md.
const (
	deviceMark      = "d"
	deviceSecretLen = 20
	deviceGroup     = 5
	// maxDevicePassword bounds what is looked at, in octets: the longest number, and every group with its hyphen.
	maxDevicePassword = len(deviceMark) + 20 + deviceSecretLen + deviceSecretLen/deviceGroup

	deviceAlphabet = "abcdefghijklmnopqrstuvwxyz234567"
	deviceScheme   = "$hmac-sha256$v=1$"
)

// Devices is what an Authenticator needs to know of device credentials. A store has it.
type Devices interface {
	// Device returns one device of an account, or store.ErrNotFound.
	Device(ctx context.Context, account store.AccountID, id store.DeviceID) (store.Device, error)
}

// DeviceSecret is the password of a device that is about to be added. It prints as "[redacted]".
type DeviceSecret struct {
	// Verifier is what the store is to keep.
	Verifier store.Verifier
	secret   string
}

// NewDeviceSecret makes a password that nobody had before.
func NewDeviceSecret() DeviceSecret {
	secret := strings.ToLower(rand.Text())[:deviceSecretLen]
	salt := make([]byte, saltLen)
	_, _ = rand.Read(salt) // never fails: crypto/rand ends the process instead
	b64 := base64.RawStdEncoding.Strict()
	return DeviceSecret{
		Verifier: store.Verifier(deviceScheme + b64.EncodeToString(salt) + "$" + b64.EncodeToString(deviceHash(salt, secret))), secret: secret,
	}
}

// Password is what the device logs in with, once the store has given it an id.
func (s DeviceSecret) Password(id store.DeviceID) string {
	password := deviceMark + id.String()
	for i := 0; i < len(s.secret); i += deviceGroup {
		password += "-" + s.secret[i:i+deviceGroup]
	}
	return password
}

// String hides it from logs and format verbs.
func (DeviceSecret) String() string { return "[redacted]" }

// GoString hides it from %#v.
func (DeviceSecret) GoString() string { return "[redacted]" }

func deviceHash(salt []byte, secret string) []byte {
	mac := hmac.New(sha256.New, salt)
	mac.Write([]byte(secret))
	return mac.Sum(nil)
}

// parseDevicePassword takes a device's password apart; ok is false for what has not its form. Capitals and the hyphens between the groups do
// not count: people type it at the panel of a printer.
func parseDevicePassword(password string) (id store.DeviceID, secret string, ok bool) {
	if len(password) > maxDevicePassword {
		return 0, "", false
	}
	number, groups, _ := strings.Cut(strings.ToLower(password), "-")
	digits, marked := strings.CutPrefix(number, deviceMark)
	n, err := strconv.ParseUint(digits, 10, 64)
	if !marked || err != nil || n == 0 || strconv.FormatUint(n, 10) != digits {
		return 0, "", false
	}
	secret = strings.ReplaceAll(groups, "-", "")
	if len(secret) != deviceSecretLen || strings.Trim(secret, deviceAlphabet) != "" {
		return 0, "", false
	}
	return store.DeviceID(n), secret, true
}

// deviceMatches reports whether a secret is the one that a verifier is of.
func deviceMatches(v store.Verifier, secret string) bool {
	rest, ok := strings.CutPrefix(string(v), deviceScheme)
	saltText, keyText, found := strings.Cut(rest, "$")
	if !ok || !found {
		return false
	}
	b64 := base64.RawStdEncoding.Strict()
	salt, err := b64.DecodeString(saltText)
	if err != nil || len(salt) != saltLen {
		return false
	}
	key, err := b64.DecodeString(keyText)
	return err == nil && len(key) == sha256.Size && hmac.Equal(deviceHash(salt, secret), key)
}

// device returns the claimant's device whose password this is, or nil. It takes the same two looks for a mailbox that does not exist, and
// what fails here goes on to cost what every wrong password costs. The counters of guesses have no part in it: nobody guesses 100 bits, and no
// guesses of others may keep a device out. The Webmanager knows no devices.
func (a *Authenticator) device(ctx context.Context, at Attempt, who claimant, password string) (*store.Device, error) {
	id, secret, ok := parseDevicePassword(password)
	if !ok || a.o.Devices == nil || at.Service == "web" {
		return nil, nil
	}
	d, err := a.o.Devices.Device(ctx, who.account.ID, id)
	switch {
	case errors.Is(err, store.ErrNotFound):
		d.Verifier = noDevice
	case err != nil:
		return nil, fmt.Errorf("auth: device: %w", err)
	}
	if !deviceMatches(d.Verifier, secret) || !who.known {
		return nil, nil
	}
	return &d, nil
}

// noDevice is held against passwords that name a device which is not there. Nothing has this hash.
const noDevice = store.Verifier(deviceScheme + "AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")

// admitDevice is admit for one who has shown the password of a device.
func (a *Authenticator) admitDevice(settings store.Settings, at Attempt, who claimant, d store.Device) (Identity, error) {
	id, err := a.admit(settings, who)
	id.Device, id.DeviceName = d.ID, d.Name
	if err == nil {
		err = deviceMay(settings, d, a.o.Now(), at.Remote, at.Service)
	}
	if err == nil {
		a.o.Guard.Arrived(a.o.Now(), at.Remote)
	}
	return id, err
}

// deviceMay says why a device may not use a service from an address now, or nil.
func deviceMay(settings store.Settings, d store.Device, now time.Time, remote netip.Addr, service string) error {
	switch {
	case d.Expired(now):
		return ErrDeviceExpired
	case !d.From(remote):
		return ErrDeviceNetwork
	case exposed(settings, d.ClearSince, now) != nil:
		return ErrExposed
	case service == "pop3" && d.Fetch, service == "smtp" && d.Send:
		return nil
	}
	return ErrDeviceScope
}

// CurrentDevice returns a device as it is now, if who logged in with it may still send from an address: ErrCredentials if it was revoked, or
// what would refuse its login now.
func (a *Authenticator) CurrentDevice(ctx context.Context, id Identity, remote netip.Addr) (store.Device, error) {
	if a.o.Devices == nil {
		return store.Device{}, ErrCredentials
	}
	d, err := a.o.Devices.Device(ctx, id.Account, id.Device)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return store.Device{}, ErrCredentials
	case err != nil:
		return store.Device{}, fmt.Errorf("auth: device: %w", err)
	}
	settings, err := a.o.Settings.Settings(ctx)
	if err != nil {
		return store.Device{}, fmt.Errorf("auth: settings: %w", err)
	}
	return d, deviceMay(settings, d, a.o.Now(), remote, "smtp")
}
