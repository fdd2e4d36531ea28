// Package srs is the Sender Rewriting Scheme: the reverse-path of a message that is sent on becomes an address of the domain that sends it on, so
// that SPF (RFC 7208 §10.2) holds for it, and a report to that address finds its way back to the sender.
//
//	alice@one.example            becomes  SRS0=HASH=TT=one.example=alice@two.example
//	SRS0=hash=tt=one.example=... becomes  SRS1=HASH=three.example==hash=tt=one.example=...@two.example
//
// The second form is for what another forwarder has rewritten already (three.example here): it is undone in one step, back to that forwarder. HASH is
// a keyed one over all that stands behind it, TT the day. Whoever knows the key alone can make addresses that lead anywhere, so what the hash does
// not prove, or what is too old, leads nowhere: it would be a relay.
//
// The package knows addresses only. Who may write to such an address, and how often, is decided by package smtp.
package srs
