package smtp

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/internal/message"
	"latchkey/store"
)

// bodyOf makes a message of exactly n octets.
func bodyOf(n int) string {
	const head = "A: 1\r\n\r\n"
	var b strings.Builder
	b.WriteString(head)
	for n-b.Len() > 1100 {
		b.WriteString(strings.Repeat("x", 998) + "\r\n")
	}
	b.WriteString(strings.Repeat("y", n-b.Len()-2) + "\r\n")
	return b.String()
}

// The limit is exact (RFC 1870 §6): limit-1 and limit octets are taken, limit+1 are not, by DATA and BDAT; a dot that is stuffed
// does not count.
func TestSizeEdge(t *testing.T) {
	const limit = store.MinMessageSize
	f := newFixture(t, MX)
	f.settings(func(s *store.Settings) { s.MessageSize = limit })
	f.serve()
	for _, tt := range []struct {
		n  int
		ok bool
	}{{limit - 1, true}, {limit, true}, {limit + 1, false}, {limit + 2, false}, {limit + 100_000, false}} {
		want := "552 5.3.4"
		if tt.ok {
			want = "250 2.0.0 queued as "
		}
		text := bodyOf(tt.n)
		for how, send := range map[string]func(c *client){
			"DATA": func(c *client) {
				c.ask("DATA", "354 ")
				c.send(text + ".\r\n")
				c.expect(want)
			},
			"DATA with stuffed dots": func(c *client) {
				c.ask("DATA", "354 ")
				c.send(strings.Replace(text, "\r\nx", "\r\n..", 5) + ".\r\n")
				c.expect(want)
			},
			"BDAT": func(c *client) {
				c.send(fmt.Sprintf("BDAT %d LAST\r\n%s", len(text), text))
				c.expect(want)
			},
			"BDAT in chunks": func(c *client) {
				for part := text; ; part = part[10_000:] {
					if len(part) <= 10_000 {
						c.send(fmt.Sprintf("BDAT %d LAST\r\n%s", len(part), part))
						break
					}
					c.send(fmt.Sprintf("BDAT 10000\r\n%s", part[:10_000]))
					if line := c.reply(); !strings.HasPrefix(line, "250 2.0.0 Continue") {
						if !strings.HasPrefix(line, want) {
							t.Errorf("chunk: got %q, want %q", line, want)
						}
						return
					}
				}
				c.expect(want)
			},
		} {
			t.Run(fmt.Sprintf("%s %d", how, tt.n-limit), func(t *testing.T) {
				c := f.greeted()
				size := ""
				if tt.n <= limit {
					size = fmt.Sprintf(" SIZE=%d", tt.n)
				}
				c.ask("MAIL FROM:<x@remote.example>"+size, "250 2.")
				c.ask("RCPT TO:<bob@example.com>", "250 2.")
				send(c)
			})
		}
	}
	for size, want := range map[int]string{limit: "250 ", limit + 1: "552 5.3.4", limit + 2: "552 5.3.4"} {
		c := f.greeted()
		c.ask(fmt.Sprintf("MAIL FROM:<x@remote.example> SIZE=%d", size), want)
	}
	if got, want := len(f.mail("bob")), 8; got != want {
		t.Errorf("%d messages stored, want %d", got, want)
	}
}

// Memory does not grow with the message: 50 MB in, and the heap stays where it was.
func TestMemoryFlat(t *testing.T) {
	f := newFixture(t, MX)
	f.settings(func(s *store.Settings) { s.MessageSize = 60 << 20 })
	counter := &countingStore{Store: f.store}
	f.opts.Store = counter
	f.serve()
	c := f.greeted()
	c.ask("MAIL FROM:<x@remote.example>", "250 2.")
	c.ask("RCPT TO:<bob@example.com>", "250 2.")
	c.ask("DATA", "354 ")
	c.send("A: 1\r\n\r\n")
	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	block := strings.Repeat(strings.Repeat("x", 998)+"\r\n", 1000)
	for i := range 50 {
		c.send(block)
		if i%10 == 9 {
			runtime.GC()
			runtime.ReadMemStats(&now)
			if grown := int64(now.HeapAlloc) - int64(before.HeapAlloc); grown > 2<<20 {
				t.Fatalf("heap has grown by %d octets after %d MB", grown, i+1)
			}
		}
	}
	c.send(".\r\n")
	c.expect("250 2.0.0 queued as ")
	if counter.size < 50_000_000 {
		t.Errorf("%d octets arrived", counter.size)
	}
}

// TestLargePieces: a body reaches the store in pieces of readBuffer that begin at multiples of it, however it came.
func TestLargePieces(t *testing.T) {
	f := newFixture(t, MX)
	counter := &countingStore{Store: f.store}
	f.opts.Store = counter
	f.serve()
	body := strings.Repeat(strings.Repeat("x", 76)+"\r\n", 1000)
	for _, piece := range []int{100, 1000, 30_000, len(body)} {
		counter.size, counter.ends = 0, nil
		c := f.greeted()
		c.ask("MAIL FROM:<x@remote.example>", "250 2.")
		c.ask("RCPT TO:<bob@example.com>", "250 2.")
		c.ask("DATA", "354 ")
		c.send("A: 1\r\n\r\n")
		for rest := body; rest != ""; {
			n := min(piece, len(rest))
			c.send(rest[:n])
			rest = rest[n:]
		}
		c.send(".\r\n")
		c.expect("250 2.0.0 queued as ")
		ends := counter.ends
		if len(ends) != 2+len(body)/readBuffer || ends[len(ends)-1] != ends[0]+int64(len(body)) {
			t.Fatalf("pieces of %d: the store was given octets up to %v", piece, ends)
		}
		for _, end := range ends[1 : len(ends)-1] {
			if end%readBuffer != 0 {
				t.Errorf("pieces of %d: a piece ends at %d", piece, end)
			}
		}
	}
}

// countingStore keeps no bodies, only how long they were after each piece.
type countingStore struct {
	Store
	size int64
	ends []int64
}

func (s *countingStore) NewDraft(context.Context) (store.Draft, error) { return &countingDraft{s}, nil }

type countingDraft struct{ s *countingStore }

func (d *countingDraft) Write(p []byte) (int, error) {
	if d.s.size += int64(len(p)); len(p) > 0 {
		d.s.ends = append(d.s.ends, d.s.size)
	}
	return len(p), nil
}
func (d *countingDraft) Size() int64  { return d.s.size }
func (d *countingDraft) Abort() error { return nil }
func (d *countingDraft) Commit(context.Context, store.Envelope) (store.Receipt, error) {
	return store.Receipt{Message: 1}, nil
}

func TestLoopLimit(t *testing.T) {
	f := newFixture(t, MX).serve()
	c := f.greeted()
	for n, want := range map[int]string{maxReceived - 1: "250 ", maxReceived: "250 ", maxReceived + 1: "554 5.4.6"} {
		c.ask("MAIL FROM:<x@remote.example>", "250 2.")
		c.ask("RCPT TO:<bob@example.com>", "250 2.")
		c.ask("DATA", "354 ")
		c.send(strings.Repeat("Received: from a by b; now\r\n", n) + "\r\n.\r\n")
		c.expect(want)
	}
}

func TestHeaderCapsOnTheWire(t *testing.T) {
	f := newFixture(t, MX).serve()
	c := f.greeted()
	for name, tt := range map[string]struct{ text, want string }{
		"bomb of 10,000 fields": {strings.Repeat("A: 1\r\n", 10_000) + "\r\n", "552 5.3.4"},
		"huge header":           {strings.Repeat("A: "+strings.Repeat("x", 900)+"\r\n", 1000) + "\r\n", "552 5.3.4"},
		"long line":             {"A: " + strings.Repeat("x", message.MaxHeaderLine) + "\r\n\r\n", "550 5.6.0"},
		"NUL":                   {"A: \x00\r\n\r\n", "550 5.6.0"},
		"fields at the limit":   {strings.Repeat("A: 1\r\n", message.MaxHeaderFields) + "\r\n", "250 2."},
	} {
		t.Run(name, func(t *testing.T) {
			c.ask("MAIL FROM:<x@remote.example>", "250 2.")
			c.ask("RCPT TO:<bob@example.com>", "250 2.")
			c.ask("DATA", "354 ")
			c.send(tt.text + "body\r\n.\r\n")
			c.expect(tt.want)
		})
	}
}

// On the MX door a message is not changed: it gets its trace fields and nothing else.
func TestMXLeavesMessagesAlone(t *testing.T) {
	messages := map[string]string{
		"no Date, no Message-ID, Bcc, two From": "Bcc: secret@example.com\r\nFrom: a@b.example\r\nFrom: c@d.example\r\nReturn-Path: <x@y.example>\r\n\r\nbody\r\n",
		"dots":                                  "A: 1\r\n\r\n.\r\n..\r\n.x\r\n...\r\n",
		"headers only":                          "A: 1\r\n",
		"empty":                                 "",
		"empty body":                            "A: 1\r\n\r\n",
		"NUL and 8 bits":                        "A: \xff\r\n\r\n\x00\xff\xfe\r\n",
		"a line of 10,000":                      "A: 1\r\n\r\n" + strings.Repeat("x", 10_000) + "\r\n",
		"a line of 60,000":                      "A: 1\r\n\r\n" + strings.Repeat("x", 60_000) + "\r\n",
		"many empty lines":                      "A: 1\r\n\r\n\r\n\r\n\r\n",
		"MIME with boundary":                    "Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\n.\r\n--x--\r\n",
		"a blank-only header":                   "A: 1\r\n \r\nB: 2\r\n\r\nx\r\n",
	}
	for name, text := range messages {
		t.Run(name, func(t *testing.T) {
			for _, bdat := range []bool{false, true} {
				f := newFixture(t, MX).serve()
				c := f.greeted()
				c.ask("MAIL FROM:<x@remote.example> BODY=8BITMIME", "250 2.")
				c.ask("RCPT TO:<bob@example.com>", "250 2.")
				if bdat {
					c.send(fmt.Sprintf("BDAT %d LAST\r\n%s", len(text), text))
				} else {
					c.ask("DATA", "354 ")
					stuffed := strings.ReplaceAll("\r\n"+text, "\r\n.", "\r\n..")[2:]
					c.send(stuffed + ".\r\n")
				}
				c.expect("250 2.0.0 queued as ")
				got := f.oneMail("bob")
				_, rest, _ := strings.Cut(got, ";\r\n\t")
				_, rest, _ = strings.Cut(rest, "\r\n")
				if rest != text {
					t.Errorf("BDAT %v: got %.300q, want %.300q", bdat, rest, text)
				}
				if n := strings.Count(got, "\r\n") - strings.Count(text, "\r\n"); n != 6 {
					t.Errorf("BDAT %v: %d lines added: %.400q", bdat, n, got)
				}
			}
		})
	}
}

func TestLineTooLongForAnybody(t *testing.T) {
	f := newFixture(t, MX).serve()
	c := f.greeted()
	c.ask("MAIL FROM:<x@remote.example>", "250 2.")
	c.ask("RCPT TO:<bob@example.com>", "250 2.")
	c.ask("DATA", "354 ")
	c.send("A: 1\r\n\r\n" + strings.Repeat("x", maxLine+5000) + "\r\n.\r\n")
	c.expect("554 5.6.0")
	c.expect("500 5.4.0")
	c.closed()
	if n := len(f.mail("bob")); n != 0 {
		t.Errorf("%d messages stored", n)
	}
}

// A message without a header gets an empty line between the trace fields and itself.
func TestNoHeaderAtAll(t *testing.T) {
	f := newFixture(t, MX).serve()
	f.greeted().message("x@remote.example", "bob@example.com", "Hello world\r\n")
	if got := f.oneMail("bob"); !strings.HasSuffix(got, "\r\n\r\nHello world\r\n") {
		t.Errorf("got %q", got)
	}
}

// BDAT that does not end a line gets its line end (RFC 3030 §2 lets a chunk end anywhere).
func TestBdatWithoutFinalLineEnd(t *testing.T) {
	f := newFixture(t, MX).serve()
	c := f.greeted()
	c.ask("MAIL FROM:<x@remote.example>", "250 2.")
	c.ask("RCPT TO:<bob@example.com>", "250 2.")
	c.send("BDAT 9\r\nA: 1\r\n\r\nx")
	c.expect("250 2.0.0 Continue")
	c.send("BDAT 2 LAST\r\nyz")
	c.expect("250 2.0.0 queued as ")
	if got := f.oneMail("bob"); !strings.HasSuffix(got, "\r\n\r\nxyz\r\n") {
		t.Errorf("got %q", got)
	}
}

// A chunk that the end of the connection cuts short is no message.
func TestBdatCutShort(t *testing.T) {
	onPipes(t, MX, func(t *testing.T, f *fixture, p *pipes) {
		c, _ := p.dial(f)
		c.expect("220 ")
		c.ask("EHLO client.example", "250 ")
		c.ask("MAIL FROM:<x@remote.example>", "250 2.")
		c.ask("RCPT TO:<bob@example.com>", "250 2.")
		c.send("BDAT 1000 LAST\r\nA: 1\r\n\r\nonly the beginning\r\n")
		synctest.Wait() // the server waits for the rest
		f.must(c.conn.Close())
		f.must(f.srv.Shutdown(context.Background()))
		if n := len(f.mail("bob")); n != 0 {
			t.Errorf("%d messages stored: %q", n, f.mail("bob"))
		}
	})
}

// The same for DATA: only CRLF.CRLF is the end.
func TestDataCutShort(t *testing.T) {
	for _, end := range []string{"", ".", ".\r", "\r\n.", "\r\n.\r"} {
		onPipes(t, MX, func(t *testing.T, f *fixture, p *pipes) {
			c := inData(f, p)
			c.send("body\r\n" + end)
			synctest.Wait() // the server waits for the rest
			f.must(c.conn.Close())
			f.must(f.srv.Shutdown(context.Background()))
			if n := len(f.mail("bob")); n != 0 {
				t.Errorf("end %q: %d messages stored", end, n)
			}
		})
	}
}

// RSET during BDAT, and the next message at once: the old one is gone, the new one whole. Run with -race.
func TestBdatReset(t *testing.T) {
	f := newFixture(t, MX).serve()
	c := f.greeted()
	for range 50 {
		c.send("MAIL FROM:<x@remote.example>\r\nRCPT TO:<bob@example.com>\r\nBDAT 8\r\nA: 1\r\n\r\nRSET\r\n" +
			"MAIL FROM:<y@remote.example>\r\nRCPT TO:<alice@example.com>\r\nBDAT 0\r\nBDAT 8 LAST\r\nB: 2\r\n\r\n")
		for range 7 {
			c.expect("250 ")
		}
		c.expect("250 2.0.0 queued as ")
	}
	if n := len(f.mail("bob")); n != 0 {
		t.Errorf("%d messages stored that were given up", n)
	}
	mails := f.mail("alice")
	for _, got := range mails {
		if !strings.HasPrefix(got, "Return-Path: <y@remote.example>\r\n") || !strings.HasSuffix(got, "\r\nB: 2\r\n\r\n") {
			t.Errorf("got %q", got)
		}
	}
	if len(mails) != 50 {
		t.Errorf("%d messages, want 50", len(mails))
	}
}

// A first chunk may be long and have no line end: the limit of lines is for lines.
func TestBdatChunkIsNoLine(t *testing.T) {
	f := newFixture(t, MX).serve()
	c := f.greeted()
	text := "A: 1\r\n\r\n" + strings.Repeat("x", 200_000) + "\r\n"
	c.ask("MAIL FROM:<x@remote.example>", "250 2.")
	c.ask("RCPT TO:<bob@example.com>", "250 2.")
	c.send(fmt.Sprintf("BDAT %d LAST\r\n%s", len(text), text))
	c.expect("250 2.0.0 queued as ")
	c.ask("NOOP", "250 ")
}

// smuggled are the ends of data that are none (smuggling): forms of line ends around a dot.
var smuggled = []string{
	"\n.\n", "\n.\r\n", "\r.\r", "\r.\r\n", "\r\n.\n", "\r\n.\r\r\n", "\r\r\n.\r\n", "\r\n\n.\r\n", "\n\r.\n\r", "\r\n.\n\r\n", "\x00\n.\n", "\n.\x00\n",
}

// TestSmuggling sends every form, cut at every octet: on the MX door it is refused and is never an end, on the submission door
// it is mended, and in neither case is anything behind it a command (RFC 5321 §4.1.1.4, WIRE row on smuggling).
func TestSmuggling(t *testing.T) {
	const evil = "MAIL FROM:<evil@remote.example>\r\nRCPT TO:<alice@example.com>\r\nDATA\r\nEvil: yes\r\n\r\nevil\r\n"
	for _, end := range smuggled {
		t.Run(fmt.Sprintf("%q", end), func(t *testing.T) {
			f := newFixture(t, MX).serve()
			sent := 0
			for cut := range len(end) + 1 {
				for _, proved := range []bool{false, true} {
					c := f.greeted()
					from, want := "x@remote.example", "550 5.5.2"
					if end == "\r\n.\r\r\n" {
						want = "250 2.0.0 queued as " // Deviation: go-smtp loses the dot and the CR, what is left is clean
						if !proved {
							sent++
						}
					}
					if proved {
						c.login("alice")
						from, want = "alice@example.com", "250 2.0.0 queued as "
						sent++
					}
					c.ask("MAIL FROM:<"+from+">", "250 2.")
					c.ask("RCPT TO:<bob@example.com>", "250 2.")
					c.ask("DATA", "354 ")
					c.send("From: " + from + "\r\n\r\nbody" + end[:cut])
					c.send(end[cut:] + evil + "\r\n.\r\n")
					c.expect(want)
					c.ask("NOOP", "250 2.0.0 I have successfully done nothing")
				}
			}
			if n := len(f.mail("alice")); n != 0 {
				t.Errorf("%d smuggled messages", n)
			}
			mails := f.mail("bob")
			if len(mails) != sent {
				t.Errorf("%d messages, want %d", len(mails), sent)
			}
			for _, got := range mails {
				if strings.ContainsAny(strings.ReplaceAll(got, "\r\n", ""), "\r\n") {
					t.Errorf("bare CR or LF in %q", got)
				}
			}
		})
	}
}

// The Received line has the clauses of RFC 5321 §4.4 in order; what the client called itself cannot break it.
func TestReceivedLine(t *testing.T) {
	f := newFixture(t, MX, func(o *Options) { o.Now = func() time.Time { return time.Unix(1e9, 0).UTC() } }).serve()
	c := f.dial()
	c.expect("220 ")
	c.ask("EHLO [127.0.0.1]\tevil(name);", "250 ")
	c.ask("MAIL FROM:<>", "250 2.")
	c.ask("RCPT TO:<team@example.com>", "250 2.")
	c.ask("DATA", "354 ")
	c.send(shortMessage + ".\r\n")
	c.expect("250 2.0.0 queued as ")
	got := f.oneMail("bob")
	if !strings.HasPrefix(got, "Return-Path: <>\r\nDelivered-To: team@example.com\r\nReceived: from [127.0.0.1]?evil?name?? ([127.0.0.1])\r\n\tby mail.example.com with ESMTP id ") ||
		!strings.Contains(got, "\r\n\tfor <team@example.com>;\r\n\tSun, 9 Sep 2001 01:46:40 +0000\r\n") {
		t.Errorf("got %q", got)
	}
}

// Two recipients are not told of each other.
func TestReceivedForOneOnly(t *testing.T) {
	f := newFixture(t, MX).serve()
	c := f.greeted()
	c.ask("MAIL FROM:<x@remote.example>", "250 2.")
	c.ask("RCPT TO:<bob@example.com>", "250 2.")
	c.ask("RCPT TO:<alice@example.com>", "250 2.")
	c.ask("DATA", "354 ")
	c.send(shortMessage + ".\r\n")
	c.expect("250 2.")
	for _, name := range []string{"alice", "bob"} {
		if got := f.oneMail(name); strings.Contains(got, "for <") || strings.Count(got, "Delivered-To: "+name+"@example.com\r\n") != 1 {
			t.Errorf("got %q", got)
		}
	}
}

func TestSizeReader(t *testing.T) {
	for n, ok := range map[int]bool{9: true, 10: true, 11: false} {
		got, err := io.ReadAll(&sizeReader{r: strings.NewReader(strings.Repeat("x", n)), left: 10, over: errTooLarge})
		if (err == nil) != ok || ok && len(got) != n {
			t.Errorf("%d octets: got %d, %v", n, len(got), err)
		}
	}
}
