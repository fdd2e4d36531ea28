package boltstore

import (
	"errors"
	"fmt"
	"path/filepath"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"latchkey/internal/vfs"
)

// IndexUse says what takes the space of the index of a data directory that no process has open: the octets of the pages of each bucket
// by its name in docs/format.md, and under "" those of all others, free ones included. ErrLocked if the store is open.
func IndexUse(dir string) (use map[string]int64, err error) {
	path := filepath.Join(dir, indexName)
	db, err := bolt.Open(path, vfs.FileMode, &bolt.Options{ReadOnly: true, Timeout: lockTimeout})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("%s: %w", path, ErrLocked)
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	use = make(map[string]int64)
	err = db.View(func(tx *bolt.Tx) error {
		use[""] = tx.Size()
		return tx.ForEach(func(name []byte, b *bolt.Bucket) error {
			st := b.Stats()
			use[string(name)] = int64(st.BranchAlloc + st.LeafAlloc)
			use[""] -= use[string(name)]
			return nil
		})
	})
	return use, err
}
