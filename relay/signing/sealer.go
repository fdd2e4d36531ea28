package signing

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"latchkey/internal/dkim"
	"latchkey/internal/zone"
	"latchkey/store"
)

// lookupTime bounds all that is asked of the DNS for one message that is sealed. What is not known by then counts as not to be had now.
const lookupTime = 20 * time.Second

// Sealer seals messages of others that are sent on (RFC 8617): it says how they came, and vouches for that with the domain's key.
type Sealer struct {
	Ring *Ring
	// Hostname is the authserv-id (RFC 8601 §2.5), in ASCII.
	Hostname string
	// TXT looks up the keys of others, DNS the records of SPF.
	TXT TXT
	DNS zone.DNS
}

// Seal reads a message to its end, in the form in which it will be sent but for the fields of the seal, and returns those: none if there is no
// key for it, or if nothing may be added to the message's chain (RFC 8617 §5.1). accepted is how the message came; without an address of a
// client nothing is said of SPF.
//
// dkim.ErrTemporary comes with the fields: they say that the chain failed because a key of it could not be looked up. dkim.ErrHeader and
// dkim.ErrNoFrom mean that the message cannot be sealed; any other error is ours, or the reader's.
func (s *Sealer) Seal(ctx context.Context, domain string, accepted store.TrailEvent, content io.Reader) ([]byte, error) {
	keys, err := s.Ring.signers(ctx)
	if err != nil {
		return nil, err
	}
	key, ok := sealingKey(keys)
	if !ok {
		return nil, nil
	}
	scan := dkim.NewScan()
	if _, err := io.CopyBuffer(onlyWriter{scan}, content, make([]byte, readBuffer)); err != nil {
		return nil, err
	}
	lookups, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	chain := scan.Chain(lookups, dkim.TXT(s.TXT))
	results := []string{s.Hostname}
	for _, r := range scan.Signatures(lookups, accepted.Time, dkim.TXT(s.TXT)) {
		results = append(results, signatureResult(r))
	}
	if len(results) == 1 {
		results = append(results, "dkim=none")
	}
	if accepted.Origin.Remote.IsValid() {
		results = append(results, s.senderResult(lookups, accepted))
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	results = append(results, chainResult(chain, accepted))
	fields, err := scan.Seal(dkim.Set{Domain: domain, Key: key, Now: s.Ring.now(), Results: results, Validation: chain.Status})
	switch {
	case errors.Is(err, dkim.ErrNoSet):
		return nil, nil
	case err == nil && errors.Is(chain.Err, dkim.ErrTemporary):
		err = chain.Err
	}
	return fields, err
}

// sealingKey is the RSA key: RFC 8617 §4.2.1 leaves sets of several algorithms to others, and not everybody knows Ed25519.
func sealingKey(keys []dkim.Key) (dkim.Key, bool) {
	for _, k := range keys {
		if dkim.AlgorithmOf(k) == dkim.RSA {
			return k, true
		}
	}
	return dkim.Key{}, false
}

// signatureResult is what is said of one DKIM-Signature (RFC 8601 §2.7.1, RFC 6008 §4).
func signatureResult(r dkim.Result) string {
	s := "dkim=" + string(r.Status)
	if r.Reason != "" {
		s += " (" + r.Reason + ")"
	}
	if r.Domain != "" {
		s += " header.d=" + r.Domain
	}
	if r.Selector != "" {
		s += " header.s=" + r.Selector
	}
	if r.Algorithm != "" {
		s += " header.a=" + r.Algorithm + "-sha256"
	}
	if r.Tag != "" && strings.Trim(r.Tag, base64Octets) == "" {
		s += ` header.b="` + r.Tag + `"`
	}
	return s
}

const base64Octets = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="

// senderResult is what is said of SPF (RFC 8601 §2.7.2).
func (s *Sealer) senderResult(ctx context.Context, accepted store.TrailEvent) string {
	result, domain := zone.SenderResult(ctx, s.DNS, accepted.Origin.Remote, accepted.Origin.Hello, accepted.Sender)
	switch {
	case domain == "":
		return "spf=" + result
	case accepted.Sender.IsZero():
		return "spf=" + result + " smtp.helo=" + domain
	}
	return "spf=" + result + " smtp.mailfrom=" + domain
}

// chainResult is what is said of the chain (RFC 8617 §6, §10.1).
func chainResult(c dkim.Chain, accepted store.TrailEvent) string {
	if remote := accepted.Origin.Remote; remote.IsValid() {
		return fmt.Sprintf("arc=%s smtp.remote-ip=%q", c.Status, remote.String())
	}
	return "arc=" + string(c.Status)
}
