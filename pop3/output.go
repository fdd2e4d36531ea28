package pop3

import (
	"bufio"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// output holds what is said until the client waits for it, so that commands that came together are answered together (RFC 2449 §6.6). It
// has memory only while something is held: most sessions are idle.
type output struct {
	to      *pacer
	writers *sync.Pool // of *bufio.Writer
	held    *bufio.Writer
}

// begin returns the writer for the next reply. end is when the connection's time is over.
func (o *output) begin(end time.Time) *bufio.Writer {
	o.to.begin()
	o.to.end = end
	if o.held == nil {
		w, ok := o.writers.Get().(*bufio.Writer)
		if !ok {
			w = bufio.NewWriterSize(nil, writeBuffer)
		}
		w.Reset(o.to)
		o.held = w
	}
	return o.held
}

// Flush sends what is held.
func (o *output) Flush() error {
	w := o.held
	if w == nil {
		return nil
	}
	err := w.Flush()
	o.held = nil
	w.Reset(nil)
	o.writers.Put(w)
	return err
}

// deadlineSlack is how much later than wanted a deadline may be: one that is moved with every command is moved once in that time.
const deadlineSlack = time.Second

// deadline is a deadline of a connection that was set already.
type deadline struct{ at time.Time }

// move says whether there must be another one, for something that must end at want, and which.
func (d *deadline) move(want time.Time) (at time.Time, needed bool) {
	if !d.at.Before(want) && d.at.Sub(want) <= deadlineSlack {
		return d.at, false
	}
	d.at = want.Add(deadlineSlack)
	return d.at, true
}

// pacer gives writes a deadline that rolls with progress: floor octets in each window of waiting for the client.
type pacer struct {
	net.Conn
	silence  *silence
	floor    int
	window   time.Duration
	end      time.Time // no write lasts longer, whatever its progress
	whole    bool      // a deadline may cut a write; otherwise none is larger than floor
	deadline deadline
	waited   time.Duration // in this window
	sent     int           // in this window
}

// newPacer asks for the same rate with TLS and without. TLS cannot go on after a deadline, so there a window is one
// write, and as long as the rate allows: some eleven minutes.
func newPacer(c net.Conn, s *silence) *pacer {
	if _, secure := c.(interface{ Handshake() error }); secure {
		return &pacer{Conn: c, silence: s, floor: tlsPiece, window: transferWindow * tlsPiece / transferFloor}
	}
	return &pacer{Conn: c, silence: s, floor: transferFloor, window: transferWindow, whole: true}
}

// begin starts a window: the client is not late yet.
func (p *pacer) begin() { p.waited, p.sent = 0, 0 }

func (p *pacer) Write(b []byte) (int, error) {
	written := 0
	for len(b) > 0 {
		begun := time.Now()
		if at, needed := p.deadline.move(p.until(begun)); needed {
			if err := p.SetWriteDeadline(at); err != nil {
				return written, err
			}
		}
		piece := b
		if !p.whole {
			piece = b[:min(len(b), p.floor)]
		}
		p.silence.begin()
		n, err := p.Conn.Write(piece)
		p.silence.end()
		written += n
		b = b[n:]
		p.sent += n
		p.waited += time.Since(begun)
		enough := p.sent >= p.floor
		if enough {
			p.begin()
		}
		switch {
		case err == nil:
		case !isTimeout(err):
			return written, err
		case !enough || !p.whole:
			return written, errTooSlow
		}
	}
	return written, nil
}

// until is how long a write that begins now may last.
func (p *pacer) until(now time.Time) time.Time {
	if late := now.Add(p.window - p.waited); late.Before(p.end) {
		return late
	}
	return p.end
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

var _ io.Writer = (*pacer)(nil)
