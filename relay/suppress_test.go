package relay

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/store"
)

// answering is a server that refuses recipients as its table says, by local part.
func answering(replies map[string]string) *server {
	return &server{answer: func(c string) string {
		for local, reply := range replies {
			if strings.HasPrefix(c, "RCPT TO:<"+local+"@") {
				return reply
			}
		}
		return ""
	}}
}

// TestFailuresAreCounted: an address whose server says twice that it does not exist is suppressed; one that policy, a full mailbox or a broken
// line stands before is not, nor one that failed once.
func TestFailuresAreCounted(t *testing.T) {
	onEachStore(t, func(t *testing.T, r *rig) {
		r.site("remote.example", "192.0.2.1", answering(map[string]string{
			"gone": "550 5.1.1 unknown", "old": "550 no such user", "closed": "550 5.2.1 disabled", "policy": "550 5.7.1 no",
			"listed": "550 5.1.1 blocked by spamhaus", "full": "552 5.2.2 full", "once": "550 5.1.1 unknown", "later": "450 4.1.1 unknown",
		}))
		r.site("refuses.example", "192.0.2.2", &server{answer: func(c string) string {
			if strings.HasPrefix(c, "MAIL") {
				return "550 5.1.1 no such user: you"
			}
			return ""
		}})
		r.dns.host("dead.example", "192.0.2.9")
		to := []string{"gone", "old", "closed", "policy", "listed", "full", "later", "fine"}
		for range 2 {
			for _, local := range to {
				r.queue(post{}, local+"@remote.example")
			}
			r.queue(post{}, "x@refuses.example")
			r.queue(post{received: time.Now().Add(-GiveUpAge)}, "x@dead.example")
		}
		r.queue(post{}, "once@remote.example")
		r.runFor(time.Minute)
		list, err := r.store.ListSuppressions(t.Context(), "", 100)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, s := range list {
			if s.Active(time.Now()) {
				got = append(got, s.Address.Local()+": "+s.Reason)
			}
		}
		want := "closed: 550 5.2.1 disabled\ngone: 550 5.1.1 unknown\nold: 550 no such user"
		if strings.Join(got, "\n") != want {
			t.Errorf("suppressed\n%s\nwant\n%s", strings.Join(got, "\n"), want)
		}
		if s, err := r.store.Suppression(t.Context(), addr(t, "once@remote.example")); err != nil || s.Failures != 1 || s.Active(time.Now()) {
			t.Errorf("once: %+v, %v", s, err)
		}
		if _, err := r.store.Suppression(t.Context(), addr(t, "policy@remote.example")); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("policy: %v", err)
		}
	})
}

// TestDelayNoticeSetting: the owner of the domain says when the notice is due, or that there is none.
func TestDelayNoticeSetting(t *testing.T) {
	for _, hours := range []int{0, 1, 48} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			s, err := r.store.Settings(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			s.DelayNotice = hours
			if _, err := r.store.UpdateSettings(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			r.dns.host("dead.example", "192.0.2.9")
			r.queue(post{}, "bob@dead.example")
			begin := time.Now()
			r.runFor(4*24*time.Hour + 12*time.Hour)
			mail := r.mail()
			if hours == 0 {
				if len(mail) != 0 {
					t.Errorf("told of a delay: %q", mail)
				}
				return
			}
			if len(mail) != 1 {
				t.Fatalf("%d hours: %d notices", hours, len(mail))
			}
			b := readReport(t, mail[0])
			at, err := b.header.Date()
			if err != nil {
				t.Fatal(err)
			}
			if age := at.Sub(begin); age < time.Duration(hours)*time.Hour || age > time.Duration(hours)*time.Hour+5*time.Hour {
				t.Errorf("%d hours: told after %v", hours, age)
			}
			for _, part := range []string{"It is tried again at about ", "until " + begin.Add(GiveUpAge).Format("Monday, 2 January 2006, 15:04 MST")} {
				if !strings.Contains(strings.Join(strings.Fields(b.text), " "), part) {
					t.Errorf("%q is not in %q", part, b.text)
				}
			}
		})
	}
}
