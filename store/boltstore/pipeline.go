package boltstore

import (
	"runtime"
	"time"

	"latchkey/internal/journal"
	"latchkey/store"
)

// pipeline is the committer at work: while one group is written and synced the next one is staged, so that neither the device nor the
// verbs wait for the other. Groups are written one after the other, each when the one before is durable.
type pipeline struct {
	s *Store
	// filling is the group that is staged; flying the one that is being written, or nil; spare an empty one.
	filling, flying, spare *group
	sealed                 *journal.Sealed
	landed                 chan struct{} // the flying group was written, or could not be
	held                   *posting      // taken, but not to be staged before the groups that are there have ended
	lonely                 bool          // the last group was one verb: most likely nobody comes meanwhile
	octets                 int           // of filling
	batch                  []*posting    // taken and not staged
}

// maxYields bounds how often the committer lets others go first before it writes a group.
const maxYields = 16

// commitLoop is the only writer of the journal. It sleeps until something waits, and takes all of it: groups grow with the load, and no
// timer holds up a single verb.
func (s *Store) commitLoop() {
	defer close(s.posted)
	p := &pipeline{s: s, landed: make(chan struct{}, 1)}
	for _, g := range []**group{&p.filling, &p.spare} {
		*g = &group{s: s, gone: make(map[store.CopyID]struct{})}
	}
	for p.step() {
	}
}

// step does the next thing, or waits for one. It returns false when the store is closing and nothing waits.
func (p *pipeline) step() bool {
	s := p.s
	if p.held != nil && p.flying == nil && len(p.filling.postings) == 0 {
		p.takeHeld()
		return true
	}
	postings := s.postings
	if p.held != nil || len(p.filling.postings) >= maxGroupPostings {
		postings = nil // what is there ends first
	}
	if p.flying == nil && len(p.filling.postings) > 0 {
		p.yield()
		p.gather(postings)
		p.launch()
		return true
	}
	if p.flying == nil {
		select {
		case first := <-postings:
			p.gather(postings, first)
		case <-s.quiet:
			s.journal.Idle()
			p.filling.scratch.b, p.spare.scratch.b = nil, nil
		case <-s.closing:
			if p.gather(postings); len(p.filling.postings) == 0 && p.held == nil {
				return false
			}
		}
		return true
	}
	select {
	case <-p.landed:
		p.land()
	case first := <-postings:
		p.gather(postings, first)
	}
	return true
}

// yield lets whoever is about to post do so, as long as somebody does: on busy processors a group gets larger by it, on idle ones it takes no
// time.
func (p *pipeline) yield() {
	if p.lonely {
		return
	}
	for n, yields := -1, 0; len(p.s.postings) > n && yields < maxYields; yields++ {
		n = len(p.s.postings)
		runtime.Gosched()
	}
}

// takeHeld takes the posting that waited for the groups before it.
func (p *pipeline) takeHeld() {
	held := p.held
	p.held = nil
	if held.alter != nil {
		p.s.commitAlteration(held)
		p.s.restSoon()
		return
	}
	p.octets = held.octets
	p.add([]*posting{held})
	if held.alone {
		p.launch()
	}
}

// gather stages first and what else waits.
func (p *pipeline) gather(postings <-chan *posting, first ...*posting) {
	p.take(postings, first...)
	p.add(p.batch)
	clear(p.batch)
}

// take makes a batch of first and what else waits, up to the bounds of the group that is filled. What does not fit is held.
func (p *pipeline) take(postings <-chan *posting, first ...*posting) {
	p.batch = p.batch[:0]
	for next := range p.waiting(postings, first) {
		n := len(p.filling.postings) + len(p.batch)
		if next.alter != nil || next.alone || n > 0 && p.octets+next.octets > maxGroupOctets {
			p.held = next
			return
		}
		p.octets += next.octets
		if p.batch = append(p.batch, next); n+1 == maxGroupPostings {
			return
		}
	}
}

// waiting yields first, and then what waits.
func (p *pipeline) waiting(postings <-chan *posting, first []*posting) func(func(*posting) bool) {
	return func(yield func(*posting) bool) {
		for _, next := range first {
			if !yield(next) {
				return
			}
		}
		for {
			select {
			case next := <-postings:
				if !yield(next) {
					return
				}
			default:
				return
			}
		}
	}
}

// add stages postings in the group that is filled.
func (p *pipeline) add(postings []*posting) {
	if len(postings) == 0 {
		return
	}
	p.awaitTail()
	g := p.filling
	if len(g.postings) == 0 {
		g.began = time.Now()
	}
	g.postings = append(g.postings, postings...)
	g.before = p.flying
	p.s.stage(g, p.s.admit(postings))
}

// awaitTail waits while the tail is at its bound, unless the index cannot be written at all: then the group is refused in part. What is
// being written does not wait.
func (p *pipeline) awaitTail() {
	s := p.s
	for {
		full, moved, stuck := s.tail.full()
		if !full || stuck != nil || s.poisoned() != nil {
			return
		}
		s.wake()
		landed := p.landed
		if p.flying == nil {
			landed = nil
		}
		select {
		case <-landed:
			p.land()
		case <-moved:
		case <-s.stopped:
			return
		}
	}
}

// launch writes the group that was filled: at once if nobody else seems to be there, else while the next one is filled.
func (p *pipeline) launch() {
	g := p.filling
	p.octets = 0
	alone := len(g.postings) == 1
	inline := alone && p.lonely && len(p.s.postings) == 0
	p.lonely = alone
	sealed, err := p.s.seal(g)
	if sealed == nil {
		p.s.finish(g, err)
		p.s.restSoon()
		return
	}
	p.filling, p.spare, p.flying, p.sealed = p.spare, nil, g, sealed
	if inline {
		sealed.Write()
		p.land()
		return
	}
	go func() {
		sealed.Write()
		p.landed <- struct{}{}
	}()
}

// land ends the group that was written. If that failed, what was staged behind it is staged once more.
func (p *pipeline) land() {
	s, g, behind := p.s, p.flying, p.filling
	err := s.conclude(g, p.sealed)
	p.flying, p.sealed, p.spare = nil, nil, g
	behind.before = nil
	s.restSoon()
	if err == nil {
		s.finish(g, nil)
		return
	}
	behind.takeBack()
	s.finish(g, s.again(g, err))
	s.stage(behind, s.admit(unrefused(behind.postings)))
}

// unrefused returns the postings that have no error.
func unrefused(postings []*posting) (list []*posting) {
	for _, p := range postings {
		if p.err == nil {
			list = append(list, p)
		}
	}
	return list
}
