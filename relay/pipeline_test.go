package relay

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// pipelining is what a modern host announces.
func pipelining(more ...string) []string {
	return append([]string{"PIPELINING", "8BITMIME", "DSN"}, more...)
}

// TestPipelining: the sender, the recipients and DATA go in one group (RFC 2920 §3.1), to a host that announces it and to no other.
func TestPipelining(t *testing.T) {
	for _, tt := range []struct {
		name     string
		caps     []string
		commands []string // behind EHLO, with how many had come together
	}{
		{"none", []string{}, []string{"1 MAIL", "1 RCPT", "1 RCPT", "1 DATA", "1 QUIT"}},
		{"PIPELINING", pipelining(), []string{"1 MAIL", "2 RCPT", "3 RCPT", "4 DATA", "1 QUIT"}},
		{"CHUNKING", []string{"CHUNKING"}, []string{"1 MAIL", "1 RCPT", "1 RCPT", "1 BDAT", "1 QUIT"}},
		{"both", pipelining("CHUNKING"), []string{"1 MAIL", "2 RCPT", "3 RCPT", "1 BDAT", "1 QUIT"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				s := r.site("remote.example", "192.0.2.1", &server{caps: tt.caps})
				r.queue(post{}, "bob@remote.example", "carol@remote.example")
				r.runFor(5 * time.Second)
				var got []string
				for i, c := range s.commands()[1:] {
					got = append(got, fmt.Sprint(s.groups[i+1], " ", c[:4]))
				}
				if !slices.Equal(got, tt.commands) {
					t.Errorf("commands %q, want %q", got, tt.commands)
				}
				if l := s.taken(); len(l) != 1 || len(l[0].to) != 2 || l[0].data != usualBody || len(r.jobs()) != 0 {
					t.Errorf("letters %+v, jobs %+v", l, r.jobs())
				}
			})
		})
	}
}

// TestPipelinedRefusals: each reply of a group belongs to its command, and the connection serves the next message whatever was refused.
func TestPipelinedRefusals(t *testing.T) {
	replies := func(words map[string]string) func(string) string {
		return func(c string) string {
			for part, reply := range words {
				if strings.Contains(c, part) {
					return reply
				}
			}
			return ""
		}
	}
	for _, tt := range []struct {
		name    string
		answers map[string]string
		caps    []string
		letters int // of the first message's recipients, one each
		left    int // jobs that wait
		bounced int
		resets  int
	}{
		{"all good", nil, pipelining(), 3, 0, 0, 0},
		{"one refused", map[string]string{"r1@": "550 5.1.1 no"}, pipelining(), 2, 0, 1, 0},
		{"the first put off, the last refused", map[string]string{"r0@": "450 4.2.1 later", "r2@": "550 5.1.1 no"}, pipelining(), 1, 1, 1, 0},
		{"all refused, DATA too", map[string]string{"@remote": "550 5.1.1 no"}, pipelining(), 0, 0, 4, 2},
		{"all refused, DATA wanted", map[string]string{"r0@": "550 no", "r1@": "550 no", "r2@": "550 no", "DATA": "354 do"}, pipelining(), 0, 0, 3, 1},
		{"DATA refused", map[string]string{"DATA": "451 4.3.0 no"}, pipelining(), 0, 4, 0, 2},
		{"MAIL put off", map[string]string{"MAIL": "451 4.3.0 no"}, pipelining(), 0, 4, 0, 2},
		{"MAIL put off, DATA wanted", map[string]string{"MAIL": "451 4.3.0 no", "DATA": "354 do"}, pipelining(), 0, 4, 0, 2},
		{"BDAT unknown", map[string]string{"BDAT": "500 5.5.2 what"}, pipelining("CHUNKING"), 3, 0, 0, 1},
		{"BDAT refused", map[string]string{"BDAT": "554 5.6.0 spam"}, pipelining("CHUNKING"), 0, 0, 4, 2},
		{"BDAT put off", map[string]string{"BDAT": "451 4.3.0 later"}, pipelining("CHUNKING"), 0, 4, 0, 2},
		{"all refused by BDAT's host", map[string]string{"@remote": "550 5.1.1 no"}, pipelining("CHUNKING"), 0, 0, 4, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				s := r.site("remote.example", "192.0.2.1", &server{caps: tt.caps, answer: replies(tt.answers)})
				r.queue(post{}, "r0@remote.example", "r1@remote.example", "r2@remote.example")
				r.queue(post{}, "second@remote.example")
				r.runFor(time.Second)
				took := 0
				for _, l := range s.taken() {
					took += len(l.to)
				}
				second := 1
				if len(r.jobs()) == 4 || tt.bounced == 4 {
					second = 0
				}
				bounced := 0
				for _, m := range r.mail() {
					bounced += len(readReport(t, m).recipients)
				}
				if took != tt.letters+second || len(r.jobs()) != tt.left || bounced != tt.bounced {
					t.Errorf("%d delivered, %d wait, %d bounced, want %d, %d, %d\n%q", took, len(r.jobs()), bounced, tt.letters+second, tt.left, tt.bounced, s.commands())
				}
				if s.connections() != 1 || s.served("RSET") != tt.resets {
					t.Errorf("%d connections, %d resets, want 1 and %d: %q", s.connections(), s.served("RSET"), tt.resets, s.commands())
				}
			})
		})
	}
}

// TestPipelinedDrops: a host that drops or says 421 at any command of a group leaves all recipients queued, and is left.
func TestPipelinedDrops(t *testing.T) {
	for _, chunking := range []string{"", "CHUNKING"} {
		for _, command := range []string{"MAIL", "RCPT TO:<bob", "RCPT TO:<carol", "DATA", ".", "BDAT"} {
			for _, how := range []string{"drop", "421 4.3.2 closing", "garbage", "999 odd"} {
				synctest.Test(t, func(t *testing.T) {
					r := newRig(t)
					s := r.site("remote.example", "192.0.2.1", &server{caps: pipelining(chunking), answer: reply(command, how)})
					r.queue(post{}, "bob@remote.example", "carol@remote.example")
					r.runFor(30 * time.Second)
					if chunking != "" && command == "DATA" || chunking == "" && command == "BDAT" {
						if len(r.jobs()) != 0 {
							t.Errorf("%s is not used, and yet: %+v", command, r.jobs())
						}
						return
					}
					for _, j := range r.jobs() {
						if j.Attempts != 1 || j.LastText == "" {
							t.Errorf("%s, %q: job %+v", command, how, j)
						}
					}
					if len(r.jobs()) != 2 || len(r.mail()) != 0 || s.connections() != 1 {
						t.Errorf("%s %s, %q: %d jobs, %d connections, mail %q", chunking, command, how, len(r.jobs()), s.connections(), r.mail())
					}
				})
			}
		}
	}
}

// TestChunkEdge: a message of maxChunk octets goes by BDAT, a larger one by DATA, and both arrive whole.
func TestChunkEdge(t *testing.T) {
	for _, size := range []int{maxChunk - 1, maxChunk, maxChunk + 1} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			s := r.site("remote.example", "192.0.2.1", &server{caps: pipelining("CHUNKING")})
			body := "From: a\r\n\r\n.dot\r\n"
			body += strings.Repeat("x", 72) + "\r\n"
			body = strings.Repeat("x", size-len(body)-4) + ": \r\n" + body
			r.queue(post{body: body}, "bob@remote.example")
			r.runFor(time.Second)
			if l := s.taken(); len(l) != 1 || l[0].data != body {
				t.Fatalf("%d octets: %d letters", size, len(l))
			}
			if chunks := s.served("BDAT"); (chunks == 1) != (size <= maxChunk) || s.served("DATA") != 1-chunks {
				t.Errorf("%d octets: commands %q", size, s.commands())
			}
		})
	}
}

// TestLimitsHonoured: no more domains in a transaction and no more transactions on a connection than the host takes (RFC 9422 §4).
func TestLimitsHonoured(t *testing.T) {
	for _, caps := range [][]string{pipelining("LIMITS MAILMAX=2 RCPTDOMAINMAX=2"), {"LIMITS RCPTDOMAINMAX=2 MAILMAX=2"}} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			r.opts.Limits.PerDestination = 1
			r.opts.Smarthost = &Smarthost{Addr: "192.0.2.1:587"}
			s := &server{caps: caps}
			r.net.listen("192.0.2.1:587", s.serve)
			r.queue(post{}, "a@a.example", "b@b.example", "aa@a.example", "c@c.example", "d@d.example", "e@e.example")
			r.runFor(5 * time.Second)
			total := 0
			for _, l := range s.taken() {
				domains := map[string]bool{}
				for _, to := range l.to {
					domains[to[strings.Index(to, "@"):strings.Index(to, ">")]] = true
				}
				if total += len(l.to); len(domains) > 2 {
					t.Errorf("%d domains in one transaction: %q", len(domains), l.to)
				}
			}
			if n := len(s.taken()); total != 6 || n < 3 || s.connections() != (n+1)/2 {
				t.Errorf("%d recipients in %d transactions over %d connections", total, n, s.connections())
			}
		})
	}
}
