package boltstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"

	"latchkey/internal/journal"
	"latchkey/store"
)

// maildrop is one snapshot: see OpenMaildrop. It holds no transaction.
type maildrop struct {
	s       *Store
	account store.AccountID
	client  store.Origin // who reads it
	seen    uint64       // of the account's changes: see snapshots
	seq     uint64       // the last record that it knows
	last    store.CopyID // the last copy that there was, of whatever account
	// stat is what it holds, measured when it was taken, or the sum of the list.
	stat     store.Usage
	measured bool
	listed   bool
	list     []listing
	broken   error // why there will be no list
	closed   bool
	// handed is what went before there was a list, fetched what of that somebody had fetched. Until then they and the pins are guarded by the tail's
	// mu.
	handed  [][]listing
	fetched [][]store.CopyID
	pins    pins
}

// Usage implements store.Maildrops.
func (s *Store) Usage(ctx context.Context, account store.AccountID) (u store.Usage, err error) {
	// The tail comes first: what is applied meanwhile is told by its seq.
	part := s.tail.look(account)
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
		u = usageWith(u, part, applied.Seq)
		return nil
	})
	return u, err
}

// Stat implements store.Maildrop.
func (m *maildrop) Stat() store.Usage { return m.stat }

// Messages implements store.Maildrop. All unique-ids share one string, so that those of a large maildrop are one piece of memory.
func (m *maildrop) Messages(ctx context.Context) (iter.Seq[store.Message], error) {
	err := ctx.Err()
	if err == nil && m.s.isClosing() {
		err = store.ErrClosed
	}
	if err == nil {
		err = m.makeList(ctx)
	}
	if err != nil {
		return nil, err
	}
	const uidLen = 24
	var b strings.Builder
	b.Grow(uidLen * len(m.list))
	var uid [uidLen]byte
	for i := range m.list {
		b.Write(m.s.epochs.appendUniqueID(uid[:0], m.list[i].id))
	}
	uids := b.String()
	return func(yield func(store.Message) bool) {
		for i := range m.list {
			l := &m.list[i]
			if !yield(store.Message{
				ID: l.id, Of: l.message, UID: uids[i*uidLen : (i+1)*uidLen], Size: l.size, HeaderLen: l.header, Received: l.received(),
				Fetched: l.fetched(), UTF8: l.utf8(),
			}) {
				return
			}
		}
	}, nil
}

// OpenMessage implements store.Maildrop.
func (m *maildrop) OpenMessage(ctx context.Context, id store.CopyID) (io.ReadCloser, error) {
	l, err := m.lookUp(ctx, id)
	if err != nil {
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
	l, err := m.lookUp(ctx, id)
	if err != nil {
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

// lookUp returns a copy of the list, which it makes if there is none.
func (m *maildrop) lookUp(ctx context.Context, id store.CopyID) (*listing, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := m.makeList(ctx); err != nil {
		return nil, err
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

func (m *maildrop) find(id store.CopyID) (i int, ok bool) { return findCopy(m.list, id) }

// findCopy returns where a copy is, or would be, in a list that ascends by id.
func findCopy(list []listing, id store.CopyID) (i int, ok bool) {
	return slices.BinarySearchFunc(list, id, func(l listing, id store.CopyID) int {
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
	return m.expunge(ctx, expunge{m: m}, deleted, fetched)
}

// BrokeOff implements store.Maildrop.
func (m *maildrop) BrokeOff(ctx context.Context, fetched []store.CopyID) error {
	return m.expunge(ctx, expunge{m: m, broke: true}, nil, fetched)
}

func (m *maildrop) expunge(ctx context.Context, x expunge, deleted, fetched []store.CopyID) error {
	if m.closed {
		return store.ErrClosed
	}
	if len(deleted)+len(fetched) > 0 {
		if err := m.makeList(ctx); err != nil {
			return err
		}
	}
	x.deleted, x.fetched = m.own(deleted), m.own(fetched)
	if len(x.deleted)+len(x.fetched) == 0 {
		return errors.Join(ctx.Err(), m.s.usable())
	}
	const perCopy = 4
	return m.s.post(ctx, &posting{frees: true, octets: perCopy * (len(x.deleted) + len(x.fetched)), stage: x.stage})
}

// copies returns the listings of ids that this snapshot lists, in ascending order like them.
func (m *maildrop) copies(ids []store.CopyID) []listing {
	list := make([]listing, len(ids))
	next := 0 // all are what is deleted most
	for n, id := range ids {
		if next == len(m.list) || m.list[next].id != id {
			next, _ = m.find(id)
		}
		list[n] = m.list[next]
		next++
	}
	return list
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
	broke            bool // the session ended without QUIT
}

// stage looks which copies are there still, and appends the record.
func (x *expunge) stage(g *group) error {
	m := x.m
	b, err := m.s.box(context.Background(), m.account)
	if err != nil || b == nil { // removed with all that it had
		return err
	}
	made := &expungeEntry{account: m.account, client: m.client, at: m.s.now(), by: m}
	if made.deleted, made.fetched, err = x.alive(g); err != nil {
		return err
	}
	if len(made.deleted)+len(made.fetched) == 0 {
		return nil
	}
	if x.broke {
		made.sent, made.fetched = made.fetched, nil
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

// alive returns the ids that are in the maildrop still. Nothing has to be looked up if nobody has deleted since the snapshot was taken,
// but for what readers do not see yet: a snapshot may be younger than that.
func (x *expunge) alive(g *group) (deleted, fetched []store.CopyID, err error) {
	m := x.m
	if m.s.snapshots.version(m.account) == m.seen {
		deleted, fetched = x.those(func(id store.CopyID) bool { return !g.isGone(id) })
		return deleted, fetched, nil
	}
	part := m.s.tail.look(m.account)
	err = m.s.read(context.Background(), func(v *view) error {
		applied, err := v.applied()
		if err != nil {
			return err
		}
		over := overlayOf(part, applied.Seq)
		deleted, fetched = x.those(func(id store.CopyID) bool {
			if g.isGone(id) || over.isGone(id) {
				return false
			}
			n := len(over.copies)
			return n > 0 && id >= over.copies[0].id || v.has(bCopies, key16(uint64(m.account), uint64(id)))
		})
		return nil
	})
	return deleted, fetched, err
}

// those returns the ids for which there is true.
func (x *expunge) those(there func(store.CopyID) bool) (deleted, fetched []store.CopyID) {
	gone := func(id store.CopyID) bool { return !there(id) }
	return slices.DeleteFunc(slices.Clone(x.deleted), gone), slices.DeleteFunc(slices.Clone(x.fetched), gone)
}

// ReadBy implements store.Maildrop.
func (m *maildrop) ReadBy(client store.Origin) {
	m.client = client
	m.client.Account = m.account
	m.client.TLS = client.TLS[:min(len(client.TLS), store.MaxPeerText)]
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
	m.s.tail.leave(m)
	m.s.snapshots.close(m.account)
	m.pins.release(m.s)
}
