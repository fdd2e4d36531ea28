package maildrop

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"latchkey/guard"
	"latchkey/store"
)

// ruleFor is a rule for old clients, which are all outside.
type ruleFor struct {
	account store.AccountID
	fail    error
}

func (r ruleFor) Allowed(_ context.Context, remote netip.Addr, account store.AccountID) (bool, error) {
	if remote != netip.MustParseAddr("198.51.100.7") {
		return false, errors.New("not the client's address")
	}
	return account == r.account, r.fail
}

// TestOldClientRuleFails: a rule that cannot be asked lets nobody in, makes no grant, and opens nothing.
func TestOldClientRuleFails(t *testing.T) {
	f := newFixture(t)
	w := &watched{Store: f.store}
	grants := &counted{}
	address := f.serve(Options{
		Store: w, Grants: grants, OldClients: ruleFor{f.alice.ID, errors.New("broken")},
	}, func(l net.Listener) net.Listener { return outside{l} })
	c := f.hello(address)
	c.say("USER alice", "+OK")
	c.say("PASS open sesame", "-ERR [SYS/TEMP] try again later")
	c.say("STAT", "-ERR")
	if w.open.Load() != 0 || grants.logins.Load() != 0 {
		t.Errorf("%d maildrops are open, %d grants", w.open.Load(), grants.logins.Load())
	}
}

// counted counts logins.
type counted struct{ logins atomic.Int64 }

func (c *counted) LoggedIn(context.Context, guard.Place, store.AccountID, string, uint64, store.DeviceID) {
	c.logins.Add(1)
}

// TestSniffedClient is served as at a door that begins with TLS: no STLS, and passwords.
func TestSniffedClient(t *testing.T) {
	f := newFixture(t)
	address := f.serve(Options{Sniff: true}, func(l net.Listener) net.Listener { return outside{l} })
	c := tls.Client(f.dial(address), &tls.Config{InsecureSkipVerify: true}) // the test's own certificate
	if _, err := io.WriteString(c, "CAPA\r\nUSER alice\r\nPASS open sesame\r\nQUIT\r\n"); err != nil {
		t.Fatal(err)
	}
	replies, err := io.ReadAll(c)
	if err != nil || strings.Contains(string(replies), "STLS") || !strings.Contains(string(replies), "+OK 2 messages") {
		t.Errorf("got %q (%v)", replies, err)
	}
	clear := f.hello(address)
	clear.say("USER alice", "-ERR [AUTH]")
	clear.say("STLS", "+OK")
}

// TestClearTextAtImplicitTLS: POP3's words for it.
func TestClearTextAtImplicitTLS(t *testing.T) {
	f := newFixture(t)
	c := f.dial(f.serve(Options{ImplicitTLS: true, Sniff: true}, nil))
	if _, err := io.WriteString(c, "CAPA\r\n"); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(c)
	if string(got) != "-ERR turn on SSL/TLS for this port in your mail program, or use port 110 with STARTTLS (L-TC8)\r\n" || err != nil {
		t.Errorf("got %q (%v)", got, err)
	}
}
