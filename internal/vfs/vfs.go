package vfs

import (
	"errors"
	"io"
	"os"
	"syscall"
)

// Modes of what the data directory holds: nobody but the server's user reads mail.
const (
	DirMode  = 0o700
	FileMode = 0o600
)

// FS is everything that the engine asks of the file system. Names are complete paths. All methods may be called from any goroutine.
type FS interface {
	// Mkdir makes a directory and its parents; one that is there is no error.
	Mkdir(name string) error
	// Create makes a file that must not be there, for writing and reading.
	Create(name string) (File, error)
	// Open opens a file for reading.
	Open(name string) (File, error)
	// OpenWrite opens a file that is there for reading and writing.
	OpenWrite(name string) (File, error)
	// OpenIndex opens a file for bbolt, which does its own input and output on it.
	OpenIndex(name string, flag int, mode os.FileMode) (*os.File, error)
	Rename(from, to string) error
	Remove(name string) error
	// List returns the names in a directory, in no order.
	List(dir string) ([]string, error)
	// SyncDir makes the entries of a directory durable.
	SyncDir(dir string) error
	// Commit runs the commit of one transaction of the index file name: bbolt writes pages, syncs, writes a meta page and syncs again.
	Commit(name string, commit func() error) error
}

// File is one open file of an [FS]. ReadAt and WriteAt may be called from any goroutine.
type File interface {
	io.Writer
	io.ReaderAt
	io.WriterAt
	// Allocate reserves space for the first size octets, so that writing there cannot find the device full. The file is then at least
	// size octets long, and what was never written reads as zeros. An error that IsNoSpace knows means that nothing was gained.
	Allocate(size int64) error
	// Sync makes the content and the length durable. It is never tried again after an error: see SyncError.
	Sync() error
	Size() (int64, error)
	Close() error
}

// OS is the real file system.
type OS struct{}

type osFile struct{ *os.File }

var _ FS = OS{}

// Mkdir implements FS.
func (OS) Mkdir(name string) error { return os.MkdirAll(name, DirMode) }

// Create implements FS.
func (OS) Create(name string) (File, error) {
	return openFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL)
}

// Open implements FS.
func (OS) Open(name string) (File, error) { return openFile(name, os.O_RDONLY) }

// OpenWrite implements FS.
func (OS) OpenWrite(name string) (File, error) { return openFile(name, os.O_RDWR) }

func openFile(name string, flag int) (File, error) {
	f, err := os.OpenFile(name, flag, FileMode)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

// OpenIndex implements FS.
func (OS) OpenIndex(name string, flag int, mode os.FileMode) (*os.File, error) {
	return os.OpenFile(name, flag, mode)
}

// Rename implements FS.
func (OS) Rename(from, to string) error { return os.Rename(from, to) }

// Remove implements FS.
func (OS) Remove(name string) error { return os.Remove(name) }

// List implements FS.
func (OS) List(dir string) (names []string, err error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	return d.Readdirnames(-1)
}

// SyncDir implements FS.
func (OS) SyncDir(dir string) (err error) {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	return d.Sync()
}

// Commit implements FS.
func (OS) Commit(_ string, commit func() error) error { return commit() }

func (f osFile) Allocate(size int64) error { return allocate(f.File, size) }

func (f osFile) Sync() error {
	if err := syncData(f.File); err != nil {
		return &SyncError{err}
	}
	return nil
}

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// SyncError marks an error of a sync, after which nothing is known about what the device holds. A sync is never tried again: the
// kernel reports a failed write-back once and may have dropped the pages.
type SyncError struct{ Err error }

func (e *SyncError) Error() string { return "sync: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *SyncError) Unwrap() error { return e.Err }

// IsSync reports whether err came from a sync.
func IsSync(err error) bool {
	var failed *SyncError
	return errors.As(err, &failed)
}

// IsNoSpace reports whether err says that the device, or the user's share of it, is full.
func IsNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// zeroFill is Allocate where the file system cannot reserve: it writes zeros behind the end.
func zeroFill(f *os.File, size int64) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	const piece = 256 << 10
	zeros := make([]byte, piece)
	for off := info.Size(); off < size; off += piece {
		if _, err := f.WriteAt(zeros[:min(piece, size-off)], off); err != nil {
			return err
		}
	}
	return nil
}
