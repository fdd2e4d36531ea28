package memstore

import (
	"testing"

	"latchkey/store"
	"latchkey/store/storetest"
)

// TestPowerFailure plays the histories of power failures on memory, whose power goes only while nothing is under way: the store is the
// model, and the suite must not ask for more than it holds.
func TestPowerFailure(t *testing.T) {
	storetest.RunPowerFailure(t, func(*testing.T) storetest.PowerEngine { return &engine{s: New(storetest.Domain)} })
}

func (e *engine) PowerOn(t *testing.T, _ storetest.End) (store.Store, error) { return e.Reopen(t), nil }

func (e *engine) Dead() bool { return false }

func (e *engine) PowerOff(*testing.T) storetest.Life { return storetest.Life{Last: "rest"} }

func (e *engine) Look(t *testing.T) store.Store { return e.Reopen(t) }
