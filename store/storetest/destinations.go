package storetest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"latchkey/store"
)

var destinationTests = []test{
	{"Destinations", TestDestinations},
	{"DestinationsOfLeasedJobs", TestDestinationsOfLeasedJobs},
	{"DestinationsInPages", TestDestinationsInPages},
	{"LeaseByDestination", TestLeaseByDestination},
	{"LineForEachSubmitter", TestLineForEachSubmitter},
	{"Fresh", TestFresh},
	{"FreshIsBounded", TestFreshIsBounded},
	{"DeadDestinationsHoldUpNobody", TestDeadDestinationsHoldUpNobody},
	{"ReturnLeases", TestReturnLeases},
	{"ReturnLostLeases", TestReturnLostLeases},
	{"FinishShared", TestFinishShared},
	{"FinishWarned", TestFinishWarned},
	{"OutcomesOfNoSense", TestOutcomesOfNoSense},
	{"Released", TestReleased},
}

// wantDestinations compares all destinations at a moment.
func (h *harness) wantDestinations(now time.Time, want ...store.Destination) {
	h.t.Helper()
	got, err := h.s.Destinations(h.ctx, now, store.Destination{}, 1000)
	h.must(err)
	if !slices.EqualFunc(got, want, sameDestination) {
		h.t.Errorf("destinations %v, want %v", got, want)
	}
}

func sameDestination(a, b store.Destination) bool {
	return a.Submitter == b.Submitter && a.Domain == b.Domain && a.Due.Equal(b.Due)
}

// queueAt makes a job that is due at a moment.
func (h *harness) queueAt(addr string, due time.Time) store.JobID {
	h.t.Helper()
	id := h.queue(addr)
	h.must(h.s.ReleaseJobs(h.ctx, due, id))
	return id
}

// leaseFrom leases from one destination and compares which jobs came.
func (h *harness) leaseFrom(now time.Time, destination string, limit int, want ...store.JobID) []store.Job {
	h.t.Helper()
	jobs, err := h.s.Lease(h.ctx, now, 0, destination, limit, time.Minute)
	h.must(err)
	if got := jobIDs(jobs); !slices.Equal(got, want) {
		h.t.Errorf("leased jobs %v of %s, want %v", got, destination, want)
	}
	return jobs
}

// TestDestinations: each domain once, in order of name, with its earliest job, due or not; held jobs do not count.
func TestDestinations(t *testing.T, f Factory) {
	h := open(t, f)
	h.wantDestinations(h.now)
	at := func(hours int) time.Time { return h.now.Add(time.Duration(hours) * time.Hour) }
	late, early := h.queueAt("a@b.example", at(3)), h.queueAt("b@b.example", at(1))
	sub, longer := h.queueAt("a@a.b.example", at(-2)), h.queueAt("a@b.example.net", at(2))
	all := []store.Destination{{Domain: "a.b.example", Due: at(-2)}, {Domain: "b.example", Due: at(1)}, {Domain: "b.example.net", Due: at(2)}}
	for range 2 {
		h.wantDestinations(h.now, all...)
		h.reopen()
	}
	h.must(h.s.HoldJobs(h.ctx, "", early, sub))
	h.wantDestinations(h.now, store.Destination{Domain: "b.example", Due: at(3)}, all[2])
	h.must(h.s.ReleaseJobs(h.ctx, at(5), early))
	h.must(h.s.RemoveJobs(h.ctx, late, longer))
	h.wantDestinations(h.now, store.Destination{Domain: "b.example", Due: at(5)})
}

// TestDestinationsOfLeasedJobs: a leased job does not count until its lease is over, however that came.
func TestDestinationsOfLeasedJobs(t *testing.T, f Factory) {
	h := open(t, f)
	first, second := h.queueAt("a@b.example", h.now.Add(-time.Hour)), h.queueAt("b@b.example", h.now)
	leased := h.leaseFrom(h.now, "b.example", 1, first)[0]
	h.wantDestinations(h.now, store.Destination{Domain: "b.example", Due: h.now})
	h.leaseFrom(h.now, "b.example", 1, second)
	h.wantDestinations(h.now)
	end := h.now.Add(time.Minute)
	h.wantDestinations(end.Add(-time.Nanosecond))
	h.wantDestinations(end, store.Destination{Domain: "b.example", Due: h.now.Add(-time.Hour)})
	next := h.now.Add(30 * time.Minute)
	h.finish(h.now, leased, store.Deferred, next)
	h.wantDestinations(h.now, store.Destination{Domain: "b.example", Due: next})
	h.reopen()
	h.wantDestinations(h.now, store.Destination{Domain: "b.example", Due: h.now})
}

// TestDestinationsInPages: those after a name only, whether it is one of them or not, and no more than asked for.
func TestDestinationsInPages(t *testing.T, f Factory) {
	h := open(t, f)
	var want []string
	for _, domain := range []string{"a.example", "a.example.net", "ab.example", "b.example", "xn--bcher-kva.example"} {
		want = append(want, domain)
		h.queue("x@" + domain)
		h.queue("y@" + domain)
	}
	for limit := range len(want) + 2 {
		var got []string
		for after := (store.Destination{}); ; {
			page, err := h.s.Destinations(h.ctx, h.now, after, limit)
			h.must(err)
			if len(page) > limit {
				t.Fatalf("%d destinations, asked for %d", len(page), limit)
			}
			if len(page) == 0 {
				break
			}
			for _, d := range page {
				got = append(got, d.Domain)
			}
			after = page[len(page)-1]
		}
		if limit > 0 && !slices.Equal(got, want) {
			t.Errorf("pages of %d list %q, want %q", limit, got, want)
		}
	}
	for after, first := range map[string]string{"a": "a.example", "a.example.a": "a.example.net", "a.example-": "a.example.net", "aa": "ab.example"} {
		page, err := h.s.Destinations(h.ctx, h.now, store.Destination{Domain: after}, 1)
		h.must(err)
		if len(page) != 1 || page[0].Domain != first {
			t.Errorf("after %q comes %v, want %s", after, page, first)
		}
	}
	page, err := h.s.Destinations(h.ctx, h.now, store.Destination{Domain: "z"}, 1)
	h.must(err)
	if len(page) != 0 {
		t.Errorf("after the last comes %v", page)
	}
}

// TestLeaseByDestination: jobs of this domain and no other; of those that are due at the same moment the oldest comes first.
func TestLeaseByDestination(t *testing.T, f Factory) {
	h := open(t, f)
	later, now, same := h.queueAt("a@b.example", h.now.Add(time.Nanosecond)), h.queueAt("b@b.example", h.now), h.queueAt("c@b.example", h.now)
	early := h.queueAt("d@b.example", h.now.Add(-time.Hour))
	sub, longer := h.queueAt("a@a.b.example", h.now), h.queueAt("a@b.example.net", h.now)
	h.reopen()
	h.leaseFrom(h.now, "example", 10)
	h.leaseFrom(h.now, "b.exampl", 10)
	h.leaseFrom(h.now, "", 10)
	h.leaseFrom(h.now, "b.example", 0)
	h.leaseFrom(h.now, "b.example", 2, early, now)
	h.leaseFrom(h.now, "b.example", 10, same)
	h.leaseFrom(h.now.Add(time.Nanosecond), "b.example", 10, later)
	h.leaseFrom(h.now, "a.b.example", 10, sub)
	h.leaseFrom(h.now, "b.example.net", 10, longer)
}

// queueOf makes a job of a submitter.
func (h *harness) queueOf(submitter store.AccountID, addr string) store.JobID {
	h.t.Helper()
	body := message("one")
	e := h.envelope(body, away(addr))
	e.Submitter = submitter
	r, err := h.draft(body).Commit(h.ctx, e)
	h.must(err)
	return r.Jobs[0]
}

// TestLineForEachSubmitter: the jobs of each submitter to a domain stand in a line of their own, listed by submitter and then by name.
func TestLineForEachSubmitter(t *testing.T, f Factory) {
	h := open(t, f)
	const high = 1 << 40
	none, first, second, third := h.queueAt("a@b.example", h.now), h.queueOf(1, "a@b.example"), h.queueOf(1, "b@b.example"), h.queueOf(high, "a@b.example")
	other := h.queueOf(1, "a@a.example")
	h.must(h.s.ReleaseJobs(h.ctx, h.now, first, second, third, other))
	all := []store.Destination{
		{Domain: "b.example", Due: h.now}, {Submitter: 1, Domain: "a.example", Due: h.now}, {Submitter: 1, Domain: "b.example", Due: h.now},
		{Submitter: high, Domain: "b.example", Due: h.now},
	}
	h.reopen()
	h.wantDestinations(h.now, all...)
	for i := range all {
		rest, err := h.s.Destinations(h.ctx, h.now, all[i], 10)
		h.must(err)
		if !slices.EqualFunc(rest, all[i+1:], sameDestination) {
			t.Errorf("after %+v come %+v, want %+v", all[i], rest, all[i+1:])
		}
	}
	skipped, err := h.s.Destinations(h.ctx, h.now, store.Destination{Submitter: 2}, 10)
	h.must(err)
	if !slices.EqualFunc(skipped, all[3:], sameDestination) {
		t.Errorf("from submitter 2 on come %+v, want %+v", skipped, all[3:])
	}
	for _, want := range []struct {
		submitter store.AccountID
		ids       []store.JobID
	}{{0, []store.JobID{none}}, {1, []store.JobID{first, second}}, {2, nil}, {high, []store.JobID{third}}} {
		jobs, err := h.s.Lease(h.ctx, h.now, want.submitter, "b.example", 10, time.Minute)
		h.must(err)
		if !slices.Equal(jobIDs(jobs), want.ids) {
			t.Errorf("leased %v of submitter %d, want %v", jobIDs(jobs), want.submitter, want.ids)
		}
	}
	h.wantDestinations(h.now, all[1])
}

// wantFresh compares what is fresh.
func (h *harness) wantFresh(when string, more bool, want ...store.Destination) {
	h.t.Helper()
	_, err := h.s.Destinations(h.ctx, h.now, store.Destination{}, 0) // sees what was finished before
	h.must(err)
	got, others := h.s.Fresh()
	if !slices.EqualFunc(got, want, sameDestination) || others != more {
		h.t.Errorf("%s: fresh are %+v, more: %t, want %+v, %t", when, got, others, want, more)
	}
}

// TestFresh: where jobs were added, released, returned or made due sooner, once, with the earliest moment; nothing else is news.
func TestFresh(t *testing.T, f Factory) {
	h := open(t, f)
	h.wantFresh("at first", true)
	at := func(minutes int) time.Time { return h.now.Add(time.Duration(minutes) * time.Minute) }
	one := store.Destination{Domain: "b.example", Due: h.now}
	id, second := h.queue("a@b.example"), h.queue("b@b.example")
	two := store.Destination{Submitter: 7, Domain: "b.example", Due: h.now}
	h.queueOf(7, "a@b.example")
	h.wantFresh("added", false, one, two)
	h.wantFresh("nothing new", false)
	h.must(h.s.HoldJobs(h.ctx, "", id))
	h.wantFresh("held", false)
	h.must(h.s.ReleaseJobs(h.ctx, at(9), id))
	h.must(h.s.ReleaseJobs(h.ctx, at(5), second))
	h.wantFresh("released", false, store.Destination{Domain: "b.example", Due: at(5)})
	leased := h.leaseFrom(at(5), "b.example", 1, second)
	h.wantFresh("leased", false)
	h.must(h.s.Return(h.ctx, leased...))
	h.wantFresh("returned", false, store.Destination{Domain: "b.example", Due: at(5)})
	leased = h.leaseFrom(at(9), "b.example", 2, second, id)
	h.finish(at(5), leased[0], store.Deferred, at(30))
	h.wantFresh("deferred to later", false)
	h.finish(at(5), leased[1], store.Deferred, at(3))
	h.wantFresh("deferred to sooner", false, store.Destination{Domain: "b.example", Due: at(3)})
	h.must(h.s.RemoveJobs(h.ctx, id))
	h.wantFresh("removed", false)
	body := message("held")
	e := h.envelope(body, away("c@c.example"))
	e.Hold = "why not"
	_, err := h.draft(body).Commit(h.ctx, e)
	h.must(err)
	h.wantFresh("held from the beginning", false)
	h.reopen()
	h.wantFresh("at first, after a start", true)
}

// TestFreshIsBounded: of more than MaxFresh destinations the first are returned, and that there are more.
func TestFreshIsBounded(t *testing.T, f Factory) {
	h := open(t, f)
	h.s.Fresh()
	for _, n := range []int{store.MaxFresh, store.MaxFresh + 1} {
		recipients := make([]store.Recipient, n)
		for i := range recipients {
			recipients[i] = away(fmt.Sprintf("r@d%d.example", i))
		}
		h.send(message("one"), recipients...)
		if list, more := h.s.Fresh(); len(list) != store.MaxFresh || more != (n > store.MaxFresh) {
			t.Errorf("of %d destinations %d are fresh, more: %t", n, len(list), more)
		}
	}
}

// TestDeadDestinationsHoldUpNobody: however many jobs wait for a destination, another's are found at once, with all of the first leased
// or none.
func TestDeadDestinationsHoldUpNobody(t *testing.T, f Factory) {
	h := open(t, f)
	const dead = 500
	recipients := make([]store.Recipient, dead)
	for i := range recipients {
		recipients[i] = away(fmt.Sprintf("r%d@dead.example", i))
	}
	r := h.send(message("one"), recipients...)
	living := h.queueAt("a@living.example", h.now.Add(time.Hour))
	h.leaseFrom(h.now, "dead.example", dead/2, r.Jobs[:dead/2]...)
	h.wantDestinations(h.now, store.Destination{Domain: "dead.example", Due: h.now}, store.Destination{Domain: "living.example", Due: h.now.Add(time.Hour)})
	h.leaseFrom(h.now, "dead.example", dead, r.Jobs[dead/2:]...)
	h.wantDestinations(h.now, store.Destination{Domain: "living.example", Due: h.now.Add(time.Hour)})
	h.leaseFrom(h.now.Add(time.Hour), "living.example", 1, living)
}

// TestReturnLeases: a returned job is as it was, and is leased again at once with another token.
func TestReturnLeases(t *testing.T, f Factory) {
	h := open(t, f)
	ids := []store.JobID{h.queue("a@b.example"), h.queue("b@b.example"), h.queue("c@b.example")}
	before, err := h.s.ListJobs(h.ctx, store.QueueFilter{}, 0, 10)
	h.must(err)
	leased := h.leaseFrom(h.now, "b.example", 10, ids...)
	changed := h.s.Changed()
	h.must(h.s.Return(h.ctx))
	if closed(changed) {
		t.Error("returning nothing closed the channel")
	}
	h.must(h.s.Return(h.ctx, leased[0], leased[2], leased[0]))
	if !closed(changed) {
		t.Error("returned jobs did not close the channel")
	}
	after, err := h.s.ListJobs(h.ctx, store.QueueFilter{}, 0, 10)
	h.must(err)
	if !slices.EqualFunc(before, after, sameJob) {
		t.Errorf("the queue changed from %+v to %+v", before, after)
	}
	if got := len(h.trail(before[0].Message)); got != 2 {
		t.Errorf("the trail has %d events, want 2", got)
	}
	lost, err := h.s.Finish(h.ctx, h.now, outcome(leased[0], store.Delivered, h.now, time.Time{}))
	h.must(err)
	if !slices.Equal(lost, ids[:1]) {
		t.Errorf("lost %v, want %v: its lease was returned", lost, ids[0])
	}
	again := h.leaseFrom(h.now, "b.example", 10, ids[0], ids[2])
	if again[0].Lease == leased[0].Lease {
		t.Error("the same token was given twice")
	}
	h.finish(h.now, leased[1], store.Delivered, time.Time{})
}

// TestReturnLostLeases: who has no lease ends none.
func TestReturnLostLeases(t *testing.T, f Factory) {
	h := open(t, f)
	a, b := h.queue("a@b.example"), h.queue("b@b.example")
	first := h.leaseFrom(h.now, "b.example", 10, a, b)
	end := h.now.Add(time.Minute)
	second := h.leaseFrom(end, "b.example", 10, a, b)
	changed := h.s.Changed()
	stranger, unknown, crossed := second[0], second[0], second[0]
	stranger.Lease, unknown.ID, crossed.Lease = 0, b+1, second[1].Lease
	h.must(h.s.Return(h.ctx, first[0], first[1], stranger, unknown, crossed))
	if closed(changed) {
		t.Error("leases of others were returned")
	}
	h.leaseFrom(end, "b.example", 10)
	h.must(h.s.HoldJobs(h.ctx, "", a))
	h.must(h.s.RemoveJobs(h.ctx, b))
	h.must(h.s.Return(h.ctx, second...))
	h.leaseFrom(end, "b.example", 10)
	h.must(h.s.ReleaseJobs(h.ctx, end, a))
	h.leaseFrom(end, "b.example", 10, a)
}

// finishAs makes an outcome durable after changing it; its lease has to hold.
func (h *harness) finishAs(now time.Time, j store.Job, next time.Time, change func(*store.Outcome)) store.Job {
	h.t.Helper()
	o := outcome(j, store.Deferred, now, next)
	change(&o)
	lost, err := h.s.Finish(h.ctx, now, o)
	h.must(err)
	if len(lost) != 0 {
		h.t.Fatalf("lease of job %d was lost", j.ID)
	}
	h.reopen()
	stored, err := h.s.Job(h.ctx, j.ID)
	h.must(err)
	return stored
}

// TestFinishShared: a job that shares another's failure waits like it, with its words, without an attempt or an event of its own.
func TestFinishShared(t *testing.T, f Factory) {
	h := open(t, f)
	id := h.queue("a@b.example")
	leased := h.leaseFrom(h.now, "b.example", 1, id)[0]
	next := h.now.Add(time.Hour)
	got := h.finishAs(h.now, leased, next, func(o *store.Outcome) { o.Shared, o.Text = true, "no route" })
	if got.Attempts != 0 || got.LastText != "no route" || !got.NextAttempt.Equal(next) || got.Warned {
		t.Errorf("after a shared outcome %+v", got)
	}
	if events := h.trail(got.Message); len(events) != 2 {
		t.Errorf("trail %+v, want it accepted and queued, no more", events)
	}
	h.leaseFrom(next.Add(-time.Nanosecond), "b.example", 1)
	leased = h.leaseFrom(next, "b.example", 1, id)[0]
	got = h.finishAs(next, leased, next, func(*store.Outcome) {})
	if events := h.trail(got.Message); got.Attempts != 1 || len(events) != 3 {
		t.Errorf("after an attempt of its own %+v, trail %+v", got, events)
	}
}

// TestFinishWarned: a job knows for good that its sender was told of the delay.
func TestFinishWarned(t *testing.T, f Factory) {
	h := open(t, f)
	for _, shared := range []bool{false, true} {
		id := h.queue("a@b.example")
		warn := func(o *store.Outcome) { o.Warned, o.Shared = true, shared }
		got := h.finishAs(h.now, h.leaseFrom(h.now, "b.example", 1, id)[0], h.now, warn)
		if !got.Warned {
			t.Errorf("shared %t: the job does not know that its sender was told", shared)
		}
		leased := h.leaseFrom(h.now, "b.example", 1, id)[0]
		if !leased.Warned {
			t.Errorf("shared %t: a lease does not say that the sender was told", shared)
		}
		if got = h.finishAs(h.now, leased, h.now, func(*store.Outcome) {}); !got.Warned {
			t.Errorf("shared %t: the next outcome made the job forget that its sender was told", shared)
		}
		h.must(h.s.HoldJobs(h.ctx, "", id))
		h.must(h.s.ReleaseJobs(h.ctx, h.now, id))
		if got, err := h.s.Job(h.ctx, id); err != nil || !got.Warned {
			t.Errorf("shared %t: held and released %+v, %v", shared, got, err)
		}
		h.must(h.s.RemoveJobs(h.ctx, id))
	}
}

// warnedWithNotice commits a delay notice: the notice and what the job knows of it become durable together.
func warnedWithNotice(h *harness, leased store.Job, to store.Recipient) error {
	body := message("delayed")
	e := h.envelope(body, to)
	o := outcome(leased, store.Deferred, h.now, h.now)
	o.Warned = true
	e.Settles = []store.Outcome{o}
	_, err := h.draft(body).Commit(h.ctx, e)
	return err
}

// TestOutcomesOfNoSense: only what is deferred is shared or warned of; nothing of such a call is done.
func TestOutcomesOfNoSense(t *testing.T, f Factory) {
	h := open(t, f)
	id := h.queue("a@b.example")
	leased := h.leaseFrom(h.now, "b.example", 1, id)[0]
	for _, kind := range []store.OutcomeKind{store.Delivered, store.Failed} {
		for _, shared := range []bool{true, false} {
			o := outcome(leased, kind, h.now, time.Time{})
			o.Shared, o.Warned = shared, !shared
			_, err := h.s.Finish(h.ctx, h.now, o)
			h.want(err, store.ErrInvalid)
		}
	}
	h.wantJobs(id)
	anna := h.account("anna")
	h.must(warnedWithNotice(h, leased, to(anna)))
	got, err := h.s.Job(h.ctx, id)
	h.must(err)
	if !got.Warned || got.Attempts != 1 || len(h.list(anna.ID)) != 1 {
		t.Errorf("after a delay notice %+v", got)
	}
}

// TestReleased: who asks for a job to be tried now is remembered, over a lease, until an outcome of any kind or a hold.
func TestReleased(t *testing.T, f Factory) {
	h := open(t, f)
	id := h.queue("a@b.example")
	want := func(when string, released bool) {
		t.Helper()
		j, err := h.s.Job(h.ctx, id)
		h.must(err)
		if j.Released != released {
			t.Errorf("%s: released is %t, want %t", when, j.Released, released)
		}
	}
	release := func() {
		t.Helper()
		h.must(h.s.ReleaseJobs(h.ctx, h.now, id))
		h.reopen()
		want("released", true)
	}
	want("new", false)
	release()
	h.must(h.s.HoldJobs(h.ctx, "", id))
	want("held", false)
	for _, shared := range []bool{false, true} {
		release()
		leased := h.leaseFrom(h.now, "b.example", 1, id)[0]
		if !leased.Released {
			t.Error("a lease does not say that the job was released")
		}
		want("leased", true)
		h.must(h.s.Return(h.ctx, leased))
		leased = h.leaseFrom(h.now, "b.example", 1, id)[0]
		if !leased.Released {
			t.Error("a returned job has forgotten that it was released")
		}
		h.finishAs(h.now, leased, h.now, func(o *store.Outcome) { o.Shared = shared })
		want("deferred", false)
	}
}
