package store

import (
	"errors"
	"net/netip"
	"testing"
	"time"
)

func grantRequest() GrantRequest {
	return GrantRequest{
		Account: 1, Network: netip.MustParsePrefix("192.0.2.1/32"), CredentialVersion: 1, Window: 20 * time.Minute, Longest: 12 * time.Hour,
		Recipients: 50, MostLive: 5,
	}
}

func TestGrantRequestValidate(t *testing.T) {
	network := func(text string) func(*GrantRequest) {
		return func(r *GrantRequest) { r.Network = netip.MustParsePrefix(text) }
	}
	tests := []struct {
		name   string
		change func(*GrantRequest)
		bad    int
	}{
		{"plain", func(*GrantRequest) {}, 0},
		{"IPv6 site", network("2001:db8::/64"), 0},
		{"IPv6 address", network("2001:db8::1/128"), 0},
		{"host bits", network("2001:db8::1/64"), 1},
		{"IPv4 network", network("192.0.2.0/31"), 1},
		{"IPv4 /64 is none", func(r *GrantRequest) { r.Network = netip.PrefixFrom(netip.MustParseAddr("192.0.2.1"), 64) }, 1},
		{"IPv6 too wide", network("2001:db8::/63"), 1},
		{"IPv6 between", network("2001:db8::/65"), 1},
		{"IPv6 almost an address", network("2001:db8::/127"), 1},
		{"IPv6 of 32 bits", network("2001:db8::/32"), 1},
		{"mapped", network("::ffff:192.0.2.1/128"), 1},
		{"no network", func(r *GrantRequest) { r.Network = netip.Prefix{} }, 1},
		{"shortest", func(r *GrantRequest) { r.Window, r.Longest = 1, 1 }, 0},
		{"no window", func(r *GrantRequest) { r.Window = 0 }, 1},
		{"no life", func(r *GrantRequest) { r.Longest = 0 }, 1},
		{"fewest recipients", func(r *GrantRequest) { r.Recipients = 1 }, 0},
		{"no recipients", func(r *GrantRequest) { r.Recipients = 0 }, 1},
		{"most recipients", func(r *GrantRequest) { r.Recipients = MaxRecipientBudget }, 0},
		{"too many recipients", func(r *GrantRequest) { r.Recipients = MaxRecipientBudget + 1 }, 1},
		{"one live", func(r *GrantRequest) { r.MostLive = 1 }, 0},
		{"none live", func(r *GrantRequest) { r.MostLive = 0 }, 1},
		{"most live", func(r *GrantRequest) { r.MostLive = MaxAccountGrants }, 0},
		{"too many live", func(r *GrantRequest) { r.MostLive = MaxAccountGrants + 1 }, 1},
		{"nothing", func(r *GrantRequest) { *r = GrantRequest{} }, 4},
	}
	for _, test := range tests {
		r := grantRequest()
		test.change(&r)
		wantProblems(t, test.name, r.Validate(), test.bad)
	}
	if !errors.Is(GrantRequest{}.Validate(), ErrInvalid) {
		t.Error("a bad request is not invalid")
	}
}

// TestGrantExpires: the window after the login, and never more than the longest after the grant was made.
func TestGrantExpires(t *testing.T) {
	made := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	r := grantRequest()
	for login, want := range map[time.Duration]time.Duration{
		0: r.Window, time.Hour: time.Hour + r.Window, r.Longest - r.Window - 1: r.Longest - 1, r.Longest - r.Window: r.Longest,
		r.Longest - r.Window + 1: r.Longest, r.Longest - 1: r.Longest, r.Longest + time.Hour: r.Longest,
	} {
		if got := r.Expires(made.Add(login), made); !got.Equal(made.Add(want)) {
			t.Errorf("after a login at %s it expires at %s, want %s", login, got.Sub(made), want)
		}
	}
}

// TestGrantOver: live until it is over, and over when it ended or else when it expires.
func TestGrantOver(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for name, test := range map[string]struct {
		g    Grant
		over time.Time
		live bool
	}{
		"live":                    {Grant{Expires: now.Add(1)}, now.Add(1), true},
		"expired":                 {Grant{Expires: now}, now, false},
		"ended":                   {Grant{Expires: now.Add(1), End: GrantRevoked, Ended: now.Add(-1)}, now.Add(-1), false},
		"ended by a later clock":  {Grant{Expires: now.Add(1), End: GrantRevoked, Ended: now.Add(2)}, now.Add(1), false},
		"a moment without an end": {Grant{Expires: now.Add(1), Ended: now.Add(-1)}, now.Add(1), true},
	} {
		if over, live := test.g.Over(), test.g.Live(now); !over.Equal(test.over) || live != test.live {
			t.Errorf("%s: over at %s and live %t, want %s and %t", name, over, live, test.over, test.live)
		}
	}
}

func TestGrantFilterMatches(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	g := Grant{ID: 1, Account: 2, Network: netip.MustParsePrefix("2001:db8::/64"), Expires: now.Add(1)}
	for name, test := range map[string]struct {
		f    GrantFilter
		want bool
	}{
		"nothing":         {GrantFilter{}, true},
		"account":         {GrantFilter{Account: 2}, true},
		"another account": {GrantFilter{Account: 1}, false},
		"address":         {GrantFilter{Remote: netip.MustParseAddr("2001:db8::7")}, true},
		"another address": {GrantFilter{Remote: netip.MustParseAddr("2001:db8:0:1::7")}, false},
		"another family":  {GrantFilter{Remote: netip.MustParseAddr("192.0.2.1")}, false},
		"live":            {GrantFilter{LiveAt: now}, true},
		"not any more":    {GrantFilter{LiveAt: now.Add(1)}, false},
		"all":             {GrantFilter{Account: 2, Remote: netip.MustParseAddr("2001:db8::"), LiveAt: now}, true},
		"all but one":     {GrantFilter{Account: 2, Remote: netip.MustParseAddr("2001:db8::"), LiveAt: now.Add(1)}, false},
	} {
		if got := test.f.Matches(g); got != test.want {
			t.Errorf("%s: %t, want %t", name, got, test.want)
		}
	}
	if got := GrantID(1<<64 - 1).String(); got != "18446744073709551615" {
		t.Errorf("the last id reads %s", got)
	}
}
