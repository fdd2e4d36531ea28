// Package refusal is the table of every refusal that this server makes itself: what POP3 and SMTP say, why, and what is to be done. Each
// has a short name that never changes, so that people can look it up; docs/refusals.md is written from the table.
//
// It does not own the decision to refuse, nor the replies with which the protocol libraries answer commands that are out of form.
//
// Relevant RFCs: 1939 and 2449 (POP3 replies), 3206 (SYS and AUTH), 2034 and 3463 (enhanced status codes), 4954 and 5321 (SMTP).
package refusal
