package relay

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/internal/resolver"
	"latchkey/store"
)

const bob = store.AccountID(99)

// slow makes each message take a time.
func slow(d time.Duration) func(string) string {
	return func(c string) string {
		if c == "." {
			time.Sleep(d)
		}
		return ""
	}
}

// share makes domains that have one mail exchanger.
func (r *rig) share(addr string, s *server, domains ...string) *server {
	for _, domain := range domains {
		r.dns.exchangers(domain, resolver.MX{Host: "mx.shared.example", Preference: 10})
	}
	r.dns.host("mx.shared.example", addr)
	r.net.listen(addr+":25", s.serve)
	return s
}

// arrived returns how many recipients of a name a server took.
func (s *server) arrived(name string) (n int) {
	for _, l := range s.taken() {
		for _, to := range l.to {
			if strings.Contains(to, name) {
				n++
			}
		}
	}
	return n
}

// TestNewsletter: hundreds of messages of one mailbox, and few places, do not delay another's, to a destination of its own, to a slow one that the
// newsletter goes to as well, and to one that shares its host.
func TestNewsletter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		const domains, each = 120, 2
		r.opts.Limits.Transferring, r.opts.Limits.Connecting = 32, 64
		busy := make([]*server, domains)
		for i := range busy {
			busy[i] = r.site(fmt.Sprintf("n%03d.example", i), addrOf(i), &server{answer: slow(time.Second)})
		}
		shared := r.share("192.0.2.9", &server{answer: slow(time.Second)}, "a.example", "b.example")
		for i := range each {
			var to []string
			for d := range domains {
				to = append(to, fmt.Sprintf("r%d@n%03d.example", i, d))
			}
			r.queue(post{}, to...)
		}
		for i := range 60 {
			r.queue(post{}, fmt.Sprintf("r%d@a.example", i))
			r.queue(post{}, fmt.Sprintf("r%d@n000.example", i))
		}
		other := r.site("other.example", "192.0.2.1", &server{})
		r.start()
		time.Sleep(3 * time.Second)
		r.queue(post{by: bob}, "invoice@other.example")
		r.queue(post{by: bob}, "invoice@n000.example")
		r.queue(post{by: bob}, "invoice@b.example")
		time.Sleep(200 * time.Millisecond)
		synctest.Wait()
		if other.arrived("invoice") != 1 {
			t.Error("the message to a host of its own is not there")
		}
		time.Sleep(3800 * time.Millisecond) // the message before it, a place, its own second, and one to spare
		synctest.Wait()
		for name, s := range map[string]*server{"a host that the newsletter goes to": busy[0], "a shared host": shared} {
			if s.arrived("invoice") != 1 {
				t.Errorf("the message to %s is not there", name)
			}
		}
		if left := len(r.jobs()); left < 100 {
			t.Errorf("only %d jobs are left: the test shows nothing", left)
		}
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		if left := len(r.jobs()); left != 0 {
			t.Errorf("%d jobs are left", left)
		}
	})
}

// TestManyNewsletters: with more large mailboxes than there are places, a small one's message goes out all the same.
func TestManyNewsletters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.opts.Limits.Transferring, r.opts.Limits.Connecting = 8, 16
		for i := range 30 {
			r.site(fmt.Sprintf("n%03d.example", i), addrOf(i), &server{answer: slow(time.Second)})
			for mailbox := range 10 {
				for n := range 2 {
					r.queue(post{by: store.AccountID(mailbox + 1)}, fmt.Sprintf("r%d@n%03d.example", n, i))
				}
			}
		}
		other := r.site("other.example", "192.0.2.1", &server{})
		r.start()
		time.Sleep(10 * time.Second)
		r.queue(post{by: bob}, "invoice@other.example")
		time.Sleep(3 * time.Second) // one of the few places to connect, one to transfer, and that
		synctest.Wait()
		if other.arrived("invoice") != 1 {
			t.Errorf("the invoice waits among %d jobs", len(r.jobs()))
		}
	})
}

// TestSharedHost: two domains of one mail exchanger share its connections, one after the other uses the same one, and together they open no
// more than it gets.
func TestSharedHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		s := r.share("192.0.2.9", &server{}, "a.example", "b.example")
		r.queue(post{}, "x@a.example")
		r.start()
		time.Sleep(idleTime / 2)
		r.queue(post{}, "x@b.example")
		time.Sleep(time.Second)
		synctest.Wait()
		if s.connections() != 1 || len(s.taken()) != 2 {
			t.Errorf("%d messages over %d connections, want 2 over 1", len(s.taken()), s.connections())
		}
		time.Sleep(2 * idleTime)
		synctest.Wait()
		if s.served("QUIT") != 1 {
			t.Error("the connection is kept for ever")
		}
	})
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.opts.Limits.PerDestination = 3
		s := r.share("192.0.2.9", &server{answer: slow(time.Second)}, "a.example", "b.example", "c.example")
		for i := range 20 {
			for _, domain := range []string{"a", "b", "c"} {
				r.queue(post{}, fmt.Sprintf("r%d@%s.example", i, domain))
			}
		}
		r.runFor(time.Minute)
		if most, _ := s.crowd(); most != 3 || len(s.taken()) != 60 {
			t.Errorf("%d messages over %d connections at once, want 60 over 3", len(s.taken()), most)
		}
	})
}

// TestSharedBackoff: what one domain found out of reach another one does not ask again, unless somebody wants it tried.
func TestSharedBackoff(t *testing.T) {
	onEachStore(t, func(t *testing.T, r *rig) {
		s := &server{}
		r.share("192.0.2.9", s, "a.example", "b.example", "c.example")
		delete(r.net.hosts, "192.0.2.9:25")
		r.queue(post{}, "x@a.example")
		r.start()
		time.Sleep(time.Minute)
		synctest.Wait()
		due := r.jobs()[0].NextAttempt
		b := r.queue(post{}, "x@b.example")
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := r.net.dialled("192.0.2.9:25"); got != 1 {
			t.Errorf("%d attempts, want 1", got)
		}
		if j := r.jobs()[1]; j.Attempts != 0 || !j.NextAttempt.Equal(due) || !strings.Contains(j.LastText, "refused") {
			t.Errorf("the other domain's job %+v, want it due at %v", j, due)
		}
		r.net.listen("192.0.2.9:25", s.serve)
		if err := r.store.ReleaseJobs(t.Context(), time.Now(), b.Jobs...); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		r.queue(post{}, "x@c.example")
		time.Sleep(time.Second)
		synctest.Wait()
		if s.arrived("x@b") != 1 || s.arrived("x@c") != 1 {
			t.Errorf("after the release: %+v", r.jobs())
		}
	})
}

// TestRoomOfHost: a host that takes five connections at once is soon given five and not asked for more all the time; nothing waits for
// minutes because it refused one.
func TestRoomOfHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		s := r.site("remote.example", "192.0.2.1", &server{room: 5, answer: slow(time.Second)})
		for i := range 300 {
			r.queue(post{}, fmt.Sprintf("r%d@remote.example", i))
		}
		r.runFor(90 * time.Second)
		most, refused := s.crowd()
		if len(s.taken()) != 300 || most != 5 || refused == 0 || refused > 3 {
			t.Errorf("%d messages over %d connections at once, %d refused; %d are left", len(s.taken()), most, refused, len(r.jobs()))
		}
	})
}

// TestRateOfHost: a host that wants a message a second gets them slower and slower, until it takes them; it is not hammered with the rest.
func TestRateOfHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.opts.Limits.PerConnection = 1000
		var mu sync.Mutex // protects what follows
		var last time.Time
		refused := 0
		s := r.site("remote.example", "192.0.2.1", &server{})
		s.answer = func(c string) string {
			if !strings.HasPrefix(c, "MAIL") {
				return ""
			}
			mu.Lock()
			defer mu.Unlock()
			if time.Since(last) < time.Second {
				refused++
				return "451 4.7.1 rate limit exceeded"
			}
			last = time.Now()
			return ""
		}
		for i := range 100 {
			r.queue(post{}, fmt.Sprintf("r%d@remote.example", i))
		}
		r.runFor(5 * time.Hour)
		if got := len(s.taken()); got < 95 || refused > 10 {
			t.Errorf("%d arrived, %d refused", got, refused)
		}
	})
}

// TestMessagesOfConnection: a host that says 421 after three messages is sent three over each connection from then on.
func TestMessagesOfConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.opts.Limits.PerDestination = 1
		mails, closed := 0, 0
		s := r.site("remote.example", "192.0.2.1", &server{})
		s.answer = func(c string) string {
			switch {
			case strings.HasPrefix(c, "EHLO"):
				mails = 0
			case strings.HasPrefix(c, "MAIL"):
				if mails++; mails > 3 {
					closed++
					return "421 4.7.0 enough for one connection"
				}
			}
			return ""
		}
		for i := range 30 {
			r.queue(post{}, fmt.Sprintf("r%d@remote.example", i))
		}
		r.runFor(10 * time.Second)
		if len(s.taken()) != 30 || closed != 1 || s.connections() != 10 {
			t.Errorf("%d messages over %d connections, %d of them closed by the host", len(s.taken()), s.connections(), closed)
		}
	})
}

// TestHostsAreBounded: beyond maxHosts those are forgotten with which nothing goes on.
func TestHostsAreBounded(t *testing.T) {
	s := newHosts(20)
	at := func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 25)
	}
	for i := range maxHosts {
		h := s.get(at(i), origin)
		if i < 10 && !h.slots.tryTake(1) {
			t.Fatal("no slot")
		}
	}
	for i := range 100 {
		s.get(at(maxHosts+i), origin)
	}
	if len(s.known) != maxHosts {
		t.Errorf("%d hosts are known, want %d", len(s.known), maxHosts)
	}
	for i := range 10 {
		if s.known[at(i)] == nil {
			t.Errorf("host %d is forgotten, although there is a connection", i)
		}
	}
}

// TestTLSSessions: the second handshake with a host is a short one; one that has to verify does not resume a session that did not.
func TestTLSSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.opts.Limits.PerConnection, r.opts.Limits.PerDestination = 1, 1
		cert, _ := certificate(t, "mx.shared.example")
		s := r.share("192.0.2.9", &server{cert: cert}, "a.example")
		r.opts.Routes = []Route{{Domain: "b.example", To: &Smarthost{Addr: "mx.shared.example:25", TLS: TLSVerify}}}
		for range 3 {
			r.queue(post{}, "x@a.example")
		}
		r.queue(post{}, "x@b.example")
		r.runFor(5 * time.Second)
		if s.resumed != 2 || s.arrived("x@a") != 3 {
			t.Errorf("%d of 3 messages arrived, %d sessions were resumed, want 2", s.arrived("x@a"), s.resumed)
		}
		if s.arrived("x@b") != 0 || !strings.Contains(r.jobs()[0].LastText, "signed by nobody who is trusted") {
			t.Errorf("with a certificate that nobody knows: %+v", r.jobs())
		}
	})
}

// TestReuseIsSound: a connection that stands is not taken for mail that wants more than it has, at the same host.
func TestReuseIsSound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		s := r.share("192.0.2.9", &server{}, "a.example")
		r.opts.Routes = []Route{{Domain: "b.example", To: &Smarthost{Addr: "mx.shared.example:25", TLS: TLSRequired}}}
		r.queue(post{}, "x@a.example")
		r.start()
		time.Sleep(idleTime / 2)
		r.queue(post{}, "x@b.example")
		time.Sleep(time.Second)
		synctest.Wait()
		if s.arrived("x@a") != 1 || s.arrived("x@b") != 0 || s.connections() != 2 {
			t.Errorf("%d letters over %d connections: one went in the clear that must not", len(s.taken()), s.connections())
		}
	})
}

// TestGrantedConnectionIsLeft: a connection whose slot went to somebody who does not take it yet is neither closed nor looked at all the time.
func TestGrantedConnectionIsLeft(t *testing.T) {
	s := newHosts(1)
	h := s.get(netip.MustParseAddrPort("192.0.2.1:25"), origin)
	if !h.slots.tryTake(1) {
		t.Fatal("no slot")
	}
	synctest.Test(t, func(t *testing.T) {
		go h.slots.take(t.Context(), bob)
		synctest.Wait()
		l := &link{at: h}
		if !s.park(l, 1, origin) || h.slots.count(bob) != 1 {
			t.Fatal("the slot did not go to who waits")
		}
	})
	late := origin.Add(2 * idleTime)
	if old, next := s.expire(late, false); len(old) != 0 || !next.After(late) {
		t.Errorf("%d closed, the next look at %v, want none, and later than %v", len(old), next, late)
	}
}
