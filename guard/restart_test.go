package guard

import (
	"testing"

	"latchkey/store"
	"latchkey/store/boltstore"
	"latchkey/store/memstore"
)

// engine is a store that can be stopped and started again.
type engine interface {
	store.Accounts
	store.SettingsStore
	store.Grants
	Close() error
}

// onDisk makes a store and returns what opens it.
func onDisk(d *domain) func() engine {
	d.t.Helper()
	dir, o := d.t.TempDir(), boltstore.Options{Now: d.now}
	if err := boltstore.Init(d.t.Context(), dir, store.DefaultSettings("example.com"), o); err != nil {
		d.t.Fatal(err)
	}
	return func() engine {
		s, err := boltstore.Open(d.t.Context(), dir, o)
		if err != nil {
			d.t.Fatal(err)
		}
		return s
	}
}

// TestGrantsSurviveRestart: what is live stays so with what it has left, what was guessed at stays ended, and time goes on meanwhile.
func TestGrantsSurviveRestart(t *testing.T) {
	d := newDomain(t) // for its clock: what is older than a month is forgotten
	memory, open := memstore.New("example.com"), onDisk(d)
	for name, tt := range map[string]struct {
		first  engine
		reopen func() engine
	}{
		"boltstore": {open(), open},
		"memstore":  {memory, func() engine { return memory.Reopen() }},
	} {
		t.Run(name, func(t *testing.T) {
			d.at(0)
			over := func(e engine) *Grants {
				return NewGrants(GrantOptions{Grants: e, Accounts: e, Settings: e, Hosts: testHosts(d.now), Now: d.now})
			}
			g := over(tt.first)
			alice, err := tt.first.AddAccount(t.Context(), store.Account{Name: "alice", Verifier: "$argon2id$"})
			if err != nil {
				t.Fatal(err)
			}
			at, lost := Place{Remote: home}, Place{Remote: cafe}
			g.LoggedIn(t.Context(), at, alice.ID, "alice", 1, 0)
			g.LoggedIn(t.Context(), lost, alice.ID, "alice", 1, 0)
			for range GuessBurst {
				g.Guessed(t.Context(), cafe, "alice")
			}
			before, err := g.Live(t.Context(), at, everybody())
			if err != nil || len(before) != 1 {
				t.Fatalf("before: %v (%v)", before, err)
			}
			if ok, err := g.Spend(t.Context(), before[0].ID, 20); !ok || err != nil {
				t.Fatalf("spend: %v (%v)", ok, err)
			}
			if err := tt.first.Close(); err != nil {
				t.Fatal(err)
			}
			again := tt.reopen()
			defer func() {
				if err := again.Close(); err != nil {
					t.Error(err)
				}
			}()
			g = over(again)
			d.at(GrantWindow - 1)
			after, err := g.Live(t.Context(), at, everybody())
			if err != nil || len(after) != 1 || after[0].ID != before[0].ID || after[0].Left != GrantRecipients-20 {
				t.Errorf("after: %v (%v)", after, err)
			}
			if ok, err := g.Current(t.Context(), at, before[0]); !ok || err != nil {
				t.Errorf("not current: %v (%v)", ok, err)
			}
			if after, err := g.Live(t.Context(), lost, everybody()); len(after) != 0 || err != nil {
				t.Errorf("what was revoked lives again: %v (%v)", after, err)
			}
			if why, err := g.Why(t.Context(), lost, alice.ID); why.Kind != NoGrantRevoked || why.Cause != string(store.GrantGuessed) || err != nil {
				t.Errorf("why: %+v (%v)", why, err)
			}
			d.at(GrantWindow)
			if after, err := g.Live(t.Context(), at, everybody()); len(after) != 0 || err != nil {
				t.Errorf("live past its window: %v (%v)", after, err)
			}
		})
	}
}
