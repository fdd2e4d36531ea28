// Package dane judges certificates by TLSA records, as RFC 7672 §3 wants it for SMTP: usages DANE-TA(2) and DANE-EE(3), whole
// certificates and public keys, in full or by SHA-256 or SHA-512.
//
// It does not look the records up, and does not know whether they are secure: package resolver does.
//
//	usable := dane.Usable(set.Records)
//	err := dane.Verify(usable, state.PeerCertificates, names, time.Now())
//
// Relevant RFCs: 6698 (TLSA), 7671 (§9 digest agility), 7672 (SMTP).
package dane
