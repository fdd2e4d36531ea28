package smtp

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"latchkey/auth"
	"latchkey/guard"
	"latchkey/internal/mailaddr"
	"latchkey/internal/refusal"
	"latchkey/store"
)

// verdict writes what became of a question: "ok", or code and status.
func verdict(r *refused) string {
	if r == nil {
		return "ok"
	}
	reply := r.row().SMTP
	return fmt.Sprintf("%d %d.%d.%d", reply.Code, reply.Status[0], reply.Status[1], reply.Status[2])
}

var (
	namedNetwork   = netip.MustParsePrefix("192.0.2.0/24")
	unnamedNetwork = netip.MustParsePrefix("198.51.100.0/24")
)

// kinds are the senders of the tables. "once trusted" is trusted by a network that is not named any more.
func kinds() map[string]sender {
	return map[string]sender{
		"anonymous":     anonymous{},
		"authenticated": authenticated{identity: auth.Identity{Account: 1}},
		"granted":       granted{grant: store.Grant{ID: 17, Account: 1}, address: address("alice@example.com")},
		"trusted":       trusted{network: namedNetwork, address: address("alice@example.com")},
		"waiting":       waiting{address: address("alice@example.com"), owner: 1},
		"once trusted":  trusted{network: unnamedNetwork, address: address("alice@example.com")},
	}
}

// allSettings are all combinations of what the owner decides about sending.
func allSettings() (list []store.Settings) {
	for i := range 1 << 6 {
		s := store.DefaultSettings(testDomain)
		s.OutsideSenders = []mailaddr.Address{address("news@example.com")}
		on := func(bit int) bool { return i&(1<<bit) != 0 }
		s.OutgoingMail, s.POPBeforeSMTP, s.RequireAuth, s.AuthOnMX = on(0), on(1), on(2), on(3)
		s.TrustedNetworks = []netip.Prefix{namedNetwork}
		s.SendThenCheck = on(5)
		if on(4) {
			s.RequireAuthAt = tableTime
		}
		list = append(list, s)
	}
	return list
}

// tableTime is when the tables are asked.
var tableTime = time.Unix(1e9, 0)

// TestAuthorizeSender asks every combination of sender, door, kind of reverse-path, right on it and settings. The rule is written a
// second time, by cases.
func TestAuthorizeSender(t *testing.T) {
	paths := map[string]mailaddr.Address{
		"null": {}, "ours": address("alice@example.com"), "ours, upper case": address("ALICE@EXAMPLE.COM"),
		"outside": address("News@example.com"), "theirs": address("x@remote.example"), "sub": address("x@sub.example.com"),
		"literal": address("x@[127.0.0.1]"),
	}
	want := func(who string, door Door, path string, right ownership, s store.Settings) string {
		isOurs := path == "ours" || path == "ours, upper case" || path == "outside"
		mayUse := map[string]bool{
			"authenticated": path == "null" || right != foreign,
			"granted":       path != "null" && right != foreign && s.POPBeforeSMTP && s.OutgoingMail,
			"trusted":       isOurs && right != foreign && !s.RequireAuth && s.RequireAuthAt.IsZero() && s.OutgoingMail,
			"anonymous":     door == MX && (!isOurs || path == "outside"),
		}[who]
		switch {
		case mayUse:
			return "ok"
		case who == "waiting", who == "anonymous" && door != MX: // who waits was decided by other rules, and never asks here
			return "530 5.7.0"
		}
		return "550 5.7.1"
	}
	n := 0
	for name, who := range kinds() {
		for _, door := range []Door{MX, Submission} {
			for path, addr := range paths {
				for _, right := range []ownership{foreign, lent, own} {
					for _, s := range allSettings() {
						n++
						got := verdict(authorizeSender(who, door, addr, right, s, tableTime))
						if w := want(name, door, path, right, s); got != w {
							t.Errorf("%s, %s, %s, right %d, %+v: got %s, want %s", name, door, path, right, s, got, w)
						}
					}
				}
			}
		}
	}
	if n != 6*2*7*3*64 {
		t.Errorf("%d combinations", n)
	}
}

// tableRecipient is one kind of recipient.
type tableRecipient struct {
	name  string
	addr  mailaddr.Address
	route store.Route
	kind  string // "local", "remote" or "routed"
}

func tableRecipients(t *testing.T) []tableRecipient {
	t.Helper()
	remote := func(s string) (mailaddr.Address, store.Route) {
		a, err := mailaddr.FromUnquoted(s)
		if err != nil {
			t.Fatal(err)
		}
		return a, store.Route{Remote: []mailaddr.Address{a}}
	}
	local := store.Route{Local: []store.AccountID{1}}
	list := []tableRecipient{
		{"local", address("bob@example.com"), local, "local"},
		{"local catch-all", address("any@example.com"), store.Route{Local: []store.AccountID{1}, CatchAll: true}, "local"},
		{"local with a percent sign", address("victim%x@example.com"), local, "local"},
	}
	for _, r := range []struct{ addr, kind string }{
		{"victim@x.example", "remote"}, {"victim+tag@x.example", "remote"}, {"a b@x.example", "remote"},
		{"victim@[192.0.2.1]", "routed"}, {"victim@[IPv6:2001:db8::1]", "routed"},
		{"victim%y@x.example", "routed"}, {"victim@y@x.example", "routed"}, {"y!victim@x.example", "routed"},
	} {
		a, route := remote(r.addr)
		list = append(list, tableRecipient{r.addr, a, route, r.kind})
	}
	both, routeBoth := remote("victim@x.example")
	routeBoth.Local = local.Local
	return append(list, tableRecipient{"local and remote", both, routeBoth, "remote"})
}

// TestAuthorizeRelay asks every combination of sender, door, recipient and settings.
func TestAuthorizeRelay(t *testing.T) {
	want := func(proved bool, door Door, kind string, outgoing bool) string {
		switch {
		case !proved && door == Submission:
			return "530 5.7.0"
		case kind == "local":
			return "ok"
		case !proved, !outgoing:
			return "550 5.7.1"
		case kind == "routed":
			return "550 5.1.2"
		}
		return "ok"
	}
	for name, who := range kinds() {
		for _, door := range []Door{MX, Submission} {
			for _, s := range allSettings() {
				for _, r := range tableRecipients(t) {
					got := verdict(authorizeRelay(who, door, r.addr, r.route, s))
					proved := name != "anonymous" && (name != "waiting" || s.POPBeforeSMTP && s.SendThenCheck)
					if w := want(proved, door, r.kind, s.OutgoingMail); got != w {
						t.Errorf("%s, %s, %s, %+v: got %s, want %s", name, door, r.name, s, got, w)
					}
				}
			}
		}
	}
}

// stranger is a sender of no kind that is known: it may do nothing.
type stranger struct{ anonymous }

func TestUnknownKindOfSenderMayNothing(t *testing.T) {
	settings := store.DefaultSettings(testDomain)
	if r := authorizeSender(stranger{}, MX, address("x@remote.example"), own, settings, tableTime); verdict(r) != "530 5.7.0" {
		t.Errorf("sender: got %s", verdict(r))
	}
	a := address("x@remote.example")
	if r := authorizeRelay(stranger{}, MX, a, store.Route{Remote: []mailaddr.Address{a}}, settings); verdict(r) != "550 5.7.1" {
		t.Errorf("relay: got %s", verdict(r))
	}
}

// A network is trusted while authentication is off, and not at the moment when it comes back.
func TestTrustedNetwork(t *testing.T) {
	settings := store.DefaultSettings(testDomain)
	settings.RequireAuth, settings.RequireAuthAt = false, tableTime
	settings.TrustedNetworks = []netip.Prefix{netip.MustParsePrefix("203.0.113.7/32"), namedNetwork, netip.MustParsePrefix("2001:db8::/48")}
	tests := []struct {
		remote string
		before time.Duration
		want   string
	}{
		{"192.0.2.0", 1, "192.0.2.0/24"},
		{"192.0.2.255", 1, "192.0.2.0/24"},
		{"192.0.3.0", 1, ""},
		{"192.0.1.255", 1, ""},
		{"203.0.113.7", 1, "203.0.113.7/32"},
		{"203.0.113.8", 1, ""},
		{"2001:db8:0:ffff::1", 1, "2001:db8::/48"},
		{"2001:db8:1::1", 1, ""},
		{"::ffff:192.0.2.1", 1, ""}, // unmapped at accept, or never
		{"192.0.2.1", 0, ""},
		{"192.0.2.1", -1, ""},
		{"", 1, ""},
	}
	for _, tt := range tests {
		var remote netip.Addr
		if tt.remote != "" {
			remote = netip.MustParseAddr(tt.remote)
		}
		got, ok := trustedNetwork(settings, tableTime.Add(-tt.before), remote)
		if ok != (tt.want != "") || ok && got.String() != tt.want {
			t.Errorf("%+v: got %v, %v", tt, got, ok)
		}
	}
	settings.RequireAuth = true
	if got, ok := trustedNetwork(settings, tableTime.Add(-1), netip.MustParseAddr("192.0.2.1")); ok {
		t.Errorf("authentication required: got %v", got)
	}
}

// TestWithoutGrant: only what grew old may be tried again; every cure is one that can work.
func TestWithoutGrant(t *testing.T) {
	tests := []struct {
		kind        guard.NoGrantKind
		otherFamily bool
		mx, sub     refusal.Name
		code        int
	}{
		{guard.NoGrantOff, false, refusal.OwnDomain, refusal.AuthRequired, 0},
		{guard.NoGrantOff, true, refusal.OwnDomain, refusal.AuthRequired, 0},
		{guard.NoGrantShared, false, refusal.RelayShared, refusal.RelayShared, 550},
		{guard.NoGrantShared, true, refusal.RelayShared, refusal.RelayShared, 550},
		{guard.NoGrantNever, false, refusal.RelayNoGrant, refusal.RelayNoGrant, 550},
		{guard.NoGrantNever, true, refusal.RelayOtherFamily, refusal.RelayOtherFamily, 550},
		{guard.NoGrantElsewhere, false, refusal.RelayNoGrant, refusal.RelayNoGrant, 550},
		{guard.NoGrantElsewhere, true, refusal.RelayOtherFamily, refusal.RelayOtherFamily, 550},
		{guard.NoGrantOtherFamily, true, refusal.RelayOtherFamily, refusal.RelayOtherFamily, 550},
		{guard.NoGrantExpired, false, refusal.RelayGrantExpired, refusal.RelayGrantExpired, 450},
		{guard.NoGrantExpired, true, refusal.RelayExpiredFamily, refusal.RelayExpiredFamily, 450},
		{guard.NoGrantRevoked, false, refusal.RelayGrantEnded, refusal.RelayGrantEnded, 550},
		{guard.NoGrantRevoked, true, refusal.RelayOtherFamily, refusal.RelayOtherFamily, 550},
		{guard.NoGrantSpent, false, refusal.RelayGrantSpent, refusal.RelayGrantSpent, 550},
		{guard.NoGrantSpent, true, refusal.RelayGrantSpent, refusal.RelayGrantSpent, 550},
		{"", false, refusal.RelayGrantExpired, refusal.RelayGrantExpired, 450},
		{"a kind that is not known", false, refusal.OwnDomain, refusal.AuthRequired, 0},
	}
	for _, tt := range tests {
		why := guard.NoGrant{Kind: tt.kind, OtherFamily: tt.otherFamily}
		mx, sub := withoutGrant(why, MX), withoutGrant(why, Submission)
		if mx != tt.mx || sub != tt.sub {
			t.Errorf("%+v: got %s and %s, want %s and %s", why, mx, sub, tt.mx, tt.sub)
		}
		if got := refusal.Of(mx).SMTP.Code; tt.code != 0 && got != tt.code {
			t.Errorf("%+v: %d, want %d", why, got, tt.code)
		}
	}
}

func TestOwnershipOf(t *testing.T) {
	to := func(ids ...store.AccountID) store.Route { return store.Route{Local: ids} }
	tests := []struct {
		name   string
		addr   string
		route  store.Route
		sendAs []mailaddr.Address
		want   ownership
	}{
		{"own address", "alice@example.com", to(1), nil, own},
		{"plus form", "alice+x@example.com", to(1), nil, own},
		{"alias to this mailbox alone", "sales@example.com", to(1), nil, own},
		{"alias to several", "team@example.com", to(1, 2), nil, foreign},
		{"another's", "bob@example.com", to(2), nil, foreign},
		{"nobody's", "x@example.com", store.Route{}, nil, foreign},
		{"catch-all", "x@example.com", store.Route{Local: []store.AccountID{1}, CatchAll: true}, nil, foreign},
		{"forward", "x@example.com", store.Route{Local: []store.AccountID{1}, Remote: []mailaddr.Address{address("a@b.example")}}, nil, foreign},
		{"elsewhere", "alice@remote.example", to(1), nil, foreign},
		{"lent elsewhere", "press@partner.example", store.Route{}, []mailaddr.Address{address("press@partner.example")}, lent},
		{"lent elsewhere, other case", "Press@partner.example", store.Route{}, []mailaddr.Address{address("press@partner.example")}, foreign},
		{"lent here, other case", "Bob@example.com", to(2), []mailaddr.Address{address("bob@example.com")}, lent},
		{"lent, but not its plus form", "press+x@partner.example", store.Route{}, []mailaddr.Address{address("press@partner.example")}, foreign},
		{"lent several", "team@example.com", to(1, 2), []mailaddr.Address{address("a@b.example"), address("team@example.com")}, lent},
	}
	for _, tt := range tests {
		facts := addressFacts{route: tt.route, sendAs: tt.sendAs, domain: testDomain}
		if got := ownershipOf(1, address(tt.addr), facts); got != tt.want {
			t.Errorf("%s: got %d, want %d", tt.name, got, tt.want)
		}
		if got := ownershipOf(0, address(tt.addr), facts); got != foreign {
			t.Errorf("%s, nobody: got %d", tt.name, got)
		}
	}
	if got := ownershipOf(1, mailaddr.Address{}, addressFacts{route: to(1), domain: testDomain}); got != foreign {
		t.Errorf("null reverse-path: got %d", got)
	}
}
