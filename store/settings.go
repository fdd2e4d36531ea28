package store

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

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
	// MaxNetworks bounds Settings.TrustedNetworks, Settings.NoGrantNetworks and Settings.OldClientNetworks.
	MaxNetworks = 100
	// MinTrustedBits4 and MinTrustedBits6 are the shortest prefixes of a trusted network: a wider one would hold strangers.
	MinTrustedBits4 = 16
	MinTrustedBits6 = 48
	// MaxRecipientBudget bounds the budgets of recipients.
	MaxRecipientBudget = 1_000_000
	// MaxLoginDelay bounds Settings.LoginDelay in seconds, MaxExpireDays Settings.ExpireDays in days.
	MaxLoginDelay = 86_400
	MaxExpireDays = 3650
	// MaxClearPasswordDays bounds Settings.ClearPasswordDays.
	MaxClearPasswordDays = 3650
	// MaxDelayNotice bounds Settings.DelayNotice, in hours: a message is given up soon after that.
	MaxDelayNotice = 96
	// MaxHelpURL bounds Settings.HelpURL in octets: it stands in replies, behind the cure.
	MaxHelpURL = 100
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
	// DomainOctets and DomainMessages bound what all maildrops together hold, each copy at its full size; 0 is no bound. A bound below what
	// they hold already takes nothing away, but nothing comes in.
	DomainOctets   int64 `json:"domain_octets"`
	DomainMessages int64 `json:"domain_messages"`
	// AuthOnMX offers AUTH on port 25 too: clients of 2002 know no other port.
	AuthOnMX bool `json:"auth_on_mx"`
	// CleartextLogin takes passwords without TLS from anywhere; otherwise only from loopback.
	CleartextLogin bool `json:"cleartext_login"`
	// ClearPasswordDays is after how many days a password that crossed a network in the clear where TLS is needed is refused, 0 to
	// MaxClearPasswordDays, counted from ClearSince of its [Account] or [Device]; 0 is never. See [Settings.ClearPasswordEnds].
	ClearPasswordDays int `json:"clear_password_days"`
	// OldClientLogin is [Account.OldClientLogin] for every account. Switching it off clears the sealed passwords of accounts without their own.
	OldClientLogin bool `json:"old_client_login"`
	// OldClientNetworks may use the old-client doors for every account; masked.
	OldClientNetworks []netip.Prefix `json:"old_client_networks"`
	// ExclusiveMaildrop lets one POP3 session at a time have a maildrop (RFC 1939 §3); otherwise each has its own snapshot.
	ExclusiveMaildrop bool `json:"exclusive_maildrop"`
	// LoginDelay is how many seconds must lie between two logins of one mailbox, 0 to 86,400 (RFC 2449 §6.5); 0 is none.
	LoginDelay int `json:"login_delay"`
	// ExpireDays is after how many days messages are removed, 0 to 3650 (RFC 2449 §6.7); 0 is never.
	ExpireDays int `json:"expire_days"`
	// OutgoingMail off makes the domain inbound only: nobody relays.
	OutgoingMail bool `json:"outgoing_mail"`
	// RequireAuth off lets senders in TrustedNetworks relay without AUTH, as an existing address of the domain and within a budget.
	// AUTH is offered either way.
	RequireAuth bool `json:"require_auth"`
	// RequireAuthAt is when RequireAuth counts as on again; zero is never.
	RequireAuthAt time.Time `json:"require_auth_at,omitzero"`
	// TrustedNetworks are those that RequireAuth off is about; masked, none shorter than MinTrustedBits4 or MinTrustedBits6.
	TrustedNetworks []netip.Prefix `json:"trusted_networks"`
	// TrustedRecipients is how many recipients outside the domain one address of a trusted network may name an hour.
	TrustedRecipients int `json:"trusted_recipients"`
	// POPBeforeSMTP gives a grant for a POP3 login.
	POPBeforeSMTP bool `json:"pop_before_smtp"`
	// GrantIPv6Bits is how much of an IPv6 address a grant is bound to: 64 or 128.
	GrantIPv6Bits int `json:"grant_ipv6_bits"`
	// NoGrantNetworks are networks that never get a grant, because strangers share their addresses; masked.
	NoGrantNetworks []netip.Prefix `json:"no_grant_networks"`
	// DailyRecipients is how many recipients outside the domain one mailbox may name a day, however it proves itself.
	DailyRecipients int `json:"daily_recipients"`
	// HourlyRecipients is the same an hour. DomainDailyRecipients and DomainHourlyRecipients are for all senders of the domain together.
	HourlyRecipients       int `json:"hourly_recipients"`
	DomainDailyRecipients  int `json:"domain_daily_recipients"`
	DomainHourlyRecipients int `json:"domain_hourly_recipients"`
	// NewRecipients is how many recipients outside the domain to whom it has not written before one mailbox may name a day; mail beyond is put
	// on hold.
	NewRecipients int `json:"new_recipients"`
	// HoldJumps puts mail of a mailbox that sends otherwise than usual on hold, NewRecipients among the signs. Off, only what somebody put on hold
	// stays so.
	HoldJumps bool `json:"hold_jumps"`
	// DailyOctets is how much one mailbox may send out of the domain a day, in octets, a message counted for each recipient; 0 is no bound.
	DailyOctets int64 `json:"daily_octets"`
	// GrantNotices tells the owner of a mailbox of grants from networks that are new to it.
	GrantNotices bool `json:"grant_notices"`
	// SendThenCheck keeps a client that has no grant waiting after its message, and takes it if a POP3 login makes one meanwhile.
	SendThenCheck bool `json:"send_then_check"`
	// HelpURL is put behind refusals that a mailbox owner can cure; "" for none.
	HelpURL string `json:"help_url"`
	// SuppressFailed refuses mail to addresses outside that failed for good lately: see [Suppression].
	SuppressFailed bool `json:"suppress_failed"`
	// DelayNotice is after how many hours the sender of a message that still waits is told so, once; 0 is never. At most MaxDelayNotice.
	DelayNotice int `json:"delay_notice"`
	// OutsideSenders are addresses of this domain that may arrive from outside without proof (a newsletter service, say).
	OutsideSenders []mailaddr.Address `json:"outside_senders"`
}

// DefaultSettings returns the safe defaults for a domain in canonical form.
func DefaultSettings(domain string) Settings {
	return Settings{
		Domain: domain, MessageSize: 50 << 20, Recipients: 1000, AuthOnMX: true, OutgoingMail: true,
		RequireAuth: true, TrustedRecipients: 100, POPBeforeSMTP: true, GrantIPv6Bits: 64, DailyRecipients: 2000,
		HourlyRecipients: 500, DomainDailyRecipients: 20_000, DomainHourlyRecipients: 5000, NewRecipients: 200, DailyOctets: 4 << 30,
		HoldJumps: true, GrantNotices: true, SuppressFailed: true, DelayNotice: 4,
	}
}

// DomainQuota is what DomainOctets and DomainMessages come to.
func (s Settings) DomainQuota() Quota {
	return Quota{Octets: s.DomainOctets, Messages: s.DomainMessages}
}

// ClearPasswordEnds is when a password is refused that was seen in the clear at since: it is good before and not at that moment. Zero is never.
func (s Settings) ClearPasswordEnds(since time.Time) time.Time {
	if since.IsZero() || s.ClearPasswordDays == 0 {
		return time.Time{}
	}
	return since.AddDate(0, 0, s.ClearPasswordDays)
}

// AuthRequired reports whether "Authenticated SMTP" is on at now: because it is, or because its time has come again.
func (s Settings) AuthRequired(now time.Time) bool {
	return s.RequireAuth || !s.RequireAuthAt.IsZero() && !now.Before(s.RequireAuthAt)
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
	if s.DomainOctets < 0 || s.DomainMessages < 0 {
		bad("domain_octets and domain_messages are 0 (no bound) or more")
	}
	if len(s.OutsideSenders) > MaxOutsideSenders {
		bad("at most %d outside_senders", MaxOutsideSenders)
	}
	for _, a := range s.OutsideSenders {
		if a.Domain() != s.Domain {
			bad("outside sender %s is not an address of %s", a, s.Domain)
		}
	}
	s.validateSending(bad)
	s.validatePOP3(bad)
	return errors.Join(errs...)
}

// validateSending looks at what opens the way out of the domain.
func (s Settings) validateSending(bad func(format string, args ...any)) {
	if len(s.TrustedNetworks) > MaxNetworks || len(s.NoGrantNetworks) > MaxNetworks {
		bad("at most %d trusted_networks and no_grant_networks each", MaxNetworks)
	}
	for _, n := range s.TrustedNetworks {
		least := MinTrustedBits4
		if n.Addr().Is6() {
			least = MinTrustedBits6
		}
		if !validNetwork(n) || n.Bits() < least {
			bad("trusted network %s: a network of /%d (IPv4) or /%d (IPv6) or longer, no host bits set", n, MinTrustedBits4, MinTrustedBits6)
		}
	}
	for _, n := range s.NoGrantNetworks {
		if !validNetwork(n) {
			bad("%s in no_grant_networks is no network, or has host bits set", n)
		}
	}
	for _, n := range []int{
		s.TrustedRecipients, s.DailyRecipients, s.HourlyRecipients, s.DomainDailyRecipients, s.DomainHourlyRecipients, s.NewRecipients,
	} {
		if n < 1 || n > MaxRecipientBudget {
			bad("trusted_recipients, daily_recipients, hourly_recipients, domain_daily_recipients, domain_hourly_recipients and new_recipients are "+
				"1 to %d", MaxRecipientBudget)
			break
		}
	}
	if s.DelayNotice < 0 || s.DelayNotice > MaxDelayNotice {
		bad("delay_notice is 0 (never) to %d hours", MaxDelayNotice)
	}
	if s.DailyOctets < 0 {
		bad("daily_octets is 0 (no bound) or more")
	}
	if s.GrantIPv6Bits != 64 && s.GrantIPv6Bits != 128 {
		bad("grant_ipv6_bits is 64 or 128")
	}
	if s.HelpURL != "" && !validHelpURL(s.HelpURL) {
		bad("help_url is an http or https URL of at most %d printable ASCII characters", MaxHelpURL)
	}
}

// validatePOP3 looks at what is about old clients and about POP3 sessions.
func (s Settings) validatePOP3(bad func(format string, args ...any)) {
	if len(s.OldClientNetworks) > MaxNetworks {
		bad("at most %d old_client_networks", MaxNetworks)
	}
	for _, n := range s.OldClientNetworks {
		if !validNetwork(n) {
			bad("%s in old_client_networks is no network, or has host bits set", n)
		}
	}
	if s.LoginDelay < 0 || s.LoginDelay > MaxLoginDelay {
		bad("login_delay is 0 (none) to %d seconds", MaxLoginDelay)
	}
	if s.ClearPasswordDays < 0 || s.ClearPasswordDays > MaxClearPasswordDays {
		bad("clear_password_days is 0 (never) to %d days", MaxClearPasswordDays)
	}
	if s.ExpireDays < 0 || s.ExpireDays > MaxExpireDays {
		bad("expire_days is 0 (never) to %d days", MaxExpireDays)
	}
}

// validNetwork reports a masked prefix of an unmapped address: a mapped one would never match anybody.
func validNetwork(n netip.Prefix) bool {
	return n.IsValid() && n == n.Masked() && !n.Addr().Is4In6() && n.Addr().Zone() == ""
}

func validHelpURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && len(text) <= MaxHelpURL && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" &&
		!strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' })
}

// Clone returns a copy that shares nothing.
func (s Settings) Clone() Settings {
	s.OutsideSenders = slices.Clone(s.OutsideSenders)
	s.TrustedNetworks = slices.Clone(s.TrustedNetworks)
	s.NoGrantNetworks = slices.Clone(s.NoGrantNetworks)
	s.OldClientNetworks = slices.Clone(s.OldClientNetworks)
	return s
}

// SettingsStore keeps the settings.
type SettingsStore interface {
	// Settings returns the present settings, from memory.
	Settings(ctx context.Context) (Settings, error)
	// UpdateSettings replaces them if s.Version is the present one (else ErrConflict) and returns them with the new version. OldClientLogin switched
	// off clears, with the change, what is sealed of every account without an OldClientLogin of its own.
	// ErrInvalid if a field is out of bounds or Domain differs.
	UpdateSettings(ctx context.Context, s Settings) (Settings, error)
	// SettingsChanged returns a channel that is closed at the next change. Ask for it before reading, then read.
	SettingsChanged() <-chan struct{}
}
