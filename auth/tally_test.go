package auth

import (
	"context"
	"slices"
	"testing"

	"latchkey/store"
)

// TestLoginsAreCounted: each login once, by its service; one whose client went away is none.
func TestLoginsAreCounted(t *testing.T) {
	f := newFixture(t)
	f.o.Tally = store.NewTally(f.store, f.o.Now, nil)
	at := func(service string) Attempt {
		return Attempt{Service: service, Mechanism: "PLAIN", Remote: office, TLS: true}
	}
	f.try(at("pop3"), "alice", "open sesame", nil)
	f.try(at("pop3"), "alice", "wrong", ErrCredentials)
	f.try(at("smtp"), "nobody", "wrong", ErrCredentials)
	f.try(at("web"), "alice", "open sesame", nil)
	f.try(at("web"), "alice", "open sesame", nil)
	if _, err := f.APOP(t.Context(), at("pop3"), "alice", "<1@x>", [16]byte{}); err == nil {
		t.Error("a digest of nothing is taken")
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Login(gone, at("smtp"), "alice", "another"); err == nil {
		t.Error("a login without a client")
	}
	day := store.DayOf(f.clock)
	got, err := f.o.Tally.ListStats(t.Context(), day, day)
	want := []store.Stat{
		{Day: day, Name: "day/login-refused/pop3", N: 2}, {Day: day, Name: "day/login-refused/smtp", N: 1},
		{Day: day, Name: "day/login/pop3", N: 1}, {Day: day, Name: "day/login/web", N: 2},
	}
	if !slices.Equal(got, want) || err != nil {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
}
