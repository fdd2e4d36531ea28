package pop3

import (
	"bytes"
	"unicode"
	"unicode/utf8"
)

// UTF8Maildrop is a Maildrop that may hold messages with UTF-8 in their headers (RFC 6532), which only a client that said UTF8 may get (RFC 6856
// §2.1). A Maildrop that is none of these has no such messages.
//
// A maildrop that has another form for the others (a surrogate, RFC 6855 §7) lists and yields that one, when [Conn.UTF8] is false as the maildrop is
// opened, and says that the message needs nothing.
type UTF8Maildrop interface {
	Maildrop
	// NeedsUTF8 reports whether message n, as Retrieve would yield it, has octets above 0x7F in a header. It is asked in sessions without UTF-8 mode
	// only, after Messages, for each RETR, TOP and LIST n; must not block. RETR, TOP and LIST n of such a message are refused with
	// [CodeUTF8] (RFC 6856 §5). STAT, LIST and UIDL count it all the same, so that numbers and sums agree, and DELE deletes it.
	NeedsUTF8(n int) bool
}

// Translator is a Backend that has its own texts in other languages (RFC 6856 §3).
type Translator interface {
	Backend
	// Translate returns what to say instead of text, the Text of an *Error of this backend, to a client that chose the language with this tag
	// ("de"); text itself if there is nothing else. It is called for other languages than "en", possibly concurrently, and must not block.
	Translate(tag, text string) string
}

// cmdUTF8 begins UTF-8 mode (RFC 6856 §2.1). It only ever begins: the maildrop is opened in it.
func cmdUTF8(c *Conn, arg []byte) reply {
	if !isEmpty(arg) {
		return bad(textNoArguments).with("UTF8")
	}
	c.mu.Lock()
	c.utf8 = true
	c.mu.Unlock()
	c.voice.utf8 = true
	return ok(textUTF8)
}

// cmdLang chooses the language of replies, or lists all (RFC 6856 §3.2). LANG * is the same for everybody, so it tells nothing of a user (RFC 6856
// §7).
func cmdLang(c *Conn, arg []byte) reply {
	args := words(arg)
	switch args.n {
	case 0:
		var l lines
		for _, language := range languages {
			l = append(l, language.tag+" "+language.name)
		}
		return list(textLanguages, l)
	case 1:
		chosen, found := lookUp(string(args.at[0]), c.server.preferred())
		if !found {
			return no(CodeNone, textNoLanguage)
		}
		c.voice = voice{language: chosen, utf8: true}
		return ok(textLanguage).with(languages[chosen].tag)
	}
	return bad(textOneArgument).with("LANG")
}

// prohibited are the characters that SASLprep leaves in a string and then refuses (RFC 4013 §2.3): of the tables C.2 to C.9 of RFC 3454 those that
// neither its mappings nor its normalisation take away first, beside control characters, private use and what is no character.
var prohibited = &unicode.RangeTable{
	R16: []unicode.Range16{
		{0x06DD, 0x06DD, 1}, {0x070F, 0x070F, 1}, {0x180E, 0x180E, 1}, {0x200E, 0x200F, 1}, {0x2028, 0x202E, 1}, {0x2061, 0x2063, 1},
		{0x206A, 0x206F, 1}, {0x2FF0, 0x2FFB, 1}, {0xFFF9, 0xFFFD, 1},
	},
	R32: []unicode.Range32{{0x1D173, 0x1D17A, 1}, {0xE0001, 0xE0001, 1}, {0xE0020, 0xE007F, 1}},
}

// misspelling says why a name or password is no string for SASLprep; textNone if it is one.
func misspelling(arg []byte) text {
	switch {
	case !utf8.Valid(arg):
		return textNotUTF8
	case bytes.ContainsFunc(arg, func(r rune) bool {
		return unicode.In(r, unicode.Cc, unicode.Co, unicode.Noncharacter_Code_Point, prohibited)
	}):
		return textProhibited
	}
	return textNone
}
