package journal

import (
	"bytes"
	"path/filepath"
	"testing"

	"latchkey/internal/vfs"
)

const (
	benchBody  = 4096
	benchGroup = 64
)

// BenchmarkGroup writes groups of 64 bodies of 4 KiB, on segments that are new and on such that are used again.
func BenchmarkGroup(b *testing.B) {
	for _, again := range []bool{false, true} {
		name := "new"
		if again {
			name = "again"
		}
		b.Run(name, func(b *testing.B) {
			j, _ := open(b, filepath.Join(b.TempDir(), "journal"), Mark{}, Options{FS: vfs.OS{}})
			defer func() { _ = j.Close() }()
			body, meta := bodyOf(bytes.Repeat([]byte("0123456789abcdef"), benchBody/16)), bytes.Repeat([]byte("m"), 200)
			free := uint64(1)
			run := func() {
				for range benchGroup {
					if _, _, err := j.Append(1, meta, body, false); err != nil {
						b.Fatal(err)
					}
				}
				m, err := j.Commit()
				if err != nil {
					b.Fatal(err)
				}
				for ; again && free+1 < m.Generation; free++ {
					_ = j.Free(free)
				}
			}
			for again && j.Durable().Generation < 12 {
				run()
			}
			b.SetBytes(benchGroup * (benchBody + 200 + frameSize + SumSize))
			b.ReportAllocs()
			b.ResetTimer()
			for b.Loop() {
				run()
			}
		})
	}
}

// BenchmarkGroupInMemory is what is not the device's part of BenchmarkGroup.
func BenchmarkGroupInMemory(b *testing.B) {
	j, _ := open(b, filepath.Join(b.TempDir(), "journal"), Mark{}, Options{FS: vfs.OS{}})
	defer func() { _ = j.Close() }()
	body, meta := bodyOf(bytes.Repeat([]byte("0123456789abcdef"), benchBody/16)), bytes.Repeat([]byte("m"), 200)
	b.SetBytes(benchGroup * (benchBody + 200 + frameSize + SumSize))
	b.ReportAllocs()
	for b.Loop() {
		for range benchGroup {
			if _, _, err := j.Append(1, meta, body, false); err != nil {
				b.Fatal(err)
			}
		}
		j.Discard()
	}
}

// BenchmarkBare writes as many octets with one write and one sync, round and round in one file that was written before.
func BenchmarkBare(b *testing.B) {
	const size = 64 << 20
	group := make([]byte, benchGroup*(benchBody+200+frameSize+SumSize))
	file, err := vfs.OS{}.Create(filepath.Join(b.TempDir(), "bare"))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	off := int64(0)
	run := func() bool {
		if off+int64(len(group)) > size {
			off = 0
		}
		if _, err := file.WriteAt(group, off); err != nil {
			b.Fatal(err)
		}
		if err := file.Sync(); err != nil {
			b.Fatal(err)
		}
		off += int64(len(group))
		return off+int64(len(group)) <= size
	}
	for run() {
	}
	b.SetBytes(int64(len(group)))
	b.ReportAllocs()
	b.ResetTimer()
	for b.Loop() {
		run()
	}
}
