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
	// owner is the mailbox that the worker was started for: its places and slots count as that one's.
	owner store.AccountID
	// place is the phase that the worker has a place of.
	place *places
	// granted is the host that the worker has a slot of and no connection to.
	granted *host
	link    *link
	// since is when the worker got its connection; demand is what it was looked for with.
	since  time.Time
	demand store.TLSDemand
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
	if _, holds := w.r.backoff.holds(w.to.key(), w.r.opts.Now()); holds || w.final != nil {
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
	}
	return w.sendAll()
}

// fill leases jobs until there are limit of them, or no more are due: of each mailbox that is served some in turn.
func (w *worker) fill(limit int) error {
	for len(w.jobs) < limit {
		d, ok := w.r.turn(w.to)
		if !ok {
			return nil
		}
		if err := w.lease(d, min(limit-len(w.jobs), w.r.limits.Probe)); err != nil {
			return err
		}
	}
	return nil
}

// more leases further recipients of the next message, if all that is leased of its mailbox is of that one.
func (w *worker) more() error {
	n := 0
	for _, j := range w.jobs {
		if j.Submitter == w.jobs[0].Submitter && j.Message != w.jobs[0].Message {
			return nil
		}
		if j.Submitter == w.jobs[0].Submitter {
			n++
		}
	}
	d := store.Destination{Submitter: w.jobs[0].Submitter, Domain: w.jobs[0].Recipient.Domain()}
	if n < w.r.limits.Probe || n >= w.r.limits.Batch || !w.r.serves(w.to, d) {
		return nil
	}
	return w.lease(d, w.r.limits.Batch-n)
}

// lease leases due jobs of a destination.
func (w *worker) lease(d store.Destination, limit int) error {
	jobs, err := w.r.opts.Store.Lease(w.stop, w.r.opts.Now(), d.Submitter, d.Domain, limit, w.r.limits.lease())
	if err == nil && len(jobs) < limit {
		w.r.exhausted(w.to, d)
		err = w.r.noteNext(w.stop, d)
	}
	tried, err := w.endGivenUp(jobs, err) // also what comes with an error is leased
	w.jobs = append(w.jobs, tried...)
	return err
}

// welcome leases some jobs of a mailbox that has joined the route and puts them first, so that it waits for no more than one message of
// the others.
func (w *worker) welcome() error {
	d, ok := w.r.newcomer(w.to, w.jobs)
	if !ok {
		return nil
	}
	before := w.jobs
	w.jobs = nil
	err := w.lease(d, w.r.limits.Probe)
	w.jobs = append(w.jobs, before...)
	return err
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
	if w.place != w.r.connecting {
		w.leavePlace()
		if !w.r.connecting.take(w.stop, w.owner) {
			return false, nil
		}
		w.place = w.r.connecting
	}
	demand := w.nextDemand()
	found := w.r.reach(w.stop, w.to, wish{
		owner: w.owner, granted: w.granted, demand: demand, cautious: w.cautious(),
		force: slices.ContainsFunc(w.jobs, func(j store.Job) bool { return j.Released }),
	})
	if w.granted != nil && !found.spent {
		w.r.hosts.decline(w.granted, w.owner)
	}
	w.granted = nil
	if w.stop.Err() != nil {
		if found.link != nil {
			found.link.close()
			found.link.at.slots.give(w.owner)
		}
		return false, nil
	}
	w.demand = demand
	switch {
	case found.busy != nil:
		return false, w.await(found.busy)
	case found.link == nil && demand != store.TLSUnset:
		return false, w.unmet(demand, found)
	case found.link == nil && !found.until.IsZero():
		// Another destination found these hosts out of reach. This one waits with it.
		known, _ := w.r.backoff.get(w.to.key())
		known.until, known.verdict = found.until, found.verdict
		w.r.backoff.put(w.to.key(), known, w.r.opts.Now())
		return false, w.sparing(found.verdict, func() error { return w.putOffAll(found.verdict, found.until) })
	case found.link == nil:
		return false, w.sparing(found.verdict, func() error { return w.outOfReach(found.verdict) })
	}
	w.link, w.since = found.link, w.r.opts.Now()
	if demand != store.TLSOptional { // else the others wait on
		w.r.backoff.forget(w.to.key())
	}
	w.connected(1)
	// The place among those that connect is kept until there is one among those that transfer: no more connections than that stand about.
	if !w.r.transferring.take(w.stop, w.owner) {
		return false, nil
	}
	w.enter()
	return true, nil
}

// await waits for a slot of a host that has as many connections as it gets. Others may have the jobs and the place meanwhile.
func (w *worker) await(h *host) error {
	w.giveBack()
	if w.r.enqueue(1) {
		w.leavePlace() // else it waits in its place, so that the number of those who wait has a bound
	}
	ok := h.slots.take(w.stop, w.owner)
	w.r.enqueue(-1)
	if ok {
		w.granted = h
	}
	return nil
}

// enqueue counts the workers that wait for a slot, and reports whether there are not too many.
func (r *Runner) enqueue(n int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.queued += n
	return r.queued <= r.limits.Connecting
}

func (w *worker) leavePlace() {
	if w.place != nil {
		if w.place == w.r.transferring {
			w.r.mu.Lock()
			w.r.active[w.to].sending--
			w.r.mu.Unlock()
		}
		w.place.give(w.owner)
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

// enter takes the place among those that transfer, which was just given.
func (w *worker) enter() {
	w.leavePlace()
	w.place = w.r.transferring
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	w.r.active[w.to].sending++
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

// sendAll sends the leased jobs, message by message and mailbox by mailbox, until they are decided on, the connection is of no more use, or
// others need it more.
// more is false when the worker is to end.
func (w *worker) sendAll() (more bool, err error) {
	for len(w.jobs) > 0 && w.link != nil && w.stop.Err() == nil {
		if err := errors.Join(w.welcome(), w.more()); err != nil {
			return true, err
		}
		if !w.suits(&w.jobs[0]) {
			w.rest()
			return true, nil
		}
		if did, err := w.yields(); did || err != nil {
			return true, err
		}
		if !sleep(w.stop, w.r.hosts.wait(w.link.at, w.r.opts.Now())) {
			return false, nil
		}
		group := w.group()
		begun := w.r.opts.Now()
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
		w.jobs = append(again, w.jobs...)
		if err := w.r.settle(w.abort, decisions); err != nil {
			return true, err
		}
		w.judged(w.link.peer.host, decisions)
		w.learn(decisions, begun)
		if err := w.heed(decisions); err != nil {
			return true, err
		}
		if w.link != nil && w.wanted() {
			return false, nil // what is not sent waits for its next turn
		}
	}
	return true, nil
}

// group takes the next message's jobs out of those that are leased, and lets the other mailboxes have the turns after it.
func (w *worker) group() (group []store.Job) {
	first := w.jobs[0]
	var same, rest []store.Job
	for _, j := range w.jobs {
		switch {
		case oneLetter(&j, &first):
			group = append(group, j)
		case j.Submitter == first.Submitter:
			same = append(same, j)
		default:
			rest = append(rest, j)
		}
	}
	w.jobs = append(rest, same...)
	return group
}

// learn tells the host how a transaction went.
func (w *worker) learn(decisions []decision, begun time.Time) {
	now, h := w.r.opts.Now(), w.link.at
	switch {
	case w.link.closed:
		w.r.hosts.learn(h, w.link.sent-1)
	case slices.ContainsFunc(decisions, func(d decision) bool { return d.verdict.kind == store.Delivered }):
		w.r.hosts.succeeded(h, now)
		w.r.grow(w)
	case slices.ContainsFunc(decisions, func(d decision) bool { return pushesBack(d.verdict) }):
		w.r.hosts.pushedBack(h, begun, now)
	}
}

// wanted reports whether others need the worker's place or its slot more.
func (w *worker) wanted() bool {
	over := w.r.opts.Now().Sub(w.since) >= w.r.limits.Turn
	return w.r.transferring.wanted(w.owner, over) || w.link.at.slots.wanted(w.owner, over)
}

// transact sends one message over the link. Until abort ends it may finish, whatever stops.
func (w *worker) transact(group []store.Job) []verdict {
	release := w.link.guard(w.abort)
	defer release()
	logAttempt(w.abort, w.r.log, w.to, w.link.peer, group)
	jobs, open := w.r.letter(w.abort, group)
	jobs, open, v := w.r.signed(w.abort, jobs, open)
	if v != nil {
		return slices.Repeat([]verdict{*v}, len(group))
	}
	return w.link.transact(jobs, open)
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
	if w.link.dead || w.r.hosts.enough(w.link, w.r.limits.PerConnection) {
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
		w.link.at.slots.give(w.owner)
		w.link = nil
		w.connected(-1)
	}
}

// rest lets the connection wait for the next message, whoever's that is, if it is good for one.
func (w *worker) rest() {
	if w.link == nil || w.link.dead || w.stop.Err() != nil || !w.r.hosts.park(w.link, w.owner, time.Now()) {
		w.hangUp()
		return
	}
	w.link = nil
	w.connected(-1)
}

// giveBack returns what is leased and not decided on, so that it can be leased again at once.
func (w *worker) giveBack() {
	jobs := w.jobs
	w.jobs = nil
	w.r.giveJobsBack(w.abort, jobs)
	if w.stop.Err() != nil {
		return
	}
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	for i := range jobs {
		if i == 0 || jobs[i].Submitter != jobs[i-1].Submitter || jobs[i].Recipient.Domain() != jobs[i-1].Recipient.Domain() {
			w.r.offer(store.Destination{Submitter: jobs[i].Submitter, Domain: jobs[i].Recipient.Domain()})
		}
	}
}

// leave is the end of a worker.
func (w *worker) leave() {
	w.giveBack()
	w.rest()
	if w.granted != nil {
		w.r.hosts.decline(w.granted, w.owner)
		w.granted = nil
	}
	w.leavePlace()
	w.r.mu.Lock()
	a := w.r.active[w.to]
	if a.owners[w.owner]--; a.owners[w.owner] == 0 {
		delete(a.owners, w.owner)
	}
	if a.workers--; a.workers == 0 {
		delete(w.r.active, w.to)
		for _, d := range a.served {
			w.r.offer(d)
		}
	}
	w.r.mu.Unlock()
	w.r.pokeRunner()
}
