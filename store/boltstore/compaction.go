package boltstore

import (
	"context"
	"errors"
	"fmt"

	"latchkey/internal/journal"
	"latchkey/store"
)

// compactShare is how much of a segment has to be dead, in percent, before Compact copies the rest of it forward.
const compactShare = 10

var _ store.Compacter = (*Store)(nil)

// Compact implements store.Compacter: segments of which a part is dead are copied forward, and mail.db into a new file. The segment that is
// being written stays. What a backup under way would keep is not given back, so it is ErrBusy then.
func (s *Store) Compact(ctx context.Context) (c store.Compaction, err error) {
	if s.isClosing() {
		return c, store.ErrClosed
	}
	if !s.archiving.TryLock() {
		return c, fmt.Errorf("%w: a backup is being made, or another compaction", store.ErrBusy)
	}
	defer s.archiving.Unlock()
	if err := errors.Join(s.usable(), s.room(), s.settle(ctx, true)); err != nil {
		return c, err
	}
	c.IndexBefore, _ = s.indexSize()
	c.JournalBefore = s.journalSize()
	wasteful, err := s.wasteful(ctx)
	if err != nil {
		return c, err
	}
	for _, segment := range wasteful {
		if err := errors.Join(ctx.Err(), s.moveSegment(segment)); err != nil {
			return c, fmt.Errorf("segment %d: %w", segment, err)
		}
	}
	if err := s.settle(ctx, true); err != nil {
		return c, err
	}
	asked := make(chan error, 1)
	s.compactAsked.Store(&asked)
	s.wake() // segments without anything alive are let go of before
	select {
	case err = <-asked:
	case <-s.stopped:
		err = store.ErrClosed
	}
	c.IndexAfter, _ = s.indexSize()
	c.JournalAfter = s.journalSize()
	return c, err
}

// compactIfSound compacts the index unless nothing may be written.
func (s *Store) compactIfSound() error {
	if s.poisoned() != nil {
		return nil // said by the caller
	}
	return s.compactIndex()
}

// journalSize is what the journal's files take, in octets.
func (s *Store) journalSize() int64 {
	segments, _, size := s.journal.Segments()
	for _, info := range segments {
		size += info.Size
	}
	return size
}

// wasteful returns the segments of which a part is dead that is worth the work.
func (s *Store) wasteful(ctx context.Context) (list []uint64, err error) {
	alive := make(map[uint64]int64)
	add := func(w where, octets int64) { alive[w.segment] += journal.RecordSize(w.metaLen, octets) }
	err = s.read(ctx, func(v *view) error {
		return errors.Join(
			v.eachRecord(bCopies, func(key, value []byte) error {
				l, err := decodeListing(key, value)
				if err == nil && !l.shared() {
					add(l.where(), l.octets())
				}
				return err
			}),
			v.eachRecord(bJobs, func(_, value []byte) error {
				j, err := decodeJob(value)
				if err == nil && j.flags&copyShared == 0 {
					add(j.where, j.octets())
				}
				return err
			}),
			v.eachRecord(bBodies, func(_, value []byte) error {
				r, err := decodeShared(value)
				add(r.where, r.octets)
				return err
			}))
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", store.ErrDamaged, err)
	}
	segments, _, _ := s.journal.Segments()
	for _, info := range segments {
		if live := alive[info.Generation]; !info.Active && live > 0 && (info.Used-live)*100 > info.Used*compactShare {
			list = append(list, info.Generation)
		}
	}
	return list, nil
}

// eachRecord calls each for every record of a bucket, until one fails.
func (v *view) eachRecord(id bucketID, each func(key, value []byte) error) (err error) {
	v.scan(id, nil, nil, func(key, value []byte) bool {
		err = each(key, value)
		return err == nil
	})
	return err
}
