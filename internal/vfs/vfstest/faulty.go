package vfstest

import (
	"os"
	"sync"
	"syscall"

	"latchkey/internal/vfs"
)

// Faulty is a vfs.FS of which one operation, or every one from it on, fails. Only operations that change something are counted and can
// fail, in the order in which they begin: see [Kind.Changes].
type Faulty struct {
	hook

	mu    sync.Mutex
	steps int
	at    int
	once  bool
	fault func(Op) error
	hit   Op
}

var _ vfs.FS = (*Faulty)(nil)

// NewFaulty returns an FS on under whose operation number at (from 1; 0 is none) fails with what fault says, and every later one too
// unless once is set. A fault of nil lets the operation pass. The errors come in the form of the operating system's, and of a refused
// Write a half is written.
func NewFaulty(under vfs.FS, at int, once bool, fault func(Op) error) *Faulty {
	f := &Faulty{at: at, once: once, fault: fault}
	f.hook = hook{under: under, before: f.step, after: func(Op, error) {}}
	return f
}

// FailNow makes the next operation fail, and every later one.
func (f *Faulty) FailNow() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at, f.once = f.steps+1, false
}

// Steps returns how many operations there were.
func (f *Faulty) Steps() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.steps
}

// Hit returns what failed first; ok is false if nothing did.
func (f *Faulty) Hit() (op Op, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hit, f.hit.Kind != ""
}

func (f *Faulty) step(op Op) error {
	if !op.Kind.Changes() {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.steps++
	if f.at == 0 || f.steps < f.at || f.once && f.steps > f.at {
		return nil
	}
	err := f.fault(op)
	if err != nil && f.hit.Kind == "" {
		f.hit = op
	}
	return err
}

// IndexCost is what one commit of an index takes of the room of a [Full] device, in octets.
const IndexCost = 16 << 10

// Full is a vfs.FS on a device with little room. What makes a file longer takes from it, a write as far as it goes; a removed file gives
// its length back at once; every commit of an index takes IndexCost. The zero value, with Under set, has all the room of the world.
type Full struct {
	Under vfs.FS // nil is vfs.OS

	mu    sync.Mutex
	bound bool
	room  int64
}

var _ vfs.FS = (*Full)(nil)

// SetRoom leaves so many octets; -1 ends all bounds.
func (f *Full) SetRoom(octets int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.bound, f.room = octets >= 0, octets
}

// take takes up to n octets and returns how many there were.
func (f *Full) take(n int64) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.bound || n <= 0 {
		return n
	}
	n = min(n, f.room)
	f.room -= n
	return n
}

func (f *Full) give(n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.room += n
}

func (f *Full) under() vfs.FS {
	if f.Under == nil {
		return vfs.OS{}
	}
	return f.Under
}

// Mkdir implements vfs.FS.
func (f *Full) Mkdir(name string) error { return f.under().Mkdir(name) }

// Create implements vfs.FS.
func (f *Full) Create(name string) (vfs.File, error) { return f.open(f.under().Create, name) }

// Open implements vfs.FS.
func (f *Full) Open(name string) (vfs.File, error) { return f.under().Open(name) }

// OpenWrite implements vfs.FS.
func (f *Full) OpenWrite(name string) (vfs.File, error) { return f.open(f.under().OpenWrite, name) }

// OpenIndex implements vfs.FS.
func (f *Full) OpenIndex(name string, flag int, mode os.FileMode) (*os.File, error) {
	return f.under().OpenIndex(name, flag, mode)
}

// Rename implements vfs.FS.
func (f *Full) Rename(from, to string) error { return f.under().Rename(from, to) }

// Remove implements vfs.FS.
func (f *Full) Remove(name string) error {
	var size int64
	if file, err := f.under().Open(name); err == nil {
		size, _ = file.Size()
		_ = file.Close() // it was opened for its size
	}
	err := f.under().Remove(name)
	if err == nil {
		f.give(size)
	}
	return err
}

// List implements vfs.FS.
func (f *Full) List(dir string) ([]string, error) { return f.under().List(dir) }

// SyncDir implements vfs.FS.
func (f *Full) SyncDir(dir string) error { return f.under().SyncDir(dir) }

// Commit implements vfs.FS.
func (f *Full) Commit(name string, commit func() error) error {
	if n := f.take(IndexCost); n < IndexCost {
		f.give(n)
		return Op{Kind: IndexWrite, Name: name}.fails(syscall.ENOSPC)
	}
	return f.under().Commit(name, commit)
}

func (f *Full) open(open func(string) (vfs.File, error), name string) (vfs.File, error) {
	inner, err := open(name)
	if err != nil {
		return nil, err
	}
	return &fullFile{File: inner, f: f, name: name}, nil
}

// fullFile is an open file of a Full. What several of one file write at once may be counted twice.
type fullFile struct {
	vfs.File
	f    *Full
	name string
	off  int64
}

func (f *fullFile) Write(p []byte) (int, error) {
	n, err := f.WriteAt(p, f.off)
	f.off += int64(n)
	return n, err
}

func (f *fullFile) WriteAt(p []byte, off int64) (int, error) {
	size, err := f.Size()
	if err != nil {
		return 0, err
	}
	more := max(0, off+int64(len(p))-size)
	got := f.f.take(more)
	n, err := f.File.WriteAt(p[:max(0, int64(len(p))-(more-got))], off)
	if err == nil && got < more {
		err = Op{Kind: Write, Name: f.name}.fails(syscall.ENOSPC)
	}
	return n, err
}

func (f *fullFile) Allocate(size int64) error {
	have, err := f.Size()
	if err != nil {
		return err
	}
	more := max(0, size-have)
	if got := f.f.take(more); got < more {
		f.f.give(got)
		return Op{Kind: Allocate, Name: f.name}.fails(syscall.ENOSPC)
	}
	return f.File.Allocate(size)
}
