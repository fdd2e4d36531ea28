// Package certs obtains the server's certificate from a CA by ACME (RFC 8555), keeps it, and renews it while the server runs.
//
// A [Keeper] has one certificate for one key. It always has one to give: until the CA has issued the first, it is self-signed, by the same
// key. [Keeper.Run] asks the CA when it is time, and never because of what a stranger does; how often it may ask is bounded, over restarts
// too. The key is made once, before it is first used, and stays over renewals, so that what is published of it (TLSA, RFC 7672) stays true.
//
// An [Account] is what the CA knows the operator by; many processes of a host share its key in one file. [Challenges] answers the CA when it
// looks whether the names are the operator's: over HTTP (RFC 8555 §8.3) and in TLS (RFC 8737).
//
// It does not own: the listeners, where the octets are kept and how they are sealed ([Box]), who is told of a state ([State]).
//
// Relevant RFCs: 8555 (ACME; §7.3.4 External Account Binding, §8.3 http-01), 8737 (tls-alpn-01), 6698 and 7671 (digest of a key).
package certs
