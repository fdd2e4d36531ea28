// Package store is the data model of one virtual domain and the contract of the engines that keep it.
//
// It owns the words (account, maildrop, draft, envelope, job, lease, trail) and the promises behind each verb. It holds no database
// code: store/boltstore and store/memstore implement [Store], and store/storetest is the suite that every engine must pass.
//
// Four rules hold for every verb:
//
//   - One verb is one transaction: all of it happens or none of it, and when it returns nil what it promises survives a power cut,
//     unless its comment says that it may be forgotten.
//   - Nothing that is returned belongs to the engine: slices and blobs are the caller's, and no returned value holds a lock.
//   - Ids are never reused, not even after removal or a restored backup.
//   - Errors are tested with errors.Is against the sentinels in errors.go; their text is for the log, never for a mail client.
//
// Relevant RFCs: 1939 (maildrops, unique-ids), 5321 (envelopes), 3461 (DSN parameters), 2142 (postmaster, abuse).
package store
