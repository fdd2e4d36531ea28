package boltstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"latchkey/internal/mailaddr"
	"latchkey/store"
)

const domain = "example.org"

// fate is what a client knows of one message or job that it asked for.
type fate int

const (
	tried    fate = iota // asked for, and never answered, or refused
	acked                // answered with success
	leaving              // acknowledged, then asked to be removed, without an answer
	departed             // removal acknowledged
)

// ledger is what clients know: every promise that was made. Each attempt has a name of its own.
type ledger struct {
	mu       sync.Mutex
	messages map[string]fate
	jobs     map[string]fate
	uids     map[string]string // unique-id -> message, for all that a client was ever told
	grants   map[store.GrantID]netip.Prefix
	revoked  map[store.GrantID]bool
	networks int // given to grants; each has its own
}

func newLedger() *ledger {
	return &ledger{
		messages: make(map[string]fate), jobs: make(map[string]fate), uids: make(map[string]string),
		grants: make(map[store.GrantID]netip.Prefix), revoked: make(map[store.GrantID]bool),
	}
}

func (l *ledger) set(m map[string]fate, name string, f fate) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f == acked && m[name] != tried {
		return // another client has fetched it already
	}
	m[name] = f
}

// saw notes a unique-id, and reports one that was another message's.
func (l *ledger) saw(uid, message string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if before, ok := l.uids[uid]; ok && before != message {
		return fmt.Errorf("unique-id %s was of %q, and is now of %q", uid, before, message)
	}
	l.uids[uid] = message
	return nil
}

// sawGrant notes a grant, and reports one whose id was another's.
func (l *ledger) sawGrant(g store.Grant) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if before, ok := l.grants[g.ID]; ok && before != g.Network {
		return fmt.Errorf("grant %s was for %s, and is now for %s", g.ID, before, g.Network)
	}
	l.grants[g.ID] = g.Network
	return nil
}

// sawRevoked notes grants whose end was acknowledged.
func (l *ledger) sawRevoked(ids ...store.GrantID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range ids {
		l.revoked[id] = true
	}
}

func mustAddress(s string) mailaddr.Address {
	a, err := mailaddr.Parse(s)
	if err != nil {
		panic(err)
	}
	return a
}

// initData makes a data directory with the accounts anna and bob (ids 1 and 2).
func initData(t testing.TB, dir string) {
	t.Helper()
	if err := Init(context.Background(), dir, store.DefaultSettings(domain), Options{}); err != nil {
		t.Fatal(err)
	}
	s := openData(t, dir, Options{})
	for _, name := range []string{"anna", "bob"} {
		if _, err := s.AddAccount(context.Background(), store.Account{Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	closeData(t, s)
}

func openData(t testing.TB, dir string, o Options) *Store {
	t.Helper()
	s, err := Open(context.Background(), dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func closeData(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// send commits one message to anna and bob, or to anna and an address outside.
func send(s *Store, l *ledger, name string, size int, remote bool) error {
	ctx := context.Background()
	body := "Subject: " + name + "\r\n\r\n" + strings.Repeat("x", size)
	l.set(l.messages, name, tried)
	d, err := s.NewDraft(ctx)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(d, body); err != nil {
		return errors.Join(err, d.Abort())
	}
	e := store.Envelope{
		ReversePath: mustAddress("sender@out.example"), Received: time.Now(), HeaderLen: int64(len(name) + 13), HeaderID: "<" + name + ">",
		Recipients: []store.Recipient{{Address: mustAddress("anna@" + domain), Account: 1, Prefix: []byte("X-Copy: 1\r\n")}},
	}
	if remote {
		l.set(l.jobs, name, tried)
		e.Recipients = append(e.Recipients, store.Recipient{Address: mustAddress(name + "@out.example")})
	}
	r, err := d.Commit(ctx, e)
	if err != nil {
		return err
	}
	l.set(l.messages, name, acked)
	if remote {
		l.set(l.jobs, name, acked)
	}
	return l.saw(r.Copies[0].UID, name)
}

func nameOf(body string) string {
	_, rest, _ := strings.Cut(body, "Subject: ")
	name, _, _ := strings.Cut(rest, "\r\n")
	return name
}

// fetch reads anna's maildrop and deletes some of it.
func fetch(s *Store, l *ledger, rng *rand.Rand) error {
	ctx := context.Background()
	m, err := s.OpenMaildrop(ctx, 1)
	if err != nil {
		return err
	}
	defer func() { _ = m.Close() }()
	messages, err := m.Messages(ctx)
	if err != nil {
		return err
	}
	var ids []store.CopyID
	var names []string
	for msg := range messages {
		r, err := m.OpenMessage(ctx, msg.ID)
		if err != nil {
			return err
		}
		b, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil {
			return err
		}
		if err := l.saw(msg.UID, nameOf(string(b))); err != nil {
			return err
		}
		if rng.IntN(3) == 0 {
			ids = append(ids, msg.ID)
			names = append(names, nameOf(string(b)))
		}
	}
	for _, name := range names {
		l.set(l.messages, name, leaving)
	}
	if err := m.Expunge(ctx, ids, nil); err != nil {
		return err
	}
	for _, name := range names {
		l.set(l.messages, name, departed)
	}
	return nil
}

// run works off some jobs.
func run(s *Store, l *ledger, rng *rand.Rand) error {
	now := time.Now().Add(time.Minute)
	jobs, err := s.Lease(context.Background(), now, 0, "out.example", 3, time.Hour)
	if err != nil {
		return err
	}
	for _, j := range jobs {
		o := store.Outcome{Job: j.ID, Lease: j.Lease, Kind: store.Deferred, At: now, Next: now, Text: "try again"}
		if rng.IntN(2) == 0 {
			o.Kind = store.Delivered
			l.set(l.jobs, j.Recipient.Local(), leaving)
		}
		lost, err := s.Finish(context.Background(), now, o)
		if err != nil {
			return err
		}
		if len(lost) == 0 && o.Kind == store.Delivered {
			l.set(l.jobs, j.Recipient.Local(), departed)
		}
	}
	return nil
}

// logIn opens a grant for a network that had none, spends from it, and may end it.
func logIn(s *Store, l *ledger, rng *rand.Rand) error {
	ctx, now := context.Background(), time.Now()
	l.mu.Lock()
	l.networks++
	n := l.networks
	l.mu.Unlock()
	g, err := s.OpenGrant(ctx, now, grantFor(n))
	if err != nil {
		return err
	}
	if err := l.sawGrant(g); err != nil {
		return err
	}
	if rng.IntN(2) == 0 {
		if err := s.flushLazy(ctx); err != nil {
			return err
		}
	}
	if ok, err := s.SpendGrant(ctx, now, g.ID, 1); err != nil || !ok {
		return errors.Join(err, fmt.Errorf("spending of a new grant: %t", ok))
	}
	if rng.IntN(2) == 0 {
		revoked, err := s.RevokeGrants(ctx, now, store.GrantRevoked, g.ID)
		if err != nil {
			return err
		}
		l.sawRevoked(revoked...)
	}
	return nil
}

// verify opens the data and compares it with every promise: nothing acknowledged is lost, nothing is there twice, nothing removed came
// back, no unique-id changed hands, and the store is sound.
func verify(t *testing.T, dir string, l *ledger) {
	t.Helper()
	s := openData(t, dir, Options{})
	defer closeData(t, s)
	ctx := context.Background()
	problems, err := s.Check(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("Check: %+v", p)
	}
	m, err := s.OpenMaildrop(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = m.Close() }()
	found := make(map[string]int)
	for _, msg := range listed(t, m) {
		r, err := m.OpenMessage(ctx, msg.ID)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil || int64(len(b)) != msg.Size {
			t.Errorf("copy %d has %d octets, want %d: %v", msg.ID, len(b), msg.Size, err)
		}
		name := nameOf(string(b))
		found[name]++
		if err := l.saw(msg.UID, name); err != nil {
			t.Error(err)
		}
	}
	compare(t, "message", l.messages, found)
	jobs, err := s.ListJobs(ctx, store.QueueFilter{}, 0, 10_000)
	if err != nil {
		t.Fatal(err)
	}
	found = make(map[string]int)
	for _, j := range jobs {
		found[j.Recipient.Local()]++
		r, err := s.OpenJob(ctx, j.ID)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil || nameOf(string(b)) != j.Recipient.Local() {
			t.Errorf("job of %s yields %q: %v", j.Recipient, nameOf(string(b)), err)
		}
	}
	compare(t, "job", l.jobs, found)
	verifyGrants(t, s, l)
}

// verifyGrants: no id changed hands, and what was revoked is there and ended. The rest may be forgotten.
func verifyGrants(t *testing.T, s *Store, l *ledger) {
	t.Helper()
	ended := make(map[store.GrantID]bool)
	for _, g := range allGrants(t, s) {
		if err := l.sawGrant(g); err != nil {
			t.Error(err)
		}
		if ended[g.ID] = g.End != ""; ended[g.ID] {
			l.sawRevoked(g.ID)
		}
	}
	for id := range l.revoked {
		if !ended[id] {
			t.Errorf("grant %s was revoked, and is live again or unknown", id)
		}
	}
}

// compare holds what was found against the ledger, and from then on takes it for acknowledged: a client has seen it.
func compare(t *testing.T, what string, known map[string]fate, found map[string]int) {
	t.Helper()
	for name, n := range found {
		f, ok := known[name]
		switch {
		case !ok:
			t.Errorf("%s %q was never asked for", what, name)
		case n > 1:
			t.Errorf("%s %q is there %d times", what, name, n)
		case f == departed:
			t.Errorf("%s %q was removed and is back", what, name)
		}
		if ok {
			known[name] = acked
		}
	}
	for name, f := range known {
		if found[name] > 0 {
			continue
		}
		if f == acked {
			t.Errorf("%s %q was acknowledged and is lost", what, name)
		}
		known[name] = departed
	}
}
