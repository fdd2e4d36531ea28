package storetest

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"latchkey/store"
)

// TestRevokeGrants: live ones end, over reopen too; those that are unknown, ended or expired are left alone.
func TestRevokeGrants(t *testing.T, f Factory) {
	h := open(t, f)
	anna := h.account("anna")
	a, b, c := h.grant(anna, "192.0.2.1/32"), h.grant(anna, "192.0.2.2/32"), h.grant(anna, "192.0.2.3/32")
	h.spend(a.ID, 3, true)
	now := h.now.Add(time.Minute)
	revoke := func(now time.Time, end store.GrantEnd, ids []store.GrantID, want ...store.GrantID) {
		t.Helper()
		got, err := h.s.RevokeGrants(h.ctx, now, end, ids...)
		h.must(err)
		if !slices.Equal(got, want) {
			t.Errorf("revoked %v, want %v", got, want)
		}
	}
	revoke(now, store.GrantGuessed, nil)
	revoke(now, store.GrantGuessed, []store.GrantID{b.ID, 0, a.ID, c.ID + 1, a.ID}, a.ID, b.ID)
	a.Left, a.End, a.Ended = a.Left-3, store.GrantGuessed, now
	b.End, b.Ended = store.GrantGuessed, now
	h.reopen()
	for _, g := range []store.Grant{a, b, c} {
		h.wantGrant(g)
	}
	revoke(now.Add(time.Second), store.GrantRevoked, []store.GrantID{a.ID}) // it ended once
	revoke(c.Expires, store.GrantRevoked, []store.GrantID{c.ID})            // it expired
	for _, g := range []store.Grant{a, b, c} {
		h.wantGrant(g)
	}
	revoke(c.Expires.Add(-1), store.GrantSwitchedOff, []store.GrantID{c.ID}, c.ID)
	c.End, c.Ended = store.GrantSwitchedOff, c.Expires.Add(-1)
	h.wantGrant(c)
	if c.Live(h.now) || !c.Over().Equal(c.Ended) {
		t.Errorf("ended, %+v is live, or over at another moment than its end", c)
	}
	h.reopen()
	h.wantGrant(c)
	h.wantGrants(store.GrantFilter{LiveAt: h.now})
}

// TestRevokeAllGrants: every live one ends, of whomever; the count says how many.
func TestRevokeAllGrants(t *testing.T, f Factory) {
	h := open(t, f)
	anna, bob := h.account("anna"), h.account("bob")
	revokeAll := func(now time.Time, want int) {
		t.Helper()
		n, err := h.s.RevokeAllGrants(h.ctx, now, store.GrantSwitchedOff)
		h.must(err)
		if n != want {
			t.Errorf("revoked %d, want %d", n, want)
		}
	}
	revokeAll(h.now, 0)
	a, b := h.grant(anna, "192.0.2.1/32"), h.grant(bob, "192.0.2.1/32")
	h.grant(bob, "192.0.2.2/32")
	h.revoke(a.ID)
	a.End, a.Ended = store.GrantRevoked, h.now
	now := h.now.Add(grantWindow)
	c := h.grantAt(now.Add(-1), grantFor(bob, "192.0.2.2/32"))
	revokeAll(now, 1)
	c.End, c.Ended = store.GrantSwitchedOff, now
	revokeAll(now, 0)
	h.reopen()
	for _, g := range []store.Grant{a, b, c} {
		h.wantGrant(g)
	}
	h.wantGrants(store.GrantFilter{LiveAt: now})
	revokeAll(h.now, 1) // at an earlier moment another was live
	h.wantGrants(store.GrantFilter{LiveAt: h.now})
}

// TestRemoveAccountForgetsGrants: of the account, no other's; the name's next owner has none.
func TestRemoveAccountForgetsGrants(t *testing.T, f Factory) {
	h := open(t, f)
	anna, bob := h.account("anna"), h.account("bob")
	ids := []store.GrantID{h.grant(anna, "192.0.2.1/32").ID, h.grant(anna, "192.0.2.2/32").ID}
	kept := h.grant(bob, "192.0.2.1/32")
	h.revoke(ids[1])
	h.must(h.s.RemoveAccount(h.ctx, anna.ID))
	_, err := h.s.OpenGrant(h.ctx, h.now, grantFor(anna, "192.0.2.1/32"))
	h.want(err, store.ErrNotFound)
	h.account("anna")
	for range 2 {
		h.wantGrants(store.GrantFilter{}, kept.ID)
		for _, id := range ids {
			h.wantNoGrant(id)
			h.spend(id, 0, false)
		}
		h.reopen()
	}
}

// TestAccountGrantsBound: beyond it the account's grant that was over first is forgotten, ended or expired; others' are not touched.
func TestAccountGrantsBound(t *testing.T, f Factory) {
	h := open(t, f)
	anna, bob := h.account("anna"), h.account("bob")
	others := h.grantAt(h.now.Add(-time.Hour), grantFor(bob, "192.0.2.1/32")).ID
	n := h.bounds().AccountGrants
	var ids []store.GrantID
	// One after the other is made and expires, so that no more than one is live.
	at := func(i int) time.Time { return h.now.Add(time.Duration(i) * grantWindow) }
	for i := range n {
		ids = append(ids, h.grantAt(at(i), grantFor(anna, nthNetwork(i))).ID)
	}
	h.wantGrants(store.GrantFilter{Account: anna.ID}, ids...)
	// The third ends before the first has expired.
	revoked, err := h.s.RevokeGrants(h.ctx, h.now, store.GrantRevoked, ids[2])
	h.must(err)
	if len(revoked) != 1 {
		t.Fatal("the grant is not revoked")
	}
	h.grantAt(at(n-1), grantFor(anna, nthNetwork(n-1))) // renewing needs no room
	h.wantGrants(store.GrantFilter{Account: anna.ID}, ids...)
	more := h.grantAt(at(n), grantFor(anna, nthNetwork(n))).ID
	left := append(slices.Delete(slices.Clone(ids), 2, 3), more)
	h.wantGrants(store.GrantFilter{Account: anna.ID}, left...)
	h.reopen()
	h.wantGrants(store.GrantFilter{Account: anna.ID}, left...)
	// Replacing one makes its own room.
	again := h.grantAt(at(n+1), grantFor(anna, nthNetwork(1))).ID
	left = append(slices.Delete(left, 1, 2), again)
	h.wantGrants(store.GrantFilter{Account: anna.ID}, left...)
	last := h.grantAt(at(n+2), grantFor(anna, nthNetwork(n+2))).ID
	h.wantGrants(store.GrantFilter{Account: anna.ID}, append(left[1:], last)...)
	h.wantGrants(store.GrantFilter{Account: bob.ID}, others)
}

// TestGrantsBound: beyond it the grant of all accounts that was over first is forgotten.
func TestGrantsBound(t *testing.T, f Factory) {
	h := open(t, f)
	n, each := h.bounds().Grants, h.bounds().AccountGrants
	var accounts []store.Account
	for i := range (n+each-1)/each + 1 {
		accounts = append(accounts, h.account(fmt.Sprint("a", i)))
	}
	at := func(i int) time.Time { return h.now.Add(time.Duration(i) * time.Minute) }
	var ids []store.GrantID
	open := func(i int) {
		r := grantFor(accounts[i%len(accounts)], nthNetwork(i))
		r.MostLive = store.MaxAccountGrants
		ids = append(ids, h.grantAt(at(i), r).ID)
	}
	for i := range n {
		open(i)
	}
	h.wantGrants(store.GrantFilter{}, ids...)
	for i := n; i < n+2; i++ {
		open(i)
		h.wantGrants(store.GrantFilter{}, ids[i-n+1:]...)
	}
	h.reopen()
	h.wantGrants(store.GrantFilter{}, ids[2:]...)
}

// TestGrantMemory: what is over is remembered for so long, and forgotten when the next grant is opened.
func TestGrantMemory(t *testing.T, f Factory) {
	h := open(t, f)
	anna, bob := h.account("anna"), h.account("bob")
	expired, ended := h.grant(anna, "192.0.2.1/32"), h.grant(anna, "192.0.2.2/32")
	h.revoke(ended.ID)
	last := h.now.Add(store.GrantMemory)
	r := grantFor(bob, "192.0.2.1/32")
	other := h.grantAt(last.Add(-1), r).ID
	h.wantGrants(store.GrantFilter{}, expired.ID, ended.ID, other)
	r.Network = grantFor(bob, "192.0.2.2/32").Network
	second := h.grantAt(last, r).ID
	h.wantGrants(store.GrantFilter{}, expired.ID, other, second)
	r.Network = grantFor(bob, "192.0.2.3/32").Network
	third := h.grantAt(last.Add(grantWindow-1), r).ID
	h.wantGrants(store.GrantFilter{}, expired.ID, other, second, third)
	r.Network = grantFor(bob, "192.0.2.4/32").Network
	fourth := h.grantAt(last.Add(grantWindow), r).ID
	h.wantGrants(store.GrantFilter{}, other, second, third, fourth)
	h.reopen()
	h.wantGrants(store.GrantFilter{}, other, second, third, fourth)
}

// TestGrantIDsAreNeverReused: not even when the newest was forgotten.
func TestGrantIDsAreNeverReused(t *testing.T, f Factory) {
	h := open(t, f)
	var last store.GrantID
	for range 4 {
		anna := h.account("anna")
		for _, network := range []string{"192.0.2.1/32", "192.0.2.2/32"} {
			id := h.grant(anna, network).ID
			if id <= last {
				t.Errorf("grant %s comes after %s", id, last)
			}
			last = id
		}
		h.must(h.s.RemoveAccount(h.ctx, anna.ID))
		h.reopen()
	}
}

// TestRemovalIsOrderedWithGrants: beside the removal of its account a grant is made or refused; afterwards there is none.
func TestRemovalIsOrderedWithGrants(t *testing.T, f Factory) {
	h := open(t, f)
	for range 5 {
		anna := h.account("anna")
		var removed atomic.Bool
		inParallel(4, func(i int) {
			if i == 0 {
				if err := h.s.RemoveAccount(h.ctx, anna.ID); err != nil {
					t.Error(err)
				}
				removed.Store(true)
				return
			}
			for n := range 20 {
				after := removed.Load()
				g, err := h.s.OpenGrant(h.ctx, h.now, grantFor(anna, nthNetwork(n%3)))
				if errors.Is(err, store.ErrNotFound) {
					return
				}
				if err != nil || after {
					t.Errorf("grant (begun after the removal: %t): %+v, %v", after, g, err)
				}
				if _, err := h.s.RevokeGrants(h.ctx, h.now, store.GrantRevoked, g.ID); err != nil {
					t.Error(err)
				}
			}
		})
		h.wantGrants(store.GrantFilter{})
	}
	h.reopen()
	h.wantGrants(store.GrantFilter{})
}
