package guard

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"latchkey/store"
	"latchkey/store/memstore"
)

// domain is a store with mailboxes, and the grants that it gives.
type domain struct {
	t      *testing.T
	store  *memstore.Store
	grants store.Grants
	g      *Grants
	log    *bytes.Buffer
	alice  store.Account
	bob    store.Account

	mu    sync.Mutex // protects clock
	clock time.Time
}

func newDomain(t *testing.T) *domain {
	t.Helper()
	d := &domain{t: t, store: memstore.New("example.com"), log: &bytes.Buffer{}, clock: start}
	t.Cleanup(func() {
		problems, err := d.store.Check(context.Background())
		if err != nil || len(problems) > 0 {
			t.Errorf("Check: %v %v", problems, err)
		}
		_ = d.store.Close()
	})
	d.alice, d.bob = d.add("alice"), d.add("bob")
	d.grants = d.store
	d.g = d.over(d.grants)
	return d
}

// over makes Grants that keep theirs elsewhere.
func (d *domain) over(grants store.Grants) *Grants {
	return NewGrants(GrantOptions{
		Grants: grants, Accounts: d.store, Settings: d.store, Hosts: testHosts(d.now), Now: d.now,
		Logger: slog.New(slog.NewTextHandler(d.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
}

func (d *domain) now() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.clock
}

func (d *domain) at(after time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.clock = start.Add(after)
}

func (d *domain) add(name string) store.Account {
	d.t.Helper()
	a, err := d.store.AddAccount(d.t.Context(), store.Account{Name: name, Verifier: "$argon2id$"})
	if err != nil {
		d.t.Fatal(err)
	}
	return a
}

func (d *domain) change(a *store.Account, change func(a *store.Account)) {
	d.t.Helper()
	change(a)
	changed, err := d.store.UpdateAccount(d.t.Context(), *a)
	if err != nil {
		d.t.Fatal(err)
	}
	*a = changed
}

func (d *domain) set(change func(s *store.Settings)) {
	d.t.Helper()
	s, err := d.store.Settings(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	change(&s)
	if _, err := d.store.UpdateSettings(d.t.Context(), s); err != nil {
		d.t.Fatal(err)
	}
}

func place(text string) Place { return Place{Remote: netip.MustParseAddr(text)} }

// login is a POP3 login; it returns what the log says of the grant.
func (d *domain) login(p Place, a store.Account) string {
	d.t.Helper()
	d.log.Reset()
	d.g.LoggedIn(d.t.Context(), p, a.ID, a.Name, a.CredentialVersion)
	return d.log.String()
}

// everybody is every account that a test has, and some that it has not; none is 0.
func everybody() []store.AccountID {
	var ids []store.AccountID
	for id := range store.AccountID(500) {
		ids = append(ids, 500-1-id) // Live puts its grants in order
	}
	return ids
}

// live returns the grants that are good for a client, as names of their mailboxes.
func (d *domain) live(p Place) string {
	d.t.Helper()
	grants, err := d.g.Live(d.t.Context(), p, everybody())
	if err != nil {
		d.t.Fatal(err)
	}
	var names []string
	for _, g := range grants {
		a, err := d.store.Account(d.t.Context(), g.Account)
		if err != nil {
			d.t.Fatal(err)
		}
		names = append(names, a.Name)
		if ok, err := d.g.Current(d.t.Context(), p, g); !ok || err != nil {
			d.t.Errorf("the grant of %s is live and not current (%v)", a.Name, err)
		}
	}
	return strings.Join(names, " ")
}

func (d *domain) wantLive(p Place, want string) {
	d.t.Helper()
	if got := d.live(p); got != want {
		d.t.Errorf("%v at %v: live grants of %q, want %q", p.Remote, d.now().Sub(start), got, want)
	}
}

// only returns the one grant that is good for a client.
func (d *domain) only(p Place) store.Grant {
	d.t.Helper()
	grants, err := d.g.Live(d.t.Context(), p, everybody())
	if err != nil || len(grants) != 1 {
		d.t.Fatalf("%d live grants at %v (%v), want 1", len(grants), p.Remote, err)
	}
	return grants[0]
}

func (d *domain) why(p Place, a store.Account) NoGrant {
	d.t.Helper()
	why, err := d.g.Why(d.t.Context(), p, a.ID)
	if err != nil {
		d.t.Fatal(err)
	}
	return why
}

// TestGrantWindow: a grant is live at once, until its window ends and not at its end; a login before that renews it, one after it
// opens another.
func TestGrantWindow(t *testing.T) {
	d := newDomain(t)
	p := Place{Remote: home}
	d.wantLive(p, "")
	if log := d.login(p, d.alice); !strings.Contains(log, "grant opened") || strings.Count(log, "\n") != 1 {
		t.Errorf("the log says %q", log)
	}
	first := d.only(p)
	d.wantLive(p, "alice")
	d.at(GrantWindow - 1)
	d.wantLive(p, "alice")
	if log := d.login(p, d.alice); !strings.Contains(log, "level=DEBUG msg=\"grant renewed\"") || strings.Count(log, "\n") != 1 {
		t.Errorf("the log says %q", log)
	}
	d.at(2*GrantWindow - 2)
	d.wantLive(p, "alice")
	if got := d.only(p).ID; got != first.ID {
		t.Errorf("renewed to grant %v, was %v", got, first.ID)
	}
	d.at(2*GrantWindow - 1)
	d.wantLive(p, "")
	if ok, err := d.g.Current(t.Context(), p, first); ok || err != nil {
		t.Errorf("an expired grant is current: %v (%v)", ok, err)
	}
	if log := d.login(p, d.alice); !strings.Contains(log, "grant opened") {
		t.Errorf("the log says %q", log)
	}
	if got := d.only(p).ID; got == first.ID {
		t.Error("an expired grant lives again")
	}
}

// TestGrantLongest: whatever logins follow, a grant ends twelve hours after it was opened.
func TestGrantLongest(t *testing.T) {
	d := newDomain(t)
	p := Place{Remote: home}
	d.login(p, d.alice)
	first := d.only(p)
	for after := GrantWindow / 2; after < GrantLongest; after += GrantWindow / 2 {
		d.at(after)
		d.login(p, d.alice)
	}
	d.at(GrantLongest - 1)
	d.login(p, d.alice)
	if got := d.only(p); got.ID != first.ID || !got.Expires.Equal(start.Add(GrantLongest)) {
		t.Errorf("grant %v expires at %v", got.ID, got.Expires.Sub(start))
	}
	d.at(GrantLongest)
	d.wantLive(p, "")
	d.login(p, d.alice)
	if d.only(p).ID == first.ID {
		t.Error("a grant outlives its longest time")
	}
}

// TestGrantBudget: fifty recipients, which no login refills, and which come back when they were not used.
func TestGrantBudget(t *testing.T) {
	d := newDomain(t)
	p := Place{Remote: home}
	d.login(p, d.alice)
	id := d.only(p).ID
	spend := func(n int, want bool) {
		t.Helper()
		if ok, err := d.g.Spend(t.Context(), id, n); ok != want || err != nil {
			t.Errorf("spending %d: got %v (%v), want %v", n, ok, err, want)
		}
	}
	spend(GrantRecipients+1, false)
	spend(GrantRecipients-1, true)
	spend(2, false)
	spend(1, true)
	spend(1, false)
	d.at(GrantWindow / 2)
	d.login(p, d.alice)
	spend(1, false)
	if got := d.why(p, d.alice); got.Kind != NoGrantSpent {
		t.Errorf("why: %+v", got)
	}
	d.wantLive(p, "alice") // spent, but it is a grant
	if err := d.g.Refund(t.Context(), id, 3); err != nil {
		t.Fatal(err)
	}
	spend(4, false)
	spend(3, true)
	if err := d.g.Refund(t.Context(), id, 1); err != nil {
		t.Fatal(err)
	}
	d.at(2 * GrantWindow)
	spend(1, false) // expired
	if err := d.g.Refund(t.Context(), id+1000, 1); err != nil {
		t.Errorf("an unknown grant: %v", err)
	}
}

// TestGrantPlaces: which places get a grant, and for what network.
func TestGrantPlaces(t *testing.T) {
	for _, tt := range []struct {
		remote   string
		loopback bool
		bits     int
		network  string // "" for none
		reason   string
	}{
		{"203.0.113.7", false, 64, "203.0.113.7/32", ""},
		{"203.0.113.7", false, 128, "203.0.113.7/32", ""},
		{"::ffff:203.0.113.7", false, 64, "203.0.113.7/32", ""},
		{"192.168.1.20", false, 64, "192.168.1.20/32", ""},
		{"2001:db8::1:2:3:4", false, 64, "2001:db8::/64", ""},
		{"2001:db8::1:2:3:4", false, 128, "2001:db8::1:2:3:4/128", ""},
		{"64:ff9b::cb00:7107", false, 64, "64:ff9b::cb00:7107/128", ""},
		{"2001::7", false, 64, "2001::7/128", ""},
		{"100::7", false, 64, "100::7/128", ""},
		{"127.0.0.1", true, 64, "127.0.0.1/32", ""},
		{"::1", true, 128, "::1/128", ""},
		{"127.0.0.1", false, 64, "", "loopback"},
		{"::ffff:127.0.0.1", false, 64, "", "loopback"},
		{"::1", false, 64, "", "loopback"},
		{"172.17.0.1", false, 64, "", "gateway"},
		{"::ffff:172.17.0.1", false, 64, "", "gateway"},
		{"fd00::1", false, 64, "", "gateway"},
		{"172.17.0.2", false, 64, "", "own address"},
		{"2001:db8::10", false, 64, "", "own address"},
		{"10.9.0.7", false, 64, "", "proxy"},
		{"fe80::5%eth0", false, 64, "", "link-local"},
		{"100.63.255.255", false, 64, "100.63.255.255/32", ""},
		{"100.64.0.0", false, 64, "", "carrier NAT"},
		{"::ffff:100.64.0.0", false, 64, "", "carrier NAT"},
		{"100.127.255.255", false, 64, "", "carrier NAT"},
		{"100.128.0.0", false, 64, "100.128.0.0/32", ""},
		{"198.18.0.0", false, 64, "", "excluded network"},
		{"198.18.255.255", false, 64, "", "excluded network"},
		{"198.19.0.0", false, 64, "198.19.0.0/32", ""},
		{"2001:db8:bad::1", false, 64, "", "excluded network"},
		{"2001:db8:bae::1", false, 64, "2001:db8:bae::/64", ""},
	} {
		d := newDomain(t)
		d.set(func(s *store.Settings) {
			s.GrantIPv6Bits = tt.bits
			s.NoGrantNetworks = []netip.Prefix{netip.MustParsePrefix("198.18.0.0/16"), netip.MustParsePrefix("2001:db8:bad::/48")}
		})
		p := Place{Remote: netip.MustParseAddr(tt.remote), Loopback: tt.loopback}
		log := d.login(p, d.alice)
		if tt.network != "" {
			if got := d.only(p).Network.String(); got != tt.network {
				t.Errorf("%s: got %s, want %s", tt.remote, got, tt.network)
			}
			continue
		}
		d.wantLive(p, "")
		list, err := d.grants.ListGrants(t.Context(), store.GrantFilter{}, 0, 10)
		if err != nil || len(list) != 0 {
			t.Errorf("%s: got %v (%v), want no grant at all", tt.remote, list, err)
		}
		if !strings.Contains(log, "grant not given") || !strings.Contains(log, tt.reason) || strings.Count(log, "\n") != 1 {
			t.Errorf("%s: the log says %q, want %q", tt.remote, log, tt.reason)
		}
		if got := d.why(p, d.alice); got.Kind != NoGrantShared || got.Cause != tt.reason {
			t.Errorf("%s: why %+v", tt.remote, got)
		}
	}
}

// TestGrantCovers: who may use a grant that somebody has, and who may not.
func TestGrantCovers(t *testing.T) {
	for _, tt := range []struct {
		bits        int
		from, other string
		covers      bool
	}{
		{64, "203.0.113.7", "203.0.113.7", true},
		{64, "203.0.113.7", "::ffff:203.0.113.7", true},
		{64, "::ffff:203.0.113.7", "203.0.113.7", true},
		{64, "203.0.113.7", "203.0.113.6", false},
		{64, "203.0.113.7", "::ffff:203.0.113.8", false},
		{64, "203.0.113.7", "::203.0.113.7", false},
		{64, "203.0.113.7", "64:ff9b::cb00:7107", false},
		{64, "2001:db8:1:2::3", "2001:db8:1:2:ffff::4", true},
		{64, "2001:db8:1:2::3", "2001:db8:1:3::3", false},
		{128, "2001:db8:1:2::3", "2001:db8:1:2::3", true},
		{128, "2001:db8:1:2::3", "2001:db8:1:2::4", false},
		{64, "64:ff9b::cb00:7107", "64:ff9b::cb00:7108", false},
		{64, "2001::3", "2001::4", false},
		{64, "100::3", "100::4", false},
	} {
		d := newDomain(t)
		d.set(func(s *store.Settings) { s.GrantIPv6Bits = tt.bits })
		d.login(place(tt.from), d.alice)
		grant := d.only(place(tt.from))
		want := ""
		if tt.covers {
			want = "alice"
		}
		d.wantLive(place(tt.other), want)
		if ok, err := d.g.Current(t.Context(), place(tt.other), grant); ok != tt.covers || err != nil {
			t.Errorf("%s of %s: current %v (%v)", tt.other, tt.from, ok, err)
		}
	}
}

// TestGrantIsCheckedAtUse: whatever happens after a grant was given counts at once, for the next question and for a session that
// holds the grant already.
func TestGrantIsCheckedAtUse(t *testing.T) {
	const from = "2001:db8:1:2::3"
	network := netip.MustParsePrefix("2001:db8:1::/48")
	for _, tt := range []struct {
		name string
		do   func(d *domain, g store.Grant)
		want NoGrantKind
		undo func(d *domain) // nil: for good
	}{
		{"POP before SMTP off", func(d *domain, _ store.Grant) { d.set(func(s *store.Settings) { s.POPBeforeSMTP = false }) }, NoGrantOff,
			func(d *domain) { d.set(func(s *store.Settings) { s.POPBeforeSMTP = true }) }},
		{"outgoing mail off", func(d *domain, _ store.Grant) { d.set(func(s *store.Settings) { s.OutgoingMail = false }) }, NoGrantOff,
			func(d *domain) { d.set(func(s *store.Settings) { s.OutgoingMail = true }) }},
		{"network excluded", func(d *domain, _ store.Grant) {
			d.set(func(s *store.Settings) { s.NoGrantNetworks = []netip.Prefix{network} })
		}, NoGrantShared, func(d *domain) { d.set(func(s *store.Settings) { s.NoGrantNetworks = nil }) }},
		{"one address only", func(d *domain, _ store.Grant) { d.set(func(s *store.Settings) { s.GrantIPv6Bits = 128 }) }, NoGrantElsewhere,
			func(d *domain) { d.set(func(s *store.Settings) { s.GrantIPv6Bits = 64 }) }},
		{"an address of this host", func(d *domain, _ store.Grant) {
			d.g.o.Hosts = NewHosts(HostsOptions{Interfaces: addrs(from), Gateways: addrs()})
		}, NoGrantShared, func(d *domain) { d.g.o.Hosts = testHosts(d.now) }},
		{"password changed", func(d *domain, _ store.Grant) {
			d.change(&d.alice, func(a *store.Account) { a.Verifier = "$argon2id$another" })
		}, NoGrantRevoked, nil},
		{"suspended", func(d *domain, _ store.Grant) { d.change(&d.alice, func(a *store.Account) { a.Suspended = true }) }, NoGrantRevoked, nil},
		{"suspended and not any more", func(d *domain, _ store.Grant) {
			d.change(&d.alice, func(a *store.Account) { a.Suspended = true })
			d.change(&d.alice, func(a *store.Account) { a.Suspended = false })
		}, NoGrantRevoked, nil},
		{"revoked", func(d *domain, g store.Grant) {
			if _, err := d.grants.RevokeGrants(d.t.Context(), d.now(), store.GrantRevoked, g.ID); err != nil {
				d.t.Fatal(err)
			}
		}, NoGrantRevoked, nil},
		{"removed, and the name added again", func(d *domain, _ store.Grant) {
			if err := d.store.RemoveAccount(d.t.Context(), d.alice.ID); err != nil {
				d.t.Fatal(err)
			}
			d.alice = d.add("alice")
		}, NoGrantNever, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDomain(t)
			p := place(from)
			d.login(p, d.alice)
			d.wantLive(p, "alice")
			grant := d.only(p)
			if got := d.why(p, d.alice); got != (NoGrant{}) {
				t.Errorf("why with a grant: %+v", got)
			}
			tt.do(d, grant)
			d.wantLive(p, "")
			if ok, err := d.g.Current(t.Context(), p, grant); ok || err != nil {
				t.Errorf("still current: %v (%v)", ok, err)
			}
			if got := d.why(p, d.alice); got.Kind != tt.want {
				t.Errorf("why: %+v, want %v", got, tt.want)
			}
			if tt.undo != nil {
				tt.undo(d)
				d.wantLive(p, "alice")
			}
		})
	}
}

// TestNoGrantForAnOldCredential: a login that was proved before the password changed, the suspension or the removal gets no grant, and
// does not end the one that the new password has.
func TestNoGrantForAnOldCredential(t *testing.T) {
	d := newDomain(t)
	p := Place{Remote: home}
	old := d.alice
	d.change(&d.alice, func(a *store.Account) { a.Verifier = "$argon2id$another" })
	d.login(p, d.alice)
	d.wantLive(p, "alice")
	if log := d.login(p, old); !strings.Contains(log, "grant not given") {
		t.Errorf("the log says %q", log)
	}
	d.wantLive(p, "alice")
	d.change(&d.bob, func(a *store.Account) { a.Suspended = true })
	d.login(p, d.bob)
	d.wantLive(p, "alice")
	if err := d.store.RemoveAccount(t.Context(), d.alice.ID); err != nil {
		t.Fatal(err)
	}
	d.login(p, d.alice)
	d.wantLive(p, "")
}

// TestNothingIsGivenWhileOff: and what was given before counts again when it is on again, if it is still live.
func TestNothingIsGivenWhileOff(t *testing.T) {
	for name, off := range map[string]func(s *store.Settings, on bool){
		"POP before SMTP": func(s *store.Settings, on bool) { s.POPBeforeSMTP = on },
		"outgoing mail":   func(s *store.Settings, on bool) { s.OutgoingMail = on },
	} {
		d := newDomain(t)
		p := Place{Remote: home}
		d.set(func(s *store.Settings) { off(s, false) })
		if log := d.login(p, d.alice); !strings.Contains(log, "level=DEBUG") || strings.Contains(log, "level=INFO") {
			t.Errorf("%s: the log says %q", name, log)
		}
		d.set(func(s *store.Settings) { off(s, true) })
		d.wantLive(p, "")
	}
}

// TestFiveLive: the sixth place of one mailbox gets no grant, until one of the five ends; those five are renewed.
func TestFiveLive(t *testing.T) {
	d := newDomain(t)
	at := func(i int) Place { return place(fmt.Sprint("203.0.113.", i)) }
	for i := 1; i <= MaxLiveGrants; i++ {
		d.at(time.Duration(i))
		d.login(at(i), d.alice)
		d.wantLive(at(i), "alice")
	}
	if log := d.login(at(6), d.alice); !strings.Contains(log, "grant not given") || !strings.Contains(log, withheldMany) {
		t.Errorf("the log says %q", log)
	}
	d.wantLive(at(6), "")
	if got := d.why(at(6), d.alice); got.Kind != NoGrantElsewhere {
		t.Errorf("why: %+v", got)
	}
	d.login(at(7), d.bob)
	d.wantLive(at(7), "bob")
	d.at(MaxLiveGrants + 1)
	if log := d.login(at(5), d.alice); !strings.Contains(log, "grant renewed") {
		t.Errorf("the log says %q", log)
	}
	d.at(GrantWindow) // before the first one ends
	d.login(at(6), d.alice)
	d.wantLive(at(6), "")
	d.at(GrantWindow + 1)
	d.login(at(6), d.alice)
	d.wantLive(at(6), "alice")
	d.wantLive(at(1), "")
}

// failing is a store that cannot be asked for one thing.
type failing struct {
	store.Grants
	what string
}

var errBroken = errors.New("the disk is gone")

func (f failing) OpenGrant(ctx context.Context, now time.Time, r store.GrantRequest) (store.Grant, error) {
	if f.what == "open" {
		return store.Grant{}, errBroken
	}
	return f.Grants.OpenGrant(ctx, now, r)
}

func (f failing) Grant(ctx context.Context, id store.GrantID) (store.Grant, error) {
	if f.what == "get" {
		return store.Grant{}, errBroken
	}
	return f.Grants.Grant(ctx, id)
}

func (f failing) ListGrants(ctx context.Context, q store.GrantFilter, after store.GrantID, limit int) ([]store.Grant, error) {
	if f.what == "list" {
		return nil, errBroken
	}
	return f.Grants.ListGrants(ctx, q, after, limit)
}

func (f failing) RevokeGrants(ctx context.Context, now time.Time, end store.GrantEnd, ids ...store.GrantID) ([]store.GrantID, error) {
	if f.what == "revoke" {
		return nil, errBroken
	}
	return f.Grants.RevokeGrants(ctx, now, end, ids...)
}

func (f failing) SpendGrant(ctx context.Context, now time.Time, id store.GrantID, n int) (bool, error) {
	if f.what == "spend" {
		return true, errBroken
	}
	return f.Grants.SpendGrant(ctx, now, id, n)
}

func (f failing) RefundGrant(ctx context.Context, id store.GrantID, n int) error {
	if f.what == "refund" {
		return errBroken
	}
	return f.Grants.RefundGrant(ctx, id, n)
}

// settings, and accounts, that cannot be read.
type (
	noSettings struct{ store.SettingsStore }
	noAccounts struct{ Accounts }
)

func (noSettings) Settings(context.Context) (store.Settings, error) {
	return store.Settings{}, errBroken
}

func (noAccounts) Account(context.Context, store.AccountID) (store.Account, error) {
	return store.Account{}, errBroken
}

func (noAccounts) AccountByName(context.Context, string) (store.Account, error) {
	return store.Account{}, errBroken
}

// TestGrantStoreFails: who asks about a grant learns that the answer could not be had, and has no grant; a login just has none.
func TestGrantStoreFails(t *testing.T) {
	p := Place{Remote: home}
	for _, tt := range []struct {
		what   string
		broken func(o *GrantOptions)
		// fails lists the questions that fail.
		fails string
	}{
		{"open", nil, "login"},
		{"get", nil, "current"},
		{"list", nil, "live why guessed"},
		{"revoke", nil, "guessed"},
		{"spend", nil, "spend"},
		{"refund", nil, "refund"},
		{"settings", func(o *GrantOptions) { o.Settings = noSettings{} }, "login live current why"},
		{"accounts", func(o *GrantOptions) { o.Accounts = noAccounts{} }, "login live current why guessed"},
	} {
		d := newDomain(t)
		d.login(p, d.alice)
		grant := d.only(p)
		d.g.o.Grants = failing{d.grants, tt.what}
		if tt.broken != nil {
			tt.broken(&d.g.o)
		}
		check := func(question string, err error, good bool) {
			t.Helper()
			fails := strings.Contains(" "+tt.fails+" ", " "+question+" ")
			if fails != errors.Is(err, errBroken) || fails && good {
				t.Errorf("%s fails: %s: got %v, good %v", tt.what, question, err, good)
			}
		}
		logged := func(log string) error {
			if strings.Contains(log, "level=ERROR") && strings.Contains(log, errBroken.Error()) {
				return errBroken
			}
			return nil
		}
		check("login", logged(d.login(p, d.alice)), false)
		live, err := d.g.Live(t.Context(), p, everybody())
		check("live", err, len(live) > 0)
		ok, err := d.g.Current(t.Context(), p, grant)
		check("current", err, ok)
		_, err = d.g.Why(t.Context(), p, d.alice.ID)
		check("why", err, false)
		ok, err = d.g.Spend(t.Context(), grant.ID, 1)
		check("spend", err, ok)
		check("refund", d.g.Refund(t.Context(), grant.ID, 1), false)
		d.log.Reset()
		for range GuessBurst {
			d.g.Guessed(t.Context(), home, "alice")
		}
		check("guessed", logged(d.log.String()), false)
	}
}

// Grants of other mailboxes at the same address are not asked for, and not counted, and an unknown account has none.
func TestLiveOfSome(t *testing.T) {
	d := newDomain(t)
	p := Place{Remote: home}
	d.login(p, d.bob)
	d.login(p, d.alice)
	for name, tt := range map[string]struct {
		accounts, want []store.AccountID
	}{
		"nobody":   {nil, nil},
		"zero":     {[]store.AccountID{0}, nil},
		"unknown":  {[]store.AccountID{77}, nil},
		"alice":    {[]store.AccountID{d.alice.ID}, []store.AccountID{d.alice.ID}},
		"in order": {[]store.AccountID{d.alice.ID, 77, d.bob.ID}, []store.AccountID{d.bob.ID, d.alice.ID}},
	} {
		grants, err := d.g.Live(t.Context(), p, tt.accounts)
		var got []store.AccountID
		for _, g := range grants {
			got = append(got, g.Account)
		}
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%s: grants of %v (%v), want %v", name, got, err, tt.want)
		}
	}
}

// TestGrantsAtOnce: logins, guesses and questions from everywhere at once; nobody spends more than there is.
func TestGrantsAtOnce(t *testing.T) {
	d := newDomain(t)
	d.g.o.Logger = slog.New(slog.DiscardHandler)
	p := Place{Remote: home}
	d.login(p, d.alice)
	id := d.only(p).ID
	var work sync.WaitGroup
	var mu sync.Mutex
	spent := 0
	for i := range 8 {
		work.Go(func() {
			for j := range 50 {
				d.g.LoggedIn(t.Context(), p, d.alice.ID, "alice", d.alice.CredentialVersion)
				d.g.Guessed(t.Context(), cafe, fmt.Sprint("mailbox", i*j))
				if _, err := d.g.Live(t.Context(), p, everybody()); err != nil {
					t.Error(err)
				}
				if _, err := d.g.Why(t.Context(), p, d.bob.ID); err != nil {
					t.Error(err)
				}
				if ok, err := d.g.Spend(t.Context(), id, 1); err != nil {
					t.Error(err)
				} else if ok {
					mu.Lock()
					spent++
					mu.Unlock()
				}
			}
		})
	}
	work.Wait()
	if spent != GrantRecipients {
		t.Errorf("%d recipients spent, want %d", spent, GrantRecipients)
	}
	d.wantLive(p, "alice")
}
