// Package passkeytest is an authenticator in software, for tests: it makes passkeys (ES256) and proofs, and can be told to do each thing wrong.
package passkeytest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
)

// Flags of the authenticator data (WebAuthn §6.1).
const (
	Present, Verified, Eligible, BackedUp, attested = 0x01, 0x04, 0x08, 0x10, 0x40
)

// Authenticator has one passkey at most. Its fields may be changed between its answers, so that they are wrong.
type Authenticator struct {
	// Origin is where the browser is. Type, RPID and Challenge are put in place of what is right unless they are empty.
	Origin, Type, RPID, Challenge string
	// Flags and Count go into the authenticator data. Count goes up by Step with each proof.
	Flags       byte
	Count, Step uint32
	// Handle and ID are the passkey's.
	Handle, ID []byte
	key        *ecdsa.PrivateKey
}

// New is an authenticator that knows its user, in a browser at an origin.
func New(origin string) *Authenticator {
	return &Authenticator{Origin: origin, Flags: Present | Verified, Step: 1}
}

// options are those parts of the options of both kinds that it looks at.
type options struct {
	Challenge string `json:"challenge"`
	RPID      string `json:"rpId"`
	RP        struct {
		ID string `json:"id"`
	} `json:"rp"`
	User struct {
		ID string `json:"id"`
	} `json:"user"`
}

func encode(octets []byte) string { return base64.RawURLEncoding.EncodeToString(octets) }

func or(text, otherwise string) string {
	if text != "" {
		return text
	}
	return otherwise
}

// clientData is what the browser signs with it (WebAuthn §5.8.1).
func (a *Authenticator) clientData(kind string, o options) []byte {
	text, err := json.Marshal(map[string]any{
		"type": or(a.Type, kind), "challenge": or(a.Challenge, o.Challenge), "origin": a.Origin, "crossOrigin": false,
	})
	if err != nil {
		panic(err) // texts have a JSON
	}
	return text
}

// data is the authenticator data (WebAuthn §6.1).
func (a *Authenticator) data(rpID string, flags byte, more []byte) []byte {
	hash := sha256.Sum256([]byte(or(a.RPID, rpID)))
	return append(binary.BigEndian.AppendUint32(append(hash[:], flags), a.Count), more...)
}

// bytesOf is a byte string in CBOR (RFC 8949 §3.1).
func bytesOf(octets []byte) []byte {
	head := []byte{0x58, byte(len(octets))}
	if len(octets) > 255 {
		head = binary.BigEndian.AppendUint16([]byte{0x59}, uint16(len(octets))) //nolint:gosec // those of tests are short
	}
	return append(head, octets...)
}

// cose is the public key in the form of RFC 9053 §7.1.1: ES256, P-256.
func (a *Authenticator) cose() []byte {
	point, err := a.key.PublicKey.Bytes() // 4, x, y
	if err != nil {
		panic(err) // it was made on the curve
	}
	c := []byte{0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21}
	c = append(append(c, bytesOf(point[1:33])...), 0x22)
	return append(c, bytesOf(point[33:])...)
}

// Create makes a passkey, in place of the one that was there, and answers with the JSON of a browser. An ID that is set before is kept.
func (a *Authenticator) Create(asked []byte) ([]byte, error) {
	var o options
	err := json.Unmarshal(asked, &o)
	if err == nil && a.Handle == nil {
		a.Handle, err = base64.RawURLEncoding.DecodeString(o.User.ID)
	}
	if err == nil {
		a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		return nil, fmt.Errorf("passkeytest: %w", err)
	}
	if a.ID == nil {
		a.ID = make([]byte, 32)
		_, _ = rand.Read(a.ID) // never fails
	}
	more := make([]byte, 16)                                      // the AAGUID: none
	more = binary.BigEndian.AppendUint16(more, uint16(len(a.ID))) //nolint:gosec // those of tests are short
	more = append(append(more, a.ID...), a.cose()...)
	object := append([]byte{0xa3, 0x63}, "fmt\x64none\x67attStmt\xa0\x68authData"...)
	object = append(object, bytesOf(a.data(o.RP.ID, a.Flags|attested, more))...)
	return json.Marshal(map[string]any{
		"id": encode(a.ID), "rawId": encode(a.ID), "type": "public-key", "response": map[string]any{
			"clientDataJSON": encode(a.clientData("webauthn.create", o)), "attestationObject": encode(object), "transports": []string{"internal"},
		},
	})
}

// Prove answers a request for a proof with the JSON of a browser.
func (a *Authenticator) Prove(asked []byte) ([]byte, error) {
	var o options
	if err := json.Unmarshal(asked, &o); err != nil {
		return nil, fmt.Errorf("passkeytest: %w", err)
	}
	a.Count += a.Step
	client := a.clientData("webauthn.get", o)
	data := a.data(o.RPID, a.Flags, nil)
	hash := sha256.Sum256(client)
	sum := sha256.Sum256(append(append([]byte{}, data...), hash[:]...))
	signature, err := ecdsa.SignASN1(rand.Reader, a.key, sum[:])
	if err != nil {
		return nil, fmt.Errorf("passkeytest: %w", err)
	}
	return json.Marshal(map[string]any{
		"id": encode(a.ID), "rawId": encode(a.ID), "type": "public-key", "response": map[string]any{
			"clientDataJSON": encode(client), "authenticatorData": encode(data), "signature": encode(signature), "userHandle": encode(a.Handle),
		},
	})
}
