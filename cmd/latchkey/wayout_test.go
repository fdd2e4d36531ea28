package main

import (
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"latchkey/internal/resolver/resolvertest"
)

// must runs a command that has to work.
func (s *testServer) must(args ...string) string {
	s.t.Helper()
	status, out, stderr := s.latchkey(args...)
	if status != 0 {
		s.t.Fatalf("latchkey %s: %s", strings.Join(args, " "), stderr)
	}
	return out
}

// strangersMail is a message of a stranger about something, with a verdict that he made up.
func strangersMail(subject string) string {
	return "From: x@far.example\r\nSubject: " + subject + "\r\nAuthentication-Results: mail.example.com; dkim=pass header.d=far.example\r\n\r\nfrom far away\r\n"
}

// TestTheWayOut follows mail of a stranger for a mailbox that keeps a copy and sends its mail on: put off, held, through a restart, sealed and
// delivered; its report comes back to the stranger by SRS; then the target fails for good, is told of once to the mailbox alone, and is left
// alone from the second time on.
func TestTheWayOut(t *testing.T) {
	var answer atomic.Value // the reply to RCPT at the target
	answer.Store("450 4.2.0 later")
	world := newSink(t, func(s *sink) {
		s.answer = func(rcpt string) string {
			if rcpt == "b@sink.example" {
				return answer.Load().(string)
			}
			return ""
		}
	})
	s := newTestServer(t, "example.com")
	dns := s.sendsTo(world.port(), "sink.example", "far.example")
	s.start()
	s.addAccount("anna", "password of anna")
	dns.Behave("", "", resolvertest.Normal)
	s.publishRecords(dns)
	s.must("dkim", "check")
	s.must("account", "change", "anna", "--forward", "b@sink.example", "--forward-keep")

	s.deliver("x@far.example", []string{"anna@example.com"}, strangersMail("first"))
	eventually(t, "a deferral", func() bool { jobs := s.queue(); return len(jobs) == 1 && jobs[0].Attempts == 1 })
	id := strconv.FormatUint(uint64(s.queue()[0].ID), 10)
	s.must("queue", "hold", id, "--reason", "looked at")
	s.stop()
	s.start()
	if jobs := s.queue(); len(jobs) != 1 || !jobs[0].Held || len(world.all()) != 0 {
		t.Fatalf("after a restart: jobs %+v", jobs)
	}
	answer.Store("")
	s.turnClock(time.Hour) // whatever was remembered of the target is over
	s.must("queue", "release", id)
	sent := world.wait(1)[0]
	for _, want := range []string{
		"ARC-Seal: i=1; a=rsa-sha256; cv=none;", "ARC-Message-Signature: i=1;", "ARC-Authentication-Results: i=1; mail.example.com;\r\n\tdkim=none;\r\n\tspf=none smtp.mailfrom=far.example;\r\n\tarc=none",
		"\r\nDelivered-To: anna@example.com\r\n",
	} {
		if !strings.Contains(sent.data, want) {
			t.Errorf("no %q in\n%s", want, sent.data)
		}
	}
	if strings.Contains(sent.data, "\r\nAuthentication-Results:") || strings.Contains(sent.data, "DKIM-Signature") {
		t.Errorf("a made-up verdict, or a signature of ours, in\n%s", sent.data)
	}
	copies := s.arrived("anna", "password of anna", 1)
	if strings.Contains(copies[0], "\r\nARC-") || strings.Contains(copies[0], "\r\nAuthentication-Results:") {
		t.Errorf("the copy here is\n%s", copies[0])
	}

	// The target's server says later that it could not deliver.
	const bounce = "From: mailer-daemon@sink.example\r\nSubject: Undelivered\r\n\r\nx\r\n"
	s.deliver("", []string{sent.from}, bounce)
	back := world.wait(2)[1]
	if back.rcpt != "x@far.example" || back.from != "" || !strings.HasSuffix(back.data, bounce) {
		t.Errorf("came back: %+v", back)
	}
	if err := s.tryDeliver("y@far.example", []string{sent.from}, bounce); err == nil {
		t.Error("mail that is no report goes the way back")
	}

	answer.Store("550 5.1.1 nobody of that name")
	for _, subject := range []string{"second", "third"} {
		s.deliver("x@far.example", []string{"anna@example.com"}, strangersMail(subject))
		eventually(t, "an empty queue", func() bool { return len(s.queue()) == 0 })
	}
	s.deliver("x@far.example", []string{"anna@example.com"}, strangersMail("fourth"))
	if jobs := s.queue(); len(jobs) != 0 {
		t.Errorf("sent on to an address that does not exist: %+v", jobs)
	}
	all := s.arrived("anna", "password of anna", 5) // four copies and one report
	reports := 0
	for _, m := range all {
		if strings.Contains(m, "Final-Recipient: rfc822; b@sink.example") {
			reports++
		}
	}
	if reports != 1 || len(world.all()) != 2 {
		t.Errorf("%d reports to the mailbox, want 1; outside arrived %+v", reports, world.all())
	}
}

// TestTheWayRound: two mailboxes at two servers send their mail on to each other. The first keeps a copy, the mail goes round once, and the
// second is told; nobody else is.
func TestTheWayRound(t *testing.T) {
	home, away := newTestServer(t, "example.com"), newTestServer(t, "other.example")
	port := freePort(t)
	home.config.Listen.MX = []string{net.JoinHostPort("127.0.0.1", strconv.Itoa(port))}
	away.sendsTo(port, "example.com")
	away.start()
	away.addAccount("otto", "password of otto")
	home.sendsTo(away.portOf("mx"), "other.example")
	home.start()
	home.addAccount("anna", "password of anna")
	home.must("account", "change", "anna", "--forward", "otto@other.example", "--forward-keep")
	away.must("account", "change", "otto", "--forward", "anna@example.com")
	home.deliver("x@far.example", []string{"anna@example.com"}, strangersMail("round"))
	if copies := home.arrived("anna", "password of anna", 1); !strings.Contains(copies[0], "Subject: round") {
		t.Errorf("the copy is\n%s", copies[0])
	}
	report := away.arrived("otto", "password of otto", 1)[0]
	if !strings.Contains(report, "Final-Recipient: rfc822; anna@example.com") || !strings.Contains(report, "from far away") || !strings.Contains(report, "Status: 5.4.6") {
		t.Errorf("the report is\n%s", report)
	}
	eventually(t, "empty queues", func() bool { return len(home.queue())+len(away.queue()) == 0 })
	if got := home.fetch("anna", "password of anna"); len(got) != 1 {
		t.Errorf("anna has %d messages", len(got))
	}
}
