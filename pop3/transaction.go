package pop3

import (
	"context"
	"errors"
	"io"
	"strconv"
)

// transaction is the TRANSACTION state (RFC 1939 §5). Deletes are marks in here until QUIT; the maildrop learns of none before.
type transaction struct {
	conn     *Conn
	maildrop Maildrop
	// total and size are what Stat said of all messages.
	total int
	size  int64
	// messages is the list, i from 0, when listed is set: see list.
	messages []Message
	listed   bool
	unlike   bool   // there was a list, and it was wrong: there will be none
	deleted  []bool // by i; nil if none is
	// count and octets are those of the messages that are not marked.
	count  int
	octets int64
	// accessed is the highest message number fetched (RFC 1460 §5), by this session since RSET; by earlier ones too once remembered is set.
	accessed   int
	remembered bool
	// sending is the message on its way out.
	sending sending
}

func newTransaction(c *Conn, m Maildrop) *transaction {
	t := &transaction{conn: c, maildrop: m}
	t.total, t.size = m.Stat()
	t.reset()
	return t
}

// errUnlike: a backend's list is not what its Stat said, and the client was told that.
var errUnlike = errors.New("pop3: the list of messages is not what Stat said")

// list makes sure that there is a list. refused is set if there is none; the session goes on without.
func (t *transaction) list() (refused *reply) {
	if t.listed {
		return nil
	}
	err := errUnlike
	if !t.unlike {
		t.messages, err = t.maildrop.Messages(t.conn.ctx)
	}
	if err == nil && !t.isAsTold() {
		t.messages, t.unlike, err = nil, true, errUnlike
	}
	if err != nil {
		return refuse(t.conn.refusal(err))
	}
	t.listed = true
	return nil
}

// isAsTold reports whether the list is what the client was told of it.
func (t *transaction) isAsTold() bool {
	var size int64
	for i := range t.messages {
		size += t.messages[i].Size
	}
	return len(t.messages) == t.total && size == t.size
}

func (*transaction) commands() map[string]command { return transactionCommands }

func (*transaction) elsewhere() text { return textLoggedIn }

func (t *transaction) reset() {
	t.deleted, t.count, t.octets = nil, t.total, t.size
}

func (t *transaction) summary() reply { return ok(textSummary, int64(t.count), t.octets) }

func (t *transaction) isDeleted(n int) bool { return t.deleted != nil && t.deleted[n-1] }

// message reads a message number, and makes sure that there is a list; refused is set if there is no such message, or no list.
func (t *transaction) message(arg []byte) (n int, refused *reply) {
	n, isNumber := number(arg)
	switch {
	case !isNumber:
		return 0, refuse(bad(textNotNumber))
	case n < 1 || n > t.total:
		return 0, refuse(no(CodeNone, textNoMessage, int64(t.total)))
	case t.isDeleted(n):
		return 0, refuse(no(CodeNone, textIsDeleted, int64(n)))
	}
	return n, t.list()
}

// content is message for a command that asks for octets of the message, or how many there are. What needs UTF-8 mode is refused without
// (RFC 6856 §5).
func (t *transaction) content(arg []byte) (n int, refused *reply) {
	n, refused = t.message(arg)
	if refused != nil || t.conn.utf8 {
		return n, refused
	}
	if m, may := t.maildrop.(UTF8Maildrop); may && m.NeedsUTF8(n) {
		return 0, refuse(no(CodeUTF8, textNeedsUTF8, int64(n)))
	}
	return n, nil
}

// cmdStat answers with a drop listing (RFC 1939 §5).
func cmdStat(c *Conn, arg []byte) reply {
	t := c.state.(*transaction)
	if !isEmpty(arg) {
		return bad(textNoArguments).with("STAT")
	}
	return ok(textNumbers, int64(t.count), t.octets)
}

// cmdList answers with one scan listing, or with all (RFC 1939 §5).
func cmdList(c *Conn, arg []byte) reply {
	t := c.state.(*transaction)
	args := words(arg)
	switch args.n {
	case 0:
		if refused := t.list(); refused != nil {
			return *refused
		}
		r := t.summary()
		r.body = scanListing{t}
		return r
	case 1:
		n, refused := t.content(args.at[0])
		if refused != nil {
			return *refused
		}
		return ok(textNumbers, int64(n), t.messages[n-1].Size)
	}
	return bad(textOneArgument).with("LIST")
}

// cmdUidl answers with one unique-id listing, or with all (RFC 1939 §7).
func cmdUidl(c *Conn, arg []byte) reply {
	t := c.state.(*transaction)
	args := words(arg)
	switch args.n {
	case 0:
		if refused := t.list(); refused != nil {
			return *refused
		}
		r := t.summary()
		r.body = uidListing{t}
		return r
	case 1:
		n, refused := t.message(args.at[0])
		if refused != nil {
			return *refused
		}
		return ok(textUID, int64(n)).with(t.messages[n-1].UID)
	}
	return bad(textOneArgument).with("UIDL")
}

// cmdRetr sends a message (RFC 1939 §5).
func cmdRetr(c *Conn, arg []byte) reply {
	t := c.state.(*transaction)
	args := words(arg)
	if args.n != 1 {
		return bad(textNeedsNumber).with("RETR")
	}
	n, refused := t.content(args.at[0])
	if refused != nil {
		return *refused
	}
	r := t.send(n, -1)
	if r.ok {
		t.accessed = max(t.accessed, n)
	}
	return r
}

// cmdTop sends the header and some lines (RFC 1939 §7). More lines than there are is the whole message: fetchmail asks for 99999999.
func cmdTop(c *Conn, arg []byte) reply {
	t := c.state.(*transaction)
	args := words(arg)
	if args.n != 2 {
		return bad(textTopArguments)
	}
	n, refused := t.content(args.at[0])
	if refused != nil {
		return *refused
	}
	lines, isNumber := number(args.at[1])
	if !isNumber {
		return bad(textNotLines)
	}
	return t.send(n, lines)
}

// send answers with octets of a message. An error after the first line ends the connection without the terminating dot: a client must
// not take part of a message for all of it. Negative lines are all octets.
func (t *transaction) send(n, lines int) reply {
	r, err := t.maildrop.Retrieve(t.conn.ctx, n, lines)
	if err != nil {
		return t.conn.refusal(err)
	}
	m := &t.sending
	*m = sending{conn: t.conn, n: n, r: r, lines: lines, size: t.messages[n-1].Size}
	answer := ok(textOctets, m.size)
	if lines >= 0 {
		answer = ok(textTop)
	}
	answer.body, answer.release = m, m
	return answer
}

// cmdDele marks a message (RFC 1939 §5).
func cmdDele(c *Conn, arg []byte) reply {
	t := c.state.(*transaction)
	args := words(arg)
	if args.n != 1 {
		return bad(textNeedsNumber).with("DELE")
	}
	n, refused := t.message(args.at[0])
	if refused != nil {
		return *refused
	}
	if t.deleted == nil {
		t.deleted = make([]bool, t.total)
	}
	t.deleted[n-1] = true
	t.count--
	t.octets -= t.messages[n-1].Size
	return ok(textMarked, int64(n))
}

// cmdNoop does nothing (RFC 1939 §5).
func cmdNoop(_ *Conn, arg []byte) reply {
	if !isEmpty(arg) {
		return bad(textNoArguments).with("NOOP")
	}
	return ok(textNone)
}

// cmdLast answers with the highest message number fetched, by this session or an earlier one (RFC 1460 §5). Where it is not offered it is no
// strike: Eudora and others of its time ask.
func cmdLast(c *Conn, arg []byte) reply {
	t := c.state.(*transaction)
	m, offered := t.maildrop.(LastMaildrop)
	switch {
	case !offered:
		return no(CodeNone, textNoLast)
	case !isEmpty(arg):
		return bad(textNoArguments).with("LAST")
	}
	if !t.remembered {
		if refused := t.list(); refused != nil {
			return *refused
		}
		n, err := m.Last(c.ctx)
		if err != nil {
			return c.refusal(err)
		}
		t.accessed, t.remembered = max(t.accessed, min(n, t.total)), true
	}
	return ok(textNumber, int64(t.accessed))
}

// cmdRset takes all marks back (RFC 1939 §5), and for LAST the highest number accessed is zero (RFC 1460 §5).
func cmdRset(c *Conn, arg []byte) reply {
	t := c.state.(*transaction)
	if !isEmpty(arg) {
		return bad(textNoArguments).with("RSET")
	}
	t.reset()
	t.accessed, t.remembered = 0, true
	return t.summary()
}

// cmdQuit enters the UPDATE state (RFC 1939 §6): the one place where messages are deleted. A client that has gone by now still said
// QUIT, so only the server's end stops the update. The answer is +OK or -ERR, never both.
func cmdQuit(c *Conn, arg []byte) reply {
	t := c.state.(*transaction)
	if !isEmpty(arg) {
		return bad(textNoArguments).with("QUIT")
	}
	deleted := make([]int, 0, t.total-t.count)
	for i, is := range t.deleted {
		if is {
			deleted = append(deleted, i+1)
		}
	}
	if err := t.maildrop.Update(context.WithoutCancel(c.ctx), deleted); err != nil {
		r := c.refusal(err)
		why := r.render(c.voice)
		r.text, r.s[0], r.closing = textNotUpdated, why, true
		return r
	}
	r := ok(textQuit, int64(len(deleted)), int64(t.total-len(deleted)))
	r.closing = true
	return r
}

// sending is a message on its way out: body of a reply, and what is given back after it.
type sending struct {
	conn *Conn
	n    int
	r    io.ReadCloser
	// lines is what TOP was asked for, negative for all size octets.
	lines int
	size  int64
	whole exactWriter
	top   topReader
}

// writeTo has a larger buffer for the time of one message, unless the message comes with its own.
func (m *sending) writeTo(w *dotWriter) (err error) {
	if m.lines < 0 {
		m.whole = exactWriter{w: w, left: m.size}
		err = copyExactly(&m.whole, m.r, m.conn.server.copyAll)
	} else {
		m.top = topReader{r: m.r, lines: m.lines, blank: true}
		err = m.conn.server.copyAll(w, &m.top)
	}
	if err != nil {
		m.conn.log().Warn("message not sent to its end", "n", m.n, "octets", w.n, "err", err)
	}
	return err
}

// Close gives the message back and keeps nothing of it.
func (m *sending) Close() error {
	r := m.r
	*m = sending{}
	return r.Close()
}

// scanListing is the body of LIST.
type scanListing struct{ *transaction }

func (l scanListing) writeTo(w *dotWriter) error {
	return l.each(w, func(b []byte, m *Message) []byte { return strconv.AppendInt(b, m.Size, 10) })
}

// uidListing is the body of UIDL.
type uidListing struct{ *transaction }

func (l uidListing) writeTo(w *dotWriter) error {
	return l.each(w, func(b []byte, m *Message) []byte { return append(b, m.UID...) })
}

// listingPiece is how many octets of a listing are written at once, but for the last; longestListing bounds one line (RFC 1939 §7: a unique-id has
// up to 70 characters).
const listingPiece, longestListing = 1 << 10, 128

// each writes a line for each message that is not marked: its number and what is said of it.
func (t *transaction) each(w *dotWriter, what func(b []byte, m *Message) []byte) error {
	b := make([]byte, 0, listingPiece+longestListing)
	for n := 1; n <= len(t.messages); n++ {
		if t.isDeleted(n) {
			continue
		}
		b = append(strconv.AppendInt(b, int64(n), 10), ' ')
		b = append(what(b, &t.messages[n-1]), crlf...)
		if len(b) < listingPiece {
			continue
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
		b = b[:0]
	}
	_, err := w.Write(b)
	return err
}
