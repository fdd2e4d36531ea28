package boltstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	bolt "go.etcd.io/bbolt"

	"latchkey/internal/journal"
	"latchkey/internal/vfs"
	"latchkey/store"
)

// mender is one Repair.
type mender struct {
	fs     vfs.FS
	dir    string
	o      Options
	q      quarantine
	report store.Repaired
	// unread are keys of copies and jobs whose records could not be read: they may be found again in the journal.
	unread []unreadKey
	// illegible are segments of which neither the header nor a record can be read.
	illegible []uint64
	// damaged is set if records of the journal are lost that the index did not have: unique-ids may have been given out that nobody knows.
	damaged bool
	// quiet is set while what follows from mail that was removed is put in order.
	quiet  bool
	epochs epochs
	domain string
}

// Repair mends what can be mended in a data directory that nobody has open, and says what it did. What is derived from something else is
// made anew; what points to nothing is removed; a damaged end of the journal is passed over; copies and jobs whose octets are lost are
// removed, and reported. Whatever is removed is put aside in the quarantine directory first. Left is what a check finds afterwards: an index
// whose pages are damaged is left as it is, because what it says cannot be trusted.
//
// Repair may be cut short and run again.
func Repair(ctx context.Context, dir string, o Options) (store.Repaired, error) {
	o = o.withDefaults()
	dir, err := filepath.Abs(dir)
	if err != nil {
		return store.Repaired{}, err
	}
	m := &mender{fs: o.fs, dir: dir, o: o, q: quarantine{fs: o.fs, data: dir, now: o.Now()}}
	err = errors.Join(m.run(ctx), m.q.finish())
	m.report.Quarantine = m.q.dir
	return m.report, err
}

func (m *mender) run(ctx context.Context) error {
	names, err := m.fs.List(m.dir)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && !slices.Contains(names, indexName) && !slices.Contains(names, restoringName):
		return fmt.Errorf("%s: %w", m.dir, store.ErrNotInitialised)
	case err != nil:
		return err
	case !slices.Contains(names, indexName):
		return fmt.Errorf("%s: %w", m.dir, ErrRestoring)
	}
	m.report.Left, err = inspectIndex(m.fs, filepath.Join(m.dir, indexName))
	if err != nil || len(m.report.Left) > 0 {
		return err
	}
	m.o.still = true
	for _, step := range []func(context.Context) error{m.records, m.headers, m.journal, m.mail, m.segments, m.look} {
		if err := step(ctx); err != nil || len(m.report.Left) > 0 {
			return err
		}
	}
	return nil
}

// mended notes what was done.
func (m *mender) mended(kind, object, detail, action string) {
	if m.quiet {
		return
	}
	m.q.note("%s: %s: %s: %s", kind, object, detail, action)
	if len(m.report.Mended) < maxProblems {
		m.report.Mended = append(m.report.Mended, store.Mended{Problem: store.Problem{Kind: kind, Object: object, Detail: detail}, Action: action})
	}
}

// left notes what cannot be mended.
func (m *mender) left(kind, object string, err error) {
	m.report.Left = append(m.report.Left, store.Problem{Kind: kind, Object: object, Detail: err.Error()})
}

// headers writes the headers of segments again that cannot be read.
func (m *mender) headers(context.Context) error {
	dir := filepath.Join(m.dir, journalName)
	names, err := m.fs.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		generation, ok := journal.ParseSegmentName(name)
		if !ok {
			continue
		}
		bad, mendable, err := journal.InspectHeader(m.fs, dir, generation, nil)
		var known map[journal.Place]int64
		if err == nil && bad != "" && !mendable {
			if known, err = m.places(generation); err == nil {
				bad, mendable, err = journal.InspectHeader(m.fs, dir, generation, known)
			}
		}
		if err != nil {
			return err
		}
		if bad == "" {
			continue
		}
		if !mendable {
			// It is opened in spite of it, misses its mail, and is put aside after that.
			m.illegible = append(m.illegible, generation)
			continue
		}
		if err := m.q.copyFile(name, filepath.Join(dir, name)); err != nil {
			return err
		}
		if err := journal.MendHeader(m.fs, dir, generation, known); err != nil {
			return err
		}
		m.mended(store.ProblemSegment, fmt.Sprintf("segment %d", generation), bad, "its header was written again, from its records")
	}
	return nil
}

// places returns where in a segment there are records, by the index.
func (m *mender) places(generation uint64) (known map[journal.Place]int64, err error) {
	db, err := openIndex(filepath.Join(m.dir, indexName), m.o)
	if err != nil {
		return nil, err
	}
	known = make(map[journal.Place]int64)
	err = db.View(func(tx *bolt.Tx) error {
		v := &view{tx: tx}
		return v.eachHolder(func(h *held) error {
			if h.segment == generation && len(known) < maxPlaces {
				known[journal.Place{Generation: h.segment, Offset: h.offset, Size: h.octets}] = h.metaLen
			}
			return nil
		})
	})
	return known, errors.Join(err, db.Close())
}

// maxPlaces bounds the records that are looked at for the header of one segment.
const maxPlaces = 1000

// segments puts aside segments that nobody can read.
func (m *mender) segments(context.Context) error {
	for _, generation := range m.illegible {
		name := journal.SegmentName(generation)
		if _, err := m.q.move(name, filepath.Join(m.dir, journalName, name)); err != nil {
			return err
		}
		m.quiet = false
		m.mended(store.ProblemSegment, fmt.Sprintf("segment %d", generation), "its header cannot be read, nor any record", "it was put aside")
	}
	if len(m.illegible) == 0 {
		return nil
	}
	return errors.Join(m.q.flush(), m.fs.SyncDir(filepath.Join(m.dir, journalName)))
}

// journal makes the index sound, and then applies to it what the journal has beyond it, as far as that can be read. Nothing else runs.
func (m *mender) journal(ctx context.Context) (err error) {
	s, damages, err := m.open(ctx)
	if err != nil || s == nil {
		return err
	}
	defer func() { err = errors.Join(err, s.closeStill()) }()
	m.epochs, m.domain = s.epochs, s.domain
	for _, d := range damages {
		m.damaged = true
		m.mended(store.ProblemJournal, fmt.Sprintf("segment %d at %d", d.Mark.Generation, d.Mark.Offset), fmt.Sprintf("behind record %d: %s", d.Mark.Seq, d.Detail),
			"passed over: deliveries, deletes and outcomes of its last moments may be lost")
	}
	if err := m.structure(ctx, s); err != nil {
		return err
	}
	for more := true; more; {
		var batch []tailed
		batch, more = s.tail.take(s.now())
		s.indexBatch(batch, nil)
		if _, _, stuck := s.tail.full(); stuck != nil {
			m.left(store.ProblemJournal, "journal", stuck)
			return nil
		}
	}
	if len(damages) == 0 {
		return nil
	}
	// What is damaged lies behind the index from now on: nobody looks at it again.
	r := &request{frees: true, apply: func(t *txn) error {
		t.put(bMeta, []byte(metaApplied), encodeMark(s.journal.Durable()))
		return nil
	}}
	return errors.Join(s.tryBatch(nil, []*request{r}), r.err)
}

// openStill recovers a store without starting anything. The caller closes it with closeStill. After an error the store may say how far it came.
func openStill(ctx context.Context, dir string, o Options) (s *Store, err error) {
	o.still = true
	db, err := openIndex(filepath.Join(dir, indexName), o)
	if err != nil {
		return nil, err
	}
	s = newStore(dir, db, o)
	if err = s.recover(ctx, o); err == nil {
		return s, nil
	}
	if s.journal != nil {
		err = errors.Join(err, s.journal.Close())
	}
	return s, errors.Join(err, db.Close())
}

func (s *Store) closeStill() error { return errors.Join(s.journal.Close(), s.db.Close()) }

// open is openStill. If the end of the journal is damaged its files are put aside, and it is opened in spite of that. A nil store is one that
// cannot be opened; what is wrong is left.
func (m *mender) open(ctx context.Context) (s *Store, damages []journal.Damage, err error) {
	s, err = openStill(ctx, m.dir, m.o)
	if errors.Is(err, store.ErrDamaged) && s != nil {
		if err := m.copyTail(s.space.applied.Generation); err != nil {
			return nil, nil, err
		}
		o := m.o
		o.journal.Salvage = func(d journal.Damage) { damages = append(damages, d) }
		s, err = openStill(ctx, m.dir, o)
	}
	if errors.Is(err, store.ErrDamaged) {
		m.report.Left = append(m.report.Left, problemOf(err))
		return nil, nil, nil
	}
	return s, damages, err
}

// problemOf says what keeps a store from being opened.
func problemOf(err error) store.Problem {
	p := store.Problem{Kind: store.ProblemRecord, Object: indexName, Detail: strings.ReplaceAll(err.Error(), store.ErrDamaged.Error()+": ", "")}
	var damage journal.Damage
	if errors.As(err, &damage) {
		p.Kind, p.Object = store.ProblemJournal, fmt.Sprintf("segment %d at %d", damage.Mark.Generation, damage.Mark.Offset)
		p.Detail = fmt.Sprintf("behind record %d: %s", damage.Mark.Seq, damage.Detail)
	}
	return p
}

// Diagnose says what keeps a data directory, which nobody has open, from being opened: nothing if it can be. It looks at an index without
// trusting it: a page that contradicts itself ends a process that does.
func Diagnose(ctx context.Context, dir string, o Options) ([]store.Problem, error) {
	o = o.withDefaults()
	path := filepath.Join(dir, indexName)
	problems, err := inspectIndex(o.fs, path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", dir, store.ErrNotInitialised)
	}
	if err != nil || len(problems) > 0 {
		return problems, err
	}
	s, err := openStill(ctx, dir, o)
	if errors.Is(err, store.ErrDamaged) {
		return []store.Problem{problemOf(err)}, nil
	}
	if err != nil {
		return nil, err
	}
	_, err = s.orphans(ctx)
	if err = errors.Join(err, s.closeStill()); errors.Is(err, store.ErrDamaged) {
		return []store.Problem{problemOf(err)}, nil
	}
	return nil, err
}

// copyTail puts aside the segments that a salvage goes through.
func (m *mender) copyTail(from uint64) error {
	dir := filepath.Join(m.dir, journalName)
	names, err := m.fs.List(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if generation, ok := journal.ParseSegmentName(name); ok && generation >= from {
			if err := m.q.copyFile(name, filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
		}
	}
	return nil
}
