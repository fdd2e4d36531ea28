package pop3_test

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"latchkey/pop3"
)

// scriptConn is a client that says one thing after the other, without a network, and does not listen.
type scriptConn struct {
	net.Conn
	chunks []string
	closed func()
}

func (c *scriptConn) Read(p []byte) (int, error) {
	if len(c.chunks) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.chunks[0])
	if c.chunks[0] = c.chunks[0][n:]; c.chunks[0] == "" {
		c.chunks = c.chunks[1:]
	}
	return n, nil
}

func (c *scriptConn) Write(p []byte) (int, error)      { return len(p), nil }
func (c *scriptConn) Close() error                     { c.closed(); return nil }
func (c *scriptConn) SetDeadline(time.Time) error      { return nil }
func (c *scriptConn) SetReadDeadline(time.Time) error  { return nil }
func (c *scriptConn) SetWriteDeadline(time.Time) error { return nil }
func (c *scriptConn) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)} }

// BenchmarkDrain is what RETR and DELE of 4 KiB cost by themselves: no network, no store.
func BenchmarkDrain(b *testing.B) {
	const messages = 100
	text := "Subject: bench\r\n\r\n" + strings.Repeat(strings.Repeat("b", 76)+"\r\n", 4096/78)
	texts := make([]string, messages)
	for i := range texts {
		texts[i] = text
	}
	for _, pipelined := range []bool{false, true} {
		b.Run(map[bool]string{false: "lockstep", true: "pipelined"}[pipelined], func(b *testing.B) {
			b.ReportAllocs()
			backend := newBackend()
			backend.Add("bert", "secret", texts...)
			s, l := newServer(backend), newPipeListener()
			done := make(chan error, 1)
			go func() { done <- s.Serve(l) }()
			visit := []string{"USER bert\r\n", "PASS secret\r\n"}
			for n := range messages {
				visit = append(visit, fmt.Sprintf("RETR %d\r\n", n+1), fmt.Sprintf("DELE %d\r\n", n+1))
			}
			visit = append(visit, "RSET\r\n", "QUIT\r\n")
			if pipelined {
				visit = []string{strings.Join(visit, "")}
			}
			for n := 0; n < b.N; n += messages {
				ended := make(chan struct{})
				l.conns <- &scriptConn{chunks: append([]string(nil), visit...), closed: sync.OnceFunc(func() { close(ended) })}
				<-ended
			}
			if err := s.Close(); err != nil {
				b.Error(err)
			}
			if err := <-done; err != pop3.ErrServerClosed { //nolint:errorlint // exactly this
				b.Error(err)
			}
		})
	}
}
