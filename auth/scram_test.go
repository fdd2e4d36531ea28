package auth

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/xdg-go/scram"

	"latchkey/store"
)

var scramAttempt = by(SCRAMSHA256)

// plus is an attempt with channel binding.
var plus = Attempt{Service: "pop3", Remote: office, TLS: true, Mechanism: SCRAMSHA256Plus}

// by is an attempt by a mechanism.
func by(mechanism string) Attempt {
	return Attempt{Service: "pop3", Remote: office, Mechanism: mechanism}
}

func nobody(Identity) error { panic("logged in") }

// TestSCRAMExample plays those of RFC 7677 §3 and RFC 5802 §5.
func TestSCRAMExample(t *testing.T) {
	type step struct{ client, server string }
	for _, tt := range []struct {
		mechanism, nonce, salt string
		steps                  []step
	}{
		{SCRAMSHA256, "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0", "W22ZaJ0SNY7soEsUEjb6gQ==", []step{
			{"n,,n=user,r=rOprNGfwEbeRWgbNEkqO", "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"},
			{
				"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
				"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
			},
		}},
		{SCRAMSHA1, "3rfcNHYJY1ZVvWVs7j", "QSXCR+Q6sek8bf92", []step{
			{"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL", "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096"},
			{"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=", "v=rmF9pqV8S7suAoZWja4dJRkFsKQ="},
		}},
	} {
		t.Run(tt.mechanism, func(t *testing.T) {
			f := newFixture(t)
			f.add("user", "pencil")
			f.settings(func(s *store.Settings) { s.OldClientLogin = true })
			f.try(over(office), "user", "pencil", nil)
			f.nonce = func() string { return tt.nonce }
			f.salt = func([]byte, string, string) ([]byte, error) { return base64.StdEncoding.DecodeString(tt.salt) }
			var id Identity
			s := f.NewSCRAMServer(t.Context(), by(tt.mechanism), nil, keepIdentity(&id))
			for _, step := range tt.steps {
				if got, done, err := s.Next([]byte(step.client)); string(got) != step.server || done || err != nil {
					t.Fatalf("got %q %v %v, want %q", got, done, err, step.server)
				}
			}
			if id != (Identity{}) {
				t.Error("accepted before the client has taken the server's proof")
			}
			if _, done, err := s.Next([]byte{}); !done || err != nil || id.Name != "user" {
				t.Errorf("at the end %v %v, %+v", done, err, id)
			}
			if _, _, err := s.Next([]byte{}); !errors.Is(err, errExchange) {
				t.Errorf("a finished exchange goes on: %v", err)
			}
		})
	}
}

// TestSCRAMWithoutInitialResponse: an empty challenge first (RFC 5034 §4), and an empty answer to it is none.
func TestSCRAMWithoutInitialResponse(t *testing.T) {
	f := newFixture(t)
	f.seal()
	for _, answer := range []string{"n,,n=alice,r=x", ""} {
		s := f.NewSCRAMServer(t.Context(), scramAttempt, nil, nobody)
		challenge, done, err := s.Next(nil)
		if challenge == nil || len(challenge) != 0 || done || err != nil {
			t.Fatalf("got %q %v %v", challenge, done, err)
		}
		good := answer != ""
		if challenge, _, err := s.Next([]byte(answer)); (err == nil) != good || bytes.HasPrefix(challenge, []byte("r=x")) != good {
			t.Errorf("%q: got %q, %v", answer, challenge, err)
		}
	}
}

// TestSCRAMEnd: accept's word is the last, and the client's last message is empty.
func TestSCRAMEnd(t *testing.T) {
	f := newFixture(t)
	f.seal()
	no := errors.New("no")
	client, err := scram.SHA256.NewClient("alice", "open sesame", "")
	must(t, err)
	s := f.NewSCRAMServer(t.Context(), scramAttempt, nil, func(Identity) error { return no })
	if err := playSCRAM(s, client.NewConversation()); !errors.Is(err, no) {
		t.Errorf("got %v, want what accept said", err)
	}
	s = f.NewSCRAMServer(t.Context(), scramAttempt, nil, nobody)
	talk := client.NewConversation()
	message, err := talk.Step("")
	for range 2 {
		must(t, err)
		var challenge []byte
		challenge, _, err = s.Next([]byte(message))
		must(t, err)
		message, err = talk.Step(string(challenge))
	}
	if _, done, err := s.Next([]byte("more")); !done || !errors.Is(err, errExchange) {
		t.Errorf("a last message with something in it: got %v %v", done, err)
	}
	if _, _, err := s.Next([]byte{}); !errors.Is(err, errExchange) {
		t.Errorf("after that: got %v", err)
	}
}

// TestSCRAMIdentity: "a" is empty or the mailbox of "n" (RFC 5802 §5.1).
func TestSCRAMIdentity(t *testing.T) {
	f := newFixture(t)
	f.seal()
	f.add("bob", "bob's own")
	for _, tt := range []struct {
		name, other string
		want        error
	}{
		{"alice", "alice", nil}, {"alice", "alice@example.com", nil}, {"alice@example.com", "ALICE", nil}, {"alice", "bob", ErrIdentity},
		{"alice", "alice@example.org", ErrCredentials}, {"alice", "bob@example.com", ErrIdentity}, {"a=l,ice", "a=l,ice", ErrCredentials},
	} {
		client, err := scram.SHA256.NewClientUnprepped(tt.name, "open sesame", tt.other)
		must(t, err)
		var id Identity
		err = playSCRAM(f.NewSCRAMServer(t.Context(), scramAttempt, nil, keepIdentity(&id)), client.NewConversation())
		if !errors.Is(err, tt.want) || tt.want == nil && (err != nil || id.Account != f.alice.ID) {
			t.Errorf("%s for %s: got %v, want %v", tt.name, tt.other, err, tt.want)
		}
	}
}

// TestSCRAMMessages: what is none ends the exchange, is no guess and costs no keys; the bound of their length, at both ends.
func TestSCRAMMessages(t *testing.T) {
	f := newFixture(t)
	f.seal()
	g := &told{f: f}
	f.o.Guesses = g
	derived := 0
	f.derive = func(hash scram.HashGeneratorFcn, password string, factors scram.KeyFactors) (scram.StoredCredentials, error) {
		derived++
		return deriveSCRAM(hash, password, factors)
	}
	fill := func(before string, size int, behind string) string {
		return before + strings.Repeat("x", size-len(before)-len(behind)) + behind
	}
	longest := fill("n,,n=alice,r=", maxSCRAMMessage, "")
	for _, first := range []string{
		"", ",", ",,,", "n", "n,,n=alice", "x,,n=alice,r=x", "n,b,n=alice,r=x", "n,,m=1,n=alice,r=x", "n,,n=al=2ice,r=x", "n,a=x=,n=alice,r=x",
		"n,,r=x,n=alice", "p=,,n=alice,r=x", "p=no-such,,n=alice,r=x", "N,,n=alice,r=x", longest + "x",
	} {
		s := f.NewSCRAMServer(t.Context(), scramAttempt, nil, nobody)
		if got, done, err := s.Next([]byte(first)); got != nil || !done || !errors.Is(err, errExchange) {
			t.Errorf("first %.40q: got %q %v %v", first, got, done, err)
		}
	}
	if _, _, err := f.NewSCRAMServer(t.Context(), scramAttempt, nil, nobody).Next([]byte(longest)); err != nil {
		t.Errorf("a message of %d octets: %v", maxSCRAMMessage, err)
	}
	proof := ",p=" + base64.StdEncoding.EncodeToString(make([]byte, 32))
	final := func(last string) error {
		s := f.NewSCRAMServer(t.Context(), scramAttempt, nil, nobody)
		_, _, err := s.Next([]byte("n,,n=alice,r=x"))
		must(t, err)
		_, _, err = s.Next([]byte(last))
		return err
	}
	for _, last := range []string{
		"", "c=biws", "c=biws,r=x", "r=x,c=biws" + proof, "c=biws,r=x,p=", "c=biws,r=x,p=AAAA", "c=biws,r=x,p=!", "c=bi,r=x" + proof, "c=biws,r=x,m=1" + proof, "c=biws,x=r" + proof,
		fill("c=biws,r=x,", maxSCRAMMessage+1, proof),
	} {
		if err := final(last); !errors.Is(err, errExchange) {
			t.Errorf("final %.40q: got %v", last, err)
		}
	}
	if err := final("c=eSws,r=x" + proof); !errors.Is(err, ErrBinding) { // "y,,"
		t.Errorf("another header: got %v", err)
	}
	for mechanism, size := range map[string]int{SCRAMSHA256: 20, SCRAMSHA1: 32} { // that of the other
		s := f.NewSCRAMServer(t.Context(), by(mechanism), nil, nobody)
		_, _, err := s.Next([]byte("n,,n=alice,r=x"))
		must(t, err)
		last := "c=biws,r=x,p=" + base64.StdEncoding.EncodeToString(make([]byte, size))
		if _, _, err := s.Next([]byte(last)); !errors.Is(err, errExchange) {
			t.Errorf("%s: a proof of %d octets: got %v", mechanism, size, err)
		}
	}
	if derived != 0 || len(g.names) != 0 {
		t.Errorf("%d keys derived, told of %q", derived, g.names)
	}
	if err := final("c=biws,r=another,e=extension" + proof); !errors.Is(err, ErrCredentials) || len(g.names) != 1 {
		t.Errorf("another nonce: got %v, told of %q", err, g.names)
	}
	if err := final(fill("c=biws,r=x,", maxSCRAMMessage, proof)); !errors.Is(err, ErrCredentials) || len(g.names) != 2 {
		t.Errorf("a message of %d octets: got %v, told of %q", maxSCRAMMessage, err, g.names)
	}
}

// TestSCRAMSalt: one for each mailbox, at every attempt, however the name is typed, whether it exists or not.
func TestSCRAMSalt(t *testing.T) {
	f := newFixture(t)
	at := scramAttempt
	offer := func(name string) string {
		reply, _, err := f.NewSCRAMServer(t.Context(), at, nil, nobody).Next([]byte("n,,n=" + name + ",r=x"))
		must(t, err)
		fields := strings.Split(string(reply), ",")
		if len(fields) != 3 || len(fields[0]) < len("r=x")+24 || fields[2] != "i=4096" {
			t.Fatalf("got %q", reply)
		}
		return fields[1]
	}
	seen := map[string]string{}
	for _, name := range []string{"alice", "nobody", "x@elsewhere.example", ""} {
		salt := offer(name)
		if again := offer(name); again != salt || seen[salt] != "" {
			t.Errorf("%s: got %s and %s, which is also that of %q", name, salt, again, seen[salt])
		}
		seen[salt] = name
	}
	before := offer("nobody")
	for _, name := range []string{"nobody@EXAMPLE.com", " NOBODY ", "nobody%example.com"} {
		if got := offer(name); got != before {
			t.Errorf("%q: got %s, want %s", name, got, before)
		}
	}
	at = by(SCRAMSHA1)
	if got := offer("nobody"); got == before || got != offer("nobody") {
		t.Error("SHA-1 has the salt of SHA-256, or another one at every attempt")
	}
	at = scramAttempt
	f.add("nobody", "x")
	if got := offer("nobody"); got != before {
		t.Error("a new account shows by its salt")
	}
	must(t, f.store.RemoveSecret(t.Context(), instanceKeyName))
	if got := offer("nobody"); got == before {
		t.Error("the salt does not hang on the instance key")
	}
}

// TestSCRAMKeysAreRemembered: a poll costs no derivation; another password, another name or another instance key does.
func TestSCRAMKeysAreRemembered(t *testing.T) {
	f := newFixture(t)
	f.seal()
	derived := 0
	f.derive = func(hash scram.HashGeneratorFcn, password string, factors scram.KeyFactors) (scram.StoredCredentials, error) {
		derived++
		return deriveSCRAM(hash, password, factors)
	}
	mechanism := SCRAMSHA256
	login := func(name, password string, want int) {
		t.Helper()
		derived = 0
		if _, err := trySCRAM(f, mechanism, office, name, password); err != nil || derived != want {
			t.Errorf("%s: %v, %d derivations, want %d", name, err, derived, want)
		}
	}
	login("alice", "open sesame", 1)
	login("alice", "open sesame", 0)
	salt := f.salt
	f.salt = func(key []byte, _, mailbox string) ([]byte, error) { return salt(key, SCRAMSHA256, mailbox) }
	mechanism = SCRAMSHA1
	login("alice", "open sesame", 1) // though the salt be the same
	login("alice", "open sesame", 0)
	mechanism, f.salt = SCRAMSHA256, salt
	login("alice", "open sesame", 0)
	v, err := f.Hash(t.Context(), "new")
	must(t, err)
	f.update(func(a *store.Account) { a.Verifier = v })
	f.try(over(office), "alice", "new", nil)
	login("alice", "new", 1)
	f.update(func(a *store.Account) { a.Name = "alicia" })
	login("alicia", "new", 1)
	login("alicia", "new", 0)
	must(t, f.store.RemoveSecret(t.Context(), instanceKeyName))
	f.try(over(office), "alicia", "new", nil)
	login("alicia", "new", 1)

	k := f.scramKeys
	for i := range maxSCRAMKeys + 1 {
		k.put(scramKey{account: store.AccountID(i + 100)}, scram.StoredCredentials{})
		if len(k.made) > maxSCRAMKeys {
			t.Fatalf("%d keys are remembered", len(k.made))
		}
	}
	if _, ok := k.get(scramKey{account: maxSCRAMKeys + 100}); !ok || len(k.made) != maxSCRAMKeys {
		t.Errorf("%d keys are remembered, the latest among them: %v", len(k.made), ok)
	}
}

// TestSCRAMDerivationFails: no login, and a word in the log.
func TestSCRAMDerivationFails(t *testing.T) {
	f := newFixture(t)
	f.seal()
	f.derive = func(scram.HashGeneratorFcn, string, scram.KeyFactors) (scram.StoredCredentials, error) {
		return scram.StoredCredentials{}, errors.New("no keys today")
	}
	if _, err := challenges[2].try(f, office, "alice", "open sesame"); !errors.Is(err, ErrCredentials) {
		t.Errorf("got %v", err)
	}
	if !strings.Contains(f.log.String(), "no keys today") {
		t.Errorf("the log has %s", f.log)
	}
}

// pair is a TLS connection in memory, seen from both ends after the handshake.
func pair(t *testing.T, version uint16, cert tls.Certificate) (server, client tls.ConnectionState) {
	t.Helper()
	a, b := net.Pipe()
	s := tls.Server(a, &tls.Config{
		Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS10, MaxVersion: version, SessionTicketsDisabled: true,
	})
	c := tls.Client(b, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: version})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.HandshakeContext(ctx); err != nil {
			t.Error(err)
		}
	})
	if err := c.HandshakeContext(ctx); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	_, _ = a.Close(), b.Close()
	return s.ConnectionState(), c.ConnectionState()
}

func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// binding is what a client binds to.
func binding(t *testing.T, state tls.ConnectionState) scram.ChannelBinding {
	t.Helper()
	if state.Version < tls.VersionTLS13 {
		return scram.NewTLSUniqueBinding(state.TLSUnique)
	}
	b, err := scram.NewTLSExporterBinding(&state)
	must(t, err)
	return b
}

// TestSCRAMPlus: over real TLS, bound, unbound, bound to something else, and talked out of it (RFC 5802 §6, RFC 9266, RFC 5929 §3).
func TestSCRAMPlus(t *testing.T) {
	f := newFixture(t)
	f.seal()
	cert := selfSigned(t)
	for version, kind := range map[uint16]scram.ChannelBindingType{
		tls.VersionTLS13: scram.ChannelBindingTLSExporter, tls.VersionTLS12: scram.ChannelBindingTLSUnique,
		tls.VersionTLS10: scram.ChannelBindingTLSUnique,
	} {
		server, own := pair(t, version, cert)
		_, elsewhere := pair(t, version, cert)
		bound, stranger := binding(t, own), binding(t, elsewhere)
		if bound.Type != kind || len(bound.Data) == 0 {
			t.Fatalf("TLS %x: a client binds to %q", version, bound.Type)
		}
		want := []string{SCRAMSHA256Plus, SCRAMSHA256, SCRAMSHA1Plus, SCRAMSHA1, CRAMMD5}
		if got := f.ChallengeMechanisms(t.Context(), Attempt{OldDoor: true}, &server); !slices.Equal(got, want) {
			t.Errorf("TLS %x: %q are listed, want %q", version, got, want)
		}
		for _, mechanism := range []string{SCRAMSHA256, SCRAMSHA1} {
			t.Run(fmt.Sprintf("%x %s", version, mechanism), func(t *testing.T) { tryBindings(t, f, mechanism, &server, bound, stranger) })
		}
	}
}

// tryBindings binds to bound, which is server's, and otherwise.
func tryBindings(t *testing.T, f *fixture, mechanism string, server *tls.ConnectionState, bound, stranger scram.ChannelBinding) {
	client, err := scramKindOf(mechanism).hash.NewClient("alice", "open sesame", "")
	must(t, err)
	tricked := scram.ChannelBinding{Type: scram.ChannelBindingTLSServerEndpoint, Data: []byte("x")}
	plain, plus := by(mechanism), by(mechanism+"-PLUS")
	plain.TLS, plus.TLS = true, true
	for _, tt := range []struct {
		name  string
		at    Attempt
		state *tls.ConnectionState
		talk  *scram.ClientConversation
		want  error
	}{
		{"bound", plus, server, client.NewConversationWithChannelBinding(bound), nil},
		{"bound, by the plain name", plain, server, client.NewConversationWithChannelBinding(bound), nil},
		{"unbound", plain, server, client.NewConversation(), nil},
		{"unbound, by the PLUS name", plus, server, client.NewConversation(), ErrBinding},
		{"talked out of it", plain, server, client.NewConversationAdvertisingChannelBinding(), ErrBinding},
		{"talked out of it, by the PLUS name", plus, server, client.NewConversationAdvertisingChannelBinding(), ErrBinding},
		{"nothing to bind to", plain, nil, client.NewConversationAdvertisingChannelBinding(), nil},
		{"bound where nothing is", plus, nil, client.NewConversationWithChannelBinding(bound), ErrBinding},
		{"somebody in the middle", plus, server, client.NewConversationWithChannelBinding(stranger), ErrBinding},
		{"a type that we have not", plus, server, client.NewConversationWithChannelBinding(tricked), ErrBinding},
	} {
		f.log.Reset()
		var id Identity
		err := playSCRAM(f.NewSCRAMServer(t.Context(), tt.at, tt.state, keepIdentity(&id)), tt.talk)
		if !errors.Is(err, tt.want) || tt.want == nil && (err != nil || id.Account != f.alice.ID) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
		if tt.want != nil && !strings.Contains(f.log.String(), `result=refused err="auth: SCRAM is not bound`) {
			t.Errorf("%s: the log has %s", tt.name, f.log)
		}
	}
	wrong, err := scramKindOf(mechanism).hash.NewClient("alice", "wrong", "")
	must(t, err)
	err = playSCRAM(f.NewSCRAMServer(t.Context(), plus, server, nobody), wrong.NewConversationWithChannelBinding(bound))
	if !errors.Is(err, ErrCredentials) {
		t.Errorf("bound, with a wrong password: got %v", err)
	}
	if _, err := challenges[0].try(f, office, "alice", "open sesame"); err != nil { // forgives the guess
		t.Error(err)
	}
}

// TestNothingToBindTo: no TLS, a handshake that is not over, and a resumed session that crypto/tls knows no safe binding for.
func TestNothingToBindTo(t *testing.T) {
	for name, state := range map[string]*tls.ConnectionState{
		"none": nil, "unfinished": {Version: tls.VersionTLS13}, "no binding": {Version: tls.VersionTLS12, HandshakeComplete: true},
	} {
		if channelBinding(state).IsSupported() {
			t.Errorf("%s: there is a binding", name)
		}
	}
}

// TestSCRAMConcurrently is for the race detector.
func TestSCRAMConcurrently(t *testing.T) {
	f := patientFixture(t)
	var work sync.WaitGroup
	for i := range 8 {
		work.Go(func() {
			for range 4 {
				name := []string{"alice", "nobody"}[i%2]
				_, err := challenges[2].try(f, netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), name, "open sesame")
				if (err == nil) != (name == "alice") {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
	work.Wait()
}

// FuzzSCRAM: nothing that a client sends panics, and nothing but the password logs in.
func FuzzSCRAM(f *testing.F) {
	proof := "p=" + base64.StdEncoding.EncodeToString(make([]byte, 32))
	f.Add("n,,n=alice,r=x", "c=biws,r=xN,"+proof, "")
	f.Add("n,,n=alice,r=x", "c=biws,r=xN,p="+base64.StdEncoding.EncodeToString(make([]byte, 20)), "")
	f.Add("p=tls-exporter,,n=alice,r=x", "c=cD10bHMtZXhwb3J0ZXIsLGJvdW5k,r=xN,p="+base64.StdEncoding.EncodeToString(make([]byte, 20)), "")
	f.Add("y,a=alice,n=alice@example.com,r=x,e=1", "c=eSxhPWFsaWNlLA==,r=xN,x=y,"+proof, "more")
	f.Add("p=tls-unique,,n=a=2Cb=3D,r=", "c=,r=,p=", "")
	f.Add("p=tls-exporter,,n=alice,r=x", "c=cD10bHMtZXhwb3J0ZXIsLGJvdW5k,r=xN,"+proof, "")
	x := patientFixture(f)
	x.nonce = func() string { return "N" }
	bound := scram.ChannelBinding{Type: scram.ChannelBindingTLSExporter, Data: []byte("bound")}
	expected := []error{errExchange, ErrBinding, ErrIdentity, ErrCredentials}
	f.Fuzz(func(t *testing.T, one, two, three string) {
		for _, s := range []*scramServer{
			{auth: x.Authenticator, ctx: t.Context(), at: scramAttempt, kind: scramKindOf(SCRAMSHA256), accept: nobody},
			{auth: x.Authenticator, ctx: t.Context(), at: plus, kind: scramKindOf(SCRAMSHA256), binding: bound, accept: nobody},
			{auth: x.Authenticator, ctx: t.Context(), at: by(SCRAMSHA1), kind: scramKindOf(SCRAMSHA1), accept: nobody},
			{auth: x.Authenticator, ctx: t.Context(), at: by(SCRAMSHA1Plus), kind: scramKindOf(SCRAMSHA1), binding: bound, accept: nobody},
		} {
			for i, message := range []string{one, two, three} {
				challenge, done, err := s.Next([]byte(message))
				if err == nil && (done || i > 0 || !bytes.HasPrefix(challenge, []byte("r="))) || err != nil && !done {
					t.Fatalf("message %d: %q %v %v", i, challenge, done, err)
				}
				if err != nil && !slices.ContainsFunc(expected, func(e error) bool { return errors.Is(err, e) }) {
					t.Fatalf("message %d: %v", i, err)
				}
			}
		}
	})
}
