package relay

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"latchkey/store"
)

// TestGivenUp: deliveries that somebody gave up end without an attempt, however many, and their senders are told by the usual rules: one report a
// message, none where NOTIFY says never or nobody sent it. Those beside them are sent.
func TestGivenUp(t *testing.T) {
	onEachStore(t, func(t *testing.T, r *rig) {
		s := r.site("remote.example", "192.0.2.1", &server{})
		var many []string
		for i := range 40 {
			many = append(many, fmt.Sprintf("r%d@remote.example", i))
		}
		usual := r.queue(post{}, many...)
		silent := r.queue(post{notify: store.NotifyNever}, "silent@remote.example")
		nobody := r.queue(post{from: "-"}, "nobody@remote.example")
		sent := r.queue(post{}, "bob@remote.example")
		if err := r.store.HoldJobs(t.Context(), "odd", usual.Jobs[0]); err != nil {
			t.Fatal(err)
		}
		for _, ids := range [][]store.JobID{usual.Jobs, silent.Jobs, nobody.Jobs} {
			if err := r.store.GiveUpJobs(t.Context(), time.Now(), "sent by mistake", ids...); err != nil {
				t.Fatal(err)
			}
		}
		r.runFor(time.Minute)
		if letters := s.taken(); len(letters) != 1 || len(letters[0].to) != 1 || !strings.Contains(letters[0].to[0], "bob@remote.example") {
			t.Errorf("letters: %+v", letters)
		}
		if left := r.jobs(); len(left) != 0 {
			t.Errorf("left over: %+v", left)
		}
		reports := r.mail()
		told := 0
		for _, raw := range reports {
			for _, rcpt := range readReport(t, raw).recipients {
				told++
				if rcpt.Get("Status") != "5.7.0" || !strings.Contains(rcpt.Get("Diagnostic-Code")+raw, "sent by mistake") {
					t.Errorf("reported as %v", rcpt)
				}
			}
		}
		if told != len(many) || strings.Contains(strings.Join(reports, ""), "silent@") {
			t.Errorf("%d recipients were reported, want %d", told, len(many))
		}
		for _, receipt := range []store.Receipt{usual, silent, nobody} {
			trail := strings.Join(r.trail(receipt.Message), "\n")
			if !strings.Contains(trail, "given up") || !strings.Contains(trail, "taken out of the queue by hand: sent by mistake") ||
				strings.Contains(trail, "reported") != (receipt.Message == usual.Message) {
				t.Errorf("trail:\n%s", trail)
			}
		}
		if trail := r.trail(sent.Message); !strings.HasPrefix(trail[2], "delivered") {
			t.Errorf("trail %q", trail)
		}
	})
}

// TestPeerInTrail: the host of an attempt is in the trail in its parts, and the job remembers it.
func TestPeerInTrail(t *testing.T) {
	onEachStore(t, func(t *testing.T, r *rig) {
		r.site("remote.example", "192.0.2.1", &server{answer: func(c string) string {
			if strings.HasPrefix(c, "RCPT") {
				return "450 4.2.0 later"
			}
			return ""
		}})
		receipt := r.queue(post{}, "bob@remote.example")
		r.runFor(time.Second)
		if j := r.jobs(); len(j) != 1 || j[0].LastHost != "mx.remote.example" {
			t.Errorf("jobs %+v", j)
		}
		events, err := r.store.MessageTrail(t.Context(), receipt.Message)
		if err != nil || len(events) != 3 {
			t.Fatalf("trail %+v, %v", events, err)
		}
		if p := events[2].Peer; p.Host != "mx.remote.example" || p.Addr.String() != "192.0.2.1" || p.TLS != "" {
			t.Errorf("peer %+v", p)
		}
	})
}
