package memstore

import (
	"context"
	"io"
	"iter"
	"slices"

	"latchkey/store"
)

// maildrop implements store.Maildrop. It holds on to its copies, so what others delete stays readable.
type maildrop struct {
	s       *Store
	account store.AccountID
	copies  []*copied
	// client is who reads it, for the trail.
	client store.Origin
	stat   store.Usage
	closed bool
}

// OpenMaildrop implements store.Maildrops.
func (s *Store) OpenMaildrop(ctx context.Context, id store.AccountID) (store.Maildrop, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	defer s.end()
	a := s.d.accounts[id]
	if a == nil {
		return nil, store.ErrNotFound
	}
	if a.Suspended {
		return nil, store.ErrSuspended
	}
	return &maildrop{s: s, account: id, copies: slices.Clip(a.copies), stat: a.usage}, nil
}

// Usage implements store.Maildrops.
func (s *Store) Usage(ctx context.Context, id store.AccountID) (store.Usage, error) {
	if err := s.begin(ctx); err != nil {
		return store.Usage{}, err
	}
	defer s.end()
	a := s.d.accounts[id]
	if a == nil {
		return store.Usage{}, store.ErrNotFound
	}
	return a.usage, nil
}

// DomainUsage implements store.Maildrops.
func (s *Store) DomainUsage(ctx context.Context) (store.Usage, error) {
	if err := s.begin(ctx); err != nil {
		return store.Usage{}, err
	}
	defer s.end()
	return s.d.usage, nil
}

// Stat implements store.Maildrop.
func (m *maildrop) Stat() store.Usage { return m.stat }

// Messages implements store.Maildrop.
func (m *maildrop) Messages(ctx context.Context) (iter.Seq[store.Message], error) {
	if m.closed {
		return nil, store.ErrClosed
	}
	if err := m.s.begin(ctx); err != nil {
		return nil, err
	}
	defer m.s.end()
	return func(yield func(store.Message) bool) {
		for _, c := range m.copies {
			if !yield(c.Message) {
				return
			}
		}
	}, nil
}

// OpenMessage implements store.Maildrop.
func (m *maildrop) OpenMessage(ctx context.Context, id store.CopyID) (io.ReadCloser, error) {
	c, err := m.find(ctx, id)
	if err != nil {
		return nil, err
	}
	return c.open(c.Size), nil
}

// OpenHeader implements store.Maildrop.
func (m *maildrop) OpenHeader(ctx context.Context, id store.CopyID) (io.ReadCloser, error) {
	c, err := m.find(ctx, id)
	if err != nil {
		return nil, err
	}
	return c.open(c.HeaderLen), nil
}

func (m *maildrop) find(ctx context.Context, id store.CopyID) (*copied, error) {
	if m.closed {
		return nil, store.ErrClosed
	}
	if err := m.s.begin(ctx); err != nil {
		return nil, err
	}
	defer m.s.end()
	i, ok := find(m.copies, id)
	if !ok {
		return nil, store.ErrNotFound
	}
	return m.copies[i], nil
}

// open yields the first octets of a copy.
func (c *copied) open(octets int64) io.ReadCloser {
	n := min(octets, int64(len(c.prefix)))
	return &copyReader{[2][]byte{c.prefix[:n], c.body.octets[:min(octets-n, int64(len(c.body.octets)))]}}
}

// copyReader yields the parts of a copy.
type copyReader struct{ parts [2][]byte }

func (r *copyReader) Read(p []byte) (n int, err error) {
	for i := range r.parts {
		c := copy(p[n:], r.parts[i])
		r.parts[i] = r.parts[i][c:]
		n += c
	}
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

// WriteTo implements io.WriterTo.
func (r *copyReader) WriteTo(w io.Writer) (n int64, err error) {
	for i := range r.parts {
		c, err := w.Write(r.parts[i])
		r.parts[i] = r.parts[i][c:]
		n += int64(c)
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

func (r *copyReader) Close() error { return nil }

// Expunge implements store.Maildrop.
func (m *maildrop) Expunge(ctx context.Context, deleted, fetched []store.CopyID) error {
	return m.expunge(ctx, deleted, fetched, "")
}

// BrokeOff implements store.Maildrop.
func (m *maildrop) BrokeOff(ctx context.Context, fetched []store.CopyID) error {
	return m.expunge(ctx, nil, fetched, store.TrailBrokeOff)
}

// expunge notes what was fetched and deleted. With a text nothing is marked as fetched.
func (m *maildrop) expunge(ctx context.Context, deleted, fetched []store.CopyID, text string) error {
	if m.closed {
		return store.ErrClosed
	}
	if err := m.s.begin(ctx); err != nil {
		return err
	}
	defer m.s.end()
	a := m.s.d.accounts[m.account]
	if a == nil {
		return nil // its copies went with it
	}
	now := m.s.d.now()
	note := func(ids []store.CopyID, kind store.TrailKind) map[store.CopyID]bool {
		noted := map[store.CopyID]bool{}
		for _, id := range ids {
			i, ok := find(a.copies, id)
			if _, listed := find(m.copies, id); !ok || !listed || noted[id] {
				continue
			}
			noted[id] = true
			c := a.copies[i]
			m.s.d.event(store.TrailEvent{Message: c.Of, Time: now, Kind: kind, Sender: c.sender, Recipient: c.recipient, Account: m.account, Origin: m.client, Text: text})
		}
		return noted
	}
	read := note(fetched, store.TrailFetched)
	gone := note(deleted, store.TrailDeleted)
	left := make([]*copied, 0, len(a.copies)-len(gone))
	for _, c := range a.copies {
		if !gone[c.ID] {
			if read[c.ID] && !c.Fetched && text == "" {
				marked := *c
				marked.Fetched = true
				c = &marked
			}
			left = append(left, c)
			continue
		}
		m.s.d.charge(a, store.Usage{Octets: -c.Size, Messages: -1})
		m.s.d.release(c.Of)
	}
	a.copies = left
	return nil
}

// find returns where a copy is in a list that ascends by id.
func find(copies []*copied, id store.CopyID) (int, bool) {
	return slices.BinarySearchFunc(copies, id, func(c *copied, id store.CopyID) int {
		switch {
		case c.ID < id:
			return -1
		case c.ID > id:
			return 1
		}
		return 0
	})
}

// ReadBy implements store.Maildrop.
func (m *maildrop) ReadBy(client store.Origin) {
	m.client = client
	m.client.Account = m.account
}

// Close implements store.Maildrop.
func (m *maildrop) Close() error {
	m.closed = true
	m.copies = nil
	return nil
}
