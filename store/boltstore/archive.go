package boltstore

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"slices"
	"sort"

	"latchkey/internal/archive"
	"latchkey/internal/journal"
	"latchkey/internal/vfs"
	"latchkey/store"
)

var _ store.Archiver = (*Store)(nil)

// holding is what a backup under way keeps from being freed. It is guarded by space.mu.
type holding struct {
	from, to uint64 // generations of segments
	all      bool   // every large body, while they are being listed
	large    []token
}

func (h *holding) holdsSegment(generation uint64) bool {
	return h != nil && generation >= h.from && generation <= h.to
}

func (h *holding) holdsLarge(t token) bool {
	if h == nil {
		return false
	}
	_, found := slices.BinarySearchFunc(h.large, t, compareTokens)
	return h.all || found
}

func compareTokens(a, b token) int { return slices.Compare(a[:], b[:]) }

// archiver is one Archive.
type archiver struct {
	s        *Store
	known    known
	segments []archivedSegment // in ascending order
	large    []token           // in ascending order: 16 octets a body
	files    []string          // in tmp/
	index    vfs.File
	indexed  int64
}

// archivedSegment is how much of a segment belongs to the backup.
type archivedSegment struct {
	generation uint64
	size       int64
}

// Archive implements store.Archiver. The backup is of one place in the journal: the index as it was at some record, and all records up to a
// later one that was durable when Archive was called.
func (s *Store) Archive(ctx context.Context, have io.Reader, w io.Writer) (err error) {
	if s.isClosing() {
		return store.ErrClosed
	}
	if !s.archiving.TryLock() {
		return fmt.Errorf("%w: another backup is being made", store.ErrBusy)
	}
	defer s.archiving.Unlock()
	a := archiver{s: s}
	if a.known, err = readKnown(have, s.domain); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.release()) }()
	taken := s.now()
	if err := a.snapshot(ctx); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	spool, err := a.tmp()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, spool.Close()) }()
	out, err := archive.NewWriter(w, archive.Header{Domain: s.domain, Taken: taken}, spool)
	if err != nil {
		return err
	}
	if err := a.send(ctx, out); err != nil {
		return err
	}
	return out.Close()
}

// tmp makes a file that is gone after the backup, or at the next start.
func (a *archiver) tmp() (vfs.File, error) {
	if err := a.s.room(); err != nil {
		return nil, err
	}
	name := a.s.bodies.tmp(newToken())
	f, err := a.s.fs.Create(name)
	if err != nil {
		return nil, a.s.writeFailed(fmt.Errorf("backup: %w", err))
	}
	a.files = append(a.files, name)
	return f, nil
}

// release lets go of what was kept.
func (a *archiver) release() error {
	a.hold(nil)
	var err error
	if a.index != nil {
		err = a.index.Close()
	}
	for _, name := range a.files {
		if gone := a.s.fs.Remove(name); !errors.Is(gone, fs.ErrNotExist) {
			err = errors.Join(err, gone)
		}
	}
	return err
}

// hold replaces what is kept, and frees what was kept for the backup alone.
func (a *archiver) hold(h *holding) {
	z := &a.s.space
	z.mu.Lock()
	z.archive = h
	z.changed = true
	var gone []token
	for t := range z.doomed {
		if z.held[t] == 0 && !h.holdsLarge(t) {
			delete(z.doomed, t)
			gone = append(gone, t)
		}
	}
	z.mu.Unlock()
	if !a.s.isClosing() {
		a.s.unlink(gone)
		a.s.wake()
	}
}

// snapshot decides what the backup consists of, keeps it from being freed, and copies the index. The index is copied as it is in the file,
// in one read transaction, as fast as the device is.
func (a *archiver) snapshot(ctx context.Context) (err error) {
	if a.index, err = a.tmp(); err != nil {
		return err
	}
	a.s.journal.Segments() // learns the sizes
	a.s.space.keep.RLock()
	locked := true
	unlock := func() {
		if locked {
			locked = false
			a.s.space.keep.RUnlock()
		}
	}
	defer unlock()
	end, fresh := a.s.tail.end()
	return a.s.read(ctx, func(v *view) error {
		applied, err := v.applied()
		if err != nil {
			return err
		}
		if applied.Seq >= end.Seq {
			end, fresh = applied, nil
		}
		if err := a.choose(v, applied, end); err != nil {
			return err
		}
		h := &holding{to: end.Generation, all: true}
		if len(a.segments) > 0 {
			h.from = a.segments[0].generation
		}
		a.hold(h)
		unlock()
		if err := a.listLarge(v, fresh); err != nil {
			return err
		}
		a.hold(&holding{from: h.from, to: h.to, large: a.large})
		w := bufio.NewWriterSize(a.index, 256<<10)
		a.indexed, err = v.tx.WriteTo(w)
		if err = errors.Join(err, w.Flush()); err != nil {
			return a.s.writeFailed(err)
		}
		return ctx.Err()
	})
}

// choose lists the segments that the index needs, and those behind it up to the end.
func (a *archiver) choose(v *view, applied, end journal.Mark) error {
	there := make(map[uint64]int64)
	segments, _, _ := a.s.journal.Segments()
	for _, info := range segments {
		there[info.Generation] = info.Size
		if info.Generation >= applied.Generation && info.Generation <= end.Generation {
			a.segments = append(a.segments, archivedSegment{generation: info.Generation, size: info.Size})
		}
	}
	var missing error
	v.scan(bSegments, nil, nil, func(key, _ []byte) bool {
		generation := id8(key)
		size, ok := there[generation]
		switch {
		case !ok:
			missing = fmt.Errorf("%w: segment %d of the journal is missing", store.ErrDamaged, generation)
		case generation < applied.Generation:
			a.segments = append(a.segments, archivedSegment{generation: generation, size: size})
		}
		return ok
	})
	sort.Slice(a.segments, func(i, j int) bool { return a.segments[i].generation < a.segments[j].generation })
	if n := len(a.segments); n > 0 && a.segments[n-1].generation == end.Generation {
		a.segments[n-1].size = end.Offset
	}
	return missing
}

// listLarge lists the large bodies of the index, and those of the tail.
func (a *archiver) listLarge(v *view, fresh []token) error {
	a.large = fresh
	var failed error
	v.scan(bBodies, nil, nil, func(_, value []byte) bool {
		r, err := decodeShared(value)
		if failed = err; err == nil && r.large {
			a.large = append(a.large, r.token)
		}
		return err == nil
	})
	slices.SortFunc(a.large, compareTokens)
	a.large = slices.Compact(a.large)
	return failed
}

// end returns the last mark of the tail, and the large bodies that it names. The zero mark is an empty tail.
func (z *tail) end() (journal.Mark, []token) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if len(z.list) == 0 {
		return journal.Mark{}, nil
	}
	tokens := make([]token, 0, len(z.large))
	for _, b := range z.large {
		tokens = append(tokens, b.token)
	}
	return z.list[len(z.list)-1].mark, tokens
}

// known is what the receiver has, by its own word.
type known struct {
	segments map[uint64]knownSegment
	large    []knownLarge // in ascending order of the token
}

type knownSegment struct {
	stamp uint64
	piece archive.Piece
}

type knownLarge struct {
	token token
	sum   uint32
	size  int64
}

// readKnown reads a manifest. It needs 32 octets of memory a large body, of which there are at most archive.MaxPieces.
func readKnown(have io.Reader, domain string) (known, error) {
	k := known{segments: make(map[uint64]knownSegment)}
	if have == nil {
		return k, nil
	}
	in := bufio.NewReader(have)
	if _, err := in.Peek(1); errors.Is(err, io.EOF) {
		return k, nil
	}
	m, err := archive.ReadManifest(in)
	if err == nil && m.Domain != domain {
		return k, fmt.Errorf("%w: that is a backup of %s, and this is %s", store.ErrInvalid, m.Domain, domain)
	}
	for err == nil {
		var p archive.Piece
		if p, err = m.Next(); err != nil {
			break
		}
		switch n, _ := archive.ParseName(p.Name); n.Kind {
		case archive.Segment:
			k.segments[n.Generation] = knownSegment{stamp: n.Stamp, piece: p}
		case archive.Large:
			k.large = append(k.large, knownLarge{token: n.Token, sum: p.Sum, size: p.Size})
		}
	}
	switch {
	case errors.Is(err, io.EOF):
		return k, nil
	case errors.Is(err, archive.ErrDamaged):
		return k, fmt.Errorf("%w: the manifest of the older backup: %w", store.ErrInvalid, err)
	}
	return k, err
}

// send sends the pieces in ascending order of their names, and lets go of each when it is sent.
func (a *archiver) send(ctx context.Context, out *archive.Writer) error {
	for i, seg := range a.segments {
		if err := a.sendSegment(ctx, out, seg); err != nil {
			return err
		}
		if (i+1)%segmentsPerHold == 0 && i+1 < len(a.segments) {
			a.hold(&holding{from: a.segments[i+1].generation, to: a.segments[len(a.segments)-1].generation, large: a.large})
		}
	}
	a.hold(&holding{from: 1, large: a.large}) // no segment
	known := a.known.large
	for i, t := range a.large {
		for len(known) > 0 && compareTokens(known[0].token, t) < 0 {
			known = known[1:]
		}
		if len(known) > 0 && known[0].token == t {
			if err := out.Keep(archive.Piece{Name: archive.LargeName(t), Size: known[0].size, Sum: known[0].sum}); err != nil {
				return err
			}
			continue
		}
		if err := a.sendLarge(ctx, out, t); err != nil {
			return err
		}
		if (i+1)%bodiesPerHold == 0 {
			a.hold(&holding{from: 1, large: a.large[i+1:]})
		}
	}
	a.hold(nil)
	return out.Send(ctx, archive.IndexName(rand.Uint64()), 0, a.indexed, 0, io.NewSectionReader(a.index, 0, a.indexed))
}

// After so many segments, and large bodies, it is looked whether some were kept for the backup alone.
const (
	segmentsPerHold = 16
	bodiesPerHold   = 256
)

// sendSegment sends what of a segment the receiver has not.
func (a *archiver) sendSegment(ctx context.Context, out *archive.Writer, seg archivedSegment) error {
	pin, err := a.s.journal.Pin(seg.generation)
	if errors.Is(err, journal.ErrClosed) {
		return store.ErrClosed
	}
	if err != nil {
		return fmt.Errorf("%w: segment %d of the journal: %w", store.ErrDamaged, seg.generation, err)
	}
	defer pin.Release()
	stamp, err := pin.Stamp()
	if err != nil {
		return fmt.Errorf("%w: %w", store.ErrDamaged, err)
	}
	p := archive.Piece{Name: archive.SegmentName(seg.generation, stamp)}
	if k, ok := a.known.segments[seg.generation]; ok && k.stamp == stamp && k.piece.Size <= seg.size {
		p = k.piece
	}
	if p.Size == seg.size {
		return out.Keep(p)
	}
	return out.Send(ctx, p.Name, p.Size, seg.size, p.Sum, a.s.whileOpen(io.NewSectionReader(pin, p.Size, seg.size-p.Size)))
}

func (a *archiver) sendLarge(ctx context.Context, out *archive.Writer, t token) (err error) {
	f, err := a.s.fs.Open(a.s.bodies.large(t))
	if err != nil {
		return fmt.Errorf("%w: body %s: %w", store.ErrDamaged, t, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := f.Size()
	if err != nil {
		return err
	}
	return out.Send(ctx, archive.LargeName(t), 0, size, 0, a.s.whileOpen(io.NewSectionReader(f, 0, size)))
}

// whileOpen ends a reader with store.ErrClosed when the store is being closed.
func (s *Store) whileOpen(r io.Reader) io.Reader { return &openReader{s, r} }

type openReader struct {
	s *Store
	r io.Reader
}

func (o *openReader) Read(p []byte) (int, error) {
	if o.s.isClosing() {
		return 0, store.ErrClosed
	}
	return o.r.Read(p)
}
