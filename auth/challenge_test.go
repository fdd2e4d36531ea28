package auth

import (
	"context"
	"crypto/hmac"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/xdg-go/scram"

	"latchkey/guard"
	"latchkey/store"
)

const timestamp = "<1896.697170952@dbc.mtview.ca.us>"

// challenges are the mechanisms, each as a client that has a name and a password.
var challenges = []struct {
	name string
	try  func(f *fixture, from netip.Addr, username, password string) (Identity, error)
}{
	{APOP, func(f *fixture, from netip.Addr, username, password string) (Identity, error) {
		return f.APOP(f.t.Context(), Attempt{Service: "pop3", Remote: from}, username, timestamp, md5.Sum([]byte(timestamp+password)))
	}},
	{CRAMMD5, func(f *fixture, from netip.Addr, username, password string) (id Identity, err error) {
		server := f.NewCRAMMD5Server(f.t.Context(), Attempt{Service: "pop3", Remote: from}, "mail.example.com", keepIdentity(&id))
		return id, playCRAM(server, username, password)
	}},
	{SCRAMSHA256, func(f *fixture, from netip.Addr, username, password string) (Identity, error) {
		return trySCRAM(f, SCRAMSHA256, from, username, password)
	}},
	{SCRAMSHA1, func(f *fixture, from netip.Addr, username, password string) (Identity, error) {
		return trySCRAM(f, SCRAMSHA1, from, username, password)
	}},
}

// trySCRAM is a client that prepares nothing.
func trySCRAM(f *fixture, mechanism string, from netip.Addr, username, password string) (id Identity, err error) {
	at := Attempt{Service: "pop3", Remote: from, Mechanism: mechanism}
	server := f.NewSCRAMServer(f.t.Context(), at, nil, keepIdentity(&id))
	client, err := scramKindOf(mechanism).hash.NewClientUnprepped(username, password, "")
	if err != nil {
		return id, err
	}
	return id, playSCRAM(server, client.NewConversation())
}

// keepIdentity accepts whoever logs in, once.
func keepIdentity(id *Identity) func(Identity) error {
	return func(who Identity) error {
		if id.Account != 0 {
			return errors.New("accepted twice")
		}
		*id = who
		return nil
	}
}

func playCRAM(server sasl.Server, username, password string) error {
	challenge, done, err := server.Next(nil)
	if done || err != nil {
		return fmt.Errorf("no challenge: %v, %w", done, err)
	}
	mac := hmac.New(md5.New, []byte(password))
	mac.Write(challenge)
	_, done, err = server.Next([]byte(username + " " + hex.EncodeToString(mac.Sum(nil))))
	if err == nil && !done {
		return errors.New("the exchange goes on")
	}
	return err
}

func playSCRAM(server sasl.Server, client *scram.ClientConversation) error {
	response, err := client.Step("")
	for err == nil {
		var challenge []byte
		var done bool
		if challenge, done, err = server.Next([]byte(response)); err != nil {
			return err
		}
		if done {
			if !client.Valid() {
				return errors.New("the server did not prove itself")
			}
			return nil
		}
		response, err = client.Step(string(challenge))
	}
	return fmt.Errorf("the client gives up: %w", err)
}

// answer is what a client with a password gets from each mechanism.
func (f *fixture) answer(username, password string, want error) {
	f.t.Helper()
	for _, c := range challenges {
		id, err := c.try(f, office, username, password)
		if !errors.Is(err, want) || want == nil && err != nil {
			f.t.Errorf("%s: %q with %q: got %v, want %v", c.name, username, password, err, want)
		}
		if got := f.alice.ID; want == nil && id.Account != got || want != nil && id != (Identity{}) {
			f.t.Errorf("%s: %q is %+v", c.name, username, id)
		}
	}
}

// TestAPOPExample is that of RFC 1939 §7.
func TestAPOPExample(t *testing.T) {
	f := newFixture(t)
	f.add("mrose", "tanstaaf")
	f.settings(func(s *store.Settings) { s.OldClientLogin = true })
	f.try(over(office), "mrose", "tanstaaf", nil)
	digest, err := hex.DecodeString("c4c9334bac560ecc979e58001b3e22fb")
	must(t, err)
	id, err := f.APOP(t.Context(), Attempt{Service: "pop3", Remote: office}, "mrose", timestamp, [16]byte(digest))
	if err != nil || id.Address.String() != "mrose@example.com" || id.CredentialVersion != 1 {
		t.Errorf("got %+v, %v", id, err)
	}
	if _, err := f.APOP(t.Context(), Attempt{Remote: office}, "mrose", timestamp+" ", [16]byte(digest)); !errors.Is(err, ErrCredentials) {
		t.Errorf("with another timestamp: got %v", err)
	}
}

// TestChallengeLogins: who gets in by which proof, and when.
func TestChallengeLogins(t *testing.T) {
	f := newFixture(t)
	f.update(func(a *store.Account) { a.OldClientLogin = true })
	f.answer("alice", "open sesame", ErrCredentials) // nothing is sealed yet
	f.seal()
	f.answer("alice", "open sesame", nil)
	f.answer(`EXAMPLE.COM\Alice`, "open sesame", nil)
	f.answer(" alice@example.com ", "open sesame", nil)
	f.answer("alice", "open sesame ", ErrCredentials)
	f.answer("alice@example.org", "open sesame", ErrCredentials)
	f.answer("nobody", "open sesame", ErrCredentials)
	f.answer("nobody", f.decoyPassword, ErrCredentials)
	f.answer("alice", "", ErrCredentials)

	id := f.try(over(office), "alice", "open sesame", nil)
	f.update(func(a *store.Account) { a.Suspended = true })
	f.answer("alice", "open sesame", ErrSuspended)
	f.answer("alice", "wrong", ErrCredentials)
	f.update(func(a *store.Account) { a.Suspended = false })
	f.answer("alice", "open sesame", nil)

	v, err := f.Hash(t.Context(), "new")
	must(t, err)
	f.update(func(a *store.Account) { a.Verifier = v })
	if err := f.Current(t.Context(), id); !errors.Is(err, ErrCredentials) {
		t.Errorf("Current after a change: got %v", err)
	}
	f.answer("alice", "open sesame", ErrCredentials)
	f.answer("alice", "new", ErrCredentials)
	f.try(over(office), "alice", "new", nil)
	f.answer("alice", "new", nil)

	f.update(func(a *store.Account) { a.OldClientLogin = false })
	f.answer("alice", "new", ErrCredentials)
	f.update(func(a *store.Account) { a.OldClientLogin = true })
	f.answer("alice", "new", ErrCredentials) // what was sealed is gone
}

// TestSwitchedOffThoughSealed: should a store still have the password of an account that may not log in by challenge any more, it is of
// no use.
func TestSwitchedOffThoughSealed(t *testing.T) {
	f := newFixture(t)
	f.seal()
	f.o.Accounts = &staleSealed{f.sealing, f.sealing.kept[f.alice.ID].sealed}
	f.answer("alice", "open sesame", nil)
	f.update(func(a *store.Account) { a.OldClientLogin = false })
	f.answer("alice", "open sesame", ErrCredentials)
}

// staleSealed is a store that forgets nothing.
type staleSealed struct {
	store.Accounts
	sealed store.Sealed
}

func (s *staleSealed) AccountByName(ctx context.Context, name string) (store.Account, error) {
	a, err := s.Accounts.AccountByName(ctx, name)
	a.Sealed = s.sealed
	return a, err
}

// TestTamperedSealed: a box that does not open is none.
func TestTamperedSealed(t *testing.T) {
	f := newFixture(t)
	f.seal()
	k := f.sealing.kept[f.alice.ID]
	tampered := []byte(k.sealed)
	tampered[20] ^= 1
	k.sealed = store.Sealed(tampered)
	f.sealing.kept[f.alice.ID] = k
	f.answer("alice", "open sesame", ErrCredentials)
	f.try(over(office), "alice", "open sesame", nil)
	f.answer("alice", "open sesame", nil)
}

// TestChallengesDoTheSame counts the work: whatever a wrong proof is for, one box is opened, one account looked for, and with SCRAM one set
// of keys derived.
func TestChallengesDoTheSame(t *testing.T) {
	f := newFixture(t)
	f.seal()
	f.add("off", "open sesame")
	unsealed := f.add("unsealed", "open sesame")
	unsealed.OldClientLogin = true
	_, err := f.store.UpdateAccount(t.Context(), unsealed)
	must(t, err)
	var opened, derived int
	f.open = func(key []byte, a store.Account) (string, bool) {
		opened++
		return openSealed(key, a)
	}
	f.derive = func(hash scram.HashGeneratorFcn, password string, factors scram.KeyFactors) (scram.StoredCredentials, error) {
		derived++
		return deriveSCRAM(hash, password, factors)
	}
	for _, c := range challenges {
		want := 0
		if strings.HasPrefix(c.name, "SCRAM") {
			want = 1
		}
		for _, name := range []string{"alice", "alice", "off", "unsealed", "nobody", "nobody", "x@elsewhere.example", "!"} {
			opened, derived = 0, 0
			if _, err := c.try(f, office, name, "wrong"); !errors.Is(err, ErrCredentials) {
				t.Errorf("%s: %s: got %v", c.name, name, err)
			}
			if opened != 1 || derived != want {
				t.Errorf("%s: %s: %d boxes opened and %d keys derived, want 1 and %d", c.name, name, opened, derived, want)
			}
		}
	}
	// Only who has the password profits from keys that are at hand.
	for _, tt := range []struct {
		name string
		want int
	}{{"alice", 0}, {"off", 1}} {
		derived = 0
		_, err := challenges[2].try(f, netip.MustParseAddr("192.0.2.1"), tt.name, "open sesame")
		if (err == nil) != (tt.name == "alice") || derived != tt.want {
			t.Errorf("%s: %d keys derived, want %d (%v)", tt.name, derived, tt.want, err)
		}
	}
	f.update(func(a *store.Account) { a.Suspended = true })
	opened, derived = 0, 0
	_, err = challenges[2].try(f, netip.MustParseAddr("192.0.2.2"), "alice", "wrong")
	if !errors.Is(err, ErrCredentials) || opened != 1 || derived != 1 {
		t.Errorf("suspended: %d boxes opened and %d keys derived, want 1 and 1 (%v)", opened, derived, err)
	}
}

// TestChallengeGuessesCount: passwords and proofs meet the same counters, each wrong proof counts, and the right one forgives.
func TestChallengeGuessesCount(t *testing.T) {
	f := newFixture(t)
	f.seal()
	g := &told{f: f}
	f.o.Guesses = g
	limit := int(guard.DefaultLoginLimits().Pair.N)
	for i := range limit - 1 {
		if _, err := challenges[i%len(challenges)].try(f, office, "alice", "the same"); !errors.Is(err, ErrCredentials) {
			t.Fatalf("guess %d: %v", i, err)
		}
	}
	f.answer("alice", "open sesame", nil)
	for i := range 3*limit - 1 { // she is known there now
		if _, err := challenges[i%3].try(f, office, "alice", "the same"); !errors.Is(err, ErrCredentials) {
			t.Fatalf("guess %d after the right one: %v", i, err)
		}
	}
	f.try(over(office), "alice", "a password", ErrCredentials)
	if len(g.names) != 4*limit-1 || slices.ContainsFunc(g.names, func(n string) bool { return n != "alice" }) {
		t.Errorf("told of %d guesses, want %d: %q", len(g.names), 4*limit-1, g.names)
	}
	f.answer("alice", "open sesame", ErrThrottled)
	f.try(over(office), "alice", "open sesame", ErrThrottled)
	f.answer("nobody", "open sesame", ErrCredentials)
	if _, err := challenges[0].try(f, loopback, "alice", "open sesame"); err != nil {
		t.Errorf("from elsewhere: %v", err)
	}
	f.clock = f.clock.Add(guard.DefaultLoginLimits().Pair.Window)
	f.answer("alice", "open sesame", nil)
	for range limit {
		_, _ = challenges[0].try(f, office, "nobody", "guess")
	}
	f.answer("nobody", "guess", ErrBanned)
}

// TestChallengesTakeTurns: proofs wait in a line of their own, with its bound.
func TestChallengesTakeTurns(t *testing.T) {
	f := newFixture(t)
	f.seal()
	release := f.block() // a password is being hashed
	late := time.AfterFunc(10*time.Second, func() {
		t.Error("proofs wait for a password")
		close(release)
	})
	f.answer("alice", "open sesame", nil)
	if late.Stop() {
		close(release)
	}
	f.turns.known.running, f.turns.strangers.running = true, true
	f.turns.waiting = maxWaiting
	f.turns.known.lines.PushBack(&line{waiters: make([]*waiter, 1)})
	f.answer("alice", "open sesame", ErrBusy)
	f.answer("nobody", "open sesame", ErrBusy)
	f.turns.known.lines.Init()
	f.turns.known.running, f.turns.strangers.running, f.turns.waiting = false, false, 0
	f.answer("alice", "open sesame", nil)
}

// secretStore is a store whose secrets cannot be read.
type secretStore struct {
	Sealing
	err error
}

func (s secretStore) Secret(context.Context, string) ([]byte, error) { return nil, s.err }

// TestChallengeStoreFails: an answer that cannot be had is neither yes nor no, and the same for names that do not exist.
func TestChallengeStoreFails(t *testing.T) {
	f := newFixture(t)
	f.seal()
	b := &broken{Accounts: f.sealing, SettingsStore: f.store, accounts: store.ErrClosed}
	f.o.Accounts, f.o.Settings = b, b
	f.answer("alice", "open sesame", store.ErrClosed)
	f.answer("nobody", "open sesame", store.ErrClosed)
	b.accounts, b.settings = nil, store.ErrPoisoned
	f.answer("alice", "open sesame", store.ErrPoisoned)
	b.settings = nil
	f.sealer.store = secretStore{f.sealing, store.ErrClosed}
	f.answer("alice", "open sesame", store.ErrClosed)
	f.answer("nobody", "open sesame", store.ErrClosed)
	f.sealer.store = nil
	f.answer("alice", "open sesame", errNoSealing)
	f.answer("nobody", "open sesame", errNoSealing)
	f.sealer.store = f.sealing
	f.answer("alice", "open sesame", nil)
}

// addQuick is add with a verifier that costs next to nothing.
func (f *fixture) addQuick(name, password string) {
	f.t.Helper()
	v := verifier{memory: 8, time: 1, threads: 1, salt: []byte(name + "'s salt")}
	v.key = v.derive(password, keyLen)
	_, err := f.store.AddAccount(f.t.Context(), store.Account{Name: name, Verifier: v.encode()})
	must(f.t, err)
}

// TestSpellings: a proof may be of a password as it was set or as SASLprep makes it (RFC 6856 §2.2, RFC 5802 §2.2), with SCRAM of the latter
// alone; of one that cannot be prepared, or of which nothing would be left, it is as it was set.
func TestSpellings(t *testing.T) {
	f := patientFixture(t)
	f.settings(func(s *store.Settings) { s.OldClientLogin = true })
	for i, tt := range []struct{ set, prepared string }{
		{"I\u00adX", "IX"}, {"\u2168", "IX"}, {"a\u00a0b", "a b"}, {"p\u00e4ss", "p\u00e4ss"}, {"pa\u0308ss", "p\u00e4ss"},
		{"\u00bd\u00b4", "1\u20442 \u0301"}, {" x ", " x "}, {"\U0001f511", ""}, {"latin-1 \xe4", ""}, {"\u0627x", ""}, {"tab\there", ""}, {"\u00ad", ""},
	} {
		name := fmt.Sprint("user", i)
		f.addQuick(name, tt.set)
		f.try(over(office), name, tt.set, nil)
		for _, c := range challenges {
			isSCRAM := strings.HasPrefix(c.name, "SCRAM")
			for _, typed := range []struct {
				password string
				right    bool
			}{
				{tt.set, !isSCRAM || tt.prepared == "" || tt.prepared == tt.set}, {tt.prepared, tt.prepared != ""}, {tt.set + "x", false},
			} {
				_, err := c.try(f, office, name, typed.password)
				if typed.right && err != nil || !typed.right && !errors.Is(err, ErrCredentials) {
					t.Errorf("%s: %q for %q: got %v, want it right: %v", c.name, typed.password, tt.set, err, typed.right)
				}
			}
		}
	}
}

// TestNames: by whatever mechanism, a name has the canonical form of mailboxes, NFC without regard to case, and none of SASLprep: of what that
// would map or join, one name is not the other (RFC 5802 §5.1, RFC 5034 §4).
func TestNames(t *testing.T) {
	f := patientFixture(t)
	f.settings(func(s *store.Settings) { s.OldClientLogin = true })
	f.addQuick("j\u00fcrgen", "open sesame")
	f.try(over(office), "j\u00fcrgen", "open sesame", nil)
	for _, tt := range []struct {
		typed string
		want  error
	}{
		{"j\u00fcrgen", nil}, {"J\u00dcRGEN", nil}, {"ju\u0308rgen@example.com", nil}, {"jurgen", ErrCredentials},
		{"j\u00fcrgen\u00ad", ErrCredentials}, {"\uff4a\u00fcrgen", ErrCredentials}, {"j\u00fcr\u200bgen", ErrCredentials},
		{"j\u00fcr\tgen", ErrCredentials}, {"j\xfcrgen", ErrCredentials},
	} {
		f.try(over(office), tt.typed, "open sesame", tt.want)
		for _, c := range challenges {
			if _, err := c.try(f, office, tt.typed, "open sesame"); !errors.Is(err, tt.want) {
				t.Errorf("%s: %+q: got %v, want %v", c.name, tt.typed, err, tt.want)
			}
		}
	}
}

// TestChallengesStayOutOfTheLog looks for all that is secret, and for names as they were typed. Each challenge login leaves one event.
func TestChallengesStayOutOfTheLog(t *testing.T) {
	f := newFixture(t)
	f.seal()
	f.log.Reset()
	f.answer("alice", "open sesame", nil)
	f.answer("alice", "wrong-password", ErrCredentials)
	f.answer("typed-password", "wrong-password", ErrCredentials)
	at := Attempt{Service: "smtp", Remote: office, Mechanism: SCRAMSHA256}
	refuse := func(Identity) error { return errors.New("nobody") }
	for _, first := range []string{"n,,n=typed=password,r=x", "p=tls-unique,,n=typed-password,r=x", "n,a=typed-password,n=alice,r=x"} {
		if _, _, err := f.NewSCRAMServer(t.Context(), at, nil, refuse).Next([]byte(first)); err == nil {
			t.Errorf("%q is taken", first)
		}
	}
	f.update(func(a *store.Account) { a.Suspended = true })
	f.answer("alice", "open sesame", ErrSuspended)
	f.sealer.store = secretStore{f.sealing, store.ErrClosed}
	f.answer("alice", "open sesame", store.ErrClosed)

	key, err := f.store.Secret(t.Context(), instanceKeyName)
	must(t, err)
	log := f.log.String()
	for _, secret := range []string{
		"sesame", "-password", "=password", string(f.sealing.kept[f.alice.ID].sealed), string(key), hex.EncodeToString(key), "mtview", f.decoyPassword,
	} {
		if strings.Contains(log, secret) {
			t.Errorf("the log has %q", secret)
		}
	}
	results := map[string]int{}
	form := regexp.MustCompile(`^time=\S+ level=(\w+) msg=login service=(?:pop3|smtp) mechanism=(APOP|CRAM-MD5|SCRAM-SHA-256|SCRAM-SHA-1) ` +
		`remote=198\.51\.100\.7 tls=false account=(?:alice|"") result=(\w+)( err=.*)?\n$`)
	for event := range strings.Lines(log) {
		m := form.FindStringSubmatch(event)
		if m == nil {
			t.Errorf("event %q", event)
			continue
		}
		results[strings.Join(m[1:4], " ")]++
	}
	want := map[string]int{
		"INFO APOP ok": 1, "INFO CRAM-MD5 ok": 1, "INFO SCRAM-SHA-256 ok": 1, "INFO SCRAM-SHA-1 ok": 1,
		"INFO APOP refused": 3, "INFO CRAM-MD5 refused": 3, "INFO SCRAM-SHA-256 refused": 4, // one of them for its binding
		"INFO SCRAM-SHA-1 refused": 3, "ERROR APOP error": 1, "ERROR CRAM-MD5 error": 1, "ERROR SCRAM-SHA-256 error": 1,
		"ERROR SCRAM-SHA-1 error": 1,
	}
	if !maps.Equal(results, want) {
		t.Errorf("got events %v, want %v", results, want)
	}
}

// TestChallengeMechanisms: what is listed where.
func TestChallengeMechanisms(t *testing.T) {
	f := newFixture(t)
	front, old := Attempt{Remote: office}, Attempt{Remote: office, OldDoor: true}
	check := func(at Attempt, want ...string) {
		t.Helper()
		if got := f.ChallengeMechanisms(t.Context(), at, nil); !slices.Equal(got, want) {
			t.Errorf("%+v: got %q, want %q", at, got, want)
		}
	}
	check(front)
	check(old, SCRAMSHA256, SCRAMSHA1, CRAMMD5)
	f.settings(func(s *store.Settings) { s.OldClientLogin = true })
	check(front, SCRAMSHA256, SCRAMSHA1)
	check(old, SCRAMSHA256, SCRAMSHA1, CRAMMD5)
	b := &broken{SettingsStore: f.store, settings: store.ErrClosed}
	f.o.Settings = b
	check(front)
	f.o.Settings = f.store
	f.sealer.store = nil
	check(front)
	check(old)
}

// patientFixture is one that minds no guesses and logs nothing, with alice's password sealed.
func patientFixture(t testing.TB) *fixture {
	f := newFixture(t)
	f.o.Guard = guard.NewLogins(guard.LoginLimits{Pair: plenty, Burst: plenty, Prefix: plenty, Mailbox: plenty, Delays: atOnce})
	f.seal()
	f.o.Logger = slog.New(slog.DiscardHandler)
	return f
}
