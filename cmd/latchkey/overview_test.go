package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"latchkey/webmanager"
)

// overviewOf asks the command line for an overview, whether the server runs or not.
func overviewOf(s *testServer) (o webmanager.Overview) {
	s.t.Helper()
	status, out, errs := s.latchkey("overview", "--days", "2", "--json")
	if err := json.Unmarshal([]byte(out), &o); status != 0 || err != nil {
		s.t.Fatalf("%d %v %s%s", status, err, out, errs)
	}
	return o
}

// counted adds up what was counted: a test that begins before midnight may end after it.
func counted(o webmanager.Overview) string {
	var d webmanager.OverviewDay
	for _, one := range o.Days {
		d.Received += one.Received
		d.Submitted += one.Submitted
		d.HandedOver += one.HandedOver
		d.Delivered += one.Delivered
		d.Deferred += one.Deferred
		d.Failed += one.Failed
		d.Fetched += one.Fetched
		d.POP3.OK += one.POP3.OK
		d.POP3.Refused += one.POP3.Refused
		d.SMTP.OK += one.SMTP.OK
		d.SMTP.Refused += one.SMTP.Refused
	}
	var why []string
	for _, r := range o.Refusals {
		why = append(why, fmt.Sprint(r.N, " ", r.Name))
	}
	return fmt.Sprintf("received %d, submitted %d, handed over %d, delivered %d, deferred %d, failed %d, fetched %d, pop3 %v, smtp %v, refused %q",
		d.Received, d.Submitted, d.HandedOver, d.Delivered, d.Deferred, d.Failed, d.Fetched, d.POP3, d.SMTP, why)
}

// TestOverviewOfAServer: what happens at the doors and on the way out is in the overview, while the server runs and after it has stopped.
func TestOverviewOfAServer(t *testing.T) {
	withoutWaits(t)
	world := newSink(t, func(s *sink) {
		s.answer = func(rcpt string) string {
			return map[string]string{"bad@other.example": "550 5.1.1 nobody of that name", "later@other.example": "450 4.2.0 come back"}[rcpt]
		}
	})
	s := newTestServer(t, "example.com")
	s.sendsTo(world.port(), "other.example")
	s.start()
	s.addAccount("anna", "password of anna")
	if got := counted(overviewOf(s)); got != counted(webmanager.Overview{}) {
		t.Errorf("at first: %s", got)
	}
	s.deliver("x@far.example", []string{"anna@example.com"}, message("one"))
	s.deliver("x@far.example", []string{"anna@example.com"}, message("two"))
	wantCode(t, "nobody", s.tryDeliver("x@far.example", []string{"nobody@example.com"}, message("no")), 550)
	wantCode(t, "a wrong password", s.trySend("anna", "wrong", []string{"x@other.example"}, message("no")), 535)
	wantAuthRefusal(t, "a wrong password", s.pop("pop3s").login("anna", "also wrong"))
	s.fetch("anna", "password of anna")
	s.send("anna", "password of anna", []string{"good@other.example", "fine@other.example", "bad@other.example", "later@other.example"}, message("out"))
	world.wait(2)
	s.arrived("anna", "password of anna", 3) // the bounce; it fetches all three, perhaps more than once
	var o webmanager.Overview
	eventually(t, "the outcomes", func() bool {
		o = overviewOf(s)
		return o.Queue.Deferred == 1
	})
	fetched, logins := int64(0), int64(0)
	for i := range o.Days {
		fetched, logins = fetched+o.Days[i].Fetched, logins+o.Days[i].POP3.OK
	}
	want := fmt.Sprintf("received 2, submitted 1, handed over 1, delivered 2, deferred 1, failed 1, fetched %d, pop3 {%d 1}, smtp {1 1}, refused %q",
		fetched, logins, []string{"2 auth-wrong-password", "1 recipient-unknown"})
	if got := counted(o); got != want || logins < 2 || fetched < 5 {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if q := o.Queue; q.Waiting != 1 || len(q.Destinations) != 1 || q.Destinations[0].Domain != "other.example" {
		t.Errorf("queue: %+v", q)
	}
	if !slices.ContainsFunc(o.Storage.Largest, func(m webmanager.MailboxSize) bool { return m.Mailbox == "anna" && m.Usage.Messages == 3 }) {
		t.Errorf("storage: %+v", o.Storage)
	}
	s.stop()
	if got := counted(overviewOf(s)); got != want {
		t.Errorf("after the stop: got %s\nwant %s", got, want)
	}
	if got := overviewOf(s); !slices.ContainsFunc(got.Programs, func(p webmanager.ProgramFigure) bool { return p.Door == "pop3s" && p.Mailboxes == 1 }) {
		t.Errorf("programs: %+v", got.Programs)
	}
	s.start()
	if got := counted(overviewOf(s)); got != want {
		t.Errorf("after the next start: got %s\nwant %s", got, want)
	}
	if at := overviewOf(s).At; time.Since(at) < 0 {
		t.Errorf("it is of %s", at)
	}
}
