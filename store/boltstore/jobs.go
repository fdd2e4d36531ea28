package boltstore

import (
	"bytes"
	"context"
	"slices"
	"time"

	"latchkey/store"
)

// stepper is what the walk over the destinations needs of a cursor.
type stepper interface {
	Seek(from []byte) (key, value []byte)
	Next() (key, value []byte)
}

// destinations walks over bDue with one seek for each destination, and one step for each job there that is passed over.
func destinations(c stepper, after store.Destination, limit int, passed func(store.JobID) bool) (list []store.Destination) {
	for len(list) < limit {
		key, _ := c.Seek(behindDue(after.Submitter, after.Domain))
		if key == nil {
			break
		}
		after = destinationOfKey(key)
		prefix := duePrefix(after.Submitter, after.Domain)
		for bytes.HasPrefix(key, prefix) {
			due, id := dueOfKey(key)
			if !passed(id) {
				list = append(list, store.Destination{Submitter: after.Submitter, Domain: after.Domain, Due: due})
				break
			}
			key, _ = c.Next()
		}
	}
	return list
}

// Destinations implements store.Queue.
func (s *Store) Destinations(ctx context.Context, now time.Time, after store.Destination, limit int) (list []store.Destination, err error) {
	if err := s.settle(ctx, false); err != nil {
		return nil, err
	}
	s.leases.mu.Lock()
	defer s.leases.mu.Unlock()
	err = s.read(ctx, func(v *view) error {
		list = destinations(v.bucket(bDue).Cursor(), after, limit, func(id store.JobID) bool { return s.leases.isOut(id, now) })
		return nil
	})
	return list, err
}

// Job implements store.Queue.
func (s *Store) Job(ctx context.Context, id store.JobID) (store.Job, error) {
	if err := s.settle(ctx, false); err != nil {
		return store.Job{}, err
	}
	var j jobRecord
	err := s.read(ctx, func(v *view) (err error) {
		j, err = v.job(id)
		return err
	})
	return j.Job, err
}

// ListJobs implements store.Queue.
func (s *Store) ListJobs(ctx context.Context, f store.QueueFilter, after store.JobID, limit int) (jobs []store.Job, err error) {
	if err := s.settle(ctx, false); err != nil {
		return nil, err
	}
	err = s.read(ctx, func(v *view) (err error) {
		v.scan(bJobs, nil, key8(uint64(after)), func(_, value []byte) bool {
			if len(jobs) >= limit {
				return false
			}
			var j jobRecord
			if j, err = decodeJob(value); err != nil {
				return false
			}
			if j.ID > after && matches(&j.Job, f) {
				jobs = append(jobs, j.Job)
			}
			return true
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	return jobs, nil
}

func matches(j *store.Job, f store.QueueFilter) bool {
	return (f.Message == 0 || f.Message == j.Message) && (f.Submitter == 0 || f.Submitter == j.Submitter) &&
		(f.Destination == "" || f.Destination == j.Recipient.Domain()) && (f.Held == nil || *f.Held == j.Held)
}

// changeJobs applies a change to jobs, all or none, and notes it in the trail. It is ordered with the outcomes of attempts.
func (s *Store) changeJobs(ctx context.Context, ids []store.JobID, kind store.TrailKind, text string, change func(*txn, *jobRecord)) error {
	ids = slices.Compact(slices.Sorted(slices.Values(ids)))
	return s.alter(ctx, true, func(t *txn) error {
		jobs := make([]jobRecord, len(ids))
		for i, id := range ids {
			var err error
			if jobs[i], err = t.job(id); err != nil {
				return err
			}
		}
		now := s.now()
		for i := range jobs {
			j := &jobs[i]
			change(t, j)
			t.event(&store.TrailEvent{Message: j.Message, Time: now, Kind: kind, Sender: j.ReversePath, Recipient: j.Recipient, Text: text})
		}
		return nil
	})
}

// HoldJobs implements store.Queue.
func (s *Store) HoldJobs(ctx context.Context, reason string, ids ...store.JobID) error {
	reason = store.CleanText(reason)
	return s.changeJobs(ctx, ids, store.TrailHeld, reason, func(t *txn, j *jobRecord) {
		if !j.Held {
			t.delete(bDue, dueKey(&j.Job))
		}
		j.Held, j.HoldReason, j.Released = true, reason, false
		t.put(bJobs, key8(uint64(j.ID)), encodeJob(j))
	})
}

// ReleaseJobs implements store.Queue.
func (s *Store) ReleaseJobs(ctx context.Context, due time.Time, ids ...store.JobID) error {
	return s.changeJobs(ctx, ids, store.TrailReleased, "", func(t *txn, j *jobRecord) {
		if !j.Held {
			t.delete(bDue, dueKey(&j.Job))
		}
		j.Held, j.HoldReason, j.NextAttempt, j.Released = false, "", due, true
		t.fresh.AddJob(&j.Job)
		t.put(bDue, dueKey(&j.Job), nil)
		t.put(bJobs, key8(uint64(j.ID)), encodeJob(j))
	})
}

// RemoveJobs implements store.Queue.
func (s *Store) RemoveJobs(ctx context.Context, ids ...store.JobID) error {
	return s.changeJobs(ctx, ids, store.TrailRemoved, "", func(t *txn, j *jobRecord) {
		t.removeJob(j)
		id := j.ID
		t.durable = append(t.durable, func() { s.leases.drop(id) })
	})
}

// Changed implements store.Queue.
func (s *Store) Changed() <-chan struct{} {
	s.signals.Lock()
	defer s.signals.Unlock()
	return s.jobsChanged
}

// Fresh implements store.Queue.
func (s *Store) Fresh() (list []store.Destination, more bool) {
	s.signals.Lock()
	defer s.signals.Unlock()
	list, more = s.fresh.Take()
	more, s.looked = more || !s.looked, true
	return list, more
}

// announceJobs wakes whoever waits for jobs, and notes where there are some.
func (s *Store) announceJobs(fresh *store.Fresh) {
	s.signals.Lock()
	defer s.signals.Unlock()
	s.fresh.Join(fresh)
	close(s.jobsChanged)
	s.jobsChanged = make(chan struct{})
}
