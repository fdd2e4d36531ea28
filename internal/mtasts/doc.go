// Package mtasts reads what a domain publishes by MTA-STS (RFC 8461): the TXT record that names the present policy, and the policy, which
// it fetches over HTTPS.
//
// It owns the two grammars, the matching of hosts, and the bounds of a fetch. It does not own the cache, nor what follows of a policy:
// package relay does.
package mtasts
