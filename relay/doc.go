// Package relay is the way out of the domain: it takes the jobs that the store keeps for recipients elsewhere and hands them to the
// servers that take mail for those, or to a smarthost; and it tells the sender when it could not.
//
// It owns the retry schedule, the choice of hosts and addresses, what their TLS must show, the conversation with them, the meaning of
// their answers, and the reports (bounces, delay notices, relayed reports, TLS reports). It does not own the queue, which is the store's, nor
// the DNS, which is package resolver's. It learns of new jobs from the store, so package smtp need not know it.
//
// A [Runner] keeps a short line of due destinations for each mailbox (agenda.go) and starts a worker for one mailbox after another. A worker
// leases a few jobs, connects, and sends message by message, of one mailbox after another; what became of each is kept at once. Nothing but
// those lines, the leased jobs and a bounded memory of hosts is in memory, however long the queue is.
//
// Places for workers, and the connections to a host, are shared fairly between the mailboxes (places.go). Hosts are known by their address
// (host.go): all domains that one serves share its connections, how many it gets at once (window.go), and its back-off.
//
// Decisions are pure functions with table tests: when to try again (schedule.go), which addresses are no targets (target.go), what an
// answer means (verdict.go), what follows of it (end in settle.go), who may have a place, how a window moves. The client is go-smtp's; what it
// lacks is made good by hello.go, which greets and negotiates TLS by itself, by pipeline.go, which sends its commands in groups, and by the
// wire in conn.go, which has the deadlines and the bounds.
//
// Decisions that the RFCs leave open:
//
//   - A 5xx greeting, or 5xx to EHLO and HELO, is about that host. It is final only if no other host of the destination may come back.
//   - Where the destination publishes nothing, STARTTLS is taken where it is offered, whatever the certificate; where it fails the message
//     goes in the clear, as it would to a host that offers none. TLSA records and an MTA-STS policy are kept (policy.go, sts.go), and
//     a smarthost can be held to more. What fails by them waits, with the reason, and bounces when its time is over.
//   - A 7-bit host gets no 8-bit message: it is returned (RFC 6152 §3), not converted. What was declared 8-bit and is ASCII is sent.
//   - Mail that waits for the operator waits: wrong credentials, a smarthost that is closed to us, an unreadable body. It does not bounce
//     before its time is over, and the log says so at level Error.
//   - While mail out of the domain is switched off jobs are put off, and time runs on for them.
//   - RET unset returns the header alone.
//
// Relevant RFCs: 5321 (§4.5.4 retries, §5 targets, §6.1 bounces), 3461 (DSN), 3464 and 6522 (reports), 3207 (STARTTLS), 1870 (SIZE),
// 2920 (PIPELINING), 3030 (CHUNKING), 6152 (8BITMIME), 6531 (SMTPUTF8), 7505 (null MX), 9422 (LIMITS), 4954 (AUTH, to a smarthost),
// 7672 (DANE), 8461 (MTA-STS), 8460 (TLS reports), 8689 (REQUIRETLS).
package relay
