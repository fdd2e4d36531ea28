package boltstore

import (
	"context"
	"fmt"

	"latchkey/store"
)

// unsealedAtOnce bounds the accounts that are held in memory while what is sealed is cleared.
const unsealedAtOnce = 100

// SealPassword implements store.Accounts.
func (s *Store) SealPassword(ctx context.Context, id store.AccountID, credentialVersion uint64, sealed store.Sealed) error {
	if err := store.CheckSealed(sealed); err != nil {
		return err
	}
	return s.write(ctx, func(t *txn) error {
		a, err := t.account(id)
		if err != nil {
			return err
		}
		settings, err := t.settings()
		if err != nil {
			return err
		}
		if a.CredentialVersion != credentialVersion || !a.MaySeal(settings) {
			return fmt.Errorf("account %d: %w", id, store.ErrConflict)
		}
		if a.Sealed == sealed {
			return nil
		}
		a.Sealed = sealed
		t.put(bAccounts, key8(uint64(id)), encodeAccount(&a))
		return nil
	})
}

// unsealOthers clears what is sealed of every account that may have nothing sealed under these settings.
func (t *txn) unsealOthers(settings store.Settings) {
	for from, more := uint64(0), true; more && t.err == nil; {
		var found []store.Account
		more = false
		t.scan(bAccounts, nil, key8(from), func(key, value []byte) bool {
			if len(found) == unsealedAtOnce {
				from, more = id8(key), true
				return false
			}
			a, err := decodeAccount(value)
			if t.fail(err); err == nil && a.Sealed != "" && !a.MaySeal(settings) {
				found = append(found, a)
			}
			return err == nil
		})
		for i := range found {
			found[i].Sealed = ""
			t.put(bAccounts, key8(uint64(found[i].ID)), encodeAccount(&found[i]))
		}
	}
}

// oldClients says what is wrong with an account's choices for old clients under these settings, and returns the account without that.
func oldClients(a store.Account, settings store.Settings) (mended store.Account, wrong []string) {
	if a.Sealed != "" && !a.MaySeal(settings) {
		a.Sealed = ""
		wrong = append(wrong, "its password is sealed, and old-client login is not allowed")
	}
	if _, err := store.ParseSelect(a.POP3.Select); err != nil {
		wrong = append(wrong, fmt.Sprintf("what its sessions list is %q", a.POP3.Select))
		a.POP3.Select = ""
	}
	return a, wrong
}
