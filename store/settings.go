package store

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"latchkey/internal/mailaddr"
)

// Bounds of the settings.
const (
	// MinMessageSize is what every server must take (RFC 5321 §4.5.3.1.7: 64 KiB), MaxMessageSize the most that may be set, in octets.
	MinMessageSize = 64 << 10
	MaxMessageSize = 2 << 30
	// MinRecipients is what every server must take in one transaction (RFC 5321 §4.5.3.1.8).
	MinRecipients = 100
	// MaxOutsideSenders bounds Settings.OutsideSenders.
	MaxOutsideSenders = 1000
)

// Settings are what the domain's owner decides.
type Settings struct {
	// Version is raised by every change.
	Version uint64 `json:"version"`
	// Domain is the virtual domain in canonical form. It never changes.
	Domain string `json:"domain"`
	// MessageSize is the largest message taken, in octets as sent by the client.
	MessageSize int64 `json:"message_size"`
	// Recipients is the most RCPT commands that one transaction may hold.
	Recipients int `json:"recipients"`
	// AuthOnMX offers AUTH on port 25 too: clients of 2002 know no other port.
	AuthOnMX bool `json:"auth_on_mx"`
	// CleartextLogin takes passwords without TLS from anywhere; otherwise only from loopback.
	CleartextLogin bool `json:"cleartext_login"`
	// OutgoingMail off makes the domain inbound only: nobody relays.
	OutgoingMail bool `json:"outgoing_mail"`
	// OutsideSenders are addresses of this domain that may arrive from outside without proof (a newsletter service, say).
	OutsideSenders []mailaddr.Address `json:"outside_senders"`
}

// DefaultSettings returns the safe defaults for a domain in canonical form.
func DefaultSettings(domain string) Settings {
	return Settings{Domain: domain, MessageSize: 50 << 20, Recipients: 1000, AuthOnMX: true, OutgoingMail: true}
}

// Validate reports every field that is out of bounds, joined; each wraps ErrInvalid.
func (s Settings) Validate() error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: "+format, append([]any{ErrInvalid}, args...)...))
	}
	if canonical, err := mailaddr.CanonicalDomain(s.Domain); err != nil || canonical != s.Domain {
		bad("domain %q is not in canonical form", s.Domain)
	}
	if s.MessageSize < MinMessageSize || s.MessageSize > MaxMessageSize {
		bad("message_size is %d to %d octets", int64(MinMessageSize), int64(MaxMessageSize))
	}
	if s.Recipients < MinRecipients || s.Recipients > MaxRecipients {
		bad("recipients is %d to %d", MinRecipients, MaxRecipients)
	}
	if len(s.OutsideSenders) > MaxOutsideSenders {
		bad("at most %d outside_senders", MaxOutsideSenders)
	}
	for _, a := range s.OutsideSenders {
		if a.Domain() != s.Domain {
			bad("outside sender %s is not an address of %s", a, s.Domain)
		}
	}
	return errors.Join(errs...)
}

// Clone returns a copy that shares nothing.
func (s Settings) Clone() Settings {
	s.OutsideSenders = slices.Clone(s.OutsideSenders)
	return s
}

// SettingsStore keeps the settings.
type SettingsStore interface {
	// Settings returns the present settings, from memory.
	Settings(ctx context.Context) (Settings, error)
	// UpdateSettings replaces them if s.Version is the present one (else ErrConflict) and returns them with the new version.
	// ErrInvalid if a field is out of bounds or Domain differs.
	UpdateSettings(ctx context.Context, s Settings) (Settings, error)
	// SettingsChanged returns a channel that is closed at the next change. Ask for it before reading, then read.
	SettingsChanged() <-chan struct{}
}
