package pop3

import (
	"sync/atomic"
	"time"
)

// silence is since when a connection waits for its client. It is written by the goroutine that serves, and read by any.
type silence struct {
	began time.Time // of the connection
	// since is nanoseconds after began, and one; 0 while the server is at work.
	since atomic.Int64
}

func (s *silence) begin() { s.since.Store(int64(time.Since(s.began)) + 1) }

func (s *silence) end() { s.since.Store(0) }

// Idle returns for how long the connection has waited for its client without an octet from it: to say something, or to take the rest of what is
// being sent (which goes out in pieces of up to 64 KiB). It is 0 while the server is at work. Any goroutine may ask, at any time; it does not block.
func (c *Conn) Idle() time.Duration {
	since := c.silence.since.Load()
	if since == 0 {
		return 0
	}
	return time.Since(c.began) - time.Duration(since-1)
}

// End ends the connection from outside, for example because somebody else is to have its maildrop. A client whose next command is waited for is
// told e in an -ERR and the connection is closed; one that is being answered, or has sent a command that is worked on, is cut off, and the context of
// the call that its backend works on is cancelled. When End returns no further command begins, so what is marked as deleted stays, unless Update was
// called before. Maildrop and session are closed as ever, soon after.
//
// Any goroutine may call it, at any time; it does not wait. Only the first call counts. If e is nil the client is cut off in any case.
func (c *Conn) End(e *Error) {
	if c.beginEnd(e) {
		c.kill()
	}
}

// beginEnd is End up to where the connection must be cut, which it reports.
func (c *Conn) beginEnd(e *Error) (cut bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return false
	}
	c.ended, c.farewell = true, e
	if c.waiting && e != nil {
		c.wake()
		return false
	}
	return true
}

// lastWords is what is said to a client whose connection the server's side ends.
func (c *Conn) lastWords() reply {
	c.mu.Lock()
	e := c.farewell
	c.mu.Unlock()
	r := no(CodeTemp, textStopping)
	if e != nil {
		r = c.refusal(e)
	}
	r.closing = true
	return r
}
