package maildrop

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"latchkey/internal/refusal"
	"latchkey/pop3"
	"latchkey/store"
)

// maildrop is one open snapshot. Message n of the protocol is messages[n-1], and the store calls it ids[n-1]. There is neither before somebody
// asks for the list.
type maildrop struct {
	snapshot store.Maildrop
	view     view
	hold     *hold          // the session's lock; nil without
	messages []pop3.Message // the connection reads it too
	ids      []store.CopyID
	// dresses are what messages get besides their own octets, by n-1; nil if none gets anything. last is the highest number of a message that
	// an earlier session fetched.
	dresses []dress
	last    int
	// headers are the lengths of the headers of messages that came with SMTPUTF8, by n, where the client gets surrogates of them; nil if there are none.
	headers map[int]int64
	// fetched are the messages, by n-1, that a RETR sent to its end; nil if there are none, fetches how many.
	fetched []bool
	fetches int
	// updated is set once QUIT came to the update: then that notes what was fetched.
	updated bool
	// wholeTops are the messages that a TOP of more lines than topOfAll sent to their end: fetchmail fetches so when it leaves mail. deleted is how
	// many QUIT deleted, and keeps is set if it left some that were fetched. All three are for the inventory.
	wholeTops int
	deleted   int
	keeps     bool
	log       *slog.Logger
	account   string
}

// brokeOffTime bounds how long the end of a broken session waits for the store.
const brokeOffTime = 10 * time.Second

// topOfAll is more lines than anybody asks for to see what a message is about.
const topOfAll = 1_000_000

// Stat counts the snapshot.
func (m *maildrop) Stat() (count int, octets int64) {
	if !m.view.plain() {
		for i := range m.messages {
			octets += m.messages[i].Size
		}
		return len(m.messages), octets
	}
	u := m.snapshot.Stat()
	return int(u.Messages), u.Octets
}

// Messages lists the snapshot. Of what the store says of a message only what a session needs is kept.
func (m *maildrop) Messages(ctx context.Context) ([]pop3.Message, error) {
	if m.ids != nil {
		return m.messages, nil
	}
	list, err := m.snapshot.Messages(ctx)
	if err != nil {
		return nil, storeError(err)
	}
	chosen, most := m.view.choose(list, int(m.snapshot.Stat().Messages))
	made := maildrop{messages: make([]pop3.Message, 0, most), ids: make([]store.CopyID, 0, most)}
	for message := range chosen {
		d, err := m.view.dressOf(ctx, m.snapshot, &message)
		if err != nil {
			return nil, storeError(err)
		}
		made.add(&message, d, m.view.surrogates)
	}
	if made.dresses != nil {
		made.dresses = append(made.dresses, make([]dress, len(made.messages)-len(made.dresses))...)
	}
	m.messages, m.ids, m.dresses, m.last, m.headers = made.messages, made.ids, made.dresses, made.last, made.headers
	return m.messages, nil
}

// add lists a message with what it gets. Dresses end with the last message that gets anything.
func (m *maildrop) add(message *store.Message, d dress, surrogates bool) {
	n := len(m.messages) + 1
	if message.UTF8 && surrogates {
		if m.headers == nil {
			m.headers = make(map[int]int64)
		}
		m.headers[n] = message.HeaderLen
	}
	if d != (dress{}) {
		m.dresses = append(append(m.dresses, make([]dress, n-1-len(m.dresses))...), d)
	}
	if message.Fetched {
		m.last = n
	}
	m.messages = append(m.messages, pop3.Message{UID: message.UID, Size: message.Size + d.octets()})
	m.ids = append(m.ids, message.ID)
}

// lastMaildrop is one that offers LAST (RFC 1460 §5).
type lastMaildrop struct{ *maildrop }

// Last returns the highest number of a message that an earlier session fetched.
func (m *lastMaildrop) Last(context.Context) (int, error) { return m.last, nil }

// Retrieve yields message n; for no lines of its text, the header alone is opened.
func (m *maildrop) Retrieve(ctx context.Context, n, lines int) (io.ReadCloser, error) {
	open := m.snapshot.OpenMessage
	if lines == 0 {
		open = m.snapshot.OpenHeader
	}
	r, err := open(ctx, m.ids[n-1])
	if err != nil {
		return nil, storeError(err)
	}
	if length, international := m.headers[n]; international {
		if r, err = surrogate(r, length); err != nil {
			m.unreadable(n, err)
			return nil, storeError(err)
		}
	}
	var d dress
	if m.dresses != nil {
		d = m.dresses[n-1]
	}
	r = m.view.dressUp(r, d)
	body := &body{ReadCloser: r, of: m, n: n, left: m.messages[n-1].Size, retr: lines < 0, whole: lines > topOfAll}
	if _, ok := r.(io.WriterTo); ok && lines < 0 {
		return &directBody{body}, nil
	}
	return body, nil
}

// sent notes that a RETR sent message n to its end.
func (m *maildrop) sent(n int) {
	if m.fetched == nil {
		m.fetched = make([]bool, len(m.messages))
	}
	if !m.fetched[n-1] {
		m.fetched[n-1] = true
		m.fetches++
	}
}

// unreadable notes that message n cannot be read.
func (m *maildrop) unreadable(n int, err error) {
	m.log.Error("stored message cannot be read", "account", m.account, "copy", uint64(m.ids[n-1]), "uid", m.messages[n-1].UID, "err", err)
}

// Update deletes, if the maildrop is still the session's, and then gives up its lock, whatever came of it (RFC 1939 §6): before the answer to QUIT,
// as some programs come back in the moment they have that.
func (m *maildrop) Update(ctx context.Context, deleted []int) error {
	if !m.hold.beginUpdate() {
		if len(deleted) == 0 {
			return nil
		}
		return reply(refusal.MaildropTakenOver, nil)
	}
	defer m.hold.release()
	m.updated = true
	if err := m.update(ctx, deleted); err != nil {
		return err
	}
	left := m.fetches
	for _, n := range deleted {
		if m.fetched != nil && m.fetched[n-1] {
			left--
		}
	}
	m.deleted, m.keeps = len(deleted), left > 0 || m.wholeTops > 0 && len(deleted) == 0
	return nil
}

// update deletes.
func (m *maildrop) update(ctx context.Context, deleted []int) error {
	gone := make([]store.CopyID, len(deleted))
	for i, n := range deleted {
		gone[i] = m.ids[n-1]
	}
	fetched := m.fetchedIDs()
	if len(gone) == 0 && len(fetched) == 0 {
		return nil
	}
	err := m.snapshot.Expunge(ctx, gone, fetched)
	switch {
	case err == nil:
		return nil
	case len(gone) == 0:
		// Nobody asked for a change: a trail that cannot be written is no reason to refuse a QUIT.
		m.log.Error("what was fetched could not be noted in the trail", "account", m.account, "err", err)
		return nil
	}
	return storeError(err)
}

// Close gives the snapshot back. What was fetched in a session that ended without QUIT is noted, as its client may fetch it again and somebody
// ask why.
func (m *maildrop) Close() error {
	if m.fetches > 0 && !m.updated {
		ctx, cancel := context.WithTimeout(context.Background(), brokeOffTime)
		defer cancel()
		if err := m.snapshot.BrokeOff(ctx, m.fetchedIDs()); err != nil && !errors.Is(err, store.ErrClosed) {
			m.log.Error("what was fetched could not be noted in the trail", "account", m.account, "err", err)
		}
	}
	return m.snapshot.Close()
}

// fetchedIDs are the messages that a RETR sent to its end, as the store calls them.
func (m *maildrop) fetchedIDs() []store.CopyID {
	ids := make([]store.CopyID, 0, m.fetches)
	for i, is := range m.fetched {
		if is {
			ids = append(ids, m.ids[i])
		}
	}
	return ids
}

// body notes when a message was read to its end, or cannot be.
type body struct {
	io.ReadCloser
	of   *maildrop
	n    int
	left int64 // of the whole message
	retr bool  // and not TOP
	// whole is set for a TOP of all lines, until it is counted.
	whole bool
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.left -= int64(n)
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		b.of.unreadable(b.n, err)
	case b.left == 0 && b.retr:
		b.of.sent(b.n)
	case b.left == 0 && b.whole:
		b.of.wholeTops++
		b.whole = false
	}
	return n, err
}

// directBody is the body of a message that can be written without a copy in between.
type directBody struct{ *body }

// WriteTo implements io.WriterTo.
func (b *directBody) WriteTo(w io.Writer) (int64, error) {
	source, _ := b.ReadCloser.(io.WriterTo)
	to := &failingWriter{w: w}
	n, err := source.WriteTo(to)
	b.left -= n
	switch {
	case err != nil && to.err == nil:
		b.of.unreadable(b.n, err)
	case err == nil && b.left == 0:
		b.of.sent(b.n)
	}
	return n, err
}

// failingWriter keeps the error of its writer, to tell it from one of the source.
type failingWriter struct {
	w   io.Writer
	err error
}

func (f *failingWriter) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	if err != nil {
		f.err = err
	}
	return n, err
}
