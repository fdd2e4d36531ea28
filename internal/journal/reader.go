package journal

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"latchkey/internal/vfs"
)

const (
	// readAhead is how much of a segment is read at once.
	readAhead = 256 << 10
	// stampSize is the size of a stamp, with which each record begins.
	stampSize = 8
)

// reader reads records of one segment.
type reader struct {
	file  vfs.File
	stamp uint64
	size  int64
	// lenient passes over what the device cannot read.
	lenient bool
	buf     []byte // what the file holds from off on
	off     int64
}

// reset turns to another file; the buffer's memory is kept.
func (r *reader) reset(s *segment) {
	r.file, r.stamp, r.size, r.buf, r.off = s.file, s.stamp, s.size, r.buf[:0], 0
}

// at returns n octets at off, which are within the size; they are valid until the next call.
func (r *reader) at(off, n int64) ([]byte, error) {
	if off >= r.off && off+n <= r.off+int64(len(r.buf)) {
		return r.buf[off-r.off:][:n], nil
	}
	err := r.fill(off, min(max(n, readAhead), r.size-off))
	if int64(len(r.buf)) < n { // what was read ahead may be what cannot be read
		err = r.fill(off, n)
	}
	if int64(len(r.buf)) < n {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("journal: reading a segment: %w", err)
	}
	return r.buf[:n], nil
}

// fill reads want octets at off, or fewer with an error.
func (r *reader) fill(off, want int64) error {
	if int64(cap(r.buf)) < want {
		r.buf = make([]byte, want)
	}
	got, err := r.file.ReadAt(r.buf[:want], off)
	r.buf, r.off = r.buf[:got], off
	return err
}

// header reads the header, which is to be that of the given generation; bad says why it is not to be trusted.
func (r *reader) header(generation uint64) (h header, bad string, err error) {
	b, err := r.at(0, min(r.size, headerUsed))
	if err != nil {
		return h, "", err
	}
	if h, bad = parseHeader(b); bad == "" && h.generation != generation {
		bad = fmt.Sprintf("the header is that of segment %d", h.generation)
	}
	return h, bad, nil
}

// frame reads the frame at off and checks it with meta and sums; bad says why there is none. head is valid until the next call.
func (r *reader) frame(off int64) (f frame, head []byte, bad string, err error) {
	if r.size-off < frameSize {
		return f, nil, "the segment ends here", nil
	}
	if head, err = r.at(off, frameSize); err != nil {
		return f, nil, "", err
	}
	if f, bad = parseFrame(head, r.stamp); bad != "" {
		return f, nil, bad, nil
	}
	if f.size() > r.size-off {
		return f, nil, "the record is longer than the segment", nil
	}
	if head, err = r.at(off, f.head()); err != nil {
		return f, nil, "", err
	}
	if !f.checkHead(head) {
		return f, nil, "the checksum of the record's frame does not hold", nil
	}
	return f, head, "", nil
}

// record reads the record at off, and its body block by block. meta is a copy in space, which grows as needed.
func (r *reader) record(off int64, space *[]byte) (f frame, meta []byte, bad string, err error) {
	f, head, bad, err := r.frame(off)
	if bad != "" || err != nil {
		return f, nil, bad, err
	}
	*space = append((*space)[:0], head[frameSize:]...)
	meta, sums := (*space)[:f.meta], (*space)[f.meta:]
	for at, left := off+f.head(), int64(f.body); left > 0; sums = sums[SumSize:] {
		n := min(left, BlockSize)
		block, err := r.at(at, n)
		if err != nil {
			return f, nil, "", err
		}
		if crc32.Checksum(block, castagnoli) != binary.BigEndian.Uint32(sums) {
			return f, nil, "the checksum of a block of the record's body does not hold", nil
		}
		at, left = at+n, left-n
	}
	return f, meta, "", nil
}

// find looks for the stamp at any octet of [from, to), which is as far as the file goes, and calls hit with each place until it returns
// true. hit does not use this reader.
func (r *reader) find(ctx context.Context, from, to int64, hit func(off int64) (done bool, err error)) error {
	stamp := binary.BigEndian.AppendUint64(nil, r.stamp)
	to = min(to, r.size)
	for from+stampSize <= to {
		if err := ctx.Err(); err != nil {
			return err
		}
		b, err := r.at(from, min(readAhead, to-from))
		if err != nil && r.lenient {
			b, err = r.at(from, min(roundUp(from+stampSize), to)-from)
		}
		if err != nil && r.lenient {
			from = roundUp(from + 1)
			continue
		}
		if err != nil {
			return err
		}
		for i := 0; ; i++ {
			next := bytes.Index(b[i:], stamp)
			if next < 0 {
				break
			}
			i += next
			if done, err := hit(from + int64(i)); done || err != nil {
				return err
			}
		}
		from += int64(len(b)) - stampSize + 1
	}
	return nil
}
