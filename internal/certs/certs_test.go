package certs

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memoryBox is a Box. It breaks from the put on that left counts down to.
type memoryBox struct {
	mu      sync.Mutex
	content []byte
	puts    int
	left    int // puts until it breaks; below 0: never
	damaged bool
}

var errBroken = errors.New("disk full")

func (b *memoryBox) Get(context.Context) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.damaged {
		return nil, ErrDamaged
	}
	return bytes.Clone(b.content), nil
}

func (b *memoryBox) Put(_ context.Context, content []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.left == 0 {
		return errBroken
	}
	b.left--
	b.puts++
	b.content, b.damaged = bytes.Clone(content), false
	return nil
}

// world is a CA, and what a keeper needs.
type world struct {
	t          *testing.T
	ca         *fakeCA
	challenges *Challenges
	account    *Account
	box        *memoryBox
	names      []string
	kind       KeyKind
	log        bytes.Buffer
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, challenges: &Challenges{HTTP: true}, box: &memoryBox{left: -1}, names: []string{"mail.example.com"}, kind: ECDSA}
	w.ca = newFakeCA(t, w.challenges)
	w.account = &Account{
		Directory: caURL + "directory", KeyFile: filepath.Join(t.TempDir(), "account.key"), Contact: []string{"ops@provider.example"}, Transport: w.ca,
	}
	return w
}

// selfSign is what the keeper is given to begin with.
func selfSign(key crypto.Signer, names []string) ([]byte, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: names, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(10 * 365 * 24 * time.Hour),
	}
	return x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
}

// keeper makes a keeper of what is in the box, as a start does.
func (w *world) keeper() *Keeper {
	w.t.Helper()
	k, err := New(w.t.Context(), Options{
		Kind: w.kind, Names: w.names, Account: w.account, Challenges: w.challenges, Box: w.box, SelfSign: selfSign,
		Logger: slog.New(slog.NewTextHandler(&w.log, nil)),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return k
}

// run lets a keeper work until stop.
func (w *world) run(k *Keeper) (stop func()) {
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan struct{})
	go func() { defer close(done); k.Run(ctx) }()
	synctest.Wait()
	return func() { cancel(); <-done }
}

func present(t *testing.T, k *Keeper) *tls.Certificate {
	t.Helper()
	c, err := k.GetCertificate(nil)
	if err != nil || c == nil {
		t.Fatalf("got %v, %v", c, err)
	}
	return c
}

func digest(t *testing.T, k *Keeper) string {
	t.Helper()
	d, err := Digest(present(t, k).Leaf.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestFirstCertificate: there is one from the beginning, and the CA's as soon as that is asked, by either proof and for either kind of key.
func TestFirstCertificate(t *testing.T) {
	for _, tt := range []struct {
		name      string
		http, tls bool
		kind      KeyKind
	}{{"over HTTP", true, false, ECDSA}, {"in TLS", false, true, ECDSA}, {"RSA", true, true, RSA}} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.challenges.HTTP, w.challenges.TLS, w.kind, w.names = tt.http, tt.tls, tt.kind, []string{"mail.example.com", "mta-sts.example.com"}
				k := w.keeper()
				if s := k.State(); s.Issued || len(present(t, k).Certificate) != 1 || w.ca.requests > 0 {
					t.Fatalf("before: %+v", s)
				}
				before := digest(t, k)
				if d, err := KeyDigest(t.Context(), w.box, tt.kind); err != nil || d != before {
					t.Errorf("the key is not kept: %s, %v", d, err)
				}
				stop := w.run(k)
				time.Sleep(time.Minute)
				stop()
				s := k.State()
				if !s.Issued || !slices.Equal(s.Names, w.names) || s.Failures != 0 || s.Fault != "" || s.DaysLeft != 89 || len(present(t, k).Certificate) != 2 {
					t.Errorf("after: %+v\n%s", s, w.log.String())
				}
				if digest(t, k) != before {
					t.Error("another key than before")
				}
				if w.ca.asked() != 1 || len(w.challenges.responses)+len(w.challenges.certificates) > 0 {
					t.Errorf("%d orders, challenges %v", w.ca.asked(), w.challenges.responses)
				}
				if got := present(t, k).Leaf.PublicKeyAlgorithm.String(); !strings.EqualFold(got, string(tt.kind)) {
					t.Errorf("a key of %s", got)
				}
			})
		})
	}
}

// TestRenewed: at two thirds of its life, for the same key, and again and again.
func TestRenewed(t *testing.T) {
	for _, tt := range []struct{ life, early, late time.Duration }{
		{90 * 24 * time.Hour, 60 * 24 * time.Hour, 57 * 24 * time.Hour},
		{6 * 24 * time.Hour, 4 * 24 * time.Hour, 91 * time.Hour},
		{400 * 24 * time.Hour, 370 * 24 * time.Hour, 366 * 24 * time.Hour},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.ca.life = tt.life
			k := w.keeper()
			defer w.run(k)()
			time.Sleep(time.Minute)
			first := digest(t, k)
			for i := range 3 {
				issued := present(t, k).Leaf.NotBefore
				time.Sleep(time.Until(issued.Add(tt.late)) - time.Minute)
				if got := w.ca.asked(); got != i+1 {
					t.Fatalf("%v: %d orders before it is time", tt.life, got)
				}
				time.Sleep(time.Until(issued.Add(tt.early)) + time.Minute)
				if got := w.ca.asked(); got != i+2 || !present(t, k).Leaf.NotBefore.After(issued) {
					t.Fatalf("%v: %d orders when it was time", tt.life, got)
				}
			}
			if digest(t, k) != first {
				t.Error("the key has changed")
			}
		})
	}
}

// TestWrongClock: where every certificate seems to have ended, the CA is asked once a day.
func TestWrongClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		k := w.keeper()
		k.o.Now = func() time.Time { return time.Now().AddDate(1, 0, 0) }
		defer w.run(k)()
		time.Sleep(10*24*time.Hour + time.Hour)
		if got := w.ca.asked(); got != 11 {
			t.Errorf("%d orders in ten days", got)
		}
	})
}

// TestNameAddedLater: a restart has the certificate for one name more at once, though it was issued a moment ago.
func TestNameAddedLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		stop := w.run(w.keeper())
		time.Sleep(time.Minute)
		stop()
		w.names = append(w.names, "mta-sts.example.com")
		k := w.keeper()
		defer w.run(k)()
		time.Sleep(restartRetry)
		if s := k.State(); !slices.Equal(s.Names, w.names) {
			t.Errorf("%+v", s)
		}
	})
}

// TestRestartNeedsNoCA: what was kept is used at once, and nobody asked.
func TestRestartNeedsNoCA(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		k := w.keeper()
		stop := w.run(k)
		time.Sleep(time.Minute)
		stop()
		before := w.ca.requests
		w.ca.set(func() { w.ca.unreachable = true })
		again := w.keeper()
		if !again.State().Issued || again.Fingerprint() != k.Fingerprint() {
			t.Errorf("after a restart: %+v", again.State())
		}
		stop = w.run(again)
		time.Sleep(24 * time.Hour)
		stop()
		if w.ca.requests != before {
			t.Errorf("%d requests more", w.ca.requests-before)
		}
		// When it has ended, it is still better than none, as people know it.
		time.Sleep(100 * 24 * time.Hour)
		if s := w.keeper().State(); !s.Issued || s.DaysLeft != -12 {
			t.Errorf("an old one: %+v", s)
		}
		// For another name it is of no use. The key stays.
		w.names = []string{"other.example.com"}
		other := w.keeper()
		if s := other.State(); s.Issued || s.Names[0] != "other.example.com" || digest(t, other) != digest(t, k) {
			t.Errorf("with another name: %+v", s)
		}
	})
}

// TestCAIsNotHammered: whatever it answers, the CA is asked ever more rarely, and a server that is started again and again asks no more often
// than four times an hour.
func TestCAIsNotHammered(t *testing.T) {
	failures := map[string]func(w *world){
		"unreachable": func(w *world) { w.ca.unreachable = true },
		"broken": func(w *world) {
			w.ca.down = func(rw http.ResponseWriter) { problem(rw, 500, "serverInternal", "sorry") }
		},
		"refusing":    func(w *world) { w.ca.down = func(rw http.ResponseWriter) { problem(rw, 403, "unauthorized", "no") } },
		"wrong name":  func(w *world) { w.ca.wrong = w.names },
		"another key": func(w *world) { w.ca.otherKey = true },
		"no answer": func(w *world) {
			w.ca.down = func(rw http.ResponseWriter) { rw.WriteHeader(200) }
		},
	}
	for name, spoil := range failures {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				spoil(w)
				k := w.keeper()
				stop := w.run(k)
				attempts := func() int { return k.State().Failures }
				time.Sleep(time.Hour)
				if got := attempts(); got < 3 || got > 5 {
					t.Errorf("%d attempts in the first hour", got)
				}
				time.Sleep(23 * time.Hour)
				if got := attempts(); got < 6 || got > 10 {
					t.Errorf("%d attempts in the first day", got)
				}
				before := attempts()
				time.Sleep(10 * 24 * time.Hour)
				if got := attempts() - before; got < 30 || got > 41 {
					t.Errorf("%d attempts in ten days", got)
				}
				stop()
				if s := k.State(); s.Issued || s.Fault == "" || !strings.Contains(w.log.String(), "level=ERROR") {
					t.Errorf("nothing is said: %+v", s)
				}
				before = attempts()
				for range 60 {
					k = w.keeper()
					stop := w.run(k)
					time.Sleep(time.Minute)
					stop()
				}
				if got := attempts() - before; got < 2 || got > 5 {
					t.Errorf("%d attempts in an hour of 60 restarts", got)
				}
				w.ca.set(func() { w.ca.unreachable, w.ca.down, w.ca.wrong, w.ca.otherKey = false, nil, nil, false })
				stop = w.run(k)
				time.Sleep(8 * time.Hour)
				stop()
				if s := k.State(); !s.Issued || s.Failures != 0 || s.Fault != "" {
					t.Errorf("once the CA is well: %+v", s)
				}
			})
		})
	}
}

// TestCASaysWhen: who is told to come back later does, over restarts, but not a week later.
func TestCASaysWhen(t *testing.T) {
	for _, tt := range []struct {
		name, kind, after string
		status            int
		want              time.Duration
	}{
		{"rate limit", "rateLimited", "10800", 429, 3 * time.Hour},
		{"busy", "serverInternal", "10800", 503, 3 * time.Hour},
		{"a day", "rateLimited", "86400", 429, 24 * time.Hour},
		{"a week", "rateLimited", "604800", 429, 24 * time.Hour},
		{"a second", "rateLimited", "1", 429, 5 * time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.ca.down = func(rw http.ResponseWriter) {
					rw.Header().Set("Retry-After", tt.after)
					problem(rw, tt.status, tt.kind, "too many certificates")
				}
				k := w.keeper()
				stop := w.run(k)
				time.Sleep(time.Second)
				stop()
				if s := k.State(); s.Failures != 1 || !strings.Contains(s.Fault, "too many certificates") {
					t.Fatalf("%+v", s)
				}
				asked := w.ca.requests
				k = w.keeper()
				stop = w.run(k)
				time.Sleep(tt.want - 2*time.Second)
				now := 0
				w.ca.set(func() { now = w.ca.requests })
				if now != asked {
					t.Errorf("asked again too early")
				}
				w.ca.set(func() { w.ca.down = nil })
				time.Sleep(2*time.Minute + tt.want/200)
				stop()
				if !k.State().Issued {
					t.Errorf("not asked again: %+v", k.State())
				}
			})
		})
	}
}

// TestNamesThatFail: a name that is not ready does not keep the server from its certificate, but its own name does; nothing is ordered again for
// nothing.
func TestNamesThatFail(t *testing.T) {
	for _, way := range []string{"wrong", "refused", "refused in words"} {
		t.Run(way, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.names, w.ca.terse = []string{"mail.example.com", "mta-sts.example.com", "autoconfig.example.com"}, way == "refused in words"
				bad := func(names ...string) {
					w.ca.set(func() {
						if way == "wrong" {
							w.ca.wrong = names
						} else {
							w.ca.refused = names
						}
					})
				}
				bad("mta-sts.example.com")
				k := w.keeper()
				defer w.run(k)()
				time.Sleep(time.Minute)
				s := k.State()
				if !s.Issued || !slices.Equal(s.Names, []string{"mail.example.com", "autoconfig.example.com"}) ||
					!strings.Contains(s.Fault, "mta-sts.example.com: ") {
					t.Fatalf("%+v", s)
				}
				first := k.Fingerprint()
				time.Sleep(24 * time.Hour)
				if k.Fingerprint() != first || k.State().Failures < 4 {
					t.Errorf("the same certificate was ordered again, or the name never: %+v", k.State())
				}
				bad()
				time.Sleep(8 * time.Hour)
				if s := k.State(); !slices.Equal(s.Names, w.names) || s.Failures != 0 {
					t.Errorf("%+v", s)
				}
				bad("mail.example.com")
				time.Sleep(70 * 24 * time.Hour)
				if s := k.State(); s.Failures == 0 || !strings.Contains(s.Fault, "mail.example.com: ") || len(s.Names) != 3 {
					t.Errorf("without its own name: %+v", s)
				}
			})
		})
	}
}

// TestEachProofInTurn: where both doors are open, one out of the CA's reach does not keep the other from being tried.
func TestEachProofInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.challenges.TLS = true
		w.ca.wrong = w.names
		k := w.keeper()
		defer w.run(k)()
		time.Sleep(time.Hour)
		var got []string
		w.ca.set(func() { got = slices.Clone(w.ca.kinds) })
		if got = got[:min(3, len(got))]; !slices.Equal(got, []string{overHTTP, inTLS, overHTTP}) {
			t.Errorf("tried %q", got)
		}
	})
}

// TestStrangersAskNobody: whatever name a client asks for, it gets what there is, and no request comes of it.
func TestStrangersAskNobody(t *testing.T) {
	w := newWorld(t)
	k := w.keeper()
	for i := range 10_000 {
		c, err := k.GetCertificate(&tls.ClientHelloInfo{ServerName: fmt.Sprintf("n%d.example.net", i)})
		if err != nil || c != k.current.Load() {
			t.Fatal(c, err)
		}
	}
	for _, tt := range []struct {
		name   string
		protos []string
		fails  bool
	}{
		{"mail.example.com", []string{"h2", "http/1.1"}, false}, {"mail.example.com", nil, false}, {"mail.example.com", []string{ALPN, "h2"}, false},
		{"mail.example.com", []string{ALPN}, true}, {"", []string{ALPN}, true},
	} {
		c, err := w.challenges.Config(&tls.ClientHelloInfo{ServerName: tt.name, SupportedProtos: tt.protos})
		if c != nil || (err != nil) != tt.fails {
			t.Errorf("%s %q: %v, %v", tt.name, tt.protos, c, err)
		}
	}
	if _, ok := w.challenges.Response("/.well-known/acme-challenge/x"); ok || w.ca.requests > 0 || len(w.challenges.certificates) > 0 {
		t.Error("something is kept of strangers")
	}
}

// TestCrashAtEveryWrite: whatever the last thing is that was kept, the next start has a certificate, and always for the same key.
func TestCrashAtEveryWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		whole := newWorld(t)
		k := whole.keeper()
		stop := whole.run(k)
		time.Sleep(time.Minute)
		stop()
		if whole.box.puts < 3 {
			t.Fatalf("%d puts", whole.box.puts)
		}
		for n := 1; n < whole.box.puts; n++ {
			w := newWorld(t)
			w.box.left = n
			k := w.keeper()
			key := digest(t, k)
			stop := w.run(k)
			time.Sleep(time.Minute)
			stop()
			orders := w.ca.asked()
			if n == 1 && orders != 0 {
				t.Error("the CA was asked though that could not be noted")
			}
			w.box.left = -1
			again := w.keeper()
			if digest(t, again) != key {
				t.Errorf("after %d puts: another key", n)
			}
			stop = w.run(again)
			time.Sleep(30 * time.Minute)
			stop()
			if !again.State().Issued || digest(t, again) != key {
				t.Errorf("after %d puts: %+v", n, again.State())
			}
		}
		none := newWorld(t)
		none.box.left = 0
		if _, err := New(t.Context(), Options{Kind: ECDSA, Names: none.names, Box: none.box, SelfSign: selfSign}); !errors.Is(err, errBroken) {
			t.Errorf("a key that could not be kept is used: %v", err)
		}
	})
}

// TestDamagedBox: a server starts all the same.
func TestDamagedBox(t *testing.T) {
	for name, spoil := range map[string]func(*memoryBox){
		"cannot be opened": func(b *memoryBox) { b.damaged = true },
		"no record":        func(b *memoryBox) { b.content = []byte("x") },
		"no key":           func(b *memoryBox) { b.content = []byte("{}") },
	} {
		w := newWorld(t)
		w.keeper()
		spoil(w.box)
		if s := w.keeper().State(); s.Issued || !strings.Contains(w.log.String(), "TLSA records are to be changed") {
			t.Errorf("%s: %+v", name, s)
		}
		if d := digest(t, w.keeper()); d != digest(t, w.keeper()) {
			t.Errorf("%s: the new key is not kept", name)
		}
	}
}

// TestStopEndsAnAttempt: nobody waits for a CA that does not answer.
func TestStopEndsAnAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.ca.down = func(rw http.ResponseWriter) { problem(rw, 500, "serverInternal", "sorry") }
		k := w.keeper()
		stop := w.run(k)
		began := time.Now()
		stop()
		if took := time.Since(began); took > 0 {
			t.Errorf("took %v", took)
		}
	})
}

// TestBothKindsAtOnce: two keepers with one account ask one after the other, and both get what they want.
func TestBothKindsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.challenges.HTTP, w.challenges.TLS = false, true
		one := w.keeper()
		w.kind, w.box = RSA, &memoryBox{left: -1}
		two := w.keeper()
		stops := []func(){w.run(one), w.run(two)}
		time.Sleep(time.Minute)
		for _, stop := range stops {
			stop()
		}
		if !one.State().Issued || !two.State().Issued || len(w.ca.accounts) != 1 {
			t.Errorf("%+v, %+v, accounts %v", one.State(), two.State(), w.ca.accounts)
		}
	})
}

// TestOneAccountKey: processes that start at once make one key, which only its owner can read, and leave nothing behind.
func TestOneAccountKey(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "account.key")
	keys := make([]crypto.Signer, 50)
	var wg sync.WaitGroup
	for i := range keys {
		wg.Go(func() {
			var err error
			if keys[i], err = accountKey(path); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, k := range keys {
		if !keys[0].Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(k.Public()) {
			t.Fatal("two keys")
		}
	}
	list, err := os.ReadDir(dir)
	if err != nil || len(list) != 1 {
		t.Errorf("left behind: %v, %v", list, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	for name, spoil := range map[string]func() error{
		"open to everybody": func() error { return os.Chmod(path, 0o604) },
		"is not a PEM":      func() error { return errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, []byte("x"), 0o600)) },
		"is larger":         func() error { return os.WriteFile(path, bytes.Repeat([]byte("x"), maxKeyFile+1), 0o600) },
		"no such file":      func() error { path = filepath.Join(dir, "none", "x"); return nil },
	} {
		if name == "no such file" {
			continue // last
		}
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		if _, err := accountKey(path); err == nil || name != "open to everybody" && !strings.Contains(err.Error(), "account") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := accountKey(filepath.Join(dir, "none", "x")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a folder that is not there: %v", err)
	}
}

// TestBinding: a CA that wants to know its customer does (RFC 8555 §7.3.4), whether its key is written with padding or without.
func TestBinding(t *testing.T) {
	for text, ok := range map[string]bool{
		"c2VjcmV0IQ==\n": true, "c2VjcmV0IQ": true, "c2VjcmV0IQ\nmore": true, "c2VjcmV0Pw": false, "%%": false, "": false,
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.ca.binding = []byte("secret!")
			w.account.EABKeyID, w.account.EABKeyFile = "kid-1", filepath.Join(t.TempDir(), "eab")
			if err := os.WriteFile(w.account.EABKeyFile, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			k := w.keeper()
			stop := w.run(k)
			time.Sleep(time.Minute)
			stop()
			if s := k.State(); s.Issued != ok {
				t.Errorf("%q: %+v", text, s)
			}
		})
	}
}

// TestAnswersAreBounded: a CA that does not stop talking does no harm.
func TestAnswersAreBounded(t *testing.T) {
	endless := roundTrip(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Header: http.Header{}, Body: &spaces{}}, nil
	})
	r, err := bounded{endless}.RoundTrip(nil)
	if err != nil {
		t.Fatal(err)
	}
	n, err := io.CopyN(io.Discard, r.Body, maxAnswer+1)
	if !errors.Is(err, io.EOF) || n != maxAnswer {
		t.Errorf("read %d, %v", n, err)
	}
	if err := r.Body.Close(); err != nil || !endlessClosed(r) {
		t.Errorf("not closed: %v", err)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

type spaces struct{ closed bool }

func (s *spaces) Read(p []byte) (int, error) { return copy(p, bytes.Repeat([]byte(" "), len(p))), nil }
func (s *spaces) Close() error               { s.closed = true; return nil }

func endlessClosed(r *http.Response) bool {
	inner, ok := r.Body.(cut)
	return ok && inner.Closer.(*spaces).closed
}

// TestLargeChain: what the store would not take is not taken.
func TestLargeChain(t *testing.T) {
	w := newWorld(t)
	k := w.keeper()
	leaf := present(t, k).Certificate[0]
	for size, ok := range map[int]bool{maxChain - 1: true, maxChain: true, maxChain + 1: false} {
		if _, err := pair([][]byte{leaf, make([]byte, size-len(leaf))}, k.key, w.names[0]); (err == nil) != ok {
			t.Errorf("%d octets: %v", size, err)
		}
	}
	if _, err := pair(nil, k.key, w.names[0]); err == nil {
		t.Error("an empty chain is taken")
	}
}

// TestRenewalIsSpread: certificates of one hour are renewed at different times, each before the last third of its life, or its last 30 days, begins, and
// by no more than a tenth of that.
func TestRenewalIsSpread(t *testing.T) {
	for _, tt := range []struct{ life, early time.Duration }{{90 * 24 * time.Hour, 30 * 24 * time.Hour}, {9 * time.Hour, 3 * time.Hour}, {365 * 24 * time.Hour, renewEarly}} {
		times := map[time.Duration]bool{}
		for i := range 50 {
			k := &Keeper{}
			begins := time.Date(2026, 4, 1, 12, 0, 0, 0, time.UTC)
			k.current.Store(&tls.Certificate{Leaf: &x509.Certificate{NotBefore: begins, NotAfter: begins.Add(tt.life), Raw: []byte{byte(i)}}})
			before := begins.Add(tt.life).Sub(k.renewal())
			if before < tt.early || before >= tt.early+tt.early/10 {
				t.Errorf("life %s: renewed %s before its end", tt.life, before)
			}
			times[before] = true
		}
		if len(times) < 10 {
			t.Errorf("life %s: %d times for 50 servers", tt.life, len(times))
		}
	}
}
