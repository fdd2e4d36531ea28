package dkim

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"latchkey/internal/mailaddr"
)

const (
	// MaxVerified bounds the signatures of a message that are looked at: the topmost ones. Each costs a lookup in the DNS.
	MaxVerified = 8
	// leastBits and mostBits bound RSA keys that count (RFC 8301 §3.2 wants the former; beyond the latter none fits into the DNS).
	leastBits, mostBits = 1024, 8192
	// maxSkew is how far in the future a signature may have been made, for clocks that are wrong.
	maxSkew = 24 * time.Hour
	// tagLen is how much of b= a result names a signature by (RFC 6008 §4).
	tagLen = 8
)

// Status is a result as Authentication-Results calls it (RFC 8601 §2.7.1).
type Status string

// The results. A chain has None, Pass and Fail alone.
const (
	None      Status = "none"
	Pass      Status = "pass"
	Fail      Status = "fail"
	Policy    Status = "policy"
	Neutral   Status = "neutral"
	TempError Status = "temperror"
	PermError Status = "permerror"
)

// TXT returns the TXT records of a name, each with its strings joined. None is an empty list; every error means that nobody could say.
type TXT func(ctx context.Context, name string) ([]string, error)

// ErrTemporary: a key could not be looked up.
var ErrTemporary = errors.New("dkim: the key cannot be looked up now")

// Result is what became of one DKIM-Signature.
type Result struct {
	Status Status
	// Reason says why it is not Pass, in a few words of ASCII; empty for Pass.
	Reason string
	// Domain is d=, in A-labels, and Selector s=; each empty where it is none.
	Domain, Selector string
	// Algorithm is a=, where it is one that is known; Tag is the beginning of b=.
	Algorithm, Tag string
}

// finding is why a signature does not hold.
type finding struct {
	status Status
	text   string
}

func (f *finding) Error() string { return "dkim: " + f.text }

func permError(text string) error { return &finding{PermError, text} }

// signature is a DKIM-Signature, an ARC-Message-Signature or an ARC-Seal, taken apart.
type signature struct {
	field            *field
	tags             map[string]string
	algorithm        Algorithm
	domain, selector string
	value            []byte
	// names are h=, in lower case.
	names []string
	// simple is set if the header's form is the simple one; body is the form of the body, and want its hash.
	simple bool
	body   bodyKey
	want   []byte
}

// bodyKey is a form of the body, of which only the first octets may be meant.
type bodyKey struct {
	simple bool
	limit  int64
}

// parseSeal reads what all three kinds of signature have.
func parseSeal(f *field) (*signature, error) {
	_, value, _ := bytes.Cut(f.all, []byte{':'})
	tags, err := parseTags(string(value))
	if err != nil {
		return nil, permError("not a list of tags")
	}
	s := &signature{field: f, tags: tags}
	switch tags["a"] {
	case "rsa-sha256":
		s.algorithm = RSA
	case "ed25519-sha256":
		s.algorithm = Ed25519
	case "rsa-sha1": // RFC 8301 §3.1
		return s, &finding{Policy, "signed by SHA-1"}
	default:
		return s, permError("unknown algorithm")
	}
	if s.domain, err = mailaddr.CanonicalDomain(tags["d"]); err != nil || strings.HasPrefix(s.domain, "[") {
		return s, permError("no domain")
	}
	if s.selector = tags["s"]; s.selector == "" || strings.Trim(strings.ToLower(s.selector), selectorOctets) != "" {
		return s, permError("no selector")
	}
	if s.value, err = base64.StdEncoding.DecodeString(tags["b"]); err != nil || len(s.value) == 0 {
		return s, permError("no signature in it")
	}
	return s, nil
}

const selectorOctets = "abcdefghijklmnopqrstuvwxyz0123456789-_."

// parseSignature reads a signature of a message: of a DKIM-Signature or an ARC-Message-Signature (RFC 6376 §3.5, RFC 8617 §4.1.2).
func parseSignature(f *field) (*signature, error) {
	s, err := parseSeal(f)
	if err != nil {
		return s, err
	}
	header, body, _ := strings.Cut(s.tags["c"], "/")
	for _, form := range []string{header, body} {
		if form != "" && form != "simple" && form != "relaxed" {
			return s, permError("unknown form")
		}
	}
	s.simple, s.body = header != "relaxed", bodyKey{simple: body != "relaxed", limit: math.MaxInt64}
	if l, ok := s.tags["l"]; ok {
		if s.body.limit, err = strconv.ParseInt(l, 10, 64); err != nil || s.body.limit < 0 {
			return s, permError("misspelt l=")
		}
	}
	if s.want, err = base64.StdEncoding.DecodeString(s.tags["bh"]); err != nil || len(s.want) != sha256.Size {
		return s, permError("no hash of the body")
	}
	s.names = strings.Split(strings.ToLower(s.tags["h"]), ":")
	if !slices.Contains(s.names, "from") { // RFC 6376 §5.4
		return s, permError("From is not signed")
	}
	return s, nil
}

// parseDKIM reads a DKIM-Signature, and looks at what only that has.
func parseDKIM(f *field) (*signature, error) {
	s, err := parseSignature(f)
	if err != nil {
		return s, err
	}
	if s.tags["v"] != "1" {
		return s, permError("unknown version")
	}
	if i, ok := s.tags["i"]; ok {
		_, domain, found := strings.Cut(i, "@")
		domain, err := mailaddr.CanonicalDomain(domain)
		if !found || err != nil || domain != s.domain && (!strings.HasSuffix(domain, "."+s.domain)) {
			return s, permError("i= is outside of d=")
		}
	}
	return s, nil
}

// timely looks at t= and x= (RFC 6376 §3.5).
func (s *signature) timely(at time.Time) error {
	made, madeErr := strconv.ParseInt(s.tags["t"], 10, 64)
	if _, ok := s.tags["t"]; ok && madeErr != nil {
		return permError("misspelt t=")
	}
	if madeErr == nil && made > at.Add(maxSkew).Unix() {
		return &finding{Fail, "made in the future"}
	}
	if x, ok := s.tags["x"]; ok {
		until, err := strconv.ParseInt(x, 10, 64)
		switch {
		case err != nil || madeErr == nil && until <= made:
			return permError("misspelt x=")
		case at.Unix() > until:
			return &finding{Fail, "expired"}
		}
	}
	return nil
}

// keys are the keys of one message's signatures. Each name is asked for once.
type keys struct {
	txt   TXT
	known map[string]publicKey
}

// publicKey is a key as it is published, or why there is none.
type publicKey struct {
	tags map[string]string
	err  error
}

func newKeys(txt TXT) *keys { return &keys{txt: txt, known: map[string]publicKey{}} }

// get looks a key up (RFC 6376 §6.1.2).
func (k *keys) get(ctx context.Context, s *signature) (map[string]string, error) {
	name := Name(s.selector, s.domain)
	if key, ok := k.known[name]; ok {
		return key.tags, key.err
	}
	key := publicKey{err: permError("no key")}
	texts, err := k.txt(ctx, name)
	if err != nil {
		key.err, texts = &finding{TempError, "the key cannot be looked up now"}, nil
	}
	for _, text := range texts { // RFC 6376 §3.6.2.2: of several, one that is a key will do
		if tags, err := parseTags(text); err == nil && (tags["v"] == "" || tags["v"] == "DKIM1") {
			if _, ok := tags["p"]; ok {
				key = publicKey{tags: tags}
				break
			}
		}
	}
	k.known[name] = key
	return key.tags, key.err
}

// verify checks b= against what is signed, and returns the tags of the key.
func (k *keys) verify(ctx context.Context, s *signature, signed []byte) (map[string]string, error) {
	tags, err := k.get(ctx, s)
	if err != nil {
		return nil, err
	}
	switch {
	case tags["p"] == "":
		return tags, permError("the key is revoked")
	case kindOf(tags) != string(s.algorithm):
		return tags, permError("the key is of another kind")
	case !allows(tags, "h", "sha256") || !allows(tags, "s", "email"):
		return tags, permError("the key does not sign mail")
	}
	der, err := base64.StdEncoding.DecodeString(tags["p"])
	if err != nil {
		return tags, permError("the key is misspelt")
	}
	h := sha256.New()
	h.Write(signed)
	h.Write(bytes.TrimSuffix(s.withoutValue(), crlf))
	return tags, holds(s.algorithm, der, h.Sum(nil), s.value)
}

// holds checks a signature of a hash by a key as it is published.
func holds(a Algorithm, der, hash, value []byte) error {
	if a == Ed25519 { // RFC 8463 §3
		switch {
		case len(der) != ed25519.PublicKeySize:
			return permError("the key is misspelt")
		case !ed25519.Verify(der, hash, value):
			return &finding{Fail, "the signature does not hold"}
		}
		return nil
	}
	public, err := x509.ParsePKIXPublicKey(der)
	if err != nil { // RFC 6376 §3.6.1 can be read either way
		public, err = x509.ParsePKCS1PublicKey(der)
	}
	key, ok := public.(*rsa.PublicKey)
	switch {
	case err != nil || !ok:
		return permError("the key is misspelt")
	case key.N.BitLen() < leastBits || key.N.BitLen() > mostBits:
		return &finding{Policy, "a key of " + strconv.Itoa(key.N.BitLen()) + " bits"}
	case rsa.VerifyPKCS1v15(key, crypto.SHA256, hash, value) != nil:
		return &finding{Fail, "the signature does not hold"}
	}
	return nil
}

// withoutValue is the field of a signature in its form, with its line end and with an empty b= (RFC 6376 §3.7).
func (s *signature) withoutValue() []byte {
	colon := bytes.IndexByte(s.field.all, ':')
	bare := bytes.Clone(s.field.all[:colon+1])
	for i, tag := range bytes.Split(s.field.all[colon+1:], []byte{';'}) {
		if i > 0 {
			bare = append(bare, ';')
		}
		if name, _, found := bytes.Cut(tag, []byte{'='}); found && string(bytes.Trim(name, " \t\r\n")) == "b" {
			tag = tag[:len(name)+1]
		}
		bare = append(bare, tag...)
	}
	return s.form(nil, bare)
}

// form appends a field in the form that the signature has for it.
func (s *signature) form(out, all []byte) []byte {
	if s.simple {
		out = append(out, all...)
	} else {
		out = appendRelaxed(out, all)
	}
	return append(out, crlf...)
}
