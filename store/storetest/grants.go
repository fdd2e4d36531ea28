package storetest

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"latchkey/store"
)

var grantTests = []test{
	{"OpenGrant", TestOpenGrant},
	{"RenewGrant", TestRenewGrant},
	{"GrantLongest", TestGrantLongest},
	{"GrantLongestShortened", TestGrantLongestShortened},
	{"GrantReplaced", TestGrantReplaced},
	{"GrantCredentialVersion", TestGrantCredentialVersion},
	{"GrantMostLive", TestGrantMostLive},
	{"GrantRequestBounds", TestGrantRequestBounds},
	{"GrantUnknownAccount", TestGrantUnknownAccount},
	{"SpendGrant", TestSpendGrant},
	{"SpendGrantOver", TestSpendGrantOver},
	{"RefundGrant", TestRefundGrant},
	{"SpendGrantAtOnce", TestSpendGrantAtOnce},
	{"ListGrants", TestListGrants},
	{"ListGrantsByAddress", TestListGrantsByAddress},
	{"RevokeGrants", TestRevokeGrants},
	{"RevokeAllGrants", TestRevokeAllGrants},
	{"RemoveAccountForgetsGrants", TestRemoveAccountForgetsGrants},
	{"AccountGrantsBound", TestAccountGrantsBound},
	{"GrantsBound", TestGrantsBound},
	{"GrantMemory", TestGrantMemory},
	{"GrantIDsAreNeverReused", TestGrantIDsAreNeverReused},
	{"RemovalIsOrderedWithGrants", TestRemovalIsOrderedWithGrants},
}

const (
	grantWindow  = 20 * time.Minute
	grantLongest = 12 * time.Hour
	grantBudget  = 50
)

// grantFor is a plain request for a network, by the password that a new account has.
func grantFor(a store.Account, network string) store.GrantRequest {
	return store.GrantRequest{
		Account: a.ID, Network: netip.MustParsePrefix(network), CredentialVersion: 1, Window: grantWindow, Longest: grantLongest,
		Recipients: grantBudget, MostLive: 5,
	}
}

// grantAt opens a grant at a moment.
func (h *harness) grantAt(now time.Time, r store.GrantRequest) store.Grant {
	h.t.Helper()
	g, err := h.s.OpenGrant(h.ctx, now, r)
	h.must(err)
	return inUTC(g)
}

// grant opens a plain grant now.
func (h *harness) grant(a store.Account, network string) store.Grant {
	h.t.Helper()
	return h.grantAt(h.now, grantFor(a, network))
}

// nthNetwork is one of many networks.
func nthNetwork(n int) string { return fmt.Sprintf("198.%d.%d.%d/32", 18+n>>16, n>>8&255, n&255) }

// newGrant is what a request makes.
func newGrant(id store.GrantID, now time.Time, r store.GrantRequest) store.Grant {
	return store.Grant{
		ID: id, Account: r.Account, Network: r.Network, CredentialVersion: r.CredentialVersion, Created: now, LastLogin: now,
		Expires: now.Add(r.Window), Recipients: r.Recipients, Left: r.Recipients,
	}
}

// inUTC makes grants comparable with ==.
func inUTC(g store.Grant) store.Grant {
	g.Created, g.LastLogin, g.Expires, g.Ended = g.Created.UTC(), g.LastLogin.UTC(), g.Expires.UTC(), g.Ended.UTC()
	return g
}

// wantGrant compares a stored grant.
func (h *harness) wantGrant(want store.Grant) {
	h.t.Helper()
	got, err := h.s.Grant(h.ctx, want.ID)
	h.must(err)
	if inUTC(got) != inUTC(want) {
		h.t.Errorf("grant %+v, want %+v", got, want)
	}
}

func (h *harness) wantNoGrant(id store.GrantID) {
	h.t.Helper()
	_, err := h.s.Grant(h.ctx, id)
	h.want(err, store.ErrNotFound)
}

// wantGrants compares a listing.
func (h *harness) wantGrants(f store.GrantFilter, want ...store.GrantID) {
	h.t.Helper()
	got, err := h.s.ListGrants(h.ctx, f, 0, math.MaxInt)
	h.must(err)
	if ids := grantIDs(got); !slices.Equal(ids, want) {
		h.t.Errorf("%+v lists grants %v, want %v", f, ids, want)
	}
}

func grantIDs(grants []store.Grant) []store.GrantID {
	ids := make([]store.GrantID, len(grants))
	for i, g := range grants {
		ids[i] = g.ID
	}
	return ids
}

func (h *harness) spendAt(now time.Time, id store.GrantID, n int, want bool) {
	h.t.Helper()
	ok, err := h.s.SpendGrant(h.ctx, now, id, n)
	h.must(err)
	if ok != want {
		h.t.Errorf("spending %d of grant %s is %t, want %t", n, id, ok, want)
	}
}

func (h *harness) spend(id store.GrantID, n int, want bool) {
	h.t.Helper()
	h.spendAt(h.now, id, n, want)
}

func (h *harness) wantLeft(id store.GrantID, want int) {
	h.t.Helper()
	g, err := h.s.Grant(h.ctx, id)
	h.must(err)
	if g.Left != want {
		h.t.Errorf("grant %s has %d recipients left, want %d", id, g.Left, want)
	}
}

// revoke ends live grants now.
func (h *harness) revoke(ids ...store.GrantID) {
	h.t.Helper()
	revoked, err := h.s.RevokeGrants(h.ctx, h.now, store.GrantRevoked, ids...)
	h.must(err)
	if !slices.Equal(revoked, ids) {
		h.t.Errorf("revoked %v, want %v", revoked, ids)
	}
}

// TestOpenGrant: a new grant is what was asked for, over reopen too; another account or network has its own.
func TestOpenGrant(t *testing.T, f Factory) {
	h := open(t, f)
	anna, bob := h.account("anna"), h.account("bob")
	requests := []store.GrantRequest{
		grantFor(anna, "192.0.2.1/32"), grantFor(anna, "192.0.2.2/32"), grantFor(bob, "192.0.2.1/32"), grantFor(anna, "2001:db8::/64"),
		grantFor(anna, "2001:db8::1/128"),
	}
	requests[1].CredentialVersion, requests[1].Recipients = 7, 3
	var all []store.Grant
	for _, r := range requests {
		got := h.grantAt(h.now, r)
		if want := newGrant(got.ID, h.now, r); got != want || got.ID == 0 || len(all) > 0 && got.ID <= all[len(all)-1].ID {
			t.Errorf("opened %+v, want %+v", got, want)
		}
		all = append(all, got)
	}
	for range 2 {
		for _, g := range all {
			h.wantGrant(g)
		}
		h.wantGrants(store.GrantFilter{}, grantIDs(all)...)
		h.reopen()
	}
	if g := all[0]; !g.Live(g.Expires.Add(-time.Nanosecond)) || g.Live(g.Expires) {
		t.Error("a grant is live before it expires and not at it")
	}
	h.wantNoGrant(0)
	h.wantNoGrant(all[4].ID + 1)
}

// TestRenewGrant: a login renews what is live, and fills no budget.
func TestRenewGrant(t *testing.T, f Factory) {
	h := open(t, f)
	r := grantFor(h.account("anna"), "192.0.2.1/32")
	g := h.grantAt(h.now, r)
	h.spend(g.ID, 7, true)
	want := g
	want.Left -= 7
	last := g.Expires.Add(-time.Nanosecond) // the last moment at which it is live
	for _, now := range []time.Time{h.now.Add(time.Minute), last} {
		r.Recipients++ // of a new one
		want.LastLogin, want.Expires = now, now.Add(grantWindow)
		if got := h.grantAt(now, r); got != want {
			t.Errorf("renewed %+v, want %+v", got, want)
		}
		h.reopen()
		h.wantGrant(want)
	}
	r.Window = time.Minute
	want.Expires = last.Add(time.Minute)
	if got := h.grantAt(last, r); got != want {
		t.Errorf("renewed for a shorter while %+v, want %+v", got, want)
	}
	h.wantGrants(store.GrantFilter{}, g.ID)
}

// TestGrantLongest: whatever logins follow, a grant does not live longer than that; then a new one is made.
func TestGrantLongest(t *testing.T, f Factory) {
	h := open(t, f)
	r := grantFor(h.account("anna"), "192.0.2.1/32")
	r.Longest = 50 * time.Minute
	g := h.grantAt(h.now, r)
	end := h.now.Add(r.Longest)
	for _, step := range []struct{ login, expires time.Duration }{
		{15 * time.Minute, 35 * time.Minute}, {30*time.Minute - 1, 50*time.Minute - 1}, {30 * time.Minute, 50 * time.Minute},
		{30*time.Minute + 1, 50 * time.Minute}, {50*time.Minute - 1, 50 * time.Minute},
	} {
		got := h.grantAt(h.now.Add(step.login), r)
		if got.ID != g.ID || !got.Expires.Equal(h.now.Add(step.expires)) {
			t.Errorf("after a login %s later %+v, want it to expire %s later", step.login, got, step.expires)
		}
	}
	h.spendAt(end.Add(-1), g.ID, 1, true)
	h.spendAt(end, g.ID, 1, false)
	if got := h.grantAt(end, r); got != newGrant(got.ID, end, r) || got.ID == g.ID {
		t.Errorf("after its longest life %+v, want a new one", got)
	}
	h.wantNoGrant(g.ID)
	r.Window, r.Longest = time.Hour, time.Minute
	r.Network = netip.MustParsePrefix("192.0.2.2/32")
	if got := h.grantAt(h.now, r); !got.Expires.Equal(h.now.Add(time.Minute)) {
		t.Errorf("%+v lives for longer than the longest", got)
	}
}

// TestGrantLongestShortened: a grant that would be over by a rule that came later is not renewed.
func TestGrantLongestShortened(t *testing.T, f Factory) {
	h := open(t, f)
	r := grantFor(h.account("anna"), "192.0.2.1/32")
	g := h.grantAt(h.now, r)
	now := h.now.Add(10 * time.Minute)
	r.Longest = 10*time.Minute + 1
	if got := h.grantAt(now, r); got.ID != g.ID || !got.Expires.Equal(now.Add(1)) {
		t.Errorf("renewed %+v, want it to expire a moment later", got)
	}
	r.Longest = 10 * time.Minute
	want := newGrant(0, now, r)
	want.Expires = now.Add(r.Longest)
	got := h.grantAt(now, r)
	if want.ID = got.ID; got != want || got.ID == g.ID {
		t.Errorf("opened %+v, want a new one", got)
	}
}

// TestGrantReplaced: an ended or expired grant gives way to a new one with a budget of its own.
func TestGrantReplaced(t *testing.T, f Factory) {
	h := open(t, f)
	r := grantFor(h.account("anna"), "192.0.2.1/32")
	now := h.now
	first := h.grantAt(now, r)
	h.spend(first.ID, grantBudget, true)
	h.revoke(first.ID)
	second := h.grantAt(now, r)
	if second != newGrant(second.ID, now, r) || second.ID == first.ID {
		t.Errorf("after a revoked one %+v, want a new one", second)
	}
	now = second.Expires
	third := h.grantAt(now, r)
	if third != newGrant(third.ID, now, r) || third.ID == second.ID {
		t.Errorf("after an expired one %+v, want a new one", third)
	}
	h.reopen()
	h.wantGrants(store.GrantFilter{}, third.ID)
	h.wantNoGrant(first.ID)
	h.wantNoGrant(second.ID)
}

// TestGrantCredentialVersion: a grant by another password is void; it gives way, and does not count as live.
func TestGrantCredentialVersion(t *testing.T, f Factory) {
	h := open(t, f)
	anna := h.account("anna")
	r := grantFor(anna, "192.0.2.1/32")
	r.MostLive = 1
	old := h.grantAt(h.now, r)
	h.spend(old.ID, 7, true)
	r.CredentialVersion = 2
	renewed := h.grantAt(h.now, r)
	if renewed != newGrant(renewed.ID, h.now, r) || renewed.ID == old.ID {
		t.Errorf("after a change of the password %+v, want a new one", renewed)
	}
	h.reopen()
	h.wantGrants(store.GrantFilter{}, renewed.ID)
	r.CredentialVersion, r.Network = 3, netip.MustParsePrefix("192.0.2.2/32")
	other := h.grantAt(h.now, r)
	h.wantGrants(store.GrantFilter{Account: anna.ID}, renewed.ID, other.ID)
	r.Network = netip.MustParsePrefix("192.0.2.3/32")
	_, err := h.s.OpenGrant(h.ctx, h.now, r)
	h.want(err, store.ErrBound)
}

// TestGrantMostLive: up to so many live grants, not counting those that are over nor the one that is renewed; beyond it nothing changes.
func TestGrantMostLive(t *testing.T, f Factory) {
	h := open(t, f)
	anna, bob := h.account("anna"), h.account("bob")
	const most = 3
	request := func(n int) store.GrantRequest {
		r := grantFor(anna, nthNetwork(n))
		r.MostLive = most
		return r
	}
	h.grant(bob, nthNetwork(9)) // another's
	var ids []store.GrantID
	for n := range most {
		ids = append(ids, h.grantAt(h.now, request(n)).ID)
	}
	refused := func(now time.Time, r store.GrantRequest) {
		t.Helper()
		before, err := h.s.ListGrants(h.ctx, store.GrantFilter{}, 0, 100)
		h.must(err)
		_, err = h.s.OpenGrant(h.ctx, now, r)
		h.want(err, store.ErrBound)
		after, err := h.s.ListGrants(h.ctx, store.GrantFilter{}, 0, 100)
		h.must(err)
		if !slices.Equal(before, after) {
			t.Errorf("a refused request changed %+v to %+v", before, after)
		}
	}
	refused(h.now, request(most))
	for n, id := range ids { // renewing is no matter of number, even if less is allowed by now
		r := request(n)
		r.MostLive = 1
		if got := h.grantAt(h.now, r); got.ID != id {
			t.Errorf("renewed %+v, want grant %s", got, id)
		}
	}
	h.revoke(ids[1])
	next := h.grantAt(h.now, request(most))
	refused(h.now, request(1)) // its own is over, three others are live
	end := h.now.Add(grantWindow)
	h.grantAt(end.Add(-1), request(0))
	h.grantAt(end.Add(-1), request(2))
	refused(end.Add(-1), request(1))
	h.grantAt(end, request(1)) // the fourth has expired
	h.wantNoGrant(ids[1])
	h.wantLeft(next.ID, grantBudget)
}

// TestGrantRequestBounds: what is out of bounds is refused, the edges are not.
func TestGrantRequestBounds(t *testing.T, f Factory) {
	h := open(t, f)
	anna := h.account("anna")
	tests := []struct {
		name   string
		change func(*store.GrantRequest)
		ok     bool
	}{
		{"host bits", func(r *store.GrantRequest) { r.Network = netip.MustParsePrefix("2001:db8::1/64") }, false},
		{"no network", func(r *store.GrantRequest) { r.Network = netip.Prefix{} }, false},
		{"a whole network", func(r *store.GrantRequest) { r.Network = netip.MustParsePrefix("192.0.2.0/31") }, false},
		{"short IPv6", func(r *store.GrantRequest) { r.Network = netip.MustParsePrefix("2001:db8::/63") }, false},
		{"odd IPv6", func(r *store.GrantRequest) { r.Network = netip.MustParsePrefix("2001:db8::/127") }, false},
		{"IPv6 /32", func(r *store.GrantRequest) { r.Network = netip.MustParsePrefix("2001:db8::/32") }, false},
		{"mapped", func(r *store.GrantRequest) { r.Network = netip.MustParsePrefix("::ffff:192.0.2.1/128") }, false},
		{"a moment", func(r *store.GrantRequest) { r.Window, r.Longest = 1, 1 }, true},
		{"no window", func(r *store.GrantRequest) { r.Window = 0 }, false},
		{"no longest", func(r *store.GrantRequest) { r.Longest = 0 }, false},
		{"one recipient", func(r *store.GrantRequest) { r.Recipients = 1 }, true},
		{"no recipient", func(r *store.GrantRequest) { r.Recipients = 0 }, false},
		{"most recipients", func(r *store.GrantRequest) { r.Recipients = store.MaxRecipientBudget }, true},
		{"too many recipients", func(r *store.GrantRequest) { r.Recipients = store.MaxRecipientBudget + 1 }, false},
		{"no live grant", func(r *store.GrantRequest) { r.MostLive = 0 }, false},
		{"most live grants", func(r *store.GrantRequest) { r.MostLive = store.MaxAccountGrants }, true},
		{"too many live grants", func(r *store.GrantRequest) { r.MostLive = store.MaxAccountGrants + 1 }, false},
	}
	for n, test := range tests {
		r := grantFor(anna, nthNetwork(n))
		test.change(&r)
		_, err := h.s.OpenGrant(h.ctx, h.now, r)
		if test.ok {
			h.must(err)
		} else {
			h.want(err, store.ErrInvalid)
		}
	}
	id := h.grant(anna, "192.0.2.1/32").ID
	_, err := h.s.SpendGrant(h.ctx, h.now, id, -1)
	h.want(err, store.ErrInvalid)
	h.want(h.s.RefundGrant(h.ctx, id, -1), store.ErrInvalid)
	_, err = h.s.RevokeGrants(h.ctx, h.now, "", id)
	h.want(err, store.ErrInvalid)
	_, err = h.s.RevokeAllGrants(h.ctx, h.now, "")
	h.want(err, store.ErrInvalid)
	h.wantLeft(id, grantBudget)
	h.spend(id, 1, true)
}

// TestGrantUnknownAccount: nobody gets nothing.
func TestGrantUnknownAccount(t *testing.T, f Factory) {
	h := open(t, f)
	for id := range store.AccountID(2) {
		_, err := h.s.OpenGrant(h.ctx, h.now, grantFor(store.Account{ID: id}, "192.0.2.1/32"))
		h.want(err, store.ErrNotFound)
	}
	h.wantGrants(store.GrantFilter{})
}

// TestSpendGrant: what is left may be spent to the last, and no more.
func TestSpendGrant(t *testing.T, f Factory) {
	h := open(t, f)
	id := h.grant(h.account("anna"), "192.0.2.1/32").ID
	h.spend(id, 0, true)
	h.spend(id, grantBudget+1, false)
	h.spend(id, grantBudget-1, true)
	h.spend(id, 2, false)
	h.wantLeft(id, 1)
	h.reopen()
	h.wantLeft(id, 1)
	h.spend(id, 1, true)
	h.spend(id, 1, false)
	h.spend(id, math.MaxInt, false)
	h.spend(id, 0, true)
	h.spend(id+1, 0, false)
	h.reopen()
	h.wantLeft(id, 0)
}

// TestSpendGrantOver: an expired or ended grant is worth nothing.
func TestSpendGrantOver(t *testing.T, f Factory) {
	h := open(t, f)
	anna := h.account("anna")
	g, ended := h.grant(anna, "192.0.2.1/32"), h.grant(anna, "192.0.2.2/32")
	h.revoke(ended.ID)
	for range 2 {
		h.spendAt(g.Expires.Add(-1), g.ID, 1, true)
		h.spendAt(g.Expires, g.ID, 1, false)
		h.spendAt(g.Expires, g.ID, 0, false)
		h.spend(ended.ID, 1, false)
		h.spend(ended.ID, 0, false)
		h.reopen()
	}
	h.wantLeft(g.ID, grantBudget-2)
	h.wantLeft(ended.ID, grantBudget)
}

// TestRefundGrant: what comes back makes no more of it than there was.
func TestRefundGrant(t *testing.T, f Factory) {
	h := open(t, f)
	r := grantFor(h.account("anna"), "192.0.2.1/32")
	id := h.grantAt(h.now, r).ID
	h.must(h.s.RefundGrant(h.ctx, id, 1))
	h.wantLeft(id, grantBudget)
	h.spend(id, 10, true)
	h.must(h.s.RefundGrant(h.ctx, id, 0))
	h.must(h.s.RefundGrant(h.ctx, id, 9))
	h.wantLeft(id, grantBudget-1)
	h.reopen()
	h.must(h.s.RefundGrant(h.ctx, id, 2))
	h.wantLeft(id, grantBudget)
	h.spend(id, 10, true)
	r.Recipients = 1000 // of a new one
	h.grantAt(h.now, r)
	h.must(h.s.RefundGrant(h.ctx, id, math.MaxInt))
	h.wantLeft(id, grantBudget)
	h.must(h.s.RefundGrant(h.ctx, id+1, 1))
	h.reopen()
	h.wantLeft(id, grantBudget)
}

// TestSpendGrantAtOnce: many sessions together do not spend more than there is.
func TestSpendGrantAtOnce(t *testing.T, f Factory) {
	h := open(t, f)
	id := h.grant(h.account("anna"), "192.0.2.1/32").ID
	var spent atomic.Int64
	inParallel(8, func(int) {
		for range grantBudget {
			ok, err := h.s.SpendGrant(h.ctx, h.now, id, 1)
			if err != nil {
				t.Error(err)
			}
			if ok {
				spent.Add(1)
			}
		}
	})
	if spent.Load() != grantBudget {
		t.Errorf("spent %d of %d", spent.Load(), grantBudget)
	}
	h.wantLeft(id, 0)
}

// TestListGrants: in order of id, in pages, and by each filter.
func TestListGrants(t *testing.T, f Factory) {
	h := open(t, f)
	anna, bob := h.account("anna"), h.account("bob")
	var all []store.GrantID
	for n := range 4 {
		all = append(all, h.grant(anna, nthNetwork(n)).ID, h.grant(bob, nthNetwork(n)).ID)
	}
	h.revoke(all[2])
	later := h.now.Add(grantWindow)
	h.grantAt(later.Add(-1), grantFor(bob, nthNetwork(2))) // all[5] lives on
	for range 2 {
		h.wantGrants(store.GrantFilter{}, all...)
		h.wantGrants(store.GrantFilter{Account: anna.ID}, all[0], all[2], all[4], all[6])
		h.wantGrants(store.GrantFilter{Account: bob.ID + 1})
		h.wantGrants(store.GrantFilter{LiveAt: later.Add(-1)}, all[0], all[1], all[3], all[4], all[5], all[6], all[7])
		h.wantGrants(store.GrantFilter{LiveAt: later}, all[5])
		h.wantGrants(store.GrantFilter{Account: anna.ID, LiveAt: h.now}, all[0], all[4], all[6])
		remote := netip.MustParseAddr("198.18.0.1")
		h.wantGrants(store.GrantFilter{Remote: remote}, all[2], all[3])
		h.wantGrants(store.GrantFilter{Remote: remote, LiveAt: h.now}, all[3])
		h.wantGrants(store.GrantFilter{Remote: remote, Account: anna.ID}, all[2])
		h.reopen()
	}
	for _, filter := range []store.GrantFilter{{}, {Account: bob.ID}, {Remote: netip.MustParseAddr("198.18.0.2")}} {
		whole, err := h.s.ListGrants(h.ctx, filter, 0, 100)
		h.must(err)
		for limit := 1; limit <= len(whole)+1; limit++ {
			var paged []store.Grant
			for after := store.GrantID(0); ; {
				page, err := h.s.ListGrants(h.ctx, filter, after, limit)
				h.must(err)
				if len(page) == 0 {
					break
				}
				if len(page) > limit {
					t.Fatalf("%d grants, asked for %d", len(page), limit)
				}
				paged = append(paged, page...)
				after = page[len(page)-1].ID
			}
			if !slices.Equal(paged, whole) {
				t.Errorf("pages of %d list %v, want %v", limit, grantIDs(paged), grantIDs(whole))
			}
		}
	}
	none, err := h.s.ListGrants(h.ctx, store.GrantFilter{}, 0, 0)
	h.must(err)
	if len(none) > 0 {
		t.Errorf("asked for none, got %v", none)
	}
}

// TestListGrantsByAddress: the network of each must contain the address; families do not mix.
func TestListGrantsByAddress(t *testing.T, f Factory) {
	h := open(t, f)
	anna, bob := h.account("anna"), h.account("bob")
	four, site, host := h.grant(anna, "192.0.2.1/32").ID, h.grant(anna, "2001:db8::/64").ID, h.grant(bob, "2001:db8::1/128").ID
	same := h.grant(bob, "2001:db8::/64").ID
	for range 2 {
		for addr, want := range map[string][]store.GrantID{
			"192.0.2.1": {four}, "192.0.2.0": nil, "192.0.2.2": nil, "2001:db8::1": {site, host, same}, "2001:db8::2": {site, same},
			"2001:db8::ffff:ffff:ffff:ffff": {site, same}, "2001:db8:0:1::1": nil, "::ffff:192.0.2.1": nil, "::192.0.2.1": nil,
			"2001:db8::1%eth0": nil,
		} {
			h.wantGrants(store.GrantFilter{Remote: netip.MustParseAddr(addr)}, want...)
		}
		h.reopen()
	}
}
