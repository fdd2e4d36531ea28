package boltstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"latchkey/internal/journal"
	"latchkey/store"
)

// maildrop is one snapshot: a compact list, and pins that keep what it lists readable. It holds no transaction.
type maildrop struct {
	s       *Store
	account store.AccountID
	list    []listing
	pins    pins
	seen    uint64 // of the account's changes: see snapshots
	closed  bool
}

// maxForeseen bounds the list that is made on the word of a counter; a longer one grows as it is read.
const maxForeseen = 1 << 20

// OpenMaildrop implements store.Maildrops.
func (s *Store) OpenMaildrop(ctx context.Context, account store.AccountID) (store.Maildrop, error) {
	m := &maildrop{s: s, account: account, seen: s.snapshots.open(account)}
	// While this is held no segment and no file goes: what the list names is pinned before.
	s.space.keep.RLock()
	defer s.space.keep.RUnlock()
	copies, gone := s.tail.look(account)
	err := s.read(ctx, func(v *view) error {
		a, err := v.account(account)
		if err != nil {
			return err
		}
		if a.Suspended {
			return fmt.Errorf("account %d: %w", account, store.ErrSuspended)
		}
		return m.fill(v, copies, gone)
	})
	if err == nil {
		err = m.pin()
	}
	if err != nil {
		m.release()
		return nil, err
	}
	return m, nil
}

// fill lists what the index has, and what the tail adds and takes away.
func (m *maildrop) fill(v *view, copies []tailCopy, gone []tailGone) error {
	applied, err := v.applied()
	if err != nil {
		return err
	}
	u, err := decodeUsage(v.get(bUsage, key8(uint64(m.account))))
	if err != nil {
		return err
	}
	over := overlayOf(copies, gone, applied.Seq)
	m.list = make([]listing, 0, min(max(u.Messages, 0), maxForeseen)+int64(len(over.copies)))
	err = v.eachCopy(m.account, func(l listing) {
		if over.isGone(l.id) {
			return
		}
		m.list = append(m.list, l)
		if l.large() {
			if r, err := v.shared(l.message); err == nil { // without one the message is damaged, and no other
				m.pins.body(l.message, r.body)
			}
		}
	})
	for i := range over.copies {
		c := &over.copies[i]
		if over.isGone(c.id) {
			continue
		}
		m.list = append(m.list, c.listing)
		if c.large != nil {
			m.pins.body(c.message, *c.large)
		}
	}
	return err
}

// pin keeps readable what the list names.
func (m *maildrop) pin() error {
	for i := range m.list {
		if err := m.pins.segment(m.s, m.list[i].segment); err != nil && !errors.Is(err, journal.ErrGone) {
			return err // one that is gone is damage, of these messages alone
		}
	}
	m.pins.hold(m.s)
	return nil
}

// eachCopy calls each for the account's copies in order of arrival.
func (v *view) eachCopy(account store.AccountID, each func(listing)) (err error) {
	v.scan(bCopies, key8(uint64(account)), nil, func(key, value []byte) bool {
		var l listing
		if l, err = decodeListing(key, value); err != nil {
			return false
		}
		each(l)
		return true
	})
	return err
}

// Usage implements store.Maildrops.
func (s *Store) Usage(ctx context.Context, account store.AccountID) (u store.Usage, err error) {
	// The tail comes first: what is applied meanwhile is told by its seq.
	copies, gone := s.tail.look(account)
	err = s.read(ctx, func(v *view) error {
		if !v.has(bAccounts, key8(uint64(account))) {
			return fmt.Errorf("account %d: %w", account, store.ErrNotFound)
		}
		applied, err := v.applied()
		if err != nil {
			return err
		}
		if u, err = decodeUsage(v.get(bUsage, key8(uint64(account)))); err != nil {
			return err
		}
		u = usageWith(u, copies, gone, applied.Seq)
		return nil
	})
	return u, err
}

// Messages implements store.Maildrop. All unique-ids share one string, so that a large maildrop is two pieces of memory.
func (m *maildrop) Messages() []store.Message {
	const uidLen = 24
	var b strings.Builder
	b.Grow(uidLen * len(m.list))
	for i := range m.list {
		b.WriteString(m.s.epochs.uniqueID(m.list[i].id))
	}
	uids := b.String()
	messages := make([]store.Message, len(m.list))
	for i := range m.list {
		l := &m.list[i]
		messages[i] = store.Message{
			ID: l.id, Of: l.message, UID: uids[i*uidLen : (i+1)*uidLen], Size: l.size, HeaderLen: l.header, Received: l.received(),
		}
	}
	return messages
}

// OpenMessage implements store.Maildrop.
func (m *maildrop) OpenMessage(ctx context.Context, id store.CopyID) (io.ReadCloser, error) {
	l, err := m.listed(id)
	if err = errors.Join(ctx.Err(), err); err != nil {
		return nil, err
	}
	r, err := m.openRecord(l)
	if err != nil {
		return nil, err
	}
	if !l.large() {
		return r, nil
	}
	large, ok := m.pins.bodies[l.message]
	if !ok {
		return nil, errors.Join(fmt.Errorf("%w: message %s has no body in the index", store.ErrDamaged, l.message), r.Close())
	}
	file, err := m.s.bodies.open(large)
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	r.place.Size = 0 // the prefix only
	return &largeReader{prefix: r, body: file}, nil
}

// OpenHeader implements store.Maildrop. The header of a large message lies in its record too; only one beyond headKept is read from the file.
func (m *maildrop) OpenHeader(ctx context.Context, id store.CopyID) (io.ReadCloser, error) {
	l, err := m.listed(id)
	if err = errors.Join(ctx.Err(), err); err != nil {
		return nil, err
	}
	var r io.ReadCloser
	if l.large() && l.header-int64(l.prefixLen) > headKept {
		r, err = m.OpenMessage(ctx, id)
	} else {
		r, err = m.openRecord(l)
	}
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.LimitReader(r, l.header), r}, nil
}

// openRecord returns a reader of a copy's prefix and of what of its message lies in the record.
func (m *maildrop) openRecord(l *listing) (*recordReader, error) {
	if m.s.isClosing() {
		return nil, store.ErrClosed
	}
	pin := m.pins.segments[l.segment]
	if pin == nil {
		return nil, fmt.Errorf("%w: message %s: segment %d is missing", store.ErrDamaged, l.message, l.segment)
	}
	r := m.s.readRecord(pin.Clone(), l.message, l.where(), l.octets())
	r.prefixAt, r.prefixLen = int64(l.prefixAt), int64(l.prefixLen)
	return r, nil
}

func (m *maildrop) listed(id store.CopyID) (*listing, error) {
	if m.closed {
		return nil, store.ErrClosed
	}
	i, ok := m.find(id)
	if !ok {
		return nil, fmt.Errorf("copy %d: %w", id, store.ErrNotFound)
	}
	return &m.list[i], nil
}

// openRecord returns a reader of what of a message lies in its record.
func (s *Store) openRecord(id store.MessageID, w where, octets int64) (*recordReader, error) {
	pin, err := s.journal.Pin(w.segment)
	if errors.Is(err, journal.ErrClosed) {
		return nil, store.ErrClosed
	}
	if err != nil {
		return nil, fmt.Errorf("%w: message %s: segment %d: %w", store.ErrDamaged, id, w.segment, err)
	}
	return s.readRecord(pin, id, w, octets), nil
}

// readRecord is openRecord for a segment that is pinned; the reader releases the pin.
func (s *Store) readRecord(pin *journal.Pin, id store.MessageID, w where, octets int64) *recordReader {
	return &recordReader{
		pin: pin, pool: s.bodies.pool, what: id, place: journal.Place{Generation: w.segment, Offset: w.offset, Size: octets},
	}
}

func (m *maildrop) find(id store.CopyID) (i int, ok bool) {
	return slices.BinarySearchFunc(m.list, id, func(l listing, id store.CopyID) int {
		switch {
		case l.id < id:
			return -1
		case l.id > id:
			return 1
		}
		return 0
	})
}

// Expunge implements store.Maildrop.
func (m *maildrop) Expunge(ctx context.Context, deleted, fetched []store.CopyID) error {
	if m.closed {
		return store.ErrClosed
	}
	x := expunge{m: m, deleted: m.own(deleted), fetched: m.own(fetched)}
	if len(x.deleted)+len(x.fetched) == 0 {
		return errors.Join(ctx.Err(), m.s.usable())
	}
	const perCopy = 4
	return m.s.post(ctx, &posting{frees: true, octets: perCopy * (len(x.deleted) + len(x.fetched)), stage: x.stage})
}

// own returns those of the ids that this snapshot lists, once each, in ascending order.
func (m *maildrop) own(ids []store.CopyID) []store.CopyID {
	ids = slices.DeleteFunc(slices.Clone(ids), func(id store.CopyID) bool {
		_, ok := m.find(id)
		return !ok
	})
	slices.Sort(ids)
	return slices.Compact(ids)
}

// expunge is one Maildrop.Expunge in its group.
type expunge struct {
	m                *maildrop
	deleted, fetched []store.CopyID
}

// stage looks which copies are there still, and appends the record.
func (x *expunge) stage(g *group) error {
	m := x.m
	b, err := m.s.box(m.account)
	if err != nil || b == nil { // removed with all that it had
		return err
	}
	made := &expungeEntry{account: m.account, at: m.s.now()}
	if made.deleted, made.fetched, err = x.alive(g); err != nil {
		return err
	}
	if len(made.deleted)+len(made.fetched) == 0 {
		return nil
	}
	for _, id := range made.deleted {
		i, _ := m.find(id)
		made.freed.Octets += m.list[i].size
		made.freed.Messages++
	}
	if err := g.append(recExpunge, made, journal.Body{}, true, nil); err != nil {
		return err
	}
	for _, id := range made.deleted {
		g.gone[id] = struct{}{}
	}
	m.s.snapshots.changed(m.account)
	g.durable = append(g.durable, func() {
		m.s.holdings.freed(m.account, made.freed)
		m.s.snapshots.changed(m.account)
	})
	return nil
}

// alive returns the ids that are in the maildrop still. Nothing has to be looked up if nobody has deleted since the snapshot was taken.
func (x *expunge) alive(g *group) (deleted, fetched []store.CopyID, err error) {
	m := x.m
	if m.s.snapshots.version(m.account) == m.seen {
		return x.deleted, x.fetched, nil
	}
	copies, gone := m.s.tail.look(m.account)
	err = m.s.read(context.Background(), func(v *view) error {
		applied, err := v.applied()
		if err != nil {
			return err
		}
		over := overlayOf(copies, gone, applied.Seq)
		there := func(id store.CopyID) bool {
			if _, staged := g.gone[id]; staged || over.isGone(id) {
				return false
			}
			n := len(over.copies)
			return n > 0 && id >= over.copies[0].id || v.has(bCopies, key16(uint64(m.account), uint64(id)))
		}
		for _, id := range x.deleted {
			if there(id) {
				deleted = append(deleted, id)
			}
		}
		for _, id := range x.fetched {
			if there(id) {
				fetched = append(fetched, id)
			}
		}
		return nil
	})
	return deleted, fetched, err
}

// Close implements store.Maildrop.
func (m *maildrop) Close() error {
	if !m.closed {
		m.closed = true
		m.release()
	}
	return nil
}

func (m *maildrop) release() {
	m.s.snapshots.close(m.account)
	m.pins.release(m.s)
}
