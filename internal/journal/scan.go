package journal

import "context"

// Scan calls each for every record of one durable segment, in order. A record that cannot be read is a [Damage]. Of the active segment it
// reads what was durable when it was called. ErrGone if there is none of this generation.
func (j *Journal) Scan(ctx context.Context, generation uint64, each func(Record) error) error {
	j.mu.Lock()
	limit := int64(-1)
	if len(j.chain) > 0 && j.chain[0].gen == generation {
		limit = j.end
	}
	j.mu.Unlock()
	s, release, err := j.scanned(generation)
	if err != nil {
		return err
	}
	defer release()
	w := newWalker([]*segment{s}, place{0, headerSize}, numbers{})
	w.read.reset(s)
	w.at = 0
	f, _, bad, err := w.read.frame(headerSize)
	if err != nil {
		return err
	}
	if bad == "" {
		w.last = f.before()
	}
	for w.off != limit {
		record, ok, err := w.next(ctx)
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		if err := each(record); err != nil {
			return err
		}
	}
	if w.off == limit {
		return nil
	}
	if limit >= 0 {
		return Damage{w.mark(), w.bad}
	}
	return j.scanRest(ctx, w)
}

// scanned pins a segment and returns a copy of what is needed to read it.
func (j *Journal) scanned(generation uint64) (*segment, func(), error) {
	p, err := j.Pin(generation)
	if err != nil {
		return nil, nil, err
	}
	s := &segment{gen: generation, file: p.s.file}
	if s.size, err = s.file.Size(); err != nil {
		p.Release()
		return nil, nil, err
	}
	r := reader{file: s.file, size: s.size}
	h, bad, err := r.header(generation)
	if err == nil && bad != "" {
		err = Damage{Mark{Generation: generation}, bad}
	}
	if err != nil {
		p.Release()
		return nil, nil, err
	}
	s.stamp = h.stamp
	return s, p.Release, nil
}

// scanRest makes sure that the end of a full segment's records is where the walker stopped: the next one goes on there, and nothing that
// looks like the beginning of a record is behind it.
func (j *Journal) scanRest(ctx context.Context, w *walker) error {
	if next, release, err := j.scanned(w.row[0].gen + 1); err == nil && w.off > headerSize {
		defer release()
		w.probe.reset(next)
		if f, _, bad, err := w.probe.frame(headerSize); err == nil && bad == "" && f.seq != w.last.seq+1 {
			return Damage{w.mark(), w.bad}
		}
	} else if err == nil {
		release()
	}
	_, stale, err := w.behind(ctx, w.place, func(frame) bool { return false })
	if err == nil && stale[0] != 0 {
		err = Damage{w.mark(), w.bad}
	}
	return err
}
