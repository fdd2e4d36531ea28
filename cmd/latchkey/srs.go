package main

import (
	"context"
	"crypto/rand"
	"errors"

	"latchkey/internal/srs"
	"latchkey/store"
)

// srsKey names the key of the reverse-paths of mail that is sent on, among the secrets.
const srsKey = "srs/key"

// rewriter makes the reverse-paths of mail that is sent on, by a key that is made at the first start. Without it, what is under way would find no
// way back.
func rewriter(ctx context.Context, st store.Store, domain string) (*srs.Rewriter, error) {
	key, err := st.Secret(ctx, srsKey)
	if errors.Is(err, store.ErrNotFound) {
		key = make([]byte, srs.KeySize)
		_, _ = rand.Read(key) // never fails
		err = st.PutSecret(ctx, srsKey, key)
	}
	if err != nil {
		return nil, err
	}
	return srs.New(key, domain)
}
