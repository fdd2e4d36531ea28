package relay

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/internal/resolver"
	"latchkey/store"
)

// TestBlocks: which answers are about this server, and which about a message, a recipient or a connection.
func TestBlocks(t *testing.T) {
	for _, tt := range []struct {
		words, status string
		at            scope
		want          bool
	}{
		{"554 5.7.1 Service unavailable; Client host [192.0.2.9] blocked using zen.spamhaus.org", "5.7.1", aboutRecipient, true},
		{"550 5.7.1 Unfortunately, messages from [192.0.2.9] weren't sent: part of their network is on our block list (S3140)", "5.7.1", aboutMessage, true},
		{"421 4.7.0 [TSS04] Messages from 192.0.2.9 temporarily deferred due to unexpected volume or user complaints", "4.7.0", aboutHost, true},
		{"421 4.7.28 Our system has detected an unusual rate of mail", "4.7.28", aboutHost, true},
		{"550 5.7.1 likely unsolicited mail", "5.7.1", aboutMessage, true},
		{"554 IP address is black listed", "5.0.0", aboutHost, true},
		{"554 Bad reputation", "5.0.0", aboutDestination, true},
		{"451 4.7.650 the sender's IP is listed at our side", "4.7.650", aboutMessage, true},
		{"421 4.7.0 later", "4.7.0", aboutHost, true},
		{"421 4.7.0 too many connections from your address", "4.7.0", aboutHost, false},
		{"421 4.7.0 server busy", "4.7.0", aboutHost, false},
		{"421 4.3.2 shutting down", "4.3.2", aboutHost, false},
		{"450 4.7.1 greylisted, come back", "4.7.1", aboutRecipient, false},
		{"421 4.7.0 Greylisting in action", "4.7.0", aboutHost, false},
		{"550 5.1.1 mailbox is blocked", "5.1.1", aboutRecipient, false},
		{"550 5.7.1 relaying denied", "5.7.1", aboutRecipient, false},
		{"552 5.2.2 quota", "5.2.2", aboutRecipient, false},
		{"450 4.7.1 later", "4.7.1", aboutMessage, false},
	} {
		v := verdict{kind: store.Deferred, words: tt.words, status: tt.status, scope: tt.at, answered: true}
		if got := blocks(v); got != tt.want {
			t.Errorf("%q: %v, want %v", tt.words, got, tt.want)
		}
		for _, other := range []verdict{{kind: store.Deferred, words: tt.words, status: tt.status, scope: tt.at}, {kind: store.Delivered, words: tt.words, answered: true}} {
			if blocks(other) {
				t.Errorf("%q: %+v blocks", tt.words, other)
			}
		}
	}
}

func TestProviderOf(t *testing.T) {
	for host, want := range map[string]string{
		"mx1.mail.Example.com.": "example.com", "a.b.example.co.uk": "example.co.uk", "example.com": "example.com", "co.uk": "co.uk",
		"localhost": "localhost", "[192.0.2.1]": "[192.0.2.1]", "[IPv6:2001:db8::1]": "[ipv6:2001:db8::1]", "": "",
	} {
		if got := providerOf(host); got != want {
			t.Errorf("%q: %q, want %q", host, got, want)
		}
	}
}

// TestProviders walks a provider through blocks and successes, at both ends of each bound.
func TestProviders(t *testing.T) {
	p, now := newProviders(), origin
	pause := func(when string, want time.Duration) {
		t.Helper()
		list := p.all(now)
		if want == 0 && len(list) == 0 {
			return
		}
		if len(list) != 1 || list[0].Pause != want || list[0].Provider != "example.com" {
			t.Errorf("%s: %+v, want a pause of %v", when, list, want)
		}
	}
	free := func(when, host string, want bool) {
		t.Helper()
		if _, _, ok := p.turn(host, now, false); ok != want {
			t.Errorf("%s: %s may be written to: %v", when, host, ok)
		}
	}
	free("at first", "mx1.example.com", true)
	if !p.blocked("mx1.example.com", "554 blocked", now) || p.blocked("mx2.example.com", "554 blocked", now) {
		t.Error("it does not begin with the first block")
	}
	pause("two blocks", 2*firstSlow)
	for range 5 {
		p.blocked("mx1.example.com", "554 blocked", now)
	}
	pause("many blocks", maxSlow)
	free("another provider", "mx.example.net", true)
	now = now.Add(maxSlow - time.Nanosecond)
	free("before its turn", "mx2.example.com", false)
	now = now.Add(time.Nanosecond)
	free("at its turn", "mx2.example.com", true)
	if _, _, ok := p.turn("mx1.example.com", now, true); !ok {
		t.Error("no turn")
	}
	free("behind a turn that is taken", "mx2.example.com", false)
	for i, want := range []time.Duration{maxSlow / 2, maxSlow / 4, maxSlow / 8, maxSlow / 16} {
		if p.succeeded("mx1.example.com", now) {
			t.Errorf("over after %d", i+1)
		}
		pause("a success", want)
	}
	p.blocked("mx1.example.com", "554 blocked", now)
	pause("a block again", firstSlow)
	for i := range calmAfter {
		if ended := p.succeeded("mx1.example.com", now); ended != (i == calmAfter-1) {
			t.Errorf("success %d: ended %v", i+1, ended)
		}
	}
	pause("over", 0)
	free("over", "mx1.example.com", true)

	p.blocked("mx1.example.com", "554 blocked", now)
	now = now.Add(slowTime - time.Nanosecond)
	pause("almost its time", firstSlow)
	now = now.Add(time.Nanosecond)
	pause("its time", 0)
	free("its time", "mx1.example.com", true)

	// Everybody who asks gets another turn, up to a bound.
	p.blocked("mx1.example.com", "554 blocked", now)
	var turns []time.Duration
	for range 70 {
		until, _, _ := p.turn("mx1.example.com", now, false)
		turns = append(turns, until.Sub(now))
	}
	if turns[0] != firstSlow || turns[1] != 2*firstSlow || turns[58] != 59*firstSlow || turns[69] != slowAhead || !slices.IsSorted(turns) {
		t.Errorf("turns %v", turns)
	}
	for i := range maxProviders + 5 {
		p.blocked(fmt.Sprintf("mx.p%d.example", i), "554 blocked", now)
	}
	if len(p.known) > maxProviders {
		t.Errorf("%d are known", len(p.known))
	}
}

// TestListedProviders: while a blocklist lists us each provider is probed until it takes mail; then it does not mind, until the next listing.
func TestListedProviders(t *testing.T) {
	p, now := newProviders(), origin
	free := func(host string) bool {
		_, _, ok := p.turn(host, now, true)
		return ok
	}
	p.setListed(true)
	if !free("mx.a.example") || free("mx.a.example") || !free("mx.b.example") || free("mx.b.example") {
		t.Error("the first message goes at once, the second has to wait")
	}
	p.setListed(true) // it lasts
	for range calmAfter {
		p.succeeded("mx.a.example", now)
	}
	for range 3 {
		if !free("mx.a.example") {
			t.Error("a provider that does not mind is slow")
		}
	}
	p.blocked("mx.b.example", "554 listed", now)
	if !free("mx.c.example") || len(p.all(now)) != 2 {
		t.Errorf("slow: %+v", p.all(now))
	}
	p.setListed(false)
	if list := p.all(now); len(list) != 1 || list[0].Provider != "b.example" || !free("mx.c.example") || !free("mx.c.example") {
		t.Errorf("behind the listing slow: %+v", list)
	}
	p.setListed(true)
	if free("mx.a.example"); free("mx.a.example") {
		t.Error("a second listing changes nothing")
	}
}

// provider makes two hosts of example.net, each the exchanger of domains, which answer alike.
func (r *rig) provider(answer func(string) string, domains ...string) *server {
	s := &server{answer: answer}
	for i, domain := range domains {
		host := fmt.Sprintf("mx%d.example.net", i%2)
		r.dns.exchangers(domain, resolver.MX{Host: host, Preference: 10})
	}
	for i := range 2 {
		r.dns.host(fmt.Sprintf("mx%d.example.net", i), fmt.Sprintf("192.0.2.%d", i+1))
		r.net.listen(fmt.Sprintf("192.0.2.%d:25", i+1), s.serve)
	}
	return s
}

// TestAbuse26ProviderThatBlocks: one that blocks this server gets one message after another, whatever domains and hosts it has; others get theirs at once.
// When it takes mail again, all that waited arrives, and nothing came back but what it refused.
func TestAbuse26ProviderThatBlocks(t *testing.T) {
	onEachStore(t, func(t *testing.T, r *rig) {
		var blocking atomic.Bool
		blocking.Store(true)
		var mu sync.Mutex
		var asked []time.Time
		s := r.provider(func(c string) string {
			if !strings.HasPrefix(c, "MAIL") {
				return ""
			}
			mu.Lock()
			asked = append(asked, time.Now())
			mu.Unlock()
			if blocking.Load() {
				return "421 4.7.0 [192.0.2.9] blocked, user complaints"
			}
			return ""
		}, "a.example", "b.example", "c.example")
		other := r.site("other.example", "192.0.2.77", &server{})
		r.start()
		for i := range 30 {
			r.queue(post{}, fmt.Sprintf("x%d@%c.example", i, 'a'+i%3))
			r.queue(post{}, fmt.Sprintf("x%d@other.example", i))
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		refused := s.served("MAIL")
		if n := s.connections(); refused < 10 || refused > 20 || n > refused+2 {
			t.Errorf("a provider that blocks was asked %d times in an hour, over %d connections", refused, n)
		}
		if n := len(other.taken()); n != 30 {
			t.Errorf("another one got %d messages", n)
		}
		slow := r.runner.Slow()
		if len(slow) != 1 || slow[0].Provider != "example.net" || slow[0].Pause != maxSlow || !strings.Contains(slow[0].Why, "user complaints") {
			t.Errorf("slow: %+v", slow)
		}
		waits := 0
		for _, j := range r.jobs() {
			if strings.Contains(j.LastText, "mail to example.net goes slowly, one message in") {
				waits++
			}
		}
		if len(r.jobs()) != 30 || waits == 0 {
			t.Errorf("%d jobs, %d of them say that they wait", len(r.jobs()), waits)
		}
		blocking.Store(false)
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		if n := len(s.taken()); n != 30 || len(r.jobs()) != 0 || len(r.runner.Slow()) != 0 {
			t.Errorf("then it got %d messages, %d wait, slow: %+v", n, len(r.jobs()), r.runner.Slow())
		}
		mu.Lock()
		for i := refused + 1; i < refused+calmAfter; i++ {
			if gap := asked[i].Sub(asked[i-1]); gap < leastSlow {
				t.Errorf("message %d came %v behind the one before", i, gap)
			}
		}
		mu.Unlock()
		if mail := r.mail(); len(mail) != 0 {
			t.Errorf("the sender was told: %q", mail)
		}
		for _, words := range []string{"mail to a provider goes slowly", "mail to a provider goes as ever"} {
			if !strings.Contains(r.logged.String(), words) {
				t.Errorf("the log has no %q", words)
			}
		}
		r.stop()
	})
}

// TestAbuse26ListedSlowsDown: while this server is on a blocklist each provider is asked with one message after another whether it minds. One that
// does not gets the rest at once, one that does goes on slowly, and when the listing is over nobody is asked so any more.
func TestAbuse26ListedSlowsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		minds := r.provider(reply("RCPT", "450 4.7.1 Client host [192.0.2.9] blocked using bl.example"), "a.example")
		kind := r.site("kind.example", "192.0.2.77", &server{})
		r.start()
		defer r.stop()
		r.runner.SetListed(true)
		for i := range 40 {
			r.queue(post{}, fmt.Sprintf("x%d@kind.example", i))
			r.queue(post{}, fmt.Sprintf("x%d@a.example", i))
		}
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if n, m := len(kind.taken()), minds.served("RCPT"); n != 1 || m != 1 {
			t.Errorf("at first %d and %d messages went", n, m)
		}
		if slow := r.runner.Slow(); len(slow) != 2 || slow[1].Provider != "kind.example" || slow[1].Why != whyListed || !strings.Contains(slow[0].Why, "bl.example") {
			t.Errorf("slow: %+v", slow)
		}
		waits := slices.ContainsFunc(r.jobs(), func(j store.Job) bool {
			return strings.HasPrefix(j.LastText, "mail to kind.example goes slowly, one message in 30s, until it takes 5 in a row: a blocklist lists")
		})
		if !waits {
			t.Errorf("nothing says why it waits: %q", r.jobs()[1].LastText)
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if n, m := len(kind.taken()), minds.served("RCPT"); n != 40 || m > 10 {
			t.Errorf("then %d and %d messages went", n, m)
		}
		r.queue(post{}, "y1@kind.example")
		r.queue(post{}, "y2@kind.example")
		time.Sleep(time.Second)
		synctest.Wait()
		if n := len(kind.taken()); n != 42 || len(r.mail()) != 0 {
			t.Errorf("at last %d messages went, the sender got %d", n, len(r.mail()))
		}
		r.runner.SetListed(false)
		if slow := r.runner.Slow(); len(slow) != 1 {
			t.Errorf("behind the listing slow: %+v", slow)
		}
	})
}

// TestSlowEndsNoMessage: what waits for its turn longer than a message lives is not given up for that; it is by the next answer.
func TestSlowEndsNoMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		s := r.provider(reply("MAIL", "421 4.7.0 blocked"), "a.example")
		r.start()
		defer r.stop()
		r.runner.blockedBy("mx0.example.net", verdict{words: "554 blocked"}, time.Now())
		old := time.Now().Add(-GiveUpAge).Add(30 * time.Second)
		for i := range 3 {
			r.queue(post{received: old}, fmt.Sprintf("x%d@a.example", i))
		}
		time.Sleep(firstSlow - time.Second)
		synctest.Wait()
		if len(r.jobs()) != 3 || s.served("MAIL") != 0 || len(r.mail()) > 3 {
			t.Errorf("%d jobs wait, %d were tried", len(r.jobs()), s.served("MAIL"))
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := s.served("MAIL"); len(r.jobs()) != 0 || n != 3 {
			t.Errorf("%d jobs wait, %d were tried", len(r.jobs()), n)
		}
	})
}

// TestFlippingProvider: one that blocks and takes mail in turns goes slowly all the time, loses nothing, and is not asked all the time.
func TestFlippingProvider(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		s := r.provider(func(c string) string {
			if strings.HasPrefix(c, "MAIL") && time.Now().Minute()%2 == 0 {
				return "421 4.7.0 blocked"
			}
			return ""
		}, "a.example", "b.example")
		var mu sync.Mutex
		dice := rand.New(rand.NewPCG(1, 2))
		r.opts.Rand = func() float64 { // else what is put off for four hours always meets the same minute
			mu.Lock()
			defer mu.Unlock()
			return dice.Float64()
		}
		r.start()
		defer r.stop()
		for i := range 100 {
			r.queue(post{}, fmt.Sprintf("x%d@%c.example", i, 'a'+i%2))
		}
		time.Sleep(48 * time.Hour)
		synctest.Wait()
		if n := len(s.taken()); n != 100 || len(r.jobs()) != 0 {
			t.Errorf("it got %d messages, %d wait", n, len(r.jobs()))
		}
		if n := s.served("MAIL"); n > 400 {
			t.Errorf("it was asked %d times", n)
		}
		for _, mail := range r.mail() {
			if !strings.Contains(mail, "still") && !strings.Contains(mail, "delay") {
				t.Errorf("the sender was told: %s", mail)
			}
		}
	})
}

// TestSlowButWanted: what somebody released by hand does not wait for its turn, and a smarthost is no provider of others.
func TestSlowButWanted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		s := r.provider(nil, "a.example")
		r.start()
		r.runner.blockedBy("mx1.example.net", verdict{words: "554 blocked"}, time.Now())
		for i := range 3 {
			r.queue(post{}, fmt.Sprintf("x%d@a.example", i))
		}
		synctest.Wait()
		jobs := r.jobs()
		if len(jobs) != 3 || len(s.taken()) != 0 {
			t.Fatalf("%d jobs, %d were sent", len(jobs), len(s.taken()))
		}
		if err := r.store.ReleaseJobs(t.Context(), time.Now(), jobs[1].ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if got := s.taken(); len(got) != 1 || got[0].to[0] != "RCPT TO:<x1@a.example>" {
			t.Errorf("sent %+v\n%s", got, r.logged)
		}
		r.stop()

		r.opts.Smarthost = &Smarthost{Addr: "192.0.2.99:587", TLS: TLSNone}
		smart := &server{answer: reply("RCPT TO:<bad", "554 5.7.1 blocked")}
		r.net.listen("192.0.2.99:587", smart.serve)
		r.start()
		defer r.stop()
		r.runner.SetListed(true)
		r.queue(post{}, "bad@b.example")
		for i := range 20 {
			r.queue(post{}, fmt.Sprintf("y%d@b.example", i))
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if n := len(smart.taken()); n < 20 || len(r.runner.Slow()) != 0 {
			t.Errorf("the smarthost got %d messages; slow: %+v", n, r.runner.Slow())
		}
	})
}
