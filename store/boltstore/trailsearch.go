package boltstore

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// maxSearch bounds what is searched for, in octets: no address and no Message-ID is longer.
const maxSearch = 1000

// search looks through the trail in one read transaction.
type search struct {
	v      *view
	floor  uint64
	oldest time.Time
	d      trailDecoder
	b      []byte
}

// candidate is a block or run that may have what is looked for.
type candidate struct {
	id     bucketID
	last   uint64
	newest uint64 // the highest message id in it
}

// search calls each with every block that may matter and every run, the one with the highest message id first, until it returns false. The
// reader is at the beginning of it.
func (s *Store) search(ctx context.Context, may func(*blockHead, filter) bool, each func(q *search, newest uint64) (more bool, err error)) error {
	return s.read(ctx, func(v *view) error {
		t, err := decodeTally(v.get(bMeta, []byte(metaTally)))
		if err != nil {
			return fmt.Errorf("%w: tally: %w", store.ErrDamaged, err)
		}
		q := search{v: v}
		q.floor, q.oldest = s.trailBounds(t.Trail)
		found, err := q.candidates(may)
		if err != nil {
			return fmt.Errorf("%w: %w", store.ErrDamaged, err)
		}
		for _, c := range found {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := q.open(c); err != nil {
				return fmt.Errorf("%w: trail up to event %d: %w", store.ErrDamaged, c.last, err)
			}
			more, err := each(&q, c.newest)
			if err != nil {
				return fmt.Errorf("%w: trail up to event %d: %w", store.ErrDamaged, c.last, err)
			}
			if !more {
				return nil
			}
		}
		return nil
	})
}

// candidates looks at heads and filters only, but for the few runs that have no filter.
func (q *search) candidates(may func(*blockHead, filter) bool) (found []candidate, err error) {
	keep := func(id bucketID, p *pieces, h *runHead) {
		if p.last > q.floor && !h.latest.Before(q.oldest) {
			found = append(found, candidate{id, p.last, h.newest})
		}
	}
	err = q.v.eachTrail(bTrail, func(p *pieces) error {
		h, err := decodeBlockHead(p.first)
		if err != nil {
			return err
		}
		b, err := p.octets(h.end())
		if err == nil {
			err = h.sound(b)
		}
		if err != nil {
			return err
		}
		if may(&h, h.filterOf(b)) {
			keep(bTrail, p, &h.runHead)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = q.v.eachTrail(bTrailOpen, func(p *pieces) error {
		h, _, err := decodeOpenHead(p.first)
		keep(bTrailOpen, p, &h)
		return err
	})
	slices.SortFunc(found, func(a, b candidate) int { return cmp.Or(cmp.Compare(b.newest, a.newest), cmp.Compare(b.last, a.last)) })
	return found, err
}

// open lets the reader begin with a candidate.
func (q *search) open(c candidate) error {
	p := pieces{last: c.last, c: q.v.bucket(c.id).Cursor(), b: q.b}
	p.key, p.first = p.c.Seek(key8(c.last))
	b, err := p.octets(maxTrailValue)
	if err != nil {
		return err
	}
	q.b = b
	return q.d.openValue(c.id, b)
}

// tells reports whether the event that the reader is at is within the bounds.
func (q *search) tells() bool {
	return q.d.step.seq > q.floor && !q.d.step.time().Before(q.oldest)
}

// MessageTrail implements store.Trail.
func (s *Store) MessageTrail(ctx context.Context, id store.MessageID) ([]store.TrailEvent, error) {
	if err := s.settle(ctx, true); err != nil {
		return nil, err
	}
	var events []store.TrailEvent
	word := messageWord(id)
	may := func(h *blockHead, f filter) bool { return h.accepts(uint64(id)) || f.has(word) }
	err := s.search(ctx, may, func(q *search, newest uint64) (bool, error) {
		if newest < uint64(id) {
			return false, nil
		}
		return true, q.d.each(func() error {
			if q.d.step.message != uint64(id) || !q.tells() {
				return nil
			}
			e, err := q.d.event()
			events = append(events, e)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(events, func(a, b store.TrailEvent) int { return cmp.Compare(a.Seq, b.Seq) })
	return events, nil
}

// SearchTrail implements store.Trail.
func (s *Store) SearchTrail(ctx context.Context, what string, limit int) ([]store.MessageID, error) {
	if what == "" || len(what) > maxSearch || limit <= 0 {
		return nil, ctx.Err()
	}
	if err := s.settle(ctx, true); err != nil {
		return nil, err
	}
	address, err := mailaddr.Parse(what)
	isAddress := err == nil && address.String() == what
	text, someone := textWord(what), addressWord(address)
	may := func(_ *blockHead, f filter) bool { return f.has(text) || isAddress && f.has(someone) }
	var ids []store.MessageID
	err = s.search(ctx, may, func(q *search, newest uint64) (bool, error) {
		if len(ids) == limit && newest <= uint64(ids[limit-1]) {
			return false, nil
		}
		who := uint64(nobody)
		if isAddress {
			who = q.d.placeOf(address)
		}
		err := q.d.each(func() error {
			step := &q.d.step
			if (step.isOf(who) || q.d.isHeaderID(what)) && q.tells() {
				ids = append(ids, store.MessageID(step.message))
			}
			return nil
		})
		slices.SortFunc(ids, func(a, b store.MessageID) int { return cmp.Compare(b, a) })
		ids = slices.Compact(ids)
		ids = ids[:min(len(ids), limit)]
		return true, err
	})
	if err != nil {
		return nil, err
	}
	return ids, nil
}
