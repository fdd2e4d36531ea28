package journal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"latchkey/internal/vfs"
)

// Journal is an open journal. Append, Commit, Discard and Idle belong to one goroutine; all other methods may be called from any.
type Journal struct {
	fs  vfs.FS
	dir string
	log *slog.Logger
	now func() time.Time

	maxSpares                       int
	minSegment, maxSegment, reserve int64

	// What follows belongs to the writing goroutine.
	group group
	// sealed is the group that is being written, or nil; spent lends its memory to the next one.
	sealed *Sealed
	spent  group
	// begun is when the first record of the active segment was durable, or the start.
	begun time.Time
	// notBefore is when a segment may be tried to be made again, notBeforeErr why not earlier.
	notBefore    time.Time
	notBeforeErr error
	// small is set when the next record is to begin a segment of the least size.
	small bool
	// generation is that before the first segment, while there is none.
	generation uint64

	work sync.WaitGroup // the goroutine in the background

	// mu protects what follows and the segments' fields. The writing goroutine is the only one that changes chain, next, end and durable, and
	// reads them without it. No file is touched under it.
	mu sync.Mutex
	// chain are the active segment and behind it those that are ready to be written.
	chain []*segment
	// next is the segment that is being made, wanted the same while nobody has begun to.
	next, wanted *preparation
	// end is the place behind the last durable record in chain[0], or the first place of all; durable is the same as a mark, or the mark that
	// the journal was opened with while there is no segment.
	end      int64
	durable  Mark
	segments map[uint64]*segment // those with durable records
	idle     []*segment          // those of them that are open for nobody, the longest idle first
	spares   []spare
	freed    []freedFile
	target   int64 // the size of segments now
	working  bool
	failing  bool // the last segment that was to be made was not
	closed   bool
	failed   error
}

// Open opens the journal in dir, which is made if it is missing (its parent must be durable), and calls each for every record behind from,
// in order. Before each is called for the first time the records are durable, and what a crash left behind them is wiped. A bad record
// that is not the end of the journal is a [Damage]. Segments from before from are kept until Free.
//
// With Options.Salvage, damage is reported and passed over, nothing is wiped, and if there was any the journal goes on in a new segment:
// when the caller has kept what each was given, and [Journal.Durable] as the mark to begin with, it can be opened without Salvage again.
func Open(ctx context.Context, dir string, from Mark, o Options, each func(Record) error) (*Journal, error) {
	j := newJournal(dir, from, o)
	r := &recovery{j: j, from: from, salvage: o.Salvage}
	err := j.list(from)
	if err == nil {
		err = r.run(ctx, each)
	}
	if err != nil {
		return nil, errors.Join(err, j.Close())
	}
	return j, nil
}

func newJournal(dir string, from Mark, o Options) *Journal {
	j := &Journal{
		fs: o.FS, dir: dir, log: o.Logger, now: o.Now,
		maxSpares: cmp.Or(o.Spares, DefaultSpares), minSegment: cmp.Or(o.MinSegment, MinSegment), maxSegment: cmp.Or(o.MaxSegment, MaxSegment),
		reserve: cmp.Or(o.Reserve, Reserve), generation: from.Generation, durable: from, segments: map[uint64]*segment{}, end: headerSize,
	}
	if j.log == nil {
		j.log = slog.New(slog.DiscardHandler)
	}
	if j.now == nil {
		j.now = time.Now
	}
	j.target = j.minSegment
	return j
}

// list finds the files. A crash may have left one that was being made, and a process that was killed a name that is not durable.
func (j *Journal) list(from Mark) error {
	if from.Generation > maxNumber || from.Group > maxNumber || from.Seq > maxNumber {
		return Damage{from, "the mark is out of range"}
	}
	if err := j.fs.Mkdir(j.dir); err != nil {
		return fmt.Errorf("journal: making the directory: %w", err)
	}
	names, err := j.fs.List(j.dir)
	if err != nil {
		return fmt.Errorf("journal: listing the directory: %w", err)
	}
	slices.Sort(names)
	var spares []string
	for _, name := range names {
		generation, suffix, ok := parseName(name)
		switch {
		case !ok:
		case suffix == segmentSuffix:
			j.segments[generation] = &segment{gen: generation, name: name}
		case suffix == spareSuffix:
			spares = append(spares, name)
		case suffix == newSuffix:
			if err := j.fs.Remove(filepath.Join(j.dir, name)); err != nil {
				return fmt.Errorf("journal: removing what a crash left: %w", err)
			}
		}
	}
	for _, name := range spares {
		if err := j.findSpare(name); err != nil {
			return err
		}
	}
	if len(names) == 0 {
		err = j.fs.SyncDir(filepath.Dir(j.dir))
	} else {
		err = j.fs.SyncDir(j.dir)
	}
	if err != nil {
		return fmt.Errorf("journal: %w", &vfs.SyncError{Err: err})
	}
	return nil
}

// findSpare looks at a spare that was found. On a file system whose renames can be cut in the middle it may be a second name of a segment:
// then the name goes, and the file is the segment's alone.
func (j *Journal) findSpare(name string) error {
	generation, _, _ := parseName(name)
	h, bad, err := j.headerOf(name)
	if err != nil {
		return fmt.Errorf("journal: reading a spare: %w", err)
	}
	if _, twice := j.segments[h.generation]; bad == "" && twice {
		if err := j.fs.Remove(filepath.Join(j.dir, name)); err != nil {
			return fmt.Errorf("journal: removing what a crash left: %w", err)
		}
		return nil
	}
	j.addSpare(generation, name)
	return nil
}

// headerOf reads the header of a file; bad says why it has none.
func (j *Journal) headerOf(name string) (h header, bad string, err error) {
	file, err := j.fs.Open(filepath.Join(j.dir, name))
	if err != nil {
		return h, "", err
	}
	b := make([]byte, headerUsed)
	if n, err := file.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return h, "", errors.Join(err, file.Close())
	} else if h, bad = parseHeader(b[:n]); bad != "" {
		h = header{}
	}
	return h, bad, file.Close()
}

// addSpare notes a spare that was found; more than are kept are removed in the background.
func (j *Journal) addSpare(generation uint64, name string) {
	size, err := j.sizeOf(name)
	if err != nil || len(j.spares) >= j.maxSpares || size < j.minSegment {
		j.freed = append(j.freed, freedFile{&segment{gen: generation, name: name}, true})
		return
	}
	j.spares = append(j.spares, spare{name, size})
}

// Close waits for what is under way in the background and closes the files. What was not committed is forgotten. Pins stay readable. It is
// not called while Append or Commit runs.
func (j *Journal) Close() error {
	j.mu.Lock()
	if j.closed {
		j.mu.Unlock()
		return nil
	}
	j.closed = true
	j.mu.Unlock()
	j.work.Wait()
	j.mu.Lock()
	var files []vfs.File
	close := func(s *segment) {
		if s.file != nil && s.pins == 0 {
			files = append(files, s.takeFile())
		}
	}
	chain := j.chain
	j.chain = nil
	for _, s := range chain {
		close(s)
	}
	if j.next != nil && j.next.s != nil {
		close(j.next.s)
	}
	for _, s := range j.segments {
		close(s)
	}
	for _, f := range j.freed {
		if !f.pinned {
			close(f.s)
		}
	}
	j.mu.Unlock()
	var err error
	for _, file := range files {
		err = errors.Join(err, file.Close())
	}
	return err
}
