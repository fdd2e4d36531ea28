//go:build !linux

package vfs

import "os"

// syncData makes a file's content and length durable.
func syncData(f *os.File) error { return f.Sync() }

func allocate(f *os.File, size int64) error { return zeroFill(f, size) }
