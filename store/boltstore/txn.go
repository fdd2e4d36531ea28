package boltstore

import (
	"context"
	"errors"
	"fmt"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

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

// read runs one short read transaction. It sees what was durable when it began: the gate keeps it from beginning between a commit's
// meta page and the sync of that page.
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

// txn is the write transaction of one group. A verb looks first and writes second: it may return an error only before its first
// write. Errors of the index itself stay in err and undo the whole group.
type txn struct {
	view
	s       *Store
	tally   tally
	before  tally
	err     error
	writes  int
	added   int      // trail events
	durable []func() // to run when the transaction is durable, before anyone is told
	undo    []func() // to run if it is not
	freed   []token  // bodies without a reference left
	queued  bool     // jobs were added or became due sooner
}

func (s *Store) begin() (*txn, error) {
	tx, err := s.db.Begin(true)
	if err != nil {
		return nil, err
	}
	t := &txn{view: view{tx: tx}, s: s}
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
	t.fail(t.bucket(id).Put(key, value))
}

func (t *txn) delete(id bucketID, key []byte) {
	t.writes++
	t.fail(t.bucket(id).Delete(key))
}

// flush writes the tally if it changed.
func (t *txn) flush() {
	if t.tally != t.before {
		t.put(bMeta, []byte(metaTally), t.tally.encode())
		t.before = t.tally
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

// charge changes what an account's maildrop holds.
func (t *txn) charge(id store.AccountID, octets, messages int64) {
	u, err := decodeUsage(t.get(bUsage, key8(uint64(id))))
	t.fail(err)
	u.Octets += octets
	u.Messages += messages
	t.put(bUsage, key8(uint64(id)), encodeUsage(u))
}

// unref gives up n references to a message's body; without any, the body goes when the transaction is durable.
func (t *txn) unref(id store.MessageID, n uint64) {
	key := key8(uint64(id))
	body, err := decodeBody(t.get(bBodies, key))
	if err != nil {
		t.fail(fmt.Errorf("body of message %s: %w", id, err))
		return
	}
	if body.Refs > n {
		body.Refs -= n
		t.put(bBodies, key, body.encode())
		return
	}
	t.delete(bBodies, key)
	t.freed = append(t.freed, body.Token)
}
