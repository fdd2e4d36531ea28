// Package resolvertest is a name server on loopback for tests: it answers out of a zone that the test edits, and misbehaves by name as
// the test wants. It speaks UDP and TCP on one port, so that real processes can be pointed at it.
//
// It plays a recursive server: it follows aliases in its zone and says that recursion is available. It has no signatures, but can say
// that it has checked some, and no zones: a name that was not set does not exist.
package resolvertest
