package pages

import (
	"regexp"
	"strings"
	"testing"

	"latchkey/webmanager"
)

// TestReasonsInGerman: every reason that the API gives the owner of a mailbox has a German sentence, which takes the same values.
func TestReasonsInGerman(t *testing.T) {
	english := webmanager.Reasons()
	for reason, sentence := range english {
		said, ok := germanReasons[reason]
		if !ok || said == sentence || strings.Count(said, "%s") != strings.Count(sentence, "%s") || strings.Count(said, "%") != strings.Count(said, "%s") {
			t.Errorf("%s: %q in German is %q", reason, sentence, said)
		}
	}
	for reason := range germanReasons {
		if english[reason] == "" {
			t.Errorf("%s is no reason of the API", reason)
		}
	}
}

// TestGermanReason: a sentence that does not fit its values, or has no reason, stays in English; and the refusal itself stays as it was.
func TestGermanReason(t *testing.T) {
	refusal := &webmanager.Error{Code: webmanager.CodeInvalid, Message: "one field is wrong", Reason: "one_wrong", Fields: []webmanager.Field{
		{Field: "a", Message: "number 2 is not an address", Reason: "address_form", Values: []string{"2"}},
		{Field: "b", Message: "number 2 is not an address", Reason: "address_form"},
		{Field: "c", Message: "number 2 is not an address", Reason: "address_form", Values: []string{"2", "3"}},
		{Field: "d", Message: "is a setting"},
		{Field: "e", Message: "x has no domain", Reason: "no_domain", Values: []string{"50%s"}},
	}}
	said := inLanguage(german, refusal)
	for i, want := range []string{
		"Nummer 2 ist keine Adresse", "number 2 is not an address", "number 2 is not an address", "is a setting", "50%s hat keine Domain",
	} {
		if got := said.Fields[i].Message; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if said.Message != "Ein Feld stimmt noch nicht" || refusal.Message != "one field is wrong" || refusal.Fields[0].Message != "number 2 is not an address" {
		t.Errorf("%q of %+v", said.Message, refusal)
	}
	if inLanguage(english, refusal) != refusal {
		t.Error("English is something else")
	}
}

// TestMistakesInGerman: the owner of a mailbox who reads German is told in German what is wrong with what was typed, beside the field and above the
// form, where the field is called as the form calls it.
func TestMistakesInGerman(t *testing.T) {
	s := newSite(t, nil)
	sent := s.send("anna", "<1@example.com>", "x@other.example", "y@other.example")
	b := s.in("anna")
	b.header.Set("Accept-Language", "de")
	var inEnglish []*regexp.Regexp
	for _, sentence := range webmanager.Reasons() {
		inEnglish = append(inEnglish, regexp.MustCompile(`(?i)`+strings.ReplaceAll(regexp.QuoteMeta(sentence), "%s", ".{1,60}?")))
	}
	long := strings.Repeat("x", 9000)
	for _, tt := range []struct {
		path, fields string
		status       int
		want         string
	}{
		{"/mailbox/anna/change", "display_name=" + long, 422, "Name der Person: hat mehr als 200 Oktette, oder Steuerzeichen"},
		{"/mailbox/anna/change", "display_name=x&quota_mb=1", 403, "Das dürfen Sie nicht."},
		{"/mailbox/anna/forward", "forward=x@y.example+bad", 422, "Nummer 2 ist keine Adresse"},
		{"/mailbox/anna/forward", "forward=bert@example.com", 422, "bert@example.com ist in dieser Domain"},
		{"/mailbox/anna/forward", "forward=x@[192.0.2.1]", 422, "x@[192.0.2.1] hat keine Domain"},
		{"/mailbox/anna/forward", "forward=x@y.example+x@y.example", 422, "x@y.example ist zweimal genannt"},
		{"/mailbox/anna/forward", "forward=" + strings.Repeat("x@y.example+", 100), 422, "hat mehr als"},
		{"/mailbox/anna/password", "password=short&repeat=short&current=x", 422, "Neues Passwort: hat weniger als 8 Zeichen"},
		{"/mailbox/anna/password", "password=" + long + "&repeat=" + long, 422, "ist länger als"},
		{"/mailbox/anna/password", "password=control%01s&repeat=control%01s", 422, "hat Steuerzeichen oder ist kein UTF-8"},
		{"/mailbox/anna/password", "password=long+enough&repeat=other", 422, "nicht dasselbe"},
		{"/mailbox/anna/password", "password=long+enough&repeat=long+enough&current=wrong", 422, "ist nicht das jetzige Passwort"},
		{"/mailbox/anna/factor", "totp_current=wrong", 422, "ist nicht das jetzige Passwort"},
		{"/mailbox/anna/factor/start", "code=000000", 404, "Es gibt noch kein Geheimnis dafür"},
		{"/mailbox/anna/devices/add", "device_name=" + long + "&send=on", 422, "Gerät: hat 1 bis"},
		{"/mailbox/anna/devices/add", "device_name=x", 422, "Senden oder Abholen ist nötig"},
		{"/mailbox/anna/devices/add", "device_name=x&send=on&networks=192.0.2.7/24", 422, "Nur von diesen Adressen: \"192.0.2.7/24\" ist keine Adresse und kein Netz"},
		{"/mailbox/anna/devices/add", "device_name=x&send=on&recipients=@-+x", 422, "Nummer 1 ist keine Domain"},
		{"/mailbox/anna/devices/add", "device_name=x&send=on&recipients=x", 422, "Nummer 1 ist keine Adresse, und keine Domain"},
		{"/mailbox/anna/devices/add", "device_name=x&send=on&daily_recipients=-1", 422, "ist leer (keine eigene Grenze)"},
		{"/mailbox/anna/devices/add", "device_name=x&send=on&recipients=" + strings.Repeat("x@y.example+", 500), 422, "sind höchstens"},
		{"/mailbox/anna/devices/revoke", "device=none", 404, "Das Postfach anna hat kein solches Gerät"},
		{"/mailbox/anna/vacation", "vacation_on=on", 422, "ist leer: Es gibt nichts zu antworten"},
		{"/mailbox/anna/vacation", "vacation_from=tomorrow", 422, "Erster Tag: ist ein Tag wie 2026-07-01"},
		{"/mailbox/anna/vacation", "vacation_from=2026-07-02&vacation_until=2026-07-01", 422, "liegt vor dem ersten Tag"},
		{"/mailbox/anna/vacation", "vacation_subject=" + long, 422, "hat mehr als"},
		{"/mailbox/anna/vacation", "do=preview&vacation_text=" + long, 422, "hat mehr als"},
		{"/mailbox/anna/retention", "expire_days=x", 403, "können Sie nicht ändern"},
		{"/grants/revoke", "id=x", 422, "Sagen Sie, welche Erlaubnisse"},
		{"/trail/proof", "message=x&recipient=x@y.example", 422, "ist eine Nummer aus 16 Hexadezimalziffern"},
		{"/trail/proof", "message=" + sent + "&recipient=@", 422, "Empfänger: ist eine Adresse oder der Name eines Postfachs"},
		{"/trail/proof", "message=00000000000000ff", 404, "Von einer Nachricht 00000000000000ff ist nichts"},
		{"/trail/proof", "message=" + sent, 422, "muss genannt sein"},
		{"/trail/proof", "message=" + sent, 422, "Empfänger: muss genannt sein"},
		{"/trail/proof", "message=" + sent + "&recipient=x@other.example", 404, "nicht (oder noch nicht) an x@other.example zugestellt"},
	} {
		values := parse(t, tt.fields)
		mistakes(t, b.post(tt.path, values).shows(tt.status, tt.want), inEnglish)
	}
	for path, want := range map[string]string{
		"/trail?for=" + long: "hat mehr als", "/trail?from=@": "Von: ist eine Adresse oder der Name eines Postfachs", "/trail?since=x": "ist ein Tag wie 2026-04-01",
		"/trail?subject=a": "hat kein Wort aus drei Buchstaben", "/trail?before=x": "ist eine Nummer aus 16", "/queue?recipient=@": "Empfänger: ist keine Adresse",
		"/queue?held=x": "ist true oder false", "/queue/x": "ist die Nummer einer wartenden Zustellung",
		"/queue/4711": "Es gibt keine wartende Zustellung 4711", "/mailbox/anna/mail/none": "Eine solche Nachricht liegt nicht", "/mailbox/bert": "Das dürfen Sie nicht",
		"/explain/none": "Eine Ablehnung dieses Kürzels", "/proof?token=x": "noch keinen Zustellnachweis",
	} {
		p := b.get(path)
		if !strings.Contains(p.text(), want) {
			t.Errorf("%.60s: %d without %q: %s", path, p.status, want, p.text())
		}
		mistakes(t, p, inEnglish)
	}
}

// mistakes fails if a page has an English sentence of the API.
func mistakes(t *testing.T, p *page, inEnglish []*regexp.Regexp) {
	t.Helper()
	for _, sentence := range inEnglish {
		if found := sentence.FindString(p.text()); found != "" {
			t.Errorf("a German page says %q: %.900s", found, p.text())
		}
	}
}
