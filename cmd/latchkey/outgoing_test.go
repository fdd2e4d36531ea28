package main

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestListensAt: mail never goes to one of our own doors, under whatever address of this host the door is reached.
func TestListensAt(t *testing.T) {
	p := &process{}
	for _, address := range []string{"127.0.0.1:0", "0.0.0.0:0", "[::]:0"} {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() }) // nothing was accepted
		p.doors = append(p.doors, door{listener: l})
	}
	port := func(i int) uint16 { return netip.MustParseAddrPort(p.doors[i].listener.Addr().String()).Port() }
	for _, tt := range []struct {
		name   string
		target string
		port   uint16
		want   bool
	}{
		{"the address itself", "127.0.0.1", port(0), true},
		{"its mapped form", "::ffff:127.0.0.1", port(0), true},
		{"another loopback address", "127.0.0.2", port(0), false},
		{"another port", "127.0.0.1", 1, false},
		{"loopback of a door on all addresses", "127.0.0.9", port(1), true},
		{"IPv6 loopback of a door on all addresses", "::1", port(2), true},
		{"somebody else's address", "192.0.2.1", port(1), false},
	} {
		if got := p.listensAt(netip.AddrPortFrom(netip.MustParseAddr(tt.target), tt.port)); got != tt.want {
			t.Errorf("%s: %t, want %t", tt.name, got, tt.want)
		}
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		own, ok := netip.AddrFromSlice(a.(*net.IPNet).IP)
		if !ok || !p.listensAt(netip.AddrPortFrom(own, port(1))) {
			t.Errorf("a door on all addresses is not seen at %s", a)
		}
	}
}

// TestFirstLine: the smarthost's password is the first line of its file, without its line end, and nothing else is taken for one.
func TestFirstLine(t *testing.T) {
	for _, tt := range []struct{ name, content, want string }{
		{"plain", "secret\n", "secret"},
		{"without a line end", "secret", "secret"},
		{"with CRLF", "secret\r\nmore\r\n", "secret"},
		{"with blanks", " a b \n", " a b "},
		{"longest", strings.Repeat("x", maxPasswordFile) + "\n", strings.Repeat("x", maxPasswordFile)},
		{"too long", strings.Repeat("x", maxPasswordFile+1) + "\n", ""},
		{"empty", "", ""},
		{"empty first line", "\nsecret\n", ""},
	} {
		path := filepath.Join(t.TempDir(), "password")
		if err := os.WriteFile(path, []byte(tt.content), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := firstLine(path)
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%s: %q, %v; want %q", tt.name, got, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the password is in the error: %v", tt.name, err)
		}
	}
	if _, err := firstLine(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a file that does not exist has a password")
	}
}
