package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"net/smtp"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"latchkey/store"
)

// oldServer has the doors for old clients, open for anna and not for bert.
func oldServer(t *testing.T) *testServer {
	t.Helper()
	const loopback = "127.0.0.1:0"
	s := newTestServer(t, "example.com")
	l := &s.config.Listen
	l.OldPOP3, l.OldPOP3S, l.OldSubmission, l.OldSMTPS = []string{loopback}, []string{loopback}, []string{loopback}, []string{loopback}
	l.Sniff = []string{"pop3", "mx", "submission", "old_pop3", "old_submission"}
	s.wrap = func(st store.Store) store.Store { return optedIn{st, "anna"} }
	s.start()
	s.addAccount("anna", "password of anna")
	s.addAccount("bert", "password of bert")
	return s
}

// optedIn is a store in which one mailbox may use the doors for old clients.
type optedIn struct {
	store.Store
	name string
}

func (o optedIn) Account(ctx context.Context, id store.AccountID) (store.Account, error) {
	a, err := o.Store.Account(ctx, id)
	a.OldClientLogin = a.Name == o.name
	return a, err
}

// dialAs connects to a door with the TLS of a version, whatever the door says first.
func (s *testServer) dialAs(door string, version uint16) (net.Conn, error) {
	conn, err := net.DialTimeout("tcp", s.addr(door), patience)
	if err != nil {
		return nil, err
	}
	s.t.Cleanup(func() { _ = conn.Close() }) // the test is over with it
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	config := s.tls()
	config.MinVersion, config.MaxVersion = version, version
	secure := tls.Client(conn, config)
	return secure, secure.Handshake()
}

// TestOldDoors: TLS 1.0 and 1.1 there and nowhere else, for those who may.
func TestOldDoors(t *testing.T) {
	s := oldServer(t)
	for _, version := range []uint16{tls.VersionTLS10, tls.VersionTLS11, tls.VersionTLS12, tls.VersionTLS13} {
		for _, door := range []string{"pop3", "pop3s", "mx", "submission", "smtps", "old_pop3", "old_pop3s", "old_submission", "old_smtps"} {
			old := strings.HasPrefix(door, "old_")
			conn, err := s.dialAs(door, version)
			if want := old || version >= tls.VersionTLS12; (err == nil) != want {
				t.Errorf("%s at %s: %v", tls.VersionName(version), door, err)
			}
			if err != nil {
				continue
			}
			if strings.Contains(door, "pop3") {
				s.wantPOPLogin(conn, "anna", true)
				continue
			}
			client, err := smtp.NewClient(conn, "127.0.0.1")
			if err != nil {
				t.Fatal(err)
			}
			if offered, _ := client.Extension("STARTTLS"); offered {
				t.Errorf("%s: STARTTLS under TLS", door)
			}
			if err := client.Auth(smtp.PlainAuth("", "anna", "password of anna", "127.0.0.1")); err != nil {
				t.Errorf("%s: %v", door, err)
			}
		}
	}
	if !strings.Contains(s.log.String(), "certificate is not for old clients") {
		t.Error("nothing is said about the key of the certificate")
	}
}

// wantPOPLogin logs in at a door for old clients. Who is not let in is told why under TLS only (RFC 8314 §4.1).
func (s *testServer) wantPOPLogin(conn net.Conn, user string, want bool) {
	s.t.Helper()
	text := "-ERR [AUTH] check the mailbox name"
	if _, secure := conn.(*tls.Conn); secure {
		text = "-ERR [SYS/PERM] use port 995"
	}
	err := s.popOn(conn).login(user, "password of "+user)
	var refused *errPOP
	if (err == nil) != want || err != nil && (!errors.As(err, &refused) || !strings.HasPrefix(refused.line, text)) {
		s.t.Errorf("%s: %v", user, err)
	}
}

// TestOldDoorsAreForThoseWhoMay: bert may not, until the owner lets everybody in, or his network.
func TestOldDoorsAreForThoseWhoMay(t *testing.T) {
	s := oldServer(t)
	try := func(want bool) {
		t.Helper()
		for _, door := range []string{"old_pop3", "old_pop3s"} {
			s.wantPOPLogin(s.dial(door), "anna", true)
			s.wantPOPLogin(s.dial(door), "bert", want)
		}
		for door, code := range map[string]int{"old_submission": 535, "old_smtps": 534} {
			client, err := smtp.NewClient(s.dial(door), "127.0.0.1")
			if err != nil {
				t.Fatal(err)
			}
			err = client.Auth(smtp.PlainAuth("", "bert", "password of bert", "127.0.0.1"))
			var refused *textproto.Error
			if (err == nil) != want || err != nil && (!errors.As(err, &refused) || refused.Code != code) {
				t.Errorf("bert at %s: %v", door, err)
			}
		}
	}
	change := func(f func(*store.Settings)) {
		t.Helper()
		s.stop()
		s.inStore(func(st store.Store) {
			settings, err := st.Settings(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			f(&settings)
			if _, err := st.UpdateSettings(t.Context(), settings); err != nil {
				t.Fatal(err)
			}
		})
		s.start()
	}
	try(false)
	change(func(settings *store.Settings) { settings.OldClientLogin = true })
	try(true)
	change(func(settings *store.Settings) {
		settings.OldClientLogin, settings.OldClientNetworks = false, []netip.Prefix{netip.MustParsePrefix("127.0.0.0/24")}
	})
	try(true)
	change(func(settings *store.Settings) {
		settings.OldClientNetworks = []netip.Prefix{netip.MustParsePrefix("127.0.9.0/24")}
	})
	try(false)
	if err := s.pop("pop3s").login("bert", "password of bert"); err != nil {
		t.Errorf("bert at a usual door: %v", err)
	}
}

// TestOldFormOfAUTH: at the doors for old clients, and at no other.
func TestOldFormOfAUTH(t *testing.T) {
	s := oldServer(t)
	for _, door := range []string{"mx", "submission", "smtps", "old_submission", "old_smtps"} {
		conn := s.dial(door)
		if _, err := conn.Write([]byte("EHLO PC\r\nQUIT\r\n")); err != nil {
			t.Fatal(err)
		}
		found := false
		for lines := bufio.NewScanner(conn); lines.Scan(); {
			line := lines.Text()
			found = found || strings.HasPrefix(line, "250-AUTH=LOGIN PLAIN ") && strings.HasSuffix(line, " CRAM-MD5")
		}
		if found != strings.HasPrefix(door, "old_") {
			t.Errorf("%s: AUTH= is %v", door, found)
		}
	}
}

// TestExclusiveAtAllDoors: with exclusive_maildrop, switched on while the server runs, a mailbox open at one door is in use at every other.
func TestExclusiveAtAllDoors(t *testing.T) {
	s := oldServer(t)
	login := func(door string) error { return s.pop(door).login("anna", "password of anna") }
	before := s.pop("pop3s")
	if err := before.login("anna", "password of anna"); err != nil {
		t.Fatal(err)
	}
	if status, _, errs := s.latchkey("settings", "set", "exclusive_maildrop=on"); status != 0 {
		t.Fatalf("settings set: %s", errs)
	}
	holder := s.pop("old_pop3")
	if err := holder.login("anna", "password of anna"); err != nil {
		t.Fatal(err)
	}
	for _, door := range []string{"pop3", "pop3s", "old_pop3", "old_pop3s"} {
		var refused *errPOP
		if err := login(door); !errors.As(err, &refused) || !strings.HasPrefix(refused.line, "-ERR [IN-USE]") {
			t.Errorf("%s: %v", door, err)
		}
	}
	before.must("QUIT")
	holder.must("QUIT")
	if err := login("pop3s"); err != nil {
		t.Errorf("after QUIT: %v", err)
	}
}
