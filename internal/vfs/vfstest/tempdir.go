package vfstest

import (
	"os"
	"testing"
)

// memoryDir is where Linux keeps files in memory.
const memoryDir = "/dev/shm"

// TempDir is tb.TempDir, but in memory where the system has such a place: what a [Disk] keeps needs no real device, and thousands of
// power cuts are much quicker without one.
func TempDir(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp(memoryDir, "latchkey-test-")
	if err != nil {
		return tb.TempDir()
	}
	tb.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			tb.Error(err)
		}
	})
	return dir
}
