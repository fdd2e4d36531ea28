package vfs

import (
	"errors"
	"os"
	"syscall"
)

// syncData makes a file's content and length durable, but not its times. Only an interrupted call, which did nothing, is repeated.
func syncData(f *os.File) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var syncErr error
	err = conn.Control(func(fd uintptr) {
		for {
			if syncErr = syscall.Fdatasync(int(fd)); !errors.Is(syncErr, syscall.EINTR) {
				return
			}
		}
	})
	return errors.Join(err, syncErr)
}

// allocate reserves blocks; a file system that cannot is given zeros.
func allocate(f *os.File, size int64) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var allocErr error
	err = conn.Control(func(fd uintptr) {
		for {
			if allocErr = syscall.Fallocate(int(fd), 0, 0, size); !errors.Is(allocErr, syscall.EINTR) {
				return
			}
		}
	})
	if err == nil && (errors.Is(allocErr, syscall.EOPNOTSUPP) || errors.Is(allocErr, syscall.ENOSYS)) {
		return zeroFill(f, size)
	}
	if allocErr != nil {
		allocErr = &os.PathError{Op: "fallocate", Path: f.Name(), Err: allocErr}
	}
	return errors.Join(err, allocErr)
}
