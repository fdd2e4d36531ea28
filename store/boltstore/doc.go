// Package boltstore is the embedded engine of a virtual domain: message bodies are files, and a bbolt database is their index.
//
// It owns one data directory (its format is docs/format.md) and the promise that what a verb acknowledged survives a power cut
// (docs/durability.md says what each crash leaves). It does not own the words and rules of the data model: those are package store.
//
// How it works, in the order of the files:
//
//   - failure.go says what an error of the file system (package vfs) means for the store.
//   - body.go and draft.go keep octets: a body is written, checksummed and synced once, and named by a random token.
//   - schema.go, codec.go and txn.go are the index: what is in which bucket, and typed access to it.
//   - committer.go is the only writer. It takes everything that waits, applies it in one bbolt transaction and wakes the waiters
//     after that transaction is durable; nothing is visible to readers before.
//   - sweep.go frees what deleted messages leave behind, once no open maildrop can still read it.
//   - the other files are the verbs of store.Store, by interface.
//
// Relevant RFCs: 1939 §7 (unique-ids), 5321 §4.1.1.4 (responsibility for a message).
package boltstore
