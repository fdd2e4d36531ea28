package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"pgregory.net/rapid"
)

// entry is a record as the model knows it.
type entry struct {
	kind  Kind
	meta  string
	body  []byte
	place Place
	end   Mark
}

// world is a journal, the disk below it, and what must be in it.
type world struct {
	t       rapid.TB
	disk    *disk
	options Options
	time    atomic.Int64 // since the beginning
	j       *Journal
	// durable are the records that Commit said are durable or that were found after a crash, all of them from the beginning.
	durable []entry
	// flying is the group that is sealed, group the one that is being made.
	flying, group []entry
	// maybe is the group whose fate a crash or a failure left open.
	maybe []entry
	// applied is what an index has, durably.
	applied Mark
	freed   map[uint64]bool
	serial  int
	dead    bool // the journal said that it must not be written
}

func newWorld(t rapid.TB, seed uint64) *world {
	w := &world{t: t, disk: newDisk(seed), freed: map[uint64]bool{}}
	w.options = small(nil)
	w.options.Now = func() time.Time { return time.Unix(1e9, 0).Add(time.Duration(w.time.Load())) }
	return w
}

// pass lets time pass.
func (w *world) pass(d time.Duration) { w.time.Add(int64(d)) }

const dir = "/data/journal"

// open opens the journal and compares what it replays.
func (w *world) open() error {
	w.t.Helper()
	w.options.FS = w.disk
	var got []read
	var worst *disk
	j, err := Open(context.Background(), dir, w.applied, w.options, func(r Record) error {
		if worst == nil { // what was called for is durable: nothing else need be there
			worst = w.disk.survive(1, 0)
		}
		return collect(&got)(r)
	})
	if err != nil {
		return err
	}
	w.j, w.dead = j, false
	w.settle(got)
	if worst != nil {
		var again []read
		o := w.options
		o.FS = worst
		j, err := Open(context.Background(), dir, w.applied, o, collect(&again))
		if err != nil || fmt.Sprint(got) != fmt.Sprint(again) {
			w.t.Fatalf("records were given out before they were durable: %v\n%v\n%v", err, got, again)
		}
		w.close(j)
	}
	return nil
}

func (w *world) close(j *Journal) {
	w.t.Helper()
	if err := j.Close(); err != nil {
		w.t.Fatalf("Close: %v", err)
	}
}

// settle compares what was replayed, and learns how much of the last group is there.
func (w *world) settle(got []read) {
	w.t.Helper()
	known := w.since(w.applied)
	all := append(slices.Clone(known), w.maybe...)
	if len(got) < len(known) || len(got) > len(all) {
		w.t.Fatalf("%d records were replayed, of %d durable and %d that may be\n%v", len(got), len(known), len(w.maybe), w.disk.last)
	}
	for i, r := range got {
		if e := all[i]; r.kind != e.kind || r.meta != e.meta || r.body != e.place || r.end != e.end || r.seq != e.end.Seq {
			w.t.Fatalf("record %d is %v, want %v", i, r, e)
		}
	}
	w.durable = append(w.durable, all[len(known):len(got)]...)
	w.maybe, w.group = nil, nil
	last := w.last()
	if d := w.j.Durable(); d.Group != last.Group || d.Seq != last.Seq {
		w.t.Fatalf("Durable is %v, the last record's mark %v", d, last)
	}
}

// since returns the durable records behind a mark.
func (w *world) since(m Mark) []entry {
	i, _ := slices.BinarySearchFunc(w.durable, m.Seq+1, func(e entry, seq uint64) int { return int(int64(e.end.Seq) - int64(seq)) })
	return w.durable[i:]
}

func (w *world) last() Mark {
	if len(w.durable) == 0 {
		return Mark{}
	}
	return w.durable[len(w.durable)-1].end
}

// append adds a record with a body of n octets.
func (w *world) append(n int, frees bool) error {
	w.t.Helper()
	w.serial++
	e := entry{kind: Kind(1 + w.serial%5), meta: fmt.Sprintf("meta of %d, %s", w.serial, bytes.Repeat([]byte("m"), w.serial%100))}
	e.body = bytes.Repeat(fmt.Appendf(nil, "body of %d.", w.serial), n/8+1)[:n]
	var err error
	if e.place, e.end, err = w.j.Append(e.kind, []byte(e.meta), bodyOf(e.body), frees); err != nil {
		return err
	}
	before := w.last()
	if n := len(w.flying); n > 0 {
		before = w.flying[n-1].end
	}
	group := before.Group + 1
	if n := len(w.group); n > 0 {
		before = w.group[n-1].end
	}
	if e.end.Seq != before.Seq+1 || e.end.Group != group || e.place.Generation != e.end.Generation || e.place.Size != int64(n) {
		w.t.Fatalf("Append says %v, %v behind %v", e.place, e.end, before)
	}
	w.group = append(w.group, e)
	return nil
}

func (w *world) commit() error {
	w.t.Helper()
	m, err := w.j.Commit()
	switch {
	case err == nil:
		w.durable = append(w.durable, w.group...)
		if want := w.last(); want != (Mark{}) && (m.Group != want.Group || m.Seq != want.Seq || len(w.group) > 0 && m != want) || m != w.j.Durable() {
			w.t.Fatalf("Commit says %v, want %v, and Durable says %v", m, want, w.j.Durable())
		}
	case !errors.Is(err, ErrNoSpace):
		w.maybe, w.dead = w.group, true
	}
	w.group = nil
	return err
}

// commitAhead commits the group while the next one is made, of records of these sizes.
func (w *world) commitAhead(sizes ...int) error {
	w.t.Helper()
	sealed, err := w.j.Seal()
	if err != nil || sealed == nil {
		return err
	}
	if again, err := w.j.Seal(); again != nil || err != nil {
		w.t.Fatalf("Seal with nothing appended: %v, %v", again, err)
	}
	w.flying, w.group = w.group, nil
	var refused error
	for _, n := range sizes {
		refused = errors.Join(refused, w.append(n, false))
	}
	sealed.Write()
	m, err := w.j.Settle(sealed)
	switch {
	case err == nil:
		w.durable = append(w.durable, w.flying...)
		if m != w.last() || m != w.j.Durable() {
			w.t.Fatalf("Settle says %v, want %v, and Durable says %v", m, w.last(), w.j.Durable())
		}
	case errors.Is(err, ErrNoSpace):
		w.group = nil
	default:
		w.maybe, w.group, w.dead = w.flying, nil, true
	}
	w.flying = nil
	if w.dead {
		return err
	}
	return errors.Join(err, refused)
}

func (w *world) discard() {
	w.j.Discard()
	w.group = nil
}

// apply lets the index follow by at most n records.
func (w *world) apply(n int) {
	if left := w.since(w.applied); n > 0 && len(left) > 0 {
		w.applied = left[min(n, len(left))-1].end
	}
}

// free frees the oldest n segments that the index may free: its mark is behind them.
func (w *world) free(n int) {
	w.t.Helper()
	list, _, _ := w.j.Segments()
	for _, s := range list[:min(n, len(list))] {
		if s.Generation >= w.applied.Generation && len(w.since(w.applied)) > 0 || s.Active {
			continue
		}
		if err := w.j.Free(s.Generation); err != nil {
			w.t.Fatalf("Free: %v", err)
		}
		w.freed[s.Generation] = true
	}
}

// verify reads everything that must be there.
func (w *world) verify() {
	w.t.Helper()
	list, _, _ := w.j.Segments()
	there := map[uint64]bool{}
	for _, s := range list {
		there[s.Generation] = true
		var got, want []read
		for _, e := range w.durable {
			if e.end.Generation == s.Generation {
				want = append(want, read{e.kind, e.end.Seq, e.meta, e.place, e.end})
			}
		}
		if err := w.j.Scan(context.Background(), s.Generation, collect(&got)); err != nil {
			w.t.Fatalf("Scan(%d): %v", s.Generation, err)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			w.t.Fatalf("Scan(%d)\ngot  %v\nwant %v", s.Generation, got, want)
		}
	}
	for _, e := range w.durable {
		p, err := w.j.Pin(e.place.Generation)
		if errors.Is(err, ErrGone) && w.freed[e.place.Generation] && !there[e.place.Generation] {
			continue
		}
		if err != nil {
			w.t.Fatalf("Pin(%d): %v, freed %v", e.place.Generation, err, w.freed)
		}
		b := make([]byte, e.place.Size)
		if _, err := p.ReadAt(b, e.place.Offset+SumsSize(e.place.Size)); err != nil || !bytes.Equal(b, e.body) {
			w.t.Fatalf("the body of %v: %v", e.end, err)
		}
		p.Release()
	}
}

// reopen closes the journal, as at a stop in good order, and opens it again.
func (w *world) reopen() {
	w.t.Helper()
	w.shut()
	if err := w.open(); err != nil {
		w.t.Fatalf("Open: %v", err)
	}
}

// shut closes the journal and looks for files that are left open.
func (w *world) shut() {
	w.t.Helper()
	if w.j == nil {
		return
	}
	w.close(w.j)
	w.j = nil
	if w.disk.files() != 0 {
		w.t.Fatalf("%d files are open after Close", w.disk.files())
	}
}

// random does one thing that a store might do, and returns its error.
func (w *world) random(rng *rand.Rand) error {
	w.t.Helper()
	w.pass(time.Duration(rng.IntN(3000)) * time.Millisecond)
	switch n := rng.IntN(100); {
	case n < 50:
		return w.append(sizes[rng.IntN(len(sizes))], rng.IntN(4) == 0)
	case n < 65:
		return w.commit()
	case n < 75:
		return w.commitAhead(sizes[rng.IntN(len(sizes))], sizes[rng.IntN(len(sizes))])
	case n < 78:
		w.discard()
	case n < 86:
		w.apply(rng.IntN(20))
	case n < 92:
		w.free(1 + rng.IntN(3))
	case n < 95:
		w.j.Idle()
	case n < 98:
		if len(w.group) == 0 {
			return w.j.Shrink()
		}
	}
	return nil
}

// sizes are those of bodies in tests: none, within a sector, a page, over several, one block of checksums and more, larger than a segment.
var sizes = []int{0, 0, 0, 1, 50, 100, 100, 300, 511, 512, 700, 700, 1000, 2000, 3000, 4096, 4096, 5000, 6000, 9000, BlockSize + 1, 100_000}
