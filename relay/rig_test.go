package relay

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"latchkey/internal/resolver"
	"latchkey/store"
	"latchkey/store/boltstore"
	"latchkey/store/memstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func encode(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// rig is a domain with one mailbox, alice, a world around it, and a runner.
type rig struct {
	t     *testing.T
	store store.Store
	// through, if it is set, is what the runner sees of the store.
	through Store
	alice   store.AccountID
	net     *network
	dns     *dns
	opts    Options
	logged  *syncBuffer
	end     func() // stops the run
	ended   error  // what the last run returned
	runner  *Runner
}

// syncBuffer is a log that is read while it is written.
type syncBuffer struct {
	mu sync.Mutex // protects b
	b  strings.Builder
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// onEachStore runs a test in a bubble of fake time, on each engine.
func onEachStore(t *testing.T, test func(t *testing.T, r *rig)) {
	t.Run("memstore", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { test(t, newRig(t)) })
	})
	t.Run("boltstore", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { test(t, newDiskRig(t)) })
	})
}

// newDiskRig is a rig on the engine with files.
func newDiskRig(t *testing.T) *rig {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	if err := boltstore.Init(t.Context(), dir, store.DefaultSettings("example.org"), boltstore.Options{}); err != nil {
		t.Fatal(err)
	}
	st, err := boltstore.Open(context.WithoutCancel(t.Context()), dir, boltstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return newRigOn(t, st)
}

func newRig(t *testing.T) *rig { return newRigOn(t, memstore.New("example.org")) }

func newRigOn(t *testing.T, st store.Store) *rig {
	t.Helper()
	r := &rig{t: t, store: st, net: newNetwork(t), dns: newDNS(), logged: &syncBuffer{}}
	a, err := st.AddAccount(t.Context(), store.Account{Name: "alice", Verifier: "$x", Created: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	r.alice = a.ID
	r.opts = Options{
		Resolver: r.dns, Hostname: "mail.example.org", Dial: r.net.dial, Rand: func() float64 { return 0.5 },
		Logger: slog.New(slog.NewTextHandler(r.logged, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	t.Cleanup(func() {
		r.stop()
		problems, err := r.store.Check(context.WithoutCancel(t.Context()))
		if err != nil {
			t.Error(err)
		}
		for _, p := range problems {
			t.Errorf("Check found %+v", p)
		}
	})
	return r
}

// site makes a domain with a server at an address, its host named mx.DOMAIN.
func (r *rig) site(domain, addr string, s *server) *server {
	r.dns.exchangers(domain, resolver.MX{Host: "mx." + domain, Preference: 10})
	r.dns.host("mx."+domain, addr)
	r.net.listen(addr+":25", s.serve)
	return s
}

// start begins a run.
func (r *rig) start() {
	r.t.Helper()
	r.opts.Store = r.store
	if r.through != nil {
		r.opts.Store = r.through
	}
	runner, err := New(r.opts)
	if err != nil {
		r.t.Fatal(err)
	}
	r.runner = runner
	stop, cancel := context.WithCancel(context.Background())
	abort, cut := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- runner.Run(stop, abort) }()
	r.end = func() {
		cancel()
		grace := time.AfterFunc(10*time.Second, cut)
		r.ended = <-done
		grace.Stop()
		cut()
	}
}

func (r *rig) stop() {
	if r.end != nil {
		r.end()
		r.end = nil
	}
}

// runFor runs for a time of the fake clock.
func (r *rig) runFor(d time.Duration) {
	r.t.Helper()
	r.start()
	time.Sleep(d)
	synctest.Wait()
	r.stop()
	if r.ended != nil {
		r.t.Errorf("Run: %v", r.ended)
	}
}

// post is what a test queues; zero fields are the usual ones.
type post struct {
	from     string // "-" is the null reverse-path
	body     string
	notify   store.Notify
	original string
	ret      store.Return
	envid    string
	eightBit bool
	utf8     bool
	stranger bool // from somebody who proved nothing
	tls      store.TLSDemand
	received time.Time
	by       store.AccountID // alice unless it is another
}

const usualBody = "From: alice@example.org\r\nSubject: hello\r\n\r\nA line.\r\n.dot\r\n"

// queue commits a message to addresses outside and returns its jobs.
func (r *rig) queue(p post, to ...string) store.Receipt {
	r.t.Helper()
	if p.body == "" {
		p.body = usualBody
	}
	e := store.Envelope{
		Submitter: r.alice, Received: p.received, HeaderLen: int64(strings.Index(p.body, "\r\n\r\n") + 4), Return: p.ret, EnvelopeID: p.envid,
		EightBit: p.eightBit, UTF8: p.utf8, TLS: p.tls, Ours: !p.stranger, Origin: store.Origin{Door: "submission"},
	}
	if p.by != 0 {
		e.Submitter = p.by
	}
	if e.Received.IsZero() {
		e.Received = time.Now()
	}
	switch p.from {
	case "-":
	case "":
		e.ReversePath = addr(r.t, "alice@example.org")
	default:
		e.ReversePath = addr(r.t, p.from)
	}
	for _, a := range to {
		e.Recipients = append(e.Recipients, store.Recipient{Address: addr(r.t, a), Notify: p.notify, Original: p.original})
	}
	d, err := r.store.NewDraft(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := io.WriteString(d, p.body); err != nil {
		r.t.Fatal(err)
	}
	receipt, err := d.Commit(r.t.Context(), e)
	if err != nil {
		r.t.Fatal(err)
	}
	return receipt
}

// jobs returns what is queued.
func (r *rig) jobs() []store.Job {
	r.t.Helper()
	jobs, _, err := r.store.ListJobs(context.WithoutCancel(r.t.Context()), store.QueueFilter{}, 0, 1_000_000)
	if err != nil {
		r.t.Fatal(err)
	}
	return jobs
}

// mail returns the messages in alice's maildrop, whole.
func (r *rig) mail() []string {
	r.t.Helper()
	ctx := context.WithoutCancel(r.t.Context())
	md, err := r.store.OpenMaildrop(ctx, r.alice)
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = md.Close() }()
	messages, err := md.Messages(ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	var all []string
	for m := range messages {
		rc, err := md.OpenMessage(ctx, m.ID)
		if err != nil {
			r.t.Fatal(err)
		}
		b, err := io.ReadAll(rc)
		if err != nil {
			r.t.Fatal(err)
		}
		_ = rc.Close()
		all = append(all, string(b))
	}
	return all
}

// trail returns the kinds and texts of what happened to a message.
func (r *rig) trail(id store.MessageID) []string {
	r.t.Helper()
	events, err := r.store.MessageTrail(context.WithoutCancel(r.t.Context()), id)
	if err != nil {
		r.t.Fatal(err)
	}
	var list []string
	for _, e := range events {
		list = append(list, fmt.Sprintf("%s %s: %s", e.Kind, e.Recipient, e.Text))
	}
	return list
}

// became is the last that happened to a message on its way out, once something did. The report on it is not meant.
func (r *rig) became(id store.MessageID) (event string, ok bool) {
	r.t.Helper()
	for _, e := range slices.Backward(r.trail(id)) {
		if !strings.HasPrefix(e, "reported") {
			return e, !strings.HasPrefix(e, "queued")
		}
	}
	return "", false
}

// until waits for something, by the real clock.
func (r *rig) until(what string, is func() bool) {
	r.t.Helper()
	deadline := time.Now().Add(time.Minute)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !is() {
		if time.Now().After(deadline) {
			r.t.Fatalf("%s: not in time\n%s", what, r.logged)
		}
		<-tick.C
	}
}

// leased reports jobs that cannot be leased although they are due: a lease was not given back.
func (r *rig) leased() int {
	r.t.Helper()
	ctx := context.WithoutCancel(r.t.Context())
	free := 0
	var back []store.Job
	seen := map[string]bool{}
	for _, j := range r.jobs() {
		key := fmt.Sprint(j.Submitter, j.Recipient.Domain())
		if seen[key] {
			continue
		}
		seen[key] = true
		jobs, err := r.store.Lease(ctx, time.Now().Add(GiveUpAge), j.Submitter, j.Recipient.Domain(), 1_000_000, time.Second)
		if err != nil {
			r.t.Fatal(err)
		}
		free += len(jobs)
		back = append(back, jobs...)
	}
	if err := r.store.Return(ctx, back...); err != nil {
		r.t.Fatal(err)
	}
	return len(r.jobs()) - free
}
