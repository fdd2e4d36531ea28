//go:build interop

package main

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"latchkey/store"
)

// oldInteropServer is interopServer with the doors for old clients too, which are open for everybody, and with sealed passwords.
func oldInteropServer(t *testing.T) *testServer {
	t.Helper()
	const loopback = "127.0.0.1:0"
	s := newTestServer(t, "example.com")
	l := &s.config.Listen
	l.OldPOP3, l.OldPOP3S, l.OldSubmission, l.OldSMTPS = []string{loopback}, []string{loopback}, []string{loopback}, []string{loopback}
	s.inStore(func(st store.Store) {
		settings, err := st.Settings(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		settings.OldClientLogin = true
		if _, err := st.UpdateSettings(t.Context(), settings); err != nil {
			t.Fatal(err)
		}
	})
	s.start()
	for name, password := range map[string]string{"anna": annasPassword, "bert": bertsPassword} {
		s.addAccount(name, password)
		if err := s.pop("pop3s").login(name, password); err != nil { // at which the password is sealed
			t.Fatal(err)
		}
	}
	return s
}

// challengedBy checks that the last login was with a mechanism, as the log has it.
func (s *testServer) challengedBy(mechanism string, from int) {
	s.t.Helper()
	want := "mechanism=" + strings.ToUpper(strings.TrimPrefix(mechanism, "+"))
	if log := s.log.String()[from:]; !strings.Contains(log, want) {
		s.t.Errorf("the log says nothing of %s:\n%s", want, log)
	}
}

// TestInteropFetchByChallenge: programs log in by APOP, CRAM-MD5, SCRAM-SHA-1 and SCRAM-SHA-256 at the doors for old clients, and fetch every octet.
func TestInteropFetchByChallenge(t *testing.T) {
	s := oldInteropServer(t)
	for _, p := range fetchingPrograms {
		for _, sec := range p.securities {
			for _, mechanism := range p.challenges {
				if p.name == "fetchmail" && sec == startTLS && mechanism == "apop" {
					continue // it knows no STLS with APOP, and would log in without
				}
				t.Run(fmt.Sprintf("%s/%s/%s", p.name, sec, mechanism), func(t *testing.T) {
					need(t, p.program)
					s.send("anna", annasPassword, []string{"bert@example.com"}, "Subject: "+p.name+"\r\nFrom: anna@example.com\r\n\r\n"+nastyBody)
					want, before := s.bertsMail(t), len(s.log.String())
					p.octets.compare(t, p.fetch(t, s, sec, mechanism, t.TempDir(), false), want)
					s.challengedBy(mechanism, before)
					if left := s.fetch("bert", bertsPassword); len(left) != 0 {
						t.Errorf("%d messages left, want none", len(left))
					}
				})
			}
		}
	}
}

// TestInteropSendByChallenge: programs send by CRAM-MD5 at the doors for old clients.
func TestInteropSendByChallenge(t *testing.T) {
	s := oldInteropServer(t)
	for _, p := range sendingPrograms {
		for _, sec := range p.securities {
			t.Run(fmt.Sprintf("%s/%s", p.name, sec), func(t *testing.T) {
				need(t, p.program)
				before, said := len(s.fetch("bert", bertsPassword)), len(s.log.String())
				subject := fmt.Sprintf("from %s by %s", p.name, sec)
				p.send(t, s, sec, p.challenge, "Subject: "+subject+"\r\nFrom: anna@example.com\r\nTo: bert@example.com\r\n\r\nbody\r\n.dot\r\n..\r\n")
				s.challengedBy("CRAM-MD5", said)
				messages := s.fetch("bert", bertsPassword)
				if len(messages) != before+1 || !strings.Contains(messages[before], "Subject: "+subject+"\n") ||
					!strings.Contains(messages[before], "\n\nbody\n.dot\n..\n") {
					t.Errorf("%d messages more, want 1: %q", len(messages)-before, messages[before:])
				}
			})
		}
	}
}

// gate holds back the replies from the first RETR on until the client has sent another command, or long enough.
type gate struct {
	asked, more   chan struct{} // closed at the first RETR and at the next command
	once, another sync.Once
	first         sync.Once // reply that is held back
	pipelined     atomic.Bool
}

func newGate() *gate { return &gate{asked: make(chan struct{}), more: make(chan struct{})} }

// heard is told of each line of the client's before it is handed on.
func (g *gate) heard(line string) {
	select {
	case <-g.asked:
		g.another.Do(func() { close(g.more) })
	default:
		if strings.HasPrefix(line, "RETR ") {
			g.once.Do(func() { close(g.asked) })
		}
	}
}

// wait is called before each line of the server's is handed on.
func (g *gate) wait() {
	const longEnough = 2 * time.Second
	select {
	case <-g.asked:
	default:
		return
	}
	g.first.Do(func() {
		select {
		case <-g.more:
			g.pipelined.Store(true)
		case <-time.After(longEnough):
		}
	})
}

// TestInteropPipelining: which programs send commands before they have the replies to those before, and that they get every octet.
func TestInteropPipelining(t *testing.T) {
	for _, p := range fetchingPrograms {
		t.Run(p.name, func(t *testing.T) {
			need(t, p.program)
			t.Parallel()
			s := interopServer(t)
			for n := range 3 {
				s.send("anna", annasPassword, []string{"bert@example.com"}, fmt.Sprintf("Subject: %d\r\nFrom: anna@example.com\r\n\r\n%s", n, nastyBody))
			}
			want, g := s.bertsMail(t), newGate()
			_, s.proxied = recordProxy(t, s.addr("pop3"), g)
			p.octets.compare(t, p.fetch(t, s, cleartext, p.mechanisms[0], t.TempDir(), false), want)
			if g.pipelined.Load() != p.pipelines {
				t.Errorf("pipelines: %v, want %v", g.pipelined.Load(), p.pipelines)
			}
		})
	}
}

// TestInteropTOP: curl and fetchmail get by TOP what RETR has: the header and so many lines, or all.
func TestInteropTOP(t *testing.T) {
	need(t, "curl", "fetchmail")
	s := interopServer(t)
	s.send("anna", annasPassword, []string{"bert@example.com"}, "Subject: top\r\nFrom: anna@example.com\r\n\r\n"+nastyBody)
	whole := s.bertsMail(t)[0]
	header, body, _ := strings.Cut(whole, "\r\n\r\n")
	url := "pop3://127.0.0.1:" + s.port(cleartext, "pop3", "pop3s")
	for lines := range strings.Count(body, "\r\n") + 2 {
		want := header + "\r\n\r\n"
		for i, line := range strings.SplitAfter(body, "\r\n") {
			if i < lines {
				want += line
			}
		}
		if got := run(t, "", "curl", "-sS", "-u", "bert@example.com:"+bertsPassword, "-X", fmt.Sprintf("TOP 1 %d", lines), url); got != want {
			t.Errorf("TOP 1 %d: %s", lines, differs(got, want))
		}
	}
	r, port := recordProxy(t, s.addr("pop3"), nil)
	s.proxied = port
	lineForLine.compare(t, fetchFetchmail(t, s, cleartext, "password", t.TempDir(), true), []string{whole})
	if said := strings.Join(r.dialogue(), "\n"); !strings.Contains(said, "C: TOP 1 99999999") || strings.Contains(said, "C: RETR") {
		t.Errorf("fetchmail did not use TOP:\n%s", said)
	}
}

// TestInteropUniqueIDs: what curl lists by UIDL over three sessions, between which the first message is deleted and a new one comes.
func TestInteropUniqueIDs(t *testing.T) {
	need(t, "curl")
	s := interopServer(t)
	send := func() {
		s.send("anna", annasPassword, []string{"bert@example.com"}, "Subject: x\r\nFrom: anna@example.com\r\n\r\nbody\r\n")
	}
	send()
	send()
	url := "pop3://127.0.0.1:" + s.port(cleartext, "pop3", "pop3s")
	seen, last := map[string]bool{}, ""
	for session := range 3 {
		var ids []string
		for line := range strings.Lines(run(t, "", "curl", "-sS", "-u", "bert@example.com:"+bertsPassword, "-X", "UIDL", url)) {
			var n int
			var id string
			if _, err := fmt.Sscanf(line, "%d %s", &n, &id); err != nil || n != len(ids)+1 {
				t.Fatalf("session %d: %q: %v", session+1, line, err)
			}
			ids = append(ids, id)
		}
		if len(ids) != 2 || session > 0 && ids[0] != last || seen[ids[1]] {
			t.Errorf("session %d: %v, want what was second, %s, and a new one", session+1, ids, last)
		}
		last, seen[ids[0]], seen[ids[1]] = ids[1], true, true
		run(t, "", "curl", "-sS", "-u", "bert@example.com:"+bertsPassword, "-l", "-X", "DELE", url+"/1")
		send()
	}
}
