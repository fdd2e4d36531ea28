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
	"os"
	"path/filepath"
	"time"
)

const (
	retrTitle = "RETR of 25 MB, POP3"
	retrsTile = "RETR of 25 MB, POP3 over TLS"
	loopName  = "pread and write"
	loopChunk = 64 << 10
	// retrBuffer is what the client reads at once, retrTime how long each of retrTurns lasts.
	retrBuffer = 256 << 10
	retrTime   = time.Second
	retrTurns  = 3
)

// measureRetr is the other half of part d: a message of 25 MB fetched over and over, beside a process that sends the same octets from a
// file, both to the same client.
func (r *run) measureRetr(ctx context.Context) (err error) {
	ours, err := newLatchkey(ctx, r.root, "retr", r.binary, []string{"large"})
	if err != nil {
		return err
	}
	if _, err := ours.start(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ours.stop()) }()
	l := newLetters()
	size := max(int(25e6*min(r.scale, 1)), 1<<20)
	large := burst{addr: ours.mx, conns: 1, count: 1, size: size, letters: l, rcpt: func(int) string { return "large" }}
	if _, _, err := large.send(ctx); err != nil {
		return err
	}
	file := filepath.Join(r.root, "large")
	loop, addrs, err := startPair(loopHelper, file, ours.cert, ours.key)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, loop()) }()
	unproved := &tls.Config{InsecureSkipVerify: true} // its own certificate, on loopback
	for _, way := range []struct {
		title      string
		pop, plain string
		tc         *tls.Config
	}{{retrTitle, ours.pop, addrs[0], nil}, {retrsTile, ours.pops, addrs[1], unproved}} {
		r.sheet.want(row{part: 'd', measure: way.title, unit: "MB/s", against: loopName, want: atLeast(0.8)})
		if err := r.retr(ctx, way.title, way.pop, way.plain, way.tc, file, l); err != nil {
			return fmt.Errorf("%s: %w", way.title, err)
		}
	}
	return nil
}

// retr measures one kind of socket: our server and the loop in turns.
func (r *run) retr(ctx context.Context, title, pop, plain string, tc *tls.Config, file string, l *letters) error {
	w, _, count, octets, err := visit(pop, "large", tc, retrBuffer)
	if err != nil {
		return err
	}
	defer w.close()
	if count != 1 {
		return fmt.Errorf("%d messages, want 1", count)
	}
	if _, err := w.ask("RETR 1\r\n", "+OK"); err != nil {
		return err
	}
	raw, err := w.multi(make([]byte, 0, octets))
	if err != nil {
		return err
	}
	if _, _, err := l.check(raw, nil); err != nil {
		return err
	}
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		return err
	}
	other, err := dial(plain, tc, retrBuffer)
	if err != nil {
		return err
	}
	defer other.close()
	for range r.rounds * retrTurns {
		rate, err := fetchFor(ctx, w, "RETR 1\r\n", "+OK", len(raw), ".\r\n")
		if err != nil {
			return err
		}
		r.figure(title, us, rate, "MB/s")
		if rate, err = fetchFor(ctx, other, "GET\r\n", "+OK", len(raw), ""); err != nil {
			return err
		}
		r.figure(title, loopName, rate, "MB/s")
	}
	return w.quit()
}

// fetchFor asks for the same octets again and again for a while, and returns the rate in MB/s.
func fetchFor(ctx context.Context, w *wire, ask, want string, size int, end string) (float64, error) {
	begin, octets := time.Now(), 0
	for ctx.Err() == nil && time.Since(begin) < retrTime {
		if _, err := w.ask(ask, want); err != nil {
			return 0, err
		}
		if _, err := w.r.Discard(size); err != nil {
			return 0, err
		}
		tail := make([]byte, len(end))
		if _, err := io.ReadFull(w.r, tail); err != nil || string(tail) != end {
			return 0, fmt.Errorf("the end is %q: %w", tail, errors.Join(err, errors.New("not what was wanted")))
		}
		octets += size
	}
	return float64(octets) / 1e6 / time.Since(begin).Seconds(), ctx.Err()
}

// loopMain sends a file to whoever asks, until standard input ends.
func loopMain(args []string) error {
	if len(args) != 3 {
		return errors.New("loop FILE CERTIFICATE KEY")
	}
	return servePair(args[1], args[2], func(conn net.Conn) error { return sendFile(conn, args[0]) })
}

// sendFile answers every line with the file: as little as a server can do.
func sendFile(conn net.Conn, name string) (err error) {
	defer func() { err = errors.Join(err, conn.Close()) }()
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	chunk := make([]byte, loopChunk)
	for lines := bufio.NewScanner(conn); lines.Scan() && bytes.Equal(lines.Bytes(), []byte("GET")); {
		if _, err := io.WriteString(conn, "+OK\r\n"); err != nil {
			return err
		}
		for at := int64(0); ; {
			n, err := f.ReadAt(chunk, at)
			if n > 0 {
				if _, err := conn.Write(chunk[:n]); err != nil {
					return err
				}
				at += int64(n)
			}
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}
