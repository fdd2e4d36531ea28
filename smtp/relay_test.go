package smtp

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"latchkey/internal/relayprobe"
	"latchkey/store"
)

// play plays a probe and takes every answer. It returns the reply to the probe's RCPT.
func play(p relayprobe.Probe, c *client, from string) (rcpt string) {
	c.f.t.Helper()
	rcpt, _ = p.Play(from, func(octets string) string {
		c.send(octets)
		return c.reply()
	})
	return rcpt
}

// A stranger never relays, at no door and by no trick: whatever is said to a probe, no job ever appears, and 250 to a recipient means a
// message in a local maildrop. Between the probes a proper message goes through, so that the silence is not a broken server's.
func TestStrangersNeverRelay(t *testing.T) {
	for _, door := range []Door{MX, Submission} {
		for _, catchAll := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, catch-all %v", door, catchAll), func(t *testing.T) {
				f := newFixture(t, door)
				if catchAll {
					f.must(f.store.PutAlias(context.Background(), store.Alias{Name: store.CatchAll, Targets: []store.AccountID{f.ids["alice"]}}))
				}
				f.serve()
				for _, p := range relayprobe.Probes() {
					before := len(f.mail("alice")) + len(f.mail("bob"))
					c := f.dial()
					c.expect("220 ")
					reply := play(p, c, "x@remote.example")
					after := len(f.mail("alice")) + len(f.mail("bob"))
					if jobs := f.jobs(); len(jobs) != 0 {
						t.Fatalf("%s: relayed: %+v", p.Name, jobs)
					}
					if strings.HasPrefix(reply, "250") && strings.HasPrefix(p.Rcpt, "RCPT") && after == before {
						t.Errorf("%s: accepted (%q) and not found in a maildrop", p.Name, reply)
					}
					if door == Submission && after != before {
						t.Errorf("%s: delivered without AUTH", p.Name)
					}
					f.control(door)
				}
				if n := len(f.mail("dave")); n != len(relayprobe.Probes()) {
					t.Errorf("%d control messages arrived, want %d", n, len(relayprobe.Probes()))
				}
			})
		}
	}
}

// control sends a proper message to dave.
func (f *fixture) control(door Door) {
	f.t.Helper()
	f.update("dave", func(a *store.Account) { a.Quota = store.Quota{} })
	if door == MX {
		f.greeted().message("x@remote.example", "dave@example.com", shortMessage)
		return
	}
	f.loggedIn("bob").message("bob@example.com", "dave@example.com", "From: bob@example.com\r\n\r\n")
}

// Who is authenticated relays exactly what the table says: never to another host than the one after the last @, never in another's name.
func TestAuthenticatedProbes(t *testing.T) {
	for _, door := range []Door{MX, Submission} {
		f := newFixture(t, door).serve()
		for _, p := range relayprobe.Probes() {
			c := f.loggedIn("alice")
			play(p, c, "alice@example.com")
			want, ok := relayprobe.Allowed()[p.Name]
			jobs := f.jobs()
			for _, j := range jobs {
				if !ok || j.Recipient.String() != want || j.Submitter != f.ids["alice"] {
					t.Errorf("%s, %s: job for %s", door, p.Name, j.Recipient)
				}
				if !slices.Contains([]string{"alice@example.com", ""}, j.ReversePath.String()) {
					t.Errorf("%s, %s: reverse-path %s", door, p.Name, j.ReversePath)
				}
				f.must(f.store.RemoveJobs(context.Background(), j.ID))
			}
			if ok && len(jobs) != 1 {
				t.Errorf("%s, %s: %d jobs, want 1", door, p.Name, len(jobs))
			}
			f.control(Submission)
		}
	}
}
