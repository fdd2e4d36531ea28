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

// TestSendingBudgets: all budgets at their edges, what comes back in time and what is given back; one mailbox or address does not
// spend another's.
func TestSendingBudgets(t *testing.T) {
	const n = 10
	six := netip.MustParseAddr("2001:db8:1:2::3")
	for _, tt := range []struct {
		name       string
		window     time.Duration
		one, other Budget
		again      Budget // the same as one
	}{
		{"mailbox, a day", MailboxWindow, MailboxDay(7, n), MailboxDay(8, n), MailboxDay(7, n)},
		{"mailbox, an hour", time.Hour, MailboxHour(7, n), MailboxDay(7, n), MailboxHour(7, n)},
		{"octets", 24 * time.Hour, MailboxOctets(7, n), MailboxOctets(8, n), MailboxOctets(7, n)},
		{"domain, a day", 24 * time.Hour, DomainDay(n), DomainHour(n), DomainDay(n)},
		{"domain, an hour", time.Hour, DomainHour(n), DomainDay(n), DomainHour(n)},
		{"address", AddressWindow, AddressHour(home, n), AddressHour(cafe, n), AddressHour(netip.MustParseAddr("::ffff:"+home.String()), n)},
		{"IPv6 network", AddressWindow, AddressHour(six, n), AddressHour(netip.MustParseAddr("2001:db8:1:3::3"), n), AddressHour(six.Next(), n)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			counters := memstore.New("example.com")
			defer func() { _ = counters.Close() }()
			clock := start
			s := NewSending(counters, func() time.Time { return clock })
			want := func(take int, ok bool, after time.Duration) {
				t.Helper()
				got, retryAfter, err := s.Take(t.Context(), tt.one, int64(take))
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
			if ok, _, err := s.Take(t.Context(), tt.other, n); !ok || err != nil {
				t.Errorf("another: %v (%v)", ok, err)
			}
			clock = start.Add(one - 1)
			want(1, false, 1)
			clock = start.Add(one)
			want(1, true, 0)
			want(1, false, one)
			if err := s.Give(t.Context(), tt.again, 3); err != nil {
				t.Fatal(err)
			}
			want(4, false, one)
			want(3, true, 0)
			if err := s.Give(t.Context(), tt.again, 1000); err != nil {
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
	if ok, _, err := s.Take(t.Context(), MailboxDay(7, 10), 1); ok || !errors.Is(err, errBroken) {
		t.Errorf("taking: %v %v", ok, err)
	}
	if err := s.Give(t.Context(), MailboxDay(7, 10), 1); !errors.Is(err, errBroken) {
		t.Errorf("giving back: %v", err)
	}
}
