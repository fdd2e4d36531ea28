package journal

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"path/filepath"
	"testing"
)

// fuzzed is a segment of 8 KiB with a stamp that is always the same, and what was written into it.
func fuzzed() (file []byte, entries []entry) {
	const stamp = 0x6c61746368206b79
	file = make([]byte, 8<<10)
	copy(file, header{1, stamp}.encode())
	off := int64(headerSize)
	for seq := uint64(1); seq <= 12; seq++ {
		body := bytes.Repeat([]byte{byte(seq)}, int(seq%4)*30)
		b := bodyOf(body)
		meta := bytes.Repeat([]byte("m"), int(seq))
		f := frame{kind: Kind(1 + seq%3), index: uint16((seq - 1) % 3), meta: uint32(len(meta)), body: uint32(len(body)), group: (seq + 2) / 3, seq: seq}
		copy(file[off+frameSize:], meta)
		copy(file[off+f.sums():], b.Sums)
		copy(file[off+f.head():], body)
		f.put(file[off:], stamp)
		place := Place{Generation: 1, Offset: off + f.sums(), Size: b.Size}
		off += f.size()
		entries = append(entries, entry{f.kind, string(meta), body, place, Mark{1, off, f.group, f.seq}})
	}
	return file, entries
}

// FuzzRecover: whatever a segment holds, nothing panics, and only records come back that were written, in order and where they were
// written or, in salvage, where a copy of them is.
func FuzzRecover(f *testing.F) {
	file, entries := fuzzed()
	add := func(b []byte, from uint16) { // without what is always zeros
		short := b
		if len(b) > headerSize {
			short = append(bytes.Clone(b[:headerUsed]), bytes.TrimRight(b[headerSize:], "\x00")...)
		}
		f.Add(short, from)
	}
	add(file, 0)
	add(file[:entries[5].end.Offset+7], 0)
	add(file[:headerSize+20], 3)
	add(file[:100], 0)
	for i, off := range []int64{9, 25, headerSize, entries[3].end.Offset + 9, entries[6].end.Offset - 1, entries[10].end.Offset + 20} {
		b := bytes.Clone(file)
		b[off] ^= 1
		add(b, uint16(i))
	}
	moved := bytes.Clone(file)
	copy(moved[entries[7].end.Offset:], file[entries[8].end.Offset:])
	add(moved, 1)
	wide := bytes.Clone(file)
	binary.BigEndian.PutUint32(wide[headerSize+20:], 1<<31)
	add(wide, 0)
	f.Fuzz(func(t *testing.T, short []byte, from uint16) {
		b := make([]byte, headerSize, headerSize+len(short)+pageSize)
		if copy(b, short[:min(len(short), headerUsed)]); len(short) > headerUsed {
			b = append(b, short[headerUsed:]...)
			b = b[:min(int64(cap(b)), roundUp(int64(len(b))))]
		}
		var mark Mark
		if n := int(from) % (len(entries) + 1); n > 0 {
			mark = entries[n-1].end
		}
		for _, salvage := range []bool{false, true} {
			d := newDisk(1)
			o := small(d)
			if salvage {
				o.Salvage = func(Damage) {}
			}
			d.names[filepath.Join(dir, fileName(1, segmentSuffix))] = &inode{now: bytes.Clone(b)}
			last := mark.Seq
			j, err := Open(context.Background(), dir, mark, o, func(r Record) error {
				if r.Seq <= last || r.Seq > uint64(len(entries)) || !salvage && r.Seq != last+1 {
					t.Fatalf("record %d behind %d", r.Seq, last)
				}
				last = r.Seq
				e := entries[r.Seq-1]
				if r.Kind != e.kind || string(r.Meta) != e.meta || r.Body.Size != e.place.Size || !salvage && r.End != e.end {
					t.Fatalf("%+v was not written, but %+v", r, e)
				}
				if got := b[r.Body.Offset+SumsSize(r.Body.Size):][:r.Body.Size]; !bytes.Equal(got, e.body) {
					t.Fatalf("the body of record %d is not what was written", r.Seq)
				}
				return nil
			})
			if err != nil {
				if salvage || !errors.Is(err, ErrDamaged) {
					t.Fatalf("Open: %v", err)
				}
				continue
			}
			_, _, err = j.Append(1, nil, Body{}, false)
			if err == nil {
				_, err = j.Commit()
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
		}
	})
}
