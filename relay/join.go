package relay

import (
	"context"
	"slices"
	"sync"
	"time"

	"latchkey/internal/message"
)

const (
	// joinTime is how long a failure waits for those of the same message at other destinations, so that its sender hears of them in one report.
	joinTime = 3 * time.Second
	// maxJoins bounds the messages whose failures wait, maxJoined the failures in one report.
	maxJoins, maxJoined = 256, 100
)

// joins are failures that wait for each other. Nothing of them is kept yet: their jobs are leased until the report is stored, in the same moment
// as the outcomes. Whatever ends the process before that leaves jobs that are tried again.
type joins struct {
	mu      sync.Mutex // protects what follows
	waiting []*join
	// stopped is set once nothing waits any more.
	stopped bool
}

// join is one message's failures.
type join struct {
	group []ending
	// full is closed when there is no room for more.
	full chan struct{}
}

// add lets failures of one letter wait for others. It reports false if they are not to wait, and true in begun if somebody has to end the wait.
func (j *joins) add(group []ending) (one *join, begun, ok bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.stopped || group[0].job.Alone || group[0].report != message.ReportFailed || len(group) >= maxJoined {
		return nil, false, false
	}
	if i := slices.IndexFunc(j.waiting, func(o *join) bool { return oneLetter(&o.group[0].job, &group[0].job) }); i >= 0 {
		one = j.waiting[i]
		if len(one.group)+len(group) > maxJoined {
			return nil, false, false
		}
		if one.group = append(one.group, group...); len(one.group) == maxJoined {
			close(one.full)
		}
		return one, false, true
	}
	if len(j.waiting) >= maxJoins {
		return nil, false, false
	}
	one = &join{group: slices.Clone(group), full: make(chan struct{})}
	j.waiting = append(j.waiting, one)
	return one, true, true
}

// take ends the wait of a join.
func (j *joins) take(one *join) []ending {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.waiting = slices.DeleteFunc(j.waiting, func(o *join) bool { return o == one })
	return one.group
}

func (j *joins) stop(stopped bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.stopped = stopped
}

// joinOrReport keeps failures of one letter and their report: now, or with those that come within joinTime. Who waits ends at the stop of the run.
func (r *Runner) joinOrReport(abort context.Context, group []ending) error {
	one, begun, ok := r.joins.add(group)
	switch {
	case !ok:
		return r.finishWithReport(abort, group)
	case begun:
		r.workers.Go(func() {
			t := time.NewTimer(joinTime)
			defer t.Stop()
			select {
			case <-t.C:
			case <-one.full:
			case <-r.stopping():
			}
			// The leases of what cannot be kept are given back, and the store's trouble is noted.
			_ = r.finishWithReport(abort, r.joins.take(one))
			r.pokeRunner() // what waits now has a time of its own
		})
	}
	return nil
}
