package maildrop

import (
	"strings"

	"latchkey/store"
)

// splitSelection takes a selection off a login name: "anna(new)", "anna(7d)@example.com" and "anna@example.com(max=200)" ask for a part of the
// maildrop. A name with anything else in brackets is left as it is; no mailbox has such a name.
func splitSelection(username string) (name string, s store.Selection, chosen bool) {
	open := strings.IndexByte(username, '(')
	if open < 0 {
		return username, s, false
	}
	text, rest, closed := strings.Cut(username[open+1:], ")")
	if !closed || strings.TrimSpace(rest) != "" && !strings.HasPrefix(rest, "@") {
		return username, s, false
	}
	s, err := store.ParseSelect(strings.ToLower(text))
	if err != nil {
		return username, store.Selection{}, false
	}
	return username[:open] + rest, s, true
}

// selects notes what part of the maildrop the client asks for, and returns its name without that.
func (s *session) selects(username string) (name string) {
	name, s.selection, s.chosen = splitSelection(username)
	return name
}
