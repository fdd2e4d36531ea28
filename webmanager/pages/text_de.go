package pages

// germanTexts are those texts of the pages that the owner of a mailbox sees.
var germanTexts = map[string]string{
	"nav.skip": "Zum Inhalt", "nav.pages": "Seiten", "nav.logout": "Abmelden", "nav.help": "Hilfe",
}
