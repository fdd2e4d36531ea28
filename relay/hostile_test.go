package relay

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/store"
)

// TestBrokenAtEveryStage: a host that drops or says 421 at any stage leaves the message queued, once, with the reason; nothing bounces.
func TestBrokenAtEveryStage(t *testing.T) {
	for _, command := range []string{"EHLO", "STARTTLS", "MAIL", "RCPT", "DATA", "."} {
		for _, how := range []string{"drop", "421 4.3.2 closing", "garbage", "250\x00 nul", "999 odd", "250-no end"} {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				cert, _ := certificate(t, "mx.remote.example")
				s := r.site("remote.example", "192.0.2.1", &server{cert: cert, answer: reply(command, how)})
				r.queue(post{}, "bob@remote.example", "carol@remote.example")
				r.start()
				time.Sleep(4 * time.Minute)
				synctest.Wait()
				jobs := r.jobs()
				if command == "STARTTLS" && how == "999 odd" { // no, in some language
					if len(s.taken()) != 1 {
						t.Errorf("%s, %q: not sent in the clear: %+v", command, how, jobs)
					}
					return
				}
				if how == "250-no end" { // the host says no more: time passes
					time.Sleep(20 * time.Minute)
					synctest.Wait()
					jobs = r.jobs()
				}
				if len(jobs) != 2 || jobs[0].Attempts == 0 || jobs[0].LastText == "" || len(r.mail()) != 0 || len(s.taken()) > 0 && command != "." {
					t.Errorf("%s, %q: jobs %+v, mail %q\n%s", command, how, jobs, r.mail(), r.logged)
				}
				if command == "." && how == "drop" && !strings.Contains(jobs[0].LastText, "may arrive twice") {
					t.Errorf("%s, %q: %q", command, how, jobs[0].LastText)
				}
			})
		}
	}
}

type hostile struct {
	name  string
	serve func(net.Conn)
}

func hostilePeers() []hostile {
	say := func(c net.Conn, s string) bool {
		_, err := io.WriteString(c, s)
		return err == nil
	}
	read := func(c net.Conn) bool {
		_, err := bufio.NewReader(c).ReadString('\n')
		return err == nil
	}
	forever := func(line string) func(net.Conn) {
		return func(c net.Conn) {
			for n := 0; n < 4*maxReply && say(c, line); n += len(line) {
			}
		}
	}
	afterHello := func(line string) func(net.Conn) {
		return func(c net.Conn) {
			if say(c, "220 x\r\n") && read(c) {
				forever(line)(c)
			}
		}
	}
	hold := func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }
	return []hostile{
		{"says nothing", hold},
		{"closes at once", func(net.Conn) {}},
		{"endless banner", forever("220-hello\r\n")},
		{"endless banner without a line end", forever(strings.Repeat("x", 1000))},
		{"endless line of NUL", forever(strings.Repeat("\x00", 1000))},
		{"endless EHLO reply", afterHello("250-" + strings.Repeat("x", 500) + "\r\n")},
		{"8 kB lines", afterHello("250-" + strings.Repeat("x", 8192) + "\r\n")},
		{"reply without CRLF", func(c net.Conn) { _ = say(c, "220 x"); hold(c) }},
		{"no SMTP", func(c net.Conn) { _ = say(c, "HTTP/1.1 400 Bad Request\r\n\r\n") }},
		{"SSH", func(c net.Conn) { _ = say(c, "SSH-2.0-x\r\n"); hold(c) }},
		{"all replies at once", func(c net.Conn) {
			_ = say(c, "220 x\r\n250 x\r\n250 x\r\n250 x\r\n354 x\r\n250 x\r\n")
			hold(c)
		}},
		{"half TLS", func(c net.Conn) {
			if say(c, "220 x\r\n") && read(c) && say(c, "250-x\r\n250 STARTTLS\r\n") && read(c) && say(c, "220 go\r\n") {
				_ = say(c, "\x16\x03\x01\x00\x05")
				hold(c)
			}
		}},
		{"one octet a minute", func(c net.Conn) {
			for _, b := range []byte("220 " + strings.Repeat("slow ", 40) + "\r\n") {
				time.Sleep(time.Minute)
				if !say(c, string(b)) {
					return
				}
			}
			hold(c)
		}},
		{"silent after DATA", func(c net.Conn) {
			s := &server{answer: func(string) string { return "" }}
			s.answer = func(command string) string {
				if command == "." {
					time.Sleep(time.Hour)
				}
				return ""
			}
			s.serve(c)
		}},
	}
}

// TestHostilePeers: whatever a host does, an attempt ends in bounded time, the job stays, and the runner lives.
func TestHostilePeers(t *testing.T) {
	for _, tt := range hostilePeers() {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.dns.host("remote.example", "192.0.2.1")
				r.net.listen("192.0.2.1:25", tt.serve)
				living := r.site("good.example", "192.0.2.2", &server{})
				r.queue(post{}, "bob@remote.example")
				r.queue(post{}, "bob@good.example")
				r.runFor(22 * time.Minute)
				jobs := r.jobs()
				if len(jobs) != 1 || jobs[0].Attempts == 0 || jobs[0].LastText == "" || len(jobs[0].LastText) > store.MaxOutcomeText {
					t.Errorf("%s: jobs %+v\n%s", tt.name, jobs, r.logged)
				}
				if len(living.taken()) != 1 {
					t.Errorf("%s: the good host got nothing", tt.name)
				}
				if n := r.leased(); n != 0 {
					t.Errorf("%s: %d leases left", tt.name, n)
				}
			})
		})
	}
}

// TestManyBrokenConnections: a host that breaks every connection is left alone after two, whatever waits for it.
func TestManyBrokenConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.opts.Limits.PerDestination = 1
		s := r.site("remote.example", "192.0.2.1", &server{answer: reply("MAIL", "drop")})
		for range 50 {
			r.queue(post{}, "bob@remote.example")
		}
		r.runFor(time.Minute)
		if s.connections() != maxBroken {
			t.Errorf("%d connections, want %d", s.connections(), maxBroken)
		}
		attempts := 0
		for _, j := range r.jobs() {
			attempts += j.Attempts
			if j.LastText == "" || !j.NextAttempt.After(time.Now()) {
				t.Fatalf("job %+v", j)
			}
		}
		if attempts != maxBroken || len(r.jobs()) != 50 {
			t.Errorf("%d attempts, %d jobs", attempts, len(r.jobs()))
		}
	})
}

// TestPutOffInARow: a host that puts message after message off as a whole is not asked for the rest.
func TestPutOffInARow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.opts.Limits.PerDestination = 1
		s := r.site("remote.example", "192.0.2.1", &server{answer: reply("MAIL", "451 4.7.1 too fast")})
		for range 50 {
			r.queue(post{}, "bob@remote.example")
		}
		r.runFor(time.Minute)
		if got := s.served("MAIL"); got != maxPutOff {
			t.Errorf("%d messages offered, want %d", got, maxPutOff)
		}
	})
}

// TestSlowButSteady: a large message over a slow line arrives, because time-outs go by progress.
func TestSlowButSteady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		s := &server{}
		r.dns.host("remote.example", "192.0.2.1")
		r.net.listen("192.0.2.1:25", func(c net.Conn) { s.serve(slowReader{c}) })
		body := "A: b\r\n\r\n" + strings.Repeat(strings.Repeat("x", 98)+"\r\n", 2000)
		r.queue(post{body: body}, "bob@remote.example")
		r.runFor(90 * time.Minute)
		if l := s.taken(); len(l) != 1 || l[0].data != body {
			t.Errorf("%d letters, jobs %+v", len(l), r.jobs())
		}
	})
}

// slowReader takes its time for each 4 kB: 50 of them need longer than any one time-out.
type slowReader struct{ net.Conn }

func (s slowReader) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	if n > 1000 {
		time.Sleep(time.Minute)
	}
	return n, err
}

// TestDamagedBody: a message that the store cannot read is never sent in part and never bounces; the operator is told.
func TestDamagedBody(t *testing.T) {
	for _, after := range []int{-1, 0, 10_000} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			s := r.site("remote.example", "192.0.2.1", &server{})
			r.queue(post{body: "A: b\r\n\r\n" + strings.Repeat(strings.Repeat("x", 98)+"\r\n", 1000)}, "bob@remote.example")
			r.through = &faulty{Store: r.store, openJob: func(rc io.ReadCloser, err error) (io.ReadCloser, error) {
				if after < 0 {
					return nil, store.ErrDamaged
				}
				return struct {
					io.Reader
					io.Closer
				}{io.MultiReader(io.LimitReader(rc, int64(after)), failing{}), rc}, err
			}}
			r.runFor(time.Minute)
			j := r.jobs()
			if len(s.taken()) != 0 || len(j) != 1 || !strings.Contains(j[0].LastText, "stored message cannot be read") || len(r.mail()) != 0 {
				t.Errorf("after %d octets: letters %+v, jobs %+v", after, s.taken(), j)
			}
			if !strings.Contains(r.logged.String(), "level=ERROR msg=\"outgoing mail waits for the operator\"") {
				t.Errorf("after %d octets: not logged", after)
			}
		})
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, fmt.Errorf("block 7: %w", store.ErrDamaged) }
