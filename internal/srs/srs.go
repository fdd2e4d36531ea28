package srs

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
	"time"

	"latchkey/internal/mailaddr"
)

const (
	// KeySize is how long a key is, in octets.
	KeySize = 32
	// MaxAge is how long an address leads back, to the day: servers try for five days as a rule, and tell after that.
	MaxAge = 21 * 24 * time.Hour
	// hashLen is how much of a hash an address has room for, in letters of five bits: a guess hits once in 2^40 times.
	hashLen = 8
	// days is after how many a stamp comes again.
	days = 32 * 32

	tag0, tag1 = "SRS0=", "SRS1="
)

// Errors of this package.
var (
	// ErrKey: a key has not KeySize octets.
	ErrKey = errors.New("srs: bad key")
	// ErrForged: the hash is not ours, or the address is not of the form.
	ErrForged = errors.New("srs: not an address of ours")
	// ErrExpired: the address is ours, and too old.
	ErrExpired = errors.New("srs: address too old")
)

// Rewriter makes and reads the addresses of one domain. It may be used from any goroutine.
type Rewriter struct {
	key    []byte
	domain string
}

// New returns the Rewriter of a domain in canonical form.
func New(key []byte, domain string) (*Rewriter, error) {
	if len(key) != KeySize {
		return nil, ErrKey
	}
	return &Rewriter{key: append([]byte(nil), key...), domain: domain}, nil
}

// Claims reports whether an address has the form of one that leads back from this domain, whether or not it does. No mailbox has such a name.
func (r *Rewriter) Claims(a mailaddr.Address) bool {
	return a.Domain() == r.domain && (tagged(a.Local(), tag0) || tagged(a.Local(), tag1))
}

func tagged(local, tag string) bool {
	return len(local) >= len(tag) && strings.EqualFold(local[:len(tag)], tag)
}

// Forward returns the reverse-path with which a message from a is sent on. The null reverse-path stays null, and so does, as nobody could answer
// it, what leaves no room for more in the 64 octets of a local part (RFC 5321 §4.5.3.1.1). What leads back here already stays as it is.
func (r *Rewriter) Forward(a mailaddr.Address, now time.Time) mailaddr.Address {
	var local string
	switch {
	case a.IsZero() || r.Claims(a):
		return a
	case a.IsLiteral():
		return mailaddr.Address{}
	case tagged(a.Local(), tag0):
		rest := a.Domain() + "=" + a.Local()[len(tag0)-1:] // with the separator, whatever it is there
		local = tag1 + r.hash(tag1, rest) + "=" + rest
	case tagged(a.Local(), tag1):
		// Of a longer chain only the first forwarder is kept: what it gave out is behind its domain.
		_, rest, found := strings.Cut(a.Local()[len(tag1):], "=")
		if host, _, whole := strings.Cut(rest, "=="); !found || !whole || host == "" {
			return mailaddr.Address{}
		}
		local = tag1 + r.hash(tag1, rest) + "=" + rest
	default:
		rest := stamp(now) + "=" + a.Domain() + "=" + a.Local()
		local = tag0 + r.hash(tag0, rest) + "=" + rest
	}
	rewritten, err := mailaddr.New(local, r.domain)
	if err != nil {
		return mailaddr.Address{}
	}
	return rewritten
}

// Reverse returns where an address leads back to, at now. Errors are ErrForged and ErrExpired.
func (r *Rewriter) Reverse(a mailaddr.Address, now time.Time) (mailaddr.Address, error) {
	if !r.Claims(a) {
		return mailaddr.Address{}, ErrForged
	}
	tag := tag0
	if tagged(a.Local(), tag1) {
		tag = tag1
	}
	hash, rest, found := strings.Cut(a.Local()[len(tag):], "=")
	if !found || !hmac.Equal([]byte(strings.ToLower(hash)), []byte(r.hash(tag, rest))) {
		return mailaddr.Address{}, ErrForged
	}
	if tag == tag1 {
		host, inner, whole := strings.Cut(rest, "==")
		if !whole {
			return mailaddr.Address{}, ErrForged
		}
		return back(tag0+inner, host)
	}
	day, rest, _ := strings.Cut(rest, "=")
	host, local, whole := strings.Cut(rest, "=")
	if !whole {
		return mailaddr.Address{}, ErrForged
	}
	if err := fresh(day, now); err != nil {
		return mailaddr.Address{}, err
	}
	return back(local, host)
}

func back(local, host string) (mailaddr.Address, error) {
	a, err := mailaddr.New(local, host)
	if err != nil {
		return mailaddr.Address{}, fmt.Errorf("%w: %w", ErrForged, err)
	}
	return a, nil
}

// hash proves a text, without regard to case: what goes through other servers may come back in other letters.
func (r *Rewriter) hash(tag, text string) string {
	mac := hmac.New(sha256.New, r.key)
	_, _ = mac.Write([]byte(strings.ToLower(tag + text))) // never fails
	return letters(mac.Sum(nil))[:hashLen]
}

func letters(b []byte) string {
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b))
}

const alphabet = "abcdefghijklmnopqrstuvwxyz234567"

// stamp is the day, in two letters.
func stamp(now time.Time) string {
	day := now.Unix() / (24 * 60 * 60) % days
	return string([]byte{alphabet[day/32], alphabet[day%32]})
}

// fresh reports whether a stamp is of the last MaxAge, or of tomorrow, by a clock that was wrong.
func fresh(text string, now time.Time) error {
	text = strings.ToLower(text)
	if len(text) != 2 {
		return ErrForged
	}
	high, low := strings.IndexByte(alphabet, text[0]), strings.IndexByte(alphabet, text[1])
	if high < 0 || low < 0 {
		return ErrForged
	}
	today := now.Unix() / (24 * 60 * 60)
	age := ((today-int64(high*32+low))%days + days) % days
	if age > int64(MaxAge/(24*time.Hour)) && age != days-1 {
		return ErrExpired
	}
	return nil
}
