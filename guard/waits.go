package guard

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"
)

// Bounds of the logins that wait at once. Each has a connection and its goroutine already.
const (
	// MaxWaits bounds them in all, MaxWaitsPerClient those of one client; the networks around it may have three and nine times as many.
	MaxWaits          = 512
	MaxWaitsPerClient = 8
	// MaxSlowPerMailbox bounds those that wait before their password is looked at. With the time that each waits it bounds how fast a mailbox
	// under attack can be guessed at from all networks but its owner's: 16 passwords a minute, however many clients there are.
	MaxSlowPerMailbox = 4
)

// ErrCrowded: too many logins wait already. The client is to be refused at once.
var ErrCrowded = errors.New("guard: too many logins wait")

// waits are the logins that wait.
type waits struct {
	ended chan struct{} // closed by EndWaits
	end   sync.Once

	mu        sync.Mutex // protects the fields below
	total     int
	prefixes  map[netip.Prefix]int
	mailboxes map[string]int // those of WaitSlow
}

func newWaits() *waits {
	return &waits{ended: make(chan struct{}), prefixes: map[netip.Prefix]int{}, mailboxes: map[string]int{}}
}

// Wait holds the answer to a wrong password back, as long as Delay says. It returns nil when the time is over, ErrCrowded at once where too many wait
// already, and the context's error if that ends first. No turn to hash may be held by the caller.
func (g *Logins) Wait(ctx context.Context, remote netip.Addr, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	return g.waits.wait(ctx, prefixes(remote), "", d)
}

// WaitSlow is the wait before a password that Check wants looked at slowly. Its errors are those of Wait.
func (g *Logins) WaitSlow(ctx context.Context, remote netip.Addr, mailbox string) error {
	return g.waits.wait(ctx, prefixes(remote), mailbox, g.limits.Slow)
}

// EndWaits ends all waits, and those that would begin, as if too many waited: a process that stops does not wait for guesses. It may be called twice.
func (g *Logins) EndWaits() { g.waits.end.Do(func() { close(g.waits.ended) }) }

// wait waits; mailbox is empty where it is of no account.
func (w *waits) wait(ctx context.Context, scopes []scope, mailbox string, d time.Duration) error {
	if !w.enter(scopes, mailbox) {
		return ErrCrowded
	}
	defer w.leave(scopes, mailbox)
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-w.ended:
		return ErrCrowded
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (w *waits) enter(scopes []scope, mailbox string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	over := w.total >= MaxWaits || mailbox != "" && w.mailboxes[mailbox] >= MaxSlowPerMailbox
	for _, s := range scopes {
		over = over || w.prefixes[s.prefix] >= MaxWaitsPerClient*s.times
	}
	if over {
		return false
	}
	w.total++
	for _, s := range scopes {
		w.prefixes[s.prefix]++
	}
	if mailbox != "" {
		w.mailboxes[mailbox]++
	}
	return true
}

func (w *waits) leave(scopes []scope, mailbox string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.total--
	for _, s := range scopes {
		countDown(w.prefixes, s.prefix)
	}
	if mailbox != "" {
		countDown(w.mailboxes, mailbox)
	}
}

// countDown takes one from a count, which goes at nothing.
func countDown[K comparable](counts map[K]int, key K) {
	if counts[key]--; counts[key] <= 0 {
		delete(counts, key)
	}
}
