// Package signing keeps the domain's DKIM keys, takes them from their making to their end, and signs what leaves with those that are in
// use.
//
// A key is made New: its record is shown, and it signs nothing. It becomes Signing once its record was seen in the DNS, at once if the
// domain has no other key of its algorithm, else Settle after it was first seen, because caches elsewhere may still say that there is
// none; or when the operator says so. The key of the same algorithm that signed until then is Retired: its private half is
// forgotten, and its record stays published for Overlap, because mail that it signed is still on its way. Then the record can go.
//
// A [Signer] signs mail of the domain's own with them; a [Sealer] seals mail of others that is sent on (RFC 8617).
//
// It owns the sealed list of keys and its rules. It does not own the signatures themselves (package dkim), which messages are signed
// (package relay), and the commands (packages webmanager and cli).
//
// Relevant RFCs: 6376 (§3.1 selectors, §5.2 signers), 8301, 8463, 8617.
package signing
