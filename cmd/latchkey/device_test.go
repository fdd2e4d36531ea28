package main

import (
	"net/textproto"
	"strings"
	"testing"

	"latchkey/webmanager"
)

// addDevice makes a device credential by the command line, and returns its password.
func (s *testServer) addDevice(args ...string) string {
	s.t.Helper()
	status, password, stderr := s.latchkey(append([]string{"device", "add"}, args...)...)
	if status != 0 {
		s.t.Fatalf("device add: %d, %s", status, stderr)
	}
	return strings.TrimSpace(password)
}

// TestDeviceOpensItsDoors: a scanner with a credential of its own fetches and sends as its mailbox, by login and by POP before SMTP, to whom it may;
// revoked, it does neither, while the main password and another device go on; after a restart too.
func TestDeviceOpensItsDoors(t *testing.T) {
	s := startServer(t, "example.com")
	s.addAccount("anna", "password of anna")
	scanner := s.addDevice("anna", "Office scanner", "--scope", "send,fetch", "--own-domain")
	cron := s.addDevice("anna", "cron")
	s.send("anna", scanner, []string{"anna@example.com"}, message("scan"))
	got := s.fetch("anna", scanner)
	holds(t, got, "scan")
	if !strings.Contains(got[0], "SMTPSA tls ") || !strings.Contains(got[0], `(device "Office scanner")`) {
		t.Errorf("the message is\n%s", got[0])
	}
	wantCode(t, "to another domain", s.trySend("anna", scanner, []string{"x@other.example"}, message("no")), 550)
	wantAuthRefused(t, s.pop("pop3s").login("anna", cron), "-ERR [SYS/PERM] have fetching allowed for the device")
	// The fetch above has opened a grant, with the same bounds.
	conn := textproto.NewConn(s.dial("submission"))
	ask := func(command string, code int) {
		t.Helper()
		if command != "" {
			if err := conn.PrintfLine("%s", command); err != nil {
				t.Fatal(err)
			}
		}
		if _, _, err := conn.ReadResponse(code); err != nil {
			t.Errorf("%s: %v", command, err)
		}
	}
	ask("", 220)
	ask("EHLO scanner", 250)
	ask("MAIL FROM:<anna@example.com>", 250)
	ask("RCPT TO:<x@other.example>", 550)
	ask("RCPT TO:<anna@example.com>", 250)
	ask("RSET", 250)

	open, other := s.submission("anna", scanner), s.submission("anna", cron)
	s.setPassword("anna", "second password")
	if err := open.Mail("anna@example.com"); err != nil {
		t.Errorf("a new main password ended a device: %v", err)
	}
	if err := open.Reset(); err != nil {
		t.Error(err)
	}
	s.fetch("anna", scanner)
	ask("MAIL FROM:<anna@example.com>", 250)
	ask("RSET", 250)
	s.mustRun("device", "revoke", "anna", "office SCANNER")
	ask("MAIL FROM:<anna@example.com>", 550)
	wantCode(t, "open session of a revoked device", open.Mail("anna@example.com"), 421)
	for range 2 {
		wantCode(t, "revoked device at SMTP", s.trySend("anna", scanner, []string{"anna@example.com"}, message("no")), 535)
		wantAuthRefusal(t, "revoked device at POP3", s.pop("pop3s").login("anna", scanner))
		if err := other.Mail("anna@example.com"); err != nil {
			t.Errorf("another device: %v", err)
		}
		if err := other.Reset(); err != nil {
			t.Error(err)
		}
		s.stop()
		s.start()
		other = s.submission("anna", cron)
	}
	holds(t, s.fetch("anna", "second password"), "scan")
}

// wantAuthRefused checks the beginning of a POP3 refusal.
func wantAuthRefused(t *testing.T, err error, prefix string) {
	t.Helper()
	if err == nil || !strings.HasPrefix(err.Error(), prefix) {
		t.Errorf("got %v, want %s", err, prefix)
	}
}

// TestAbuse37DevicesOverTheWire: the devices of a removed mailbox open nothing of the next owner of its name.
func TestAbuse37DevicesOverTheWire(t *testing.T) {
	s := startServer(t, "example.com")
	s.addAccount("anna", "old password")
	old := s.addDevice("anna", "scanner", "--scope", "send,fetch")
	open := s.submission("anna", old)
	s.fetch("anna", old)
	s.do("DELETE", "/v1/accounts/anna", nil, nil)
	s.addAccount("anna", "new password")
	wantCode(t, "open session", open.Mail("anna@example.com"), 421)
	for range 2 {
		wantCode(t, "SMTP", s.trySend("anna", old, []string{"anna@example.com"}, message("no")), 535)
		wantAuthRefusal(t, "POP3", s.pop("pop3s").login("anna", old))
		var page webmanager.DevicePage
		s.do("GET", "/v1/devices?mailbox=anna", nil, &page)
		if len(page.Devices) != 0 {
			t.Errorf("the new mailbox has devices %+v", page.Devices)
		}
		s.stop()
		s.start()
	}
}
