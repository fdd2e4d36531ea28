package dkim

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

const (
	// MaxHeader bounds the header of a message that is signed, in octets: what package message lets in, and the trace fields added since.
	MaxHeader = 320 << 10
	// MaxInstances bounds the fields of one name that are signed: the last ones. None is guarded against more of them then.
	MaxInstances = 20
	// maxLine is how long the lines of a signature are at most, in octets.
	maxLine = 76
)

var (
	// ErrHeader: the header is none: a line without a field name, or more than MaxHeader octets.
	ErrHeader = errors.New("dkim: malformed header")
	// ErrNoFrom: there is no From, which every signature must cover (RFC 6376 §5.4).
	ErrNoFrom = errors.New("dkim: no From field")
	// ErrKey: a key is neither RSA of at least 2048 bits nor Ed25519.
	ErrKey = errors.New("dkim: unsuitable key")
)

// Key is a private key and the selector under which its public half is published.
type Key struct {
	// Selector is one or more labels, without the domain.
	Selector string
	// Private is an *rsa.PrivateKey or an ed25519.PrivateKey.
	Private crypto.Signer
}

// coverage is a name of fields that are signed. One that is guarded is named once more often than it is there.
type coverage struct {
	name    string
	guarded bool
}

// covered are the names of fields that are signed (RFC 6376 §5.4.1), in the order in which h= has them.
var covered = []coverage{
	{"from", true}, {"sender", false}, {"reply-to", true}, {"to", true}, {"cc", true}, {"subject", true}, {"date", true},
	{"message-id", true}, {"in-reply-to", true}, {"references", true},
	{"mime-version", true}, {"content-type", true}, {"content-transfer-encoding", true}, {"content-disposition", false},
	{"content-id", false}, {"content-description", false}, {"content-language", false},
	{"resent-from", false}, {"resent-sender", false}, {"resent-to", false}, {"resent-cc", false}, {"resent-date", false}, {"resent-message-id", false},
	{"list-id", false}, {"list-help", false}, {"list-unsubscribe", false}, {"list-unsubscribe-post", false}, {"list-subscribe", false},
	{"list-post", false}, {"list-owner", false}, {"list-archive", false},
	{"auto-submitted", false}, {"disposition-notification-to", false}, {"tls-required", false}, {"autocrypt", false},
}

// Digest is a message on its way to be signed: an io.Writer of its octets in CRLF form, as they will be sent, from the first of the
// header. Make it with NewDigest.
type Digest struct {
	header []byte
	// ended is set once the empty line has come.
	ended bool
	body  bodyHash
	// begin, if there is one, is told of the whole header before the body comes; others are further forms of the body.
	begin  func()
	others []bodyForm
}

// NewDigest returns an empty Digest.
func NewDigest() *Digest { return &Digest{body: newBodyHash()} }

// Write takes a part of the message. The error is ErrHeader.
func (d *Digest) Write(p []byte) (int, error) {
	if d.ended {
		d.feed(p)
		return len(p), nil
	}
	before := len(d.header)
	d.header = append(d.header, p[:min(len(p), MaxHeader+1-before)]...)
	switch end, body := endOfHeader(d.header, max(0, before-len("\r\n\r"))); {
	case end >= 0:
		d.header = d.header[:end]
		d.endHeader()
		d.feed(p[body-before:])
	case len(d.header) > MaxHeader:
		return 0, ErrHeader
	}
	return len(p), nil
}

func (d *Digest) endHeader() {
	d.ended = true
	if d.begin != nil {
		d.begin()
	}
}

func (d *Digest) feed(p []byte) {
	d.body.write(p)
	for _, o := range d.others {
		o.write(p)
	}
}

// endOfHeader finds the empty line, from an octet on: the header ends behind the line end before it, and the body begins behind it.
func endOfHeader(header []byte, from int) (end, body int) {
	if bytes.HasPrefix(header, crlf) {
		return 0, len(crlf)
	}
	if i := bytes.Index(header[from:], []byte("\r\n\r\n")); i >= 0 {
		end = from + i + len(crlf)
		return end, end + len(crlf)
	}
	return -1, 0
}

// Sign returns one DKIM-Signature field for each key, as complete lines to be put before the message, in the order of the keys. It can be
// called once, after the whole message was written. d= is the domain, in A-labels; t= is now.
func (d *Digest) Sign(domain string, now time.Time, keys ...Key) ([]byte, error) {
	list, err := fields(d.header)
	if err != nil {
		return nil, err
	}
	names, signed := choose(list, covered)
	if !has(list, "from") {
		return nil, ErrNoFrom
	}
	bodyHash := base64.StdEncoding.EncodeToString(d.body.sum())
	var out []byte
	for _, key := range keys {
		algorithm, _, err := algorithmOf(key.Private.Public())
		if err != nil {
			return nil, err
		}
		head := "DKIM-Signature: v=1; a=" + string(algorithm) + "-sha256; c=relaxed/relaxed;\r\n\td=" + domain + ";\r\n\ts=" + key.Selector +
			"; t=" + strconv.FormatInt(now.Unix(), 10) + ";\r\n\th=" + fold(names, ":", len("h=")) + ";\r\n\tbh=" + bodyHash + ";\r\n\tb="
		field, err := endorse(key, head, signed)
		if err != nil {
			return nil, err
		}
		out = append(out, field...)
	}
	return out, nil
}

// endorse completes a field that ends in b=, as a whole line: the signature of fields in their form, and of the field itself.
func endorse(key Key, head string, signed []byte) ([]byte, error) {
	_, opts, err := algorithmOf(key.Private.Public())
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	h.Write(signed)
	h.Write(appendRelaxed(nil, []byte(head)))
	signature, err := key.Private.Sign(rand.Reader, h.Sum(nil), opts)
	if err != nil {
		return nil, fmt.Errorf("dkim: signing: %w", err)
	}
	return append(append([]byte(head), foldBase64(signature)...), crlf...), nil
}

// choose returns the names for h=, and the fields that they stand for in the form and the order in which they are hashed: of one name
// from the last up (RFC 6376 §5.4.2).
func choose(list []field, which []coverage) (names []string, signed []byte) {
	for _, c := range which {
		n := 0
		for i := len(list) - 1; i >= 0 && n < MaxInstances; i-- {
			if list[i].name == c.name {
				n++
				names = append(names, c.name)
				signed = append(appendRelaxed(signed, list[i].all), crlf...)
			}
		}
		if c.guarded && n < MaxInstances {
			names = append(names, c.name)
		}
	}
	return names, signed
}

func has(list []field, name string) bool {
	for i := range list {
		if list[i].name == name {
			return true
		}
	}
	return false
}

// fold joins words with lines of at most maxLine octets; the first one begins at a column.
func fold(words []string, between string, column int) string {
	var b strings.Builder
	column++ // the tab
	for i, w := range words {
		if i > 0 {
			b.WriteString(between)
			column += len(between)
		}
		if column+len(w)+len(between) > maxLine {
			b.WriteString("\r\n\t")
			column = 1
		}
		b.WriteString(w)
		column += len(w)
	}
	return b.String()
}

// foldBase64 is the value of b=, folded.
func foldBase64(signature []byte) string {
	text := base64.StdEncoding.EncodeToString(signature)
	var b strings.Builder
	for width := maxLine - len("\tb="); len(text) > width; width = maxLine - 1 {
		b.WriteString(text[:width] + "\r\n\t")
		text = text[width:]
	}
	b.WriteString(text)
	return b.String()
}

// Algorithm is a kind of key, as k= of its record calls it (RFC 6376 §3.6.1, RFC 8463 §4).
type Algorithm string

// The algorithms.
const (
	RSA     Algorithm = "rsa"
	Ed25519 Algorithm = "ed25519"
)

// RSABits is the size of RSA keys: what RFC 8301 §3.2 wants of signers, and fits where 4096 bits do not.
const RSABits = 2048

// algorithmOf names the algorithm of a public key, and how its private half signs a SHA-256 digest. Ed25519 signs the digest as if it
// were the message (RFC 8463 §3).
func algorithmOf(public crypto.PublicKey) (Algorithm, crypto.SignerOpts, error) {
	switch k := public.(type) {
	case *rsa.PublicKey:
		if k.N.BitLen() >= RSABits {
			return RSA, crypto.SHA256, nil
		}
	case ed25519.PublicKey:
		return Ed25519, crypto.Hash(0), nil
	}
	return "", nil, ErrKey
}

// AlgorithmOf is the kind of a key; empty if it is neither RSA of at least RSABits nor Ed25519.
func AlgorithmOf(k Key) Algorithm {
	a, _, _ := algorithmOf(k.Private.Public())
	return a
}

// Generate makes a key. The error is ErrKey for an algorithm that is none.
func Generate(a Algorithm) (crypto.Signer, error) {
	switch a {
	case RSA:
		return rsa.GenerateKey(rand.Reader, RSABits)
	case Ed25519:
		_, private, err := ed25519.GenerateKey(rand.Reader)
		return private, err
	}
	return nil, fmt.Errorf("%w: algorithm %q", ErrKey, a)
}
