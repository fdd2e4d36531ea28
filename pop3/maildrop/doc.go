// Package maildrop serves the maildrops of a store by POP3: it is the pop3.Backend between package pop3, which knows the protocol, and
// packages store and auth, which know mail and people.
//
// It owns the texts and response codes of refusals (errors.go), which mechanisms are offered when, who has a maildrop where one
// session at a time may (lock.go), and the POP3 door with its limits.
//
// Relevant RFCs: 1939, 2449 §8, 2595 §2.1, 3206, 5034, 8314.
package maildrop
