package webmanager

import (
	"context"
	"errors"
	"fmt"
	"time"

	"latchkey/auth"
	"latchkey/guard"
	"latchkey/internal/passkey"
	"latchkey/store"
)

// signingIn is what a challenge is good for with which somebody signs in.
const signingIn = "sign in"

// ErrTooLate is what [API.SignInWithPasskey] returns for what it did not look at: the ticket is none, or too old, or the answer none of a browser's.
var ErrTooLate = errors.New("webmanager: no answer to a request for a passkey")

// AskForPasskey answers what a browser is to show a passkey with, whoever asks: nothing is kept of it.
func (a *API) AskForPasskey(ctx context.Context) (PasskeyOptions, error) {
	party, err := a.party(ctx)
	if err != nil {
		return PasskeyOptions{}, noPasskeys(err)
	}
	ticket := a.ceremonies.begin(a.now())
	challenge, _ := a.ceremonies.challenge(a.now(), ticket, signingIn) // it is new
	options, err := party.Request(challenge, CeremonyTime)
	return PasskeyOptions{Ticket: ticket, Options: options}, err
}

// SignInWithPasskey says who shows a passkey, by the answer of a browser to what a ticket came with. It stands for the password and a code. The errors are
// those of [auth.Authenticator.Passkey], and ErrTooLate; a passkey that was copied is auth.ErrCredentials, and its owner is told.
func (a *API) SignInWithPasskey(ctx context.Context, at auth.Attempt, ticket string, response []byte) (auth.Identity, error) {
	party, err := a.party(ctx)
	if err != nil {
		return auth.Identity{}, noPasskeys(err)
	}
	if a.prover == nil {
		return auth.Identity{}, errNoProver
	}
	challenge, ok := a.ceremonies.challenge(a.now(), ticket, signingIn)
	claim, err := passkey.Read(response)
	if !ok || err != nil {
		return auth.Identity{}, ErrTooLate
	}
	account, err := a.accountOf(ctx, claim.Handle())
	if err != nil {
		return auth.Identity{}, err
	}
	kept, err := a.passkeysOf(ctx, account)
	if err != nil {
		return auth.Identity{}, err
	}
	owner := passkey.Owner{Handle: kept.Handle}
	for _, one := range kept.Keys {
		owner.Keys = append(owner.Keys, one.Key)
	}
	var key passkey.Key
	var why error
	id, err := a.prover.Passkey(ctx, at, account, func() (bool, error) {
		if key, why = party.Proved(owner, challenge, claim); why == nil && !a.ceremonies.spend(a.now(), ticket) {
			why = fmt.Errorf("%w: the challenge was used before", passkey.ErrRefused)
		}
		if why == nil || errors.Is(why, passkey.ErrRefused) || errors.Is(why, passkey.ErrCopied) {
			return why == nil, nil
		}
		return false, why
	})
	if why != nil {
		a.log.Info("a passkey was refused", "account", uint64(account), "remote", at.Remote.String(), "err", why)
	}
	if errors.Is(why, passkey.ErrCopied) {
		a.copied(ctx, at, account, key)
	}
	if err != nil {
		return auth.Identity{}, err
	}
	return id, a.usedPasskey(ctx, at, id, key)
}

// usedPasskey notes that somebody signed in with a passkey, unless it was removed meanwhile.
func (a *API) usedPasskey(ctx context.Context, at auth.Attempt, id auth.Identity, key passkey.Key) error {
	a.passkeys.Lock()
	defer a.passkeys.Unlock()
	kept, err := a.passkeysOf(ctx, id.Account)
	if err != nil {
		return err
	}
	one := kept.find(key.ID)
	if one == nil || key.Count <= one.Key.Count && one.Key.Count != 0 { // removed, or shown at the same time elsewhere
		return auth.ErrCredentials
	}
	before := one.view()
	one.Key, one.Used = key, a.now().UTC().Truncate(time.Second)
	if err := a.putPasskeys(ctx, id.Account, kept); err != nil {
		return err
	}
	ctx = WithActor(ctx, Actor{Name: id.Name, Remote: at.Remote, Role: RoleMailbox, Account: id.Account})
	return a.audit(ctx, "passkey.sign-in", passkeyObject(store.Account{Name: id.Name}, *one), before, one.view())
}

// copied notes that somebody showed a passkey whose counter did not go on, and tells its owner.
func (a *API) copied(ctx context.Context, at auth.Attempt, id store.AccountID, key passkey.Key) {
	ctx = context.WithoutCancel(ctx)
	kept, err := a.passkeysOf(ctx, id)
	account, errAccount := a.store.Account(ctx, id)
	one := kept.find(key.ID)
	if err != nil || errAccount != nil || one == nil {
		a.log.Error("the owner of a copied passkey could not be told", "account", uint64(id), "err", errors.Join(err, errAccount))
		return
	}
	ctx = WithActor(ctx, Actor{Name: "a stranger", Remote: at.Remote})
	if err := a.audit(ctx, "passkey.copied", passkeyObject(account, *one), one.view(), one.view()); err != nil {
		return // audit said so
	}
	told := &Notices{Store: a.store, Now: a.now, Logger: a.log}
	told.Tell(ctx, guard.Notice{
		Account: id, Owner: true, Postmaster: true, Subject: "A passkey of {mailbox} may have been copied",
		Lines: []string{
			fmt.Sprintf("Somebody at %s tried to sign in to the pages of the mailbox {mailbox} with the passkey %q at %s, and was refused: the counter in "+
				"it is behind what was seen before, as with a copy.", at.Remote, plainText(one.Name), a.now().UTC().Format(time.RFC3339)),
			"Sign in with your password, remove this passkey from your page, and make a new one. If you cannot, ask whoever manages the domain.",
		},
	})
}
