package guard

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"latchkey/store"
)

// The windows of the budgets of [Sending].
const (
	MailboxWindow = 24 * time.Hour
	AddressWindow = time.Hour
)

// Sending counts recipients outside the domain, and octets: each is taken when it is named, and given back when nothing is sent to it after all.
// Budgets come back evenly over their window. Its methods may be called from any goroutine.
type Sending struct {
	counters store.Counters
	now      func() time.Time
}

// NewSending returns the budgets that are kept in counters. A nil now means time.Now.
func NewSending(counters store.Counters, now func() time.Time) *Sending {
	if now == nil {
		now = time.Now
	}
	return &Sending{counters, now}
}

// Budget is something that may be spent in a window, and comes back evenly over it.
type Budget struct {
	key   string
	limit store.Limit
}

// String is the budget's key.
func (b Budget) String() string { return b.key }

// MailboxDay is what a mailbox may name of recipients in [MailboxWindow], MailboxHour in an hour.
func MailboxDay(account store.AccountID, n int) Budget {
	return Budget{fmt.Sprintf("sent/mailbox/%d", account), store.Limit{N: int64(n), Window: MailboxWindow}}
}

// MailboxHour: see [MailboxDay].
func MailboxHour(account store.AccountID, n int) Budget {
	return Budget{fmt.Sprintf("sent/mailbox-hour/%d", account), store.Limit{N: int64(n), Window: time.Hour}}
}

// AddressHour is what one client (see [Prefix]) may name in [AddressWindow].
func AddressHour(remote netip.Addr, n int) Budget {
	return Budget{"sent/address/" + Prefix(remote).String(), store.Limit{N: int64(n), Window: AddressWindow}}
}

// DomainDay is what all senders together may name in a day, DomainHour in an hour.
func DomainDay(n int) Budget {
	return Budget{"sent/domain", store.Limit{N: int64(n), Window: 24 * time.Hour}}
}

// DomainHour: see [DomainDay].
func DomainHour(n int) Budget {
	return Budget{"sent/domain-hour", store.Limit{N: int64(n), Window: time.Hour}}
}

// MailboxOctets is how many octets a mailbox may send in a day, each message counted for each recipient.
func MailboxOctets(account store.AccountID, n int64) Budget {
	return Budget{fmt.Sprintf("sent/octets/%d", account), store.Limit{N: n, Window: 24 * time.Hour}}
}

// Take takes n from a budget. If it is not there nothing is taken, and retryAfter says when it will be.
func (s *Sending) Take(ctx context.Context, b Budget, n int64) (ok bool, retryAfter time.Duration, err error) {
	taken, err := s.counters.Take(ctx, s.now(), b.key, n, b.limit)
	if err != nil {
		return false, 0, fmt.Errorf("guard: budget %s: %w", b.key, err)
	}
	return taken.OK, taken.RetryAfter, nil
}

// Give gives n back.
func (s *Sending) Give(ctx context.Context, b Budget, n int64) error {
	if err := s.counters.Give(ctx, s.now(), b.key, n, b.limit); err != nil {
		return fmt.Errorf("guard: budget %s: %w", b.key, err)
	}
	return nil
}
