package auth

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"latchkey/store"
	"latchkey/store/memstore"
)

// sealingStore keeps sealed passwords beside a store in memory, by the store's rules.
type sealingStore struct {
	*memstore.Store

	mu    sync.Mutex // protects the fields below
	kept  map[store.AccountID]kept
	fails error // what SealPassword answers
	calls int   // of SealPassword
}

// kept is a sealed password, and the verifier of the account then.
type kept struct {
	sealed   store.Sealed
	verifier store.Verifier
}

func (s *sealingStore) SealPassword(ctx context.Context, id store.AccountID, version uint64, sealed store.Sealed) error {
	a, err := s.Store.Account(ctx, id)
	if err != nil {
		return err
	}
	on, err := s.on(ctx, a)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	switch {
	case s.fails != nil:
		return s.fails
	case !on || version != a.CredentialVersion:
		return store.ErrConflict
	}
	s.kept[id] = kept{sealed, a.Verifier}
	return nil
}

func (s *sealingStore) on(ctx context.Context, a store.Account) (bool, error) {
	settings, err := s.Settings(ctx)
	return a.OldClientLogin || settings.OldClientLogin, err
}

// with adds what is sealed, or forgets it.
func (s *sealingStore) with(ctx context.Context, a store.Account, err error) (store.Account, error) {
	if err != nil {
		return a, err
	}
	on, err := s.on(ctx, a)
	if err != nil {
		return a, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !on || s.kept[a.ID].verifier != a.Verifier {
		delete(s.kept, a.ID)
	}
	a.Sealed = s.kept[a.ID].sealed
	return a, nil
}

func (s *sealingStore) Account(ctx context.Context, id store.AccountID) (store.Account, error) {
	a, err := s.Store.Account(ctx, id)
	return s.with(ctx, a, err)
}

func (s *sealingStore) AccountByName(ctx context.Context, name string) (store.Account, error) {
	a, err := s.Store.AccountByName(ctx, name)
	return s.with(ctx, a, err)
}

// asked returns how often something was to be sealed since it was last asked.
func (s *sealingStore) asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.calls
	s.calls = 0
	return n
}

func (s *sealingStore) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fails = err
}

// settings changes the domain's settings.
func (f *fixture) settings(change func(s *store.Settings)) {
	f.t.Helper()
	s, err := f.store.Settings(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	change(&s)
	if _, err := f.store.UpdateSettings(f.t.Context(), s); err != nil {
		f.t.Fatal(err)
	}
}

// seal opens alice to challenge logins and logs in as her once.
func (f *fixture) seal() {
	f.t.Helper()
	f.update(func(a *store.Account) { a.OldClientLogin = true })
	f.try(over(office), "alice", "open sesame", nil)
	f.sealed("alice", "open sesame")
}

// sealed checks what is sealed for an account; "" is nothing.
func (f *fixture) sealed(name, want string) {
	f.t.Helper()
	a, err := f.sealing.AccountByName(f.t.Context(), name)
	if err != nil {
		f.t.Fatal(err)
	}
	key, err := f.sealer.key(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	got, ok := openSealed(key, a)
	if ok != (want != "") || got != want {
		f.t.Errorf("%s: sealed is %q (%v), want %q", name, got, ok, want)
	}
}

// TestSealed: a box opens with its key, for its account and verifier, and in no other way.
func TestSealed(t *testing.T) {
	key, other := bytes.Repeat([]byte{1}, instanceKeyLen), bytes.Repeat([]byte{2}, instanceKeyLen)
	a := store.Account{ID: 7, Verifier: "$argon2id$one", CredentialVersion: 1}
	for _, password := range []string{"x", "open sesame", "\xff\x80", strings.Repeat("x", MaxPasswordLen)} {
		var err error
		if a.Sealed, err = sealPassword(key, a, password); err != nil {
			t.Fatal(err)
		}
		if got, ok := openSealed(key, a); !ok || got != password {
			t.Errorf("got %q %v, want %q", got, ok, password)
		}
		if len(a.Sealed) > maxSealedLen || string(a.Sealed[:1]) != sealVersion {
			t.Errorf("a password of %d octets is sealed in %d, beginning with %q", len(password), len(a.Sealed), string(a.Sealed[:1]))
		}
		if again, err := sealPassword(key, a, password); err != nil || again == a.Sealed {
			t.Errorf("sealed twice alike (%v)", err)
		}
	}
	a.Sealed, _ = sealPassword(key, a, "open sesame")
	same := a
	same.CredentialVersion, same.Suspended, same.Name = 2, true, "renamed"
	if _, ok := openSealed(key, same); !ok {
		t.Error("a suspension or another name spoils what is sealed")
	}
	if _, ok := openSealed(other, a); ok {
		t.Error("opens with another key")
	}
	for i, change := range []func(b *store.Account){
		func(b *store.Account) { b.ID++ }, func(b *store.Account) { b.Verifier = "$argon2id$two" }, func(b *store.Account) { b.Sealed = "" },
		func(b *store.Account) { b.Sealed = sealVersion }, func(b *store.Account) { b.Sealed = "2" + b.Sealed[1:] },
		func(b *store.Account) { b.Sealed += "A" }, func(b *store.Account) { b.Sealed = b.Sealed[:len(b.Sealed)-4] },
		func(b *store.Account) { b.Sealed = store.Sealed(strings.Repeat(sealVersion, maxSealedLen+1)) },
	} {
		b := a
		change(&b)
		if _, ok := openSealed(key, b); ok {
			t.Errorf("change %d: opens", i)
		}
	}
	for i := range len(a.Sealed) {
		b := a
		flipped := []byte(a.Sealed)
		flipped[i] ^= 1
		b.Sealed = store.Sealed(flipped)
		if _, ok := openSealed(key, b); ok {
			t.Errorf("octet %d changed: opens", i)
		}
	}
}

// TestPasswordIsSealedAtLogin: only for accounts that may log in by challenge, only the right one, and only if there is need.
func TestPasswordIsSealedAtLogin(t *testing.T) {
	f := newFixture(t)
	f.add("bob", "bob's own")
	f.try(over(office), "alice", "open sesame", nil)
	if n := f.sealing.asked(); n != 0 {
		t.Errorf("switched off: sealed %d times", n)
	}
	f.sealed("alice", "")
	f.update(func(a *store.Account) { a.OldClientLogin = true })
	f.try(over(office), "alice", "wrong", ErrCredentials)
	f.sealed("alice", "")
	f.ran()
	f.try(over(office), "alice", "open sesame", nil) // the verifier's cache answers
	if n := f.ran(); n != 0 {
		t.Errorf("%d hashes, want 0", n)
	}
	f.sealed("alice", "open sesame")
	f.try(over(office), "alice", "open sesame", nil)
	f.try(over(office), "bob", "bob's own", nil)
	f.sealed("bob", "")
	if n := f.sealing.asked(); n != 1 {
		t.Errorf("sealed %d times, want once", n)
	}
	f.settings(func(s *store.Settings) { s.OldClientLogin = true })
	f.update(func(a *store.Account) { a.OldClientLogin = false })
	f.try(over(office), "bob", "bob's own", nil)
	f.sealed("bob", "bob's own")
	f.sealed("alice", "open sesame")
}

// TestChangedPasswordIsSealedAnew, and a suspended account's is not sealed.
func TestChangedPasswordIsSealedAnew(t *testing.T) {
	f := newFixture(t)
	f.seal()
	v, err := f.Hash(t.Context(), "new")
	if err != nil {
		t.Fatal(err)
	}
	f.update(func(a *store.Account) { a.Verifier, a.Suspended = v, true })
	f.sealed("alice", "")
	f.try(over(office), "alice", "new", ErrSuspended)
	f.sealed("alice", "")
	f.update(func(a *store.Account) { a.Suspended = false })
	f.try(over(office), "alice", "new", nil)
	f.sealed("alice", "new")
}

// TestUnusableIsSealedAnew: another instance key, a box that was tampered with, or one of another password.
func TestUnusableIsSealedAnew(t *testing.T) {
	f := newFixture(t)
	f.seal()
	other := f.alice
	other.ID++
	for i, spoil := range []func(key []byte, k *kept){
		func(key []byte, k *kept) { must(t, f.store.RemoveSecret(t.Context(), instanceKeyName)) },
		func(key []byte, k *kept) { k.sealed = k.sealed[:len(k.sealed)-1] },
		func(key []byte, k *kept) { k.sealed, _ = sealPassword(key, other, "open sesame") },
		func(key []byte, k *kept) { k.sealed, _ = sealPassword(key, f.alice, "another") },
	} {
		key, err := f.sealer.key(t.Context())
		must(t, err)
		k := f.sealing.kept[f.alice.ID]
		spoil(key, &k)
		f.sealing.kept[f.alice.ID] = k
		f.sealing.asked()
		f.try(over(office), "alice", "open sesame", nil)
		f.sealed("alice", "open sesame")
		if n := f.sealing.asked(); n != 1 {
			t.Errorf("case %d: sealed %d times, want once", i, n)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestSealingFails: the login succeeds, the log says so without the password, and the store is not asked at each login.
func TestSealingFails(t *testing.T) {
	f := newFixture(t)
	f.update(func(a *store.Account) { a.OldClientLogin = true })
	full := errors.New("no room")
	f.sealing.fail(full)
	f.try(over(office), "alice", "open sesame", nil)
	if !strings.Contains(f.log.String(), `level=ERROR msg="password not sealed for challenge logins" account=alice err="no room"`) {
		t.Errorf("the log has %s", f.log)
	}
	f.clock = f.clock.Add(sealPause - 1)
	f.try(over(office), "alice", "open sesame", nil)
	if n := f.sealing.asked(); n != 1 {
		t.Errorf("asked %d times within the pause, want once", n)
	}
	f.clock = f.clock.Add(1)
	f.try(over(office), "alice", "open sesame", nil)
	if n := f.sealing.asked(); n != 1 {
		t.Errorf("asked %d times after the pause, want once", n)
	}
	f.sealing.fail(nil)
	f.clock = f.clock.Add(sealPause)
	f.try(over(office), "alice", "open sesame", nil)
	f.sealed("alice", "open sesame")
	if strings.Contains(f.log.String(), "sesame") {
		t.Error("the log has the password")
	}
}

// TestSealingIsRefused: a store that says no because the account changed meanwhile is no trouble; the next login seals.
func TestSealingIsRefused(t *testing.T) {
	for _, no := range []error{store.ErrConflict, store.ErrNotFound} {
		f := newFixture(t)
		f.update(func(a *store.Account) { a.OldClientLogin = true })
		f.sealing.fail(no)
		f.try(over(office), "alice", "open sesame", nil)
		f.sealing.fail(nil)
		f.try(over(office), "alice", "open sesame", nil)
		f.sealed("alice", "open sesame")
		if strings.Contains(f.log.String(), "not sealed") {
			t.Errorf("%v: the log has %s", no, f.log)
		}
	}
}

// TestSealingAtOnce: forty sessions of one client seal once, and what is sealed at once is bounded.
func TestSealingAtOnce(t *testing.T) {
	f := newFixture(t)
	s := f.sealer
	for id := range store.AccountID(maxSealing) {
		if !s.begin(f.clock, id+1) {
			t.Fatalf("account %d of %d has to wait", id+1, maxSealing)
		}
	}
	if s.begin(f.clock, 1) || s.begin(f.clock, maxSealing+1) {
		t.Error("the same account twice, or one too many")
	}
	s.end(f.clock, 2, false)
	if s.begin(f.clock, 1) {
		t.Error("the same account twice, with room left")
	}
	if !s.begin(f.clock, maxSealing+1) {
		t.Error("a place that was given back is lost")
	}
}

// twins is a store in which two processes look for the key before either has stored one.
type twins struct {
	*sealingStore
	both *sync.WaitGroup
	once sync.Once
}

func (s *twins) PutSecret(ctx context.Context, name string, blob []byte) error {
	s.once.Do(s.both.Done)
	s.both.Wait()
	return s.sealingStore.PutSecret(ctx, name, blob)
}

// TestInstanceKey: goroutines and processes that make it at the same moment end with one.
func TestInstanceKey(t *testing.T) {
	f := newFixture(t)
	var both sync.WaitGroup
	both.Add(2)
	logger := slog.New(slog.DiscardHandler)
	sealers := []*sealer{
		newSealer(&twins{sealingStore: f.sealing, both: &both}, logger), newSealer(&twins{sealingStore: f.sealing, both: &both}, logger),
	}
	var work sync.WaitGroup
	for _, s := range sealers {
		for range 8 {
			work.Go(func() {
				if _, err := s.key(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
	}
	work.Wait()
	one, err := sealers[0].key(t.Context())
	must(t, err)
	two, err := sealers[1].key(t.Context())
	must(t, err)
	stored, err := f.store.Secret(t.Context(), instanceKeyName)
	must(t, err)
	if !bytes.Equal(one, two) || !bytes.Equal(one, stored) || len(one) != instanceKeyLen || bytes.Equal(one, make([]byte, instanceKeyLen)) {
		t.Errorf("keys of %d and %d octets", len(one), len(two))
	}
	must(t, f.store.PutSecret(t.Context(), instanceKeyName, one[1:]))
	if _, err := sealers[0].key(t.Context()); !errors.Is(err, errInstanceKey) {
		t.Errorf("damaged: got %v", err)
	}
	if _, err := newSealer(nil, logger).key(t.Context()); !errors.Is(err, errNoSealing) {
		t.Errorf("no store: got %v", err)
	}
}

// overtaken is a store in which another process's key comes right behind ours.
type overtaken struct {
	*sealingStore
	other []byte
}

func (s *overtaken) PutSecret(ctx context.Context, name string, blob []byte) error {
	if err := s.sealingStore.PutSecret(ctx, name, blob); err != nil {
		return err
	}
	return s.sealingStore.PutSecret(ctx, name, s.other)
}

// TestOvertakenKey: nobody seals with a key that is not the store's.
func TestOvertakenKey(t *testing.T) {
	f := newFixture(t)
	other := bytes.Repeat([]byte{7}, instanceKeyLen)
	key, err := newSealer(&overtaken{f.sealing, other}, slog.New(slog.DiscardHandler)).key(t.Context())
	if err != nil || !bytes.Equal(key, other) {
		t.Errorf("got our own key (%v)", err)
	}
}

// crowded is a store whose first two readers of a secret find none.
type crowded struct {
	*sealingStore
	first, second sync.Once
	both          sync.WaitGroup

	mu   sync.Mutex // protects puts
	puts int
}

func (s *crowded) Secret(ctx context.Context, name string) ([]byte, error) {
	blob, err := s.sealingStore.Secret(ctx, name)
	early := false
	for _, place := range []*sync.Once{&s.first, &s.second} {
		if !early {
			place.Do(func() { early = true })
		}
	}
	if early {
		s.both.Done()
		s.both.Wait()
	}
	return blob, err
}

func (s *crowded) PutSecret(ctx context.Context, name string, blob []byte) error {
	s.mu.Lock()
	s.puts++
	s.mu.Unlock()
	return s.sealingStore.PutSecret(ctx, name, blob)
}

// TestGoroutinesMakeOneKey: two that find none write one.
func TestGoroutinesMakeOneKey(t *testing.T) {
	f := newFixture(t)
	c := &crowded{sealingStore: f.sealing}
	c.both.Add(2)
	s := newSealer(c, slog.New(slog.DiscardHandler))
	var keys [2][]byte
	var work sync.WaitGroup
	for i := range keys {
		work.Go(func() {
			var err error
			if keys[i], err = s.key(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	work.Wait()
	if c.puts != 1 || !bytes.Equal(keys[0], keys[1]) {
		t.Errorf("%d keys were written, and both have the same: %v", c.puts, bytes.Equal(keys[0], keys[1]))
	}
}
