package journal

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"latchkey/internal/vfs"
)

// idleBuffer is how much memory for the next group an idle journal keeps.
const idleBuffer = 64 << 10

// part is what a group has in one segment.
type part struct {
	s     *segment
	off   int64 // in the file
	begin int   // in the buffer; it ends where the next one begins
}

// group is the one that is being made. Only the writing goroutine touches it.
type group struct {
	buf   []byte
	parts []part
	// at is the segment, counted in chain, and off the place in it for the next record.
	at  int
	off int64
	// last are the numbers of the last record, durable or in the group.
	last numbers
}

// Sealed is a group that is complete, between Seal and Settle.
type Sealed struct {
	group
	touched int // parts that a failed write may have changed
	err     error
}

// errPoisoned comes with the error after which nothing is known.
var errPoisoned = errors.New("journal: not written any more after a failure")

// usable returns why nothing can be written.
func (j *Journal) usable() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return ErrClosed
	}
	return j.failed
}

// poison notes an error after which nothing may be written.
func (j *Journal) poison(err error) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.failed == nil {
		j.failed = fmt.Errorf("%w: %w", errPoisoned, err)
	}
	return j.failed
}

// Append adds a record to the present group, in memory, and says where its body will lie and the mark behind it. frees is set for
// records that make room: they may use the reserve. ErrNoSpace if there is no room; the group without this record can still be
// committed, and so it can after ErrTooLarge and after an error of Fill. What the record holds is copied.
func (j *Journal) Append(kind Kind, meta []byte, body Body, frees bool) (Place, Mark, error) {
	if kind == 0 || body.Size < 0 || int64(len(body.Sums)) != SumsSize(body.Size) || body.Size > 0 && body.Fill == nil {
		return Place{}, Mark{}, errors.New("journal: a record needs a kind and the sums of its body")
	}
	if err := j.usable(); err != nil {
		return Place{}, Mark{}, err
	}
	g := &j.group
	if len(meta) > MaxGroup || body.Size > MaxGroup {
		return Place{}, Mark{}, ErrTooLarge
	}
	f := frame{kind: kind, meta: uint32(len(meta)), body: uint32(body.Size), group: g.last.group, seq: g.last.seq + 1, index: uint16(g.last.index + 1)}
	if len(g.parts) == 0 {
		f.group, f.index = f.group+1, 0
	}
	size := f.size()
	if int64(len(g.buf))+size > MaxGroup || len(g.parts) > 0 && g.last.index+1 == MaxRecords {
		return Place{}, Mark{}, ErrTooLarge
	}
	before := *g
	if err := j.room(size, frees); err != nil {
		g.at, g.off = before.at, before.off
		return Place{}, Mark{}, err
	}
	s := j.chain[g.at]
	if n := len(g.parts); n == 0 || g.parts[n-1].s != s {
		g.pad()
		g.parts = append(g.parts, part{s, g.off, len(g.buf)})
	}
	at := len(g.buf)
	g.buf = slices.Grow(g.buf, int(size))[:at+int(size)]
	b := g.buf[at:]
	copy(b[frameSize:], meta)
	copy(b[f.sums():], body.Sums)
	if body.Size > 0 {
		if err := body.Fill(b[f.head():]); err != nil {
			g.buf, g.parts, g.at, g.off = g.buf[:len(before.buf)], g.parts[:len(before.parts)], before.at, before.off
			return Place{}, Mark{}, err
		}
	}
	f.put(b, s.stamp)
	place := Place{Generation: s.gen, Offset: g.off + f.sums(), Size: body.Size}
	g.off, g.last = g.off+size, f.numbers()
	return place, Mark{Generation: s.gen, Offset: g.off, Group: f.group, Seq: f.seq}, nil
}

// pad fills the buffer up to the end of the last part's last page, so that writing need not read what the rest of a page held before.
func (g *group) pad() {
	n := len(g.parts)
	if n == 0 {
		return
	}
	p := g.parts[n-1]
	end := p.off + int64(len(g.buf)-p.begin)
	zeros := int(min(roundUp(end), p.s.size) - end)
	at := len(g.buf)
	g.buf = slices.Grow(g.buf, zeros)[:at+zeros]
	clear(g.buf[at:])
}

func roundUp(n int64) int64 { return (n + pageSize - 1) / pageSize * pageSize }

// room moves the place for the next record to where size octets can be written.
func (j *Journal) room(size int64, frees bool) error {
	g := &j.group
	for {
		if g.at < len(j.chain) {
			s, last := j.chain[g.at], g.at == len(j.chain)-1
			fits := g.off+size <= s.size && (!j.small || g.at > 0)
			switch {
			case fits && (!last || frees || g.off+size <= s.size-j.reserve):
				return nil
			case !fits && g.off == headerSize: // recovery cut all that was in it, and no segment may be left without a record
				if err := j.enlarge(s, headerSize+size+j.reserve); err != nil {
					return err
				}
				continue
			case !fits && !last:
				if err := j.enlarge(j.chain[g.at+1], headerSize+size+j.reserve); err != nil {
					return err
				}
				g.at, g.off = g.at+1, headerSize
				continue
			}
		}
		if err := j.extend(headerSize + size + j.reserve); err != nil {
			return err
		}
	}
}

// enlarge makes an empty segment large enough for a record.
func (j *Journal) enlarge(s *segment, size int64) error {
	if s.size >= size {
		return nil
	}
	size = roundUp(size)
	err := s.file.Allocate(size)
	if err == nil {
		err = s.file.Sync()
	}
	if err != nil {
		return j.explain(err)
	}
	j.mu.Lock()
	s.size = size
	j.mu.Unlock()
	return nil
}

// explain turns an error of making a segment into what Append returns.
func (j *Journal) explain(err error) error {
	switch {
	case fatal(err):
		return j.poison(err)
	case vfs.IsNoSpace(err):
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	return err
}

// extend waits for one more segment behind those that are there, of at least size octets.
func (j *Journal) extend(size int64) error {
	if j.next != nil {
		<-j.next.done
		if err := j.harvest(); err == nil {
			return nil
		}
	}
	if err := j.prepare(size); err != nil {
		return err
	}
	<-j.next.done
	return j.harvest()
}

// harvest puts the segment that was made into the chain, or notes when and why it could not be made.
func (j *Journal) harvest() error {
	j.mu.Lock()
	n := j.next
	j.next = nil
	if n.err == nil {
		j.chain = append(j.chain, n.s)
	}
	j.mu.Unlock()
	if n.err == nil {
		return nil
	}
	j.notBefore, j.notBeforeErr = n.failed.Add(retryDelay), j.explain(n.err)
	return j.notBeforeErr
}

// Discard forgets the records of the group that is being made.
func (j *Journal) Discard() {
	g := &j.group
	g.buf, g.parts = g.buf[:0], g.parts[:0]
	if j.sealed != nil { // it goes on behind that one
		g.at, g.off, g.last = j.sealed.at, j.sealed.off, j.sealed.last
		return
	}
	g.at, g.off = 0, j.end
	g.last = numbers{group: j.durable.Group, seq: j.durable.Seq, index: unknown}
}

// Commit makes the group durable and returns the mark behind it. After ErrNoSpace nothing of the group is kept, durably, and the
// journal goes on. After any other error nothing is known, and the journal must not be written again in this process; reads go on.
func (j *Journal) Commit() (Mark, error) {
	g, err := j.Seal()
	if err != nil {
		return Mark{}, err
	}
	if g == nil {
		return j.Durable(), nil
	}
	g.Write()
	return j.Settle(g)
}

// Seal ends the group that is being made, so that it can be written while the next one is made: what is appended from now on comes behind
// it. nil if there is no record in it. One group may be sealed at a time, and has to be settled.
func (j *Journal) Seal() (*Sealed, error) {
	if err := j.usable(); err != nil {
		return nil, err
	}
	g := &j.group
	if len(g.parts) == 0 {
		return nil, nil
	}
	if j.sealed != nil {
		return nil, errors.New("journal: a group is being written already")
	}
	g.pad()
	j.sealed = &Sealed{group: *g}
	g.buf, g.parts = j.spent.buf, j.spent.parts
	j.spent = group{}
	return j.sealed, nil
}

// Write writes the group and syncs it. It may be called on any goroutine, once; Settle says how it ended.
func (g *Sealed) Write() {
	for i, p := range g.parts {
		n, err := p.s.file.WriteAt(g.slice(i), p.off)
		if err != nil {
			g.err, g.touched = err, i
			if n > 0 { // one of which not an octet was taken is as it was
				g.touched = i + 1
			}
			return
		}
	}
	for i := range g.parts {
		if err := g.parts[i].s.file.Sync(); err != nil {
			g.err = &vfs.SyncError{Err: err}
			return
		}
	}
}

// Settle ends what Seal began, after Write: see Commit. After an error the group that is being made is discarded too, as it lies behind.
func (j *Journal) Settle(g *Sealed) (mark Mark, err error) {
	j.sealed = nil
	switch {
	case g.err == nil:
		mark = j.publish(&g.group)
		j.group.at -= g.at
	case vfs.IsSync(g.err):
		err = j.poison(g.err)
	default:
		err = j.undo(g)
	}
	j.spent = group{buf: g.buf[:0], parts: g.parts[:0]}
	switch {
	case err != nil:
		j.Discard()
	case len(j.group.parts) == 0:
		j.Discard()
		j.prepareAhead()
	default:
		j.prepareAhead()
	}
	return mark, err
}

// slice is what the group has in its part i.
func (g *group) slice(i int) []byte {
	end := len(g.buf)
	if i+1 < len(g.parts) {
		end = g.parts[i+1].begin
	}
	return g.buf[g.parts[i].begin:end]
}

// undo wipes what a failed write may have left, so that it cannot come back.
func (j *Journal) undo(g *Sealed) error {
	if !vfs.IsNoSpace(g.err) {
		return j.poison(g.err)
	}
	clear(g.buf)
	for i, p := range g.parts[:g.touched] {
		_, wipeErr := p.s.file.WriteAt(g.slice(i), p.off)
		if wipeErr == nil {
			wipeErr = p.s.file.Sync()
		}
		if wipeErr != nil {
			return j.poison(fmt.Errorf("wiping a group that found no space: %w", wipeErr))
		}
	}
	return fmt.Errorf("%w: %w", ErrNoSpace, g.err)
}

// publish makes a group the last durable one.
func (j *Journal) publish(g *group) Mark {
	var idle []vfs.File
	j.mu.Lock()
	for i := range g.parts {
		j.segments[g.parts[i].s.gen] = g.parts[i].s
	}
	full := j.chain[:g.at]
	j.chain = j.chain[g.at:]
	for _, s := range full {
		if file := j.rest(s); file != nil {
			idle = append(idle, file)
		}
	}
	j.end = g.off
	j.durable = Mark{Generation: j.chain[0].gen, Offset: g.off, Group: g.last.group, Seq: g.last.seq}
	mark := j.durable
	j.mu.Unlock()
	if len(full) > 0 || j.begun.IsZero() {
		j.begun, j.small = j.now(), false
	}
	for _, file := range idle {
		_ = file.Close() // all that was written was synced
	}
	return mark
}

// Durable returns the mark behind the last durable record.
func (j *Journal) Durable() Mark {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.durable
}

// Idle gives back memory that a burst of writing took. The goroutine of Append calls it when nothing waits.
func (j *Journal) Idle() {
	if len(j.group.parts) == 0 && cap(j.group.buf) > idleBuffer {
		j.group.buf = nil
	}
	j.spent = group{}
}

// prepareAhead sees to it that the next segment is there before it is needed. A failure is met when it is.
func (j *Journal) prepareAhead() {
	if j.next != nil {
		select {
		case <-j.next.done:
			_ = j.harvest()
		default:
			return
		}
	}
	if len(j.chain) == 1 && j.end >= j.chain[0].size/2 {
		_ = j.prepare(0)
	}
}

// nextSize is the size of the segment that follows one of the given size, of which used octets were filled in the given time.
func nextSize(size, used int64, took time.Duration, smallest, largest int64) int64 {
	whole := time.Duration(float64(took) * float64(size) / float64(max(used, 1)))
	switch {
	case whole < fastFill:
		size *= 2
	case whole > slowFill:
		size /= 2
	}
	return roundUp(min(max(size, smallest), largest))
}
