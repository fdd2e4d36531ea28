// Package resolver answers the questions that outgoing mail has for the DNS: where does mail for this domain go (MX), which addresses
// does this host have (A and AAAA), which certificates (TLSA, RFC 7672 §2.2), and what does this name say of itself (TXT).
//
// It asks recursive name servers, those of /etc/resolv.conf or others, over UDP and, for what does not fit, over TCP (RFC 1035 §4.2,
// RFC 6891). It owns the cache (RFC 2308), the bounds on what a hostile zone can send, and the classes of failure: the name or the
// data does not exist, the domain takes no mail (RFC 7505), or ask again later. The order in which mail exchangers are tried is that
// of RFC 5321 §5.1.
//
// It knows nothing of /etc/hosts, of search domains, or of which addresses mail may be sent to: that a name leads to 127.0.0.1 is an
// answer like any other here, and package relay's to refuse. It does not validate signatures (DNSSEC) either: it takes the word of a name
// server that does, but only of one to which nobody can stand in between (see [Trust]).
package resolver
