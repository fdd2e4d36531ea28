//go:build !linux

package boltstore

import "os"

// blocksOf is the length of a file: what it takes on the device is not known here.
func blocksOf(path string) int64 {
	info, err := os.Lstat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}
