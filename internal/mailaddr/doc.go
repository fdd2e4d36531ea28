// Package mailaddr has the one address type of the project: a local part and a domain, parsed strictly and kept in canonical form.
//
// It owns the grammar of Mailbox (RFC 5321 §4.1.2, with RFC 6531 §3.3) and the rules by which two spellings are one mailbox. It
// knows nothing of header fields, display names or comments.
package mailaddr
