package boltstore

import (
	"context"
	"errors"
	"fmt"

	"latchkey/internal/journal"
	"latchkey/store"
)

// Bounds of one step of copying forward.
const (
	movedPerStep       = 64
	movedOctetsPerStep = 1 << 20
)

// mover copies what is alive in one segment to the end of the journal, so that the segment can go.
type mover struct {
	s       *Store
	segment uint64
	pin     *journal.Pin
	batch   []*movedEntry
	octets  int64
}

// moveForward empties one segment. Nothing of it is needed for correctness; what it did not reach is done another time.
func (s *Store) moveForward(segment uint64) {
	err := s.moveSegment(segment)
	s.space.moved(segment, err)
	if err != nil && !errors.Is(err, store.ErrClosed) && !errors.Is(err, store.ErrNoSpace) && !errors.Is(err, store.ErrPoisoned) {
		s.log.Error("segment could not be copied forward", "segment", segment, "error", err)
	}
	s.wake()
}

func (s *Store) moveSegment(segment uint64) error {
	pin, err := s.journal.Pin(segment)
	if errors.Is(err, journal.ErrGone) {
		return nil
	}
	if err != nil {
		return err
	}
	defer pin.Release()
	m := &mover{s: s, segment: segment, pin: pin}
	err = s.journal.Scan(context.Background(), segment, func(r journal.Record) error {
		if s.isClosing() {
			return store.ErrClosed
		}
		return m.look(&r)
	})
	if errors.Is(err, journal.ErrDamaged) {
		err = fmt.Errorf("%w: %w", store.ErrDamaged, err)
	}
	if err == nil {
		err = m.flush()
	}
	return err
}

// look takes a record into the batch.
func (m *mover) look(r *journal.Record) error {
	if r.Kind != recMessage && r.Kind != recMoved {
		return nil
	}
	made, err := decodeEntry(r)
	if err != nil {
		return err
	}
	var e *movedEntry
	switch old := made.(type) {
	case *messageEntry:
		e = &movedEntry{id: old.id, sender: old.sender, body: old.body, holders: old.holders}
		e.copies, e.jobs = old.ids()
	case *movedEntry:
		e = old
	}
	e.from = whereOf(r.Body, int64(len(r.Meta)))
	e.place = r.Body
	for i := range e.holders {
		if h := &e.holders[i]; h.account != 0 {
			prefix, ok := checkedPrefix(r.Meta[int64(len(r.Meta))-h.prefixAt:], h.prefixLen)
			if !ok {
				return fmt.Errorf("%w: lines before message %s", store.ErrDamaged, e.id)
			}
			e.prefixes = append(e.prefixes, append([]byte(nil), prefix...))
		}
	}
	m.batch = append(m.batch, e)
	if m.octets += r.Body.Size + int64(len(r.Meta)); len(m.batch) >= movedPerStep || m.octets >= movedOctetsPerStep {
		return m.flush()
	}
	return nil
}

// flush moves what of the batch somebody still has.
func (m *mover) flush() error {
	var alive []*movedEntry
	err := m.s.read(context.Background(), func(v *view) error {
		for _, e := range m.batch {
			kept, err := v.stillHeld(e)
			if err != nil {
				return err
			}
			if kept {
				alive = append(alive, e)
			}
		}
		return nil
	})
	octets := m.octets
	m.batch, m.octets = nil, 0
	if err != nil || len(alive) == 0 {
		return err
	}
	return m.s.post(context.Background(), &posting{octets: int(octets), stage: func(g *group) error {
		for _, e := range alive {
			if err := m.append(g, e); err != nil {
				return err
			}
		}
		return nil
	}})
}

// stillHeld takes out of an entry the holders that are gone, and reports whether any is left.
func (v *view) stillHeld(e *movedEntry) (bool, error) {
	var holders []holder
	var copies []store.CopyID
	var jobs []store.JobID
	var prefixes [][]byte
	c, j := 0, 0
	for _, h := range e.holders {
		if h.account == 0 {
			job, err := v.job(e.jobs[j])
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				return false, err
			}
			if err == nil && job.segment == e.from.segment && job.offset == e.from.offset {
				holders, jobs = append(holders, h), append(jobs, e.jobs[j])
			}
			j++
			continue
		}
		key := key16(uint64(h.account), uint64(e.copies[c]))
		if b := v.get(bCopies, key); b != nil {
			l, err := decodeListing(key, b)
			if err != nil {
				return false, err
			}
			if l.segment == e.from.segment && l.offset == e.from.offset {
				holders, copies, prefixes = append(holders, h), append(copies, e.copies[c]), append(prefixes, e.prefixes[c])
			}
		}
		c++
	}
	e.holders, e.copies, e.jobs, e.prefixes = holders, copies, jobs, prefixes
	return len(holders) > 0, nil
}

// append writes an entry with its octets at the end of the journal.
func (m *mover) append(g *group, e *movedEntry) error {
	at := e.place
	sums := make([]byte, journal.SumsSize(at.Size))
	if _, err := m.pin.ReadAt(sums, at.Offset); err != nil {
		return fmt.Errorf("segment %d: %w", m.segment, err)
	}
	body := journal.Body{Size: at.Size, Sums: sums, Fill: func(b []byte) error {
		_, err := m.pin.ReadAt(b, at.Offset+int64(len(sums)))
		return err
	}}
	return g.append(recMoved, e, body, false, func(p journal.Place) { e.place = p })
}
