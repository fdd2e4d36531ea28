package auth

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/guard"
	"latchkey/store"
)

// inClear is an attempt without TLS.
func inClear(remote netip.Addr) Attempt {
	return Attempt{Service: "pop3", Mechanism: "USER", Remote: remote}
}

// clearFixture is a fixture whose passwords in the clear are looked at as soon as the test waits, and what was told of them.
func clearFixture(t *testing.T) (f *fixture, told *[]Exposed) {
	t.Helper()
	f, told = newFixture(t), new([]Exposed)
	f.o.Exposed = func(_ context.Context, e Exposed) error {
		*told = append(*told, e)
		return nil
	}
	return f, told
}

// looks lets everything that waits be looked at.
func (f *fixture) looks() {
	f.t.Helper()
	ctx, end := context.WithCancel(f.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.RunClear(ctx)
	}()
	synctest.Wait()
	end()
	<-done
}

// TestPasswordInClear: whatever came is refused alike, and costs one hash later; only of a right password somebody is told, and of it once.
func TestPasswordInClear(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, told := clearFixture(t)
		for _, tt := range []struct {
			name, password string
			hashes, told   int
		}{
			{"alice", "wrong", 1, 0},
			{"alice", "wrong", 0, 0}, // it was looked at
			{"nobody", "open sesame", 1, 0},
			{"alice@example.org", "open sesame", 1, 0},
			{"alice", strings.Repeat("x", MaxPasswordLen), 1, 0},
			{"alice", strings.Repeat("x", MaxPasswordLen+1), 0, 0},
			{strings.Repeat("x", maxClearName), "open sesame", 1, 0},
			{strings.Repeat("x", maxClearName+1), "open sesame", 0, 0},
			{"alice", "", 0, 0},
			{" ALICE@example.com", "open sesame", 1, 1},
			{"alice", "open sesame", 0, 0}, // so was this
		} {
			f.ran()
			*told = nil
			f.try(inClear(office), tt.name, tt.password, ErrCleartext)
			if n := f.ran(); n != 0 {
				t.Errorf("%q with %q: %d hashes before the answer", tt.name, tt.password, n)
			}
			f.looks()
			if n := f.ran(); n != tt.hashes || len(*told) != tt.told {
				t.Errorf("%q with %q: %d hashes, told of %d; want %d, %d", tt.name, tt.password, n, len(*told), tt.hashes, tt.told)
			}
			for _, e := range *told {
				if e.Account.ID != f.alice.ID || e.Device.ID != 0 || e.At != inClear(office) || !e.When.Equal(f.clock) {
					t.Errorf("told %+v", e)
				}
			}
		}
		// What is known needs no second word, and a new password is another one.
		f.update(func(a *store.Account) { a.ClearSince = f.clock })
		*told = nil
		f.try(inClear(netip.MustParseAddr("192.0.2.77")), "alice", "open sesame", ErrCleartext)
		f.looks()
		if len(*told) != 0 {
			t.Errorf("told again: %+v", *told)
		}
		v, err := f.Hash(t.Context(), "new sesame")
		if err != nil {
			t.Fatal(err)
		}
		f.update(func(a *store.Account) { a.Verifier = v })
		f.try(inClear(office), "alice", "new sesame", ErrCleartext)
		f.looks()
		if len(*told) != 1 {
			t.Errorf("of the new password told %d times", len(*told))
		}
		if log := f.log.String(); strings.Contains(log, "sesame") || strings.Contains(log, "wrong\"") {
			t.Errorf("a password in the log: %s", log)
		}
	})
}

// TestClearTellsNothing: however many passwords came in the clear, right ones among them or none, what a client sees afterwards is the same: the
// guesses that it has left, the hashes that they cost, and whether it is known.
func TestClearTellsNothing(t *testing.T) {
	seen := func(secret string) (seen string) {
		synctest.Test(t, func(t *testing.T) {
			f, _ := clearFixture(t)
			var b strings.Builder
			for i := range 40 {
				password := fmt.Sprint("guess ", i)
				if i == 3 {
					password = secret
				}
				f.try(inClear(office), "alice", password, ErrCleartext)
				f.looks()
			}
			fmt.Fprintln(&b, "hashes", f.ran(), "home", f.Known(office), "known", f.o.Guard.Known(f.clock, office, "alice"))
			for i := range 12 {
				_, err := f.Login(t.Context(), over(office), "alice", fmt.Sprint("guess ", i*40))
				fmt.Fprintln(&b, i, err, f.ran())
			}
			_, banned := f.o.Guard.Banned(f.clock, office, "alice")
			fmt.Fprintln(&b, "banned", banned)
			seen = b.String()
		})
		return seen
	}
	wrong, right := seen("no sesame"), seen("open sesame")
	if wrong != right {
		t.Errorf("after wrong ones\n%s\nafter a right one\n%s", wrong, right)
	}
	if want := fmt.Sprintf("hashes %d home false known false\n", guard.DefaultLoginLimits().Pair.N); !strings.HasPrefix(wrong, want) {
		t.Errorf("got %s\nwant %s", wrong, want)
	}
}

// TestClearAmongGuesses: a client that is banned from the mailbox gets no further by the clear, and a right password in the clear lifts no ban.
func TestClearAmongGuesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, told := clearFixture(t)
		for i := range guard.DefaultLoginLimits().Pair.N {
			f.try(over(office), "alice", fmt.Sprint("guess ", i), ErrCredentials)
		}
		f.ran()
		f.try(inClear(office), "alice", "open sesame", ErrCleartext)
		f.looks()
		if n := f.ran(); n != 0 || len(*told) != 0 {
			t.Errorf("%d hashes, told of %d", n, len(*told))
		}
		f.try(over(office), "alice", "open sesame", ErrBanned)
		f.try(inClear(netip.MustParseAddr("192.0.2.8")), "alice", "open sesame", ErrCleartext)
		f.looks()
		if len(*told) != 1 {
			t.Errorf("from elsewhere: told of %d", len(*told))
		}
		f.try(over(office), "alice", "open sesame", ErrBanned)
	})
}

// TestClearQueue: both ends of what may wait, of one client and of all. What is too much is counted, and told in the log.
func TestClearQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, told := clearFixture(t)
		for i := range maxClearPerClient + 1 {
			f.try(inClear(office), fmt.Sprint("nobody", i), "secret", ErrCleartext)
		}
		if n, dropped := len(f.clear.todo), f.clear.dropped; n != maxClearPerClient || dropped != 1 {
			t.Errorf("of one client wait %d, %d were dropped", n, dropped)
		}
		for i := range maxClear {
			f.try(inClear(netip.AddrFrom4([4]byte{10, 0, byte(i), 1})), "nobody", "secret", ErrCleartext)
		}
		if n, dropped := len(f.clear.todo), f.clear.dropped; n != maxClear || dropped != 1+maxClearPerClient {
			t.Errorf("wait %d, %d were dropped", n, dropped)
		}
		f.looks()
		if len(f.clear.todo) != 0 || len(f.clear.waiting) != 0 || !strings.Contains(f.log.String(), "not looked at: too many at once\" count=9") {
			t.Errorf("wait %d of %d clients: %s", len(f.clear.todo), len(f.clear.waiting), f.log)
		}
		f.try(inClear(office), "alice", "open sesame", ErrCleartext)
		f.looks()
		if len(*told) != 1 {
			t.Error("nothing is looked at after a flood")
		}
	})
}

// TestClearHoldsUpNobody: a login from a known address needs no turn that a password in the clear has, and a stranger's waits for one such turn at
// most.
func TestClearHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _ := clearFixture(t)
		f.o.Guard.Remember(f.clock, office, "alice")
		held := make(chan struct{})
		matches := f.matches
		f.matches = func(v verifier, password string) bool {
			if strings.HasPrefix(password, "clear") {
				<-held
			}
			return matches(v, password)
		}
		for i := range 5 {
			f.try(inClear(netip.MustParseAddr("192.0.2.8")), fmt.Sprint("box", i), fmt.Sprint("clear ", i), ErrCleartext)
		}
		ctx, end := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			f.RunClear(ctx)
		}()
		synctest.Wait()
		f.try(over(office), "alice", "open sesame", nil)
		stranger := make(chan error, 1)
		go func() {
			_, err := f.Login(t.Context(), over(netip.MustParseAddr("203.0.113.5")), "alice", "wrong")
			stranger <- err
		}()
		synctest.Wait()
		held <- struct{}{} // one turn
		synctest.Wait()
		select {
		case err := <-stranger:
			if !errors.Is(err, ErrCredentials) {
				t.Error(err)
			}
		default:
			t.Error("a stranger waits for more than one password in the clear")
		}
		end()
		close(held)
		<-done
	})
}

// TestExposedPasswordEnds: by the setting alone, at its moment, by every mechanism, and for the one password that was seen.
func TestExposedPasswordEnds(t *testing.T) {
	f := deviceFixture(t)
	_, seen := f.device(f.alice, "seen", func(d *store.Device) { d.ClearSince = f.clock })
	_, unseen := f.device(f.alice, "unseen", nil)
	f.update(func(a *store.Account) { a.ClearSince = f.clock })
	start := f.clock
	all := func(main, device error) {
		t.Helper()
		f.try(over(office), "alice", "open sesame", main)
		f.try(sending(office), "alice", seen, device)
		f.try(sending(office), "alice", unseen, nil)
		f.try(over(office), "alice", "wrong", ErrCredentials)
	}
	f.clock = start.AddDate(9, 0, 0)
	all(nil, nil)
	f.settings(func(s *store.Settings) { s.ClearPasswordDays = 30 })
	all(ErrExposed, ErrExposed)
	f.clock = start.AddDate(0, 0, 30).Add(-time.Nanosecond)
	all(nil, nil)
	id := f.try(sending(office), "alice", seen, nil)
	f.clock = f.clock.Add(time.Nanosecond)
	all(ErrExposed, ErrExposed)
	if _, err := f.CurrentDevice(t.Context(), id, office); !errors.Is(err, ErrExposed) {
		t.Errorf("a session that is open: %v", err)
	}
	if !strings.Contains(f.log.String(), "result=refused err=\"auth: the password was seen in the clear, and has ended\"") {
		t.Error("the log does not say why")
	}
	v, err := f.Hash(t.Context(), "new sesame")
	if err != nil {
		t.Fatal(err)
	}
	f.update(func(a *store.Account) { a.Verifier = v })
	f.try(over(office), "alice", "new sesame", nil)
}
