package main

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"latchkey/internal/resolver/resolvertest"
	"latchkey/store"
)

// watchedStore notes the envelopes that are committed.
type watchedStore struct {
	store.Store
	mu   sync.Mutex // protects seen
	seen []store.Envelope
}

type watchedDraft struct {
	store.Draft
	of *watchedStore
}

func (w *watchedStore) NewDraft(ctx context.Context) (store.Draft, error) {
	d, err := w.Store.NewDraft(ctx)
	return &watchedDraft{d, w}, err
}

func (d *watchedDraft) Commit(ctx context.Context, e store.Envelope) (store.Receipt, error) {
	d.of.mu.Lock()
	d.of.seen = append(d.of.seen, e)
	d.of.mu.Unlock()
	return d.Draft.Commit(ctx, e)
}

// TestWhoseMail: what a user submits, and what the server writes itself, is the domain's own; what a stranger brings is not, not even if it says
// that it is from a user.
func TestWhoseMail(t *testing.T) {
	out := newSink(t, func(s *sink) {
		s.answer = func(rcpt string) string {
			return map[string]string{"nobody@sink.example": "550 5.1.1 no such user"}[rcpt]
		}
	})
	s := newTestServer(t, "example.com")
	watched := &watchedStore{}
	s.wrap = func(st store.Store) store.Store {
		watched.Store = st
		return watched
	}
	s.sendsTo(out.port(), "sink.example")
	s.start()
	s.addAccount("anna", "password of anna")
	s.send("anna", "password of anna", []string{"nobody@sink.example"}, message("of anna"))
	s.arrived("anna", "password of anna", 1) // the bounce
	s.deliver("stranger@elsewhere.example", []string{"anna@example.com"}, "From: anna@example.com\r\nSubject: forged\r\n\r\nx\r\n")
	watched.mu.Lock()
	defer watched.mu.Unlock()
	var got []bool
	for _, e := range watched.seen {
		got = append(got, e.Ours)
	}
	if want := []bool{true, true, false}; !slices.Equal(got, want) {
		t.Errorf("mail of a user, its bounce, a stranger's: ours %v, want %v", got, want)
	}
}

// TestKeysSignOncePublished: the records that the server asks for are found to be right once they are published, the keys sign by themselves then,
// and mail that waited over a restart is signed.
func TestKeysSignOncePublished(t *testing.T) {
	var open atomic.Bool
	out := newSink(t, func(s *sink) {
		s.answer = func(rcpt string) string {
			if rcpt == "later@sink.example" && !open.Load() {
				return "450 4.7.1 later"
			}
			return ""
		}
	})
	s := newTestServer(t, "example.com")
	s.config.Reputation.Addresses = []netip.Addr{netip.MustParseAddr("192.0.2.25")}
	dns := s.sendsTo(out.port(), "sink.example")
	dns.Behave("", "", resolvertest.Normal)
	s.start()
	s.addAccount("anna", "password of anna")
	if status, text, _ := s.latchkey("dns", "--check"); status != 1 || !strings.Contains(text, "make DKIM keys") {
		t.Errorf("before there are keys: status %d\n%s", status, text)
	}
	s.publishRecords(dns)
	if status, text, stderr := s.latchkey("dkim", "check"); status != 0 || strings.Count(text, "signing") != 2 {
		t.Fatalf("keys do not sign once their records are there: %d\n%s%s", status, text, stderr)
	}
	if status, text, stderr := s.latchkey("dns", "--check"); status != 0 || strings.Contains(text, "WRONG") {
		t.Errorf("published as the server asks: status %d\n%s%s", status, text, stderr)
	}
	s.send("anna", "password of anna", []string{"otto@sink.example"}, message("of anna"))
	s.send("anna", "password of anna", []string{"later@sink.example"}, message("later"))
	eventually(t, "one delivery is put off, the other done", func() bool {
		jobs := s.queue()
		return len(jobs) == 1 && jobs[0].Attempts == 1
	})
	s.stop()
	open.Store(true)
	s.start() // whose mail it is survives
	s.retryAll()
	for _, m := range out.wait(2) {
		if !strings.HasPrefix(m.data, "DKIM-Signature: v=1; a=rsa-sha256;") || strings.Count(m.data, "d=example.com;") != 2 {
			t.Errorf("not signed:\n%s", m.data)
		}
	}
	if strings.Contains(s.log.String(), "BEGIN") || strings.Contains(s.log.String(), "private") {
		t.Error("a key is in the log")
	}
}

// publishRecords makes keys and puts all that the server wants into a DNS.
func (s *testServer) publishRecords(dns *resolvertest.Server) {
	s.t.Helper()
	if status, _, stderr := s.latchkey("dkim", "add"); status != 0 {
		s.t.Fatal(stderr)
	}
	status, zone, stderr := s.latchkey("dns")
	if status != 0 {
		s.t.Fatal(stderr)
	}
	sets := map[[2]string][]string{}
	for line := range strings.Lines(zone) {
		f := strings.SplitN(strings.TrimSpace(line), " ", 5)
		if len(f) < 5 || strings.HasPrefix(line, ";") {
			continue
		}
		key := [2]string{strings.TrimSuffix(f[0], "."), f[3]}
		if !slices.Contains(sets[key], f[4]) {
			sets[key] = append(sets[key], f[4])
		}
	}
	for key, list := range sets {
		dns.Set(key[0], key[1], list...)
	}
	dns.Set("25.2.0.192.in-addr.arpa", "PTR", s.config.Hostname+".")
}
