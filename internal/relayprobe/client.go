package relayprobe

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// Bounds of a dialogue.
const (
	// DialogueTime bounds one probe, from the connection to its end.
	DialogueTime = 30 * time.Second
	// maxReplyLine bounds a line of a reply in octets (RFC 5321 §4.5.3.1.5 has 512), maxReplyLines how many a reply has.
	maxReplyLine  = 2 << 10
	maxReplyLines = 100
)

// ErrNotSMTP: the other end said something that is no reply.
var ErrNotSMTP = errors.New("relayprobe: not a reply of SMTP")

// Client is one connection to a server that is tried.
type Client struct {
	conn net.Conn
	r    *bufio.Reader
	err  error
	// Greeting is the last line of what the server began with.
	Greeting string
}

// NewClient reads the greeting of a server. The client owns the connection from then on, also when it returns an error; the caller closes it.
func NewClient(ctx context.Context, conn net.Conn) (*Client, error) {
	deadline := time.Now().Add(DialogueTime)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	c := &Client{conn: conn, r: bufio.NewReaderSize(conn, maxReplyLine)}
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	c.Greeting = c.reply()
	if c.err == nil && !strings.HasPrefix(c.Greeting, "220 ") {
		c.err = fmt.Errorf("the greeting is %q", c.Greeting)
	}
	if c.err != nil {
		return nil, errors.Join(c.err, conn.Close())
	}
	return c, nil
}

// Close ends the connection, without a word.
func (c *Client) Close() error { return c.conn.Close() }

// Say sends octets and returns the last line of the reply; "" when the connection has come to its end, now or before.
func (c *Client) Say(octets string) string {
	if c.err == nil {
		_, c.err = io.WriteString(c.conn, octets)
	}
	return c.reply()
}

// Err is why the connection has come to its end; nil while it has not.
func (c *Client) Err() error { return c.err }

// reply reads one reply and returns its last line.
func (c *Client) reply() string {
	for range maxReplyLines {
		if c.err != nil {
			return ""
		}
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			c.err = err
			return ""
		}
		text := strings.TrimRight(string(line), "\r\n")
		switch {
		case len(text) == 3, len(text) > 3 && text[3] == ' ':
			return text
		case len(text) > 3 && text[3] == '-':
			continue
		}
		break
	}
	c.err = ErrNotSMTP
	return ""
}

// Transact sends a whole message from one address to another and returns the reply to RCPT and the last one.
func (c *Client) Transact(from, to string) (rcpt, last string) {
	c.Say("MAIL FROM:<" + from + ">\r\n")
	if rcpt = c.Say("RCPT TO:<" + to + ">\r\n"); !Accepted(rcpt) {
		return rcpt, rcpt
	}
	if last = c.Say("DATA\r\n"); strings.HasPrefix(last, "354 ") {
		last = c.Say("From: " + from + "\r\nSubject: control\r\n\r\n.\r\n")
	}
	return rcpt, last
}

// Accepted reports whether a reply is a success (RFC 5321 §4.2.1).
func Accepted(reply string) bool { return strings.HasPrefix(reply, "2") }

// Refused reports whether a reply is a failure, for now or for good.
func Refused(reply string) bool {
	return strings.HasPrefix(reply, "4") || strings.HasPrefix(reply, "5")
}
