package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"
)

// sink is another domain's mail server, as small as can be: it takes everything, remembers it, and refuses what it is told to refuse.
// What it holds is the proof of what left a server under test.
type sink struct {
	t        testing.TB
	listener net.Listener
	work     sync.WaitGroup
	// answer is the reply to RCPT for an address, "" for 250. step is called at each point of a transaction: connected, hello, mail, rcpt,
	// data, body (before it is remembered), taken (before the 250), answered. Both are set before the first connection.
	answer func(rcpt string) string
	step   func(point string)

	mu    sync.Mutex // protects the fields below
	taken []taken
	open  map[net.Conn]struct{}
}

// taken is one message for one recipient that the sink took responsibility for.
type taken struct {
	from, rcpt string
	data       string // with CRLF, dots unstuffed
	at         time.Time
}

// newSink starts one on loopback. It is stopped when the test ends.
func newSink(t testing.TB, edit ...func(*sink)) *sink {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &sink{
		t: t, listener: l, open: map[net.Conn]struct{}{}, answer: func(string) string { return "" }, step: func(string) {},
	}
	for _, e := range edit {
		e(s)
	}
	s.work.Go(func() { s.accept(l) })
	t.Cleanup(s.stop)
	return s
}

func (s *sink) port() int { return int(netip.MustParseAddrPort(s.listener.Addr().String()).Port()) }

func (s *sink) stop() {
	_ = s.listener.Close() // the second time there is nothing to close
	s.mu.Lock()
	for c := range s.open {
		_ = c.Close() // a client that stays is cut off
	}
	s.mu.Unlock()
	s.work.Wait()
}

func (s *sink) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.open[c] = struct{}{}
		s.mu.Unlock()
		s.work.Go(func() {
			s.serve(c)
			_ = c.Close() // served
			s.mu.Lock()
			delete(s.open, c)
			s.mu.Unlock()
		})
	}
}

// serve speaks SMTP with one client, until it goes.
func (s *sink) serve(c net.Conn) {
	r := bufio.NewReader(c)
	say := func(line string) bool { _, err := io.WriteString(c, line+"\r\n"); return err == nil }
	var from string
	var rcpts []string
	s.step("connected")
	for ok := say("220 sink.example ESMTP"); ok; {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		switch verb := strings.ToUpper(strings.Fields(line + " -")[0]); verb {
		case "EHLO":
			s.step("hello")
			ok = say("250-sink.example\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-SIZE 100000000\r\n250 ENHANCEDSTATUSCODES")
		case "MAIL":
			s.step("mail")
			from, rcpts = pathOf(line), nil
			ok = say("250 2.1.0 sender ok")
		case "RCPT":
			reply := "250 2.1.5 recipient ok"
			s.step("rcpt")
			if a := s.answer(pathOf(line)); a != "" {
				reply = a
			}
			if strings.HasPrefix(reply, "250") {
				rcpts = append(rcpts, pathOf(line))
			}
			ok = say(reply)
		case "DATA":
			ok = s.data(r, say, from, rcpts)
			from, rcpts = "", nil
		case "RSET", "HELO", "NOOP":
			from, rcpts = "", nil
			ok = say("250 2.0.0 ok")
		case "QUIT":
			say("221 2.0.0 bye")
			return
		default:
			ok = say("500 5.5.1 unknown")
		}
	}
}

// data takes one message. It is remembered before the 250 is on its way.
func (s *sink) data(r *bufio.Reader, say func(string) bool, from string, rcpts []string) bool {
	if len(rcpts) == 0 {
		return say("503 5.5.1 no recipients")
	}
	s.step("data")
	if !say("354 go on") {
		return false
	}
	var body strings.Builder
	for {
		line, err := r.ReadString('\n')
		switch {
		case err != nil:
			return false
		case line == ".\r\n":
			s.step("body")
			s.mu.Lock()
			for _, rcpt := range rcpts {
				s.taken = append(s.taken, taken{from: from, rcpt: rcpt, data: body.String(), at: time.Now()})
			}
			s.mu.Unlock()
			s.step("taken")
			ok := say("250 2.0.0 taken")
			s.step("answered")
			return ok
		}
		body.WriteString(strings.TrimPrefix(line, "."))
	}
}

// pathOf is what stands in the brackets of MAIL or RCPT.
func pathOf(line string) string {
	_, after, _ := strings.Cut(line, "<")
	inside, _, _ := strings.Cut(after, ">")
	return inside
}

// all are the messages that were taken so far.
func (s *sink) all() []taken {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]taken(nil), s.taken...)
}

// wait waits until n messages were taken, for each no longer than patience, and returns them.
func (s *sink) wait(n int) []taken {
	s.t.Helper()
	for have := len(s.all()); have < n; have = len(s.all()) {
		eventually(s.t, fmt.Sprintf("message %d of %d at the sink", have+1, n), func() bool { return len(s.all()) > have })
	}
	return s.all()
}

// eventually waits for something that another process or goroutine is about to do.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	end := time.Now().Add(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
		<-tick.C
	}
}
