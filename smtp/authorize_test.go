package smtp

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"latchkey/auth"
	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// verdict writes what became of a question: "ok", or code and status.
func verdict(r *refusal) string {
	if r == nil {
		return "ok"
	}
	return fmt.Sprintf("%d %d.%d.%d", r.code, r.status[0], r.status[1], r.status[2])
}

// TestAuthorizeSender asks every combination of sender, door, kind of reverse-path and right on it. The rule is written a second time,
// by cases.
func TestAuthorizeSender(t *testing.T) {
	settings := store.DefaultSettings(testDomain)
	settings.OutsideSenders = []mailaddr.Address{address("news@example.com")}
	paths := map[string]mailaddr.Address{
		"null": {}, "ours": address("alice@example.com"), "ours, upper case": address("ALICE@EXAMPLE.COM"),
		"outside": address("News@example.com"), "theirs": address("x@remote.example"), "sub": address("x@sub.example.com"),
		"literal": address("x@[127.0.0.1]"),
	}
	type key struct {
		who  string
		door Door
	}
	want := func(k key, path string, ours ownership) string {
		switch k {
		case key{"authenticated", MX}, key{"authenticated", Submission}:
			if path == "null" || ours == own || ours == lent {
				return "ok"
			}
			return "550 5.7.1"
		case key{"anonymous", MX}:
			if path == "ours" || path == "ours, upper case" {
				return "550 5.7.1"
			}
			return "ok"
		}
		return "530 5.7.0"
	}
	n := 0
	for whoName, who := range map[string]sender{"anonymous": anonymous{}, "authenticated": authenticated{auth.Identity{Account: 1}}} {
		for _, door := range []Door{MX, Submission} {
			for path, addr := range paths {
				for _, ours := range []ownership{foreign, lent, own} {
					n++
					got := verdict(authorizeSender(who, door, addr, ours, settings))
					if w := want(key{whoName, door}, path, ours); got != w {
						t.Errorf("%s, %s, %s, right %d: got %s, want %s", whoName, door, path, ours, got, w)
					}
				}
			}
		}
	}
	if n != 2*2*7*3 {
		t.Errorf("%d combinations", n)
	}
}

// TestAuthorizeRelay asks every combination of sender, door, recipient and outgoing mail.
func TestAuthorizeRelay(t *testing.T) {
	remote := func(s string) (mailaddr.Address, store.Route) {
		a, err := mailaddr.FromUnquoted(s)
		if err != nil {
			t.Fatal(err)
		}
		return a, store.Route{Remote: []mailaddr.Address{a}}
	}
	type recipient struct {
		name  string
		addr  mailaddr.Address
		route store.Route
		kind  string // "local", "remote" or "routed"
	}
	local := store.Route{Local: []store.AccountID{1}}
	recipients := []recipient{
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
		recipients = append(recipients, recipient{r.addr, a, route, r.kind})
	}
	both, routeBoth := remote("victim@x.example")
	routeBoth.Local = local.Local
	recipients = append(recipients, recipient{"local and remote", both, routeBoth, "remote"})
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
	from := netip.MustParseAddr("203.0.113.7")
	for _, proved := range []bool{false, true} {
		var who sender = anonymous{}
		if proved {
			who = authenticated{auth.Identity{Account: 1}}
		}
		for _, door := range []Door{MX, Submission} {
			for _, outgoing := range []bool{false, true} {
				settings := store.DefaultSettings(testDomain)
				settings.OutgoingMail = outgoing
				for _, r := range recipients {
					refused := authorizeRelay(who, door, r.addr, r.route, from, settings)
					if got, w := verdict(refused), want(proved, door, r.kind, outgoing); got != w {
						t.Errorf("proved %v, %s, outgoing %v, %s: got %s, want %s", proved, door, outgoing, r.name, got, w)
					}
					if refused != nil && strings.Contains(refused.text, "victim") {
						t.Errorf("%s: client text in the reply: %q", r.name, refused.text)
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
	if r := authorizeSender(stranger{}, MX, address("x@remote.example"), own, settings); verdict(r) != "530 5.7.0" {
		t.Errorf("sender: got %s", verdict(r))
	}
	a := address("x@remote.example")
	if r := authorizeRelay(stranger{}, MX, a, store.Route{Remote: []mailaddr.Address{a}}, netip.Addr{}, settings); verdict(r) != "550 5.7.1" {
		t.Errorf("relay: got %s", verdict(r))
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
