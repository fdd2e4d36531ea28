package boltstore

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"latchkey/store"
)

// Bounds of one group of verbs that share a transaction. What does not fit waits for the next group.
const (
	maxGroupRequests = 512
	maxGroupOctets   = 4 << 20
)

// request is one verb that waits for its group.
type request struct {
	// apply makes the changes. It may run twice, on different transactions, if the first could not be committed.
	apply func(*txn) error
	// frees is set for verbs that make room, or that end work which was done: they go on when the device is full.
	frees bool
	// body is set if a body was renamed into large/, whose entry the group makes durable.
	body bool
	// octets is about what the request adds to the index.
	octets int
	err    error
	done   chan struct{}
}

// submit hands a request to the committer and waits until its changes are durable, or refused. ctx counts until the committer has
// taken it: from then on the outcome is awaited, because it cannot be called back.
func (s *Store) submit(ctx context.Context, r *request) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.poisoned(); err != nil {
		return err
	}
	r.done = make(chan struct{})
	select {
	case <-s.closing:
		return store.ErrClosed
	default:
	}
	select {
	case s.requests <- r:
	case <-s.closing:
		return store.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-r.done:
		return r.err
	case <-s.stopped:
	}
	select {
	case <-r.done:
		return r.err
	default: // it came after the committer's last look
		return store.ErrClosed
	}
}

// write is submit for verbs without a body.
func (s *Store) write(ctx context.Context, apply func(*txn) error) error {
	return s.submit(ctx, &request{apply: apply})
}

// release is submit for verbs that make room.
func (s *Store) release(ctx context.Context, apply func(*txn) error) error {
	return s.submit(ctx, &request{apply: apply, frees: true})
}

// commitLoop is the only writer of the index. It sleeps until something waits, and takes all of it: groups grow with the load, and no
// timer holds up a single request.
func (s *Store) commitLoop() {
	defer close(s.stopped)
	var held *request // taken, but beyond the bound of the last group
	for {
		var group []*request
		if held == nil && !s.sweepWaits() {
			select {
			case r := <-s.requests:
				group = append(group, r)
			case <-s.poke:
			case <-s.closing:
			}
		}
		group, held = s.gather(group, held)
		s.commitGroup(group)
		if len(group) == 0 && held == nil && s.isClosing() {
			return
		}
	}
}

func (s *Store) isClosing() bool {
	select {
	case <-s.closing:
		return true
	default:
		return false
	}
}

// gather adds what waits to a group, up to its bounds, and returns the request that did not fit.
func (s *Store) gather(group []*request, held *request) (full []*request, next *request) {
	if held != nil {
		group = append(group, held)
	}
	octets := 0
	for _, r := range group {
		octets += r.octets
	}
	for len(group) < maxGroupRequests {
		select {
		case r := <-s.requests:
			if octets += r.octets; octets > maxGroupOctets && len(group) > 0 {
				return group, r
			}
			group = append(group, r)
		default:
			return group, nil
		}
	}
	return group, nil
}

// commitGroup makes a group durable and wakes those who wait for it.
func (s *Store) commitGroup(group []*request) {
	swept := s.sweepStep()
	if swept != nil {
		group = append(group, &swept.request)
	}
	if len(group) == 0 {
		return
	}
	admitted := s.admit(group)
	err := s.tryGroup(admitted)
	if errors.Is(err, store.ErrNoSpace) {
		s.dropReserve()
		var freeing []*request
		for _, r := range admitted {
			if r.err = err; r.frees {
				r.err = nil
				freeing = append(freeing, r)
			}
		}
		admitted, err = freeing, s.tryGroup(freeing)
	}
	for _, r := range admitted {
		if err != nil {
			r.err = err
		}
	}
	if swept != nil {
		s.sweepDone(swept)
	}
	for _, r := range group {
		close(r.done)
	}
}

// admit returns the requests that may be tried; the others have their error already.
func (s *Store) admit(group []*request) []*request {
	err := s.poisoned()
	if err == nil {
		err = s.room()
	}
	if err == nil {
		return group
	}
	var admitted []*request
	for _, r := range group {
		if r.frees && errors.Is(err, store.ErrNoSpace) {
			admitted = append(admitted, r)
			continue
		}
		r.err = err
	}
	return admitted
}

// tryGroup applies requests in one transaction and commits it. Its error is of the group as a whole; refused requests have their own.
func (s *Store) tryGroup(group []*request) error {
	if len(group) == 0 {
		return nil
	}
	bodies := false
	for _, r := range group {
		bodies = bodies || r.body
	}
	if bodies {
		// The entries come before the record that names them: a record without its body would be a lost message.
		if err := s.fs.SyncDir(filepath.Join(s.dir, largeName)); err != nil {
			return s.poison(fmt.Errorf("directory of bodies: %w", err))
		}
	}
	t, err := s.begin()
	if err != nil {
		return fmt.Errorf("index: %w", err)
	}
	for _, r := range group {
		writes := t.writes
		if r.err = r.apply(t); r.err != nil && t.writes != writes {
			t.fail(fmt.Errorf("refused after its first write: %w", r.err))
		}
		if t.err != nil {
			t.rollback()
			return t.err
		}
	}
	return s.commit(t)
}

// commit makes a transaction durable, and only then lets readers see it.
func (s *Store) commit(t *txn) error {
	t.pruneTrail()
	t.flush()
	if t.err != nil || t.writes == 0 {
		t.rollback()
		return t.err
	}
	for _, freed := range t.freed {
		s.bodies.launch(freed)
	}
	s.gate.Lock()
	err := s.fs.Commit(s.indexPath(), t.tx.Commit)
	s.gate.Unlock()
	if err != nil {
		for _, kept := range t.freed {
			s.bodies.landed(kept)
		}
		err = s.commitFailed(fmt.Errorf("index commit: %w", err))
		t.rollback()
		return err
	}
	for _, do := range t.durable {
		do()
	}
	if t.queued {
		s.announceJobs()
	}
	s.removeBodies(t.freed)
	return nil
}
