// Package tlsrpt is the form of SMTP TLS reports (RFC 8460): the TXT record by which a domain asks for them, and the report itself, as
// JSON under gzip, written and read within bounds.
//
// It does not count sessions and sends nothing: package relay does.
package tlsrpt
