package pop3

import (
	"context"
	"fmt"
	"io"
)

// transaction is the TRANSACTION state (RFC 1939 §5). Deletes are marks in here until QUIT; the maildrop learns of none before.
type transaction struct {
	maildrop Maildrop
	messages []Message // i from 0
	deleted  map[int]struct{}
	// count and octets are those of the messages that are not marked.
	count  int
	octets int64
}

func newTransaction(m Maildrop) *transaction {
	t := &transaction{maildrop: m, messages: m.Messages()}
	t.reset()
	return t
}

func (*transaction) commands() map[string]command { return transactionCommands }

func (*transaction) elsewhere() string { return "you are logged in already" }

func (t *transaction) reset() {
	t.deleted, t.count, t.octets = map[int]struct{}{}, len(t.messages), 0
	for i := range t.messages {
		t.octets += t.messages[i].Size
	}
}

func (t *transaction) summary() string {
	return fmt.Sprintf("%d messages (%d octets)", t.count, t.octets)
}

func (t *transaction) isDeleted(n int) bool {
	_, is := t.deleted[n]
	return is
}

// message reads a message number; refused is set if there is no such message.
func (t *transaction) message(arg string) (n int, refused *reply) {
	n, isNumber := number(arg)
	var r reply
	switch {
	case !isNumber:
		r = bad("a message number is a whole number from 1")
	case n < 1 || n > len(t.messages):
		r = no(CodeNone, fmt.Sprintf("no such message, there are %d", len(t.messages)))
	case t.isDeleted(n):
		r = no(CodeNone, fmt.Sprintf("message %d is marked as deleted", n))
	default:
		return n, nil
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
	return c.listing("LIST", arg, func(n int, m Message) string { return fmt.Sprintf("%d %d", n, m.Size) })
}

// cmdUidl answers with one unique-id listing, or with all (RFC 1939 §7).
func cmdUidl(c *Conn, arg string) reply {
	return c.listing("UIDL", arg, func(n int, m Message) string { return fmt.Sprintf("%d %s", n, m.UID) })
}

func (c *Conn) listing(name, arg string, line func(n int, m Message) string) reply {
	t := c.state.(*transaction)
	args := fields(arg)
	switch len(args) {
	case 0:
		return list(t.summary(), func(w *dotWriter) error {
			for i := range t.messages {
				if t.isDeleted(i + 1) {
					continue
				}
				if _, err := io.WriteString(w, line(i+1, t.messages[i])+"\r\n"); err != nil {
					return err
				}
			}
			return nil
		})
	case 1:
		n, refused := t.message(args[0])
		if refused != nil {
			return *refused
		}
		return ok(line(n, t.messages[n-1]))
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
	n, refused := t.message(args[0])
	if refused != nil {
		return *refused
	}
	size := t.messages[n-1].Size
	return c.send(t, n, -1, fmt.Sprintf("%d octets", size), func(w *dotWriter, r io.Reader, buf []byte) error {
		return copyExactly(w, r, size, buf)
	})
}

// cmdTop sends the header and some lines (RFC 1939 §7). More lines than there are is the whole message: fetchmail asks for 99999999.
func cmdTop(c *Conn, arg string) reply {
	t := c.state.(*transaction)
	args := fields(arg)
	if len(args) != 2 {
		return bad("TOP needs a message number and a number of lines")
	}
	n, refused := t.message(args[0])
	if refused != nil {
		return *refused
	}
	lines, isNumber := number(args[1])
	if !isNumber {
		return bad("a number of lines is a whole number from 0")
	}
	return c.send(t, n, lines, "top of message follows", func(w *dotWriter, r io.Reader, buf []byte) error {
		_, err := io.CopyBuffer(w, newTopReader(r, lines), buf)
		return err
	})
}

// send answers with octets of message n. An error after the first line ends the connection without the terminating dot: a client must
// not take part of a message for all of it.
func (c *Conn) send(t *transaction, n, lines int, text string, transfer func(w *dotWriter, r io.Reader, buf []byte) error) reply {
	r, err := t.maildrop.Retrieve(c.ctx, n, lines)
	if err != nil {
		return refusal(err)
	}
	answer := list(text, func(w *dotWriter) error {
		err := c.transfer(w, r, transfer)
		if err != nil {
			c.log.Warn("message not sent to its end", "n", n, "octets", w.n, "err", err)
		}
		return err
	})
	answer.release = r.Close
	return answer
}

// transfer lends the larger buffers for the time of one message.
func (c *Conn) transfer(w *dotWriter, r io.Reader, transfer func(w *dotWriter, r io.Reader, buf []byte) error) error {
	b, giveBack := c.server.lend()
	defer giveBack()
	if err := c.w.Flush(); err != nil {
		return err
	}
	b.out.Reset(c.out)
	w.w = b.out
	defer func() { w.w = c.w }()
	if err := transfer(w, onlyReader{r}, b.in[:]); err != nil {
		return err
	}
	return b.out.Flush()
}

// onlyReader hides other methods, so that io.Copy uses the buffer that it is given.
type onlyReader struct{ io.Reader }

// cmdDele marks a message (RFC 1939 §5).
func cmdDele(c *Conn, arg string) reply {
	t := c.state.(*transaction)
	args := fields(arg)
	if len(args) != 1 {
		return bad("DELE needs a message number")
	}
	n, refused := t.message(args[0])
	if refused != nil {
		return *refused
	}
	t.deleted[n] = struct{}{}
	t.count--
	t.octets -= t.messages[n-1].Size
	return ok(fmt.Sprintf("message %d marked as deleted", n))
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
	deleted := make([]int, 0, len(t.deleted))
	for n := 1; n <= len(t.messages) && len(deleted) < len(t.deleted); n++ {
		if t.isDeleted(n) {
			deleted = append(deleted, n)
		}
	}
	if err := t.maildrop.Update(context.WithoutCancel(c.ctx), deleted); err != nil {
		r := refusal(err)
		r.text, r.closing = "messages marked as deleted were not removed: "+r.text, true
		return r
	}
	return reply{ok: true, text: fmt.Sprintf("bye, %d deleted, %d left", len(deleted), len(t.messages)-len(deleted)), closing: true}
}
