package auth

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"latchkey/store"
)

const (
	// instanceKeyName is where the store keeps the key that everything here is derived from, instanceKeyLen its size in octets.
	instanceKeyName = "auth/instance-key"
	instanceKeyLen  = 32
	// sealVersion is the first octet of a sealed password. What follows is base64 of nonce, ciphertext and tag of AES-256-GCM.
	sealVersion = "1"
	// maxSealedLen is longer than the longest sealed password.
	maxSealedLen = 1536
	// maxSealing bounds the passwords that are being sealed at once; those of others wait for their next login.
	maxSealing = 64
	// sealPause is how long nothing is sealed after the store could not keep a sealed password: a full disk is not asked at every login.
	sealPause = time.Minute
	// What the derived keys are for.
	sealPurpose = "latchkey: sealed passwords"
	saltPurpose = "latchkey: salts of SCRAM"
)

// errNoSealing: challenge logins without a place for sealed passwords; whoever built the Authenticator forgot it.
var errNoSealing = errors.New("auth: no store for sealed passwords")

// errInstanceKey: what the store has as the instance key is none.
var errInstanceKey = errors.New("auth: the stored instance key is damaged")

// Sealing keeps passwords for challenge logins, and the key that they are sealed with. A store has it.
type Sealing interface {
	// Secret and PutSecret are those of [store.Secrets].
	Secret(ctx context.Context, name string) ([]byte, error)
	PutSecret(ctx context.Context, name string, blob []byte) error
	// SealPassword sets the account's Sealed. store.ErrConflict if credentialVersion is not the account's or old-client login is off for it,
	// store.ErrNotFound if there is no such account.
	SealPassword(ctx context.Context, id store.AccountID, credentialVersion uint64, sealed store.Sealed) error
}

// sealer seals passwords at logins, and opens them for challenges.
type sealer struct {
	store Sealing // nil: nothing is sealed
	log   *slog.Logger

	making sync.Mutex // lets one goroutine at a time make the instance key

	mu     sync.Mutex // protects the fields below
	busy   map[store.AccountID]struct{}
	paused time.Time // nothing is sealed before
}

func newSealer(s Sealing, log *slog.Logger) *sealer {
	return &sealer{store: s, log: log, busy: map[store.AccountID]struct{}{}}
}

// key returns the instance key, and makes it if there is none. It is read anew each time: should two processes make one at the same
// moment, the store's last word is the key of both, and what was sealed with the other counts as not sealed.
func (s *sealer) key(ctx context.Context) ([]byte, error) {
	if s.store == nil {
		return nil, errNoSealing
	}
	key, err := s.store.Secret(ctx, instanceKeyName)
	if errors.Is(err, store.ErrNotFound) {
		key, err = s.makeKey(ctx)
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("auth: instance key: %w", err)
	case len(key) != instanceKeyLen:
		return nil, errInstanceKey
	}
	return key, nil
}

// makeKey stores a key if there still is none. The lock is held over the store's work, once in the life of a store.
func (s *sealer) makeKey(ctx context.Context) ([]byte, error) {
	s.making.Lock()
	defer s.making.Unlock()
	key, err := s.store.Secret(ctx, instanceKeyName)
	if !errors.Is(err, store.ErrNotFound) {
		return key, err
	}
	key = make([]byte, instanceKeyLen)
	_, _ = rand.Read(key) // never fails: crypto/rand ends the process instead
	if err := s.store.PutSecret(ctx, instanceKeyName, key); err != nil {
		return nil, err
	}
	return s.store.Secret(ctx, instanceKeyName)
}

// mayChallenge reports whether challenge logins may use the account.
func mayChallenge(settings store.Settings, a store.Account) bool {
	return a.OldClientLogin || settings.OldClientLogin
}

// keep seals the password of an account that has just logged in with it, if challenge logins may use the account and nothing usable is
// sealed. It is none of the login's business whether that works: what goes wrong is for the log.
func (s *sealer) keep(ctx context.Context, now time.Time, a store.Account, password string) {
	if s.store == nil || !s.begin(now, a.ID) {
		return
	}
	err := s.seal(ctx, a, password)
	failed := err != nil && !errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrNotFound) && ctx.Err() == nil
	s.end(now, a.ID, failed)
	if failed {
		s.log.Error("password not sealed for challenge logins", "account", a.Name, "err", err)
	}
}

// begin reports whether the account's password may be sealed now, and if so that it is being done.
func (s *sealer) begin(now time.Time, id store.AccountID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, busy := s.busy[id]; busy || len(s.busy) >= maxSealing || now.Before(s.paused) {
		return false
	}
	s.busy[id] = struct{}{}
	return true
}

func (s *sealer) end(now time.Time, id store.AccountID, failed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.busy, id)
	if failed {
		s.paused = now.Add(sealPause)
	}
}

func (s *sealer) seal(ctx context.Context, a store.Account, password string) error {
	key, err := s.key(ctx)
	if err != nil {
		return err
	}
	if kept, ok := openSealed(key, a); ok && subtle.ConstantTimeCompare([]byte(kept), []byte(password)) == 1 {
		return nil
	}
	sealed, err := sealPassword(key, a, password)
	if err != nil {
		return err
	}
	return s.store.SealPassword(ctx, a.ID, a.CredentialVersion, sealed)
}

// sealPassword encrypts the password of an account for the account as it is.
func sealPassword(key []byte, a store.Account, password string) (store.Sealed, error) {
	aead, err := sealingCipher(key)
	if err != nil {
		return "", err
	}
	box := aead.Seal(nil, nil, []byte(password), sealedFor(a))
	return store.Sealed(sealVersion + base64.RawStdEncoding.Strict().EncodeToString(box)), nil
}

// openSealed returns the account's sealed password. ok is false if there is none, or one of another key, account or verifier.
func openSealed(key []byte, a store.Account) (password string, ok bool) {
	if len(a.Sealed) > maxSealedLen || len(a.Sealed) < len(sealVersion) || string(a.Sealed[:len(sealVersion)]) != sealVersion {
		return "", false
	}
	box, err := base64.RawStdEncoding.Strict().DecodeString(string(a.Sealed[len(sealVersion):]))
	if err != nil {
		return "", false
	}
	aead, err := sealingCipher(key)
	if err != nil {
		return "", false
	}
	plain, err := aead.Open(nil, nil, box, sealedFor(a))
	return string(plain), err == nil
}

// sealingCipher is AES-256-GCM with a random nonce in front of each box.
func sealingCipher(key []byte) (cipher.AEAD, error) {
	derived, err := hkdf.Expand(sha256.New, key, sealPurpose, instanceKeyLen)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// sealedFor is what a box is bound to: the account and the verifier of the password in it, whose salt no second password has. The
// credential version would not do: it is raised by a suspension too, which changes no password.
func sealedFor(a store.Account) []byte {
	return append(binary.BigEndian.AppendUint64([]byte(sealVersion), uint64(a.ID)), a.Verifier...)
}
