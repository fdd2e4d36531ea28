package pop3

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// text names a fixed text of a reply: a row in the table of each language. All that the library says to people is in these tables (texts_en.go,
// texts_de.go), and a reply can hold nothing else, as a string is no text. In a text {1} and {2} stand for the reply's numbers, {a} and {b} for its
// strings.
type text uint8

// The texts, in the order in which a session may meet them.
const (
	textNone text = iota
	// textOwn is a backend's own text.
	textOwn
	textGreeting
	textGreetingAPOP
	// Any state.
	textStopping
	textInternal
	textTemporary
	textLineTooLong
	textUnknown
	textNoXTND
	textNoArguments
	textOneArgument
	textCapabilities
	textLanguages
	textLanguage
	textNoLanguage
	// AUTHORIZATION.
	textLogInFirst
	textUserNeedsName
	textNowPassword
	textUserFirst
	textNotUTF8
	textProhibited
	textNoAPOP
	textAPOPArguments
	textAPOPDigest
	textMechanisms
	textAuthArguments
	textNoMechanism
	textInitialNotBase64
	textNotBase64
	textResponseTooLong
	textUnexpectedResponse
	textCancelled
	textBeginTLS
	textTLSActive
	textNoTLS
	textTLSAfterUTF8
	textUTF8
	textBye
	// TRANSACTION and UPDATE.
	textLoggedIn
	textSummary
	textNumber
	textNumbers
	textUID
	textNeedsNumber
	textNotNumber
	textNoMessage
	textIsDeleted
	textNeedsUTF8
	textOctets
	textTop
	textTopArguments
	textNotLines
	textMarked
	textNoLast
	textQuit
	textNotUpdated

	textCount
)

// language is one that replies can have (RFC 6856 §3). English is what is spoken to a client that asked for none: it is all ASCII.
type language uint8

const (
	english language = iota
	german

	languageCount
)

var languages = [languageCount]struct {
	// tag is the language's (RFC 5646), name what it calls itself.
	tag, name string
	texts     *[textCount]string
}{
	english: {"en", "English", &englishTexts},
	german:  {"de", "Deutsch", &germanTexts},
}

// lookUp finds the language for a basic language range: the range grows shorter until one fits (RFC 4647 §3.4), "*" is preferred.
func lookUp(wanted string, preferred language) (l language, found bool) {
	if wanted == "*" {
		return preferred, true
	}
	if !isRange(wanted) {
		return 0, false
	}
	for {
		for l := range languages {
			if strings.EqualFold(wanted, languages[l].tag) {
				return language(l), true
			}
		}
		end := strings.LastIndexByte(wanted, '-')
		if end < 0 {
			return 0, false
		}
		if end > 2 && wanted[end-2] == '-' { // a single letter goes with what it introduced
			end -= 2
		}
		wanted = wanted[:end]
	}
}

// isRange reports whether s is a basic language range (RFC 4647 §2.1).
func isRange(s string) bool {
	for i, subtag := range strings.Split(s, "-") {
		if subtag == "" || len(subtag) > 8 {
			return false
		}
		for _, c := range []byte(subtag) {
			letter := c|0x20 >= 'a' && c|0x20 <= 'z'
			if !letter && (i == 0 || c < '0' || c > '9') {
				return false
			}
		}
	}
	return true
}

// voice is how a connection speaks. The zero voice is English in ASCII.
type voice struct {
	language language
	// utf8 is set when the client has said LANG or UTF8: then a backend's texts may be UTF-8 (RFC 6856 §3.2).
	utf8 bool
}

// appendText appends a text with numbers and strings in their places.
func (v voice) appendText(b []byte, t text, n *[2]int64, s *[2]string) []byte {
	rest := languages[v.language].texts[t]
	for {
		at := strings.IndexByte(rest, '{')
		if at < 0 {
			return append(b, rest...)
		}
		b = append(b, rest[:at]...)
		switch rest[at+1] {
		case '1':
			b = strconv.AppendInt(b, n[0], 10)
		case '2':
			b = strconv.AppendInt(b, n[1], 10)
		case 'a':
			b = v.appendPrintable(b, s[0])
		case 'b':
			b = v.appendPrintable(b, s[1])
		}
		rest = rest[at+len("{1}"):]
	}
}

// appendPrintable appends s without what is not printable, so that nothing can end a line early; without what is not ASCII if the client asked
// for nothing else.
func (v voice) appendPrintable(b []byte, s string) []byte {
	for _, r := range s {
		switch {
		case r >= ' ' && r <= '~':
			b = append(b, byte(r))
		case v.utf8 && r > '~' && r != utf8.RuneError && unicode.IsPrint(r):
			b = utf8.AppendRune(b, r)
		}
	}
	return b
}

// cut shortens b to at most n octets, at the border of a character.
func cut(b []byte, n int) []byte {
	if len(b) <= n {
		return b
	}
	for n > 0 && !utf8.RuneStart(b[n]) {
		n--
	}
	return b[:n]
}
