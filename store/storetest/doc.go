// Package storetest is the conformance suite of the engines of package store: what its comments promise, as tests.
//
// It owns the tests that every engine must pass, among them one that plays random verbs against a simple model, and one that lets the power
// go under the hands of several clients and holds the store to every promise that they were given. It knows nothing of how an engine keeps
// its data, and does not test what only one engine has (files, failing operations, damage).
//
// An engine's package runs it with a [Factory]:
//
//	func TestConformance(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) storetest.Engine { return &engine{dir: t.TempDir()} })
//	}
//
// and, with an engine that is a [PowerEngine],
//
//	func TestPowerFailure(t *testing.T) { storetest.RunPowerFailure(t, newPowerEngine) }
//
//	func FuzzPowerFailure(f *testing.F) { storetest.FuzzPowerFailure(f, newPowerEngine) }
//
// Relevant RFCs: 1939 (maildrops, unique-ids), 2142 (postmaster, abuse), 5321 (envelopes).
package storetest
