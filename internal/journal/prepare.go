package journal

import (
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"latchkey/internal/vfs"
)

const (
	// fastFill and slowFill: a segment that is full sooner or later than that has a successor twice or half as large.
	fastFill = 10 * time.Second
	slowFill = 10 * time.Minute
	// retryDelay is how often a segment is tried to be made when that fails.
	retryDelay = time.Second
	// DefaultSpares is Options.Spares of those that say nothing.
	DefaultSpares = 4
	// RestSpares is how many of the least size Shrink leaves.
	RestSpares = 2
)

// preparation is one segment that is being made ready in the background. Its results are there when done is closed.
type preparation struct {
	gen          uint64
	size, atMost int64 // the least that will do, and what is wanted
	done         chan struct{}
	s            *segment
	err          error
	failed       time.Time // when, if it did
}

// freedFile is a segment that is not needed any more.
type freedFile struct {
	s      *segment
	pinned bool
}

// spare is a file that can become a segment.
type spare struct {
	name string
	size int64
}

// fatal reports whether err says that the device does not keep what it is given.
func fatal(err error) bool { return vfs.IsSync(err) || errors.Is(err, syscall.EIO) }

// prepare starts to make the next segment, of at least size octets.
func (j *Journal) prepare(size int64) error {
	now := j.now()
	if now.Before(j.notBefore) {
		return j.notBeforeErr
	}
	p := &preparation{gen: j.generation + 1, size: size, done: make(chan struct{})}
	want := j.minSegment
	if n := len(j.chain); n > 0 {
		p.gen = j.chain[n-1].gen + 1
		want = min(max(j.chain[0].size, j.minSegment), j.maxSegment)
		if !j.begun.IsZero() {
			want = nextSize(want, max(j.end, j.group.off)-headerSize, now.Sub(j.begun), j.minSegment, j.maxSegment)
		}
	}
	if j.small {
		want = j.minSegment
	}
	p.size = roundUp(max(size, min(want, j.minSegment)))
	p.atMost = max(p.size, roundUp(want))
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return ErrClosed
	}
	j.next, j.wanted, j.target = p, p, want
	j.startWork()
	return nil
}

// startWork is called with mu held when there is something to do in the background.
func (j *Journal) startWork() {
	if !j.working {
		j.working = true
		j.work.Go(j.background)
	}
}

// background does what has to be done and ends; a segment that somebody may wait for comes first.
func (j *Journal) background() {
	for {
		j.mu.Lock()
		p := j.wanted
		j.wanted = nil
		var f freedFile
		if p == nil && len(j.freed) > 0 && !j.closed {
			f = j.freed[0]
			j.freed = slices.Delete(j.freed, 0, 1)
		}
		if p == nil && f.s == nil {
			j.working = false
			j.mu.Unlock()
			return
		}
		j.mu.Unlock()
		if p != nil {
			p.s, p.err = j.makeSegment(p)
			p.failed = j.now()
			j.report(p.err)
			close(p.done)
			continue
		}
		j.dispose(f)
	}
}

// report logs that segments cannot be made, once, and that they can again.
func (j *Journal) report(err error) {
	j.mu.Lock()
	failedBefore := j.failing
	j.failing = err != nil
	j.mu.Unlock()
	switch {
	case err != nil && !failedBefore:
		j.log.Error("the journal's next segment cannot be made", "error", err)
	case err == nil && failedBefore:
		j.log.Info("the journal's next segment could be made again")
	}
}

// dispose makes a freed segment's file a spare, or removes it.
func (j *Journal) dispose(f freedFile) {
	s := f.s
	if !f.pinned {
		j.mu.Lock()
		file := s.takeFile()
		j.mu.Unlock()
		if file != nil {
			_ = file.Close() // only read through this, or synced before
		}
		if j.keep(s) {
			return
		}
	}
	if err := j.fs.Remove(filepath.Join(j.dir, s.name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		j.log.Error("a segment of the journal cannot be removed", "file", s.name, "error", err)
	}
}

// keep makes a file a spare, if it is worth it: it has the size that is wanted at most, and there are not enough others, or a smaller one that
// goes instead.
func (j *Journal) keep(s *segment) bool {
	size, err := j.sizeOf(s.name)
	j.mu.Lock()
	worth := err == nil && size >= j.minSegment && size <= max(j.target, j.minSegment)
	if worth && len(j.spares) >= j.maxSpares {
		worth = j.dropSmaller(size)
	}
	j.mu.Unlock()
	if !worth {
		return false
	}
	name := fileName(s.gen, spareSuffix)
	if err := j.fs.Rename(filepath.Join(j.dir, s.name), filepath.Join(j.dir, name)); err != nil {
		j.log.Error("a segment of the journal cannot be renamed", "file", s.name, "error", err)
		return false
	}
	j.mu.Lock()
	j.spares = append(j.spares, spare{name, size})
	j.mu.Unlock()
	return true
}

// dropSmaller gives up the smallest spare if it is smaller than size octets. It is called with mu held, in the background.
func (j *Journal) dropSmaller(size int64) bool {
	if len(j.spares) == 0 {
		return false
	}
	smallest := slices.MinFunc(j.spares, func(a, b spare) int { return cmp.Compare(a.size, b.size) })
	if smallest.size >= size {
		return false
	}
	j.spares = slices.DeleteFunc(j.spares, func(s spare) bool { return s.name == smallest.name })
	j.freed = append(j.freed, freedFile{&segment{name: smallest.name}, true})
	return true
}

// makeSegment makes a segment of a spare or of nothing. It is durable, under its name, when makeSegment returns.
func (j *Journal) makeSegment(p *preparation) (*segment, error) {
	s := &segment{gen: p.gen, name: fileName(p.gen, segmentSuffix)}
	var random [stampSize]byte
	if _, err := rand.Read(random[:]); err != nil {
		return nil, err
	}
	s.stamp = binary.BigEndian.Uint64(random[:])
	old := j.takeSpare(p.atMost)
	var err error
	if old.name != "" {
		if err = j.reuse(s, old, p); err != nil && !fatal(err) {
			j.mu.Lock()
			j.spares = append(j.spares, old)
			j.mu.Unlock()
		}
	} else if err = j.create(s, p.atMost); vfs.IsNoSpace(err) && !fatal(err) && p.size < p.atMost {
		err = j.create(s, p.size)
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// takeSpare returns the largest spare of at most the given size, if there is any. Those that are larger are removed: traffic is less now.
func (j *Journal) takeSpare(atMost int64) (best spare) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.spares = slices.DeleteFunc(j.spares, func(s spare) bool {
		if s.size > atMost {
			j.freed = append(j.freed, freedFile{&segment{name: s.name}, true})
		}
		return s.size > atMost
	})
	for i, s := range j.spares {
		if s.size > best.size {
			best, j.spares[i] = s, best
		}
	}
	j.spares = slices.DeleteFunc(j.spares, func(s spare) bool { return s.name == "" })
	return best
}

// reuse makes a spare a segment. The name of a spare must be durable before its header is overwritten: a segment whose header cannot be
// read is damage.
func (j *Journal) reuse(s *segment, old spare, p *preparation) error {
	if err := j.syncDir(); err != nil {
		return err
	}
	name := filepath.Join(j.dir, old.name)
	file, err := j.fs.OpenWrite(name)
	if err != nil {
		return err
	}
	s.file, s.size = file, old.size
	if s.size < p.atMost {
		err = file.Allocate(p.atMost)
		switch {
		case err == nil:
			s.size = p.atMost
		case vfs.IsNoSpace(err) && !fatal(err) && s.size >= p.size:
			err = nil
		}
	}
	if err == nil {
		err = j.finish(s, name)
	}
	if err != nil {
		return errors.Join(err, file.Close())
	}
	return nil
}

// create makes a new file a segment.
func (j *Journal) create(s *segment, size int64) error {
	name := filepath.Join(j.dir, fileName(s.gen, newSuffix))
	file, err := j.fs.Create(name)
	if err != nil {
		return err
	}
	s.file, s.size = file, size
	if err = file.Allocate(size); err == nil {
		err = j.finish(s, name)
	}
	if err != nil {
		return errors.Join(err, file.Close(), j.fs.Remove(name))
	}
	return nil
}

// finish writes a segment's header and gives the file its name, durably.
func (j *Journal) finish(s *segment, name string) error {
	if _, err := s.file.WriteAt(header{s.gen, s.stamp}.encode(), 0); err != nil {
		return err
	}
	if err := s.file.Sync(); err != nil {
		return err
	}
	if err := j.fs.Rename(name, filepath.Join(j.dir, s.name)); err != nil {
		return err
	}
	return j.syncDir()
}

// syncDir makes the directory's entries durable; its failure is that of a sync.
func (j *Journal) syncDir() error {
	if err := j.fs.SyncDir(j.dir); err != nil {
		return &vfs.SyncError{Err: err}
	}
	return nil
}
