package auth

import (
	"context"
	"errors"
	"fmt"

	"latchkey/store"
)

// nobodysPasskey is what failures are counted under where a passkey is nobody's. No mailbox has the name.
const nobodysPasskey = "?"

// Passkey says who an account is whose passkey somebody shows; 0 is nobody's. right is called at most once, in its turn, and says whether the proof is:
// an error of it is none of whoever shows it, and is returned. Wrong proofs are counted with wrong passwords, and wait and are banned as they are. The
// errors are those of a Login, but ErrExposed: what became of the password is no matter of a passkey, so that its owner can change it.
func (a *Authenticator) Passkey(ctx context.Context, at Attempt, account store.AccountID, right func() (bool, error)) (Identity, error) {
	at.Mechanism = "PASSKEY"
	id, err := a.passkey(ctx, at, account, right)
	a.logResult(at, id, err)
	if err != nil {
		return Identity{}, err
	}
	return id, nil
}

// passkey returns with an error what is known of the identity, for the log.
func (a *Authenticator) passkey(ctx context.Context, at Attempt, id store.AccountID, right func() (bool, error)) (Identity, error) {
	settings, err := a.o.Settings.Settings(ctx)
	if err != nil {
		return Identity{}, fmt.Errorf("auth: settings: %w", err)
	}
	who := claimant{mailbox: nobodysPasskey}
	if id != 0 {
		account, err := a.o.Accounts.Account(ctx, id)
		switch {
		case err == nil:
			who = claimant{account.Name, account, true}
		case !errors.Is(err, store.ErrNotFound):
			return Identity{}, fmt.Errorf("auth: account: %w", err)
		}
	}
	if err := a.look(ctx, at, who, func() (bool, error) {
		ok, err := right()
		return ok && who.known, err
	}); err != nil {
		return who.identity(), err
	}
	return a.admit(settings, who)
}
