package maildrop

import (
	"context"
	"crypto/hmac"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"latchkey/auth"
	"latchkey/guard"
	"latchkey/store"
)

// oldDoor is the fixture with challenge logins, and a door for old clients.
func oldDoor(t *testing.T) *fixture {
	f := newFixture(t)
	f.auth = auth.New(auth.Options{Accounts: f.store, Settings: f.store, Sealing: f.store, Guard: guard.NewLogins(guard.LoginLimits{Delays: noDelays})})
	f.update(func(a *store.Account) { a.OldClientLogin = true })
	f.door = f.serve(Options{OldClients: only(f.alice.ID)}, nil)
	return f
}

// only is a rule that lets one account in, from anywhere.
type only store.AccountID

func (o only) Allowed(_ context.Context, _ netip.Addr, account store.AccountID) (bool, error) {
	return account == store.AccountID(o), nil
}

func (c *talker) login(user, password string) {
	c.t.Helper()
	c.ask("USER "+user, "+OK")
	c.ask("PASS "+password, "+OK")
}

// digestOf is what APOP sends after a greeting (RFC 1939 §7).
func digestOf(t *testing.T, greeting, password string) string {
	t.Helper()
	_, stamp, found := strings.Cut(greeting, "<")
	if !found {
		t.Fatalf("the greeting %q has no timestamp", greeting)
	}
	sum := md5.Sum([]byte("<" + stamp + password))
	return hex.EncodeToString(sum[:])
}

// TestAPOPAtOldDoor: the greeting has a timestamp; a password that was used once opens the maildrop by its digest from then on, also with a
// selection, until old-client login is switched off.
func TestAPOPAtOldDoor(t *testing.T) {
	f := oldDoor(t)
	apop := func(user, password, want string) {
		t.Helper()
		c := f.dialTalk(t)
		greeting := c.reply("+OK ")
		c.ask("APOP "+user+" "+digestOf(t, greeting, password), want)
		c.ask("QUIT", "+OK")
	}
	apop("alice", "open sesame", "-ERR [AUTH]") // nothing is sealed yet
	c := f.dialTalk(t)
	c.reply("+OK")
	c.login("alice", "open sesame")
	c.ask("QUIT", "+OK")
	apop("alice", "open sesame", "+OK 2 messages")
	apop("alice(max=1)", "open sesame", "+OK 1 message")
	apop("alice", "open says me", "-ERR [AUTH]")
	apop("nobody", "open sesame", "-ERR [AUTH]")
	f.alice, _ = f.store.Account(t.Context(), f.alice.ID)
	f.update(func(a *store.Account) { a.OldClientLogin = false })
	apop("alice", "open sesame", "-ERR [AUTH]")
}

// TestCRAMMD5AtOldDoor: CAPA lists the challenges, and CRAM-MD5 opens the maildrop.
func TestCRAMMD5AtOldDoor(t *testing.T) {
	f := oldDoor(t)
	c := f.dialTalk(t)
	c.reply("+OK")
	if capa := strings.Join(c.lines("CAPA"), "\n"); !strings.Contains(capa, "SASL PLAIN LOGIN SCRAM-SHA-256 CRAM-MD5") {
		t.Errorf("CAPA: %s", capa)
	}
	c.login("alice", "open sesame")
	c.ask("QUIT", "+OK")
	for _, tt := range []struct{ password, want string }{{"open sesame", "+OK 2 messages"}, {"wrong", "-ERR [AUTH]"}} {
		c := f.dialTalk(t)
		c.reply("+OK")
		challenge, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(c.ask("AUTH CRAM-MD5", "+ "), "+ "))
		if err != nil {
			t.Fatal(err)
		}
		mac := hmac.New(md5.New, []byte(tt.password))
		mac.Write(challenge)
		c.ask(base64.StdEncoding.EncodeToString([]byte("alice "+hex.EncodeToString(mac.Sum(nil)))), tt.want)
	}
	c = f.dialTalk(t)
	c.reply("+OK")
	c.ask("AUTH CRAM-MD5", "+ ")
	c.ask(base64.StdEncoding.EncodeToString([]byte("nonsense")), "-ERR malformed response")
}

// TestNoChallengeElsewhere: an ordinary door has no timestamp, no APOP and no CRAM-MD5.
func TestNoChallengeElsewhere(t *testing.T) {
	f := oldDoor(t)
	f.door = f.serve(Options{}, nil)
	c := f.dialTalk(t)
	if greeting := c.reply("+OK "); strings.Contains(greeting, "<") {
		t.Errorf("greeting %q", greeting)
	}
	if capa := strings.Join(c.lines("CAPA"), "\n"); strings.Contains(capa, "CRAM") || strings.Contains(capa, "SCRAM") {
		t.Errorf("CAPA: %s", capa)
	}
	c.ask("AUTH CRAM-MD5", "-ERR")
	c.ask("APOP alice 00112233445566778899aabbccddeeff", "-ERR")
}
