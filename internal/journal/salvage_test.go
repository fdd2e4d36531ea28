package journal

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
)

// TestSalvage: whatever is damaged, all other records are given out in order, each damage is reported, and the journal goes on.
func TestSalvage(t *testing.T) {
	all := func(*world, uint64) bool { return false }
	lost := func(seqs ...uint64) func(*world, uint64) bool {
		return func(_ *world, seq uint64) bool { return slices.Contains(seqs, seq) }
	}
	of := func(seq int) func(w *world) entry { return func(w *world) entry { return w.durable[seq-1] } }
	flip := func(which func(*world) entry, off int64) func(w *world) {
		return func(w *world) { e := which(w); w.flip(e.end.Generation, e.start()+off, 1) }
	}
	name := func(g uint64) string { return filepath.Join(dir, fileName(g, segmentSuffix)) }
	for _, test := range []struct {
		name    string
		from    int
		do      func(w *world)
		lost    func(w *world, seq uint64) bool
		reports int
		fresh   bool // it goes on in a new segment
	}{
		{"nothing", 0, func(*world) {}, all, 0, false},
		{"the last record", 0, flip(of(24), 0), lost(24), 0, false},
		{"the last but one", 0, flip(of(23), 0), lost(23), 1, true},
		{"the first", 0, flip(of(1), 0), lost(1), 1, true},
		{"a body", 0, flip(of(7), frameSize+100), lost(7), 1, true},
		{"two", 0, func(w *world) { flip(of(5), 0)(w); flip(of(20), 9)(w) }, lost(5, 20), 2, true},
		{"the last of a segment", 0, flip(of(18), 0), lost(18), 1, true},
		{"the first of a segment", 0, flip(of(19), 0), lost(19), 1, true},
		{"both", 0, func(w *world) { flip(of(18), 0)(w); flip(of(19), 0)(w) }, lost(18, 19), 1, true},
		{"a header", 0, func(w *world) { w.flip(1, 3, 1) }, all, 1, true},
		{"a header and the first record", 0, func(w *world) { w.flip(2, 3, 1); flip(of(19), 12)(w) }, func(_ *world, seq uint64) bool { return seq >= 19 }, 1, true},
		{"a segment is gone", 0, func(w *world) { delete(w.disk.names, name(1)) }, func(_ *world, seq uint64) bool { return seq <= 18 }, 2, true},
		{"the mark's segment is gone", 20, func(w *world) { delete(w.disk.names, name(2)) }, func(_ *world, seq uint64) bool { return seq > 20 }, 1, true},
		{"all are gone", 20, func(w *world) { clear(w.disk.names) }, func(_ *world, seq uint64) bool { return seq > 20 }, 1, true},
		{"pages cannot be read", 0, func(w *world) { w.file(1).bad = map[int64]bool{2: true} }, func(w *world, seq uint64) bool {
			e := w.durable[seq-1]
			return e.end.Generation == 1 && e.start() < 3*pageSize && e.end.Offset > 2*pageSize
		}, 1, true},
		{"a header cannot be read", 0, func(w *world) { w.file(2).bad = map[int64]bool{0: true} }, all, 1, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := damaged(t)
			test.do(w)
			salvaged(t, w, test.from, test.lost, test.reports, test.fresh)
		})
	}
}

func salvaged(t *testing.T, w *world, from int, lost func(*world, uint64) bool, reports int, fresh bool) {
	t.Helper()
	var found []Damage
	o := w.options
	o.Salvage = func(d Damage) { found = append(found, d) }
	mark := Mark{}
	if from > 0 {
		mark = w.durable[from-1].end
	}
	var got, want []read
	j, err := Open(context.Background(), dir, mark, o, collect(&got))
	must(t, err)
	for _, e := range w.durable[from:] {
		if !lost(w, e.end.Seq) {
			want = append(want, read{e.kind, e.end.Seq, e.meta, e.place, e.end})
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) || len(found) != reports {
		t.Fatalf("reports: %v\ngot  %v\nwant %v", found, got, want)
	}
	next := j.Durable()
	if fresh != (next.Offset == headerSize) || len(want) > 0 && next.Seq != want[len(want)-1].seq {
		t.Fatalf("Durable is %v", next)
	}
	w.close(j)
	for round := range 3 { // without Salvage, and with records
		got = nil
		j, err := Open(context.Background(), dir, next, w.options, collect(&got))
		must(t, err)
		if len(got) != round {
			t.Fatalf("round %d: %d records", round, len(got))
		}
		if _, _, err := j.Append(1, []byte("on"), Body{}, false); err != nil {
			t.Fatal(err)
		}
		if m, err := j.Commit(); err != nil || m.Seq != next.Seq+uint64(round)+1 {
			t.Fatalf("Commit: %v, %v", m, err)
		}
		must(t, j.Scan(context.Background(), j.Durable().Generation, func(Record) error { return nil }))
		w.close(j)
	}
	if w.disk.files() != 0 {
		t.Fatalf("%d files are open", w.disk.files())
	}
}
