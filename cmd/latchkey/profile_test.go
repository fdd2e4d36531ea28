//go:build pgo

package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"latchkey/store"
	"os"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestProfile writes a CPU profile of a server at work into the file that LATCHKEY_PROFILE names: mail comes in, in the clear and by
// STARTTLS, some of it pipelined; owners submit, to each other and out of the domain, some of it message by message; programs look for mail, and fetch and delete it, with
// TLS and without. It is what `make pgo` makes default.pgo of.
func TestProfile(t *testing.T) {
	const atWork = 25 * time.Second
	out := newSink(t)
	s := newTestServer(t, "example.com")
	s.sendsTo(out.port(), "other.example")
	s.start()
	users := []string{"anna", "bert", "carl", "dora"}
	for _, user := range users {
		s.addAccount(user, "the password")
	}
	most := store.MaxRecipientBudget
	s.do("PATCH", "/v1/settings", map[string]any{
		"daily_recipients": most, "hourly_recipients": most, "new_recipients": most, "domain_hourly_recipients": most, "domain_daily_recipients": most,
		"hold_jumps": false, "daily_octets": 0, "confirm": s.domain,
	}, nil)
	file, err := os.Create(os.Getenv("LATCHKEY_PROFILE"))
	if err != nil {
		t.Fatal(err)
	}
	runtime.SetCPUProfileRate(1000) // ten times as often as StartCPUProfile, which complains and leaves it
	if err := pprof.StartCPUProfile(file); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), atWork)
	defer cancel()
	var work sync.WaitGroup
	run := func(clients int, do func(i int) error) {
		for i := range clients {
			work.Go(func() {
				for ctx.Err() == nil {
					if err := do(i); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
	}
	text := func(from, to string) string {
		return "From: " + from + "\r\nTo: " + to + "\r\nSubject: at work\r\nMessage-ID: <1@other.example>\r\n\r\n" +
			strings.Repeat(strings.Repeat("work ", 15)+".\r\n", 4096/78)
	}
	run(12, func(i int) error {
		return s.comesIn(users[i%len(users)], i%3 == 0, text("x@other.example", users[0]+"@example.com"))
	})
	run(2, func(i int) error {
		return s.tryDeliver("x@other.example", []string{users[i] + "@example.com"}, text("x@other.example", "x@example.com"))
	})
	run(4, func(i int) error {
		from := users[i] + "@example.com"
		to := []string{"b@example.com", "x@other.example"}[i%2]
		to = strings.Replace(to, "b@", users[(i+1)%len(users)]+"@", 1)
		return s.trySend(users[i], "the password", []string{to}, text(from, to))
	})
	run(8, func(i int) error {
		return s.goesOut(users[i%len(users)], text(users[i%len(users)]+"@example.com", "x@other.example"))
	})
	run(2*len(users), func(i int) error {
		return s.fetches(users[i/2], []string{"pop3", "pop3s"}[i%2])
	})
	work.Wait()
	pprof.StopCPUProfile()
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	if len(out.all()) == 0 {
		t.Error("nothing was sent out of the domain")
	}
}

// comesIn delivers some messages over one connection.
func (s *testServer) comesIn(user string, pipelined bool, text string) error {
	c := s.rawSMTP("mx")
	defer func() { _ = c.Close() }() // after QUIT
	for range 50 {
		commands := []string{"MAIL FROM:<x@other.example>\r\n", "RCPT TO:<" + user + "@example.com>\r\n", "DATA\r\n", text + ".\r\n"}
		wants := []string{"250", "250", "354", "250"}
		if pipelined {
			if _, err := io.WriteString(c, strings.Join(commands[:3], "")); err != nil {
				return err
			}
			for _, want := range wants[:3] {
				c.reply(want)
			}
			commands, wants = commands[3:], wants[3:]
		}
		for i, command := range commands {
			c.cmd(wants[i], command)
		}
	}
	c.cmd("221", "QUIT\r\n")
	return nil
}

// goesOut submits some messages for another domain over one connection.
func (s *testServer) goesOut(user, text string) error {
	client := s.submission(user, "the password")
	for range 50 {
		if err := hand(client, user+"@example.com", []string{"x@other.example"}, text); err != nil {
			return err
		}
	}
	return client.Quit()
}

// fetches lists a maildrop, fetches and deletes what is in it, and looks in again.
func (s *testServer) fetches(user, door string) error {
	for range 2 {
		conn := s.dial(door)
		r := bufio.NewReaderSize(conn, 64<<10)
		ask := func(command string, multi bool) (string, error) {
			if _, err := io.WriteString(conn, command); err != nil {
				return "", err
			}
			first, err := r.ReadString('\n')
			if err == nil && !strings.HasPrefix(first, "+OK") {
				err = fmt.Errorf("%q: got %q", command, first)
			}
			for line := ""; multi && err == nil && line != ".\r\n"; {
				line, err = r.ReadString('\n')
			}
			return first, err
		}
		n := 0
		for _, step := range []struct {
			command string
			multi   bool
		}{{"", false}, {"USER " + user + "\r\n", false}, {"PASS the password\r\n", false}, {"UIDL\r\n", true}, {"LIST\r\n", true}, {"STAT\r\n", false}} {
			answer, err := ask(step.command, step.multi)
			if err != nil {
				return err
			}
			if step.command == "STAT\r\n" {
				if _, err := fmt.Sscanf(answer, "+OK %d", &n); err != nil {
					return err
				}
			}
		}
		for i := 1; i <= n; i++ {
			if _, err := ask(fmt.Sprintf("RETR %d\r\n", i), true); err != nil {
				return err
			}
			if _, err := ask(fmt.Sprintf("DELE %d\r\n", i), false); err != nil {
				return err
			}
		}
		if _, err := ask("QUIT\r\n", false); err != nil {
			return err
		}
		if err := conn.Close(); err != nil {
			return err
		}
	}
	return nil
}
