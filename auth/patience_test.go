package auth

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/guard"
	"latchkey/store"
)

// realTime makes a fixture go by the clock of a synctest bubble, with the delays of a server, and passwords that cost nothing.
func realTime(t *testing.T) *fixture {
	f := newFixture(t)
	f.o.Guard, f.o.Now = guard.NewLogins(guard.LoginLimits{}), time.Now
	f.matches = func(_ verifier, password string) bool {
		f.hashes.Add(1)
		return password == "open sesame"
	}
	return f
}

// took logs in and returns how long that took.
func (f *fixture) took(at Attempt, name, password string, want error) time.Duration {
	f.t.Helper()
	begun := time.Now()
	f.try(at, name, password, want)
	return time.Since(begun)
}

// TestWrongPasswordsWait: 2, 4, 8 and 15 seconds, over every door with one count; the same one again and the right one are answered at once.
func TestWrongPasswordsWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := realTime(t)
		smtp := Attempt{Service: "smtp", Mechanism: "PLAIN", Remote: office, TLS: true}
		for i, want := range []time.Duration{2, 4, 8, 15, 15} {
			at := over(office)
			if i%2 == 1 {
				at = smtp
			}
			if got := f.took(at, "alice", fmt.Sprint("guess", i), ErrCredentials); got != want*time.Second {
				t.Errorf("guess %d at %s took %v, want %vs", i+1, at.Service, got, int(want))
			}
		}
		if got := f.took(smtp, "alice", "guess0", ErrCredentials); got != 0 {
			t.Errorf("the first one again took %v", got)
		}
		if got := f.took(over(office), "alice", "open sesame", nil); got != 0 {
			t.Errorf("the right one took %v", got)
		}
		if got := f.took(over(office), "alice", "slip", ErrCredentials); got != 2*time.Second {
			t.Errorf("a slip after the right one took %v", got)
		}
		time.Sleep(12 * time.Minute)
		if got := f.took(over(office), "alice", "another slip", ErrCredentials); got != 2*time.Second {
			t.Errorf("a slip much later took %v", got)
		}
	})
}

// TestDelayByMailbox: guesses at one mailbox from many networks wait by what came there from all of them; its owner's slip at home does not.
func TestDelayByMailbox(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := realTime(t)
		home := netip.MustParseAddr("192.0.2.1")
		f.try(over(home), "alice", "open sesame", nil)
		for i, want := range []time.Duration{2, 4, 8, 15} {
			from := netip.AddrFrom4([4]byte{byte(100 + i), 0, 0, 1})
			if got := f.took(over(from), "alice", "guess", ErrCredentials); got != want*time.Second {
				t.Errorf("guess %d took %v, want %vs", i+1, got, int(want))
			}
		}
		if got := f.took(over(home), "alice", "slip", ErrCredentials); got != 2*time.Second {
			t.Errorf("a slip at home took %v", got)
		}
		if got := f.took(over(netip.MustParseAddr("203.0.113.1")), "bob", "guess", ErrCredentials); got != 2*time.Second {
			t.Errorf("a guess at another mailbox took %v", got)
		}
	})
}

// TestWaitHoldsNoTurn: while wrong passwords wait, others are looked at; who goes away is waited for no longer.
func TestWaitHoldsNoTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := realTime(t)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { f.try(over(office), "alice", "wrong", ErrCredentials) })
		wg.Go(func() {
			if _, err := f.Login(ctx, over(netip.MustParseAddr("203.0.113.9")), "bob", "wrong"); !errors.Is(err, context.Canceled) {
				t.Errorf("who went away: %v", err)
			}
		})
		synctest.Wait()
		begun := time.Now()
		cancel()
		synctest.Wait()
		if got := f.took(over(netip.MustParseAddr("192.0.2.1")), "alice", "open sesame", nil); got != 0 || time.Since(begun) != 0 {
			t.Errorf("a login beside them took %v", got)
		}
		wg.Wait()
	})
}

// TestWaitsAreBounded: of one client so many wait, one more is told at once to come later; others wait all the same. In all there is a bound too.
func TestWaitsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := realTime(t)
		f.o.Guard = guard.NewLogins(guard.LoginLimits{Burst: plenty, Prefix: plenty})
		var mu sync.Mutex
		quick := map[netip.Addr]int{}
		var wg sync.WaitGroup
		guess := func(from netip.Addr, i int) {
			wg.Go(func() {
				begun := time.Now()
				_, err := f.Login(t.Context(), over(from), fmt.Sprint("mailbox", i), fmt.Sprint(from, i))
				mu.Lock()
				defer mu.Unlock()
				if at := time.Since(begun) == 0; at != errors.Is(err, ErrThrottled) || !at && !errors.Is(err, ErrCredentials) {
					t.Errorf("%v: after %v %v", from, time.Since(begun), err)
				} else if at {
					quick[from]++
				}
			})
			synctest.Wait()
		}
		for i := range guard.MaxWaitsPerClient + 3 {
			guess(office, i)
		}
		for i := range guard.MaxWaits - guard.MaxWaitsPerClient + 2 {
			guess(netip.AddrFrom4([4]byte{byte(1 + i/200), byte(i % 200), 0, 1}), 100+i)
		}
		wg.Wait()
		others := len(quick) - 1
		if quick[office] != 3 || others != 2 {
			t.Errorf("%d of one client and %d others were told to come later, want 3 and 2", quick[office], others)
		}
		guess(office, 1000)
		wg.Wait()
		if quick[office] != 3 {
			t.Error("places are lost")
		}
	})
}

// TestSlowMailbox: under a slow spray a new network's password is looked at after 15 seconds, a few at a time; at home the owner notices nothing.
func TestSlowMailbox(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := realTime(t)
		home, hotel := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("203.0.113.1")
		f.try(over(home), "alice", "open sesame", nil)
		for i := range guard.DefaultLoginLimits().Mailbox.N {
			f.o.Guard.Failed(time.Now(), netip.AddrFrom4([4]byte{byte(10 + i), 0, 0, 1}), "alice", 1, "x")
		}
		if got := f.took(over(home), "alice", "open sesame", nil); got != 0 {
			t.Errorf("at home it took %v", got)
		}
		if got := f.took(over(hotel), "alice", "open sesame", nil); got != 15*time.Second {
			t.Errorf("in a hotel it took %v", got)
		}
		if got := f.took(over(hotel), "alice", "open sesame", nil); got != 0 {
			t.Errorf("in the hotel again it took %v", got)
		}
		f.ran()
		var wg sync.WaitGroup
		quick := 0
		for i := range 3 * guard.MaxSlowPerMailbox {
			wg.Go(func() {
				begun := time.Now()
				_, err := f.Login(t.Context(), over(netip.AddrFrom4([4]byte{200, byte(i), 0, 1})), "alice", "guess")
				switch took := time.Since(begun); {
				case took == 0 && errors.Is(err, ErrThrottled):
					quick++
				case took != 15*time.Second || !errors.Is(err, ErrCredentials):
					t.Errorf("a guess took %v: %v", took, err)
				}
			})
			synctest.Wait()
		}
		if f.ran() != 0 {
			t.Error("looked at before the wait")
		}
		wg.Wait()
		if n := f.ran(); quick != 2*guard.MaxSlowPerMailbox || n != guard.MaxSlowPerMailbox {
			t.Errorf("%d were told to come later, %d looked at", quick, n)
		}
	})
}

// TestChallengesWait as passwords do.
func TestChallengesWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.seal()
		f.o.Guard, f.o.Now = guard.NewLogins(guard.LoginLimits{}), time.Now
		for i, want := range []time.Duration{2, 4, 8, 15, 15} {
			begun := time.Now()
			if _, err := challenges[i%3].try(f, office, "alice", "wrong"); !errors.Is(err, ErrCredentials) {
				t.Error(err)
			}
			if got := time.Since(begun); got != want*time.Second {
				t.Errorf("%s, guess %d took %v, want %vs", challenges[i%3].name, i+1, got, int(want))
			}
		}
	})
}

// TestKnownClientDoesNotWait: while a stranger's password is hashed, and others wait for that, one from where somebody logged in before is looked at.
func TestKnownClientDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := realTime(t)
		home := netip.MustParseAddr("192.0.2.1")
		f.try(over(home), "alice", "open sesame", nil)
		var order []string
		release := make(chan struct{})
		f.matches = func(_ verifier, password string) bool {
			if password == "the first" {
				<-release
			}
			order = append(order, password)
			return false
		}
		var wg sync.WaitGroup
		login := func(from netip.Addr, password string) {
			wg.Go(func() { f.try(over(from), "bob", password, ErrCredentials) })
			synctest.Wait()
		}
		login(office, "the first")
		login(netip.MustParseAddr("203.0.113.1"), "stranger")
		login(netip.MustParseAddr("203.0.113.2"), "another")
		login(home, "known")
		close(release)
		wg.Wait()
		if want := []string{"known", "the first", "stranger", "another"}; !slices.Equal(order, want) {
			t.Errorf("looked at in the order %q, want %q", order, want)
		}
	})
}

// TestBanIsTold: the error of a ban says how long it lasts, and the log has it once, without a name that is nobody's.
func TestBanIsTold(t *testing.T) {
	f := newFixture(t)
	limit := guard.DefaultLoginLimits().Pair.N
	for i := range limit {
		f.try(over(office), "alice", fmt.Sprint("guess", i), ErrCredentials)
		f.try(over(loopback), "typed-password", fmt.Sprint("guess", i), ErrCredentials)
	}
	f.clock = f.clock.Add(time.Minute)
	for range 2 {
		_, err := f.Login(t.Context(), over(office), "alice", "open sesame")
		var b *Banned
		if !errors.As(err, &b) || b.Wait != guard.BanTime-time.Minute || !errors.Is(err, ErrBanned) {
			t.Errorf("got %v", err)
		}
	}
	log := f.log.String()
	if n := strings.Count(log, `msg="login ban"`); n != 2 || !strings.Contains(log, "network=198.51.100.7/32 account=alice") || strings.Contains(log, "typed") {
		t.Errorf("%d bans in the log:\n%s", n, log)
	}
}

// seen remembers stale devices.
type seen struct {
	mu   sync.Mutex // protects list
	list []guard.StaleDevice
}

func (s *seen) Seen(_ time.Time, d guard.StaleDevice) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, d)
}

// TestStaleDevices: a password that was right before a change, and one that comes again, are told of and counted nowhere, however often they come;
// none of them gets in, and the present one always does, even if it was one before.
func TestStaleDevices(t *testing.T) {
	f := newFixture(t)
	s := &seen{}
	f.o.Stale = s
	change := func(password string) {
		f.update(func(a *store.Account) {
			var err error
			if a.Verifier, err = f.Hash(t.Context(), password); err != nil {
				t.Fatal(err)
			}
		})
	}
	phone := netip.MustParseAddr("203.0.113.7")
	f.try(over(office), "alice", "open sesame", nil)
	change("new password")
	f.ran()
	for range 50 {
		f.try(over(phone), "alice", "open sesame", ErrCredentials)
	}
	if n := f.ran(); n != 1 {
		t.Errorf("the previous password was hashed %d times, want once", n)
	}
	if d := f.o.Guard.Delay(f.clock, phone, "alice"); d != 0 || len(s.list) != 50 {
		t.Errorf("it was counted (%v), or told of %d times", d, len(s.list))
	}
	if d := s.list[49]; !d.Previous || d.Account != f.alice.ID || d.Mailbox != "alice" || d.Remote != phone || d.Door != "pop3" || d.Mechanism != "USER" {
		t.Errorf("told of %+v", d)
	}
	f.try(over(phone), "alice", "new password", nil)
	change("third")
	s.list = nil
	f.try(over(phone), "alice", "open sesame", ErrCredentials)
	f.try(over(phone), "alice", "new password", ErrCredentials)
	if len(s.list) != 2 || !s.list[0].Previous || !s.list[1].Previous {
		t.Errorf("after two changes: %+v", s.list)
	}
	change("open sesame")
	f.try(over(phone), "alice", "open sesame", nil)
	f.update(func(a *store.Account) { a.Suspended = true })
	f.update(func(a *store.Account) { a.Suspended = false })
	f.try(over(phone), "alice", "open sesame", nil)

	s.list = nil
	f.try(over(office), "alice", "never right", ErrCredentials)
	f.try(over(office), "nobody", "never right", ErrCredentials)
	if len(s.list) != 0 {
		t.Errorf("the first time: %+v", s.list)
	}
	f.try(over(office), "alice", "never right", ErrCredentials)
	f.try(over(office), "nobody", "never right", ErrCredentials)
	if len(s.list) != 1 || s.list[0].Previous || s.list[0].Mailbox != "alice" {
		t.Errorf("again: %+v", s.list)
	}
}

// TestPreviousIsForgotten after some changes, and with age.
func TestPreviousIsForgotten(t *testing.T) {
	c, now := newCache(), time.Now()
	c.put(now, 1, 5, "old")
	var got []bool
	for version := uint64(4); version < 5+maxPrevious+3; version++ {
		got = append(got, c.had(now, 1, version, "old"))
	}
	if want := []bool{false, false, true, true, true, false, false}; !slices.Equal(got, want) {
		t.Errorf("known after changes: %v, want %v", got, want)
	}
	if !c.had(now.Add(previousAge-1), 1, 6, "old") || c.had(now.Add(previousAge), 1, 6, "old") || c.had(now, 2, 6, "old") || c.had(now, 1, 6, "Old") {
		t.Error("known for too long, not long enough, for another, or another")
	}
}
