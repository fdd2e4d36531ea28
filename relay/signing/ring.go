package signing

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"latchkey/internal/dkim"
	"latchkey/store"
)

const (
	// secretName is where the store keeps the sealed list of keys.
	secretName = "dkim/keys"
	// MaxKeys bounds the keys of the domain, those that are over included.
	MaxKeys = 12
	// Settle is how long the record of a key that takes the place of another must have been seen before the key signs.
	Settle = time.Hour
	// Overlap is how long the record of a retired key stays published: longer than mail waits in a queue.
	Overlap = 7 * 24 * time.Hour
)

// Why a change is refused.
var (
	// ErrUnknown: there is no key of that selector.
	ErrUnknown = errors.New("signing: no such key")
	// ErrTooMany: there are MaxKeys.
	ErrTooMany = errors.New("signing: too many keys")
	// ErrState: the key is not in a state in which that can be done to it.
	ErrState = errors.New("signing: the key is in another state")
	// ErrUnseen: the key's record was not seen in the DNS.
	ErrUnseen = errors.New("signing: the record was not seen in the DNS")
	// ErrInUse: mail signed by the key may still be on its way.
	ErrInUse = errors.New("signing: the record is still needed")
	// ErrPending: there is a new key of that algorithm already.
	ErrPending = errors.New("signing: a new key waits already")
)

// State is where a key is in its life.
type State string

// The states.
const (
	New     State = "new"
	Signing State = "signing"
	Retired State = "retired"
)

// Key is what may be known of a key: not its private half.
type Key struct {
	Selector  string         `json:"selector"`
	Algorithm dkim.Algorithm `json:"algorithm"`
	State     State          `json:"state"`
	// Record is the text to publish at Name.
	Record string `json:"record"`
	// Created, Began and Retired are when the key entered its states; zero if it did not.
	Created time.Time `json:"created"`
	Began   time.Time `json:"began,omitzero"`
	Retired time.Time `json:"retired,omitzero"`
	// Looked is when the record was last looked for, Seen since when it has been there; zero if it was not at the last look. Finding says
	// what was found instead.
	Looked  time.Time `json:"looked,omitzero"`
	Seen    time.Time `json:"seen,omitzero"`
	Finding string    `json:"finding,omitempty"`
}

// Until is when the record of a retired key may go; zero for others.
func (k *Key) Until() time.Time {
	if k.State != Retired {
		return time.Time{}
	}
	return k.Retired.Add(Overlap)
}

// kept is a key as it is sealed. Private is PKCS #8, empty once the key is retired.
type kept struct {
	Key
	Private []byte `json:"private,omitempty"`
}

// Secrets is what a Ring needs of the store.
type Secrets interface {
	PutSecret(ctx context.Context, name string, blob []byte) error
	Secret(ctx context.Context, name string) ([]byte, error)
}

// Vault seals the keys.
type Vault interface {
	Seal(ctx context.Context, name string, plain []byte) ([]byte, error)
	Open(ctx context.Context, name string, box []byte) ([]byte, error)
}

// Ring is the domain's keys. Everything is durable when a method returns nil. It may be used from any goroutine; one process has one.
type Ring struct {
	store Secrets
	vault Vault
	now   func() time.Time

	changing sync.Mutex // lets one change at a time read, make and write; held over the store's work, by commands only

	mu sync.Mutex // protects what follows
	// box is the sealed list that ready was made of.
	box   []byte
	ready []dkim.Key
}

// NewRing returns the keys that a store has.
func NewRing(s Secrets, v Vault, now func() time.Time) *Ring {
	return &Ring{store: s, vault: v, now: now}
}

// Keys returns all keys, the oldest first.
func (r *Ring) Keys(ctx context.Context) ([]Key, error) {
	list, err := r.read(ctx)
	keys := make([]Key, len(list))
	for i := range list {
		keys[i] = list[i].Key
	}
	return keys, err
}

func (r *Ring) read(ctx context.Context) ([]kept, error) {
	box, err := r.store.Secret(ctx, secretName)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return r.open(ctx, box)
}

func (r *Ring) open(ctx context.Context, box []byte) ([]kept, error) {
	plain, err := r.vault.Open(ctx, secretName, box)
	if err != nil {
		return nil, err
	}
	var list []kept
	if err := json.Unmarshal(plain, &list); err != nil {
		return nil, errors.New("signing: the list of keys is damaged") // the cause might quote it
	}
	return list, nil
}

// change reads the keys, lets a function change them, and writes them.
func (r *Ring) change(ctx context.Context, edit func([]kept) ([]kept, error)) error {
	r.changing.Lock()
	defer r.changing.Unlock()
	list, err := r.read(ctx)
	if err != nil {
		return err
	}
	if list, err = edit(list); err != nil {
		return err
	}
	plain, err := json.Marshal(list)
	if err != nil {
		return errors.New("signing: the list of keys cannot be written")
	}
	box, err := r.vault.Seal(ctx, secretName, plain)
	if err != nil {
		return err
	}
	return r.store.PutSecret(ctx, secretName, box)
}

// signers returns the keys that sign, RSA first: not every verifier knows Ed25519. They are made anew only when the list has changed.
func (r *Ring) signers(ctx context.Context) ([]dkim.Key, error) {
	box, err := r.store.Secret(ctx, secretName)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	ready, same := r.ready, bytes.Equal(box, r.box)
	r.mu.Unlock()
	if same {
		return ready, nil
	}
	list, err := r.open(ctx, box)
	if err != nil {
		return nil, err
	}
	ready = nil
	for _, a := range []dkim.Algorithm{dkim.RSA, dkim.Ed25519} {
		for i := range list {
			if k := &list[i]; k.State == Signing && k.Algorithm == a {
				private, err := parse(k.Private)
				if err != nil {
					return nil, fmt.Errorf("signing: key %s: %w", k.Selector, err)
				}
				ready = append(ready, dkim.Key{Selector: k.Selector, Private: private})
			}
		}
	}
	r.mu.Lock()
	r.box, r.ready = box, ready
	r.mu.Unlock()
	return ready, nil
}

func parse(der []byte) (crypto.Signer, error) {
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, errors.New("the private half is damaged") // the cause might quote it
	}
	private, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("the private half does not sign")
	}
	return private, nil
}

// Add makes a New key. ErrPending if one of its algorithm is New already, ErrTooMany.
func (r *Ring) Add(ctx context.Context, a dkim.Algorithm) (Key, error) {
	private, err := dkim.Generate(a)
	if err != nil {
		return Key{}, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return Key{}, errors.New("signing: the private half cannot be written")
	}
	record, err := dkim.RecordOf(private.Public())
	if err != nil {
		return Key{}, err
	}
	k := kept{Key: Key{Algorithm: a, State: New, Record: record, Created: r.now()}, Private: der}
	err = r.change(ctx, func(list []kept) ([]kept, error) {
		if slices.ContainsFunc(list, func(o kept) bool { return o.State == New && o.Algorithm == a }) {
			return nil, ErrPending
		}
		if len(list) >= MaxKeys {
			return nil, ErrTooMany
		}
		k.Selector = selector(list, a, k.Created)
		return append(list, k), nil
	})
	return k.Key, err
}

// selector names a key by its kind and day: r20261128, and r20261128b for the second of that day. No selector is used twice while its
// record may be cached: a key that is removed leaves its name to another one of the same day only.
func selector(list []kept, a dkim.Algorithm, now time.Time) string {
	base := map[dkim.Algorithm]string{dkim.RSA: "r", dkim.Ed25519: "e"}[a] + now.UTC().Format("20060102")
	name := base
	for c := 'b'; find(list, name) >= 0; c++ {
		name = base + string(c)
	}
	return name
}

func find(list []kept, selector string) int {
	return slices.IndexFunc(list, func(k kept) bool { return k.Selector == selector })
}

// act changes one key. edit returns the list that is to be kept.
func (r *Ring) act(ctx context.Context, selector string, edit func(list []kept, i int) ([]kept, error)) error {
	return r.change(ctx, func(list []kept) ([]kept, error) {
		i := find(list, selector)
		if i < 0 {
			return nil, ErrUnknown
		}
		return edit(list, i)
	})
}

// Activate lets a New key sign, and retires the key of its algorithm that signed until now. ErrUnseen if its record was not there at the
// last look, unless force is set. ErrState if it is not New.
func (r *Ring) Activate(ctx context.Context, selector string, force bool) error {
	return r.act(ctx, selector, func(list []kept, i int) ([]kept, error) {
		switch {
		case list[i].State != New:
			return nil, ErrState
		case list[i].Seen.IsZero() && !force:
			return nil, ErrUnseen
		}
		r.begin(list, i)
		return list, nil
	})
}

// begin lets a key sign in the place of others of its algorithm.
func (r *Ring) begin(list []kept, i int) {
	for j := range list {
		if list[j].State == Signing && list[j].Algorithm == list[i].Algorithm {
			list[j].retire(r.now())
		}
	}
	list[i].State, list[i].Began = Signing, r.now()
}

func (k *kept) retire(now time.Time) {
	k.State, k.Retired, k.Private = Retired, now, nil
}

// Retire ends the use of a key: one that is Signing is Retired, and its private half forgotten. ErrState if it is not Signing, ErrInUse
// if no other key signs, unless force is set: mail leaves unsigned then.
func (r *Ring) Retire(ctx context.Context, selector string, force bool) error {
	return r.act(ctx, selector, func(list []kept, i int) ([]kept, error) {
		if list[i].State != Signing {
			return nil, ErrState
		}
		others := slices.ContainsFunc(list, func(k kept) bool { return k.State == Signing && k.Selector != selector })
		if !others && !force {
			return nil, ErrInUse
		}
		list[i].retire(r.now())
		return list, nil
	})
}

// Remove forgets a key. ErrState if it is Signing, ErrInUse if it is Retired and its record still needed, unless force is set.
func (r *Ring) Remove(ctx context.Context, selector string, force bool) error {
	return r.act(ctx, selector, func(list []kept, i int) ([]kept, error) {
		switch k := &list[i]; {
		case k.State == Signing:
			return nil, ErrState
		case k.State == Retired && r.now().Before(k.Until()) && !force:
			return nil, ErrInUse
		}
		return slices.Delete(list, i, i+1), nil
	})
}
