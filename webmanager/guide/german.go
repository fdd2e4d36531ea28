package guide

import "latchkey/internal/refusal"

// germanWords are why a refusal was made, and what helps, as the table of refusals has it in English.
type germanWords struct{ cause, cure string }

// authCure is the cure of most refusals to send.
const authCure = "Schalten Sie im E-Mail-Programm beim Postausgangsserver „Server erfordert Authentifizierung“ ein, mit Benutzername und Passwort des Posteingangs."

// waitCure is the cure where a limit was reached.
const waitCure = "Warten Sie, oder lassen Sie den Inhaber der Domain die Grenze anheben. Waren Sie es nicht, ändern Sie das Passwort."

// InGerman is why a refusal was made, and what helps, in German; ok is false for one that is not translated.
func InGerman(name refusal.Name) (cause, cure string, ok bool) {
	words, ok := german[name]
	return words.cause, words.cure, ok
}

// german are the refusals that people see most. What is not here is shown in English.
var german = map[refusal.Name]germanWords{
	refusal.AuthRequired:   {"Jemand wollte ohne Anmeldung über Port 587 oder 465 senden.", authCure},
	refusal.OwnDomain:      {"Jemand hat ohne Anmeldung eine Adresse dieser Domain als Absender benutzt, und zuerst abzurufen gilt hier nicht.", authCure},
	refusal.SenderNotYours: {"Die Absenderadresse gehört einem anderen Postfach oder keinem.", "Tragen Sie im Programm die Adresse des Postfachs ein, oder lassen Sie den Inhaber der Domain die Adresse dem Postfach geben."},
	refusal.FromNotYours:   {"Die Zeile From nennt eine Adresse, die nicht die des sendenden Postfachs ist.", "Tragen Sie im Programm die Adresse des Postfachs ein, oder lassen Sie den Inhaber der Domain die Adresse dem Postfach geben."},
	refusal.FromNotHere:    {"Ein Gerät in einem bekannten Netz nannte als Absender eine Adresse, die es in dieser Domain nicht gibt.", "Tragen Sie im Gerät als Absender eine Adresse dieser Domain ein, die es gibt, oder schalten Sie seine SMTP-Anmeldung ein."},
	refusal.RelayDenied:    {"Jemand, der kein Postfach hier nachgewiesen hat, wollte an eine andere Domain senden.", authCure},
	refusal.RelayNoGrant:   {"Die Absenderadresse ist von dieser Domain, und über diesen Internetanschluss wurde ihr Postfach vorher nicht abgerufen.", "Rufen Sie vor dem Senden über denselben Anschluss ab. Besser: " + authCure},
	refusal.RelayGrantExpired: {
		"Über diesen Internetanschluss wurde das Postfach abgerufen, aber das ist zu lange her.", "Rufen Sie vor dem Senden noch einmal ab. Besser: " + authCure,
	},
	refusal.RelayExpiredFamily: {"Abgerufen wurde zuletzt über die andere von IPv4 und IPv6.", authCure},
	refusal.RelayGrantEnded: {
		"Die Erlaubnis, die das Abrufen gab, wurde zurückgenommen: von Hand, durch ein neues Passwort, eine Sperre oder nach falschen Passwörtern.",
		"Rufen Sie mit dem heutigen Passwort noch einmal ab. Besser: " + authCure,
	},
	refusal.RelayGrantSpent:    {"Die Erlaubnis, die das Abrufen gab, gilt für eine Zahl von Empfängern, und die ist erreicht.", authCure},
	refusal.RelayOtherFamily:   {"Das Programm ruft über eine von IPv4 und IPv6 ab und sendet über die andere; die beiden Adressen passen nie zusammen.", authCure},
	refusal.RelayShared:        {"Viele Leute teilen sich diese Adresse; Abrufen allein erlaubt dort nichts.", authCure},
	refusal.RelayUnknownSender: {"Ein Gerät in einem bekannten Netz benutzte eine Absenderadresse, die es nicht gibt oder die gesperrt ist.", "Tragen Sie im Gerät als Absender eine Adresse dieser Domain ein, die es gibt, oder schalten Sie seine SMTP-Anmeldung ein."},
	refusal.AuthWrongPassword:  {"Benutzername oder Passwort ist falsch.", "Tragen Sie beides neu ein: Der Benutzername ist die ganze Adresse."},
	refusal.AuthSuspended:      {"Das Postfach ist gesperrt.", "Fragen Sie den Inhaber der Domain."},
	refusal.AuthThrottled:      {"Zu viele Anmeldungen schlugen fehl.", "Prüfen Sie das gespeicherte Passwort, und warten Sie einige Minuten."},
	refusal.AuthCleartext:      {"Das Passwort sollte ohne Verschlüsselung geschickt werden.", "Schalten Sie SSL/TLS ein: Port 995 für den Eingang, 465 für den Ausgang."},
	refusal.AuthSPA:            {"Das Programm will sich mit der gesicherten Kennwortauthentifizierung (SPA) anmelden.", "Schalten Sie SPA aus und stattdessen SSL/TLS ein."},
	refusal.AuthOldClient:      {"Dieses Postfach darf die Türen für alte Programme nicht benutzen.", "Nehmen Sie Port 995 und 465 mit SSL/TLS, oder fragen Sie den Inhaber der Domain."},
	refusal.RecipientUnknown:   {"Kein Postfach dieser Domain hat diesen Namen.", "Suchen Sie in der Adresse nach einem Tippfehler."},
	refusal.MessageTooLarge:    {"Die Nachricht ist größer, als die Domain erlaubt.", "Senden Sie weniger auf einmal, oder schicken Sie einen Link auf die Datei."},
	refusal.RelayCheckFirst: {
		"Eine Nachricht kam ohne Anmeldung, und ihr Postfach wurde nicht binnen zwei Minuten über denselben Internetanschluss abgerufen.",
		"Senden Sie noch einmal, nachdem Sie abgerufen haben. Besser: " + authCure,
	},
	refusal.RelayMailboxLimit: {"Das Postfach hat an so viele Empfänger gesendet, wie es an einem Tag darf.", waitCure},
	refusal.RelayMailboxHour:  {"Das Postfach hat an so viele Empfänger gesendet, wie es in einer Stunde darf.", waitCure},
	refusal.RelayOctets: {
		"Das Postfach hat so viel gesendet, wie es an einem Tag darf; jede Nachricht zählt für jeden ihrer Empfänger.",
		"Warten Sie, schicken Sie statt einer großen Datei einen Link, oder lassen Sie den Inhaber der Domain die Grenze anheben.",
	},
	refusal.RelayDomainLimit:  {"Die Postfächer und Geräte der Domain haben zusammen an so viele Empfänger gesendet, wie sie dürfen.", waitCure},
	refusal.RelayAddressLimit: {"Eine Adresse eines bekannten Netzes hat an so viele Empfänger gesendet, wie sie in einer Stunde darf.", "Warten Sie, oder schalten Sie die SMTP-Anmeldung des Geräts ein."},
	refusal.RelayTries:        {"Jemand wollte ohne Anmeldung immer wieder an andere Domains senden.", authCure},
	refusal.OutgoingOff:       {"Der Inhaber der Domain hat E-Mail an andere Domains abgeschaltet.", "Fragen Sie den Inhaber der Domain."},
	refusal.RecipientRouted:   {"Die Adresse des Empfängers könnte einen anderen Server meinen als den nach dem letzten @.", "Schreiben Sie die Adresse in der Form name@domain."},
	refusal.DeviceRecipient:   {"Das Passwort des Geräts gilt für bestimmte Empfänger, und dieser gehört nicht dazu.", "Wer das Postfach verwaltet, nimmt die Adresse beim Gerät auf."},
	refusal.DeviceMessageSize: {"Die Nachricht ist größer, als sie mit dem Passwort des Geräts sein darf.", "Scannen Sie mit geringerer Auflösung oder in mehrere Dateien, oder lassen Sie die Grenze anheben."},
	refusal.DeviceLimit:       {"Mit dem Passwort des Geräts wurde an so viele Empfänger gesendet, wie es an einem Tag darf.", waitCure},
	refusal.AuthBanned: {
		"Von dieser Adresse kamen zu viele falsche Passwörter für das Postfach.", "Berichtigen Sie das gespeicherte Passwort in jedem Programm und Gerät, dann warten Sie, oder lassen Sie die Sperre aufheben.",
	},
	refusal.AuthBusy:          {"Zu viele Anmeldungen kamen zur selben Zeit.", "Versuchen Sie es gleich noch einmal."},
	refusal.AuthMechanism:     {"Das Programm will sich mit einem Verfahren anmelden, das es hier nicht gibt.", "Wählen Sie „Passwort, normal“ mit SSL/TLS."},
	refusal.AuthDeviceNetwork: {"Das Passwort des Geräts gilt nur in seinem eigenen Netz.", "Benutzen Sie das Gerät dort, oder lassen Sie dieses Netz zulassen."},
	refusal.AuthDeviceScope:   {"Das Passwort des Geräts gilt nur zum Senden oder nur zum Abrufen.", "Lassen Sie auch das andere zulassen, oder nehmen Sie ein anderes Passwort."},
	refusal.AuthDeviceExpired: {"Das Passwort des Geräts ist abgelaufen.", "Lassen Sie ein neues machen."},
	refusal.AuthDeviceRevoked: {"Das Passwort des Geräts gilt nicht mehr.", "Fragen Sie, wer das Postfach verwaltet; wenn es richtig ist, lassen Sie ein neues machen."},
	refusal.LoginDelay:        {"Das Postfach wurde eben erst geöffnet, und der Inhaber der Domain verlangt eine Pause.", "Lassen Sie Ihr Programm seltener abrufen."},
	refusal.MailboxRemoved:    {"Das Postfach wurde entfernt.", "Fragen Sie den Inhaber der Domain."},
	refusal.MaildropInUse:     {"Ein anderes Programm oder Gerät hat das Postfach offen.", "Schließen Sie es, oder warten Sie eine Minute."},
	refusal.MaildropTakenOver: {"Ein anderes Programm am selben Anschluss hat das Postfach übernommen; gelöscht wurde nichts.", "Rufen Sie noch einmal ab. Geschieht es oft, benutzen zwei Programme das Postfach zugleich."},
	refusal.RecipientSuppressed: {
		"E-Mail an diese Adresse kam in letzter Zeit zurück, weil es das Postfach nicht gibt; sie wird vorerst nicht versucht.",
		"Suchen Sie nach einem Tippfehler. Stimmt die Adresse jetzt, lassen Sie den Inhaber der Domain sie wieder freigeben.",
	},
	refusal.RecipientSuspended: {"Das Postfach des Empfängers ist gesperrt; seine E-Mail wartet beim Absender.", "Warten Sie, oder erreichen Sie den Empfänger anders."},
	refusal.RecipientFull:      {"Im Postfach des Empfängers ist für diese Nachricht kein Platz.", "Warten Sie, bis dort gelöscht wurde; der Inhaber der Domain kann mehr Platz geben."},
	refusal.DomainFull:         {"Alle Postfächer der Domain zusammen sind voll.", "Warten Sie; der Inhaber der Domain gibt mehr Platz oder lässt löschen."},
	refusal.RecipientSyntax:    {"Die Adresse des Empfängers hat nicht die Form name@domain.", "Berichtigen Sie die Adresse."},
	refusal.SenderSyntax:       {"Die Adresse des Absenders hat nicht die Form name@domain.", "Berichtigen Sie die eigene Adresse im Programm."},
	refusal.RecipientsTooMany:  {"Eine Nachricht hatte mehr Empfänger, als die Domain erlaubt.", "Senden Sie den Rest in einer zweiten Nachricht."},
	refusal.ConnectionClear:    {"Das Programm sprach unverschlüsselt an einem Port, an dem alles verschlüsselt ist.", "Schalten Sie für diesen Port SSL/TLS ein."},
	refusal.ServerStopping:     {"Der Server wird angehalten oder neu gestartet.", "Versuchen Sie es in einer Minute noch einmal."},
	refusal.TemporaryFailure:   {"Etwas ging schief, das vorübergehen kann.", "Versuchen Sie es später noch einmal."},
}
