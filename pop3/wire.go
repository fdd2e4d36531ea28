package pop3

import (
	"bufio"
	"bytes"
	"errors"
	"net"
	"time"
)

var (
	errLineTooLong = errors.New("pop3: line too long")
	errTooSlow     = errors.New("pop3: client reads too slowly")
)

// readLine reads a line and returns it without its end. A line over limit octets (its end included) is read to its end and reported
// as errLineTooLong, so that no part of it is taken for a command. A line without an end, cut off by the connection's, is no line:
// a QUIT that lost its line end is a lost connection. The wait is for the whole line. The line is the connection's until the next one is read,
// and may be changed.
func (c *Conn) readLine(limit int) ([]byte, error) {
	if err := c.beginRead(); err != nil {
		return nil, err
	}
	piece, err := c.r.ReadSlice('\n')
	if err == nil && len(piece) <= limit {
		piece = chomp(piece)
	} else {
		piece, err = c.readRest(piece, err, limit)
	}
	if !c.mayGoOn() {
		return nil, errDrained
	}
	return piece, err
}

// readRest goes on with a line of which the first piece is not all, or too much.
func (c *Conn) readRest(piece []byte, err error, limit int) ([]byte, error) {
	var long []byte
	for size := 0; ; piece, err = c.r.ReadSlice('\n') {
		if size += len(piece); size <= limit {
			long = append(long, piece...)
		}
		switch {
		case err == nil && size > limit:
			return nil, errLineTooLong
		case err == nil:
			return chomp(long), nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, c.readFailed(err)
		}
	}
}

func chomp(line []byte) []byte {
	return bytes.TrimSuffix(bytes.TrimSuffix(line, crlf[1:]), crlf[:1])
}

// asked reports whether a whole line is there already.
func (c *Conn) asked() bool {
	ahead, _ := c.r.Peek(c.r.Buffered()) // cannot fail: it is there
	return bytes.IndexByte(ahead, '\n') >= 0
}

// beginRead prepares for a line: if it is not there yet, what was said goes out, and a time begins.
func (c *Conn) beginRead() error {
	if c.asked() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.draining {
			return errDrained
		}
		return nil
	}
	if err := c.out.Flush(); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.moveReadDeadline(c.wait()); err != nil {
		return err
	}
	c.waiting = true
	return nil
}

// mayGoOn ends the wait for a line, and reports whether it may be looked at: not once End was called, which then says the last word.
func (c *Conn) mayGoOn() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = false
	return !c.ended
}

func (c *Conn) setReadDeadline(wait time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.moveReadDeadline(wait)
}

// moveReadDeadline is setReadDeadline with mu held.
func (c *Conn) moveReadDeadline(wait time.Duration) error {
	if c.draining {
		return errDrained
	}
	at, needed := c.deadline.move(time.Now().Add(wait))
	if !needed {
		return nil
	}
	return c.net.SetReadDeadline(at)
}

func (c *Conn) readFailed(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.draining && !c.killed {
		return errDrained
	}
	return err
}

// watch cancels the connection's context when the client goes away while a backend works for it. stop ends the watch; what the
// client sent meanwhile is kept. With input waiting already there is nothing to watch for.
func (c *Conn) watch() (stop func()) {
	if c.r.Buffered() > 0 || len(c.in.kept) > 0 {
		return func() {}
	}
	if err := c.setReadDeadline(c.limits.Session); err != nil {
		return func() {}
	}
	in, done := c.in, make(chan struct{})
	go func() {
		defer close(done)
		var octet [1]byte
		n, err := in.Conn.Read(octet[:])
		if n > 0 {
			in.kept = append(in.kept, octet[0])
		}
		if err != nil && !isTimeout(err) {
			in.failed = err
			c.cancel()
		}
	}()
	return func() {
		c.mu.Lock()
		c.deadline = deadline{}
		_ = c.net.SetReadDeadline(time.Unix(1, 0)) // ends the watching read
		c.mu.Unlock()
		<-done
	}
}

// source is what commands are read from: first what a watch kept.
type source struct {
	net.Conn
	silence *silence
	kept    []byte
	failed  error
}

func (s *source) Read(p []byte) (int, error) {
	if len(s.kept) > 0 {
		n := copy(p, s.kept)
		s.kept = s.kept[n:]
		return n, nil
	}
	if s.failed != nil {
		return 0, s.failed
	}
	s.silence.begin()
	n, err := s.Conn.Read(p)
	s.silence.end()
	return n, err
}
