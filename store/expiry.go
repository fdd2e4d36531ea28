package store

import "fmt"

// ExpireNever is an [Account.ExpireDays] of a mailbox whose mail is not removed by its age, whatever the domain's setting is.
const ExpireNever = -1

// ExpireAfter is after how many days mail of the account is removed under these settings (RFC 2449 §6.7), fetched or not; 0 is never.
func (a Account) ExpireAfter(s Settings) int {
	switch a.ExpireDays {
	case 0:
		return s.ExpireDays
	case ExpireNever:
		return 0
	}
	return a.ExpireDays
}

// ShortestExpiry is the smallest number of days after which mail of any mailbox is removed, 0 for never; inUse is what [Accounts.ExpireDaysInUse]
// returned. differs is set if it is not the same for all mailboxes.
func ShortestExpiry(s Settings, inUse []int) (days int, differs bool) {
	days = s.ExpireDays
	for _, own := range inUse {
		after := Account{ExpireDays: own}.ExpireAfter(s)
		differs = differs || after != s.ExpireDays
		if after > 0 && (days == 0 || after < days) {
			days = after
		}
	}
	return days, differs
}

// Sooner reports whether mail that is removed after so many days goes sooner than after the others; 0 is never.
func Sooner(days, than int) bool { return days > 0 && (than == 0 || days < than) }

func validExpiry(days int) error {
	if days < ExpireNever || days > MaxExpireDays {
		return fmt.Errorf("%w: expire_days of a mailbox is 0 (as the domain's), 1 to %d days, or %d (never)", ErrInvalid, MaxExpireDays, ExpireNever)
	}
	return nil
}
