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
	// alone is set for a verb that shares no group, and is staged while none is written.
	alone bool
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
	// gone are copies that the group deletes already; before is the group that is being written meanwhile, or nil.
	gone    map[store.CopyID]struct{}
	before  *group
	scratch encoder

	postings []*posting
	// began is when the first was staged, sealed when the writing began.
	began, sealed time.Time
}

// isGone reports whether a copy is deleted by this group, or by the one before it that readers do not see yet.
func (g *group) isGone(id store.CopyID) bool {
	_, gone := g.gone[id]
	if !gone && g.before != nil {
		_, gone = g.before.gone[id]
	}
	return gone
}

// takeBack undoes what was staged. The postings stay.
func (g *group) takeBack() {
	for _, undo := range g.undo {
		undo()
	}
	g.empty()
}

// empty forgets what was staged. The postings stay.
func (g *group) empty() {
	clear(g.staged)
	clear(g.durable)
	clear(g.undo)
	clear(g.gone)
	g.staged, g.durable, g.undo = g.staged[:0], g.durable[:0], g.undo[:0]
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

func (s *Store) isClosing() bool {
	select {
	case <-s.closing:
		return true
	default:
		return false
	}
}

// commitAlteration lets the indexer make a change while nothing else is decided. What the committer knows of accounts is read again after it.
func (s *Store) commitAlteration(p *posting) {
	p.err = s.submit(context.Background(), p.alter)
	s.boxes.forget()
	close(p.done)
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

// stage stages postings in a group. Those that are refused have their error.
func (s *Store) stage(g *group, postings []*posting) {
	large := false
	for _, p := range postings {
		large = large || p.large
	}
	if large {
		// The entries come before the record that names them: a record without its body would be a lost message.
		if err := s.fs.SyncDir(filepath.Join(s.dir, largeName)); err != nil {
			err = s.poison(fmt.Errorf("directory of bodies: %w", err))
			for _, p := range postings {
				p.err = err
			}
			return
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
}

// seal ends the staging of a group: what is to be written, or nil if there is nothing.
func (s *Store) seal(g *group) (*journal.Sealed, error) {
	if len(g.staged) == 0 {
		return nil, nil
	}
	if err := s.poisoned(); err != nil {
		s.journal.Discard()
		return nil, err
	}
	g.sealed = time.Now()
	sealed, err := s.journal.Seal()
	if err != nil {
		return nil, s.poison(fmt.Errorf("journal: %w", err))
	}
	return sealed, nil
}

// conclude ends the writing of a group, and lets readers see it.
func (s *Store) conclude(g *group, sealed *journal.Sealed) error {
	_, err := s.journal.Settle(sealed)
	took := time.Since(g.sealed)
	s.metrics.synced(took)
	s.watch("journal", took, len(g.staged))
	if errors.Is(err, journal.ErrNoSpace) {
		return fmt.Errorf("%w: %w", store.ErrNoSpace, err)
	}
	if err != nil {
		return s.poison(fmt.Errorf("journal: %w", err))
	}
	if s.tail.add(g.sealed, g.staged) {
		s.wake()
	} else {
		s.wakeLater()
	}
	return nil
}

// again is for a group that could not be written: those of its verbs that make room are tried once more, if room is what was missing.
func (s *Store) again(g *group, err error) error {
	g.takeBack()
	if !errors.Is(err, store.ErrNoSpace) {
		return err
	}
	s.dropReserve()
	var freeing []*posting
	for _, p := range g.postings {
		switch {
		case p.err != nil:
		case p.frees:
			freeing = append(freeing, p)
		default:
			p.err = err
		}
	}
	s.stage(g, freeing)
	sealed, err := s.seal(g)
	if sealed == nil {
		return err
	}
	sealed.Write()
	return s.conclude(g, sealed)
}

// finish ends a group and tells everybody how.
func (s *Store) finish(g *group, err error) {
	s.metrics.group(len(g.postings), time.Since(g.began))
	if err != nil {
		g.takeBack()
	}
	for _, do := range g.durable {
		do()
	}
	for _, p := range g.postings {
		if p.err == nil {
			p.err = err
		}
		close(p.done)
	}
	g.empty()
	clear(g.postings)
	g.postings = g.postings[:0]
}
