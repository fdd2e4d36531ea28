package boltstore

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"latchkey/store"
)

// lease is the right to settle a job, in memory only: a crash voids it.
type lease struct {
	token   store.LeaseToken
	expires time.Time
	// settling is set while an outcome is on its way to the device: the job is not handed out meanwhile, whatever the clock says.
	settling bool
}

// leases are the leases that are out.
type leases struct {
	mu sync.Mutex
	// last is the token given last. It starts anywhere, so that a token of an earlier process is not one of this.
	last store.LeaseToken
	out  map[store.JobID]*lease
}

func encodeJob(j *store.Job) []byte {
	e := encoder{b: make([]byte, 0, 256)}
	e.uint64(uint64(j.ID))
	e.uint64(uint64(j.Message))
	e.uvarint(uint64(j.Submitter))
	e.mailbox(j.ReversePath)
	e.mailbox(j.Recipient)
	e.uvarint(uint64(j.Size))
	e.uvarint(uint64(j.HeaderLen))
	e.string(j.HeaderID)
	e.bool(j.EightBit)
	e.bool(j.UTF8)
	e.string(string(j.Return))
	e.string(j.EnvelopeID)
	e.uint8(uint8(j.Notify))
	e.string(j.Original)
	e.time(j.Received)
	e.time(j.NextAttempt)
	e.uvarint(uint64(j.Attempts))
	e.string(j.LastText)
	e.bool(j.Warned)
	e.bool(j.Released)
	e.bool(j.Held)
	e.string(j.HoldReason)
	return e.b
}

func decodeJob(b []byte) (store.Job, error) {
	d := decoder{b: b}
	j := store.Job{ID: store.JobID(d.uint64()), Message: store.MessageID(d.uint64()), Submitter: store.AccountID(d.uvarint())}
	j.ReversePath, j.Recipient = d.mailbox(), d.mailbox()
	j.Size, j.HeaderLen = int64(d.uvarint()), int64(d.uvarint())
	j.HeaderID = d.string()
	j.EightBit, j.UTF8 = d.bool(), d.bool()
	j.Return, j.EnvelopeID = store.Return(d.string()), d.string()
	j.Notify, j.Original = store.Notify(d.uint8()), d.string()
	j.Received, j.NextAttempt = d.time(), d.time()
	j.Attempts, j.LastText = int(d.uvarint()), d.string()
	j.Warned, j.Released = d.bool(), d.bool()
	j.Held, j.HoldReason = d.bool(), d.string()
	if d.err != nil {
		return store.Job{}, d.err
	}
	return j, nil
}

func (v *view) job(id store.JobID) (store.Job, error) {
	b := v.get(bJobs, key8(uint64(id)))
	if b == nil {
		return store.Job{}, fmt.Errorf("job %d: %w", id, store.ErrNotFound)
	}
	return decodeJob(b)
}

// Lease implements store.Queue.
func (s *Store) Lease(ctx context.Context, now time.Time, destination string, limit int, d time.Duration) ([]store.Job, error) {
	if err := s.usable(); err != nil {
		return nil, err
	}
	// The lock is held over the look at the index, so that no job is given twice, and none that is being settled.
	s.leases.mu.Lock()
	defer s.leases.mu.Unlock()
	var jobs []store.Job
	err := s.read(ctx, func(v *view) (err error) {
		v.scan(bDue, duePrefix(destination), nil, func(key, _ []byte) bool {
			due, id := dueOfKey(key)
			if len(jobs) >= limit || due.After(now) {
				return false
			}
			if s.leases.isOut(id, now) {
				return true
			}
			var j store.Job
			if j, err = v.job(id); err == nil {
				jobs = append(jobs, j)
			}
			return err == nil
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	for i := range jobs {
		s.leases.last++
		jobs[i].Lease = s.leases.last
		s.leases.out[jobs[i].ID] = &lease{token: s.leases.last, expires: now.Add(d)}
	}
	return jobs, nil
}

// Return implements store.Queue.
func (s *Store) Return(ctx context.Context, jobs ...store.Job) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.isClosing() {
		return store.ErrClosed
	}
	returned := false
	s.leases.mu.Lock()
	for i := range jobs {
		if l := s.leases.out[jobs[i].ID]; l != nil && l.token == jobs[i].Lease && !l.settling {
			delete(s.leases.out, jobs[i].ID)
			returned = true
		}
	}
	s.leases.mu.Unlock()
	if returned {
		s.announceJobs()
	}
	return nil
}

// isOut reports whether a job is leased at now. l.mu is held.
func (l *leases) isOut(id store.JobID, now time.Time) bool {
	lease := l.out[id]
	return lease != nil && (lease.settling || now.Before(lease.expires))
}

// take readies a lease for being settled at the given moment, or reports that it is lost.
func (l *leases) take(o *store.Outcome, at time.Time) (ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	lease := l.out[o.Job]
	if lease == nil || lease.token != o.Lease || lease.settling || !at.Before(lease.expires) {
		return false
	}
	lease.settling = true
	return true
}

// giveBack undoes take.
func (l *leases) giveBack(id store.JobID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if lease := l.out[id]; lease != nil {
		lease.settling = false
	}
}

func (l *leases) drop(id store.JobID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.out, id)
}

// OpenJob implements store.Queue.
func (s *Store) OpenJob(ctx context.Context, id store.JobID) (io.ReadCloser, error) {
	look := func() (body bodyRecord, err error) {
		err = s.read(ctx, func(v *view) error {
			j, err := v.job(id)
			if err == nil {
				body, err = v.body(j.Message)
			}
			return err
		})
		return body, err
	}
	body, err := look()
	if err != nil {
		return nil, err
	}
	r, err := s.bodies.open(body.bodyRef)
	if err == nil {
		return r, nil
	}
	// The job may have been settled and its body removed between the two looks.
	if _, gone := look(); gone != nil {
		return nil, gone
	}
	return nil, err
}

// Finish implements store.Queue.
func (s *Store) Finish(ctx context.Context, now time.Time, outcomes ...store.Outcome) (lost []store.JobID, err error) {
	for i := range outcomes {
		if err := outcomes[i].Validate(); err != nil {
			return nil, err
		}
	}
	outcomes = slices.Clone(outcomes)
	err = s.release(ctx, func(t *txn) error {
		lost = nil
		for i := range outcomes {
			if t.takeLease(&outcomes[i], now) {
				t.settle(&outcomes[i])
			} else {
				lost = append(lost, outcomes[i].Job)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return lost, nil
}

// takeLease claims the lease of an outcome for this transaction, or reports that it is lost.
func (t *txn) takeLease(o *store.Outcome, at time.Time) bool {
	if !t.has(bJobs, key8(uint64(o.Job))) || !t.s.leases.take(o, at) {
		return false
	}
	id := o.Job
	t.undo = append(t.undo, func() { t.s.leases.giveBack(id) })
	return true
}

// lostLeases claims the leases of all outcomes, or none: then it returns the jobs whose lease is lost.
func (t *txn) lostLeases(outcomes []store.Outcome) (lost []store.JobID) {
	var taken []store.Outcome
	for i := range outcomes {
		if t.takeLease(&outcomes[i], outcomes[i].At) {
			taken = append(taken, outcomes[i])
		} else {
			lost = append(lost, outcomes[i].Job)
		}
	}
	if len(lost) > 0 {
		t.giveBack(taken)
	}
	return lost
}

// giveBack returns claimed leases when a verb is refused.
func (t *txn) giveBack(outcomes []store.Outcome) {
	for i := range outcomes {
		t.s.leases.giveBack(outcomes[i].Job)
	}
}

// settle writes one outcome whose lease is claimed.
func (t *txn) settle(o *store.Outcome) {
	j, err := t.job(o.Job)
	if err != nil {
		t.fail(err)
		return
	}
	text := store.CleanText(o.Text)
	e := store.TrailEvent{Message: j.Message, Time: o.At, Sender: j.ReversePath, Recipient: j.Recipient, Text: text}
	switch o.Kind {
	case store.Deferred:
		e.Kind = store.TrailDeferred
		t.deferJob(&j, o, text)
	case store.Delivered:
		e.Kind = store.TrailDelivered
		t.removeJob(&j)
	case store.Failed:
		e.Kind = store.TrailFailed
		t.removeJob(&j)
	}
	if !o.Shared {
		t.event(&e)
	}
	id := o.Job
	t.durable = append(t.durable, func() { t.s.leases.drop(id) })
}

// deferJob makes a job wait.
func (t *txn) deferJob(j *store.Job, o *store.Outcome, text string) {
	before := dueKey(j)
	t.queued = t.queued || o.Next.Before(j.NextAttempt)
	if !o.Shared {
		j.Attempts++
	}
	j.LastText = text
	j.NextAttempt = o.Next
	j.Warned = j.Warned || o.Warned
	j.Released = false
	if !j.Held {
		t.delete(bDue, before)
		t.put(bDue, dueKey(j), nil)
	}
	t.put(bJobs, key8(uint64(j.ID)), encodeJob(j))
}

func (t *txn) removeJob(j *store.Job) {
	if !j.Held {
		t.delete(bDue, dueKey(j))
	}
	t.delete(bJobs, key8(uint64(j.ID)))
	t.unref(j.Message, 1)
}
