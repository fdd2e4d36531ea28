package boltstore

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"latchkey/internal/journal"
	"latchkey/internal/vfs"
	"latchkey/store"
)

// Bounds of the bodies being received.
const (
	// DefaultDraftMemory is the memory that all drafts of a process share, in octets.
	DefaultDraftMemory = 16 << 20
	// spillAbove is the largest body that goes into the journal, and the largest draft that is kept in memory.
	spillAbove = 128 << 10
	// firstChunk and chunkSize are the pieces in which a draft takes memory: most messages are small, so the first is.
	firstChunk = 8 << 10
	chunkSize  = 16 << 10
	// maxSyncs bounds the files that are synced at the same time.
	maxSyncs = 64
)

// budget is the memory that drafts may use, shared by all of them.
type budget struct {
	used   atomic.Int64
	max    int64
	chunks chunkPools
}

func (b *budget) take(n int64) bool {
	if b.used.Add(n) > b.max {
		b.used.Add(-n)
		return false
	}
	return true
}

func (b *budget) give(n int64) { b.used.Add(-n) }

// draft is a message being received: in memory while it is small and the budget has room, else in a file of tmp/. A small one goes into the
// journal from either; a large one's file becomes its body. A draft in memory has no descriptor, one in a file has one.
type draft struct {
	s      *Store
	sum    summer
	chunks [][]byte
	held   int64 // of the budget
	token  token
	file   vfs.File
	err    error // what ended it
	done   bool
}

// NewDraft implements store.Spool.
func (s *Store) NewDraft(ctx context.Context) (store.Draft, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := s.usable(); err != nil {
		return nil, err
	}
	return &draft{s: s, token: newToken()}, nil
}

// Room implements store.Spool.
func (s *Store) Room(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.usable(); err != nil {
		return err
	}
	return s.room()
}

// Size implements store.Draft.
func (d *draft) Size() int64 { return d.sum.size }

// Write implements io.Writer. Once the draft is in a file every Write is a system call, so callers write in large pieces.
func (d *draft) Write(p []byte) (int, error) {
	if d.err == nil && d.done {
		d.err = store.ErrSettled
	}
	if d.err == nil {
		d.err = d.add(p)
	}
	if d.err != nil {
		return 0, d.err
	}
	d.sum.add(p)
	return len(p), nil
}

func (d *draft) add(p []byte) error {
	if d.file == nil {
		if d.sum.size+int64(len(p)) <= spillAbove && d.keep(p) {
			return nil
		}
		if err := d.spill(); err != nil {
			return err
		}
	}
	if err := d.s.room(); err != nil {
		return err
	}
	if _, err := d.file.Write(p); err != nil {
		return d.s.writeFailed(fmt.Errorf("draft: %w", err))
	}
	return nil
}

// keep copies p into memory of the budget; if that has no room, nothing is copied.
func (d *draft) keep(p []byte) bool {
	room := 0
	if n := len(d.chunks); n > 0 {
		room = cap(d.chunks[n-1]) - len(d.chunks[n-1])
	}
	next := func(chunks int) int {
		if chunks == 0 {
			return firstChunk
		}
		return chunkSize
	}
	var more int64
	for have, chunks := room, len(d.chunks); have < len(p); chunks++ {
		more += int64(next(chunks))
		have += next(chunks)
	}
	if more > 0 && !d.s.budget.take(more) {
		return false
	}
	d.held += more
	for len(p) > 0 {
		if room == 0 {
			room = next(len(d.chunks))
			d.chunks = append(d.chunks, d.s.budget.chunks.get(room))
		}
		last := &d.chunks[len(d.chunks)-1]
		n := min(room, len(p))
		*last = append(*last, p[:n]...)
		p, room = p[n:], room-n
	}
	return true
}

// spill moves what is in memory to a file of tmp/.
func (d *draft) spill() error {
	if err := errors.Join(d.s.usable(), d.s.room()); err != nil {
		return err
	}
	f, err := d.s.fs.Create(d.s.bodies.tmp(d.token))
	if err != nil {
		return d.s.writeFailed(fmt.Errorf("draft: %w", err))
	}
	d.file = f
	for _, chunk := range d.chunks {
		if _, err := f.Write(chunk); err != nil {
			return d.s.writeFailed(fmt.Errorf("draft: %w", err))
		}
	}
	d.forget()
	return nil
}

func (d *draft) forget() {
	for _, chunk := range d.chunks {
		d.s.budget.chunks.put(chunk)
	}
	d.s.budget.give(d.held)
	d.chunks, d.held = nil, 0
}

// Abort implements store.Draft.
func (d *draft) Abort() error {
	if d.done {
		return nil
	}
	d.done = true
	return d.discard()
}

// discard gives back what an unsealed draft holds.
func (d *draft) discard() error {
	d.forget()
	if d.file == nil {
		return nil
	}
	err := d.file.Close()
	d.file = nil
	return errors.Join(err, d.s.fs.Remove(d.s.bodies.tmp(d.token)))
}

// Commit implements store.Draft.
func (d *draft) Commit(ctx context.Context, e store.Envelope) (store.Receipt, error) {
	defer d.s.Unreserve(e.Reserved...) // where the committer did not
	if d.done {
		return store.Receipt{}, store.ErrSettled
	}
	d.done = true
	if err := errors.Join(d.err, ctx.Err(), e.Validate(d.sum.size)); err != nil {
		return store.Receipt{}, errors.Join(err, d.discard())
	}
	c := commit{s: d.s, e: &e, body: body{size: d.sum.size, large: d.sum.size > spillAbove, token: d.token}}
	p := posting{stage: c.stage, octets: envelopeOctets(&e), large: c.body.large}
	if c.body.large {
		if err := d.seal(&c); err != nil {
			return store.Receipt{}, err
		}
		defer d.s.bodies.landed(d.token)
	} else {
		c.octets = journal.Body{Size: d.sum.size, Sums: d.sum.trailer(), Fill: d.fill}
	}
	p.octets += int(c.octets.Size)
	err := d.s.post(ctx, &p)
	if !c.body.large {
		if left := d.discard(); left != nil {
			d.s.log.Error("draft could not be removed", "error", left) // the next Open does
		}
	}
	if err == nil {
		return c.receipt, nil
	}
	// After a failed sync nobody knows whether the record is there, so the body stays; the next Open decides.
	if c.body.large && !errors.Is(err, store.ErrPoisoned) && !errors.Is(err, store.ErrClosed) {
		d.s.removeBody(d.token)
	}
	return store.Receipt{}, err
}

// fill copies a body that goes into the journal.
func (d *draft) fill(b []byte) error {
	if d.file != nil {
		n, err := d.file.ReadAt(b, 0)
		if n == len(b) {
			return nil
		}
		return fmt.Errorf("draft: %w", err)
	}
	for _, chunk := range d.chunks {
		b = b[copy(b, chunk):]
	}
	return nil
}

// seal turns a draft that is too large for the journal into a durable file of large/; its header goes into the record too.
func (d *draft) seal(c *commit) error {
	err := d.s.usable()
	if err == nil && d.file == nil {
		err = d.spill()
	}
	var head []byte
	if err == nil {
		head = make([]byte, recordOctets(c.body.size, c.e.HeaderLen, true))
		err = d.fill(head)
	}
	if err != nil {
		return errors.Join(err, d.discard())
	}
	var sum summer
	sum.add(head)
	c.octets = journal.Body{Size: int64(len(head)), Sums: sum.trailer(), Fill: func(b []byte) error { copy(b, head); return nil }}
	f := d.file
	d.file = nil
	if c.body.sum, err = d.s.bodies.seal(f, d.token, &d.sum); err == nil {
		return nil
	}
	err = d.s.writeFailed(fmt.Errorf("body: %w", err))
	// One of the two is there, or neither: whatever is left is removed at the next Open at the latest.
	_ = d.s.fs.Remove(d.s.bodies.tmp(d.token))
	return err
}
