package mailaddr

import (
	"errors"
	"fmt"
	"mime"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"
)

// Bounds of an address, in octets (RFC 5321 §4.5.3.1).
const (
	MaxLocalLen  = 64
	MaxDomainLen = 255
	MaxLen       = 254
)

// ErrSyntax is wrapped by every error of this package.
var ErrSyntax = errors.New("mailaddr: not a valid address")

// Address is a mailbox name at a domain. The zero Address is the null reverse-path. Two addresses of the same domain spelling and
// local part are ==; whether two local parts name one mailbox is [CanonicalLocal]'s matter, and only for our own domain
// (RFC 5321 §2.4: elsewhere local parts are not ours to interpret).
type Address struct {
	local  string // unquoted, as the sender wrote it
	domain string // canonical: lower-case A-labels, or an address literal
}

// New builds an address from an unquoted local part and a domain in any spelling.
func New(local, domain string) (Address, error) {
	if err := checkLocal(local); err != nil {
		return Address{}, err
	}
	d, err := CanonicalDomain(domain)
	if err != nil {
		return Address{}, err
	}
	if len(local)+1+len(d) > MaxLen {
		return Address{}, fmt.Errorf("%w: longer than %d octets", ErrSyntax, MaxLen)
	}
	return Address{local: local, domain: d}, nil
}

// Parse reads a Mailbox of RFC 5321 §4.1.2 without angle brackets: dot-string or quoted local part, domain or address literal.
// Source routes, comments and spaces are refused.
func Parse(s string) (Address, error) {
	if strings.HasPrefix(s, `"`) {
		local, rest, err := unquote(s)
		if err != nil {
			return Address{}, err
		}
		domain, ok := strings.CutPrefix(rest, "@")
		if !ok {
			return Address{}, fmt.Errorf("%w: no @ after the quoted local part", ErrSyntax)
		}
		return New(local, domain)
	}
	local, domain, ok := strings.Cut(s, "@")
	if !ok {
		return Address{}, fmt.Errorf("%w: no domain", ErrSyntax)
	}
	if !isDotString(local) {
		return Address{}, fmt.Errorf("%w: local part is neither dot-string nor quoted", ErrSyntax)
	}
	return New(local, domain)
}

// FromUnquoted reads an address whose quoted local part was already unquoted, as go-smtp hands it over ("x@y"@z arrives as x@y@z):
// the last @ separates.
func FromUnquoted(s string) (Address, error) {
	i := strings.LastIndexByte(s, '@')
	if i < 0 {
		return Address{}, fmt.Errorf("%w: no domain", ErrSyntax)
	}
	return New(s[:i], s[i+1:])
}

// Local returns the unquoted local part as written.
func (a Address) Local() string { return a.local }

// Domain returns the canonical domain: lower-case A-labels without a trailing dot, or an address literal in brackets.
func (a Address) Domain() string { return a.domain }

// IsZero reports whether a is the null reverse-path.
func (a Address) IsZero() bool { return a == Address{} }

// IsLiteral reports whether the domain is an address literal such as [192.0.2.1].
func (a Address) IsLiteral() bool { return strings.HasPrefix(a.domain, "[") }

// IsASCII reports whether the address can travel without SMTPUTF8 (RFC 6531 §3.3).
func (a Address) IsASCII() bool {
	for i := range len(a.local) {
		if a.local[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// String returns the address as RFC 5321 writes it, quoted where it must be; "" for the zero Address.
func (a Address) String() string {
	if a.IsZero() {
		return ""
	}
	if isDotString(a.local) {
		return a.local + "@" + a.domain
	}
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(a.local) {
		if c := a.local[i]; c == '"' || c == '\\' {
			b.WriteByte('\\')
		}
		b.WriteByte(a.local[i])
	}
	b.WriteString(`"@`)
	b.WriteString(a.domain)
	return b.String()
}

// Path returns the address in angle brackets: <user@example.com>, or <> for the zero Address.
func (a Address) Path() string { return "<" + a.String() + ">" }

// Trace returns the address as the trace fields of a message can have it that goes to hosts which may know ASCII only: a local part that is
// not ASCII is an encoded word (RFC 2047), which nobody has for an address. Two addresses that differ are different there too.
func (a Address) Trace() string {
	if a.IsASCII() {
		return a.String()
	}
	return strings.ReplaceAll(mime.QEncoding.Encode("utf-8", a.local), " ", "") + "@" + a.domain
}

// MarshalText makes addresses read the same in JSON as on the wire.
func (a Address) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (a *Address) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*a = Address{}
		return nil
	}
	v, err := Parse(string(text))
	if err != nil {
		return err
	}
	*a = v
	return nil
}

// CanonicalLocal returns the form under which a local part of our own domain is kept and looked up: NFC, lower case.
// Capital letters and composed characters never make a second mailbox.
func CanonicalLocal(local string) (string, error) {
	c := norm.NFC.String(strings.ToLower(norm.NFC.String(local)))
	if err := checkLocal(c); err != nil {
		return "", err
	}
	if !isDotString(c) {
		return "", fmt.Errorf("%w: mailbox names here need no quotes", ErrSyntax)
	}
	return c, nil
}

// CanonicalDomain returns the form under which domains are compared: lower-case A-labels (RFC 5890) without a trailing dot, or an
// address literal with its address in canonical text.
func CanonicalDomain(domain string) (string, error) {
	if strings.HasPrefix(domain, "[") {
		return canonicalLiteral(domain)
	}
	d := strings.TrimSuffix(domain, ".")
	if d == "" || len(d) > 4*MaxDomainLen || HasControl(d) || !utf8.ValidString(d) {
		return "", fmt.Errorf("%w: bad domain", ErrSyntax)
	}
	profile := idna.Lookup
	if isASCII(d) {
		// Underscores and the like exist in the wild, and an all-ASCII name needs no mapping.
		return asciiDomain(strings.ToLower(d), profile)
	}
	a, err := profile.ToASCII(d)
	if err != nil {
		return "", fmt.Errorf("%w: bad domain", ErrSyntax)
	}
	return asciiDomain(a, profile)
}

// HasControl reports whether s has a control character, or is not UTF-8.
func HasControl(s string) bool {
	return !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl)
}

func asciiDomain(d string, profile *idna.Profile) (string, error) {
	if len(d) > MaxDomainLen {
		return "", fmt.Errorf("%w: domain longer than %d octets", ErrSyntax, MaxDomainLen)
	}
	for label := range strings.SplitSeq(d, ".") {
		if len(label) == 0 || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return "", fmt.Errorf("%w: bad domain label", ErrSyntax)
		}
		for i := range len(label) {
			if c := label[i]; !isAlnum(c) && c != '-' && c != '_' {
				return "", fmt.Errorf("%w: bad character in domain", ErrSyntax)
			}
		}
		if strings.HasPrefix(label, "xn--") {
			if _, err := profile.ToUnicode(label); err != nil {
				return "", fmt.Errorf("%w: bad A-label", ErrSyntax)
			}
		}
	}
	return d, nil
}

func canonicalLiteral(domain string) (string, error) {
	text, ok := strings.CutSuffix(domain[1:], "]")
	if !ok {
		return "", fmt.Errorf("%w: address literal not closed", ErrSyntax)
	}
	const tag = "ipv6:"
	v6 := len(text) > len(tag) && strings.EqualFold(text[:len(tag)], tag)
	if v6 {
		text = text[len(tag):]
	}
	addr, err := netip.ParseAddr(text)
	if err != nil || addr.Is6() != v6 || addr.Zone() != "" {
		return "", fmt.Errorf("%w: bad address literal", ErrSyntax)
	}
	if v6 {
		return "[IPv6:" + addr.String() + "]", nil
	}
	return "[" + addr.String() + "]", nil
}

func checkLocal(local string) error {
	switch {
	case local == "":
		return fmt.Errorf("%w: empty local part", ErrSyntax)
	case len(local) > MaxLocalLen:
		return fmt.Errorf("%w: local part longer than %d octets", ErrSyntax, MaxLocalLen)
	case HasControl(local):
		return fmt.Errorf("%w: control character in local part", ErrSyntax)
	}
	return nil
}

// unquote reads a Quoted-string (RFC 5321 §4.1.2) at the start of s and returns its content and what follows.
func unquote(s string) (content, rest string, err error) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), s[i+1:], nil
		case '\\':
			i++
			if i == len(s) || s[i] < ' ' || s[i] > '~' {
				return "", "", fmt.Errorf("%w: bad quoted pair", ErrSyntax)
			}
		}
		b.WriteByte(s[i])
	}
	return "", "", fmt.Errorf("%w: quoted local part not closed", ErrSyntax)
}

// isDotString reports whether s is a Dot-string (RFC 5321 §4.1.2), UTF-8 allowed (RFC 6531 §3.3).
func isDotString(s string) bool {
	for atom := range strings.SplitSeq(s, ".") {
		if atom == "" {
			return false
		}
		for _, r := range atom {
			if r < utf8.RuneSelf && !isAlnum(byte(r)) && !strings.ContainsRune("!#$%&'*+-/=?^_`{|}~", r) {
				return false
			}
		}
	}
	return true
}

func isAlnum(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
