package smtp

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"latchkey/store"
)

// scriptConn is a client that says one thing after the other, without a network: chunks over and over, as often as said, after the greeting.
type scriptConn struct {
	net.Conn
	greeting string
	chunks   []string
	at, said int // the chunk, and how much of it was said
	left     int
	ended    chan struct{}
}

func (c *scriptConn) Read(p []byte) (int, error) {
	if c.greeting != "" {
		n := copy(p, c.greeting)
		c.greeting = c.greeting[n:]
		return n, nil
	}
	if c.left == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.chunks[c.at][c.said:])
	if c.said += n; c.said < len(c.chunks[c.at]) {
		return n, nil
	}
	c.said = 0
	if c.at++; c.at == len(c.chunks) {
		c.at = 0
		c.left--
	}
	return n, nil
}

func (c *scriptConn) Write(p []byte) (int, error) {
	if p[0] > '3' {
		panic(string(p))
	}
	return len(p), nil
}

func (c *scriptConn) Close() error {
	select {
	case <-c.ended:
	default:
		close(c.ended)
	}
	return nil
}

func (c *scriptConn) SetDeadline(time.Time) error      { return nil }
func (c *scriptConn) SetReadDeadline(time.Time) error  { return nil }
func (c *scriptConn) SetWriteDeadline(time.Time) error { return nil }
func (c *scriptConn) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)} }

// emptyStore takes messages and forgets them.
type emptyStore struct{ Store }

func (s emptyStore) NewDraft(context.Context) (store.Draft, error) { return &emptyDraft{}, nil }

type emptyDraft struct{ size int64 }

func (d *emptyDraft) Write(p []byte) (int, error) {
	d.size += int64(len(p))
	return len(p), nil
}
func (d *emptyDraft) Size() int64  { return d.size }
func (d *emptyDraft) Abort() error { return nil }
func (d *emptyDraft) Commit(context.Context, store.Envelope) (store.Receipt, error) {
	return store.Receipt{Message: 1}, nil
}

// BenchmarkSession is what a door costs for each message of 4 KiB by itself: no network, no store, but a log.
func BenchmarkSession(b *testing.B) {
	text := "From: alice@example.com\r\nTo: bob@example.com\r\nSubject: bench\r\nMessage-ID: <1@client.example>\r\n\r\n" +
		strings.Repeat(strings.Repeat("b", 76)+"\r\n", 4096/78) + ".\r\n"
	for _, tt := range []struct {
		name, greeting, from string
		chunks               []string
	}{
		{"mx", "EHLO client.example\r\n", "x@remote.example", []string{"RCPT TO:<bob@example.com>\r\n", "DATA\r\n", text}},
		{"mx, library's reader", "EHLO client.example\r\n", "x@remote.example", []string{"RCPT TO:<bob@example.com>\r\n", "DATA\r\n" + text[:1000], text[1000:]}},
		{"mx, BDAT", "EHLO client.example\r\n", "x@remote.example", []string{
			"RCPT TO:<bob@example.com>\r\n", fmt.Sprintf("BDAT %d LAST\r\n", len(text)-3), text[:len(text)-3],
		}},
		{"submission", "EHLO client.example\r\nAUTH PLAIN " + plain("alice", "alice-pw") + "\r\n", "alice@example.com", []string{"RCPT TO:<bob@example.com>\r\n", "DATA\r\n", text}},
	} {
		b.Run(tt.name, func(b *testing.B) {
			b.ReportAllocs()
			door := MX
			if strings.HasPrefix(tt.name, "sub") {
				door = Submission
			}
			f := newFixture(b, door, func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(io.Discard, nil)) })
			f.opts.Store = emptyStore{f.store}
			p := newPipes()
			f.serveOn(p)
			c := &scriptConn{
				greeting: tt.greeting, left: b.N, ended: make(chan struct{}), chunks: append([]string{"MAIL FROM:<" + tt.from + ">\r\n"}, tt.chunks...),
			}
			b.ResetTimer()
			p.conns <- c
			<-c.ended
		})
	}
}
