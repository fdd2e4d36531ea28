// Package smtp is the SMTP service of one virtual domain on go-smtp: the MX door (port 25), where anybody may deliver to the domain's
// mailboxes, and the submission door (587 and 465), where mailbox owners send after AUTH with their POP id and password. What can stand
// in for AUTH is a grant of POP before SMTP, or a network that the owner of the domain named; both only ever as an address of their own
// and within a budget.
//
// It owns the sessions, the decisions who may send what ([authorizeSender] and [authorizeRelay] are pure functions), what is done to a
// submitted message, the Received line, and which refusal of package refusal is said when. Who somebody is, is package auth's matter;
// connections, TLS, grants and budgets are guard's; messages are kept by the store.
//
// go-smtp has gaps that cannot be cured through its backend interface. They are cured in wire.go, a net.Conn below TLS, so that
// go-smtp still sees a bare *tls.Conn. What cannot be cured is listed in docs/rfc.md as a deviation. On a connection in the clear a
// message of DATA is read past go-smtp, in blocks: see detour.go.
//
// Three rules for whoever changes a session:
//
//   - Reset and Logout run with go-smtp's lock held: they must not call methods of gosmtp.Conn, nor wait. What a transaction reserved is
//     given back there, or kept by the commit: whoever settles it first, under the transaction's lock, is the only one.
//   - Data runs on a goroutine of its own during BDAT, and may still run while the next MAIL arrives: it touches nothing but its own
//     transaction and what never changes.
//   - Every error leaves through replyFor, because go-smtp sends the text of any other error to the client.
//
// Relevant RFCs: 5321, 1870 (SIZE), 2034 (enhanced codes), 2920 (pipelining), 3030 (CHUNKING), 3207 (STARTTLS), 3461 (DSN), 3848
// (trace keywords), 4954 (AUTH), 6152 (8BITMIME), 6409 (submission), 6531 (SMTPUTF8), 8314 (implicit TLS).
package smtp
