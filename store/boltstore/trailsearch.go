package boltstore

import (
	"cmp"
	"context"
	"errors"
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
	gaps   []store.TrailGap // in no order
}

// candidate is a block or run that may have what is looked for.
type candidate struct {
	id          bucketID
	first, last uint64
	newest      uint64 // the highest message id in it
}

// search calls each with every block that may matter and every run, the one with the highest message id first, until it returns false. The
// reader is at the beginning of it. What cannot be read is passed over, and is a store.TrailGaps in the end.
func (s *Store) search(ctx context.Context, may func(*blockHead, filter) bool, each func(q *search, newest uint64) (more bool, err error)) error {
	return s.read(ctx, func(v *view) error {
		t, err := decodeTally(v.get(bMeta, []byte(metaTally)))
		if err != nil {
			return fmt.Errorf("%w: tally: %w", store.ErrDamaged, err)
		}
		q := search{v: v}
		q.floor, q.oldest = s.trailBounds(t.Trail)
		for _, c := range q.candidates(may, t.Trail) {
			if err := ctx.Err(); err != nil {
				return err
			}
			err := q.open(c)
			more := true
			if err == nil {
				more, err = each(&q, c.newest)
			}
			if err != nil {
				q.gap(c.first, c.last)
				continue
			}
			if !more {
				break
			}
		}
		return q.damage()
	})
}

// gap notes that events first to last cannot be read, unless nobody would be told of them.
func (q *search) gap(first, last uint64) {
	if last > q.floor {
		q.gaps = append(q.gaps, store.TrailGap{From: max(first, q.floor+1), To: last})
	}
}

// damage is what could not be read, or nil.
func (q *search) damage() error {
	if len(q.gaps) == 0 {
		return nil
	}
	slices.SortFunc(q.gaps, func(a, b store.TrailGap) int { return cmp.Compare(a.From, b.From) })
	var all store.TrailGaps
	for _, g := range q.gaps {
		all.Add(g)
	}
	return all
}

// candidates looks at heads and filters only, but for the few runs that have no filter. end is the last event.
func (q *search) candidates(may func(*blockHead, filter) bool, end uint64) (found []candidate) {
	var ends []uint64 // of blocks, in order
	for _, id := range []bucketID{bTrail, bTrailOpen} {
		before := uint64(0) // the last event of the block or run before
		err := q.v.eachTrail(id, func(p *pieces) error {
			h, matters, err := headMatters(id, p, may)
			switch {
			case err != nil:
				if i, _ := slices.BinarySearch(ends, p.last); i > 0 {
					before = max(before, ends[i-1])
				}
				q.gap(before+1, p.last)
			case matters && p.last > q.floor && !h.latest.Before(q.oldest):
				found = append(found, candidate{id, h.first, p.last, h.newest})
			}
			if before = p.last; id == bTrail {
				ends = append(ends, p.last)
			}
			return nil
		})
		if err != nil {
			q.gap(1, end) // a key that is none: it may have been anywhere
		}
	}
	slices.SortFunc(found, func(a, b candidate) int { return cmp.Or(cmp.Compare(b.newest, a.newest), cmp.Compare(b.last, a.last)) })
	return found
}

// headMatters reads the head of a block or run, and reports whether the rest is to be looked at.
func headMatters(id bucketID, p *pieces, may func(*blockHead, filter) bool) (h runHead, matters bool, err error) {
	if id == bTrailOpen {
		h, _, err := decodeOpenHead(p.first)
		return h, true, err
	}
	block, err := decodeBlockHead(p.first)
	if err != nil {
		return h, false, err
	}
	b, err := p.octets(block.end())
	if err == nil {
		err = block.sound(b)
	}
	return block.runHead, err == nil && may(&block, block.filterOf(b)), err
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
	if err != nil && !isGaps(err) {
		return nil, err
	}
	slices.SortFunc(events, func(a, b store.TrailEvent) int { return cmp.Compare(a.Seq, b.Seq) })
	return events, err
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
	if err != nil && !isGaps(err) {
		return nil, err
	}
	return ids, err
}

// isGaps reports whether what was found stands beside an error.
func isGaps(err error) bool {
	var gaps store.TrailGaps
	return errors.As(err, &gaps)
}
