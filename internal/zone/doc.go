// Package zone knows which DNS records a mail domain needs, writes them as a zone file has them, and compares them with what is published.
//
// [Wanted] is the list, a pure function of where the server stands. [Text] makes it ready to be pasted. [Check] asks the DNS and says of
// each record whether it is as it should be, what is there instead, and what to do, in words for whoever edits the zone.
//
// It does not own: the DNS itself (package resolver), the keys and their life (package signing), and what is done about a finding.
//
// Relevant RFCs: 5321 (§5.1 MX), 7505 (null MX), 2181 (§10.3 no alias as a mail exchanger), 7208 (SPF), 6376 (DKIM), 7489 (DMARC), 8461
// (MTA-STS), 8460 (TLSRPT), 6186 and 8314 (§5.1 SRV for mail clients), 7672 (TLSA), 1912 (§2.1 names of addresses).
package zone
