package main

import (
	"bufio"
	"net"
	"strings"
	"testing"
	"time"
)

// greeting connects from a local address and returns the first line that the door says.
func (s *testServer) greeting(door, from string) string {
	s.t.Helper()
	dialer := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	conn, err := dialer.DialContext(s.t.Context(), "tcp", s.addr(door))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close() }) // the test is over with it
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		s.t.Fatal(err)
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		s.t.Fatal(err)
	}
	return line
}

// TestConnectionLimits: the configured numbers of connections are taken, one more is told so, and each listening address counts alone.
func TestConnectionLimits(t *testing.T) {
	s := newTestServer(t, "example.com")
	s.config.Limits.Connections, s.config.Limits.ConnectionsPerAddress = 4, 3
	s.start()
	for door, words := range map[string]struct{ welcome, refusal string }{
		"mx":   {"220 ", "421 4.7.0 "},
		"pop3": {"+OK ", "-ERR [SYS/TEMP] "},
	} {
		for i, tt := range []struct {
			from    string
			welcome bool
		}{
			{"127.0.0.1", true}, {"127.0.0.1", true}, {"127.0.0.1", true}, // its limit
			{"127.0.0.1", false},
			{"127.0.0.2", true}, // the limit of all
			{"127.0.0.2", false},
			{"127.0.0.3", false},
		} {
			want := words.refusal
			if tt.welcome {
				want = words.welcome
			}
			if got := s.greeting(door, tt.from); !strings.HasPrefix(got, want) {
				t.Errorf("%s, connection %d from %s: got %q, want %q", door, i+1, tt.from, got, want)
			}
		}
	}
}
