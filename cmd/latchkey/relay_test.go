package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/textproto"
	"strconv"
	"strings"
	"testing"
	"time"

	"latchkey/internal/resolver/resolvertest"
	"latchkey/store"
)

// port is the port of a door.
func (s *testServer) portOf(door string) int {
	s.t.Helper()
	return int(netip.MustParseAddrPort(s.addr(door)).Port())
}

// twoServers are example.com, with anna, and other.example, with otto, to which the first delivers.
func twoServers(t *testing.T) (home, away *testServer, dns *resolvertest.Server) {
	t.Helper()
	away = startServer(t, "other.example")
	away.addAccount("otto", "password of otto")
	home = newTestServer(t, "example.com")
	dns = home.sendsTo(away.portOf("mx"), "other.example")
	home.start()
	home.addAccount("anna", "password of anna")
	return home, away, dns
}

// arrived waits for the number of messages in a mailbox.
func (s *testServer) arrived(user, password string, n int) []string {
	s.t.Helper()
	var messages []string
	eventually(s.t, strconv.Itoa(n)+" messages for "+user, func() bool {
		messages = s.fetch(user, password)
		return len(messages) >= n
	})
	if len(messages) > n {
		s.t.Errorf("%d messages for %s, want %d", len(messages), user, n)
	}
	return messages
}

// TestOutAndBack: a message goes out through one server and in through another, over TLS, and the reply comes back.
func TestOutAndBack(t *testing.T) {
	home, away, dns := twoServers(t)
	home.send("anna", "password of anna", []string{"otto@other.example"}, message("out"))
	got := away.arrived("otto", "password of otto", 1)
	holds(t, got, "out")
	if !strings.Contains(got[0], "Return-Path: <anna@example.com>") || !strings.Contains(got[0], "SMTPS tls ") {
		t.Errorf("arrived as %s", got[0])
	}
	eventually(t, "an empty queue", func() bool { return len(home.queue()) == 0 })
	if _, out, _ := home.latchkey("trail", "otto@other.example"); !strings.Contains(out, "delivered") || !strings.Contains(out, "queued as") {
		t.Errorf("trail: %s", out)
	}
	if dns.Count("other.example", "MX", "") == 0 {
		t.Error("the name server was not asked")
	}
	away.stop()
	back := away.sendsTo(home.portOf("mx"), "example.com")
	away.start()
	away.send("otto", "password of otto", []string{"anna@example.com"}, message("back"))
	holds(t, home.arrived("anna", "password of anna", 1), "back")
	if back.Count("example.com", "MX", "") == 0 {
		t.Error("the name server was not asked")
	}
}

// TestNameServerTroubles: whatever the name server does at first, mail arrives once it answers; an answer that is too long comes over TCP.
func TestNameServerTroubles(t *testing.T) {
	for name, trouble := range map[string]resolvertest.Behaviour{
		"truncated": resolvertest.Truncate, "no EDNS": resolvertest.NoEDNS, "SERVFAIL": resolvertest.ServFail, "lame": resolvertest.Lame,
	} {
		t.Run(name, func(t *testing.T) {
			home, away, dns := twoServers(t)
			dns.Behave("other.example", "MX", trouble)
			home.send("anna", "password of anna", []string{"otto@other.example"}, message(name))
			if trouble == resolvertest.ServFail || trouble == resolvertest.Lame {
				eventually(t, "a deferral", func() bool { jobs := home.queue(); return len(jobs) == 1 && jobs[0].Attempts == 1 })
				dns.Behave("other.example", "MX", resolvertest.Normal)
				home.turnClock(10 * time.Minute) // whatever was remembered of the failure is over
				home.retryAll()
			}
			holds(t, away.arrived("otto", "password of otto", 1), name)
			if trouble == resolvertest.Truncate && dns.Count("other.example", "MX", "tcp") == 0 {
				t.Error("not asked over TCP")
			}
		})
	}
}

// retryAll makes every job due now, as the operator does.
func (s *testServer) retryAll() {
	s.t.Helper()
	args := []string{"queue", "retry"}
	for _, j := range s.queue() {
		args = append(args, strconv.FormatUint(uint64(j.ID), 10))
	}
	if status, _, errs := s.latchkey(args...); status != 0 {
		s.t.Fatalf("queue retry: %s", errs)
	}
}

// TestRefusedByRemote: of several recipients one is refused: it bounces alone, once, and the others have their mail. One that is put off is
// delivered later.
func TestRefusedByRemote(t *testing.T) {
	refusals := map[string]string{"bad@other.example": "550 5.1.1 nobody of that name", "later@other.example": "450 4.2.0 greylisted, come back"}
	first := map[string]bool{}
	world := newSink(t, func(s *sink) {
		s.answer = func(rcpt string) string {
			defer func() { first[rcpt] = true }()
			if rcpt == "later@other.example" && first[rcpt] {
				return ""
			}
			return refusals[rcpt]
		}
	})
	s := newTestServer(t, "example.com")
	s.sendsTo(world.port(), "other.example")
	s.start()
	s.addAccount("anna", "password of anna")
	s.send("anna", "password of anna", []string{"good@other.example", "bad@other.example", "later@other.example"}, message("three"))
	if got := world.wait(1); got[0].rcpt != "good@other.example" || got[0].from != "anna@example.com" {
		t.Errorf("delivered: %+v", got)
	}
	bounce := s.arrived("anna", "password of anna", 1)[0]
	checkBounce(t, bounce, "bad@other.example", "5.1.1", "nobody of that name")
	var later store.Job
	eventually(t, "one job left", func() bool {
		jobs := s.queue()
		if len(jobs) == 1 {
			later = jobs[0]
		}
		return len(jobs) == 1 && jobs[0].Attempts == 1
	})
	if later.Recipient.String() != "later@other.example" || !strings.Contains(later.LastText, "greylisted, come back") {
		t.Errorf("waiting: %+v", later)
	}
	s.retryAll()
	if got := world.wait(2); got[1].rcpt != "later@other.example" {
		t.Errorf("delivered: %+v", got[1])
	}
	eventually(t, "an empty queue", func() bool { return len(s.queue()) == 0 })
	if messages := s.fetch("anna", "password of anna"); len(messages) != 1 {
		t.Errorf("%d bounces, want 1", len(messages))
	}
	_, out, _ := s.latchkey("trail", "later@other.example")
	for _, want := range []string{"not yet, it is tried again", "greylisted, come back", "to be tried now", "delivered", "failed, given up", "nobody of that name", "the sender was told"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in the trail:\n%s", want, out)
		}
	}
}

// checkBounce checks the form of a bounce for one recipient (RFC 3464 §2). The client declared SMTPUTF8 and needed none of it.
func checkBounce(t *testing.T, text, rcpt, status, words string) {
	t.Helper()
	header, err := textproto.NewReader(bufio.NewReader(strings.NewReader(text))).ReadMIMEHeader()
	if err != nil {
		t.Fatal(err)
	}
	if header.Get("Return-Path") != "<>" || header.Get("Auto-Submitted") == "" ||
		!strings.HasPrefix(header.Get("Content-Type"), "multipart/report; report-type=delivery-status") {
		t.Errorf("header of the bounce: %v", header)
	}
	if strings.Count(text, "Final-Recipient: ") != 1 {
		t.Errorf("not one recipient:\n%s", text)
	}
	for _, want := range []string{"Final-Recipient: rfc822; " + rcpt, "Action: failed", "Status: " + status, words, "Subject: three"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in the bounce:\n%s", want, text)
		}
	}
}

// TestNoLoopHome: mail never goes to this server's own doors, though the operator named the network.
func TestNoLoopHome(t *testing.T) {
	s := newTestServer(t, "example.com")
	port := freePort(t)
	s.config.Listen.MX = []string{net.JoinHostPort("127.0.0.1", strconv.Itoa(port))}
	s.sendsTo(port, "other.example")
	s.start()
	s.addAccount("anna", "password of anna")
	s.send("anna", "password of anna", []string{"x@other.example"}, message("to ourselves"))
	if bounce := s.arrived("anna", "password of anna", 1)[0]; !strings.Contains(bounce, "Status: 5.4.6") {
		t.Errorf("bounce: %s", bounce)
	}
}

// TestNoWayIn: an MX record that names an address of this host's own network is not followed without the operator's word.
func TestNoWayIn(t *testing.T) {
	inside := newSink(t)
	s := newTestServer(t, "example.com")
	s.sendsTo(inside.port(), "other.example")
	s.config.Relay.AllowNetworks = nil
	s.start()
	s.addAccount("anna", "password of anna")
	s.send("anna", "password of anna", []string{"x@other.example"}, message("to loopback"))
	if bounce := s.arrived("anna", "password of anna", 1)[0]; !strings.Contains(bounce, "Status: 5.4.6") {
		t.Errorf("bounce: %s", bounce)
	}
	if got := inside.all(); len(got) != 0 {
		t.Errorf("delivered inside: %+v", got)
	}
}

// forgetful is a store that can keep no outcome any more.
type forgetful struct{ store.Store }

func (forgetful) Finish(context.Context, time.Time, ...store.Outcome) ([]store.JobID, error) {
	return nil, fmt.Errorf("device: %w", store.ErrPoisoned)
}

// TestPoisonedStoreIsRead: when no outcome can be kept nothing more is sent, the log says so, and the doors stay open: what is there can be
// read.
func TestPoisonedStoreIsRead(t *testing.T) {
	world := newSink(t)
	s := newTestServer(t, "example.com")
	s.sendsTo(world.port(), "other.example")
	s.wrap = func(st store.Store) store.Store { return forgetful{st} }
	s.start()
	s.addAccount("anna", "password of anna")
	s.deliver("otto@other.example", []string{"anna@example.com"}, message("here"))
	s.send("anna", "password of anna", []string{"otto@other.example"}, message("out"))
	world.wait(1)
	eventually(t, "a word to the operator", func() bool { return strings.Contains(s.log.String(), "outgoing mail waits for the next start") })
	s.send("anna", "password of anna", []string{"otto@other.example"}, message("later"))
	holds(t, s.fetch("anna", "password of anna"), "here")
	if n := len(s.queue()); n != 2 {
		t.Errorf("%d messages in the queue, want 2", n)
	}
	if n := len(world.all()); n != 1 {
		t.Errorf("%d messages were sent, want 1", n)
	}
}
