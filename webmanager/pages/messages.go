package pages

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// lang is a language that the pages speak, as in the attribute lang.
type lang string

// The languages. What a mailbox owner sees is in both; what only the owner of the domain sees is in English where there is no German.
const (
	english lang = "en"
	german  lang = "de"
)

// text is a text of the table in a language, in English where it has none. A key that is not there is a mistake of ours, and shows as itself.
func text(l lang, key string, args ...any) string {
	form, ok := "", false
	if l == german {
		form, ok = germanTexts[key]
	}
	if !ok {
		if form, ok = englishTexts[key]; !ok {
			return key
		}
	}
	if len(args) == 0 {
		return form
	}
	return fmt.Sprintf(form, args...)
}

// maxAcceptLanguage bounds what is looked at of a header, in octets.
const maxAcceptLanguage = 200

// langCookie has the language that somebody chose in the guide.
const langCookie = "lang"

// langOf is the language that was chosen, or else the one that a browser wants most of those that there are (RFC 9110 §12.5.4).
func langOf(r *http.Request) lang {
	if c, err := r.Cookie(langCookie); err == nil {
		if l := lang(c.Value); l == english || l == german {
			return l
		}
	}
	header := r.Header.Get("Accept-Language")
	header = header[:min(len(header), maxAcceptLanguage)]
	best, weight := english, 0.0
	for part := range strings.SplitSeq(header, ",") {
		tag, parameter, weighted := strings.Cut(strings.TrimSpace(part), ";")
		q := 1.0
		if weighted {
			value, _ := strings.CutPrefix(strings.TrimSpace(parameter), "q=")
			var err error
			if q, err = strconv.ParseFloat(value, 64); err != nil {
				continue
			}
		}
		primary, _, _ := strings.Cut(strings.ToLower(tag), "-")
		if l := lang(primary); (l == english || l == german) && q > weight {
			best, weight = l, q
		}
	}
	return best
}
