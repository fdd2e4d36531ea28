package relay

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// sendOn queues a stranger's message that is sent on by an address here, beside other recipients.
func (r *rig) sendOn(on store.Onward, to string, others ...store.Recipient) store.Receipt {
	r.t.Helper()
	body := "From: x@far.example\r\nSubject: hello\r\n\r\nA line.\r\n"
	e := store.Envelope{
		ReversePath: addr(r.t, "x@far.example"), Received: time.Now(), HeaderLen: int64(strings.Index(body, "\r\n\r\n") + 4),
		Return: store.ReturnHeader, EnvelopeID: "E1", Origin: store.Origin{Door: "mx"},
		Recipients: append(others, store.Recipient{Address: addr(r.t, to), Onward: on}),
	}
	d, err := r.store.NewDraft(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := d.Write([]byte(body)); err != nil {
		r.t.Fatal(err)
	}
	receipt, err := d.Commit(r.t.Context(), e)
	if err != nil {
		r.t.Fatal(err)
	}
	return receipt
}

func (r *rig) byAlice(kept bool) store.Onward {
	return store.Onward{By: addr(r.t, "alice@example.org"), ReversePath: addr(r.t, "srs0=h=tt=far.example=x@example.org"), Kept: kept}
}

// TestSentOnLetter: the copy says where it has been, has the reverse-path of this domain and none of the sender's wishes for reports; another
// recipient of the same message at the same host gets a transaction of its own.
func TestSentOnLetter(t *testing.T) {
	onEachStore(t, func(t *testing.T, r *rig) {
		s := r.site("remote.example", "192.0.2.1", &server{caps: []string{"8BITMIME", "DSN"}})
		r.sendOn(r.byAlice(true), "b@remote.example", store.Recipient{Address: addr(t, "c@remote.example"), Notify: store.NotifyFailure})
		r.runFor(time.Minute)
		letters := s.taken()
		if len(letters) != 2 || len(r.jobs()) != 0 {
			t.Fatalf("letters %+v", letters)
		}
		for _, l := range letters {
			on := strings.Contains(l.to[0], "<b@remote.example>")
			if got := strings.HasPrefix(l.data, "Delivered-To: alice@example.org\r\nFrom: x@far.example\r\n"); got != on || strings.Count(l.data, "A line.") != 1 {
				t.Errorf("sent on %v: %q", on, l.data)
			}
			if got := strings.HasPrefix(l.mail, "MAIL FROM:<srs0=h=tt=far.example=x@example.org>"); got != on {
				t.Errorf("sent on %v: %s", on, l.mail)
			}
			if got := strings.Contains(l.mail, "ENVID") || strings.Contains(l.mail, "RET=") || strings.Contains(l.to[0], "NOTIFY"); got == on {
				t.Errorf("sent on %v: %s %s", on, l.mail, l.to)
			}
		}
	})
}

// TestSentOnFails: the mailbox is told, with the message where it kept none, and the stranger who wrote is not.
func TestSentOnFails(t *testing.T) {
	for _, kept := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			r.site("remote.example", "192.0.2.1", refuser())
			far := r.site("far.example", "192.0.2.2", &server{})
			r.sendOn(r.byAlice(kept), "b@remote.example")
			r.runFor(time.Minute)
			mail := r.mail()
			if len(mail) != 1 || len(far.taken()) != 0 || len(r.jobs()) != 0 {
				t.Fatalf("kept %v: %d reports, to the stranger %+v, jobs %+v", kept, len(mail), far.taken(), r.jobs())
			}
			b := readReport(t, mail[0])
			kind, word := "message/rfc822", "It was not kept here"
			if kept {
				kind, word = "text/rfc822-headers", "It is in your mailbox here"
			}
			if b.kind != kind || !strings.Contains(b.text, word) || !strings.Contains(b.text, "Mail for alice@example.org is sent on from here") {
				t.Errorf("kept %v: %s %q", kept, b.kind, b.text)
			}
			if b.message.Get("Original-Envelope-Id") != "" || b.header.Get("To") != "<alice@example.org>" || b.recipients[0].Get("Action") != "failed" {
				t.Errorf("kept %v: %v %v", kept, b.message, b.header)
			}
		})
	}
}

// TestSentOnIsToldSeldom: where the mailbox keeps its mail it is told of the same address once a day, and never of a delay.
func TestSentOnIsToldSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.site("remote.example", "192.0.2.1", refuser())
		r.dns.host("dead.example", "192.0.2.9")
		r.start()
		told := func(want int) {
			t.Helper()
			time.Sleep(time.Minute)
			synctest.Wait()
			if got := len(r.mail()); got != want {
				t.Errorf("told %d times, want %d", got, want)
			}
		}
		for range 3 {
			r.sendOn(r.byAlice(true), "b@remote.example")
		}
		told(1)
		r.sendOn(r.byAlice(true), "c@remote.example")
		told(2)
		for range 2 {
			r.sendOn(r.byAlice(false), "b@remote.example")
		}
		told(4)
		r.sendOn(r.byAlice(false), "d@dead.example")
		time.Sleep(25 * time.Hour)
		r.sendOn(r.byAlice(true), "b@remote.example")
		told(5)
		time.Sleep(GiveUpAge)
		told(6) // given up at last
	})
}

// TestSentOnByAnAlias: postmaster hears of what an alias cannot send on, and of what a mailbox that is gone cannot; without one, the log does.
func TestSentOnByAnAlias(t *testing.T) {
	onEachStore(t, func(t *testing.T, r *rig) {
		r.site("remote.example", "192.0.2.1", refuser())
		on := r.byAlice(false)
		on.By = addr(t, "away@example.org")
		if err := r.store.PutAlias(t.Context(), store.Alias{Name: "away", Outside: []mailaddr.Address{addr(t, "b@remote.example")}}); err != nil {
			t.Fatal(err)
		}
		first := r.sendOn(on, "b@remote.example")
		r.runFor(time.Minute)
		if len(r.jobs()) != 0 || !strings.Contains(r.logged.String(), "report not stored") {
			t.Errorf("without a postmaster: jobs %+v\n%s", r.jobs(), r.logged)
		}
		if trail := strings.Join(r.trail(first.Message), "\n"); !strings.Contains(trail, "failed b@remote.example") {
			t.Errorf("trail %s", trail)
		}
		if err := r.store.PutAlias(t.Context(), store.Alias{Name: "postmaster", Targets: []store.AccountID{r.alice}}); err != nil {
			t.Fatal(err)
		}
		r.sendOn(on, "b@remote.example")
		r.runFor(time.Minute)
		mail := r.mail()
		if len(mail) != 1 || readReport(t, mail[0]).header.Get("To") != "<postmaster@example.org>" {
			t.Errorf("postmaster got %q", mail)
		}
		if _, err := r.store.Suppression(t.Context(), addr(t, "b@remote.example")); errors.Is(err, store.ErrNotFound) {
			t.Error("the address is not counted as failed")
		}
	})
}
