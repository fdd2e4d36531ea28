package webmanager

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/store"
)

// reader counts readings. Each waits for gate, if there is one, and then answers how many there were.
type reader struct {
	n      atomic.Int64
	gate   chan struct{}
	costly bool
	err    error
}

func (r *reader) read(ctx context.Context) (int64, bool, error) {
	n := r.n.Add(1)
	if r.gate != nil {
		<-r.gate
	}
	return n, r.costly, errors.Join(r.err, ctx.Err())
}

// TestKeptManyAskers: many who ask at the same time have it read once, whoever of them goes away.
func TestKeptManyAskers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k kept[string, int64]
		r := &reader{gate: make(chan struct{})}
		first, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		var served atomic.Int64
		ask := func(ctx context.Context) {
			wg.Go(func() {
				if got, err := k.get(ctx, time.Now(), "a", r.read); got == 1 && err == nil {
					served.Add(1)
				}
			})
			synctest.Wait()
		}
		ask(first)
		for range 50 {
			ask(t.Context())
		}
		gone, leave := context.WithCancel(t.Context())
		left := make(chan error, 1)
		go func() {
			_, err := k.get(gone, time.Now(), "a", r.read)
			left <- err
		}()
		synctest.Wait()
		leave()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("who goes away gets %v", err)
		}
		cancel() // who began it is not waited for either, and it ends all the same
		close(r.gate)
		wg.Wait()
		if r.n.Load() != 1 || served.Load() != 51 {
			t.Errorf("%d readings for %d askers", r.n.Load(), served.Load())
		}
	})
}

// TestKeptForAWhile: what was costly is good for keptFresh and not a moment longer, also when the clock goes back; what was cheap, or failed, is read anew.
func TestKeptForAWhile(t *testing.T) {
	for _, tt := range []struct {
		name   string
		costly bool
		err    error
		after  time.Duration
		reads  int64
	}{
		{"costly, at once", true, nil, 0, 1},
		{"costly, still fresh", true, nil, keptFresh - 1, 1},
		{"costly, too old", true, nil, keptFresh, 2},
		{"costly, the clock goes back", true, nil, -1, 2},
		{"cheap", false, nil, 0, 2},
		{"failed", true, errors.New("broken"), 0, 2},
	} {
		var k kept[string, int64]
		r := &reader{costly: tt.costly, err: tt.err}
		for i, at := range []time.Time{noon, noon.Add(tt.after)} {
			if got, err := k.get(t.Context(), at, "a", r.read); err == nil && got != min(int64(i)+1, tt.reads) || (err == nil) != (tt.err == nil) {
				t.Errorf("%s: %d, %v", tt.name, got, err)
			}
		}
		if r.n.Load() != tt.reads {
			t.Errorf("%s: %d readings, want %d", tt.name, r.n.Load(), tt.reads)
		}
	}
}

// TestKeptBounds: at most keptMost are kept, the oldest is forgotten first, and while so many are under way another one is refused.
func TestKeptBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k kept[int, int64]
		r := &reader{costly: true}
		for i := range keptMost + 1 {
			if _, err := k.get(t.Context(), noon.Add(time.Duration(i)), i, r.read); err != nil {
				t.Fatal(err)
			}
		}
		if _, there := k.readings[0]; there || len(k.readings) != keptMost {
			t.Errorf("%d are kept", len(k.readings))
		}
		k = kept[int, int64]{}
		r = &reader{gate: make(chan struct{})}
		var wg sync.WaitGroup
		for i := range keptMost {
			wg.Go(func() { _, _ = k.get(t.Context(), noon, i, r.read) })
		}
		synctest.Wait()
		_, err := k.get(t.Context(), noon, keptMost, r.read)
		var refusal *Error
		if !errors.As(err, &refusal) || refusal.Code != CodeUnavailable {
			t.Errorf("one too many: %v", err)
		}
		close(r.gate)
		wg.Wait()
		if len(k.readings) != 0 {
			t.Errorf("%d cheap ones are kept", len(k.readings))
		}
	})
}

// TestKeptPanic: who waits for a reading that panics gets an error, and the next one reads again.
func TestKeptPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k kept[string, int64]
		gate, waiter := make(chan struct{}), make(chan error, 1)
		go func() {
			defer func() { _ = recover() }()
			_, _ = k.get(t.Context(), noon, "a", func(context.Context) (int64, bool, error) {
				<-gate
				panic("at the disk")
			})
		}()
		synctest.Wait()
		go func() {
			_, err := k.get(t.Context(), noon, "a", new(reader).read)
			waiter <- err
		}()
		synctest.Wait()
		close(gate)
		if err := <-waiter; !errors.Is(err, errReadingFailed) {
			t.Errorf("who waited got %v", err)
		}
		if got, err := k.get(t.Context(), noon, "a", new(reader).read); got != 1 || err != nil {
			t.Errorf("afterwards %d, %v", got, err)
		}
	})
}

// countingStore counts lists that were read from their beginning.
type countingStore struct {
	Store
	accounts, jobs atomic.Int64
}

func (s *countingStore) ListAccounts(ctx context.Context, after string, limit int) ([]store.Account, error) {
	if after == "" && limit == MaxListLimit {
		s.accounts.Add(1)
	}
	return s.Store.ListAccounts(ctx, after, limit)
}

func (s *countingStore) ListJobs(ctx context.Context, f store.QueueFilter, after store.JobID, limit int) ([]store.Job, store.JobID, error) {
	if after == 0 && limit == MaxListLimit {
		s.jobs.Add(1)
	}
	return s.Store.ListJobs(ctx, f, after, limit)
}

// TestOverviewIsKept: of a large domain, mailboxes and queue are read once for all who ask within a while, and what changed is there after it; of one
// that is small, at once. Whoever may not see the overview is not shown what is kept either, and nobody's figures are another window's.
func TestOverviewIsKept(t *testing.T) {
	f := newFixture(t)
	now := noon
	f.api.now = func() time.Time { return now }
	counting := &countingStore{Store: f.store}
	f.api.store = counting
	names := make([]string, costlyAccounts)
	for i := range names {
		names[i] = fmt.Sprintf("box%04d", i)
	}
	f.add(names...)
	for range 2 {
		f.overview("")
	}
	if n := counting.accounts.Load(); n != 2 {
		t.Errorf("%d readings of a domain of %d mailboxes, want 2", n, costlyAccounts)
	}
	f.add("anna")
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() { f.overview("") })
	}
	wg.Wait()
	if n := counting.accounts.Load(); n != 3 {
		t.Errorf("%d readings for 20 askers at once, want 1", n-2)
	}
	if n := counting.jobs.Load(); n < 3 {
		t.Errorf("an empty queue was read %d times, so it was kept", n)
	}
	f.add("bert")
	f.fill("bert", 5000)
	if s := f.overview("").Storage; s.Mailboxes != costlyAccounts+1 || len(s.Largest) != 0 || s.Usage.Messages != 1 {
		t.Errorf("what is kept: %+v", s)
	}
	for _, actor := range []Actor{{Name: "a stranger"}, {Name: "anna", Role: RoleMailbox, Account: f.account("anna").ID}} {
		err := InProcess(f.api, actor).Do(t.Context(), http.MethodGet, "/v1/overview", nil, nil)
		var refusal *Error
		if !errors.As(err, &refusal) || refusal.Code != CodeForbidden {
			t.Errorf("%s gets %v", actor.Name, err)
		}
	}
	if n := counting.accounts.Load(); n != 3 {
		t.Errorf("%d more readings for who may not", n-3)
	}
	if s := f.overview("?days=1").Storage; s.Mailboxes != costlyAccounts+2 {
		t.Errorf("other days have the figures of these: %+v", s)
	}
	now = now.Add(keptFresh)
	if s := f.overview("").Storage; s.Mailboxes != costlyAccounts+2 || len(s.Largest) != 1 || s.Largest[0].Mailbox != "bert" {
		t.Errorf("after a while: %+v", s)
	}
}

// TestOverviewQueueIsKept: so is a long queue.
func TestOverviewQueueIsKept(t *testing.T) {
	f := newFixture(t)
	now := noon
	f.api.now = func() time.Time { return now }
	f.add("anna")
	to := func(n int) (list []string) {
		for i := range n {
			list = append(list, fmt.Sprintf("x%d@other.example", i))
		}
		return list
	}
	f.sentBy("anna", 0, "1", to(costlyJobs)...)
	waiting := func(want int64) {
		t.Helper()
		if q := f.overview("").Queue; q.Waiting != want {
			t.Errorf("%d wait, want %d", q.Waiting, want)
		}
	}
	waiting(costlyJobs)
	f.sentBy("anna", 0, "2", to(1)...)
	waiting(costlyJobs + 1)
	f.sentBy("anna", 0, "3", to(1)...)
	waiting(costlyJobs + 1)
	now = now.Add(keptFresh)
	waiting(costlyJobs + 2)
}

// TestOverviewMailboxRemoved: a mailbox that is removed while the overview is made is left out of it.
func TestOverviewMailboxRemoved(t *testing.T) {
	f := newFixture(t)
	f.add("anna", "bert")
	f.fill("bert", 10)
	f.api.store = &removingStore{Store: f.store, remove: f.account("anna").ID}
	if s := f.overview("").Storage; len(s.Largest) != 1 || s.Largest[0].Mailbox != "bert" {
		t.Errorf("%+v", s)
	}
}

// removingStore removes a mailbox after it was listed.
type removingStore struct {
	Store
	remove store.AccountID
}

func (s *removingStore) ListAccounts(ctx context.Context, after string, limit int) ([]store.Account, error) {
	list, err := s.Store.ListAccounts(ctx, after, limit)
	if s.remove != 0 {
		err = errors.Join(err, s.RemoveAccount(ctx, s.remove))
		s.remove = 0
	}
	return list, err
}

// manyStore has so many empty mailboxes and waiting deliveries.
type manyStore struct {
	Store
	accounts, jobs int
}

func (s *manyStore) ListAccounts(_ context.Context, after string, limit int) (list []store.Account, err error) {
	begin := 0
	if after != "" {
		if _, err := fmt.Sscanf(after, "box%d", &begin); err != nil {
			return nil, err
		}
	}
	for i := begin + 1; i <= s.accounts && len(list) < limit; i++ {
		list = append(list, store.Account{ID: store.AccountID(i), Name: fmt.Sprintf("box%06d", i)})
	}
	return list, nil
}

func (s *manyStore) Usage(context.Context, store.AccountID) (store.Usage, error) {
	return store.Usage{}, nil
}

func (s *manyStore) ListClients(context.Context, store.AccountID, int) ([]store.Client, error) {
	return nil, nil
}

func (s *manyStore) ListJobs(_ context.Context, _ store.QueueFilter, after store.JobID, limit int) (list []store.Job, next store.JobID, err error) {
	for i := int(after) + 1; i <= s.jobs && len(list) < limit; i++ {
		list = append(list, store.Job{ID: store.JobID(i), Received: noon})
	}
	if last := int(after) + len(list); last < s.jobs {
		next = store.JobID(last)
	}
	return list, next, nil
}

// TestOverviewMore: so many mailboxes and deliveries are looked at, and that there are more is said.
func TestOverviewMore(t *testing.T) {
	for _, more := range []int{-1, 0, 1} {
		f := newFixture(t)
		f.api.store = &manyStore{Store: f.store, accounts: maxOverviewAccounts + more, jobs: maxOverviewJobs + more}
		o := f.overview("?days=1")
		if s := o.Storage; s.More != (more > 0) || s.Mailboxes != int64(maxOverviewAccounts+min(more, 0)) {
			t.Errorf("%d more mailboxes: %+v", more, s)
		}
		if q := o.Queue; q.More != (more > 0) || q.Waiting != int64(maxOverviewJobs+min(more, 0)) {
			t.Errorf("%d more deliveries: %+v", more, q)
		}
	}
}
