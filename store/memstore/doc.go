// Package memstore keeps a store.Store in memory: for tests of other rooms, and to keep the contract honest by being a second engine.
//
// It owns nothing on disk, so nothing outlives the process. [Store.Reopen] plays the close and open of a real engine. Bodies are held
// whole, one for all recipients; one lock orders everything. The suite of store/storetest holds for it like for any engine.
//
// Relevant RFCs: those of package store.
package memstore
