package storetest

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"latchkey/store"
)

var sealedTests = []test{
	{"OldClientFields", TestOldClientFields},
	{"SealPassword", TestSealPassword},
	{"SealPasswordBounds", TestSealPasswordBounds},
	{"SealedIsCleared", TestSealedIsCleared},
	{"SwitchedOffForAll", TestSwitchedOffForAll},
	{"SealedIsNotInherited", TestSealedIsNotInherited},
	{"POP3Settings", TestPOP3Settings},
}

// oldClientLogin switches old-client login on or off for everybody.
func (h *harness) oldClientLogin(on bool) {
	h.t.Helper()
	s, err := h.s.Settings(h.ctx)
	h.must(err)
	s.OldClientLogin = on
	_, err = h.s.UpdateSettings(h.ctx, s)
	h.must(err)
}

// seal seals a password of an account as it is now.
func (h *harness) seal(id store.AccountID, sealed store.Sealed) {
	h.t.Helper()
	a, err := h.s.Account(h.ctx, id)
	h.must(err)
	h.must(h.s.SealPassword(h.ctx, id, a.CredentialVersion, sealed))
}

func (h *harness) wantSealed(id store.AccountID, want store.Sealed) {
	h.t.Helper()
	a, err := h.s.Account(h.ctx, id)
	h.must(err)
	if a.Sealed != want {
		h.t.Errorf("account %d has %q sealed, want %q", id, string(a.Sealed), string(want))
	}
}

// TestOldClientFields: each of them is kept by itself, and a selection that cannot be is not.
func TestOldClientFields(t *testing.T, f Factory) {
	h := open(t, f)
	id := h.account("anna").ID
	for i, change := range []func(*store.Account){
		func(a *store.Account) { a.OldClientLogin = true },
		func(a *store.Account) { a.POP3 = store.POP3Options{ReplaceNUL: true} },
		func(a *store.Account) { a.POP3 = store.POP3Options{EndHeader: true} },
		func(a *store.Account) { a.POP3 = store.POP3Options{StatusHeader: true} },
		func(a *store.Account) { a.POP3 = store.POP3Options{Last: true} },
		func(a *store.Account) { a.POP3 = store.POP3Options{Select: "max=1000000"} },
		func(a *store.Account) {
			a.POP3 = store.POP3Options{ReplaceNUL: true, EndHeader: true, StatusHeader: true, Last: true, Select: "7d"}
		},
		func(a *store.Account) { a.OldClientLogin, a.POP3 = false, store.POP3Options{} },
	} {
		want := h.update(id, change)
		h.reopen()
		asked := want
		change(&asked)
		got, err := h.s.Account(h.ctx, id)
		h.must(err)
		if !sameAccount(got, want) || !sameAccount(want, asked) {
			t.Errorf("change %d: stored %+v, returned %+v, want %+v", i, got, want, asked)
		}
	}
	for _, wrong := range []string{"all", "0d", "3651d", "max=0", "max=1000001", "07d"} {
		_, err := h.s.AddAccount(h.ctx, store.Account{Name: "bob", POP3: store.POP3Options{Select: wrong}})
		h.want(err, store.ErrInvalid)
		a, err := h.s.Account(h.ctx, id)
		h.must(err)
		a.POP3.Select = wrong
		_, err = h.s.UpdateAccount(h.ctx, a)
		h.want(err, store.ErrInvalid)
	}
}

// TestSealPassword: it is kept for the verifier that it is of, where that is allowed, and changes nothing else.
func TestSealPassword(t *testing.T, f Factory) {
	h := open(t, f)
	added, err := h.s.AddAccount(h.ctx, store.Account{Name: "anna", Verifier: "$v$1", Created: h.now, Sealed: "a caller's"})
	h.must(err)
	if added.Sealed != "" {
		t.Errorf("a new account has %q sealed", string(added.Sealed))
	}
	id := added.ID
	h.want(h.s.SealPassword(h.ctx, id, 1, "one"), store.ErrConflict) // nobody allowed it
	h.want(h.s.SealPassword(h.ctx, id+1, 1, "one"), store.ErrNotFound)
	h.wantSealed(id, "")
	anna := h.update(id, func(a *store.Account) { a.OldClientLogin = true })
	for _, version := range []uint64{0, anna.CredentialVersion - 1, anna.CredentialVersion + 1} {
		h.want(h.s.SealPassword(h.ctx, id, version, "one"), store.ErrConflict)
	}
	h.wantSealed(id, "")
	for _, sealed := range []store.Sealed{"one", "one", "two\x00\xff"} {
		h.must(h.s.SealPassword(h.ctx, id, anna.CredentialVersion, sealed))
		want := anna
		want.Sealed = sealed
		for range 2 {
			got, err := h.s.Account(h.ctx, id)
			h.must(err)
			if !sameAccount(got, want) {
				t.Errorf("stored %+v with %q, want %+v with %q", got, string(got.Sealed), want, string(sealed))
			}
			h.reopen()
		}
	}
	// An update of the record that was read before goes through, keeps what is sealed now, and takes nothing from its argument.
	anna.DisplayName, anna.Sealed = "Anna", "a caller's"
	got, err := h.s.UpdateAccount(h.ctx, anna)
	h.must(err)
	if got.Sealed != "two\x00\xff" || got.Version != anna.Version+1 || got.CredentialVersion != anna.CredentialVersion {
		t.Errorf("the update returned %+v with %q", got, string(got.Sealed))
	}
	h.wantSealed(id, "two\x00\xff")
	h.update(id, func(a *store.Account) { a.Name = "anne" })
	h.update(id, func(a *store.Account) { a.Suspended = true }) // raises the credential version, and is no other password
	h.wantSealed(id, "two\x00\xff")
	h.seal(id, "three")
	h.reopen()
	h.wantSealed(id, "three")
	byName, err := h.s.AccountByName(h.ctx, "anne")
	h.must(err)
	list, err := h.s.ListAccounts(h.ctx, "", 10)
	h.must(err)
	if byName.Sealed != "three" || len(list) != 1 || list[0].Sealed != "three" {
		t.Errorf("by name %q, listed %+v", string(byName.Sealed), list)
	}
}

// TestSealPasswordBounds: both ends of what may be sealed.
func TestSealPasswordBounds(t *testing.T, f Factory) {
	h := open(t, f)
	h.oldClientLogin(true)
	anna := h.account("anna")
	longest := store.Sealed(strings.Repeat("\xff", store.MaxSealed))
	h.must(h.s.SealPassword(h.ctx, anna.ID, anna.CredentialVersion, longest))
	h.want(h.s.SealPassword(h.ctx, anna.ID, anna.CredentialVersion, longest+"x"), store.ErrBound)
	h.want(h.s.SealPassword(h.ctx, anna.ID, anna.CredentialVersion, ""), store.ErrInvalid)
	h.reopen()
	h.wantSealed(anna.ID, longest)
}

// TestSealedIsCleared: with the change that ends its reason, and with no other.
func TestSealedIsCleared(t *testing.T, f Factory) {
	tests := []struct {
		name        string
		own, domain bool
		change      func(h *harness, id store.AccountID)
		stays       bool
	}{
		{"another password", true, false, func(h *harness, id store.AccountID) {
			h.update(id, func(a *store.Account) { a.Verifier = "$v$2" })
		}, false},
		{"another password, allowed to all", false, true, func(h *harness, id store.AccountID) {
			h.update(id, func(a *store.Account) { a.Verifier = "$v$2" })
		}, false},
		{"the account's own ends", true, false, func(h *harness, id store.AccountID) {
			h.update(id, func(a *store.Account) { a.OldClientLogin = false })
		}, false},
		{"the account's own ends, all may", true, true, func(h *harness, id store.AccountID) {
			h.update(id, func(a *store.Account) { a.OldClientLogin = false })
		}, true},
		{"nobody may any more", false, true, func(h *harness, _ store.AccountID) { h.oldClientLogin(false) }, false},
		{"the account may still", true, true, func(h *harness, _ store.AccountID) { h.oldClientLogin(false) }, true},
		{"all may now", true, false, func(h *harness, _ store.AccountID) { h.oldClientLogin(true) }, true},
		{"one after the other", true, true, func(h *harness, id store.AccountID) {
			h.oldClientLogin(false)
			h.wantSealed(id, "sealed")
			h.update(id, func(a *store.Account) { a.OldClientLogin = false })
		}, false},
		{"the other after the one", true, true, func(h *harness, id store.AccountID) {
			h.update(id, func(a *store.Account) { a.OldClientLogin = false })
			h.wantSealed(id, "sealed")
			h.oldClientLogin(false)
		}, false},
		{"other settings", true, true, func(h *harness, _ store.AccountID) { h.domainQuota(store.Quota{Messages: 9}) }, true},
		{"a refused change", true, false, func(h *harness, id store.AccountID) {
			a, err := h.s.Account(h.ctx, id)
			h.must(err)
			a.Version--
			a.Verifier = "$v$2"
			_, err = h.s.UpdateAccount(h.ctx, a)
			h.want(err, store.ErrConflict)
		}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := open(t, f)
			id := h.account("anna").ID
			h.update(id, func(a *store.Account) { a.OldClientLogin = tt.own })
			h.oldClientLogin(tt.domain)
			h.seal(id, "sealed")
			tt.change(h, id)
			want := store.Sealed("")
			if tt.stays {
				want = "sealed"
			}
			for range 2 {
				h.wantSealed(id, want)
				h.reopen()
			}
			if !tt.stays { // and does not come back when it is allowed again
				h.update(id, func(a *store.Account) { a.OldClientLogin = true })
				h.wantSealed(id, "")
			}
		})
	}
}

// TestSwitchedOffForAll: of more accounts than are looked at in one piece exactly those keep what is sealed that have the choice themselves.
func TestSwitchedOffForAll(t *testing.T, f Factory) {
	const accounts = 233
	h := open(t, f)
	h.oldClientLogin(true)
	own := map[store.AccountID]bool{}
	var ids []store.AccountID
	for i := range accounts {
		a, err := h.s.AddAccount(h.ctx, store.Account{Name: fmt.Sprint("a", i), Verifier: "$v$1", OldClientLogin: i%7 == 3})
		h.must(err)
		ids, own[a.ID] = append(ids, a.ID), i%7 == 3
		if i%10 != 9 {
			h.must(h.s.SealPassword(h.ctx, a.ID, a.CredentialVersion, store.Sealed(a.Name)))
		}
	}
	h.oldClientLogin(false)
	for range 2 {
		for i, id := range ids {
			want := store.Sealed("")
			if own[id] && i%10 != 9 {
				want = store.Sealed(fmt.Sprint("a", i))
			}
			h.wantSealed(id, want)
		}
		h.reopen()
	}
	a, err := h.s.Account(h.ctx, ids[0])
	h.must(err)
	h.want(h.s.SealPassword(h.ctx, ids[0], a.CredentialVersion, "x"), store.ErrConflict)
}

// TestSealedIsNotInherited: a name that is added again has nothing of what went before.
func TestSealedIsNotInherited(t *testing.T, f Factory) {
	h := open(t, f)
	h.oldClientLogin(true)
	old := h.account("anna")
	h.seal(old.ID, "sealed")
	h.must(h.s.RemoveAccount(h.ctx, old.ID))
	h.want(h.s.SealPassword(h.ctx, old.ID, 1, "x"), store.ErrNotFound)
	anna := h.account("anna")
	h.reopen()
	h.wantSealed(anna.ID, "")
}

// TestPOP3Settings: they are kept, the caller's slice stays the caller's, and both ends of their bounds hold.
func TestPOP3Settings(t *testing.T, f Factory) {
	h := open(t, f)
	networks := func(n int) (list []netip.Prefix) {
		for i := range n {
			list = append(list, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i), 0}), 24))
		}
		return list
	}
	for i, tt := range []struct {
		change func(*store.Settings)
		ok     bool
	}{
		{func(s *store.Settings) { s.OldClientLogin = true }, true},
		{func(s *store.Settings) { s.ExclusiveMaildrop = true }, true},
		{func(s *store.Settings) { s.LoginDelay = 86_400 }, true},
		{func(s *store.Settings) { s.LoginDelay = 86_401 }, false},
		{func(s *store.Settings) { s.LoginDelay = -1 }, false},
		{func(s *store.Settings) { s.ClearPasswordDays = 3650 }, true},
		{func(s *store.Settings) { s.ClearPasswordDays = 3651 }, false},
		{func(s *store.Settings) { s.ClearPasswordDays = -1 }, false},
		{func(s *store.Settings) { s.ExpireDays = 3650 }, true},
		{func(s *store.Settings) { s.ExpireDays = 3651 }, false},
		{func(s *store.Settings) { s.ExpireDays = -1 }, false},
		{func(s *store.Settings) { s.OldClientNetworks = networks(store.MaxNetworks) }, true},
		{func(s *store.Settings) { s.OldClientNetworks = networks(store.MaxNetworks + 1) }, false},
		{func(s *store.Settings) { s.OldClientNetworks = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")} }, true},
		{func(s *store.Settings) { s.OldClientNetworks = []netip.Prefix{netip.MustParsePrefix("2001:db8::/48")} }, true},
		{func(s *store.Settings) { s.OldClientNetworks = []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24")} }, false},
		{func(s *store.Settings) {
			s.OldClientNetworks = []netip.Prefix{netip.MustParsePrefix("::ffff:10.0.0.0/120")}
		}, false},
		{func(s *store.Settings) { s.OldClientNetworks = []netip.Prefix{{}} }, false},
	} {
		before, err := h.s.Settings(h.ctx)
		h.must(err)
		given := before.Clone()
		tt.change(&given)
		got, err := h.s.UpdateSettings(h.ctx, given)
		want := given.Clone()
		want.Version++
		if !tt.ok {
			h.want(err, store.ErrInvalid)
			want = before
		} else if h.must(err); !sameSettings(got, want) {
			t.Errorf("change %d returned %+v, want %+v", i, got, want)
		}
		if given.OldClientNetworks != nil {
			given.OldClientNetworks[0] = netip.Prefix{}
		}
		if got.OldClientNetworks != nil {
			got.OldClientNetworks[0] = netip.Prefix{}
		}
		for range 2 {
			stored, err := h.s.Settings(h.ctx)
			if h.must(err); !sameSettings(stored, want) {
				t.Errorf("change %d: stored %+v, want %+v", i, stored, want)
			}
			h.reopen()
		}
	}
	if d := store.DefaultSettings(Domain); d.Validate() != nil || d.OldClientLogin || d.ExclusiveMaildrop || d.LoginDelay != 0 ||
		d.ExpireDays != 0 || d.OldClientNetworks != nil {
		t.Errorf("by default %+v", d)
	}
}
