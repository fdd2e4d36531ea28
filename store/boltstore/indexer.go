package boltstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"latchkey/store"
)

// Bounds of one transaction of the index.
const (
	maxTxnRequests = 512
	maxTxnOctets   = 4 << 20
	// indexBatch is how many records of the journal one transaction applies, and how many make the indexer start at once.
	indexBatch = 8192
	// indexOctets is how much they may come to, as entry.octets has it: what a transaction changes is in memory until it is committed.
	indexOctets = 5 << 20
	// indexDelay is how long records wait for more when nobody asks for them: large transactions cost the device less, and few of them hold up
	// few of the journal's syncs.
	indexDelay = 5 * time.Second
)

// request is one change of what is only in the index: accounts, settings, counters and the like.
type request struct {
	// apply makes the changes. It may run twice, on different transactions, if the first could not be committed.
	apply func(*txn) error
	// frees is set for verbs that make room, or that end work which was done: they go on when the device is full.
	frees bool
	// octets is about what the request adds to the index.
	octets int
	err    error
	done   chan struct{}
}

// submit hands a request to the indexer and waits until its changes are durable, or refused. ctx counts until the indexer has
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
	case <-s.ending:
		return store.ErrClosed
	default:
	}
	select {
	case s.requests <- r:
	case <-s.ending:
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
	default: // it came after the indexer's last look
		return store.ErrClosed
	}
}

// write is submit for verbs that need room.
func (s *Store) write(ctx context.Context, apply func(*txn) error) error {
	return s.submit(ctx, &request{apply: apply})
}

// release is submit for verbs that make room.
func (s *Store) release(ctx context.Context, apply func(*txn) error) error {
	return s.submit(ctx, &request{apply: apply, frees: true})
}

// wake makes the indexer look for work.
func (s *Store) wake() {
	select {
	case s.poke <- struct{}{}:
	default:
	}
}

// wakeLater makes the indexer look when the records of the tail have waited long enough. There is no timer while the tail is empty.
func (s *Store) wakeLater() {
	if s.delayed.CompareAndSwap(false, true) {
		time.AfterFunc(time.Duration(s.bounds.indexDelay), func() {
			s.delayed.Store(false)
			s.wake()
		})
	}
}

// indexLoop is the only writer of the index. It applies what is durable in the journal, in large transactions, and the requests that came
// meanwhile behind it.
func (s *Store) indexLoop() {
	defer close(s.stopped)
	var held *request // taken, but beyond the bound of the last transaction
	for {
		var requests []*request
		if held == nil && !s.sweepWaits() {
			select {
			case r := <-s.requests:
				requests = append(requests, r)
			case <-s.poke:
			case <-s.ending:
			}
		}
		requests, held = s.gatherRequests(requests, held)
		s.follow(requests)
		s.reclaim()
		s.compactIfWorth()
		if len(requests) == 0 && held == nil && s.isEnding() {
			return
		}
	}
}

func (s *Store) isEnding() bool {
	select {
	case <-s.ending:
		return true
	default:
		return false
	}
}

// gatherRequests adds what waits, up to the bounds of a transaction, and returns the request that did not fit.
func (s *Store) gatherRequests(requests []*request, held *request) (full []*request, next *request) {
	if held != nil {
		requests = append(requests, held)
	}
	octets := 0
	for _, r := range requests {
		octets += r.octets
	}
	for len(requests) < maxTxnRequests {
		select {
		case r := <-s.requests:
			if octets += r.octets; octets > maxTxnOctets && len(requests) > 0 {
				return requests, r
			}
			requests = append(requests, r)
		default:
			return requests, nil
		}
	}
	return requests, nil
}

// follow applies the tail as far as it is due, and then the requests, which so come after everything that was durable before them.
func (s *Store) follow(requests []*request) {
	for {
		batch, more := s.due(len(requests) > 0)
		if more {
			s.indexBatch(batch, nil)
			if _, _, stuck := s.tail.full(); stuck == nil {
				continue
			}
		}
		swept := s.sweepStep()
		if swept != nil {
			requests = append(requests, &swept.request)
		}
		s.indexBatch(batch, requests)
		if swept != nil {
			s.sweepDone(swept)
		}
		for _, r := range requests {
			close(r.done)
		}
		return
	}
}

// due returns the records to be applied now, if somebody waits for them, or if there are many or old ones; more is set if that is not all.
func (s *Store) due(now bool) (batch []tailed, more bool) {
	at := time.Now()
	some, due := s.tail.isDue(at)
	switch {
	case !some || s.poisoned() != nil:
		return nil, false
	case now || due || s.isEnding():
		return s.tail.take(at)
	}
	s.wakeLater()
	return nil, false
}

// indexBatch makes records and requests durable in the index. Requests that are refused have their error.
func (s *Store) indexBatch(batch []tailed, requests []*request) {
	if len(batch)+len(requests) == 0 {
		return
	}
	admitted := s.admitRequests(requests)
	err := s.tryBatch(batch, admitted)
	if errors.Is(err, store.ErrNoSpace) {
		s.dropReserve()
		var freeing []*request
		for _, r := range admitted {
			if r.err = err; r.frees {
				r.err = nil
				freeing = append(freeing, r)
			}
		}
		admitted, err = freeing, s.tryBatch(batch, freeing)
	}
	if err != nil {
		for _, r := range admitted {
			r.err = err
		}
	}
	if len(batch) > 0 {
		s.tail.done(len(batch), err)
	}
}

// admitRequests returns the requests that may be tried; the others have their error already.
func (s *Store) admitRequests(requests []*request) []*request {
	if len(requests) == 0 {
		return nil
	}
	err := s.poisoned()
	if err == nil {
		err = s.room()
	}
	if err == nil {
		return requests
	}
	var admitted []*request
	for _, r := range requests {
		if r.frees && errors.Is(err, store.ErrNoSpace) {
			admitted = append(admitted, r)
			continue
		}
		r.err = err
	}
	return admitted
}

// tryBatch applies records and requests in one transaction and commits it. Its error is of the transaction as a whole; refused requests
// have their own.
func (s *Store) tryBatch(batch []tailed, requests []*request) error {
	if len(batch)+len(requests) == 0 {
		return nil
	}
	if err := s.poisoned(); err != nil {
		return err
	}
	t, err := s.begin()
	if err != nil {
		return fmt.Errorf("index: %w", err)
	}
	for i := range batch {
		batch[i].entry.apply(t)
		t.applied = &batch[i].mark
	}
	records := t.err
	for _, r := range requests {
		writes := t.writes
		if r.err = r.apply(t); r.err != nil && t.writes != writes {
			t.fail(fmt.Errorf("refused after its first write: %w", r.err))
		}
		if t.err != nil {
			break
		}
	}
	if t.err != nil {
		t.rollback()
		if records != nil {
			return s.poison(fmt.Errorf("the journal's records cannot be applied: %w", records))
		}
		return t.err
	}
	return s.commit(t, len(requests) > 0)
}

// commit makes a transaction durable. Readers may see records of the journal at once, as they are durable there; requests only after the
// sync.
func (s *Store) commit(t *txn, requests bool) error {
	t.endTrail()
	t.flush()
	if t.err != nil || t.writes == 0 {
		t.rollback()
		return t.err
	}
	for _, freed := range t.freed {
		s.bodies.launch(freed)
	}
	if requests {
		s.gate.Lock()
	}
	began := time.Now()
	err := s.fs.Commit(s.indexPath(), t.tx.Commit)
	took := time.Since(began)
	s.metrics.indexed(took)
	s.watch("index", took, t.writes)
	if requests {
		s.gate.Unlock()
	}
	if err != nil {
		for _, kept := range t.freed {
			s.bodies.landed(kept)
		}
		err = s.commitFailed(fmt.Errorf("index commit: %w", err))
		t.rollback()
		return err
	}
	if t.renames {
		s.routes.forget()
	}
	if t.expires {
		s.expiries.forget()
	}
	if t.applied != nil {
		s.space.indexed(*t.applied)
	}
	for _, do := range t.durable {
		do()
	}
	if t.fresh.Some() {
		s.announceJobs(&t.fresh)
	}
	s.removeBodies(t.freed)
	return nil
}
