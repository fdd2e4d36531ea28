package auth

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"latchkey/guard"
	"latchkey/store"
)

// Bounds of looking at passwords that came in the clear where none may.
const (
	// maxClear is how many may wait to be looked at, maxClearPerClient how many of these may be of one client (see [guard.Prefix]).
	maxClear          = 64
	maxClearPerClient = 8
	// maxClearName bounds the name beside one, in octets.
	maxClearName = 512
	// clearTime bounds the look at one: its wait for a turn, and what is done of it.
	clearTime = time.Minute
	// clearTold is how often the log says, at most, that some were not looked at.
	clearTold = time.Minute
)

// Exposed is a password that is right and crossed a network in the clear, so that anybody on the way has it.
type Exposed struct {
	// Account and Device are those whose password it is, as they were found; a Device without ID is the account's own password.
	Account store.Account
	Device  store.Device
	// At is how it came, When its time.
	At   Attempt
	When time.Time
}

// clearWatch keeps the passwords that came in the clear until they are looked at.
//
// Their clients are refused before that, with the same words at the same moment, whatever they sent. Nothing that such a look finds out is in
// anything that a client can see: what is counted of it is in a book of its own, which works by the rules of guesses and counts a right password
// as it counts a wrong one; it never makes a password known as right or wrong, nor a network as an owner's; and it always costs one hash, in the
// turn of strangers. So to guess in the clear tells nothing, and holds up nobody who logs in.
type clearWatch struct {
	todo chan clearPassword
	book *guard.Logins

	mu      sync.Mutex // protects what follows
	waiting map[netip.Prefix]int
	dropped int64
	told    time.Time
}

type clearPassword struct {
	at                 Attempt
	when               time.Time
	username, password string
}

func newClearWatch() *clearWatch {
	return &clearWatch{todo: make(chan clearPassword, maxClear), book: guard.NewLogins(guard.LoginLimits{}), waiting: map[netip.Prefix]int{}}
}

// put takes one in, or counts it as not looked at. It never blocks.
func (w *clearWatch) put(p clearPassword) {
	client := guard.Prefix(p.at.Remote)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting[client] < maxClearPerClient {
		select {
		case w.todo <- p:
			w.waiting[client]++
			return
		default: // as many as may wait
		}
	}
	w.dropped++
}

// took says that one waits no more.
func (w *clearWatch) took(p clearPassword) {
	client := guard.Prefix(p.at.Remote)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting[client]--; w.waiting[client] <= 0 {
		delete(w.waiting, client)
	}
}

// lost is how many were not looked at since it was last told; 0 if that was just now.
func (w *clearWatch) lost(now time.Time) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dropped == 0 || now.Sub(w.told) < clearTold {
		return 0
	}
	n := w.dropped
	w.dropped, w.told = 0, now
	return n
}

// ArrivedInClear tells of a name and password that came over a connection where none may come, and was refused. [Authenticator.RunClear] looks at
// it; if it is right, Options.Exposed is told. It takes the same time whatever they are, and does not block; what is too much is not looked at.
// at.TLS is false.
func (a *Authenticator) ArrivedInClear(at Attempt, username, password string) {
	if a.o.Exposed == nil || password == "" || len(password) > MaxPasswordLen || len(username) > maxClearName {
		return
	}
	a.clear.put(clearPassword{at: at, when: a.o.Now(), username: username, password: password})
}

// RunClear looks at passwords that came in the clear, one after the other, until ctx ends. What waits then is forgotten.
func (a *Authenticator) RunClear(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case p := <-a.clear.todo:
			a.clear.took(p)
			if err := a.lookAtClear(ctx, p); err != nil && ctx.Err() == nil {
				a.o.Logger.Error("a password in the clear", "service", p.at.Service, "remote", p.at.Remote.String(), "err", err)
			}
			if n := a.clear.lost(a.o.Now()); n > 0 {
				a.o.Logger.Info("passwords in the clear not looked at: too many at once", "count", n)
			}
		}
	}
}

// lookAtClear looks at one, unless there were too many guesses, and has it noted if it is right.
func (a *Authenticator) lookAtClear(ctx context.Context, p clearPassword) error {
	ctx, cancel := context.WithTimeout(ctx, clearTime)
	defer cancel()
	_, who, err := a.claim(ctx, p.username)
	if err != nil {
		return err
	}
	version := who.account.CredentialVersion
	if a.o.Guard.CheckProof(p.when, p.at.Remote, who.mailbox) != guard.Proceed ||
		a.clear.book.Check(p.when, p.at.Remote, who.mailbox, version, p.password) != guard.Proceed {
		return nil
	}
	a.clear.book.Failed(p.when, p.at.Remote, who.mailbox, version, p.password)
	device, err := a.device(ctx, p.at, who, p.password)
	if err != nil {
		return err
	}
	v, usable := a.decoy, false
	if who.known {
		if parsed, err := parseVerifier(who.account.Verifier); err == nil {
			v, usable = parsed, true
		}
	}
	right := false
	if err := a.hasher.run(ctx, asker{}, func() { right = a.matches(v, p.password) && usable }); err != nil {
		return err
	}
	e := Exposed{Account: who.account, At: p.at, When: p.when}
	switch {
	case device != nil:
		e.Device = *device
	case !right:
		return nil
	}
	if since := e.since(); !since.IsZero() {
		return nil // it is known
	}
	a.o.Logger.Info("a right password came in the clear, and was refused", "service", p.at.Service, "mechanism", p.at.Mechanism,
		"remote", p.at.Remote.String(), "account", who.account.Name, "device", e.Device.Name)
	return a.o.Exposed(ctx, e)
}

// since is when the password was first seen in the clear, as far as it was known.
func (e Exposed) since() time.Time {
	if e.Device.ID != 0 {
		return e.Device.ClearSince
	}
	return e.Account.ClearSince
}

// exposed is ErrExposed for a password that has to be changed because it was seen in the clear at since, or nil.
func exposed(settings store.Settings, since, now time.Time) error {
	if ends := settings.ClearPasswordEnds(since); !ends.IsZero() && !now.Before(ends) {
		return ErrExposed
	}
	return nil
}
