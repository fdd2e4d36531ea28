package boltstore

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
