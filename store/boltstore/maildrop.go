package boltstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"latchkey/store"
)

// maildrop is one snapshot: a compact list, and a pin that keeps what it lists readable. It holds no transaction.
type maildrop struct {
	s       *Store
	account store.AccountID
	pin     uint64
	list    []listing
	closed  bool
}

// maxForeseen bounds the list that is made on the word of a counter; a longer one grows as it is read.
const maxForeseen = 1 << 20

// OpenMaildrop implements store.Maildrops.
func (s *Store) OpenMaildrop(ctx context.Context, account store.AccountID) (store.Maildrop, error) {
	// The pin comes first: a copy that is deleted after this look at the index is swept only after the pin has gone.
	m := &maildrop{s: s, account: account, pin: s.pin(account)}
	err := s.read(ctx, func(v *view) error {
		a, err := v.account(account)
		if err != nil {
			return err
		}
		if a.Suspended {
			return fmt.Errorf("account %d: %w", account, store.ErrSuspended)
		}
		u, err := decodeUsage(v.get(bUsage, key8(uint64(account))))
		if err != nil {
			return err
		}
		m.list = make([]listing, 0, min(max(u.Messages, 0), maxForeseen))
		return v.eachCopy(account, func(l listing) { m.list = append(m.list, l) })
	})
	if err != nil {
		s.unpin(account, m.pin)
		return nil, err
	}
	return m, nil
}

// eachCopy calls each for the account's copies that are not deleted, in order of arrival.
func (v *view) eachCopy(account store.AccountID, each func(listing)) (err error) {
	prefix := key8(uint64(account))
	graves := v.bucket(bGraves).Cursor()
	grave, _ := graves.Seek(prefix)
	v.scan(bCopies, prefix, nil, func(key, value []byte) bool {
		for grave != nil && string(grave) < string(key) {
			grave, _ = graves.Next()
		}
		if string(grave) == string(key) {
			return true
		}
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
	err = s.read(ctx, func(v *view) error {
		if !v.has(bAccounts, key8(uint64(account))) {
			return fmt.Errorf("account %d: %w", account, store.ErrNotFound)
		}
		u, err = decodeUsage(v.get(bUsage, key8(uint64(account))))
		return err
	})
	return u, err
}

// Messages implements store.Maildrop. All unique-ids share one string, so that a large maildrop is two pieces of memory.
func (m *maildrop) Messages() []store.Message {
	const uidLen = 24
	var b strings.Builder
	b.Grow(uidLen * len(m.list))
	for _, l := range m.list {
		b.WriteString(store.UniqueID(m.s.epoch, l.id))
	}
	uids := b.String()
	messages := make([]store.Message, len(m.list))
	for i, l := range m.list {
		messages[i] = store.Message{
			ID: l.id, Of: l.message, UID: uids[i*uidLen : (i+1)*uidLen], Size: l.size, HeaderLen: l.header,
			Received: time.Unix(l.sec, int64(l.nsec)).UTC(),
		}
	}
	return messages
}

// OpenMessage implements store.Maildrop.
func (m *maildrop) OpenMessage(ctx context.Context, id store.CopyID) (io.ReadCloser, error) {
	if m.closed {
		return nil, store.ErrClosed
	}
	if _, ok := m.find(id); !ok {
		return nil, fmt.Errorf("copy %d: %w", id, store.ErrNotFound)
	}
	var c copyRecord
	var body bodyRecord
	err := m.s.read(ctx, func(v *view) (err error) {
		b := v.get(bCopies, key16(uint64(m.account), uint64(id)))
		if b == nil {
			return fmt.Errorf("%w: copy %d is missing in the index", store.ErrDamaged, id)
		}
		if c, err = decodeCopy(b); err == nil {
			body, err = v.body(c.Message)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if int64(len(c.Prefix))+body.Size != c.Size {
		return nil, fmt.Errorf("%w: copy %d has %d octets, its parts %d and %d", store.ErrDamaged, id, c.Size, len(c.Prefix), body.Size)
	}
	r, err := m.s.bodies.open(body.bodyRef)
	if err != nil {
		return nil, err
	}
	return &copyReader{prefix: c.Prefix, body: r}, nil
}

func (v *view) body(id store.MessageID) (bodyRecord, error) {
	b := v.get(bBodies, key8(uint64(id)))
	if b == nil {
		return bodyRecord{}, fmt.Errorf("%w: message %s has no body in the index", store.ErrDamaged, id)
	}
	return decodeBody(b)
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
	deleted, fetched = slices.Clone(deleted), slices.Clone(fetched)
	const perCopy = 300
	return m.s.submit(ctx, &request{frees: true, octets: perCopy * (len(deleted) + len(fetched)), apply: func(t *txn) error {
		if !t.has(bAccounts, key8(uint64(m.account))) {
			return nil // removed with all that it had
		}
		now := m.s.now()
		if _, err := m.live(t, fetched, func(_ store.CopyID, c *copyRecord) { t.ownerDid(store.TrailFetched, c, now) }); err != nil {
			return err
		}
		gone, err := m.live(t, deleted, func(id store.CopyID, c *copyRecord) {
			t.put(bGraves, key16(uint64(m.account), uint64(id)), nil)
			t.charge(m.account, -c.Size, -1)
			t.ownerDid(store.TrailDeleted, c, now)
		})
		if len(gone) > 0 {
			t.durable = append(t.durable, func() { m.s.grave(m.account, gone) })
		}
		return err
	}})
}

// live calls each for the copies of ids that are in this maildrop still, once each, and returns their ids.
func (m *maildrop) live(t *txn, ids []store.CopyID, each func(store.CopyID, *copyRecord)) (live []store.CopyID, err error) {
	done := make(map[store.CopyID]struct{}, len(ids))
	for _, id := range ids {
		key := key16(uint64(m.account), uint64(id))
		b := t.get(bCopies, key)
		if _, twice := done[id]; twice || b == nil || t.has(bGraves, key) {
			continue
		}
		done[id] = struct{}{}
		c, err := decodeCopy(b)
		if err != nil {
			t.fail(err) // something may have been written already: the group is undone
			return nil, errors.Join(store.ErrDamaged, err)
		}
		each(id, &c)
		live = append(live, id)
	}
	return live, nil
}

func (t *txn) ownerDid(kind store.TrailKind, c *copyRecord, at time.Time) {
	t.event(&store.TrailEvent{Message: c.Message, Time: at, Kind: kind, Sender: c.Sender, Recipient: c.Recipient})
}

// Close implements store.Maildrop.
func (m *maildrop) Close() error {
	if !m.closed {
		m.closed = true
		m.s.unpin(m.account, m.pin)
	}
	return nil
}
