package relay

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/store"
)

// TestDelivery: one message to several recipients of one destination is one transaction, and the trail has the host's words.
func TestDelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		s := r.site("remote.example", "192.0.2.1", &server{})
		receipt := r.queue(post{}, "bob@remote.example", "carol@remote.example")
		r.runFor(time.Second)
		letters := s.taken()
		if len(letters) != 1 || len(letters[0].to) != 2 {
			t.Fatalf("letters: %+v\n%s", letters, r.logged)
		}
		l := letters[0]
		if !strings.HasPrefix(l.mail, "MAIL FROM:<alice@example.org>") || !strings.HasPrefix(l.to[0], "RCPT TO:<bob@remote.example>") || l.data != usualBody {
			t.Errorf("letter: %+v", l)
		}
		if len(r.jobs()) != 0 || len(r.mail()) != 0 {
			t.Errorf("left over: %v, %v", r.jobs(), r.mail())
		}
		want := "delivered bob@remote.example: mx.remote.example [192.0.2.1]: 250 2.0.0 queued as 17"
		if trail := r.trail(receipt.Message); trail[3] != want {
			t.Errorf("trail %q, want %q", trail, want)
		}
		if got := s.commands(); got[0] != "EHLO mail.example.org" || got[len(got)-1] != "QUIT" || s.served("EHLO") != 1 {
			t.Errorf("commands: %q", got)
		}
	})
}

// TestGreylisting: a 450 at RCPT is tried again after five minutes, and the message arrives.
func TestGreylisting(t *testing.T) {
	onEachStore(t, func(t *testing.T, r *rig) {
		begin := time.Now()
		s := r.site("remote.example", "192.0.2.1", &server{answer: func(c string) string {
			if strings.HasPrefix(c, "RCPT") && time.Since(begin) < 4*time.Minute {
				return "450 4.7.1 greylisted, come back"
			}
			return ""
		}})
		receipt := r.queue(post{}, "bob@remote.example")
		r.start()
		time.Sleep(5*time.Minute - time.Second)
		synctest.Wait()
		if j := r.jobs(); len(j) != 1 || j[0].Attempts != 1 || j[0].LastText != "mx.remote.example [192.0.2.1]: 450 4.7.1 greylisted, come back" {
			t.Errorf("job after the first attempt: %+v", j)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if len(s.taken()) != 1 || len(r.jobs()) != 0 {
			t.Errorf("not delivered after 5 minutes: %q", r.trail(receipt.Message))
		}
		if s.served("RSET") != 1 || s.served("DATA") != 1 {
			t.Errorf("commands: %q", s.commands())
		}
	})
}

// TestMixedRecipients: each recipient gets the outcome that the host gave it, and only the bad one bounces.
func TestMixedRecipients(t *testing.T) {
	onEachStore(t, func(t *testing.T, r *rig) {
		s := r.site("remote.example", "192.0.2.1", &server{answer: func(c string) string {
			switch {
			case strings.Contains(c, "bad@"):
				return "550-5.1.1 no such\n550 5.1.1 user"
			case strings.Contains(c, "later@"):
				return "451 4.2.0 not now"
			}
			return ""
		}})
		r.queue(post{}, "good@remote.example", "bad@remote.example", "later@remote.example", "fine@remote.example")
		r.runFor(time.Second)
		if l := s.taken(); len(l) != 1 || len(l[0].to) != 2 {
			t.Errorf("letters: %+v", l)
		}
		if j := r.jobs(); len(j) != 1 || j[0].Recipient.Local() != "later" {
			t.Errorf("jobs: %+v", j)
		}
		mail := r.mail()
		if len(mail) != 1 {
			t.Fatalf("%d bounces, want 1: %s", len(mail), r.logged)
		}
		b := readReport(t, mail[0])
		if len(b.recipients) != 1 || b.recipients[0].Get("Final-Recipient") != "rfc822; bad@remote.example" ||
			b.recipients[0].Get("Status") != "5.1.1" || b.recipients[0].Get("Action") != "failed" ||
			b.recipients[0].Get("Remote-Mta") != "dns; mx.remote.example" || b.recipients[0].Get("Diagnostic-Code") != "smtp; 550 5.1.1 no such user" {
			t.Errorf("recipients: %v", b.recipients)
		}
	})
}

// TestAllRefused: nobody accepted is RSET and no DATA, and the connection serves the next message.
func TestAllRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		s := r.site("remote.example", "192.0.2.1", &server{answer: func(c string) string {
			if strings.Contains(c, "bad") {
				return "550 no"
			}
			return ""
		}})
		r.queue(post{}, "bad1@remote.example", "bad2@remote.example")
		r.queue(post{}, "good@remote.example")
		r.runFor(time.Second)
		if s.served("RSET") != 1 || s.served("DATA") != 1 || s.connections() != 1 || s.served("EHLO") != 1 || len(s.taken()) != 1 {
			t.Errorf("commands: %q", s.commands())
		}
		if b := readReport(t, r.mail()[0]); len(b.recipients) != 2 || len(r.mail()) != 1 || b.recipients[0].Get("Status") != "5.0.0" {
			t.Errorf("report: %+v", b.recipients)
		}
	})
}

// TestConnectionReuse: messages share a connection up to the limit.
func TestConnectionReuse(t *testing.T) {
	for _, n := range []int{2, 3, 4} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			r.opts.Limits.PerConnection, r.opts.Limits.PerDestination = 3, 1
			s := r.site("remote.example", "192.0.2.1", &server{})
			for range n {
				r.queue(post{}, "bob@remote.example")
			}
			r.runFor(5 * time.Second)
			if want := (n + 2) / 3; len(s.taken()) != n || s.connections() != want {
				t.Errorf("%d messages: %d arrived over %d connections, want %d", n, len(s.taken()), s.connections(), want)
			}
		})
	}
}

// TestClosedBetweenMessages: a host that closes between two messages gives no verdict on the second one.
func TestClosedBetweenMessages(t *testing.T) {
	for _, how := range []string{"421 4.3.2 enough", "drop"} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			mails := 0
			s := r.site("remote.example", "192.0.2.1", &server{})
			s.answer = func(c string) string {
				switch {
				case strings.HasPrefix(c, "EHLO"):
					mails = 0
				case strings.HasPrefix(c, "MAIL"):
					if mails++; mails == 2 {
						return how
					}
				}
				return ""
			}
			for range 3 {
				r.queue(post{}, "bob@remote.example")
			}
			r.runFor(5 * time.Second)
			if len(s.taken()) != 3 || strings.Contains(r.logged.String(), "deferred") {
				t.Errorf("%s: %d messages arrived\n%s", how, len(s.taken()), r.logged)
			}
		})
	}
}

// TestTooManyRecipients: what a host does not take in one transaction it gets in the next, at once.
func TestTooManyRecipients(t *testing.T) {
	limited := func(reply string) func(string) string {
		count := 0
		return func(c string) string {
			switch {
			case strings.HasPrefix(c, "MAIL"):
				count = 0
			case strings.HasPrefix(c, "RCPT"):
				if count++; count > 4 {
					return reply
				}
			}
			return ""
		}
	}
	tests := []struct {
		name       string
		server     *server
		recipients int
		letters    int
	}{
		{"default, limit-1", &server{}, 99, 1},
		{"default, limit", &server{}, 100, 1},
		{"default, limit+1", &server{}, 101, 2},
		{"LIMITS", &server{caps: []string{"LIMITS MAILMAX=10 RCPTMAX=4"}}, 10, 3},
		{"452", &server{answer: limited("452 4.5.3 too many")}, 10, 3},
		{"452 without a status", &server{answer: limited("452 too many")}, 10, 3},
		{"552", &server{answer: limited("552 too many")}, 10, 3},
	}
	for _, tt := range tests {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			r.opts.Limits.Batch, r.opts.Limits.PerDestination = 200, 1
			s := r.site("remote.example", "192.0.2.1", tt.server)
			var to []string
			for i := range tt.recipients {
				to = append(to, fmt.Sprintf("r%03d@remote.example", i))
			}
			r.queue(post{}, to...)
			r.runFor(5 * time.Second)
			total := 0
			for _, l := range s.taken() {
				total += len(l.to)
			}
			if len(s.taken()) != tt.letters || total != tt.recipients || len(r.jobs()) != 0 || s.connections() != 1 {
				t.Errorf("%s: %d letters for %d recipients over %d connections, want %d", tt.name, len(s.taken()), total, s.connections(), tt.letters)
			}
		})
	}
}

type extensionCase struct {
	name   string
	caps   []string
	post   post
	to     string
	status string // of the bounce
	mail   string // what MAIL has behind the path
	rcpt   string
}

func extensionCases() []extensionCase {
	size := int64(len(usualBody))
	latin := "From: a\r\nSubject: x\r\n\r\nfa\xc3\xa7ade\r\n"
	utf8 := "From: a\r\nSubject: fa\xc3\xa7ade\r\n\r\nx\r\n"
	return []extensionCase{
		{name: "SIZE below", caps: []string{fmt.Sprint("SIZE ", size-1)}, status: "5.3.4"},
		{name: "SIZE exact", caps: []string{fmt.Sprint("SIZE ", size)}, mail: fmt.Sprint(" SIZE=", size)},
		{name: "SIZE above", caps: []string{fmt.Sprint("SIZE ", size+1)}, mail: fmt.Sprint(" SIZE=", size)},
		{name: "SIZE without a limit", caps: []string{"SIZE"}, mail: fmt.Sprint(" SIZE=", size)},
		{name: "SIZE 0", caps: []string{"SIZE 0"}, mail: fmt.Sprint(" SIZE=", size)},
		{name: "lower case", caps: []string{"size 0", "8bitmime"}, mail: fmt.Sprint(" BODY=8BITMIME SIZE=", size)},
		{name: "nothing", caps: []string{}},
		{name: "8BITMIME", caps: []string{"8BITMIME"}, post: post{body: latin, eightBit: true}, mail: " BODY=8BITMIME"},
		{name: "no 8BITMIME", caps: []string{}, post: post{body: latin, eightBit: true}, status: "5.6.3"},
		{name: "no 8BITMIME, declared only", caps: []string{}, post: post{eightBit: true}},
		{name: "SMTPUTF8", caps: []string{"8BITMIME", "SMTPUTF8"}, post: post{body: utf8, eightBit: true, utf8: true}, mail: " BODY=8BITMIME SMTPUTF8"},
		{name: "no SMTPUTF8", caps: []string{"8BITMIME"}, post: post{body: utf8, eightBit: true, utf8: true}, status: "5.6.7"},
		{name: "no SMTPUTF8, declared only", caps: []string{"8BITMIME"}, post: post{body: latin, eightBit: true, utf8: true}, mail: " BODY=8BITMIME"},
		{name: "no SMTPUTF8, address", caps: []string{}, post: post{utf8: true}, to: "b\u00f6b@remote.example", status: "5.6.7"},
		{name: "quoted", caps: []string{}, to: `"a>b\"c d"@remote.example`},
		{
			name: "DSN", caps: []string{"DSN"}, mail: " RET=HDRS ENVID=a+2Bb+20c", rcpt: " NOTIFY=SUCCESS,FAILURE ORCPT=RFC822;x+3Dy@example.net",
			post: post{ret: store.ReturnHeader, envid: "a+b c", notify: store.NotifySuccess | store.NotifyFailure, original: "rfc822;x=y@example.net"},
		},
		{name: "DSN, never", caps: []string{"DSN"}, post: post{notify: store.NotifyNever, from: "-"}, rcpt: " NOTIFY=NEVER"},
		{name: "DSN, unset", caps: []string{"DSN"}},
	}
}

// TestExtensions: what the host announced is used and kept to, and what it lacks and the message needs is a failure with the right code.
func TestExtensions(t *testing.T) {
	for _, tt := range extensionCases() {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			caps := append([]string{}, tt.caps...)
			s := r.site("remote.example", "192.0.2.1", &server{caps: caps})
			to := tt.to
			if to == "" {
				to = "bob@remote.example"
			}
			r.queue(tt.post, to)
			r.runFor(time.Second)
			mail, letters := r.mail(), s.taken()
			if tt.status != "" {
				if len(letters) != 0 || len(mail) != 1 || s.served("MAIL") != 0 {
					t.Fatalf("%s: letters %+v, bounces %q", tt.name, letters, mail)
				}
				if b := readReport(t, mail[0]); b.recipients[0].Get("Status") != tt.status {
					t.Errorf("%s: status %q, want %s", tt.name, b.recipients[0].Get("Status"), tt.status)
				}
				return
			}
			if len(letters) != 1 || len(mail) != 0 {
				t.Fatalf("%s: letters %+v, bounces %q\n%s", tt.name, letters, mail, r.logged)
			}
			path := "<alice@example.org>"
			if tt.post.from == "-" {
				path = "<>"
			}
			if got, want := letters[0].mail, "MAIL FROM:"+path+tt.mail; got != want {
				t.Errorf("%s: got %q, want %q", tt.name, got, want)
			}
			if got, want := letters[0].to[0], "RCPT TO:<"+to+">"+tt.rcpt; got != want {
				t.Errorf("%s: got %q, want %q", tt.name, got, want)
			}
		})
	}
}

// TestOldHost: who refuses EHLO is spoken to with HELO.
func TestOldHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		s := r.site("remote.example", "192.0.2.1", &server{answer: func(c string) string {
			if strings.HasPrefix(c, "EHLO") {
				return "502 what"
			}
			return ""
		}})
		r.queue(post{}, "bob@remote.example")
		r.runFor(time.Second)
		if l := s.taken(); len(l) != 1 || s.served("HELO mail.example.org") != 1 || l[0].mail != "MAIL FROM:<alice@example.org>" {
			t.Errorf("letters %+v, commands %q", l, s.commands())
		}
	})
}

// TestOutgoingSmuggling: whatever the store holds, nothing but our own final dot ends a message at a host that is lax with line ends.
func TestOutgoingSmuggling(t *testing.T) {
	for _, end := range []string{"\n.\n", "\n.\r\n", "\r.\r", "\r\n.\n", "\r\r\n.\r\r\n", "\r\n.\r\n"} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			s := r.site("remote.example", "192.0.2.1", &server{})
			r.queue(post{body: "A: b\r\n\r\nx" + end + "MAIL FROM:<evil@example.net>\r\n"}, "bob@remote.example")
			r.runFor(time.Second)
			l := s.taken()
			if len(l) != 1 || s.served("MAIL") != 1 {
				t.Fatalf("%q: commands %q", end, s.commands())
			}
			if rest := strings.ReplaceAll(l[0].data, "\r\n", ""); strings.ContainsAny(rest, "\r\n") || !strings.HasSuffix(l[0].data, ".\r\nMAIL FROM:<evil@example.net>\r\n") {
				t.Errorf("%q arrived as %q", end, l[0].data)
			}
		})
	}
}

// TestSendable: an address that would be read as something else is not put into a command.
func TestSendable(t *testing.T) {
	for _, s := range []string{"a@b.example", `"a>b"@c.example`, `"a b"@c.example`, `"<>"@c.example`, "b\u00f6b@c.example"} {
		if !sendable(addr(t, s)) {
			t.Errorf("%s cannot be sent", s)
		}
		if got := path(addr(t, s)); got != s {
			t.Errorf("%s is written as %s", s, got)
		}
	}
}

// TestOutgoingOff: jobs that wait while mail out of the domain is switched off are put off, not tried and not lost.
func TestOutgoingOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		s := r.site("remote.example", "192.0.2.1", &server{})
		settings, _ := r.store.Settings(t.Context())
		settings.OutgoingMail = false
		settings, err := r.store.UpdateSettings(t.Context(), settings)
		if err != nil {
			t.Fatal(err)
		}
		r.queue(post{}, "bob@remote.example")
		r.start()
		time.Sleep(time.Hour)
		synctest.Wait()
		if j := r.jobs(); len(j) != 1 || j[0].Attempts != 0 || !strings.Contains(j[0].LastText, "switched off") || s.connections() != 0 {
			t.Fatalf("jobs: %+v", j)
		}
		settings.OutgoingMail = true
		if _, err := r.store.UpdateSettings(t.Context(), settings); err != nil {
			t.Fatal(err)
		}
		time.Sleep(offPause + time.Second)
		synctest.Wait()
		if len(s.taken()) != 1 {
			t.Errorf("not delivered: %+v", r.jobs())
		}
	})
}

// TestHeldJobs are not tried; a suspended submitter's are, because they were accepted.
func TestHeldJobs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		s := r.site("remote.example", "192.0.2.1", &server{})
		held := r.queue(post{}, "held@remote.example")
		if err := r.store.HoldJobs(t.Context(), "odd", held.Jobs...); err != nil {
			t.Fatal(err)
		}
		r.queue(post{}, "bob@remote.example")
		a, _ := r.store.Account(t.Context(), r.alice)
		a.Suspended = true
		if _, err := r.store.UpdateAccount(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		r.runFor(time.Hour)
		if l := s.taken(); len(l) != 1 || !strings.Contains(l[0].to[0], "bob@") || len(r.jobs()) != 1 {
			t.Errorf("letters %+v, jobs %+v", l, r.jobs())
		}
	})
}

var errTest = errors.New("test")
