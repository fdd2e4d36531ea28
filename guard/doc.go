// Package guard answers "not now" and "not from there": it accepts connections within limits, does their TLS handshakes and counts
// failed logins. Who somebody is is package auth's matter.
package guard
