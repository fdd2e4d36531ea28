package pop3

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// tlsLike is a connection that looks like TLS, and counts its writes.
type tlsLike struct {
	net.Conn
	largest int
}

func (*tlsLike) Handshake() error { return nil }

func (c *tlsLike) Write(p []byte) (int, error) {
	c.largest = max(c.largest, len(p))
	return c.Conn.Write(p)
}

// TestPacer: whatever the size of a write, floor octets in each window are enough, and one octet less is not. Nothing is lost or doubled
// when a deadline cuts a write. TLS cannot go on after that, so it never gets there: its pieces are no larger than a window's.
func TestPacer(t *testing.T) {
	const size = 5*tlsPiece + 100
	content := bytes.Repeat([]byte("0123456789abcdef\n"), size/17+1)[:size]
	for name, tt := range map[string]struct {
		reads func(p *pacer) (each int, pause time.Duration) // octets that the client reads before each pause
		want  error
	}{
		"enough":        {func(p *pacer) (int, time.Duration) { return p.floor, p.window }, nil},
		"one too few":   {func(p *pacer) (int, time.Duration) { return p.floor - 1, p.window + 2*deadlineSlack }, errTooSlow},
		"reads nothing": {func(*pacer) (int, time.Duration) { return 0, 0 }, errTooSlow},
		"quick":         {func(*pacer) (int, time.Duration) { return 2 * size, 0 }, nil},
	} {
		for _, secure := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					ours, theirs := net.Pipe()
					conn := &tlsLike{Conn: ours}
					p := newPacer(ours, &silence{began: time.Now()})
					if secure {
						p = newPacer(conn, &silence{began: time.Now()})
					}
					p.end = time.Now().Add(time.Hour)
					p.begin()
					if rate := float64(p.floor) / p.window.Seconds(); rate != 100 {
						t.Errorf("secure %v: %v octets a second", secure, rate)
					}
					each, pause := tt.reads(p)
					got := make(chan []byte)
					go func() {
						var b bytes.Buffer
						for {
							if _, err := io.CopyN(&b, theirs, int64(each)); err != nil {
								break
							}
							if each == 0 {
								break
							}
							time.Sleep(pause)
						}
						got <- b.Bytes()
					}()
					begun := time.Now()
					n, err := p.Write(content)
					took := time.Since(begun)
					_ = ours.Close() // the client sees the end
					read := <-got
					_ = theirs.Close() // nobody has it any more
					if !errors.Is(err, tt.want) || err == nil && n != size {
						t.Errorf("secure %v: wrote %d octets: %v", secure, n, err)
					}
					if !bytes.Equal(read, content[:len(read)]) || err == nil && len(read) != size {
						t.Errorf("secure %v: %d octets arrived, not as they were sent", secure, len(read))
					}
					if err != nil && (took < p.window || took > 2*(p.window+deadlineSlack)) {
						t.Errorf("secure %v: given up after %v", secure, took)
					}
					if secure && conn.largest > tlsPiece {
						t.Errorf("a piece of %d octets below TLS", conn.largest)
					}
				})
			})
		}
	}
}

// TestDeadline: never sooner than wanted, at most deadlineSlack later, and moved when it must be.
func TestDeadline(t *testing.T) {
	base := time.Unix(1e9, 0)
	var d deadline
	for i, tt := range []struct {
		want, at time.Duration
		needed   bool
	}{
		{0, deadlineSlack, true},
		{1, deadlineSlack, false},
		{deadlineSlack, deadlineSlack, false},
		{deadlineSlack + 1, 2*deadlineSlack + 1, true},
		{deadlineSlack + 1, 2*deadlineSlack + 1, false},
		{deadlineSlack, 2 * deadlineSlack, true}, // something that must end earlier
		{time.Hour, time.Hour + deadlineSlack, true},
		{0, deadlineSlack, true},
	} {
		at, needed := d.move(base.Add(tt.want))
		if got := at.Sub(base); got != tt.at || needed != tt.needed {
			t.Errorf("%d: want %v: deadline %v, moved %v; expected %v, %v", i, tt.want, got, needed, tt.at, tt.needed)
		}
	}
}
