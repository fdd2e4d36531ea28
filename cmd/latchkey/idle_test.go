//go:build !race

package main

import (
	"bufio"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
)

// TestIdleSession: what an idle session takes that is logged in, from the listener to the store, clients of this test included. What lies on its
// stack while it waits must be little, or the runtime gives none of the stack back.
func TestIdleSession(t *testing.T) {
	const (
		sessions = 400
		// stackLimit is for a stack of 4 KiB, limit for stack and heap, in octets.
		stackLimit, limit = 5 << 10, 12 << 10
	)
	s := startServer(t, "example.com")
	s.addAccount("bert", "bert's password")
	idlers(t, s.addr("pop3"), 50) // what is made once
	before := atRest()
	idlers(t, s.addr("pop3"), sessions)
	after := atRest()
	stack := (after.StackInuse - before.StackInuse) / sessions
	all := stack + (after.HeapInuse-before.HeapInuse)/sessions
	t.Logf("%d octets a session, %d of them stack", all, stack)
	if stack > stackLimit || all > limit {
		t.Errorf("%d octets a session, %d of them stack; want %d and %d at most", all, stack, limit, stackLimit)
	}
}

// atRest is what the memory looks like without garbage. A stack shrinks by half at each collection.
func atRest() (m runtime.MemStats) {
	for range 4 {
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return m
}

// idlers logs clients in that say nothing more until the test ends, from several addresses.
func idlers(t *testing.T, addr string, count int) {
	t.Helper()
	for i := range count {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, byte(1+i%50), 0, 7)}}
		c, err := d.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		r := bufio.NewReaderSize(c, 64)
		for _, command := range []string{"", "USER bert\r\n", "PASS bert's password\r\n", "UIDL\r\n"} {
			if _, err := io.WriteString(c, command); err != nil {
				t.Fatal(err)
			}
			if line, err := r.ReadString('\n'); err != nil || !strings.HasPrefix(line, "+OK") {
				t.Fatalf("%q: got %q, %v", command, line, err)
			}
		}
	}
}
