package boltstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync"

	"latchkey/internal/journal"
	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// readSize is what one reader of a message holds: a block with its sums, and an ordinary prefix before it, so that a small message for one
// mailbox is read in one piece.
const readSize = blockSize + 4<<10

// recordReader yields a copy's prefix and what of its message lies in the record, each block only after its checksum held.
type recordReader struct {
	pin   *journal.Pin
	pool  *sync.Pool
	what  store.MessageID
	place journal.Place
	// prefixAt and prefixLen are as in a listing; prefixLen 0 and prefixAt 0 is no prefix.
	prefixAt, prefixLen int64
	sums                []byte
	next                int64 // octets of the body that were read
	ready               []byte
	prefix              []byte // large ones lie outside buf
	buf                 *[readSize]byte
	err                 error
	began               bool
}

func (r *recordReader) damaged(format string, args ...any) error {
	return fmt.Errorf("%w: message %s: "+format, append([]any{store.ErrDamaged, r.what}, args...)...)
}

// Read yields checked octets, or store.ErrDamaged.
func (r *recordReader) Read(p []byte) (int, error) {
	for len(r.prefix) == 0 && len(r.ready) == 0 {
		if r.err == nil {
			r.err = r.fill()
		}
		if r.err != nil {
			return 0, r.err
		}
	}
	if len(r.prefix) > 0 {
		n := copy(p, r.prefix)
		r.prefix = r.prefix[n:]
		return n, nil
	}
	n := copy(p, r.ready)
	r.ready = r.ready[n:]
	return n, nil
}

// WriteTo implements io.WriterTo: what was checked goes out without a copy in between.
func (r *recordReader) WriteTo(w io.Writer) (n int64, err error) {
	for {
		for _, piece := range [2]*[]byte{&r.prefix, &r.ready} {
			if len(*piece) == 0 {
				continue
			}
			m, err := w.Write(*piece)
			n += int64(m)
			*piece = (*piece)[m:]
			if err != nil {
				return n, err
			}
		}
		if r.err == nil {
			r.err = r.fill()
		}
		if errors.Is(r.err, io.EOF) {
			return n, nil
		}
		if r.err != nil {
			return n, r.err
		}
	}
}

// fill reads the next block, the first time with all that lies before it.
func (r *recordReader) fill() error {
	if r.buf == nil {
		r.buf, _ = r.pool.Get().(*[readSize]byte)
	}
	if !r.began {
		r.began = true
		return r.fillFirst()
	}
	if r.next >= r.place.Size {
		r.giveBuffer() // whoever reads may keep this open while it waits for somebody else
		return io.EOF
	}
	block := r.buf[:min(blockSize, r.place.Size-r.next)]
	if err := r.readAt(block, r.place.Offset+int64(len(r.sums))+r.next); err != nil {
		return err
	}
	return r.check(block)
}

func (r *recordReader) fillFirst() error {
	sums := journal.SumsSize(r.place.Size)
	first := min(blockSize, r.place.Size)
	before := int64(0)
	if r.prefixLen > 0 {
		before = r.prefixAt
		if r.prefixAt != sumSize+r.prefixLen || before+sums+first > readSize {
			if err := r.readPrefix(); err != nil {
				return err
			}
			before = 0
		}
	}
	piece := r.buf[:min(before+sums+first, readSize)]
	if before+sums > int64(len(piece)) || sums > maxSums {
		return r.damaged("it has a body of %d octets in its record", r.place.Size)
	}
	if err := r.readAt(piece, r.place.Offset-before); err != nil {
		return err
	}
	if before > 0 {
		prefix, ok := checkedPrefix(piece, r.prefixLen)
		if !ok {
			return r.damaged("checksum of the lines before it")
		}
		r.prefix = prefix
	}
	r.sums = append(r.sums, piece[before:before+sums]...)
	block := piece[before+sums:]
	if int64(len(block)) < first { // sums of a whole block did not fit beside it
		block = r.buf[:first]
		if err := r.readAt(block, r.place.Offset+sums); err != nil {
			return err
		}
	}
	if len(block) == 0 {
		return nil
	}
	return r.check(block)
}

// maxSums is what the sums of the largest body in a record take.
const maxSums = (spillAbove + blockSize - 1) / blockSize * sumSize

func (r *recordReader) readPrefix() error {
	b := make([]byte, sumSize+r.prefixLen)
	if err := r.readAt(b, r.place.Offset-r.prefixAt); err != nil {
		return err
	}
	prefix, ok := checkedPrefix(b, r.prefixLen)
	if !ok {
		return r.damaged("checksum of the lines before it")
	}
	r.prefix = prefix
	return nil
}

func (r *recordReader) readAt(b []byte, off int64) error {
	if n, err := r.pin.ReadAt(b, off); n < len(b) {
		return r.damaged("segment %d at %d: %w", r.place.Generation, off, err)
	}
	return nil
}

func (r *recordReader) check(block []byte) error {
	i := r.next / blockSize
	want := binary.BigEndian.Uint32(r.sums[i*sumSize:])
	if sum := crc32.Checksum(block, castagnoli()); sum != want {
		return r.damaged("checksum of block %d is %08x, want %08x", i, sum, want)
	}
	r.next += int64(len(block))
	r.ready = block
	return nil
}

// Close gives the block back, and the pin.
func (r *recordReader) Close() error {
	r.giveBuffer()
	r.prefix, r.ready, r.err = nil, nil, store.ErrClosed
	if r.pin != nil {
		r.pin.Release()
		r.pin = nil
	}
	return nil
}

// giveBuffer lets others have the buffer; ready and prefix are empty, or not looked at again.
func (r *recordReader) giveBuffer() {
	if r.buf != nil {
		r.pool.Put(r.buf)
		r.buf = nil
	}
}

// largeReader yields a copy's prefix and then a large body.
type largeReader struct {
	prefix *recordReader // of no octets behind the prefix
	body   *bodyReader
	off    bool // the prefix is over
}

func (r *largeReader) Read(p []byte) (int, error) {
	if !r.off {
		n, err := r.prefix.Read(p)
		if !errors.Is(err, io.EOF) {
			return n, err
		}
		r.off = true
		if n > 0 {
			return n, nil
		}
	}
	return r.body.Read(p)
}

// WriteTo implements io.WriterTo.
func (r *largeReader) WriteTo(w io.Writer) (n int64, err error) {
	if !r.off {
		if n, err = r.prefix.WriteTo(w); err != nil {
			return n, err
		}
		r.off = true
	}
	m, err := r.body.WriteTo(w)
	return n + m, err
}

func (r *largeReader) Close() error { return errors.Join(r.prefix.Close(), r.body.Close()) }

// addresses reads a copy's sender and recipient from its message's record.
func (s *Store) addresses(l *listing) (sender, recipient mailaddr.Address, err error) {
	var none mailaddr.Address
	pin, err := s.journal.Pin(l.segment)
	if err != nil {
		return none, none, err
	}
	defer pin.Release()
	made, err := readEntry(pin, l.where(), l.octets())
	if err != nil {
		return none, none, err
	}
	switch m := made.(type) {
	case *messageEntry:
		c := m.firstCopy
		for i := range m.holders {
			if m.holders[i].account == 0 {
				continue
			}
			if c == l.id {
				return m.sender, m.holders[i].address, nil
			}
			c++
		}
	case *movedEntry:
		c := 0
		for i := range m.holders {
			if m.holders[i].account == 0 {
				continue
			}
			if m.copies[c] == l.id {
				return m.sender, m.holders[i].address, nil
			}
			c++
		}
	}
	return none, none, fmt.Errorf("%w: copy %d is not in its record", store.ErrDamaged, l.id)
}

// readEntry reads one record of a message again.
func readEntry(pin *journal.Pin, w where, octets int64) (entry, error) {
	r, err := pin.Record(journal.Place{Generation: w.segment, Offset: w.offset, Size: octets}, w.metaLen)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", store.ErrDamaged, err)
	}
	return decodeEntry(&r)
}
