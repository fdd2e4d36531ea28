package maildrop

import (
	"strings"

	"latchkey/internal/refusal"
	"latchkey/pop3"
)

var _ pop3.Translator = (*backend)(nil)

// Translate implements pop3.Translator: the refusals of this server in German (RFC 6856 §3); any other language has them in English.
func (*backend) Translate(tag, text string) string {
	if tag != "de" {
		return text
	}
	plain, mark := refusal.Unmarked(text)
	told, help, helped := strings.Cut(plain, helpMark)
	for i := range germanTexts {
		if refusal.Of(germanTexts[i].name).POP3.Text != told {
			continue
		}
		if helped {
			return germanTexts[i].text + germanHelp + help + mark
		}
		return germanTexts[i].text + mark
	}
	return text
}

// germanHelp is helpMark.
const germanHelp = " - siehe "

// germanTexts are the refusals that a POP3 client can see after it chose a language.
var germanTexts = [...]struct {
	name refusal.Name
	text string
}{
	{refusal.AuthWrongPassword, "prüfen Sie Postfachnamen und Passwort: eines davon ist falsch"},
	{refusal.AuthSuspended, "fragen Sie Ihren Mailverwalter: dieses Postfach ist gesperrt"},
	{refusal.AuthOtherIdentity, "lassen Sie die Autorisierungsidentität leer: niemand darf für einen anderen handeln"},
	{refusal.AuthThrottled, "prüfen Sie das gespeicherte Passwort und warten Sie einige Minuten: zu viele Anmeldungen schlugen fehl"},
	{refusal.AuthBanned, "berichtigen Sie das gespeicherte Passwort, dann warten Sie oder lassen Ihren Mailverwalter die Sperre aufheben: zu viele falsche Passwörter kamen von dieser Adresse"},
	{refusal.AuthBusy, "versuchen Sie es gleich noch einmal: zu viele Anmeldungen zur selben Zeit"},
	{refusal.AuthCleartext, "schalten Sie die Verschlüsselung (SSL/TLS oder STARTTLS) für den Posteingang ein: ohne sie wird kein Passwort angenommen"},
	{refusal.AuthExposed, "lassen Sie ein neues Passwort setzen, und lassen Sie die Verschlüsselung eingeschaltet: dieses ging ohne sie durchs Netz"},
	{refusal.AuthMechanism, "verwenden Sie PLAIN oder LOGIN: dieses Verfahren gibt es hier nicht"},
	{refusal.AuthSPA, "schalten Sie die \"gesicherte Kennwortauthentifizierung (SPA)\" aus und stattdessen die Verschlüsselung (SSL/TLS) ein"},
	{refusal.AuthMalformed, "fehlerhafte Antwort"},
	{refusal.AuthOldClient, "verwenden Sie Port 995 mit SSL/TLS: dieses Postfach darf die Tür für alte Mailprogramme nicht benutzen"},
	{refusal.AuthDeviceNetwork, "benutzen Sie das Gerät in seinem eigenen Netz, oder lassen Sie dieses dafür zu: sein Passwort gilt hier nicht"},
	{refusal.AuthDeviceScope, "lassen Sie das Abrufen für das Gerät zu, oder verwenden Sie ein anderes Passwort: dieses gilt nur zum Senden"},
	{refusal.AuthDeviceExpired, "lassen Sie ein neues Passwort für das Gerät machen: dieses ist abgelaufen"},
	{refusal.LoginDelay, "rufen Sie seltener ab: dieses Postfach wurde eben erst geöffnet"},
	{refusal.MaildropInUse, "schließen Sie das andere Mailprogramm, oder rufen Sie in einer Minute wieder ab: es hat dieses Postfach geöffnet"},
	{refusal.MaildropTakenOver, "rufen Sie noch einmal ab: diese Sitzung schwieg, und eine andere von ihrer Adresse hat jetzt das Postfach; nichts wurde gelöscht"},
	{refusal.MailboxRemoved, "fragen Sie Ihren Mailverwalter: dieses Postfach wurde entfernt"},
	{refusal.MessageDamaged, "fragen Sie Ihren Mailverwalter: diese Nachricht ist auf dem Server beschädigt"},
	{refusal.ServerDisk, "fragen Sie Ihren Mailverwalter: der Server kann nicht auf seine Platte schreiben"},
	{refusal.TemporaryFailure, "versuchen Sie es später noch einmal: vorübergehender Fehler"},
}
