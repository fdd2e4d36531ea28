// Package pop3test has an in-memory backend for package pop3: for examples, for tests of programs that speak POP3 to a server, and for tests of
// what is built around a pop3.Server.
//
//	backend := &pop3test.Backend{Mechanisms: []string{"PLAIN"}}
//	backend.Add("alice", "secret", "Subject: hello\r\n\r\nworld\r\n")
//	server := &pop3.Server{Backend: backend, Hostname: "pop.example.com"}
//	go server.Serve(listener)
//
// It keeps all rules that package pop3 has for a backend: a session sees a snapshot, unique-ids are never given twice, an update is all or
// nothing, and a second list, update or end is an error. Passwords are kept as they are, so that every mechanism works. It is no mail server: there
// is no limit on what it keeps, and nothing slows guesses down.
package pop3test
