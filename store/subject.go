package store

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"mime"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of what the trail knows of a subject.
const (
	// MaxSubjectTokens bounds the words of a subject that it can be found by: the first ones.
	MaxSubjectTokens = 12
	// maxSubject bounds the octets of a subject that are looked at, maxSubjectWord those of a word.
	maxSubject     = 998
	maxSubjectWord = 64
	// minSubjectWord is how many characters a word has at least; those with a digit may be shorter.
	minSubjectWord = 3
)

// subjectKeyName is where the store keeps the key of the tokens.
const subjectKeyName = "trail/subject-key"

// SubjectToken is a word of a subject as the trail keeps it: 32 bits of a hash with the store's own key. Without the key it says nothing; with it
// one can only ask whether a word was there.
type SubjectToken uint32

// SubjectKey makes tokens. Its zero value makes none.
type SubjectKey struct {
	key [32]byte
	set bool
}

// ErrSubjectKey: what the store has as the key of subjects is none.
var ErrSubjectKey = errors.New("store: the stored key of subjects is damaged")

// LoadSubjectKey returns the store's key, and makes it if there is none: one goroutine does so, when the program starts.
func LoadSubjectKey(ctx context.Context, s Secrets) (SubjectKey, error) {
	blob, err := s.Secret(ctx, subjectKeyName)
	if errors.Is(err, ErrNotFound) {
		blob = make([]byte, len(SubjectKey{}.key))
		_, _ = rand.Read(blob) // never fails
		if err = s.PutSecret(ctx, subjectKeyName, blob); err == nil {
			blob, err = s.Secret(ctx, subjectKeyName)
		}
	}
	var k SubjectKey
	switch {
	case err != nil:
		return k, fmt.Errorf("the key of subjects: %w", err)
	case copy(k.key[:], blob) != len(k.key) || len(blob) != len(k.key):
		return SubjectKey{}, ErrSubjectKey
	}
	k.set = true
	return k, nil
}

// Tokens returns the tokens of the words in a Subject field, each once, at most MaxSubjectTokens. Encoded words (RFC 2047) are decoded where
// this program knows their charset. Words are runs of letters and digits, in lower case; those of one or two letters are left out, and so are
// the marks of replies and forwarded mail.
func (k *SubjectKey) Tokens(subject string) []SubjectToken {
	if !k.set || subject == "" {
		return nil
	}
	if strings.Contains(subject, "=?") {
		var d mime.WordDecoder
		if plain, err := d.DecodeHeader(subject); err == nil {
			subject = plain
		}
	}
	subject = subject[:min(len(subject), maxSubject)]
	var made [MaxSubjectTokens]SubjectToken
	tokens := made[:0]
	for word := range strings.FieldsFuncSeq(subject, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsMark(r) }) {
		if token, ok := k.token(word); ok && !slices.Contains(tokens, token) {
			if tokens = append(tokens, token); len(tokens) == MaxSubjectTokens {
				break
			}
		}
	}
	if len(tokens) == 0 {
		return nil
	}
	return slices.Clone(tokens)
}

// token returns the token of one word, if it is one to be found by.
func (k *SubjectKey) token(word string) (SubjectToken, bool) {
	var lower [len(k.key) + maxSubjectWord]byte
	b := append(lower[:0], k.key[:]...)
	letters, digit := 0, false
	for _, r := range word {
		if len(b)+utf8.UTFMax > len(lower) {
			break
		}
		b = utf8.AppendRune(b, unicode.ToLower(r))
		digit = digit || unicode.IsDigit(r)
		letters++
	}
	if letters < minSubjectWord && !digit {
		return 0, false
	}
	if w := b[len(k.key):]; string(w) == "fwd" {
		return 0, false
	}
	// The key has a fixed length and most of the sum is thrown away, so the plain hash is as good as an HMAC here, and needs no memory.
	sum := sha256.Sum256(b)
	return SubjectToken(binary.BigEndian.Uint32(sum[:])), true
}
