package boltstore

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"

	"latchkey/internal/archive"
	"latchkey/internal/journal"
	"latchkey/internal/vfs"
	"latchkey/store"
)

// ErrRestoring: a Restore into this directory broke off; it has to be run again.
var ErrRestoring = errors.New("boltstore: a restore into this directory broke off")

// heldPerTxn bounds the jobs that a restore holds in one transaction.
const heldPerTxn = 1000

// Restored says what a Restore made.
type Restored struct {
	// Domain is what was restored, Taken when the backup was made.
	Domain string
	Taken  time.Time
	// Jobs are the deliveries to other domains that wait in the queue.
	Jobs int
}

// Restore makes a data directory of a backup, durably. The directory may be there, but must hold nothing of ours: store.ErrExists. A
// Restore that was cut short leaves no domain, and may be run again. archive.ErrDamaged if the backup is not what was written.
//
// Copies keep their unique-ids, and those that are made from now on have a new epoch in theirs. Grants and web sessions are ended: some of
// them may have been revoked since the backup was made. Accounts are as they were, with their verifiers and what is sealed beside these. hold puts every job of the queue on hold: some of them may have been done since.
func Restore(ctx context.Context, dir string, from archive.Source, hold bool, o Options) (Restored, error) {
	o = o.withDefaults()
	dir, err := filepath.Abs(dir)
	if err != nil {
		return Restored{}, err
	}
	r := restorer{fs: o.fs, dir: dir}
	changed := append([]string{dir}, newAncestors(dir, o.fs)...)
	if err := r.begin(); err != nil {
		return Restored{}, err
	}
	h, err := from.Pieces(ctx, r.piece)
	if err == nil && !r.indexed {
		err = fmt.Errorf("%w: it has no index", archive.ErrDamaged)
	}
	if err != nil {
		return Restored{}, err
	}
	got := Restored{Domain: h.Domain, Taken: h.Taken}
	if got.Jobs, err = r.renew(ctx, h, hold, o); err != nil {
		return got, err
	}
	// The name comes last: a directory without mail.db holds no domain.
	if err := o.fs.Rename(filepath.Join(dir, restoringName), filepath.Join(dir, indexName)); err != nil {
		return got, fmt.Errorf("data directory: %w", err)
	}
	for _, d := range changed {
		if err := o.fs.SyncDir(d); err != nil {
			return got, fmt.Errorf("data directory: %w", err)
		}
	}
	return got, nil
}

// restorer is one Restore.
type restorer struct {
	fs         vfs.FS
	dir        string
	indexed    bool
	generation uint64
}

func (r *restorer) path(names ...string) string {
	return filepath.Join(append([]string{r.dir}, names...)...)
}

// begin makes the directories, and removes what a Restore that was cut short left. The file of that name says that there was one.
func (r *restorer) begin() error {
	if err := r.fs.Mkdir(r.dir); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	names, err := r.fs.List(r.dir)
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	again := slices.Contains(names, restoringName)
	for _, name := range names {
		switch name {
		case indexName, newIndexName, reserveName, journalName, largeName, tmpName:
			if name == indexName || !again {
				return fmt.Errorf("%s has %s in it: %w", r.dir, name, store.ErrExists)
			}
		}
	}
	if !again {
		f, err := r.fs.Create(r.path(restoringName))
		if err != nil {
			return fmt.Errorf("data directory: %w", err)
		}
		if err := errors.Join(f.Close(), r.fs.SyncDir(r.dir)); err != nil {
			return fmt.Errorf("data directory: %w", err)
		}
	}
	for _, name := range []string{journalName, largeName, tmpName} {
		if err := r.empty(name); err != nil {
			return fmt.Errorf("data directory: %w", err)
		}
	}
	for _, name := range []string{newIndexName, reserveName} {
		if err := r.fs.Remove(r.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("data directory: %w", err)
		}
	}
	return nil
}

func (r *restorer) empty(dir string) error {
	if err := r.fs.Mkdir(r.path(dir)); err != nil {
		return err
	}
	names, err := r.fs.List(r.path(dir))
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := r.fs.Remove(r.path(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// piece puts one piece where it belongs.
func (r *restorer) piece(name string, _ int64, octets io.Reader) error {
	n, _ := archive.ParseName(name)
	switch n.Kind {
	case archive.Segment:
		if n.Generation <= r.generation {
			return fmt.Errorf("%w: it has segment %d twice", archive.ErrDamaged, n.Generation)
		}
		r.generation = n.Generation
		return r.write(octets, journalName, journal.SegmentName(n.Generation))
	case archive.Large:
		return r.write(octets, largeName, token(n.Token).String())
	case archive.Index:
		if r.indexed {
			return fmt.Errorf("%w: it has two indexes", archive.ErrDamaged)
		}
		r.indexed = true
		f, err := r.fs.OpenWrite(r.path(restoringName))
		if err != nil {
			return err
		}
		return fill(f, octets)
	}
	return fmt.Errorf("%w: what is %s", archive.ErrDamaged, name)
}

func (r *restorer) write(octets io.Reader, names ...string) error {
	f, err := r.fs.Create(r.path(names...))
	if err != nil {
		return err
	}
	return fill(f, octets)
}

// fill writes a file and makes it durable.
func fill(f vfs.File, octets io.Reader) error {
	w := bufio.NewWriterSize(f, 256<<10)
	_, err := w.ReadFrom(octets)
	if err = errors.Join(err, w.Flush()); err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// renew makes what was put back a store of its own: see Restore. It is opened for that, which makes the names of all files durable too.
func (r *restorer) renew(ctx context.Context, h archive.Header, hold bool, o Options) (jobs int, err error) {
	path := r.path(restoringName)
	if err := endVisits(path, o); err != nil {
		return 0, fmt.Errorf("restored index: %w", err)
	}
	o.index, o.still = restoringName, true
	s, err := Open(ctx, r.dir, o)
	if err != nil {
		return 0, fmt.Errorf("restored data: %w", err)
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if s.domain != h.Domain {
		return 0, fmt.Errorf("%w: its index is that of %s, not of %s", archive.ErrDamaged, s.domain, h.Domain)
	}
	if err := s.raiseEpoch(ctx); err != nil {
		return 0, err
	}
	for after := store.JobID(0); ; {
		list, _, err := s.ListJobs(ctx, store.QueueFilter{}, after, heldPerTxn)
		if err != nil || len(list) == 0 {
			return jobs, err
		}
		jobs += len(list)
		after = list[len(list)-1].ID
		if hold {
			ids := make([]store.JobID, len(list))
			for i := range list {
				ids[i] = list[i].ID
			}
			if err := s.HoldJobs(ctx, "restored from the backup of "+h.Taken.UTC().Format(time.RFC3339), ids...); err != nil {
				return jobs, err
			}
		}
	}
}

// endVisits removes grants and web sessions from an index that nobody has open.
func endVisits(path string, o Options) error {
	db, err := openIndex(path, o)
	if err != nil {
		return err
	}
	err = o.fs.Commit(path, func() error {
		return db.Update(func(tx *bolt.Tx) error {
			t := &txn{view: view{tx: tx}}
			meta := tx.Bucket([]byte(bMeta.String()))
			if meta == nil {
				return errShortRecord
			}
			var err error
			if t.tally, err = decodeTally(meta.Get([]byte(metaTally))); err != nil {
				return err
			}
			for _, id := range []bucketID{bGrants, bSessions, bSessionOrder} {
				if err := tx.DeleteBucket([]byte(id.String())); err != nil {
					return err
				}
				if _, err := tx.CreateBucket([]byte(id.String())); err != nil {
					return err
				}
			}
			t.tally.Sessions = 0
			t.put(bMeta, []byte(metaTally), t.tally.encode())
			return t.err
		})
	})
	return errors.Join(err, db.Close())
}
