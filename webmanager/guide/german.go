package guide

import "latchkey/internal/refusal"

// germanWords are why a refusal was made, and what helps, as the table of refusals has it in English.
type germanWords struct{ cause, cure string }

// authCure is the cure of most refusals to send.
const authCure = "Schalten Sie im E-Mail-Programm beim Postausgangsserver „Server erfordert Authentifizierung“ ein, mit Benutzername und Passwort des Posteingangs."

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
}
