package vfstest

import (
	"os"

	"latchkey/internal/vfs"
)

// Kind names an operation of a vfs.FS or vfs.File.
type Kind string

// The kinds. A commit of an index is two operations: what is written up to and including its pages, and the last sync.
const (
	Mkdir      Kind = "mkdir"
	Create     Kind = "create"
	Open       Kind = "open"
	OpenWrite  Kind = "open for writing"
	OpenIndex  Kind = "open index"
	Rename     Kind = "rename"
	Remove     Kind = "remove"
	List       Kind = "list"
	SyncDir    Kind = "sync directory"
	IndexWrite Kind = "write index"
	IndexSync  Kind = "sync index"
	Read       Kind = "read"
	Write      Kind = "write"
	Allocate   Kind = "allocate"
	Sync       Kind = "sync"
)

// Changes reports whether the operation changes, or makes durable, anything on the device.
func (k Kind) Changes() bool {
	switch k {
	case Open, OpenWrite, OpenIndex, List, Read:
		return false
	}
	return true
}

// IsSync reports whether the operation makes something durable.
func (k Kind) IsSync() bool { return k == Sync || k == SyncDir || k == IndexSync }

// Op is one operation.
type Op struct {
	Kind Kind
	// Name is the complete path that it is about, To the new one of a Rename.
	Name, To string
	// Off and Size are the place and the octets of a Read or Write, Size also the size of an Allocate. Off is -1 for Write without a place.
	Off, Size int64
}

// fails turns an error into what the operation would return.
func (o Op) fails(err error) error {
	switch o.Kind {
	case Create, Open, OpenWrite, OpenIndex, List:
		return &os.PathError{Op: "open", Path: o.Name, Err: err}
	case Rename:
		return &os.LinkError{Op: "rename", Old: o.Name, New: o.To, Err: err}
	case IndexWrite:
		return &os.PathError{Op: "write", Path: o.Name, Err: err}
	case IndexSync:
		return err // bbolt hands the bare number on
	case Allocate:
		return &os.PathError{Op: "fallocate", Path: o.Name, Err: err}
	case SyncDir:
		return &os.PathError{Op: "sync", Path: o.Name, Err: err}
	case Sync:
		return &vfs.SyncError{Err: &os.PathError{Op: "sync", Path: o.Name, Err: err}}
	}
	return &os.PathError{Op: string(o.Kind), Path: o.Name, Err: err}
}

// hook is a vfs.FS that asks before each operation and tells after it.
type hook struct {
	under vfs.FS
	// before may refuse an operation, which is then not done; of a refused Write a half is.
	before func(Op) error
	// after hears how an operation ended. An operation that was refused did not begin.
	after func(Op, error)
}

var _ vfs.FS = (*hook)(nil)

func (h *hook) do(op Op, f func() error) error {
	if err := h.before(op); err != nil {
		return op.fails(err)
	}
	err := f()
	h.after(op, err)
	return err
}

func (h *hook) open(op Op, f func(string) (vfs.File, error)) (file vfs.File, err error) {
	err = h.do(op, func() error {
		inner, err := f(op.Name)
		file = &hookFile{inner, h, op.Name}
		return err
	})
	if err != nil {
		return nil, err
	}
	return file, nil
}

// Mkdir implements vfs.FS.
func (h *hook) Mkdir(name string) error {
	return h.do(Op{Kind: Mkdir, Name: name}, func() error { return h.under.Mkdir(name) })
}

// Create implements vfs.FS.
func (h *hook) Create(name string) (vfs.File, error) {
	return h.open(Op{Kind: Create, Name: name}, h.under.Create)
}

// Open implements vfs.FS.
func (h *hook) Open(name string) (vfs.File, error) {
	return h.open(Op{Kind: Open, Name: name}, h.under.Open)
}

// OpenWrite implements vfs.FS.
func (h *hook) OpenWrite(name string) (vfs.File, error) {
	return h.open(Op{Kind: OpenWrite, Name: name}, h.under.OpenWrite)
}

// OpenIndex implements vfs.FS.
func (h *hook) OpenIndex(name string, flag int, mode os.FileMode) (f *os.File, err error) {
	err = h.do(Op{Kind: OpenIndex, Name: name}, func() (err error) {
		f, err = h.under.OpenIndex(name, flag, mode)
		return err
	})
	return f, err
}

// Rename implements vfs.FS.
func (h *hook) Rename(from, to string) error {
	return h.do(Op{Kind: Rename, Name: from, To: to}, func() error { return h.under.Rename(from, to) })
}

// Remove implements vfs.FS.
func (h *hook) Remove(name string) error {
	return h.do(Op{Kind: Remove, Name: name}, func() error { return h.under.Remove(name) })
}

// List implements vfs.FS.
func (h *hook) List(dir string) (names []string, err error) {
	err = h.do(Op{Kind: List, Name: dir}, func() (err error) {
		names, err = h.under.List(dir)
		return err
	})
	return names, err
}

// SyncDir implements vfs.FS.
func (h *hook) SyncDir(dir string) error {
	return h.do(Op{Kind: SyncDir, Name: dir}, func() error { return h.under.SyncDir(dir) })
}

// Commit implements vfs.FS. It can be refused where bbolt would fail: in the write of a page, with nothing changed, or in a sync, with an
// outcome that nobody knows.
func (h *hook) Commit(name string, commit func() error) error {
	err := h.do(Op{Kind: IndexWrite, Name: name}, func() error { return h.under.Commit(name, commit) })
	if err != nil {
		return err
	}
	return h.do(Op{Kind: IndexSync, Name: name}, func() error { return nil })
}

// hookFile is an open file of a hook.
type hookFile struct {
	vfs.File
	h    *hook
	name string
}

func (f *hookFile) ReadAt(p []byte, off int64) (n int, err error) {
	err = f.h.do(Op{Kind: Read, Name: f.name, Off: off, Size: int64(len(p))}, func() (err error) {
		n, err = f.File.ReadAt(p, off)
		return err
	})
	return n, err
}

func (f *hookFile) Write(p []byte) (int, error) {
	return f.write(p, -1, f.File.Write)
}

func (f *hookFile) WriteAt(p []byte, off int64) (int, error) {
	return f.write(p, off, func(p []byte) (int, error) { return f.File.WriteAt(p, off) })
}

func (f *hookFile) write(p []byte, off int64, write func([]byte) (int, error)) (n int, err error) {
	op := Op{Kind: Write, Name: f.name, Off: off, Size: int64(len(p))}
	if err := f.h.before(op); err != nil {
		n, _ = write(p[:len(p)/2])
		return n, op.fails(err)
	}
	n, err = write(p)
	f.h.after(op, err)
	return n, err
}

func (f *hookFile) Allocate(size int64) error {
	return f.h.do(Op{Kind: Allocate, Name: f.name, Size: size}, func() error { return f.File.Allocate(size) })
}

func (f *hookFile) Sync() error {
	return f.h.do(Op{Kind: Sync, Name: f.name}, f.File.Sync)
}
