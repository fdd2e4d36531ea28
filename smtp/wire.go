package smtp

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of one connection below TLS.
const (
	// corkSize is how many octets of replies are held back until the next read.
	corkSize = 16 << 10
	// keptSize is how many octets of memory for replies are kept between two packets of them.
	keptSize = 512
	// sniffSize is how far into the plain text HELO or EHLO is looked for.
	sniffSize = 1 << 10
	// closeFlush is how long a closing connection may take for its last reply.
	closeFlush = 5 * time.Second
)

// readyForTLS is go-smtp's reply to STARTTLS. After it nothing goes out in the clear.
const readyForTLS = "220 2.0.0 Ready to start TLS"

// TLS record types 20 (change cipher spec) to 23 (application data), RFC 8446 §5.1.
const firstRecord, lastRecord = 0x14, 0x17

// goodbye is a read error that go-smtp answers with 421 before it closes: 4.4.2 if it is a time-out, else 4.4.0.
type goodbye struct {
	why     string
	timeout bool
}

func (g *goodbye) Error() string   { return "smtp: " + g.why }
func (g *goodbye) Timeout() bool   { return g.timeout }
func (g *goodbye) Temporary() bool { return false }

// Is makes every goodbye for want of time a deadline that passed.
func (g *goodbye) Is(target error) bool { return g.timeout && target == os.ErrDeadlineExceeded }

// Why a wire ends a connection. They are errors of their own also because go-smtp sends the text of a read error in BDAT to the client.
var (
	errIdle     error = &goodbye{"nothing came in time", true}
	errStopping error = &goodbye{"server is stopping", true}
	errSlow     error = &goodbye{"transfer too slow", true}
	errEnvelope error = &goodbye{"too long between MAIL and the message", true}
	errExpired  error = &goodbye{"session too long", true}
	errChatter  error = &goodbye{"too many commands that do nothing", false}
	errFlood    error = &goodbye{"too much after a refusal", false}
)

// wire is a client's connection below TLS. It mends from outside what go-smtp leaves open:
//
//   - The first read error is final. go-smtp answers a time-out inside DATA and goes on, so that the rest of a message would be
//     read as commands.
//   - Deadlines are its own: an idle time that rolls with every read, a least rate in transfers, and a cap on the session. go-smtp
//     gives a whole DATA one deadline.
//   - Replies are held back until the next read, so that a pipelined group is answered by one packet (RFC 2920 §3.2).
//   - After "Ready to start TLS" it hangs up rather than send anything in the clear (RFC 3207 §4.1).
//   - It counts replies that cost the client nothing (NOOP, VRFY, RSET), can say 421 and close, and can be told to stop when idle.
//
// Until adopt is called it passes everything through: that is the time of the listener's handshake.
type wire struct {
	net.Conn
	limits Limits
	reg    *registry
	// ctx ends when the connection does.
	ctx    context.Context
	cancel context.CancelFunc
	// adopted is set when go-smtp has the connection.
	adopted atomic.Bool
	closed  sync.Once

	mu sync.Mutex // protects what follows; never held during I/O
	// err is the first read error, for ever; cut is set when a read has returned it.
	err error
	cut bool
	// held are replies to be written before the next read.
	held []byte
	// secure is set when everything that goes out is a TLS record.
	secure bool
	// handshakeBy is when the greeting after STARTTLS must have come; zero when there is nothing to wait for.
	handshakeBy time.Time
	// expires is when the session ends at the latest.
	expires time.Time
	// envelopeBy is when the message of the open transaction must have begun; zero when there is nothing to wait for.
	envelopeBy time.Time
	// last is set when the next reply is the last one, mute when it was written: no more is.
	last, mute bool
	// draining is set when the server stops, busy while there is a transaction to finish, waiting during a read.
	draining, busy, waiting bool
	// trusted is set after a login: the client may then be idle for longer.
	trusted bool
	// pace is the transfer that goes on.
	pace *pace
	// replies is the bucket of replies that cost the client nothing.
	replies  float64
	repliesT time.Time
	// flood is how many octets may still come after a refused message; negative for no bound.
	flood int64
	// sniffed is the beginning of the plain text, until the first greeting is handled.
	sniffed []byte
	greeted bool
	// behind is how many octets came in one piece with a STARTTLS, behind it: nobody reads them (RFC 3207 §4.2).
	behind int
	// tail is the last octet that go-smtp has read, ahead what it reads next, detour set while a message goes past it: see detour.go.
	tail   byte
	ahead  []byte
	detour bool
}

// pace is the speed of a transfer, in the time that we waited for the client only.
type pace struct {
	waited time.Duration // in this window
	octets int64         // in this window
	silent time.Duration // since the last octet
}

func newWire(ctx context.Context, c net.Conn, limits Limits, reg *registry) *wire {
	w := &wire{Conn: c, limits: limits, reg: reg, flood: -1, replies: float64(limits.IdleReplies)}
	w.ctx, w.cancel = context.WithCancel(ctx)
	return w
}

// NetConn returns the connection below, for [guard.EarlyTalker].
func (w *wire) NetConn() net.Conn { return w.Conn }

// adopt begins the rule of the wire, when the listener has handed the connection over.
func (w *wire) adopt(secure bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	w.secure, w.expires, w.repliesT = secure, now.Add(w.limits.Session), now
	w.adopted.Store(true)
}

// SetDeadline, SetReadDeadline and SetWriteDeadline have no effect once go-smtp has the connection: it knows one deadline a command
// only, and the wire has better ones.
func (w *wire) SetDeadline(t time.Time) error {
	if w.adopted.Load() {
		return nil
	}
	return w.Conn.SetDeadline(t)
}

// SetReadDeadline: see SetDeadline.
func (w *wire) SetReadDeadline(t time.Time) error {
	if w.adopted.Load() {
		return nil
	}
	return w.Conn.SetReadDeadline(t)
}

// SetWriteDeadline: see SetDeadline.
func (w *wire) SetWriteDeadline(t time.Time) error {
	if w.adopted.Load() {
		return nil
	}
	return w.Conn.SetWriteDeadline(t)
}

// Read is how go-smtp reads.
func (w *wire) Read(p []byte) (int, error) {
	if !w.adopted.Load() {
		return w.Conn.Read(p)
	}
	n, err := w.readAhead(p)
	if n == 0 && err == nil {
		n, err = w.receive(p)
	}
	if n > 0 {
		w.tail = p[n-1]
	}
	return n, err
}

// readAhead hands out what was read already, or turns go-smtp away from a message; nothing and no error mean that it is to wait.
func (w *wire) readAhead(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.detour:
		return 0, errDetour
	case len(w.ahead) == 0:
		return 0, nil
	case w.stop(time.Now()) != nil:
		return 0, w.err
	}
	n := copy(p, w.ahead)
	if w.ahead = w.ahead[n:]; len(w.ahead) == 0 {
		w.ahead = nil
	}
	return n, nil
}

// receive writes what was held back, then waits for the client.
func (w *wire) receive(p []byte) (int, error) {
	if err := w.flush(w.limits.Write); err != nil {
		return 0, w.fail(err)
	}
	for {
		begun := time.Now()
		if err := w.beginRead(begun); err != nil {
			return 0, err
		}
		n, err := w.Conn.Read(p)
		now := time.Now()
		if err = w.endRead(now, now.Sub(begun), p[:n], err); n > 0 || err != nil {
			return n, err
		}
	}
}

// stop says why there is no more reading, or nil. mu is held.
func (w *wire) stop(now time.Time) error {
	switch {
	case w.err != nil:
	case w.mute:
		w.err = io.EOF
	case w.draining && !w.busy:
		w.err = errStopping
	case !now.Before(w.expires):
		w.err = errExpired
	case w.envelopeLate(now):
		w.err = errEnvelope
	case w.replies < 0 && w.pace == nil:
		w.err = errChatter
	}
	w.cut = w.cut || w.err != nil
	return w.err
}

// beginRead sets the deadline, or says why there is no more reading.
func (w *wire) beginRead(now time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.stop(now); err != nil {
		return err
	}
	w.waiting = true
	if err := w.Conn.SetReadDeadline(w.deadline(now)); err != nil {
		w.err = err
	}
	return w.err
}

// deadline is when the read that begins now has taken too long.
func (w *wire) deadline(now time.Time) time.Time {
	var t time.Time
	switch {
	case w.pace != nil:
		t = now.Add(min(w.limits.Idle-w.pace.silent, w.limits.RateWindow-w.pace.waited))
	case !w.handshakeBy.IsZero():
		t = w.handshakeBy
	case w.trusted:
		t = now.Add(w.limits.Idle)
	default:
		t = now.Add(w.limits.LoginIdle)
	}
	if t.After(w.expires) {
		t = w.expires
	}
	if !w.envelopeBy.IsZero() && t.After(w.envelopeBy) {
		t = w.envelopeBy
	}
	return t
}

// envelopeLate reports whether a message should have begun by now.
func (w *wire) envelopeLate(now time.Time) bool {
	return !w.envelopeBy.IsZero() && !now.Before(w.envelopeBy)
}

// endRead judges what a read brought. Neither octets nor an error mean that it is to be tried again.
func (w *wire) endRead(now time.Time, took time.Duration, b []byte, err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting = false
	if w.flood >= 0 {
		if w.flood -= int64(len(b)); w.flood < 0 {
			w.err = errFlood
			return w.err
		}
	}
	if !w.greeted && !w.secure && len(w.sniffed) < sniffSize {
		w.sniffed = append(w.sniffed, b[:min(len(b), sniffSize-len(w.sniffed))]...)
	}
	if !w.secure && w.pace == nil {
		w.behind = behindSTARTTLS(b)
	}
	slow := w.pace != nil && !w.pace.note(took, len(b), w.limits)
	switch {
	case err == nil && slow:
		w.err = errSlow
	case err == nil:
	case !timedOut(err):
		w.err = err
	case w.draining && !w.busy:
		w.err = errStopping
	case !now.Before(w.expires):
		w.err = errExpired
	case w.envelopeLate(now):
		w.err = errEnvelope
	case slow:
		w.err = errSlow
	case w.pace != nil && w.pace.silent < w.limits.Idle:
		return nil // a window ended well: the next one begins
	default:
		w.err = errIdle
	}
	if len(b) > 0 && !slow {
		return nil // the error is kept for the next read
	}
	w.cut = w.err != nil
	return w.err
}

// behindSTARTTLS is how many octets of a piece of the plain text are behind a line STARTTLS in it.
func behindSTARTTLS(b []byte) int {
	for rest := b; ; {
		i := bytes.IndexByte(rest, '\n')
		if i < 0 {
			return 0
		}
		line := bytes.TrimSpace(rest[:i])
		if rest = rest[i+1:]; bytes.EqualFold(line, []byte("STARTTLS")) {
			return len(rest)
		}
	}
}

// injected is how many octets were thrown away behind STARTTLS; it tells it once.
func (w *wire) injected() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.behind
	w.behind = 0
	return n
}

func timedOut(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// note counts one read and reports whether the transfer still is fast enough.
func (p *pace) note(took time.Duration, n int, l Limits) bool {
	p.waited += took
	p.octets += int64(n)
	p.silent += took
	if n > 0 {
		p.silent = 0
	}
	if p.waited < l.RateWindow {
		return true
	}
	enough := p.octets >= l.MinRate*int64(l.RateWindow/time.Second)
	p.waited, p.octets = 0, 0
	return enough
}

// Write holds a reply back until the next read.
func (w *wire) Write(p []byte) (int, error) {
	if !w.adopted.Load() {
		return w.Conn.Write(p)
	}
	w.mu.Lock()
	if w.mute || len(p) == 0 {
		w.mu.Unlock()
		return len(p), nil
	}
	if w.secure && (p[0] < firstRecord || p[0] > lastRecord) {
		w.mute, w.err = true, io.EOF
		w.mu.Unlock()
		// RFC 3207 §4.1: a failed handshake must not end in a session in the clear.
		return 0, errors.Join(net.ErrClosed, w.flush(closeFlush), w.abort())
	}
	if !w.secure && bytes.HasPrefix(p, []byte(readyForTLS)) {
		w.secure, w.handshakeBy = true, time.Now().Add(w.limits.Handshake)
	}
	w.held = append(w.held, p...)
	w.spendReply(time.Now())
	w.mute = w.last
	full := len(w.held) >= corkSize
	w.mu.Unlock()
	if full {
		if err := w.flush(w.limits.Write); err != nil {
			return 0, w.fail(err)
		}
	}
	return len(p), nil
}

// spendReply takes one reply from the bucket.
func (w *wire) spendReply(now time.Time) {
	w.replies = min(w.replies+now.Sub(w.repliesT).Seconds()*w.limits.IdleReplyRate, float64(w.limits.IdleReplies))
	w.repliesT = now
	w.replies--
}

// flush writes what was held back.
func (w *wire) flush(limit time.Duration) error {
	w.mu.Lock()
	held := w.held
	w.held = nil
	w.mu.Unlock()
	if len(held) == 0 {
		return nil
	}
	if err := w.Conn.SetWriteDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	_, err := w.Conn.Write(held)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.held == nil && cap(held) <= keptSize {
		w.held = held[:0]
	}
	return err
}

// fail makes an error final.
func (w *wire) fail(err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
	return w.err
}

// Close writes what was held back and closes.
func (w *wire) Close() error {
	var err error
	w.closed.Do(func() {
		if w.adopted.Load() {
			err = w.flush(closeFlush)
		}
		err = errors.Join(err, w.hangUp())
	})
	return err
}

// abort closes at once, whatever is under way. It may be called from any goroutine.
func (w *wire) abort() error {
	var err error
	w.closed.Do(func() { err = w.hangUp() })
	// A Close that is stuck in its flush is freed too.
	return errors.Join(err, ignoreClosed(w.Conn.Close()))
}

func (w *wire) hangUp() error {
	w.cancel()
	err := ignoreClosed(w.Conn.Close())
	w.reg.remove(w)
	return err
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe) {
		return nil
	}
	return err
}

// drain makes the connection end with 421 as soon as no transaction is open (RFC 5321 §3.8).
func (w *wire) drain() {
	if !w.adopted.Load() {
		_ = w.abort() // in its handshake: there is nobody to say 421 to
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.draining = true
	if w.waiting && !w.busy {
		_ = w.Conn.SetReadDeadline(time.Unix(1, 0)) // a connection that fails here is at its end anyway
	}
}

// wasCut reports whether a read has failed. go-smtp takes a BDAT chunk that the end of the connection cut short for a whole one.
func (w *wire) wasCut() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cut
}

// greetedBy ends the search for the greeting and reports whether it was HELO. Under TLS nothing is visible: who uses STARTTLS or
// implicit TLS speaks ESMTP.
func (w *wire) greetedBy() (helo bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.greeted, w.handshakeBy = true, time.Time{}
	for line := range bytes.Lines(w.sniffed) {
		if len(line) < 4 {
			continue
		}
		switch verb := bytes.ToUpper(line[:4]); string(verb) {
		case "HELO":
			helo = true
		case "EHLO":
			helo = false
		}
	}
	helo = helo && !w.secure
	w.sniffed = nil
	return helo
}

// setBusy says whether a transaction is open: then a stopping server waits for its end, and its message has to begin in time.
func (w *wire) setBusy(busy bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.busy, w.envelopeBy = busy, time.Time{}
	if busy {
		w.envelopeBy = time.Now().Add(w.limits.Envelope)
	}
}

// beginTransfer puts the least rate in force, endTransfer the idle time.
func (w *wire) beginTransfer() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.envelopeBy = time.Time{}
	if w.pace == nil {
		w.pace = &pace{}
	}
}

func (w *wire) endTransfer() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pace, w.flood = nil, -1
}

// refused bounds what may still come of a message that was refused: go-smtp reads it to its end.
func (w *wire) refused() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.flood = w.limits.Flood
}

// earned gives back the reply to a command that was worth its cost.
func (w *wire) earned() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.replies = min(w.replies+1, float64(w.limits.IdleReplies))
}

// proved gives all replies back: a client that has brought a message is no idle talker, however many replies its chunks took.
func (w *wire) proved() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.replies = float64(w.limits.IdleReplies)
}

// loggedIn allows the longer idle time.
func (w *wire) loggedIn() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trusted = true
}

// lastReply makes the next reply the last one: it is written, and then the connection ends.
func (w *wire) lastReply() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last = true
}

// unmute lets TLS say goodbye after the last reply.
func (w *wire) unmute() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last, w.mute = false, false
}
