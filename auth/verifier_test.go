package auth

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-sasl"

	"latchkey/store"
)

func TestParseVerifier(t *testing.T) {
	salt, key := "c2FsdHNhbHRzYWx0c2FsdA", "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE"
	good := "$argon2id$v=19$m=19456,t=2,p=1$" + salt + "$" + key
	with := func(costs string) string { return "$argon2id$v=19$" + costs + "$" + salt + "$" + key }
	tests := []struct {
		in string
		ok bool
	}{
		{good, true}, {"", false}, {good + "$", false}, {"x" + good, false}, {strings.Replace(good, "id", "i", 1), false},
		{strings.Replace(good, "v=19", "v=16", 1), false},
		{with(fmt.Sprintf("m=%d,t=1,p=1", maxArgonMemory)), true}, {with(fmt.Sprintf("m=%d,t=1,p=1", maxArgonMemory+1)), false},
		{with(fmt.Sprintf("m=19456,t=%d,p=1", maxArgonTime)), true}, {with(fmt.Sprintf("m=19456,t=%d,p=1", maxArgonTime+1)), false},
		{with(fmt.Sprintf("m=19456,t=1,p=%d", maxArgonThreads)), true}, {with(fmt.Sprintf("m=19456,t=1,p=%d", maxArgonThreads+1)), false},
		{with("m=262144,t=1,p=1"), false}, {with("m=4294967295,t=1,p=1"), false}, {with("m=4294967296,t=1,p=1"), false},
		{with("m=19456,t=4294967295,p=1"), false}, {with("m=19456,t=1,p=255"), false}, {with("m=19456,t=1,p=257"), false},
		{with("m=0,t=1,p=1"), false}, {with("m=19456,t=0,p=1"), false}, {with("m=019456,t=1,p=1"), false}, {with("m=8,t=1,p=1"), true},
		{with("m=7,t=1,p=1"), false}, {with("m=,t=1,p=1"), false}, {with("t=1,m=19456,p=1"), false}, {with("m=19456,t=1"), false},
		{strings.Replace(good, "c2Fs", "c2F\ns", 1), false}, {good + "\n", false}, {good + "==", false}, {strings.Repeat("$", 300), false},
		{"$argon2id$v=19$m=8,t=1,p=1$c2FsdA$" + key, false}, {"$argon2id$v=19$m=8,t=1,p=1$" + salt + "$c2FsdA", false},
		{"$argon2id$v=19$m=8,t=1,p=1$" + salt + "$" + strings.Repeat("A", 88), false}, {"$argon2id$v=19$m=8,t=1,p=1$***$" + key, false},
	}
	for _, tt := range tests {
		v, err := parseVerifier(store.Verifier(tt.in))
		if (err == nil) != tt.ok {
			t.Errorf("%q: got %v, want ok: %v", tt.in, err, tt.ok)
		}
		if err == nil && string(v.encode()) != tt.in {
			t.Errorf("%q: encodes as another", tt.in)
		}
	}
}

func TestMailboxName(t *testing.T) {
	tests := []struct{ in, want string }{
		{"alice", "alice"}, {"Alice", "alice"}, {" alice ", "alice"}, {"alice@example.com", "alice"}, {"ALICE@EXAMPLE.COM ", "alice"},
		{"alice@example.com.", "alice"}, {"alice%example.com", "alice"}, {"alice#example.com", "alice"}, {"example.com/alice", "alice"},
		{`EXAMPLE.COM\alice`, "alice"}, {"alice@elsewhere.example", ""}, {"alice%elsewhere.example", "alice%elsewhere.example"},
		{"a/b", "a/b"}, {"a#b", "a#b"}, {"", ""}, {"  ", ""}, {"a b", ""}, {"alice\x00", ""}, {"@example.com", ""}, {"jürgen", "jürgen"},
		{strings.Repeat("a", 64) + "@example.com", strings.Repeat("a", 64)}, {strings.Repeat("a", 65) + "@example.com", ""},
		{strings.Repeat(" ", MaxNameLen-5) + "alice", "alice"}, {strings.Repeat("x", MaxNameLen+1), ""},
	}
	for _, tt := range tests {
		got, ok := mailboxName(tt.in, "example.com")
		if got != tt.want || ok != (tt.want != "") {
			t.Errorf("%q: got %q %v, want %q", tt.in, got, ok, tt.want)
		}
	}
}

func TestPlain(t *testing.T) {
	var user, password string
	login := func(u, p string) error {
		user, password = u, p
		return nil
	}
	for _, tt := range []struct {
		response string
		want     error
	}{
		{"\x00alice\x00open sesame", nil}, {"alice\x00alice\x00open sesame", nil}, {"Alice\x00alice\x00open sesame", nil},
		{" alice\x00alice\x00open sesame", nil}, {"bob\x00alice\x00open sesame", ErrIdentity}, {" \x00alice\x00open sesame", ErrIdentity},
		{"alic\x00alice\x00open sesame", ErrIdentity}, {"@example.com\x00alice\x00open sesame", ErrIdentity},
	} {
		user, password = "", ""
		s := NewPlainServer(login)
		challenge, done, err := s.Next(nil)
		if challenge == nil || len(challenge) > 0 || done || err != nil {
			t.Fatalf("first step: got %q %v %v, want an empty challenge", challenge, done, err)
		}
		if _, _, err := s.Next([]byte(tt.response)); !errors.Is(err, tt.want) || (err == nil) != (password == "open sesame" && user == "alice") {
			t.Errorf("%q: got %v, logged in %q", tt.response, err, user)
		}
	}
	for _, response := range []string{"", "alice", "\x00alice", "\x00a\x00b\x00c"} {
		if _, _, err := NewPlainServer(login).Next([]byte(response)); err == nil {
			t.Errorf("%q was taken", response)
		}
	}
}

// TestPlainBounds: names and a password of 255 octets each are taken (RFC 4616 §2).
func TestPlainBounds(t *testing.T) {
	name, password := strings.Repeat("n", 255), strings.Repeat("p", 255)
	var got [2]string
	s := NewPlainServer(func(u, p string) error {
		got = [2]string{u, p}
		return nil
	})
	if _, _, err := s.Next([]byte(name + "\x00" + name + "\x00" + password)); err != nil || got != [2]string{name, password} {
		t.Errorf("got %v, logged in %q", err, got)
	}
	if len(name) > MaxNameLen || len(password) > MaxPasswordLen {
		t.Errorf("a name has %d octets at most, a password %d", MaxNameLen, MaxPasswordLen)
	}
}

// TestPlainLongForm: a name with and without its domain is one mailbox, and the domain is not lost; two domains are two.
func TestPlainLongForm(t *testing.T) {
	for _, tt := range []struct{ identity, user, want string }{
		{"alice@example.com", "alice", "alice@example.com"}, {"alice", "Alice@example.com", "Alice@example.com"},
		{"alice@example.com", "Alice@Example.com", "Alice@Example.com"}, {"alice@example.com", "alice@elsewhere.example", ""},
		{"bob@example.com", "alice", ""}, {"alice@example.com", "bob", ""}, {"alice@elsewhere.example", "alice", "alice@elsewhere.example"},
	} {
		got := ""
		s := NewPlainServer(func(u, _ string) error { got = u; return nil })
		_, _, err := s.Next([]byte(tt.identity + "\x00" + tt.user + "\x00x"))
		if got != tt.want || errors.Is(err, ErrIdentity) != (tt.want == "") {
			t.Errorf("%q for %q: got %q (%v), want %q", tt.user, tt.identity, got, err, tt.want)
		}
	}
	// The last of these names no mailbox of ours, so the login fails.
	f := newFixture(t)
	f.try(over(office), "alice@elsewhere.example", "open sesame", ErrCredentials)
}

// TestLoginPrompts: Outlook compares them octet for octet.
func TestLoginPrompts(t *testing.T) {
	var got [2]string
	login := func(u, p string) error {
		got = [2]string{u, p}
		return nil
	}
	for _, initial := range []bool{false, true} {
		s := NewLoginServer(login)
		if !initial {
			if c, done, err := s.Next(nil); string(c) != "Username:" || done || err != nil {
				t.Fatalf("got %q %v %v", c, done, err)
			}
		}
		if c, done, err := s.Next([]byte("alice")); string(c) != "Password:" || done || err != nil {
			t.Fatalf("got %q %v %v", c, done, err)
		}
		if _, done, err := s.Next([]byte("open sesame")); !done || err != nil || got != [2]string{"alice", "open sesame"} {
			t.Fatalf("got %v %v, logged in %q", done, err, got)
		}
		if _, _, err := s.Next([]byte("more")); err == nil {
			t.Error("a finished exchange goes on")
		}
	}
}

func FuzzLoginName(f *testing.F) {
	for _, s := range []string{"alice", "a@example.com", `example.com\x`, "a%b#c/d@e", "\xff", " "} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, login string) {
		name, ok := mailboxName(login, "example.com")
		if !ok {
			return
		}
		if again, ok := mailboxName(name+"@example.com", "example.com"); !ok || again != name {
			t.Fatalf("%q is %q, which is %q", login, name, again)
		}
	})
}

func FuzzPHC(f *testing.F) {
	f.Add("$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE")
	f.Add("$argon2id$v=19$m=,t=,p=$$")
	f.Fuzz(func(t *testing.T, text string) {
		v, err := parseVerifier(store.Verifier(text))
		if err == nil && (v.memory > maxArgonMemory || v.time > maxArgonTime || v.threads > maxArgonThreads || string(v.encode()) != text) {
			t.Fatalf("accepted %q as %+v", text, v)
		}
	})
}

// FuzzSASL: what a mechanism hands over is what the client sent, octet for octet, once.
func FuzzSASL(f *testing.F) {
	f.Add([]byte("\x00a\x00b"), []byte("x"))
	f.Add([]byte("a@b\x00a\x00b"), []byte("x"))
	f.Add([]byte(""), []byte(""))
	f.Fuzz(func(t *testing.T, one, two []byte) {
		var got []string
		login := func(u, p string) error {
			got = append(got, u, p)
			return nil
		}
		play := func(s sasl.Server) []string {
			got = nil
			for _, response := range [][]byte{nil, one, two, one} {
				if _, done, err := s.Next(response); done || err != nil {
					break
				}
			}
			return got
		}
		if got := play(NewLoginServer(login)); !slices.Equal(got, []string{string(one), string(two)}) {
			t.Fatalf("LOGIN: %q", got)
		}
		fields := strings.Split(string(one), "\x00")
		got = play(NewPlainServer(login))
		switch {
		case len(fields) != 3 && got != nil, len(got) > 2:
			t.Fatalf("PLAIN took %q as %q", one, got)
		case len(fields) == 3 && fields[0] == "" && !slices.Equal(got, fields[1:]):
			t.Fatalf("PLAIN took %q as %q", one, got)
		case got != nil && (got[1] != fields[2] || !strings.Contains(fields[0]+fields[1], got[0])):
			t.Fatalf("PLAIN took %q as %q", one, got)
		}
	})
}

// TestCost: new verifiers cost what they are to cost, and a look at nobody's password as much as one at somebody's. Nothing but a test asks for less.
func TestCost(t *testing.T) {
	for _, tt := range []struct {
		cost Cost
		want string
	}{{Cost{}, "$argon2id$v=19$m=19456,t=2,p=1$"}, {Cost{Memory: 8, Time: 1}, "$argon2id$v=19$m=8,t=1,p=1$"}} {
		a := New(Options{Cost: tt.cost})
		v, err := a.Hash(t.Context(), "sesame")
		if err != nil || !strings.HasPrefix(string(v), tt.want) {
			t.Errorf("%+v: got %q, %v; want %s", tt.cost, string(v), err, tt.want)
		}
		if got := string(a.decoy.encode()); !strings.HasPrefix(got, tt.want) {
			t.Errorf("%+v: nobody's is %q, want %s", tt.cost, got, tt.want)
		}
		parsed, err := parseVerifier(v)
		if err != nil || !parsed.matches("sesame") || parsed.matches("sesam") {
			t.Errorf("%+v: %v, or the wrong password", tt.cost, err)
		}
	}
}
