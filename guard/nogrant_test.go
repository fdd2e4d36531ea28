package guard

import (
	"net/netip"
	"testing"
	"time"

	"latchkey/store"
)

// Where grants of the tests below are: the client stands here.
const (
	here, near, far = "203.0.113.7/32", "203.0.113.8/32", "2001:db8:1:2::/64"
	day             = 24 * time.Hour
)

// aliceNow is an account, aliceSuspended and aliceChanged are what may have become of it since.
var (
	aliceNow       = store.Account{ID: 7, CredentialVersion: 3}
	aliceSuspended = store.Account{ID: 7, CredentialVersion: 4, Suspended: true}
	aliceChanged   = store.Account{ID: 7, CredentialVersion: 4}
)

// of returns a grant of aliceNow that was last renewed so long ago, with so many recipients left.
func of(network string, age time.Duration, left int) store.Grant {
	return store.Grant{
		Account: 7, Network: netip.MustParsePrefix(network), CredentialVersion: 3, LastLogin: start.Add(-age),
		Expires: start.Add(GrantWindow - age), Left: left,
	}
}

// ended returns the grant, ended a second ago.
func ended(g store.Grant, end store.GrantEnd) store.Grant {
	g.End, g.Ended = end, start.Add(-time.Second)
	return g
}

func these(g ...store.Grant) []store.Grant { return g }

// whyCase is one question and its answer.
type whyCase struct {
	name    string
	terms   terms
	crowded bool
	account store.Account
	grants  []store.Grant
	want    NoGrant
}

func (tt whyCase) check(t *testing.T) {
	t.Helper()
	tt.terms.now, tt.terms.remote = start, netip.MustParseAddr("203.0.113.7")
	tt.terms.network = grantNetwork(tt.terms.remote, 64)
	if got := whyNot(tt.terms, tt.crowded, tt.account, tt.grants); got != tt.want {
		t.Errorf("%s: got %+v, want %+v", tt.name, got, tt.want)
	}
}

// TestWhyNot: every kind that is about where the client stands, what comes before what, and both sides of each moment.
func TestWhyNot(t *testing.T) {
	good, second := terms{on: true}, start.Add(-time.Second)
	newer := of(here, 0, 1)
	newer.CredentialVersion = 4
	for _, tt := range []whyCase{
		{"one that can be used", good, false, aliceNow, these(of(here, 0, 1)), NoGrant{}},
		{"in a crowd that came later", good, true, aliceNow, these(of(here, 0, 1)), NoGrant{}},
		{"beside others", good, false, aliceNow, these(of(near, 0, 9), ended(of(here, 0, 9), store.GrantRevoked), of(here, time.Minute, 1)), NoGrant{}},
		{"off", terms{}, true, aliceNow, these(of(here, 0, 1)), NoGrant{Kind: NoGrantOff}},
		{"off, and barred", terms{bar: BarCarrier}, false, aliceNow, nil, NoGrant{Kind: NoGrantOff}},
		{"barred", terms{on: true, bar: BarGateway}, true, aliceNow, these(of(here, 0, 1), of(far, 0, 1)),
			NoGrant{Kind: NoGrantShared, Cause: "gateway"}},
		{"never", good, false, aliceNow, nil, NoGrant{Kind: NoGrantNever}},
		{"no account", good, false, store.Account{}, nil, NoGrant{Kind: NoGrantNever}},
		{"crowded, and never", good, true, aliceNow, nil, NoGrant{Kind: NoGrantShared, Cause: "crowded"}},
		{"crowded, and expired", good, true, aliceNow, these(of(here, time.Hour, 9)), NoGrant{Kind: NoGrantShared, Cause: "crowded"}},
		{"crowded, and spent", good, true, aliceNow, these(of(here, 0, 0)), NoGrant{Kind: NoGrantSpent}},
		{"spent", good, false, aliceNow, these(of(here, 0, 0)), NoGrant{Kind: NoGrantSpent}},
		{"spent, a moment before its end", good, false, aliceNow, these(of(here, GrantWindow-1, 0)), NoGrant{Kind: NoGrantSpent}},
		{"spent and expired", good, false, aliceNow, these(of(here, GrantWindow, 0)), NoGrant{Kind: NoGrantExpired, When: start}},
		{"a moment before its end", good, false, aliceNow, these(of(here, GrantWindow-1, 1)), NoGrant{}},
		{"expired now", good, false, aliceNow, these(of(here, GrantWindow, 1)), NoGrant{Kind: NoGrantExpired, When: start}},
		{"expired almost a month ago", good, false, aliceNow, these(of(here, GrantWindow+30*day-1, 1)),
			NoGrant{Kind: NoGrantExpired, When: start.Add(-30*day + 1)}},
		{"expired a month ago", good, false, aliceNow, these(of(here, GrantWindow+30*day, 1)), NoGrant{Kind: NoGrantNever}},
		{"revoked", good, false, aliceNow, these(ended(of(here, 0, 1), store.GrantRevoked)),
			NoGrant{Kind: NoGrantRevoked, When: second, Cause: "revoked"}},
		{"guessed", good, false, aliceNow, these(ended(of(here, 0, 1), store.GrantGuessed)),
			NoGrant{Kind: NoGrantRevoked, When: second, Cause: "guessed"}},
		{"switched off meanwhile", good, false, aliceNow, these(ended(of(here, 0, 1), store.GrantSwitchedOff)),
			NoGrant{Kind: NoGrantRevoked, When: second, Cause: "switched off"}},
		{"revoked, and expired since", good, false, aliceNow, these(ended(of(here, time.Hour, 1), store.GrantRevoked)),
			NoGrant{Kind: NoGrantRevoked, When: second, Cause: "revoked"}},
		{"suspended", good, false, aliceSuspended, these(of(here, 0, 1)), NoGrant{Kind: NoGrantRevoked, Cause: CauseSuspended}},
		{"suspended, and expired before", good, false, aliceSuspended, these(of(here, time.Hour, 1)), NoGrant{Kind: NoGrantRevoked, Cause: CauseSuspended}},
		{"password changed", good, false, aliceChanged, these(of(here, 0, 1)), NoGrant{Kind: NoGrantRevoked, Cause: CauseChanged}},
		{"password changed, and expired before", good, false, aliceChanged, these(of(here, time.Hour, 1)), NoGrant{Kind: NoGrantRevoked, Cause: CauseChanged}},
		{"of a newer credential than the account's", good, false, aliceNow, these(newer), NoGrant{Kind: NoGrantRevoked, Cause: CauseChanged}},
		{"of another account", good, false, store.Account{ID: 8, CredentialVersion: 3}, these(of(here, 0, 1)),
			NoGrant{Kind: NoGrantRevoked, Cause: CauseChanged}},
	} {
		tt.check(t)
	}
}

// TestWhyNotElsewhere: grants that the mailbox has at other addresses, and the other family beside every kind.
func TestWhyNotElsewhere(t *testing.T) {
	good := terms{on: true}
	for _, tt := range []whyCase{
		{"elsewhere", good, false, aliceNow, these(of(near, 0, 1)), NoGrant{Kind: NoGrantElsewhere}},
		{"elsewhere, and spent there", good, false, aliceNow, these(of(near, 0, 0)), NoGrant{Kind: NoGrantElsewhere}},
		{"expired elsewhere", good, false, aliceNow, these(of(near, GrantWindow, 1)), NoGrant{Kind: NoGrantNever}},
		{"ended elsewhere", good, false, aliceNow, these(ended(of(near, 0, 1), store.GrantRevoked)), NoGrant{Kind: NoGrantNever}},
		{"elsewhere, with the old password", good, false, aliceChanged, these(of(near, 0, 1)), NoGrant{Kind: NoGrantNever}},
		{"the other family", good, false, aliceNow, these(of(far, 0, 1)), NoGrant{Kind: NoGrantOtherFamily, OtherFamily: true}},
		{"the other family, expired", good, false, aliceNow, these(of(far, GrantWindow, 1)), NoGrant{Kind: NoGrantNever}},
		{"the other family, with the old password", good, false, aliceChanged, these(of(far, 0, 1)), NoGrant{Kind: NoGrantNever}},
		{"elsewhere, and the other family", good, false, aliceNow, these(of(far, 0, 1), of(near, 0, 1)),
			NoGrant{Kind: NoGrantElsewhere, OtherFamily: true}},
		{"expired here, live elsewhere and in the other family", good, false, aliceNow,
			these(of(far, 0, 1), of(near, 0, 1), of(here, time.Hour, 1)),
			NoGrant{Kind: NoGrantExpired, When: start.Add(GrantWindow - time.Hour), OtherFamily: true}},
		{"spent here, live in the other family", good, false, aliceNow, these(of(here, 0, 0), of(far, 0, 1)),
			NoGrant{Kind: NoGrantSpent, OtherFamily: true}},
		{"crowded, and the other family", good, true, aliceNow, these(of(far, 0, 1)),
			NoGrant{Kind: NoGrantShared, Cause: "crowded", OtherFamily: true}},
	} {
		tt.check(t)
	}
}

// TestWhyNotOfTwo: of two grants that cover the place, as an IPv6 /64 and an address in it, the later login counts.
func TestWhyNotOfTwo(t *testing.T) {
	tt := terms{now: start, on: true, remote: netip.MustParseAddr("2001:db8::7")}
	tt.network = grantNetwork(tt.remote, 64)
	alice := store.Account{ID: 7, CredentialVersion: 3}
	wide := store.Grant{
		Account: 7, CredentialVersion: 3, Network: netip.MustParsePrefix("2001:db8::/64"), LastLogin: start.Add(-time.Hour),
		Expires: start.Add(-40 * time.Minute), Left: 1,
	}
	narrow := wide
	narrow.Network, narrow.LastLogin, narrow.End = netip.MustParsePrefix("2001:db8::7/128"), start.Add(-2*time.Hour), store.GrantRevoked
	for _, list := range [][]store.Grant{{wide, narrow}, {narrow, wide}} {
		if got := whyNot(tt, false, alice, list); got.Kind != NoGrantExpired {
			t.Errorf("got %+v", got)
		}
	}
	// A grant for a /64 is none any more where single addresses are asked for.
	tt.network = grantNetwork(tt.remote, 128)
	if got := whyNot(tt, false, alice, []store.Grant{wide}); got.Kind != NoGrantNever {
		t.Errorf("got %+v", got)
	}
}

// TestDualStack: a client that fetches over one family and sends over the other is told so, both ways.
func TestDualStack(t *testing.T) {
	d := newDomain(t)
	four, six := place("203.0.113.7"), place("2001:db8::7")
	d.login(four, d.alice)
	d.login(six, d.bob)
	if got := d.why(six, d.alice); got != (NoGrant{Kind: NoGrantOtherFamily, OtherFamily: true}) {
		t.Errorf("alice over IPv6: %+v", got)
	}
	if got := d.why(place("::ffff:203.0.113.9"), d.bob); got != (NoGrant{Kind: NoGrantOtherFamily, OtherFamily: true}) {
		t.Errorf("bob over IPv4: %+v", got)
	}
	if got := d.why(place("::ffff:203.0.113.9"), d.alice); got != (NoGrant{Kind: NoGrantElsewhere}) {
		t.Errorf("alice elsewhere: %+v", got)
	}
}
