// Package auth answers who somebody is: it checks POP ids and passwords for POP3, SMTP and the Webmanager alike, so that one
// credential opens every door.
//
// It owns password verifiers, the cache of successful verifications, the normalising of login names and the SASL mechanisms
// (RFC 4616 PLAIN, and LOGIN). For accounts with old-client login it also owns what challenge logins need: passwords sealed under a key
// that the store keeps, APOP (RFC 1939 §7), CRAM-MD5 (RFC 2195), and SCRAM with SHA-256 and SHA-1 (RFC 5802, RFC 7677). Who may not try at
// all just now is package guard's matter, which auth asks.
package auth
