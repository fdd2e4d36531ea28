package webmanager

import (
	"context"
	"errors"
	"net"
	"net/netip"
	netsmtp "net/smtp"
	"slices"
	"strings"
	"testing"
	"time"

	"latchkey/auth"
	"latchkey/guard"
	"latchkey/internal/mailaddr"
	"latchkey/smtp"
	"latchkey/store"
)

// anybody takes every password.
type anybody struct{ *fixture }

func (a anybody) Login(ctx context.Context, _ auth.Attempt, username, _ string) (auth.Identity, error) {
	account, err := a.store.AccountByName(ctx, username)
	if err != nil {
		return auth.Identity{}, err
	}
	address, err := mailaddr.New(username, domain)
	return auth.Identity{Account: account.ID, Name: username, Address: address, CredentialVersion: account.CredentialVersion}, err
}

func (anybody) CleartextAllowed(context.Context, netip.Addr) bool { return true }

func (anybody) ArrivedInClear(auth.Attempt, string, string)  {}
func (anybody) Current(context.Context, auth.Identity) error { return nil }
func (anybody) CurrentDevice(context.Context, auth.Identity, netip.Addr) (store.Device, error) {
	return store.Device{}, store.ErrNotFound
}

// TestPreviewOfWhatWasSent: mail goes through the real door, by AUTH, by a grant and from a trusted network, on several days of a fake
// clock; the preview says who sent how much, and forgets what is older than 30 days.
func TestPreviewOfWhatWasSent(t *testing.T) {
	f := newFixture(t)
	f.add("anna", "bert", "carl")
	clock := noon.AddDate(0, 0, -40)
	now := func() time.Time { return clock }
	f.api.now = now
	none := func() ([]netip.Addr, error) { return nil, nil }
	hosts := guard.NewHosts(guard.HostsOptions{Interfaces: none, Gateways: none, Now: now})
	grants := guard.NewGrants(guard.GrantOptions{Grants: f.store, Accounts: f.store, Settings: f.store, Hosts: hosts, Now: now})
	srv := smtp.New(smtp.Options{
		Door: smtp.Submission, Store: f.store, Auth: anybody{f}, Sending: guard.NewSending(f.store, now), Grants: grants, Hosts: hosts, Loopback: true,
		Hostname: "mail.example.com", Now: now,
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(listener) }()
	defer func() {
		if err := errors.Join(srv.Close(), <-served); !errors.Is(err, smtp.ErrServerClosed) {
			t.Error(err)
		}
	}()
	send := func(from, mailbox string, login bool, to ...string) {
		t.Helper()
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		conn, err := dialer.Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		c, err := netsmtp.NewClient(conn, "127.0.0.1")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		if login {
			err = c.Auth(netsmtp.PlainAuth("", mailbox, "x", "127.0.0.1"))
		}
		err = errors.Join(err, c.Mail(mailbox+"@"+domain))
		for _, rcpt := range to {
			err = errors.Join(err, c.Rcpt(rcpt))
		}
		if err != nil {
			t.Fatal(err)
		}
		w, err := c.Data()
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.Write([]byte("From: " + mailbox + "@" + domain + "\r\n\r\nx\r\n"))
		if err := errors.Join(err, w.Close(), c.Quit()); err != nil {
			t.Fatal(err)
		}
	}
	fetch := func(from, mailbox string) {
		a := f.account(mailbox)
		grants.LoggedIn(t.Context(), guard.Place{Remote: netip.MustParseAddr(from), Loopback: true}, a.ID, a.Name, a.CredentialVersion, 0)
	}
	const out, out2 = "x@elsewhere.example", "y@other.example"
	send("127.0.0.5", "anna", true, out) // too long ago to count
	clock = noon.AddDate(0, 0, -20)
	fetch("127.0.0.6", "bert")
	send("127.0.0.6", "bert", false, out, out2)      // one message
	send("127.0.0.6", "bert", false, "anna@"+domain) // does not leave the domain
	f.do("PATCH", "/v1/settings", map[string]any{"require_auth": false, "trusted_networks": []string{"127.0.0.0/24"}, "confirm": domain}, nil)
	send("127.0.0.7", "carl", false, out)
	clock = noon.AddDate(0, 0, -1)
	send("127.0.0.7", "carl", false, out)
	send("127.0.0.5", "anna", true, out)
	clock = noon
	fetch("127.0.0.6", "bert")
	send("127.0.0.6", "bert", false, out)
	for _, tt := range []struct {
		body map[string]any
		want string
	}{
		{map[string]any{"pop_before_smtp": false},
			"1 mailbox and 1 address sent 2 messages by POP before SMTP in the last 30 days; they will have to turn on AUTH: bert"},
		{map[string]any{"require_auth": true},
			"1 mailbox and 1 address sent 2 messages without AUTH from trusted networks in the last 30 days; they will have to turn on AUTH: carl"},
		{map[string]any{"outgoing_mail": false},
			"3 mailboxes and 3 addresses sent 5 messages to other domains in the last 30 days; they cannot any more: bert, carl, anna"},
		{map[string]any{"no_grant_networks": []string{"127.0.0.0/16"}},
			"1 address sent 2 messages by POP before SMTP from there in the last 30 days; they will have to turn on AUTH: 127.0.0.6"},
	} {
		if got := f.preview(tt.body).Consequences; !slices.Contains(got, tt.want) {
			t.Errorf("%v:\n%s\nwant among them\n%s", tt.body, strings.Join(got, "\n"), tt.want)
		}
	}
	for _, way := range []store.SentWay{store.SentAuth, store.SentGrant, store.SentTrusted} {
		if n, err := f.store.Stat(t.Context(), store.DayOf(noon.AddDate(0, 0, -40)), store.SentFromAddress(way, netip.MustParseAddr("127.0.0.5"))); err != nil ||
			(n == 1) != (way == store.SentAuth) {
			t.Errorf("%s, 40 days ago: %d, %v", way, n, err)
		}
	}
}
