package smtp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"latchkey/store"
)

// sliceConn is a client that has sent everything already. It is read in pieces of at most so many octets; whatever is written is lost.
type sliceConn struct {
	net.Conn
	text  []byte
	piece int
	at    int
	ended func()
}

func (c *sliceConn) Read(p []byte) (int, error) {
	if c.at == len(c.text) {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), c.piece)], c.text[c.at:])
	c.at += n
	return n, nil
}

func (c *sliceConn) Close() error {
	c.ended()
	return nil
}

func (c *sliceConn) Write(p []byte) (int, error)      { return len(p), nil }
func (c *sliceConn) SetDeadline(time.Time) error      { return nil }
func (c *sliceConn) SetReadDeadline(time.Time) error  { return nil }
func (c *sliceConn) SetWriteDeadline(time.Time) error { return nil }
func (c *sliceConn) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)} }

// oneMessage is what a reader makes of the octets behind DATA.
type oneMessage struct {
	text string
	err  error
	// rest is what is left of the octets, for commands.
	rest string
}

func (m oneMessage) String() string {
	return fmt.Sprintf("%d octets %.200q, %v, rest %.100q", len(m.text), m.text, m.err, m.rest)
}

// byLibrary lets go-smtp read, an octet at a time, so that it never holds anything back.
func byLibrary(t *testing.T, text string) (m oneMessage) {
	t.Helper()
	ended := make(chan struct{})
	conn := &sliceConn{ended: sync.OnceFunc(func() { close(ended) }), text: []byte("HELO x\r\nMAIL FROM:<x@y.example>\r\nRCPT TO:<x@y.example>\r\nDATA\r\n" + text), piece: 1}
	s := gosmtp.NewServer(gosmtp.BackendFunc(func(*gosmtp.Conn) (gosmtp.Session, error) {
		return &onlyData{func(r io.Reader) {
			b, err := io.ReadAll(r)
			m = oneMessage{string(b), err, string(conn.text[conn.at:])}
			conn.at = len(conn.text) // no more commands
		}}, nil
	}))
	s.Domain, s.MaxLineLength, s.ReadTimeout = testHost, maxLine, time.Minute
	s.ErrorLog = libraryLog{slog.New(slog.DiscardHandler)}
	l := newPipes()
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	l.conns <- conn
	<-ended
	if err := errors.Join(s.Shutdown(context.Background()), <-done); err != nil {
		t.Fatal(err)
	}
	return m
}

type onlyData struct{ data func(io.Reader) }

func (s *onlyData) Mail(string, *gosmtp.MailOptions) error { return nil }
func (s *onlyData) Rcpt(string, *gosmtp.RcptOptions) error { return nil }
func (s *onlyData) Reset()                                 {}
func (s *onlyData) Logout() error                          { return nil }
func (s *onlyData) Data(r io.Reader) error {
	s.data(r)
	return nil
}

// byDetour reads in pieces, into buffers of a size.
func byDetour(t *testing.T, text string, piece, size int) oneMessage {
	t.Helper()
	conn := &sliceConn{text: []byte(text), piece: piece}
	w := newWire(t.Context(), conn, defaultLimits(), newRegistry())
	w.adopt(false)
	r := &dataReader{wire: w, line: 1}
	var b bytes.Buffer
	_, err := io.CopyBuffer(struct{ io.Writer }{&b}, struct{ io.Reader }{r}, make([]byte, size))
	return oneMessage{b.String(), err, string(w.ahead) + text[conn.at:]}
}

// differ reads the octets behind DATA both ways.
func differ(t *testing.T, text string, piece, size int) {
	t.Helper()
	want, got := byLibrary(t, text), byDetour(t, text, piece, size)
	if !errors.Is(got.err, want.err) || want.err == nil && got != want {
		t.Fatalf("pieces of %d into %d:\ngo-smtp: %s\ndetour:  %s", piece, size, want, got)
	}
}

// TestDetourIsNoOtherWay: what go-smtp makes of a message, and of where it ends, the detour makes of it too, however it is cut.
func TestDetourIsNoOtherWay(t *testing.T) {
	texts := []string{
		"", ".", ".\r", ".\r\n", "..\r\n", ".\r\n.\r\n", "\r\n.\r\n", "\r\n\r\n", "x", "x\r\n.", "x\r\n.\r", "x.\r\n.\r\nNOOP\r\n", "x\r\n..\r\n.\r\nQUIT\r\n",
		"..\r\n...\r\n.x\r\n.\r\n.\r\n", "\r\r\r\n.\r\n", ".\r.\r\n.\r\n", ".\r\r\n.\r\n", "\n", ".\n.\r\n", "\r\n.\r\r.\r\n\r\n.\r\nQUIT\r\n",
	}
	for _, end := range smuggled {
		texts = append(texts, "A: 1\r\n\r\nbody"+end+"MAIL FROM:<>\r\n.\r\nRSET\r\n")
	}
	for _, n := range []int{maxLine - 2, maxLine - 1, maxLine, maxLine + 1} {
		texts = append(texts, strings.Repeat("x", n)+"\r\n.\r\n", "x\r\n."+strings.Repeat("x", n)+"\n\r\n.\r\n", "x\r\n.\r\n"+strings.Repeat("x", n))
	}
	pieces := []int{1, 2, 3, 5, 100_000}
	if testing.Short() {
		pieces = []int{2, 100_000}
	}
	for i, text := range texts {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			for _, piece := range pieces {
				if len(text) > 1000 && piece < 100 {
					piece += 1000
				}
				for _, size := range []int{piece, 7, 20_000} {
					differ(t, text, piece, size)
				}
			}
		})
	}
}

// FuzzDetour is the same with anything.
func FuzzDetour(f *testing.F) {
	for _, end := range smuggled {
		f.Add([]byte("A: 1\r\n\r\n..body"+end+"MAIL FROM:<>\r\n.\r\nRSET\r\n"), 3, 5)
	}
	f.Fuzz(func(t *testing.T, text []byte, piece, size int) {
		if len(text) < 4096 {
			differ(t, string(text), max(piece, 1), min(max(size, 1), 1<<16))
		}
	})
}

// detourSpy notes whether a message is read past go-smtp.
type detourSpy struct {
	Store
	f     *fixture
	taken []bool
}

func (s *detourSpy) NewDraft(ctx context.Context) (store.Draft, error) {
	s.f.srv.reg.mu.Lock()
	defer s.f.srv.reg.mu.Unlock()
	for w := range s.f.srv.reg.wires { // there is one
		w.mu.Lock()
		s.taken = append(s.taken, w.detour)
		w.mu.Unlock()
	}
	return s.Store.NewDraft(ctx)
}

// TestDetourIsTaken: in the clear after DATA, and not where go-smtp has read on, nor below TLS, nor by BDAT. What is stored is the same.
func TestDetourIsTaken(t *testing.T) {
	const text = "A: 1\r\n\r\n..dot\r\nbody\r\n"
	for name, tt := range map[string]struct {
		send  func(c *client)
		taken bool
	}{
		"waits for 354": {func(c *client) {
			c.ask("DATA", "354 ")
			c.send(text + ".\r\n")
		}, true},
		"octet by octet": {func(c *client) {
			c.ask("DATA", "354 ")
			for i := range len(text) {
				c.send(text[i : i+1])
			}
			c.send(".\r\n")
		}, true},
		"does not wait": {func(c *client) {
			c.send("DATA\r\n" + text + ".\r\n")
			c.expect("354 ")
		}, false},
		"does not wait with the first octet": {func(c *client) {
			c.send("DATA\r\n" + text[:1])
			c.expect("354 ")
			c.send(text[1:] + ".\r\n")
		}, false},
		"does not wait with the first line": {func(c *client) {
			c.send("DATA\r\n" + text[:6])
			c.expect("354 ")
			c.send(text[6:] + ".\r\n")
		}, false},
		"BDAT": {func(c *client) {
			c.send(fmt.Sprintf("BDAT %d LAST\r\n%s", len(text)-1, strings.Replace(text, "..", ".", 1)))
		}, false},
		"TLS": {func(c *client) {
			c.starttls()
			c.ask("EHLO client.example", "250 ")
			c.ask("MAIL FROM:<x@remote.example>", "250 2.")
			c.ask("RCPT TO:<bob@example.com>", "250 2.")
			c.ask("DATA", "354 ")
			c.send(text + ".\r\n")
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, MX)
			spy := &detourSpy{Store: f.store, f: f}
			f.opts.Store = spy
			f.serve()
			c := f.greeted()
			c.ask("MAIL FROM:<x@remote.example>", "250 2.")
			c.ask("RCPT TO:<bob@example.com>", "250 2.")
			tt.send(c)
			c.expect("250 2.0.0 queued as ")
			if got := f.oneMail("bob"); !strings.HasSuffix(got, "\r\nA: 1\r\n\r\n.dot\r\nbody\r\n") {
				t.Errorf("stored %q", got)
			}
			c.message("x@remote.example", "alice@example.com", text) // and the next one is as good
			c.ask("QUIT", "221 ")
			c.closed()
			if want := []bool{tt.taken, name != "TLS"}; !slices.Equal(spy.taken, want) {
				t.Errorf("detour taken: %v, want %v", spy.taken, want)
			}
			if got := f.oneMail("alice"); !strings.HasSuffix(got, "\r\nA: 1\r\n\r\n.dot\r\nbody\r\n") {
				t.Errorf("stored %q", got)
			}
		})
	}
}

// TestBehindTheMessage: what a client sends with the end of a message is commands, from the first octet on, however much it is and
// whatever became of the message; and all of it is answered in as few packets as before.
func TestBehindTheMessage(t *testing.T) {
	const behind = "MAIL FROM:<y@remote.example>\r\nRCPT TO:<alice@example.com>\r\nDATA\r\n"
	for name, tt := range map[string]struct{ text, want string }{
		"taken":   {"A: 1\r\n\r\nbody\r\n.\r\n", "250 2.0.0 queued as "},
		"refused": {"A: 1\r\n\r\nbare\nbody\r\n.\r\n", "550 5.5.2"},
		"empty":   {".\r\n", "250 2.0.0 queued as "},
	} {
		t.Run(name, func(t *testing.T) {
			onPipes(t, MX, func(t *testing.T, f *fixture, p *pipes) {
				c, server := p.dial(f)
				c.expect("220 ")
				c.ask("EHLO client.example", "250 ")
				for range 3 {
					c.ask("MAIL FROM:<x@remote.example>", "250 2.")
					c.ask("RCPT TO:<bob@example.com>", "250 2.")
					c.ask("DATA", "354 ")
					before := server.writes.Load()
					c.send(tt.text + strings.Repeat("NOOP\r\n", 300) + behind)
					c.expect(tt.want)
					for range 300 {
						c.expect("250 2.0.0 I have")
					}
					c.expect("250 2.")
					c.expect("250 2.")
					c.expect("354 ")
					if n := server.writes.Load() - before; n > 2 { // more than corkSize
						t.Errorf("%d writes", n)
					}
					c.send("B: 2\r\n\r\n.\r\n")
					c.expect("250 2.0.0 queued as ")
				}
				c.ask("QUIT", "221 ")
				c.closed()
				if n := len(f.mail("alice")); n != 3 {
					t.Errorf("%d messages behind messages, want 3", n)
				}
			}, func(o *Options) { o.Limits.IdleReplies = 5000 })
		})
	}
}

// TestUnreadMessageEndsTheConnection: whoever stops in the middle of a message leaves nothing that could be taken for commands.
func TestUnreadMessageEndsTheConnection(t *testing.T) {
	w := newWire(t.Context(), &sliceConn{text: []byte("body\r\nNOOP\r\n.\r\nQUIT\r\n"), piece: 8}, defaultLimits(), newRegistry())
	w.adopt(false)
	d := &dataReader{wire: w, line: 1}
	if _, err := d.Read(make([]byte, 8)); err != nil {
		t.Fatal(err)
	}
	d.finish()
	if n, err := w.Read(make([]byte, 100)); n != 0 || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("read %d octets, %v", n, err)
	}
}

// TestDetourNotFromTheMiddle: what go-smtp holds back of a message is not forgotten: not a dot either, which it gives to nobody.
func TestDetourNotFromTheMiddle(t *testing.T) {
	for early, rest := range map[string]string{
		".": "\r\n", ".\r": "\n", "..": "\r\n.\r\n", ".x": "\r\n.\r\n", "A": ": 1\r\n.\r\n", "A: 1\r": "\n.\r\n", "A: 1\r\n": ".\r\n",
		"A: 1\r\n\r\n.": "\r\n", "A: 1\r\n\r\n.\r": "\n",
	} {
		onPipes(t, MX, func(t *testing.T, f *fixture, p *pipes) {
			c, _ := p.dial(f)
			c.expect("220 ")
			c.ask("EHLO client.example", "250 ")
			c.ask("MAIL FROM:<x@remote.example>", "250 2.")
			c.ask("RCPT TO:<bob@example.com>", "250 2.")
			c.send("DATA\r\n" + early)
			c.expect("354 ")
			c.send(rest)
			c.expect("250 2.0.0 queued as ")
			c.ask("NOOP", "250 ")
		})
	}
	for _, secure := range []bool{false, true} {
		w := newWire(t.Context(), &sliceConn{text: []byte("DATA\r\nx"), piece: 6}, defaultLimits(), newRegistry())
		w.adopt(secure)
		for i, want := range []bool{!secure, false} {
			if _, err := w.Read(make([]byte, 100)); err != nil {
				t.Fatal(err)
			}
			if got := w.divert(); got != want {
				t.Errorf("secure %v, read %d: divert is %v", secure, i, got)
			}
			w.rejoin()
		}
	}
}
