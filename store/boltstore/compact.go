package boltstore

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	bolt "go.etcd.io/bbolt"

	"latchkey/internal/vfs"
)

// Of the compaction of mail.db.
const (
	// compactAbove is the size from which it is worth the work, in octets.
	compactAbove = 2 << 20
	// compactStep is how much one transaction of the copy holds, in octets.
	compactStep = 4 << 20
	// compactRetry is how long nothing is tried after a failure, for example for want of space.
	compactRetry = 10 * time.Minute
)

// index returns the open index; a compaction puts another in its place.
func (s *Store) index() *bolt.DB {
	s.gate.RLock()
	defer s.gate.RUnlock()
	return s.db
}

// indexSize returns the size of mail.db and how much of it holds nothing, in octets.
func (s *Store) indexSize() (size, free int64) {
	db := s.index()
	if err := db.View(func(tx *bolt.Tx) error { size = tx.Size(); return nil }); err != nil {
		return 0, 0 // closed
	}
	stats := db.Stats()
	return size, int64(stats.FreePageN+stats.PendingPageN) * int64(db.Info().PageSize)
}

// compactIfWorth makes mail.db small again when more than half of it holds nothing. The indexer calls it between transactions; what is
// committed meanwhile waits in the tail.
func (s *Store) compactIfWorth() {
	if asked := s.compactAsked.Swap(nil); asked != nil {
		*asked <- errors.Join(s.poisoned(), s.compactIfSound())
		return
	}
	if s.isEnding() || s.poisoned() != nil || s.now().Before(s.compactFrom) {
		return
	}
	size, free := s.indexSize()
	if size < int64(s.bounds.compact) || free < size/2 {
		return
	}
	if err := s.compactIndex(); err != nil {
		s.compactFrom = s.now().Add(compactRetry)
		s.log.Error("the index could not be compacted", "error", err)
	}
}

// compactIndex copies what mail.db holds into a new file, which takes its name when it is durable. Only the indexer's goroutine calls it.
func (s *Store) compactIndex() error {
	fresh := filepath.Join(s.dir, newIndexName)
	if err := s.fs.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return s.writeFailed(err)
	}
	db, err := s.copyIndex(fresh)
	if err != nil {
		return err
	}
	if err := s.fs.Rename(fresh, s.indexPath()); err != nil {
		return errors.Join(s.writeFailed(err), db.Close(), s.fs.Remove(fresh))
	}
	if err := s.fs.SyncDir(s.dir); err != nil {
		// Both files hold the same, so either may be the one after a crash; but nobody knows which one it is.
		return errors.Join(s.poison(fmt.Errorf("data directory: %w", err)), db.Close())
	}
	s.gate.Lock()
	old := s.db
	s.db = db
	s.gate.Unlock()
	before, _ := s.indexSizeOf(old)
	after, _ := s.indexSizeOf(db)
	s.log.Info("index compacted", "before", before, "after", after)
	return old.Close()
}

// copyIndex makes a durable copy of the index. bbolt's copy fills every page, in transactions of compactStep: of 42,000 copies that came in
// from many sides the pages are 89 % full before it and 99 % after it, so a loop of our own would save nothing.
func (s *Store) copyIndex(path string) (*bolt.DB, error) {
	db, err := openIndex(path, s.options)
	if err != nil {
		return nil, s.writeFailed(err)
	}
	db.NoSync = true // one sync at the end is enough: nobody opens the copy before
	err = bolt.Compact(db, s.db, compactStep)
	db.NoSync = false
	if err == nil {
		if err = s.fs.Commit(path, db.Sync); err != nil {
			err = &vfs.SyncError{Err: err}
		}
	}
	if err != nil {
		return nil, errors.Join(s.writeFailed(fmt.Errorf("copy of the index: %w", err)), db.Close(), s.fs.Remove(path))
	}
	return db, nil
}

func (s *Store) indexSizeOf(db *bolt.DB) (size int64, err error) {
	err = db.View(func(tx *bolt.Tx) error { size = tx.Size(); return nil })
	return size, err
}
