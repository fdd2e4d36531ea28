package vfstest

import (
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"

	"latchkey/internal/vfs"
)

// remains is what a cut left: names below the root, directories before what is in them.
type remains struct {
	dirs  []string
	files []remnant
}

type remnant struct {
	name string
	node *node
}

// content is what a cut left of a file: the present one, cut to size, with some sectors as they were before.
type content struct {
	size    int64
	sectors map[int64][]byte // each at its place; what is missing of one at its end is zeros
	whole   []byte           // of an index
}

// fate is what became of one part of what was not synced.
type fate int8

const (
	lost fate = iota
	torn
	whole
)

// of returns how many octets of a part reached the device.
func (f fate) of(rng *rand.Rand, size int) int {
	switch f {
	case whole:
		return size
	case torn:
		return rng.IntN(size + 1)
	}
	return 0
}

// chance decides what an unsynced part came to.
type chance struct {
	rng   *rand.Rand
	whole int // of the whole device: 0 nothing unsynced reached it, 1 all of it, else it depends
}

// tearing is how many of the lost parts are torn: one of so many.
const tearing = 6

// parts says for each of n parts, in the order in which they were written, what became of it. One time it is a prefix of them, one time
// all but one, or just one, so that what needs a rare combination is met too.
func (c *chance) parts(n int) []fate {
	fates := make([]fate, n)
	if n == 0 || c.whole == 0 {
		return fates
	}
	mode := c.rng.IntN(8)
	if c.whole == 1 {
		mode = 1
	}
	one := c.rng.IntN(n)
	for i := range fates {
		switch {
		case mode == 0: // nothing
		case mode == 1, mode == 2 && i < one, mode == 3 && i != one, mode == 4 && i == one:
			fates[i] = whole
		case mode == 5 && c.rng.IntN(8) > 0, mode == 6 && c.rng.IntN(8) == 0, mode == 7 && c.rng.IntN(2) == 0:
			fates[i] = whole
		case i == one || c.rng.IntN(tearing) == 0:
			fates[i] = torn
		}
	}
	if mode == 2 { // in order: what is behind the torn one is lost
		clear(fates[one+1:])
	}
	return fates
}

// all decides about something that is there or is not.
func (c *chance) all() bool {
	if c.whole <= 1 {
		return c.whole == 1
	}
	return c.rng.IntN(2) == 0
}

// cut lets the power go: what the device keeps is decided now. d.mu is held.
func (d *Disk) cut() {
	if errors.Is(d.alive(), ErrPowerCut) {
		return
	}
	d.dead.Store(&ErrPowerCut)
	c := &chance{rng: d.rng, whole: d.rng.IntN(10)}
	d.left = remains{dirs: []string{""}}
	d.collect(c, d.tree, "")
}

// collect walks through what the device has of a directory.
func (d *Disk) collect(c *chance, dir *node, name string) {
	entries := maps.Clone(dir.durable)
	for i, f := range c.parts(len(dir.pending)) {
		p := dir.pending[i]
		if f == lost {
			continue
		}
		if p.add != "" {
			entries[p.add] = p.node
		}
		if p.remove != "" && (f == whole || p.add == "") { // a rename half done has both names
			delete(entries, p.remove)
		}
	}
	for _, entry := range slices.Sorted(maps.Keys(entries)) {
		n, rel := entries[entry], filepath.Join(name, entry)
		if n.live != nil {
			d.left.dirs = append(d.left.dirs, rel)
			d.collect(c, n, rel)
			continue
		}
		if n.result == nil {
			if n.index != nil {
				now, err := n.index.now(n.file)
				if err != nil {
					d.tb.Errorf("vfstest: %v", err)
				}
				n.result = &content{whole: c.index(n.index, now)}
			} else {
				n.result = c.file(n)
			}
		}
		d.left.files = append(d.left.files, remnant{rel, n})
	}
}

// file is a file after the cut.
func (c *chance) file(n *node) *content {
	sectors := maps.Clone(n.base)
	sizes := []int64{n.synced}
	parts := 0
	for _, w := range n.writes {
		parts += int(roundUp(int64(len(w.data))) / sectorSize)
		sizes = append(sizes, w.size)
	}
	size := n.synced
	fates := c.parts(parts)
	for _, w := range n.writes {
		for at := int64(0); at < int64(len(w.data)); at += sectorSize {
			f := fates[0]
			fates = fates[1:]
			if f == lost {
				continue
			}
			size = w.size
			data := w.data[at:min(at+sectorSize, int64(len(w.data)))]
			i := w.sector + at/sectorSize
			sectors[i] = over(sectors[i], data, f.of(c.rng, len(data)))
		}
	}
	switch c.whole {
	case 0:
		size = n.synced
	case 1:
		size = n.size
	default: // the length that the data has, or any other
		switch c.rng.IntN(4) {
		case 0:
			size = n.size
		case 1:
			size = sizes[c.rng.IntN(len(sizes))]
		}
	}
	return &content{size: size, sectors: sectors}
}

// over returns a sector of which the first octets are new.
func over(old, data []byte, octets int) []byte {
	if octets == len(data) && len(old) <= octets {
		return data
	}
	b := make([]byte, max(len(old), octets))
	copy(b, old)
	copy(b, data[:octets])
	return b
}

// Restore writes what the device kept into dir, which is made if it is missing and otherwise empty. The power goes now if it has not yet,
// also when the process is dead already.
// It may be called more than once, with the same outcome.
func (d *Disk) Restore(dir string) {
	d.tb.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cut()
	for _, name := range d.left.dirs {
		if err := os.MkdirAll(filepath.Join(dir, name), vfs.DirMode); err != nil {
			d.tb.Fatal(err)
		}
	}
	first := make(map[*node]string)
	for _, r := range d.left.files {
		path := filepath.Join(dir, r.name)
		var err error
		if other, ok := first[r.node]; ok {
			err = os.Link(other, path)
		} else {
			err = r.node.restore(path)
		}
		if err != nil {
			d.tb.Fatal(err)
		}
		first[r.node] = path
	}
}

func (n *node) restore(path string) (err error) {
	c := n.result
	if n.index != nil {
		return os.WriteFile(path, c.whole, vfs.FileMode)
	}
	from := n.file
	if from == nil {
		if from, err = os.Open(n.path); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, from.Close()) }()
	}
	if _, err := from.Seek(0, io.SeekStart); err != nil {
		return err
	}
	to, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, vfs.FileMode)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	if _, err := io.CopyN(to, from, min(c.size, n.size)); err != nil {
		return err
	}
	if err := to.Truncate(c.size); err != nil {
		return err
	}
	for i, data := range c.sectors {
		var sector [sectorSize]byte
		copy(sector[:], data)
		off := i * sectorSize
		if _, err := to.WriteAt(sector[:max(0, min(sectorSize, c.size-off))], off); err != nil {
			return err
		}
	}
	return nil
}
