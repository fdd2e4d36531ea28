package vfstest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"syscall"

	"latchkey/internal/vfs"
)

// Of bbolt's file: its first two pages are the meta pages.
const metaPages = 2

// comparePiece is how much of an index is compared at once, in octets.
const comparePiece = 256 << 10

// index is what the device has of a file that bbolt writes by itself.
type index struct {
	image      []byte // as of the last Commit
	committing bool
	half       bool // a Commit was under way when the process was killed, and none was done since
}

// OpenIndex implements vfs.FS.
func (d *Disk) OpenIndex(name string, flag int, mode os.FileMode) (*os.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.alive(); err != nil {
		return nil, err
	}
	f, err := vfs.OS{}.OpenIndex(name, flag, mode)
	if err != nil || d.outside(name) {
		return f, err
	}
	if err := d.adopt(name); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// adopt makes a file an index, and knows it if it is new.
func (d *Disk) adopt(name string) error {
	n := d.lookup(name)
	if n != nil && n.index != nil {
		return nil
	}
	fresh := n == nil
	if fresh {
		dir, base, err := d.at(name)
		if err != nil {
			return err
		}
		n = &node{path: name}
		dir.add(base, n)
	}
	if len(n.writes) > 0 {
		return fmt.Errorf("vfstest: %s was written as a file and not synced", name)
	}
	if err := d.keep(n); err != nil {
		return err
	}
	n.index = &index{}
	if fresh {
		return d.step(Op{Kind: Create, Name: name})
	}
	return n.take()
}

// take makes an index durable as it is now.
func (n *node) take() error {
	info, err := n.file.Stat()
	if err != nil {
		return err
	}
	x := n.index
	if grown := info.Size() - int64(len(x.image)); grown > 0 {
		x.image = append(x.image, make([]byte, grown)...)
	}
	x.image = x.image[:info.Size()]
	x.half = false
	piece := make([]byte, min(comparePiece, len(x.image)))
	for off, end := written(n.file, 0, info.Size()); off < info.Size(); off, end = written(n.file, end, info.Size()) {
		for ; off < end; off += int64(len(piece)) {
			piece = piece[:min(int64(cap(piece)), end-off)]
			if _, err := n.file.ReadAt(piece, off); err != nil {
				return err
			}
			if old := x.image[off : off+int64(len(piece))]; !bytes.Equal(piece, old) {
				copy(old, piece)
			}
		}
	}
	return nil
}

// written returns the next range of a file, from off on, that is no hole: an index grows in large holes, and bbolt makes none later. Where
// the system does not tell it is all that is left.
func written(f *os.File, off, size int64) (start, end int64) {
	const seekData, seekHole = 3, 4
	if runtime.GOOS != "linux" || off >= size {
		return off, size
	}
	start, err := f.Seek(off, seekData)
	if errors.Is(err, syscall.ENXIO) {
		return size, size
	}
	if err != nil {
		return off, size
	}
	if end, err = f.Seek(start, seekHole); err != nil {
		return start, size
	}
	return start, min(end, size)
}

// Commit implements vfs.FS. Other operations go on meanwhile, and the power may go in the middle of it.
func (d *Disk) Commit(name string, commit func() error) error {
	n, err := d.begin(name)
	if err != nil {
		return err
	}
	err = commit()
	d.mu.Lock()
	defer d.mu.Unlock()
	defer func() { n.index.committing = false }()
	if deadErr := d.alive(); deadErr != nil {
		n.index.half = true
		return deadErr
	}
	if err != nil {
		return err
	}
	if err := d.step(Op{Kind: IndexSync, Name: name}); err != nil {
		n.index.half = true
		return err
	}
	return n.take()
}

func (d *Disk) begin(name string) (*node, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.alive(); err != nil {
		return nil, err
	}
	n := d.lookup(name)
	if n == nil || n.index == nil {
		return nil, fmt.Errorf("vfstest: %s is no index", name)
	}
	if n.index.committing {
		return nil, fmt.Errorf("vfstest: two commits of %s at once", name)
	}
	n.index.committing = true
	return n, nil
}

// now returns what the index holds. It is read from the front, so that of a commit under way the meta page is seen without pages that
// were written before it at worst, as a device could have it.
func (x *index) now(f *os.File) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	b := make([]byte, info.Size())
	n, err := f.ReadAt(b, 0)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return b[:n], err
}

// survives is an index after the cut.
func (c *chance) index(x *index, now []byte) []byte {
	metas := min(metaPages*os.Getpagesize(), len(now))
	changed := 0
	for off := 0; off < metas; off += os.Getpagesize() {
		end := min(off+os.Getpagesize(), metas)
		if len(x.image) < end || !bytes.Equal(x.image[off:end], now[off:end]) {
			changed++
		}
	}
	switch {
	case !x.committing && !x.half || len(x.image) == 0:
		return c.mix(x.image, now, 0)
	case changed > 1: // more than one transaction, with syncs between them that nobody saw
		if c.all() {
			return now
		}
		return x.image
	}
	switch c.rng.IntN(4) {
	case 0:
		return x.image
	case 1: // some pages, and not the meta page
		mixed := c.mix(x.image, now, metas)
		copy(mixed, x.image[:metas])
		return mixed
	case 2: // all pages, and a torn meta page
		mixed := append(c.mix(x.image[:metas], now[:metas], 0), now[metas:]...)
		return mixed
	}
	return now // durable, and nobody was told
}

// mix returns a file between before and after: each sector that differs, from the octet from on, is new, old or torn.
func (c *chance) mix(before, after []byte, from int) []byte {
	mixed := make([]byte, len(after))
	copy(mixed, before)
	var differ []int
	for off := from; off < len(after); off += sectorSize {
		if end := min(off+sectorSize, len(after)); !bytes.Equal(mixed[off:end], after[off:end]) {
			differ = append(differ, off)
		}
	}
	for i, part := range c.parts(len(differ)) {
		off := differ[i]
		end := min(off+sectorSize, len(after))
		copy(mixed[off:off+part.of(c.rng, end-off)], after[off:end])
	}
	return mixed
}
