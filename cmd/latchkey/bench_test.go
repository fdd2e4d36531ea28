package main

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// benchServer has the mailbox bert, and no deadline on its clients.
func benchServer(b *testing.B) *testServer {
	b.Helper()
	s := startServer(b, "example.com")
	s.addAccount("bert", "bert's password")
	return s
}

// endless takes the deadline of the harness off a connection.
func endless(b *testing.B, c interface{ SetDeadline(time.Time) error }) {
	b.Helper()
	if err := c.SetDeadline(time.Time{}); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkDelivery sends messages of 4 KiB in lockstep; each is durable before its 250.
func BenchmarkDelivery(b *testing.B) {
	for _, senders := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("senders=%d", senders), func(b *testing.B) {
			s := benchServer(b)
			text := "Subject: bench\r\n\r\n" + strings.Repeat(strings.Repeat("b", 76)+"\r\n", 4096/78) + ".\r\n"
			clients := make([]*rawSMTP, senders)
			for i := range clients {
				clients[i] = s.rawSMTP("mx")
				endless(b, clients[i])
			}
			var left atomic.Int64
			left.Store(int64(b.N))
			b.ResetTimer()
			var wg sync.WaitGroup
			for _, c := range clients {
				wg.Go(func() {
					for left.Add(-1) >= 0 {
						c.cmd("250", "MAIL FROM:<bench@other.example>\r\n")
						c.cmd("250", "RCPT TO:<bert@example.com>\r\n")
						c.cmd("354", "DATA\r\n")
						c.cmd("250", text)
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
		})
	}
}

// BenchmarkPoll is what a mail program does every minute: connect, log in, STAT, QUIT.
func BenchmarkPoll(b *testing.B) {
	for _, clients := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			s := benchServer(b)
			s.deliver("bench@other.example", []string{"bert@example.com"}, "Subject: x\r\n\r\nbody\r\n")
			if err := s.poll(); err != nil { // the password is hashed now, and known afterwards
				b.Fatal(err)
			}
			var left atomic.Int64
			left.Store(int64(b.N))
			b.ResetTimer()
			var wg sync.WaitGroup
			for range clients {
				wg.Go(func() {
					for left.Add(-1) >= 0 {
						if err := s.poll(); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "polls/s")
		})
	}
}

// poll is one visit of bert's mail program.
func (s *testServer) poll() error {
	conn := s.dial("pop3")
	defer func() { _ = conn.Close() }() // after QUIT
	r := bufio.NewReader(conn)
	for _, command := range []string{"", "USER bert\r\n", "PASS bert's password\r\n", "STAT\r\n", "QUIT\r\n"} {
		if _, err := io.WriteString(conn, command); err != nil {
			return err
		}
		line, err := r.ReadString('\n')
		if err != nil {
			return fmt.Errorf("%q: %w", command, err)
		}
		if !strings.HasPrefix(line, "+OK") {
			return fmt.Errorf("%q: got %q", command, line)
		}
	}
	return nil
}

// BenchmarkRetr fetches a message of 10 MB over and over in one session.
func BenchmarkRetr(b *testing.B) {
	for _, door := range []string{"pop3", "pop3s"} {
		b.Run(door, func(b *testing.B) {
			s := benchServer(b)
			c := s.rawSMTP("mx")
			c.cmd("250", "MAIL FROM:<bench@other.example>\r\n")
			c.cmd("250", "RCPT TO:<bert@example.com>\r\n")
			c.data("250", "Subject: bench\r\n\r\n"+strings.Repeat(strings.Repeat("b", 76)+"\r\n", 10_000_000/78))
			conn := s.dial(door)
			endless(b, conn)
			p := s.popOn(conn)
			if err := p.login("bert", "bert's password"); err != nil {
				b.Fatal(err)
			}
			var n, size int
			if _, err := fmt.Sscanf(p.must("LIST 1"), "+OK %d %d", &n, &size); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(size))
			b.ResetTimer()
			for range b.N {
				p.must("RETR 1")
				if _, err := io.CopyN(io.Discard, p.text.R, int64(size+len(".\r\n"))); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
