package boltstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"latchkey/internal/journal"
	"latchkey/store"
)

// lease is the right to settle a job, in memory only: a crash voids it.
type lease struct {
	token   store.LeaseToken
	expires time.Time
	// settling is set while an outcome is on its way to the index: the job is not handed out meanwhile, whatever the clock says.
	settling bool
}

// leases are the leases that are out.
type leases struct {
	mu sync.Mutex
	// last is the token given last. It starts anywhere, so that a token of an earlier process is not one of this.
	last store.LeaseToken
	out  map[store.JobID]*lease
}

// jobRecord is a job and where its message lies.
type jobRecord struct {
	store.Job
	where
	flags uint8
}

func (j *jobRecord) shared() bool { return j.flags&copyShared != 0 }
func (j *jobRecord) large() bool  { return j.flags&copyLarge != 0 }

// octets is how much of the message lies in its record.
func (j *jobRecord) octets() int64 { return recordOctets(j.Size, j.HeaderLen, j.large()) }

func encodeJob(j *jobRecord) []byte {
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
	e.bool(j.Ours)
	e.uint8(uint8(j.TLS))
	e.string(string(j.Return))
	e.string(j.EnvelopeID)
	e.uint8(uint8(j.Notify))
	e.string(j.Original)
	e.mailbox(j.ForwardedBy)
	e.bool(j.Kept)
	e.bool(j.Alone)
	e.time(j.Received)
	e.time(j.NextAttempt)
	e.uvarint(uint64(j.Attempts))
	e.string(j.LastText)
	e.bool(j.Warned)
	e.bool(j.Released)
	e.bool(j.Held)
	e.string(j.HoldReason)
	e.string(j.GivenUp)
	e.string(j.LastHost)
	e.uint8(j.flags)
	e.where(&j.where)
	return e.b
}

func decodeJob(b []byte) (jobRecord, error) {
	d := decoder{b: b}
	var j jobRecord
	j.ID, j.Message, j.Submitter = store.JobID(d.uint64()), store.MessageID(d.uint64()), store.AccountID(d.uvarint())
	j.ReversePath, j.Recipient = d.mailbox(), d.mailbox()
	j.Size, j.HeaderLen = int64(d.uvarint()), int64(d.uvarint())
	j.HeaderID = d.string()
	j.EightBit, j.UTF8, j.Ours, j.TLS = d.bool(), d.bool(), d.bool(), store.TLSDemand(d.uint8())
	j.Return, j.EnvelopeID = store.Return(d.string()), d.string()
	j.Notify, j.Original = store.Notify(d.uint8()), d.string()
	j.ForwardedBy, j.Kept, j.Alone = d.mailbox(), d.bool(), d.bool()
	j.Received, j.NextAttempt = d.time(), d.time()
	j.Attempts, j.LastText = int(d.uvarint()), d.string()
	j.Warned, j.Released = d.bool(), d.bool()
	j.Held, j.HoldReason = d.bool(), d.string()
	j.GivenUp, j.LastHost = d.string(), d.string()
	j.flags, j.where = d.uint8(), d.where()
	if d.err != nil {
		return jobRecord{}, d.err
	}
	return j, nil
}

func (v *view) job(id store.JobID) (jobRecord, error) {
	b := v.get(bJobs, key8(uint64(id)))
	if b == nil {
		return jobRecord{}, fmt.Errorf("job %d: %w", id, store.ErrNotFound)
	}
	return decodeJob(b)
}

// Lease implements store.Queue.
func (s *Store) Lease(ctx context.Context, now time.Time, submitter store.AccountID, domain string, limit int, d time.Duration) ([]store.Job, error) {
	if err := s.usable(); err != nil {
		return nil, err
	}
	if err := s.settle(ctx, false); err != nil {
		return nil, err
	}
	// The lock is held over the look at the index, so that no job is given twice, and none that is being settled.
	s.leases.mu.Lock()
	defer s.leases.mu.Unlock()
	var jobs []store.Job
	err := s.read(ctx, func(v *view) (err error) {
		v.scan(bDue, duePrefix(submitter, domain), nil, func(key, _ []byte) bool {
			due, id := dueOfKey(key)
			if len(jobs) >= limit || due.After(now) {
				return false
			}
			if s.leases.isOut(id, now) {
				return true
			}
			var j jobRecord
			if j, err = v.job(id); err == nil {
				jobs = append(jobs, j.Job)
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
	var returned store.Fresh
	s.leases.mu.Lock()
	for i := range jobs {
		if l := s.leases.out[jobs[i].ID]; l != nil && l.token == jobs[i].Lease && !l.settling {
			delete(s.leases.out, jobs[i].ID)
			returned.AddJob(&jobs[i])
		}
	}
	s.leases.mu.Unlock()
	if returned.Some() {
		s.announceJobs(&returned)
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
func (l *leases) giveBack(outcomes []store.Outcome) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range outcomes {
		if lease := l.out[outcomes[i].Job]; lease != nil {
			lease.settling = false
		}
	}
}

func (l *leases) drop(id store.JobID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.out, id)
}

// OpenJob implements store.Queue.
func (s *Store) OpenJob(ctx context.Context, id store.JobID) (io.ReadCloser, error) {
	if err := s.settle(ctx, false); err != nil {
		return nil, err
	}
	s.space.keep.RLock()
	defer s.space.keep.RUnlock()
	var j jobRecord
	var shared sharedRecord
	err := s.read(ctx, func(v *view) (err error) {
		if j, err = v.job(id); err == nil && j.large() {
			shared, err = v.shared(j.Message)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if j.large() {
		return s.bodies.open(shared.body) // the open file stays readable
	}
	return s.openRecord(j.Message, j.where, j.octets())
}

// Finish implements store.Queue.
func (s *Store) Finish(ctx context.Context, now time.Time, outcomes ...store.Outcome) (lost []store.JobID, err error) {
	for i := range outcomes {
		if err := outcomes[i].Validate(); err != nil {
			return nil, err
		}
	}
	outcomes = slices.Clone(outcomes)
	err = s.post(ctx, &posting{frees: true, octets: outcomesOctets(outcomes), stage: func(g *group) error {
		lost = nil
		var held []store.Outcome
		for i := range outcomes {
			if s.leases.take(&outcomes[i], now) {
				held = append(held, outcomes[i])
			} else {
				lost = append(lost, outcomes[i].Job)
			}
		}
		if len(held) == 0 {
			return nil
		}
		if err := g.append(recOutcomes, &outcomesEntry{outcomes: held}, journal.Body{}, true, nil); err != nil {
			s.leases.giveBack(held)
			return err
		}
		g.undo = append(g.undo, func() { s.leases.giveBack(held) })
		return nil
	}})
	if err != nil {
		return nil, err
	}
	return lost, nil
}

// takeAll readies the leases of all outcomes, or none: then it returns the jobs whose lease is lost.
func (l *leases) takeAll(outcomes []store.Outcome) (lost []store.JobID) {
	var taken []store.Outcome
	for i := range outcomes {
		if l.take(&outcomes[i], outcomes[i].At) {
			taken = append(taken, outcomes[i])
		} else {
			lost = append(lost, outcomes[i].Job)
		}
	}
	if len(lost) > 0 {
		l.giveBack(taken)
	}
	return lost
}

// settle writes one outcome whose lease was claimed. A job that was removed meanwhile has none. report is the message that tells the sender of it,
// 0 if none does.
func (t *txn) settle(o *store.Outcome, report store.MessageID) {
	id := o.Job
	t.durable = append(t.durable, func() { t.s.leases.drop(id) })
	j, err := t.job(id)
	if errors.Is(err, store.ErrNotFound) {
		return
	}
	if err != nil {
		t.fail(err)
		return
	}
	text := store.CleanText(o.Text)
	e := store.TrailEvent{Message: j.Message, Time: o.At, Sender: j.ReversePath, Recipient: j.Recipient, Text: text, Peer: o.Peer.Clean()}
	switch o.Kind {
	case store.Deferred:
		e.Kind = store.TrailDeferred
		t.deferJob(&j, o, &e)
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
	if report != 0 {
		e.Kind, e.Text, e.Peer = store.TrailReported, report.String(), store.Peer{}
		t.event(&e)
	}
}

// deferJob makes a job wait.
func (t *txn) deferJob(j *jobRecord, o *store.Outcome, e *store.TrailEvent) {
	before := dueKey(&j.Job)
	sooner := o.Next.Before(j.NextAttempt)
	if !o.Shared {
		j.Attempts++
	}
	j.LastText = e.Text
	j.NextAttempt = o.Next
	j.Warned = j.Warned || o.Warned
	j.Released = false
	if e.Peer.Host != "" {
		j.LastHost = e.Peer.Host
	}
	if !j.Held {
		t.delete(bDue, before)
		t.put(bDue, dueKey(&j.Job), nil)
		if sooner {
			t.fresh.AddJob(&j.Job)
		}
	}
	t.put(bJobs, key8(uint64(j.ID)), encodeJob(j))
}

func (t *txn) removeJob(j *jobRecord) {
	if !j.Held {
		t.delete(bDue, dueKey(&j.Job))
	}
	t.delete(bJobs, key8(uint64(j.ID)))
	t.unref(j.Message, j.shared(), j.segment, j.octets())
}
