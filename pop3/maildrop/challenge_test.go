package maildrop

import (
	"context"
	"crypto/hmac"
	"crypto/md5"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"hash"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"latchkey/auth"
	"latchkey/guard"
	"latchkey/store"
)

// oldDoor is the fixture with challenge logins, and a door for old clients.
func oldDoor(t *testing.T) *fixture {
	f := newFixture(t)
	f.auth = auth.New(auth.Options{
		Accounts: f.store, Settings: f.store, Cost: cheap, Sealing: f.store, Guard: guard.NewLogins(guard.LoginLimits{Delays: noDelays}),
	})
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
	if capa := strings.Join(c.lines("CAPA"), "\n"); !strings.Contains(capa, "SASL PLAIN LOGIN SCRAM-SHA-256 SCRAM-SHA-1 CRAM-MD5") {
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

// scramFinal is what a client without channel binding answers to a server-first-message (RFC 5802 §3), and what the server then has to say. first
// is the client-first-message-bare. It is made of the RFC's formulas, and shares nothing with the server.
func scramFinal(hash func() hash.Hash, first, line, password string) (final, thanks string) {
	server, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(line, "+ "))
	if err != nil {
		return err.Error(), ""
	}
	var nonce, salt string
	iterations := 0
	for field := range strings.SplitSeq(string(server), ",") {
		switch {
		case strings.HasPrefix(field, "r="):
			nonce = field
		case strings.HasPrefix(field, "s="):
			octets, _ := base64.StdEncoding.DecodeString(field[2:]) // no proof comes of another one
			salt = string(octets)
		case strings.HasPrefix(field, "i="):
			iterations, _ = strconv.Atoi(field[2:])
		}
	}
	salted, err := pbkdf2.Key(hash, password, []byte(salt), iterations, hash().Size())
	if err != nil {
		return err.Error(), ""
	}
	mac := func(key []byte, text string) []byte {
		m := hmac.New(hash, key)
		m.Write([]byte(text))
		return m.Sum(nil)
	}
	without := "c=" + b64("n,,") + "," + nonce
	all := first + "," + string(server) + "," + without
	key := mac(salted, "Client Key")
	stored := hash()
	stored.Write(key)
	for i, octet := range mac(stored.Sum(nil), all) {
		key[i] ^= octet
	}
	return b64(without + ",p=" + b64(string(key))), "+ " + b64("v="+b64(string(mac(mac(salted, "Server Key"), all))))
}

// TestSCRAMAtDoors: both hashes open the maildrop at a door for old clients, and at an ordinary one where all mailboxes have old-client login; the
// server proves itself; a wrong password gets no proof of the server's. SHA-256 is listed first.
func TestSCRAMAtDoors(t *testing.T) {
	f := oldDoor(t)
	c := f.dialTalk(t)
	c.reply("+OK")
	c.login("alice", "open sesame") // and is sealed
	c.ask("QUIT", "+OK")
	f.set(func(s *store.Settings) { s.OldClientLogin = true })
	for _, door := range []string{f.door, f.serve(Options{}, nil)} {
		f.door = door
		for _, tt := range []struct {
			mechanism string
			hash      func() hash.Hash
		}{{"SCRAM-SHA-256", sha256.New}, {"SCRAM-SHA-1", sha1.New}} {
			for _, password := range []string{"open sesame", "wrong"} {
				c := f.dialTalk(t)
				c.reply("+OK")
				if capa := strings.Join(c.lines("CAPA"), "\n"); !strings.Contains(capa, " SCRAM-SHA-256 SCRAM-SHA-1") {
					t.Errorf("CAPA: %s", capa)
				}
				final, thanks := scramFinal(tt.hash, "n=alice,r=x", c.ask("AUTH "+tt.mechanism+" "+b64("n,,n=alice,r=x"), "+ "), password)
				if password == "wrong" {
					c.ask(final, "-ERR [AUTH]")
					continue
				}
				if got := c.ask(final, "+ "); got != thanks {
					t.Errorf("%s: the server proves itself by %q, want %q", tt.mechanism, got, thanks)
				}
				c.ask("", "+OK 2 messages")
				c.ask("STAT", "+OK 2 ")
			}
		}
	}
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
