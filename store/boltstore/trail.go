package boltstore

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"

	"latchkey/store"
)

// Of the trail. Its events are encoded together: those of a large transaction become blocks at once, those of small ones wait in bTrailOpen
// until there are enough for a block.
const (
	// sealRest is how many octets of events a transaction may leave over and still make a block of.
	sealRest = 32 << 10
	// maxOpen is how many octets bTrailOpen may have before it is sealed. With what one transaction adds they make one block.
	maxOpen = sealAt - sealRest
	// prunedTrail bounds the blocks, and the runs of bTrailOpen, that one transaction forgets, besides two for each block that it adds: so the
	// trail comes back to its bounds, and no transaction takes long.
	prunedTrail = 4
)

// trailWriter is a transaction's part of the trail.
type trailWriter struct {
	run    *trailRun // nil: no event yet
	sealed int       // blocks
}

// event adds a step to the trail: its Seq is given here.
func (t *txn) event(e *store.TrailEvent) {
	t.tally.Trail++
	t.writes++
	e.Seq = t.tally.Trail
	w := &t.trail
	if w.run == nil {
		w.run = t.s.takeRun()
	}
	t.fail(w.run.add(e))
	if w.run.octets() >= sealAt {
		t.seal(w.run)
	}
}

// takeRun returns an empty run; giveRun takes it back.
func (s *Store) takeRun() *trailRun {
	r, ok := s.runs.Get().(*trailRun)
	if !ok {
		return newTrailRun()
	}
	r.reset()
	return r
}

func (s *Store) giveRun(r *trailRun) { s.runs.Put(r) }

// seal writes a run as a block, and empties it.
func (t *txn) seal(r *trailRun) {
	t.putPieces(bTrail, r.head.last, encodeBlock(r))
	t.trail.sealed++
	r.reset()
}

// endTrail writes what the transaction has of the trail, and forgets the oldest that is beyond the bounds. It comes along with what others
// write, and never makes a transaction of its own.
func (t *txn) endTrail() {
	if t.writes == 0 && t.applied == nil || t.err != nil {
		return
	}
	if r := t.trail.run; r != nil {
		switch {
		case r.head.events == 0:
		case r.octets() >= sealRest:
			t.seal(r)
		default:
			b := encodeOpen(r)
			t.putPieces(bTrailOpen, r.head.last, b)
			if t.tally.Open += uint64(len(b)); t.tally.Open >= maxOpen {
				t.sealOpen(r)
			}
		}
		t.trail.run = nil
		t.s.giveRun(r)
	}
	t.pruneTrail()
}

// sealOpen makes a block of what waits. r is overwritten. What is damaged is left out: it cannot be read any more, and mail is not to wait
// for it.
func (t *txn) sealOpen(r *trailRun) {
	r.reset()
	var d trailDecoder
	err := t.eachTrail(bTrailOpen, func(p *pieces) error {
		b, err := p.octets(maxTrailValue)
		if err == nil {
			err = d.openValue(bTrailOpen, b)
		}
		if err == nil {
			err = d.each(func() error {
				e, err := d.event()
				if err == nil {
					err = r.add(&e)
				}
				return err
			})
		}
		if err != nil {
			t.lost(p.last, err)
		}
		return nil
	})
	if err != nil {
		t.lost(0, err)
	}
	if r.head.events > 0 {
		t.seal(r)
	}
	var done [][]byte
	t.scan(bTrailOpen, nil, nil, func(key, _ []byte) bool {
		done = append(done, slices.Clone(key))
		return true
	})
	for _, key := range done {
		t.delete(bTrailOpen, key)
	}
	t.tally.Open = 0
}

// lost tells the operator that a part of the trail is given up.
func (t *txn) lost(last uint64, err error) {
	t.s.log.Error("a damaged part of the trail is forgotten", "event", last, "error", err)
}

// trailBounds says which events are told when last was the last one: those above floor that are not older than oldest.
func (s *Store) trailBounds(last uint64) (floor uint64, oldest time.Time) {
	return last - min(last, s.bounds.events), s.now().Add(-store.TrailAge)
}

// pruneTrail forgets the oldest blocks and runs all of whose events are beyond the bounds, a bounded number of them.
func (t *txn) pruneTrail() {
	floor, oldest := t.s.trailBounds(t.tally.Trail)
	for _, id := range []bucketID{bTrail, bTrailOpen} {
		for range prunedTrail + 2*t.trail.sealed {
			if !t.forgetOldest(id, floor, oldest) {
				break
			}
		}
	}
}

// forgetOldest forgets the oldest block or run if it is beyond the bounds, or damaged so that nobody can say, and reports whether it did.
func (t *txn) forgetOldest(id bucketID, floor uint64, oldest time.Time) bool {
	key, value := t.bucket(id).Cursor().First()
	if key == nil {
		return false
	}
	if len(key) != pieceKeyLen {
		t.lost(0, errShortRecord)
		t.delete(id, slices.Clone(key))
		return true
	}
	last := id8(key)
	head, err := headOf(id, value)
	if err != nil {
		t.lost(last, err)
	} else if last > floor && !head.latest.Before(oldest) {
		return false
	}
	octets := t.deletePieces(id, last)
	if id == bTrailOpen {
		t.tally.Open -= min(t.tally.Open, uint64(octets))
	}
	return true
}

// headOf reads the head of a block or run that begins with b.
func headOf(id bucketID, b []byte) (runHead, error) {
	if id == bTrail {
		h, err := decodeBlockHead(b)
		return h.runHead, err
	}
	h, _, err := decodeOpenHead(b)
	return h, err
}

// pieceKey is the key of a piece of the block or run whose last event is last.
func pieceKey(last uint64, i int) []byte {
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint64(make([]byte, 0, pieceKeyLen), last), uint16(i))
}

const pieceKeyLen = 10

// putPieces appends a block or run, in pieces that fill pages.
func (t *txn) putPieces(id bucketID, last uint64, b []byte) {
	t.bucket(id).FillPercent = 1 // keys ascend
	i := 0
	for piece := range slices.Chunk(b, trailPiece) {
		t.put(id, pieceKey(last, i), piece)
		i++
	}
}

// deletePieces removes a block or run, and returns its length.
func (t *txn) deletePieces(id bucketID, last uint64) (octets int) {
	var keys [][]byte
	t.scan(id, key8(last), nil, func(key, value []byte) bool {
		keys = append(keys, slices.Clone(key))
		octets += len(value)
		return true
	})
	for _, key := range keys {
		t.delete(id, key)
	}
	return octets
}

// pieces is a block or run in the index. It is valid while the cursor is not moved by others.
type pieces struct {
	last  uint64
	first []byte // the first piece
	c     *bolt.Cursor
	key   []byte
	b     []byte
}

// octets returns the beginning of the block or run: want octets at least, or all that there is. It may be called once.
func (p *pieces) octets(want int) ([]byte, error) {
	p.b = p.b[:0]
	key, value := p.key, p.first
	for i := 0; key != nil && id8(key) == p.last && len(p.b) < want; i++ {
		if len(key) != pieceKeyLen || binary.BigEndian.Uint16(key[8:]) != uint16(i) || len(p.b) != i*trailPiece ||
			len(p.b)+len(value) > maxTrailValue {
			return nil, errShortRecord
		}
		p.b = append(p.b, value...)
		key, value = p.c.Next()
	}
	return p.b, nil
}

// eachTrail calls do for every block or run, the oldest first, until there is an error. A key that is none is passed over, and an error in the
// end.
func (v *view) eachTrail(id bucketID, do func(*pieces) error) error {
	p := pieces{c: v.bucket(id).Cursor()}
	var odd error
	p.key, p.first = p.c.First()
	for p.key != nil {
		if len(p.key) != pieceKeyLen || id8(p.key) == math.MaxUint64 {
			odd = fmt.Errorf("%w: key %x", errShortRecord, p.key)
			p.key, p.first = p.c.Next()
			continue
		}
		p.last = id8(p.key)
		if err := do(&p); err != nil {
			return fmt.Errorf("trail up to event %d: %w", p.last, err)
		}
		p.key, p.first = p.c.Seek(key8(p.last + 1))
	}
	return odd
}
