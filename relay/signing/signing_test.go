package signing

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/auth"
	"latchkey/internal/dkim"
	"latchkey/store"
	"latchkey/store/memstore"
)

// world is a domain with a ring, a clock, and a DNS.
type world struct {
	t     *testing.T
	store store.Store
	ring  *Ring
	now   time.Time
	dns   map[string][]string
	fails error
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, store: memstore.New("example.org"), now: time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC), dns: map[string][]string{}}
	w.ring = NewRing(w.store, auth.NewVault(w.store, "tests"), func() time.Time { return w.now })
	return w
}

func (w *world) txt(_ context.Context, name string) ([]string, error) { return w.dns[name], w.fails }

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) add(a dkim.Algorithm) Key {
	w.t.Helper()
	k, err := w.ring.Add(w.t.Context(), a)
	w.must(err)
	return k
}

func (w *world) publish(k Key) { w.dns[dkim.Name(k.Selector, "example.org")] = []string{k.Record} }

func (w *world) look() []string {
	w.t.Helper()
	began, err := w.ring.Look(w.t.Context(), "example.org", w.txt)
	w.must(err)
	return began
}

// states are the keys' selectors and states.
func (w *world) states() string {
	w.t.Helper()
	keys, err := w.ring.Keys(w.t.Context())
	w.must(err)
	var list []string
	for _, k := range keys {
		list = append(list, k.Selector+" "+string(k.State))
	}
	return strings.Join(list, ", ")
}

// selectors are those that a message is signed with, in order.
func (w *world) selectors() []string {
	w.t.Helper()
	fields, err := (&Signer{Ring: w.ring}).Sign(w.t.Context(), "example.org", strings.NewReader("From: a@example.org\r\n\r\nx\r\n"))
	w.must(err)
	list := []string{}
	for line := range strings.SplitSeq(string(fields), "\r\n") {
		if s, ok := strings.CutPrefix(line, "\ts="); ok {
			s, _, _ = strings.Cut(s, ";")
			list = append(list, s)
		}
	}
	return list
}

func (w *world) want(states string, signs ...string) {
	w.t.Helper()
	if got := w.states(); got != states {
		w.t.Errorf("keys %q, want %q", got, states)
	}
	if got := w.selectors(); !slices.Equal(got, signs) {
		w.t.Errorf("signed with %q, want %q", got, signs)
	}
}

// TestFirstKeys: nothing is signed until the records are there; then the first keys sign at once, RSA first.
func TestFirstKeys(t *testing.T) {
	w := newWorld(t)
	w.want("")
	e, r := w.add(dkim.Ed25519), w.add(dkim.RSA)
	w.look()
	w.want("e20261128 new, r20261128 new")
	w.publish(e)
	if began := w.look(); !slices.Equal(began, []string{"e20261128"}) {
		t.Errorf("began %q", began)
	}
	w.want("e20261128 signing, r20261128 new", "e20261128")
	w.publish(r)
	w.look()
	w.want("e20261128 signing, r20261128 signing", "r20261128", "e20261128")
}

// TestRotation: the new key signs once its record was there for a while without a break, the old one is retired in that moment, and can
// be removed when nothing signed by it can be on its way any more.
func TestRotation(t *testing.T) {
	w := newWorld(t)
	old := w.add(dkim.RSA)
	w.publish(old)
	w.look()
	w.now = w.now.AddDate(1, 0, 0)
	young := w.add(dkim.RSA)
	w.look()
	w.publish(young)
	w.look()
	w.want("r20261128 signing, r20271128 new", "r20261128")
	w.now = w.now.Add(Settle - time.Second)
	w.look()
	w.want("r20261128 signing, r20271128 new", "r20261128")
	delete(w.dns, dkim.Name(young.Selector, "example.org")) // one server of the zone does not have it yet
	w.look()
	w.publish(young)
	w.now = w.now.Add(time.Second)
	w.look()
	w.want("r20261128 signing, r20271128 new", "r20261128")
	w.now = w.now.Add(Settle)
	w.fails = errors.New("no name server") // says nothing about the record
	w.look()
	w.want("r20261128 signing, r20271128 new", "r20261128")
	w.fails = nil
	w.look()
	w.want("r20261128 retired, r20271128 signing", "r20271128")
	ctx := t.Context()
	w.now = w.now.Add(Overlap - time.Second)
	if err := w.ring.Remove(ctx, "r20261128", false); !errors.Is(err, ErrInUse) {
		t.Errorf("removed a second too early: %v", err)
	}
	w.now = w.now.Add(time.Second)
	w.must(w.ring.Remove(ctx, "r20261128", false))
	w.want("r20271128 signing", "r20271128")
}

// TestCommands: what an operator may do in which state, and what only by force.
func TestCommands(t *testing.T) {
	ctx := t.Context()
	w := newWorld(t)
	r, e := w.add(dkim.RSA), w.add(dkim.Ed25519)
	refused := func(what string, err, want error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	_, err := w.ring.Add(ctx, dkim.RSA)
	refused("a second new key", err, ErrPending)
	_, err = w.ring.Add(ctx, "dsa")
	refused("an unknown algorithm", err, dkim.ErrKey)
	refused("activate unseen", w.ring.Activate(ctx, r.Selector, false), ErrUnseen)
	refused("activate unknown", w.ring.Activate(ctx, "nobody", true), ErrUnknown)
	refused("retire new", w.ring.Retire(ctx, r.Selector, true), ErrState)
	w.must(w.ring.Activate(ctx, r.Selector, true))
	refused("activate again", w.ring.Activate(ctx, r.Selector, true), ErrState)
	refused("remove signing", w.ring.Remove(ctx, r.Selector, true), ErrState)
	refused("retire the last", w.ring.Retire(ctx, r.Selector, false), ErrInUse)
	w.must(w.ring.Activate(ctx, e.Selector, true))
	w.must(w.ring.Retire(ctx, e.Selector, false))
	refused("retire again", w.ring.Retire(ctx, e.Selector, true), ErrState)
	refused("remove retired", w.ring.Remove(ctx, e.Selector, false), ErrInUse)
	w.must(w.ring.Remove(ctx, e.Selector, true))
	w.must(w.ring.Retire(ctx, r.Selector, true))
	w.want("r20261128 retired")
	second := w.add(dkim.RSA)
	if second.Selector != "r20261128b" {
		t.Errorf("the second key of a day is %q", second.Selector)
	}
	w.publish(second)
	w.look()
	w.want("r20261128 retired, r20261128b signing", "r20261128b")
}

// TestMaxKeys: the number of keys has a bound, at both ends.
func TestMaxKeys(t *testing.T) {
	w := newWorld(t)
	for range MaxKeys {
		w.must(w.ring.Activate(t.Context(), w.add(dkim.Ed25519).Selector, true))
	}
	if _, err := w.ring.Add(t.Context(), dkim.Ed25519); !errors.Is(err, ErrTooMany) {
		t.Errorf("one more: %v, want %v", err, ErrTooMany)
	}
	if box, err := w.store.Secret(t.Context(), secretName); err != nil || len(box) > store.MaxSecretSize/2 {
		t.Errorf("%d keys take %d octets, %v", MaxKeys, len(box), err)
	}
}

// TestSecrecy: private halves are in no value that leaves the room, not in what the store keeps, and gone once a key is retired.
func TestSecrecy(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	k := w.add(dkim.Ed25519)
	list, err := w.ring.read(ctx)
	w.must(err)
	private := list[0].Private
	if len(private) == 0 {
		t.Fatal("no private half")
	}
	seed := private[len(private)-32:]
	text, err := json.Marshal(k)
	w.must(err)
	box, err := w.store.Secret(ctx, secretName)
	w.must(err)
	for what, shown := range map[string][]byte{
		"JSON": text, "the store": box, "%+v": fmt.Appendf(nil, "%+v", k), "%#v of the ring": fmt.Appendf(nil, "%#v", w.ring),
	} {
		for _, form := range [][]byte{seed, fmt.Appendf(nil, "%x", seed), bytes.Trim(fmt.Appendf(nil, "%d", seed), "[]")} {
			if bytes.Contains(shown, form) {
				t.Errorf("the private half is in %s", what)
			}
		}
	}
	w.must(w.ring.Activate(ctx, k.Selector, true))
	w.must(w.ring.Retire(ctx, k.Selector, true))
	if list, err = w.ring.read(ctx); err != nil || len(list[0].Private) != 0 {
		t.Errorf("a retired key has its private half: %v", err)
	}
}

// TestDamage: a list that does not open is an error everywhere, and is neither taken for an empty one nor written over.
func TestDamage(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	w.add(dkim.Ed25519)
	box, err := w.store.Secret(ctx, secretName)
	w.must(err)
	box = bytes.Clone(box)
	box[0] ^= 1
	w.must(w.store.PutSecret(ctx, secretName, box))
	_, keysErr := w.ring.Keys(ctx)
	_, addErr := w.ring.Add(ctx, dkim.RSA)
	_, signErr := (&Signer{Ring: w.ring}).Sign(ctx, "example.org", strings.NewReader("From: a@example.org\r\n\r\n"))
	for what, err := range map[string]error{"Keys": keysErr, "Add": addErr, "Sign": signErr} {
		if !errors.Is(err, auth.ErrVault) {
			t.Errorf("%s: %v, want %v", what, err, auth.ErrVault)
		}
	}
	if now, err := w.store.Secret(ctx, secretName); err != nil || !bytes.Equal(now, box) {
		t.Errorf("the damaged list was changed: %v", err)
	}
}

// TestFindings: what is there instead of the record is kept in words.
func TestFindings(t *testing.T) {
	w := newWorld(t)
	k := w.add(dkim.RSA)
	name := dkim.Name(k.Selector, "example.org")
	for _, tt := range []struct {
		texts []string
		want  string
	}{
		{nil, "no key record"},
		{[]string{k.Record, k.Record}, "there are several TXT records at the name, where one belongs"},
		{[]string{k.Record[:255]}, "the key in the record is cut off"},
		{[]string{"v=DKIM1; k=rsa; p=AAAA"}, "the record has another key"},
	} {
		w.dns[name] = tt.texts
		w.look()
		keys, err := w.ring.Keys(t.Context())
		w.must(err)
		if keys[0].Finding != tt.want || keys[0].State != New || keys[0].Looked.IsZero() || !keys[0].Seen.IsZero() {
			t.Errorf("%q: %+v, want %q", tt.texts, keys[0], tt.want)
		}
	}
}

// TestWatcher: it looks by itself, at the start and then every ten minutes, and asks nothing while no key is new.
func TestWatcher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var log bytes.Buffer
		var mu sync.Mutex // protects asked and the DNS
		asked := 0
		times := func() int {
			mu.Lock()
			defer mu.Unlock()
			return asked
		}
		watcher := &Watcher{Ring: w.ring, Settings: w.store, Logger: slog.New(slog.NewTextHandler(&log, nil)),
			TXT: func(ctx context.Context, name string) ([]string, error) {
				mu.Lock()
				defer mu.Unlock()
				asked++
				return w.txt(ctx, name)
			}}
		ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
		done := make(chan struct{})
		go func() {
			watcher.Run(ctx)
			close(done)
		}()
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := times(); n != 0 {
			t.Errorf("asked %d times without a key", n)
		}
		k := w.add(dkim.Ed25519)
		mu.Lock()
		w.publish(k)
		mu.Unlock()
		time.Sleep(lookEvery)
		synctest.Wait()
		if w.states() != "e20261128 signing" || times() != 1 || !strings.Contains(log.String(), "selector=e20261128") {
			t.Errorf("%s, asked %d times: %s", w.states(), times(), log.String())
		}
		time.Sleep(time.Hour)
		cancel()
		<-done
		if n := times(); n != 1 {
			t.Errorf("asked %d times though no key is new", n)
		}
	})
}
