package journal

import (
	"encoding/binary"
	"hash/crc32"
)

const (
	// headerSize is where a segment's records begin: a page, so that a header is never written together with records.
	headerSize = 4096
	// headerUsed is how much of it says something; the rest is zeros.
	headerUsed = 32
	// frameSize is the size of a record's frame.
	frameSize = 40
	// pageSize is what the page cache reads and writes at once.
	pageSize = 4096
	// formatVersion is that of segments.
	formatVersion = 1
	// maxNumber bounds generations, groups and sequence numbers, so that adding to them never overflows.
	maxNumber = 1 << 62

	magic = "latchkey"
)

// castagnoli is never changed.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// stampOf returns the stamp of the record that b begins with, if it does.
func stampOf(b []byte) uint64 { return binary.BigEndian.Uint64(b) }

// header is the beginning of a segment.
type header struct {
	generation, stamp uint64
}

// encode returns the whole first page.
func (h header) encode() []byte {
	b := make([]byte, headerSize)
	copy(b, magic)
	binary.BigEndian.PutUint32(b[8:], formatVersion)
	binary.BigEndian.PutUint64(b[12:], h.generation)
	binary.BigEndian.PutUint64(b[20:], h.stamp)
	binary.BigEndian.PutUint32(b[28:], crc32.Checksum(b[:28], castagnoli))
	return b
}

// parseHeader returns why b is no header, or "".
func parseHeader(b []byte) (h header, bad string) {
	if len(b) < headerUsed || string(b[:8]) != magic || crc32.Checksum(b[:28], castagnoli) != binary.BigEndian.Uint32(b[28:]) {
		return h, "the segment's header cannot be read"
	}
	if binary.BigEndian.Uint32(b[8:]) != formatVersion {
		return h, "the segment is of another format version"
	}
	h = header{binary.BigEndian.Uint64(b[12:]), binary.BigEndian.Uint64(b[20:])}
	if h.generation == 0 || h.generation > maxNumber {
		return h, "the segment's generation is out of range"
	}
	return h, ""
}

// frame is the beginning of a record.
type frame struct {
	kind Kind
	// index is the number of records of the same group before it: seq-index is the first of the group.
	index      uint16
	meta, body uint32
	group, seq uint64
}

// sums is where the sums begin, counted from the frame's beginning.
func (f *frame) sums() int64 { return frameSize + int64(f.meta) }

// head is the length of all that the frame's checksum covers, and of the checksum.
func (f *frame) head() int64 { return f.sums() + SumsSize(int64(f.body)) }

// size is the record's length.
func (f *frame) size() int64 { return f.head() + int64(f.body) }

// encode writes the frame, without its checksum, into the first frameSize octets of b.
func (f *frame) encode(b []byte, stamp uint64) {
	binary.BigEndian.PutUint64(b, stamp)
	b[12], b[13] = byte(f.kind), 0
	binary.BigEndian.PutUint16(b[14:], f.index)
	binary.BigEndian.PutUint32(b[16:], f.meta)
	binary.BigEndian.PutUint32(b[20:], f.body)
	binary.BigEndian.PutUint64(b[24:], f.group)
	binary.BigEndian.PutUint64(b[32:], f.seq)
}

// put writes the frame before the meta and sums that are in b already, with the checksum over all of it.
func (f *frame) put(b []byte, stamp uint64) {
	f.encode(b, stamp)
	binary.BigEndian.PutUint32(b[8:], crc32.Checksum(b[12:f.head()], castagnoli))
}

// parseFrame returns why b, of which frameSize octets are looked at, is no frame with this stamp, or "".
func parseFrame(b []byte, stamp uint64) (f frame, bad string) {
	if stampOf(b) != stamp {
		return f, "no record begins here"
	}
	f = frame{
		kind: Kind(b[12]), index: binary.BigEndian.Uint16(b[14:]),
		meta: binary.BigEndian.Uint32(b[16:]), body: binary.BigEndian.Uint32(b[20:]),
		group: binary.BigEndian.Uint64(b[24:]), seq: binary.BigEndian.Uint64(b[32:]),
	}
	if f.kind == 0 || b[13] != 0 || f.group == 0 || f.group > maxNumber || f.seq > maxNumber || f.seq <= uint64(f.index) || f.size() > MaxGroup {
		return f, "the record's frame makes no sense"
	}
	return f, ""
}

// checkHead reports whether the checksum over frame, meta and sums holds.
func (f *frame) checkHead(b []byte) bool {
	return crc32.Checksum(b[12:f.head()], castagnoli) == binary.BigEndian.Uint32(b[8:])
}

// unknown is the index of a record of which only the numbers are known.
const unknown = -2

// numbers are those of the record before a place.
type numbers struct {
	group, seq uint64
	index      int
}

func (f *frame) numbers() numbers { return numbers{f.group, f.seq, int(f.index)} }

// before returns the numbers that the record before f may have had.
func (f *frame) before() numbers { return numbers{f.group, f.seq - 1, int(f.index) - 1} }

// follows reports whether f is the next record.
func (f *frame) follows(last numbers) bool {
	if f.seq != last.seq+1 {
		return false
	}
	if f.group == last.group+1 {
		return f.index == 0
	}
	return f.group == last.group && (int(f.index) == last.index+1 || last.index == unknown && f.index > 0)
}

// proves reports whether f belongs to a group that began behind the record that should follow last: groups are written one after the
// other, so that record was durable.
func (f *frame) proves(last numbers) bool { return f.seq-uint64(f.index) > last.seq+1 }
