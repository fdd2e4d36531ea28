package guard

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/store"
)

// TestStaleNotices: the fifth time within a day tells the owner, the next day again; another device of the mailbox has its own.
func TestStaleNotices(t *testing.T) {
	s := NewStaleDevices(nil, nil)
	phone := StaleDevice{Account: 1, Mailbox: "anna", Remote: cafe, Door: "pop3", Mechanism: "USER"}
	laptop := phone
	laptop.Remote = home
	due := func(now time.Time, d StaleDevice, want bool) StaleDevice {
		t.Helper()
		got, is := s.due(now, d)
		if is != want {
			t.Errorf("%v after %v, time %d: told %v, want %v", d.Remote, now.Sub(start), got.Times, is, want)
		}
		return got
	}
	for i := range StaleRepeats - 1 {
		due(start.Add(time.Duration(i)*time.Minute), phone, false)
		due(start, laptop, false)
	}
	d := due(start.Add(time.Hour), phone, true)
	if d.Times != StaleRepeats || d.First != start || d.Last != start.Add(time.Hour) || d.Mechanism != "USER" {
		t.Errorf("told of %+v", d)
	}
	for i := range 500 {
		due(start.Add(time.Hour+time.Duration(i)*time.Minute), phone, false)
	}
	due(start.Add(2*time.Hour), laptop, true)
	due(start.Add(25*time.Hour-1), phone, false)
	due(start.Add(25*time.Hour), phone, false) // a new count has begun
	for range StaleRepeats - 3 {
		due(start.Add(25*time.Hour), phone, false)
	}
	due(start.Add(25*time.Hour), phone, true)
}

// TestStaleNoticesAreFew: a mailbox gets three at once however many devices come, and all mailboxes together a number.
func TestStaleNoticesAreFew(t *testing.T) {
	s := NewStaleDevices(nil, nil)
	told := map[store.AccountID]int{}
	all := 0
	for account := range store.AccountID(100) {
		for i := range 10 {
			for range StaleRepeats {
				d := StaleDevice{Account: account + 1, Mailbox: "m", Remote: netip.AddrFrom4([4]byte{10, byte(account), 0, byte(i)})}
				if _, due := s.due(start, d); due {
					told[account+1]++
					all++
				}
			}
		}
	}
	if told[1] != MaxStaleNotices || all != MaxStaleNoticesInAll {
		t.Errorf("one mailbox got %d and all %d, want %d and %d", told[1], all, MaxStaleNotices, MaxStaleNoticesInAll)
	}
	for i := range MaxStaleDevices + 10 {
		s.Seen(start, StaleDevice{Account: 1, Mailbox: "anna", Remote: netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)})})
	}
	if n := len(s.devices.entries); n != MaxStaleDevices {
		t.Errorf("%d devices, want %d", n, MaxStaleDevices)
	}
}

// TestStaleRun tells one after the other and never makes a login wait, whatever the owner's maildrop does.
func TestStaleRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var told []netip.Addr
		s := NewStaleDevices(func(_ context.Context, d StaleDevice) error {
			<-release
			told = append(told, d.Remote)
			return errors.New("full")
		}, nil)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { s.Run(ctx); close(ended) }()
		for i := range staleQueue + 10 {
			for range StaleRepeats {
				s.Seen(start, StaleDevice{Account: store.AccountID(i + 1), Mailbox: "m", Remote: netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})})
			}
			synctest.Wait()
		}
		close(release)
		synctest.Wait()
		if len(told) != staleQueue+1 {
			t.Errorf("told of %d, want %d", len(told), staleQueue+1)
		}
		stop()
		<-ended
	})
}
