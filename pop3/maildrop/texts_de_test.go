package maildrop

import (
	"testing"
	"unicode/utf8"

	"latchkey/internal/refusal"
)

// TestRefusalsInGerman: every refusal that POP3 makes after a client can have chosen a language is translated, and only for "de". Those of the
// listener come in place of the greeting.
func TestRefusalsInGerman(t *testing.T) {
	const longest = 480 // with status and code a reply has 512 octets (RFC 2449 §4)
	b := new(backend)
	for _, r := range refusal.All() {
		text := r.POP3Text()
		if text == "" || r.Name == refusal.ConnectionsFull || r.Name == refusal.ConnectionClear {
			continue
		}
		if german := b.Translate("de", text); german == text || !utf8.ValidString(german) || len(german) > longest {
			t.Errorf("%s: %q in German is %q", r.Name, text, german)
		}
		if other := b.Translate("fr", text); other != text {
			t.Errorf("%s: %q in French is %q", r.Name, text, other)
		}
	}
	if text := b.Translate("de", "something else"); text != "something else" {
		t.Errorf("%q", text)
	}
}

// TestLanguageOfRefusals: after LANG de a client reads refusals in German (RFC 6856 §3.2), before it and after LANG en in English.
func TestLanguageOfRefusals(t *testing.T) {
	f := newFixture(t)
	c := f.talk(t)
	for _, tt := range []struct{ lang, want string }{
		{"LANG de", "-ERR [AUTH] prüfen Sie Postfachnamen und Passwort: eines davon ist falsch"},
		{"LANG en", "-ERR [AUTH] check the mailbox name and the password: one of them is wrong"},
	} {
		c.ask(tt.lang, "+OK")
		c.ask("USER alice", "+OK")
		c.ask("PASS wrong", tt.want)
	}
}
