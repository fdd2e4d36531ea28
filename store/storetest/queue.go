package storetest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"latchkey/store"
)

var queueTests = []test{
	{"LeaseOrder", TestLeaseOrder},
	{"LeaseIsExclusive", TestLeaseIsExclusive},
	{"LeaseExpires", TestLeaseExpires},
	{"LeaseIsVoidAfterReopen", TestLeaseIsVoidAfterReopen},
	{"FinishDelivered", TestFinishDelivered},
	{"FinishDeferred", TestFinishDeferred},
	{"FinishLost", TestFinishLost},
	{"FinishUnknownKind", TestFinishUnknownKind},
	{"FinishText", TestFinishText},
	{"QueueChanged", TestQueueChanged},
	{"HoldAndRelease", TestHoldAndRelease},
	{"HoldLeasedJob", TestHoldLeasedJob},
	{"RemoveJobs", TestRemoveJobs},
	{"JobVerbsAreAllOrNone", TestJobVerbsAreAllOrNone},
	{"ListJobs", TestListJobs},
	{"JobsOutliveSubmitter", TestJobsOutliveSubmitter},
	{"UnknownJob", TestUnknownJob},
}

// wantJobs compares the whole queue.
func (h *harness) wantJobs(want ...store.JobID) {
	h.t.Helper()
	h.wantListed(store.QueueFilter{}, want...)
}

func (h *harness) wantListed(f store.QueueFilter, want ...store.JobID) {
	h.t.Helper()
	jobs, err := h.s.ListJobs(h.ctx, f, 0, 2*store.MaxRecipients)
	h.must(err)
	if got := jobIDs(jobs); !slices.Equal(got, want) {
		h.t.Errorf("the queue lists jobs %v, want %v", got, want)
	}
}

// wantLeased leases up to limit jobs and compares which.
func (h *harness) wantLeased(now time.Time, limit int, want ...store.JobID) []store.Job {
	h.t.Helper()
	jobs := h.lease(now, limit, time.Minute)
	if got := jobIDs(jobs); !slices.Equal(got, want) {
		h.t.Errorf("leased jobs %v, want %v", got, want)
	}
	return jobs
}

func jobIDs(jobs []store.Job) []store.JobID {
	ids := make([]store.JobID, len(jobs))
	for i, j := range jobs {
		ids[i] = j.ID
	}
	return ids
}

// queueDue makes one job for each moment, relative to now.
func (h *harness) queueDue(due ...time.Duration) []store.JobID {
	h.t.Helper()
	ids := make([]store.JobID, len(due))
	for i, d := range due {
		ids[i] = h.queue(fmt.Sprintf("r%d@elsewhere.example", i))
		h.must(h.s.ReleaseJobs(h.ctx, h.now.Add(d), ids[i]))
	}
	return ids
}

// TestLeaseOrder: due jobs only, earliest first, up to the limit.
func TestLeaseOrder(t *testing.T, f Factory) {
	h := open(t, f)
	ids := h.queueDue(-time.Minute, 0, -time.Hour, time.Nanosecond, time.Hour)
	h.reopen()
	h.wantLeased(h.now, 0)
	h.wantLeased(h.now.Add(-2*time.Hour), 10)
	h.wantLeased(h.now, 2, ids[2], ids[0])
	h.wantLeased(h.now, 10, ids[1]) // due now is due, a nanosecond later is not
	jobs := h.wantLeased(h.now.Add(time.Nanosecond), 10, ids[3])
	stored, err := h.s.Job(h.ctx, ids[3])
	h.must(err)
	if jobs[0].Lease == 0 || stored.Lease != 0 {
		t.Errorf("token %d with the lease, %d with the job: only the lease has one", jobs[0].Lease, stored.Lease)
	}
	stored.Lease = jobs[0].Lease
	if !sameJob(jobs[0], stored) {
		t.Errorf("leased %+v, stored %+v", jobs[0], stored)
	}
}

// TestLeaseIsExclusive: no job is leased twice, whoever asks at once, and no token is given twice.
func TestLeaseIsExclusive(t *testing.T, f Factory) {
	h := open(t, f)
	const jobs = 60
	recipients := make([]store.Recipient, jobs)
	for i := range recipients {
		recipients[i] = away(fmt.Sprintf("r%d@elsewhere.example", i))
	}
	h.send(message("one"), recipients...)
	leased := make([][]store.Job, 8)
	inParallel(len(leased), func(i int) {
		for range 5 {
			got, err := h.s.Lease(h.ctx, h.now, 0, elsewhere, 2, time.Minute)
			if err != nil {
				t.Error(err)
				return
			}
			leased[i] = append(leased[i], got...)
		}
	})
	all := slices.Concat(leased...)
	tokens := map[store.LeaseToken]bool{}
	for _, j := range all {
		tokens[j.Lease] = true
	}
	if len(all) != jobs || len(byID(all)) != jobs || len(tokens) != jobs || tokens[0] {
		t.Errorf("%d leases on %d jobs with %d tokens, want %d of each", len(all), len(byID(all)), len(tokens), jobs)
	}
}

// TestLeaseExpires: after its time another may have the job, and the first can finish it no more.
func TestLeaseExpires(t *testing.T, f Factory) {
	h := open(t, f)
	id := h.queue("out@elsewhere.example")
	first := h.wantLeased(h.now, 1, id)[0]
	h.wantLeased(h.now.Add(time.Minute-time.Nanosecond), 1)
	end := h.now.Add(time.Minute)
	lost, err := h.s.Finish(h.ctx, end, outcome(first, store.Delivered, end, time.Time{}))
	h.must(err)
	if !slices.Equal(lost, []store.JobID{id}) {
		t.Errorf("lost %v when the lease had expired, want %v", lost, id)
	}
	second := h.wantLeased(end, 1, id)[0]
	if second.Lease == first.Lease {
		t.Error("the same token was given twice")
	}
	lost, err = h.s.Finish(h.ctx, end, outcome(first, store.Failed, end, time.Time{}))
	h.must(err)
	if !slices.Equal(lost, []store.JobID{id}) {
		t.Errorf("lost %v when another had the lease, want %v", lost, id)
	}
	h.wantJobs(id)
	h.finish(end.Add(time.Minute-time.Nanosecond), second, store.Delivered, time.Time{})
	h.wantJobs()
}

// TestLeaseIsVoidAfterReopen: an attempt that was cut short is made again, and its token is worth nothing.
func TestLeaseIsVoidAfterReopen(t *testing.T, f Factory) {
	h := open(t, f)
	id := h.queue("out@elsewhere.example")
	first := h.wantLeased(h.now, 1, id)[0]
	h.reopen()
	wantLost := func() {
		t.Helper()
		lost, err := h.s.Finish(h.ctx, h.now, outcome(first, store.Delivered, h.now, time.Time{}))
		h.must(err)
		if !slices.Equal(lost, []store.JobID{id}) {
			t.Errorf("lost %v, want %v", lost, id)
		}
	}
	wantLost()
	second := h.wantLeased(h.now, 1, id)[0]
	wantLost()
	if second.Attempts != 0 || second.Lease == first.Lease {
		t.Errorf("leased again as %+v, want no attempt and another token than %d", second, first.Lease)
	}
	h.finish(h.now, second, store.Delivered, time.Time{})
}

// TestFinishDelivered: delivered and failed jobs are gone, with the body when nothing else needs it.
func TestFinishDelivered(t *testing.T, f Factory) {
	h := open(t, f)
	r := h.send(message("one"), away("a@elsewhere.example"), away("b@elsewhere.example"), away("c@elsewhere.example"))
	leased := byID(h.lease(h.now, 10, time.Minute))
	lost, err := h.s.Finish(h.ctx, h.now,
		outcome(leased[r.Jobs[0]], store.Delivered, h.now, time.Time{}), outcome(leased[r.Jobs[1]], store.Failed, h.now, time.Time{}))
	h.must(err)
	if len(lost) != 0 {
		t.Errorf("lost %v", lost)
	}
	h.reopen()
	h.wantJobs(r.Jobs[2])
	for _, id := range r.Jobs[:2] {
		_, err := h.s.Job(h.ctx, id)
		h.want(err, store.ErrNotFound)
		_, err = h.s.OpenJob(h.ctx, id)
		h.want(err, store.ErrNotFound)
	}
	h.wantBodyCount(1)
	h.finish(h.now, h.wantLeased(h.now, 10, r.Jobs[2])[0], store.Failed, time.Time{})
	h.wantBodyCount(0)
	lost, err = h.s.Finish(h.ctx, h.now)
	h.must(err)
	if len(lost) != 0 {
		t.Errorf("finishing nothing lost %v", lost)
	}
}

// TestFinishDeferred: the job waits until Next and remembers; its lease is used up.
func TestFinishDeferred(t *testing.T, f Factory) {
	h := open(t, f)
	id := h.queue("out@elsewhere.example")
	now := h.now
	for attempt := 1; attempt <= 3; attempt++ {
		j := h.wantLeased(now, 1, id)[0]
		next := now.Add(time.Hour)
		h.finish(now, j, store.Deferred, next)
		lost, err := h.s.Finish(h.ctx, now, outcome(j, store.Delivered, now, time.Time{}))
		h.must(err)
		if len(lost) != 1 {
			t.Error("one lease finished its job twice")
		}
		h.reopen()
		got, err := h.s.Job(h.ctx, id)
		h.must(err)
		if got.Attempts != attempt || !got.NextAttempt.Equal(next) || got.LastText != "250 2.0.0 so it went" || !got.Received.Equal(h.now) {
			t.Errorf("after attempt %d: %+v, want it due at %s", attempt, got, next)
		}
		h.wantLeased(next.Add(-time.Nanosecond), 1)
		now = next
	}
	h.wantLeased(now, 1, id)
}

// TestFinishLost: outcomes without a lease change nothing and are told; the others count.
func TestFinishLost(t *testing.T, f Factory) {
	h := open(t, f)
	a, b, c := h.queue("a@elsewhere.example"), h.queue("b@elsewhere.example"), h.queue("c@elsewhere.example")
	leased := byID(h.lease(h.now, 2, time.Minute))
	if len(leased) != 2 || leased[a].ID == 0 || leased[b].ID == 0 {
		t.Fatalf("leased %v, want the two oldest", leased)
	}
	crossed := outcome(leased[a], store.Delivered, h.now, time.Time{})
	crossed.Lease = leased[b].Lease
	never := store.Outcome{Job: c, Kind: store.Delivered, At: h.now}
	lost, err := h.s.Finish(h.ctx, h.now, crossed, outcome(leased[b], store.Delivered, h.now, time.Time{}), never,
		store.Outcome{Job: c + 1, Lease: leased[a].Lease, Kind: store.Failed, At: h.now})
	h.must(err)
	slices.Sort(lost)
	if !slices.Equal(lost, []store.JobID{a, c, c + 1}) {
		t.Errorf("lost %v, want %v", lost, []store.JobID{a, c, c + 1})
	}
	h.wantJobs(a, c)
	h.finish(h.now, leased[a], store.Delivered, time.Time{})
}

// TestFinishUnknownKind: an outcome of no known kind is refused, and so are those beside it.
func TestFinishUnknownKind(t *testing.T, f Factory) {
	h := open(t, f)
	a, b := h.queue("a@elsewhere.example"), h.queue("b@elsewhere.example")
	leased := byID(h.wantLeased(h.now, 2, a, b))
	_, err := h.s.Finish(h.ctx, h.now, outcome(leased[a], store.Delivered, h.now, time.Time{}), outcome(leased[b], "lost", h.now, time.Time{}))
	h.want(err, store.ErrInvalid)
	h.wantJobs(a, b)
	h.finish(h.now, leased[a], store.Delivered, time.Time{})
	h.finish(h.now, leased[b], store.Delivered, time.Time{})
}

// TestFinishText: the remote's words are kept without control characters, at most MaxOutcomeText octets of them.
func TestFinishText(t *testing.T, f Factory) {
	h := open(t, f)
	id := h.queue("out@elsewhere.example")
	exact := strings.Repeat("x", store.MaxOutcomeText)
	for _, text := range []string{"", exact, exact + "y", "y" + strings.Repeat("é", store.MaxOutcomeText), "450 a\r\nb\x00c\x7f\u0085", "\xff\xfe"} {
		j := h.lease(h.now, 1, time.Minute)[0]
		o := outcome(j, store.Deferred, h.now, h.now)
		o.Text = text
		_, err := h.s.Finish(h.ctx, h.now, o)
		h.must(err)
		got, err := h.s.Job(h.ctx, id)
		h.must(err)
		if len(got.LastText) > store.MaxOutcomeText || strings.ContainsFunc(got.LastText, unicode.IsControl) || !utf8.ValidString(got.LastText) {
			t.Errorf("kept %q", got.LastText)
		}
		if plain := strings.HasPrefix(text, "x") || text == ""; plain && got.LastText != text[:min(len(text), store.MaxOutcomeText)] {
			t.Errorf("kept %d octets of %d", len(got.LastText), len(text))
		}
	}
	got, err := h.s.Job(h.ctx, id)
	h.must(err)
	if got.Attempts != 6 {
		t.Errorf("%d attempts, want 6", got.Attempts)
	}
}

// TestQueueChanged: who asks for the channel and then looks misses nothing.
func TestQueueChanged(t *testing.T, f Factory) {
	h := open(t, f)
	changed := h.s.Changed()
	if closed(changed) {
		t.Error("changed before anything happened")
	}
	id := h.queue("out@elsewhere.example")
	if !closed(changed) {
		t.Error("a new job did not close the channel")
	}
	h.must(h.s.HoldJobs(h.ctx, "", id))
	changed = h.s.Changed()
	if closed(changed) {
		t.Error("a channel is closed before the change that it waits for")
	}
	h.must(h.s.ReleaseJobs(h.ctx, h.now, id))
	if !closed(changed) {
		t.Error("a job that became due did not close the channel")
	}
	changed = h.s.Changed()
	h.must(h.s.ReleaseJobs(h.ctx, h.now.Add(-time.Hour), id))
	if !closed(changed) {
		t.Error("a job that became due sooner did not close the channel")
	}
	changed = h.s.Changed()
	h.must(h.s.ReleaseJobs(h.ctx, h.now, id))
	if !closed(changed) {
		t.Error("a job that was released again, to be tried whatever is known of its destination, did not close the channel")
	}
}

// TestHoldAndRelease: a held job is never leased, over reopen too; released it is due when told.
func TestHoldAndRelease(t *testing.T, f Factory) {
	h := open(t, f)
	id := h.queue("out@elsewhere.example")
	h.must(h.s.HoldJobs(h.ctx, "looks odd", id))
	h.reopen()
	j, err := h.s.Job(h.ctx, id)
	h.must(err)
	if !j.Held || j.HoldReason != "looks odd" {
		t.Errorf("held job %+v", j)
	}
	h.wantLeased(h.now.Add(1000*time.Hour), 10)
	due := h.now.Add(time.Hour)
	h.must(h.s.ReleaseJobs(h.ctx, due, id))
	h.reopen()
	j, err = h.s.Job(h.ctx, id)
	h.must(err)
	if j.Held || j.HoldReason != "" || !j.NextAttempt.Equal(due) || j.Attempts != 0 {
		t.Errorf("released job %+v, want it due at %s", j, due)
	}
	h.wantLeased(due.Add(-time.Nanosecond), 10)
	h.wantLeased(due, 10, id)
}

// TestHoldLeasedJob: a lease that is out may still finish; deferred, the job stays held.
func TestHoldLeasedJob(t *testing.T, f Factory) {
	h := open(t, f)
	deferred, delivered := h.queue("a@elsewhere.example"), h.queue("b@elsewhere.example")
	leased := byID(h.wantLeased(h.now, 10, deferred, delivered))
	h.must(h.s.HoldJobs(h.ctx, "stop", deferred, delivered))
	h.finish(h.now, leased[deferred], store.Deferred, h.now)
	h.finish(h.now, leased[delivered], store.Delivered, time.Time{})
	h.wantJobs(deferred)
	j, err := h.s.Job(h.ctx, deferred)
	h.must(err)
	if !j.Held || j.Attempts != 1 {
		t.Errorf("deferred while held: %+v", j)
	}
	h.wantLeased(h.now.Add(time.Hour), 10)
}

// TestRemoveJobs: a leased job may be removed; its lease is lost, and its body goes.
func TestRemoveJobs(t *testing.T, f Factory) {
	h := open(t, f)
	a, b := h.queue("a@elsewhere.example"), h.queue("b@elsewhere.example")
	leased := h.wantLeased(h.now, 1, a)[0]
	h.must(h.s.RemoveJobs(h.ctx, a))
	h.reopen()
	h.wantJobs(b)
	lost, err := h.s.Finish(h.ctx, h.now, outcome(leased, store.Deferred, h.now, h.now))
	h.must(err)
	if !slices.Equal(lost, []store.JobID{a}) {
		t.Errorf("lost %v, want %v", lost, a)
	}
	h.wantJobs(b)
	h.wantBodyCount(1)
}

// TestJobVerbsAreAllOrNone: one unknown job and nothing is changed.
func TestJobVerbsAreAllOrNone(t *testing.T, f Factory) {
	h := open(t, f)
	id, held := h.queue("a@elsewhere.example"), h.queue("b@elsewhere.example")
	h.must(h.s.HoldJobs(h.ctx, "why", held))
	unknown := held + 1
	before, err := h.s.ListJobs(h.ctx, store.QueueFilter{}, 0, 10)
	h.must(err)
	h.want(h.s.HoldJobs(h.ctx, "x", id, unknown), store.ErrNotFound)
	h.want(h.s.ReleaseJobs(h.ctx, h.now.Add(time.Hour), held, unknown), store.ErrNotFound)
	h.want(h.s.RemoveJobs(h.ctx, id, held, unknown), store.ErrNotFound)
	after, err := h.s.ListJobs(h.ctx, store.QueueFilter{}, 0, 10)
	h.must(err)
	if !slices.EqualFunc(before, after, sameJob) {
		t.Errorf("the queue changed from %+v to %+v", before, after)
	}
}

// TestListJobs: pages in order of id, and each filter.
func TestListJobs(t *testing.T, f Factory) {
	h := open(t, f)
	anna := h.account("anna")
	body := message("one")
	e := h.envelope(body, away("a@one.example"), away("b@two.example"), away("c@one.example"))
	e.Submitter = anna.ID
	first, err := h.draft(body).Commit(h.ctx, e)
	h.must(err)
	second := h.send(body, away("d@one.example"), away("e@sub.one.example"))
	all := slices.Concat(first.Jobs, second.Jobs)
	h.must(h.s.HoldJobs(h.ctx, "", all[0], all[3]))
	h.reopen()
	yes, no := true, false
	h.wantListed(store.QueueFilter{}, all...)
	h.wantListed(store.QueueFilter{Message: second.Message}, second.Jobs...)
	h.wantListed(store.QueueFilter{Message: second.Message + 1})
	h.wantListed(store.QueueFilter{Submitter: anna.ID}, first.Jobs...)
	h.wantListed(store.QueueFilter{Destination: "one.example"}, all[0], all[2], all[3])
	h.wantListed(store.QueueFilter{Held: &yes}, all[0], all[3])
	h.wantListed(store.QueueFilter{Held: &no}, all[1], all[2], all[4])
	h.wantListed(store.QueueFilter{Destination: "one.example", Submitter: anna.ID, Held: &no}, all[2])
	var paged []store.JobID
	for after := store.JobID(0); ; {
		page, err := h.s.ListJobs(h.ctx, store.QueueFilter{}, after, 2)
		h.must(err)
		if len(page) == 0 {
			break
		}
		paged = append(paged, jobIDs(page)...)
		after = page[len(page)-1].ID
	}
	if !slices.Equal(paged, all) {
		t.Errorf("pages list %v, want %v", paged, all)
	}
	page, err := h.s.ListJobs(h.ctx, store.QueueFilter{Held: &yes}, all[0], 1)
	h.must(err)
	if got := jobIDs(page); !slices.Equal(got, all[3:4]) {
		t.Errorf("page of held jobs lists %v, want %v", got, all[3])
	}
}

// TestJobsOutliveSubmitter: what was accepted is sent, whatever becomes of the account.
func TestJobsOutliveSubmitter(t *testing.T, f Factory) {
	h := open(t, f)
	anna := h.account("anna")
	body := message("one")
	e := h.envelope(body, away("out@elsewhere.example"), to(anna))
	e.Submitter = anna.ID
	r, err := h.draft(body).Commit(h.ctx, e)
	h.must(err)
	h.must(h.s.RemoveAccount(h.ctx, anna.ID))
	h.reopen()
	jobs, err := h.s.Lease(h.ctx, h.now, anna.ID, elsewhere, 1, time.Minute)
	h.must(err)
	if !slices.Equal(jobIDs(jobs), r.Jobs) || jobs[0].Submitter != anna.ID {
		t.Fatalf("leased %+v, want job %v of account %d", jobs, r.Jobs, anna.ID)
	}
	j := jobs[0]
	b, err := h.s.OpenJob(h.ctx, j.ID)
	h.must(err)
	if got := h.readAll(b); got != body {
		t.Errorf("job yields %q, want %q", got, body)
	}
}

// TestUnknownJob: there is none.
func TestUnknownJob(t *testing.T, f Factory) {
	h := open(t, f)
	_, err := h.s.Job(h.ctx, 1)
	h.want(err, store.ErrNotFound)
	_, err = h.s.OpenJob(h.ctx, 1)
	h.want(err, store.ErrNotFound)
	h.must(h.s.HoldJobs(h.ctx, "nothing"))
	h.must(h.s.RemoveJobs(h.ctx))
}
