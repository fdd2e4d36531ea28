package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"latchkey/guard"
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

// BenchmarkRetr fetches a message of 25 MB over and over in one session, in turns with the same octets out of a file by a loop that does
// nothing but read 64 KiB and write them, to the same kind of socket: "ratio" is how near to its speed we are, "cpu-ratio" how near to its
// CPU time, the client's included; that one is still good on a busy machine.
func BenchmarkRetr(b *testing.B) {
	for _, door := range []string{"pop3", "pop3s"} {
		b.Run(door, func(b *testing.B) {
			s := benchServer(b)
			c := s.rawSMTP("mx")
			c.cmd("250", "MAIL FROM:<bench@other.example>\r\n")
			c.cmd("250", "RCPT TO:<bert@example.com>\r\n")
			c.data("250", "Subject: bench\r\n\r\n"+strings.Repeat(strings.Repeat("b", 76)+"\r\n", 25_000_000/78))
			conn := s.dial(door)
			p := s.popOn(conn)
			if err := p.login("bert", "bert's password"); err != nil {
				b.Fatal(err)
			}
			var n, size int
			if _, err := fmt.Sscanf(p.must("LIST 1"), "+OK %d %d", &n, &size); err != nil {
				b.Fatal(err)
			}
			ours := fetcher{conn: conn, command: "RETR 1\r\n", size: len(fmt.Sprintf("+OK %d octets\r\n", size)) + size + len(".\r\n")}
			loop := fetcher{conn: s.copyLoop(b, door, ours.size), command: "x", size: ours.size}
			b.SetBytes(int64(ours.size))
			ours.fetch(b) // the file is in memory now
			loop.fetch(b)
			ours.took, loop.took, ours.cpu, loop.cpu = 0, 0, 0, 0
			for b.Loop() {
				ours.fetch(b)
				b.StopTimer()
				loop.fetch(b)
				b.StartTimer()
			}
			b.ReportMetric(float64(b.N*loop.size)/loop.took.Seconds()/1e6, "loop-MB/s")
			b.ReportMetric(loop.took.Seconds()/ours.took.Seconds(), "ratio")
			b.ReportMetric(loop.cpu.Seconds()/ours.cpu.Seconds(), "cpu-ratio")
		})
	}
}

// fetcher asks for something over and over.
type fetcher struct {
	conn    net.Conn
	command string
	size    int
	took    time.Duration
	cpu     time.Duration
	buf     [256 << 10]byte
}

func (f *fetcher) fetch(b *testing.B) {
	b.Helper()
	endless(b, f.conn)
	begun, cpu := time.Now(), cpuTime(b)
	if _, err := io.WriteString(f.conn, f.command); err != nil {
		b.Fatal(err)
	}
	for got := 0; got < f.size; {
		n, err := f.conn.Read(f.buf[:min(len(f.buf), f.size-got)])
		if err != nil {
			b.Fatal(err)
		}
		got += n
	}
	f.took += time.Since(begun)
	f.cpu += cpuTime(b) - cpu
}

// cpuTime is what this process has used so far.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// copyLoop connects to a server that answers every octet with a file of that size, over a connection like the door's.
func (s *testServer) copyLoop(b *testing.B, door string, size int) net.Conn {
	b.Helper()
	name := filepath.Join(b.TempDir(), "octets")
	if err := os.WriteFile(name, bytes.Repeat([]byte("b"), size), 0o600); err != nil {
		b.Fatal(err)
	}
	file, err := os.Open(name)
	if err != nil {
		b.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	config := (*tls.Config)(nil)
	if door == "pop3s" {
		certificate, err := tls.LoadX509KeyPair(s.config.TLS.Cert, s.config.TLS.Key)
		if err != nil {
			b.Fatal(err)
		}
		config = guard.TLSConfig(func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &certificate, nil })
	}
	done := make(chan error, 1)
	go func() { done <- answerWithFile(l, config, file) }()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := errors.Join(conn.Close(), <-done, file.Close()); err != nil {
			b.Error(err)
		}
	})
	if config != nil {
		return tls.Client(conn, s.tls())
	}
	return conn
}

// answerWithFile serves one client until it goes.
func answerWithFile(l net.Listener, config *tls.Config, file *os.File) error {
	conn, err := l.Accept()
	if err != nil {
		return err
	}
	defer func() { _ = errors.Join(conn.Close(), l.Close()) }() // the client has gone
	if config != nil {
		conn = tls.Server(conn, config)
	}
	var buf [64 << 10]byte
	for {
		if _, err := conn.Read(buf[:1]); err != nil {
			return nil //nolint:nilerr // the client has gone
		}
		for at := int64(0); ; {
			n, err := file.ReadAt(buf[:], at)
			if _, writeErr := conn.Write(buf[:n]); writeErr != nil {
				return writeErr
			}
			if at += int64(n); err != nil {
				break // the end of the file
			}
		}
	}
}
