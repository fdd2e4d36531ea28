package guard

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"latchkey/store"
	"latchkey/store/memstore"
)

// TestSendingBudgets: both budgets at their edges, what comes back in time and what is given back; one mailbox or address does not
// spend another's.
func TestSendingBudgets(t *testing.T) {
	const n = 10
	six := netip.MustParseAddr("2001:db8:1:2::3")
	for _, tt := range []struct {
		name   string
		window time.Duration
		take   func(s *Sending, n int) (bool, time.Duration, error)
		refund func(s *Sending, n int) error
		other  func(s *Sending, n int) (bool, time.Duration, error)
	}{
		{"mailbox", MailboxWindow,
			func(s *Sending, take int) (bool, time.Duration, error) { return s.Mailbox(t.Context(), 7, take, n) },
			func(s *Sending, give int) error { return s.RefundMailbox(t.Context(), 7, give, n) },
			func(s *Sending, take int) (bool, time.Duration, error) { return s.Mailbox(t.Context(), 8, take, n) }},
		{"address", AddressWindow,
			func(s *Sending, take int) (bool, time.Duration, error) { return s.Address(t.Context(), home, take, n) },
			func(s *Sending, give int) error {
				return s.RefundAddress(t.Context(), netip.MustParseAddr("::ffff:"+home.String()), give, n)
			},
			func(s *Sending, take int) (bool, time.Duration, error) { return s.Address(t.Context(), cafe, take, n) }},
		{"IPv6 network", AddressWindow,
			func(s *Sending, take int) (bool, time.Duration, error) { return s.Address(t.Context(), six, take, n) },
			func(s *Sending, give int) error { return s.RefundAddress(t.Context(), six.Next(), give, n) },
			func(s *Sending, take int) (bool, time.Duration, error) {
				return s.Address(t.Context(), netip.MustParseAddr("2001:db8:1:3::3"), take, n)
			}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			counters := memstore.New("example.com")
			defer func() { _ = counters.Close() }()
			clock := start
			s := NewSending(counters, func() time.Time { return clock })
			want := func(take int, ok bool, after time.Duration) {
				t.Helper()
				got, retryAfter, err := tt.take(s, take)
				if got != ok || retryAfter != after || err != nil {
					t.Errorf("taking %d: got %v, again after %v (%v), want %v, %v", take, got, retryAfter, err, ok, after)
				}
			}
			one := tt.window / n
			want(n+1, false, tt.window) // never fits
			want(n-1, true, 0)
			want(2, false, one)
			want(1, true, 0)
			want(1, false, one)
			if ok, _, err := tt.other(s, n); !ok || err != nil {
				t.Errorf("another: %v (%v)", ok, err)
			}
			clock = start.Add(one - 1)
			want(1, false, 1)
			clock = start.Add(one)
			want(1, true, 0)
			want(1, false, one)
			if err := tt.refund(s, 3); err != nil {
				t.Fatal(err)
			}
			want(4, false, one)
			want(3, true, 0)
			if err := tt.refund(s, 1000); err != nil {
				t.Fatal(err)
			}
			want(n, true, 0)
			want(1, false, one)
		})
	}
}

// noCounters cannot count.
type noCounters struct{ store.Counters }

func (noCounters) Take(context.Context, time.Time, string, int64, store.Limit) (store.Taken, error) {
	return store.Taken{OK: true}, errBroken
}

func (noCounters) Give(context.Context, time.Time, string, int64, store.Limit) error {
	return errBroken
}

// TestSendingFails: what cannot be counted is not allowed.
func TestSendingFails(t *testing.T) {
	s := NewSending(noCounters{}, nil)
	if ok, _, err := s.Mailbox(t.Context(), 7, 1, 10); ok || !errors.Is(err, errBroken) {
		t.Errorf("mailbox: %v %v", ok, err)
	}
	if ok, _, err := s.Address(t.Context(), home, 1, 10); ok || !errors.Is(err, errBroken) {
		t.Errorf("address: %v %v", ok, err)
	}
	if err := errors.Join(s.RefundMailbox(t.Context(), 7, 1, 10), s.RefundAddress(t.Context(), home, 1, 10)); !errors.Is(err, errBroken) {
		t.Errorf("refunds: %v", err)
	}
}
