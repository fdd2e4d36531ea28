package vfstest

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"latchkey/internal/vfs"
)

// shadow is what a test knows of one file: what is durable, and every octet that its unsynced writes may have left at each place.
type shadow struct {
	named  bool // its name is durable
	synced []byte
	live   []byte
	maybe  map[int64][]byte // octets that may be at a place instead
	most   int64            // the greatest length since the last sync
}

func (s *shadow) write(p []byte, off int64) {
	for i, b := range p {
		s.maybe[off+int64(i)] = append(s.maybe[off+int64(i)], b)
	}
	s.grow(off + int64(len(p)))
	copy(s.live[off:], p)
}

func (s *shadow) grow(size int64) {
	if more := size - int64(len(s.live)); more > 0 {
		s.live = append(s.live, make([]byte, more)...)
	}
	s.most = max(s.most, int64(len(s.live)))
}

func (s *shadow) sync() {
	s.synced = append([]byte(nil), s.live...)
	s.maybe, s.most = make(map[int64][]byte), int64(len(s.live))
}

// judge says what is wrong with what was left of the file.
func (s *shadow) judge(left string, there bool) error {
	if !there {
		if s.named {
			return fmt.Errorf("a durable name is lost")
		}
		return nil
	}
	if n := int64(len(left)); n < int64(len(s.synced)) || n > s.most {
		return fmt.Errorf("length %d, want %d to %d", n, len(s.synced), s.most)
	}
	for i := range left {
		var was byte
		if i < len(s.synced) {
			was = s.synced[i]
		}
		ok := left[i] == was
		for _, b := range s.maybe[int64(i)] {
			ok = ok || left[i] == b
		}
		if !ok {
			return fmt.Errorf("octet %d is %q, want %q or one of %q", i, left[i], was, s.maybe[int64(i)])
		}
	}
	return nil
}

// play does random things to files until the power goes, and notes what must be left in files by name, if that is not nil.
func play(d *Disk, dir, prefix string, rng *rand.Rand, files map[string]*shadow) {
	if files == nil {
		files = make(map[string]*shadow)
	}
	open := make(map[string]vfs.File)
	defer func() {
		for _, f := range open {
			_ = f.Close()
		}
	}()
	var names []string
	for i := range 10_000 {
		if len(names) == 0 || rng.IntN(12) == 0 {
			name := fmt.Sprintf("%s/%s%d", dir, prefix, i)
			files[name] = &shadow{maybe: make(map[int64][]byte)}
			f, err := d.Create(name)
			if err != nil {
				return
			}
			names, open[name] = append(names, name), f
		}
		name := names[rng.IntN(len(names))]
		if !touch(d, dir, name, open[name], rng, files) {
			return
		}
	}
}

// touch does one thing; false if the power is gone. What a step did before the power went counts as tried.
func touch(d *Disk, dir, name string, f vfs.File, rng *rand.Rand, files map[string]*shadow) bool {
	s := files[name]
	p := make([]byte, 1+rng.IntN(2000))
	for i := range p {
		p[i] = byte('a' + rng.IntN(26))
	}
	switch rng.IntN(8) {
	case 0, 1, 2:
		off := rng.Int64N(5000)
		s.write(p, off)
		_, err := f.WriteAt(p, off)
		return err == nil
	case 3:
		size := rng.Int64N(8000)
		s.grow(size)
		return f.Allocate(size) == nil
	case 4, 5:
		if f.Sync() != nil {
			return false
		}
		s.sync()
	case 6:
		if d.SyncDir(dir) != nil {
			return false
		}
		for _, s := range files {
			s.named = true
		}
	case 7: // read what is there now
		b := make([]byte, len(s.live))
		if _, err := f.ReadAt(b, 0); err != nil && !d.Dead() || err == nil && string(b) != string(s.live) {
			panic(fmt.Sprintf("%s does not hold what was written: %v", name, err))
		}
	}
	return true
}

// TestModel: what is left is what was synced, but for octets that were written since; over three cuts.
func TestModel(t *testing.T) {
	for seed := range uint64(seeds / 4) {
		rng := rand.New(rand.NewPCG(seed, 3))
		dir := TempDir(t)
		files := make(map[string]*shadow)
		for cut := range 3 {
			d := NewDisk(t, dir, seed, 1+rng.IntN(80))
			play(d, dir, string(rune('a'+cut)), rng, files)
			left := TempDir(t)
			d.Restore(left)
			found := tree(t, left)
			next := make(map[string]*shadow)
			for name, s := range files {
				rel := name[len(dir)+1:]
				content, there := found[rel]
				if err := s.judge(content, there); err != nil {
					t.Fatalf("seed %d, %s, last step %+v: %v", seed, rel, d.Last(), err)
				}
				if there {
					is := &shadow{named: true, live: []byte(content)}
					is.sync()
					next[left+"/"+rel] = is
				}
				delete(found, rel)
			}
			if len(found) > 0 {
				t.Fatalf("seed %d: %d files that nobody made", seed, len(found))
			}
			dir, files = left, next
		}
	}
}

// BenchmarkDisk writes groups into a large preallocated file: the cost must not depend on its length.
func BenchmarkDisk(b *testing.B) {
	for _, size := range []int64{1 << 20, 64 << 20} {
		b.Run(fmt.Sprintf("of %d MiB", size>>20), func(b *testing.B) {
			dir := TempDir(b)
			d := NewDisk(b, dir, 1, 0)
			f, err := d.Create(dir + "/segment")
			if err == nil {
				err = f.Allocate(size)
			}
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = f.Close() }()
			group := make([]byte, 16<<10)
			for i := 0; b.Loop(); i++ {
				off := int64(i) * 8 << 10 % (size - int64(len(group)))
				if _, err := f.WriteAt(group, off); err != nil {
					b.Fatal(err)
				}
				if err := f.Sync(); err != nil {
					b.Fatal(err)
				}
			}
			if err := os.Remove(dir + "/segment"); err != nil {
				b.Fatal(err)
			}
		})
	}
}
