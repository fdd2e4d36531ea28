package guard

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"latchkey/store"
)

// Bounds of waiting for a login: see [Grants.Await].
const (
	// LoginWait is how long a client is kept waiting. RFC 5321 §4.5.3.2.6 has clients wait for ten minutes; some wait for one, and are refused
	// before anything is taken if they have gone.
	LoginWait = 2 * time.Minute
	// MaxLoginWaits bounds those who wait, MaxClientWaits those of one client (see [Prefix]); of one client and mailbox there is one.
	MaxLoginWaits  = 64
	MaxClientWaits = 4
	// VainTime is how long a client that waited in vain for a mailbox is not made to wait again: its program fetches mail only after it has
	// sent, and the refusal lets it do so at once. MaxVain bounds those that are remembered.
	VainTime = 24 * time.Hour
	MaxVain  = 10_000
	// presentEvery is how often it is looked whether who waits is still there.
	presentEvery = 2 * time.Second
)

// loginWaits are the clients that wait for a login of a mailbox.
type loginWaits struct {
	mu      sync.Mutex // protects what follows
	waiting map[waitKey]*waiter
	clients map[netip.Prefix]int
	vain    *table[waitKey, time.Time]
}

// waitKey is one client and the mailbox that it waits for.
type waitKey struct {
	client  netip.Prefix
	mailbox string
}

// waiter is one client. Its channel gets one value when the mailbox has logged in from where it stands.
type waiter struct {
	account store.AccountID
	at      netip.Addr
	woken   chan struct{}
}

func newLoginWaits() *loginWaits {
	return &loginWaits{waiting: map[waitKey]*waiter{}, clients: map[netip.Prefix]int{}, vain: newTable[waitKey, time.Time](MaxVain)}
}

// begin makes room for one; nil if there is none, or if it waited in vain lately.
func (w *loginWaits) begin(now time.Time, key waitKey, account store.AccountID, at netip.Addr) *waiter {
	w.mu.Lock()
	defer w.mu.Unlock()
	if until := w.vain.peek(key); until != nil && now.Before(*until) {
		return nil
	}
	if w.waiting[key] != nil || len(w.waiting) >= MaxLoginWaits || w.clients[key.client] >= MaxClientWaits {
		return nil
	}
	one := &waiter{account: account, at: at, woken: make(chan struct{}, 1)}
	w.waiting[key] = one
	w.clients[key.client]++
	return one
}

func (w *loginWaits) end(key waitKey) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.waiting, key)
	if w.clients[key.client]--; w.clients[key.client] == 0 {
		delete(w.clients, key.client)
	}
}

func (w *loginWaits) inVain(key waitKey, until time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	*w.vain.use(key) = until
}

// wake tells those who wait for a grant.
func (w *loginWaits) wake(g store.Grant) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, one := range w.waiting {
		if one.account == g.Account && g.Network.Contains(one.at) {
			select {
			case one.woken <- struct{}{}:
			default: // it is on its way
			}
		}
	}
}

// Await waits until a mailbox has a live grant at a place, because it logs in there by POP3, for at most [LoginWait]: for clients that send
// first and fetch mail then. mailbox is the address as the client gave it, account the mailbox that owns it; 0 is nobody, for whom it waits
// just as long. present reports whether the client is still there. ok is false, at once, if too many wait, if this client waits for this
// mailbox already, or if it did so in vain lately; the same after the time, when the client has gone, or when ctx ends.
func (g *Grants) Await(
	ctx context.Context, p Place, account store.AccountID, mailbox string, present func() bool,
) (grant store.Grant, ok bool, err error) {
	key := waitKey{Prefix(p.address()), mailbox}
	one := g.waits.begin(g.o.Now(), key, account, p.address())
	if one == nil {
		return store.Grant{}, false, nil
	}
	defer g.waits.end(key)
	look := time.NewTicker(presentEvery)
	defer look.Stop()
	over := time.NewTimer(LoginWait)
	defer over.Stop()
	for {
		live, err := g.Live(ctx, p, []store.AccountID{account}) // also of a login that came before it waited
		if err != nil || len(live) > 0 {
			if err == nil && present() {
				return live[0], true, nil
			}
			return store.Grant{}, false, err
		}
		for waiting := true; waiting; {
			select {
			case <-one.woken:
				waiting = false
			case <-look.C:
				if !present() {
					return store.Grant{}, false, nil
				}
			case <-over.C:
				g.waits.inVain(key, g.o.Now().Add(VainTime))
				return store.Grant{}, false, nil
			case <-ctx.Done():
				return store.Grant{}, false, ctx.Err()
			}
		}
	}
}
