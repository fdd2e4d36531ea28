//go:build interop

package main

import (
	"fmt"
	"strings"
	"testing"
)

// TestInteropKeepThreeSessions: programs that leave mail on the server, over three sessions; between them the oldest message is deleted by
// another client and a new one comes, so that every message number means something else. Each message is fetched once, by unique-id.
func TestInteropKeepThreeSessions(t *testing.T) {
	for _, p := range fetchingPrograms {
		if !p.keeps {
			continue
		}
		t.Run(p.name, func(t *testing.T) {
			need(t, p.program)
			s := interopServer(t)
			sent := 0
			send := func() {
				sent++
				s.send("anna", annasPassword, []string{"bert@example.com"}, fmt.Sprintf("Subject: number %d\r\nFrom: anna@example.com\r\n\r\nbody\r\n", sent))
			}
			send()
			send()
			dir := t.TempDir()
			for session := range 3 {
				got := p.fetch(t, s, cleartext, p.mechanisms[0], dir, true)
				for n := 1; n <= sent; n++ {
					if times := strings.Count(got, fmt.Sprintf("Subject: number %d\n", n)); times != 1 {
						t.Errorf("session %d: message %d fetched %d times, want once", session+1, n, times)
					}
				}
				if left := s.fetch("bert", bertsPassword); len(left) != 2 {
					t.Errorf("session %d: %d messages left, want 2", session+1, len(left))
				}
				pop := s.pop("pop3s")
				if err := pop.login("bert", bertsPassword); err != nil {
					t.Fatal(err)
				}
				pop.must("DELE 1")
				pop.must("QUIT")
				send()
			}
		})
	}
}
