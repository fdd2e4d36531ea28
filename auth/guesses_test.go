package auth

import (
	"context"
	"errors"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"latchkey/guard"
	"latchkey/store"
)

// told remembers guesses, and logs in while it is told of one: no turn or lock may be held then.
type told struct {
	f *fixture

	mu    sync.Mutex // protects names
	names []string
}

func (g *told) Guessed(ctx context.Context, remote netip.Addr, mailbox string) {
	if remote != office {
		g.f.t.Errorf("a guess from %v", remote)
	}
	g.mu.Lock()
	g.names = append(g.names, mailbox)
	g.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second) // for a turn that is held
	defer cancel()
	if _, err := g.f.Login(ctx, over(loopback), "alice", "open sesame"); err != nil {
		g.f.t.Errorf("a login while a guess is told: %v", err)
	}
}

// TestGuessesAreTold: each wrong password once, whatever the name's form, under the mailbox's canonical name; a right one, one that is
// known to be wrong and one that is not looked at never.
func TestGuessesAreTold(t *testing.T) {
	f := newFixture(t)
	g := &told{f: f}
	f.o.Guesses = g
	for _, tt := range []struct {
		name, password string
		want           error
		told           string // "" for nothing
	}{
		{"alice", "open sesame", nil, ""},
		{"alice", "wrong", ErrCredentials, "alice"},
		{"alice", "wrong", ErrCredentials, ""},
		{" ALICE@Example.com ", "wrong", ErrCredentials, ""},
		{`EXAMPLE.COM\Alice`, "wronger", ErrCredentials, "alice"},
		{"nobody@example.com", "wrong", ErrCredentials, "nobody"},
		{"nobody", "wrong", ErrCredentials, ""},
		{"alice@example.org", "wrong", ErrCredentials, "alice@example.org"},
		{strings.Repeat("x", 400), "wrong", ErrCredentials, strings.Repeat("x", 64)},
		{"alice", strings.Repeat("x", MaxPasswordLen+1), ErrCredentials, ""},
		{"alice", "", ErrCredentials, "alice"},
		{"alice", "open sesame", nil, ""},
	} {
		g.names = nil
		f.try(over(office), tt.name, tt.password, tt.want)
		var want []string
		if tt.told != "" {
			want = []string{tt.told}
		}
		if !slices.Equal(g.names, want) {
			t.Errorf("%q with %q: told %q, want %q", tt.name, tt.password, g.names, want)
		}
	}
	g.names = nil
	f.try(Attempt{Service: "pop3", Remote: office}, "alice", "not over TLS", ErrCleartext)
	f.update(func(a *store.Account) { a.Suspended = true })
	f.try(over(office), "alice", "open sesame", ErrSuspended)
	f.update(func(a *store.Account) { a.Suspended = false })
	limit := 3 * guard.DefaultLoginLimits().Pair.N // she is known there
	for i := range limit {
		f.try(over(office), "alice", strings.Repeat("y", int(i)+1), ErrCredentials)
	}
	n := len(g.names)
	f.try(over(office), "alice", "one too many", ErrThrottled)
	if int64(n) != limit || len(g.names) != n {
		t.Errorf("told of %d, then of %d", n, len(g.names))
	}
}

// TestGuessesAtOnceAreToldOnce: a device that tries its old password over several connections at once is one guess.
func TestGuessesAtOnceAreToldOnce(t *testing.T) {
	f := newFixture(t)
	g := &told{f: f}
	f.o.Guesses = g
	release := f.block()
	var work sync.WaitGroup
	for range maxWaitingPerPrefix {
		work.Go(func() {
			if _, err := f.Login(t.Context(), over(office), "alice", "last year's"); !errors.Is(err, ErrCredentials) {
				t.Error(err)
			}
		})
	}
	for all := false; !all; runtime.Gosched() { // until they all wait for their turn
		f.hasher.mu.Lock()
		all = f.hasher.waiting == maxWaitingPerPrefix
		f.hasher.mu.Unlock()
	}
	close(release)
	work.Wait()
	if len(g.names) != 1 {
		t.Errorf("told of %d guesses, want 1", len(g.names))
	}
}
