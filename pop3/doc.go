// Package pop3 is a POP3 server library. It owns the protocol: commands by state, the form and the bounds of every line, dot-stuffing, times,
// strikes, deletes until QUIT, the texts of replies in English and German. It does not own mail or people: a program supplies a [Backend],
// which says who may log in and what is in a maildrop.
//
// A server with maildrops in memory is:
//
//	backend := &pop3test.Backend{Mechanisms: []string{"PLAIN"}}
//	backend.Add("alice", "secret", "Subject: hello\r\n\r\nworld\r\n")
//	server := &pop3.Server{
//		Backend:   backend,
//		Hostname:  "pop.example.com",
//		TLSConfig: config, // makes STLS available
//	}
//	l, err := net.Listen("tcp", ":110")
//	if err != nil {
//		return err
//	}
//	return server.Serve(l)
//
// [Backend] begins a [Session] for each connection, which opens a [Maildrop]. What else a backend can do are interfaces that these may have
// besides: [AuthSession] (SASL), [APOPSession], [PasswordSession] (no passwords without TLS), [PolicySession] (EXPIRE, LOGIN-DELAY, UTF8 USER),
// [LastMaildrop] (LAST), [UTF8Maildrop] (messages that need UTF-8 mode), [Translator] (own texts in other languages). Package pop3test has a backend
// with all of them. What a backend may ask of a connection, and do to it from outside, are methods of [Conn].
//
// A connection is served by one goroutine, and calls its session and maildrop from that one only. A dropped connection cannot delete mail: Update is
// called for QUIT alone. Memory does not grow with the size of a message, and an idle session has no buffers but the one that it reads commands
// into.
//
// RFCs: 1939 with APOP, TOP and UIDL; 1460 (LAST); 1734, 5034 (AUTH); 2449 (CAPA, response codes); 2595 (STLS); 3206 (response codes); 6856 (UTF8,
// LANG); 8314 (implicit TLS). Where it departs from one, a comment begins with "Deviation:".
package pop3
