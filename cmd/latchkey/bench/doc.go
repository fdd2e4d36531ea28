//go:build linux

// Command bench measures Latchkey: beside Postfix and Dovecot, beside servers that do as little as possible, and against itself when the
// store grows. It prints one table: what was measured, of us and of the other, the ratio, and what is wanted.
//
// Parts:
//
//	a  messages a second, durable and fetchable by POP3, beside Postfix + Dovecot LMTP, Postfix virtual(8) and a go-smtp sink
//	b  the p99 of the reply to the end of DATA, and the CPU of a message, at 64 connections
//	c  the engine alone, beside the bare layout: a log with one fdatasync a group and an index that follows
//	d  POP3: drains, and RETR of 25 MB beside a loop of pread and write
//	e  growth: latencies with 100 to 1,000,000 stored messages, and the time from start to greeting
//	f  disk: octets stored and written for each octet of mail, and what is left when all was deleted
//	g  POP3: sessions in the clear and over TLS, long lists, memory of idle sessions, beside Dovecot
//	h  a flood: deliveries and POP3 logins of owners while 1,000 connections attack and guess 500 passwords a second, beside the quiet server
//	i  the way out: a burst of 50,000 messages to 500 domains, fast, slow, greylisting, closing and narrow ones, beside Postfix
//	j  a long queue: its verbs with 1,000 to 1,000,000 recipients in it
//	k  the pages: how long the server takes for each with 1,000 mailboxes and a million events in the trail, what the first one
//	   weighs, and what they cost a process at rest
//
// Parts a to d, g and i need a folder of tools (-tools):
//
//	mailload/                      the load generator, a Go program: smtp, pop3 -mode poll|drain; ends with one JSON line
//	sink/                          the server that appends mail to a log, a Go program
//	limits/                        "limits group": the bare layouts, a Go program
//	peers/run-postfix-dovecot.sh   start|usage|stop: SMTP 20025, POP3 20110, queue in $ROOT/peer-postfix/spool,
//	                               mailboxes user0..user199@example.com with the password $PASS, DELIVERY=lmtp|virtual
//	peers/run-dovecot.sh           the same without Postfix, for $USERS mailboxes: POP3 20110, POP3 over TLS 20995, usage with pss_kb=,
//	                               settings in $ROOT/peer-dovecot/etc/dovecot.conf, Maildirs in $ROOT/peer-dovecot/mail/NAME/Maildir
//
// Servers take turns in each round, and medians of the rounds are compared. A message counts when POP3 can fetch it (for Postfix: when
// its queue is empty). After every delivery all mailboxes are drained, and every octet is compared: a message that was lost, doubled or
// changed ends the run. Only loopback is used. Everything lies in one folder under the temporary directory, which is removed at the end;
// the first interrupt ends the run and cleans up.
package main
