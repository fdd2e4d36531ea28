package auth

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime/debug"
	"time"

	"github.com/xdg-go/scram"

	"latchkey/guard"
	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// Guesses is told of wrong passwords.
type Guesses interface {
	// Guessed is called, before the client is answered, for each wrong password that this client had not sent for this mailbox before.
	// mailbox is a canonical name that need not exist, or the beginning of what was typed. No lock or turn is held.
	Guessed(ctx context.Context, remote netip.Addr, mailbox string)
}

// Stale is told of programs whose password is out of date: *guard.StaleDevices.
type Stale interface {
	// Seen is called for each login to an account with a password that this client has sent in vain before, or that was right before a change. It
	// must not block.
	Seen(now time.Time, d guard.StaleDevice)
}

// Options are what an Authenticator is made of. Accounts, Settings and Guard must be set.
type Options struct {
	Accounts store.Accounts
	Settings store.SettingsStore
	Guard    *guard.Logins
	// Guesses is told of wrong passwords; nil is nobody.
	Guesses Guesses
	// Devices are the device credentials; nil: there are none.
	Devices Devices
	// Stale is told of programs that repeat a password which is wrong; nil is nobody.
	Stale Stale
	// Exposed is told of a right password that came where none may come without TLS: see [Authenticator.ArrivedInClear]. It may take its time; ctx
	// bounds it. nil is nobody, and nothing is looked at.
	Exposed func(ctx context.Context, e Exposed) error
	// Sealing keeps passwords for challenge logins; with nil there are none.
	Sealing Sealing
	// Cost is that of new verifiers, and of a look at a mailbox that does not exist. Zero is 19 MiB in two passes, and nothing but a test whose
	// subject is not hashing takes less.
	Cost Cost
	// Tally counts logins; nil counts nothing.
	Tally *store.Tally
	// Logger gets one event a login; nil discards them.
	Logger *slog.Logger
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Authenticator checks names and passwords for every door. Its methods may be called from any goroutine.
type Authenticator struct {
	o      Options
	hasher *hasher
	cache  *cache
	// decoy is verified for names that do not exist, so that they cost the same.
	decoy verifier
	// matches is verifier.matches; tests count its runs.
	matches func(v verifier, password string) bool

	clear *clearWatch

	// For challenge logins: passwords at rest, turns of their own (a proof takes 1 ms, a hash 35), keys of SCRAM, and a password that
	// nobody has.
	sealer        *sealer
	turns         *hasher
	scramKeys     *scramKeys
	decoyPassword string
	// These are openSealed, deriveSCRAM, scramSalt and the library's own nonces; tests count their runs, or play examples of an RFC.
	open   func(key []byte, a store.Account) (password string, ok bool)
	derive func(hash scram.HashGeneratorFcn, password string, factors scram.KeyFactors) (scram.StoredCredentials, error)
	salt   func(key []byte, kind, mailbox string) ([]byte, error)
	nonce  func() string
}

// New returns an Authenticator. It starts nothing.
func New(o Options) *Authenticator {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Cost == (Cost{}) {
		o.Cost = Cost{Memory: argonMemory, Time: argonTime}
	}
	return &Authenticator{
		o: o, hasher: newHasher(debug.FreeOSMemory), cache: newCache(), clear: newClearWatch(), matches: verifier.matches,
		decoy:  verifier{memory: o.Cost.Memory, time: o.Cost.Time, threads: argonThreads, salt: make([]byte, saltLen), key: make([]byte, keyLen)},
		sealer: newSealer(o.Sealing, o.Logger), turns: newHasher(nil), decoyPassword: rand.Text(),
		scramKeys: &scramKeys{made: map[scramKey]scram.StoredCredentials{}}, open: openSealed, derive: deriveSCRAM, salt: scramSalt,
	}
}

// Login says who has this name and password. The errors are those of auth.go, or wrap one of the store's when the answer could not
// be had. A name that does not exist costs what a wrong password costs.
func (a *Authenticator) Login(ctx context.Context, at Attempt, username, password string) (Identity, error) {
	id, err := a.login(ctx, at, username, password)
	a.logResult(at, id, err)
	if err != nil {
		return Identity{}, err
	}
	return id, nil
}

// login returns with an error what is known of the identity, for the log.
func (a *Authenticator) login(ctx context.Context, at Attempt, username, password string) (Identity, error) {
	if !at.TLS && !at.OldDoor && !a.CleartextAllowed(ctx, at.Remote) {
		a.ArrivedInClear(at, username, password)
		return Identity{}, ErrCleartext
	}
	settings, who, err := a.claim(ctx, username)
	if err != nil {
		return Identity{}, err
	}
	device, err := a.device(ctx, at, who, password)
	if err != nil {
		return who.identity(), err
	}
	if device != nil {
		return a.admitDevice(settings, at, who, *device)
	}
	if err := a.prove(ctx, at, who, password); err != nil {
		return who.identity(), err
	}
	id, err := a.admitMain(settings, who)
	if err == nil && mayChallenge(settings, who.account) {
		a.sealer.keep(ctx, a.o.Now(), who.account, password)
	}
	return id, err
}

// claim finds out who the client wants to be.
func (a *Authenticator) claim(ctx context.Context, username string) (store.Settings, claimant, error) {
	settings, err := a.o.Settings.Settings(ctx)
	if err != nil {
		return settings, claimant{}, fmt.Errorf("auth: settings: %w", err)
	}
	who, err := a.find(ctx, username, settings.Domain)
	if err != nil {
		return settings, claimant{}, fmt.Errorf("auth: account: %w", err)
	}
	return settings, who, nil
}

// admitMain is admit for one who has proved the account's own password.
func (a *Authenticator) admitMain(settings store.Settings, who claimant) (Identity, error) {
	id, err := a.admit(settings, who)
	if err == nil {
		err = exposed(settings, who.account.ClearSince, a.o.Now())
	}
	return id, err
}

// admit completes the identity of somebody who has proved it, unless the account is suspended.
func (a *Authenticator) admit(settings store.Settings, who claimant) (Identity, error) {
	id := who.identity()
	var err error
	if id.Address, err = mailaddr.New(id.Name, settings.Domain); err != nil {
		return id, fmt.Errorf("auth: address of account %d: %w", id.Account, err)
	}
	if who.account.Suspended {
		return id, ErrSuspended
	}
	return id, nil
}

// claimant is somebody who wants to be taken for an account. If there is none of the name, known is false and account is zero.
type claimant struct {
	// mailbox is what failures are counted under, so that nothing in the counting tells a name that exists from one that does not.
	mailbox string
	account store.Account
	known   bool
}

func (a *Authenticator) find(ctx context.Context, username, domain string) (claimant, error) {
	mailbox, ok := mailboxKey(username, domain)
	if !ok {
		return claimant{mailbox: mailbox}, nil
	}
	account, err := a.o.Accounts.AccountByName(ctx, mailbox)
	if errors.Is(err, store.ErrNotFound) {
		return claimant{mailbox: mailbox}, nil
	}
	return claimant{mailbox, account, err == nil}, err
}

// identity is what is known of it so far.
func (c claimant) identity() Identity {
	return Identity{Account: c.account.ID, Name: c.account.Name, CredentialVersion: c.account.CredentialVersion}
}

// prove returns nil if the password is the claimant's. The answer to a wrong one may wait: see patience.go.
func (a *Authenticator) prove(ctx context.Context, at Attempt, who claimant, password string) error {
	if len(password) > MaxPasswordLen {
		return ErrCredentials // nobody can have it
	}
	l, result := a.remembered(at, who, password, false)
	if l == lookAnswered {
		return result
	}
	if err := a.beforeLook(ctx, l, at.Remote, who); err != nil {
		return err
	}
	guess := false
	if err := a.hasher.run(ctx, a.asker(at.Remote), func() {
		// While it waited, others from there may have given this password, or too many wrong ones.
		if again, answer := a.remembered(at, who, password, true); again == lookAnswered {
			result = answer
		} else {
			guess, result = a.verify(at, who, password)
		}
	}); err != nil {
		return err
	}
	if guess {
		return a.afterGuess(ctx, l, at.Remote, who, result)
	}
	return result
}

// remembered answers without a hash, if that is possible; else it says how to look at the password. Before its wait is over nothing is said of a
// password that is to be looked at slowly: what is quick to look at is quick to guess.
func (a *Authenticator) remembered(at Attempt, who claimant, password string, itsTurn bool) (l look, result error) {
	now := a.o.Now()
	verdict := a.o.Guard.Check(now, at.Remote, who.mailbox, who.account.CredentialVersion, password)
	switch verdict {
	case guard.Stale:
		a.staleDevice(now, at, who, a.wasRight(now, who, password))
		return lookAnswered, ErrCredentials
	case guard.Throttled, guard.Banned:
		return lookAnswered, a.turnedAway(now, verdict, at.Remote, who)
	case guard.Slow:
		if !itsTurn {
			return lookLater, nil
		}
	}
	if who.known && a.cache.has(now, who.account.ID, who.account.CredentialVersion, password) {
		a.o.Guard.Succeeded(now, at.Remote, who.mailbox)
		return lookAnswered, nil
	}
	return lookNow, nil
}

// verify runs one hash, whoever it is, and remembers what came out. guess is set for a wrong password that was not counted before.
func (a *Authenticator) verify(at Attempt, who claimant, password string) (guess bool, result error) {
	v, usable := a.decoy, false
	if who.known {
		parsed, err := parseVerifier(who.account.Verifier)
		if err != nil {
			a.o.Logger.Error("account has no usable password verifier", "account", who.account.Name, "err", err)
		} else {
			v, usable = parsed, true
		}
	}
	right := a.matches(v, password) && usable && password != ""
	now := a.o.Now()
	switch {
	case right:
		a.cache.put(now, who.account.ID, who.account.CredentialVersion, password)
		a.o.Guard.Succeeded(now, at.Remote, who.mailbox)
		return false, nil
	case a.wasRight(now, who, password):
		a.o.Guard.Outdated(now, at.Remote, who.mailbox, who.account.CredentialVersion, password)
		a.staleDevice(now, at, who, true)
		return false, ErrCredentials
	}
	return a.o.Guard.Failed(now, at.Remote, who.mailbox, who.account.CredentialVersion, password), ErrCredentials
}

// CleartextAllowed reports whether a password may come from there without TLS: from this machine itself, or from anywhere if the
// domain's owner says so.
func (a *Authenticator) CleartextAllowed(ctx context.Context, remote netip.Addr) bool {
	if remote.Unmap().IsLoopback() {
		return true
	}
	s, err := a.o.Settings.Settings(ctx)
	return err == nil && s.CleartextLogin
}

// Current returns nil while the credential that was proved is still the account's: ErrCredentials after a password change or removal,
// ErrSuspended while suspended. Of a device it says no more than that the account is there and open: see [Authenticator.CurrentDevice].
func (a *Authenticator) Current(ctx context.Context, id Identity) error {
	account, err := a.o.Accounts.Account(ctx, id.Account)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return ErrCredentials
	case err != nil:
		return fmt.Errorf("auth: account: %w", err)
	case account.Suspended:
		return ErrSuspended
	case id.Device == 0 && account.CredentialVersion != id.CredentialVersion:
		return ErrCredentials
	}
	return nil
}

// Known reports whether somebody logged in from an address lately, by whatever door. It does not block.
func (a *Authenticator) Known(remote netip.Addr) bool { return a.o.Guard.Home(a.o.Now(), remote) }

// Hash makes the verifier of a new password. ErrPassword, or ErrBusy when too many logins wait.
func (a *Authenticator) Hash(ctx context.Context, password string) (store.Verifier, error) {
	if err := checkPassword(password); err != nil {
		return "", err
	}
	var v verifier
	if err := a.hasher.run(ctx, asker{known: true}, func() { v = newVerifier(a.o.Cost, password) }); err != nil {
		return "", err
	}
	return v.encode(), nil
}

// logResult counts a login and writes its event. The name as typed stays out of it: people type their password there. account is empty if no
// account has the name.
func (a *Authenticator) logResult(at Attempt, id Identity, err error) {
	outcome := result(err)
	if outcome == "ok" || outcome == "refused" {
		a.o.Tally.Login(at.Service, outcome == "ok")
	}
	attrs := []any{
		"service", at.Service, "mechanism", at.Mechanism, "remote", at.Remote.String(), "tls", at.TLS, "account", id.Name, "result", outcome,
	}
	if id.Device != 0 {
		attrs = append(attrs, "device", id.DeviceName)
	}
	switch outcome {
	case "ok":
		a.o.Logger.Info("login", attrs...)
	case "error":
		a.o.Logger.Error("login", append(attrs, "err", err)...)
	default:
		a.o.Logger.Info("login", append(attrs, "err", err)...)
	}
}

// result is the word for how a login ended.
func result(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, ErrCredentials), errors.Is(err, ErrSuspended), errors.Is(err, ErrThrottled), errors.Is(err, ErrCleartext), errors.Is(err, ErrExposed),
		errors.Is(err, ErrBanned), errors.Is(err, ErrBinding), errors.Is(err, ErrBusy), errors.Is(err, ErrDeviceExpired),
		errors.Is(err, ErrDeviceNetwork), errors.Is(err, ErrDeviceScope):
		return "refused"
	case errors.Is(err, context.Canceled):
		return "cancelled" // the client went away, or the server stops
	default:
		return "error"
	}
}
