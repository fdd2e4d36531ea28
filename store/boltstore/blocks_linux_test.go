package boltstore

import "syscall"

// blocksOf is what a file takes on the device, holes left out.
func blocksOf(path string) int64 {
	const sector = 512
	var st syscall.Stat_t
	if syscall.Lstat(path, &st) != nil {
		return 0 // removed meanwhile
	}
	return st.Blocks * sector
}
