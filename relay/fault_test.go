package relay

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/internal/mailaddr"
	"latchkey/store"
	"latchkey/store/memstore"
)

// faulty is a store between the runner and the real one: it counts the calls that the runner makes, and before or after the n-th one
// something happens.
type faulty struct {
	Store
	// openJob, if it is set, changes what OpenJob returns.
	openJob func(io.ReadCloser, error) (io.ReadCloser, error)

	mu sync.Mutex // protects what follows
	n  int
	// at is asked at each call; an error takes the place of the call.
	at func(n int, verb string) error
	// out is how many leases are out, most how many there were at once.
	out, most int
}

func (f *faulty) lent(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.out += n
	f.most = max(f.most, f.out)
}

// atMost is how many leases were out at once.
func (f *faulty) atMost() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.most
}

func (f *faulty) call(verb string) error {
	f.mu.Lock()
	f.n++
	n, at := f.n, f.at
	f.mu.Unlock()
	if at == nil {
		return nil
	}
	return at(n, verb)
}

func (f *faulty) Destinations(ctx context.Context, now time.Time, after store.Destination, limit int) ([]store.Destination, error) {
	if err := f.call("Destinations"); err != nil {
		return nil, err
	}
	return f.Store.Destinations(ctx, now, after, limit)
}

func (f *faulty) Lease(
	ctx context.Context, now time.Time, submitter store.AccountID, domain string, limit int, d time.Duration,
) ([]store.Job, error) {
	if err := f.call("Lease"); err != nil {
		return nil, err
	}
	jobs, err := f.Store.Lease(ctx, now, submitter, domain, limit, d)
	f.lent(len(jobs))
	return jobs, err
}

func (f *faulty) OpenJob(ctx context.Context, id store.JobID) (io.ReadCloser, error) {
	if err := f.call("OpenJob"); err != nil {
		return nil, err
	}
	rc, err := f.Store.OpenJob(ctx, id)
	if f.openJob != nil {
		return f.openJob(rc, err)
	}
	return rc, err
}

func (f *faulty) Finish(ctx context.Context, now time.Time, outcomes ...store.Outcome) ([]store.JobID, error) {
	if err := f.call("Finish"); err != nil {
		return nil, err
	}
	f.lent(-len(outcomes))
	return f.Store.Finish(ctx, now, outcomes...)
}

func (f *faulty) Return(ctx context.Context, jobs ...store.Job) error {
	if err := f.call("Return"); err != nil {
		return err
	}
	f.lent(-len(jobs))
	return f.Store.Return(ctx, jobs...)
}

func (f *faulty) Resolve(ctx context.Context, a mailaddr.Address) (store.Route, error) {
	if err := f.call("Resolve"); err != nil {
		return store.Route{}, err
	}
	return f.Store.Resolve(ctx, a)
}

func (f *faulty) Settings(ctx context.Context) (store.Settings, error) {
	if err := f.call("Settings"); err != nil {
		return store.Settings{}, err
	}
	return f.Store.Settings(ctx)
}

func (f *faulty) NewDraft(ctx context.Context) (store.Draft, error) {
	if err := f.call("NewDraft"); err != nil {
		return nil, err
	}
	d, err := f.Store.NewDraft(ctx)
	if err != nil {
		return nil, err
	}
	return &faultyDraft{Draft: d, f: f}, nil
}

type faultyDraft struct {
	store.Draft
	f *faulty
}

func (d *faultyDraft) Write(p []byte) (int, error) {
	if err := d.f.call("Write"); err != nil {
		return 0, err
	}
	return d.Draft.Write(p)
}

func (d *faultyDraft) Commit(ctx context.Context, e store.Envelope) (store.Receipt, error) {
	if err := d.f.call("Commit"); err != nil {
		_ = d.Abort()
		return store.Receipt{}, err
	}
	d.f.lent(-len(e.Settles))
	return d.Draft.Commit(ctx, e)
}

// faultWorld is what the fault tests send: one message that is delivered, one that is delivered with a report, one that bounces for two
// of three recipients, and one that is put off first.
func faultWorld(r *rig) (world func() (delivered map[string]int, bounces int)) {
	later := 0
	good := r.site("good.example", "192.0.2.1", &server{caps: []string{"8BITMIME"}, answer: func(c string) string {
		switch {
		case strings.Contains(c, "bad"):
			return "550 5.1.1 no"
		case strings.Contains(c, "later"):
			if later++; later == 1 {
				return "451 4.7.1 later"
			}
		}
		return ""
	}})
	r.queue(post{}, "plain@good.example")
	r.queue(post{notify: store.NotifySuccess | store.NotifyFailure}, "told@good.example")
	r.queue(post{}, "bad1@good.example", "bad2@good.example", "beside@good.example")
	r.queue(post{}, "later@good.example")
	return func() (map[string]int, int) {
		delivered := map[string]int{}
		for _, l := range good.taken() {
			for _, to := range l.to {
				delivered[strings.TrimSuffix(strings.Split(to, "@")[0], "@")[len("RCPT TO:<"):]]++
			}
		}
		failed := 0
		for _, m := range r.mail() {
			if rep := readReport(r.t, m); rep.recipients[0].Get("Action") == "failed" {
				failed += len(rep.recipients)
			}
		}
		return delivered, failed
	}
}

// TestFaultAtEveryCall lets each call that the runner makes to the store fail once, or be the moment of a stop, or be the last one that
// works; afterwards another run goes on. Each job is delivered or bounced: exactly once, except that after a crash between a host's 250
// and the end of our own commit it is delivered again.
func TestFaultAtEveryCall(t *testing.T) {
	for _, kind := range []string{"fails once", "stop", "stop and abort", "dead from then on"} {
		for n, more := 1, true; more; n++ {
			t.Run(fmt.Sprintf("%s/%d", kind, n), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { more = faultAt(t, newRig(t), kind, n) })
			})
			if n > 200 {
				t.Fatal("no end of calls")
			}
		}
	}
}

// TestFaultOnDisk is the same on the engine with files, at every fifth call.
func TestFaultOnDisk(t *testing.T) {
	for _, kind := range []string{"fails once", "stop and abort"} {
		for n := 1; n < 36; n += 5 {
			t.Run(fmt.Sprintf("%s/%d", kind, n), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { faultAt(t, newDiskRig(t), kind, n) })
			})
		}
	}
}

// faultAt reports whether the n-th call came.
func faultAt(t *testing.T, r *rig, kind string, n int) bool {
	world := faultWorld(r)
	stop, cancel := context.WithCancel(context.Background())
	abort, cut := context.WithCancel(context.Background())
	defer cancel()
	defer cut()
	hit := ""
	f := &faulty{Store: r.store, at: func(i int, verb string) error {
		if i < n || kind != "dead from then on" && i > n {
			return nil
		}
		if i == n {
			hit = verb
		}
		switch kind {
		case "stop and abort":
			cut()
			cancel()
			return nil
		case "stop":
			cancel()
			return nil
		}
		return errTest
	}}
	r.opts.Store = f
	runner, err := New(r.opts)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- runner.Run(stop, abort) }()
	time.Sleep(20 * time.Minute)
	cancel()
	time.Sleep(10 * time.Second)
	cut()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
	if left := r.leased(); left != 0 && kind != "dead from then on" {
		t.Errorf("%d leases left", left)
	}
	if kind == "dead from then on" {
		r.store = r.store.(*memstore.Store).Reopen()
	}
	r.runFor(2 * time.Hour)
	delivered, failed := world()
	if failed != 2 {
		t.Errorf("%d failures reported, want 2", failed)
	}
	for _, name := range []string{"plain", "told", "beside", "later"} {
		again := kind == "dead from then on" || kind == "stop and abort"
		if got := delivered[name]; got != 1 && (got != 2 || !again) {
			t.Errorf("after %s at call %d (%s): %s was delivered %d times", kind, n, hit, name, got)
		}
	}
	if len(r.jobs()) != 0 {
		t.Errorf("left over: %+v", r.jobs())
	}
	return hit != ""
}
