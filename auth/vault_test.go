package auth

import (
	"bytes"
	"errors"
	"testing"

	"latchkey/store/memstore"
)

// TestVault: a box opens under its own name, purpose and instance key, and shows nothing of what is in it.
func TestVault(t *testing.T) {
	st := memstore.New("example.org")
	ctx, secret := t.Context(), []byte("a private key")
	v := NewVault(st, "tests")
	box, err := v.Seal(ctx, "one", secret)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(box, secret) {
		t.Error("the box shows its content")
	}
	damaged := bytes.Clone(box)
	damaged[len(damaged)-1] ^= 1
	for _, tt := range []struct {
		name  string
		vault *Vault
		under string
		box   []byte
		opens bool
	}{
		{"the same vault", v, "one", box, true},
		{"another vault of the same purpose", NewVault(st, "tests"), "one", box, true},
		{"another name", v, "two", box, false},
		{"another purpose", NewVault(st, "others"), "one", box, false},
		{"another store", NewVault(memstore.New("example.org"), "tests"), "one", box, false},
		{"a damaged box", v, "one", damaged, false},
		{"no box", v, "one", nil, false},
	} {
		plain, err := tt.vault.Open(ctx, tt.under, tt.box)
		if (err == nil) != tt.opens || tt.opens && !bytes.Equal(plain, secret) || !tt.opens && !errors.Is(err, ErrVault) {
			t.Errorf("%s: %q, %v", tt.name, plain, err)
		}
	}
}
