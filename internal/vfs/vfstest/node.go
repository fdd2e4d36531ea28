package vfstest

import (
	"os"

	"latchkey/internal/vfs"
)

// sectorSize is what a device writes at once, in octets.
const sectorSize = 512

// node is a file or a directory, whatever its names.
type node struct {
	// Of a directory: what everybody sees, what the device has, and the changes between the two.
	live, durable map[string]*node
	pending       []change

	// Of a file.
	path   string // its present name, if it has one
	file   *os.File
	refs   int // places where the device may know it: entries, and changes that add one
	size   int64
	synced int64            // the length at the last sync
	writes []write          // since then
	base   map[int64][]byte // sectors that they hit, as the device has them, without the zeros behind their end
	index  *index           // of a file that bbolt writes
	result *content         // once the power is gone
}

// change is an unsynced change of a directory. A rename inside of it is one.
type change struct {
	remove, add string // "" is none
	node        *node  // what is added
}

// write is an unsynced write, or a preallocation, which has no data.
type write struct {
	sector int64  // the first one
	data   []byte // whole sectors as they became, the last one perhaps shorter
	size   int64  // the file's length after it
}

func newDir() *node { return &node{live: make(map[string]*node), durable: make(map[string]*node)} }

func (n *node) add(name string, child *node) {
	n.live[name] = child
	child.refs++
	n.pending = append(n.pending, change{add: name, node: child})
}

func (n *node) remove(name string) {
	delete(n.live, name)
	n.pending = append(n.pending, change{remove: name})
}

func (n *node) move(from string, target *node, to string) {
	child := n.live[from]
	if n != target {
		n.remove(from)
		target.add(to, child)
		return
	}
	if from == to {
		return
	}
	delete(n.live, from)
	n.live[to] = child
	child.refs++
	n.pending = append(n.pending, change{remove: from, add: to, node: child})
}

// settle makes a directory's changes durable, and returns the nodes that lost a name.
func (n *node) settle() (gone []*node) {
	drop := func(name string) {
		if old := n.durable[name]; old != nil {
			old.refs--
			gone = append(gone, old)
		}
		delete(n.durable, name)
	}
	for _, c := range n.pending {
		if c.remove != "" {
			drop(c.remove)
		}
		if c.add != "" {
			drop(c.add)
			n.durable[c.add] = c.node
		}
	}
	n.pending = nil
	return gone
}

// diskFile is an open file of a Disk.
type diskFile struct {
	vfs.File
	d    *Disk
	life int64
	node *node
	off  int64 // of Write; guarded by d.mu
}

func (d *Disk) file(f vfs.File, n *node) *diskFile {
	return &diskFile{File: f, d: d, life: d.life.Load(), node: n}
}

// alive is the error of every operation after the end, and of the files of a process that was killed.
func (f *diskFile) alive() error {
	if err := f.d.alive(); err != nil {
		return err
	}
	if f.life != f.d.life.Load() {
		return ErrKilled
	}
	return nil
}

func (f *diskFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.alive(); err != nil {
		return 0, err
	}
	return f.File.ReadAt(p, off)
}

func (f *diskFile) Size() (int64, error) {
	if err := f.alive(); err != nil {
		return 0, err
	}
	return f.File.Size()
}

func (f *diskFile) Write(p []byte) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	n, err := f.write(p, f.off)
	f.off += int64(n)
	return n, err
}

func (f *diskFile) WriteAt(p []byte, off int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	return f.write(p, off)
}

func (f *diskFile) write(p []byte, off int64) (int, error) {
	if err := f.alive(); err != nil {
		return 0, err
	}
	n := f.node
	first := off / sectorSize
	start := first * sectorSize
	// What is there now, up to the end of the last sector.
	old := make([]byte, max(0, min(roundUp(off+int64(len(p)))-start, n.size-start)))
	if _, err := f.File.ReadAt(old, start); err != nil && len(old) > 0 {
		return 0, err
	}
	done, err := f.File.WriteAt(p, off)
	if done == 0 {
		return 0, err
	}
	end := off + int64(done)
	n.remember(first, old, (roundUp(end)-start)/sectorSize)
	data := make([]byte, max(end-start, min(roundUp(end)-start, int64(len(old)))))
	copy(data, old)
	copy(data[off-start:], p[:done])
	n.size = max(n.size, end)
	n.writes = append(n.writes, write{first, data, n.size})
	if stepErr := f.d.step(Op{Kind: Write, Name: n.path, Off: off, Size: int64(done)}); stepErr != nil {
		return 0, stepErr
	}
	return done, err
}

func roundUp(n int64) int64 { return (n + sectorSize - 1) / sectorSize * sectorSize }

// remember keeps what the device has of sectors that are overwritten for the first time since the last sync.
func (n *node) remember(first int64, old []byte, sectors int64) {
	if n.base == nil {
		n.base = make(map[int64][]byte)
	}
	for i := range sectors {
		if _, ok := n.base[first+i]; !ok {
			n.base[first+i] = old[min(i*sectorSize, int64(len(old))):min((i+1)*sectorSize, int64(len(old)))]
		}
	}
}

func (f *diskFile) Allocate(size int64) error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.alive(); err != nil {
		return err
	}
	if err := f.File.Allocate(size); err != nil {
		return err
	}
	n := f.node
	n.size = max(n.size, size)
	n.writes = append(n.writes, write{size: n.size})
	return f.d.step(Op{Kind: Allocate, Name: n.path, Size: size})
}

func (f *diskFile) Sync() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.alive(); err != nil {
		return err
	}
	if err := f.d.step(Op{Kind: Sync, Name: f.node.path}); err != nil {
		return err
	}
	f.node.writes, f.node.base, f.node.synced = nil, nil, f.node.size
	return nil
}
