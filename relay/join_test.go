package relay

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/internal/message"
	"latchkey/store"
)

// reported are the recipients in each of the reports that alice has.
func (r *rig) reported() (list []string) {
	r.t.Helper()
	for _, m := range r.mail() {
		var names []string
		for _, one := range readReport(r.t, m).recipients {
			names = append(names, strings.TrimPrefix(one.Get("Final-Recipient"), "rfc822; "))
		}
		list = append(list, strings.Join(names, " "))
	}
	return list
}

// TestOneReport: what fails of a message at several destinations at about the same time is one report; what fails later is another; what was
// delivered or waits is in neither.
func TestOneReport(t *testing.T) {
	onEachStore(t, func(t *testing.T, r *rig) {
		begin := time.Now()
		r.site("one.example", "192.0.2.1", refuser())
		r.site("two.example", "192.0.2.2", refuser())
		r.site("slow.example", "192.0.2.3", &server{answer: func(c string) string {
			if strings.HasPrefix(c, "RCPT") {
				time.Sleep(joinTime - time.Second)
				return "550 5.1.1 unknown"
			}
			return ""
		}})
		r.site("good.example", "192.0.2.4", &server{})
		r.site("late.example", "192.0.2.5", &server{answer: func(c string) string {
			if !strings.HasPrefix(c, "RCPT") {
				return ""
			}
			if time.Since(begin) > time.Minute {
				return "550 5.1.1 unknown"
			}
			return "450 4.2.0 later"
		}})
		r.queue(post{}, "a@one.example", "b@two.example", "c@slow.example", "d@good.example", "e@late.example", "f@nowhere.example")
		r.queue(post{from: "alice+x@example.org"}, "a@one.example", "b@two.example") // another message
		r.start()
		time.Sleep(joinTime / 2)
		synctest.Wait()
		if got := r.reported(); len(got) != 0 || len(r.jobs()) < 5 {
			t.Errorf("reported %q, %d jobs: nothing is kept of a failure before its report", got, len(r.jobs()))
		}
		time.Sleep(joinTime)
		synctest.Wait()
		got := r.reported()
		if len(got) != 2 || len(strings.Fields(got[0])) != 4 && len(strings.Fields(got[1])) != 4 || len(strings.Fields(got[0]))+len(strings.Fields(got[1])) != 6 {
			t.Errorf("reported %q, want one report on four and one on two", got)
		}
		if jobs := r.jobs(); len(jobs) != 1 || jobs[0].Recipient.String() != "e@late.example" {
			t.Errorf("jobs %+v", jobs)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := r.reported(); len(got) != 3 || got[2] != "e@late.example" || len(r.jobs()) != 0 {
			t.Errorf("reported %q at last", got)
		}
	})
}

// TestOneRecipientWaitsForNobody: the report on a message that had one destination comes at once.
func TestOneRecipientWaitsForNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.site("one.example", "192.0.2.1", refuser())
		r.queue(post{}, "a@one.example")
		r.start()
		time.Sleep(time.Second)
		synctest.Wait()
		if got := r.reported(); len(got) != 1 {
			t.Errorf("reported %q", got)
		}
	})
}

// TestOneReportAtTheStop: a stop does not wait for the time, and loses nothing.
func TestOneReportAtTheStop(t *testing.T) {
	onEachStore(t, func(t *testing.T, r *rig) {
		r.site("one.example", "192.0.2.1", refuser())
		r.site("two.example", "192.0.2.2", refuser())
		r.queue(post{}, "a@one.example", "b@two.example")
		begin := time.Now()
		r.runFor(time.Second)
		if took := time.Since(begin); took > 2*time.Second {
			t.Errorf("the stop took %s", took)
		}
		if got := r.reported(); len(got) != 1 || len(strings.Fields(got[0])) != 2 || len(r.jobs()) != 0 {
			t.Errorf("reported %q, jobs %+v", got, r.jobs())
		}
		r.queue(post{}, "a@one.example", "b@two.example")
		r.runFor(time.Minute) // the same runner's rig again
		if got := r.reported(); len(got) != 2 {
			t.Errorf("reported %q in the next run", got)
		}
	})
}

// TestOneReportIsBounded: a report has maxJoined recipients at most, and no more than maxJoins messages wait; beyond that there are more
// reports, and every failure is in exactly one.
func TestOneReportIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.opts.Limits.Connecting = 100
		var to []string
		for i := range 2*maxJoined + 50 {
			to = append(to, fmt.Sprintf("x@n%d.example", i)) // there are no such domains
		}
		r.queue(post{}, to...)
		for range maxJoins + 10 {
			r.queue(post{}, "a@no.example", "b@none.example")
		}
		r.start()
		time.Sleep(time.Minute)
		synctest.Wait()
		most, all, large := 0, 0, map[string]int{}
		for _, one := range r.reported() {
			names := strings.Fields(one)
			most, all = max(most, len(names)), all+len(names)
			for _, n := range names {
				large[n]++
			}
		}
		if most != maxJoined || all != len(to)+2*(maxJoins+10) || len(r.jobs()) != 0 {
			t.Errorf("the largest report has %d recipients, all %d, %d jobs left", most, all, len(r.jobs()))
		}
		for _, n := range to {
			if large[n] != 1 {
				t.Errorf("%s is in %d reports", n, large[n])
			}
		}
	})
}

// TestOneReportTroubles: whatever happens while failures wait, each that is still a job is reported once.
func TestOneReportTroubles(t *testing.T) {
	for name, trouble := range map[string]func(r *rig, f *faulty){
		"a job is removed": func(r *rig, _ *faulty) {
			if err := r.store.RemoveJobs(r.t.Context(), r.jobs()[0].ID); err != nil {
				r.t.Fatal(err)
			}
		},
		"the store fails for a while": func(_ *rig, f *faulty) {
			until := time.Now().Add(time.Hour)
			f.mu.Lock()
			defer f.mu.Unlock()
			f.at = func(_ int, verb string) error {
				if verb == "NewDraft" && time.Now().Before(until) {
					return errors.New("no room for drafts")
				}
				return nil
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			onEachStore(t, func(t *testing.T, r *rig) {
				f := &faulty{Store: r.store}
				r.through = f
				r.site("one.example", "192.0.2.1", refuser())
				r.site("two.example", "192.0.2.2", refuser())
				r.queue(post{}, "a@one.example", "b@two.example", "c@two.example")
				r.start()
				time.Sleep(time.Second)
				synctest.Wait()
				left := 3
				if strings.HasPrefix(name, "a job") {
					left = 2
				}
				trouble(r, f)
				time.Sleep(3 * time.Hour)
				synctest.Wait()
				if all := strings.Join(r.reported(), " "); len(strings.Fields(all)) != left || len(r.jobs()) != 0 {
					t.Errorf("reported %q, jobs %+v\n%s", all, r.jobs(), r.logged)
				}
			})
		})
	}
}

// TestOnwardNoticeSurvives: the notice on mail that is kept and cannot be sent on comes once the store takes it, though there is one a day only.
func TestOnwardNoticeSurvives(t *testing.T) {
	onEachStore(t, func(t *testing.T, r *rig) {
		f, until := &faulty{Store: r.store}, time.Now().Add(time.Hour)
		r.through = f
		f.at = func(_ int, verb string) error {
			if verb == "NewDraft" && time.Now().Before(until) {
				return errors.New("no room for drafts")
			}
			return nil
		}
		r.site("one.example", "192.0.2.1", refuser())
		r.sendOn(r.byAlice(true), "a@one.example")
		r.runFor(3 * time.Hour)
		if got := r.reported(); len(got) != 1 || len(r.jobs()) != 0 {
			t.Errorf("reported %q, jobs %+v\n%s", got, r.jobs(), r.logged)
		}
	})
}

// TestOnwardReportFindsRoom: what was to be sent on and is nowhere else comes to the postmaster, whole, where the mailbox takes nothing.
func TestOnwardReportFindsRoom(t *testing.T) {
	for name, spoil := range map[string]func(*store.Account){
		"full": func(a *store.Account) { a.Quota.Octets = 10 }, "suspended": func(a *store.Account) { a.Suspended = true },
	} {
		onEachStore(t, func(t *testing.T, r *rig) {
			r.site("remote.example", "192.0.2.1", refuser())
			post, err := r.store.AddAccount(t.Context(), store.Account{Name: "postmaster", Verifier: "$x", Created: time.Now()})
			if err != nil {
				t.Fatal(err)
			}
			r.sendOn(r.byAlice(false), "b@remote.example")
			a, err := r.store.Account(t.Context(), r.alice)
			if err == nil {
				spoil(&a)
				_, err = r.store.UpdateAccount(t.Context(), a)
			}
			if err != nil {
				t.Fatal(err)
			}
			r.runFor(time.Minute)
			r.alice = post.ID
			mail := r.mail()
			if len(mail) != 1 || len(r.jobs()) != 0 {
				t.Fatalf("%s: %d reports, jobs %+v\n%s", name, len(mail), r.jobs(), r.logged)
			}
			if b := readReport(t, mail[0]); b.kind != "message/rfc822" || !strings.Contains(b.returned, "A line.") || b.header.Get("To") != "<postmaster@example.org>" {
				t.Errorf("%s: %s to %s: %q", name, b.kind, b.header.Get("To"), b.returned)
			}
		})
	}
}

// TestJoins: the bounds of one report at both ends, for failures that come several at a time.
func TestJoins(t *testing.T) {
	some := func(n int) (group []ending) {
		for range n {
			group = append(group, ending{decision: decision{job: store.Job{Message: 1}}, report: message.ReportFailed})
		}
		return group
	}
	var j joins
	one, begun, ok := j.add(some(maxJoined - 2))
	if !begun || !ok {
		t.Fatal("nobody ends the wait")
	}
	for _, tt := range []struct {
		n  int
		ok bool
	}{{3, false}, {1, true}, {2, false}, {1, true}, {1, false}} {
		if _, begun, ok := j.add(some(tt.n)); begun || ok != tt.ok {
			t.Errorf("%d more on %d: %v, want %v", tt.n, len(one.group), ok, tt.ok)
		}
	}
	select {
	case <-one.full:
	default:
		t.Error("it waits though there is no room")
	}
	if got := j.take(one); len(got) != maxJoined || len(j.waiting) != 0 {
		t.Errorf("%d together, %d wait", len(got), len(j.waiting))
	}
	if _, _, ok := j.add(some(maxJoined)); ok {
		t.Error("what is a whole report waits")
	}
	j.stop(true)
	if _, _, ok := j.add(some(1)); ok {
		t.Error("it waits after the stop")
	}
}

// TestOneReportEach: of one message that two send on each is told of its own.
func TestOneReportEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		post, err := r.store.AddAccount(t.Context(), store.Account{Name: "postmaster", Verifier: "$x", Created: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		r.site("one.example", "192.0.2.1", refuser())
		other := r.byAlice(false)
		other.By = addr(t, "away@example.org")
		r.sendOn(r.byAlice(false), "a@one.example", store.Recipient{Address: addr(t, "b@one.example"), Onward: other})
		r.runFor(time.Minute)
		mine := r.reported()
		r.alice = post.ID
		if theirs := r.reported(); len(mine) != 1 || mine[0] != "a@one.example" || len(theirs) != 1 || theirs[0] != "b@one.example" {
			t.Errorf("alice is told of %q, postmaster of %q", mine, theirs)
		}
	})
}
