package smtp

import (
	"context"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"latchkey/auth"
	"latchkey/guard"
	"latchkey/internal/mailaddr"
	"latchkey/internal/refusal"
	"latchkey/internal/relayprobe"
	"latchkey/store"
)

// newProofFixture is the fixture's domain with roles, under settings.
func newProofFixture(t testing.TB, change func(*store.Settings)) (*fixture, RelayProof) {
	f := newFixture(t, MX)
	f.must(f.store.PutAlias(context.Background(), store.Alias{Name: "postmaster", Targets: []store.AccountID{f.ids["bob"]}}))
	if change != nil {
		f.settings(change)
	}
	return f, RelayProof{Store: f.store, Hostname: testHost}
}

func (f *fixture) proved(p RelayProof) relayprobe.Report {
	f.t.Helper()
	report, err := p.Run(context.Background())
	f.must(err)
	return report
}

// loose are the settings that let most in.
func loose(s *store.Settings) {
	s.RequireAuth = false
	s.TrustedNetworks = []netip.Prefix{netip.MustParsePrefix("198.18.0.0/16"), netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8:1::/48")}
}

// Whatever the owner's settings, the product as it is passes, and the domain is as it was: no message, no job, no figure, no reservation
// (which the fixture looks for in the end).
func TestRelayProofPasses(t *testing.T) {
	worlds := map[string]func(*store.Settings){
		"defaults": nil, "named networks": loose,
		"no grants":         func(s *store.Settings) { s.POPBeforeSMTP = false },
		"inbound only":      func(s *store.Settings) { s.OutgoingMail = false },
		"no AUTH on 25":     func(s *store.Settings) { s.AuthOnMX = false },
		"all of these":      func(s *store.Settings) { loose(s); s.POPBeforeSMTP, s.OutgoingMail, s.AuthOnMX = false, false, false },
		"outside sender":    func(s *store.Settings) { s.OutsideSenders = []mailaddr.Address{address("bob@example.com")} },
		"required by timer": func(s *store.Settings) { loose(s); s.RequireAuthAt = time.Now().Add(-time.Hour) },
	}
	for name, change := range worlds {
		if testing.Short() && name != "defaults" && name != "all of these" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			f, p := newProofFixture(t, change)
			report := f.proved(p)
			if !report.Passed {
				t.Fatalf("%s", report.Fault)
			}
			if n := report.Count(relayprobe.VerdictRefused); n < 250 || report.Count(relayprobe.VerdictRelayed) != 0 {
				t.Errorf("%d refused", n)
			}
			for _, name := range []string{"alice", "bob", "carol", "dave"} {
				if u, err := f.store.Usage(context.Background(), f.ids[name]); err != nil || u.Messages != 0 {
					t.Errorf("%s has %d messages, %v", name, u.Messages, err)
				}
			}
			if jobs := f.jobs(); len(jobs) != 0 {
				t.Errorf("jobs %v", jobs)
			}
			today := store.DayOf(time.Now())
			if stats, err := f.store.ListStats(context.Background(), today-1, today+1); err != nil || len(stats) != 0 {
				t.Errorf("figures %v, %v", stats, err)
			}
		})
	}
}

func TestRelayProofTellsWhatMatters(t *testing.T) {
	f, p := newProofFixture(t, loose)
	var text strings.Builder
	report := f.proved(p)
	f.must(report.WriteText(&text))
	for _, want := range []string{
		"PASSED: nothing was relayed", "trusted_networks", "198.18.0.0/16 (65536 addresses), 192.0.2.0/24 (256 addresses), 2001:db8:1::/48 (65536 networks of /64)",
		"At mx, anonymous, from 198.51.100.", "RCPT TO:<victim%elsewhere.example@example.com>", "550 5.7.1 Relaying denied",
		"mail to postmaster@example.com, between the probes", "seen to leave",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%q is not in the report", want)
		}
	}
	if strings.ContainsRune(text.String(), 0) {
		t.Error("a NUL is in the report")
	}
}

// routed is a store that follows percent signs: the address leads to a mailbox here, and to another host as well.
type routed struct{ *proofStore }

func (r routed) Resolve(ctx context.Context, addr mailaddr.Address) (store.Route, error) {
	route, err := r.proofStore.Resolve(ctx, addr)
	if strings.HasPrefix(addr.Local(), "victim%") && addr.Domain() == testDomain {
		return store.Route{Local: []store.AccountID{0}}, nil // 0 makes a job of it
	}
	return route, err
}

// deaf is a store that knows nobody.
type deaf struct{ *proofStore }

func (d deaf) Resolve(context.Context, mailaddr.Address) (store.Route, error) {
	return store.Route{}, store.ErrNotFound
}

// stuck is a store that never answers about an address.
type stuck struct{ *proofStore }

func (s stuck) Resolve(ctx context.Context, addr mailaddr.Address) (store.Route, error) {
	if addr.Domain() == "elsewhere.example" && addr != address("victim@elsewhere.example") {
		<-ctx.Done()
	}
	return s.proofStore.Resolve(ctx, addr)
}

// anyAuth takes any password.
type anyAuth struct{ proofAuth }

func (a anyAuth) Login(ctx context.Context, at auth.Attempt, _, _ string) (auth.Identity, error) {
	return a.proofAuth.Login(ctx, at, a.box.account.Name, a.password)
}

// anyGrant takes every reverse-path of the domain for one with a grant, wherever the client stands.
type anyGrant struct{ Grants }

func (a anyGrant) Live(_ context.Context, p guard.Place, accounts []store.AccountID) ([]store.Grant, error) {
	return []store.Grant{{ID: 1, Account: accounts[0], Network: netip.PrefixFrom(p.Remote, p.Remote.BitLen()), Expires: time.Now().Add(time.Hour), Left: 50}}, nil
}

func (anyGrant) Current(context.Context, guard.Place, store.Grant) (bool, error) { return true, nil }

func (anyGrant) Spend(context.Context, store.GrantID, int) (bool, error) { return true, nil }

// lateGrant takes everybody for granted who waited for it.
type lateGrant struct {
	anyGrant
	waited *atomic.Bool
}

func (l lateGrant) Live(ctx context.Context, p guard.Place, accounts []store.AccountID) ([]store.Grant, error) {
	if !l.waited.Load() {
		return nil, nil
	}
	return l.anyGrant.Live(ctx, p, accounts)
}

func (l lateGrant) Await(_ context.Context, p guard.Place, account store.AccountID, _ string, _ func() bool) (store.Grant, bool, error) {
	l.waited.Store(true)
	live, err := l.Live(context.Background(), p, []store.AccountID{account})
	return live[0], true, err
}

// Where clients may send first and fetch mail then, the answer to the message counts: all of them are refused, and whoever is not is seen.
func TestRelayProofWaits(t *testing.T) {
	f, p := newProofFixture(t, func(s *store.Settings) { loose(s); s.SendThenCheck = true })
	report := f.proved(p)
	waited := 0
	for _, r := range report.Results {
		if strings.HasPrefix(r.Reply, "450 4.7.1") && strings.Contains(r.Reply, refusal.RelayCheckFirst.Code()) {
			waited++
		}
	}
	if !report.Passed || waited < 10 || report.Took > 60 {
		t.Errorf("passed %v, fault %q, %d waited, in %v seconds", report.Passed, report.Fault, waited, report.Took)
	}
	p.alter = func(o *Options) { o.Grants = lateGrant{anyGrant{o.Grants}, new(atomic.Bool)} }
	if report := f.proved(p); report.Passed || !strings.Contains(report.Fault, `relays at mx`) {
		t.Errorf("passed %v, fault %q", report.Passed, report.Fault)
	}
}

// Each hole is seen, and named.
func TestRelayProofSeesHoles(t *testing.T) {
	tests := []struct {
		name  string
		alter func(*Options)
		fault string
	}{
		{"grants count from everywhere", func(o *Options) { o.Grants = anyGrant{o.Grants} }, `relays at mx for anonymous: probe "from our own domain"`},
		{"every password is right", func(o *Options) { o.Auth = anyAuth{o.Auth.(proofAuth)} }, `probe "after a failed AUTH"`},
		{"percent signs are followed", func(o *Options) { o.Store = routed{o.Store.(*proofStore)} }, `relays at mx for anonymous: probe "victim%elsewhere.example@example.com"`},
		{"a server that refuses everything", func(o *Options) { o.Store = deaf{o.Store.(*proofStore)} }, "control at mx"},
		{"a server that says nothing", func(o *Options) { o.Store = stuck{o.Store.(*proofStore)} }, "no clear answer at mx"},
		{"a proof that cannot see what leaves", func(o *Options) { o.Sending = nil }, "seen to leave"},
		{"at submission only", func(o *Options) {
			if o.Door == Submission {
				o.Grants = anyGrant{o.Grants}
			}
		}, "relays at submission for anonymous"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f, p := newProofFixture(t, nil)
			p.alter = test.alter
			if strings.HasPrefix(test.fault, "no clear answer") {
				p.patience = 100 * time.Millisecond
			}
			report := f.proved(p)
			if report.Passed || !strings.Contains(report.Fault, test.fault) {
				t.Errorf("passed %v, fault %q, want one with %q", report.Passed, report.Fault, test.fault)
			}
		})
	}
}

func BenchmarkRelayProof(b *testing.B) {
	f, p := newProofFixture(b, loose)
	for b.Loop() {
		report := f.proved(p)
		b.ReportMetric(float64(len(report.Results)), "probes/op")
	}
}
