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

// TestConnectionLimits: the configured numbers of connections are taken at all doors together, three of four at one of them, and one more is told so.
func TestConnectionLimits(t *testing.T) {
	s := newTestServer(t, "example.com")
	s.config.Limits.Connections, s.config.Limits.ConnectionsPerAddress = 8, 5
	s.start()
	for i, tt := range []struct{ door, from, want string }{
		{"mx", "127.0.0.1", "220 "}, {"pop3", "127.0.0.1", "+OK "}, {"mx", "127.0.0.1", "220 "}, {"submission", "127.0.0.1", "220 "},
		{"mx", "127.0.0.1", "220 "}, // its limit
		{"mx", "127.0.0.1", "421 4.7.0 "}, {"pop3", "127.0.0.1", "-ERR [SYS/TEMP] "},
		{"mx", "127.0.0.2", "220 "}, {"mx", "127.0.0.3", "220 "}, // seven; one is kept for known clients
		{"mx", "127.0.0.4", "421 4.7.0 "}, {"pop3", "127.0.0.5", "-ERR [SYS/TEMP] "},
	} {
		if got := s.greeting(tt.door, tt.from); !strings.HasPrefix(got, tt.want) {
			t.Errorf("connection %d, %s from %s: got %q, want %q", i+1, tt.door, tt.from, got, tt.want)
		}
	}
}
