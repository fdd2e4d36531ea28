package webmanager

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"latchkey/internal/mailaddr"
	"latchkey/store"
)

const (
	// DefaultProofDays and MaxProofDays are how long a proof of delivery can be shown to this program.
	DefaultProofDays = 30
	MaxProofDays     = 365
	// MaxProofToken bounds a token in octets: more than the longest proof takes.
	MaxProofToken = 16 << 10
	// proofKeyName is where the store keeps the seed of the key that signs proofs.
	proofKeyName = "trail/proof-key"
	// proofPrefix begins every token, proofPurpose what is signed.
	proofPrefix  = "lkp1."
	proofPurpose = "latchkey: proof of delivery 1\n"
)

// The reasons why a token proves nothing.
var (
	ErrProofForm      = errors.New("it is not a proof of delivery, or a part of it is missing")
	ErrProofSignature = errors.New("it was not signed with that key, or was changed since")
	ErrProofExpired   = errors.New("it has expired")
)

// Proof says that one message reached one recipient. It has nothing of the message's content.
type Proof struct {
	// Domain is the one whose server says so.
	Domain   string          `json:"domain"`
	Message  store.MessageID `json:"message"`
	HeaderID string          `json:"header_id,omitempty"`
	Size     int64           `json:"size"`
	// Sender and Recipient are the envelope's, in the form of RFC 5321, "" for the null reverse-path.
	Sender    string    `json:"sender"`
	Recipient string    `json:"recipient"`
	Accepted  time.Time `json:"accepted"`
	// Delivered is when the host took it, or when it was put into the mailbox.
	Delivered time.Time `json:"delivered"`
	// Host, Addr and TLS say which host took responsibility (RFC 5321 §6.1) and how it was reached; Reply are its words. All are empty for a
	// mailbox of the domain itself.
	Host  string     `json:"host,omitempty"`
	Addr  netip.Addr `json:"addr,omitzero"`
	TLS   string     `json:"tls,omitempty"`
	Reply string     `json:"reply,omitempty"`
	// Issued is when somebody asked for the proof, Expires when it ends.
	Issued  time.Time `json:"issued"`
	Expires time.Time `json:"expires"`
}

// Text is the proof in plain words.
func (p *Proof) Text() string {
	stamp := func(t time.Time) string { return t.UTC().Format("2 January 2006, 15:04:05 UTC") }
	var b strings.Builder
	from := p.Sender
	if from == "" {
		from = "the mail system (a notice, without a sender)"
	}
	fmt.Fprintf(&b, "The mail server of %s says:\n\nA message from %s to %s was delivered on %s.\n", p.Domain, from, p.Recipient, stamp(p.Delivered))
	if p.Host == "" && p.Reply == "" {
		b.WriteString("It was put into the recipient's mailbox on this server.\n")
	} else {
		host := p.Host
		if p.Addr.IsValid() {
			host += " (" + p.Addr.String() + ")"
		}
		how := "over a connection without encryption"
		if p.TLS != "" {
			how = "over an encrypted connection (" + p.TLS + ")"
		}
		fmt.Fprintf(&b, "The recipient's mail server %s took it %s, and said: %s\nFrom then on that server answers for it.\n", host, how, p.Reply)
	}
	fmt.Fprintf(&b, "\nIt was given to us on %s, has %d octets, and is number %s here.\n", stamp(p.Accepted), p.Size, p.Message)
	if p.HeaderID != "" {
		fmt.Fprintf(&b, "Its Message-ID is %s.\n", p.HeaderID)
	}
	fmt.Fprintf(&b, "This says nothing of what is in it, or of whether anybody has read it.\nIssued on %s, valid until %s.\n", stamp(p.Issued), stamp(p.Expires))
	return b.String()
}

// sign makes the token of a proof.
func (p *Proof) sign(key ed25519.PrivateKey) (string, error) {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false) // tokens are long enough
	if err := e.Encode(p); err != nil {
		return "", err
	}
	facts := bytes.TrimSpace(text.Bytes())
	code := base64.RawURLEncoding
	return proofPrefix + code.EncodeToString(facts) + "." + code.EncodeToString(ed25519.Sign(key, append([]byte(proofPurpose), facts...))), nil
}

// OpenProof reads a token and checks its signature and its end. A proof that has expired is returned beside ErrProofExpired.
func OpenProof(token string, key ed25519.PublicKey, now time.Time) (p Proof, err error) {
	facts, signature, ok := strings.Cut(strings.TrimPrefix(token, proofPrefix), ".")
	if !ok || !strings.HasPrefix(token, proofPrefix) || len(token) > MaxProofToken || len(key) != ed25519.PublicKeySize {
		return p, ErrProofForm
	}
	said, err := base64.RawURLEncoding.Strict().DecodeString(facts)
	signed, signErr := base64.RawURLEncoding.Strict().DecodeString(signature)
	if err != nil || signErr != nil {
		return p, ErrProofForm
	}
	if !ed25519.Verify(key, append([]byte(proofPurpose), said...), signed) {
		return p, ErrProofSignature
	}
	if err := json.Unmarshal(said, &p); err != nil {
		return Proof{}, ErrProofForm
	}
	if !now.Before(p.Expires) {
		return p, ErrProofExpired
	}
	return p, nil
}

// ProofRequest asks for a proof.
type ProofRequest struct {
	Message string `json:"message"`
	// Recipient may be left out where the message has one only.
	Recipient string `json:"recipient,omitempty"`
	// Days is how long the proof is valid, 1 to MaxProofDays; 0 is DefaultProofDays.
	Days int `json:"days,omitempty"`
}

// ProofToken is a proof to be shared.
type ProofToken struct {
	Token string `json:"token"`
	// Key is the public key that it can be checked with anywhere, in hex.
	Key   string `json:"key"`
	Proof Proof  `json:"proof"`
}

// ProofCheck asks what a token proves.
type ProofCheck struct {
	Token string `json:"token"`
}

// proofKey returns the key that signs proofs, and makes it if there is none and one is wanted.
func (a *API) proofKey(ctx context.Context, wanted bool) (ed25519.PrivateKey, error) {
	a.proving.Lock()
	defer a.proving.Unlock()
	seed, err := a.store.Secret(ctx, proofKeyName)
	if errors.Is(err, store.ErrNotFound) && wanted {
		seed = make([]byte, ed25519.SeedSize)
		_, _ = rand.Read(seed) // never fails
		err = a.store.PutSecret(ctx, proofKeyName, seed)
	}
	switch {
	case err != nil:
		return nil, err
	case len(seed) != ed25519.SeedSize:
		return nil, fmt.Errorf("the stored key of proofs has %d octets, want %d", len(seed), ed25519.SeedSize)
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

// issueProof answers POST /v1/proofs.
func (a *API) issueProof(r *http.Request) (any, error) {
	var body ProofRequest
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	ctx := r.Context()
	settings, err := a.store.Settings(ctx)
	if err != nil {
		return nil, err
	}
	var wrong []Field
	id, err := store.ParseMessageID(body.Message)
	if err != nil {
		wrong = append(wrong, say("message_id").of("message"))
	}
	words := trailWords{domain: settings.Domain}
	var to mailaddr.Address
	if body.Recipient != "" {
		if to, err = words.addressOf(body.Recipient); err != nil {
			wrong = append(wrong, say("name_or_address").of("recipient"))
		}
	}
	if body.Days < 0 || body.Days > MaxProofDays {
		wrong = append(wrong, say("one_to", MaxProofDays).of("days"))
	}
	if len(wrong) > 0 {
		return nil, invalid(wrong...)
	}
	if body.Days == 0 {
		body.Days = DefaultProofDays
	}
	events, err := a.store.MessageTrail(ctx, id)
	var gaps store.TrailGaps
	if err != nil && !errors.As(err, &gaps) {
		return nil, err
	}
	if actor := actorOf(ctx); actor.Role < RoleOwner && !slices.ContainsFunc(events, func(e store.TrailEvent) bool {
		return e.Kind == store.TrailAccepted && e.Origin.Account != 0 && e.Origin.Account == actor.Account
	}) {
		return nil, say("no_trail", id).refusal(CodeNotFound)
	}
	p, err := proofOf(events, id, to)
	if err != nil {
		return nil, err
	}
	now := a.now().UTC().Truncate(time.Second)
	p.Domain, p.Issued, p.Expires = settings.Domain, now, now.AddDate(0, 0, body.Days)
	key, err := a.proofKey(ctx, true)
	if err != nil {
		return nil, err
	}
	token, err := p.sign(key)
	if err != nil {
		return nil, err
	}
	if err := a.audit(ctx, "proof.issue", "message "+id.String(), nil, map[string]any{"recipient": p.Recipient, "expires": p.Expires}); err != nil {
		return nil, err
	}
	return ProofToken{Token: token, Key: publicHex(key), Proof: p}, nil
}

func publicHex(key ed25519.PrivateKey) string {
	public, _ := key.Public().(ed25519.PublicKey)
	return hex.EncodeToString(public)
}

// proofOf finds in the trail of a message that it was delivered to a recipient; the zero address is its only one.
func proofOf(events []store.TrailEvent, id store.MessageID, to mailaddr.Address) (p Proof, err error) {
	start := slices.IndexFunc(events, func(e store.TrailEvent) bool { return e.Kind == store.TrailAccepted })
	if start < 0 {
		return p, say("no_trail", id).refusal(CodeNotFound)
	}
	accepted := &events[start]
	if to.IsZero() {
		for i := range events {
			switch e := &events[i]; {
			case e.Recipient.IsZero():
			case to.IsZero():
				to = e.Recipient
			case to != e.Recipient:
				return p, invalid(say("recipient_needed").of("recipient"))
			}
		}
	}
	done := slices.IndexFunc(events, func(e store.TrailEvent) bool {
		return e.Recipient == to && (e.Kind == store.TrailDelivered || e.Kind == store.TrailStored)
	})
	if done < 0 {
		return p, say("not_delivered", id, to).refusal(CodeNotFound)
	}
	e := &events[done]
	p = Proof{
		Message: id, HeaderID: accepted.HeaderID, Size: accepted.Size, Sender: accepted.Sender.String(), Recipient: to.String(),
		Accepted: accepted.Time.UTC(), Delivered: e.Time.UTC(), Host: e.Peer.Host, Addr: e.Peer.Addr, TLS: e.Peer.TLS, Reply: replyIn(e),
	}
	return p, nil
}

// replyIn are a host's words without the host, which the text of an attempt begins with.
func replyIn(e *store.TrailEvent) string {
	if before, words, ok := strings.Cut(e.Text, ": "); ok && e.Peer.Host != "" && strings.HasPrefix(before, e.Peer.Host) {
		return words
	}
	return e.Text
}

// checkProof answers POST /v1/proofs/check.
func (a *API) checkProof(r *http.Request) (any, error) {
	var body ProofCheck
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	key, err := a.proofKey(r.Context(), false)
	if errors.Is(err, store.ErrNotFound) {
		return nil, say("no_proofs").refusal(CodeInvalid)
	}
	if err != nil {
		return nil, err
	}
	public, _ := key.Public().(ed25519.PublicKey)
	p, err := OpenProof(strings.TrimSpace(body.Token), public, a.now())
	switch {
	case errors.Is(err, ErrProofExpired):
		return nil, say("proof_expired", p.Expires.UTC().Format(time.RFC3339)).refusal(CodeInvalid)
	case errors.Is(err, ErrProofSignature):
		return nil, invalid(say("proof_signature").of("token"))
	case err != nil:
		return nil, invalid(say("proof_form").of("token"))
	}
	return p, nil
}

// ParseProofKey reads the public key of a server that makes proofs.
func ParseProofKey(text string) (ed25519.PublicKey, error) {
	key, err := hex.DecodeString(text)
	if err != nil || len(key) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("a key has %d hex digits", 2*ed25519.PublicKeySize)
	}
	return key, nil
}
