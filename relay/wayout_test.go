package relay

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/internal/resolver"
	"latchkey/store"
)

// The tests here try the parts of the way out together: mail of strangers that comes for an address here, with its copy, and is sent on.

// kept is alice's forward with a copy, and the copy as the other recipient of the same message.
func (r *rig) keptForward(c came, to ...string) store.Receipt {
	r.t.Helper()
	c.on = r.byAlice(true)
	return r.sendOnThis(c, to...)
}

// outgoing switches mail out of the domain.
func (r *rig) outgoing(on bool) {
	r.t.Helper()
	settings, err := r.store.Settings(r.t.Context())
	if err == nil {
		settings.OutgoingMail = on
		_, err = r.store.UpdateSettings(r.t.Context(), settings)
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// refusing puts recipients off until a time, and refuses them afterwards.
func refusing(until time.Time, later string) *server {
	return &server{answer: func(c string) string {
		switch {
		case !strings.HasPrefix(c, "RCPT"):
			return ""
		case time.Now().Before(until):
			return "451 4.7.1 not now"
		}
		return later
	}}
}

// TestWayOutDefersThenFails: the target puts the copy off for hours, through a restart, and then refuses it. The mailbox hears of it once, at the
// end; nobody outside does; and the address is counted as one that may not exist only if it is said not to.
func TestWayOutDefersThenFails(t *testing.T) {
	for _, tt := range []struct {
		later      string
		suppressed bool
	}{{"550 5.1.1 unknown", true}, {"550 5.7.1 not wanted", false}} {
		t.Run(tt.later, func(t *testing.T) {
			onEachStore(t, func(t *testing.T, r *rig) {
				r.seals()
				s := r.site("remote.example", "192.0.2.1", refusing(time.Now().Add(6*time.Hour), tt.later))
				far := r.site("far.example", "192.0.2.2", &server{})
				receipt := r.keptForward(came{body: strangersLetter}, "b@remote.example")
				r.runFor(2 * time.Hour) // its pauses grow, and no report comes of a delay
				if jobs := r.jobs(); len(jobs) != 1 || jobs[0].Attempts < 3 || len(r.mail()) != 0 {
					t.Fatalf("jobs %+v, reports %q", jobs, r.reported())
				}
				r.runFor(24 * time.Hour)
				if got := r.reported(); len(got) != 1 || got[0] != "b@remote.example" || len(r.jobs()) != 0 {
					t.Errorf("reported %q, jobs %+v", got, r.jobs())
				}
				if far.connections() != 0 || len(s.taken()) != 0 {
					t.Errorf("the stranger's host was called %d times", far.connections())
				}
				if last, _ := r.became(receipt.Message); !strings.Contains(last, "failed b@remote.example: mx.remote.example [192.0.2.1]: "+tt.later) {
					t.Errorf("became %s", last)
				}
				_, err := r.store.Suppression(t.Context(), addr(t, "b@remote.example"))
				if (err == nil) != tt.suppressed {
					t.Errorf("counted as an address that does not exist: %v", err)
				}
			})
		})
	}
}

// TestWayOutHeld: what is sent on is held like any mail, beyond its five days too: then it gets the one attempt, sealed, and its report.
func TestWayOutHeld(t *testing.T) {
	for _, fails := range []bool{false, true} {
		onEachStore(t, func(t *testing.T, r *rig) {
			r.seals()
			s := r.site("remote.example", "192.0.2.1", &server{answer: func(c string) string {
				if fails && strings.HasPrefix(c, "RCPT") {
					return "450 4.2.0 later"
				}
				return ""
			}})
			receipt := r.sendOnThis(came{body: strangersLetter}, "b@remote.example")
			if err := r.store.HoldJobs(t.Context(), "looked at", receipt.Jobs...); err != nil {
				t.Fatal(err)
			}
			r.start()
			time.Sleep(GiveUpAge + time.Hour)
			synctest.Wait()
			if s.connections() != 0 || len(r.mail()) != 0 || len(r.jobs()) != 1 {
				t.Fatalf("%d connections, reports %q", s.connections(), r.reported())
			}
			if err := r.store.ReleaseJobs(t.Context(), time.Now(), receipt.Jobs...); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour)
			synctest.Wait()
			letters, reports := s.taken(), r.reported()
			if fails && (len(letters) != 0 || len(reports) != 1) || !fails && (len(letters) != 1 || !strings.HasPrefix(letters[0].data, "ARC-Seal: ") || len(reports) != 0) {
				t.Errorf("fails %v: letters %+v, reports %q", fails, letters, reports)
			}
			if len(r.jobs()) != 0 {
				t.Errorf("jobs %+v", r.jobs())
			}
		})
	}
}

// TestWayOutSwitchedOff: while no mail may leave, what is to be sent on waits, and comes back whole to who sends it on when its time is over.
func TestWayOutSwitchedOff(t *testing.T) {
	onEachStore(t, func(t *testing.T, r *rig) {
		r.seals()
		s := r.site("remote.example", "192.0.2.1", &server{})
		far := r.site("far.example", "192.0.2.2", &server{})
		r.outgoing(false)
		r.sendOnThis(came{body: strangersLetter}, "b@remote.example", "c@remote.example")
		r.start()
		time.Sleep(GiveUpAge + time.Hour)
		synctest.Wait()
		mail := r.mail()
		if len(mail) != 1 || len(r.jobs()) != 0 || s.connections() != 0 || far.connections() != 0 {
			t.Fatalf("reports %q, jobs %+v", r.reported(), r.jobs())
		}
		if b := readReport(t, mail[0]); len(b.recipients) != 2 || b.kind != "message/rfc822" || !strings.Contains(b.returned, "A line.") || strings.Contains(b.returned, "ARC-Seal") {
			t.Errorf("report %+v", b)
		}
		r.sendOnThis(came{body: strangersLetter}, "b@remote.example")
		time.Sleep(time.Minute)
		r.outgoing(true)
		time.Sleep(offPause)
		synctest.Wait()
		if len(s.taken()) != 1 {
			t.Errorf("letters %+v, jobs %+v", s.taken(), r.jobs())
		}
	})
}

// TestWayOutDemands: what the sender demanded of TLS goes with the copy (RFC 8689): it does not leave in the clear, and fails to who sends it on.
func TestWayOutDemands(t *testing.T) {
	onEachStore(t, func(t *testing.T, r *rig) {
		r.seals()
		s := r.site("remote.example", "192.0.2.1", &server{caps: []string{"8BITMIME"}})
		far := r.site("far.example", "192.0.2.2", &server{})
		r.keptForward(came{body: strangersLetter, tls: store.TLSRequired}, "b@remote.example")
		r.runFor(GiveUpAge + time.Hour)
		if got := r.reported(); len(got) != 1 || len(r.jobs()) != 0 || len(s.taken()) != 0 || far.connections() != 0 || s.served("MAIL") != 0 {
			t.Errorf("reported %q, letters %+v, jobs %+v", got, s.taken(), r.jobs())
		}
	})
}

// TestWayOutOldHost: what a host cannot be given fails to who sends it on, the last octets of the header included; what only might be more than
// ASCII and is not goes.
func TestWayOutOldHost(t *testing.T) {
	const plain = "From: x@far.example\r\nSubject: hello\r\n\r\nx\r\n"
	for _, tt := range []struct {
		name   string
		c      came
		status string
	}{
		{"SMTPUTF8 that is ASCII", came{body: plain, utf8: true}, ""},
		{"the end of the header", came{body: "From: x@far.example\r\nX: \xc3\xbc\r\n\r\nx\r\n", utf8: true}, "5.6.7"},
		{"the beginning of the header", came{body: "X: \xc3\xbc\r\nFrom: x@far.example\r\nSubject: " + strings.Repeat("long ", 100) + "\r\n\r\nx\r\n", utf8: true}, "5.6.7"},
		{"a body of more than ASCII, declared as such a header", came{body: "From: x@far.example\r\n\r\n\xc3\xbc\r\n", utf8: true}, ""},
		{"a sender that is not ASCII", came{body: plain, utf8: true, from: "gr\xc3\xbc\xc3\x9fe@far.example"}, ""}, // the SRS path of the rig is
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.seals()
				s := r.site("remote.example", "192.0.2.1", &server{caps: []string{"SIZE"}})
				r.sendOnThis(tt.c, "b@remote.example")
				r.runFor(time.Minute)
				mail := r.mail()
				if tt.status == "" {
					if len(s.taken()) != 1 || len(mail) != 0 {
						t.Errorf("letters %+v, reports %q", s.taken(), mail)
					}
					return
				}
				if len(s.taken()) != 0 || len(mail) != 1 || readReport(t, mail[0]).recipients[0].Get("Status") != tt.status {
					t.Errorf("letters %+v, reports %q", s.taken(), mail)
				}
			})
		})
	}
}

// TestWayOutToUs: a target whose mail exchanger is this server again is found out before anything is sent.
func TestWayOutToUs(t *testing.T) {
	onEachStore(t, func(t *testing.T, r *rig) {
		r.seals()
		us := r.site("parked.example", "192.0.2.25", &server{})
		r.opts.Own = func(ap netip.AddrPort) bool { return ap.Addr() == netip.MustParseAddr("192.0.2.25") }
		r.dns.exchangers("named.example", resolver.MX{Host: r.opts.Hostname, Preference: 10})
		r.dns.host(r.opts.Hostname, "192.0.2.26")
		r.sendOnThis(came{body: strangersLetter}, "b@parked.example", "c@named.example")
		r.runFor(time.Minute)
		mail := r.mail()
		if len(mail) != 1 || us.connections() != 0 || len(r.jobs()) != 0 {
			t.Fatalf("reports %q, %d connections, jobs %+v", r.reported(), us.connections(), r.jobs())
		}
		for _, one := range readReport(t, mail[0]).recipients {
			if one.Get("Status") != "5.4.6" {
				t.Errorf("%v", one)
			}
		}
	})
}

// TestWayOutOfAnAlias: an alias leads to a hundred addresses outside. Those that can be had have the same message, sealed once; the postmaster has
// one report on those that cannot, and the stranger none.
func TestWayOutOfAnAlias(t *testing.T) {
	onEachStore(t, func(t *testing.T, r *rig) {
		r.seals()
		post, err := r.store.AddAccount(t.Context(), store.Account{Name: "postmaster", Verifier: "$x", Created: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		far := r.site("far.example", "192.0.2.2", &server{})
		good := r.site("good.example", "192.0.2.3", &server{})
		mixed := r.site("mixed.example", "192.0.2.4", answering(map[string]string{"x1": "550 5.1.1 unknown", "x2": "550 5.1.1 unknown", "x3": "452 4.5.3 enough"}))
		r.site("bad.example", "192.0.2.5", refuser())
		var to []string
		for i := range 25 {
			to = append(to, fmt.Sprintf("x%d@good.example", i), fmt.Sprintf("x%d@mixed.example", i), fmt.Sprintf("x%d@bad.example", i), fmt.Sprintf("x@gone%d.example", i))
		}
		on := store.Onward{By: addr(t, "away@example.org"), ReversePath: addr(t, "srs0=h=tt=far.example=x@example.org")}
		r.sendOnThis(came{body: strangersLetter, on: on}, to...)
		r.start()
		time.Sleep(time.Minute)
		synctest.Wait()
		alice := r.alice
		r.alice = post.ID
		reports := r.reported()
		r.alice = alice
		if len(reports) != 1 || len(strings.Fields(reports[0])) != 2+25+25 || len(r.mail()) != 0 || far.connections() != 0 {
			t.Errorf("reports %q, the stranger's host was called %d times", reports, far.connections())
		}
		seal := func(l letter) string { return l.data[:strings.Index(l.data, "Delivered-To")] }
		sent := 0
		letters := append(good.taken(), mixed.taken()...)
		for _, l := range letters {
			sent += len(l.to)
			if seal(l) != seal(letters[0]) || !strings.HasPrefix(l.data, "ARC-Seal: ") {
				t.Errorf("another seal: %s", seal(l))
			}
		}
		if jobs := r.jobs(); sent != 25+22 || len(jobs) != 1 || jobs[0].Recipient.String() != "x3@mixed.example" {
			t.Errorf("sent to %d, jobs %+v", sent, jobs)
		}
	})
}

// TestWayOutReturns: a report that comes back by the reverse-path of this domain is passed on to the stranger once, with the null reverse-path;
// if it cannot be it is dropped, and no report is made of it.
func TestWayOutReturns(t *testing.T) {
	onEachStore(t, func(t *testing.T, r *rig) {
		r.seals()
		far := r.site("far.example", "192.0.2.2", answering(map[string]string{"gone": "550 5.1.1 unknown"}))
		const back = "From: mailer-daemon@remote.example\r\nSubject: Undelivered\r\n\r\nx\r\n"
		r.queue(post{from: "-", stranger: true, body: back, notify: store.NotifyNever}, "x@far.example", "gone@far.example")
		r.runFor(time.Minute)
		letters := far.taken()
		if len(letters) != 1 || letters[0].data != back || !strings.HasPrefix(letters[0].mail, "MAIL FROM:<>") || len(letters[0].to) != 1 {
			t.Errorf("letters %+v", letters)
		}
		if len(r.jobs()) != 0 || len(r.mail()) != 0 {
			t.Errorf("jobs %+v, reports %q", r.jobs(), r.mail())
		}
	})
}
