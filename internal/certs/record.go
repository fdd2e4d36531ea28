package certs

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Box keeps the octets of one certificate with its key, sealed. Put replaces them as a whole: a crash leaves what was there before or what is
// new.
type Box interface {
	// Get returns nil for an empty box, and an error that wraps ErrDamaged for one that nobody can open any more.
	Get(ctx context.Context) ([]byte, error)
	// Put empties the box where content is nil.
	Put(ctx context.Context, content []byte) error
}

// ErrDamaged: what a box holds cannot be used, and never will be.
var ErrDamaged = errors.New("certs: what was kept is damaged")

// KeyKind is the kind of a certificate's key.
type KeyKind string

// The kinds. RSA is for programs that know nothing else.
const (
	ECDSA KeyKind = "ecdsa"
	RSA   KeyKind = "rsa"
)

const (
	// rsaBits is the size of a key of RSA.
	rsaBits = 2048
	// maxChain bounds a chain in octets, so that it fits into a secret of the store.
	maxChain = 32 << 10
)

// record is what is kept.
type record struct {
	// Key is the private key (PKCS #8), Chain the certificate and those above it (DER); no Chain before the first was issued.
	Key   []byte   `json:"key"`
	Chain [][]byte `json:"chain,omitempty"`
	// Failures counts the attempts since the last one that succeeded, Tried is when the last one began, Retry when the next may begin. Asked is set
	// if it was the CA that said so.
	Failures int       `json:"failures,omitempty"`
	Tried    time.Time `json:"tried,omitzero"`
	Retry    time.Time `json:"retry,omitzero"`
	Asked    bool      `json:"asked,omitempty"`
	// Fault is why the last attempt failed.
	Fault string `json:"fault,omitempty"`
}

// load reads a box; if it is empty, a key is made and kept before anything else. fresh is set then.
func load(ctx context.Context, box Box, kind KeyKind) (r record, key crypto.Signer, fresh bool, err error) {
	text, err := box.Get(ctx)
	switch {
	case err != nil:
		return r, nil, false, err
	case text != nil:
		if err := json.Unmarshal(text, &r); err != nil {
			return r, nil, false, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		if key, err = r.signer(); err != nil {
			return r, nil, false, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		return r, key, false, nil
	}
	if key, err = newKey(kind); err != nil {
		return r, nil, false, err
	}
	if r.Key, err = x509.MarshalPKCS8PrivateKey(key); err != nil {
		return r, nil, false, err
	}
	return r, key, true, r.save(ctx, box)
}

func newKey(kind KeyKind) (crypto.Signer, error) {
	if kind == RSA {
		return rsa.GenerateKey(rand.Reader, rsaBits)
	}
	return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
}

func (r *record) signer() (crypto.Signer, error) {
	key, err := x509.ParsePKCS8PrivateKey(r.Key)
	if err != nil {
		return nil, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("certs: not a key that signs")
	}
	return signer, nil
}

func (r *record) save(ctx context.Context, box Box) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return box.Put(ctx, text)
}

// pair makes a chain and its key usable. The error says why the chain is not one for the key and the first of some names.
func pair(chain [][]byte, key crypto.Signer, name string) (*tls.Certificate, error) {
	if len(chain) == 0 {
		return nil, errors.New("certs: an empty chain")
	}
	if size := len(bytes.Join(chain, nil)); size > maxChain {
		return nil, fmt.Errorf("certs: a chain of %d octets, of which at most %d are kept", size, maxChain)
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return nil, err
	}
	public, ok := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(key.Public()) {
		return nil, errors.New("certs: the certificate is for another key")
	}
	if err := leaf.VerifyHostname(name); err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: chain, PrivateKey: key, Leaf: leaf}, nil
}

// missing are those of some names that a certificate is not for.
func missing(leaf *x509.Certificate, names []string) (list []string) {
	for _, name := range names {
		if leaf.VerifyHostname(name) != nil {
			list = append(list, name)
		}
	}
	return list
}

// Digest is the SHA-256 of a public key in hex, as a TLSA record 3 1 1 has it (RFC 6698 §2.1).
func Digest(key crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:]), nil
}

// KeyDigest is the digest of the key in a box, which is made if there is none: a key that is used later can be announced.
func KeyDigest(ctx context.Context, box Box, kind KeyKind) (string, error) {
	_, key, _, err := load(ctx, box, kind)
	if err != nil {
		return "", err
	}
	return Digest(key.Public())
}
