package boltstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"

	"latchkey/internal/journal"
	"latchkey/internal/vfs"
	"latchkey/store"
)

// ErrLocked: another process has the data directory open.
var ErrLocked = errors.New("boltstore: the data directory is in use by another process")

// lockTimeout is how long Open waits for a process that is just leaving.
const lockTimeout = 250 * time.Millisecond

// Options tune a store; the zero value is good.
type Options struct {
	// Logger hears of failed syncs, damage, commits that took long and what was cleaned up. Nil is silence.
	Logger *slog.Logger
	// Now is the clock of what the store dates itself: deletes in the trail, holds, the age of the trail. Nil is time.Now.
	Now func() time.Time
	// DraftMemory is how much memory all drafts together may use, in octets; what is beyond lies in files. 0 is DefaultDraftMemory.
	DraftMemory int64
	// LockTimeout is how long Open waits for another process to give the data directory up. 0 is a quarter of a second.
	LockTimeout time.Duration

	fs      vfs.FS
	bounds  bounds
	journal journal.Options
	index   string        // the name of mail.db while a restore is under way
	still   bool          // nothing is tidied up: no segment is freed or copied forward
	slow    time.Duration // 0 is slowCommit
}

// bounds are the store's bounds that a test would take long to reach.
type bounds struct{ counters, grants, accountGrants, sessions, entries, statNames, events, reservations, tailEntries, tailOctets, compact, journal, idle, indexDelay uint64 }

func (o Options) withDefaults() Options {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.DraftMemory <= 0 {
		o.DraftMemory = DefaultDraftMemory
	}
	if o.LockTimeout <= 0 {
		o.LockTimeout = lockTimeout
	}
	if o.slow == 0 {
		o.slow = slowCommit
	}
	if o.index == "" {
		o.index = indexName
	}
	if o.fs == nil {
		o.fs = vfs.OS{}
	}
	if o.bounds == (bounds{}) {
		o.bounds = bounds{
			counters: store.MaxCounters, grants: store.MaxGrants, accountGrants: store.MaxAccountGrants, sessions: store.MaxWebSessions,
			entries: store.MaxAuditEntries, statNames: store.MaxStatNames, events: store.MaxTrailEvents,
			reservations: store.MaxReservations, tailEntries: maxTailEntries, tailOctets: maxTailOctets, compact: compactAbove,
			journal: smallJournal, idle: uint64(idleAfter), indexDelay: uint64(indexDelay),
		}
	}
	return o
}

// Store is an open data directory. All methods may be called from any goroutine; after Close they return store.ErrClosed.
type Store struct {
	dir    string
	fs     vfs.FS
	log    *slog.Logger
	now    func() time.Time
	bounds bounds
	epochs epochs // changed only while nobody else uses the store
	domain string

	db *bolt.DB
	// gate is held for writing while a change is committed that is in the index only, and for reading while a transaction begins: see read.
	gate    sync.RWMutex
	journal *journal.Journal
	tail    tail
	bodies  bodies
	budget  budget

	postings chan *posting
	quiet    chan struct{} // nothing was committed for a while
	posted   chan struct{} // closed when the committer has ended
	requests chan *request
	poke     chan struct{} // the indexer has something of its own to do
	delayed  atomic.Bool   // a timer will poke
	closing  chan struct{} // closed by Close: nothing new is taken
	ending   chan struct{} // closed when the committer has ended: the indexer brings the index up to date and ends
	stopped  chan struct{} // closed when the indexer has ended
	close    func() error  // once
	cause    atomic.Pointer[error]
	reserve  reserve
	removing atomic.Int32
	removers sync.WaitGroup // what runs beside the indexer

	ids       lastIDs
	boxes     boxes
	routes    routes
	expiries  expiries
	holdings  holdings
	snapshots snapshots
	space     space
	condemned condemned
	leases    leases
	lazy      lazy
	runs      sync.Pool // of *trailRun, used ones
	grants    grants
	metrics   metrics

	options     Options
	resting     *time.Timer // see restSoon; the committer's own
	restAgain   atomic.Bool // rest is called once more after a while
	compactFrom time.Time   // the index is not compacted before; the indexer's own
	archiving   sync.Mutex  // held while a backup is made, or a Compact works
	// compactAsked hears how a compaction of the index ended that somebody waits for; the indexer takes it.
	compactAsked atomic.Pointer[chan error]

	signals         sync.Mutex // guards those below
	settings        store.Settings
	settingsChanged chan struct{}
	jobsChanged     chan struct{}
	fresh           store.Fresh // where jobs were added, or became due sooner
	looked          bool        // somebody has asked for fresh
}

var (
	_ store.Store   = (*Store)(nil)
	_ store.Metered = (*Store)(nil)
)

// poisoned returns the error of every write after a failed sync, or nil.
func (s *Store) poisoned() error {
	if err := s.cause.Load(); err != nil {
		return *err
	}
	return nil
}

// usable returns why nothing can be begun, or nil.
func (s *Store) usable() error {
	if s.isClosing() {
		return store.ErrClosed
	}
	return s.poisoned()
}

// poison ends all writing. Nobody knows what the device holds after a failed sync, so nothing more is promised until a new process has
// looked; what was durable before can still be read.
func (s *Store) poison(cause error) error {
	err := fmt.Errorf("%w: %w", store.ErrPoisoned, cause)
	if s.cause.CompareAndSwap(nil, &err) {
		s.log.Error("a sync failed: nothing is accepted until the next start", "error", cause)
		s.tail.done(0, err) // whoever waits for the index waits in vain
		return err
	}
	return s.poisoned()
}

// Close implements store.Store. It waits for what was submitted before, and brings the index up to date, so that the next Open has nothing to
// replay.
func (s *Store) Close() error { return s.close() }

func (s *Store) shutdown() error {
	err := s.flushLazy(context.Background())
	close(s.closing)
	<-s.posted
	if s.resting != nil {
		s.resting.Stop()
	}
	close(s.ending)
	<-s.stopped
	s.removers.Wait()
	if errors.Is(err, store.ErrPoisoned) {
		err = nil // it was told when it happened; a reader has nothing to lose by closing
	}
	return errors.Join(err, s.journal.Close(), s.db.Close())
}

// reserveSize is what deletes have left when the device is full: the pages of some hundred Expunges, or of one large one.
const reserveSize = 512 << 10

func (s *Store) reservePath() string { return filepath.Join(s.dir, reserveName) }

// reserve says how the device stands.
type reserve struct {
	mu    sync.Mutex
	tight bool      // the reserve is used up: only what makes room goes on
	tried time.Time // when it was last dropped or could not be restored
}

// reserveRetry is how long nobody tries to take the reserve back, so that deletes find the room that it gave.
const reserveRetry = time.Second

// room refuses what would use up the last of the device. When the device is full and some time has passed, it looks again.
func (s *Store) room() error {
	r := &s.reserve
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.tight {
		return nil
	}
	now := s.now()
	if now.Sub(r.tried) >= reserveRetry {
		err := s.makeReserve()
		if err == nil {
			r.tight = false
			s.log.Info("there is room again: mail is accepted")
			return nil
		}
		if errors.Is(err, store.ErrPoisoned) {
			return err
		}
		r.tried = now
	}
	return fmt.Errorf("%w: what is left is kept for deleting", store.ErrNoSpace)
}

// dropReserve gives the reserve to the device, so that deletes find room.
func (s *Store) dropReserve() {
	r := &s.reserve
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tried = s.now()
	if r.tight {
		return
	}
	r.tight = true
	s.log.Warn("no space left: mail is refused until there is room")
	if err := s.fs.Remove(s.reservePath()); err != nil {
		s.log.Error("reserve could not be given up", "error", err)
	}
}

// makeReserve writes the reserve file: octets, not a hole, so that they are really there.
func (s *Store) makeReserve() error {
	if f, err := s.fs.Open(s.reservePath()); err == nil {
		size, err := f.Size()
		if err = errors.Join(err, f.Close()); err == nil && size == reserveSize {
			return nil
		}
		if err := s.fs.Remove(s.reservePath()); err != nil {
			return s.writeFailed(err)
		}
	}
	f, err := s.fs.Create(s.reservePath())
	if err != nil {
		return s.writeFailed(err)
	}
	_, err = f.Write(make([]byte, reserveSize))
	if err == nil {
		if err = f.Sync(); err != nil {
			err = &vfs.SyncError{Err: err}
		}
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return s.writeFailed(errors.Join(err, s.fs.Remove(s.reservePath())))
	}
	return nil
}

func (s *Store) indexPath() string { return filepath.Join(s.dir, s.options.index) }
