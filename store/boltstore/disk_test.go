package boltstore

import (
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"latchkey/internal/vfs"
)

// errCrashed is what every operation answers after the power went.
var errCrashed = errors.New("the power is gone")

// Pages of the index file: bbolt's meta pages are the first two.
const (
	indexPage  = 4096
	metaPages  = 2
	sectorSize = 512
)

// inode is a file as the device has it, and what was written since its last sync.
type inode struct {
	data    []byte
	pending []write
}

type write struct {
	off  int64
	data []byte
}

// entry is an unsynced change of a directory: the name comes to lead to a file, or (nil) to nothing.
type entry struct {
	name string
	file *inode
}

// disk is a vfs.FS on a real directory that also keeps what a power cut would leave: synced content only, and of unsynced
// writes and directory entries any part. After the chosen step the power is gone and every operation fails.
type disk struct {
	vfs.OS
	mu      sync.Mutex
	dir     string
	rng     *rand.Rand
	left    int // steps until the power goes
	dead    bool
	durable map[string]map[string]*inode // directory, name
	live    map[string]*inode            // by path
	pending map[string][]entry           // by directory
	image   map[string][]byte            // by path below dir: what the cut left
	steps   int
	syncs   map[string]int // by kind, for tests that count
}

// newDisk takes what is in dir for durable.
func newDisk(t *testing.T, dir string, rng *rand.Rand, left int) *disk {
	t.Helper()
	d := &disk{
		dir: dir, rng: rng, left: left, durable: make(map[string]map[string]*inode), live: make(map[string]*inode),
		pending: make(map[string][]entry), syncs: make(map[string]int),
	}
	for _, sub := range []string{dir, filepath.Join(dir, largeName), filepath.Join(dir, tmpName)} {
		d.durable[sub] = make(map[string]*inode)
		entries, err := os.ReadDir(sub)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.IsDir() {
				continue
			}
			path := filepath.Join(sub, e.Name())
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			d.live[path] = &inode{data: data}
			d.durable[sub][e.Name()] = d.live[path]
		}
	}
	return d
}

// step is called before every operation; at the chosen one the image is taken. d.mu is held.
func (d *disk) step() error {
	if d.dead {
		return errCrashed
	}
	if d.steps++; d.steps == d.left {
		d.cut(nil)
		return errCrashed
	}
	return nil
}

func (d *disk) isDead() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.dead
}

// cut takes the image; index, if given, is what the index file holds.
func (d *disk) cut(index []byte) {
	d.dead = true
	d.image = make(map[string][]byte)
	for _, dir := range slices.Sorted(maps.Keys(d.durable)) {
		names := maps.Clone(d.durable[dir])
		for _, e := range d.pending[dir] {
			switch {
			case d.rng.IntN(2) == 0: // did not reach the device
			case e.file == nil:
				delete(names, e.name)
			default:
				names[e.name] = e.file
			}
		}
		for _, name := range slices.Sorted(maps.Keys(names)) {
			data := d.survives(names[name])
			if name == indexName && index != nil {
				data = index
			}
			rel, _ := filepath.Rel(d.dir, filepath.Join(dir, name))
			d.image[rel] = data
		}
	}
}

// survives is a file's content after the cut: any of the unsynced writes, each whole or torn.
func (d *disk) survives(f *inode) []byte {
	data := slices.Clone(f.data)
	for _, w := range f.pending {
		switch d.rng.IntN(3) {
		case 0:
			continue
		case 1:
			w.data = w.data[:d.rng.IntN(len(w.data)+1)]
		}
		if end := int(w.off) + len(w.data); end > len(data) {
			data = append(data, make([]byte, end-len(data))...)
		}
		copy(data[w.off:], w.data)
	}
	return data
}

// restore writes the image into a fresh directory.
func (d *disk) restore(t *testing.T, dir string) {
	t.Helper()
	for _, sub := range []string{dir, filepath.Join(dir, largeName), filepath.Join(dir, tmpName)} {
		if err := os.MkdirAll(sub, vfs.DirMode); err != nil {
			t.Fatal(err)
		}
	}
	for rel, data := range d.image {
		if err := os.WriteFile(filepath.Join(dir, rel), data, vfs.FileMode); err != nil {
			t.Fatal(err)
		}
	}
}

// diskFile is an open file of a disk.
type diskFile struct {
	vfs.File
	d    *disk
	node *inode
	off  int64
}

func (d *disk) Create(name string) (vfs.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step(); err != nil {
		return nil, err
	}
	f, err := d.OS.Create(name)
	if err != nil {
		return nil, err
	}
	node := &inode{}
	d.live[name] = node
	d.enter(name, node)
	return &diskFile{File: f, d: d, node: node}, nil
}

func (d *disk) enter(name string, node *inode) {
	dir := filepath.Dir(name)
	d.pending[dir] = append(d.pending[dir], entry{filepath.Base(name), node})
}

func (d *disk) Rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step(); err != nil {
		return err
	}
	if err := d.OS.Rename(from, to); err != nil {
		return err
	}
	node := d.live[from]
	delete(d.live, from)
	d.live[to] = node
	d.enter(from, nil)
	d.enter(to, node)
	return nil
}

func (d *disk) Remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step(); err != nil {
		return err
	}
	if err := d.OS.Remove(name); err != nil {
		return err
	}
	delete(d.live, name)
	d.enter(name, nil)
	return nil
}

func (d *disk) SyncDir(dir string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step(); err != nil {
		return err
	}
	d.syncs["dir"]++
	for _, e := range d.pending[dir] {
		if e.file == nil {
			delete(d.durable[dir], e.name)
		} else {
			d.durable[dir][e.name] = e.file
		}
	}
	d.pending[dir] = nil
	return nil
}

// Commit lets bbolt write for real, and on the chosen step leaves a part of it: some of the pages torn or whole and the old meta
// page, all of the pages and the old meta page, or everything.
func (d *disk) Commit(name string, commit func() error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return errCrashed
	}
	path := filepath.Join(d.dir, indexName)
	if err := commit(); err != nil {
		return err
	}
	after, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before := d.live[path].data
	if d.steps++; d.steps == d.left {
		d.cut(d.half(before, after))
		return errCrashed
	}
	d.syncs["commit"]++
	d.live[path].data = after
	return nil
}

// half is an index file on its way from one transaction to the next.
func (d *disk) half(before, after []byte) []byte {
	stage := d.rng.IntN(4)
	if stage == 3 {
		return after // durable, and nobody was told
	}
	mixed := make([]byte, len(after))
	copy(mixed, before)
	for off := metaPages * indexPage; stage > 0 && off < len(after); off += sectorSize {
		if stage == 2 || d.rng.IntN(2) == 0 {
			copy(mixed[off:off+sectorSize], after[off:])
		}
	}
	return mixed
}

func (f *diskFile) Write(p []byte) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.d.step(); err != nil {
		return 0, err
	}
	n, err := f.File.Write(p)
	f.node.pending = append(f.node.pending, write{f.off, slices.Clone(p[:n])})
	f.off += int64(n)
	return n, err
}

func (f *diskFile) Sync() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.d.step(); err != nil {
		return err
	}
	f.d.syncs["file"]++
	for _, w := range f.node.pending {
		if end := int(w.off) + len(w.data); end > len(f.node.data) {
			f.node.data = append(f.node.data, make([]byte, end-len(f.node.data))...)
		}
		copy(f.node.data[w.off:], w.data)
	}
	f.node.pending = nil
	return nil
}

// faulty is a vfs.FS of which one operation, or every one from it on, fails.
type faulty struct {
	vfs.OS
	mu    sync.Mutex
	n, at int
	last  bool // only this one fails
	fault func(op string) error
	hit   string // what failed first
}

func (f *faulty) step(op string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n++
	if f.at == 0 || f.n < f.at || f.last && f.n > f.at {
		return nil
	}
	err := f.fault(op)
	if err != nil && f.hit == "" {
		f.hit = op
	}
	return err
}

type faultyFile struct {
	vfs.File
	f *faulty
}

func (f *faulty) Create(name string) (vfs.File, error) {
	if err := f.step("open"); err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	inner, err := f.OS.Create(name)
	if err != nil {
		return nil, err
	}
	return faultyFile{inner, f}, nil
}

func (f *faulty) Rename(from, to string) error {
	if err := f.step("rename"); err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return f.OS.Rename(from, to)
}

func (f *faulty) Remove(name string) error {
	if err := f.step("remove"); err != nil {
		return &os.PathError{Op: "remove", Path: name, Err: err}
	}
	return f.OS.Remove(name)
}

func (f *faulty) SyncDir(dir string) error {
	if err := f.step("syncdir"); err != nil {
		return &os.PathError{Op: "sync", Path: dir, Err: err}
	}
	return f.OS.SyncDir(dir)
}

// Commit fails where bbolt would: in the write of a page, with nothing changed, or in a sync, with an outcome that nobody knows.
func (f *faulty) Commit(name string, commit func() error) error {
	if err := f.step("indexwrite"); err != nil {
		return &os.PathError{Op: "write", Path: indexName, Err: err}
	}
	if err := commit(); err != nil {
		return err
	}
	return f.step("indexsync") // bbolt hands the bare number on
}

func (f faultyFile) Write(p []byte) (int, error) {
	if err := f.f.step("write"); err != nil {
		n, _ := f.File.Write(p[:len(p)/2])
		return n, &os.PathError{Op: "write", Err: err}
	}
	return f.File.Write(p)
}

func (f faultyFile) Sync() error {
	if err := f.f.step("sync"); err != nil {
		return &os.PathError{Op: "sync", Err: err}
	}
	return f.File.Sync()
}
