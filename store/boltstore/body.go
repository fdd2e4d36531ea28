package boltstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"path/filepath"
	"sync"
	"sync/atomic"

	"latchkey/internal/vfs"
	"latchkey/store"
)

// blockSize is how much of a body one checksum covers, and how much of it a reader holds.
const blockSize = 64 << 10

// wideSize is what readers of bodies hold that are longer, if no more than maxWide do: fewer and larger pieces are quicker to send.
const (
	wideSize = 4 * blockSize
	maxWide  = 8
)

// sumSize is the size of one checksum in a file's trailer.
const sumSize = 4

// castagnoli returns the table of CRC32C; the hash package keeps it.
func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// summer computes the checksums of a body's blocks while its octets pass.
type summer struct {
	sums  []byte // of the complete blocks, big-endian
	crc   uint32 // of the block that is not complete
	block int    // its octets
	size  int64
}

func (s *summer) add(p []byte) {
	s.size += int64(len(p))
	for len(p) > 0 {
		n := min(len(p), blockSize-s.block)
		s.crc = crc32.Update(s.crc, castagnoli(), p[:n])
		p = p[n:]
		if s.block += n; s.block == blockSize {
			s.end()
		}
	}
}

func (s *summer) end() {
	s.sums = binary.BigEndian.AppendUint32(s.sums, s.crc)
	s.crc, s.block = 0, 0
}

// trailer returns what follows the body in its file: one checksum for each block, the last block shorter.
func (s *summer) trailer() []byte {
	if s.block > 0 {
		s.end()
	}
	return s.sums
}

// bodies is where large bodies lie: one file of large/ each, named by a random token.
type bodies struct {
	fs    vfs.FS
	dir   string        // the data directory
	syncs chan struct{} // bounds the syncs, each of which holds a thread
	pool  *sync.Pool    // of *[readSize]byte, for readers
	wide  wideBuffers

	mu     sync.Mutex
	flying map[token]struct{} // in large/, but not yet or no longer in the index; guarded by mu
}

// wideBuffers lends buffers of wideSize octets, maxWide at a time.
type wideBuffers struct {
	taken atomic.Int32
	pool  sync.Pool // of *[wideSize]byte
}

// borrow returns a buffer, or nil if there is none left.
func (w *wideBuffers) borrow() *[wideSize]byte {
	if w.taken.Add(1) > maxWide {
		w.taken.Add(-1)
		return nil
	}
	if b, ok := w.pool.Get().(*[wideSize]byte); ok {
		return b
	}
	return new([wideSize]byte)
}

func (w *wideBuffers) giveBack(b *[wideSize]byte) {
	w.pool.Put(b)
	w.taken.Add(-1)
}

// launch notes that a body is in large/ without a record in the index, and landed that this is over.
func (b *bodies) launch(t token) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.flying[t] = struct{}{}
}

func (b *bodies) landed(t token) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.flying, t)
}

func (b *bodies) isFlying(t token) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, ok := b.flying[t]
	return ok
}

func (b *bodies) large(t token) string { return filepath.Join(b.dir, largeName, t.String()) }
func (b *bodies) tmp(t token) string   { return filepath.Join(b.dir, tmpName, t.String()) }

// seal makes a complete file of tmp/ durable and gives it its place in large/. The entry there is durable after the next SyncDir,
// which the committer does once for a whole group. The caller says landed when the body is in the index, or gone.
func (b *bodies) seal(f vfs.File, t token, s *summer) (sum uint32, err error) {
	trailer := s.trailer()
	if len(trailer) > 0 {
		_, err = f.Write(trailer)
	}
	if err == nil {
		b.syncs <- struct{}{}
		if err = f.Sync(); err != nil {
			err = &vfs.SyncError{Err: err}
		}
		<-b.syncs
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return 0, err
	}
	b.launch(t)
	if err = b.fs.Rename(b.tmp(t), b.large(t)); err != nil {
		b.landed(t)
	}
	return crc32.Checksum(trailer, castagnoli()), err
}

// open returns a reader of a body. A missing or cut file is damage.
func (b *bodies) open(ref body) (*bodyReader, error) {
	f, err := b.fs.Open(b.large(ref.token))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: body %s is missing: %w", store.ErrDamaged, ref.token, err)
	}
	if err != nil {
		return nil, fmt.Errorf("body %s: %w", ref.token, err)
	}
	r := &bodyReader{f: f, ref: ref, bodies: b}
	if err := r.readTrailer(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return r, nil
}

// bodyReader yields a body, each block only after its checksum held. It keeps one block in memory, or wideSize octets.
type bodyReader struct {
	f      vfs.File
	ref    body
	bodies *bodies
	sums   []byte
	next   int    // the block to be read next
	ready  []byte // what is left of the present blocks
	buf    *[readSize]byte
	wide   *[wideSize]byte // instead of buf
	err    error
}

func (r *bodyReader) damaged(format string, args ...any) error {
	return fmt.Errorf("%w: body %s: "+format, append([]any{store.ErrDamaged, r.ref.token}, args...)...)
}

func (r *bodyReader) readTrailer() error {
	length := (r.ref.size + blockSize - 1) / blockSize * sumSize
	size, err := r.f.Size()
	if err != nil {
		return fmt.Errorf("body %s: %w", r.ref.token, err)
	}
	if size != r.ref.size+length {
		return r.damaged("the file has %d octets, want %d", size, r.ref.size+length)
	}
	r.sums = make([]byte, length)
	if _, err := io.ReadFull(io.NewSectionReader(r.f, r.ref.size, length), r.sums); err != nil {
		return r.damaged("trailer: %w", err)
	}
	if sum := crc32.Checksum(r.sums, castagnoli()); sum != r.ref.sum {
		return r.damaged("checksum of the trailer is %08x, want %08x", sum, r.ref.sum)
	}
	return nil
}

// Read yields checked octets, or store.ErrDamaged.
func (r *bodyReader) Read(p []byte) (int, error) {
	if len(r.ready) == 0 && r.err == nil {
		r.err = r.fill()
	}
	if len(r.ready) == 0 {
		return 0, r.err
	}
	n := copy(p, r.ready)
	r.ready = r.ready[n:]
	return n, nil
}

// WriteTo implements io.WriterTo, without a copy in between.
func (r *bodyReader) WriteTo(w io.Writer) (n int64, err error) {
	for {
		if len(r.ready) > 0 {
			m, err := w.Write(r.ready)
			n += int64(m)
			r.ready = r.ready[m:]
			if err != nil {
				return n, err
			}
		}
		if r.err == nil {
			r.err = r.fill()
			continue // what is there comes before an error
		}
		if errors.Is(r.err, io.EOF) {
			return n, nil
		}
		return n, r.err
	}
}

// fill reads the next blocks. Those before a bad one are yielded.
func (r *bodyReader) fill() error {
	off := int64(r.next) * blockSize
	if off >= r.ref.size {
		return io.EOF
	}
	piece := r.space()
	piece = piece[:min(int64(len(piece)), r.ref.size-off)]
	n, err := r.f.ReadAt(piece, off)
	for at := 0; at < len(piece); r.next++ {
		block := piece[at:min(at+blockSize, len(piece))]
		if at+len(block) > n {
			return r.damaged("block %d: %w", r.next, err)
		}
		want := binary.BigEndian.Uint32(r.sums[r.next*sumSize:])
		if sum := crc32.Checksum(block, castagnoli()); sum != want {
			return r.damaged("checksum of block %d is %08x, want %08x", r.next, sum, want)
		}
		at += len(block)
		r.ready = piece[:at]
	}
	return nil
}

// space is what the next blocks are read into.
func (r *bodyReader) space() []byte {
	if r.buf == nil && r.wide == nil && r.ref.size > blockSize {
		r.wide = r.bodies.wide.borrow()
	}
	if r.wide != nil {
		return r.wide[:]
	}
	if r.buf == nil {
		r.buf, _ = r.bodies.pool.Get().(*[readSize]byte)
	}
	return r.buf[:blockSize]
}

// Close gives the file and the memory back.
func (r *bodyReader) Close() error {
	if r.buf != nil {
		r.bodies.pool.Put(r.buf)
	}
	if r.wide != nil {
		r.bodies.wide.giveBack(r.wide)
	}
	r.buf, r.wide, r.ready = nil, nil, nil
	r.err = store.ErrClosed
	f := r.f
	if r.f = nil; f == nil {
		return nil
	}
	return f.Close()
}
