// Package storetest is the conformance suite of the engines of package store: what its comments promise, as tests.
//
// It owns the tests that every engine must pass, among them one that plays random verbs against a simple model. It knows nothing of
// how an engine keeps its data, and does not test what only one engine has (files, crashes, damage).
//
// An engine's package runs it with a [Factory]:
//
//	func TestConformance(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) storetest.Engine { return &engine{dir: t.TempDir()} })
//	}
//
// Relevant RFCs: 1939 (maildrops, unique-ids), 2142 (postmaster, abuse), 5321 (envelopes).
package storetest
