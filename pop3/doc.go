// Package pop3 is a POP3 server library: RFC 1939 with CAPA (2449), STLS (2595), AUTH (5034), response codes (2449, 3206) and
// implicit TLS (8314). It knows nothing of how mail is kept: a program supplies a [Backend], as with go-smtp.
package pop3
