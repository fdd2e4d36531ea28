package pop3test_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"latchkey/pop3"
	"latchkey/pop3/pop3test"
)

// visit says all of a session at once and returns the answers.
func visit(t testing.TB, address string, commands ...string) string {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := io.WriteString(c, strings.Join(commands, "\r\n")+"\r\n"); err != nil {
		t.Fatal(err)
	}
	answers, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(answers)
}

func serve(t testing.TB, b pop3.Backend) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, done := &pop3.Server{Backend: b, Hostname: "pop.test"}, make(chan error)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		if err := errors.Join(s.Close(), <-done); !errors.Is(err, pop3.ErrServerClosed) {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// TestUniqueIDs: they are never given twice, and there are more than nine.
func TestUniqueIDs(t *testing.T) {
	b := &pop3test.Backend{}
	b.Add("alice", "secret")
	for n := range 12 {
		if got, want := b.Deliver("alice", "x\r\n"), fmt.Sprintf("uid%d", n+1); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	visit(t, serve(t, b), "USER alice", "PASS secret", "DELE 12", "DELE 1", "QUIT")
	if got := b.Deliver("alice", "y\r\n"); got != "uid13" {
		t.Errorf("got %s after the last one was deleted", got)
	}
	if got := b.UIDs("alice"); len(got) != 11 || got[0] != "uid2" || got[10] != "uid13" {
		t.Errorf("got %v", got)
	}
}

// TestManyAtOnce: sessions and deliveries at the same time; each message is deleted by one session, and none is lost.
func TestManyAtOnce(t *testing.T) {
	const sessions, each = 8, 5
	b := &pop3test.Backend{Last: true}
	for n := range sessions {
		b.Add(fmt.Sprint("user", n), "secret", "first\r\n")
	}
	address := serve(t, b)
	var all sync.WaitGroup
	for n := range sessions {
		name := fmt.Sprint("user", n)
		all.Go(func() {
			for range each {
				b.Deliver(name, "more\r\n")
			}
		})
		all.Go(func() {
			for range each {
				visit(t, address, "USER "+name, "PASS secret", "RETR 1", "DELE 1", "LAST", "QUIT")
			}
		})
	}
	all.Wait()
	for n := range sessions {
		name := fmt.Sprint("user", n)
		visits := strings.Count(visit(t, address, "USER "+name, "PASS secret", "LIST", "QUIT"), " 6\r\n")
		left := b.UIDs(name)
		if len(left) < 1 || len(left) > each+1 || slices.Contains(left, "uid1") || visits != len(left) {
			t.Errorf("%s: %v left, %d listed", name, left, visits)
		}
	}
	if got := b.Logouts(); got != sessions*(each+1) {
		t.Errorf("%d logouts", got)
	}
}

// TestNoSuchMaildrop: a test that names one that is not there is told so.
func TestNoSuchMaildrop(t *testing.T) {
	defer func() {
		if got := recover(); got != `pop3test: no maildrop "nobody"` {
			t.Errorf("got %v", got)
		}
	}()
	(&pop3test.Backend{}).UIDs("nobody")
}

func ExampleBackend() {
	backend := &pop3test.Backend{Mechanisms: []string{"PLAIN"}, Last: true}
	backend.Add("alice", "secret", "Subject: one\r\n\r\nfirst\r\n")
	fmt.Println(backend.Deliver("alice", "Subject: two\r\n\r\nsecond\r\n"))
	fmt.Println(backend.UIDs("alice"))
	// Output:
	// uid2
	// [uid1 uid2]
}
