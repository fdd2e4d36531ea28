package webmanager

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/store"
)

// grant opens a grant as a POP3 login some minutes before noon does.
func (f *fixture) grant(mailbox, network string, minutesAgo int) store.Grant {
	f.Helper()
	account := f.account(mailbox)
	g, err := f.store.OpenGrant(f.Context(), noon.Add(-time.Duration(minutesAgo)*time.Minute), store.GrantRequest{
		Account: account.ID, Network: netip.MustParsePrefix(network), CredentialVersion: account.CredentialVersion,
		Window: 20 * time.Minute, Longest: 12 * time.Hour, Recipients: 50, MostLive: store.MaxAccountGrants,
	})
	if err != nil {
		f.Fatal(err)
	}
	return g
}

// live are the numbers of the grants that the store holds for live.
func (f *fixture) live() []store.GrantID {
	f.Helper()
	grants, err := f.store.ListGrants(f.Context(), store.GrantFilter{LiveAt: noon}, 0, store.MaxGrants)
	if err != nil {
		f.Fatal(err)
	}
	var ids []store.GrantID
	for _, g := range grants {
		ids = append(ids, g.ID)
	}
	return ids
}

// actions are the entries of the audit log that begin so, the newest first.
func (f *fixture) actions(prefix string) []string {
	f.Helper()
	var list []string
	for _, e := range f.audit() {
		if strings.HasPrefix(e.Action, prefix) {
			list = append(list, strings.TrimSpace(strings.Join([]string{e.Actor, e.Action, e.Object, e.Before + ">" + e.After}, " ")))
		}
	}
	return list
}

func TestGrantListing(t *testing.T) {
	f := newFixture(t)
	f.add("anna", "bert", "carl", "dora")
	f.grant("anna", "192.0.2.7/32", 0)     // 1
	f.grant("anna", "2001:db8::/64", 19)   // 2
	f.grant("bert", "192.0.2.7/32", 20)    // 3, expired
	f.grant("carl", "192.0.2.7/32", 0)     // 4, void
	f.grant("dora", "198.51.100.1/32", 10) // 5, void
	f.do("PUT", "/v1/accounts/carl/password", Password{Password: "another password"}, nil)
	on := true
	f.do("PATCH", "/v1/accounts/dora", AccountChange{Suspended: &on}, nil)
	for _, tt := range []struct{ query, want string }{
		{"", "1 anna live, 2 anna live, 3 bert expired, 4 carl void, 5 dora void"},
		{"?live=true", "1 anna live, 2 anna live"},
		{"?live=false&after=3", "4 carl void, 5 dora void"},
		{"?mailbox=anna@example.com", "1 anna live, 2 anna live"},
		{"?address=192.0.2.7", "1 anna live, 3 bert expired, 4 carl void"},
		{"?address=::ffff:192.0.2.7&live=1", "1 anna live"},
		{"?address=2001:db8::5", "2 anna live"},
		{"?mailbox=bert&live=true", ""},
	} {
		var page GrantPage
		f.do("GET", "/v1/grants"+tt.query, nil, &page)
		var got []string
		for _, g := range page.Grants {
			got = append(got, fmt.Sprintf("%s %s %s", g.ID, g.Mailbox, g.State))
		}
		if strings.Join(got, ", ") != tt.want || page.Next != 0 {
			t.Errorf("%q: got %q, next %d, want %q", tt.query, got, page.Next, tt.want)
		}
	}
	// A page of live ones may be short, and its next is still right.
	var page GrantPage
	f.do("GET", "/v1/grants?live=true&after=3&limit=1", nil, &page)
	if len(page.Grants) != 0 || page.Next != 4 {
		t.Errorf("page of a void grant: got %+v", page)
	}
	f.do("DELETE", "/v1/accounts/anna", nil, nil)
	f.add("anna")
	page = GrantPage{}
	f.do("GET", "/v1/grants?mailbox=anna", nil, &page)
	if len(page.Grants) != 0 {
		t.Errorf("the new owner of a name: got %+v", page)
	}
}

func TestGrantRevocation(t *testing.T) {
	f := newFixture(t)
	f.add("anna", "bert")
	f.grant("anna", "192.0.2.7/32", 0)
	f.grant("anna", "192.0.2.8/32", 0)
	f.grant("bert", "192.0.2.7/32", 0)
	f.grant("bert", "192.0.2.8/32", 30) // expired
	f.grant("anna", "192.0.2.9/32", 0)
	revoke := func(body any, want int, notLive ...store.GrantID) {
		t.Helper()
		var got GrantsRevoked
		f.do("POST", "/v1/grants/revoke", body, &got)
		if got.Revoked != want || !slices.Equal(got.NotLive, notLive) {
			t.Errorf("%+v: got %+v", body, got)
		}
	}
	revoke(GrantRevocation{IDs: []store.GrantID{9, 4, 3, 1, 3}}, 2, 4, 9)
	if got := f.live(); !slices.Equal(got, []store.GrantID{2, 5}) {
		t.Errorf("live: got %v", got)
	}
	revoke(GrantRevocation{IDs: []store.GrantID{1}}, 0, 1)
	revoke(GrantRevocation{Mailbox: "anna"}, 2)
	revoke(GrantRevocation{Mailbox: "anna"}, 0)
	f.grant("bert", "192.0.2.7/32", 0)
	revoke(GrantRevocation{All: true}, 1)
	revoke(GrantRevocation{All: true}, 0)
	if got := f.live(); got != nil {
		t.Errorf("live at the end: got %v", got)
	}
	want := []string{
		`tester grant.revoke all >{"reason":"revoked","revoked":1}`,
		`tester grant.revoke anna ["2 192.0.2.8/32","5 192.0.2.9/32"]>`,
		`tester grant.revoke bert ["3 192.0.2.7/32"]>`,
		`tester grant.revoke anna ["1 192.0.2.7/32"]>`,
	}
	if got := f.actions("grant"); !slices.Equal(got, want) {
		t.Errorf("audit: got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	var page GrantPage
	f.do("GET", "/v1/grants?mailbox=bert", nil, &page)
	if len(page.Grants) == 0 || page.Grants[len(page.Grants)-1].State != GrantState(store.GrantRevoked) || !page.Grants[len(page.Grants)-1].Ended.Equal(noon) {
		t.Errorf("revoked: got %+v", page.Grants)
	}
}

func TestActionBounds(t *testing.T) {
	f := newFixture(t)
	for n := MaxActionIDs - 1; n <= MaxActionIDs+1; n++ {
		ids := make([]uint64, n)
		for i := range ids {
			ids[i] = uint64(i + 1)
		}
		for _, path := range []string{"/v1/grants/revoke", "/v1/queue/retry", "/v1/queue/hold", "/v1/queue/release", "/v1/queue/remove"} {
			err := f.client.Do(t.Context(), "POST", path, map[string]any{"ids": ids}, nil)
			if (err == nil) != (n <= MaxActionIDs) || err != nil && !isCode(err, CodeInvalid) {
				t.Errorf("%s of %d: got %v", path, n, err)
			}
		}
	}
	for n := store.MaxOutcomeText - 1; n <= store.MaxOutcomeText+1; n++ {
		err := f.client.Do(t.Context(), "POST", "/v1/queue/hold", QueueAction{IDs: []store.JobID{1}, Reason: strings.Repeat("x", n)}, nil)
		if (err == nil) != (n <= store.MaxOutcomeText) {
			t.Errorf("reason of %d octets: got %v", n, err)
		}
	}
}

// TestSwitchedOff: POP before SMTP off ends every grant, after the setting is durable, and says how many.
func TestSwitchedOff(t *testing.T) {
	f := newFixture(t)
	f.add("anna", "bert")
	f.sent(29, store.SentGrant, "anna", "192.0.2.7", 1)
	f.grant("anna", "192.0.2.7/32", 0)
	f.grant("bert", "192.0.2.7/32", 0)
	f.grant("bert", "192.0.2.8/32", 25)
	if got := f.preview(map[string]any{"pop_before_smtp": false}).Consequences; len(got) != 3 || got[1] != "2 grants that are live now would end at once" {
		t.Errorf("preview: got %q", got)
	}
	var changed SettingsChanged
	f.do("PATCH", "/v1/settings", map[string]any{"pop_before_smtp": false}, &changed)
	if changed.GrantsEnded != 2 || f.live() != nil {
		t.Errorf("got %d ended, live %v", changed.GrantsEnded, f.live())
	}
	g, err := f.store.Grant(t.Context(), 1)
	if err != nil || g.End != store.GrantSwitchedOff {
		t.Errorf("got %+v, %v", g, err)
	}
	if got := f.actions("grant"); len(got) != 1 || got[0] != `tester grant.revoke all >{"reason":"switched off","revoked":2}` {
		t.Errorf("audit: got %q", got)
	}
}

// TestForbiddenGrants: settings that allow a grant no more end it, those that do not concern it leave it alone.
func TestForbiddenGrants(t *testing.T) {
	f := newFixture(t)
	f.add("anna", "bert")
	f.grant("anna", "192.0.2.7/32", 0)     // 1
	f.grant("anna", "198.51.100.7/32", 0)  // 2
	f.grant("bert", "2001:db8::/64", 0)    // 3
	f.grant("bert", "2001:db8::1/128", 0)  // 4
	f.grant("bert", "2001:db8:1::/128", 0) // 5
	for _, tt := range []struct {
		body  map[string]any
		ended int
		live  []store.GrantID
	}{
		{map[string]any{"recipients": 200}, 0, []store.GrantID{1, 2, 3, 4, 5}},
		{map[string]any{"no_grant_networks": []string{"192.0.2.0/24", "2001:db8:1::/48"}}, 2, []store.GrantID{2, 3, 4}},
		{map[string]any{"grant_ipv6_bits": 128}, 1, []store.GrantID{2, 4}},
		{map[string]any{"no_grant_networks": []string{"2001:db8::/128"}, "confirm": domain}, 0, []store.GrantID{2, 4}},
		{map[string]any{"no_grant_networks": []string{"2001:db8::/128", "2001:db8::1/128", "0.0.0.0/0"}}, 2, nil},
	} {
		var changed SettingsChanged
		f.do("PATCH", "/v1/settings", tt.body, &changed)
		if changed.GrantsEnded != tt.ended || !slices.Equal(f.live(), tt.live) {
			t.Errorf("%v: got %d ended, live %v", tt.body, changed.GrantsEnded, f.live())
		}
	}
	want := []string{
		`tester grant.revoke anna ["2 198.51.100.7/32"]>`, `tester grant.revoke bert ["4 2001:db8::1/128"]>`,
		`tester grant.revoke bert ["3 2001:db8::/64"]>`,
		`tester grant.revoke bert ["5 2001:db8:1::/128"]>`, `tester grant.revoke anna ["1 192.0.2.7/32"]>`,
	}
	got := f.actions("grant")
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("audit: got\n%s", strings.Join(got, "\n"))
	}
}

// crashingStore loses what is to be revoked, as a crash before that does.
type crashingStore struct {
	Store
	crashed bool
}

func (s *crashingStore) RevokeAllGrants(ctx context.Context, now time.Time, end store.GrantEnd) (int, error) {
	if s.crashed {
		return 0, errors.New("disk on fire")
	}
	return s.Store.RevokeAllGrants(ctx, now, end)
}

// TestForbiddenGrantsAtTheStart: what a crash left behind such a change ends then.
func TestForbiddenGrantsAtTheStart(t *testing.T) {
	inBubble(t, "start", func(t *testing.T) {
		f := newFixture(t)
		f.add("anna")
		f.grant("anna", "192.0.2.7/32", 0)
		f.grant("anna", "198.51.100.7/32", 0)
		settings := settingsOf(t, f.store)
		settings.NoGrantNetworks = networks("192.0.2.0/24")
		if _, err := f.store.UpdateSettings(t.Context(), settings); err != nil {
			t.Fatal(err)
		}
		stop := run(t, f.api)
		synctest.Wait()
		stop()
		if got := f.live(); !slices.Equal(got, []store.GrantID{2}) {
			t.Errorf("live: got %v", got)
		}
		if got := f.actions("grant"); len(got) != 1 || got[0] != `timer grant.revoke anna ["1 192.0.2.7/32"]>` {
			t.Errorf("audit: got %q", got)
		}
	})
}

func inBubble(t *testing.T, name string, do func(t *testing.T)) {
	t.Run(name, func(t *testing.T) { synctest.Test(t, do) })
}

// TestLeftGrants: grants that a crash left behind the switching off count at no time, and end at the next start, at the next change
// while it is off, and before it is on again.
func TestLeftGrants(t *testing.T) {
	for name, next := range map[string]func(f *fixture){
		"start": func(f *fixture) {
			stop := run(f.T, f.api)
			synctest.Wait()
			stop()
		},
		"another change": func(f *fixture) { f.do("PATCH", "/v1/settings", map[string]any{"recipients": 200}, nil) },
		"on again": func(f *fixture) {
			f.do("PATCH", "/v1/settings", map[string]any{"pop_before_smtp": true, "confirm": domain}, nil)
		},
	} {
		inBubble(t, name, func(t *testing.T) {
			f := newFixture(t)
			f.add("anna")
			f.grant("anna", "192.0.2.7/32", 0)
			crashing := &crashingStore{Store: f.api.store, crashed: true}
			f.api.store = crashing
			err := f.client.Do(t.Context(), "PATCH", "/v1/settings", map[string]any{"pop_before_smtp": false}, nil)
			if !isCode(err, CodeInternal) || !strings.Contains(err.Error(), "the settings were changed, but grants of POP before SMTP are left") {
				t.Errorf("got %v", err)
			}
			var page GrantPage
			f.do("GET", "/v1/grants", nil, &page)
			if s, err := f.store.Settings(t.Context()); err != nil || s.POPBeforeSMTP || page.Grants[0].State != GrantOff {
				t.Errorf("between: got %+v, %v, %+v", s, err, page.Grants)
			}
			if err := f.client.Do(t.Context(), "PATCH", "/v1/settings", map[string]any{"pop_before_smtp": true, "confirm": domain}, nil); err == nil {
				t.Error("switched on again with grants left")
			}
			crashing.crashed = false
			next(f)
			if got := f.live(); got != nil {
				t.Errorf("live: got %v", got)
			}
		})
	}
}
