package pop3

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"
)

// steadyDrop is a maildrop of one message of 4 KiB that allocates nothing once it is open.
type steadyDrop struct {
	messages []Message
	text     []byte
	r        bytes.Reader
	// plain hides that the message can write itself.
	plain bool
}

func newSteadyDrop(plain bool) *steadyDrop {
	text := "Subject: steady\r\n\r\n" + strings.Repeat(strings.Repeat("s", 76)+"\r\n", 52) + ".\r\n"
	text += strings.Repeat("s", 4096-len(text)-2) + "\r\n"
	d := &steadyDrop{text: []byte(text), plain: plain}
	for range 100 {
		d.messages = append(d.messages, Message{UID: "0000000000000001", Size: int64(len(text))})
	}
	return d
}

func (d *steadyDrop) Stat() (int, int64) {
	return len(d.messages), int64(len(d.messages) * len(d.text))
}
func (d *steadyDrop) Messages(context.Context) ([]Message, error) { return d.messages, nil }
func (d *steadyDrop) Update(context.Context, []int) error         { return nil }
func (d *steadyDrop) Close() error                                { return nil }
func (d *steadyDrop) NeedsUTF8(int) bool                          { return false }
func (d *steadyDrop) Last(context.Context) (int, error)           { return 0, nil }
func (d *steadyDrop) Retrieve(context.Context, int, int) (io.ReadCloser, error) {
	d.r.Reset(d.text)
	if d.plain {
		return (*plainMessage)(d), nil
	}
	return (*message)(d), nil
}

type message steadyDrop

func (m *message) Read(p []byte) (int, error)         { return m.r.Read(p) }
func (m *message) WriteTo(w io.Writer) (int64, error) { return m.r.WriteTo(w) }
func (m *message) Close() error                       { return nil }

type plainMessage steadyDrop

func (m *plainMessage) Read(p []byte) (int, error) { return m.r.Read(p) }
func (m *plainMessage) Close() error               { return nil }

// steadyConn is a client that says the same thing again and again, and does not listen.
type steadyConn struct {
	net.Conn
	says    string
	written int
}

func (c *steadyConn) Read(p []byte) (int, error)       { return copy(p, c.says), nil }
func (c *steadyConn) Write(p []byte) (int, error)      { c.written += len(p); return len(p), nil }
func (c *steadyConn) SetReadDeadline(time.Time) error  { return nil }
func (c *steadyConn) SetWriteDeadline(time.Time) error { return nil }
func (c *steadyConn) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)} }

// loggedIn is a session with a maildrop that says command at every step.
func loggedIn(d Maildrop, command string) (*Conn, *steadyConn) {
	nc := &steadyConn{says: command + "\r\n"}
	c := newConn(&Server{Logger: slog.New(slog.DiscardHandler)}, nc, 1)
	c.state = newTransaction(c, d)
	return c, nc
}

// steadyCommands are commands that may be said for ever, and how many allocations each may have in a session in lockstep, whatever the message
// writes itself or is read. DELE is said once and is refused then.
var steadyCommands = []struct {
	command string
	allocs  float64
	octets  int // of an answer, at least
}{
	{"NOOP", 0, 5},
	{"STAT", 0, 10},
	{"LIST 7", 0, 10},
	{"UIDL 7", 0, 20},
	{"LAST", 0, 5},
	{"RETR 7", 0, 4096},
	{"retr 7 ", 0, 4096},
	{"TOP 7 0", 0, 21},
	{"TOP 7 99999999", 0, 4096},
	{"DELE 7", 1, 20},
	{"RETR 101", 1, 20},
	{"LIST", 2, 800},
	{"UIDL", 2, 1800},
	{"NONSENSE", 0, 20},
}

// TestAllocations: what a command costs, from its octets to those of the answer.
func TestAllocations(t *testing.T) {
	for _, plain := range []bool{false, true} {
		for _, tt := range steadyCommands {
			c, nc := loggedIn(newSteadyDrop(plain), tt.command)
			step := func() {
				c.strikes, nc.written = 0, 0
				if err := c.step(); err != nil {
					t.Fatalf("%s: %v", tt.command, err)
				}
			}
			step()
			got := testing.AllocsPerRun(1000, step)
			if nc.written < tt.octets {
				t.Errorf("%s: an answer of %d octets, want %d at least", tt.command, nc.written, tt.octets)
			}
			if got > tt.allocs && !RaceEnabled { // the race detector drops what a sync.Pool was given
				t.Errorf("%s (plain %v): %v allocations, want %v", tt.command, plain, got, tt.allocs)
			}
		}
	}
}

func benchmarkCommand(b *testing.B, command string) {
	c, _ := loggedIn(newSteadyDrop(false), command)
	b.ReportAllocs()
	for b.Loop() {
		c.strikes = 0
		if err := c.step(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkNoop(b *testing.B) { benchmarkCommand(b, "NOOP") }
func BenchmarkStat(b *testing.B) { benchmarkCommand(b, "STAT") }
func BenchmarkList(b *testing.B) { benchmarkCommand(b, "LIST 7") }
func BenchmarkUidl(b *testing.B) { benchmarkCommand(b, "UIDL 7") }
func BenchmarkDele(b *testing.B) { benchmarkCommand(b, "DELE 7") }
func BenchmarkTop(b *testing.B)  { benchmarkCommand(b, "TOP 7 0") }

// BenchmarkRetr sends a message of 4 KiB.
func BenchmarkRetr(b *testing.B) {
	b.SetBytes(4096)
	benchmarkCommand(b, "RETR 7")
}

// BenchmarkListAll lists a hundred messages.
func BenchmarkListAll(b *testing.B) { benchmarkCommand(b, "LIST") }
