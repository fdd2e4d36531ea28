package journal

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"

	"latchkey/internal/vfs"
)

// recovery finds the journal's end.
type recovery struct {
	j       *Journal
	from    Mark
	salvage func(Damage)
	damaged bool
	tail    []*segment // from the mark on, in order
}

// run replays the tail and makes the journal ready to be written.
func (r *recovery) run(ctx context.Context, each func(Record) error) error {
	if err := r.openTail(); err != nil {
		return err
	}
	if len(r.tail) == 0 {
		return r.ready(place{}, numbersOf(r.from))
	}
	start, err := r.start()
	if err != nil {
		return err
	}
	w := newWalker(r.tail, start, numbersOf(r.from))
	if r.salvage != nil {
		w.damage = func(d Damage) { _ = r.damage(d) } // reported
	}
	found := 0
	for ; ; found++ {
		if _, ok, err := w.next(ctx); err != nil {
			return err
		} else if !ok {
			break
		}
	}
	end, last := w.place, w.last
	if !r.damaged {
		if err := r.cut(ctx, w); err != nil {
			return err
		}
	}
	w = newWalker(r.tail, start, numbersOf(r.from))
	w.trusted = r.salvage == nil
	if r.salvage != nil {
		w.damage = func(Damage) {} // reported before
	}
	for range found {
		record, ok, err := w.next(ctx)
		if err == nil && !ok {
			err = Damage{w.mark(), "a record changed while it was read"}
		}
		if err == nil {
			err = each(record)
		}
		if err != nil {
			return err
		}
	}
	return r.ready(end, last)
}

func numbersOf(m Mark) numbers { return numbers{m.Group, m.Seq, unknown} }

// damage reports d, or is it.
func (r *recovery) damage(d Damage) error {
	if r.salvage == nil {
		return d
	}
	r.damaged = true
	r.salvage(d)
	return nil
}

// openTail opens the segments from the mark on, and makes them durable: a killed process leaves what everybody can read and a power cut
// would still undo.
func (r *recovery) openTail() error {
	j := r.j
	for _, s := range j.segments {
		if s.gen >= r.from.Generation {
			r.tail = append(r.tail, s)
		}
	}
	slices.SortFunc(r.tail, func(a, b *segment) int { return cmp.Compare(a.gen, b.gen) })
	usable := r.tail[:0]
	expected := r.from.Generation
	for i, s := range r.tail {
		missing := s.gen != expected && (i > 0 || s.gen != expected+1)
		expected = s.gen + 1
		if missing {
			if err := r.damage(Damage{Mark{Generation: s.gen - 1}, "the segment is missing"}); err != nil {
				return err
			}
		}
		bad, err := j.openSegment(s)
		if err != nil && r.salvage == nil {
			return err
		} else if err != nil {
			bad = err.Error()
		}
		if bad == "" {
			usable = append(usable, s)
			continue
		}
		if err := r.damage(Damage{Mark{Generation: s.gen}, bad}); err != nil {
			return err
		}
		if s.stamp != 0 {
			usable = append(usable, s)
		}
	}
	r.tail = usable
	if len(r.tail) == 0 && r.from.Generation > 0 {
		return r.damage(Damage{r.from, "the segment is missing"})
	}
	return nil
}

// openSegment opens a segment of the tail; bad says why its header is not to be trusted. It then has a stamp if its first record says one.
func (j *Journal) openSegment(s *segment) (bad string, err error) {
	file, err := j.fs.OpenWrite(filepath.Join(j.dir, s.name))
	if err != nil {
		return "", fmt.Errorf("journal: opening a segment: %w", err)
	}
	s.file = file
	if s.size, err = file.Size(); err == nil {
		err = file.Sync()
	}
	if err != nil {
		return "", fmt.Errorf("journal: opening a segment: %w", err)
	}
	if s.size < headerSize {
		return "the segment is shorter than a header", nil
	}
	r := reader{file: file, size: s.size}
	h, bad, err := r.header(s.gen)
	if err == nil && bad == "" {
		s.stamp = h.stamp
		return "", nil
	}
	if r.size >= headerSize+frameSize {
		if b, firstErr := r.at(headerSize, frameSize); firstErr == nil {
			r.stamp = stampOf(b)
		}
		if _, _, notRecord, firstErr := r.frame(headerSize); firstErr == nil && notRecord == "" {
			s.stamp = r.stamp
		}
	}
	return bad, err
}

// start is where the mark is in the tail. Its segment may be gone, if the next one goes on where it ended.
func (r *recovery) start() (place, error) {
	first := r.tail[0]
	if first.gen == r.from.Generation {
		if r.from.Offset >= headerSize && r.from.Offset <= first.size {
			return place{0, r.from.Offset}, nil
		}
		return place{0, headerSize}, r.damage(Damage{r.from, "the mark is not in the segment"})
	}
	start := place{0, headerSize}
	if r.from.Generation == 0 {
		return start, nil
	}
	var rd reader
	rd.reset(first)
	f, _, bad, err := rd.frame(headerSize)
	if err != nil {
		return start, err
	}
	if bad != "" || !f.follows(numbersOf(r.from)) {
		return start, r.damage(Damage{r.from, "the segment is missing"})
	}
	return start, nil
}

// cut makes sure that what follows the walker's place is the rest of one group that was never durable, and wipes it.
func (r *recovery) cut(ctx context.Context, w *walker) error {
	proof, stale, err := w.behind(ctx, w.place, func(f frame) bool { return f.proves(w.last) })
	if err != nil {
		return err
	}
	if proof != nil {
		return r.damage(Damage{w.mark(), w.bad})
	}
	for i, end := range stale {
		at := place{w.i + i, headerSize}
		if i == 0 {
			at.off = w.off
		}
		if end == 0 {
			continue
		}
		s := r.tail[at.i]
		r.j.log.Info("cut what a crash left at the end of the journal", "generation", s.gen, "offset", at.off, "octets", end-at.off)
		if err := wipe(s.file, at.off, end); err != nil {
			return fmt.Errorf("journal: wiping what a crash left: %w", err)
		}
	}
	return nil
}

// wipe puts zeros, durably.
func wipe(file vfs.File, from, to int64) error {
	zeros := make([]byte, min(to-from, readAhead))
	for from < to {
		n := min(to-from, int64(len(zeros)))
		if _, err := file.WriteAt(zeros[:n], from); err != nil {
			return err
		}
		from += n
	}
	return file.Sync()
}

// ready makes the end that was found the place to go on. Segments of the tail before it rest, those behind it are ready to be written.
func (r *recovery) ready(end place, last numbers) error {
	j := r.j
	j.begun = j.now()
	j.durable.Group, j.durable.Seq = last.group, last.seq
	if r.damaged {
		if err := r.renew(); err != nil {
			return err
		}
	} else if len(r.tail) > 0 {
		j.chain = slices.Clone(r.tail[end.i:])
		for _, s := range j.chain[1:] {
			delete(j.segments, s.gen)
		}
		j.end = end.off
	}
	if len(j.chain) > 0 {
		j.durable.Generation, j.durable.Offset = j.chain[0].gen, j.end
		j.target = min(max(j.chain[0].size, j.minSegment), j.maxSegment)
	}
	j.Discard()
	j.mu.Lock()
	var files []vfs.File
	for _, s := range j.segments {
		if file := j.rest(s); file != nil {
			files = append(files, file)
		}
	}
	if len(j.freed) > 0 {
		j.startWork()
	}
	j.mu.Unlock()
	for _, file := range files {
		_ = file.Close() // synced
	}
	return nil
}

// renew begins a new segment behind all others, so that nobody looks at what is damaged again.
func (r *recovery) renew() error {
	j := r.j
	for generation := range j.segments {
		j.generation = max(j.generation, generation)
	}
	if err := j.extend(0); err != nil {
		return err
	}
	j.segments[j.chain[0].gen] = j.chain[0]
	j.end = headerSize
	return nil
}
