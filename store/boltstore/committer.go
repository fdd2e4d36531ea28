package boltstore

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"latchkey/internal/journal"
	"latchkey/store"
)

// Bounds of one group of verbs that share a sync. What does not fit waits for the next group.
const (
	maxGroupPostings = 1024
	maxGroupOctets   = 4 << 20
)

// posting is one verb that waits for the journal.
type posting struct {
	// stage looks at everything again, and appends the verb's record to the group or says why not. It may run twice, in different groups, if
	// the first could not be written.
	stage func(*group) error
	// alter is, instead of stage, a change of the index before which and during which no delivery is decided: see Store.alter.
	alter *request
	// frees is set for verbs that make room, or that end work which was done: they go on when the device is full.
	frees bool
	// large is set if a body was renamed into large/, whose entry the group makes durable.
	large bool
	// octets is about what the verb adds to the journal.
	octets int
	err    error
	done   chan struct{}
}

// group is what becomes durable with one sync of the journal.
type group struct {
	s       *Store
	staged  []tailed
	durable []func() // to run when the group is durable and readers see it, before anyone is told
	undo    []func() // to run if it is not
	// gone are copies that the group deletes already.
	gone    map[store.CopyID]struct{}
	scratch encoder
}

// append adds an entry to the journal's group. setPlace, if any, is told where the body will lie.
func (g *group) append(kind journal.Kind, made entry, body journal.Body, frees bool, setPlace func(journal.Place)) error {
	g.scratch.b = g.scratch.b[:0]
	made.encode(&g.scratch)
	place, mark, err := g.s.journal.Append(kind, g.scratch.b, body, frees)
	if errors.Is(err, journal.ErrNoSpace) {
		return fmt.Errorf("%w: %w", store.ErrNoSpace, err)
	}
	if err != nil {
		return g.s.writeFailed(fmt.Errorf("journal: %w", err))
	}
	if setPlace != nil {
		setPlace(place)
	}
	g.staged = append(g.staged, tailed{entry: made, mark: mark, octets: made.octets()})
	return nil
}

// post hands a verb to the committer and waits until it is durable, or refused. ctx counts until the committer has taken it: from then on
// the outcome is awaited, because it cannot be called back.
func (s *Store) post(ctx context.Context, p *posting) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.poisoned(); err != nil {
		return err
	}
	p.done = make(chan struct{})
	select {
	case <-s.closing:
		return store.ErrClosed
	default:
	}
	select {
	case s.postings <- p:
	case <-s.closing:
		return store.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-p.done:
		return p.err
	case <-s.posted:
	}
	select {
	case <-p.done:
		return p.err
	default: // it came after the committer's last look
		return store.ErrClosed
	}
}

// alter changes the index in a way that deliveries have to see: while it is on its way nothing is delivered, and what is delivered after it
// returned was decided after it.
func (s *Store) alter(ctx context.Context, frees bool, apply func(*txn) error) error {
	return s.post(ctx, &posting{frees: frees, alter: &request{apply: apply, frees: frees}})
}

// commitLoop is the only writer of the journal. It sleeps until something waits, and takes all of it: groups grow with the load, and no
// timer holds up a single verb.
func (s *Store) commitLoop() {
	defer close(s.posted)
	var held *posting // taken, but beyond the bound of the last group
	g := &group{s: s, gone: make(map[store.CopyID]struct{})}
	var postings []*posting
	for {
		postings = postings[:0]
		if held == nil {
			select {
			case p := <-s.postings:
				postings = append(postings, p)
			case <-s.closing:
			}
		}
		postings, held = s.gather(postings, held)
		if len(postings) == 0 {
			return // closing, and nothing waits
		}
		s.awaitTail()
		if postings[0].alter != nil {
			s.commitAlteration(postings[0])
		} else {
			s.commitGroup(g, postings)
		}
		clear(postings)
		if held == nil && len(s.postings) == 0 {
			s.restSoon()
			s.journal.Idle()
			if cap(g.scratch.b) > keptScratch {
				g.scratch.b = nil
			}
		}
	}
}

// keptScratch is how much memory for encoding is kept while nothing happens.
const keptScratch = 64 << 10

func (s *Store) isClosing() bool {
	select {
	case <-s.closing:
		return true
	default:
		return false
	}
}

// gather adds what waits to a group, up to its bounds, and returns the posting that did not fit. An alteration is a group of its own.
func (s *Store) gather(postings []*posting, held *posting) (full []*posting, next *posting) {
	if held != nil {
		postings = append(postings, held)
	}
	octets := 0
	for _, p := range postings {
		if p.alter != nil {
			return postings, nil
		}
		octets += p.octets
	}
	for len(postings) < maxGroupPostings {
		select {
		case p := <-s.postings:
			if octets += p.octets; len(postings) > 0 && (octets > maxGroupOctets || p.alter != nil) {
				return postings, p
			}
			postings = append(postings, p)
			if p.alter != nil {
				return postings, nil
			}
		default:
			return postings, nil
		}
	}
	return postings, nil
}

// awaitTail waits while the tail is at its bound, unless the index cannot be written at all: then the group is refused in part.
func (s *Store) awaitTail() {
	for {
		full, moved, stuck := s.tail.full()
		if !full || stuck != nil || s.poisoned() != nil {
			return
		}
		s.wake()
		select {
		case <-moved:
		case <-s.stopped:
			return
		}
	}
}

// commitAlteration lets the indexer make a change while nothing else is decided. What the committer knows of accounts is read again after it.
func (s *Store) commitAlteration(p *posting) {
	p.err = s.submit(context.Background(), p.alter)
	s.boxes.forget()
	close(p.done)
}

// commitGroup makes a group durable and wakes those who wait for it.
func (s *Store) commitGroup(g *group, postings []*posting) {
	began := time.Now()
	admitted := s.admit(postings)
	err := s.tryGroup(g, admitted)
	if errors.Is(err, store.ErrNoSpace) {
		s.dropReserve()
		var freeing []*posting
		for _, p := range admitted {
			switch {
			case p.err != nil:
			case p.frees:
				freeing = append(freeing, p)
			default:
				p.err = err
			}
		}
		admitted, err = freeing, s.tryGroup(g, freeing)
	}
	if err != nil {
		for _, p := range admitted {
			if p.err == nil {
				p.err = err
			}
		}
	}
	s.metrics.group(len(postings), time.Since(began))
	for _, p := range postings {
		close(p.done)
	}
}

// admit returns the postings that may be tried; the others have their error already.
func (s *Store) admit(postings []*posting) []*posting {
	err := s.poisoned()
	if err == nil {
		err = s.room()
	}
	if full, _, stuck := s.tail.full(); err == nil && full && stuck != nil {
		err = stuck
	}
	if err == nil {
		return postings
	}
	var admitted []*posting
	for _, p := range postings {
		if p.frees && errors.Is(err, store.ErrNoSpace) {
			admitted = append(admitted, p)
			continue
		}
		p.err = err
	}
	return admitted
}

// tryGroup stages postings and makes what was staged durable. Its error is of the group as a whole; refused postings have their own.
func (s *Store) tryGroup(g *group, postings []*posting) error {
	large := false
	for _, p := range postings {
		large = large || p.large
	}
	if large {
		// The entries come before the record that names them: a record without its body would be a lost message.
		if err := s.fs.SyncDir(filepath.Join(s.dir, largeName)); err != nil {
			return s.poison(fmt.Errorf("directory of bodies: %w", err))
		}
	}
	full := false
	for _, p := range postings {
		p.err = p.stage(g)
		full = full || errors.Is(p.err, store.ErrNoSpace)
	}
	if full {
		s.dropReserve()
	}
	err := s.syncGroup(g)
	finish := g.durable
	if err != nil {
		finish = g.undo
	}
	for _, do := range finish {
		do()
	}
	clear(g.staged)
	clear(g.durable)
	clear(g.undo)
	clear(g.gone)
	g.staged, g.durable, g.undo = g.staged[:0], g.durable[:0], g.undo[:0]
	return err
}

// syncGroup writes and syncs the journal, and lets readers see the group.
func (s *Store) syncGroup(g *group) error {
	if len(g.staged) == 0 {
		return nil
	}
	if err := s.poisoned(); err != nil {
		s.journal.Discard()
		return err
	}
	began := time.Now()
	_, err := s.journal.Commit()
	s.metrics.synced(time.Since(began))
	if errors.Is(err, journal.ErrNoSpace) {
		return fmt.Errorf("%w: %w", store.ErrNoSpace, err)
	}
	if err != nil {
		return s.poison(fmt.Errorf("journal: %w", err))
	}
	if s.tail.add(began, g.staged) {
		s.wake()
	} else {
		s.wakeLater()
	}
	return nil
}
