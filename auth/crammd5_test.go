package auth

import (
	"bytes"
	"errors"
	"regexp"
	"strings"
	"testing"

	"latchkey/store"
)

// TestCRAMMD5Example is that of RFC 2195 §2.
func TestCRAMMD5Example(t *testing.T) {
	f := newFixture(t)
	f.add("tim", "tanstaaftanstaaf")
	f.settings(func(s *store.Settings) { s.OldClientLogin = true })
	f.try(over(office), "tim", "tanstaaftanstaaf", nil)
	var id Identity
	s := f.NewCRAMMD5Server(t.Context(), Attempt{Service: "pop3", Remote: office}, "postoffice.reston.mci.net", keepIdentity(&id)).(*cramServer)
	s.challenge = "<1896.697170952@postoffice.reston.mci.net>"
	challenge, done, err := s.Next(nil)
	if string(challenge) != s.challenge || done || err != nil {
		t.Fatalf("got %q %v %v", challenge, done, err)
	}
	_, done, err = s.Next([]byte("tim b913a602c7eda7a495b4e6e7334d3890"))
	if !done || err != nil || id.Name != "tim" {
		t.Errorf("got %v %v, %+v", done, err, id)
	}
	if _, _, err := s.Next(nil); !errors.Is(err, errExchange) {
		t.Errorf("a finished exchange goes on: %v", err)
	}
}

// TestCRAMMD5Challenge: its form, and that no two are alike.
func TestCRAMMD5Challenge(t *testing.T) {
	f := newFixture(t)
	form := regexp.MustCompile(`^<[0-9]{1,20}\.1767323045@mail\.example\.com>$`)
	seen := map[string]bool{}
	for range 100 {
		c, _, err := f.NewCRAMMD5Server(t.Context(), Attempt{}, "mail.example.com", nil).Next(nil)
		if err != nil || !form.Match(c) || seen[string(c)] {
			t.Fatalf("got %q, %v", c, err)
		}
		seen[string(c)] = true
	}
}

// TestCRAMMD5Responses: what is no response ends the exchange and is no guess; accept's word is the last.
func TestCRAMMD5Responses(t *testing.T) {
	f := newFixture(t)
	f.seal()
	g := &told{f: f}
	f.o.Guesses = g
	digest := strings.Repeat("0", 32)
	for _, tt := range []struct {
		response string
		want     error
	}{
		{"", errExchange}, {"alice", errExchange}, {" ", errExchange}, {"alice ", errExchange}, {"alice " + digest[1:], errExchange},
		{"alice " + digest + "0", errExchange}, {"alice " + digest[1:] + "g", errExchange}, {digest, errExchange},
		{"alice " + digest, ErrCredentials}, {"ali ce " + digest, ErrCredentials}, {" " + digest, ErrCredentials},
		{strings.Repeat("x", 10_000) + " " + digest, ErrCredentials},
	} {
		g.names = nil
		s := f.NewCRAMMD5Server(t.Context(), Attempt{Remote: office}, "mail.example.com", nil)
		_, _, _ = s.Next(nil)
		_, done, err := s.Next([]byte(tt.response))
		if !done || !errors.Is(err, tt.want) || (len(g.names) == 1) != errors.Is(tt.want, ErrCredentials) {
			t.Errorf("%.50q: got %v %v, want %v; told of %q", tt.response, done, err, tt.want, g.names)
		}
		if _, _, err := s.Next([]byte(tt.response)); !errors.Is(err, errExchange) {
			t.Errorf("%.50q: a second response: got %v", tt.response, err)
		}
	}
	for _, initial := range [][]byte{{}, []byte("alice " + digest)} {
		s := f.NewCRAMMD5Server(t.Context(), Attempt{Remote: office}, "mail.example.com", nil)
		if _, done, err := s.Next(initial); !done || !errors.Is(err, errExchange) {
			t.Errorf("initial response %q: got %v %v", initial, done, err)
		}
		if _, _, err := s.Next(nil); !errors.Is(err, errExchange) {
			t.Errorf("after an initial response: got %v", err)
		}
	}
	no := errors.New("no")
	s := f.NewCRAMMD5Server(t.Context(), Attempt{Remote: office}, "mail.example.com", func(Identity) error { return no })
	if err := playCRAM(s, "alice", "open sesame"); !errors.Is(err, no) {
		t.Errorf("got %v, want what accept said", err)
	}
}

// FuzzCRAMMD5: nothing that a client sends panics, and nothing but the password logs in.
func FuzzCRAMMD5(f *testing.F) {
	f.Add([]byte("alice 00000000000000000000000000000000"), []byte(""), false)
	f.Add([]byte(" "), []byte("x y"), true)
	x := patientFixture(f)
	f.Fuzz(func(t *testing.T, one, two []byte, initial bool) {
		s := x.NewCRAMMD5Server(t.Context(), Attempt{Remote: office}, "h", func(id Identity) error { panic("logged in") })
		responses := [][]byte{nil, one, two}
		if initial {
			responses = [][]byte{one, two}
		}
		for i, r := range responses {
			challenge, done, err := s.Next(r)
			if err == nil && (done || i > 0 || !bytes.HasPrefix(challenge, []byte("<"))) || err != nil && !done {
				t.Fatalf("response %d: %q %v %v", i, challenge, done, err)
			}
			if err != nil && !errors.Is(err, errExchange) && !errors.Is(err, ErrCredentials) {
				t.Fatalf("response %d: %v", i, err)
			}
		}
	})
}
