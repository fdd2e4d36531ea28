package webmanager

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"latchkey/auth"
	"latchkey/internal/passkey/passkeytest"
	"latchkey/store"
)

const (
	passkeysPath = "/v1/accounts/anna/passkeys"
	pagesOrigin  = "https://mail.example.com"
)

// keyring is anna's authenticator, and time that a test moves on.
type keyring struct {
	*fixture
	own    *Client
	now    time.Time
	device *passkeytest.Authenticator
}

func newKeyring(t *testing.T) *keyring {
	k := &keyring{fixture: provingFixture(t), now: noon, device: passkeytest.New(pagesOrigin)}
	k.api.now = func() time.Time { return k.now }
	k.api.webURL = func() string { return pagesOrigin }
	k.own = k.session("one")
	return k
}

// session is anna in a session of the pages.
func (k *keyring) session(name string) *Client {
	actor := actorFor(k.fixture, callMailboxOwn)
	actor.Session = name
	return InProcess(k.api, actor)
}

// ask asks for what a passkey is made with.
func (k *keyring) ask(name string) (PasskeyOptions, error) {
	var asked PasskeyOptions
	err := k.own.Do(k.Context(), "POST", passkeysPath, NewPasskey{Name: name, Current: "old"}, &asked)
	return asked, err
}

// make has the device make what was asked for.
func (k *keyring) make(asked PasskeyOptions, name string) MadePasskey {
	k.Helper()
	response, err := k.device.Create(asked.Options)
	if err != nil {
		k.Fatal(err)
	}
	return MadePasskey{Name: name, Ticket: asked.Ticket, Response: response}
}

// add makes a passkey.
func (k *keyring) add(name string) (Passkey, error) {
	k.Helper()
	asked, err := k.ask(name)
	if err != nil {
		return Passkey{}, err
	}
	var added Passkey
	err = k.own.Do(k.Context(), "PUT", passkeysPath, k.make(asked, name), &added)
	return added, err
}

func (k *keyring) added(name string) Passkey {
	k.Helper()
	added, err := k.add(name)
	if err != nil {
		k.Fatal(err)
	}
	return added
}

func (k *keyring) list() PasskeyList {
	k.Helper()
	var list PasskeyList
	k.do("GET", passkeysPath, nil, &list)
	return list
}

// request is what a passkey is shown with.
func (k *keyring) request() PasskeyOptions {
	k.Helper()
	asked, err := k.api.AskForPasskey(k.Context())
	if err != nil {
		k.Fatal(err)
	}
	return asked
}

// prove has the device show its passkey.
func (k *keyring) prove(asked PasskeyOptions) []byte {
	k.Helper()
	response, err := k.device.Prove(asked.Options)
	if err != nil {
		k.Fatal(err)
	}
	return response
}

var street = auth.Attempt{Service: "web", Remote: netip.MustParseAddr("192.0.2.77"), TLS: true}

func (k *keyring) show(ticket string, response []byte) (auth.Identity, error) {
	return k.api.SignInWithPasskey(k.Context(), street, ticket, response)
}

// signIn shows the passkey of the device as it is.
func (k *keyring) signIn() (auth.Identity, error) {
	k.Helper()
	asked := k.request()
	return k.show(asked.Ticket, k.prove(asked))
}

// lastAudit is the newest entry of the audit log.
func (k *keyring) lastAudit() string {
	k.Helper()
	e := k.audit()[0]
	return fmt.Sprintf("%s: %s %s %s -> %s from %s", e.Actor, e.Action, e.Object, e.Before, e.After, e.Remote)
}

// TestPasskeyLife: a passkey is made with the password in one session, signs in, and ends by its owner, by the owner of the domain, with a purge, or with
// the mailbox; it outlives a change of the password.
func TestPasskeyLife(t *testing.T) {
	k := newKeyring(t)
	if err := k.own.Do(t.Context(), "POST", passkeysPath, NewPasskey{Name: "Telephone", Current: "wrong"}, nil); !isCode(err, CodeInvalid) {
		t.Errorf("without the password: %v", err)
	}
	k.device.Flags |= passkeytest.Eligible | passkeytest.BackedUp
	added := k.added("Telephone")
	if added != (Passkey{ID: 1, Name: "Telephone", Synced: true, Created: noon}) {
		t.Errorf("added %+v", added)
	}
	if last := k.lastAudit(); !strings.HasPrefix(last, `anna: passkey.add anna passkey 1  -> {"id":1,"name":"Telephone","synced":true`) {
		t.Errorf("audited: %s", last)
	}
	k.now = k.now.Add(time.Hour)
	id, err := k.signIn()
	if anna := k.account("anna"); err != nil || id.Account != anna.ID || id.Name != "anna" || id.CredentialVersion != anna.CredentialVersion {
		t.Errorf("signed in as %+v: %v", id, err)
	}
	list := k.list()
	if len(list.Passkeys) != 1 || !list.Passkeys[0].Used.Equal(k.now) || list.Origin != pagesOrigin {
		t.Errorf("listed %+v", list)
	}
	if last := k.lastAudit(); !strings.HasPrefix(last, "anna: passkey.sign-in anna passkey 1 {") || !strings.HasSuffix(last, "from 192.0.2.77") {
		t.Errorf("audited: %s", last)
	}
	k.do("PUT", "/v1/accounts/anna/password", Password{Password: "a new password", Devices: true}, nil)
	if id, err := k.signIn(); err != nil || id.CredentialVersion != k.account("anna").CredentialVersion {
		t.Errorf("after a change of the password: %+v, %v", id, err)
	}
	for _, e := range k.audit() {
		if strings.Contains(e.Before+e.After, "public") {
			t.Errorf("the audit log has a key: %+v", e)
		}
	}
	for who, end := range map[string]func(){
		"its owner": func() {
			if err := k.own.Do(t.Context(), "DELETE", passkeysPath+"/telephone", nil, nil); err != nil {
				t.Error(err)
			}
		},
		"the domain's": func() {
			if err := InProcess(k.api, actorFor(k.fixture, callOwner)).Do(t.Context(), "DELETE", passkeysPath+fmt.Sprintf("/%d", k.list().Passkeys[0].ID), nil, nil); err != nil {
				t.Error(err)
			}
		},
		"a purge": func() {
			var result Purged
			if k.do("POST", "/v1/accounts/anna/purge", Purge{Password: "a newer password"}, &result); result.PasskeysRemoved != 1 {
				t.Errorf("purged: %+v", result)
			}
		},
	} {
		if len(k.list().Passkeys) == 0 {
			k.device.Handle = nil
			k.added("Telephone")
		}
		end()
		if list := k.list(); len(list.Passkeys) != 0 {
			t.Errorf("%s: still there: %+v", who, list)
		}
		if id, err := k.signIn(); !errors.Is(err, auth.ErrCredentials) {
			t.Errorf("%s: signed in as %+v: %v", who, id, err)
		}
	}
	k.device.Handle = nil
	k.added("Telephone")
	anna := k.account("anna").ID
	k.do("DELETE", "/v1/accounts/anna", nil, nil)
	if id, err := k.signIn(); !errors.Is(err, auth.ErrCredentials) {
		t.Errorf("of a removed mailbox: %+v, %v", id, err)
	}
	for _, name := range []string{passkeysName(anna), handleName(k.device.Handle)} {
		if _, err := k.store.Secret(t.Context(), name); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s is left: %v", name, err)
		}
	}
	if err := k.client.Do(t.Context(), "DELETE", "/v1/accounts/bert/passkeys/1", nil, nil); !isCode(err, CodeNotFound) {
		t.Errorf("none is removed: %v", err)
	}
}

// TestPasskeyRemovalIsTold: who removes one is in the audit log, with what it was.
func TestPasskeyRemovalIsTold(t *testing.T) {
	k := newKeyring(t)
	k.added("Telephone")
	k.do("DELETE", passkeysPath+"/1", nil, nil)
	if last := k.lastAudit(); !strings.HasPrefix(last, `tester: passkey.remove anna passkey 1 {"id":1,"name":"Telephone"`) || !strings.Contains(last, "->  from") {
		t.Errorf("audited: %s", last)
	}
	if again := k.added("Telephone"); again.ID != 2 {
		t.Errorf("the number of a removed one is given again: %+v", again)
	}
}

// TestPasskeyNames: a name of its own for each, of a bounded length, and so many of them.
func TestPasskeyNames(t *testing.T) {
	k := newKeyring(t)
	for _, name := range []string{"", " x", "x ", "a\x07b", strings.Repeat("x", MaxPasskeyName+1)} {
		if _, err := k.ask(name); !isCode(err, CodeInvalid) {
			t.Errorf("asked for %q: %v", name, err)
		}
		asked, err := k.ask("good")
		if err != nil {
			t.Fatal(err)
		}
		if err := k.own.Do(t.Context(), "PUT", passkeysPath, k.make(asked, name), nil); !isCode(err, CodeInvalid) {
			t.Errorf("made %q: %v", name, err)
		}
	}
	k.device.ID = nil
	k.added(strings.Repeat("x", MaxPasskeyName))
	k.device.ID = nil
	if _, err := k.add(strings.Repeat("X", MaxPasskeyName)); !isCode(err, CodeInvalid) {
		t.Errorf("the same name: %v", err)
	}
	for i := range MaxPasskeys - 1 {
		k.device.ID = nil
		k.added(fmt.Sprint("key ", i))
	}
	k.device.ID = nil
	if _, err := k.add("one more"); !isCode(err, CodeInvalid) || !strings.Contains(err.Error(), "which is the most") {
		t.Errorf("one more: %v", err)
	}
	if n := len(k.list().Passkeys); n != MaxPasskeys {
		t.Errorf("%d are kept", n)
	}
}

// TestPasskeyIsMadeOnce: what a browser made counts in the session that asked, in time, once, for the mailbox that asked, and if it is right.
func TestPasskeyIsMadeOnce(t *testing.T) {
	k := newKeyring(t)
	put := func(c *Client, body MadePasskey) error { return c.Do(t.Context(), "PUT", passkeysPath, body, nil) }
	asked, err := k.ask("one")
	if err != nil {
		t.Fatal(err)
	}
	made := k.make(asked, "one")
	if err := put(k.session("two"), made); !isCode(err, CodeInvalid) {
		t.Errorf("in another session: %v", err)
	}
	bert := InProcess(k.api, Actor{Name: "bert", Role: RoleMailbox, Account: k.account("bert").ID, Session: "one"})
	if err := bert.Do(t.Context(), "POST", "/v1/accounts/bert/passkeys", NewPasskey{Name: "x", Current: "old"}, nil); err != nil {
		t.Fatal(err)
	}
	if err := bert.Do(t.Context(), "PUT", "/v1/accounts/bert/passkeys", made, nil); !isCode(err, CodeInvalid) {
		t.Errorf("for another mailbox: %v", err)
	}
	shown := k.request()
	if err := put(k.own, MadePasskey{Name: "one", Ticket: shown.Ticket, Response: made.Response}); !isCode(err, CodeInvalid) {
		t.Errorf("with a ticket for signing in: %v", err)
	}
	if err := put(k.own, MadePasskey{Name: "one", Ticket: asked.Ticket, Response: json.RawMessage(`{}`)}); !isCode(err, CodeInvalid) {
		t.Errorf("no answer: %v", err)
	}
	k.now = k.now.Add(CeremonyTime)
	if err := put(k.own, made); !isCode(err, CodeInvalid) {
		t.Errorf("too late: %v", err)
	}
	k.now = k.now.Add(-time.Second)
	if err := put(k.own, made); err != nil {
		t.Errorf("in time: %v", err)
	}
	k.do("DELETE", passkeysPath+"/1", nil, nil)
	if err := put(k.own, made); !isCode(err, CodeInvalid) {
		t.Errorf("a second time: %v", err)
	}
	if n := len(k.list().Passkeys); n != 0 {
		t.Errorf("%d are kept", n)
	}
	k.device.Flags = passkeytest.Present
	if _, err := k.add("not verified"); !isCode(err, CodeInvalid) {
		t.Errorf("its user was not verified: %v", err)
	}
}

// TestPasskeyChallenge: a proof counts once, in time, for the challenge that its ticket stands for, and for signing in.
func TestPasskeyChallenge(t *testing.T) {
	k := newKeyring(t)
	k.added("one")
	asked := k.request()
	response := k.prove(asked)
	if _, err := k.show(asked.Ticket, response); err != nil {
		t.Fatal(err)
	}
	if _, err := k.show(asked.Ticket, response); !errors.Is(err, auth.ErrCredentials) {
		t.Errorf("played again: %v", err)
	}
	if _, err := k.show(asked.Ticket, k.prove(asked)); !errors.Is(err, auth.ErrCredentials) {
		t.Errorf("the challenge again: %v", err)
	}
	if _, err := k.show(k.request().Ticket, k.prove(k.request())); !errors.Is(err, auth.ErrCredentials) {
		t.Errorf("with another ticket: %v", err)
	}
	making, err := k.ask("two")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.show(making.Ticket, k.prove(making)); !errors.Is(err, auth.ErrCredentials) {
		t.Errorf("with a ticket for a new passkey: %v", err)
	}
	asked = k.request()
	response = k.prove(asked)
	k.now = k.now.Add(CeremonyTime)
	if _, err := k.show(asked.Ticket, response); !errors.Is(err, ErrTooLate) {
		t.Errorf("too late: %v", err)
	}
	k.now = k.now.Add(-time.Second)
	for _, text := range []string{"", "{}", "x"} {
		if _, err := k.show(asked.Ticket, []byte(text)); !errors.Is(err, ErrTooLate) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := k.show("", response); !errors.Is(err, ErrTooLate) {
		t.Errorf("without a ticket: %v", err)
	}
	if _, err := k.show(asked.Ticket, response); err != nil {
		t.Errorf("at the last moment: %v", err)
	}
}

// TestPasskeyProofs: each thing that can be wrong with a proof keeps its sender out, and changes nothing of what is kept.
func TestPasskeyProofs(t *testing.T) {
	for name, spoil := range map[string]func(k *keyring){
		"another origin":         func(k *keyring) { k.device.Origin = "https://evil.example" },
		"another party":          func(k *keyring) { k.device.RPID = "evil.example" },
		"another challenge":      func(k *keyring) { k.device.Challenge = strings.Repeat("A", 43) },
		"a type of creation":     func(k *keyring) { k.device.Type = "webauthn.create" },
		"user not verified":      func(k *keyring) { k.device.Flags = passkeytest.Present },
		"nobody was there":       func(k *keyring) { k.device.Flags = passkeytest.Verified },
		"a handle of nobody":     func(k *keyring) { k.device.Handle = bytes.Repeat([]byte{1}, handleSize) },
		"a short handle":         func(k *keyring) { k.device.Handle = []byte("anna") },
		"no handle":              func(k *keyring) { k.device.Handle = nil },
		"a passkey that is none": func(k *keyring) { k.device.ID = []byte("none") },
		"the handle of another": func(k *keyring) {
			kept, err := k.api.handled(k.Context(), k.account("bert").ID)
			if err != nil {
				k.Fatal(err)
			}
			k.device.Handle = kept.Handle
		},
		"the pages moved": func(k *keyring) { k.api.webURL = func() string { return "https://other.example.com" } },
	} {
		k := newKeyring(t)
		k.added("one")
		spoil(k)
		before := k.list().Passkeys[0]
		if id, err := k.signIn(); !errors.Is(err, auth.ErrCredentials) {
			t.Errorf("%s: %+v, %v", name, id, err)
		}
		if after := k.list().Passkeys[0]; after != before {
			t.Errorf("%s: changed %+v", name, after)
		}
	}
}

// TestCopiedPasskey: a counter that does not go on keeps whoever shows it out; it is in the audit log, and the owner of the mailbox and postmaster get
// a notice.
func TestCopiedPasskey(t *testing.T) {
	k := newKeyring(t)
	k.added("Telephone")
	k.device.Count = 10
	if _, err := k.signIn(); err != nil { // 11
		t.Fatal(err)
	}
	for _, count := range []uint32{10, 3} { // 11 again, and less
		k.device.Count = count
		if id, err := k.signIn(); !errors.Is(err, auth.ErrCredentials) {
			t.Errorf("signed in as %+v: %v", id, err)
		}
	}
	if last := k.lastAudit(); !strings.HasPrefix(last, "a stranger: passkey.copied anna passkey 1") || !strings.HasSuffix(last, "from 192.0.2.77") {
		t.Errorf("audited: %s", last)
	}
	for _, name := range []string{"anna", "postmaster"} {
		if n := k.usage(name); n != 2 {
			t.Errorf("%s has %d notices", name, n)
		}
	}
	k.device.Count = 11
	if _, err := k.signIn(); err != nil {
		t.Errorf("the real one: %v", err)
	}
}

func (k *keyring) usage(name string) int64 {
	k.Helper()
	u, err := k.store.Usage(k.Context(), k.account(name).ID)
	if err != nil {
		k.Fatal(err)
	}
	return u.Messages
}

// TestShownTwiceAtOnce: of two proofs that were judged by the same state one counts.
func TestShownTwiceAtOnce(t *testing.T) {
	k := newKeyring(t)
	k.added("one")
	kept, err := k.api.passkeysOf(t.Context(), k.account("anna").ID)
	if err != nil {
		t.Fatal(err)
	}
	key := kept.Keys[0].Key
	key.Count = 7
	id := auth.Identity{Account: k.account("anna").ID, Name: "anna"}
	if err := k.api.usedPasskey(t.Context(), street, id, key); err != nil {
		t.Error(err)
	}
	if err := k.api.usedPasskey(t.Context(), street, id, key); !errors.Is(err, auth.ErrCredentials) {
		t.Errorf("twice: %v", err)
	}
	key.Count = 8
	k.do("DELETE", passkeysPath+"/1", nil, nil)
	if err := k.api.usedPasskey(t.Context(), street, id, key); !errors.Is(err, auth.ErrCredentials) {
		t.Errorf("removed meanwhile: %v", err)
	}
}

// TestNoPasskeysHere: pages without a name of their own have none, and say so; what was made is listed nevertheless, and can be removed.
func TestNoPasskeysHere(t *testing.T) {
	k := newKeyring(t)
	k.added("one")
	for _, base := range []string{"http://127.0.0.1:2080", "http://mail.example.com", ""} {
		k.api.webURL = func() string { return base }
		if _, err := k.ask("two"); !isCode(err, CodeUnavailable) {
			t.Errorf("%q: asked for: %v", base, err)
		}
		if err := k.own.Do(t.Context(), "PUT", passkeysPath, MadePasskey{Name: "x", Response: json.RawMessage("{}")}, nil); !isCode(err, CodeUnavailable) {
			t.Errorf("%q: made: %v", base, err)
		}
		if _, err := k.api.AskForPasskey(t.Context()); !isCode(err, CodeUnavailable) {
			t.Errorf("%q: signing in: %v", base, err)
		}
		if _, err := k.show("", nil); !isCode(err, CodeUnavailable) {
			t.Errorf("%q: shown: %v", base, err)
		}
		if list := k.list(); len(list.Passkeys) != 1 || list.Origin != "" {
			t.Errorf("%q: listed %+v", base, list)
		}
	}
	k.api.webURL = nil
	if list := k.list(); list.Origin != "" {
		t.Errorf("no pages: %+v", list)
	}
	k.api.webURL, k.api.prover = func() string { return pagesOrigin }, nil
	if _, err := k.show("", nil); !isCode(err, CodeUnavailable) {
		t.Errorf("nobody checks: %v", err)
	}
}

// TestHandles: authenticators know each mailbox by a name of chance that says nothing and stays, until a purge.
func TestHandles(t *testing.T) {
	k := newKeyring(t)
	k.added("one")
	first := k.device.Handle
	k.device.ID, k.device.Handle = nil, nil
	k.added("two")
	if !bytes.Equal(first, k.device.Handle) || len(first) != handleSize || bytes.Contains(first, []byte("anna")) {
		t.Errorf("%q, then %q", first, k.device.Handle)
	}
	bert, err := k.api.handled(t.Context(), k.account("bert").ID)
	if err != nil || bytes.Equal(bert.Handle, first) {
		t.Errorf("bert's: %q, %v", bert.Handle, err)
	}
	if n, err := k.api.dropPasskeys(t.Context(), k.account("bert").ID); n != 0 || err != nil {
		t.Errorf("dropped %d, %v", n, err)
	}
	again, err := k.api.handled(t.Context(), k.account("bert").ID)
	if err != nil || bytes.Equal(again.Handle, bert.Handle) || bytes.Contains(again.Handle, make([]byte, 8)) {
		t.Errorf("bert's again: %q, %v", again.Handle, err)
	}
}

// TestPasskeyRecordFits: the largest record that there can be is one that the store takes.
func TestPasskeyRecordFits(t *testing.T) {
	k := newKeyring(t)
	k.device.ID = bytes.Repeat([]byte{0xff}, 1023)
	k.added("one")
	id := k.account("anna").ID
	kept, err := k.api.passkeysOf(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	one := kept.Keys[0]
	one.Name, one.Key.Public = strings.Repeat("\"", MaxPasskeyName), make([]byte, 2<<10)
	one.Used = noon.Add(time.Nanosecond)
	for range 8 {
		one.Key.Transports = append(one.Key.Transports, strings.Repeat("\x01", 32))
	}
	kept.Keys = nil
	for range MaxPasskeys {
		kept.Keys = append(kept.Keys, one)
	}
	if err := k.api.putPasskeys(t.Context(), id, kept); err != nil {
		t.Error(err)
	}
}
