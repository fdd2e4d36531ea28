package main

import (
	"io"
	"net"
	"net/netip"
	"net/smtp"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"latchkey/config"
	"latchkey/webmanager"
)

const behindProxy = "203.0.113.7"

// proxiedServer is a server behind a proxy at 127.0.0.5, and behind one at sockets.
func proxiedServer(t *testing.T) *testServer {
	t.Helper()
	s := newTestServer(t, "example.com")
	dir, err := os.MkdirTemp("", "doors") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s.config.Proxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.5/32")}
	s.config.Listen.POP3 = append(s.config.Listen.POP3, config.UnixPrefix+filepath.Join(dir, "pop3"))
	s.config.Listen.MX = append(s.config.Listen.MX, config.UnixPrefix+filepath.Join(dir, "mx"))
	return s
}

// throughProxy connects to a door as the proxy does for a client.
func (s *testServer) throughProxy(door, client string) net.Conn {
	s.t.Helper()
	conn := s.dialFrom("127.0.0.5", door)
	s.t.Cleanup(func() { _ = conn.Close() }) // the test is over with it
	if _, err := io.WriteString(conn, "PROXY TCP4 "+client+" 192.0.2.25 4711 25\r\n"); err != nil {
		s.t.Fatal(err)
	}
	return conn
}

// Row 35 of the abuse scenarios: behind a proxy every rule holds for the client: a grant is bound to its address, and to no other that comes
// through the proxy; Received, the inventory and the log name it.
func TestAbuse35GrantsBehindAProxy(t *testing.T) {
	s := proxiedServer(t)
	s.start()
	s.addAccount("anna", "password of anna")
	s.do("PATCH", "/v1/settings", map[string]any{"cleartext_login": true, "confirm": "example.com"}, nil)
	p := s.popOn(s.throughProxy("pop3", behindProxy))
	if err := p.login("anna", "password of anna"); err != nil {
		t.Fatal(err)
	}
	p.must("QUIT")
	var page webmanager.GrantPage
	s.do("GET", "/v1/grants?live=true", nil, &page)
	if len(page.Grants) != 1 || page.Grants[0].Network.String() != behindProxy+"/32" {
		t.Fatalf("grants %+v", page.Grants)
	}
	send := func(client string) error {
		c, err := smtp.NewClient(s.throughProxy("mx", client), "127.0.0.1")
		if err != nil {
			t.Fatal(err)
		}
		return transact(c, "anna@example.com", []string{"anna@example.com"}, "From: anna@example.com\r\n\r\nhello\r\n")
	}
	if err := send(behindProxy); err != nil {
		t.Errorf("from where mail was fetched: %v", err)
	}
	wantCode(t, "from elsewhere, through the same proxy", send("203.0.113.8"), 550)
	mail := s.fetch("anna", "password of anna")
	if len(mail) != 1 || !strings.Contains(mail[0], "([203.0.113.7])") || !strings.Contains(mail[0], "(POP-before-SMTP grant ") || strings.Contains(mail[0], "127.0.0.5") {
		t.Errorf("got %q", mail)
	}
	if log := s.log.String(); !strings.Contains(log, "remote=203.0.113.8") || strings.Contains(log, "remote=127.0.0.5") {
		t.Error("the log does not name the client")
	}
}

// Row 35: a listed proxy without a header is hung up on; an address that is not listed gains nothing by one.
func TestAbuse35HeadersOfOthers(t *testing.T) {
	s := proxiedServer(t)
	s.start()
	conn := s.dialFrom("127.0.0.5", "mx")
	defer func() { _ = conn.Close() }() // it has been closed
	if _, err := io.WriteString(conn, "EHLO x\r\n"); err != nil {
		t.Fatal(err)
	}
	if got, _ := io.ReadAll(conn); len(got) != 0 {
		t.Errorf("a proxy without a header hears %q", got)
	}
	stranger := s.dialFrom("127.0.0.6", "mx")
	defer func() { _ = stranger.Close() }() // nothing more is wanted
	if _, err := io.WriteString(stranger, "PROXY TCP4 203.0.113.7 192.0.2.25 4711 25\r\nQUIT\r\n"); err != nil {
		t.Fatal(err)
	}
	got, _ := io.ReadAll(stranger)
	if lines := strings.Split(string(got), "\r\n"); len(lines) < 2 || !strings.HasPrefix(lines[0], "220 ") || !strings.HasPrefix(lines[1], "5") {
		t.Errorf("a stranger with a header hears %q", got)
	}
}

// Row 35: a door may be a unix socket, which is made anew at each start; a file in its place is not touched.
func TestAbuse35UnixDoors(t *testing.T) {
	s := proxiedServer(t)
	path := strings.TrimPrefix(s.config.Listen.MX[1], config.UnixPrefix)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if _, err := listenAt(config.UnixPrefix + path); err == nil || !strings.Contains(err.Error(), "is in use by another process") {
		t.Errorf("a socket in use: %v", err)
	}
	if err := l.Close(); err != nil { // and the socket stays, as after a crash
		t.Fatal(err)
	}
	file := filepath.Join(filepath.Dir(path), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listenAt(config.UnixPrefix + file); err == nil || !strings.Contains(err.Error(), "is in the way and is no socket") {
		t.Errorf("a file: %v", err)
	}
	s.start()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != socketMode {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }() // after QUIT
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "PROXY TCP6 2001:db8::7 2001:db8::25 4711 25\r\n"); err != nil {
		t.Fatal(err)
	}
	c, err := smtp.NewClient(conn, "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	if err := transact(c, "x@remote.example", []string{"postmaster@example.com"}, message("hello")); err != nil {
		t.Error(err)
	}
	if mail := s.fetch("postmaster", "password of postmaster"); len(mail) != 1 || !strings.Contains(mail[0], "([IPv6:2001:db8::7])") {
		t.Errorf("got %q", mail)
	}
	s.stop()
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the socket is still there: %v", err)
	}
}
