package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime/debug"
	"time"

	"latchkey/guard"
	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// Options are what an Authenticator is made of. Accounts, Settings and Guard must be set.
type Options struct {
	Accounts store.Accounts
	Settings store.SettingsStore
	Guard    *guard.Logins
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
}

// New returns an Authenticator. It starts nothing.
func New(o Options) *Authenticator {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Authenticator{
		o: o, hasher: newHasher(debug.FreeOSMemory), cache: newCache(),
		decoy: verifier{memory: argonMemory, time: argonTime, threads: argonThreads, salt: make([]byte, saltLen), key: make([]byte, keyLen)},
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

// login returns the identity also with ErrSuspended, for the log.
func (a *Authenticator) login(ctx context.Context, at Attempt, username, password string) (Identity, error) {
	if !at.TLS && !a.CleartextAllowed(ctx, at.Remote) {
		return Identity{}, ErrCleartext
	}
	if len(password) > MaxPasswordLen {
		return Identity{}, ErrCredentials
	}
	settings, err := a.o.Settings.Settings(ctx)
	if err != nil {
		return Identity{}, fmt.Errorf("auth: settings: %w", err)
	}
	mailbox, account, known, err := a.find(ctx, username, settings.Domain)
	if err != nil {
		return Identity{}, fmt.Errorf("auth: account: %w", err)
	}
	now := a.o.Now()
	switch a.o.Guard.Check(now, at.Remote, mailbox, account.CredentialVersion, password) {
	case guard.Stale:
		return Identity{}, ErrCredentials
	case guard.Throttled:
		return Identity{}, ErrThrottled
	}
	if !a.cache.has(now, account.ID, account.CredentialVersion, password) {
		right, err := a.verify(ctx, at.Remote, account, known, password)
		if err != nil {
			return Identity{}, err
		}
		if !right {
			a.o.Guard.Failed(a.o.Now(), at.Remote, mailbox, account.CredentialVersion, password)
			return Identity{}, ErrCredentials
		}
		a.cache.put(a.o.Now(), account.ID, account.CredentialVersion, password)
	}
	a.o.Guard.Succeeded(at.Remote, mailbox)
	address, err := mailaddr.New(account.Name, settings.Domain)
	if err != nil {
		return Identity{}, fmt.Errorf("auth: address of account %d: %w", account.ID, err)
	}
	id := Identity{Account: account.ID, Name: account.Name, Address: address, CredentialVersion: account.CredentialVersion}
	if account.Suspended {
		return id, ErrSuspended
	}
	return id, nil
}

// find looks an account up. known is false if there is none; name is then what failures are counted under, so that nothing in the
// counting tells a name that exists from one that does not.
func (a *Authenticator) find(ctx context.Context, username, domain string) (name string, account store.Account, known bool, err error) {
	name, ok := mailboxName(username, domain)
	if !ok {
		return username[:min(len(username), MaxNameLen)], store.Account{}, false, nil
	}
	account, err = a.o.Accounts.AccountByName(ctx, name)
	if errors.Is(err, store.ErrNotFound) {
		return name, store.Account{}, false, nil
	}
	return name, account, err == nil, err
}

// verify runs one hash, whoever it is.
func (a *Authenticator) verify(ctx context.Context, remote netip.Addr, account store.Account, known bool, password string) (bool, error) {
	v, usable := a.decoy, false
	if known {
		parsed, err := parseVerifier(account.Verifier)
		if err != nil {
			a.o.Logger.Error("account has no usable password verifier", "account", account.Name, "err", err)
		} else {
			v, usable = parsed, true
		}
	}
	var right bool
	if err := a.hasher.run(ctx, guard.Prefix(remote), func() { right = v.matches(password) }); err != nil {
		return false, err
	}
	return right && usable && password != "", nil
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
// ErrSuspended while suspended.
func (a *Authenticator) Current(ctx context.Context, id Identity) error {
	account, err := a.o.Accounts.Account(ctx, id.Account)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return ErrCredentials
	case err != nil:
		return fmt.Errorf("auth: account: %w", err)
	case account.Suspended:
		return ErrSuspended
	case account.CredentialVersion != id.CredentialVersion:
		return ErrCredentials
	}
	return nil
}

// Hash makes the verifier of a new password. ErrPassword, or ErrBusy when too many logins wait.
func (a *Authenticator) Hash(ctx context.Context, password string) (store.Verifier, error) {
	if err := checkPassword(password); err != nil {
		return "", err
	}
	var v verifier
	if err := a.hasher.run(ctx, netip.Prefix{}, func() { v = newVerifier(password) }); err != nil {
		return "", err
	}
	return v.encode(), nil
}

// logResult writes the login event. The name as typed stays out of it: people type their password there.
func (a *Authenticator) logResult(at Attempt, id Identity, err error) {
	attrs := []any{"service", at.Service, "mechanism", at.Mechanism, "remote", at.Remote.String(), "tls", at.TLS, "account", id.Name}
	switch {
	case err == nil:
		a.o.Logger.Info("login", append(attrs, "result", "ok")...)
	case errors.Is(err, ErrCredentials), errors.Is(err, ErrSuspended), errors.Is(err, ErrThrottled), errors.Is(err, ErrCleartext),
		errors.Is(err, ErrBusy), errors.Is(err, context.Canceled):
		a.o.Logger.Info("login", append(attrs, "result", "refused", "err", err)...)
	default:
		a.o.Logger.Error("login", append(attrs, "result", "error", "err", err)...)
	}
}
