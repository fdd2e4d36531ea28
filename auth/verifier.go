package auth

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"

	"latchkey/store"
)

// MaxPasswordLen bounds a password in octets.
const MaxPasswordLen = 1024

// Parameters of new verifiers (Argon2id, RFC 9106), and the most that a stored verifier may ask for.
const (
	argonMemory  = 19 << 10 // KiB
	argonTime    = 2
	argonThreads = 1
	saltLen      = 16
	keyLen       = 32

	maxArgonMemory  = 128 << 10 // KiB
	maxArgonTime    = 16
	maxArgonThreads = 8
	minSaltLen      = 8
	maxSaltLen      = 64
	minKeyLen       = 16
	maxKeyLen       = 64
	// maxVerifierLen is longer than any verifier within these bounds.
	maxVerifierLen = 256
)

// ErrPassword: a new password is empty, too long, or has octets that no client can send.
var ErrPassword = errors.New("auth: a password has 1 to 1024 octets, none of them NUL, CR or LF")

var errVerifier = errors.New("auth: not an Argon2id verifier")

// verifier is a parsed PHC string: $argon2id$v=19$m=19456,t=2,p=1$salt$key.
type verifier struct {
	memory, time uint32
	threads      uint8
	salt, key    []byte
}

// Cost is what it costs to make a verifier, and to check a password against it (RFC 9106 §4).
type Cost struct {
	// Memory is in KiB, at least 8; Time is how often it is gone over, at least once.
	Memory, Time uint32
}

func newVerifier(cost Cost, password string) verifier {
	v := verifier{memory: cost.Memory, time: cost.Time, threads: argonThreads, salt: make([]byte, saltLen)}
	_, _ = rand.Read(v.salt) // never fails: crypto/rand ends the process instead
	v.key = v.derive(password, keyLen)
	return v
}

// checkPassword says whether a password may be set.
func checkPassword(password string) error {
	if password == "" || len(password) > MaxPasswordLen || strings.ContainsAny(password, "\x00\r\n") {
		return ErrPassword
	}
	return nil
}

func (v verifier) derive(password string, length int) []byte {
	return argon2.IDKey([]byte(password), v.salt, v.time, v.memory, v.threads, uint32(length))
}

// matches reports whether the password is the one.
//
// Deviation: RFC 4616 §2 would have passwords prepared by SASLprep (RFC 4013). POP3's PASS knows no character set, and one password opens
// both doors, so octets are compared as they were set.
func (v verifier) matches(password string) bool {
	return subtle.ConstantTimeCompare(v.derive(password, len(v.key)), v.key) == 1
}

func (v verifier) encode() store.Verifier {
	b64 := base64.RawStdEncoding.Strict()
	return store.Verifier(fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, v.memory, v.time, v.threads,
		b64.EncodeToString(v.salt), b64.EncodeToString(v.key)))
}

// parseVerifier reads a PHC string. Its costs are bounded, so that a verifier from elsewhere cannot take the host's memory.
func parseVerifier(text store.Verifier) (verifier, error) {
	var v verifier
	if len(text) > maxVerifierLen {
		return v, errVerifier
	}
	parts := strings.Split(string(text), "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != "v="+strconv.Itoa(argon2.Version) {
		return v, errVerifier
	}
	costs := strings.Split(parts[3], ",")
	if len(costs) != 3 {
		return v, errVerifier
	}
	var numbers [3]uint32
	for i, bound := range []struct {
		name string
		max  uint64
	}{{"m=", maxArgonMemory}, {"t=", maxArgonTime}, {"p=", maxArgonThreads}} {
		digits, ok := strings.CutPrefix(costs[i], bound.name)
		n, err := strconv.ParseUint(digits, 10, 32)
		if !ok || err != nil || n == 0 || n > bound.max || digits[0] == '0' {
			return v, errVerifier
		}
		numbers[i] = uint32(n)
	}
	v.memory, v.time, v.threads = numbers[0], numbers[1], uint8(numbers[2])
	if v.memory < 8*uint32(v.threads) {
		return v, errVerifier
	}
	var err error
	b64 := base64.RawStdEncoding.Strict()
	if v.salt, err = b64.DecodeString(parts[4]); err != nil || len(v.salt) < minSaltLen || len(v.salt) > maxSaltLen {
		return v, errVerifier
	}
	if v.key, err = b64.DecodeString(parts[5]); err != nil || len(v.key) < minKeyLen || len(v.key) > maxKeyLen {
		return v, errVerifier
	}
	if v.encode() != text { // the base64 decoder passes over line ends
		return v, errVerifier
	}
	return v, nil
}
