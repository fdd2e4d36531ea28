package journal

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// full returns a world with at least n segments and no time that passes.
func full(t *testing.T, n uint64) *world {
	t.Helper()
	w := newWorld(t, 1)
	w.options.MaxSegment = 16 << 10
	must(t, w.open())
	for w.last().Generation < n {
		must(t, w.append(1000, false), w.commit())
	}
	return w
}

// files returns the names in the directory.
func (w *world) files() (names []string) {
	w.disk.mu.Lock()
	defer w.disk.mu.Unlock()
	for name := range w.disk.names {
		names = append(names, filepath.Base(name))
	}
	slices.Sort(names)
	return names
}

// settleDown waits for the background.
func (w *world) settleDown() { w.j.work.Wait() }

// TestRecordAgain: each record can be read by its place, in a segment of this process and of an earlier one; what is not there cannot.
func TestRecordAgain(t *testing.T) {
	w := full(t, 3)
	for range 2 {
		for _, e := range w.durable {
			p, err := w.j.Pin(e.place.Generation)
			must(t, err)
			n := int64(len(e.meta))
			r, err := p.Record(e.place, n)
			must(t, err)
			if string(r.Meta) != e.meta || r.Kind != e.kind || r.Seq != e.end.Seq || r.End != e.end || r.Body != e.place {
				t.Fatalf("%+v, want %+v", r, e)
			}
			other := e.place
			other.Size++
			before := e.place
			before.Offset = headerSize + frameSize + n - 1
			for _, at := range []Place{other, before, {e.place.Generation, e.place.Offset, MaxGroup}, {e.place.Generation, e.place.Offset, -1}} {
				if _, err := p.Record(at, n); !errors.Is(err, ErrDamaged) {
					t.Fatalf("Record(%v): %v", at, err)
				}
			}
			if _, err := p.Record(e.place, n+1); !errors.Is(err, ErrDamaged) {
				t.Fatal(err)
			}
			w.flip(e.place.Generation, e.place.Offset-1, 1)
			if _, err := p.Record(e.place, n); !errors.Is(err, ErrDamaged) {
				t.Fatal(err)
			}
			w.flip(e.place.Generation, e.place.Offset-1, 1)
			p.Release()
		}
		w.apply(1 << 20)
		w.reopen()
	}
	w.shut()
}

// TestNothingBeforeTheFirstRecord: a journal without records has no files; with one it has one.
func TestNothingBeforeTheFirstRecord(t *testing.T) {
	w := newWorld(t, 1)
	must(t, w.open())
	if m, err := w.j.Commit(); err != nil || m != (Mark{}) {
		t.Fatalf("Commit: %v, %v", m, err)
	}
	w.reopen()
	if names := w.files(); len(names) > 0 {
		t.Fatal(names)
	}
	must(t, w.append(100, false), w.commit())
	w.settleDown()
	if names := w.files(); len(names) != 1 {
		t.Fatal(names)
	}
	for w.last().Offset < 8<<10 { // half
		must(t, w.append(100, false), w.commit())
	}
	w.settleDown()
	if names := w.files(); len(names) != 2 {
		t.Fatal(names)
	}
	if list, n, octets := w.j.Segments(); len(list) != 1 || !list[0].Active || list[0].Used != w.last().Offset || list[0].Size != 16<<10 || n != 1 || octets == 0 {
		t.Fatalf("%v, %d spares, %d octets", list, n, octets)
	}
	w.shut()
}

// TestDirectoryIsDurable: before the first record the directory's own entry is, and its entries are before any record is read.
func TestDirectoryIsDurable(t *testing.T) {
	w := newWorld(t, 1)
	var synced []string
	w.disk.failBy(func(_ int, what op, name string) error {
		if what == opSyncDir {
			synced = append(synced, name)
		}
		return nil
	})
	must(t, w.open())
	if !slices.Equal(synced, []string{filepath.Dir(dir)}) {
		t.Fatal(synced)
	}
	must(t, w.append(100, false), w.commit())
	w.shut()
	synced = nil
	must(t, w.open())
	if !slices.Equal(synced, []string{dir}) {
		t.Fatal(synced)
	}
	w.shut()
}

// TestSwitchCostsNothing: when the next segment was made in time, a group that goes over into it costs a write and a sync for each.
func TestSwitchCostsNothing(t *testing.T) {
	w := newWorld(t, 1)
	must(t, w.open())
	for w.last().Generation < 2 {
		must(t, w.append(1500, false))
		w.settleDown()
		before := w.disk.count()
		must(t, w.commit())
		if n := w.disk.count() - before; w.j.next == nil && n != 2 {
			t.Fatalf("Commit took %d operations: %v", n, w.disk.last)
		}
	}
	w.shut()
}

// TestRecycle: the files of freed segments are used again, a bounded number is kept, the rest goes.
func TestRecycle(t *testing.T) {
	w := full(t, 8)
	w.apply(1000)
	for g := uint64(1); g < 6; g++ {
		must(t, w.j.Free(g))
		w.freed[g] = true
		w.settleDown()
	}
	spares := 0
	for _, name := range w.files() {
		if strings.HasSuffix(name, spareSuffix) {
			spares++
		}
	}
	list, n, octets := w.j.Segments()
	if spares != DefaultSpares || n < spares || octets < int64(n)*16<<10 || list[0].Generation != 6 {
		t.Fatalf("%d spares in %v; Segments says %v, %d, %d", spares, w.files(), list, n, octets)
	}
	must(t, w.j.Free(1), w.j.Free(99), w.j.Free(0), w.j.Free(8)) // gone, unknown, none, active
	w.verify()
	w.reopen()
	if _, again, _ := w.j.Segments(); again != n {
		t.Fatalf("%d spares after a start, %d before", again, n)
	}
	before := len(w.files())
	for w.last().Generation < 10 {
		must(t, w.append(1000, false), w.commit())
	}
	w.settleDown()
	if after := len(w.files()); after > before+1 {
		t.Fatalf("no file was used again: %v", w.files())
	}
	w.verify()
	w.reopen()
	w.verify()
	w.shut()
}

// TestRecycledSegmentIsFullOfOldRecords: they are never taken for new ones, also where a new one ends just where an old one did.
func TestRecycledSegmentIsFullOfOldRecords(t *testing.T) {
	w := full(t, 4)
	w.apply(1000)
	must(t, w.j.Free(1), w.j.Free(2))
	w.freed[1], w.freed[2] = true, true
	w.settleDown()
	for w.last().Generation < 7 {
		w.serial -= w.serial % 100 // the same lengths
		must(t, w.append(1000, false), w.commit())
		w.reopen()
	}
	w.verify()
	w.shut()
}

// TestPinnedAndFreed: a pinned segment that is freed can be read until the pin is released, and its file is not used again.
func TestPinnedAndFreed(t *testing.T) {
	w := full(t, 4)
	e := w.durable[0]
	p, err := w.j.Pin(1)
	must(t, err)
	again, err := w.j.Pin(1)
	must(t, err)
	must(t, w.j.Free(1))
	w.freed[1] = true
	w.settleDown()
	if slices.Contains(w.files(), fileName(1, segmentSuffix)) || slices.Contains(w.files(), fileName(1, spareSuffix)) {
		t.Fatal(w.files())
	}
	if _, err := w.j.Pin(1); !errors.Is(err, ErrGone) {
		t.Fatal(err)
	}
	for w.last().Generation < 8 {
		must(t, w.append(1000, false), w.commit())
	}
	again.Release()
	w.apply(1000)
	w.close(w.j) // pins stay
	b := make([]byte, e.place.Size)
	if _, err := p.ReadAt(b, e.place.Offset+SumsSize(e.place.Size)); err != nil || !bytes.Equal(b, e.body) {
		t.Fatal(err)
	}
	if w.disk.files() != 1 {
		t.Fatalf("%d files are open", w.disk.files())
	}
	p.Release()
	if w.disk.files() != 0 {
		t.Fatalf("%d files are open", w.disk.files())
	}
	if _, err := w.j.Pin(2); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
	if err := w.j.Free(2); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
	must(t, w.j.Close())
}

// TestPinWhatCannotBeOpened: the pin is not left.
func TestPinWhatCannotBeOpened(t *testing.T) {
	w := full(t, 3)
	w.apply(1 << 20)
	w.reopen() // only the last is open
	w.disk.failBy(func(_ int, what op, _ string) error {
		if what == opOpen {
			return syscall.EMFILE
		}
		return nil
	})
	if _, err := w.j.Pin(1); !errors.Is(err, syscall.EMFILE) || errors.Is(err, ErrGone) {
		t.Fatal(err)
	}
	if list, _, _ := w.j.Segments(); len(list) != 3 || list[0].Size != 0 {
		t.Fatalf("what cannot be opened has a size: %v", list)
	}
	w.disk.failBy(nil)
	if list, _, _ := w.j.Segments(); list[0].Size != 16<<10 {
		t.Fatal(list)
	}
	must(t, w.j.Free(1))
	w.settleDown()
	if slices.Contains(w.files(), fileName(1, segmentSuffix)) {
		t.Fatal(w.files())
	}
	w.shut()
}

// TestOldSegmentsAreNotTouched: a start opens what is behind the mark and nothing else, and idle files are few.
func TestOldSegmentsAreNotTouched(t *testing.T) {
	w := full(t, 12)
	w.apply(1 << 20)
	w.shut()
	steps := func() int {
		before := w.disk.count()
		must(t, w.open())
		n := w.disk.count() - before
		if _, err := w.j.Pin(99); !errors.Is(err, ErrGone) {
			t.Fatal(err)
		}
		return n
	}
	few := steps()
	if few > 20 {
		t.Fatalf("%d operations: %v", few, w.disk.last)
	}
	if list, _, _ := w.j.Segments(); len(list) != 12 || list[0].Size != 16<<10 || list[0].Used != list[0].Size || list[11].Used != w.last().Offset {
		t.Fatalf("%v", list)
	}
	var pins []*Pin
	for g := uint64(1); g <= 12; g++ {
		p, err := w.j.Pin(g)
		must(t, err)
		pins = append(pins, p)
	}
	for _, p := range pins {
		p.Release()
	}
	if w.disk.files() > idleFiles+2 { // the active and the next
		t.Fatalf("%d files are open", w.disk.files())
	}
	w.verify()
	w.shut()
}

// TestLargeRecord: a record that is larger than a segment gets one of its own size; one that is as large as a group may be is taken, a
// larger one is not.
func TestLargeRecord(t *testing.T) {
	w := newWorld(t, 1)
	must(t, w.open())
	largest := largestBody()
	must(t, w.append(0, false), w.commit())
	must(t, w.append(100_000, false), w.append(3, false), w.commit())
	body := bodyOf(make([]byte, largest+1))
	if _, _, err := w.j.Append(1, nil, body, false); !errors.Is(err, ErrTooLarge) {
		t.Fatalf("%d octets: %v", largest+1, err)
	}
	if _, _, err := w.j.Append(1, make([]byte, MaxGroup-frameSize+1), Body{}, false); !errors.Is(err, ErrTooLarge) {
		t.Fatal(err)
	}
	body = bodyOf(make([]byte, largest))
	p, end, err := w.j.Append(1, nil, body, false)
	must(t, err)
	if _, _, err := w.j.Append(1, nil, Body{}, false); !errors.Is(err, ErrTooLarge) {
		t.Fatal(err)
	}
	if m, err := w.j.Commit(); err != nil || m != end {
		t.Fatal(m, err)
	}
	w.durable = append(w.durable, entry{kind: 1, body: make([]byte, largest), place: p, end: end})
	if cap(w.j.group.buf) > 2*MaxGroup {
		t.Fatalf("%d octets of memory", cap(w.j.group.buf))
	}
	w.j.Idle()
	if cap(w.j.group.buf) > 0 {
		t.Fatalf("%d octets of memory when idle", cap(w.j.group.buf))
	}
	w.verify()
	w.reopen()
	w.verify()
	w.shut()
}

// TestEmptySegmentGrows: recovery leaves the active segment without a record, and the next one does not fit into it. Were it left empty,
// nobody would find what follows.
func TestEmptySegmentGrows(t *testing.T) {
	w := damaged(t)
	w.applied = w.durable[17].end
	first := w.durable[18] // of segment 2, and of what a crash left the only record: its frame can be read, its body cannot
	clear(w.file(2).now[first.end.Offset:])
	w.flip(2, first.end.Offset-1, 1)
	w.durable = w.durable[:18]
	must(t, w.open())
	if d := w.j.Durable(); d.Generation != 2 || d.Offset != headerSize {
		t.Fatalf("Durable is %v", d)
	}
	must(t, w.append(100_000, false), w.commit())
	w.verify()
	w.reopen()
	w.verify()
	if list, _, _ := w.j.Segments(); len(list) != 2 {
		t.Fatal(list)
	}
	w.shut()
}

// largestBody is the largest body of a record without meta.
func largestBody() int64 {
	n := int64(MaxGroup - frameSize)
	for frameSize+SumsSize(n)+n > MaxGroup {
		n--
	}
	return n
}

// TestManyRecords: a group has at most MaxRecords.
func TestManyRecords(t *testing.T) {
	w := newWorld(t, 1)
	w.options.MinSegment, w.options.MaxSegment = 4<<20, 4<<20
	must(t, w.open())
	for range MaxRecords {
		if _, _, err := w.j.Append(1, nil, Body{}, false); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := w.j.Append(1, nil, Body{}, false); !errors.Is(err, ErrTooLarge) {
		t.Fatal(err)
	}
	end, err := w.j.Commit()
	must(t, err)
	if _, _, err := w.j.Append(1, nil, Body{}, false); err != nil {
		t.Fatal(err)
	}
	_, err = w.j.Commit()
	must(t, err)
	w.close(w.j)
	n := 0
	w.options.FS = w.disk
	j, err := Open(context.Background(), dir, Mark{}, w.options, func(Record) error { n++; return nil })
	if err != nil || n != MaxRecords+1 || j.Durable().Seq != end.Seq+1 {
		t.Fatalf("%v, %d records", err, n)
	}
	w.close(j)
}

// TestRefusedRecords: what makes no sense, or cannot be filled, leaves the group as it was.
func TestRefusedRecords(t *testing.T) {
	w := newWorld(t, 1)
	must(t, w.open(), w.append(10, false))
	broken := errors.New("broken")
	for name, r := range map[string]struct {
		kind Kind
		body Body
	}{
		"no kind":                         {0, Body{}},
		"no sums":                         {1, Body{Size: 10, Fill: func([]byte) error { return nil }}},
		"too many sums":                   {1, Body{Sums: make([]byte, 4)}},
		"no fill":                         {1, Body{Size: 1, Sums: make([]byte, 4)}},
		"negative":                        {1, Body{Size: -1}},
		"broken":                          {1, Body{Size: 1, Sums: make([]byte, 4), Fill: func([]byte) error { return broken }}},
		"broken, and in the next segment": {1, Body{Size: 14 << 10, Sums: make([]byte, 4), Fill: func([]byte) error { return broken }}},
	} {
		_, _, err := w.j.Append(r.kind, nil, r.body, false)
		if err == nil || strings.HasPrefix(name, "broken") != errors.Is(err, broken) {
			t.Fatalf("%s: %v", name, err)
		}
	}
	must(t, w.append(20, false), w.commit())
	w.verify()
	w.reopen()
	w.verify()
	w.shut()
}

// TestNextSize: segments follow the traffic.
func TestNextSize(t *testing.T) {
	for _, test := range []struct {
		size, used int64
		took       time.Duration
		want       int64
	}{
		{1 << 20, 1 << 20, fastFill - 1, 2 << 20},
		{1 << 20, 1 << 20, fastFill, 1 << 20},
		{4 << 20, 4 << 20, slowFill, 4 << 20},
		{4 << 20, 4 << 20, slowFill + 1, 2 << 20},
		{4 << 20, 2 << 20, slowFill/2 + 1, 2 << 20},
		{4 << 20, 2 << 20, fastFill/2 - 1, 8 << 20},
		{MaxSegment, MaxSegment, 0, MaxSegment},
		{MaxSegment - 1, 1, 0, MaxSegment},
		{MinSegment, MinSegment, 24 * time.Hour, MinSegment},
		{4 << 20, 0, 0, 8 << 20},
	} {
		if got := nextSize(test.size, test.used, test.took, MinSegment, MaxSegment); got != test.want {
			t.Errorf("nextSize(%d, %d, %v) = %d, want %d", test.size, test.used, test.took, got, test.want)
		}
	}
}

// TestSizesFollowTraffic: up in a burst, and down again when it is over, with files that are used again.
func TestSizesFollowTraffic(t *testing.T) {
	w := newWorld(t, 1)
	must(t, w.open(), w.append(1000, false), w.commit())
	size := func() int64 {
		list, _, _ := w.j.Segments()
		return list[len(list)-1].Size
	}
	run := func(each time.Duration, until int64) {
		t.Helper()
		for n := 0; size() != until; n++ {
			if n > 5000 {
				t.Fatalf("segments have %d octets, want %d", size(), until)
			}
			must(t, w.append(1000, false), w.commit())
			w.pass(each)
			w.apply(1000)
			w.free(10)
			w.settleDown()
		}
	}
	run(0, 64<<10)
	run(time.Hour, 16<<10)
	run(0, 32<<10)
	_, n, octets := w.j.Segments()
	if n > DefaultSpares+1 || octets > int64(n)*64<<10 {
		t.Fatalf("%d spares of %d octets", n, octets)
	}
	w.shut()
}

// TestLargerSpareStays: of the files that could be used again those of the size that is wanted are kept.
func TestLargerSpareStays(t *testing.T) {
	w := newWorld(t, 1)
	w.options.Spares = 1
	must(t, w.open())
	for w.last().Generation < 5 {
		must(t, w.append(1000, false), w.commit())
	}
	w.apply(1000)
	list, _, _ := w.j.Segments()
	for i, s := range list[:3] {
		must(t, w.j.Free(s.Generation))
		w.freed[s.Generation] = true
		w.settleDown()
		if _, n, octets := w.j.Segments(); n != 1 || octets != s.Size || i > 0 && s.Size <= list[i-1].Size {
			t.Fatalf("after segment %d of %d octets there are %d spares of %d", s.Generation, s.Size, n, octets)
		}
	}
	w.reopen()
	if _, n, octets := w.j.Segments(); n != 1 || octets != list[2].Size {
		t.Fatalf("after a start there are %d spares of %d octets", n, octets)
	}
	w.verify()
	w.shut()
}

func TestNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"0000000000000001.seg": true, "00000000000000ff.spare": true, "00000000000000ff.new": true,
		"0000000000000000.seg": false, "00000000000000FF.seg": false, "1.seg": false, "0000000000000001": false, "": false,
		"4000000000000000.seg": true, "4000000000000001.seg": false, "+000000000000001.seg": false,
	} {
		if g, suffix, got := parseName(name); got != ok || ok && fileName(g, suffix) != name {
			t.Errorf("parseName(%q) = %d, %q, %v", name, g, suffix, got)
		}
	}
}

// TestShrink: after a burst the next record begins a small segment, and what was prepared or spare and is large goes.
func TestShrink(t *testing.T) {
	w := newWorld(t, 1)
	must(t, w.open())
	for w.last().Generation < 6 { // no time passes, so segments grow
		must(t, w.append(1000, false), w.commit())
	}
	w.settleDown()
	w.apply(len(w.durable))
	list, _, _ := w.j.Segments()
	large := list[len(list)-1]
	if large.Size != w.options.MaxSegment || !large.Active {
		t.Fatalf("the last segment is %+v, want an active one of %d octets", large, w.options.MaxSegment)
	}
	must(t, w.j.Shrink(), w.append(1000, false), w.commit())
	w.apply(len(w.durable))
	w.settleDown()
	list, spares, octets := w.j.Segments()
	if last := list[len(list)-1]; last.Size != w.options.MinSegment || last.Generation != large.Generation+1 || octets > int64(spares)*w.options.MinSegment {
		t.Errorf("after Shrink the last segment is %+v, with %d spares of %d octets", last, spares, octets)
	}
	w.free(len(list))
	w.settleDown()
	if list, _, _ := w.j.Segments(); len(list) != 1 {
		t.Errorf("%d segments are left, want the active one", len(list))
	}
	must(t, w.j.Shrink(), w.append(1000, false), w.commit()) // it is small already
	if list, _, _ := w.j.Segments(); len(list) != 1 {
		t.Errorf("a small segment was given up: %+v", list)
	}
	w.reopen()
	w.verify()
	w.shut()
}

// TestShrinkLeavesFewSpares: of spares that are small already only RestSpares stay, in the directory too.
func TestShrinkLeavesFewSpares(t *testing.T) {
	w := newWorld(t, 1)
	must(t, w.open())
	for w.last().Generation < 6 {
		w.pass(time.Second) // slow enough for segments to stay small
		must(t, w.append(1000, false), w.commit())
	}
	w.settleDown()
	w.apply(len(w.durable))
	for g := uint64(1); g < 6; g++ {
		must(t, w.j.Free(g))
		w.freed[g] = true
		w.settleDown()
	}
	small := func(want int) {
		t.Helper()
		files := 0
		for _, name := range w.files() {
			if strings.HasSuffix(name, spareSuffix) {
				files++
			}
		}
		if _, n, octets := w.j.Segments(); n != want || files != want || octets != int64(want)*w.options.MinSegment {
			t.Fatalf("%d spares of %d octets, %d files; want %d", n, octets, files, want)
		}
	}
	small(DefaultSpares)
	must(t, w.j.Shrink(), w.append(1000, false), w.commit())
	w.settleDown()
	small(RestSpares)
	w.reopen()
	w.verify()
	w.shut()
}
