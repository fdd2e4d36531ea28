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
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"latchkey/internal/journal"
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
		FreelistType:    bolt.FreelistMapType, // written with every transaction: an Open after a crash reads it instead of every page
		InitialMmapSize: mapSize,
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
	for _, d := range []string{dir, filepath.Join(dir, journalName), filepath.Join(dir, largeName), filepath.Join(dir, tmpName)} {
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
	if slices.Contains(names, restoringName) {
		return fmt.Errorf("%s: %w", dir, ErrRestoring)
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
	t.put(bMeta, []byte(metaEpochs), epochs{{epoch: 1, first: 1}}.encode())
	t.put(bMeta, []byte(metaTally), (&tally{}).encode())
	t.put(bMeta, []byte(metaApplied), encodeMark(journal.Mark{}))
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
	path := filepath.Join(dir, o.index)
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
	if err := s.recover(ctx, o); err != nil {
		if s.journal != nil {
			err = errors.Join(err, s.journal.Close())
		}
		return nil, errors.Join(err, db.Close())
	}
	go s.commitLoop()
	go s.indexLoop()
	s.wake() // what was replayed is applied beside the first work
	return s, nil
}

func newStore(dir string, db *bolt.DB, o Options) *Store {
	s := &Store{
		dir: dir, fs: o.fs, log: o.Logger, now: o.Now, bounds: o.bounds, db: db, options: o,
		bodies: bodies{
			fs: o.fs, dir: dir, syncs: make(chan struct{}, maxSyncs), flying: make(map[token]struct{}),
			pool: &sync.Pool{New: func() any { return new([readSize]byte) }},
		},
		budget:    budget{max: o.DraftMemory},
		tail:      newTail(o.bounds),
		postings:  make(chan *posting, maxGroupPostings),
		quiet:     make(chan struct{}, 1),
		posted:    make(chan struct{}),
		requests:  make(chan *request, maxTxnRequests),
		poke:      make(chan struct{}, 1),
		closing:   make(chan struct{}),
		ending:    make(chan struct{}),
		stopped:   make(chan struct{}),
		boxes:     boxes{byID: make(map[store.AccountID]*box)},
		routes:    routes{byLocal: make(map[string]store.Route)},
		holdings:  holdings{usage: make(map[store.AccountID]store.Usage), reserved: store.Reserved{Max: int(o.bounds.reservations)}},
		snapshots: newSnapshots(),
		space:     newSpace(),
		leases:    leases{out: make(map[store.JobID]*lease), last: store.LeaseToken(rand.Uint64() >> 1)},
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

// recover reads what the store keeps in memory, and cleans up after a crash. What the journal has beyond the index becomes the tail.
func (s *Store) recover(ctx context.Context, o Options) error {
	// A process that was killed may have left a transaction that everybody can read and a power cut would still undo.
	if err := s.fs.Commit(s.indexPath(), s.db.Sync); err != nil {
		return fmt.Errorf("index: %w", err)
	}
	var applied journal.Mark
	err := s.read(ctx, func(v *view) (err error) {
		if err := s.readMeta(v); err != nil {
			return err
		}
		if applied, err = v.applied(); err != nil {
			return fmt.Errorf("%w: %s has no mark of the journal", store.ErrDamaged, indexName)
		}
		s.loadCondemned(v)
		return errors.Join(s.loadSpace(v), s.loadHoldings(v), s.loadIDs(v), s.loadCounters(v), s.loadGrants(v))
	})
	if err != nil {
		return err
	}
	if err := s.replay(ctx, applied, o); err != nil {
		return err
	}
	return s.cleanUp(ctx)
}

// loadSpace reads what of the journal's segments is needed.
func (s *Store) loadSpace(v *view) (err error) {
	v.scan(bSegments, nil, nil, func(key, value []byte) bool {
		var l live
		if l, err = decodeLive(value); err == nil {
			s.space.live[id8(key)] = l
		}
		return err == nil
	})
	return err
}

func (s *Store) loadIDs(v *view) error {
	t, err := decodeTally(v.get(bMeta, []byte(metaTally)))
	s.ids = lastIDs{message: store.MessageID(t.Message), copied: store.CopyID(t.Copy), job: store.JobID(t.Job)}
	return err
}

// replay makes a tail of the records that the index does not know.
func (s *Store) replay(ctx context.Context, applied journal.Mark, o Options) (err error) {
	s.space.applied, s.space.changed = applied, true
	s.tail.applied = applied.Seq
	s.tail.last = applied.Seq
	s.tail.lastCopy = s.ids.copied
	jo := o.journal
	jo.FS, jo.Logger, jo.Now = o.fs, o.Logger, o.Now
	var entries []tailed
	s.journal, err = journal.Open(ctx, filepath.Join(s.dir, journalName), applied, jo, func(r journal.Record) error {
		made, err := decodeEntry(&r)
		if err != nil && jo.Salvage != nil {
			jo.Salvage(journal.Damage{Mark: r.End, Detail: err.Error()})
			made, err = skippedEntry{}, nil
		}
		if err != nil {
			return err
		}
		if m, ok := made.(*messageEntry); ok {
			copies, jobs := m.ids()
			s.ids.message = max(s.ids.message, m.id)
			s.ids.copied = max(s.ids.copied, m.firstCopy+store.CopyID(len(copies))-1)
			s.ids.job = max(s.ids.job, m.firstJob+store.JobID(len(jobs))-1)
		}
		s.holdings.replay(made)
		entries = append(entries, tailed{entry: made, mark: r.End, octets: made.octets()})
		return nil
	})
	switch {
	case errors.Is(err, journal.ErrDamaged):
		return fmt.Errorf("%w: %w", store.ErrDamaged, err)
	case err != nil:
		return fmt.Errorf("journal: %w", err)
	}
	if len(entries) > 0 {
		s.log.Info("records of the journal that the index does not have yet", "records", len(entries))
		s.tail.add(time.Now(), entries)
	}
	return nil
}

// cleanUp removes what an earlier process left unfinished. Nothing of it is needed for correctness; it gives back space.
func (s *Store) cleanUp(ctx context.Context) error {
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
	epochs, epochErr := decodeEpochs(v.get(bMeta, []byte(metaEpochs)))
	s.epochs = epochs
	settings, err := v.settings()
	if err = errors.Join(epochErr, err); err != nil {
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

// removeOrphans removes files of large/ that neither the index nor the tail names.
func (s *Store) removeOrphans(ctx context.Context) error {
	if s.options.still {
		return nil
	}
	orphans, err := s.orphans(ctx)
	for _, t := range orphans {
		err = errors.Join(err, s.fs.Remove(s.bodies.large(t)))
	}
	if len(orphans) > 0 {
		s.log.Info("bodies without a message were removed", "bodies", len(orphans))
	}
	return err
}

// orphans returns the bodies of large/ that neither the index nor the tail names. It needs 16 octets of memory a file.
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
	for _, t := range s.tail.tokens() {
		if i, ok := slices.BinarySearchFunc(files, t, compare); ok {
			known[i] = true
		}
	}
	err = s.read(ctx, func(v *view) error {
		var failed error
		v.scan(bBodies, nil, nil, func(_, value []byte) bool {
			body, err := decodeShared(value)
			if failed = err; err != nil {
				return false
			}
			if i, ok := slices.BinarySearchFunc(files, body.token, compare); ok && body.large {
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
