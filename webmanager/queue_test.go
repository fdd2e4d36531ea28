package webmanager

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"latchkey/store"
)

// act acts on the queue and returns what became of the deliveries: done, gone and refused.
func (f *fixture) act(verb string, reason string, ids ...store.JobID) string {
	f.Helper()
	var r QueueResult
	f.do("POST", "/v1/queue/"+verb, QueueAction{IDs: ids, Reason: reason}, &r)
	return fmt.Sprint(r.Done, r.Gone, r.Refused)
}

func (f *fixture) job(id store.JobID) store.Job {
	f.Helper()
	var j store.Job
	f.do("GET", fmt.Sprintf("/v1/queue/%d", id), nil, &j)
	return j
}

func TestQueueActions(t *testing.T) {
	f := newFixture(t)
	f.add("anna", "bert")
	first := f.deliver().Jobs
	second := f.deliver().Jobs
	a, b, c, d := first[0], first[1], second[0], second[1]
	if got := f.act("hold", "looks odd", b, a, 99, a); got != fmt.Sprintf("[%d %d] [99] []", a, b) {
		t.Errorf("hold: got %s", got)
	}
	if j := f.job(a); !j.Held || j.HoldReason != "looks odd" {
		t.Errorf("held: got %+v", j)
	}
	if got := f.act("retry", "", a, c); got != fmt.Sprintf("[%d] [] [{%d it is held: release it, and it is tried at once}]", c, a) {
		t.Errorf("retry: got %s", got)
	}
	if j := f.job(c); !j.NextAttempt.Equal(noon) || !j.Released || j.Held {
		t.Errorf("to be tried: got %+v", j)
	}
	if !f.job(a).Held {
		t.Error("retry ended a hold")
	}
	if got := f.act("release", "", a, d); got != fmt.Sprintf("[%d] [] [{%d it is not held: retry it to have it tried at once}]", a, d) {
		t.Errorf("release: got %s", got)
	}
	if j := f.job(a); j.Held || !j.NextAttempt.Equal(noon) {
		t.Errorf("released: got %+v", j)
	}
	if got := f.act("remove", "", a, b, 99); got != fmt.Sprintf("[%d %d] [99] []", a, b) {
		t.Errorf("remove: got %s", got)
	}
	if err := f.client.Do(t.Context(), "GET", fmt.Sprintf("/v1/queue/%d", b), nil, nil); !isCode(err, CodeNotFound) {
		t.Errorf("removed: got %v", err)
	}
	if got := f.act("hold", "", d); got != fmt.Sprintf("[%d] [] []", d) || f.job(d).HoldReason != heldByHand {
		t.Errorf("hold without a reason: got %s, %+v", got, f.job(d))
	}
	if got := f.act("remove", "", 99, 98); got != "[] [98 99] []" {
		t.Errorf("nothing there: got %s", got)
	}
	want := []string{
		fmt.Sprintf(`tester queue.hold delivery %d >{"jobs":["%d %s y@two.example"],"reason":"by hand"}`, d, d, f.job(d).Message),
		fmt.Sprintf(`tester queue.remove 2 deliveries >{"jobs":["%d 0000000000000001 x@one.example","%d 0000000000000001 y@two.example"]}`, a, b),
		fmt.Sprintf(`tester queue.release delivery %d >{"jobs":["%d 0000000000000001 x@one.example"]}`, a, a),
		fmt.Sprintf(`tester queue.retry delivery %d >{"jobs":["%d %s x@one.example"]}`, c, c, f.job(c).Message),
		fmt.Sprintf(`tester queue.hold 2 deliveries >{"jobs":["%d 0000000000000001 x@one.example","%d 0000000000000001 y@two.example"],"reason":"looks odd"}`, a, b),
	}
	if got := f.actions("queue"); !slices.Equal(got, want) {
		t.Errorf("audit: got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// vanishingStore has jobs delivered between a look at them and the verb.
type vanishingStore struct {
	Store
	gone   map[store.JobID]bool
	err    error
	calls  int
	reason string
}

func (s *vanishingStore) Job(_ context.Context, id store.JobID) (store.Job, error) {
	return store.Job{ID: id}, nil
}

func (s *vanishingStore) HoldJobs(_ context.Context, reason string, ids ...store.JobID) error {
	s.calls++
	s.reason = reason
	if slices.ContainsFunc(ids, func(id store.JobID) bool { return s.gone[id] }) {
		return store.ErrNotFound
	}
	return s.err
}

// TestDeliveredMeanwhile: deliveries that end between the look and the act hold up none of the others, at a bounded cost.
func TestDeliveredMeanwhile(t *testing.T) {
	f := newFixture(t)
	ids := make([]store.JobID, MaxActionIDs)
	for i := range ids {
		ids[i] = store.JobID(i + 1)
	}
	for _, gone := range [][]store.JobID{nil, {1}, {1000}, {500, 501}, {1, 2, 3, 999, 1000}, ids} {
		s := &vanishingStore{Store: f.api.store, gone: map[store.JobID]bool{}}
		for _, id := range gone {
			s.gone[id] = true
		}
		client := InProcess(New(Options{Store: s, Hasher: fakeHasher{}}), Actor{Role: RoleOperator, Name: "tester"})
		var r QueueResult
		if err := client.Do(t.Context(), "POST", "/v1/queue/hold", QueueAction{IDs: ids}, &r); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(r.Gone, gone) && len(gone) > 0 || len(r.Done) != len(ids)-len(gone) || slices.ContainsFunc(r.Done, func(id store.JobID) bool { return s.gone[id] }) {
			t.Errorf("%d gone: got %d done, gone %v", len(gone), len(r.Done), r.Gone)
		}
		if most := 1 + 2*len(gone)*10; s.calls > most {
			t.Errorf("%d gone: %d calls, want at most %d", len(gone), s.calls, most)
		}
	}
	s := &vanishingStore{Store: f.api.store, err: store.ErrNoSpace}
	client := InProcess(New(Options{Store: s, Hasher: fakeHasher{}}), Actor{Role: RoleOperator, Name: "tester"})
	before := len(f.audit())
	if err := client.Do(t.Context(), "POST", "/v1/queue/hold", QueueAction{IDs: ids}, nil); !isCode(err, CodeUnavailable) || s.calls != 1 {
		t.Errorf("full disk: got %v after %d calls", err, s.calls)
	}
	if len(f.audit()) != before {
		t.Error("what was not done was audited")
	}
}

// TestManyAreAudited: an audit entry names at most auditedJobs deliveries, and together they name all.
func TestManyAreAudited(t *testing.T) {
	for n := auditedJobs - 1; n <= auditedJobs+1; n++ {
		f := newFixture(t)
		s := &vanishingStore{Store: f.api.store}
		ids := make([]store.JobID, n)
		for i := range ids {
			ids[i] = store.JobID(i + 1)
		}
		client := InProcess(New(Options{Store: s, Hasher: fakeHasher{}}), Actor{Role: RoleOperator, Name: "tester"})
		if err := client.Do(t.Context(), "POST", "/v1/queue/hold", QueueAction{IDs: ids}, nil); err != nil {
			t.Fatal(err)
		}
		named := 0
		for _, e := range f.audit() {
			named += strings.Count(e.After, "0000000000000000")
		}
		if want := (n + auditedJobs - 1) / auditedJobs; len(f.audit()) != want || named != n {
			t.Errorf("%d deliveries: %d entries with %d, want %d", n, len(f.audit()), named, want)
		}
	}
}

// TestUnauditedQueueAction: what was done stands, and whoever did it is told that it was not noted.
func TestUnauditedQueueAction(t *testing.T) {
	f := newFixture(t)
	f.add("anna", "bert")
	jobs := f.deliver().Jobs
	client := InProcess(New(Options{Store: failingStore{f.store, errors.New("disk on fire")}, Hasher: fakeHasher{}}), Actor{Role: RoleOperator, Name: "tester"})
	err := client.Do(t.Context(), "POST", "/v1/queue/hold", QueueAction{IDs: jobs}, nil)
	if !isCode(err, CodeInternal) || !strings.Contains(err.Error(), "could not be written to the audit log") || !f.job(jobs[0]).Held {
		t.Errorf("got %v", err)
	}
}
