package auth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"latchkey/guard"
	"latchkey/store"
	"latchkey/store/memstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	loopback = netip.MustParseAddr("127.0.0.1")
	office   = netip.MustParseAddr("198.51.100.7")
)

// atOnce are delays that are none, where the clock is a test's.
var atOnce = []time.Duration{0}

// plenty is a limit that nobody meets.
var plenty = store.Limit{N: 1 << 40, Window: time.Minute}

// over is an attempt over TLS.
func over(remote netip.Addr) Attempt {
	return Attempt{Service: "pop3", Mechanism: "USER", Remote: remote, TLS: true}
}

// cheap is for tests whose subject is not what a hash costs: that is TestCost's.
var cheap = Cost{Memory: 8, Time: 1}

// fixture is an Authenticator on a store with the mailbox alice, whose hashes are cheap.
type fixture struct {
	*Authenticator
	t       testing.TB
	store   *memstore.Store
	sealing *sealingStore
	log     *bytes.Buffer
	clock   time.Time
	hashes  atomic.Int64
	alice   store.Account
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	f := &fixture{t: t, store: memstore.New("example.com"), log: &bytes.Buffer{}, clock: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	f.sealing = &sealingStore{Store: f.store, kept: map[store.AccountID]kept{}}
	f.Authenticator = New(Options{
		Accounts: f.sealing, Settings: f.store, Guard: guard.NewLogins(guard.LoginLimits{Burst: plenty, Delays: atOnce}), Sealing: f.sealing,
		Logger: slog.New(slog.NewTextHandler(f.log, nil)), Now: func() time.Time { return f.clock }, Cost: cheap,
	})
	f.hasher.free = func() {}
	f.matches = func(v verifier, password string) bool {
		f.hashes.Add(1)
		return v.matches(password)
	}
	t.Cleanup(func() {
		f.hasher.stop()
		_ = f.store.Close()
	})
	f.alice = f.add("alice", "open sesame")
	return f
}

func (f *fixture) add(name, password string) store.Account {
	f.t.Helper()
	v, err := f.Hash(f.t.Context(), password)
	if err != nil {
		f.t.Fatal(err)
	}
	a, err := f.store.AddAccount(f.t.Context(), store.Account{Name: name, Verifier: v})
	if err != nil {
		f.t.Fatal(err)
	}
	return a
}

// update changes alice.
func (f *fixture) update(change func(a *store.Account)) {
	f.t.Helper()
	change(&f.alice)
	a, err := f.store.UpdateAccount(f.t.Context(), f.alice)
	if err != nil {
		f.t.Fatal(err)
	}
	f.alice = a
}

// ran returns how many hashes ran for logins since it was last asked.
func (f *fixture) ran() int { return int(f.hashes.Swap(0)) }

func (f *fixture) try(at Attempt, name, password string, want error) Identity {
	f.t.Helper()
	id, err := f.Login(f.t.Context(), at, name, password)
	if !errors.Is(err, want) || want == nil && err != nil {
		f.t.Errorf("%q with %q: got %v, want %v", name, password, err, want)
	}
	return id
}

func TestLogin(t *testing.T) {
	f := newFixture(t)
	id := f.try(over(office), "alice", "open sesame", nil)
	if id.Account != f.alice.ID || id.Name != "alice" || id.Address.String() != "alice@example.com" || id.CredentialVersion != 1 {
		t.Errorf("got %+v", id)
	}
	f.try(over(office), "alice", "open  sesame", ErrCredentials)
	f.try(over(office), "alice", "open sesame ", ErrCredentials)
	f.try(over(office), "alice", "", ErrCredentials)
	f.try(over(office), "bob", "open sesame", ErrCredentials)
	f.try(over(office), "", "", ErrCredentials)
	f.try(over(office), "alice", strings.Repeat("x", MaxPasswordLen+1), ErrCredentials)
}

// broken is a store that cannot answer.
type broken struct {
	store.Accounts
	store.SettingsStore
	accounts, settings error
}

func (b *broken) AccountByName(ctx context.Context, name string) (store.Account, error) {
	if b.accounts != nil {
		return store.Account{}, b.accounts
	}
	return b.Accounts.AccountByName(ctx, name)
}

func (b *broken) Account(ctx context.Context, id store.AccountID) (store.Account, error) {
	if b.accounts != nil {
		return store.Account{}, b.accounts
	}
	return b.Accounts.Account(ctx, id)
}

func (b *broken) Settings(ctx context.Context) (store.Settings, error) {
	if b.settings != nil {
		return store.Settings{}, b.settings
	}
	return b.SettingsStore.Settings(ctx)
}

// TestEmptyPassword: no login has one, not even if a verifier of the empty password came from elsewhere.
func TestEmptyPassword(t *testing.T) {
	f := newFixture(t)
	f.update(func(a *store.Account) { a.Verifier = newVerifier(cheap, "").encode() })
	f.ran()
	f.try(over(office), "alice", "", ErrCredentials)
	if n := f.ran(); n != 1 {
		t.Errorf("%d hashes, want 1: it costs what every wrong password costs", n)
	}
}

// TestPasswordsStayOutOfTheLog goes through everything that can become of a login, and looks for every password that was tried and for
// names as they were typed. Every login leaves one event with the same keys.
func TestPasswordsStayOutOfTheLog(t *testing.T) {
	f := newFixture(t)
	b := &broken{Accounts: f.store, SettingsStore: f.store}
	f.o.Accounts, f.o.Settings = b, b
	f.try(over(office), "alice", "open sesame", nil)
	f.try(over(office), "alice", "open sesame", nil)
	f.try(over(office), "alice", "wrong-password", ErrCredentials)
	f.try(over(office), "alice", "wrong-password", ErrCredentials)
	f.try(over(office), "typed-password", "other-password", ErrCredentials)
	f.try(over(office), "alice", strings.Repeat("long-password", 100), ErrCredentials)
	f.try(Attempt{Service: "smtp", Mechanism: "PLAIN", Remote: office}, "alice", "clear-password", ErrCleartext)
	b.accounts = store.ErrClosed
	f.try(over(office), "alice", "store-password", store.ErrClosed)
	b.accounts, b.settings = nil, store.ErrPoisoned
	f.try(over(office), "alice", "settings-password", store.ErrPoisoned)
	b.settings = nil
	f.update(func(a *store.Account) { a.Suspended = true })
	f.try(over(office), "alice", "open sesame", ErrSuspended)
	f.update(func(a *store.Account) { a.Verifier = "$broken-verifier" })
	f.try(over(office), "alice", "last-password", ErrCredentials)
	for i := range guard.DefaultLoginLimits().Pair.N {
		f.o.Guard.Failed(f.clock, loopback, "alice", 0, fmt.Sprint(i))
	}
	f.try(over(loopback), "alice", "throttled-password", ErrBanned)
	block := f.block()
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Login(cancelled, over(office), "bob", "cancelled-password"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
	f.hasher.waiting = maxWaiting // a full line in which nobody has two places
	f.hasher.known.lines.PushBack(&line{waiters: make([]*waiter, 1)})
	f.try(over(office), "bob", "busy-password", ErrBusy)
	f.hasher.waiting = 0
	f.hasher.known.lines.Init()
	close(block)

	for _, secret := range []string{"sesame", "-password", "broken-verifier", "argon2"} {
		if strings.Contains(f.log.String(), secret) {
			t.Errorf("the log has %q", secret)
		}
	}
	results := map[string]int{}
	for event := range strings.Lines(f.log.String()) {
		if !strings.Contains(event, "msg=login ") {
			continue
		}
		m := regexp.MustCompile(`^time=\S+ level=(\w+) msg=login service=(?:pop3|smtp) mechanism=(?:USER|PLAIN) remote=\S+ tls=(?:true|false) account=(?:alice|"") result=(\w+)( err=.*)?\n$`).FindStringSubmatch(event)
		if m == nil {
			t.Errorf("event %q", event)
			continue
		}
		results[m[1]+" "+m[2]]++
	}
	want := map[string]int{"INFO ok": 2, "INFO refused": 9, "INFO cancelled": 1, "ERROR error": 2}
	if !maps.Equal(results, want) {
		t.Errorf("got events %v, want %v", results, want)
	}
}

// block takes the places in which hashes run, until the channel is closed.
func (f *fixture) block() chan struct{} {
	release := make(chan struct{})
	var running, done sync.WaitGroup
	for _, from := range []asker{client(1), friend(1)} {
		running.Add(1)
		done.Go(func() {
			_ = f.hasher.run(f.t.Context(), from, func() {
				running.Done()
				<-release
			})
		})
	}
	running.Wait()
	f.t.Cleanup(done.Wait)
	return release
}

// TestStoreFails: an answer that cannot be had is neither yes nor no.
func TestStoreFails(t *testing.T) {
	f := newFixture(t)
	id := f.try(over(office), "alice", "open sesame", nil)
	b := &broken{Accounts: f.store, SettingsStore: f.store, accounts: store.ErrClosed}
	f.o.Accounts, f.o.Settings = b, b
	if err := f.Current(t.Context(), id); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Current: got %v", err)
	}
	f.try(over(office), "alice", "open sesame", store.ErrClosed)
	b.accounts, b.settings = nil, store.ErrClosed
	f.try(over(office), "alice", "open sesame", store.ErrClosed)
	if f.CleartextAllowed(t.Context(), office) || !f.CleartextAllowed(t.Context(), loopback) {
		t.Error("without settings, cleartext is for loopback only")
	}
	b.settings = nil
	f.try(over(office), "alice", "open sesame", nil)
}

// TestUnknownNamesCostTheSame counts hash runs: one for a wrong password, one for a name that does not exist, none for repeats.
func TestUnknownNamesCostTheSame(t *testing.T) {
	f := newFixture(t)
	f.ran()
	for _, tt := range []struct{ name, password string }{{"alice", "guess1"}, {"nobody", "guess1"}, {"nobody@elsewhere.example", "guess1"}, {"!", "guess1"}} {
		f.try(over(office), tt.name, tt.password, ErrCredentials)
		if n := f.ran(); n != 1 {
			t.Errorf("%s: %d hashes, want 1", tt.name, n)
		}
		f.try(over(office), tt.name, tt.password, ErrCredentials)
		if n := f.ran(); n != 0 {
			t.Errorf("%s again: %d hashes, want 0", tt.name, n)
		}
	}
}

func TestSuspended(t *testing.T) {
	f := newFixture(t)
	id := f.try(over(office), "alice", "open sesame", nil)
	f.update(func(a *store.Account) { a.Suspended = true })
	f.try(over(office), "alice", "open sesame", ErrSuspended)
	f.try(over(office), "alice", "guess", ErrCredentials)
	if err := f.Current(t.Context(), id); !errors.Is(err, ErrSuspended) {
		t.Errorf("Current: got %v", err)
	}
}

// TestChangeIsImmediate: neither the cache nor the memory of wrong passwords outlives a change.
func TestChangeIsImmediate(t *testing.T) {
	f := newFixture(t)
	id := f.try(over(office), "alice", "open sesame", nil)
	f.try(over(office), "alice", "new", ErrCredentials)
	if err := f.Current(t.Context(), id); err != nil {
		t.Errorf("Current before the change: %v", err)
	}
	v, err := f.Hash(t.Context(), "new")
	if err != nil {
		t.Fatal(err)
	}
	f.update(func(a *store.Account) { a.Verifier = v })
	f.try(over(office), "alice", "open sesame", ErrCredentials)
	f.try(over(office), "alice", "new", nil)
	if err := f.Current(t.Context(), id); !errors.Is(err, ErrCredentials) {
		t.Errorf("Current after the change: got %v", err)
	}
}

// TestRemovedAndAddedAgain: the old password of a name does not open the new account of that name.
func TestRemovedAndAddedAgain(t *testing.T) {
	f := newFixture(t)
	id := f.try(over(office), "alice", "open sesame", nil)
	if err := f.store.RemoveAccount(t.Context(), f.alice.ID); err != nil {
		t.Fatal(err)
	}
	if err := f.Current(t.Context(), id); !errors.Is(err, ErrCredentials) {
		t.Errorf("Current after removal: got %v", err)
	}
	f.add("alice", "another")
	f.try(over(office), "alice", "open sesame", ErrCredentials)
	if again := f.try(over(office), "alice", "another", nil); again.Account == id.Account {
		t.Error("the new account has the old id")
	}
}

// TestCache: a poll within the age limit costs no hash, one beyond it does; a wrong password never profits.
func TestCache(t *testing.T) {
	f := newFixture(t)
	f.ran()
	for _, tt := range []struct {
		after time.Duration
		want  int
	}{{0, 1}, {time.Minute, 0}, {maxCachedAge - time.Minute - 1, 0}, {1, 1}, {1, 0}} {
		f.clock = f.clock.Add(tt.after)
		f.try(over(office), "alice", "open sesame", nil)
		if n := f.ran(); n != tt.want {
			t.Errorf("after %v: %d hashes, want %d", tt.after, n, tt.want)
		}
	}
	f.try(over(office), "alice", "open sesame!", ErrCredentials)
	if n := f.ran(); n != 1 {
		t.Errorf("wrong password: %d hashes, want 1", n)
	}
}

func TestCacheBound(t *testing.T) {
	c, now := newCache(), time.Now()
	for i := range maxCached + 1 {
		c.put(now, store.AccountID(i+1), 1, "x")
	}
	if len(c.entries) != maxCached || c.order.Len() != maxCached {
		t.Errorf("got %d entries, want %d", len(c.entries), maxCached)
	}
	if c.has(now, 1, 1, "x") || !c.has(now, 2, 1, "x") || !c.has(now, maxCached+1, 1, "x") {
		t.Error("the oldest entry is the one to go")
	}
}

func TestCleartext(t *testing.T) {
	f := newFixture(t)
	clear := func(remote netip.Addr) Attempt { return Attempt{Service: "pop3", Remote: remote} }
	f.try(clear(office), "alice", "open sesame", ErrCleartext)
	f.try(clear(loopback), "alice", "open sesame", nil)
	f.try(clear(netip.MustParseAddr("::ffff:127.0.0.9")), "alice", "open sesame", nil)
	s, err := f.store.Settings(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.CleartextLogin = true
	if _, err := f.store.UpdateSettings(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	f.try(clear(office), "alice", "open sesame", nil)
}

// TestThrottled: a guesser is stopped before the hash; the owner who logged in from elsewhere is not.
func TestThrottled(t *testing.T) {
	f := newFixture(t)
	home := netip.MustParseAddr("2001:db8::1")
	f.try(over(home), "alice", "open sesame", nil)
	limit := int(guard.DefaultLoginLimits().Pair.N)
	for i := range limit {
		f.try(over(office), "alice", "guess"+string(rune('a'+i)), ErrCredentials)
	}
	f.ran()
	f.try(over(office), "alice", "one more", ErrBanned)
	f.try(over(office), "alice", "open sesame", ErrBanned)
	if n := f.ran(); n != 0 {
		t.Errorf("throttled logins ran %d hashes", n)
	}
	f.try(over(home), "alice", "open sesame", nil)
	f.clock = f.clock.Add(guard.BanTime - 1)
	f.try(over(office), "alice", "open sesame", ErrBanned)
	f.clock = f.clock.Add(1)
	f.try(over(office), "alice", "open sesame", nil)
}

func TestHash(t *testing.T) {
	f := newFixture(t)
	for _, tt := range []struct {
		name, password string
		want           error
	}{
		{"empty", "", ErrPassword}, {"one", "x", nil}, {"longest", strings.Repeat("x", MaxPasswordLen), nil},
		{"too long", strings.Repeat("x", MaxPasswordLen+1), ErrPassword}, {"NUL", "a\x00b", ErrPassword}, {"CR", "a\rb", ErrPassword},
		{"LF", "a\nb", ErrPassword}, {"blanks and UTF-8", "  pässword ", nil},
	} {
		v, err := f.Hash(t.Context(), tt.password)
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
		if err == nil {
			parsed, err := parseVerifier(v)
			if err != nil || !parsed.matches(tt.password) || parsed.matches(tt.password+"x") {
				t.Errorf("%s: the verifier does not verify (%v)", tt.name, err)
			}
		}
	}
}

// TestConcurrentLogins is for the race detector.
func TestConcurrentLogins(t *testing.T) {
	f := newFixture(t)
	f.o.Logger = slog.New(slog.DiscardHandler)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 5 {
				name, password := "alice", "open sesame"
				if i%2 == 1 {
					name, password = "nobody", "same guess"
				}
				if _, err := f.Login(t.Context(), over(office), name, password); (err == nil) != (i%2 == 0) {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkLogin(b *testing.B) {
	s := memstore.New("example.com")
	defer func() { _ = s.Close() }()
	a := New(Options{Accounts: s, Settings: s, Guard: guard.NewLogins(guard.LoginLimits{})})
	defer a.hasher.stop()
	v, err := a.Hash(b.Context(), "open sesame")
	if err != nil {
		b.Fatal(err)
	}
	if _, err := s.AddAccount(b.Context(), store.Account{Name: "alice", Verifier: v}); err != nil {
		b.Fatal(err)
	}
	b.Run("cached", func(b *testing.B) {
		for b.Loop() {
			if _, err := a.Login(b.Context(), over(office), "alice", "open sesame"); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("hashed", func(b *testing.B) {
		for b.Loop() {
			a.cache = newCache()
			if _, err := a.Login(b.Context(), over(office), "alice", "open sesame"); err != nil {
				b.Fatal(err)
			}
		}
	})
}
