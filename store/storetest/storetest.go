package storetest

import (
	"context"
	"testing"

	"latchkey/store"
)

// Domain is the domain of every store that a [Factory] makes; its other settings are store.DefaultSettings.
const Domain = "example.org"

// Factory makes an engine on fresh, empty data. It is called once or more in each test.
type Factory func(t *testing.T) Engine

// Engine opens one store. Whatever fails ends the test.
type Engine interface {
	// Open opens the store on the fresh data. It is called once, first.
	Open(t *testing.T) store.Store
	// Reopen closes the store that was opened last and opens its data again.
	Reopen(t *testing.T) store.Store
}

// BodyCounter is an Engine that can tell how many message bodies it keeps, drafts included. Space that may be freed a little later
// is freed before Bodies answers.
type BodyCounter interface {
	Engine
	Bodies(t *testing.T) int
}

// BoundedEngine is an Engine whose store has smaller bounds than the contract's, so that reaching them takes less time.
type BoundedEngine interface {
	Engine
	Bounds() Bounds
}

// Bounds are bounds of an engine that the suite reaches. A zero field is the contract's constant.
type Bounds struct {
	Counters      int // store.MaxCounters
	Grants        int // store.MaxGrants
	AccountGrants int // store.MaxAccountGrants
	WebSessions   int // store.MaxWebSessions
	AuditEntries  int // store.MaxAuditEntries
	StatNames     int // store.MaxStatNames
	TrailEvents   int // store.MaxTrailEvents
	Reservations  int // store.MaxReservations
}

// Run runs the whole suite.
func Run(t *testing.T, f Factory) {
	for _, group := range [][]test{
		accountTests, sealedTests, inventoryTests, deviceTests, habitTests, suppressionTests, spoolTests, maildropTests, listingTests, fetchedTests, quotaTests,
		queueTests, heldTests, destinationTests, grantTests, recordTests, trailTests, giveUpTests, lifeTests,
	} {
		for _, test := range group {
			t.Run(test.name, func(t *testing.T) { test.run(t, f) })
		}
	}
}

type test struct {
	name string
	run  func(t *testing.T, f Factory)
}

// open opens a store of the factory's; at the end of the test it must be sound.
func open(t *testing.T, f Factory) *harness {
	t.Helper()
	h := newHarness(t, f(t))
	t.Cleanup(func() {
		if !h.closed {
			h.checkAndClose()
		}
	})
	return h
}

// checkAndClose is the end of every test store.
func (h *harness) checkAndClose() {
	h.t.Helper()
	h.closed = true
	ctx := context.WithoutCancel(h.ctx)
	problems, err := h.s.Check(ctx)
	if err != nil {
		h.t.Errorf("Check: %v", err)
	}
	for _, p := range problems {
		h.t.Errorf("Check found: %s: %s: %s", p.Kind, p.Object, p.Detail)
	}
	if err := h.s.Close(); err != nil {
		h.t.Errorf("Close: %v", err)
	}
}
