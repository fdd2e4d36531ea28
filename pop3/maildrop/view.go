package maildrop

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"time"

	"latchkey/internal/message"
	"latchkey/pop3"
	"latchkey/store"
)

// What is put before and behind a message for old clients: see store.POP3Options.
const (
	statusRead = "Status: RO\r\n"
	emptyLine  = "\r\n"
)

// view is what a session shows of a snapshot: which messages, and what old clients need that is not in them.
type view struct {
	selection store.Selection
	options   store.POP3Options
	now       time.Time
	// surrogates is set for a client that did not say UTF8. A surrogate has the size of its message, so it changes nothing of what is counted.
	surrogates bool
}

// plain reports whether the view is the snapshot itself, so that no list is needed to count it.
func (v *view) plain() bool {
	return v.selection == (store.Selection{}) && !v.options.EndHeader && !v.options.StatusHeader
}

// choose yields the messages that the session lists, of total in order, and how many they are at the most. Message numbers count what is
// listed; unique-ids stay.
func (v *view) choose(list iter.Seq[store.Message], total int) (chosen iter.Seq[store.Message], most int) {
	s := v.selection
	switch {
	case s.New:
		return those(list, func(m *store.Message) bool { return !m.Fetched }), total
	case s.Days > 0:
		since := v.now.AddDate(0, 0, -s.Days)
		return those(list, func(m *store.Message) bool { return !m.Received.Before(since) }), total
	case s.Max > 0 && total > s.Max:
		return behind(list, total-s.Max), s.Max
	}
	return list, total
}

// those yields the messages that are wanted.
func those(list iter.Seq[store.Message], wanted func(*store.Message) bool) iter.Seq[store.Message] {
	return func(yield func(store.Message) bool) {
		for m := range list {
			if wanted(&m) && !yield(m) {
				return
			}
		}
	}
}

// behind yields the messages behind the first n.
func behind(list iter.Seq[store.Message], n int) iter.Seq[store.Message] {
	return func(yield func(store.Message) bool) {
		i := 0
		for m := range list {
			if i++; i > n && !yield(m) {
				return
			}
		}
	}
}

// dress is what a message gets besides its own octets.
type dress struct {
	status bool // statusRead before it
	end    bool // emptyLine behind its header, which is all of it
}

func (d dress) octets() (n int64) {
	if d.status {
		n += int64(len(statusRead))
	}
	if d.end {
		n += int64(len(emptyLine))
	}
	return n
}

// dressOf says what a message gets. Only one that is all header is looked into.
func (v *view) dressOf(ctx context.Context, snapshot store.Maildrop, m *store.Message) (d dress, err error) {
	d.status = v.options.StatusHeader && m.Fetched
	if v.options.EndHeader && m.HeaderLen == m.Size {
		d.end, err = lacksEmptyLine(ctx, snapshot, m)
	}
	return d, err
}

// lacksEmptyLine reports whether a header ends without an empty line.
func lacksEmptyLine(ctx context.Context, snapshot store.Maildrop, m *store.Message) (lacks bool, err error) {
	r, err := snapshot.OpenHeader(ctx, m.ID)
	if err != nil {
		return false, err
	}
	defer func() {
		if closeErr := r.Close(); err == nil {
			err = closeErr
		}
	}()
	const end = "\r\n\r\n"
	if _, err := io.CopyN(io.Discard, r, max(m.HeaderLen-int64(len(end)), 0)); err != nil {
		return false, err
	}
	last, err := io.ReadAll(io.LimitReader(r, int64(len(end))))
	return string(last) != end && string(last) != emptyLine, err
}

// dressed yields a message with what it gets, and without NUL octets if that is wanted.
type dressed struct {
	io.ReadCloser         // the message's own octets
	before, behind []byte // to be yielded yet
	noNUL          bool
}

// dressUp returns r as the client gets it.
func (v *view) dressUp(r io.ReadCloser, d dress) io.ReadCloser {
	if d == (dress{}) && !v.options.ReplaceNUL {
		return r
	}
	to := &dressed{ReadCloser: r, noNUL: v.options.ReplaceNUL}
	if d.status {
		to.before = []byte(statusRead)
	}
	if d.end {
		to.behind = []byte(emptyLine)
	}
	return to
}

func (d *dressed) Read(p []byte) (int, error) {
	if len(d.before) > 0 {
		n := copy(p, d.before)
		d.before = d.before[n:]
		return n, nil
	}
	n, err := d.ReadCloser.Read(p)
	if d.noNUL {
		replaceNUL(p[:n])
	}
	if !errors.Is(err, io.EOF) || len(d.behind) == 0 {
		return n, err
	}
	more := copy(p[n:], d.behind)
	if d.behind = d.behind[more:]; len(d.behind) == 0 {
		return n + more, io.EOF
	}
	return n + more, nil
}

// surrogate returns r as a client gets it that did not say UTF8 (RFC 6856 §2.1); r is closed if it cannot be.
func surrogate(r io.ReadCloser, headerLen int64) (io.ReadCloser, error) {
	s, err := message.NewSurrogateReader(r, headerLen)
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return struct {
		io.Reader
		io.Closer
	}{s, r}, nil
}

// replaceNUL puts 0x80 in the place of each NUL, as Dovecot does for Outlook.
func replaceNUL(b []byte) {
	for {
		i := bytes.IndexByte(b, 0)
		if i < 0 {
			return
		}
		b[i] = 0x80
		b = b[i+1:]
	}
}

var _ pop3.Maildrop = (*maildrop)(nil)
