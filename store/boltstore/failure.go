package boltstore

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"latchkey/internal/vfs"
	"latchkey/store"
)

// writeFailed classifies an error of a write, create or rename that was not a sync: a full device is a state that passes and is
// store.ErrNoSpace, an input/output error is the device's end and poisons, anything else (too many open files) fails this one verb.
func (s *Store) writeFailed(err error) error {
	switch {
	case vfs.IsSync(err), errors.Is(err, syscall.EIO):
		return s.poison(err)
	case vfs.IsNoSpace(err):
		return fmt.Errorf("%w: %w", store.ErrNoSpace, err)
	}
	return err
}

// commitFailed classifies an error of an index commit. Only a full device met while pages were written is known to have changed
// nothing; a sync returns a bare error number and not a *fs.PathError, and everything else leaves it open what the device holds.
func (s *Store) commitFailed(err error) error {
	var failedWrite *fs.PathError
	if vfs.IsNoSpace(err) && !vfs.IsSync(err) && errors.As(err, &failedWrite) && failedWrite.Op == "write" {
		return fmt.Errorf("%w: %w", store.ErrNoSpace, err)
	}
	return s.poison(err)
}
