package boltstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"latchkey/store"
)

// search looks through the trail in one read transaction.
type search struct {
	v      *view
	floor  uint64
	oldest time.Time
	end    uint64 // the last event
	d      trailDecoder
	b      []byte
	gaps   []store.TrailGap // in no order
	// opened are the columns of blocks that were opened, by their last event, at most maxOpened of them.
	opened map[uint64][]byte
}

// maxOpened bounds the blocks that a search keeps uncompressed, of up to maxRunOctets each, for the trails of what it finds in them.
const maxOpened = 16

// candidate is a block or run that may have what is looked for.
type candidate struct {
	id bucketID
	runHead
}

// lookThrough runs one search. What cannot be read is passed over, and is a store.TrailGaps in the end.
func (s *Store) lookThrough(ctx context.Context, do func(q *search) error) error {
	if err := s.settle(ctx, true); err != nil {
		return err
	}
	return s.read(ctx, func(v *view) error {
		t, err := decodeTally(v.get(bMeta, []byte(metaTally)))
		if err != nil {
			return fmt.Errorf("%w: tally: %w", store.ErrDamaged, err)
		}
		q := search{v: v, end: t.Trail, opened: make(map[uint64][]byte), b: make([]byte, 0, sealAt)}
		q.floor, q.oldest = s.trailBounds(t.Trail)
		if err := do(&q); err != nil {
			return err
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

// candidates looks at heads and filters only, but for the few runs that have no filter.
func (q *search) candidates(may func(*blockHead, filter) bool) (found []candidate) {
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
				h.last = p.last
				found = append(found, candidate{id, h})
			}
			if before = p.last; id == bTrail {
				ends = append(ends, p.last)
			}
			return nil
		})
		if err != nil {
			q.gap(1, q.end) // a key that is none: it may have been anywhere
		}
	}
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
	if columns := q.opened[c.last]; columns != nil && c.id == bTrail {
		return q.d.open(c.runHead, columns)
	}
	p := pieces{last: c.last, c: q.v.bucket(c.id).Cursor(), b: q.b}
	p.key, p.first = p.c.Seek(key8(c.last))
	b, err := p.octets(maxTrailValue)
	if err != nil {
		return err
	}
	q.b = b
	if err := q.d.openValue(c.id, b); err != nil {
		return err
	}
	if c.id == bTrail && len(q.opened) < maxOpened {
		q.opened[c.last] = slices.Clone(q.d.octets)
	}
	return nil
}

// tells reports whether the event that the reader is at is within the bounds.
func (q *search) tells() bool {
	return q.d.step.seq > q.floor && !q.d.step.time().Before(q.oldest)
}

// MessageTrail implements store.Trail.
func (s *Store) MessageTrail(ctx context.Context, id store.MessageID) (events []store.TrailEvent, err error) {
	err = s.lookThrough(ctx, func(q *search) error {
		events, err = q.ofMessage(ctx, id)
		return err
	})
	if err != nil && !isGaps(err) {
		return nil, err
	}
	return events, err
}

// ofMessage returns the events of a message in order.
func (q *search) ofMessage(ctx context.Context, id store.MessageID) ([]store.TrailEvent, error) {
	found, err := q.ofMessages(ctx, []store.MessageID{id})
	if err != nil {
		return nil, err
	}
	return found[0], nil
}

// ofMessages returns the events of each of some messages in order. Heads are looked at once, and a block that has several of them is opened once.
func (q *search) ofMessages(ctx context.Context, ids []store.MessageID) (found [][]store.TrailEvent, err error) {
	words := make([]uint64, len(ids))
	wanted := make(map[uint64][]int, len(ids)) // places in ids
	least := uint64(math.MaxUint64)
	for i, id := range ids {
		words[i], least = messageWord(id), min(least, uint64(id))
		wanted[uint64(id)] = append(wanted[uint64(id)], i)
	}
	may := func(h *blockHead, f filter) bool {
		for i, id := range ids {
			if h.newest >= uint64(id) && (h.accepts(uint64(id)) || f.has(words[i])) {
				return true
			}
		}
		return false
	}
	found = make([][]store.TrailEvent, len(ids))
	for _, c := range q.candidates(may) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if c.newest < least {
			continue
		}
		err := q.open(c)
		if err == nil {
			err = q.collect(wanted, found)
		}
		if err != nil {
			q.gap(c.first, c.last)
		}
	}
	for _, events := range found {
		slices.SortFunc(events, func(a, b store.TrailEvent) int { return cmp.Compare(a.Seq, b.Seq) })
	}
	return found, nil
}

// collect adds the events of the run that is open to those of the messages that are wanted, each to the places that it has in found.
func (q *search) collect(wanted map[uint64][]int, found [][]store.TrailEvent) error {
	return q.d.each(func() error {
		places := wanted[q.d.step.message]
		if len(places) == 0 || !q.tells() {
			return nil
		}
		e, err := q.d.event()
		for _, i := range places {
			found[i] = append(found[i], e)
		}
		return err
	})
}

// isGaps reports whether what was found stands beside an error.
func isGaps(err error) bool {
	var gaps store.TrailGaps
	return errors.As(err, &gaps)
}
