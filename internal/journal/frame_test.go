package journal

import (
	"encoding/binary"
	"hash/crc32"
	"testing"
)

// TestFollows: what may come behind a record.
func TestFollows(t *testing.T) {
	last := numbers{group: 7, seq: 40, index: 2}
	mark := numbers{group: 7, seq: 40, index: unknown}
	for _, test := range []struct {
		name                string
		f                   frame
		behind, behindAMark bool
	}{
		{"the next of the group", frame{group: 7, seq: 41, index: 3}, true, true},
		{"the first of the next group", frame{group: 8, seq: 41}, true, true},
		{"not the first of the next group", frame{group: 8, seq: 41, index: 1}, false, false},
		{"the first of the same group", frame{group: 7, seq: 41}, false, false},
		{"the same place in the group", frame{group: 7, seq: 41, index: 2}, false, true},
		{"a place too far in the group", frame{group: 7, seq: 41, index: 4}, false, true},
		{"a group too far", frame{group: 9, seq: 41}, false, false},
		{"an older group", frame{group: 6, seq: 41}, false, false},
		{"the same number", frame{group: 7, seq: 40, index: 3}, false, false},
		{"a number too far", frame{group: 7, seq: 42, index: 3}, false, false},
		{"a number too far, in the next group", frame{group: 8, seq: 42}, false, false},
	} {
		if got := test.f.follows(last); got != test.behind {
			t.Errorf("%s: %v", test.name, got)
		}
		if got := test.f.follows(mark); got != test.behindAMark {
			t.Errorf("%s, behind a mark: %v", test.name, got)
		}
		if !test.f.follows(test.f.before()) {
			t.Errorf("%s: does not follow what is before it", test.name)
		}
	}
	if f := (frame{group: 1, seq: 1}); !f.follows(numbersOf(Mark{})) {
		t.Error("the first record of all does not follow the zero mark")
	}
}

// TestProves: record 41 is bad. What shows that it was durable?
func TestProves(t *testing.T) {
	last := numbers{group: 7, seq: 40, index: 2}
	for _, test := range []struct {
		name string
		f    frame
		want bool
	}{
		{"a record of its group", frame{group: 7, seq: 50, index: 12}, false},
		{"a record of a group that it began", frame{group: 8, seq: 50, index: 9}, false},
		{"a record of a group that began behind it", frame{group: 8, seq: 50, index: 8}, true},
		{"the next record, first of a group", frame{group: 8, seq: 42}, true},
		{"itself", frame{group: 8, seq: 41}, false},
		{"an older one", frame{group: 2, seq: 3}, false},
		{"the largest", frame{group: maxNumber, seq: maxNumber}, true},
	} {
		if got := test.f.proves(last); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}

// TestFrameBounds: both ends of what a frame may say.
func TestFrameBounds(t *testing.T) {
	for _, test := range []struct {
		name string
		f    frame
		ok   bool
	}{
		{"smallest", frame{kind: 1, group: 1, seq: 1}, true},
		{"largest numbers", frame{kind: 255, group: maxNumber, seq: maxNumber, index: 65535}, true},
		{"largest", frame{kind: 1, group: 1, seq: 1, body: uint32(largestBody())}, true},
		{"too large", frame{kind: 1, group: 1, seq: 1, body: uint32(largestBody()) + 1}, false},
		{"largest meta", frame{kind: 1, group: 1, seq: 1, meta: MaxGroup - frameSize}, true},
		{"meta too large", frame{kind: 1, group: 1, seq: 1, meta: MaxGroup - frameSize + 1}, false},
		{"all too large", frame{kind: 1, group: 1, seq: 1, meta: 1<<32 - 1, body: 1<<32 - 1}, false},
		{"no kind", frame{group: 1, seq: 1}, false},
		{"no group", frame{kind: 1, seq: 1}, false},
		{"no number", frame{kind: 1, group: 1}, false},
		{"group too large", frame{kind: 1, group: maxNumber + 1, seq: 1}, false},
		{"number too large", frame{kind: 1, group: 1, seq: maxNumber + 1}, false},
		{"begun before the first", frame{kind: 1, group: 1, seq: 5, index: 5}, false},
		{"begun with the first", frame{kind: 1, group: 1, seq: 5, index: 4}, true},
	} {
		b := make([]byte, frameSize)
		test.f.encode(b, 42)
		f, bad := parseFrame(b, 42)
		if (bad == "") != test.ok || test.ok && f != test.f {
			t.Errorf("%s: %+v, %q", test.name, f, bad)
		}
		if _, bad := parseFrame(b, 43); bad == "" {
			t.Errorf("%s: with another stamp", test.name)
		}
	}
}

// TestHeaderBounds: a header that is right but for one thing.
func TestHeaderBounds(t *testing.T) {
	sum := func(b []byte) { binary.BigEndian.PutUint32(b[28:], crc32.Checksum(b[:28], castagnoli)) }
	for _, test := range []struct {
		name string
		do   func(b []byte)
		ok   bool
	}{
		{"nothing", func([]byte) {}, true},
		{"magic", func(b []byte) { b[0]++; sum(b) }, false},
		{"checksum", func(b []byte) { b[31]++ }, false},
		{"another version", func(b []byte) { b[11]++; sum(b) }, false},
		{"largest generation", func(b []byte) { binary.BigEndian.PutUint64(b[12:], maxNumber); sum(b) }, true},
		{"generation too large", func(b []byte) { binary.BigEndian.PutUint64(b[12:], maxNumber+1); sum(b) }, false},
		{"no generation", func(b []byte) { binary.BigEndian.PutUint64(b[12:], 0); sum(b) }, false},
	} {
		b := header{5, 42}.encode()
		test.do(b)
		if _, bad := parseHeader(b); (bad == "") != test.ok {
			t.Errorf("%s: %q", test.name, bad)
		}
	}
	if _, bad := parseHeader(header{5, 42}.encode()[:headerUsed-1]); bad == "" {
		t.Error("half a header")
	}
	if h, bad := parseHeader(header{5, 42}.encode()[:headerUsed]); bad != "" || h != (header{5, 42}) {
		t.Error(h, bad)
	}
}
