package auth

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
)

// ErrVault: a box was sealed under another key or another name, or is damaged.
var ErrVault = errors.New("auth: the sealed box does not open")

// Vault seals what other rooms keep in the store under the instance key, by AES-256-GCM and a key of its own purpose. It may be used from
// any goroutine.
type Vault struct {
	sealer  *sealer
	purpose string
}

// NewVault returns one. The purpose separates its boxes from those of every other vault; the store keeps the instance key.
func NewVault(s Sealing, purpose string) *Vault {
	return &Vault{sealer: newSealer(s, slog.New(slog.DiscardHandler)), purpose: purpose}
}

// Seal encrypts octets; the box opens under the same name only. The first box of a store makes its instance key.
func (v *Vault) Seal(ctx context.Context, name string, plain []byte) ([]byte, error) {
	aead, err := v.cipher(ctx)
	if err != nil {
		return nil, err
	}
	return aead.Seal(nil, nil, plain, []byte(name)), nil
}

// Open decrypts a box. The error wraps ErrVault if it is not one that Seal made under this name.
func (v *Vault) Open(ctx context.Context, name string, box []byte) ([]byte, error) {
	aead, err := v.cipher(ctx)
	if err != nil {
		return nil, err
	}
	plain, err := aead.Open(nil, nil, box, []byte(name))
	if err != nil {
		return nil, fmt.Errorf("%w: %s", ErrVault, name)
	}
	return plain, nil
}

func (v *Vault) cipher(ctx context.Context) (cipher.AEAD, error) {
	key, err := v.sealer.key(ctx)
	if err != nil {
		return nil, err
	}
	derived, err := hkdf.Expand(sha256.New, key, "latchkey: vault: "+v.purpose, instanceKeyLen)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}
