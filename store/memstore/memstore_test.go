package memstore

import (
	"testing"

	"latchkey/store"
	"latchkey/store/storetest"
)

// TestConformance runs the suite on a store with smaller bounds, which take less time to reach.
func TestConformance(t *testing.T) {
	storetest.Run(t, func(*testing.T) storetest.Engine {
		s := New(storetest.Domain)
		s.d.bounds = bounds{counters: 300, grants: 60, accountGrants: 20, webSessions: 300, auditEntries: 300, statNames: 30, trailEvents: 25_000, reservations: 40}
		return &engine{s: s}
	})
}

type engine struct{ s *Store }

func (e *engine) Open(*testing.T) store.Store { return e.s }

func (e *engine) Reopen(*testing.T) store.Store {
	e.s = e.s.Reopen()
	return e.s
}

func (e *engine) Bodies(*testing.T) int {
	e.s.d.mu.Lock()
	defer e.s.d.mu.Unlock()
	return len(e.s.d.bodies) + e.s.d.drafts
}

func (e *engine) Bounds() storetest.Bounds {
	b := e.s.d.bounds
	return storetest.Bounds{
		Counters: b.counters, Grants: b.grants, AccountGrants: b.accountGrants, WebSessions: b.webSessions, AuditEntries: b.auditEntries,
		StatNames: b.statNames, TrailEvents: b.trailEvents, Reservations: b.reservations,
	}
}

// TestBounds: outside of tests they are the contract's.
func TestBounds(t *testing.T) {
	want := bounds{
		counters: store.MaxCounters, grants: store.MaxGrants, accountGrants: store.MaxAccountGrants, webSessions: store.MaxWebSessions,
		auditEntries: store.MaxAuditEntries, statNames: store.MaxStatNames, trailEvents: store.MaxTrailEvents,
		reservations: store.MaxReservations,
	}
	if got := New(storetest.Domain).d.bounds; got != want {
		t.Errorf("bounds %+v, want %+v", got, want)
	}
}

// TestCheckFinds: a store that does not hold together is not reported sound.
func TestCheckFinds(t *testing.T) {
	for name, breakIt := range map[string]func(d *data, a *account, c *copied){
		"usage":         func(_ *data, a *account, _ *copied) { a.usage.Octets++ },
		"domain usage":  func(d *data, _ *account, _ *copied) { d.usage.Messages++ },
		"missing body":  func(d *data, _ *account, c *copied) { delete(d.bodies, c.Of) },
		"octet changed": func(_ *data, _ *account, c *copied) { c.body.octets[0] ^= 1 },
		"octet lost":    func(_ *data, _ *account, c *copied) { c.body.octets = c.body.octets[1:] },
		"body kept":     func(_ *data, _ *account, c *copied) { c.body.refs++ },
		"copy twice":    func(_ *data, a *account, c *copied) { a.copies = append(a.copies, c) },
		"name":          func(d *data, a *account, _ *copied) { d.names["other"] = a.ID },
		"alias target": func(d *data, a *account, _ *copied) {
			d.aliases["sales"] = store.Alias{Name: "sales", Targets: []store.AccountID{a.ID + 1}}
		},
		"empty alias": func(d *data, _ *account, _ *copied) { d.aliases["sales"] = store.Alias{Name: "sales"} },
		"grant owner": func(d *data, a *account, _ *copied) {
			d.lastGrant = 1
			d.grants[1] = &store.Grant{ID: 1, Account: a.ID + 1}
		},
		"grant budget": func(d *data, a *account, _ *copied) {
			d.lastGrant = 1
			d.grants[1] = &store.Grant{ID: 1, Account: a.ID, Left: 1}
		},
		"grant id": func(d *data, a *account, _ *copied) { d.grants[1] = &store.Grant{ID: 1, Account: a.ID} },
		"alias name": func(d *data, a *account, _ *copied) {
			d.aliases[a.Name] = store.Alias{Name: a.Name, Targets: []store.AccountID{a.ID}}
		},
	} {
		s := New(storetest.Domain)
		a, err := s.AddAccount(t.Context(), store.Account{Name: "anna"})
		if err != nil {
			t.Fatal(err)
		}
		draft, err := s.NewDraft(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := draft.Write([]byte("hello\r\n")); err != nil {
			t.Fatal(err)
		}
		if _, err := draft.Commit(t.Context(), store.Envelope{Recipients: []store.Recipient{{Account: a.ID}}}); err != nil {
			t.Fatal(err)
		}
		if problems, err := s.Check(t.Context()); err != nil || len(problems) != 0 {
			t.Fatalf("sound store: %v, %v", problems, err)
		}
		breakIt(s.d, s.d.accounts[a.ID], s.d.accounts[a.ID].copies[0])
		if problems, err := s.Check(t.Context()); err != nil || len(problems) == 0 {
			t.Errorf("%s: Check found %v (%v), want a problem", name, problems, err)
		}
	}
}
