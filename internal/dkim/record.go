package dkim

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// Name is the DNS name of a key's record (RFC 6376 §3.6.2.1).
func Name(selector, domain string) string { return selector + "._domainkey." + domain }

// RecordOf writes the record that publishes a key (RFC 6376 §3.6.1, RFC 8463 §4). It may be longer than one string of a TXT record.
func RecordOf(public crypto.PublicKey) (string, error) {
	switch k := public.(type) {
	case *rsa.PublicKey:
		der, err := x509.MarshalPKIXPublicKey(k)
		return "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(der), err
	case ed25519.PublicKey:
		return "v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(k), nil
	}
	return "", ErrKey
}

// Why a published record is not the one of a key.
var (
	// ErrNoRecord: the text is no key record.
	ErrNoRecord = errors.New("dkim: no key record")
	// ErrRevoked: p= is empty.
	ErrRevoked = errors.New("dkim: the record revokes the key")
	// ErrTruncated: p= is the beginning of the key.
	ErrTruncated = errors.New("dkim: the key in the record is cut off")
	// ErrOtherKey: p= or k= is another key's.
	ErrOtherKey = errors.New("dkim: the record has another key")
	// ErrRestricted: h= or s= keeps the key from signing mail by SHA-256.
	ErrRestricted = errors.New("dkim: the record does not allow the key to sign mail")
	// ErrTesting: t=y asks verifiers to treat signed mail as if it were not (RFC 6376 §3.6.1).
	ErrTesting = errors.New("dkim: the record is marked as a test")
)

// Compare says whether a published text does for a key whose record is own. nil: it does.
func Compare(published, own string) error {
	have, err := parseTags(published)
	if err != nil {
		return err
	}
	want, err := parseTags(own)
	if err != nil {
		return err
	}
	p, ok := have["p"]
	switch {
	case have["v"] != "" && have["v"] != "DKIM1" || !ok:
		return ErrNoRecord
	case p == "":
		return ErrRevoked
	case kindOf(have) != kindOf(want):
		return fmt.Errorf("%w: k=%s", ErrOtherKey, kindOf(have))
	case p != want["p"] && strings.HasPrefix(want["p"], strings.TrimRight(p, "=")):
		return ErrTruncated
	case !sameKey(p, want["p"]):
		return ErrOtherKey
	case !allows(have, "h", "sha256") || !allows(have, "s", "email"):
		return ErrRestricted
	case listed(have["t"], "y"):
		return ErrTesting
	}
	return nil
}

func sameKey(a, b string) bool {
	x, errX := base64.StdEncoding.DecodeString(a)
	y, errY := base64.StdEncoding.DecodeString(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// kindOf is k=, which is rsa by default.
func kindOf(tags map[string]string) string {
	if k := tags["k"]; k != "" {
		return k
	}
	return string(RSA)
}

// allows reports whether a tag with a list of what is allowed has a word, or is not there.
func allows(tags map[string]string, tag, word string) bool {
	list, ok := tags[tag]
	return !ok || listed(list, word) || tag == "s" && listed(list, "*")
}

// listed reports whether a list with colons has a word.
func listed(list, word string) bool {
	for one := range strings.SplitSeq(list, ":") {
		if one == word {
			return true
		}
	}
	return false
}

// parseTags reads a tag=value list (RFC 6376 §3.2). White space is left out: no tag of a key record has any that counts.
func parseTags(text string) (map[string]string, error) {
	tags := map[string]string{}
	for one := range strings.SplitSeq(text, ";") {
		one = strings.Map(func(r rune) rune {
			if r == ' ' || r == '\t' || r == '\r' || r == '\n' {
				return -1
			}
			return r
		}, one)
		if one == "" {
			continue
		}
		name, value, ok := strings.Cut(one, "=")
		if _, twice := tags[name]; !ok || name == "" || twice {
			return nil, ErrNoRecord
		}
		tags[name] = value
	}
	return tags, nil
}
