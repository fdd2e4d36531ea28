//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// wire is a client's side of a connection.
type wire struct {
	conn net.Conn
	r    *bufio.Reader
}

// dial connects, over TLS if tc is not nil. The reader's buffer holds so many octets.
func dial(addr string, tc *tls.Config, buffer int) (*wire, error) {
	conn, err := net.DialTimeout("tcp", addr, answerTime)
	if err != nil {
		return nil, err
	}
	if tc != nil {
		conn = tls.Client(conn, tc)
	}
	w := newWire(conn, buffer)
	return w, w.patience()
}

func newWire(conn net.Conn, buffer int) *wire {
	return &wire{conn: conn, r: bufio.NewReaderSize(conn, buffer)}
}

// patience gives the next answers their time.
func (w *wire) patience() error { return w.conn.SetDeadline(time.Now().Add(answerTime)) }

func (w *wire) close() { _ = w.conn.Close() } // after QUIT, or after what is reported

// ask sends a text, unless it is empty, and returns the last line of the answer, which must begin with want.
func (w *wire) ask(text, want string) (string, error) {
	if err := w.patience(); err != nil {
		return "", err
	}
	if text != "" {
		if _, err := io.WriteString(w.conn, text); err != nil {
			return "", err
		}
	}
	return w.answer(text, want)
}

func (w *wire) answer(text, want string) (string, error) {
	for {
		line, err := w.r.ReadString('\n')
		switch {
		case err != nil:
			return "", fmt.Errorf("%.40q: %w", text, err)
		case !strings.HasPrefix(line, want):
			return "", fmt.Errorf("%.40q: got %q, want %s", text, line, want)
		case len(line) > 3 && line[3] == '-': // RFC 5321 §4.2.1
		default:
			return line, nil
		}
	}
}

// multi reads the lines of an answer up to the dot (RFC 1939 §3) into buf, in the form that they were sent in.
func (w *wire) multi(buf []byte) ([]byte, error) {
	if err := w.patience(); err != nil {
		return buf, err
	}
	for {
		line, err := w.r.ReadSlice('\n')
		if err != nil {
			return buf, err
		}
		if string(line) == ".\r\n" {
			return buf, nil
		}
		buf = append(buf, line...)
	}
}

// burst is a load by SMTP, in lockstep.
type burst struct {
	addr    string
	conns   int
	count   int
	first   int // sequence number
	size    int // octets of a message
	rate    float64
	rcpt    func(seq int) string
	letters *letters
}

// send sends the load and returns how long each reply to the end of DATA took, and the whole. With a rate, messages start at fixed times.
func (b burst) send(ctx context.Context) (replies []time.Duration, took time.Duration, err error) {
	begin := time.Now()
	var next atomic.Int64
	errs, lists := make([]error, b.conns), make([][]time.Duration, b.conns)
	var wg sync.WaitGroup
	for i := range b.conns {
		wg.Go(func() { lists[i], errs[i] = b.session(ctx, begin, &next) })
	}
	wg.Wait()
	took = time.Since(begin)
	for _, list := range lists {
		replies = append(replies, list...)
	}
	return replies, took, errors.Join(errs...)
}

func (b burst) session(ctx context.Context, begin time.Time, next *atomic.Int64) (replies []time.Duration, err error) {
	w, err := dial(b.addr, nil, 512)
	if err != nil {
		return nil, err
	}
	defer w.close()
	if _, err := w.ask("", "220"); err != nil {
		return nil, err
	}
	if _, err := w.ask("EHLO out.example\r\n", "250"); err != nil {
		return nil, err
	}
	var data []byte
	for ctx.Err() == nil {
		n := int(next.Add(1)) - 1
		if n >= b.count {
			_, err := w.ask("QUIT\r\n", "221")
			return replies, err
		}
		if b.rate > 0 {
			if err := pause(ctx, time.Until(begin.Add(time.Duration(float64(n)/b.rate*float64(time.Second))))); err != nil {
				break
			}
		}
		data = b.letters.appendMessage(data[:0], b.first+n, b.size)
		took, err := w.transact(b.rcpt(b.first+n), append(data, ".\r\n"...))
		if err != nil {
			return replies, err
		}
		replies = append(replies, took)
	}
	return replies, ctx.Err()
}

// transact sends one message, and returns how long the reply to the end of DATA took.
func (w *wire) transact(rcpt string, data []byte) (time.Duration, error) {
	for _, step := range [][2]string{
		{"MAIL FROM:<sender@out.example>\r\n", "250"}, {"RCPT TO:<" + rcpt + "@" + domain + ">\r\n", "250"}, {"DATA\r\n", "354"},
	} {
		if _, err := w.ask(step[0], step[1]); err != nil {
			return 0, err
		}
	}
	begin := time.Now()
	if _, err := w.conn.Write(data); err != nil {
		return 0, err
	}
	_, err := w.answer("end of DATA", "250")
	return time.Since(begin), err
}

// visit connects, logs in, and asks for STAT. What it took and STAT's numbers are returned with the open session.
func visit(addr, user string, tc *tls.Config, buffer int) (w *wire, took time.Duration, count int, octets int64, err error) {
	begin := time.Now()
	if w, err = dial(addr, tc, buffer); err != nil {
		return nil, 0, 0, 0, err
	}
	var line string
	for _, text := range []string{"", "USER " + user + "\r\n", "PASS " + password + "\r\n", "STAT\r\n"} {
		if line, err = w.ask(text, "+OK"); err != nil {
			w.close()
			return nil, 0, 0, 0, fmt.Errorf("%s: %w", user, err)
		}
	}
	took = time.Since(begin)
	if _, err = fmt.Sscanf(line, "+OK %d %d", &count, &octets); err != nil {
		w.close()
		return nil, 0, 0, 0, fmt.Errorf("%s: STAT: %q", user, line)
	}
	return w, took, count, octets, nil
}

// quit ends a session in order.
func (w *wire) quit() error {
	defer w.close()
	_, err := w.ask("QUIT\r\n", "+OK")
	return err
}

// drainer fetches and deletes all messages of mailboxes with so many sessions at once, and compares every octet.
type drainer struct {
	addr     string
	tc       *tls.Config // nil without TLS
	names    []string
	sessions int
	// window is how many commands are under way (RFC 2449 §6.6); 1 waits for each answer.
	window  int
	letters *letters
	// seen is called for each message, from several goroutines.
	seen func(seq int) error
}

func (d *drainer) drain(ctx context.Context) error {
	var next atomic.Int64
	errs := make([]error, d.sessions)
	var wg sync.WaitGroup
	for i := range d.sessions {
		wg.Go(func() {
			for ctx.Err() == nil && errs[i] == nil {
				n := int(next.Add(1)) - 1
				if n >= len(d.names) {
					return
				}
				errs[i] = d.one(d.names[n])
			}
		})
	}
	wg.Wait()
	return errors.Join(errors.Join(errs...), ctx.Err())
}

func (d *drainer) one(name string) error {
	w, _, count, _, err := visit(d.addr, name, d.tc, 64<<10)
	if err != nil {
		return err
	}
	defer w.close()
	var raw, room []byte
	for from := 1; from <= count; from += d.window {
		to := min(from+d.window-1, count)
		if err := w.pipeline("RETR", from, to); err != nil {
			return err
		}
		for range to - from + 1 {
			if _, err := w.answer("RETR", "+OK"); err != nil {
				return err
			}
			if raw, err = w.multi(raw[:0]); err != nil {
				return err
			}
			var seq int
			if seq, room, err = d.letters.check(raw, room); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if err := d.seen(seq); err != nil {
				return err
			}
		}
		if err := w.pipeline("DELE", from, to); err != nil {
			return err
		}
		for range to - from + 1 {
			if _, err := w.answer("DELE", "+OK"); err != nil {
				return err
			}
		}
	}
	return w.quit()
}

// pipeline sends a command for each of a range of messages.
func (w *wire) pipeline(command string, from, to int) error {
	var b bytes.Buffer
	for n := from; n <= to; n++ {
		fmt.Fprintf(&b, "%s %d\r\n", command, n)
	}
	if err := w.patience(); err != nil {
		return err
	}
	_, err := w.conn.Write(b.Bytes())
	return err
}

// ledger notes that each of a range of messages was seen once.
type ledger struct {
	first int
	mu    sync.Mutex
	seen  []bool // guarded by mu
	n     int    // guarded by mu
}

func newLedger(first, count int) *ledger { return &ledger{first: first, seen: make([]bool, count)} }

// see notes one message. One of another range, or one that was seen before, is an error.
func (l *ledger) see(seq int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := seq - l.first
	if i < 0 || i >= len(l.seen) {
		return fmt.Errorf("message %d was not sent", seq)
	}
	if l.seen[i] {
		return fmt.Errorf("message %d is there twice", seq)
	}
	l.seen[i] = true
	l.n++
	return nil
}

// whole is an error unless all were seen.
func (l *ledger) whole() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.n != len(l.seen) {
		return fmt.Errorf("%d of %d messages are lost", len(l.seen)-l.n, len(l.seen))
	}
	return nil
}
