package readable

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
)

// maxMarks is how many marks one letter may carry; those beyond would pile up over the lines above.
const maxMarks = 4

// escape makes text safe to look at: what is seen as nothing, turns text around or is no letter at all is written out, as [U+202E]. Line ends and
// tabs stay if lines is set; else they become blanks. changed is set if anything was written out.
func escape(text string, lines bool) (safe string, changed bool) {
	var b strings.Builder
	marks := 0
	for i, r := range text {
		if unicode.Is(unicode.M, r) {
			marks++
		} else {
			marks = 0
		}
		switch {
		case r == '\n' || r == '\t':
			if !lines {
				r = ' '
			}
			b.WriteRune(r)
		case r == '\r' && (!lines || strings.HasPrefix(text[i+1:], "\n")):
			// the line end of the wire
		case r == utf8.RuneError, harmless(r) && marks <= maxMarks:
			b.WriteRune(r)
		default:
			fmt.Fprintf(&b, "[U+%04X]", r)
			changed = true
		}
	}
	return b.String(), changed
}

// harmless reports whether a rune is seen as what it is. Joiners and soft hyphens are: languages need them, and they turn nothing around.
func harmless(r rune) bool {
	switch r {
	case '\u00AD', '\u200C', '\u200D':
		return true
	}
	return unicode.IsGraphic(r) && !unicode.In(r, unicode.Zl, unicode.Zp) && !filler(r)
}

// filler reports whether a rune counts as a letter or a mark, and is seen as nothing.
func filler(r rune) bool {
	switch r {
	case '\u034F', '\u115F', '\u1160', '\u17B4', '\u17B5', '\u2800', '\u3164', '\uFFA0':
		return true
	}
	return false
}

// line is text on one line, escaped and cut to at most most octets.
func line(text string, most int) string {
	safe, _ := escape(strings.ToValidUTF8(text, "\uFFFD"), false)
	safe = strings.Join(strings.Fields(safe), " ")
	return cut(safe, most)
}

// cut shortens a text to at most most octets, between runes.
func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	const mark = "…"
	end := max(0, most-len(mark))
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + mark
}

// unlabelled is the text of octets of which nobody said what they are: UTF-8 if they are that, else what old Windows programs write.
func unlabelled(octets string) string {
	if utf8.ValidString(octets) {
		return octets
	}
	text, err := charmap.Windows1252.NewDecoder().String(octets)
	if err != nil {
		return strings.ToValidUTF8(octets, "\uFFFD")
	}
	return text
}
