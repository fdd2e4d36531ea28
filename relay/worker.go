package relay

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"latchkey/store"
)

const (
	// maxBroken fresh connections that break in a row, and maxPutOff messages in a row that are put off as a whole, make a destination
	// one that is out of reach: the rest of the queue need not all ask for itself.
	maxBroken = 2
	maxPutOff = 5
	// panicPause is how long a route is left alone whose worker panicked.
	panicPause = time.Hour
)

// worker takes the due jobs of one route, batch by batch, over one connection after another, until there are none.
type worker struct {
	r           *Runner
	stop, abort context.Context
	to          route
	// place is the phase that the worker has a token of.
	place chan struct{}
	link  *link
	// jobs are leased and not decided on.
	jobs []store.Job
	// final is a verdict on the destination that waiting does not change.
	final *verdict
	// broken and putOff count in a row: see maxBroken and maxPutOff.
	broken, putOff int
}

// run works until nothing is due or the stop. It leaves no lease, no connection and no token behind.
func (w *worker) run() {
	defer w.leave()
	defer func() {
		if p := recover(); p != nil {
			w.r.log.Error("panic", "route", w.to.key(), "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			now := w.r.opts.Now()
			v := ours(store.Deferred, aboutDestination, "4.3.0", "an internal error of this server")
			if w.link != nil {
				w.link.dead = true
			}
			w.r.backoff.put(w.to.key(), remembered{until: now.Add(panicPause), failures: 1, verdict: v}, now)
		}
	}()
	for w.stop.Err() == nil {
		more, err := w.step()
		if err != nil {
			if w.stop.Err() == nil {
				w.r.trouble("working on a destination", err)
			}
			w.giveBack() // others may have more luck with them, later
			if !w.r.afterTrouble(w.stop) {
				return
			}
			continue
		}
		if !more {
			return
		}
	}
}

// step leases and handles one batch. more is false when nothing is due.
func (w *worker) step() (more bool, err error) {
	limit := w.r.limits.Probe
	if w.link != nil || w.final != nil {
		limit = w.r.limits.Batch
	}
	if err := w.fill(limit); err != nil || len(w.jobs) == 0 {
		return false, err
	}
	settings, err := w.r.opts.Store.Settings(w.stop)
	switch {
	case err != nil:
		return false, err
	case !settings.OutgoingMail:
		w.hangUp()
		return true, w.putOffAll(ours(store.Deferred, aboutDestination, "4.7.1", "mail out of this domain is switched off"),
			w.r.opts.Now().Add(offPause))
	case w.final != nil:
		return true, w.settleAll(*w.final)
	}
	if w.link == nil {
		if err := w.heedBackoff(); err != nil || len(w.jobs) == 0 {
			return true, err
		}
		if ready, err := w.connect(); !ready || err != nil {
			return w.stop.Err() == nil, err
		}
		if err := w.fill(w.r.limits.Batch); err != nil {
			return false, err
		}
	}
	return true, w.sendAll()
}

// fill leases jobs until there are limit of them, or no more are due.
func (w *worker) fill(limit int) error {
	if len(w.jobs) >= limit {
		return nil
	}
	jobs, err := w.r.lease(w.stop, w.to, limit-len(w.jobs))
	w.jobs = append(w.jobs, jobs...)
	return err
}

// lease takes due jobs of a route: of one domain, or of all for the smarthost. What it returns with an error is leased too.
func (r *Runner) lease(ctx context.Context, to route, limit int) ([]store.Job, error) {
	now := r.opts.Now()
	if to.domain != "" {
		return r.opts.Store.Lease(ctx, now, to.domain, limit, r.limits.lease())
	}
	var jobs []store.Job
	after := ""
	for {
		page, err := r.opts.Store.Destinations(ctx, now, after, r.limits.Page)
		if err != nil {
			return jobs, err
		}
		for _, d := range page {
			after = d.Domain
			if d.Due.After(now) {
				continue
			}
			more, err := r.opts.Store.Lease(ctx, now, d.Domain, limit-len(jobs), r.limits.lease())
			jobs = append(jobs, more...)
			if err != nil || len(jobs) >= limit {
				return jobs, err
			}
		}
		if len(page) < r.limits.Page {
			return jobs, nil
		}
	}
}

// heedBackoff puts the leased jobs off to when their route is tried again, but for those that somebody wants tried now.
func (w *worker) heedBackoff() error {
	known, holds := w.r.backoff.holds(w.to.key(), w.r.opts.Now())
	if !holds {
		return nil
	}
	var wanted []store.Job
	w.jobs = slices.DeleteFunc(w.jobs, func(j store.Job) bool {
		// What may go in the clear is not kept back by a policy (RFC 8689 §4.2.2).
		now := j.Released || demanded(&j) == store.TLSOptional && isPolicy(known.verdict)
		if now {
			wanted = append(wanted, j)
		}
		return now
	})
	err := w.putOffAll(known.verdict, known.until)
	w.jobs = append(w.jobs, wanted...)
	return err
}

// connect gets a link, and a place among those that transfer. ready is false if the jobs were dealt with otherwise.
func (w *worker) connect() (ready bool, err error) {
	if w.place != w.r.connecting && !w.move(w.r.connecting) {
		return false, nil
	}
	link, v := w.r.reach(w.stop, w.to)
	if w.stop.Err() != nil {
		if link != nil {
			link.close()
		}
		return false, nil
	}
	if v != nil {
		return false, errors.Join(w.sendRelaxed(*v), w.outOfReach(*v))
	}
	w.link = link
	w.r.backoff.forget(w.to.key())
	w.connected(1)
	return w.move(w.r.transferring), nil
}

// move changes places; false is the stop.
func (w *worker) move(to chan struct{}) bool {
	w.leavePlace()
	select {
	case to <- struct{}{}:
		w.place = to
		return true
	case <-w.stop.Done():
		return false
	}
}

func (w *worker) leavePlace() {
	if w.place != nil {
		<-w.place
		w.place = nil
		w.r.pokeRunner()
	}
}

// connected counts the worker among those that found somebody, or out again.
func (w *worker) connected(n int) {
	w.r.mu.Lock()
	w.r.active[w.to].connected += n
	w.r.mu.Unlock()
	w.r.pokeRunner()
}

// outOfReach deals with a destination that cannot be had: the leased jobs share its verdict, and later ones wait with them.
func (w *worker) outOfReach(v verdict) error {
	logUnreachable(w.stop, w.r.log, w.to, v)
	if v.kind == store.Failed {
		w.final = &v
		return w.settleAll(v)
	}
	return w.settleAllAt(v, false, w.r.pause(w.to, v))
}

// pause begins or prolongs the back-off of a route, and returns when it ends.
func (r *Runner) pause(to route, v verdict) time.Time {
	now := r.opts.Now()
	known, _ := r.backoff.get(to.key())
	known.failures++
	known.verdict = v
	known.until = next(known.failures, now, now, r.opts.Rand())
	r.backoff.put(to.key(), known, now)
	return known.until
}

// sendAll sends the leased jobs, message by message, until they are decided on or the connection is of no more use.
func (w *worker) sendAll() error {
	for len(w.jobs) > 0 && w.link != nil && w.stop.Err() == nil {
		message := w.jobs[0].Message
		var group, rest []store.Job
		for _, j := range w.jobs {
			if j.Message == message {
				group = append(group, j)
			} else {
				rest = append(rest, j)
			}
		}
		verdicts := w.transact(group)
		var decisions []decision
		var again []store.Job
		for i, v := range verdicts {
			if v.kind == "" {
				again = append(again, group[i])
				continue
			}
			decisions = append(decisions, decision{job: group[i], verdict: v})
		}
		w.jobs = append(again, rest...)
		if err := w.r.settle(w.abort, decisions); err != nil {
			return err
		}
		if err := w.heed(decisions); err != nil {
			return err
		}
	}
	return nil
}

// transact sends one message over the link. Until abort ends it may finish, whatever stops.
func (w *worker) transact(group []store.Job) []verdict {
	link, v := w.linkFor(&group[0])
	if v != nil {
		return w.withoutLink(*v, len(group))
	}
	if link != w.link {
		defer link.close()
	}
	release := link.guard(w.abort)
	defer release()
	logAttempt(w.abort, w.r.log, w.to, link.peer, group)
	return link.transact(group, w.r.body(w.abort, group[0].ID))
}

// heed draws conclusions from how a transaction went: for the connection, and for the destination.
func (w *worker) heed(decisions []decision) error {
	switch {
	case slices.ContainsFunc(decisions, func(d decision) bool { return d.verdict.kind == store.Delivered }):
		w.broken, w.putOff = 0, 0
	case w.link.dead && len(decisions) > 0:
		w.broken++
	case len(decisions) > 0 && decisions[0].verdict.kind == store.Deferred && decisions[0].verdict.scope == aboutMessage && decisions[0].verdict.answered:
		w.putOff++
	}
	if w.broken >= maxBroken || w.putOff >= maxPutOff {
		w.broken, w.putOff = 0, 0
		w.hangUp()
		v := decisions[0].verdict
		return w.settleAllAt(v, true, w.r.pause(w.to, v))
	}
	if w.link.dead || w.link.sent >= w.r.limits.PerConnection {
		w.hangUp()
	}
	return nil
}

// settleAll decides on all leased jobs.
func (w *worker) settleAll(v verdict) error { return w.settleAllAt(v, false, time.Time{}) }

// putOffAll puts all leased jobs off without an attempt of their own.
func (w *worker) putOffAll(v verdict, until time.Time) error { return w.settleAllAt(v, true, until) }

func (w *worker) settleAllAt(v verdict, shared bool, until time.Time) error {
	decisions := make([]decision, 0, len(w.jobs))
	for _, j := range w.jobs {
		decisions = append(decisions, decision{job: j, verdict: v, shared: shared, until: until})
	}
	w.jobs = nil
	return w.r.settle(w.abort, decisions)
}

// hangUp ends the connection, if there is one.
func (w *worker) hangUp() {
	if w.link != nil {
		w.link.close()
		w.link = nil
		w.connected(-1)
	}
}

// giveBack returns what is leased and not decided on, so that it can be leased again at once.
func (w *worker) giveBack() {
	w.r.giveJobsBack(w.abort, w.jobs)
	w.jobs = nil
}

// leave is the end of a worker.
func (w *worker) leave() {
	w.giveBack()
	w.hangUp()
	w.leavePlace()
	w.r.mu.Lock()
	if a := w.r.active[w.to]; a.workers > 1 {
		a.workers--
	} else {
		delete(w.r.active, w.to)
	}
	w.r.mu.Unlock()
	w.r.pokeRunner()
}
