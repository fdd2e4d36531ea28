package journal

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"latchkey/internal/vfs"
)

// idleFiles bounds the files that are open though nothing has them pinned, besides those that are written.
const idleFiles = 4

// Names of files: what a file is; its header says which segment it is, and both must agree.
const (
	segmentSuffix = ".seg"
	spareSuffix   = ".spare" // of a freed segment, whatever the header says
	newSuffix     = ".new"   // being made
)

// fileName is the name of a generation's file.
func fileName(generation uint64, suffix string) string {
	return fmt.Sprintf("%016x%s", generation, suffix)
}

// parseName is the opposite of fileName; ok is false for other files.
func parseName(name string) (generation uint64, suffix string, ok bool) {
	digits, suffix, found := strings.Cut(name, ".")
	suffix = "." + suffix
	generation, err := strconv.ParseUint(digits, 16, 64)
	if !found || err != nil || generation == 0 || generation > maxNumber || name != fileName(generation, suffix) {
		return 0, "", false
	}
	return generation, suffix, true
}

// segment is one segment's file. Journal.mu protects file, pins, gone and size; of those that are being written only the writing goroutine
// changes file and size.
type segment struct {
	gen   uint64
	stamp uint64
	name  string // in the directory
	file  vfs.File
	// size is the file's length, 0 if it is not known yet.
	size int64
	pins int
	gone bool // freed: the last pin closes it
}

// Pin is a segment that stays readable.
type Pin struct {
	j *Journal
	s *segment
}

// Pin keeps a segment readable until the pin is released, even if it is freed meanwhile. ErrGone if there is none of this generation with
// a durable record.
func (j *Journal) Pin(generation uint64) (*Pin, error) {
	j.mu.Lock()
	s := j.segments[generation]
	switch {
	case j.closed:
		j.mu.Unlock()
		return nil, ErrClosed
	case s == nil:
		j.mu.Unlock()
		return nil, ErrGone
	}
	s.pins++
	if i := slices.Index(j.idle, s); i >= 0 {
		j.idle = slices.Delete(j.idle, i, i+1)
	}
	ready := s.file != nil
	j.mu.Unlock()
	p := &Pin{j, s}
	if ready {
		return p, nil
	}
	file, err := j.fs.Open(filepath.Join(j.dir, s.name))
	if err != nil {
		p.Release()
		if errors.Is(err, fs.ErrNotExist) {
			return nil, ErrGone
		}
		return nil, fmt.Errorf("journal: opening a segment: %w", err)
	}
	j.mu.Lock()
	if s.file == nil {
		s.file, file = file, nil
	}
	j.mu.Unlock()
	if file != nil { // another pin was faster
		_ = file.Close() // it was only to be read
	}
	return p, nil
}

// ReadAt implements io.ReaderAt on the segment's file.
func (p *Pin) ReadAt(b []byte, off int64) (int, error) { return p.s.file.ReadAt(b, off) }

// Release ends the pin; it is called once.
func (p *Pin) Release() {
	j := p.j
	j.mu.Lock()
	p.s.pins--
	file := j.rest(p.s)
	j.mu.Unlock()
	if file != nil {
		_ = file.Close() // only read through this, or synced before
	}
}

// rest is called with mu held when a segment may have become idle; it returns a file to be closed, or nil.
func (j *Journal) rest(s *segment) vfs.File {
	if s.pins > 0 || s.file == nil || slices.Contains(j.chain, s) {
		return nil
	}
	if s.gone || j.closed {
		return s.takeFile()
	}
	if slices.Contains(j.idle, s) {
		return nil
	}
	j.idle = append(j.idle, s)
	if len(j.idle) <= idleFiles {
		return nil
	}
	oldest := j.idle[0]
	j.idle = slices.Delete(j.idle, 0, 1)
	return oldest.takeFile()
}

// takeFile returns the file, which the segment has no longer.
func (s *segment) takeFile() vfs.File {
	file := s.file
	s.file = nil
	return file
}

// Free says that nothing in a segment is needed any more, and that this is durable. If nothing has it pinned, its file is used again or
// removed; a pinned one is removed with its descriptor kept. All of that happens in the background, and a crash before it is done leaves
// the segment. The active segment is not freed. An unknown one is no error.
func (j *Journal) Free(generation uint64) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return ErrClosed
	}
	s := j.segments[generation]
	if s == nil || slices.Contains(j.chain, s) {
		return nil
	}
	delete(j.segments, generation)
	if i := slices.Index(j.idle, s); i >= 0 {
		j.idle = slices.Delete(j.idle, i, i+1)
	}
	s.gone = true
	j.freed = append(j.freed, freedFile{s, s.pins > 0})
	j.startWork()
	return nil
}

// Segments returns what is there, in order of generation, and the number and octets of spares. Files that are ready to be written next
// count as spares.
func (j *Journal) Segments() (list []Info, spares int, spareOctets int64) {
	j.learnSizes()
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, s := range j.segments {
		info := Info{Generation: s.gen, Name: s.name, Size: s.size, Used: s.size}
		if len(j.chain) > 0 && s == j.chain[0] {
			info.Active, info.Used = true, j.end
		}
		list = append(list, info)
	}
	slices.SortFunc(list, func(a, b Info) int { return cmp.Compare(a.Generation, b.Generation) })
	for _, s := range j.spares {
		spares, spareOctets = spares+1, spareOctets+s.size
	}
	for i, s := range j.chain {
		if i > 0 || j.segments[s.gen] == nil {
			spares, spareOctets = spares+1, spareOctets+s.size
		}
	}
	if n := j.next; n != nil {
		select {
		case <-n.done:
			if n.err == nil {
				spares, spareOctets = spares+1, spareOctets+n.s.size
			}
		default:
		}
	}
	return list, spares, spareOctets
}

// learnSizes looks at the files of segments that nobody has touched since the start.
func (j *Journal) learnSizes() {
	j.mu.Lock()
	var strangers []*segment
	for _, s := range j.segments {
		if s.size == 0 {
			strangers = append(strangers, s)
		}
	}
	j.mu.Unlock()
	for _, s := range strangers {
		size, err := j.sizeOf(s.name)
		if err != nil {
			if !errors.Is(err, fs.ErrNotExist) { // else it was freed meanwhile
				j.log.Error("a segment of the journal cannot be opened", "file", s.name, "error", err)
			}
			continue
		}
		j.mu.Lock()
		s.size = size
		j.mu.Unlock()
	}
}

// sizeOf returns a file's length.
func (j *Journal) sizeOf(name string) (size int64, err error) {
	file, err := j.fs.Open(filepath.Join(j.dir, name))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	return file.Size()
}
