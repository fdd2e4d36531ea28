package webmanager

import (
	"net/netip"
	"slices"

	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// loosens reports whether a change of settings lets anybody do what he could not do before: then it needs a confirmation. What has
// no effect as the settings are to be does not count; it does once it gets one. Both sides are settled.
func loosens(before, after store.Settings) bool {
	return !before.CleartextLogin && after.CleartextLogin ||
		before.ClearPasswordDays > 0 && (after.ClearPasswordDays == 0 || after.ClearPasswordDays > before.ClearPasswordDays) ||
		!before.OutgoingMail && after.OutgoingMail ||
		loosensBudgets(before, after) ||
		len(addedSenders(before, after)) > 0 ||
		loosensOldClients(before, after) ||
		loosensAuth(before, after) ||
		loosensGrants(before, after)
}

// loosensBudgets is the part about how much may be sent.
func loosensBudgets(before, after store.Settings) bool {
	return after.DailyRecipients > before.DailyRecipients ||
		after.HourlyRecipients > before.HourlyRecipients ||
		after.NewRecipients > before.NewRecipients ||
		before.HoldJumps && !after.HoldJumps ||
		after.DomainDailyRecipients > before.DomainDailyRecipients ||
		after.DomainHourlyRecipients > before.DomainHourlyRecipients ||
		before.DailyOctets > 0 && (after.DailyOctets == 0 || after.DailyOctets > before.DailyOctets)
}

// destroys reports whether a change of settings removes mail: that needs a confirmation too.
func destroys(before, after store.Settings) bool {
	return after.ExpireDays > 0 && (before.ExpireDays == 0 || after.ExpireDays < before.ExpireDays)
}

// loosensOldClients is the part about the doors for old clients. Who may all use them needs no network.
func loosensOldClients(before, after store.Settings) bool {
	if before.OldClientLogin {
		return false
	}
	return after.OldClientLogin || len(uncovered(after.OldClientNetworks, before.OldClientNetworks)) > 0
}

// loosensAuth is the part about senders without AUTH.
func loosensAuth(before, after store.Settings) bool {
	if after.RequireAuth {
		return false
	}
	return before.RequireAuth ||
		len(uncovered(after.TrustedNetworks, before.TrustedNetworks)) > 0 ||
		after.TrustedRecipients > before.TrustedRecipients ||
		!before.RequireAuthAt.IsZero() && (after.RequireAuthAt.IsZero() || after.RequireAuthAt.After(before.RequireAuthAt))
}

// loosensGrants is the part about POP before SMTP.
func loosensGrants(before, after store.Settings) bool {
	if !after.POPBeforeSMTP {
		return false
	}
	return !before.POPBeforeSMTP ||
		!before.SendThenCheck && after.SendThenCheck ||
		after.GrantIPv6Bits < before.GrantIPv6Bits ||
		len(uncovered(before.NoGrantNetworks, after.NoGrantNetworks)) > 0
}

// addedSenders are the outside senders that were none before.
func addedSenders(before, after store.Settings) []mailaddr.Address {
	return slices.DeleteFunc(slices.Clone(after.OutsideSenders), func(a mailaddr.Address) bool {
		return slices.Contains(before.OutsideSenders, a)
	})
}

// uncovered are the networks that lie in none of the others.
func uncovered(networks, others []netip.Prefix) []netip.Prefix {
	return slices.DeleteFunc(slices.Clone(networks), func(n netip.Prefix) bool {
		return slices.ContainsFunc(others, func(o netip.Prefix) bool { return o.Bits() <= n.Bits() && o.Contains(n.Addr()) })
	})
}
