package boltstore

import (
	"context"
	"fmt"
	"slices"
	"time"

	"latchkey/store"
)

// maxEpochs bounds how many epochs are remembered. Beyond it the oldest two become one: copies from before the second restore of all then
// have other unique-ids, and their owners fetch them again.
const maxEpochs = 64

// epochs say which epoch the unique-id of a copy begins with: that of the last entry whose first copy is not above it. So a copy keeps its
// unique-id for ever, and copies that are made after a restore or a repair have ids that nobody can have seen before, though their numbers
// may have been given out by the store that was lost.
type epochs []epochFrom

type epochFrom struct {
	epoch uint32
	first store.CopyID
}

func (e epochs) encode() []byte {
	var enc encoder
	for _, each := range e {
		enc.uint32(each.epoch)
		enc.uint64(uint64(each.first))
	}
	return enc.b
}

// decodeEpochs reads what encode wrote: at least one entry, both numbers ascending.
func decodeEpochs(b []byte) (epochs, error) {
	var e epochs
	d := decoder{b: b}
	for len(d.b) > 0 || len(e) == 0 {
		next := epochFrom{epoch: d.uint32(), first: store.CopyID(d.uint64())}
		if d.err != nil {
			return nil, fmt.Errorf("epochs: %w", d.err)
		}
		if n := len(e); n >= maxEpochs || n > 0 && (next.epoch <= e[n-1].epoch || next.first <= e[n-1].first) {
			return nil, fmt.Errorf("epochs: %w", errShortRecord)
		}
		e = append(e, next)
	}
	return e, nil
}

func (e epochs) of(id store.CopyID) uint32 {
	i := len(e) - 1
	for i > 0 && id < e[i].first {
		i--
	}
	return e[i].epoch
}

func (e epochs) uniqueID(id store.CopyID) string { return store.UniqueID(e.of(id), id) }

func (e epochs) appendUniqueID(b []byte, id store.CopyID) []byte {
	return store.AppendUniqueID(b, e.of(id), id)
}

// last is the epoch of new copies.
func (e epochs) last() uint32 { return e[len(e)-1].epoch }

// raised returns the epochs with a new one from the copy next on. It is the second of the day on which that happened, and at least one more
// than the last: a backup that is restored twice, and served both times, must not give out the same ids in both lives.
func (e epochs) raised(now time.Time, next store.CopyID) epochs {
	epoch := e.last() + 1
	if seconds := now.Unix(); seconds > int64(epoch) && seconds < 1<<32 {
		epoch = uint32(seconds)
	}
	raised := slices.Clone(e)
	if n := len(raised); raised[n-1].first == next {
		raised = raised[:n-1] // no copy had it
	}
	raised = append(raised, epochFrom{epoch: epoch, first: next})
	if len(raised) > maxEpochs {
		raised[1].first = raised[0].first
		raised = raised[1:]
	}
	return raised
}

// raiseEpoch gives copies that are made from now on unique-ids of a new epoch. Nobody else uses the store meanwhile.
func (s *Store) raiseEpoch(ctx context.Context) error {
	return s.alter(ctx, true, func(t *txn) error {
		raised := s.epochs.raised(s.now(), s.ids.copied+1)
		t.put(bMeta, []byte(metaEpochs), raised.encode())
		t.durable = append(t.durable, func() { s.epochs = raised })
		return nil
	})
}
