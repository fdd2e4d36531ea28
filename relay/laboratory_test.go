package relay

import (
	"crypto/tls"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/store"
)

// TestGreetedWith421: a host that is closing as it greets is tried again, and delivered to once it is open.
func TestGreetedWith421(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		s := r.site("remote.example", "192.0.2.1", &server{})
		closing := &server{greeting: "421 4.3.2 closing"}
		begin := time.Now()
		r.net.listen("192.0.2.1:25", func(c net.Conn) {
			if time.Since(begin) < time.Minute {
				closing.serve(c)
				return
			}
			s.serve(c)
		})
		r.queue(post{}, "bob@remote.example")
		r.start()
		time.Sleep(time.Minute)
		synctest.Wait()
		if j := r.jobs(); len(j) != 1 || j[0].Attempts != 1 || !strings.Contains(j[0].LastText, "421 4.3.2 closing") || closing.connections() != 1 {
			t.Errorf("jobs %+v, %d connections", j, closing.connections())
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if len(s.taken()) != 1 || len(r.jobs()) != 0 || len(r.mail()) != 0 {
			t.Errorf("%d letters, jobs %+v", len(s.taken()), r.jobs())
		}
	})
}

// TestGoodbyes: what a host does when all is said, to RSET behind a refusal and to QUIT behind a message, changes no verdict.
func TestGoodbyes(t *testing.T) {
	for _, command := range []string{"RSET", "QUIT"} {
		for _, how := range []string{"drop", "421 4.3.2 closing", "garbage", "554 no"} {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				s := r.site("remote.example", "192.0.2.1", &server{answer: func(c string) string {
					switch {
					case strings.HasPrefix(c, "RCPT TO:<bad"):
						return "550 5.1.1 no"
					case strings.HasPrefix(c, command):
						return how
					}
					return ""
				}})
				r.queue(post{}, "bad@remote.example")
				r.queue(post{}, "bob@remote.example")
				r.runFor(time.Minute)
				if s.served(command) == 0 || len(s.taken()) != 1 || len(r.jobs()) != 0 || len(r.mail()) != 1 {
					t.Errorf("%s, %q: commands %q, jobs %+v, %d bounces", command, how, s.commands(), r.jobs(), len(r.mail()))
				}
			})
		}
	}
}

// TestCutInTheBody: a host that closes, with 421 or without a word, while the message is on its way has half of it, which is none: it gets
// the whole at the next attempt.
func TestCutInTheBody(t *testing.T) {
	body := "A: b\r\n\r\n" + strings.Repeat(strings.Repeat("x", 98)+"\r\n", 2000)
	for _, last := range []string{"", "421 4.3.2 closing\r\n", "452 4.3.1 full\r\n"} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			s := r.site("remote.example", "192.0.2.1", &server{})
			cut := &server{}
			begin := time.Now()
			r.net.listen("192.0.2.1:25", func(c net.Conn) {
				if time.Since(begin) > 4*time.Minute {
					s.serve(c)
					return
				}
				cut.serve(&cutReader{Conn: c, left: 50_000, last: last})
			})
			r.queue(post{body: body}, "bob@remote.example")
			r.start()
			time.Sleep(4 * time.Minute) // a pipe has no buffer: a last word is heard when the sender gives up writing
			synctest.Wait()
			if j := r.jobs(); len(j) != 1 || j[0].Attempts != 1 || j[0].LastText == "" || len(cut.taken()) != 0 || cut.served("DATA") != 1 {
				t.Errorf("%q: jobs %+v, commands %q", last, j, cut.commands())
			}
			time.Sleep(10 * time.Minute)
			synctest.Wait()
			if l := s.taken(); len(l) != 1 || l[0].data != body || len(r.jobs()) != 0 || len(r.mail()) != 0 {
				t.Errorf("%q: %d letters, jobs %+v", last, len(l), r.jobs())
			}
		})
	}
}

// cutReader reads so much, says a last word, and closes.
type cutReader struct {
	net.Conn
	left int
	last string
}

func (c *cutReader) Read(p []byte) (int, error) {
	if c.left <= 0 {
		if c.last != "" {
			_, _ = io.WriteString(c.Conn, c.last) // the other end may be gone
		}
		return 0, io.ErrUnexpectedEOF
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

// TestDiesUnderTLS: a host whose TLS begins and then says nothing, or breaks, gets no message in part and none twice; the attempt ends in bounded
// time and the message waits.
func TestDiesUnderTLS(t *testing.T) {
	cert, _ := certificate(t, "mx.remote.example")
	for _, command := range []string{"EHLO", "MAIL", "RCPT", "DATA", "."} {
		for _, how := range []string{"drop", "silence"} {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				var hellos atomic.Int64
				s := r.site("remote.example", "192.0.2.1", &server{cert: cert, answer: func(c string) string {
					if c == "EHLO mail.example.org" {
						hellos.Add(1)
					}
					if hellos.Load()%2 == 1 || !strings.HasPrefix(c, command) { // the first is in the clear
						return ""
					}
					if how == "silence" {
						time.Sleep(time.Hour)
					}
					return "drop"
				}})
				r.queue(post{}, "bob@remote.example")
				r.runFor(11 * time.Minute)
				j := r.jobs()
				if len(j) != 1 || j[0].Attempts == 0 || j[0].LastText == "" || len(s.taken()) != 0 || len(r.mail()) != 0 || r.leased() != 0 {
					t.Errorf("%s, %s: jobs %+v, letters %+v", command, how, j, s.taken())
				}
			})
		}
	}
}

// TestExpiredCertificate: to other domains mail goes though the certificate holds for nothing; a smarthost that has to prove itself gets none.
func TestExpiredCertificate(t *testing.T) {
	for _, mode := range []TLSMode{TLSOpportunistic, TLSVerify} {
		synctest.Test(t, func(t *testing.T) {
			cert, pool := certificate(t, "smart.example")
			time.Sleep(100 * 365 * 24 * time.Hour) // beyond its end
			r := newRig(t)
			s := &server{cert: cert}
			r.dns.host("smart.example", "192.0.2.1")
			r.net.listen("192.0.2.1:25", s.serve)
			r.opts.Smarthost = &Smarthost{Addr: "smart.example:25", TLS: mode}
			r.opts.TLS = &tls.Config{RootCAs: pool}
			r.queue(post{}, "bob@remote.example")
			r.runFor(time.Second)
			switch j := r.jobs(); {
			case mode == TLSOpportunistic && (len(s.taken()) != 1 || !s.taken()[0].tls):
				t.Errorf("letters %+v, jobs %+v", s.taken(), j)
			case mode == TLSVerify && (len(j) != 1 || !strings.Contains(j[0].LastText, "has expired or is not valid yet") || s.served("MAIL") != 0):
				t.Errorf("jobs %+v, commands %q", j, s.commands())
			}
		})
	}
}

// TestMuchSaid: a refusal of 8 kB in lines ends in bounded words and takes nothing from the recipients beside it. One line of 8 kB is more than
// it may have (RFC 5321 §4.5.3.1.5), but says what it says: what the host took is not sent again.
func TestMuchSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		said := strings.Repeat("550-5.1.1 "+strings.Repeat("x", 490)+"\n", 16) + "550 5.1.1 end"
		s := r.site("remote.example", "192.0.2.1", &server{answer: reply("RCPT TO:<bad", said)})
		receipt := r.queue(post{}, "bad@remote.example", "bob@remote.example")
		r.runFor(time.Minute)
		mail := r.mail()
		if len(s.taken()) != 1 || len(s.taken()[0].to) != 1 || len(r.jobs()) != 0 || len(mail) != 1 {
			t.Fatalf("letters %d, jobs %+v, bounces %q\n%s", len(s.taken()), r.jobs(), mail, r.logged)
		}
		report := readReport(t, mail[0])
		if got := report.recipients[0]; got.Get("Status") != "5.1.1" || len(got.Get("Diagnostic-Code")) > 2*store.MaxOutcomeText {
			t.Errorf("report: %v", got)
		}
		for _, e := range r.trail(receipt.Message) {
			if len(e) > store.MaxOutcomeText+200 {
				t.Errorf("the trail has %d octets of it", len(e))
			}
		}
	})
	for _, command := range []string{"EHLO", "MAIL", "RCPT", "DATA", "."} {
		code := "250"
		if command == "DATA" {
			code = "354"
		}
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			s := r.site("remote.example", "192.0.2.1", &server{answer: reply(command, code+" 2.1.5 "+strings.Repeat("x", 8192))})
			receipt := r.queue(post{}, "bob@remote.example")
			r.runFor(time.Minute)
			if len(s.taken()) != 1 || len(r.jobs()) != 0 {
				t.Errorf("%s: %d letters, jobs %+v", command, len(s.taken()), r.jobs())
			}
			for _, e := range r.trail(receipt.Message) {
				if len(e) > store.MaxOutcomeText+200 {
					t.Errorf("%s: the trail has %d octets of it", command, len(e))
				}
			}
		})
	}
}

// TestReplyLine: lines are cut at maxReplyLine wherever the reads end, and what follows them is whole.
func TestReplyLine(t *testing.T) {
	for _, n := range []int{maxReplyLine - 1, maxReplyLine, maxReplyLine + 1, 3 * maxReplyLine} {
		for _, size := range []int{1, 7, 4096} {
			line := strings.Repeat("x", n)
			w := newWire(canned{r: strings.NewReader(line + "\r\n" + line + "\n250 end\r\n")}, time.Minute, time.Minute)
			var got []byte
			buf := make([]byte, size)
			for {
				k, err := w.Read(buf)
				got = append(got, buf[:k]...)
				if err != nil {
					break
				}
			}
			cut := line[:min(n, maxReplyLine)]
			if want := cut + "\r\n" + cut + "\n250 end\r\n"; string(got) != want {
				t.Errorf("lines of %d in reads of %d: %d octets, want %d", n, size, len(got), len(want))
			}
		}
	}
}

// TestTarpit: a host that takes its time for each answer gets its message, and meanwhile others have theirs at once.
func TestTarpit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		slow := r.site("slow.example", "192.0.2.1", &server{answer: func(c string) string {
			if !strings.HasPrefix(c, "QUIT") {
				time.Sleep(100 * time.Second)
			}
			return ""
		}})
		quick := r.site("quick.example", "192.0.2.2", &server{})
		r.queue(post{}, "bob@slow.example")
		r.start()
		for range 5 {
			time.Sleep(10 * time.Second)
			r.queue(post{}, "bob@quick.example")
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if len(quick.taken()) != 5 || len(slow.taken()) != 0 {
			t.Errorf("%d quick letters, %d slow ones", len(quick.taken()), len(slow.taken()))
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if len(slow.taken()) != 1 || slow.connections() != 1 || len(r.jobs()) != 0 {
			t.Errorf("%d slow letters over %d connections, jobs %+v", len(slow.taken()), slow.connections(), r.jobs())
		}
	})
}
