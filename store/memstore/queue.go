package memstore

import (
	"bytes"
	"cmp"
	"context"
	"io"
	"maps"
	"slices"
	"time"

	"latchkey/store"
)

// job is a queued delivery. Its Lease field is the lease that is out, 0 for none, and never leaves but by Lease.
type job struct {
	store.Job
	leasedUntil time.Time
}

// holds reports whether a lease is still its holder's at a moment.
func (d *data) holds(now time.Time, id store.JobID, lease store.LeaseToken) bool {
	j := d.jobs[id]
	return j != nil && lease != 0 && j.Lease == lease && now.Before(j.leasedUntil)
}

// signalQueue tells those who wait that a job was added or became due sooner.
func (d *data) signalQueue(j *job) {
	if !j.Held {
		d.fresh.AddJob(&j.Job)
	}
	close(d.queue)
	d.queue = make(chan struct{})
}

// Changed implements store.Queue.
func (s *Store) Changed() <-chan struct{} {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	return s.d.queue
}

// Fresh implements store.Queue.
func (s *Store) Fresh() (list []store.Destination, more bool) {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	list, more = s.d.fresh.Take()
	more, s.d.looked = more || !s.d.looked, true
	return list, more
}

// free reports whether nobody keeps a job from being leased at a moment.
func (j *job) free(now time.Time) bool {
	return !j.Held && (j.Lease == 0 || !now.Before(j.leasedUntil))
}

// Destinations implements store.Queue.
func (s *Store) Destinations(ctx context.Context, now time.Time, after store.Destination, limit int) ([]store.Destination, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	defer s.end()
	due := map[store.Destination]time.Time{}
	for _, j := range s.d.jobs {
		key := store.Destination{Submitter: j.Submitter, Domain: j.Recipient.Domain()}
		if earliest, ok := due[key]; j.free(now) && byDestination(key, after) > 0 && (!ok || j.NextAttempt.Before(earliest)) {
			due[key] = j.NextAttempt
		}
	}
	list := slices.SortedFunc(maps.Keys(due), byDestination)
	list = list[:min(len(list), max(limit, 0))]
	for i := range list {
		list[i].Due = due[list[i]]
	}
	return list, nil
}

// byDestination orders destinations as they are listed.
func byDestination(a, b store.Destination) int {
	return cmp.Or(cmp.Compare(a.Submitter, b.Submitter), cmp.Compare(a.Domain, b.Domain))
}

// Lease implements store.Queue.
func (s *Store) Lease(ctx context.Context, now time.Time, submitter store.AccountID, domain string, limit int, d time.Duration) ([]store.Job, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	defer s.end()
	var due []*job
	for _, j := range s.d.jobs {
		if j.Submitter == submitter && j.Recipient.Domain() == domain && j.free(now) && !j.NextAttempt.After(now) {
			due = append(due, j)
		}
	}
	slices.SortFunc(due, func(a, b *job) int { return cmp.Or(a.NextAttempt.Compare(b.NextAttempt), cmp.Compare(a.ID, b.ID)) })
	var leased []store.Job
	for _, j := range due[:min(len(due), max(limit, 0))] {
		s.d.lastLease++
		j.Lease, j.leasedUntil = s.d.lastLease, now.Add(d)
		leased = append(leased, j.Job)
	}
	return leased, nil
}

// Return implements store.Queue.
func (s *Store) Return(ctx context.Context, jobs ...store.Job) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.end()
	for _, leased := range jobs {
		if j := s.d.jobs[leased.ID]; j != nil && j.Lease != 0 && j.Lease == leased.Lease {
			j.Lease = 0
			s.d.signalQueue(j)
		}
	}
	return nil
}

// OpenJob implements store.Queue.
func (s *Store) OpenJob(ctx context.Context, id store.JobID) (io.ReadCloser, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	defer s.end()
	j := s.d.jobs[id]
	if j == nil {
		return nil, store.ErrNotFound
	}
	return io.NopCloser(bytes.NewReader(s.d.bodies[j.Message].octets)), nil
}

// Finish implements store.Queue.
func (s *Store) Finish(ctx context.Context, now time.Time, outcomes ...store.Outcome) (lost []store.JobID, err error) {
	for _, o := range outcomes {
		if err := o.Validate(); err != nil {
			return nil, err
		}
	}
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	defer s.end()
	for _, o := range outcomes {
		if s.d.holds(now, o.Job, o.Lease) {
			s.d.settle(o)
		} else {
			lost = append(lost, o.Job)
		}
	}
	return lost, nil
}

// settle makes the outcome of a leased job true.
func (d *data) settle(o store.Outcome) {
	j := d.jobs[o.Job]
	kind := map[store.OutcomeKind]store.TrailKind{
		store.Delivered: store.TrailDelivered, store.Deferred: store.TrailDeferred, store.Failed: store.TrailFailed,
	}[o.Kind]
	text := store.CleanText(o.Text)
	if !o.Shared {
		d.jobEvent(j, o.At, kind, text)
		j.Attempts++
	}
	if o.Kind != store.Deferred {
		d.removeJob(j)
		return
	}
	sooner := o.Next.Before(j.NextAttempt)
	j.LastText, j.NextAttempt, j.Lease = text, o.Next, 0
	j.Warned = j.Warned || o.Warned
	j.Released = false
	if sooner {
		d.signalQueue(j)
	}
}

func (d *data) jobEvent(j *job, at time.Time, kind store.TrailKind, text string) {
	d.event(store.TrailEvent{Message: j.Message, Time: at, Kind: kind, Sender: j.ReversePath, Recipient: j.Recipient, Text: text})
}

func (d *data) removeJob(j *job) {
	delete(d.jobs, j.ID)
	d.release(j.Message)
}

// Job implements store.Queue.
func (s *Store) Job(ctx context.Context, id store.JobID) (store.Job, error) {
	if err := s.begin(ctx); err != nil {
		return store.Job{}, err
	}
	defer s.end()
	j := s.d.jobs[id]
	if j == nil {
		return store.Job{}, store.ErrNotFound
	}
	return j.listed(), nil
}

// listed is the job as everybody but its leaseholder sees it.
func (j *job) listed() store.Job {
	listed := j.Job
	listed.Lease = 0
	return listed
}

// ListJobs implements store.Queue.
func (s *Store) ListJobs(ctx context.Context, f store.QueueFilter, after store.JobID, limit int) ([]store.Job, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	defer s.end()
	var list []store.Job
	for id, j := range s.d.jobs {
		if id > after && (f.Message == 0 || j.Message == f.Message) && (f.Submitter == 0 || j.Submitter == f.Submitter) &&
			(f.Destination == "" || j.Recipient.Domain() == f.Destination) && (f.Held == nil || j.Held == *f.Held) {
			list = append(list, j.listed())
		}
	}
	slices.SortFunc(list, func(a, b store.Job) int { return cmp.Compare(a.ID, b.ID) })
	return list[:min(len(list), max(limit, 0))], nil
}

// onJobs does something to all of some jobs, or to none if one is unknown.
func (s *Store) onJobs(ctx context.Context, ids []store.JobID, do func(*job)) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.end()
	for _, id := range ids {
		if s.d.jobs[id] == nil {
			return store.ErrNotFound
		}
	}
	for _, id := range ids {
		if j := s.d.jobs[id]; j != nil { // nil if it was named twice and is removed
			do(j)
		}
	}
	return nil
}

// HoldJobs implements store.Queue.
func (s *Store) HoldJobs(ctx context.Context, reason string, ids ...store.JobID) error {
	reason = store.CleanText(reason)
	return s.onJobs(ctx, ids, func(j *job) {
		j.Held, j.HoldReason, j.Released = true, reason, false
		s.d.jobEvent(j, s.d.now(), store.TrailHeld, reason)
	})
}

// ReleaseJobs implements store.Queue.
func (s *Store) ReleaseJobs(ctx context.Context, due time.Time, ids ...store.JobID) error {
	return s.onJobs(ctx, ids, func(j *job) {
		j.Held, j.HoldReason, j.NextAttempt, j.Released = false, "", due, true
		s.d.jobEvent(j, s.d.now(), store.TrailReleased, "")
		s.d.signalQueue(j)
	})
}

// RemoveJobs implements store.Queue.
func (s *Store) RemoveJobs(ctx context.Context, ids ...store.JobID) error {
	return s.onJobs(ctx, ids, func(j *job) {
		s.d.jobEvent(j, s.d.now(), store.TrailRemoved, "")
		s.d.removeJob(j)
	})
}
