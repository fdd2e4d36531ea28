package storetest

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"latchkey/internal/mailaddr"
	"latchkey/store"
)

var accountTests = []test{
	{"AddAccount", TestAddAccount},
	{"AccountNamesAreTaken", TestAccountNamesAreTaken},
	{"ClearSince", TestClearSince},
	{"AccountBounds", TestAccountBounds},
	{"AccountIDsAreNeverReused", TestAccountIDsAreNeverReused},
	{"ListAccounts", TestListAccounts},
	{"UpdateAccount", TestUpdateAccount},
	{"RenameAccount", TestRenameAccount},
	{"CredentialVersion", TestCredentialVersion},
	{"RemovedAndAddedAgain", TestRemovedAndAddedAgain},
	{"Aliases", TestAliases},
	{"AliasTargets", TestAliasTargets},
	{"Resolve", TestResolve},
	{"ResolveCatchAll", TestResolveCatchAll},
	{"Forwards", TestForwards},
	{"Away", TestAway},
	{"ExpireDaysInUse", TestExpireDaysInUse},
	{"AliasOutside", TestAliasOutside},
	{"LentTo", TestLentTo},
	{"ReservedNames", TestReservedNames},
	{"ReservedNamesOnWhatLedNowhere", TestReservedNamesOnWhatLedNowhere},
}

// TestAddAccount: the store gives the id and the versions, and keeps every field.
func TestAddAccount(t *testing.T, f Factory) {
	h := open(t, f)
	in := store.Account{
		ID: 77, CredentialVersion: 9, Version: 12,
		Name: "anna", DisplayName: "Anna Ö. Beispiel", Verifier: "$argon2id$v=19$secret", Suspended: true, Owner: true,
		Quota: store.Quota{Octets: 1 << 20, Messages: 500}, SendAs: []mailaddr.Address{address("sales@" + Domain), address("anna@other.example")},
		Forward: store.Forward{To: []mailaddr.Address{address("x@other.example"), address("y@other.example")}, Keep: true}, OldClientLogin: true, Sealed: "a caller's", POP3: store.POP3Options{ReplaceNUL: true, Last: true, Select: "new"},
		ClearSince: h.now.Add(time.Hour), Created: h.now, ExpireDays: store.ExpireNever,
		Vacation: store.Vacation{On: true, From: 2026_07_01, Until: 2026_07_31, Subject: "Grüße", Text: "Ich bin weg.\nBis August!"},
	}
	got, err := h.s.AddAccount(h.ctx, in)
	h.must(err)
	want := in
	want.ID, want.CredentialVersion, want.Version, want.Sealed = got.ID, 1, 1, ""
	if got.ID == 0 {
		t.Error("AddAccount gave id 0")
	}
	check := func(what string, a store.Account, err error) {
		t.Helper()
		h.must(err)
		if !sameAccount(a, want) {
			t.Errorf("%s: got %+v, want %+v", what, a, want)
		}
	}
	check("AddAccount", got, nil)
	in.SendAs[0], got.SendAs[1] = mailaddr.Address{}, mailaddr.Address{} // both are the caller's
	in.Forward.To[0], got.Forward.To[1] = mailaddr.Address{}, mailaddr.Address{}
	want.Forward.To = []mailaddr.Address{address("x@other.example"), address("y@other.example")}
	want.SendAs = []mailaddr.Address{address("sales@" + Domain), address("anna@other.example")}
	for range 2 {
		a, err := h.s.Account(h.ctx, want.ID)
		check("Account", a, err)
		a, err = h.s.AccountByName(h.ctx, "anna")
		check("AccountByName", a, err)
		h.reopen()
	}
	_, err = h.s.Account(h.ctx, want.ID+1)
	h.want(err, store.ErrNotFound)
	_, err = h.s.AccountByName(h.ctx, "Anna")
	h.want(err, store.ErrNotFound)
}

func sameAccount(a, b store.Account) bool {
	if !a.Created.Equal(b.Created) || !a.ClearSince.Equal(b.ClearSince) || !slices.Equal(a.SendAs, b.SendAs) {
		return false
	}
	a.Created, a.ClearSince, a.SendAs = b.Created, b.ClearSince, b.SendAs
	return reflect.DeepEqual(a, b)
}

// TestClearSince: when a password was seen in the clear stays, whatever else is changed, until the password is another one; and is no change of
// the credential. That of a device stays for good.
func TestClearSince(t *testing.T, f Factory) {
	h := open(t, f)
	anna := h.account("anna")
	since := h.now.Add(time.Hour)
	a := h.update(anna.ID, func(a *store.Account) { a.ClearSince = since })
	if a.CredentialVersion != anna.CredentialVersion {
		t.Errorf("credential version %d, want %d", a.CredentialVersion, anna.CredentialVersion)
	}
	d := h.device(anna, "Scanner")
	d.ClearSince = since
	d, err := h.s.UpdateDevice(h.ctx, d)
	h.must(err)
	h.reopen()
	h.update(anna.ID, func(a *store.Account) { a.Suspended, a.DisplayName = true, "Anna" })
	d.Name, d.ClearSince = "Printer", time.Time{}
	_, err = h.s.UpdateDevice(h.ctx, d)
	h.must(err)
	for range 2 {
		a, err := h.s.Account(h.ctx, anna.ID)
		h.must(err)
		d, err := h.s.Device(h.ctx, anna.ID, d.ID)
		h.must(err)
		if !a.ClearSince.Equal(since) || !d.ClearSince.Equal(since) || d.Name != "Printer" {
			t.Errorf("seen in the clear since %v, the device's since %v (%s); want %v", a.ClearSince, d.ClearSince, d.Name, since)
		}
		h.reopen()
	}
	if a := h.update(anna.ID, func(a *store.Account) { a.Verifier += "2" }); !a.ClearSince.IsZero() {
		t.Errorf("a new password was seen in the clear since %v", a.ClearSince)
	}
}

// TestAccountNamesAreTaken: accounts and aliases share one name space.
func TestAccountNamesAreTaken(t *testing.T, f Factory) {
	h := open(t, f)
	anna := h.account("anna")
	h.alias("sales", anna.ID)
	for _, name := range []string{"anna", "sales"} {
		_, err := h.s.AddAccount(h.ctx, store.Account{Name: name})
		h.want(err, store.ErrExists)
	}
	h.want(h.s.PutAlias(h.ctx, store.Alias{Name: "anna", Targets: []store.AccountID{anna.ID}}), store.ErrExists)
	_, err := h.s.AccountByName(h.ctx, "sales")
	h.want(err, store.ErrNotFound)
	h.must(h.s.RemoveAlias(h.ctx, "sales"))
	h.account("sales")
}

// TestAccountBounds: what Validate refuses is not stored.
func TestAccountBounds(t *testing.T, f Factory) {
	h := open(t, f)
	anna := h.account(strings.Repeat("a", store.MaxNameLen))
	for _, name := range []string{"", "Anna", "an na", store.CatchAll, strings.Repeat("a", store.MaxNameLen+1), "a@b", "cafe\u0301"} {
		_, err := h.s.AddAccount(h.ctx, store.Account{Name: name})
		h.want(err, store.ErrInvalid)
		a := anna
		a.Name = name
		_, err = h.s.UpdateAccount(h.ctx, a)
		h.want(err, store.ErrInvalid)
	}
	_, err := h.s.AddAccount(h.ctx, store.Account{Name: "bob", Quota: store.Quota{Octets: -1}})
	h.want(err, store.ErrInvalid)
	accounts, err := h.s.ListAccounts(h.ctx, "", 10)
	h.must(err)
	if len(accounts) != 1 || !sameAccount(accounts[0], anna) {
		t.Errorf("accounts are %+v, want only %+v", accounts, anna)
	}
}

// TestAccountIDsAreNeverReused: not after removal of the latest, not after the store was opened again.
func TestAccountIDsAreNeverReused(t *testing.T, f Factory) {
	h := open(t, f)
	seen := map[store.AccountID]bool{}
	for range 4 {
		a := h.account("anna")
		if seen[a.ID] {
			t.Fatalf("account id %d was given twice", a.ID)
		}
		seen[a.ID] = true
		h.must(h.s.RemoveAccount(h.ctx, a.ID))
		_, err := h.s.Account(h.ctx, a.ID)
		h.want(err, store.ErrNotFound)
		h.want(h.s.RemoveAccount(h.ctx, a.ID), store.ErrNotFound)
		h.reopen()
	}
}

// TestListAccounts: pages in order of name, which is that of octets.
func TestListAccounts(t *testing.T, f Factory) {
	h := open(t, f)
	want := []string{"a", "a-b", "a.b", "b", "z", "ä"}
	for _, i := range []int{3, 0, 5, 1, 4, 2} {
		h.account(want[i])
	}
	h.alias("m", 1)
	var got []string
	for after := ""; ; {
		page, err := h.s.ListAccounts(h.ctx, after, 4)
		h.must(err)
		if len(page) == 0 {
			break
		}
		for _, a := range page {
			got = append(got, a.Name)
			after = a.Name
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("names %q, want %q", got, want)
	}
	page, err := h.s.ListAccounts(h.ctx, "a.b", 2) // a name that is there
	h.must(err)
	if len(page) != 2 || page[0].Name != "b" || page[1].Name != "z" {
		t.Errorf("page after a.b: %+v", page)
	}
	page, err = h.s.ListAccounts(h.ctx, "c", 2) // one that is not
	h.must(err)
	if len(page) != 2 || page[0].Name != "z" {
		t.Errorf("page after c: %+v", page)
	}
}

// TestUpdateAccount: a change needs the version that was read, and raises it.
func TestUpdateAccount(t *testing.T, f Factory) {
	h := open(t, f)
	anna := h.account("anna")
	changed := anna
	changed.DisplayName, changed.Quota, changed.SendAs = "Anna", store.Quota{Messages: 3}, []mailaddr.Address{address("x@y.example")}
	got, err := h.s.UpdateAccount(h.ctx, changed)
	h.must(err)
	if got.Version <= anna.Version {
		t.Errorf("version %d after %d", got.Version, anna.Version)
	}
	changed.Version = got.Version
	h.reopen()
	if stored, err := h.s.Account(h.ctx, anna.ID); err != nil || !sameAccount(stored, changed) || !sameAccount(got, changed) {
		t.Errorf("stored %+v (%v), returned %+v, want %+v", stored, err, got, changed)
	}
	anna.DisplayName = "too late"
	_, err = h.s.UpdateAccount(h.ctx, anna)
	h.want(err, store.ErrConflict)
	changed.Version++
	_, err = h.s.UpdateAccount(h.ctx, changed)
	h.want(err, store.ErrConflict)
	if stored, err := h.s.Account(h.ctx, anna.ID); err != nil || !sameAccount(stored, got) {
		t.Errorf("a refused change changed the account: %+v (%v)", stored, err)
	}
	_, err = h.s.UpdateAccount(h.ctx, store.Account{ID: anna.ID + 1, Name: "bob", Version: 1})
	h.want(err, store.ErrNotFound)
}

// TestRenameAccount: the name moves, the id, the maildrop and the aliases' leading there stay.
func TestRenameAccount(t *testing.T, f Factory) {
	h := open(t, f)
	anna, bob := h.account("anna"), h.account("bob")
	h.alias("sales", anna.ID)
	h.send(message("one"), to(anna))
	for _, taken := range []string{"bob", "sales"} {
		a := anna
		a.Name = taken
		_, err := h.s.UpdateAccount(h.ctx, a)
		h.want(err, store.ErrExists)
	}
	h.update(anna.ID, func(a *store.Account) { a.Name = "anne" })
	h.reopen()
	_, err := h.s.AccountByName(h.ctx, "anna")
	h.want(err, store.ErrNotFound)
	_, err = h.s.Resolve(h.ctx, address("anna@"+Domain))
	h.want(err, store.ErrNotFound)
	for _, name := range []string{"anne", "sales"} {
		h.wantRoute(name+"@"+Domain, store.Route{Local: []store.AccountID{anna.ID}})
	}
	h.wantBodies(anna.ID, message("one"))
	h.update(bob.ID, func(a *store.Account) { a.Name = "anna" }) // the name is free again
	h.wantRoute("anna@"+Domain, store.Route{Local: []store.AccountID{bob.ID}})
	h.wantBodies(bob.ID)
}

// TestCredentialVersion: it rises with the verifier and with suspension, with nothing else, and callers cannot set it.
func TestCredentialVersion(t *testing.T, f Factory) {
	h := open(t, f)
	id := h.account("anna").ID
	steps := []struct {
		name   string
		change func(*store.Account)
		rises  bool
	}{
		{"display name", func(a *store.Account) { a.DisplayName = "Anna" }, false},
		{"rename", func(a *store.Account) { a.Name = "anne" }, false},
		{"set by the caller", func(a *store.Account) { a.CredentialVersion += 50 }, false},
		{"verifier", func(a *store.Account) { a.Verifier = "$argon2id$new" }, true},
		{"suspend", func(a *store.Account) { a.Suspended = true }, true},
		{"resume", func(a *store.Account) { a.Suspended = false }, true},
		{"verifier again", func(a *store.Account) { a.Verifier = "$argon2id$newer" }, true},
	}
	before := uint64(1)
	for _, step := range steps {
		after := h.update(id, step.change).CredentialVersion
		h.reopen()
		stored, err := h.s.Account(h.ctx, id)
		h.must(err)
		if stored.CredentialVersion != after {
			t.Errorf("%s: stored %d, returned %d", step.name, stored.CredentialVersion, after)
		}
		if step.rises && after <= before || !step.rises && after != before {
			t.Errorf("%s: credential version %d after %d, want it to rise: %t", step.name, after, before, step.rises)
		}
		before = after
	}
}

// TestRemovedAndAddedAgain: a re-added name has another id and sees nothing of the old one.
func TestRemovedAndAddedAgain(t *testing.T, f Factory) {
	h := open(t, f)
	old, bob := h.account("anna"), h.account("bob")
	h.alias("sales", old.ID, bob.ID)
	h.send(message("one"), to(old), to(bob))
	h.send(message("two"), to(old))
	h.must(h.s.RemoveAccount(h.ctx, old.ID))
	anna := h.account("anna")
	for range 2 {
		if anna.ID == old.ID {
			t.Fatal("the id was given again")
		}
		h.wantBodies(anna.ID)
		h.wantUsage(anna.ID, 0, 0)
		h.wantBodies(bob.ID, message("one"))
		h.wantRoute("sales@"+Domain, store.Route{Local: []store.AccountID{bob.ID}})
		_, err := h.s.OpenMaildrop(h.ctx, old.ID)
		h.want(err, store.ErrNotFound)
		_, err = h.s.Usage(h.ctx, old.ID)
		h.want(err, store.ErrNotFound)
		h.reopen()
	}
	h.wantBodyCount(1)
}

// TestAliases: put, replace, list, remove.
func TestAliases(t *testing.T, f Factory) {
	h := open(t, f)
	anna, bob := h.account("anna"), h.account("bob")
	h.alias("sales", anna.ID)
	h.alias("sales", anna.ID, bob.ID) // replaces
	h.alias("info", bob.ID)
	h.alias(store.CatchAll, anna.ID)
	want := []store.Alias{
		{Name: store.CatchAll, Targets: []store.AccountID{anna.ID}},
		{Name: "info", Targets: []store.AccountID{bob.ID}},
		{Name: "sales", Targets: []store.AccountID{anna.ID, bob.ID}},
	}
	h.reopen()
	h.wantAliases(want...)
	page, err := h.s.ListAliases(h.ctx, "info", 1)
	h.must(err)
	if !reflect.DeepEqual(page, want[2:]) {
		t.Errorf("aliases after info: %+v, want %+v", page, want[2:])
	}
	page[0].Targets[0] = 99 // the caller's own
	h.wantAliases(want...)
	h.must(h.s.RemoveAlias(h.ctx, "info"))
	h.want(h.s.RemoveAlias(h.ctx, "info"), store.ErrNotFound)
	h.want(h.s.RemoveAlias(h.ctx, "anna"), store.ErrNotFound)
	h.reopen()
	h.wantAliases(want[0], want[2])
}

// TestAliasTargets: 1 to MaxAliasTargets that exist, each once, ascending; they go with their accounts.
func TestAliasTargets(t *testing.T, f Factory) {
	h := open(t, f)
	anna, bob := h.account("anna"), h.account("bob")
	unknown := bob.ID + 1
	tests := []struct {
		name    string
		targets []store.AccountID
		want    error
	}{
		{"empty", nil, store.ErrInvalid},
		{"twice", []store.AccountID{anna.ID, anna.ID}, store.ErrInvalid},
		{"descending", []store.AccountID{bob.ID, anna.ID}, store.ErrInvalid},
		{"unknown", []store.AccountID{anna.ID, unknown}, store.ErrNotFound},
		{"too many", make([]store.AccountID, store.MaxAliasTargets+1), store.ErrInvalid},
	}
	for _, test := range tests {
		if err := h.s.PutAlias(h.ctx, store.Alias{Name: "sales", Targets: test.targets}); !errors.Is(err, test.want) {
			t.Errorf("%s: error %v, want %v", test.name, err, test.want)
		}
	}
	h.wantAliases()
	h.alias("both", anna.ID, bob.ID)
	h.alias("bobs", bob.ID)
	h.must(h.s.RemoveAccount(h.ctx, bob.ID))
	h.reopen()
	h.wantAliases(store.Alias{Name: "both", Targets: []store.AccountID{anna.ID}})
	_, err := h.s.Resolve(h.ctx, address("bobs@"+Domain))
	h.want(err, store.ErrNotFound)
	h.account("bobs") // the name of the alias that lost its last target is free
}

func (h *harness) wantAliases(want ...store.Alias) {
	h.t.Helper()
	got, err := h.s.ListAliases(h.ctx, "", 100)
	h.must(err)
	if !slices.EqualFunc(got, want, func(a, b store.Alias) bool {
		return a.Name == b.Name && slices.Equal(a.Targets, b.Targets) && slices.Equal(a.Outside, b.Outside)
	}) {
		h.t.Errorf("aliases %+v, want %+v", got, want)
	}
}

func (h *harness) wantRoute(addr string, want store.Route) {
	h.t.Helper()
	got, err := h.s.Resolve(h.ctx, address(addr))
	if err != nil {
		h.t.Errorf("Resolve(%s): %v", addr, err)
		return
	}
	if !slices.Equal(got.Local, want.Local) || !slices.Equal(got.Remote, want.Remote) || got.CatchAll != want.CatchAll ||
		!slices.Equal(got.Forwards, want.Forwards) || !slices.Equal(got.Away, want.Away) {
		h.t.Errorf("Resolve(%s) = %+v, want %+v", addr, got, want)
	}
}

// TestAway: who has vacation answers on is part of the route of each name that leads to him, at once after a change.
func TestAway(t *testing.T, f Factory) {
	h := open(t, f)
	anna, bob := h.account("anna"), h.account("bob")
	h.must(h.s.PutAlias(h.ctx, store.Alias{Name: "team", Targets: []store.AccountID{anna.ID, bob.ID}}))
	both := []store.AccountID{anna.ID, bob.ID}
	h.wantRoute("team@"+Domain, store.Route{Local: both})
	v := store.Vacation{On: true, Text: "away"}
	h.update(bob.ID, func(a *store.Account) { a.Vacation = v })
	for range 2 {
		h.wantRoute("team@"+Domain, store.Route{Local: both, Away: []store.AccountID{bob.ID}})
		h.wantRoute("Bob+x@"+Domain, store.Route{Local: []store.AccountID{bob.ID}, Away: []store.AccountID{bob.ID}})
		h.wantRoute("anna@"+Domain, store.Route{Local: []store.AccountID{anna.ID}})
		h.reopen()
	}
	r, err := h.s.Resolve(h.ctx, address("team@"+Domain))
	h.must(err)
	r.Away[0] = 0 // the caller's own
	h.update(anna.ID, func(a *store.Account) { a.Vacation = v })
	h.wantRoute("team@"+Domain, store.Route{Local: both, Away: both})
	for _, id := range both {
		h.update(id, func(a *store.Account) { a.Vacation.On = false })
	}
	h.wantRoute("team@"+Domain, store.Route{Local: both})
}

// TestExpireDaysInUse: each value once, in order, at once after a change and after a start.
func TestExpireDaysInUse(t *testing.T, f Factory) {
	h := open(t, f)
	want := func(days ...int) {
		t.Helper()
		for range 2 {
			got, err := h.s.ExpireDaysInUse(h.ctx)
			h.must(err)
			if !slices.Equal(got, days) {
				t.Errorf("in use %v, want %v", got, days)
			}
			if len(got) > 0 {
				got[0] = 4711 // the caller's own
			}
		}
	}
	want()
	anna, bob := h.account("anna"), h.account("bob")
	want()
	set := func(id store.AccountID, days int) { h.update(id, func(a *store.Account) { a.ExpireDays = days }) }
	set(anna.ID, 30)
	want(30)
	set(bob.ID, store.ExpireNever)
	h.reopen()
	want(store.ExpireNever, 30)
	carl, err := h.s.AddAccount(h.ctx, store.Account{Name: "carl", ExpireDays: store.MaxExpireDays})
	h.must(err)
	dora, err := h.s.AddAccount(h.ctx, store.Account{Name: "dora", ExpireDays: 30})
	h.must(err)
	want(store.ExpireNever, 30, store.MaxExpireDays)
	h.must(h.s.RemoveAccount(h.ctx, carl.ID))
	want(store.ExpireNever, 30)
	set(anna.ID, 0)
	want(store.ExpireNever, 30)
	set(dora.ID, 1)
	want(store.ExpireNever, 1)
	for _, days := range []int{store.ExpireNever - 1, store.MaxExpireDays + 1} {
		dora.ExpireDays = days
		_, err := h.s.UpdateAccount(h.ctx, dora)
		h.want(err, store.ErrInvalid)
	}
}

// TestForwards: where a mailbox's mail is sent on to is part of the route of each name that leads to it, at once after a change, each address once.
func TestForwards(t *testing.T, f Factory) {
	h := open(t, f)
	anna, bob := h.account("anna"), h.account("bob")
	h.alias("both", anna.ID, bob.ID)
	x, y, z := address("x@other.example"), address("y@other.example"), address("z@other.example")
	by := func(a store.Account, to mailaddr.Address, keep bool) store.Forwarding {
		return store.Forwarding{To: to, By: address(a.Name + "@" + Domain), Account: a.ID, Keep: keep}
	}
	h.wantRoute("anna@"+Domain, store.Route{Local: []store.AccountID{anna.ID}})
	h.update(anna.ID, func(a *store.Account) { a.Forward = store.Forward{To: []mailaddr.Address{y, x}} })
	h.update(bob.ID, func(a *store.Account) { a.Forward = store.Forward{To: []mailaddr.Address{x, z}, Keep: true} })
	for range 2 {
		for range 2 { // from memory too
			h.wantRoute("anna@"+Domain, store.Route{Local: []store.AccountID{anna.ID}, Forwards: []store.Forwarding{by(anna, y, false), by(anna, x, false)}})
			h.wantRoute("Anna+tag@"+Domain, store.Route{Local: []store.AccountID{anna.ID}, Forwards: []store.Forwarding{by(anna, y, false), by(anna, x, false)}})
			h.wantRoute("both@"+Domain, store.Route{
				Local: []store.AccountID{anna.ID, bob.ID}, Forwards: []store.Forwarding{by(anna, y, false), by(anna, x, false), by(bob, z, true)},
			})
		}
		h.reopen()
	}
	r, err := h.s.Resolve(h.ctx, address("anna@"+Domain))
	h.must(err)
	r.Forwards[0] = store.Forwarding{} // the caller's own
	h.update(anna.ID, func(a *store.Account) { a.Forward = store.Forward{To: []mailaddr.Address{y}, Keep: true} })
	h.wantRoute("anna@"+Domain, store.Route{Local: []store.AccountID{anna.ID}, Forwards: []store.Forwarding{by(anna, y, true)}})
	h.update(anna.ID, func(a *store.Account) { a.Forward = store.Forward{} })
	h.wantRoute("anna@"+Domain, store.Route{Local: []store.AccountID{anna.ID}})
	h.must(h.s.RemoveAccount(h.ctx, bob.ID))
	h.wantRoute("both@"+Domain, store.Route{Local: []store.AccountID{anna.ID}})
}

// TestAliasOutside: an alias may lead outside, beside mailboxes or only there; postmaster and abuse stay somebody's here.
func TestAliasOutside(t *testing.T, f Factory) {
	h := open(t, f)
	anna := h.account("anna")
	x := address("x@other.example")
	mixed := store.Alias{Name: "mixed", Targets: []store.AccountID{anna.ID}, Outside: []mailaddr.Address{x}}
	away := store.Alias{Name: "away", Outside: []mailaddr.Address{address("y@other.example"), x}}
	h.must(h.s.PutAlias(h.ctx, mixed))
	h.must(h.s.PutAlias(h.ctx, away))
	h.want(h.s.PutAlias(h.ctx, store.Alias{Name: "anna", Outside: []mailaddr.Address{x}}), store.ErrExists)
	by := address("mixed@" + Domain)
	for range 2 {
		h.wantAliases(away, mixed)
		h.wantRoute("mixed@"+Domain, store.Route{Local: []store.AccountID{anna.ID}, Forwards: []store.Forwarding{{To: x, By: by}}})
		h.wantRoute("away@"+Domain, store.Route{Forwards: []store.Forwarding{
			{To: away.Outside[0], By: address("away@" + Domain)}, {To: x, By: address("away@" + Domain)},
		}})
		h.reopen()
	}
	_, err := h.s.AddAccount(h.ctx, store.Account{Name: "away"})
	h.want(err, store.ErrExists)
	h.must(h.s.RemoveAccount(h.ctx, anna.ID))
	h.wantRoute("mixed@"+Domain, store.Route{Forwards: []store.Forwarding{{To: x, By: by}}})
	bob := h.account("bob")
	h.alias("abuse", bob.ID)
	h.want(h.s.PutAlias(h.ctx, store.Alias{Name: "abuse", Outside: []mailaddr.Address{x}}), store.ErrReserved)
	h.must(h.s.PutAlias(h.ctx, store.Alias{Name: "abuse", Targets: []store.AccountID{bob.ID}, Outside: []mailaddr.Address{x}}))
	h.must(h.s.RemoveAlias(h.ctx, "away"))
	_, err = h.s.Resolve(h.ctx, address("away@"+Domain))
	h.want(err, store.ErrNotFound)
	h.must(h.s.PutAlias(h.ctx, store.Alias{Name: store.CatchAll, Outside: []mailaddr.Address{x}}))
	h.wantRoute("nobody@"+Domain, store.Route{CatchAll: true, Forwards: []store.Forwarding{{To: x, By: address("*@" + Domain)}}})
}

// TestResolve: exact name, name before the first "+", nobody, another domain.
func TestResolve(t *testing.T, f Factory) {
	h := open(t, f)
	anna, bob, lists := h.account("anna"), h.account("bob"), h.account("anna+lists")
	umlaut := h.account("jürgen")
	h.update(bob.ID, func(a *store.Account) { a.Suspended = true })
	h.alias("sales", anna.ID, bob.ID)
	local := func(ids ...store.AccountID) store.Route { return store.Route{Local: ids} }
	for addr, want := range map[string]store.Route{
		"anna@" + Domain:                local(anna.ID),
		"ANNA@Example.ORG.":             local(anna.ID),
		"bob@" + Domain:                 local(bob.ID), // suspended ones included
		"sales@" + Domain:               local(anna.ID, bob.ID),
		"anna+lists@" + Domain:          local(lists.ID),
		"anna+lists+go@" + Domain:       local(anna.ID), // the first "+" separates
		"Anna+Shop@" + Domain:           local(anna.ID),
		"anna+@" + Domain:               local(anna.ID),
		"sales+x@" + Domain:             local(anna.ID, bob.ID),
		"\"anna\"@" + Domain:            local(anna.ID), // RFC 5321 §4.1.2: the quotes are no part of the name
		"J\u00dcrgen@" + Domain:         local(umlaut.ID),
		"ju\u0308rgen+x@" + Domain:      local(umlaut.ID), // decomposed
		"anna@elsewhere.example":        {Remote: []mailaddr.Address{address("anna@elsewhere.example")}},
		"Anna+x@sub." + Domain:          {Remote: []mailaddr.Address{address("Anna+x@sub." + Domain)}},
		"anna@[192.0.2.1]":              {Remote: []mailaddr.Address{address("anna@[192.0.2.1]")}},
		"\"odd one\"@ELSEWHERE.example": {Remote: []mailaddr.Address{address("\"odd one\"@elsewhere.example")}},
	} {
		h.wantRoute(addr, want)
	}
	for _, addr := range []string{"nobody@" + Domain, "nobody+anna@" + Domain, "+anna@" + Domain, "*@" + Domain, "\"an na\"@" + Domain, "postmaster@" + Domain} {
		if r, err := h.s.Resolve(h.ctx, address(addr)); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("Resolve(%s) = %+v, %v, want %v", addr, r, err, store.ErrNotFound)
		}
	}
	r, err := h.s.Resolve(h.ctx, address("sales@"+Domain))
	h.must(err)
	r.Local[0] = 99 // the caller's own
	h.wantRoute("sales@"+Domain, local(anna.ID, bob.ID))
}

// TestResolveCatchAll: it takes what nothing else takes, and says so.
func TestResolveCatchAll(t *testing.T, f Factory) {
	h := open(t, f)
	anna, bob := h.account("anna"), h.account("bob")
	h.alias(store.CatchAll, bob.ID)
	caught := store.Route{Local: []store.AccountID{bob.ID}, CatchAll: true}
	for _, local := range []string{"nobody", "nobody+x", "+x", "*", "*+x", "\"an na\"", "postmaster"} {
		h.wantRoute(local+"@"+Domain, caught)
	}
	h.wantRoute("bob@"+Domain, store.Route{Local: []store.AccountID{bob.ID}})
	h.wantRoute("anna+x@"+Domain, store.Route{Local: []store.AccountID{anna.ID}})
	h.wantRoute("nobody@elsewhere.example", store.Route{Remote: []mailaddr.Address{address("nobody@elsewhere.example")}})
	h.alias("postmaster", anna.ID) // or the catch-all could not go
	h.alias("abuse", anna.ID)
	h.must(h.s.RemoveAccount(h.ctx, bob.ID))
	_, err := h.s.Resolve(h.ctx, address("nobody@"+Domain))
	h.want(err, store.ErrNotFound)
}

// TestLentTo: every account that has the address, as its SendAs says now; in our own domain the mailbox counts and not the spelling.
func TestLentTo(t *testing.T, f Factory) {
	h := open(t, f)
	anna, bob, carl := h.account("anna"), h.account("bob"), h.account("carl")
	lend := func(a store.Account, addrs ...string) {
		t.Helper()
		h.update(a.ID, func(a *store.Account) {
			a.SendAs = nil
			for _, addr := range addrs {
				a.SendAs = append(a.SendAs, address(addr))
			}
		})
	}
	want := func(addr string, want ...store.AccountID) {
		t.Helper()
		got, err := h.s.LentTo(h.ctx, address(addr))
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("LentTo(%s) = %v, %v, want %v", addr, got, err, want)
		}
	}
	press := "press@partner.example"
	want(press)
	lend(carl, press, "\"an na\"@"+Domain)
	lend(anna, press, "Ju\u0308rgen@"+Domain, "J\u00dcRGEN@"+Domain)
	want(press, anna.ID, carl.ID)
	want("press@PARTNER.example", anna.ID, carl.ID)
	want("jürgen@"+Domain, anna.ID)
	want("\"an na\"@"+Domain, carl.ID)
	for _, other := range []string{
		"Press@partner.example", "press@partner.example.org", "pres@partner.example", "jürgen+x@" + Domain, "jürgen@partner.example",
		"anna@" + Domain, "\"AN na\"@" + Domain,
	} {
		want(other)
	}
	h.reopen()
	want(press, anna.ID, carl.ID)
	lend(anna, "jürgen@"+Domain)
	lend(bob, press)
	want(press, bob.ID, carl.ID)
	want("jürgen@"+Domain, anna.ID)
	lend(anna)
	want("jürgen@" + Domain)
	h.must(h.s.RemoveAccount(h.ctx, carl.ID))
	want(press, bob.ID)
	dora, err := h.s.AddAccount(h.ctx, store.Account{Name: "carl", SendAs: []mailaddr.Address{address(press)}})
	h.must(err)
	h.reopen()
	want(press, bob.ID, dora.ID)
}

// TestReservedNames: postmaster and abuse, once they lead to a mailbox, cannot be made to lead nowhere (RFC 2142 §5).
func TestReservedNames(t *testing.T, f Factory) {
	for name, other := range map[string]string{"postmaster": "abuse", "abuse": "postmaster"} {
		h := open(t, f)
		h.account(other) // is no part of it
		anna, bob := h.account("anna"), h.account("bob")
		h.alias(name, anna.ID)
		h.want(h.s.RemoveAlias(h.ctx, name), store.ErrReserved)
		h.want(h.s.RemoveAccount(h.ctx, anna.ID), store.ErrReserved)
		h.wantRoute(name+"@"+Domain, store.Route{Local: []store.AccountID{anna.ID}})
		h.alias(name, anna.ID, bob.ID)
		h.must(h.s.RemoveAccount(h.ctx, anna.ID)) // bob is left
		h.want(h.s.RemoveAccount(h.ctx, bob.ID), store.ErrReserved)

		carl := h.account("carl")
		h.alias(store.CatchAll, carl.ID) // now the name may go: the catch-all takes its mail
		h.must(h.s.RemoveAccount(h.ctx, bob.ID))
		h.wantRoute(name+"@"+Domain, store.Route{Local: []store.AccountID{carl.ID}, CatchAll: true})
		h.want(h.s.RemoveAlias(h.ctx, store.CatchAll), store.ErrReserved)
		h.want(h.s.RemoveAccount(h.ctx, carl.ID), store.ErrReserved)

		own := h.account(name)
		h.must(h.s.RemoveAlias(h.ctx, store.CatchAll))
		h.want(h.s.RemoveAccount(h.ctx, own.ID), store.ErrReserved)
		own.Name = "other"
		_, err := h.s.UpdateAccount(h.ctx, own)
		h.want(err, store.ErrReserved)
		h.reopen()
		h.wantRoute(name+"@"+Domain, store.Route{Local: []store.AccountID{own.ID}})
		h.update(own.ID, func(a *store.Account) { a.Suspended = true }) // a suspended mailbox is one
	}
}

// TestReservedNamesOnWhatLedNowhere: a change that has no part in it is not refused.
func TestReservedNamesOnWhatLedNowhere(t *testing.T, f Factory) {
	h := open(t, f)
	anna := h.account("anna")
	h.alias("sales", anna.ID)
	h.update(anna.ID, func(a *store.Account) { a.Name = "anne" })
	h.must(h.s.RemoveAlias(h.ctx, "sales"))
	h.must(h.s.RemoveAccount(h.ctx, anna.ID))
}
