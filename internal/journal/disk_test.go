package journal

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"

	"latchkey/internal/vfs"
)

const sector = 512

// errCut is what a disk without power says.
var errCut = errors.New("test: no power")

// op is what a disk is asked to do.
type op string

const (
	opCreate  op = "create"
	opOpen    op = "open"
	opRead    op = "read"
	opWrite   op = "write"
	opAlloc   op = "allocate"
	opSync    op = "sync"
	opRename  op = "rename"
	opRemove  op = "remove"
	opList    op = "list"
	opSyncDir op = "syncdir"
)

// disk is a file system in memory of one directory. What was not synced is kept apart.
type disk struct {
	mu    sync.Mutex
	rng   *rand.Rand
	names map[string]*inode // as everybody sees them
	safe  map[string]*inode // as a power cut leaves them, without moves
	moves []move
	room  int64 // what can still be allocated
	steps int
	// cutAt is the step at which the power goes; 0 is none. cut is set then.
	cutAt int
	cut   bool
	// fail, if set, may let a step fail.
	fail func(step int, what op, name string) error
	// last are the latest operations, for a test's failure.
	last []string
	open int // files
}

// move is what happened to a name: from "" is created, to "" is removed.
type move struct {
	from, to string
	i        *inode
}

// inode is a file: what is durable and the writes behind it.
type inode struct {
	safe, now []byte
	pending   []pendingWrite
	bad       map[int64]bool // pages that cannot be read
}

type pendingWrite struct {
	off  int64
	b    []byte
	size int64 // the length afterwards, if no write
}

func newDisk(seed uint64) *disk {
	return &disk{rng: rand.New(rand.NewPCG(seed, 1)), names: map[string]*inode{}, safe: map[string]*inode{}, room: unlimited}
}

// unlimited is the room of a disk that is never full.
const unlimited = 1 << 40

// limit says how much can still be allocated.
func (d *disk) limit(room int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.room = room
}

// failBy lets steps fail, or none.
func (d *disk) failBy(fail func(step int, what op, name string) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail = fail
}

// cutIn lets the power go in so many steps.
func (d *disk) cutIn(steps int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cutAt = d.steps + steps
}

// keepPower keeps the power from now on, and reports whether it is gone already.
func (d *disk) keepPower() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cutAt = 0
	return d.cut
}

// count returns the number of steps up to now.
func (d *disk) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.steps
}

// files returns the number of open files.
func (d *disk) files() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.open
}

// step counts an operation and says how it ends. It is called with mu held.
func (d *disk) step(what op, name string) error {
	if d.cut {
		return errCut
	}
	d.steps++
	d.last = append(d.last, string(what)+" "+filepath.Base(name))
	if len(d.last) > 40 {
		d.last = d.last[1:]
	}
	if d.fail != nil {
		if err := d.fail(d.steps, what, name); err != nil {
			return err
		}
	}
	if d.steps == d.cutAt {
		d.cut = true
	}
	return nil
}

// ended turns an operation during which the power went into an error.
func (d *disk) ended() error {
	if d.cut {
		return errCut
	}
	return nil
}

func (d *disk) Mkdir(string) error { return nil }

func (d *disk) Create(name string) (vfs.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step(opCreate, name); err != nil {
		return nil, err
	}
	if d.names[name] != nil {
		return nil, &os.PathError{Op: "create", Path: name, Err: fs.ErrExist}
	}
	d.names[name] = &inode{}
	d.moves = append(d.moves, move{"", name, d.names[name]})
	d.open++
	return &diskFile{d: d, name: name, i: d.names[name], write: true}, d.ended()
}

func (d *disk) Open(name string) (vfs.File, error)      { return d.openFile(name, false) }
func (d *disk) OpenWrite(name string) (vfs.File, error) { return d.openFile(name, true) }

func (d *disk) openFile(name string, write bool) (vfs.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step(opOpen, name); err != nil {
		return nil, err
	}
	if d.names[name] == nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	d.open++
	return &diskFile{d: d, name: name, i: d.names[name], write: write}, d.ended()
}

func (d *disk) OpenIndex(string, int, os.FileMode) (*os.File, error) {
	return nil, errors.ErrUnsupported
}

func (d *disk) Commit(string, func() error) error { return errors.ErrUnsupported }

func (d *disk) Rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step(opRename, from); err != nil {
		return err
	}
	if d.names[from] == nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: fs.ErrNotExist}
	}
	d.names[to] = d.names[from]
	delete(d.names, from)
	d.moves = append(d.moves, move{from, to, d.names[to]})
	return d.ended()
}

func (d *disk) Remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step(opRemove, name); err != nil {
		return err
	}
	if d.names[name] == nil {
		return &os.PathError{Op: "remove", Path: name, Err: fs.ErrNotExist}
	}
	d.room += int64(len(d.names[name].now))
	delete(d.names, name)
	d.moves = append(d.moves, move{name, "", nil})
	return d.ended()
}

func (d *disk) List(dir string) ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step(opList, dir); err != nil {
		return nil, err
	}
	var names []string
	for name := range d.names {
		if filepath.Dir(name) == dir {
			names = append(names, filepath.Base(name))
		}
	}
	return names, d.ended()
}

func (d *disk) SyncDir(dir string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step(opSyncDir, dir); err != nil {
		return err
	}
	if err := d.ended(); err != nil { // the power went first
		return err
	}
	d.safe, d.moves = maps.Clone(d.names), nil
	return nil
}

type diskFile struct {
	d     *disk
	name  string
	i     *inode
	write bool
	done  bool
}

func (f *diskFile) begin(what op) error {
	if f.done {
		return os.ErrClosed
	}
	if what != opRead && !f.write {
		return syscall.EBADF
	}
	return f.d.step(what, f.name)
}

func (f *diskFile) Write([]byte) (int, error) { return 0, errors.ErrUnsupported }

func (f *diskFile) ReadAt(b []byte, off int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.begin(opRead); err != nil {
		return 0, err
	}
	for page := off / pageSize; page*pageSize < off+int64(len(b)); page++ {
		if f.i.bad[page] {
			return 0, syscall.EIO
		}
	}
	if len(b) == 0 || off >= int64(len(f.i.now)) {
		return 0, errIf(len(b) > 0, io.EOF)
	}
	n := copy(b, f.i.now[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, f.d.ended()
}

func (f *diskFile) WriteAt(b []byte, off int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	err := f.begin(opWrite)
	if err != nil && !vfs.IsNoSpace(err) {
		return 0, err
	}
	if err != nil { // it got somewhere
		b = b[:f.d.rng.IntN(len(b)+1)]
	}
	if off+int64(len(b)) > int64(len(f.i.now)) {
		panic("a write behind the end of what was allocated")
	}
	f.i.put(pendingWrite{off: off, b: slices.Clone(b)})
	if err == nil {
		err = f.d.ended()
	}
	return len(b), err
}

func errIf(is bool, err error) error {
	if is {
		return err
	}
	return nil
}

// put adds a write to what everybody sees.
func (i *inode) put(w pendingWrite) {
	i.pending = append(i.pending, w)
	i.now = w.apply(i.now)
}

func (w pendingWrite) apply(b []byte) []byte {
	if w.b == nil {
		return append(b, make([]byte, max(w.size-int64(len(b)), 0))...)
	}
	if end := w.off + int64(len(w.b)); end > int64(len(b)) {
		b = append(b, make([]byte, end-int64(len(b)))...)
	}
	copy(b[w.off:], w.b)
	return b
}

func (f *diskFile) Allocate(size int64) error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.begin(opAlloc); err != nil {
		return err
	}
	more := size - int64(len(f.i.now))
	if more <= 0 {
		return nil
	}
	if more > f.d.room {
		return &os.PathError{Op: "fallocate", Path: f.name, Err: syscall.ENOSPC}
	}
	f.d.room -= more
	f.i.put(pendingWrite{size: size})
	return f.d.ended()
}

func (f *diskFile) Sync() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.begin(opSync); err != nil {
		return &vfs.SyncError{Err: err}
	}
	if err := f.d.ended(); err != nil { // the power went first
		return &vfs.SyncError{Err: err}
	}
	for _, w := range f.i.pending {
		f.i.safe = w.apply(f.i.safe)
	}
	f.i.pending = nil
	return nil
}

func (f *diskFile) Size() (int64, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	return int64(len(f.i.now)), nil
}

func (f *diskFile) Close() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if f.done {
		return os.ErrClosed
	}
	f.done = true
	f.d.open--
	return nil
}

// survive returns what a power cut leaves of the disk: of what was not synced, keep in 100 of the sectors and of the moves of names.
func (d *disk) survive(seed uint64, keep int) *disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	after := newDisk(seed)
	rng := after.rng
	lucky := func() bool { return rng.IntN(100) < keep }
	left := map[*inode]*inode{}
	file := func(i *inode) *inode {
		if left[i] == nil {
			b := slices.Clone(i.safe)
			for _, w := range i.pending {
				if w.b == nil {
					if lucky() {
						b = w.apply(b)
					}
					continue
				}
				for from := w.off; from < w.off+int64(len(w.b)); {
					to := min((from/sector+1)*sector, w.off+int64(len(w.b)))
					if lucky() {
						b = pendingWrite{off: from, b: w.b[from-w.off : to-w.off]}.apply(b)
					}
					from = to
				}
			}
			left[i] = &inode{safe: b, now: slices.Clone(b), bad: maps.Clone(i.bad)}
		}
		return left[i]
	}
	names, lost := maps.Clone(d.safe), map[string]bool{}
	for _, m := range d.moves {
		if m.from != "" && lost[m.from] || m.to != "" && lost[m.to] || !lucky() {
			lost[m.to], lost[m.from] = true, true
			continue
		}
		delete(names, m.from)
		if m.to != "" {
			names[m.to] = m.i
		}
	}
	for name, i := range names {
		after.names[name] = file(i)
	}
	after.safe = maps.Clone(after.names)
	after.room = d.room
	return after
}
