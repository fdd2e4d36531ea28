package pop3_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/signal"
	"strings"
	"time"

	"latchkey/pop3"
	"latchkey/pop3/pop3test"
)

// A whole server: maildrops in memory, on port 1110, until it is interrupted. Then running commands have ten seconds to finish.
func Example() {
	backend := &pop3test.Backend{Mechanisms: []string{"PLAIN", "CRAM-MD5"}}
	backend.Add("alice", "secret", "Subject: hello\r\n\r\nworld\r\n")
	server := &pop3.Server{Backend: backend.APOP(), Hostname: "pop.example.com", Implementation: "Example"}

	l, err := net.Listen("tcp", "127.0.0.1:1110")
	if err != nil {
		log.Fatal(err)
	}
	interrupted, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	context.AfterFunc(interrupted, func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = server.Shutdown(ctx) // who was too slow is cut off
	})
	if err := server.Serve(l); !errors.Is(err, pop3.ErrServerClosed) {
		log.Fatal(err)
	}
}

// A session with a server, as a client sees it.
func ExampleServer() {
	backend := &pop3test.Backend{}
	backend.Add("alice", "secret", "Subject: hello\r\n\r\nworld\r\n")
	server := &pop3.Server{Backend: backend, Hostname: "pop.example.com"}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	done := make(chan error)
	go func() { done <- server.Serve(l) }()

	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Fprint(conn, "USER alice\r\nPASS secret\r\nSTAT\r\nDELE 1\r\nLANG de\r\nQUIT\r\n")
	replies, _ := io.ReadAll(conn)
	fmt.Print(strings.ReplaceAll(string(replies), "\r\n", "\n"))
	_ = server.Close()
	fmt.Println(<-done)
	// Output:
	// +OK pop.example.com POP3 server ready
	// +OK now the password
	// +OK 1 messages (25 octets)
	// +OK 1 25
	// +OK message 1 marked as deleted
	// +OK de Sprache gewechselt
	// +OK auf Wiedersehen, 1 gelöscht, 0 behalten
	// pop3: server closed
}
