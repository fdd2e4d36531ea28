package relay

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
)

// Proof says by what a host's certificate was found to be the right one.
type Proof string

// The proofs.
const (
	// ProofNone: by nothing. Whoever stood in between could have answered.
	ProofNone Proof = ""
	// ProofPKIX: by the public authorities, for the host's name.
	ProofPKIX Proof = "PKIX"
	// ProofSTS: likewise, and the domain's policy (MTA-STS, RFC 8461) names the host.
	ProofSTS Proof = "MTA-STS"
	// ProofDANE: by the domain's signed DNS (RFC 7672).
	ProofDANE Proof = "DANE"
)

// TLSFacts are what there is to know about the TLS of one connection. The zero value is a connection in the clear.
type TLSFacts struct {
	// Version and Cipher are numbers of crypto/tls.
	Version, Cipher uint16
	Proof           Proof
	// Fingerprint is the SHA-256 of the host's certificate.
	Fingerprint [sha256.Size]byte
}

// factsOf reads the facts from a connection whose certificate was judged by proof.
func factsOf(state tls.ConnectionState, proof Proof) TLSFacts {
	f := TLSFacts{Version: state.Version, Cipher: state.CipherSuite, Proof: proof}
	if len(state.PeerCertificates) > 0 {
		f.Fingerprint = sha256.Sum256(state.PeerCertificates[0].Raw)
	}
	return f
}

// Encrypted reports whether there is TLS.
func (f TLSFacts) Encrypted() bool { return f.Version != 0 }

// Short is the version, and the proof if there is one: "TLS 1.3 (DANE)". It is "" in the clear.
func (f TLSFacts) Short() string {
	switch {
	case !f.Encrypted():
		return ""
	case f.Proof == ProofNone:
		return tls.VersionName(f.Version)
	}
	return tls.VersionName(f.Version) + " (" + string(f.Proof) + ")"
}

// String is all of it in one line, for logs and the trail: "TLS 1.3, TLS_AES_128_GCM_SHA256, verified by DANE, certificate sha256:...".
func (f TLSFacts) String() string {
	if !f.Encrypted() {
		return "no TLS"
	}
	by := "not verified"
	if f.Proof != ProofNone {
		by = "verified by " + string(f.Proof)
	}
	s := tls.VersionName(f.Version) + ", " + tls.CipherSuiteName(f.Cipher) + ", " + by
	if f.Fingerprint != ([sha256.Size]byte{}) {
		s += ", certificate sha256:" + hex.EncodeToString(f.Fingerprint[:])
	}
	return s
}
