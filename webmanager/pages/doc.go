// Package pages serves the Webmanager to people: sign-in, Email Management, the trail of messages and the explanations of refusals, and the
// JSON API to programs that show a token.
//
// It is a client of the API of package webmanager, in this process, as the command line is, with whoever signed in as the actor: who may do what
// is decided there, and nothing here. It owns sessions, forms and what they look like. It does not own TLS or the caps of connections, which are
// package guard's, nor passwords, which are package auth's and count with those of POP3 and SMTP.
//
// Pages are made on the server and ask nothing of third parties. They need no script, but for one thing that browsers have for scripts only: to make a
// passkey, and to show one. Two pages have a file of it, and are the only ones whose policy lets a script run.
//
// Relevant RFCs (and W3C Web Authentication Level 3, by internal/passkey): 6265 (cookies), 6750 (bearer tokens), 6797 (Strict-Transport-Security), 9110 (HTTP).
package pages
