package journal

import "context"

// searchWindow is how far behind a bad record the next group can begin.
const searchWindow = MaxGroup + frameSize

// place is one in a row of segments.
type place struct {
	i   int // the segment
	off int64
}

// walker goes from record to record through a row of segments.
type walker struct {
	row []*segment
	place
	last numbers // of the record before the place
	bad  string  // why there is no record at the place, after next found none
	// trusted leaves bodies unread.
	trusted bool
	// damage, if set, hears of what cannot be read, and the walker goes on behind it.
	damage func(Damage)
	// read is at the place, probe looks around.
	read, probe reader
	at          int // the segment that read reads
	space       []byte
}

func newWalker(row []*segment, start place, last numbers) *walker {
	return &walker{row: row, place: start, last: last, at: -1}
}

// mark is the walker's place.
func (w *walker) mark() Mark {
	return Mark{Generation: w.row[w.i].gen, Offset: w.off, Group: w.last.group, Seq: w.last.seq}
}

// next returns the record at the place and goes behind it; ok is false at the end.
func (w *walker) next(ctx context.Context) (record Record, ok bool, err error) {
	for {
		if err := ctx.Err(); err != nil {
			return Record{}, false, err
		}
		f, meta, bad, err := w.look()
		if err != nil && w.damage == nil {
			return Record{}, false, err
		} else if err != nil {
			bad = err.Error()
		}
		strange := bad == "" && !f.follows(w.last)
		if bad == "" && !strange {
			return w.accept(f, meta), true, nil
		}
		if strange {
			bad = "the record's numbers do not follow those before it"
		}
		w.bad = bad
		if moved, err := w.turn(); err != nil && w.damage == nil {
			return Record{}, false, err
		} else if moved {
			continue
		}
		if w.damage == nil {
			return Record{}, false, nil
		}
		from := w.place
		if !strange {
			from.off++
		}
		found, err := w.salvage(ctx, from)
		if err != nil || !found {
			return Record{}, false, err
		}
	}
}

// look reads what is at the place.
func (w *walker) look() (f frame, meta []byte, bad string, err error) {
	if w.at != w.i {
		w.read.reset(w.row[w.i])
		w.at = w.i
	}
	if !w.trusted {
		return w.read.record(w.off, &w.space)
	}
	f, head, bad, err := w.read.frame(w.off)
	if bad != "" || err != nil {
		return f, nil, bad, err
	}
	w.space = append(w.space[:0], head[frameSize:f.sums()]...)
	return f, w.space, "", nil
}

// accept goes behind the record.
func (w *walker) accept(f frame, meta []byte) Record {
	s := w.row[w.i]
	body := Place{Generation: s.gen, Offset: w.off + f.sums(), Size: int64(f.body)}
	w.off, w.last = w.off+f.size(), f.numbers()
	return Record{Kind: f.kind, Seq: f.seq, Meta: meta, Body: body, End: w.mark()}
}

// turn goes to the next segment if the records go on there.
func (w *walker) turn() (bool, error) {
	if w.i+1 == len(w.row) {
		return false, nil
	}
	w.probe.reset(w.row[w.i+1])
	f, _, bad, err := w.probe.frame(headerSize)
	if err != nil || bad != "" || !f.follows(w.last) {
		return false, err
	}
	w.place = place{w.i + 1, headerSize}
	return true, nil
}

// salvage goes to the next record that can be read, from a place on, and reports what lies before it.
func (w *walker) salvage(ctx context.Context, from place) (bool, error) {
	found, _, err := w.behind(ctx, from, func(f frame) bool { return f.seq > w.last.seq })
	if err != nil || found == nil {
		return false, err
	}
	w.damage(Damage{w.mark(), w.bad})
	w.place, w.last = found.place, found.before()
	return true, nil
}

// foundFrame is a frame and where it is.
type foundFrame struct {
	place
	frame
}

// behind looks from a place on for a record, at any octet, of which want is true; bodies are not read. stale says for each segment, from
// that place's on, up to where there is anything that could be taken for the beginning of a record, or 0.
func (w *walker) behind(ctx context.Context, from place, want func(frame) bool) (found *foundFrame, stale []int64, err error) {
	var search reader
	search.lenient = w.damage != nil
	for i := from.i; i < len(w.row); i++ {
		search.reset(w.row[i])
		w.probe.reset(w.row[i])
		off := int64(headerSize)
		if i == from.i {
			off = from.off
		}
		to := off + searchWindow
		if search.lenient {
			to = search.size
		}
		last := int64(0)
		err := search.find(ctx, off, to, func(off int64) (bool, error) {
			last = off + stampSize
			f, _, bad, err := w.probe.frame(off)
			if err != nil && search.lenient {
				return false, nil
			}
			if err == nil && bad == "" && want(f) {
				found = &foundFrame{place{i, off}, f}
			}
			return found != nil, err
		})
		if found != nil || err != nil {
			return found, nil, err
		}
		stale = append(stale, last)
	}
	return nil, stale, nil
}
