package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"latchkey/guard"
	"latchkey/store"
	"latchkey/webmanager"
)

// popFrom logs in by POP3 from a local address, and returns the answer to the password.
func (s *testServer) popFrom(from, user, password string) string {
	s.t.Helper()
	dialer := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	conn, err := dialer.DialContext(s.t.Context(), "tcp", s.addr("pop3"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = conn.Close() }() // all was said
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		s.t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	line := ""
	for _, say := range []string{"", "USER " + user + "\r\n", "PASS " + password + "\r\n"} {
		if _, err := io.WriteString(conn, say); err != nil {
			s.t.Fatal(err)
		}
		if line, err = r.ReadString('\n'); err != nil {
			s.t.Fatal(err)
		}
	}
	return line
}

// TestBanOverARestart: who is banned is so after a restart too, and is told the cure; the ban is lifted at once.
func TestBanOverARestart(t *testing.T) {
	s := startServer(t, "example.com")
	s.addAccount("anna", "quite-a-secret")
	s.do("POST", "/v1/bans", webmanager.NewBan{Network: "127.0.0.9", Mailbox: "anna"}, nil)
	s.stop()
	s.start()
	if got := s.popFrom("127.0.0.9", "anna", "quite-a-secret"); !strings.HasPrefix(got, "-ERR [SYS/TEMP] correct the saved password") {
		t.Errorf("banned: got %q", got)
	}
	if got := s.popFrom("127.0.0.8", "anna", "quite-a-secret"); !strings.HasPrefix(got, "+OK") {
		t.Errorf("from elsewhere: got %q", got)
	}
	s.do("POST", "/v1/bans/lift", webmanager.BanLift{Network: "127.0.0.9"}, nil)
	if got := s.popFrom("127.0.0.9", "anna", "quite-a-secret"); !strings.HasPrefix(got, "+OK") {
		t.Errorf("lifted: got %q", got)
	}
}

// TestStaleDeviceIsTold: a program that comes again and again with the password from before a change is answered at once, is banned nowhere, and its
// owner gets one letter.
func TestStaleDeviceIsTold(t *testing.T) {
	s := startServer(t, "example.com")
	s.addAccount("anna", "last years secret")
	if got := s.popFrom("127.0.0.9", "anna", "last years secret"); !strings.HasPrefix(got, "+OK") {
		t.Fatalf("got %q", got)
	}
	s.setPassword("anna", "this years secret")
	for range 40 {
		if got := s.popFrom("127.0.0.9", "anna", "last years secret"); !strings.HasPrefix(got, "-ERR [AUTH]") {
			t.Fatalf("got %q", got)
		}
	}
	if got := s.popFrom("127.0.0.9", "anna", "this years secret"); !strings.HasPrefix(got, "+OK") {
		t.Errorf("the new password: got %q", got)
	}
	letters := s.eventually("anna", "this years secret", 1)
	if len(letters) != 1 || !strings.Contains(letters[0], "Subject: A device with an old password") || !strings.Contains(letters[0], "address: 127.0.0.9") {
		t.Errorf("letters: %q", letters)
	}
}

// eventually fetches mail until there are so many messages.
func (s *testServer) eventually(user, password string, n int) (letters []string) {
	s.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if letters = s.fetch(user, password); len(letters) >= n {
			break
		}
	}
	return letters
}

// TestRememberClients: of the inventory every address is known at the start with the mailbox that was used from there, as long as it was not too long ago.
func TestRememberClients(t *testing.T) {
	s := newTestServer(t, "example.com")
	st, err := openStore(t.Context(), s.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = st.Close() }()
	now := time.Now()
	address := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}) }
	var ids []store.AccountID
	for i := range 3 {
		a, err := st.AddAccount(t.Context(), store.Account{Name: fmt.Sprint("mailbox", i)})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, a.ID)
		seen := store.Client{Account: a.ID, Program: "x", Door: "pop3s", Mechanism: "USER", Address: address(i), Last: now.Add(-time.Duration(i) * 4 * 24 * time.Hour)}
		seen.First = seen.Last
		if err := st.NoteClients(t.Context(), []store.Client{seen}); err != nil {
			t.Fatal(err)
		}
	}
	logins := guard.NewLogins(guard.LoginLimits{})
	if err := rememberClients(t.Context(), st, logins); err != nil {
		t.Fatal(err)
	}
	for i := range ids {
		if !logins.Known(now, address(i), fmt.Sprint("mailbox", i)) || logins.Known(now, address(i), "postmaster") {
			t.Errorf("mailbox %d: not known where it was used, or another there", i)
		}
		if got, want := logins.Home(now, address(i)), i < 2; got != want {
			t.Errorf("client %d: a home %v, want %v", i, got, want)
		}
	}
}
