package vfstest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"latchkey/internal/vfs"
)

// What every operation of a [Disk] answers when it is dead.
var (
	// ErrPowerCut: the power went.
	ErrPowerCut = errors.New("vfstest: the power is gone")
	// ErrKilled: the process that uses the Disk was killed, or the file was opened by one that was.
	ErrKilled = errors.New("vfstest: the process was killed")
)

// Disk is a vfs.FS on a real directory that also knows what a power cut would leave of it: what was synced, and of the rest any part.
//
// Of unsynced writes each sector of 512 octets may have reached the device, or not, or a first part of it, in any order; a length may be
// any that the file had since its last sync, a preallocated one too. Names are durable by SyncDir of their directory only, and a
// directory by that of its parent; a renamed file may be under its old name, its new one or both, or neither if the two are in different
// directories; a removed one may be there. The index, which is opened with OpenIndex, is durable up to its last Commit; while one is under way
// some of its pages may be there and the old meta page, or all of them and a torn meta page, or everything; what was written to it
// outside of a Commit may be there in any part.
//
// Operations are counted, and at the chosen one the power goes; from then on all fail with ErrPowerCut, those that only read too (but not
// on the descriptor that OpenIndex returned). The same seed and the same operations give the same device.
//
// A process that is killed is another matter: what it wrote is there for the next one, but no more durable than it was. So a Disk can stop
// at a step with ErrKilled and go on after Restart, and what the next process does not sync may be lost in the next cut.
//
// What is outside of the directory is left to the operating system. Files below it are changed only through the Disk, and directories
// are not renamed. Nothing is really synced, except by bbolt.
type Disk struct {
	tb   testing.TB
	root string
	dead atomic.Pointer[error] // what every operation answers, or nil
	life atomic.Int64          // how often it was restarted

	mu    sync.Mutex // guards what is below, the nodes, and each operation as a whole
	rng   *rand.Rand
	endAt int // the step at which the power goes, or the process is killed
	kill  bool
	steps int
	last  Op
	tree  *node
	kept  map[*node]struct{} // nodes with a descriptor
	left  remains            // once dead
}

var _ vfs.FS = (*Disk)(nil)

// NewDisk returns a Disk on what is in root, an existing directory, and takes all of that for durable. The power goes at step number cutAt
// (from 1; 0 is never). Its descriptors are closed at the end of the test.
func NewDisk(tb testing.TB, root string, seed uint64, cutAt int) *Disk {
	tb.Helper()
	root, err := filepath.Abs(root)
	if err != nil {
		tb.Fatal(err)
	}
	d := &Disk{tb: tb, root: root, rng: rand.New(rand.NewPCG(seed, 0)), endAt: cutAt, kept: make(map[*node]struct{})}
	var linked []link
	if d.tree, err = scan(root, &linked); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.dead.Store(&ErrPowerCut)
		for n := range d.kept {
			_ = n.file.Close() // it was only read
		}
	})
	return d
}

// link is a file that has been found under a name, and may have another.
type link struct {
	info os.FileInfo
	node *node
}

// scan makes the nodes of what is in a directory. A file with two names is one node.
func scan(dir string, linked *[]link) (*node, error) {
	n := newDir()
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		var child *node
		if e.IsDir() {
			child, err = scan(path, linked)
		} else {
			child, err = scanFile(path, e, linked)
		}
		if err != nil {
			return nil, err
		}
		child.refs++
		n.live[e.Name()], n.durable[e.Name()] = child, child
	}
	return n, nil
}

func scanFile(path string, e os.DirEntry, linked *[]link) (*node, error) {
	info, err := e.Info()
	if err != nil {
		return nil, err
	}
	for _, l := range *linked {
		if os.SameFile(info, l.info) {
			return l.node, nil
		}
	}
	n := &node{path: path, size: info.Size(), synced: info.Size()}
	*linked = append(*linked, link{info, n})
	return n, nil
}

// Steps returns how many steps there were: operations that change something or make it durable, each Commit as one.
func (d *Disk) Steps() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.steps
}

// Last returns the last step: the one at which the power went, if it did at one.
func (d *Disk) Last() Op {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.last
}

// Dead reports whether the power is gone, or the process killed.
func (d *Disk) Dead() bool { return d.dead.Load() != nil }

// Cut lets the power go now, if it has not.
func (d *Disk) Cut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cut()
}

// Kill ends the process now, if it is alive. What it has open works no more.
func (d *Disk) Kill() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.alive() == nil {
		d.dead.Store(&ErrKilled)
	}
}

// Restart begins the next process, which finds everything that the killed one wrote. The killed one must have come to rest: no Commit may
// be under way. It is an error if the power is gone.
func (d *Disk) Restart() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.alive(); !errors.Is(err, ErrKilled) {
		return fmt.Errorf("vfstest: restart of a disk that was not killed: %w", err)
	}
	d.endAt = 0
	d.life.Add(1)
	d.dead.Store(nil)
	return nil
}

// CutAfter lets the power go at the step number n from now (from 1; 0 is never), KillAfter kills the process there. The last word counts.
func (d *Disk) CutAfter(n int) { d.endAfter(n, false) }

// KillAfter: see CutAfter.
func (d *Disk) KillAfter(n int) { d.endAfter(n, true) }

func (d *Disk) endAfter(n int, kill bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.endAt, d.kill = 0, kill; n > 0 {
		d.endAt = d.steps + n
	}
}

// alive is the error of every operation after the end.
func (d *Disk) alive() error {
	if err := d.dead.Load(); err != nil {
		return *err
	}
	return nil
}

// step counts an operation that is under way, and ends everything at the chosen one. What changes something has done it by then, unsynced;
// what makes something durable has not. d.mu is held.
func (d *Disk) step(op Op) error {
	d.steps++
	d.last = op
	if d.steps != d.endAt {
		return nil
	}
	if d.kill {
		d.dead.Store(&ErrKilled)
	} else {
		d.cut()
	}
	return d.alive()
}

// relative returns the parts of a path below the root; ok is false if it is not there.
func (d *Disk) relative(name string) (parts []string, ok bool) {
	rel, err := filepath.Rel(d.root, name)
	switch {
	case err != nil || rel == ".." || strings.HasPrefix(rel, ".."+string(filepath.Separator)):
		return nil, false
	case rel == ".":
		return nil, true
	}
	return strings.Split(rel, string(filepath.Separator)), true
}

// lookup returns the live node of a path, or nil.
func (d *Disk) lookup(name string) *node {
	parts, ok := d.relative(name)
	if !ok {
		return nil
	}
	n := d.tree
	for _, part := range parts {
		if n == nil {
			return nil
		}
		n = n.live[part]
	}
	return n
}

// at returns what an operation on a name is about: its directory, and its last part.
func (d *Disk) at(name string) (dir *node, base string, err error) {
	dir = d.lookup(filepath.Dir(name))
	if dir == nil || dir.live == nil {
		return nil, "", &os.PathError{Op: "open", Path: name, Err: os.ErrNotExist}
	}
	return dir, filepath.Base(name), nil
}

// outside reports whether a name is not the Disk's business.
func (d *Disk) outside(name string) bool {
	_, ok := d.relative(name)
	return !ok
}

// Mkdir implements vfs.FS.
func (d *Disk) Mkdir(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.alive(); err != nil {
		return err
	}
	if err := (vfs.OS{}).Mkdir(name); err != nil {
		return err
	}
	n, made := d.tree, false
	parts, _ := d.relative(name)
	for _, part := range parts {
		child := n.live[part]
		if child == nil {
			child, made = newDir(), true
			n.add(part, child)
		}
		n = child
	}
	if !made {
		return nil
	}
	return d.step(Op{Kind: Mkdir, Name: name})
}

// Create implements vfs.FS.
func (d *Disk) Create(name string) (vfs.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.alive(); err != nil {
		return nil, err
	}
	f, err := (vfs.OS{}).Create(name)
	if err != nil || d.outside(name) {
		return f, err
	}
	dir, base, err := d.at(name)
	if err == nil {
		n := &node{path: name}
		dir.add(base, n)
		if err = d.step(Op{Kind: Create, Name: name}); err == nil {
			return d.file(f, n), nil
		}
	}
	return nil, errors.Join(err, f.Close())
}

// Open implements vfs.FS.
func (d *Disk) Open(name string) (vfs.File, error) { return d.open(name, vfs.OS{}.Open) }

// OpenWrite implements vfs.FS.
func (d *Disk) OpenWrite(name string) (vfs.File, error) { return d.open(name, vfs.OS{}.OpenWrite) }

func (d *Disk) open(name string, open func(string) (vfs.File, error)) (vfs.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.alive(); err != nil {
		return nil, err
	}
	f, err := open(name)
	if err != nil || d.outside(name) {
		return f, err
	}
	n := d.lookup(name)
	if n == nil {
		return nil, errors.Join(unknown(name), f.Close())
	}
	return d.file(f, n), nil
}

func unknown(name string) error {
	return fmt.Errorf("vfstest: %s was not made through the Disk", name)
}

// Rename implements vfs.FS.
func (d *Disk) Rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.alive(); err != nil {
		return err
	}
	if d.outside(from) || d.outside(to) {
		return fmt.Errorf("vfstest: %s or %s is not on the Disk", from, to)
	}
	n := d.lookup(from)
	if n != nil && n.live != nil {
		return fmt.Errorf("vfstest: %s is a directory", from)
	}
	if err := d.keep(d.lookup(to)); err != nil {
		return err
	}
	if err := (vfs.OS{}).Rename(from, to); err != nil {
		return err
	}
	if n == nil {
		return unknown(from)
	}
	// Both are there, or the operating system would have said so.
	source, target := d.lookup(filepath.Dir(from)), d.lookup(filepath.Dir(to))
	source.move(filepath.Base(from), target, filepath.Base(to))
	n.path = to
	return d.step(Op{Kind: Rename, Name: from, To: to})
}

// Remove implements vfs.FS.
func (d *Disk) Remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.alive(); err != nil {
		return err
	}
	if d.outside(name) {
		return vfs.OS{}.Remove(name)
	}
	n := d.lookup(name)
	if err := d.keep(n); err != nil {
		return err
	}
	if err := (vfs.OS{}).Remove(name); err != nil {
		return err
	}
	if n == nil {
		return unknown(name)
	}
	d.lookup(filepath.Dir(name)).remove(filepath.Base(name))
	return d.step(Op{Kind: Remove, Name: name})
}

// keep opens a file that is about to lose its name: the device may still have it.
func (d *Disk) keep(n *node) error {
	if n == nil || n.live != nil || n.file != nil {
		return nil
	}
	f, err := os.Open(n.path)
	if err != nil {
		return err
	}
	n.file = f
	d.kept[n] = struct{}{}
	return nil
}

// List implements vfs.FS.
func (d *Disk) List(dir string) ([]string, error) {
	if err := d.alive(); err != nil {
		return nil, err
	}
	return vfs.OS{}.List(dir)
}

// SyncDir implements vfs.FS.
func (d *Disk) SyncDir(dir string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.alive(); err != nil {
		return err
	}
	if d.outside(dir) {
		return nil
	}
	n := d.lookup(dir)
	if n == nil || n.live == nil {
		return &os.PathError{Op: "open", Path: dir, Err: os.ErrNotExist}
	}
	if err := d.step(Op{Kind: SyncDir, Name: dir}); err != nil {
		return err
	}
	for _, gone := range n.settle() {
		if gone.file != nil && gone.refs == 0 {
			_ = gone.file.Close() // it was only read
			gone.file = nil
			delete(d.kept, gone)
		}
	}
	return nil
}
