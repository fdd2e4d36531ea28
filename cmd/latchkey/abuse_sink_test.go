package main

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// overTCP connects to a door of a server as a client that says what it likes.
func (s *testServer) overTCP(door string) *talk {
	s.t.Helper()
	conn := s.dial(door)
	return &talk{remote: "127.0.0.1", conn: conn, r: bufio.NewReader(conn)}
}

// beginTLS does a handshake, whatever was said before.
func (c *talk) beginTLS(config *tls.Config) {
	c.conn = tls.Client(c.conn, config)
	c.r = bufio.NewReader(c.conn)
}

// lenientEnd is any end of a line, a dot and any end of a line again.
var lenientEnd = regexp.MustCompile("(\r\n|\n|\r)\\.(\r\n|\n|\r)")

// lenientSink is another domain's mail server as bad as they come: NUL is nothing to it, CR and LF alone are ends of lines, and any line of a
// dot ends a message. It takes everything.
type lenientSink struct {
	listener net.Listener
	work     sync.WaitGroup

	mu   sync.Mutex // protects the fields below
	from []string
	open map[net.Conn]struct{}
}

func newLenientSink(t testing.TB) *lenientSink {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &lenientSink{listener: l, open: map[net.Conn]struct{}{}}
	s.work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.open[c] = struct{}{}
			s.mu.Unlock()
			s.work.Go(func() { s.serve(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close() // nobody comes any more
		s.mu.Lock()
		for c := range s.open {
			_ = c.Close() // a client that stays is cut off
		}
		s.mu.Unlock()
		s.work.Wait()
	})
	return s
}

func (s *lenientSink) port() int {
	return int(netip.MustParseAddrPort(s.listener.Addr().String()).Port())
}

// senders are the reverse-paths of the messages that it counted.
func (s *lenientSink) senders() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.from...)
}

// serve reads whatever comes into one text, and looks for the end of a line or of a message in it.
func (s *lenientSink) serve(c net.Conn) {
	defer func() { _ = c.Close() }() // served
	var text, from string
	piece := make([]byte, 4096)
	more := func() bool {
		n, err := c.Read(piece)
		text += strings.ReplaceAll(string(piece[:n]), "\x00", "")
		return err == nil
	}
	say := func(line string) bool { _, err := io.WriteString(c, line+"\r\n"); return err == nil }
	inData := false
	for ok := say("220 lenient.example ESMTP"); ok; {
		if inData {
			end := lenientEnd.FindStringIndex(text)
			if end == nil {
				ok = more()
				continue
			}
			s.mu.Lock()
			s.from = append(s.from, from)
			s.mu.Unlock()
			text, inData = text[end[1]:], false
			ok = say("250 2.0.0 taken")
			continue
		}
		line, rest, whole := strings.Cut(text, "\n")
		if !whole {
			ok = more()
			continue
		}
		if text = rest; strings.TrimSpace(line) == "" {
			continue // the rest of an end that came in two pieces
		}
		switch verb := strings.ToUpper(strings.Fields(line + " -")[0]); verb {
		case "MAIL":
			from = pathOf(line)
			ok = say("250 2.1.0 ok")
		case "DATA":
			inData, text = true, "\n"+text
			ok = say("354 go on")
		case "QUIT":
			say("221 2.0.0 bye")
			return
		default:
			ok = say("250 2.0.0 ok")
		}
	}
}
