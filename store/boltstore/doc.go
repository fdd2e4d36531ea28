// Package boltstore is the embedded engine of a virtual domain: an append-only journal that is durable with one sync for all that arrives
// together, and a bbolt database that follows as its index.
//
// It owns one data directory (its format is docs/format.md) and the promise that what a verb acknowledged survives a power cut
// (docs/durability.md says what each crash leaves). It does not own the words and rules of the data model: those are package store; nor the
// segments and frames of the journal: those are package journal.
//
// How it works, in the order of the files:
//
//   - draft.go and body.go keep octets that are being received, and large bodies: one file each, named by a random token.
//   - record.go is what the journal's records mean, and apply.go what they do to the index.
//   - committer.go is the only writer of the journal. It takes everything that waits, decides (spool.go, quota.go, boxes.go), writes one group
//     and wakes the waiters after its sync; nothing is visible to readers before. pipeline.go says when: the next group is made ready while one
//     is written.
//   - tail.go is what is durable and not yet in the index. Readers lay it over the index (snapshot.go, which also says how an open maildrop
//     is listed late), or wait for the index (settle).
//   - indexer.go is the only writer of the index: records in large transactions, and the changes of what is in the index only.
//   - schema.go, codec.go and txn.go are the index: what is in which bucket, and typed access to it.
//   - space.go, move.go, compact.go and sweep.go give space back, once no open maildrop can still read what lies there.
//   - failure.go says what an error of the file system (package vfs) means for the store.
//   - archive.go, restore.go, check.go and repair.go look at all of it: backups, damage, repair.
//   - the other files are the verbs of store.Store, by interface.
//
// Relevant RFCs: 1939 §7 (unique-ids), 5321 §4.1.1.4 (responsibility for a message).
package boltstore
