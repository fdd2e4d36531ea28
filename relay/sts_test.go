package relay

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/internal/mtasts"
	"latchkey/internal/resolver/resolvertest"
	"latchkey/store"
	"latchkey/store/memstore"
)

const enforce = "mode: enforce, mx: mx.remote.example, max_age: 604800"

// TestMTASTS is RFC 8461 as a table, over real TLS, a real resolver and a policy host. Nothing is signed.
func TestMTASTS(t *testing.T) {
	const name, wait = "mx.remote.example", "deferred: "
	const ok, plain, unverified = "delivered: mx.remote.example [192.0.2.1] TLS 1.3 (MTA-STS): 250", "delivered: mx.remote.example [192.0.2.1]: 250",
		"delivered: mx.remote.example [192.0.2.1] TLS 1.3: 250"
	const failed = wait + "mx.remote.example [192.0.2.1]: TLS handshake failed: "
	const so = "; the policy of remote.example requires it (MTA-STS), so nothing is sent"
	old := func(c *x509.Certificate) { c.NotAfter = time.Now().AddDate(0, 0, -1) }
	for _, tt := range []struct {
		name, policy string
		set          func(l *tlsLab) *server
		want         string
	}{
		{"enforce", enforce, func(l *tlsLab) *server { return l.usual(l.root.issue(nil, name)) }, ok},
		{"enforce, a pattern", "mode: enforce, mx: *.remote.example, max_age: 86400", func(l *tlsLab) *server {
			return l.usual(l.root.issue(nil, "*.remote.example"))
		}, ok},
		{"enforce, another name", enforce, func(l *tlsLab) *server {
			return l.usual(l.root.issue(nil, "remote.example"))
		}, failed + "the certificate is for another name" + so},
		{"enforce, expired", enforce, func(l *tlsLab) *server {
			return l.usual(l.root.issue(old, name))
		}, failed + "the certificate has expired or is not valid yet" + so},
		{"enforce, nobody's certificate", enforce, func(l *tlsLab) *server {
			return l.usual(newAuthority(l.t).issue(nil, name))
		}, failed + "the certificate is signed by nobody who is trusted" + so},
		{"enforce, no STARTTLS", enforce, func(l *tlsLab) *server { return l.usual(nil) },
			wait + "mx.remote.example [192.0.2.1]: the host offers no STARTTLS; the policy of remote.example requires it (MTA-STS)"},
		{"enforce, broken TLS", enforce, func(l *tlsLab) *server { return l.usual(&tls.Certificate{}) }, failed + "connection failed" + so},
		{"enforce, another exchanger", "mode: enforce, mx: other.remote.example, max_age: 86400", func(l *tlsLab) *server {
			return l.usual(l.root.issue(nil, name))
		}, wait + "mx.remote.example: the policy of remote.example (MTA-STS) does not name this mail exchanger, so nothing is sent to it"},
		{"enforce, the second exchanger is named", "mode: enforce, mx: mx2.remote.example, max_age: 86400", func(l *tlsLab) *server {
			first := l.usual(l.root.issue(nil, name))
			l.names.Set("remote.example", "MX", "10 mx.remote.example.", "20 mx2.remote.example.")
			l.host("mx2.remote.example", 2, &server{cert: l.root.issue(nil, "mx2.remote.example")})
			return first
		}, "delivered: mx2.remote.example [192.0.2.2] TLS 1.3 (MTA-STS): 250"},
		{"testing, another name", "mode: testing, mx: mx.remote.example, max_age: 86400", func(l *tlsLab) *server {
			return l.usual(l.root.issue(nil, "remote.example"))
		}, unverified},
		{"testing, another exchanger in the clear", "mode: testing, mx: other.example, max_age: 86400", func(l *tlsLab) *server { return l.usual(nil) }, plain},
		{"none", "mode: none, max_age: 86400", func(l *tlsLab) *server { return l.usual(nil) }, plain},
		{"not a policy", "mode: enforce, max_age: 86400", func(l *tlsLab) *server { return l.usual(nil) }, plain},
		{"not to be had", "", func(l *tlsLab) *server { return l.usual(nil) }, plain},
		{"for this delivery only", "mode: enforce, mx: mx.remote.example, max_age: 0", func(l *tlsLab) *server {
			return l.usual(l.root.issue(nil, "remote.example"))
		}, failed + "the certificate is for another name" + so},
		{"a policy host with a wrong certificate", enforce, func(l *tlsLab) *server {
			l.cert = l.root.issue(nil, "remote.example")
			return l.usual(nil)
		}, plain},
		{"a policy host inside", enforce, func(l *tlsLab) *server {
			l.names.Set("mta-sts.remote.example", "A", "127.0.0.1")
			l.at["127.0.0.1:443"] = l.at["192.0.2.200:443"]
			return l.usual(nil)
		}, plain},
		{"DANE goes first, and is enough", "mode: enforce, mx: other.example, max_age: 86400", func(l *tlsLab) *server {
			cert := newAuthority(l.t).issue(nil, "other.example")
			s := l.usual(cert)
			l.names.Set("_25._tcp."+name, "TLSA", tlsa(3, cert.Leaf))
			return s
		}, "delivered: mx.remote.example [192.0.2.1] TLS 1.3 (DANE): 250"},
		{"DANE goes first, and MTA-STS does not save what fails by it", enforce, func(l *tlsLab) *server {
			s := l.usual(l.root.issue(nil, name))
			l.names.Set("_25._tcp."+name, "TLSA", tlsa(3, l.root.cert))
			return s
		}, failed + "the certificate is none of those that the domain publishes in the DNS; remote.example requires it (DANE), so nothing is sent"},
		{"no usable TLSA record, and MTA-STS decides", enforce, func(l *tlsLab) *server {
			s := l.usual(l.root.issue(nil, "remote.example"))
			l.names.Set("_25._tcp."+name, "TLSA", tlsa(1, l.root.cert))
			return s
		}, failed + "the certificate is for another name" + so},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newTLSLab(t)
			s := tt.set(l)
			l.names.Sign("example", strings.Contains(tt.name, "DANE") || strings.Contains(tt.name, "TLSA"))
			l.publish("1", tt.policy)
			got := l.deliver(post{})
			if !strings.HasPrefix(got, tt.want) {
				t.Errorf("got  %s\nwant %s\n%s", got, tt.want, l.logged)
			}
			if strings.HasPrefix(tt.want, wait) && (len(s.taken()) != 0 || s.served("MAIL") != 0 || len(l.jobs()) != 1) {
				t.Errorf("the host has %+v, %d jobs wait", s.taken(), len(l.jobs()))
			}
		})
	}
}

// TestMTASTSCache: what was fetched holds over a restart, whatever becomes of the policy host and the record, until it expires.
func TestMTASTSCache(t *testing.T) {
	const passes, refused, plain = "delivered: mx.remote.example [192.0.2.1] TLS 1.3 (MTA-STS)", "deferred: mx.remote.example [192.0.2.1]: TLS handshake failed",
		"delivered: mx.remote.example [192.0.2.1] TLS 1.3: 250"
	l := newTLSLab(t)
	s := l.usual(l.root.issue(nil, "mx.remote.example"))
	l.names.Sign("example", false)
	wrong := l.root.issue(nil, "remote.example")
	good := s.cert
	step := func(what, want string, asked int) {
		t.Helper()
		if got := l.deliver(post{}); !strings.HasPrefix(got, want) {
			t.Errorf("%s: got %s, want %s\n%s", what, got, want, l.logged)
		}
		l.change(func() {
			if l.asked != asked {
				t.Errorf("%s: the policy host was asked %d times, want %d", what, l.asked, asked)
			}
		})
	}
	l.publish("1", enforce)
	step("fetched", passes, 1)
	s.cert = wrong
	step("kept", refused, 1)
	l.pass(2 * time.Hour)
	l.names.Remove("_mta-sts.remote.example")
	step("the record is gone", refused, 1)
	l.pass(2 * time.Hour)
	l.names.Behave("_mta-sts.remote.example", "TXT", resolvertest.ServFail)
	step("the DNS says nothing of it", refused, 1)
	l.names.Behave("_mta-sts.remote.example", "TXT", resolvertest.Normal)
	l.publish("2", "")
	l.pass(2 * time.Hour)
	step("a new record, and the policy host has nothing", refused, 2)
	l.change(func() { delete(l.at, "192.0.2.200:443") })
	step("the policy host is down", refused, 2)
	s.cert = good
	step("the policy host is down, and all is well", passes, 2)
	s.cert = wrong
	l.pass(7*24*time.Hour - 6*time.Hour)
	step("the last second", refused, 2)
	l.pass(time.Second)
	step("expired", plain, 2)
}

// TestMTASTSRollover: a new id brings the new policy at once, a policy of none ends the old one, and an unchanged id asks nobody.
func TestMTASTSRollover(t *testing.T) {
	l := newTLSLab(t)
	l.usual(nil)
	l.names.Sign("example", false)
	for _, step := range []struct{ id, policy, want string }{
		{"1", enforce, "deferred: mx.remote.example [192.0.2.1]: the host offers no STARTTLS"},
		{"1", "mode: none, max_age: 86400", "deferred: mx.remote.example [192.0.2.1]: the host offers no STARTTLS"},
		{"2", "mode: enforce, mx: new.remote.example, max_age: 604800", "deferred: mx.remote.example: the policy of remote.example (MTA-STS) does not name"},
		{"3", "mode: none, max_age: 86400", "delivered: mx.remote.example [192.0.2.1]: 250"},
		{"4", enforce, "deferred: mx.remote.example [192.0.2.1]: the host offers no STARTTLS"},
	} {
		l.publish(step.id, step.policy)
		if got := l.deliver(post{}); !strings.HasPrefix(got, step.want) {
			t.Errorf("id %s, %s: got %s, want %s\n%s", step.id, step.policy, got, step.want, l.logged)
		}
		l.pass(2 * time.Hour) // the record is asked for again
	}
	l.change(func() {
		if l.asked != 4 {
			t.Errorf("the policy host was asked %d times, want 4", l.asked)
		}
	})
}

// keeperLab is a keeper in a bubble of fake time.
type keeperLab struct {
	*stsKeeper
	dns     *dns
	st      store.Store
	mu      sync.Mutex // protects what follows
	fetches int
	fail    error
	max     time.Duration
	hold    chan struct{} // a fetch waits for it to be closed, or for its context
}

func newKeeperLab() *keeperLab {
	l := &keeperLab{dns: newDNS(), st: memstore.New("example.org"), max: 48 * time.Hour}
	l.restart()
	return l
}

func (l *keeperLab) restart() {
	l.stsKeeper = newSTSKeeper(l.st, l.dns, l.answer, time.Now, slog.New(slog.DiscardHandler))
}

func (l *keeperLab) answer(ctx context.Context, domain string) (mtasts.Policy, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fetches++
	if hold := l.hold; hold != nil {
		l.mu.Unlock()
		select {
		case <-hold:
		case <-ctx.Done():
		}
		l.mu.Lock()
		if ctx.Err() != nil {
			return mtasts.Policy{}, fmt.Errorf("%w: %w", mtasts.ErrFetch, ctx.Err())
		}
	}
	return mtasts.Policy{Mode: mtasts.Enforce, MX: []string{"mx." + domain}, MaxAge: l.max}, l.fail
}

func (l *keeperLab) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fetches
}

func (l *keeperLab) publish(domain, id string) {
	l.dns.set(func() { l.dns.txt["_mta-sts."+domain] = []string{"v=STSv1; id=" + id} })
}

// TestMTASTSRefresh: a policy that mail asks for is fetched again before it expires, however seldom mail goes there, over restarts too;
// one that nobody asks for any more is not; and a policy host that fails is asked again in five minutes at the earliest.
func TestMTASTSRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newKeeperLab()
		l.publish("a.example", "1")
		wants := func(what string, fetches int, known bool) {
			t.Helper()
			if l.count() != fetches || (l.get(t.Context(), "a.example") != nil) != known {
				t.Errorf("%s: %d fetches, want %d; known %t", what, l.count(), fetches, !known)
			}
		}
		if p, err := l.policy(t.Context(), "a.example"); p == nil || err != nil {
			t.Fatal(p, err)
		}
		l.refresh(t.Context())
		wants("young", 1, true)
		time.Sleep(24 * time.Hour)
		l.restart()
		l.refresh(t.Context())
		wants("a day old, after a restart", 2, true)
		time.Sleep(24 * time.Hour)
		l.fail = errors.New("down")
		l.refresh(t.Context())
		wants("the host is down", 3, true)
		time.Sleep(stsRetry - time.Second)
		l.refresh(t.Context())
		wants("it was asked lately", 3, true)
		time.Sleep(time.Second)
		l.fail = nil
		l.refresh(t.Context())
		wants("it is back", 4, true)
		for range 40 {
			time.Sleep(24 * time.Hour)
			l.refresh(t.Context())
		}
		wants("nobody asks for it", 4+27, false)
	})
}

// TestMTASTSOnce: many who want the same policy are one fetch, and one that is stopped does not leave the others without.
func TestMTASTSOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newKeeperLab()
		l.publish("a.example", "1")
		l.hold = make(chan struct{})
		ctx, stop := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() {
			if p, err := l.policy(ctx, "a.example"); p != nil || err == nil {
				t.Errorf("stopped: %v, %v", p, err)
			}
		})
		synctest.Wait()
		for range 10 {
			all.Go(func() {
				if p, err := l.policy(t.Context(), "a.example"); p == nil || err != nil {
					t.Errorf("got %v, %v", p, err)
				}
			})
		}
		synctest.Wait()
		if l.count() != 1 {
			t.Errorf("%d fetches at once", l.count())
		}
		stop()
		synctest.Wait()
		close(l.hold)
		all.Wait()
		if l.count() != 2 {
			t.Errorf("%d fetches, want one that was stopped and one", l.count())
		}
	})
}

// TestMTASTSBounds: a shard stays within what the store takes, and what lives longest stays.
func TestMTASTSBounds(t *testing.T) {
	now := time.Now()
	entries := map[string]stsEntry{"old.example": {Fetched: now.Add(-time.Hour), Policy: mtasts.Policy{MaxAge: time.Minute}}}
	for i := range 5000 {
		entries[fmt.Sprintf("d%04d.example", i)] = stsEntry{Fetched: now, Policy: mtasts.Policy{
			Mode: mtasts.Enforce, MX: []string{"mx.example"}, MaxAge: time.Duration(i) * time.Minute,
		}}
	}
	blob := encodeShard(entries, now)
	var kept map[string]stsEntry
	if err := json.Unmarshal(blob, &kept); err != nil {
		t.Fatal(err)
	}
	_, last := kept["d4999.example"]
	_, first := kept["d0000.example"]
	if len(blob) > store.MaxSecretSize || len(kept) < 200 || !last || first || len(kept) != len(entries) {
		t.Errorf("%d octets, %d policies, the longest %t, the shortest %t", len(blob), len(kept), last, first)
	}
	// The largest policy that there can be finds room.
	host := strings.Repeat("a", 63) + "." + strings.Repeat("b", 63) + "." + strings.Repeat("c", 63) + "." + strings.Repeat("d", 61)
	p, err := mtasts.Parse("version: STSv1\nmode: enforce\nmax_age: 60\n" + strings.Repeat("mx: "+host+"\n", mtasts.MaxHosts))
	if err != nil {
		t.Fatal(err)
	}
	entries = map[string]stsEntry{"large.example": {Fetched: now, Policy: p}}
	if encodeShard(entries, now); len(entries) != 1 {
		t.Error("the largest policy is not kept")
	}
	// A blob that is damaged is no policy, and no end.
	l := newKeeperLab()
	if err := l.st.PutSecret(t.Context(), shardName(shardOf("a.example")), []byte("{")); err != nil {
		t.Fatal(err)
	}
	if p, err := l.policy(t.Context(), "a.example"); p != nil || err != nil {
		t.Errorf("of a damaged blob: %v, %v", p, err)
	}
}
