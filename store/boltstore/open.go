package boltstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"latchkey/internal/vfs"
	"latchkey/store"
)

// Of bbolt's file.
const (
	// mapSize is the address space that the index may grow into before readers and the writer have to wait for a new mapping.
	mapSize = 1 << 30
	// growSize is how much the index file grows at once. It grows as a hole, so it costs no space.
	growSize = 1 << 20
)

func openIndex(path string, o Options) (*bolt.DB, error) {
	db, err := bolt.Open(path, vfs.FileMode, &bolt.Options{
		Timeout:         o.LockTimeout,
		FreelistType:    bolt.FreelistMapType,
		NoFreelistSync:  true,
		InitialMmapSize: mapSize,
		NoStatistics:    true,
		OpenFile:        o.fs.OpenIndex,
	})
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, fmt.Errorf("%s: %w", path, ErrLocked)
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum), errors.Is(err, bolterrors.ErrVersionMismatch):
		return nil, fmt.Errorf("%w: %s: %w", store.ErrDamaged, path, err)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	db.AllocSize = growSize
	return db, nil
}

// Init makes the data directory of a new domain, durably. store.ErrExists if it holds one already. An Init that was cut short leaves
// no domain, and may be run again.
func Init(_ context.Context, dir string, settings store.Settings, o Options) error {
	o = o.withDefaults()
	if err := settings.Validate(); err != nil {
		return err
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	changed := append([]string{dir}, newAncestors(dir, o.fs)...)
	for _, d := range []string{dir, filepath.Join(dir, largeName), filepath.Join(dir, tmpName)} {
		if err := o.fs.Mkdir(d); err != nil {
			return fmt.Errorf("data directory: %w", err)
		}
	}
	names, err := o.fs.List(dir)
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	if slices.Contains(names, indexName) {
		return fmt.Errorf("%s: %w", dir, store.ErrExists)
	}
	fresh := filepath.Join(dir, newIndexName)
	if slices.Contains(names, newIndexName) {
		if err := o.fs.Remove(fresh); err != nil {
			return fmt.Errorf("data directory: %w", err)
		}
	}
	if err := writeIndex(fresh, settings, o); err != nil {
		return err
	}
	// The name comes last: a directory without mail.db holds no domain.
	if err := o.fs.Rename(fresh, filepath.Join(dir, indexName)); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	for _, d := range changed {
		if err := o.fs.SyncDir(d); err != nil {
			return fmt.Errorf("data directory: %w", err)
		}
	}
	return nil
}

// newAncestors returns the directories that get a new entry when dir is made: its parent, and every one above that is made too.
func newAncestors(dir string, fsys vfs.FS) (dirs []string) {
	for parent := filepath.Dir(dir); ; parent = filepath.Dir(parent) {
		dirs = append(dirs, parent)
		if _, err := fsys.List(parent); err == nil || parent == filepath.Dir(parent) {
			return dirs
		}
	}
}

func writeIndex(path string, settings store.Settings, o Options) (err error) {
	db, err := openIndex(path, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	tx, err := db.Begin(true)
	if err != nil {
		return err
	}
	for id := range numBuckets {
		if _, err := tx.CreateBucket([]byte(id.String())); err != nil {
			return errors.Join(err, tx.Rollback())
		}
	}
	t := &txn{view: view{tx: tx}}
	settings.Version = 1
	t.put(bMeta, []byte(metaFormat), binary.BigEndian.AppendUint32(nil, formatVersion))
	t.put(bMeta, []byte(metaEpoch), binary.BigEndian.AppendUint32(nil, 1))
	t.put(bMeta, []byte(metaTally), (&tally{}).encode())
	if err := errors.Join(t.putSettings(settings), t.err); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	if err := o.fs.Commit(path, tx.Commit); err != nil {
		_ = tx.Rollback() // says only that the failed commit rolled back already
		return fmt.Errorf("index commit: %w", err)
	}
	return nil
}

// Open opens a data directory: store.ErrNotInitialised if it holds no domain, ErrLocked if another process has it open. What an earlier
// process left unfinished is cleaned up: drafts, and bodies that no message names.
func Open(ctx context.Context, dir string, o Options) (*Store, error) {
	o = o.withDefaults()
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, indexName)
	if f, err := o.fs.Open(path); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", dir, store.ErrNotInitialised)
	} else if err != nil {
		return nil, err
	} else if err := f.Close(); err != nil {
		return nil, err
	}
	db, err := openIndex(path, o)
	if err != nil {
		return nil, err
	}
	s := newStore(dir, db, o)
	if err := s.recover(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	go s.commitLoop()
	return s, nil
}

func newStore(dir string, db *bolt.DB, o Options) *Store {
	s := &Store{
		dir: dir, fs: o.fs, log: o.Logger, now: o.Now, bounds: o.bounds, db: db,
		bodies: bodies{
			fs: o.fs, dir: dir, syncs: make(chan struct{}, maxSyncs), flying: make(map[token]struct{}),
			pool: &sync.Pool{New: func() any { return new([blockSize]byte) }},
		},
		budget:   budget{max: o.DraftMemory},
		requests: make(chan *request, maxGroupRequests),
		poke:     make(chan struct{}, 1),
		closing:  make(chan struct{}),
		stopped:  make(chan struct{}),
		graves:   graveyard{pins: make(map[store.AccountID]map[uint64]struct{}), waiting: make(map[store.AccountID][]batch)},
		leases:   leases{out: make(map[store.JobID]*lease), last: store.LeaseToken(rand.Uint64() >> 1)},
		lazy: lazy{
			counters: make(map[string]*counter), dirty: make(map[string]struct{}), days: make(map[store.Day]*day),
		},
		grants:          newGrants(),
		settingsChanged: make(chan struct{}),
		jobsChanged:     make(chan struct{}),
	}
	s.close = sync.OnceValue(s.shutdown)
	return s
}

// recover reads what the store keeps in memory, and cleans up after a crash. Nothing of it is needed for correctness of the index,
// which is whole after any crash; it gives back space.
func (s *Store) recover(ctx context.Context) error {
	// A process that was killed may have left a transaction that everybody can read and a power cut would still undo.
	if err := s.fs.Commit(s.indexPath(), s.db.Sync); err != nil {
		return fmt.Errorf("index: %w", err)
	}
	err := s.read(ctx, func(v *view) error {
		if err := s.readMeta(v); err != nil {
			return err
		}
		s.exhume(v)
		return errors.Join(s.loadCounters(v), s.loadGrants(v))
	})
	if err != nil {
		return err
	}
	for _, name := range []string{largeName, tmpName} {
		if err := s.fs.Mkdir(filepath.Join(s.dir, name)); err != nil {
			return fmt.Errorf("data directory: %w", err)
		}
	}
	if err := s.emptyTmp(); err != nil {
		return fmt.Errorf("drafts of the last process: %w", err)
	}
	if err := s.removeOrphans(ctx); err != nil {
		return fmt.Errorf("bodies without a message: %w", err)
	}
	// An entry of large/ that was there before a crash may have been seen only in memory: it must not be lost in the next one, as the
	// index names it.
	for _, dir := range []string{filepath.Join(s.dir, largeName), s.dir} {
		if err := s.fs.SyncDir(dir); err != nil {
			return fmt.Errorf("data directory: %w", err)
		}
	}
	if err := s.makeReserve(); errors.Is(err, store.ErrNoSpace) {
		s.reserve.tight, s.reserve.tried = true, s.now()
		s.log.Warn("no space left: mail is refused until there is room")
	} else if err != nil {
		return fmt.Errorf("reserve: %w", err)
	}
	return nil
}

func (s *Store) readMeta(v *view) error {
	if v.tx.Bucket([]byte(bMeta.String())) == nil {
		return fmt.Errorf("%w: %s has no buckets of this program", store.ErrDamaged, indexName)
	}
	format := decoder{b: v.get(bMeta, []byte(metaFormat))}
	if n := format.uint32(); format.err != nil || n == 0 {
		return fmt.Errorf("%w: %s has no format version", store.ErrDamaged, indexName)
	} else if n > formatVersion {
		return fmt.Errorf("boltstore: the data directory has format %d, this program knows up to %d: use a newer one", n, formatVersion)
	}
	epoch := decoder{b: v.get(bMeta, []byte(metaEpoch))}
	s.epoch = epoch.uint32()
	settings, err := v.settings()
	if err = errors.Join(epoch.err, err); err != nil {
		return fmt.Errorf("%w: %w", store.ErrDamaged, err)
	}
	s.settings, s.domain = settings, settings.Domain
	return nil
}

func (s *Store) emptyTmp() error {
	dir := filepath.Join(s.dir, tmpName)
	names, err := s.fs.List(dir)
	for _, name := range names {
		err = errors.Join(err, s.fs.Remove(filepath.Join(dir, name)))
	}
	return err
}

// removeOrphans removes files of large/ that no body in the index names.
func (s *Store) removeOrphans(ctx context.Context) error {
	orphans, err := s.orphans(ctx)
	for _, t := range orphans {
		err = errors.Join(err, s.fs.Remove(s.bodies.large(t)))
	}
	if len(orphans) > 0 {
		s.log.Info("bodies without a message were removed", "bodies", len(orphans))
	}
	return err
}

// orphans returns the bodies of large/ that the index does not name. It needs 16 octets of memory a file.
func (s *Store) orphans(ctx context.Context) ([]token, error) {
	names, err := s.fs.List(filepath.Join(s.dir, largeName))
	if err != nil {
		return nil, err
	}
	files := make([]token, 0, len(names))
	for _, name := range names {
		if t, ok := parseToken(name); ok && !s.bodies.isFlying(t) {
			files = append(files, t)
		}
	}
	compare := func(a, b token) int { return slices.Compare(a[:], b[:]) }
	slices.SortFunc(files, compare)
	known := make([]bool, len(files))
	err = s.read(ctx, func(v *view) error {
		var failed error
		v.scan(bBodies, nil, nil, func(_, value []byte) bool {
			body, err := decodeBody(value)
			if failed = err; err != nil {
				return false
			}
			if i, ok := slices.BinarySearchFunc(files, body.Token, compare); ok {
				known[i] = true
			}
			return true
		})
		return failed
	})
	if err != nil {
		return nil, err
	}
	n := 0
	for i, t := range files {
		if !known[i] {
			files[n] = t
			n++
		}
	}
	return files[:n], nil
}
