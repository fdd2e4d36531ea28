// Package dkim signs messages and judges signatures of others (RFC 6376), seals messages that are sent on and judges the seals before
// (RFC 8617), and reads and writes the records that keys are published in.
//
// A [Digest] takes a message in once, as a stream, and then signs it with any number of keys: what they sign is the same, so a message
// that gets an RSA and an Ed25519 signature (RFC 8463 §3) is hashed once. Memory is flat in the size of the message: the header, which
// is bounded by MaxHeader, is kept, the body is not, however many empty lines it has.
//
// A [Scan] takes in a message of somebody else, likewise, and then says what its signatures ([Scan.Signatures]) and its Authenticated
// Received Chain ([Scan.Chain]) are worth, and makes the next set of that chain ([Scan.Seal]). It hashes the body once for each form that a
// signature wants: MaxVerified of DKIM, the newest of the chain, and its own.
//
// Decisions that the RFCs leave open:
//
//   - Both forms are relaxed (RFC 6376 §3.4.2, §3.4.4): white space and folding change on the way, and nothing is proved by them.
//   - There is no l= (RFC 6376 §8.2): what is appended to a message breaks its signature.
//   - Fields that say who wrote what to whom are signed once more often than they are there, so that none can be added (RFC 6376 §8.15).
//   - Fields that hops on the way add or change are not signed: trace fields, Return-Path, Authentication-Results, signatures of others.
//   - There is no x=: mail that waits in a queue elsewhere is not worth less.
//   - A body that somebody signed in part only (l=) is not taken for signed, in a chain either.
//
// It does not own: keys and their life (package signing), who may be signed for and what is sealed (package relay), and what follows of a
// verdict.
//
// Relevant RFCs: 6376, 8301 (no SHA-1, RSA of 2048 bits), 8463 (Ed25519), 8617 (ARC).
package dkim
