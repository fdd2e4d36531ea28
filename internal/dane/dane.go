package dane

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"latchkey/internal/resolver"
)

// The numbers of RFC 7218.
const (
	usageTA = 2
	usageEE = 3

	selectorCert = 0
	selectorSPKI = 1

	matchingFull   = 0
	matchingSHA256 = 1
	matchingSHA512 = 2
)

// ErrNoMatch: no record knows a certificate of the chain.
var ErrNoMatch = errors.New("dane: no TLSA record matches")

// Usable returns the records that can authenticate a host: those of unknown numbers, of the usages for public authorities
// (RFC 7672 §3.1.3) and with malformed data are left out. Where a usage and selector have digests of both kinds only the stronger ones
// count (RFC 7671 §9). None left means: TLS without authentication, but TLS (RFC 7672 §2.2).
func Usable(records []resolver.TLSA) []resolver.TLSA {
	var usable []resolver.TLSA
	for _, r := range records {
		if wellFormed(r) {
			usable = append(usable, r)
		}
	}
	return slices.DeleteFunc(slices.Clone(usable), func(r resolver.TLSA) bool {
		return r.Matching == matchingSHA256 && slices.ContainsFunc(usable, func(other resolver.TLSA) bool {
			return other.Usage == r.Usage && other.Selector == r.Selector && other.Matching == matchingSHA512
		})
	})
}

func wellFormed(r resolver.TLSA) bool {
	if r.Usage != usageTA && r.Usage != usageEE || r.Selector != selectorCert && r.Selector != selectorSPKI {
		return false
	}
	var err error
	switch {
	case r.Matching == matchingSHA256:
		return len(r.Data) == sha256.Size
	case r.Matching == matchingSHA512:
		return len(r.Data) == sha512.Size
	case r.Matching != matchingFull:
		return false
	case r.Selector == selectorCert:
		_, err = x509.ParseCertificate(r.Data)
	default:
		_, err = x509.ParsePKIXPublicKey(r.Data)
	}
	return err == nil
}

// Verify returns nil if one of the usable records vouches for the chain that a host showed, its own certificate first. A DANE-EE record
// vouches for that certificate whatever names and dates stand in it (RFC 7672 §3.1.1). A DANE-TA record vouches for what its authority
// signed, if that holds at now and for one of the names (RFC 7672 §3.1.2, §3.2.2). The error wraps ErrNoMatch, or is one of
// crypto/x509.
//
// Deviation: RFC 7671 §5.2.3 lets a record with the whole public key of an authority stand for a certificate that the host leaves out.
// Here the certificate must be in the chain, or whole in the record, as nearly all are.
func Verify(usable []resolver.TLSA, chain []*x509.Certificate, names []string, now time.Time) error {
	if len(chain) == 0 {
		return fmt.Errorf("%w: no certificate", ErrNoMatch)
	}
	verdict := ErrNoMatch
	for _, r := range usable {
		var err error
		if r.Usage == usageEE {
			if matches(r, chain[0]) {
				return nil
			}
			continue
		}
		for _, anchor := range anchors(r, chain) {
			if err = verifyAnchor(anchor, chain, names, now); err == nil {
				return nil
			}
			verdict = err // says more than that nothing matches
		}
	}
	return verdict
}

// matches compares a certificate with a record (RFC 6698 §2.1).
func matches(r resolver.TLSA, c *x509.Certificate) bool {
	octets := c.Raw
	if r.Selector == selectorSPKI {
		octets = c.RawSubjectPublicKeyInfo
	}
	switch r.Matching {
	case matchingSHA256:
		sum := sha256.Sum256(octets)
		octets = sum[:]
	case matchingSHA512:
		sum := sha512.Sum512(octets)
		octets = sum[:]
	}
	return bytes.Equal(octets, r.Data)
}

// anchors are the authorities that a record names: of the chain, or the one that is the record.
func anchors(r resolver.TLSA, chain []*x509.Certificate) []*x509.Certificate {
	var found []*x509.Certificate
	for _, c := range chain[1:] {
		if matches(r, c) {
			found = append(found, c)
		}
	}
	if len(found) == 0 && r.Selector == selectorCert && r.Matching == matchingFull {
		if c, err := x509.ParseCertificate(r.Data); err == nil {
			found = append(found, c)
		}
	}
	return found
}

// verifyAnchor builds a path from the host's certificate to an authority, and looks for a name.
func verifyAnchor(anchor *x509.Certificate, chain []*x509.Certificate, names []string, now time.Time) error {
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(anchor)
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	if _, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: now}); err != nil {
		return err
	}
	var err error
	for _, name := range names {
		if err = chain[0].VerifyHostname(name); err == nil {
			return nil
		}
	}
	return err
}
