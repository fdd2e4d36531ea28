package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	msgauth "github.com/emersion/go-msgauth/dkim"

	"latchkey/auth"
	"latchkey/internal/dkim"
	"latchkey/relay/signing"
	"latchkey/store"
)

// ringOn gives a domain an RSA and an Ed25519 key that sign.
func ringOn(t *testing.T, st store.Store) *signing.Ring {
	t.Helper()
	ring := signing.NewRing(st, auth.NewVault(st, "DKIM keys"), time.Now)
	for _, a := range []dkim.Algorithm{dkim.RSA, dkim.Ed25519} {
		k, err := ring.Add(t.Context(), a)
		if err == nil {
			err = ring.Activate(t.Context(), k.Selector, true)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return ring
}

// signs makes the runner sign, with keys of its own.
func (r *rig) signs() *signing.Ring {
	r.t.Helper()
	ring := ringOn(r.t, r.store)
	r.opts.Signer = &signing.Signer{Ring: ring}
	return ring
}

// judged has another implementation judge the signatures of a message, with the keys of a ring in the DNS.
func judged(t *testing.T, ring *signing.Ring, data string) []*msgauth.Verification {
	t.Helper()
	keys, err := ring.Keys(context.WithoutCancel(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	list, err := msgauth.VerifyWithOptions(strings.NewReader(data), &msgauth.VerifyOptions{LookupTXT: func(name string) ([]string, error) {
		for _, k := range keys {
			if name == dkim.Name(k.Selector, "example.org") {
				return []string{k.Record}, nil
			}
		}
		return nil, errors.New("there is no " + name)
	}})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// wantSigned fails the test unless a message has two signatures of the domain, and both hold.
func wantSigned(t *testing.T, ring *signing.Ring, data string) {
	t.Helper()
	list := judged(t, ring, data)
	if len(list) != 2 {
		t.Errorf("%d signatures, want 2:\n%s", len(list), data)
	}
	for _, v := range list {
		if v.Err != nil || v.Domain != "example.org" {
			t.Errorf("signature of %s: %v\n%q", v.Domain, v.Err, data)
		}
	}
}

// TestSigned: what leaves is signed with both keys, whatever is in it; SIZE counts the signatures, and the local parts stay as they are.
func TestSigned(t *testing.T) {
	for _, tt := range []struct{ name, body string }{
		{"plain", usualBody},
		{"NUL, which is left out", "From: alice@example.org\r\n\r\na\x00b\r\n\x00.\r\n"},
		{"eight bits", "From: alice@example.org\r\nSubject: gr\xc3\xbc\xc3\x9fe\r\n\r\n\xff\r\n"},
		{"no body", "From: alice@example.org\r\n\r\n"},
		{"no final line end", "From: alice@example.org\r\n\r\nend"},
		{"bare line ends, which are mended", "From: alice@example.org\r\n\r\na\nb\rc\r\r\nd\r\n"},
		{"large", "From: alice@example.org\r\n\r\n" + strings.Repeat("a  line \r\n\r\n", 30_000)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			onEachStore(t, func(t *testing.T, r *rig) {
				ring := r.signs()
				s := r.site("remote.example", "192.0.2.1", &server{caps: []string{"SIZE", "8BITMIME", "SMTPUTF8"}})
				r.queue(post{body: tt.body, eightBit: true, utf8: true}, "bob@remote.example")
				r.runFor(time.Second)
				letters := s.taken()
				if len(letters) != 1 {
					t.Fatalf("%d letters\n%s", len(letters), r.logged)
				}
				wantSigned(t, ring, letters[0].data)
				_, size, _ := strings.Cut(letters[0].mail, "SIZE=")
				size, _, _ = strings.Cut(size, " ")
				if n, err := strconv.Atoi(size); err != nil || n < len(tt.body)+500 || tt.name == "plain" && n != len(letters[0].data) {
					t.Errorf("SIZE=%s of %d octets that were sent", size, len(letters[0].data))
				}
			})
		})
	}
}

// TestNotSigned: mail of strangers that is passed on, mail without a From, and all mail while there is no key, leaves as it came.
func TestNotSigned(t *testing.T) {
	for _, tt := range []struct {
		name string
		post post
		keys bool
	}{
		{"a stranger's", post{stranger: true, from: "x@elsewhere.example"}, true},
		{"a stranger's who claims to be us", post{stranger: true, from: "x@elsewhere.example", body: "From: alice@example.org\r\n\r\nx\r\n"}, true},
		{"without From", post{body: "Subject: x\r\n\r\nx\r\n"}, true},
		{"without keys", post{}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				ring := signing.NewRing(r.store, auth.NewVault(r.store, "DKIM keys"), time.Now)
				if tt.keys {
					ring = ringOn(t, r.store)
				}
				r.opts.Signer = &signing.Signer{Ring: ring}
				s := r.site("remote.example", "192.0.2.1", &server{})
				r.queue(tt.post, "bob@remote.example")
				r.runFor(time.Second)
				if letters := s.taken(); len(letters) != 1 || strings.Contains(letters[0].data, "DKIM-Signature") {
					t.Errorf("letters: %+v\n%s", letters, r.logged)
				}
			})
		})
	}
}

// TestOneSignature: a message to many destinations is signed once, and again when its time is over.
func TestOneSignature(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		ring := r.signs()
		counted := &countingSigner{Signer: r.opts.Signer}
		r.opts.Signer = counted
		begin := time.Now()
		var sites []*server
		for i := range 5 {
			sites = append(sites, r.site(fmt.Sprintf("remote%d.example", i), fmt.Sprintf("192.0.2.%d", i+1), &server{}))
		}
		slow := r.site("slow.example", "192.0.2.99", &server{answer: func(c string) string {
			if strings.HasPrefix(c, "RCPT") && time.Since(begin) < 2*time.Hour {
				return "450 4.7.1 later"
			}
			return ""
		}})
		r.opts.Limits.Connecting = 1 // one after the other
		r.queue(post{}, "b@remote0.example", "b@remote1.example", "b@remote2.example", "b@remote3.example", "b@remote4.example", "b@slow.example")
		r.start()
		time.Sleep(time.Minute)
		synctest.Wait()
		if counted.times != 1 {
			t.Errorf("signed %d times for 6 destinations, want once", counted.times)
		}
		first := ""
		for _, s := range sites {
			letters := s.taken()
			if len(letters) != 1 {
				t.Fatalf("%d letters, want 1", len(letters))
			}
			wantSigned(t, ring, letters[0].data)
			if first == "" {
				first = letters[0].data
			}
			if letters[0].data != first {
				t.Error("two destinations got different octets")
			}
		}
		time.Sleep(5 * time.Hour)
		synctest.Wait()
		letters := slow.taken()
		if len(letters) != 1 {
			t.Fatalf("the slow one has %d letters", len(letters))
		}
		wantSigned(t, ring, letters[0].data)
		if letters[0].data == first || counted.times < 2 {
			t.Error("a signature of hours ago was used")
		}
	})
}

type countingSigner struct {
	Signer
	times int
}

func (c *countingSigner) Sign(ctx context.Context, domain string, content io.Reader) ([]byte, error) {
	c.times++
	return c.Signer.Sign(ctx, domain, content)
}

// TestBounceIsSigned: a report that leaves the domain is the domain's own mail, from the null reverse-path, and aligned by its From.
func TestBounceIsSigned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		ring := r.signs()
		r.site("remote.example", "192.0.2.1", &server{answer: func(c string) string {
			if strings.HasPrefix(c, "RCPT") {
				return "550 5.1.1 no such user"
			}
			return ""
		}})
		home := r.site("elsewhere.example", "192.0.2.2", &server{})
		r.queue(post{from: "carol@elsewhere.example"}, "bob@remote.example")
		r.runFor(time.Minute)
		letters := home.taken()
		if len(letters) != 1 || !strings.HasPrefix(letters[0].mail, "MAIL FROM:<>") {
			t.Fatalf("letters: %+v\n%s", letters, r.logged)
		}
		wantSigned(t, ring, letters[0].data)
		if !strings.Contains(letters[0].data, "@example.org") {
			t.Errorf("not from us:\n%s", letters[0].data)
		}
	})
}

// brokenSigner has lost its keys.
type brokenSigner struct{}

func (brokenSigner) Sign(context.Context, string, io.Reader) ([]byte, error) {
	return nil, errors.New("the keys do not open")
}

// TestKeysOutOfReach: mail that should be signed and cannot waits, and the operator is told; nothing is sent unsigned.
func TestKeysOutOfReach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.opts.Signer = brokenSigner{}
		s := r.site("remote.example", "192.0.2.1", &server{})
		r.queue(post{}, "bob@remote.example")
		r.runFor(time.Minute)
		if jobs := r.jobs(); len(s.taken()) != 0 || len(jobs) != 1 || jobs[0].LastText != "the message cannot be signed" {
			t.Errorf("sent %d, waiting %+v", len(s.taken()), jobs)
		}
		if !strings.Contains(r.logged.String(), "waits for the operator") {
			t.Errorf("the operator was not told:\n%s", r.logged)
		}
	})
}

// TestSignaturesBound: the memory of signatures has its bound, at both ends, and forgets the oldest.
func TestSignaturesBound(t *testing.T) {
	s, now := newSignatures(), time.Now()
	for id := range store.MessageID(maxSignatures + 1) {
		s.put(id+1, []byte("x"), now)
		s.put(id+1, []byte("x"), now)
	}
	if _, ok := s.get(1, signatureAge, now); ok || len(s.kept) != maxSignatures {
		t.Errorf("%d kept, the oldest among them: %t", len(s.kept), ok)
	}
	for _, id := range []store.MessageID{2, maxSignatures + 1} {
		if _, ok := s.get(id, signatureAge, now); !ok {
			t.Errorf("message %d is forgotten", id)
		}
	}
	for n, want := range map[int]bool{0: false, maxSignature: true, maxSignature + 1: false} {
		s.put(7_000_000, make([]byte, n), now)
		if _, ok := s.get(7_000_000, signatureAge, now); ok != want {
			t.Errorf("fields of %d octets are kept: %t, want %t", n, ok, want)
		}
		delete(s.kept, 7_000_000)
	}
	s.put(9, []byte("x"), now)
	if _, ok := s.get(9, signatureAge, now.Add(signatureAge)); ok {
		t.Error("an old signature is used")
	}
	if _, ok := s.get(9, sealAge, now.Add(signatureAge)); !ok {
		t.Error("a seal is not used any more")
	}
}
