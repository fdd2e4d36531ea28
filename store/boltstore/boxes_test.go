package boltstore

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// TestRoutesFollowNames: an address that mail was for lately leads elsewhere, or nowhere, as soon as the change has returned.
func TestRoutesFollowNames(t *testing.T) {
	s, _ := fresh(t, Options{})
	ctx := t.Context()
	where := func(local string) []store.AccountID {
		t.Helper()
		address, err := mailaddr.New(local, domain)
		noError(t, err)
		route, err := s.Resolve(ctx, address)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			t.Fatal(err)
		}
		return route.Local
	}
	leads := func(local string, want ...store.AccountID) {
		t.Helper()
		for range 2 { // read, and remembered
			if got := where(local); !slices.Equal(got, want) {
				t.Errorf("%s leads to %v, want %v", local, got, want)
			}
		}
		if got := where(local); len(got) > 0 {
			got[0] = 99 // the caller's own
		}
	}
	leads("dora")
	a, err := s.AddAccount(ctx, store.Account{Name: "dora"})
	noError(t, err)
	leads("dora", a.ID)
	leads("dora+tag", a.ID)
	leads("eva")
	noError(t, s.PutAlias(ctx, store.Alias{Name: "eva", Targets: []store.AccountID{1, a.ID}}))
	leads("eva", 1, a.ID)
	noError(t, s.PutAlias(ctx, store.Alias{Name: "eva", Targets: []store.AccountID{1}}))
	leads("eva", 1)
	a.Name = "flora"
	_, err = s.UpdateAccount(ctx, a)
	noError(t, err)
	leads("dora")
	leads("dora+tag")
	leads("flora", a.ID)
	noError(t, s.RemoveAccount(ctx, a.ID))
	leads("flora")
}

// TestRoutesAreBounded, and so are boxes: at the bound they begin anew. What was read before a change is not kept after it.
func TestRoutesAreBounded(t *testing.T) {
	z := routes{byLocal: make(map[string]store.Route)}
	for i := range maxRoutes {
		z.keep(fmt.Sprint(i), store.Route{Local: []store.AccountID{1}}, 0)
	}
	if n := len(z.byLocal); n != maxRoutes {
		t.Errorf("%d routes, want %d", n, maxRoutes)
	}
	if z.keep("one more", store.Route{}, 0); len(z.byLocal) != 1 {
		t.Errorf("%d routes beyond the bound, want 1", len(z.byLocal))
	}
	_, ok, since := z.find("one more")
	z.forget()
	z.keep("late", store.Route{}, since)
	if _, still, _ := z.find("one more"); !ok || still || len(z.byLocal) != 0 {
		t.Errorf("found %t before and %t after a change, %d kept", ok, still, len(z.byLocal))
	}
	b := boxes{byID: make(map[store.AccountID]*box)}
	for i := range maxBoxes {
		b.keep(store.AccountID(i), &box{}, 0)
	}
	if n := len(b.byID); n != maxBoxes {
		t.Errorf("%d boxes, want %d", n, maxBoxes)
	}
	if b.keep(maxBoxes, &box{}, 0); len(b.byID) != 1 {
		t.Errorf("%d boxes beyond the bound, want 1", len(b.byID))
	}
	before, since := b.find(maxBoxes)
	b.forget()
	b.keep(1, &box{}, since)
	if after, _ := b.find(maxBoxes); before == nil || after != nil || len(b.byID) != 0 {
		t.Errorf("%d boxes after a change", len(b.byID))
	}
}
