package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
)

// damaged returns a world with groups 1 to 6 in segment 1 of three records each, and 7 and 8 in segment 2, shut.
func damaged(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, 1)
	must(t, w.open())
	for g := range 8 {
		n := 500
		if g == 6 {
			n = 6000
		}
		must(t, w.append(n, false), w.append(100, false), w.append(n, false), w.commit())
	}
	for _, e := range w.durable {
		if want := 1 + (e.end.Group-1)/6; e.end.Generation != want {
			t.Fatalf("record %v should be in segment %d", e.end, want)
		}
	}
	w.shut()
	return w
}

// file returns the file of a segment, once nothing is made or disposed of in the background.
func (w *world) file(generation uint64) *inode {
	if w.j != nil {
		w.settleDown()
	}
	return w.disk.names[filepath.Join(dir, fileName(generation, segmentSuffix))]
}

// flip changes octets of a file.
func (w *world) flip(generation uint64, off int64, n int) {
	for i := range n {
		w.file(generation).now[off+int64(i)] ^= 0x55
	}
}

// start is where an entry's frame is.
func (e entry) start() int64 { return e.place.Offset - int64(len(e.meta)) - frameSize }

// TestOneBadOctet: an octet that changes anywhere in a group that is not the last is damage; in the last it ends the journal.
func TestOneBadOctet(t *testing.T) {
	w := damaged(t)
	for i, e := range w.durable {
		for what, off := range map[string]int64{
			"stamp": 0, "checksum": 8, "kind": 12, "spare": 13, "index": 15, "meta length": 19, "body length": 23, "group": 31, "seq": 39,
			"meta": frameSize, "sums": int64(len(e.meta)) + frameSize, "body": e.end.Offset - e.start() - 1,
		} {
			w.flip(e.end.Generation, e.start()+off, 1)
			before := Mark{}
			if i > 0 {
				before = w.durable[i-1].end
			}
			var got []read
			j, err := Open(context.Background(), dir, Mark{}, w.options, collect(&got))
			var d Damage
			switch {
			case e.end.Group < 8:
				if !errors.As(err, &d) || !errors.Is(err, ErrDamaged) || len(got) > 0 {
					t.Fatalf("%s of record %d: Open: %v, %d records", what, e.end.Seq, err, len(got))
				}
				if d.Mark.Seq != before.Seq || d.Mark.Generation == before.Generation && d.Mark.Offset != before.Offset {
					t.Fatalf("%s of record %d: %v, want %v", what, e.end.Seq, d.Mark, before)
				}
			case err != nil || len(got) != i || j.Durable().Seq != before.Seq:
				t.Fatalf("%s of record %d: Open: %v, %d records", what, e.end.Seq, err, len(got))
			default:
				w.close(j)
				w = damaged(t) // it was wiped
				continue
			}
			w.flip(e.end.Generation, e.start()+off, 1)
		}
	}
}

// TestDamageBehindTheMark: what lies before the mark is not looked at.
func TestDamageBehindTheMark(t *testing.T) {
	w := damaged(t)
	w.applied = w.durable[10].end // within a group
	w.flip(1, w.durable[10].start(), int(w.durable[10].end.Offset-w.durable[10].start()))
	must(t, w.open())
	w.shut()
	w.flip(1, w.durable[11].start(), 1) // the rest of that group: the next one shows that it was durable
	if err := w.open(); !errors.Is(err, ErrDamaged) {
		t.Fatalf("Open: %v", err)
	}
}

// TestRestOfAGroupBehindTheMark: a mark within the last but one group, of which the rest is bad, with one group behind it.
func TestRestOfAGroupBehindTheMark(t *testing.T) {
	w := damaged(t)
	i := slices.IndexFunc(w.durable, func(e entry) bool { return e.end.Group == 7 })
	w.applied = w.durable[i].end
	w.flip(2, w.applied.Offset, int(w.durable[i+2].end.Offset-w.applied.Offset))
	if err := w.open(); !errors.Is(err, ErrDamaged) {
		t.Fatalf("Open: %v", err)
	}
}

// TestSegmentTrouble: a segment that should be there and is not, or is another.
func TestSegmentTrouble(t *testing.T) {
	name := func(g uint64) string { return filepath.Join(dir, fileName(g, segmentSuffix)) }
	end := func(w *world, seq int) Mark { return w.durable[seq-1].end }
	for _, test := range []struct {
		name string
		from func(w *world) Mark
		do   func(w *world)
		bad  bool
	}{
		{"nothing", func(w *world) Mark { return Mark{} }, func(*world) {}, false},
		{"header", func(w *world) Mark { return Mark{} }, func(w *world) { w.flip(1, 0, 1) }, true},
		{"header of the last", func(w *world) Mark { return Mark{} }, func(w *world) { w.flip(2, 30, 1) }, true},
		{"header of an old one", func(w *world) Mark { return end(w, 20) }, func(w *world) { w.flip(1, 30, 1) }, false},
		{"names exchanged", func(w *world) Mark { return Mark{} }, func(w *world) {
			n := w.disk.names
			n[name(1)], n[name(2)] = n[name(2)], n[name(1)]
		}, true},
		{"the first is gone", func(w *world) Mark { return Mark{} }, func(w *world) { delete(w.disk.names, name(1)) }, true},
		{"the first is gone, from its middle", func(w *world) Mark { return end(w, 10) }, func(w *world) { delete(w.disk.names, name(1)) }, true},
		{"the first is gone, from its end", func(w *world) Mark { return end(w, 18) }, func(w *world) { delete(w.disk.names, name(1)) }, false},
		{"the first is gone, from behind it", func(w *world) Mark { return end(w, 19) }, func(w *world) { delete(w.disk.names, name(1)) }, false},
		{"the last is gone, from within it", func(w *world) Mark { return end(w, 19) }, func(w *world) { delete(w.disk.names, name(2)) }, true},
		{"one in the middle is gone", func(w *world) Mark { return Mark{} }, func(w *world) {
			w.disk.names[name(3)] = w.disk.names[name(2)]
			delete(w.disk.names, name(2))
		}, true},
		{"all are gone", func(w *world) Mark { return end(w, 24) }, func(w *world) { clear(w.disk.names) }, true},
		{"a short one", func(w *world) Mark { return Mark{} }, func(w *world) { w.file(1).now = w.file(1).now[:headerSize-1] }, true},
		{"an empty one", func(w *world) Mark { return Mark{} }, func(w *world) { w.file(2).now = nil }, true},
		{"cut short", func(w *world) Mark { return Mark{} }, func(w *world) { w.file(1).now = w.file(1).now[:end(w, 18).Offset-1] }, true},
		{"cut just behind", func(w *world) Mark { return Mark{} }, func(w *world) { w.file(1).now = w.file(1).now[:end(w, 18).Offset] }, false},
		{"mark in the header", func(w *world) Mark { return Mark{1, headerSize - 1, 1, 1} }, func(*world) {}, true},
		{"mark at the file's end", func(w *world) Mark { return Mark{1, 16 << 10, 6, 18} }, func(*world) {}, false},
		{"mark behind the file's end", func(w *world) Mark { return Mark{1, 16<<10 + 1, 6, 18} }, func(*world) {}, true},
		{"generation out of range", func(w *world) Mark { return Mark{^uint64(0), headerSize, 6, 18} }, func(*world) {}, true},
		{"largest generation", func(w *world) Mark { return Mark{maxNumber, headerSize, 6, 18} }, func(*world) {}, true},
		{"seq out of range", func(w *world) Mark { return Mark{2, headerSize, 6, ^uint64(0)} }, func(*world) {}, true},
		{"group out of range", func(w *world) Mark { return Mark{2, headerSize, ^uint64(0), 18} }, func(*world) {}, true},
		{"what a crash left", func(w *world) Mark { return Mark{} }, func(w *world) {
			w.disk.names[filepath.Join(dir, fileName(3, newSuffix))] = &inode{now: []byte("half a header")}
			w.disk.names[filepath.Join(dir, fileName(9, spareSuffix))] = &inode{now: []byte("short")}
			w.disk.names[filepath.Join(dir, "lost+found")] = &inode{}
		}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := damaged(t)
			test.do(w)
			from := test.from(w)
			var got []read
			j, err := Open(context.Background(), dir, from, w.options, collect(&got))
			if test.bad {
				if !errors.Is(err, ErrDamaged) || len(got) > 0 {
					t.Fatalf("Open: %v, %d records", err, len(got))
				}
				if w.disk.files() != 0 {
					t.Fatalf("%d files are open", w.disk.files())
				}
				return
			}
			if err != nil || uint64(len(got)) != 24-from.Seq {
				t.Fatalf("Open: %v, %d records", err, len(got))
			}
			w.close(j)
			for name := range w.disk.names {
				if filepath.Ext(name) == newSuffix {
					t.Fatalf("%s is still there", name)
				}
			}
		})
	}
}

// TestForgedFrames: a body that is full of frames of its own segment, true ones and such that promise later groups.
func TestForgedFrames(t *testing.T) {
	w := newWorld(t, 1)
	must(t, w.open(), w.append(100, false), w.append(100, false), w.commit())
	stamp := w.j.chain[0].stamp
	forge := func(b []byte, f frame) {
		f.put(b, stamp)
	}
	body := bytes.Clone(w.file(1).now[headerSize:w.last().Offset])
	for _, f := range []frame{{kind: 1, group: 2, seq: 4, index: 1}, {kind: 1, group: 3, seq: 5}, {kind: 1, group: 9, seq: 99}} {
		b := make([]byte, frameSize)
		forge(b, f)
		body = append(body, b...)
	}
	for range 3 {
		e := entry{kind: 3, body: body}
		var err error
		e.place, e.end, err = w.j.Append(e.kind, nil, bodyOf(body), false)
		must(t, err)
		w.group = append(w.group, e)
		must(t, w.commit())
	}
	w.verify()
	w.reopen()
	w.verify()
	w.shut()
}

// TestLaterGroupBeyondAGroup: what is looked for behind a bad record is as far away as a group is large, and no farther.
func TestLaterGroupBeyondAGroup(t *testing.T) {
	if testing.Short() {
		t.Skip("it reads a whole group one place after the other")
	}
	for _, test := range []struct {
		more int64
		bad  bool
	}{{0, true}, {1, false}} {
		w := newWorld(t, 1)
		w.options.MinSegment, w.options.MaxSegment = MaxSegment, MaxSegment
		must(t, w.open())
		must(t, w.append(100, false), w.commit())
		s, last := w.j.chain[0], w.last()
		b := make([]byte, frameSize)
		(&frame{kind: 1, group: 3, seq: 3}).put(b, s.stamp)
		if _, err := s.file.WriteAt(b, last.Offset+MaxGroup+test.more+frameSize-stampSize); err != nil {
			t.Fatal(err)
		}
		w.shut()
		err := w.open()
		if got := errors.Is(err, ErrDamaged); got != test.bad {
			t.Fatalf("%d octets behind: %v", MaxGroup+test.more, err)
		}
		if err == nil {
			w.shut()
		}
	}
}

// TestScanFindsDamage: each octet of what is durable, in a full segment and in the active one.
func TestScanFindsDamage(t *testing.T) {
	w := damaged(t)
	must(t, w.open())
	for _, e := range w.durable {
		for _, off := range []int64{0, 8, 20, 39, frameSize, e.end.Offset - e.start() - 1} {
			w.flip(e.end.Generation, e.start()+off, 1)
			n := 0
			err := w.j.Scan(context.Background(), e.end.Generation, func(Record) error { n++; return nil })
			var d Damage
			if !errors.As(err, &d) || d.Mark.Offset != e.start() {
				t.Fatalf("octet %d of record %d: %v", off, e.end.Seq, err)
			}
			w.flip(e.end.Generation, e.start()+off, 1)
		}
	}
	w.verify()
	for _, generation := range []uint64{0, 3, ^uint64(0)} {
		if err := w.j.Scan(context.Background(), generation, nil); !errors.Is(err, ErrGone) {
			t.Fatalf("Scan(%d): %v", generation, err)
		}
	}
	stop := errors.New("stop")
	if err := w.j.Scan(context.Background(), 1, func(Record) error { return stop }); !errors.Is(err, stop) {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := w.j.Scan(ctx, 1, func(Record) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	w.flip(1, 9, 1)
	if err := w.j.Scan(context.Background(), 1, nil); !errors.Is(err, ErrDamaged) {
		t.Fatal(err)
	}
	w.flip(1, 9, 1)
	w.shut()
}

// TestLastRecordOfAFullSegment: Scan knows where a full segment ends, with its successor and without.
func TestLastRecordOfAFullSegment(t *testing.T) {
	for _, gone := range []bool{false, true} {
		w := damaged(t)
		for range 8 {
			must(t, w.open(), w.append(3000, false), w.commit())
			w.shut()
		}
		must(t, w.open())
		if gone {
			must(t, w.j.Free(2))
		}
		last := w.since(Mark{Seq: 17})[0]
		w.flip(1, last.end.Offset-1, 1)
		if err := w.j.Scan(context.Background(), 1, func(Record) error { return nil }); !errors.Is(err, ErrDamaged) {
			t.Fatalf("Scan: %v", err)
		}
		w.shut()
	}
}

func TestDamageText(t *testing.T) {
	d := Damage{Mark{3, 4711, 8, 15}, "no record begins here"}
	if got, want := fmt.Sprint(d), "journal: damaged in segment 3 at octet 4711, behind record 15: no record begins here"; got != want {
		t.Fatalf("got %q, want %q", got, want)
	}
}
