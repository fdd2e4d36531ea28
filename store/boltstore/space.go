package boltstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"latchkey/internal/journal"
	"latchkey/store"
)

// space knows what of the journal's segments and of large/ is needed, and by whom.
type space struct {
	// keep is held for reading while somebody reads the index and pins what it found, and for writing while something is let go.
	keep sync.RWMutex

	mu      sync.Mutex // guards the rest
	live    map[uint64]live
	applied journal.Mark // up to where the index has the journal, durably
	changed bool         // a segment may have become free since the last look
	moving  bool         // a segment is being copied forward
	stuck   map[uint64]struct{}
	// held counts the readers of large bodies; doomed are those that go with the last of them.
	held   map[token]int
	doomed map[token]struct{}
	// archive is what a backup under way keeps, or nil.
	archive *holding
}

func newSpace() space {
	return space{live: make(map[uint64]live), stuck: make(map[uint64]struct{}), held: make(map[token]int), doomed: make(map[token]struct{})}
}

// note keeps what of segments is needed after a transaction.
func (z *space) note(changed map[uint64]live) {
	z.mu.Lock()
	defer z.mu.Unlock()
	for segment, l := range changed {
		if l.Messages > 0 {
			z.live[segment] = l
		} else {
			delete(z.live, segment)
		}
	}
	z.changed = true
}

// indexed keeps up to where the index has the journal.
func (z *space) indexed(mark journal.Mark) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.changed = z.changed || mark.Generation != z.applied.Generation
	z.applied = mark
}

// usage returns how many messages and octets of the journal are needed.
func (z *space) usage() (l live) {
	z.mu.Lock()
	defer z.mu.Unlock()
	for _, each := range z.live {
		l.Messages += each.Messages
		l.Octets += each.Octets
	}
	return l
}

// deadShare is how much of a segment has to be dead, in percent, before what is left is copied forward.
const deadShare = 70

// survey returns the segments that nothing needs any more, and one that is worth being copied forward (0 is none).
func (z *space) survey(segments []journal.Info) (free []uint64, move uint64) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.changed = false
	for _, info := range segments {
		if info.Active || info.Generation >= z.applied.Generation || z.archive.holdsSegment(info.Generation) {
			continue
		}
		l, needed := z.live[info.Generation]
		if !needed {
			free = append(free, info.Generation)
			continue
		}
		if _, stuck := z.stuck[info.Generation]; !stuck && !z.moving && move == 0 && l.Octets*100 < info.Used*(100-deadShare) {
			move = info.Generation
		}
	}
	z.moving = z.moving || move != 0
	return free, move
}

func (z *space) due() bool {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.changed
}

// moved notes that the copying of a segment has ended; one that could not be read is left alone from then on.
func (z *space) moved(segment uint64, err error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.moving, z.changed = false, true
	if errors.Is(err, store.ErrDamaged) {
		z.stuck[segment] = struct{}{}
	}
}

// reclaim lets go of segments that nothing needs, and begins to empty one that is mostly dead. The indexer calls it.
func (s *Store) reclaim() {
	if s.options.still || s.isEnding() || s.poisoned() != nil || !s.space.due() {
		return
	}
	segments, _, _ := s.journal.Segments()
	free, move := s.space.survey(segments)
	for _, segment := range free {
		s.space.keep.Lock()
		err := s.journal.Free(segment)
		s.space.keep.Unlock()
		if err != nil {
			s.log.Error("segment could not be freed", "segment", segment, "error", s.writeFailed(err))
		}
	}
	if move != 0 {
		s.removers.Go(func() { s.moveForward(move) })
	}
}

// idleAfter is how long nothing is committed before the journal is made small.
const idleAfter = 10 * time.Second

// smallJournal is what the active segment, if it is mostly dead, and the spares of an idle domain may take together, in octets. What Shrink
// leaves of the least size is less, so an idle domain is made small once.
const smallJournal = (journal.RestSpares + 2) * journal.MinSegment

// restSoon arranges that the journal is looked at when nothing was committed for a while. Only the committer calls it.
func (s *Store) restSoon() {
	if s.resting == nil {
		s.resting = time.AfterFunc(s.idleAfter(), s.rest)
		return
	}
	s.resting.Reset(s.idleAfter())
}

func (s *Store) idleAfter() time.Duration { return time.Duration(s.bounds.idle) }

// rest lets the committer give back its memory, and makes the journal of an idle domain small, if its spares and a last segment that is mostly
// dead are large. While the index is behind nobody can say what is dead, so it looks again then: nothing else would before the next commit.
func (s *Store) rest() {
	select {
	case s.quiet <- struct{}{}:
	default:
	}
	if s.isClosing() || s.poisoned() != nil {
		return
	}
	if waits, _, _ := s.tail.waits(); waits > 0 && s.restAgain.CompareAndSwap(false, true) {
		time.AfterFunc(s.idleAfter(), func() {
			s.restAgain.Store(false)
			s.rest()
		})
	}
	if !s.hasLargeJournal() {
		return
	}
	err := s.post(context.Background(), &posting{frees: true, alone: true, stage: func(g *group) error {
		if err := s.journal.Shrink(); err != nil {
			return s.writeFailed(fmt.Errorf("journal: %w", err))
		}
		return g.append(recOutcomes, &outcomesEntry{}, journal.Body{}, true, nil)
	}})
	if err != nil && !errors.Is(err, store.ErrClosed) {
		s.log.Error("the journal could not be made small", "error", err)
	}
}

func (s *Store) hasLargeJournal() bool {
	segments, _, spareOctets := s.journal.Segments()
	large := int64(s.bounds.journal)
	z := &s.space
	z.mu.Lock()
	defer z.mu.Unlock()
	taken := spareOctets
	for _, info := range segments {
		if info.Active && z.live[info.Generation].Octets*100 < info.Used*(100-deadShare) {
			taken += info.Size
		}
	}
	return taken > large
}

// pins are what one reader keeps readable.
type pins struct {
	segments map[uint64]*journal.Pin
	last     uint64
	bodies   map[store.MessageID]body // large ones
}

// segment pins a segment, once.
func (p *pins) segment(s *Store, segment uint64) error {
	if segment == p.last {
		return nil
	}
	if p.segments[segment] == nil {
		pin, err := s.journal.Pin(segment)
		if err != nil {
			return err
		}
		p.add(segment, pin)
	}
	p.last = segment
	return nil
}

func (p *pins) add(segment uint64, pin *journal.Pin) {
	if p.segments == nil {
		p.segments = make(map[uint64]*journal.Pin)
	}
	p.segments[segment] = pin
}

// body keeps the file of a large body, once.
func (p *pins) body(s *Store, id store.MessageID, b body) {
	if _, ok := p.bodies[id]; ok {
		return
	}
	if p.bodies == nil {
		p.bodies = make(map[store.MessageID]body)
	}
	p.bodies[id] = b
	s.space.mu.Lock()
	defer s.space.mu.Unlock()
	s.space.held[b.token]++
}

// borrow pins what another reader has pinned of a list. It opens nothing.
func (p *pins) borrow(s *Store, from *pins, list []listing) {
	last := uint64(0)
	for i := range list {
		l := &list[i]
		if l.segment != last {
			last = l.segment
			if pin := from.segments[last]; pin != nil && p.segments[last] == nil {
				p.add(last, pin.Clone())
			}
		}
		if !l.large() {
			continue
		}
		if b, ok := from.bodies[l.message]; ok {
			p.body(s, l.message, b)
		}
	}
}

// join takes over what other has pinned.
func (p *pins) join(s *Store, other *pins) {
	for segment, pin := range other.segments {
		if p.segments[segment] == nil {
			p.add(segment, pin)
			delete(other.segments, segment)
		}
	}
	for id, b := range other.bodies {
		p.body(s, id, b)
	}
	other.release(s)
}

// release ends the pins, and removes files that were kept for them alone.
func (p *pins) release(s *Store) {
	for _, pin := range p.segments {
		pin.Release()
	}
	var gone []token
	z := &s.space
	z.mu.Lock()
	for _, b := range p.bodies {
		if z.held[b.token]--; z.held[b.token] > 0 {
			continue
		}
		delete(z.held, b.token)
		if _, doomed := z.doomed[b.token]; doomed && !z.archive.holdsLarge(b.token) {
			delete(z.doomed, b.token)
			gone = append(gone, b.token)
		}
	}
	z.mu.Unlock()
	*p = pins{}
	s.unlink(gone)
}

func (v *view) shared(id store.MessageID) (sharedRecord, error) {
	b := v.get(bBodies, key8(uint64(id)))
	if b == nil {
		return sharedRecord{}, fmt.Errorf("%w: message %s has no references in the index", store.ErrDamaged, id)
	}
	return decodeShared(b)
}

// removeBodies unlinks large bodies that the index no longer names, and that are flying; those that somebody reads go later.
func (s *Store) removeBodies(tokens []token) {
	if len(tokens) == 0 {
		return
	}
	z := &s.space
	z.keep.Lock() // whoever found one in the index has pinned it now
	z.mu.Lock()
	var gone []token
	for _, t := range tokens {
		if z.held[t] > 0 || z.archive.holdsLarge(t) {
			z.doomed[t] = struct{}{}
		} else {
			gone = append(gone, t)
		}
	}
	z.mu.Unlock()
	z.keep.Unlock()
	s.unlink(gone)
}

// unlink removes files beside the indexer, which does not sweep meanwhile, so that deletes cannot pile up faster than the device removes
// them.
func (s *Store) unlink(tokens []token) {
	if len(tokens) == 0 || s.isEnding() {
		return // the next Open finds what is left
	}
	s.removing.Add(1)
	s.removers.Go(func() {
		for _, t := range tokens {
			s.removeBody(t)
			s.bodies.landed(t)
		}
		s.removing.Add(-1)
		s.wake()
	})
}

// removeBody unlinks one body. What cannot be removed now is an orphan that the next Open removes.
func (s *Store) removeBody(t token) {
	if err := s.fs.Remove(s.bodies.large(t)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Error("body without a message could not be removed", "body", t.String(), "error", err)
	}
}

// snapshots counts the open maildrops, and how often something was deleted while they were open.
type snapshots struct {
	mu        sync.Mutex // guards the maps
	byAccount map[store.AccountID]*openSnapshots
	// wrong are the accounts whose counter was found not to be that of their copies; there are no more than accounts.
	wrong map[store.AccountID]struct{}
}

type openSnapshots struct {
	open    int
	version uint64
}

func newSnapshots() snapshots {
	return snapshots{byAccount: make(map[store.AccountID]*openSnapshots), wrong: make(map[store.AccountID]struct{})}
}

// miscounted notes that the counter of a maildrop is not to be believed.
func (z *snapshots) miscounted(id store.AccountID) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.wrong[id] = struct{}{}
}

func (z *snapshots) isMiscounted(id store.AccountID) bool {
	z.mu.Lock()
	defer z.mu.Unlock()
	_, wrong := z.wrong[id]
	return wrong
}

// open notes that a snapshot is about to be taken, and returns the version of the maildrop before it.
func (z *snapshots) open(id store.AccountID) uint64 {
	z.mu.Lock()
	defer z.mu.Unlock()
	o := z.byAccount[id]
	if o == nil {
		o = &openSnapshots{}
		z.byAccount[id] = o
	}
	o.open++
	return o.version
}

func (z *snapshots) close(id store.AccountID) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if o := z.byAccount[id]; o != nil {
		if o.open--; o.open == 0 {
			delete(z.byAccount, id)
		}
	}
}

// changed notes that copies are deleted. It is called when that is decided and again when readers see it: a snapshot that was taken in between
// must not believe that all it lists is there.
func (z *snapshots) changed(id store.AccountID) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if o := z.byAccount[id]; o != nil {
		o.version++
	}
}

func (z *snapshots) version(id store.AccountID) uint64 {
	z.mu.Lock()
	defer z.mu.Unlock()
	if o := z.byAccount[id]; o != nil {
		return o.version
	}
	return 0
}
