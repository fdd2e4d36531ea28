package relay

import (
	"bufio"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"net/textproto"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/store"
)

// report is a report taken apart by the standard library.
type report struct {
	header     mail.Header
	text       string
	message    textproto.MIMEHeader
	recipients []textproto.MIMEHeader
	returned   string
	kind       string // of what is returned
}

func readReport(t *testing.T, raw string) report {
	t.Helper()
	m, err := mail.ReadMessage(strings.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/report" {
		t.Fatalf("type %q: %v", kind, err)
	}
	rep := report{header: m.Header}
	parts := multipart.NewReader(m.Body, params["boundary"])
	for i := range 3 {
		p, err := parts.NextRawPart()
		if err != nil {
			t.Fatalf("part %d: %v", i, err)
		}
		b, err := io.ReadAll(p)
		if err != nil {
			t.Fatal(err)
		}
		switch i {
		case 0:
			rep.text = string(b)
		case 1:
			blocks := textproto.NewReader(bufio.NewReader(strings.NewReader(string(b))))
			for {
				block, err := blocks.ReadMIMEHeader()
				if len(block) > 0 && rep.message == nil {
					rep.message = block
				} else if len(block) > 0 {
					rep.recipients = append(rep.recipients, block)
				}
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
			}
		case 2:
			rep.kind, rep.returned = p.Header.Get("Content-Type"), string(b)
		}
	}
	return rep
}

// refuser is a server that knows nobody.
func refuser() *server {
	return &server{answer: func(c string) string {
		if strings.HasPrefix(c, "RCPT") {
			return "550 5.1.1 unknown"
		}
		return ""
	}}
}

// A bounce has the international form only if something in it needs that, whatever the client declared.
func TestBounceForm(t *testing.T) {
	const international = "From: alice@example.org\r\nSubject: gr\u00fc\u00dfe\r\n\r\nbody\r\n"
	for _, tt := range []struct{ name, body, to, kind string }{
		{"declared only", usualBody, "bob@remote.example", "text/rfc822-headers"},
		{"header", international, "bob@remote.example", "message/global-headers"},
		{"recipient", usualBody, "b\u00f6b@remote.example", "message/global-headers"},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			r.site("remote.example", "192.0.2.1", refuser())
			r.queue(post{utf8: true, eightBit: true, body: tt.body}, tt.to)
			r.runFor(time.Second)
			all := r.mail()
			if len(all) != 1 {
				t.Fatalf("%s: %d bounces\n%s", tt.name, len(all), r.logged)
			}
			if b := readReport(t, all[0]); b.kind != tt.kind {
				t.Errorf("%s: returned as %s, want %s", tt.name, b.kind, tt.kind)
			}
		})
	}
}

// TestBounce reads the report on a failure: who, to whom, what and how much of the message.
func TestBounce(t *testing.T) {
	header := usualBody[:strings.Index(usualBody, "\r\n\r\n")+2]
	for _, tt := range []struct {
		ret      store.Return
		kind     string
		returned string
	}{
		{store.ReturnUnset, "text/rfc822-headers", header}, {store.ReturnHeader, "text/rfc822-headers", header}, {store.ReturnFull, "message/rfc822", usualBody},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			r.site("remote.example", "192.0.2.1", refuser())
			r.queue(post{ret: tt.ret, envid: "E 1", original: "rfc822;b@example.net"}, "bob@remote.example")
			r.runFor(time.Second)
			all := r.mail()
			if len(all) != 1 {
				t.Fatalf("%d bounces\n%s", len(all), r.logged)
			}
			if !strings.HasPrefix(all[0], "Return-Path: <>\r\nDelivered-To: alice@example.org\r\n") {
				t.Errorf("begins with %q", all[0][:80])
			}
			b := readReport(t, all[0])
			if b.kind != tt.kind || strings.TrimRight(b.returned, "\r\n") != strings.TrimRight(tt.returned, "\r\n") {
				t.Errorf("RET=%s: returned %s: %q", tt.ret, b.kind, b.returned)
			}
			if b.header.Get("From") != "Mail Delivery System <postmaster@example.org>" || b.header.Get("To") != "<alice@example.org>" ||
				b.header.Get("Auto-Submitted") != "auto-replied" || b.header.Get("Message-Id") == "" {
				t.Errorf("header: %v", b.header)
			}
			if b.message.Get("Original-Envelope-Id") != "E 1" || b.message.Get("Reporting-Mta") != "dns; mail.example.org" || b.message.Get("Arrival-Date") == "" {
				t.Errorf("message fields: %v", b.message)
			}
			if b.recipients[0].Get("Original-Recipient") != "rfc822; b@example.net" || b.recipients[0].Get("Action") != "failed" {
				t.Errorf("recipient fields: %v", b.recipients)
			}
			if !strings.Contains(b.text, "bob@remote.example") || !strings.Contains(b.text, "550 5.1.1 unknown") || !strings.Contains(b.text, "spelt right") {
				t.Errorf("text: %q", b.text)
			}
		})
	}
}

// TestNoBounce: never to the null reverse-path, and not where NOTIFY says no (RFC 5321 §6.1, RFC 3461 §5.2.6).
func TestNoBounce(t *testing.T) {
	for _, p := range []post{{from: "-"}, {notify: store.NotifyNever}, {notify: store.NotifySuccess}, {notify: store.NotifyDelay}} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			r.site("remote.example", "192.0.2.1", refuser())
			receipt := r.queue(p, "bob@remote.example")
			r.runFor(time.Second)
			if len(r.mail()) != 0 || len(r.jobs()) != 0 {
				t.Errorf("%+v: mail %q, jobs %+v", p, r.mail(), r.jobs())
			}
			if trail := strings.Join(r.trail(receipt.Message), "\n"); !strings.Contains(trail, "failed bob@remote.example: mx.remote.example [192.0.2.1]: 550 5.1.1 unknown") {
				t.Errorf("trail %s", trail)
			}
		})
	}
}

// TestBounceGoesOut: a reverse-path elsewhere gets its bounce by the queue, from the null reverse-path, and is never answered again.
func TestBounceGoesOut(t *testing.T) {
	onEachStore(t, func(t *testing.T, r *rig) {
		r.site("remote.example", "192.0.2.1", refuser())
		home := r.site("home.example", "192.0.2.2", &server{})
		r.queue(post{from: "list@home.example"}, "bob@remote.example")
		r.queue(post{from: "list@gone.example"}, "bob@remote.example")
		r.runFor(time.Minute)
		l := home.taken()
		if len(l) != 1 || !strings.HasPrefix(l[0].mail, "MAIL FROM:<> ") || !strings.Contains(l[0].to[0], "<list@home.example> NOTIFY=NEVER") {
			t.Fatalf("letters %+v", l)
		}
		if b := readReport(t, l[0].data); b.recipients[0].Get("Status") != "5.1.1" {
			t.Errorf("report %+v", b)
		}
		if len(r.jobs()) != 0 || len(r.mail()) != 0 {
			t.Errorf("left over: %+v", r.jobs())
		}
	})
}

// TestBounceToNowhere: a full, suspended or removed mailbox gets no bounce; the outcome is kept all the same, and nothing loops.
func TestBounceToNowhere(t *testing.T) {
	for name, spoil := range map[string]func(*rig, *store.Account){
		"full":      func(_ *rig, a *store.Account) { a.Quota.Octets = 10 },
		"suspended": func(_ *rig, a *store.Account) { a.Suspended = true },
		"gone":      nil,
	} {
		onEachStore(t, func(t *testing.T, r *rig) {
			r.site("remote.example", "192.0.2.1", refuser())
			receipt := r.queue(post{}, "bob@remote.example")
			a, err := r.store.Account(t.Context(), r.alice)
			if err != nil {
				t.Fatal(err)
			}
			if spoil != nil {
				spoil(r, &a)
				_, err = r.store.UpdateAccount(t.Context(), a)
			} else {
				err = r.store.RemoveAccount(t.Context(), r.alice)
			}
			if err != nil {
				t.Fatal(err)
			}
			r.runFor(time.Hour)
			if trail := strings.Join(r.trail(receipt.Message), "\n"); len(r.jobs()) != 0 || !strings.Contains(trail, "failed bob@remote.example") {
				t.Errorf("%s: jobs %+v, trail %s", name, r.jobs(), trail)
			}
			if !strings.Contains(r.logged.String(), "report not stored") {
				t.Errorf("%s: not logged: %s", name, r.logged)
			}
		})
	}
}

// TestFullReturnWithoutRoom: where the whole message does not fit into the sender's mailbox any more, or into the domain, the bounce comes
// with its header.
func TestFullReturnWithoutRoom(t *testing.T) {
	for _, of := range []string{"mailbox", "domain"} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			r.site("remote.example", "192.0.2.1", refuser())
			r.queue(post{ret: store.ReturnFull, body: "Subject: x\r\n\r\n" + strings.Repeat("a line\r\n", 10_000)}, "bob@remote.example")
			a, err := r.store.Account(t.Context(), r.alice)
			s, errSettings := r.store.Settings(t.Context())
			if err := errors.Join(err, errSettings); err != nil {
				t.Fatal(err)
			}
			if of == "mailbox" {
				a.Quota.Octets = 10_000
				_, err = r.store.UpdateAccount(t.Context(), a)
			} else {
				s.DomainOctets = 10_000
				_, err = r.store.UpdateSettings(t.Context(), s)
			}
			if err != nil {
				t.Fatal(err)
			}
			r.runFor(time.Second)
			if mail := r.mail(); len(mail) != 1 || readReport(t, mail[0]).kind != "text/rfc822-headers" {
				t.Errorf("%s: bounces %q\n%s", of, mail, r.logged)
			}
		})
	}
}

// TestRelayedReport: who asked to be told of success is told by us where the host gives no reports (RFC 3461 §5.2.2), and by nobody else.
func TestRelayedReport(t *testing.T) {
	for _, dsn := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			caps := []string{"8BITMIME"}
			if dsn {
				caps = append(caps, "DSN")
			}
			s := r.site("remote.example", "192.0.2.1", &server{caps: caps})
			r.queue(post{notify: store.NotifySuccess, ret: store.ReturnFull}, "bob@remote.example", "carol@remote.example")
			r.runFor(time.Second)
			if len(s.taken()) != 1 || len(r.jobs()) != 0 {
				t.Fatalf("letters %+v", s.taken())
			}
			if dsn {
				if len(r.mail()) != 0 {
					t.Errorf("a report of our own although the host has DSN: %q", r.mail())
				}
				return
			}
			b := readReport(t, r.mail()[0])
			if len(r.mail()) != 1 || len(b.recipients) != 2 || b.recipients[0].Get("Action") != "relayed" || b.recipients[0].Get("Status") != "2.0.0" ||
				b.kind != "text/rfc822-headers" {
				t.Errorf("report %+v", b)
			}
		})
	}
}

// TestNoticeAndGivingUp follows a message to a dead host through five days: attempts on schedule, one notice, one bounce.
func TestNoticeAndGivingUp(t *testing.T) {
	onEachStore(t, func(t *testing.T, r *rig) {
		r.dns.host("dead.example", "192.0.2.9")
		begin := time.Now()
		r.queue(post{}, "bob@dead.example")
		r.start()
		for _, at := range []time.Duration{0, 5 * time.Minute, 15 * time.Minute, 35 * time.Minute, 75 * time.Minute, 135 * time.Minute} {
			time.Sleep(time.Until(begin.Add(at + 5*time.Second)))
			synctest.Wait()
		}
		if got := r.net.dialled("192.0.2.9:25"); got != 6 {
			t.Errorf("%d attempts after 135 minutes, want 6", got)
		}
		if j := r.jobs(); j[0].Attempts != 6 || j[0].Warned || len(r.mail()) != 0 {
			t.Errorf("job %+v, mail %q", j, r.mail())
		}
		time.Sleep(time.Until(begin.Add(255*time.Minute + 5*time.Second)))
		synctest.Wait()
		mail := r.mail()
		if len(mail) != 1 || !r.jobs()[0].Warned {
			t.Fatalf("%d notices, job %+v", len(mail), r.jobs())
		}
		b := readReport(t, mail[0])
		until := begin.Add(GiveUpAge).Format("Mon, 2 Jan 2006 15:04:05 -0700")
		if b.recipients[0].Get("Action") != "delayed" || b.recipients[0].Get("Status") != "4.4.1" || b.recipients[0].Get("Will-Retry-Until") != until {
			t.Errorf("notice: %v", b.recipients)
		}
		time.Sleep(time.Until(begin.Add(GiveUpAge - time.Second)))
		synctest.Wait()
		if len(r.mail()) != 1 || len(r.jobs()) != 1 {
			t.Errorf("before the end: %d messages, jobs %+v", len(r.mail()), r.jobs())
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		mail = r.mail()
		if len(mail) != 2 || len(r.jobs()) != 0 {
			t.Fatalf("at the end: %d messages, jobs %+v", len(mail), r.jobs())
		}
		b = readReport(t, mail[1])
		if b.recipients[0].Get("Status") != "5.4.7" || !strings.Contains(b.text, "for 5 days, and so it was given up") || !strings.Contains(strings.Join(strings.Fields(b.text), " "), "connection refused") {
			t.Errorf("bounce: %v %q", b.recipients, b.text)
		}
	})
}
