package journal

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"latchkey/internal/vfs"
)

// TestMendHeader: a header that cannot be read is written again from the first record, or from one whose place is known, exactly as it was; a header
// of another segment is left alone.
func TestMendHeader(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "journal")
	j, _ := open(t, dir, Mark{}, small(vfs.OS{}))
	var places []Place
	for i := range 3 {
		p, _, err := j.Append(1, []byte("meta"), bodyOf(bytes.Repeat([]byte{byte(i)}, 100)), false)
		if err != nil {
			t.Fatal(err)
		}
		places = append(places, p)
	}
	if _, err := j.Commit(); err != nil {
		t.Fatal(err)
	}
	if size := RecordSize(4, 100); places[1].Offset-places[0].Offset != size || size != frameSize+4+SumSize+100 {
		t.Errorf("a record has %d octets, RecordSize says %d", places[1].Offset-places[0].Offset, size)
	}
	pin, err := j.Pin(1)
	if err != nil {
		t.Fatal(err)
	}
	stamp, err := pin.Stamp()
	pin.Release()
	if err = errors.Join(err, j.Close()); err != nil || stamp == 0 {
		t.Fatal(stamp, err)
	}
	path := filepath.Join(dir, SegmentName(1))
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	second := map[Place]int64{places[1]: 4}
	for _, tt := range []struct {
		name     string
		damage   func(b []byte) []byte
		known    map[Place]int64
		bad      bool
		mendable bool
	}{
		{"nothing", func(b []byte) []byte { return b }, nil, false, false},
		{"zeros", func(b []byte) []byte { clear(b[:headerSize]); return b }, nil, true, true},
		{"one bit", func(b []byte) []byte { b[13] ^= 1; return b }, nil, true, true},
		{"first record too", func(b []byte) []byte { clear(b[:headerSize+20]); return b }, nil, true, false},
		{"first record too, the second is known", func(b []byte) []byte { clear(b[:headerSize+20]); return b }, second, true, true},
		{"places that are none", func(b []byte) []byte { clear(b[:headerSize+20]); return b }, map[Place]int64{
			{Generation: 1, Offset: 10}: 4, {Generation: 1, Offset: 1 << 40}: 4, {Generation: 2, Offset: places[1].Offset}: 4, {Generation: 1, Offset: places[1].Offset + 1}: 4,
		}, true, false},
		{"another segment's", func(b []byte) []byte { copy(b, header{7, 7}.encode()); return b }, second, true, false},
		{"cut short", func(b []byte) []byte { return b[:headerSize] }, second, true, false},
		{"empty", func(b []byte) []byte { return nil }, second, true, false},
	} {
		if err := os.WriteFile(path, tt.damage(bytes.Clone(whole)), 0o600); err != nil {
			t.Fatal(err)
		}
		bad, mendable, err := InspectHeader(vfs.OS{}, dir, 1, tt.known)
		if err != nil || (bad != "") != tt.bad || mendable != tt.mendable {
			t.Errorf("%s: %q, mendable %t, %v", tt.name, bad, mendable, err)
		}
		if err := MendHeader(vfs.OS{}, dir, 1, tt.known); (err == nil) != tt.mendable || err != nil && !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", tt.name, err)
		}
		after, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if want := tt.damage(bytes.Clone(whole)); tt.mendable && !bytes.Equal(after[:headerSize], whole[:headerSize]) || !tt.mendable && !bytes.Equal(after, want) {
			t.Errorf("%s: the file is not what it should be", tt.name)
		}
	}
	if _, _, err := InspectHeader(vfs.OS{}, dir, 9, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no segment: %v", err)
	}
}

func TestSegmentNames(t *testing.T) {
	for _, generation := range []uint64{1, 0xabcdef, maxNumber} {
		if got, ok := ParseSegmentName(SegmentName(generation)); !ok || got != generation {
			t.Errorf("%d: %d, %t", generation, got, ok)
		}
	}
	for _, name := range []string{"", "1.seg", "0000000000000000.seg", "0000000000000001.spare", "0000000000000001.new", "000000000000000A.seg", "0000000000000001.seg.seg"} {
		if _, ok := ParseSegmentName(name); ok {
			t.Errorf("%q is a segment", name)
		}
	}
}
