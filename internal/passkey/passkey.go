package passkey

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/protocol/webauthncose"
	"github.com/go-webauthn/webauthn/webauthn"

	"latchkey/internal/mailaddr"
)

// Bounds of what comes from browsers, in octets.
const (
	// MaxResponse bounds a response, MaxPublic the public key in it: one of RSA with 8192 bits has room.
	MaxResponse = 32 << 10
	MaxPublic   = 2 << 10
	// MaxID bounds the name that an authenticator gives a passkey (WebAuthn §5.1).
	MaxID = 1023
	// maxTransports and maxTransport bound the ways by which an authenticator says it can be reached, and the name of one.
	maxTransports, maxTransport = 8, 32
)

// Errors.
var (
	// ErrNoName: browsers make no passkeys for such an address.
	ErrNoName = errors.New("passkey: pages need https and a name, or localhost")
	// ErrMalformed: a response is not one. Nothing was tried.
	ErrMalformed = errors.New("passkey: not a response of an authenticator")
	// ErrRefused: a response is not right. The cause is wrapped, and is for the log.
	ErrRefused = errors.New("passkey: refused")
	// ErrCopied: the proof is right, and the counter of the authenticator did not go on: somebody has a copy of the key (WebAuthn §6.1.1).
	ErrCopied = errors.New("passkey: the counter went backwards")
)

// Key is a passkey as it is kept: what is public of it.
type Key struct {
	ID     []byte `json:"id"`
	Public []byte `json:"public"` // a COSE key
	// Count is the authenticator's counter, 0 for one that does not count.
	Count uint32 `json:"count"`
	// Flags are those of the authenticator data (WebAuthn §6.1): that the key may be, and is, kept in several places is in them.
	Flags      uint8    `json:"flags"`
	Transports []string `json:"transports,omitempty"`
	// AAGUID is the kind of authenticator as it says itself, which nobody vouches for.
	AAGUID []byte `json:"aaguid,omitempty"`
}

// Synced reports whether the key was kept in more places than one when it was last used.
func (k Key) Synced() bool { return protocol.AuthenticatorFlags(k.Flags).HasBackupState() }

// Owner is whose passkeys they are.
type Owner struct {
	// Handle is 1 to 64 octets that say nothing of who it is (WebAuthn §14.6.1). Name and Display are shown by the authenticator.
	Handle        []byte
	Name, Display string
	Keys          []Key
}

// Party is whom passkeys are for: the pages at one address.
type Party struct{ id, origin, name string }

// At is the party of the pages at a URL, as browsers have it. name is shown to people. ErrNoName where browsers make no passkeys: without TLS, unless
// the host is localhost, and by an IP address.
func At(base, name string) (Party, error) {
	u, err := url.Parse(base)
	if err != nil {
		return Party{}, ErrNoName
	}
	host := strings.ToLower(u.Hostname())
	_, noAddress := netip.ParseAddr(host)
	if noAddress == nil || u.Scheme != "https" && (u.Scheme != "http" || !mailaddr.IsLocalhost(host)) || protocol.ValidateRPID(host) != nil {
		return Party{}, ErrNoName
	}
	return Party{id: host, origin: u.Scheme + "://" + strings.ToLower(u.Host), name: name}, nil
}

// Origin is the address that browsers must have the pages at: scheme, host, and port.
func (p Party) Origin() string { return p.origin }

// library is the library's own form of the party. It is cheap, so none is kept.
func (p Party) library(timeout time.Duration) (*webauthn.WebAuthn, error) {
	t := webauthn.TimeoutConfig{Timeout: timeout, TimeoutUVD: timeout}
	return webauthn.New(&webauthn.Config{
		RPID: p.id, RPDisplayName: p.name, RPOrigins: []string{p.origin}, AttestationPreference: protocol.PreferNoAttestation,
		AuthenticatorSelection: protocol.AuthenticatorSelection{
			ResidentKey: protocol.ResidentKeyRequirementRequired, RequireResidentKey: protocol.ResidentKeyRequired(),
			UserVerification: protocol.VerificationRequired,
		},
		Timeouts: webauthn.TimeoutsConfig{Login: t, Registration: t}, // what browsers are told; the caller has the clock
	})
}

// creation is a registration as the library begins it: the same for the same arguments, so that nothing of it has to be kept.
func (p Party) creation(o Owner, challenge []byte, timeout time.Duration) (*webauthn.WebAuthn, *protocol.CredentialCreation, *webauthn.SessionData, error) {
	lib, err := p.library(timeout)
	if err != nil {
		return nil, nil, nil, err
	}
	options, session, err := lib.BeginRegistration(user{o},
		webauthn.WithExclusions(webauthn.Credentials(user{o}.WebAuthnCredentials()).CredentialDescriptors()),
		webauthn.WithCredentialParameters([]protocol.CredentialParameter{
			{Type: protocol.PublicKeyCredentialType, Algorithm: webauthncose.AlgES256},
			{Type: protocol.PublicKeyCredentialType, Algorithm: webauthncose.AlgEdDSA},
			{Type: protocol.PublicKeyCredentialType, Algorithm: webauthncose.AlgRS256},
		}),
		func(o *protocol.PublicKeyCredentialCreationOptions) error {
			o.Challenge = challenge
			return nil
		})
	return lib, options, session, err
}

// Creation is what a browser is asked for a new passkey with, as JSON. Passkeys that the owner has are not made again on the same authenticator.
func (p Party) Creation(o Owner, challenge []byte, timeout time.Duration) (json.RawMessage, error) {
	_, options, _, err := p.creation(o, challenge, timeout)
	if err != nil {
		return nil, fmt.Errorf("passkey: creation: %w", err)
	}
	return json.Marshal(options.Response)
}

// Created is the passkey that a browser has made, by a response to Creation with the same owner and challenge. ErrMalformed or ErrRefused.
func (p Party) Created(o Owner, challenge, response []byte) (Key, error) {
	lib, _, session, err := p.creation(o, challenge, 0)
	if err != nil {
		return Key{}, fmt.Errorf("passkey: creation: %w", err)
	}
	if len(response) > MaxResponse {
		return Key{}, ErrMalformed
	}
	parsed, err := protocol.ParseCredentialCreationResponseBytes(response)
	if err != nil {
		return Key{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	c, err := lib.CreateCredential(user{o}, *session, parsed)
	if err != nil {
		return Key{}, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	if len(c.ID) == 0 || len(c.ID) > MaxID || len(c.PublicKey) > MaxPublic {
		return Key{}, fmt.Errorf("%w: its name has %d octets, its key %d", ErrRefused, len(c.ID), len(c.PublicKey))
	}
	for _, k := range o.Keys {
		if bytes.Equal(k.ID, c.ID) {
			return Key{}, fmt.Errorf("%w: the passkey is known already", ErrRefused)
		}
	}
	return keyOf(c), nil
}

// Request is what a browser is asked for a proof with, as JSON. It names no passkey: the browser offers those that it has.
func (p Party) Request(challenge []byte, timeout time.Duration) (json.RawMessage, error) {
	lib, err := p.library(timeout)
	if err != nil {
		return nil, fmt.Errorf("passkey: request: %w", err)
	}
	options, _, err := lib.BeginDiscoverableLogin(webauthn.WithChallenge(challenge))
	if err != nil {
		return nil, fmt.Errorf("passkey: request: %w", err)
	}
	return json.Marshal(options.Response)
}

// Claim is a response to Request that nobody has checked yet.
type Claim struct {
	parsed *protocol.ParsedCredentialAssertionData
}

// Read reads a response. ErrMalformed.
func Read(response []byte) (Claim, error) {
	if len(response) > MaxResponse {
		return Claim{}, ErrMalformed
	}
	parsed, err := protocol.ParseCredentialRequestResponseBytes(response)
	if err != nil {
		return Claim{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return Claim{parsed}, nil
}

// Handle is whose the passkey is said to be: see [Owner].
func (c Claim) Handle() []byte { return c.parsed.Response.UserHandle }

// Proved is the passkey of an owner that a claim proves, as it is to be kept from now on. ErrRefused, or ErrCopied with the passkey as it was.
func (p Party) Proved(o Owner, challenge []byte, claim Claim) (Key, error) {
	lib, err := p.library(0)
	if err != nil {
		return Key{}, fmt.Errorf("passkey: proof: %w", err)
	}
	_, session, err := lib.BeginDiscoverableLogin(webauthn.WithChallenge(challenge))
	if err != nil {
		return Key{}, fmt.Errorf("passkey: proof: %w", err)
	}
	// The owner is who the caller found by the handle; the library holds the handle against his.
	whose := func(_, _ []byte) (webauthn.User, error) { return user{o}, nil }
	c, err := lib.ValidateDiscoverableLogin(whose, *session, claim.parsed)
	if err != nil {
		return Key{}, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	key := keyOf(c)
	if c.Authenticator.CloneWarning {
		return key, ErrCopied
	}
	return key, nil
}

// keyOf is what is kept of a credential.
func keyOf(c *webauthn.Credential) Key {
	k := Key{
		ID: c.ID, Public: c.PublicKey, Count: c.Authenticator.SignCount, Flags: c.Flags.MsgpByte(), AAGUID: c.Authenticator.AAGUID,
	}
	for _, t := range c.Transport {
		if len(k.Transports) < maxTransports && len(t) <= maxTransport {
			k.Transports = append(k.Transports, string(t))
		}
	}
	return k
}

// user makes an Owner the library's webauthn.User.
type user struct{ o Owner }

// WebAuthnID implements webauthn.User.
func (u user) WebAuthnID() []byte { return u.o.Handle }

// WebAuthnName implements webauthn.User.
func (u user) WebAuthnName() string { return u.o.Name }

// WebAuthnDisplayName implements webauthn.User.
func (u user) WebAuthnDisplayName() string { return u.o.Display }

// WebAuthnCredentials implements webauthn.User.
func (u user) WebAuthnCredentials() []webauthn.Credential {
	list := make([]webauthn.Credential, len(u.o.Keys))
	for i, k := range u.o.Keys {
		list[i] = webauthn.Credential{
			ID: k.ID, PublicKey: k.Public, Flags: webauthn.NewCredentialFlags(protocol.AuthenticatorFlags(k.Flags)),
			Authenticator: webauthn.Authenticator{AAGUID: k.AAGUID, SignCount: k.Count},
		}
		for _, t := range k.Transports {
			list[i].Transport = append(list[i].Transport, protocol.AuthenticatorTransport(t))
		}
	}
	return list
}

// Text is octets as they stand in the JSON of browsers.
func Text(octets []byte) string { return base64.RawURLEncoding.EncodeToString(octets) }
