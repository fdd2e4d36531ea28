package boltstore

import (
	"context"
	"slices"

	bolt "go.etcd.io/bbolt"

	"latchkey/store"
)

// prunedPerEvent and prunedPerGroup bound what one transaction prunes: more than it adds, so that the trail comes back to its bounds,
// and never so much that a delivery waits for it.
const (
	prunedPerEvent = 2
	prunedPerGroup = 64
)

// event adds a step to the trail: its Seq is given here.
func (t *txn) event(e *store.TrailEvent) {
	t.tally.Trail++
	t.tally.Events++
	t.added++
	e.Seq = t.tally.Trail
	t.put(bTrail, key16(uint64(e.Message), e.Seq), encodeEvent(e))
	var order encoder
	order.uint64(uint64(e.Message))
	order.time(e.Time)
	t.put(bTrailOrder, key8(e.Seq), order.b)
	for _, what := range searchWords(e) {
		// The value is the event that needs the key last, so that pruning an older one leaves it.
		t.put(bTrailSearch, searchKey(what, e.Message), key8(e.Seq))
	}
}

// searchWords are the words under which an event makes its message found.
func searchWords(e *store.TrailEvent) []string {
	words := []string{e.Recipient.String()}
	if e.Kind == store.TrailAccepted {
		words = []string{e.Sender.String(), e.HeaderID}
	}
	return slices.DeleteFunc(words, func(w string) bool { return w == "" })
}

// pruneTrail forgets the oldest events beyond the bounds of the trail, a bounded number of them. It comes along with what others
// write, and never makes a transaction of its own.
func (t *txn) pruneTrail() {
	if t.writes == 0 || t.err != nil {
		return
	}
	limit := prunedPerEvent*t.added + prunedPerGroup
	oldest := t.s.now().Add(-store.TrailAge)
	var old []uint64
	c := t.bucket(bTrailOrder).Cursor()
	for key, value := c.First(); key != nil && len(old) < limit; key, value = c.Next() {
		d := decoder{b: value}
		message, at := d.uint64(), d.time()
		if t.fail(d.err); d.err != nil || t.tally.Events-uint64(len(old)/2) <= t.s.bounds.events && !at.Before(oldest) {
			break
		}
		old = append(old, id8(key), message)
		limit++ // two numbers an event
	}
	for i := 0; i < len(old); i += 2 {
		t.forgetEvent(old[i], store.MessageID(old[i+1]))
	}
}

func (t *txn) forgetEvent(seq uint64, message store.MessageID) {
	key := key16(uint64(message), seq)
	e, err := decodeEvent(t.get(bTrail, key))
	t.fail(err)
	t.delete(bTrail, key)
	t.delete(bTrailOrder, key8(seq))
	t.tally.Events--
	for _, what := range searchWords(&e) {
		if word := searchKey(what, message); string(t.get(bTrailSearch, word)) == string(key8(seq)) {
			t.delete(bTrailSearch, word)
		}
	}
}

func encodeEvent(e *store.TrailEvent) []byte {
	var c encoder
	c.uint64(e.Seq)
	c.uint64(uint64(e.Message))
	c.time(e.Time)
	c.string(string(e.Kind))
	c.mailbox(e.Sender)
	c.mailbox(e.Recipient)
	c.string(e.Text)
	if e.Kind == store.TrailAccepted {
		c.string(e.HeaderID)
		c.string(e.Origin.Door)
		c.addr(e.Origin.Remote)
		c.string(e.Origin.Hello)
		c.string(e.Origin.With)
		c.uvarint(uint64(e.Size))
	}
	return c.b
}

func decodeEvent(b []byte) (store.TrailEvent, error) {
	var e store.TrailEvent
	d := decoder{b: b}
	e.Seq = d.uint64()
	e.Message = store.MessageID(d.uint64())
	e.Time = d.time()
	e.Kind = store.TrailKind(d.string())
	e.Sender = d.mailbox()
	e.Recipient = d.mailbox()
	e.Text = d.string()
	if e.Kind == store.TrailAccepted {
		e.HeaderID = d.string()
		e.Origin = store.Origin{Door: d.string(), Remote: d.addr(), Hello: d.string(), With: d.string()}
		e.Size = int64(d.uvarint())
	}
	return e, d.err
}

// MessageTrail implements store.Trail.
func (s *Store) MessageTrail(ctx context.Context, id store.MessageID) ([]store.TrailEvent, error) {
	var events []store.TrailEvent
	var failed error
	err := s.read(ctx, func(v *view) error {
		v.scan(bTrail, key8(uint64(id)), nil, func(_, value []byte) bool {
			e, err := decodeEvent(value)
			if failed = err; err != nil {
				return false
			}
			events = append(events, e)
			return true
		})
		return failed
	})
	if err != nil {
		return nil, err
	}
	oldest := s.now().Add(-store.TrailAge)
	return slices.DeleteFunc(events, func(e store.TrailEvent) bool { return e.Time.Before(oldest) }), nil
}

// SearchTrail implements store.Trail.
func (s *Store) SearchTrail(ctx context.Context, what string, limit int) ([]store.MessageID, error) {
	if what == "" || len(what) > maxSearch {
		return nil, ctx.Err()
	}
	var ids []store.MessageID
	err := s.read(ctx, func(v *view) error {
		prefix := searchPrefix(what)
		c := v.bucket(bTrailSearch).Cursor()
		for key := lastWith(c, prefix); key != nil && len(ids) < limit; key, _ = c.Prev() {
			if len(key) != len(prefix)+8 || string(key[:len(prefix)]) != string(prefix) {
				break
			}
			ids = append(ids, store.MessageID(id8(key[len(prefix):])))
		}
		return nil
	})
	return ids, err
}

// maxSearch bounds what is searched for: no address and no Message-ID is longer.
const maxSearch = 1000

// lastWith puts a cursor on the last key that begins with prefix, or on one that does not when there is none.
func lastWith(c *bolt.Cursor, prefix []byte) []byte {
	after := append(append([]byte(nil), prefix...), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
	if key, _ := c.Seek(after); key == nil {
		key, _ = c.Last()
		return key
	}
	key, _ := c.Prev()
	return key
}
