package boltstore

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"latchkey/store"
)

// Modes of what the data directory holds: nobody but the server's user reads mail.
const (
	dirMode  = 0o700
	fileMode = 0o600
)

// fileSystem is everything that the engine asks of the file system. Tests put one in its place that fails or loses power at a
// chosen step. Names are complete paths.
type fileSystem interface {
	// Mkdir makes a directory and its parents; one that is there is no error.
	Mkdir(name string) error
	// Create makes a file that must not be there, for writing and reading.
	Create(name string) (file, error)
	// Open opens a file for reading.
	Open(name string) (file, error)
	// OpenIndex opens a file for bbolt, which does its own input and output on it.
	OpenIndex(name string, flag int, mode os.FileMode) (*os.File, error)
	Rename(from, to string) error
	Remove(name string) error
	// List returns the names in a directory, in no order.
	List(dir string) ([]string, error)
	// SyncDir makes the entries of a directory durable.
	SyncDir(dir string) error
	// Commit runs the commit of one index transaction: bbolt writes pages, syncs, writes a meta page and syncs again.
	Commit(commit func() error) error
}

// file is one open file of a fileSystem.
type file interface {
	io.Writer
	io.ReaderAt
	// Sync makes the content and the length durable.
	Sync() error
	Size() (int64, error)
	Close() error
}

// osFS is the real file system.
type osFS struct{}

type osFile struct{ *os.File }

func (osFS) Mkdir(name string) error { return os.MkdirAll(name, dirMode) }

func (osFS) Create(name string) (file, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) Open(name string) (file, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) OpenIndex(name string, flag int, mode os.FileMode) (*os.File, error) {
	return os.OpenFile(name, flag, mode)
}

func (osFS) Rename(from, to string) error { return os.Rename(from, to) }

func (osFS) Remove(name string) error { return os.Remove(name) }

func (osFS) List(dir string) (names []string, err error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	return d.Readdirnames(-1)
}

func (osFS) SyncDir(dir string) (err error) {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	return d.Sync()
}

func (osFS) Commit(commit func() error) error { return commit() }

func (f osFile) Sync() error { return syncData(f.File) }

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// syncError marks an error of a sync, after which nothing is known about what the device holds. A sync is never tried again: the
// kernel reports a failed write-back once and may have dropped the pages.
type syncError struct{ err error }

func (e *syncError) Error() string { return "sync: " + e.err.Error() }

func (e *syncError) Unwrap() error { return e.err }

// isNoSpace reports whether err says that the device, or the user's share of it, is full.
func isNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// writeFailed classifies an error of a write, create or rename that was not a sync: a full device is a state that passes and is
// store.ErrNoSpace, an input/output error is the device's end and poisons, anything else (too many open files) fails this one verb.
func (s *Store) writeFailed(err error) error {
	var failedSync *syncError
	switch {
	case errors.As(err, &failedSync), errors.Is(err, syscall.EIO):
		return s.poison(err)
	case isNoSpace(err):
		return fmt.Errorf("%w: %w", store.ErrNoSpace, err)
	}
	return err
}

// commitFailed classifies an error of an index commit. Only a full device met while pages were written is known to have changed
// nothing; a sync returns a bare error number and not a *fs.PathError, and everything else leaves it open what the device holds.
func (s *Store) commitFailed(err error) error {
	var failedSync *syncError
	var failedWrite *fs.PathError
	if isNoSpace(err) && !errors.As(err, &failedSync) && errors.As(err, &failedWrite) && failedWrite.Op == "write" {
		return fmt.Errorf("%w: %w", store.ErrNoSpace, err)
	}
	return s.poison(err)
}
