package boltstore

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math/bits"

	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// Of the blocks of the trail.
const (
	// trailPiece is how many octets of a block or run one entry of the index has at most. Four such entries fill a page of 4 KiB.
	trailPiece = 992
	// maxTrailValue bounds what the pieces of one block or run have together, in octets.
	maxTrailValue = 256 << 10
	// wordBits is the least that a filter has for each word, wordProbes how many of them a word sets: of 1,000 words that are not in a block one
	// or two seem to be.
	wordBits   = 14
	wordProbes = 8
	// trailLevel is the effort of compress/flate.
	trailLevel = flate.BestSpeed
)

// hashKey is a number of no meaning with about as many ones as zeros.
const hashKey = 0x9e3779b97f4a7c15

// hashStep takes a number into a hash.
func hashStep(h, n uint64) uint64 {
	high, low := bits.Mul64(h^n, hashKey)
	return high ^ low
}

// hashText takes a text into a hash, eight octets at a time, and how long it is.
func hashText(h uint64, s string) uint64 {
	h = hashStep(h, uint64(len(s)))
	for ; len(s) >= 8; s = s[8:] {
		h = hashStep(h, uint64(s[0])|uint64(s[1])<<8|uint64(s[2])<<16|uint64(s[3])<<24|uint64(s[4])<<32|uint64(s[5])<<40|uint64(s[6])<<48|uint64(s[7])<<56)
	}
	n := uint64(0)
	for i := range len(s) {
		n = n<<8 | uint64(s[i])
	}
	return hashStep(h, n)
}

// The words by which events are found: a Message-ID, an address, a message id, a mailbox and a word of a subject. Each begins with a number of
// its own.
func textWord(s string) uint64 { return hashStep(hashText(1, s), 0) }
func addressWord(a mailaddr.Address) uint64 {
	return hashStep(hashText(hashText(2, a.Local()), a.Domain()), 0)
}
func messageWord(id store.MessageID) uint64   { return hashStep(hashStep(3, uint64(id)), 0) }
func accountWord(id store.AccountID) uint64   { return hashStep(hashStep(4, uint64(id)), 0) }
func subjectWord(t store.SubjectToken) uint64 { return hashStep(hashStep(5, uint64(t)), 0) }

// filter is a Bloom filter.
type filter []byte

// bit returns where a word's i-th bit is.
func (f filter) bit(word uint64, i uint32) (octet int, mask byte) {
	h := uint32(word) + i*(uint32(word>>32)|1)
	n, _ := bits.Mul32(h, uint32(8*len(f)))
	return int(n / 8), 1 << (n % 8)
}

func (f filter) add(word uint64) {
	for i := range uint32(wordProbes) {
		octet, mask := f.bit(word, i)
		f[octet] |= mask
	}
}

// has reports whether a word may have been added; it is never wrong about one that was.
func (f filter) has(word uint64) bool {
	for i := range uint32(wordProbes) {
		octet, mask := f.bit(word, i)
		if f[octet]&mask == 0 {
			return false
		}
	}
	return true
}

// packer compresses runs. It is some 800 KiB of memory once it was used.
type packer struct {
	group []byte
	out   bytes.Buffer
	flate *flate.Writer
}

// pack returns the run's columns compressed, which are valid until the next run, and how many octets they were.
func (p *packer) pack(r *trailRun) (packed []byte, octets int) {
	p.out.Reset()
	if p.flate == nil {
		p.flate, _ = flate.NewWriter(&p.out, trailLevel) // fails for a wrong level only
	} else {
		p.flate.Reset(&p.out)
	}
	from := 0
	for _, to := range columnGroups {
		p.group = r.appendColumns(p.group[:0], from, to)
		_, _ = p.flate.Write(p.group) // a buffer in memory takes everything
		_ = p.flate.Flush()
		octets += len(p.group)
		from = to
	}
	_ = p.flate.Close()
	return p.out.Bytes(), octets
}

// blockHead begins a block, behind its checksums.
type blockHead struct {
	runHead
	octets int // of the run's columns, before they are compressed
	filter int // octets
	start  int // of the filter in the block
}

const (
	// sumsLen is the length of the checksums (CRC32C) before a block: first that of head and filter, then that of the events.
	sumsLen = 2 * crc32.Size
	// lengthsLen is what the lengths in a block's head take.
	lengthsLen = 8
)

// end is where the filter ends and the events begin.
func (h *blockHead) end() int { return h.start + h.filter }

// filterOf returns the filter of the block that begins with b, of which there are h.end() octets at least.
func (h *blockHead) filterOf(b []byte) filter { return b[h.start:h.end()] }

func (h *blockHead) encode(e *encoder) {
	h.runHead.encode(e)
	e.uint32(uint32(h.octets))
	e.uint32(uint32(h.filter))
}

// decodeBlockHead reads the head at the beginning of a block. Whether it is what was written is for sound to say.
func decodeBlockHead(b []byte) (blockHead, error) {
	d := decoder{b: b}
	d.take(sumsLen)
	h := blockHead{runHead: d.runHead()}
	octets, filter := d.uint32(), d.uint32()
	if d.err != nil || octets > maxRunOctets || filter == 0 || filter > maxTrailValue {
		return h, errShortRecord
	}
	h.octets, h.filter, h.start = int(octets), int(filter), len(b)-len(d.b)
	return h, nil
}

// sound compares head and filter of the block that begins with b with their checksum.
func (h *blockHead) sound(b []byte) error {
	if len(b) < h.end() {
		return errShortRecord
	}
	return compareSum(b[sumsLen:h.end()], b)
}

// compareSum compares octets with the checksum that sum begins with.
func compareSum(b, sum []byte) error {
	if got, want := crc32.Checksum(b, castagnoli()), binary.BigEndian.Uint32(sum); got != want {
		return fmt.Errorf("%w: its checksum is %08x, want %08x", errShortRecord, got, want)
	}
	return nil
}

// encodeBlock seals the run: checksums, head, filter, events. It is as long as some whole pieces; the filter has what is left over.
func encodeBlock(r *trailRun) []byte {
	packed, octets := r.packer.pack(r)
	h := blockHead{runHead: r.head, octets: octets, filter: max((len(r.words)*wordBits+7)/8, 1)}
	var head encoder
	h.runHead.encode(&head)
	h.start = sumsLen + len(head.b) + lengthsLen
	if rest := (h.end() + len(packed)) % trailPiece; rest > 0 {
		h.filter += trailPiece - rest
	}
	e := encoder{b: make([]byte, sumsLen, h.end()+len(packed))}
	h.encode(&e)
	e.b = e.b[:h.end()]
	f := h.filterOf(e.b)
	for _, word := range r.words {
		f.add(word)
	}
	binary.BigEndian.PutUint32(e.b, crc32.Checksum(e.b[sumsLen:], castagnoli()))
	binary.BigEndian.PutUint32(e.b[crc32.Size:], crc32.Checksum(packed, castagnoli()))
	e.raw(packed)
	return e.b
}

// encodeOpen is the run as it is kept until it is sealed: checksum, head, columns.
func encodeOpen(r *trailRun) []byte {
	e := encoder{b: make([]byte, crc32.Size, r.octets()+128)}
	r.head.encode(&e)
	e.b = r.appendColumns(e.b, 0, numColumns)
	binary.BigEndian.PutUint32(e.b, crc32.Checksum(e.b[crc32.Size:], castagnoli()))
	return e.b
}

// decodeOpenHead reads the head of what encodeOpen made, and returns what follows it.
func decodeOpenHead(b []byte) (runHead, []byte, error) {
	d := decoder{b: b}
	d.take(crc32.Size)
	h := d.runHead()
	return h, d.b, d.err
}

// trailDecoder opens runs and blocks, one after the other, in memory that it keeps.
type trailDecoder struct {
	runReader
	source  bytes.Reader
	inflate io.ReadCloser
	octets  []byte
}

// openValue begins to read a block, or a run that waits to be in one.
func (t *trailDecoder) openValue(id bucketID, b []byte) error {
	if id == bTrail {
		return t.openBlock(b)
	}
	h, columns, err := decodeOpenHead(b)
	if err == nil {
		err = compareSum(b[crc32.Size:], b)
	}
	if err != nil {
		return err
	}
	return t.open(h, columns)
}

// openBlock begins to read what encodeBlock made.
func (t *trailDecoder) openBlock(b []byte) error {
	h, err := decodeBlockHead(b)
	if err == nil {
		err = h.sound(b)
	}
	if err == nil {
		err = compareSum(b[h.end():], b[crc32.Size:])
	}
	if err != nil {
		return err
	}
	t.source.Reset(b[h.end():])
	if t.inflate == nil {
		t.inflate = flate.NewReader(&t.source)
	} else if err := t.inflate.(flate.Resetter).Reset(&t.source, nil); err != nil {
		return fmt.Errorf("%w: %w", errShortRecord, err)
	}
	if cap(t.octets) < h.octets {
		t.octets = make([]byte, maxRunOctets)
	}
	t.octets = t.octets[:h.octets]
	if _, err := io.ReadFull(t.inflate, t.octets); err != nil {
		return fmt.Errorf("%w: %w", errShortRecord, err)
	}
	return t.open(h.runHead, t.octets)
}

// trailChecker looks at blocks and runs as a whole.
type trailChecker struct {
	d    trailDecoder
	run  *trailRun
	open uint64 // octets of the runs
}

// check reads every event, encodes it again, and asks the block's filter for what it is found by.
func (k *trailChecker) check(id bucketID, p *pieces) error {
	b, err := p.octets(maxTrailValue)
	if err != nil {
		return err
	}
	if id == bTrailOpen {
		k.open += uint64(len(b))
	}
	if err := k.d.openValue(id, b); err != nil {
		return err
	}
	if k.run == nil {
		k.run = newTrailRun()
	}
	k.run.reset()
	if err := k.d.each(func() error {
		e, err := k.d.event()
		if err == nil {
			err = k.run.add(&e)
		}
		return err
	}); err != nil {
		return err
	}
	if k.run.head != k.d.head || k.run.head.last != p.last {
		return fmt.Errorf("%w: its head says %+v, its events are %+v", errShortRecord, k.d.head, k.run.head)
	}
	if id == bTrailOpen {
		return nil
	}
	h, err := decodeBlockHead(b)
	for _, word := range k.run.words {
		if err == nil && !h.filterOf(b).has(word) {
			err = fmt.Errorf("%w: its filter does not know all events", errShortRecord)
		}
	}
	return err
}
