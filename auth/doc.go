// Package auth answers who somebody is: it checks POP ids and passwords for POP3, SMTP and the Webmanager alike, so that one
// credential opens every door.
//
// It owns password verifiers, the cache of successful verifications, the normalising of login names and the SASL mechanisms
// (RFC 4616 PLAIN, and LOGIN). Who may not try at all just now is package guard's matter, which auth asks.
package auth
