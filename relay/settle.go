package relay

import (
	"context"
	"errors"
	"slices"
	"time"

	"latchkey/internal/message"
	"latchkey/store"
)

const (
	// settleTime bounds one call that keeps outcomes, also after the stop: what a host took has to be noted.
	settleTime = 30 * time.Second
	// settlePause is the first pause between two tries to keep outcomes, maxSettlePause the longest.
	settlePause, maxSettlePause = time.Second, 30 * time.Second
	// reportTries is how often a report is tried that cannot be stored; after that its jobs wait for reportPause, or go without.
	reportTries = 3
	reportPause = 5 * time.Minute
	// offPause is how long jobs wait before it is looked again whether mail out of the domain is switched on.
	offPause = 15 * time.Minute
)

// decision is what is to become of a leased job.
type decision struct {
	job     store.Job
	verdict verdict
	// shared is set if the job had no attempt of its own.
	shared bool
	// until is when a deferred job is due again; zero is when its own schedule says.
	until time.Time
}

// ending is a decision with all that follows of it.
type ending struct {
	decision
	outcome store.Outcome
	// reported is set if the sender is to be told, report what.
	reported bool
	report   message.Report
}

// end turns a decision into an outcome and says whether the sender is to be told, of a delay at the age of notice. r is a random number in [0,1).
func end(d decision, now time.Time, notice time.Duration, r float64) ending {
	j := &d.job
	e := ending{decision: d, outcome: store.Outcome{Job: j.ID, Lease: j.Lease, Kind: d.verdict.kind, Text: d.verdict.text(), At: now}}
	e.outcome.Peer = d.verdict.peer.forTrail()
	switch {
	case d.verdict.kind == store.Delivered:
		e.report, e.reported = message.ReportRelayed, relayedDue(j) && !d.verdict.peer.dsn
	case d.verdict.kind == store.Deferred && (d.verdict.slow || !expired(j.Received, now)):
		e.outcome.Shared = d.shared
		switch {
		case d.verdict.slow:
			e.outcome.Next = d.until // also beyond its life: it is given up by an answer only
		case d.until.IsZero():
			e.outcome.Next = next(j.Attempts+1, j.Received, now, r)
		default:
			e.outcome.Next = notBeyond(d.until, j.Received)
		}
		e.report, e.reported = message.ReportDelayed, noticeDue(j, now, notice)
		e.outcome.Warned = e.reported
	case d.verdict.kind == store.Deferred:
		e.verdict.kind, e.verdict.status = store.Failed, "5.4.7"
		e.outcome.Kind, e.outcome.Text = store.Failed, "given up after 5 days; the last answer was: "+d.verdict.text()
		fallthrough
	default:
		e.report, e.reported = message.ReportFailed, bounceDue(j)
	}
	return e
}

// settle keeps what was decided, at once after each transaction: between a host's 250 and the end of this call lies the only time in
// which a crash makes a message arrive twice. It tries until abort ends. An error means that some outcomes could not be kept; their
// leases were given back.
func (r *Runner) settle(abort context.Context, decisions []decision) error {
	now := r.opts.Now()
	notice := r.noticeAge(abort)
	var plain []ending
	var groups [][]ending // of one message and one report each
	for i, d := range decisions {
		if d.verdict.alarm && (i == 0 || !decisions[i-1].verdict.alarm) && !d.shared {
			logAlarm(abort, r.log, d.verdict)
		}
		e := end(d, now, notice, r.opts.Rand())
		if e.reported && sentOn(&e.job) {
			e.reported = r.toldOf(abort, &e.job)
		}
		if !e.reported {
			plain = append(plain, e)
			continue
		}
		same := func(g []ending) bool { return oneLetter(&g[0].job, &e.job) && g[0].report == e.report }
		if i := slices.IndexFunc(groups, same); i >= 0 {
			groups[i] = append(groups[i], e)
		} else {
			groups = append(groups, []ending{e})
		}
	}
	err := r.finish(abort, plain)
	for _, g := range groups {
		err = errors.Join(err, r.joinOrReport(abort, g))
	}
	return err
}

// finish keeps outcomes that nobody is told of.
func (r *Runner) finish(abort context.Context, endings []ending) error {
	if len(endings) == 0 {
		return nil
	}
	outcomes := outcomesOf(endings)
	for pause := settlePause; ; pause = min(2*pause, maxSettlePause) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(abort), settleTime)
		lost, err := r.opts.Store.Finish(ctx, r.opts.Now(), outcomes...)
		cancel()
		if err == nil {
			r.ended(abort, slices.DeleteFunc(slices.Clone(endings), func(e ending) bool { return slices.Contains(lost, e.job.ID) }))
			return nil
		}
		r.trouble("keeping outcomes", err)
		if fatal(err) || !sleep(abort, pause) {
			r.giveBack(abort, endings)
			return err
		}
	}
}

// ended tells of outcomes that are kept.
func (r *Runner) ended(abort context.Context, endings []ending) {
	tally(r.opts.Tally, endings)
	for _, e := range endings {
		logEnding(abort, r.log, e)
		r.later(e)
		if e.reported && sentOn(&e.job) {
			r.told(abort, &e.job)
		}
		if r.opts.Failed != nil && e.outcome.Kind == store.Failed && !sentOn(&e.job) {
			r.opts.Failed(context.WithoutCancel(abort), e.job.Submitter)
		}
	}
	r.noteFailures(abort, endings)
}

// tally adds outcomes that are kept to the daily figures. What had no attempt of its own is not one more that was put off.
func tally(t *store.Tally, endings []ending) {
	for i := range endings {
		e := &endings[i]
		same := func(other ending) bool {
			return other.outcome.Kind == store.Delivered && other.job.Message == e.job.Message
		}
		switch {
		case e.outcome.Kind == store.Delivered:
			t.Count(store.DailyDelivered, 1)
			if !slices.ContainsFunc(endings[:i], same) {
				t.Count(store.DailyHandedOver, 1)
			}
		case e.outcome.Kind == store.Failed:
			t.Count(store.DailyFailed, 1)
		case !e.outcome.Shared:
			t.Count(store.DailyDeferred, 1)
		}
	}
}

// fatal reports an error of the store that no waiting cures.
func fatal(err error) bool {
	return errors.Is(err, store.ErrPoisoned) || errors.Is(err, store.ErrClosed)
}

func outcomesOf(endings []ending) []store.Outcome {
	outcomes := make([]store.Outcome, len(endings))
	for i := range endings {
		outcomes[i] = endings[i].outcome
	}
	return outcomes
}

// giveBack returns the leases of jobs whose outcome could not be kept.
func (r *Runner) giveBack(abort context.Context, endings []ending) {
	jobs := make([]store.Job, len(endings))
	for i := range endings {
		jobs[i] = endings[i].job
	}
	r.giveJobsBack(abort, jobs)
}

func (r *Runner) giveJobsBack(abort context.Context, jobs []store.Job) {
	if len(jobs) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(abort), giveBackTime)
	defer cancel()
	if err := r.opts.Store.Return(ctx, jobs...); err != nil && !fatal(err) {
		logStore(r.log, "giving leases back", err)
	}
}

// finishWithReport keeps the outcomes of one message together with the report on them: both or none.
func (r *Runner) finishWithReport(abort context.Context, group []ending) error {
	var err error
	pause := settlePause
	for range reportTries {
		err = r.commitReport(abort, group)
		switch {
		case err == nil:
			r.ended(abort, group)
			return nil
		case errors.Is(err, store.ErrLeaseLost):
			return r.finishApart(abort, group)
		case errors.Is(err, store.ErrNoRecipients), errors.Is(err, store.ErrNotFound):
			// The sender's mailbox is full, suspended or gone. There is nobody else to tell (RFC 5321 §6.1), and nothing may go round.
			logNoReport(abort, r.log, group[0], err)
			return r.finish(abort, unreported(group))
		case fatal(err):
			r.trouble("keeping a report", err)
			r.giveBack(abort, group)
			return err
		}
		r.trouble("keeping a report", err)
		if !sleep(abort, pause) {
			break
		}
		pause *= 2
	}
	return r.finish(abort, r.withoutReport(group))
}

// finishApart settles the jobs of a group one by one, because one of them is no longer ours: it was removed, and nobody is told of it.
func (r *Runner) finishApart(abort context.Context, group []ending) error {
	if len(group) == 1 {
		return nil
	}
	var err error
	for i := range group {
		err = errors.Join(err, r.finishWithReport(abort, group[i:i+1]))
	}
	return err
}

// unreported are the same endings, and nobody is told.
func unreported(group []ending) []ending {
	plain := slices.Clone(group)
	for i := range plain {
		plain[i].reported, plain[i].outcome.Warned = false, false
	}
	return plain
}

// withoutReport is what becomes of jobs whose report cannot be stored now: a failure waits, so that it does not end without a word;
// the other reports are not worth to send a message twice.
func (r *Runner) withoutReport(group []ending) []ending {
	plain := unreported(group)
	for i := range plain {
		if o := &plain[i].outcome; o.Kind == store.Failed {
			o.Kind, o.Shared, o.Next = store.Deferred, true, r.opts.Now().Add(reportPause)
		}
	}
	return plain
}
