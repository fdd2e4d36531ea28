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

// Sending counts recipients outside the domain: each is taken when it is named, and given back when nothing is sent to it after all.
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

// Mailbox takes n recipients from what a mailbox may name in [MailboxWindow]. If they are not there nothing is taken, and retryAfter
// says when they will be.
func (s *Sending) Mailbox(ctx context.Context, account store.AccountID, n, perDay int) (ok bool, retryAfter time.Duration, err error) {
	return s.take(ctx, mailboxKey(account), n, store.Limit{N: int64(perDay), Window: MailboxWindow})
}

// RefundMailbox gives n recipients back.
func (s *Sending) RefundMailbox(ctx context.Context, account store.AccountID, n, perDay int) error {
	return s.give(ctx, mailboxKey(account), n, store.Limit{N: int64(perDay), Window: MailboxWindow})
}

// Address takes n recipients from what one client (see [Prefix]) may name in [AddressWindow].
func (s *Sending) Address(ctx context.Context, remote netip.Addr, n, perHour int) (ok bool, retryAfter time.Duration, err error) {
	return s.take(ctx, addressKey(remote), n, store.Limit{N: int64(perHour), Window: AddressWindow})
}

// RefundAddress gives n recipients back.
func (s *Sending) RefundAddress(ctx context.Context, remote netip.Addr, n, perHour int) error {
	return s.give(ctx, addressKey(remote), n, store.Limit{N: int64(perHour), Window: AddressWindow})
}

func mailboxKey(account store.AccountID) string { return fmt.Sprintf("sent/mailbox/%d", account) }

func addressKey(remote netip.Addr) string { return "sent/address/" + Prefix(remote).String() }

func (s *Sending) take(ctx context.Context, key string, n int, l store.Limit) (bool, time.Duration, error) {
	taken, err := s.counters.Take(ctx, s.now(), key, int64(n), l)
	if err != nil {
		return false, 0, fmt.Errorf("guard: budget %s: %w", key, err)
	}
	return taken.OK, taken.RetryAfter, nil
}

func (s *Sending) give(ctx context.Context, key string, n int, l store.Limit) error {
	if err := s.counters.Give(ctx, s.now(), key, int64(n), l); err != nil {
		return fmt.Errorf("guard: budget %s: %w", key, err)
	}
	return nil
}
