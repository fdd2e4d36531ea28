package boltstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"latchkey/internal/journal"
	"latchkey/store"
)

// maxToldHolders bounds the copies and jobs that are named with one message that cannot be read.
const maxToldHolders = 20

func newChecker(s *Store) *checker {
	return &checker{s: s, refs: make(map[store.MessageID]uint64), segments: make(map[uint64]live), lost: make(map[store.MessageID]string)}
}

// rest reads the buckets that no other check goes through.
func (c *checker) rest(v *view) {
	for _, id := range []bucketID{bAliasTargets, bLent, bDue, bTrail, bTrailOpen, bStats, bCounters, bSessions, bSecrets, bSuppressions} {
		c.each(v, id, func([]byte, []byte) error { return nil })
	}
}

// headers looks at the headers of all segments, and for segments that are needed and not there. One that went meanwhile is no problem.
func (c *checker) headers(ctx context.Context) error {
	segments, _, _ := c.s.journal.Segments()
	there := make(map[uint64]bool, len(segments))
	for _, info := range segments {
		there[info.Generation] = true
		pin, err := c.s.journal.Pin(info.Generation)
		if err == nil {
			_, err = pin.Stamp()
			pin.Release()
		}
		if err != nil && !errors.Is(err, journal.ErrGone) {
			c.found(store.ProblemSegment, fmt.Sprintf("segment %d", info.Generation), "%v", err)
		}
	}
	missing := make(map[uint64]live)
	err := c.s.read(ctx, func(v *view) error {
		return v.eachRecord(bSegments, func(key, value []byte) error {
			l, err := decodeLive(value)
			if segment := id8(key); !there[segment] {
				missing[segment] = l
			}
			return err
		})
	})
	if errors.Is(err, errShortRecord) {
		err = nil // told before
	}
	for _, segment := range slices.Sorted(maps.Keys(missing)) {
		l := missing[segment]
		if pin, err := c.s.journal.Pin(segment); err == nil {
			pin.Release() // it came meanwhile
			continue
		}
		c.found(store.ProblemSegment, fmt.Sprintf("segment %d", segment), "it is missing, with %d messages of %d octets", l.Messages, l.Octets)
	}
	return err
}

// readAll reads the octets of every message.
func (c *checker) readAll(ctx context.Context) error {
	for _, r := range c.records {
		if err := c.record(ctx, r); err != nil {
			return err
		}
	}
	for _, b := range c.bodies {
		if err := c.body(ctx, b); err != nil {
			return err
		}
	}
	return nil
}

// cannotRead notes a message whose octets cannot be read. A store with very many of them is damaged as a whole.
func (c *checker) cannotRead(id store.MessageID, err error) {
	if len(c.lost) < maxProblems {
		c.lost[id] = strings.TrimPrefix(err.Error(), store.ErrDamaged.Error()+": ")
	}
}

// record reads one record of a message and the octets in it. One that went or moved meanwhile is no problem.
func (c *checker) record(ctx context.Context, r checkedRecord) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	failed := c.s.verifyRecord(r)
	if failed == nil {
		return nil
	}
	needed := false
	err := c.s.read(ctx, func(v *view) error {
		needed = v.has(bSegments, key8(r.segment))
		return nil
	})
	if err == nil && needed {
		c.cannotRead(r.id, failed)
	}
	return err
}

// verifyRecord reads a record, its meta and its octets.
func (s *Store) verifyRecord(r checkedRecord) (err error) {
	octets, err := s.openRecord(r.id, r.where, r.octets)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, octets.Close()) }()
	made, err := readEntry(octets.pin, r.where, r.octets)
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: message %s: segment %d ends before it", store.ErrDamaged, r.id, r.segment)
	}
	if err != nil {
		return err
	}
	f := foundRecord{entry: made}
	if id, _ := f.message(); id != r.id {
		return fmt.Errorf("%w: message %s: where it should be is message %s", store.ErrDamaged, r.id, id)
	}
	_, err = io.Copy(io.Discard, octets)
	return err
}

// verifyBody reads a large body.
func (s *Store) verifyBody(b body) error {
	r, err := s.bodies.open(b)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, r)
	return errors.Join(err, r.Close())
}

// body reads one large body. One that went meanwhile is no problem if its message went too.
func (c *checker) body(ctx context.Context, b checkedBody) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	failed := c.s.verifyBody(b.body)
	if failed == nil {
		return nil
	}
	gone := false
	err := c.s.read(ctx, func(v *view) error {
		gone = !v.has(bBodies, key8(uint64(b.id)))
		return nil
	})
	if err == nil && !gone {
		c.cannotRead(b.id, failed)
	}
	return err
}

// tellLost reports the messages that cannot be read, and whose they are.
func (c *checker) tellLost(ctx context.Context) error {
	if len(c.lost) == 0 {
		return nil
	}
	whose := make(map[store.MessageID][]string)
	err := c.s.read(ctx, func(v *view) error {
		return v.eachHolder(func(h *held) error {
			if _, lost := c.lost[h.message]; lost && len(whose[h.message]) <= maxToldHolders {
				whose[h.message] = append(whose[h.message], c.whose(v, h))
			}
			return nil
		})
	})
	for _, id := range slices.Sorted(maps.Keys(c.lost)) {
		if list := whose[id]; len(list) > maxToldHolders {
			whose[id] = append(list[:maxToldHolders], "others")
		}
		from := ""
		if e := c.s.accepted(ctx, id); e != nil {
			from = fmt.Sprintf("; from <%s>, received %s", e.Sender, e.Time.UTC().Format(time.RFC3339))
		}
		c.found(store.ProblemMessage, "message "+id.String(), "%s%s; %s", c.lost[id], from, strings.Join(whose[id], ", "))
	}
	if errors.Is(err, errShortRecord) {
		err = nil // told before
	}
	return err
}

// accepted returns the trail's event of the message's acceptance, or nil.
func (s *Store) accepted(ctx context.Context, id store.MessageID) *store.TrailEvent {
	events, err := s.MessageTrail(ctx, id)
	if err != nil {
		return nil // then less is told
	}
	for i := range events {
		if events[i].Kind == store.TrailAccepted {
			return &events[i]
		}
	}
	return nil
}

// whose names a copy or a job for people.
func (c *checker) whose(v *view, h *held) string {
	if h.account == 0 {
		j, err := v.job(store.JobID(h.id))
		if err != nil {
			return fmt.Sprintf("delivery %d", h.id)
		}
		return fmt.Sprintf("delivery %d to <%s>", h.id, j.Recipient)
	}
	name := fmt.Sprint(h.account)
	if a, err := v.account(h.account); err == nil {
		name = a.Name
	}
	return fmt.Sprintf("mailbox %s, unique-id %s", name, c.s.epochs.uniqueID(store.CopyID(h.id)))
}
