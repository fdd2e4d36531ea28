package webmanager

import (
	"net/netip"
	"testing"
	"time"

	"latchkey/internal/mailaddr"
	"latchkey/store"
)

func networks(texts ...string) []netip.Prefix {
	list := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		list[i] = netip.MustParsePrefix(text)
	}
	return list
}

func addresses(t *testing.T, texts ...string) []mailaddr.Address {
	t.Helper()
	list := make([]mailaddr.Address, len(texts))
	for i, text := range texts {
		address, err := mailaddr.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		list[i] = address
	}
	return list
}

// TestLoosens: each way of allowing more needs a confirmation, its contrary does not, and what has no effect does not.
func TestLoosens(t *testing.T) {
	type change func(s *store.Settings)
	both := func(changes ...change) change {
		return func(s *store.Settings) {
			for _, c := range changes {
				c(s)
			}
		}
	}
	authOff := func(s *store.Settings) { s.RequireAuth = false }
	popOff := func(s *store.Settings) { s.POPBeforeSMTP = false }
	trusted := func(texts ...string) change {
		return func(s *store.Settings) { s.TrustedNetworks = networks(texts...) }
	}
	exempt := func(texts ...string) change {
		return func(s *store.Settings) { s.NoGrantNetworks = networks(texts...) }
	}
	old := func(texts ...string) change {
		return func(s *store.Settings) { s.OldClientNetworks = networks(texts...) }
	}
	until := func(at time.Time) change { return func(s *store.Settings) { s.RequireAuthAt = at } }
	nothing := func(*store.Settings) {}
	for _, tt := range []struct {
		name        string
		from, to    change
		there, back bool // from -> to, to -> from
	}{
		{"nothing", nothing, nothing, false, false},
		{"message size", nothing, func(s *store.Settings) { s.MessageSize++ }, false, false},
		{"recipients of a message", nothing, func(s *store.Settings) { s.Recipients++ }, false, false},
		{"help", nothing, func(s *store.Settings) { s.HelpURL = "https://example.com" }, false, false},
		{"AUTH on port 25", nothing, func(s *store.Settings) { s.AuthOnMX = false }, false, false},
		{"cleartext login", nothing, func(s *store.Settings) { s.CleartextLogin = true }, true, false},
		{"days of a password in the clear", func(s *store.Settings) { s.ClearPasswordDays = 30 }, func(s *store.Settings) { s.ClearPasswordDays = 31 }, true, false},
		{"an end of passwords in the clear", nothing, func(s *store.Settings) { s.ClearPasswordDays = 3650 }, false, true},
		{"old clients", nothing, func(s *store.Settings) { s.OldClientLogin = true }, true, false},
		{"old clients of a network", nothing, old("192.0.2.0/24"), true, false},
		{"old clients of a wider network", old("192.0.2.0/24"), old("192.0.0.0/16"), true, false},
		{"old clients of another network", old("192.0.2.0/24"), old("198.51.100.0/24"), true, true},
		{"old clients of a network instead of all", func(s *store.Settings) { s.OldClientLogin = true }, old("192.0.2.0/24"), false, true},
		{"old clients of a network beside all", func(s *store.Settings) { s.OldClientLogin = true },
			both(func(s *store.Settings) { s.OldClientLogin = true }, old("192.0.2.0/24")), false, false},
		{"exclusive maildrop", nothing, func(s *store.Settings) { s.ExclusiveMaildrop = true }, false, false},
		{"delay", nothing, func(s *store.Settings) { s.LoginDelay = 60 }, false, false},
		{"expiry", nothing, func(s *store.Settings) { s.ExpireDays = 60 }, false, false},
		{"outgoing mail", func(s *store.Settings) { s.OutgoingMail = false }, nothing, true, false},
		{"budget of a mailbox", nothing, func(s *store.Settings) { s.DailyRecipients++ }, true, false},
		{"hour of a mailbox", nothing, func(s *store.Settings) { s.HourlyRecipients++ }, true, false},
		{"new recipients", nothing, func(s *store.Settings) { s.NewRecipients++ }, true, false},
		{"no holds", nothing, func(s *store.Settings) { s.HoldJumps = false }, true, false},
		{"day of the domain", nothing, func(s *store.Settings) { s.DomainDailyRecipients++ }, true, false},
		{"hour of the domain", nothing, func(s *store.Settings) { s.DomainHourlyRecipients++ }, true, false},
		{"octets", nothing, func(s *store.Settings) { s.DailyOctets++ }, true, false},
		{"any octets", nothing, func(s *store.Settings) { s.DailyOctets = 0 }, true, false},
		{"send, then check", nothing, func(s *store.Settings) { s.SendThenCheck = true }, true, false},
		{"send, then check, while off", popOff, both(popOff, func(s *store.Settings) { s.SendThenCheck = true }), false, false},
		{"notices", nothing, func(s *store.Settings) { s.GrantNotices = false }, false, false},
		{"outside sender", nothing, func(s *store.Settings) { s.OutsideSenders = addresses(t, "a@example.com") }, true, false},
		{"another outside sender", func(s *store.Settings) { s.OutsideSenders = addresses(t, "a@example.com") },
			func(s *store.Settings) { s.OutsideSenders = addresses(t, "b@example.com") }, true, true},

		{"authentication off", nothing, authOff, true, false},
		{"authentication off for a while", nothing, both(authOff, until(noon)), true, false},
		{"network while authentication is on", nothing, trusted("192.0.2.0/24"), false, false},
		{"network while it is off", authOff, both(authOff, trusted("192.0.2.0/24")), true, false},
		{"wider network", both(authOff, trusted("192.0.2.0/24")), both(authOff, trusted("192.0.0.0/16")), true, false},
		{"network within one", both(authOff, trusted("192.0.0.0/16")), both(authOff, trusted("192.0.0.0/16", "192.0.2.0/24")), false, false},
		{"another network", both(authOff, trusted("192.0.2.0/24")), both(authOff, trusted("198.51.100.0/24")), true, true},
		{"other family", both(authOff, trusted("0.0.0.0/16")), both(authOff, trusted("::/48")), true, true},
		{"budget of networks while authentication is on", nothing, func(s *store.Settings) { s.TrustedRecipients++ }, false, false},
		{"budget of networks while it is off", authOff, both(authOff, func(s *store.Settings) { s.TrustedRecipients++ }), true, false},
		{"longer", both(authOff, until(noon)), both(authOff, until(noon.Add(time.Second))), true, false},
		{"without end", both(authOff, until(noon)), authOff, true, false},

		{"POP before SMTP", popOff, nothing, true, false},
		{"wider grants", func(s *store.Settings) { s.GrantIPv6Bits = 128 }, nothing, true, false},
		{"wider grants while off", both(popOff, func(s *store.Settings) { s.GrantIPv6Bits = 128 }), popOff, false, false},
		{"network with grants again", exempt("192.0.2.0/24"), nothing, true, false},
		{"network with grants again while off", both(popOff, exempt("192.0.2.0/24")), popOff, false, false},
		{"narrower exception", exempt("192.0.0.0/16"), exempt("192.0.2.0/24"), true, false},
	} {
		from, to := store.DefaultSettings(domain), store.DefaultSettings(domain)
		tt.from(&from)
		tt.to(&to)
		if got := loosens(from, to); got != tt.there {
			t.Errorf("%s: got %v", tt.name, got)
		}
		if got := loosens(to, from); got != tt.back {
			t.Errorf("%s, back: got %v", tt.name, got)
		}
	}
}

// TestDestroys: mail is removed where there was no bound, or a later one, and by nothing else.
func TestDestroys(t *testing.T) {
	for _, tt := range []struct {
		from, to int
		want     bool
	}{{0, 0, false}, {0, 1, true}, {0, store.MaxExpireDays, true}, {30, 30, false}, {30, 29, true}, {30, 31, false}, {30, 0, false}} {
		from, to := store.DefaultSettings(domain), store.DefaultSettings(domain)
		from.ExpireDays, to.ExpireDays = tt.from, tt.to
		if got := destroys(from, to); got != tt.want {
			t.Errorf("from %d to %d days: got %v", tt.from, tt.to, got)
		}
	}
}
