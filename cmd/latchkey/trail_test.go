package main

import (
	"regexp"
	"strings"
	"testing"

	"latchkey/webmanager"
)

// wantTimeline compares what the trail says with patterns, one a line, in order.
func (s *testServer) wantTimeline(want []string, args ...string) {
	s.t.Helper()
	out := s.mustRun(append([]string{"trail"}, args...)...)
	lines := strings.Split(strings.TrimRight(out, "\n"), "\n")
	if len(lines) != len(want) {
		s.t.Errorf("trail %q has %d lines, want %d:\n%s", args, len(lines), len(want), out)
		return
	}
	for i, pattern := range want {
		if !regexp.MustCompile(`^(  \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ  )?` + pattern + `$`).MatchString(lines[i]) {
			s.t.Errorf("trail %q, line %d is\n%s\nwant\n%s", args, i+1, lines[i], pattern)
		}
	}
}

// TestTimeline: one message out of the domain, put off once, and one within it, that its owner fetches and deletes; each is one timeline from its
// client to its end, and is found by whatever somebody knows of it. What is delivered can be proved.
func TestTimeline(t *testing.T) {
	first := true
	world := newSink(t, func(s *sink) {
		s.answer = func(string) string {
			if first {
				first = false
				return "450 4.2.0 greylisted, come back"
			}
			return ""
		}
	})
	s := newTestServer(t, "example.com")
	s.sendsTo(world.port(), "other.example")
	s.start()
	s.addAccount("anna", "password of anna")
	s.addAccount("bert", "password of bert")
	scanner := s.addDevice("anna", "Scanner")
	s.send("anna", scanner, []string{"otto@other.example"}, message("Invoice of the plumber"))
	eventually(t, "an attempt", func() bool { jobs := s.queue(); return len(jobs) == 1 && jobs[0].Attempts == 1 })
	s.retryAll()
	world.wait(1)
	eventually(t, "an empty queue", func() bool { return len(s.queue()) == 0 })
	s.send("anna", "password of anna", []string{"bert@example.com"}, message("Holidays"))
	p := s.pop("pop3s")
	if err := p.login("bert", "password of bert"); err != nil {
		t.Fatal(err)
	}
	p.multi("RETR 1")
	p.must("DELE 1")
	p.must("QUIT")
	const client, host = `from 127\.0\.0\.1 by `, `mail\.other\.example \[127\.0\.0\.1\]`
	out := []string{
		`message [0-9a-f]{16}, \d+ octets, <.*>`,
		`accepted from <anna@example\.com>, by the mailbox anna, with the password of the device "Scanner", ` + client + `submission with TLS 1\.3`,
		`for <otto@other\.example>: queued`,
		`for <otto@other\.example>: not yet, it is tried again: ` + host + `: 450 4\.2\.0 greylisted, come back`,
		`for <otto@other\.example>: to be tried now, by hand`,
		`for <otto@other\.example>: delivered: ` + host + `: 250 2\.0\.0 taken`,
	}
	home := []string{
		`message [0-9a-f]{16}, \d+ octets, <.*>`,
		`accepted from <anna@example\.com>, by the mailbox anna, ` + client + `submission with TLS 1\.3`,
		`for <bert@example\.com>: put into the mailbox bert`,
		`from the mailbox of <bert@example\.com>: fetched, ` + client + `pop3 with TLS 1\.3`,
		`from the mailbox of <bert@example\.com>: deleted, ` + client + `pop3 with TLS 1\.3`,
	}
	for _, args := range [][]string{{"otto@other.example"}, {"--to", "otto@other.example"}, {"--subject", "invoice PLUMBER"}, {"--from", "anna", "--subject", "plumber"}} {
		s.wantTimeline(out, args...)
	}
	for _, args := range [][]string{{"bert"}, {"--subject", "holidays"}, {"--mailbox", "bert"}, {"--to", "bert", "--since", "1h"}} {
		s.wantTimeline(home, args...)
	}
	var both webmanager.TrailResult
	s.do("GET", "/v1/trail?mailbox=anna", nil, &both)
	if len(both.Messages) != 2 || both.Next != "" {
		t.Fatalf("trail of anna: %+v", both)
	}
	s.do("GET", "/v1/trail?subject=holidays+invoice", nil, &both)
	if len(both.Messages) != 0 {
		t.Errorf("two messages are taken for one: %+v", both)
	}
	if out := s.mustRun("trail", "--json", "bert"); strings.Contains(strings.ToLower(out), "holidays") || strings.Contains(out, "ubject") {
		t.Errorf("the trail tells of the subject: %s", out)
	}
	var found webmanager.TrailResult
	s.do("GET", "/v1/trail?to=otto@other.example", nil, &found)
	_, token, _ := s.latchkey("trail", "proof", found.Messages[0].ID.String())
	said := s.mustRun("trail", "verify", strings.TrimSpace(token))
	if !strings.Contains(said, "from anna@example.com to otto@other.example was delivered") || !strings.Contains(said, "127.0.0.1") || strings.Contains(said, "plumber") {
		t.Errorf("the proof says\n%s", said)
	}
}

// TestRemoveWithBounce: what is taken out of the queue with a bounce is not tried, and its sender is told once, with the reason; without one nobody is.
func TestRemoveWithBounce(t *testing.T) {
	world := newSink(t, func(s *sink) { s.answer = func(string) string { return "450 4.2.0 not now" } })
	s := newTestServer(t, "example.com")
	s.sendsTo(world.port(), "other.example")
	s.start()
	s.addAccount("anna", "password of anna")
	s.send("anna", "password of anna", []string{"a@other.example", "b@other.example", "c@other.example"}, message("three"))
	eventually(t, "attempts", func() bool {
		tried := 0
		for _, j := range s.queue() {
			tried += min(j.Attempts, 1)
		}
		return tried == 3
	})
	s.mustRun("queue", "remove", "--to", "c@other.example", "--yes")
	s.mustRun("queue", "remove", "--to", "a@other.example", "--yes", "--bounce", "--reason", "sent by mistake")
	bounce := s.arrived("anna", "password of anna", 1)[0]
	checkBounce(t, bounce, "a@other.example", "5.7.0", "taken out of the queue by hand: sent by mistake")
	eventually(t, "one job left", func() bool { return len(s.queue()) == 1 })
	s.mustRun("queue", "remove", "--from", "anna@example.com", "--yes", "--bounce")
	eventually(t, "an empty queue", func() bool { return len(s.queue()) == 0 })
	s.arrived("anna", "password of anna", 2)
	if got := world.wait(0); len(got) != 0 {
		t.Errorf("delivered: %+v", got)
	}
}
