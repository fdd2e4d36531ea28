package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/internal/mailaddr"
	"latchkey/internal/relayprobe"
	"latchkey/store"
	"latchkey/store/memstore"
)

// holed is a store that, while the hole is open, follows percent signs to other hosts.
type holed struct {
	store.Store
	open *atomic.Bool
}

func (h holed) Resolve(ctx context.Context, addr mailaddr.Address) (store.Route, error) {
	if h.open.Load() && strings.HasPrefix(addr.Local(), "victim%") {
		return store.Route{Local: []store.AccountID{0}}, nil // account 0 makes a job of it
	}
	if h.open.Load() && strings.HasPrefix(addr.Local(), "elsewhere.example!") { // accepted, wherever it goes
		addr, _ = mailaddr.New("postmaster", "example.com")
	}
	return h.Store.Resolve(ctx, addr)
}

// holedServer is a server with a hole that is shut at first.
func holedServer(t *testing.T) (*testServer, *atomic.Bool) {
	t.Helper()
	s, open := newTestServer(t, "example.com"), new(atomic.Bool)
	s.proves, s.wrap = true, func(st store.Store) store.Store { return holed{st, open} }
	return s, open
}

func (s *testServer) proofs() int { return strings.Count(s.log.String(), "relay proof passed") }

// TestRelayProofAtStart: it is made once for the settings as they are, and again when they are others.
func TestRelayProofAtStart(t *testing.T) {
	s := newTestServer(t, "example.com")
	s.proves = true
	for i, want := range []int{1, 1} {
		s.start()
		s.stop()
		if got := s.proofs(); got != want {
			t.Errorf("start %d: %d proofs, want %d", i+1, got, want)
		}
	}
	s.inStore(func(st store.Store) {
		settings, err := st.Settings(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		settings.DailyRecipients++
		if _, err := st.UpdateSettings(t.Context(), settings); err != nil {
			t.Fatal(err)
		}
	})
	s.start()
	if got := s.proofs(); got != 2 {
		t.Errorf("after a change of settings: %d proofs, want 2", got)
	}
}

// TestRelayProofKeepsDoorsShut: a server that would relay does not start, and says why.
func TestRelayProofKeepsDoorsShut(t *testing.T) {
	s, open := holedServer(t)
	open.Store(true)
	st, err := openStore(t.Context(), s.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = st.Close() }() // read only
	_, err = wire(t.Context(), s.config, s.wrap(st), slog.New(slog.DiscardHandler), s.now)
	const want = `the relay proof failed: relays at mx for anonymous: probe "victim%elsewhere.example@example.com"`
	if !errors.Is(err, errRelays) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v, want %s", err, want)
	}
}

// TestRelayProofShutsDoors: a server that begins to relay shuts its SMTP doors as soon as the proof sees it, tells postmaster, lets mail be
// fetched, and ends with an error.
func TestRelayProofShutsDoors(t *testing.T) {
	s, open := holedServer(t)
	s.start()
	if status, out, _ := s.latchkey("relay-proof"); status != 0 || !strings.Contains(out, "PASSED: nothing was relayed") {
		t.Fatalf("before: %d %s", status, out)
	}
	mx, submission := s.addr("mx"), s.addr("submission")
	open.Store(true)
	status, out, stderr := s.latchkey("relay-proof", "--json")
	var report relayprobe.Report
	if err := json.Unmarshal([]byte(out), &report); err != nil || status != 1 || report.Passed || report.Count(relayprobe.VerdictRelayed) == 0 {
		t.Fatalf("with a hole: %d, %v, %q: %+v", status, err, stderr, report)
	}
	for _, address := range []string{mx, submission} {
		if conn, err := net.Dial("tcp", address); err == nil {
			_ = conn.Close()
			t.Errorf("%s is open", address)
		}
	}
	mail := s.fetch("postmaster", "password of postmaster")
	if len(mail) != 1 || !strings.Contains(mail[0], "Subject: The relay proof failed") || !strings.Contains(mail[0], "relays at mx for anonymous") {
		t.Errorf("postmaster has %q", mail)
	}
	s.do(http.MethodPost, "/v1/relay-proof", nil, &report) // a second failure is no second notice
	if mail := s.fetch("postmaster", "password of postmaster"); len(mail) != 1 {
		t.Errorf("postmaster has %d notices", len(mail))
	}
	s.cancel()
	if err := <-s.ended; !errors.Is(err, errRelays) {
		t.Errorf("the server ended with %v", err)
	}
	close(s.ended)
}

// TestRelayProofOverTheWire: the command tries a server as anybody would, and says what it saw. A stranger is kept from port 25 after the third try,
// which is no pass; from an address where somebody logged in all is tried.
func TestRelayProofOverTheWire(t *testing.T) {
	t.Parallel() // it waits for greetings
	s, open := holedServer(t)
	s.start()
	s.addAccount("alice", "password of alice")
	status, out, _ := s.latchkey("relay-proof", s.addr("mx"))
	if status != 1 || !strings.Contains(out, "FAILED: not all was tried, and nothing was relayed until then: stopped after 5 of ") {
		t.Errorf("as a stranger: %d %s", status, out)
	}
	s.fetch("alice", "password of alice")
	for _, door := range []string{"mx", "submission"} {
		status, out, stderr := s.latchkey("relay-proof", s.addr(door))
		if status != 0 || !strings.Contains(out, "PASSED: nothing was relayed") || !strings.Contains(out, "host      mail.example.com") {
			t.Errorf("%s: %d %s\n%s", door, status, stderr, out)
		}
	}
	open.Store(true)
	status, out, _ = s.latchkey("relay-proof", "--domain", "example.com", s.addr("mx"))
	if status != 1 || !strings.Contains(out, `FAILED: relays at `) || !strings.Contains(out, "elsewhere.example!victim@example.com") {
		t.Errorf("with a hole: %d %s", status, out)
	}
	if jobs := s.queue(); len(jobs) != 0 {
		t.Errorf("the probes left %d jobs", len(jobs))
	}
	for _, args := range [][]string{{"relay-proof", "nonsense"}, {"relay-proof", "--domain", "example.com"}, {"relay-proof", "a:1", "b:2"}} {
		if status, _, _ := s.latchkey(args...); status != 2 {
			t.Errorf("%q: status %d, want 2", args, status)
		}
	}
	if status, _, _ := s.latchkey("relay-proof", "127.0.0.1:1"); status != 1 {
		t.Errorf("nobody there: status %d", status)
	}
}

// TestRelayProofRuns: every night, and soon after a change of settings; and a failure ends it.
func TestRelayProofRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open := new(atomic.Bool)
		st := memstore.New("example.com")
		account, err := st.AddAccount(t.Context(), store.Account{Name: "postmaster"})
		if err != nil || account.ID == 0 {
			t.Fatal(err)
		}
		log := &logBuffer{}
		p := newProver(holed{st, open}, "mail.example.com", slog.New(slog.NewTextHandler(log, nil)), time.Now)
		var failed atomic.Int32
		p.failed = func(context.Context, relayprobe.Report) { failed.Add(1) }
		proofs := func() int { return strings.Count(log.String(), "relay proof passed") }
		want := func(when string, n, f int) {
			t.Helper()
			synctest.Wait()
			if got := proofs(); got != n || int(failed.Load()) != f {
				t.Errorf("%s: %d proofs and %d failures, want %d and %d", when, got, failed.Load(), n, f)
			}
		}
		if err := p.atStart(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		ended := make(chan struct{})
		go func() { defer close(ended); p.Run(ctx) }()
		want("at start", 1, 0)
		time.Sleep(2*time.Hour + 59*time.Minute) // the bubble begins at midnight
		want("before three", 1, 0)
		time.Sleep(62 * time.Minute)
		want("after four", 2, 0)
		time.Sleep(24 * time.Hour)
		want("a day later", 3, 0)
		settings, err := st.Settings(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		settings.AuthOnMX = false
		if _, err := st.UpdateSettings(t.Context(), settings); err != nil {
			t.Fatal(err)
		}
		time.Sleep(proofPause + time.Second)
		want("after a change", 4, 0)
		open.Store(true)
		time.Sleep(25 * time.Hour)
		want("with a hole", 4, 1)
		<-ended
	})
}
