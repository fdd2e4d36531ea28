package relay

import (
	"errors"
	"net"
	"os"
	"time"
)

const (
	// maxReply bounds one reply with all its lines, in octets: some sixty lines of the longest kind (RFC 5321 §4.5.3.1.5).
	maxReply = 32 << 10
	// maxReplyLine is what is kept of one line, in octets, its end not counted: twice what it may have. A host that says more has still
	// answered, and a message that it took must not be sent again because it did so at length.
	maxReplyLine = 1024
)

var (
	// errReplyTooLong: a reply has more than maxReply octets.
	errReplyTooLong = errors.New("relay: reply too long")
	// errUnasked: the peer sent something before it was asked.
	errUnasked = errors.New("relay: unasked input")
)

// wire is the connection under the client: every read and write has a deadline of its own, replies have a bound, and a total cap ends
// it all. It takes the place of the deadlines of go-smtp, which set none for the writing of a message and no bound to a reply.
//
// It also speaks for the host where that was spoken to already: go-smtp insists on a greeting and an EHLO of its own, while ours are
// done (hello.go).
type wire struct {
	net.Conn
	// script is what the next reads yield before anything of the host's. answer is what the next write is answered with, instead of
	// being sent.
	script, answer []byte
	// recorded is what was written while recording was set, instead of being sent: go-smtp is told that it went well (pipeline.go).
	recorded  []byte
	recording bool
	// budget is how many octets the present reply may still have, column how many its present line has.
	budget, column int
	// read and write bound each call, end all of them unless it is zero.
	read, write time.Duration
	end         time.Time
}

func newWire(c net.Conn, read, write time.Duration) *wire {
	return &wire{Conn: c, read: read, write: write, budget: maxReply}
}

// Read reads a part of a reply.
func (w *wire) Read(p []byte) (int, error) {
	if len(w.script) > 0 {
		n := copy(p, w.script)
		w.script = w.script[n:]
		return n, nil
	}
	if w.budget <= 0 {
		return 0, errReplyTooLong
	}
	if err := w.deadline(w.Conn.SetReadDeadline, w.read); err != nil {
		return 0, err
	}
	for {
		n, err := w.Conn.Read(p[:min(len(p), w.budget)])
		w.budget -= n
		if kept := w.trim(p[:n]); kept > 0 || n == 0 || err != nil {
			return kept, err
		}
		if w.budget <= 0 {
			return 0, errReplyTooLong
		}
	}
}

// trim takes out of what was read whatever lines have beyond maxReplyLine, but for their ends, and returns how much is left.
func (w *wire) trim(p []byte) (kept int) {
	for _, c := range p {
		if w.column++; c == '\n' {
			w.column = 0
		}
		if w.column <= maxReplyLine || c == '\r' {
			p[kept] = c
			kept++
		}
	}
	return kept
}

// Write sends a command or a part of a message. What is written begins a new reply.
func (w *wire) Write(p []byte) (int, error) {
	w.budget = maxReply
	if w.recording {
		w.recorded = append(w.recorded, p...)
		w.script = []byte("250 recorded\r\n")
		return len(p), nil
	}
	if w.answer != nil {
		w.script, w.answer = w.answer, nil
		return len(p), nil
	}
	if err := w.deadline(w.Conn.SetWriteDeadline, w.write); err != nil {
		return 0, err
	}
	return w.Conn.Write(p)
}

// deadline sets one that rolls, but not beyond the end.
func (w *wire) deadline(set func(time.Time) error, d time.Duration) error {
	now := time.Now()
	at := now.Add(d)
	if !w.end.IsZero() && w.end.Before(at) {
		at = w.end
	}
	if !at.After(now) {
		return os.ErrDeadlineExceeded
	}
	return set(at)
}

// SetDeadline does nothing: see [wire].
func (w *wire) SetDeadline(time.Time) error { return nil }

// SetReadDeadline does nothing: see [wire].
func (w *wire) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing: see [wire].
func (w *wire) SetWriteDeadline(time.Time) error { return nil }
