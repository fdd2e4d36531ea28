package pop3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// transaction is the TRANSACTION state (RFC 1939 §5). Deletes are marks in here until QUIT; the maildrop learns of none before.
type transaction struct {
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
}

func newTransaction(m Maildrop) *transaction {
	t := &transaction{maildrop: m}
	t.total, t.size = m.Stat()
	t.reset()
	return t
}

// errUnlike: a backend's list is not what its Stat said, and the client was told that.
var errUnlike = errors.New("pop3: the list of messages is not what Stat said")

// list makes sure that there is a list. refused is set if there is none; the session goes on without.
func (t *transaction) list(ctx context.Context) (refused *reply) {
	if t.listed {
		return nil
	}
	err := errUnlike
	if !t.unlike {
		t.messages, err = t.maildrop.Messages(ctx)
	}
	if err == nil && !t.isAsTold() {
		t.messages, t.unlike, err = nil, true, errUnlike
	}
	if err != nil {
		r := refusal(err)
		return &r
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

func (*transaction) elsewhere() string { return "you are logged in already" }

func (t *transaction) reset() {
	t.deleted, t.count, t.octets = nil, t.total, t.size
}

func (t *transaction) summary() string {
	return fmt.Sprintf("%d messages (%d octets)", t.count, t.octets)
}

func (t *transaction) isDeleted(n int) bool { return t.deleted != nil && t.deleted[n-1] }

// message reads a message number, and makes sure that there is a list; refused is set if there is no such message, or no list.
func (t *transaction) message(ctx context.Context, arg string) (n int, refused *reply) {
	n, isNumber := number(arg)
	var r reply
	switch {
	case !isNumber:
		r = bad("a message number is a whole number from 1")
	case n < 1 || n > t.total:
		r = no(CodeNone, fmt.Sprintf("no such message, there are %d", t.total))
	case t.isDeleted(n):
		r = no(CodeNone, fmt.Sprintf("message %d is marked as deleted", n))
	default:
		return n, t.list(ctx)
	}
	return 0, &r
}

// cmdStat answers with a drop listing (RFC 1939 §5).
func cmdStat(c *Conn, arg string) reply {
	t := c.state.(*transaction)
	if len(fields(arg)) > 0 {
		return bad("STAT has no arguments")
	}
	return ok(fmt.Sprintf("%d %d", t.count, t.octets))
}

// cmdList answers with one scan listing, or with all (RFC 1939 §5).
func cmdList(c *Conn, arg string) reply {
	return c.listing("LIST", arg, func(b []byte, m *Message) []byte { return strconv.AppendInt(b, m.Size, 10) })
}

// cmdUidl answers with one unique-id listing, or with all (RFC 1939 §7).
func cmdUidl(c *Conn, arg string) reply {
	return c.listing("UIDL", arg, func(b []byte, m *Message) []byte { return append(b, m.UID...) })
}

func (c *Conn) listing(name, arg string, what func(b []byte, m *Message) []byte) reply {
	t := c.state.(*transaction)
	line := func(b []byte, n int) []byte {
		return what(append(strconv.AppendInt(b, int64(n), 10), ' '), &t.messages[n-1])
	}
	args := fields(arg)
	switch len(args) {
	case 0:
		if refused := t.list(c.ctx); refused != nil {
			return *refused
		}
		return list(t.summary(), func(w *dotWriter) error {
			var b []byte
			for n := 1; n <= len(t.messages); n++ {
				if t.isDeleted(n) {
					continue
				}
				b = append(line(b[:0], n), crlf...)
				if _, err := w.Write(b); err != nil {
					return err
				}
			}
			return nil
		})
	case 1:
		n, refused := t.message(c.ctx, args[0])
		if refused != nil {
			return *refused
		}
		return ok(string(line(nil, n)))
	default:
		return bad(name + " has at most one argument")
	}
}

// cmdRetr sends a message (RFC 1939 §5).
func cmdRetr(c *Conn, arg string) reply {
	t := c.state.(*transaction)
	args := fields(arg)
	if len(args) != 1 {
		return bad("RETR needs a message number")
	}
	n, refused := t.message(c.ctx, args[0])
	if refused != nil {
		return *refused
	}
	return c.send(t, &sending{n: n, size: t.messages[n-1].Size, lines: -1})
}

// cmdTop sends the header and some lines (RFC 1939 §7). More lines than there are is the whole message: fetchmail asks for 99999999.
func cmdTop(c *Conn, arg string) reply {
	t := c.state.(*transaction)
	args := fields(arg)
	if len(args) != 2 {
		return bad("TOP needs a message number and a number of lines")
	}
	n, refused := t.message(c.ctx, args[0])
	if refused != nil {
		return *refused
	}
	lines, isNumber := number(args[1])
	if !isNumber {
		return bad("a number of lines is a whole number from 0")
	}
	return c.send(t, &sending{n: n, lines: lines})
}

// sending is a message on its way out.
type sending struct {
	conn *Conn
	n    int
	r    io.ReadCloser
	// lines is what TOP was asked for, negative for all size octets.
	lines int
	size  int64
}

// send answers with octets of a message. An error after the first line ends the connection without the terminating dot: a client must
// not take part of a message for all of it.
func (c *Conn) send(t *transaction, m *sending) reply {
	r, err := t.maildrop.Retrieve(c.ctx, m.n, m.lines)
	if err != nil {
		return refusal(err)
	}
	m.conn, m.r = c, r
	text := "top of message follows"
	if m.lines < 0 {
		text = strconv.FormatInt(m.size, 10) + " octets"
	}
	return reply{ok: true, text: text, body: m.transfer, release: r}
}

// transfer has a larger buffer for the time of one message, unless the message comes with its own.
func (m *sending) transfer(w *dotWriter) (err error) {
	var lent *[bodyBuffer]byte
	defer func() {
		if lent != nil {
			m.conn.server.buffers.Put(lent)
		}
	}()
	lend := func() []byte {
		lent = m.conn.server.lend()
		return lent[:]
	}
	if m.lines < 0 {
		err = copyExactly(w, m.r, m.size, lend)
	} else {
		_, err = io.CopyBuffer(w, newTopReader(m.r, m.lines), lend())
	}
	if err != nil {
		m.conn.log.Warn("message not sent to its end", "n", m.n, "octets", w.n, "err", err)
	}
	return err
}

// cmdDele marks a message (RFC 1939 §5).
func cmdDele(c *Conn, arg string) reply {
	t := c.state.(*transaction)
	args := fields(arg)
	if len(args) != 1 {
		return bad("DELE needs a message number")
	}
	n, refused := t.message(c.ctx, args[0])
	if refused != nil {
		return *refused
	}
	if t.deleted == nil {
		t.deleted = make([]bool, t.total)
	}
	t.deleted[n-1] = true
	t.count--
	t.octets -= t.messages[n-1].Size
	return ok("message " + strconv.Itoa(n) + " marked as deleted")
}

// cmdNoop does nothing (RFC 1939 §5).
func cmdNoop(_ *Conn, arg string) reply {
	if len(fields(arg)) > 0 {
		return bad("NOOP has no arguments")
	}
	return ok("")
}

// cmdRset takes all marks back (RFC 1939 §5).
func cmdRset(c *Conn, arg string) reply {
	t := c.state.(*transaction)
	if len(fields(arg)) > 0 {
		return bad("RSET has no arguments")
	}
	t.reset()
	return ok(t.summary())
}

// cmdQuit enters the UPDATE state (RFC 1939 §6): the one place where messages are deleted. A client that has gone by now still said
// QUIT, so only the server's end stops the update. The answer is +OK or -ERR, never both.
func cmdQuit(c *Conn, arg string) reply {
	t := c.state.(*transaction)
	if len(fields(arg)) > 0 {
		return bad("QUIT has no arguments")
	}
	deleted := make([]int, 0, t.total-t.count)
	for i, is := range t.deleted {
		if is {
			deleted = append(deleted, i+1)
		}
	}
	if err := t.maildrop.Update(context.WithoutCancel(c.ctx), deleted); err != nil {
		r := refusal(err)
		r.text, r.closing = "messages marked as deleted were not removed: "+r.text, true
		return r
	}
	return reply{ok: true, text: fmt.Sprintf("bye, %d deleted, %d left", len(deleted), t.total-len(deleted)), closing: true}
}
