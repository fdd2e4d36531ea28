package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/store"
)

// TestBackoff: while a destination is out of reach new jobs wait with the old ones, one that somebody wants tried goes at once, and a
// success ends the wait for all.
func TestBackoff(t *testing.T) {
	onEachStore(t, func(t *testing.T, r *rig) {
		r.dns.host("remote.example", "192.0.2.1")
		r.queue(post{}, "first@remote.example")
		r.start()
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := r.net.dialled("192.0.2.1:25"); got != 1 {
			t.Fatalf("%d attempts, want 1", got)
		}
		due := r.jobs()[0].NextAttempt
		late := r.queue(post{}, "second@remote.example", "third@remote.example")
		time.Sleep(time.Minute)
		synctest.Wait()
		for _, j := range r.jobs()[1:] {
			if j.Attempts != 0 || !j.NextAttempt.Equal(due) || !strings.Contains(j.LastText, "connection refused") {
				t.Errorf("new job: %+v, want it due at %v", j, due)
			}
		}
		if got := r.net.dialled("192.0.2.1:25"); got != 1 {
			t.Errorf("%d attempts during the back-off", got)
		}
		if trail := strings.Join(r.trail(late.Message), "\n"); strings.Contains(trail, "deferred") {
			t.Errorf("an attempt that was none is in the trail: %s", trail)
		}
		s := &server{}
		r.net.listen("192.0.2.1:25", s.serve)
		if err := r.store.ReleaseJobs(t.Context(), time.Now(), late.Jobs[0]); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if l := s.taken(); len(l) != 1 || len(l[0].to) != 1 || !strings.Contains(l[0].to[0], "second@") {
			t.Fatalf("letters after the release: %+v", l)
		}
		r.queue(post{}, "fourth@remote.example")
		time.Sleep(time.Second)
		synctest.Wait()
		if l := s.taken(); len(l) != 2 {
			t.Errorf("a new job waits although the destination is there: %+v", r.jobs())
		}
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if len(r.jobs()) != 0 {
			t.Errorf("left over: %+v", r.jobs())
		}
	})
}

// TestBackoffGrows: a destination that stays away is asked more and more seldom, however many jobs wait for it.
func TestBackoffGrows(t *testing.T) {
	onEachStore(t, func(t *testing.T, r *rig) {
		r.dns.host("remote.example", "192.0.2.1")
		var to []string
		for i := range 300 {
			to = append(to, fmt.Sprintf("r%d@remote.example", i))
		}
		r.queue(post{}, to...)
		r.runFor(76 * time.Minute)
		if got := r.net.dialled("192.0.2.1:25"); got != 5 {
			t.Errorf("%d attempts in 76 minutes, want 5", got)
		}
		attempts := 0
		for _, j := range r.jobs() {
			attempts += j.Attempts
		}
		if want := 5 * defaultLimits().Probe; attempts != want {
			t.Errorf("%d jobs had an attempt of their own, want %d", attempts, want)
		}
	})
}

// TestExpiryInBackoff: a job whose time is over while its destination is out of reach bounces with the last words on that.
func TestExpiryInBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.dns.host("remote.example", "192.0.2.1")
		r.queue(post{}, "new@remote.example")
		r.start()
		time.Sleep(time.Minute)
		old := r.queue(post{received: time.Now().Add(-GiveUpAge)}, "old@remote.example")
		aging := r.queue(post{received: time.Now().Add(-4 * time.Hour)}, "aging@remote.example")
		time.Sleep(time.Minute)
		synctest.Wait()
		mail := r.mail()
		if len(mail) != 2 || r.net.dialled("192.0.2.1:25") != 1 {
			t.Fatalf("%d reports, %d attempts", len(mail), r.net.dialled("192.0.2.1:25"))
		}
		if b := readReport(t, mail[1]); b.recipients[0].Get("Action") != "delayed" || !strings.Contains(b.text, "aging@") {
			t.Errorf("notice %+v of message %v", b, aging.Message)
		}
		if b := readReport(t, mail[0]); b.recipients[0].Get("Status") != "5.4.7" || !strings.Contains(b.text, "old@") || !strings.Contains(strings.Join(strings.Fields(b.text), " "), "connection refused") {
			t.Errorf("bounce %+v of message %v", b, old.Message)
		}
	})
}

// crowd queues jobs for dead and living destinations; the names of the living come last.
func crowd(r *rig, deadOnes, living, jobs int) []*server {
	for i := range deadOnes {
		domain := fmt.Sprintf("dead%04d.example", i)
		r.dns.host(domain, addrOf(i))
		r.net.silent[addrOf(i)+":25"] = true
		for left := jobs; left > 0; left -= 50 {
			var to []string
			for n := range min(50, left) {
				to = append(to, fmt.Sprintf("r%d@%s", n, domain))
			}
			r.queue(post{}, to...)
		}
	}
	var servers []*server
	for i := range living {
		servers = append(servers, r.site(fmt.Sprintf("living%04d.example", i), addrOf(deadOnes+i), &server{}))
		for range 3 {
			r.queue(post{}, fmt.Sprintf("bob@living%04d.example", i))
		}
	}
	return servers
}

// TestDeadDoNotBlockLiving: ten thousand jobs for hosts that do not answer stand before nobody, and are not held in memory.
func TestDeadDoNotBlockLiving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		f := &faulty{Store: r.store}
		r.through = f
		servers := crowd(r, 100, 10, 100)
		before := runtime.NumGoroutine()
		r.start()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		for i, s := range servers {
			if len(s.taken()) != 3 {
				t.Errorf("living host %d got %d of 3 messages after 2 seconds", i, len(s.taken()))
			}
		}
		// One goroutine for each destination that is being connected to, and what its dialler has.
		if n := runtime.NumGoroutine() - before; n > 3*100+20 {
			t.Errorf("%d goroutines for 100 destinations", n)
		}
		if limit := 110 * defaultLimits().Probe; f.atMost() > limit {
			t.Errorf("%d jobs leased at once, want %d at most", f.atMost(), limit)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		for _, j := range r.jobs() {
			if j.LastText == "" || !j.NextAttempt.After(time.Now()) {
				t.Fatalf("job without a word: %+v", j)
			}
		}
	})
}

// TestSlowMakeRoom: when hosts that do not answer take all places, they lose them after a few seconds to those that wait.
func TestSlowMakeRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.opts.Limits.Connecting = 10
		servers := crowd(r, 30, 2, 1)
		r.start()
		// Three times ten dead hosts, and a moment each.
		time.Sleep(3*(defaultLimits().DialPressed+2*pressTime) + 2*time.Second)
		synctest.Wait()
		for i, s := range servers {
			if len(s.taken()) != 3 {
				t.Errorf("living host %d got %d of 3 messages", i, len(s.taken()))
			}
		}
		for _, j := range r.jobs() {
			if strings.Contains(j.LastText, "stop") {
				t.Errorf("job %+v", j)
			}
		}
	})
}

// TestOneAtFirst: as long as nobody knows whether a destination is there, one connection is tried, however many jobs wait.
func TestOneAtFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		crowd(r, 1, 0, 100)
		r.start()
		for range 5 {
			time.Sleep(4 * time.Second)
			r.queue(post{}, "another@dead0000.example")
		}
		synctest.Wait()
		if got := r.net.dialled(addrOf(0) + ":25"); got != 1 {
			t.Errorf("%d connections tried, want 1", got)
		}
	})
}

// TestNoPressureNoHurry: alone, a slow host has all its time.
func TestNoPressureNoHurry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.opts.Limits.Connecting = 1
		s := &server{}
		r.dns.host("remote.example", "192.0.2.1")
		r.net.listen("192.0.2.1:25", func(c net.Conn) {
			time.Sleep(100 * time.Second)
			s.serve(c)
		})
		r.queue(post{}, "bob@remote.example")
		r.runFor(2 * time.Minute)
		if len(s.taken()) != 1 {
			t.Errorf("jobs %+v", r.jobs())
		}
	})
}

// atOnce counts messages that are being sent, and the most at a time.
type atOnce struct {
	mu               sync.Mutex // protects what follows
	busy, most, done int
}

// answer makes each message take a second.
func (a *atOnce) answer(c string) string {
	if c != "DATA" && c != "." {
		return ""
	}
	a.mu.Lock()
	if c == "DATA" {
		a.busy++
		a.most = max(a.most, a.busy)
	} else {
		a.busy--
		a.done++
	}
	a.mu.Unlock()
	if c == "DATA" {
		time.Sleep(time.Second)
	}
	return ""
}

// TestConnectionsAtOnce: no more than the limits say, to one destination and in all.
func TestConnectionsAtOnce(t *testing.T) {
	for _, limit := range []int{1, 2, 3} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			r.opts.Limits.PerDestination, r.opts.Limits.PerConnection, r.opts.Limits.Batch, r.opts.Limits.Probe = limit, 1000, 2, 1
			a := &atOnce{}
			s := r.site("remote.example", "192.0.2.1", &server{answer: a.answer})
			for range 20 {
				r.queue(post{}, "bob@remote.example")
			}
			r.runFor(time.Minute)
			if a.done != 20 || a.most != limit || s.connections() > limit {
				t.Errorf("limit %d: %d delivered, %d at once over %d connections", limit, a.done, a.most, s.connections())
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.opts.Limits.Transferring = 2
		a := &atOnce{}
		for i := range 8 {
			r.site(fmt.Sprintf("d%d.example", i), addrOf(i), &server{answer: a.answer})
			r.queue(post{}, fmt.Sprintf("bob@d%d.example", i))
		}
		r.runFor(time.Minute)
		if a.done != 8 || a.most != 2 {
			t.Errorf("%d delivered, %d at once, want 2", a.done, a.most)
		}
	})
}

// TestGracefulStop: a transaction under way at the stop is finished and noted, and nothing new is begun.
func TestGracefulStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		s := r.site("remote.example", "192.0.2.1", &server{answer: func(c string) string {
			if c == "." {
				time.Sleep(5 * time.Second)
			}
			return ""
		}})
		for range 3 {
			r.queue(post{}, "bob@remote.example")
		}
		begin := time.Now()
		r.runFor(time.Second)
		if took := time.Since(begin); took > 8*time.Second {
			t.Errorf("the stop took %v", took)
		}
		if len(s.taken()) != 1 || len(r.jobs()) != 2 || r.leased() != 0 {
			t.Errorf("%d delivered, %d left of which %d are leased", len(s.taken()), len(r.jobs()), r.leased())
		}
		for _, j := range r.jobs() {
			if j.Attempts != 0 {
				t.Errorf("job %+v", j)
			}
		}
	})
}

// TestAbort: what does not finish in time is cut off and tried again later.
func TestAbort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.site("remote.example", "192.0.2.1", &server{answer: func(c string) string {
			if c == "." {
				time.Sleep(5 * time.Minute)
			}
			return ""
		}})
		r.queue(post{}, "bob@remote.example")
		begin := time.Now()
		r.runFor(time.Second)
		if took := time.Since(begin); took < 10*time.Second || took > 12*time.Second {
			t.Errorf("the stop took %v, want the 10 seconds of grace", took)
		}
		if j := r.jobs(); len(j) != 1 || r.leased() != 0 || !strings.Contains(j[0].LastText, "may arrive twice") {
			t.Errorf("jobs %+v", j)
		}
	})
}

// TestStopWhileConnecting: an attempt that had come to nothing yet is no attempt.
func TestStopWhileConnecting(t *testing.T) {
	for _, where := range []string{"dial", "greeting"} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			r.dns.host("remote.example", "192.0.2.1")
			r.net.silent["192.0.2.1:25"] = where == "dial"
			r.net.listen("192.0.2.1:25", func(c net.Conn) { _, _ = c.Read(make([]byte, 1)) })
			r.queue(post{}, "bob@remote.example")
			begin := time.Now()
			r.runFor(time.Second)
			if took := time.Since(begin); took > 2*time.Second {
				t.Errorf("%s: the stop took %v", where, took)
			}
			if j := r.jobs(); len(j) != 1 || j[0].Attempts != 0 || r.leased() != 0 {
				t.Errorf("%s: jobs %+v, %d leased", where, j, r.leased())
			}
		})
	}
}

// TestPoisonedStore: when outcomes cannot be kept any more nothing more is sent, because it would be sent again.
func TestPoisonedStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		s := r.site("remote.example", "192.0.2.1", &server{})
		r.opts.Limits.PerDestination = 1
		r.through = &faulty{Store: r.store, at: func(_ int, verb string) error {
			if verb == "Finish" {
				return fmt.Errorf("disk: %w", store.ErrPoisoned)
			}
			return nil
		}}
		for range 5 {
			r.queue(post{}, "bob@remote.example")
		}
		r.start()
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(s.taken()) != 1 {
			t.Errorf("%d messages sent, want 1", len(s.taken()))
		}
		r.stop()
		if !errors.Is(r.ended, store.ErrPoisoned) {
			t.Errorf("Run: %v, want %v", r.ended, store.ErrPoisoned)
		}
	})
}

// TestMemoryBound: what is remembered has a bound, and what is over goes first.
func TestMemoryBound(t *testing.T) {
	for _, n := range []int{9, 10, 11} {
		m := newMemory(10)
		for i := range n {
			until := origin.Add(time.Hour)
			if i == 3 {
				until = origin.Add(-time.Hour)
			}
			m.put(fmt.Sprint(i), remembered{until: until}, origin)
		}
		if got := len(m.entries); got != min(n, 10) {
			t.Errorf("%d put in, %d remembered", n, got)
		}
		if _, ok := m.get("3"); ok != (n <= 10) {
			t.Errorf("%d put in: what is over is remembered: %v", n, ok)
		}
		if _, ok := m.holds("3", origin); ok {
			t.Errorf("%d put in: what is over holds", n)
		}
	}
	m := newMemory(10)
	for i := range 25 {
		m.put(fmt.Sprint(i), remembered{until: origin.Add(time.Hour)}, origin)
		m.put(fmt.Sprint(i), remembered{until: origin.Add(2 * time.Hour)}, origin)
	}
	if len(m.entries) != 10 {
		t.Errorf("%d remembered, want 10", len(m.entries))
	}
}

// lateStore is a store to which something is added right after a lease has looked at it.
type lateStore struct {
	Store
	late func()
}

func (s *lateStore) Lease(
	ctx context.Context, now time.Time, submitter store.AccountID, domain string, limit int, d time.Duration,
) ([]store.Job, error) {
	jobs, err := s.Store.Lease(ctx, now, submitter, domain, limit, d)
	s.late()
	return jobs, err
}

// TestArrivesBehindLease: what is queued between the look of a lease and the conclusion that there is nothing more does not wait for the next
// event.
func TestArrivesBehindLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const late = 4
		r := newRig(t)
		s := r.site("b.example", "192.0.2.1", &server{})
		leases := 0
		r.through = &lateStore{Store: r.store, late: func() {
			if leases++; leases <= late {
				r.queue(post{}, "late@b.example")
				time.Sleep(time.Second) // the runner has heard of it
			}
		}}
		r.queue(post{}, "first@b.example")
		r.runFor(10 * time.Second)
		if s.arrived("first") != 1 || s.arrived("late") != late {
			t.Errorf("%d of the first message and %d late ones arrived, want 1 and %d", s.arrived("first"), s.arrived("late"), late)
		}
	})
}

// TestLaterOfTheSame: of two messages to one domain that were put off to different moments both go at theirs.
func TestLaterOfTheSame(t *testing.T) {
	onEachStore(t, func(t *testing.T, r *rig) {
		n := 0
		s := r.site("remote.example", "192.0.2.1", &server{answer: func(c string) string {
			if strings.HasPrefix(c, "RCPT") && n < 2 {
				n++
				return "450 4.2.1 later"
			}
			return ""
		}})
		r.start()
		r.queue(post{}, "one@remote.example")
		time.Sleep(2 * time.Minute)
		r.queue(post{}, "two@remote.example")
		time.Sleep(20 * time.Minute)
		synctest.Wait()
		if len(s.taken()) != 2 || len(r.jobs()) != 0 {
			t.Errorf("%d arrived, waiting: %+v", len(s.taken()), r.jobs())
		}
		r.stop()
	})
}
