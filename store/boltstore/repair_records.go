package boltstore

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	bolterrors "go.etcd.io/bbolt/errors"

	"latchkey/store"
)

// unreadKey is a copy (account and copy id) or a job (0 and job id).
type unreadKey struct {
	account store.AccountID
	id      uint64
}

// records takes out of the index what cannot be read, so that the rest can be opened.
func (m *mender) records(context.Context) error {
	path := filepath.Join(m.dir, indexName)
	db, err := openIndex(path, m.o)
	if err != nil {
		return err
	}
	tx, err := db.Begin(true)
	if err != nil {
		return errors.Join(err, db.Close())
	}
	t := &txn{view: view{tx: tx}}
	m.buckets(t)
	if len(m.report.Left) == 0 {
		m.meta(t)
	}
	if len(m.report.Left) == 0 {
		for id := bMeta + 1; id < numBuckets; id++ {
			m.bucket(t, id)
		}
	}
	if t.err != nil || t.writes == 0 || len(m.report.Left) > 0 {
		return errors.Join(t.err, tx.Rollback(), db.Close())
	}
	if err := m.q.flush(); err != nil {
		return errors.Join(err, tx.Rollback(), db.Close())
	}
	if err := m.fs.Commit(path, tx.Commit); err != nil {
		if rollback := tx.Rollback(); !errors.Is(rollback, bolterrors.ErrTxClosed) {
			err = errors.Join(err, rollback)
		}
		return errors.Join(fmt.Errorf("index commit: %w", err), db.Close())
	}
	return db.Close()
}

// buckets makes buckets that are missing. Without the first there is nothing to go by.
func (m *mender) buckets(t *txn) {
	for id := range numBuckets {
		if t.tx.Bucket([]byte(id.String())) != nil {
			continue
		}
		if id == bMeta {
			m.left(store.ProblemRecord, indexName, errors.New("it has no buckets of this program"))
			return
		}
		_, err := t.tx.CreateBucket([]byte(id.String()))
		t.fail(err)
		t.writes++
		m.mended(store.ProblemRecord, id.String(), "the bucket is missing", "an empty one was made")
	}
}

// meta looks at the records that there is only one of.
func (m *mender) meta(t *txn) {
	format := decoder{b: t.get(bMeta, []byte(metaFormat))}
	if n := format.uint32(); format.err != nil || n == 0 || n > formatVersion {
		m.left(store.ProblemRecord, "meta format", fmt.Errorf("format version %d", n))
	}
	if _, err := t.settings(); err != nil {
		m.left(store.ProblemRecord, "meta settings", err)
	}
	if _, err := t.view.applied(); err != nil {
		m.left(store.ProblemRecord, "meta applied", err)
	}
	if len(m.report.Left) > 0 {
		return
	}
	if b := t.get(bMeta, []byte(metaTally)); b == nil || !slices.Equal(b, reencodedTally(b)) {
		m.q.note("meta tally was %x", b)
		t.put(bMeta, []byte(metaTally), (&tally{}).encode())
		m.mended(store.ProblemRecord, "meta tally", errShortRecord.Error(), "it is counted anew")
	}
	if b := t.get(bMeta, []byte(metaEpochs)); b != nil {
		if _, err := decodeEpochs(b); err == nil {
			return
		}
		m.q.note("meta epochs was %x", b)
	}
	t.put(bMeta, []byte(metaEpochs), epochs{{epoch: 1, first: 1}}.raised(m.o.Now(), 1).encode())
	m.mended(store.ProblemRecord, "meta epochs", errShortRecord.Error(), "all messages have new unique-ids: clients fetch them again")
}

func reencodedTally(b []byte) []byte {
	t, err := decodeTally(b)
	if err != nil {
		return nil
	}
	return t.encode()
}

// bucket takes the entries out of a bucket that cannot be read.
func (m *mender) bucket(t *txn, id bucketID) {
	type entry struct {
		key []byte
		why error
	}
	var bad []entry
	t.scan(id, nil, nil, func(key, value []byte) bool {
		if err := id.readable(key, value); err != nil {
			m.q.note("%s %x was %x", id, key, value)
			bad = append(bad, entry{slices.Clone(key), err})
		}
		return true
	})
	for _, e := range bad {
		t.delete(id, e.key)
		object := fmt.Sprintf("%s %x", id, e.key)
		m.mended(store.ProblemRecord, object, e.why.Error(), m.withoutRecord(id, e.key))
	}
}

// withoutRecord says what becomes of an entry that was taken out.
func (m *mender) withoutRecord(id bucketID, key []byte) string {
	switch id {
	case bAccounts, bAccountNames, bAliasTargets, bLent, bUsage, bBodies, bSegments, bDue, bSessionOrder:
		return "it is made anew"
	case bCopies:
		if len(key) == 16 {
			m.unread = append(m.unread, unreadKey{store.AccountID(id8(key)), id8(key[8:])})
			return "it is looked for in the journal"
		}
	case bJobs:
		if len(key) == 8 {
			m.unread = append(m.unread, unreadKey{0, id8(key)})
			return "it is looked for in the journal"
		}
	}
	return "it was put aside"
}
