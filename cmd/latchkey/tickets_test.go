package main

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// TestTicketsOfAllDoors: a session of TLS that one door began is resumed by another, whether TLS is implicit there or asked for.
func TestTicketsOfAllDoors(t *testing.T) {
	s := startServer(t, "example.com")
	config := &tls.Config{InsecureSkipVerify: true, ServerName: "mail.example.com", ClientSessionCache: tls.NewLRUClientSessionCache(1)} // the test's own
	for i, door := range []string{"pop3s", "pop3", "pop3s", "smtps", "pop3"} {
		conn, err := net.Dial("tcp", s.addr(door))
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		greeting := func(r io.Reader) {
			if line, err := bufio.NewReader(r).ReadString('\n'); err != nil || !strings.HasPrefix(line, "+OK") && !strings.HasPrefix(line, "220") {
				t.Fatalf("%s: got %q, %v", door, line, err)
			}
		}
		if door == "pop3" {
			greeting(conn)
			if _, err := io.WriteString(conn, "STLS\r\n"); err != nil {
				t.Fatal(err)
			}
			greeting(conn)
		}
		secure := tls.Client(conn, config)
		if err := secure.Handshake(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(secure, "NOOP\r\n"); err != nil { // the ticket comes with the answer at the latest
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(secure).ReadString('\n'); err != nil {
			t.Fatalf("%s: got %q, %v", door, line, err)
		}
		if got := secure.ConnectionState().DidResume; got != (i > 0) {
			t.Errorf("%d, %s: resumed %v", i, door, got)
		}
		_ = secure.Close()
	}
}
