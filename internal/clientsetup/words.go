package clientsetup

// Lang is a language of what people read.
type Lang string

// The languages.
const (
	English Lang = "en"
	German  Lang = "de"
)

// pick returns the words of a language; what is not known is English.
func (l Lang) pick(english, german string) string {
	if l == German {
		return german
	}
	return english
}

// Words is what mail programs call it.
func (s Security) Words(l Lang) string {
	switch s {
	case TLS:
		return "SSL/TLS"
	case STARTTLS:
		return "STARTTLS"
	}
	return l.pick("None", "Keine")
}

// Words is a sentence without its full stop.
func (g Login) Words(l Lang) string {
	switch g {
	case Password:
		return l.pick("Normal password", "Normales Passwort")
	case Challenge:
		return l.pick("Encrypted password (APOP or CRAM-MD5)", "Verschlüsseltes Passwort (APOP oder CRAM-MD5)")
	case FetchFirst:
		return l.pick("No login: fetch mail first", "Keine Anmeldung: zuerst E-Mail abrufen")
	}
	return l.pick("No login: the network is known", "Keine Anmeldung: das Netz ist bekannt")
}

// Words says what the way is good for, in a sentence.
func (w Way) Words(l Lang) string {
	switch {
	case w.Login == FetchFirst && w.Security != Clear:
		return l.pick("Without a login, for some minutes after mail was fetched from the same Internet connection.",
			"Ohne Anmeldung, einige Minuten lang, nachdem über denselben Internetanschluss E-Mail abgerufen wurde.")
	case w.Login == FetchFirst:
		return l.pick("Without a login and not encrypted, for some minutes after mail was fetched from the same Internet connection.",
			"Ohne Anmeldung und unverschlüsselt, einige Minuten lang, nachdem über denselben Internetanschluss E-Mail abgerufen wurde.")
	case w.Login == Network:
		return l.pick("Without a login, for devices in the networks that the owner of the domain named.",
			"Ohne Anmeldung, für Geräte in den Netzen, die der Inhaber der Domain benannt hat.")
	case w.Old && w.Security == Clear && w.Login == Challenge:
		return l.pick("For old programs: the messages travel in the clear, the password does not.",
			"Für alte Programme: Die Nachrichten sind unverschlüsselt, das Passwort nicht.")
	case w.Old && w.Security == Clear:
		return l.pick("For old programs only: everything travels in the clear, the password too.",
			"Nur für alte Programme: Alles ist unverschlüsselt, auch das Passwort.")
	case w.Old:
		return l.pick("For old programs, with the encryption of their time.", "Für alte Programme, mit der Verschlüsselung ihrer Zeit.")
	case w.Security == Clear:
		return l.pick("Not encrypted: better use another way.", "Unverschlüsselt: Nehmen Sie besser einen anderen Weg.")
	}
	return l.pick("Encrypted. Recommended.", "Verschlüsselt. Empfohlen.")
}
