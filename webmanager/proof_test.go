package webmanager

import (
	"context"
	"crypto/ed25519"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// finish ends the deliveries of anna's mail to a destination.
func (f *fixture) finish(destination string, kind store.OutcomeKind, peer store.Peer, text string) {
	f.Helper()
	anna, err := f.store.AccountByName(f.Context(), "anna")
	if err != nil {
		f.Fatal(err)
	}
	jobs, err := f.store.Lease(f.Context(), received, anna.ID, destination, 100, time.Minute)
	if err != nil || len(jobs) == 0 {
		f.Fatalf("leased %v, %v", jobs, err)
	}
	for _, j := range jobs {
		lost, err := f.store.Finish(f.Context(), received, store.Outcome{
			Job: j.ID, Lease: j.Lease, Kind: kind, Text: text, Peer: peer, At: received.Add(time.Minute), Next: received.Add(time.Hour),
		})
		if err != nil || len(lost) > 0 {
			f.Fatalf("lost %v, %v", lost, err)
		}
	}
}

// prove asks for a proof.
func (f *fixture) prove(r ProofRequest) (made ProofToken) {
	f.Helper()
	f.do("POST", "/v1/proofs", r, &made)
	return made
}

// TestProof: of what a host took, and of what was put into a mailbox; the token says the same to whoever has the key, and nothing of the content.
func TestProof(t *testing.T) {
	f := newFixture(t)
	f.add("anna", "bert")
	r := f.deliver()
	peer := store.Peer{Host: "mx.one.example", Addr: netip.MustParseAddr("2001:db8::25"), TLS: "TLS 1.3"}
	f.finish("one.example", store.Delivered, peer, "mx.one.example [IPv6:2001:db8::25] TLS 1.3: 250 2.0.0 taken: as 17")
	want := Proof{
		Domain: domain, Message: r.Message, HeaderID: "<1@example.com>", Size: 20, Sender: "anna@example.com", Recipient: "x@one.example",
		Accepted: received, Delivered: received.Add(time.Minute), Host: peer.Host, Addr: peer.Addr, TLS: peer.TLS, Reply: "250 2.0.0 taken: as 17",
		Issued: noon, Expires: noon.AddDate(0, 0, DefaultProofDays),
	}
	id := r.Message.String()
	away, here := f.prove(ProofRequest{Message: id, Recipient: "x@one.example"}), f.prove(ProofRequest{Message: id, Recipient: "bert", Days: 1})
	want.Size = away.Proof.Size
	if !reflect.DeepEqual(away.Proof, want) || want.Size == 0 {
		t.Errorf("proof %+v, want %+v", away.Proof, want)
	}
	want.Recipient, want.Delivered, want.Host, want.Addr, want.TLS, want.Reply, want.Expires = "bert@example.com", received, "", netip.Addr{}, "", "", noon.AddDate(0, 0, 1)
	if !reflect.DeepEqual(here.Proof, want) {
		t.Errorf("proof %+v, want %+v", here.Proof, want)
	}
	for _, made := range []ProofToken{away, here} {
		var checked Proof
		f.do("POST", "/v1/proofs/check", ProofCheck{Token: made.Token + "\n"}, &checked)
		key, err := ParseProofKey(made.Key)
		if err != nil {
			t.Fatal(err)
		}
		anywhere, err := OpenProof(made.Token, key, noon)
		if err != nil || !reflect.DeepEqual(checked, made.Proof) || !reflect.DeepEqual(anywhere, made.Proof) {
			t.Errorf("checked %+v and %+v (%v), want %+v", checked, anywhere, err, made.Proof)
		}
	}
	if away.Key != here.Key {
		t.Error("each proof has a key of its own")
	}
	for text, parts := range map[string][]string{
		away.Proof.Text(): {"from anna@example.com to x@one.example", "mx.one.example (2001:db8::25)", "(TLS 1.3)", "and said: 250 2.0.0 taken: as 17", "1 April 2026"},
		here.Proof.Text(): {"to bert@example.com", "put into the recipient's mailbox"},
	} {
		for _, part := range parts {
			if !strings.Contains(text, part) {
				t.Errorf("no %q in:\n%s", part, text)
			}
		}
	}
	if got := f.actions("proof"); len(got) != 2 || !strings.Contains(got[0], "proof.issue message "+id) {
		t.Errorf("audit: %q", got)
	}
}

// TestNoProof: where nothing was delivered, and what is not a token of this server.
func TestNoProof(t *testing.T) {
	f := newFixture(t)
	f.add("anna", "bert")
	r := f.deliver()
	f.finish("one.example", store.Deferred, store.Peer{}, "451 later")
	id := r.Message.String()
	for name, tt := range map[string]struct {
		request ProofRequest
		code    Code
	}{
		"deferred":      {ProofRequest{Message: id, Recipient: "x@one.example"}, CodeNotFound},
		"queued":        {ProofRequest{Message: id, Recipient: "y@two.example"}, CodeNotFound},
		"to nobody":     {ProofRequest{Message: id, Recipient: "z@two.example"}, CodeNotFound},
		"several":       {ProofRequest{Message: id}, CodeInvalid},
		"unknown":       {ProofRequest{Message: "00000000000000ff", Recipient: "bert"}, CodeNotFound},
		"days below":    {ProofRequest{Message: id, Recipient: "bert", Days: -1}, CodeInvalid},
		"days above":    {ProofRequest{Message: id, Recipient: "bert", Days: MaxProofDays + 1}, CodeInvalid},
		"no address":    {ProofRequest{Message: id, Recipient: "@"}, CodeInvalid},
		"no message id": {ProofRequest{Message: "1", Recipient: "bert"}, CodeInvalid},
	} {
		if err := f.client.Do(t.Context(), "POST", "/v1/proofs", tt.request, nil); !isCode(err, tt.code) {
			t.Errorf("%s: got %v, want %s", name, err, tt.code)
		}
	}
	made := f.prove(ProofRequest{Message: id, Recipient: "bert", Days: MaxProofDays})
	key, err := ParseProofKey(made.Key)
	if err != nil {
		t.Fatal(err)
	}
	other, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	facts, signature, _ := strings.Cut(strings.TrimPrefix(made.Token, proofPrefix), ".")
	changed := []byte(facts)
	changed[len(changed)/2] ^= 1
	long := proofPrefix + strings.Repeat("A", MaxProofToken) + "." + signature
	for name, tt := range map[string]struct {
		token string
		key   ed25519.PublicKey
		now   time.Time
		want  error
	}{
		"its last moment": {made.Token, key, made.Proof.Expires.Add(-1), nil},
		"expired":         {made.Token, key, made.Proof.Expires, ErrProofExpired},
		"of another":      {made.Token, other, noon, ErrProofSignature},
		"other facts":     {proofPrefix + string(changed) + "." + signature, key, noon, ErrProofSignature},
		"no facts":        {proofPrefix + "." + signature, key, noon, ErrProofSignature},
		"no signature":    {proofPrefix + facts + ".", key, noon, ErrProofSignature},
		"one part":        {proofPrefix + facts, key, noon, ErrProofForm},
		"another form":    {"lkp2." + facts + "." + signature, key, noon, ErrProofForm},
		"padded":          {proofPrefix + facts + "." + signature + "=", key, noon, ErrProofForm},
		"longest":         {long[:MaxProofToken-len(signature)-1] + "." + signature, key, noon, ErrProofSignature},
		"too long":        {long, key, noon, ErrProofForm},
		"short key":       {made.Token, key[:31], noon, ErrProofForm},
		"nothing":         {"", key, noon, ErrProofForm},
	} {
		if _, err := OpenProof(tt.token, tt.key, tt.now); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", name, err, tt.want)
		}
	}
	for _, text := range []string{"", "00", made.Key + "00", "x" + made.Key[1:]} {
		if _, err := ParseProofKey(text); err == nil {
			t.Errorf("the key %q was taken", text)
		}
	}
	later := New(Options{Store: f.store, Hasher: fakeHasher{}, Now: func() time.Time { return made.Proof.Expires }})
	err = InProcess(later, Actor{Role: RoleOperator, Name: "tester"}).Do(t.Context(), "POST", "/v1/proofs/check", ProofCheck{Token: made.Token}, nil)
	if !isCode(err, CodeInvalid) || !strings.Contains(err.Error(), "genuine, and expired on") {
		t.Errorf("after its end: %v", err)
	}
	if err := f.store.PutSecret(t.Context(), proofKeyName, []byte("short")); err != nil {
		t.Fatal(err)
	}
	for path, body := range map[string]any{"/v1/proofs": ProofRequest{Message: id, Recipient: "bert"}, "/v1/proofs/check": ProofCheck{Token: made.Token}} {
		if err := f.client.Do(t.Context(), "POST", path, body, nil); !isCode(err, CodeInternal) {
			t.Errorf("%s with a damaged key: %v", path, err)
		}
	}
}

// TestProofOfNotice: a message without a sender, and with one recipient, which need not be named.
func TestProofOfNotice(t *testing.T) {
	f := newFixture(t)
	f.add("anna")
	anna := f.account("anna")
	d, err := f.store.NewDraft(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	to, err := mailaddr.Parse("anna@example.com")
	if err != nil {
		t.Fatal(err)
	}
	r, err := d.Commit(context.Background(), store.Envelope{Received: received, Recipients: []store.Recipient{{Address: to, Account: anna.ID}}})
	if err != nil {
		t.Fatal(err)
	}
	made := f.prove(ProofRequest{Message: r.Message.String()})
	if made.Proof.Recipient != "anna@example.com" || made.Proof.Sender != "" || !strings.Contains(made.Proof.Text(), "without a sender") {
		t.Errorf("proof %+v", made.Proof)
	}
}
