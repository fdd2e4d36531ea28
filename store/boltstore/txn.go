package boltstore

import (
	"context"
	"errors"
	"fmt"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"latchkey/internal/journal"
	"latchkey/store"
)

// view is a read transaction of the index. What it yields is valid until the function that was given it returns.
type view struct {
	tx      *bolt.Tx
	buckets [numBuckets]*bolt.Bucket
}

func (v *view) bucket(id bucketID) *bolt.Bucket {
	if v.buckets[id] == nil {
		v.buckets[id] = v.tx.Bucket([]byte(id.String()))
		if id.appended() {
			v.buckets[id].FillPercent = 0.9
		}
	}
	return v.buckets[id]
}

func (v *view) get(id bucketID, key []byte) []byte { return v.bucket(id).Get(key) }

func (v *view) has(id bucketID, key []byte) bool { return v.bucket(id).Get(key) != nil }

// scan calls each for the entries whose key begins with prefix and is not below from, in order of key, until each returns false.
func (v *view) scan(id bucketID, prefix, from []byte, each func(key, value []byte) bool) {
	c := v.bucket(id).Cursor()
	for key, value := c.Seek(append(append([]byte(nil), prefix...), from...)); key != nil; key, value = c.Next() {
		if len(key) < len(prefix) || string(key[:len(prefix)]) != string(prefix) || !each(key, value) {
			return
		}
	}
}

// applied returns the mark up to which the view has the journal's records.
func (v *view) applied() (journal.Mark, error) {
	return decodeMark(v.get(bMeta, []byte(metaApplied)))
}

// read runs one short read transaction. Of what is not in the journal it sees only what was durable when it began: the gate keeps it from
// beginning between the meta page of such a change and the sync of that page. What is in the journal is durable before the index has it.
func (s *Store) read(ctx context.Context, do func(*view) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.gate.RLock()
	tx, err := s.db.Begin(false)
	s.gate.RUnlock()
	if errors.Is(err, bolterrors.ErrDatabaseNotOpen) {
		return store.ErrClosed
	}
	if err != nil {
		return fmt.Errorf("reading the index: %w", err)
	}
	err = do(&view{tx: tx})
	return errors.Join(err, tx.Rollback())
}

// txn is a write transaction of the index. A verb looks first and writes second: it may return an error only before its first
// write. Errors of the index itself stay in err and undo the whole transaction.
type txn struct {
	view
	s       *Store
	tally   tally
	before  tally
	applied *journal.Mark // what the records of the journal in it reach up to, or nil
	err     error
	writes  int
	trail   trailWriter
	durable []func()    // to run when the transaction is durable, before anyone is told
	undo    []func()    // to run if it is not
	freed   []token     // large bodies without a reference left
	fresh   store.Fresh // where jobs became due sooner
	renames bool        // an address leads elsewhere
	expires bool        // an account has another ExpireDays
	scratch encoder

	// What many records change is written once, by flush.
	known    map[store.AccountID]bool
	charges  map[store.AccountID]store.Usage
	segments map[uint64]live // changes
}

func (s *Store) begin() (*txn, error) {
	tx, err := s.db.Begin(true)
	if err != nil {
		return nil, err
	}
	t := &txn{
		view: view{tx: tx}, s: s,
		known: make(map[store.AccountID]bool), charges: make(map[store.AccountID]store.Usage), segments: make(map[uint64]live),
	}
	if t.tally, err = decodeTally(t.get(bMeta, []byte(metaTally))); err != nil {
		return nil, errors.Join(err, tx.Rollback())
	}
	t.before = t.tally
	return t, nil
}

func (t *txn) fail(err error) {
	if t.err == nil && err != nil {
		t.err = fmt.Errorf("index: %w", err)
	}
}

func (t *txn) put(id bucketID, key, value []byte) {
	t.writes++
	if value == nil {
		value = []byte{} // bbolt would answer nil, as for no such key, until the commit
	}
	t.renames = t.renames || id.leads()
	t.fail(t.bucket(id).Put(key, value))
}

func (t *txn) delete(id bucketID, key []byte) {
	t.writes++
	t.renames = t.renames || id.leads()
	t.fail(t.bucket(id).Delete(key))
}

// exists reports whether there is such an account. Verbs that add or remove one come after all records in a transaction.
func (t *txn) exists(id store.AccountID) bool {
	known, ok := t.known[id]
	if !ok {
		known = t.has(bAccounts, key8(uint64(id)))
		t.known[id] = known
	}
	return known
}

// charge changes what an account's maildrop holds.
func (t *txn) charge(id store.AccountID, octets, messages int64) {
	u := t.charges[id]
	u.Octets += octets
	u.Messages += messages
	t.charges[id] = u
}

// live changes how much of a segment is needed.
func (t *txn) live(segment uint64, messages, octets int64) {
	l := t.segments[segment]
	l.Messages += messages
	l.Octets += octets
	t.segments[segment] = l
}

// flush writes what was gathered.
func (t *txn) flush() {
	t.flushCharges()
	t.flushSegments()
	if t.applied != nil {
		t.put(bMeta, []byte(metaApplied), encodeMark(*t.applied))
	}
	if t.tally != t.before {
		t.put(bMeta, []byte(metaTally), t.tally.encode())
		t.before = t.tally
	}
}

func (t *txn) flushCharges() {
	for id, change := range t.charges {
		key := key8(uint64(id))
		u, err := decodeUsage(t.get(bUsage, key))
		t.fail(err)
		t.put(bUsage, key, encodeUsage(store.Usage{Octets: u.Octets + change.Octets, Messages: u.Messages + change.Messages}))
	}
	clear(t.charges)
}

func (t *txn) flushSegments() {
	changed := make(map[uint64]live, len(t.segments))
	for segment, change := range t.segments {
		key := key8(segment)
		var l live
		if b := t.get(bSegments, key); b != nil {
			var err error
			l, err = decodeLive(b)
			t.fail(err)
		}
		l.Messages += change.Messages
		l.Octets += change.Octets
		if l.Messages < 0 || l.Octets < 0 {
			t.fail(fmt.Errorf("segment %d would have %d messages and %d octets", segment, l.Messages, l.Octets))
		}
		if l.Messages == 0 {
			t.delete(bSegments, key)
		} else {
			t.put(bSegments, key, l.encode())
		}
		changed[segment] = l
	}
	clear(t.segments)
	if len(changed) > 0 {
		t.durable = append(t.durable, func() { t.s.space.note(changed) })
	}
}

// rollback forgets the transaction and what the verbs prepared.
func (t *txn) rollback() {
	for _, undo := range t.undo {
		undo()
	}
	// After a failed commit bbolt has rolled back already, and says so.
	if err := t.tx.Rollback(); err != nil && !errors.Is(err, bolterrors.ErrTxClosed) {
		t.s.log.Error("index transaction could not be rolled back", "error", err)
	}
}
