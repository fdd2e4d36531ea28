package guide

import (
	"strings"

	"latchkey/internal/clientsetup"
)

// problem is what mail programs report by a number or a few words, and its cure.
type problem struct {
	// Numbers are what is shown, as it is shown; the first names the section.
	numbers []string
	// Title, meaning and steps in English and German.
	title, meaning [2]string
	steps          [2][]string
}

// problemView is a problem in one language.
type problemView struct {
	ID, Title, Meaning string
	Numbers, Steps     []string
}

// in returns a problem in a language.
func (p *problem) in(l clientsetup.Lang) problemView {
	i := 0
	if l == clientsetup.German {
		i = 1
	}
	return problemView{ID: anchor(p.numbers[0]), Title: p.title[i], Meaning: p.meaning[i], Numbers: p.numbers, Steps: p.steps[i]}
}

// anchor makes the name of a section of a number.
func anchor(number string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '-'
	}, number)
}

type (
	both  = [2]string
	lists = [2][]string
)

// problems is the table, the most frequent first. Numbers 0x800CCC.. are those of Outlook and Outlook Express.
var problems = [...]problem{
	{
		numbers: []string{"0x800CCC79", "550 5.7.1", "530 5.7.0", "Relaying denied", "Authentication required"},
		title:   both{"The server refuses to send on your message", "Der Server will Ihre Nachricht nicht weiterleiten"},
		meaning: both{
			"Your program did not show whose mailbox it sends for. Without that, the server takes mail for its own addresses only.",
			"Ihr Programm hat nicht gezeigt, für welches Postfach es sendet. Ohne das nimmt der Server nur E-Mail für seine eigenen Adressen an.",
		},
		steps: lists{
			{
				"Turn on “My server requires authentication” for the outgoing server, with the user name and password of the incoming mail.",
				"If your program cannot do that: fetch mail first, over the same Internet connection, and send again within the next minutes.",
				"If the message says that mail was fetched over IPv6 but is sent over IPv4, only authentication helps.",
			},
			{
				"Schalten Sie beim Postausgangsserver „Server erfordert Authentifizierung“ ein, mit Benutzername und Passwort des Posteingangs.",
				"Kann Ihr Programm das nicht: Rufen Sie zuerst über denselben Internetanschluss ab, und senden Sie in den Minuten danach noch einmal.",
				"Sagt die Meldung, dass über IPv6 abgerufen, aber über IPv4 gesendet wurde, hilft nur die Authentifizierung.",
			},
		},
	},
	{
		numbers: []string{"0x800CCC78", "That sender address is not yours", "553 5.1.7"},
		title:   both{"The server refuses your own address", "Der Server weist Ihre eigene Adresse zurück"},
		meaning: both{
			"The sender in your program is not an address of the mailbox that logs in, or nobody logged in at all.",
			"Der Absender in Ihrem Programm ist keine Adresse des Postfachs, das sich anmeldet, oder es hat sich niemand angemeldet.",
		},
		steps: lists{
			{
				"Compare the e-mail address in the account's settings with that of your mailbox, letter by letter.",
				"Turn on “My server requires authentication” for the outgoing server.",
				"If you need another sender, the owner of the domain can give that address to your mailbox.",
			},
			{
				"Vergleichen Sie die E-Mail-Adresse in den Kontoeinstellungen Buchstabe für Buchstabe mit der Ihres Postfachs.",
				"Schalten Sie beim Postausgangsserver „Server erfordert Authentifizierung“ ein.",
				"Brauchen Sie einen anderen Absender, kann der Inhaber der Domain diese Adresse Ihrem Postfach geben.",
			},
		},
	},
	{
		numbers: []string{"0x800CCC92", "0x800CCC91", "0x800CCC90", "535 5.7.8", "-ERR [AUTH]", "Wrong user name or password"},
		title:   both{"User name or password is wrong", "Benutzername oder Passwort ist falsch"},
		meaning: both{
			"The server does not know this pair of user name and password.", "Der Server kennt dieses Paar aus Benutzername und Passwort nicht.",
		},
		steps: lists{
			{
				"The user name is the whole e-mail address.",
				"Type the password anew, and mind capital letters and blanks. One that the program saved may be an old one.",
				"Turn off “Secure Password Authentication (SPA)” and “Encrypted password”.",
				"After several wrong passwords wait some minutes before you try again.",
				"If it still fails, have the owner of the domain set a new password.",
			},
			{
				"Der Benutzername ist die ganze E-Mail-Adresse.",
				"Geben Sie das Passwort neu ein, und achten Sie auf Großbuchstaben und Leerzeichen. Das gespeicherte kann ein altes sein.",
				"Schalten Sie „gesicherte Kennwortauthentifizierung (SPA)“ und „Verschlüsseltes Passwort“ aus.",
				"Warten Sie nach mehreren falschen Passwörtern einige Minuten, bevor Sie es wieder versuchen.",
				"Hilft das nicht, lassen Sie den Inhaber der Domain ein neues Passwort setzen.",
			},
		},
	},
	{
		numbers: []string{"0x800CCC0E", "0x80042108", "0x80042109", "10060", "10061"},
		title:   both{"The server cannot be reached", "Der Server ist nicht zu erreichen"},
		meaning: both{
			"There was no connection: the port is wrong, or something on the way blocks it.",
			"Es kam keine Verbindung zustande: Der Port ist falsch, oder unterwegs wird er gesperrt.",
		},
		steps: lists{
			{
				"Look whether web pages open: if not, the Internet connection is down.",
				"Compare server names and ports with those of the page on your program.",
				"Port 25 is blocked by many providers, hotels and mobile networks: use port 465 or 587.",
				"Pause the firewall and the mail scanner of your antivirus for one try.",
			},
			{
				"Sehen Sie nach, ob sich Webseiten öffnen: Wenn nicht, fehlt der Internetanschluss.",
				"Vergleichen Sie Servernamen und Ports mit denen auf der Seite zu Ihrem Programm.",
				"Port 25 wird von vielen Anbietern, Hotels und Mobilfunknetzen gesperrt: Nehmen Sie Port 465 oder 587.",
				"Halten Sie die Firewall und den E-Mail-Schutz Ihres Virenschutzes für einen Versuch an.",
			},
		},
	},
	{
		numbers: []string{"0x800CCC0F", "0x800CCC0B", "Connection closed", "connection was interrupted"},
		title:   both{"The connection was cut", "Die Verbindung wurde unterbrochen"},
		meaning: both{
			"It began and ended too early. Mostly the kind of encryption does not fit the port, or an antivirus stands in between.",
			"Sie begann und endete zu früh. Meist passt die Art der Verschlüsselung nicht zum Port, oder ein Virenschutz steht dazwischen.",
		},
		steps: lists{
			{
				"Port 995 and 465 go with SSL/TLS, port 110 and 587 with STARTTLS. Compare with the page on your program.",
				"Turn off the mail scanner of your antivirus. The server and your antivirus still look at files.",
				"If it happens with one message only, that message may be very large: try over another connection.",
			},
			{
				"Zu Port 995 und 465 gehört SSL/TLS, zu Port 110 und 587 STARTTLS. Vergleichen Sie mit der Seite zu Ihrem Programm.",
				"Schalten Sie den E-Mail-Schutz Ihres Virenschutzes aus. Dateien prüft er weiterhin.",
				"Geschieht es nur bei einer Nachricht, ist sie vielleicht sehr groß: Versuchen Sie es über einen anderen Anschluss.",
			},
		},
	},
	{
		numbers: []string{"0x800CCC19", "0x8004210A", "0x8004210B", "421 4.4.2", "timed out"},
		title:   both{"The server did not answer in time", "Der Server hat nicht rechtzeitig geantwortet"},
		meaning: both{
			"Your program waited longer than it is set to. Large messages over a slow line are the usual cause.",
			"Ihr Programm hat länger gewartet, als es eingestellt ist. Meist sind es große Nachrichten über eine langsame Leitung.",
		},
		steps: lists{
			{
				"Raise “Server timeouts” on the tab Advanced of the account to several minutes.",
				"Wait: a message that is fetched for the first time may take long.",
				"Pause the mail scanner of your antivirus, which holds messages back while it looks at them.",
			},
			{
				"Stellen Sie „Servertimeout“ auf dem Reiter Erweitert des Kontos auf mehrere Minuten.",
				"Warten Sie: Eine Nachricht, die zum ersten Mal abgerufen wird, kann lange dauern.",
				"Halten Sie den E-Mail-Schutz Ihres Virenschutzes an, der Nachrichten beim Prüfen zurückhält.",
			},
		},
	},
	{
		numbers: []string{"0x800CCC1A", "0x800CCC7D", "0x800CCC7E", "554 5.7.10", "SSL Negotiation Failed", "SSL handshake"},
		title:   both{"The encryption does not come about", "Die Verschlüsselung kommt nicht zustande"},
		meaning: both{
			"Program and server do not agree: the port is for another kind of encryption, or the program is too old for that of today.",
			"Programm und Server werden sich nicht einig: Der Port ist für eine andere Art der Verschlüsselung, oder das Programm ist für die von heute zu alt.",
		},
		steps: lists{
			{
				"Port 995 and 465 go with SSL/TLS, port 110 and 587 with STARTTLS.",
				"Set date and time of your computer right: certificates are valid for a time.",
				"Type the server's name exactly as it stands on the page.",
				"Eudora, Outlook Express and programs of their age need the ports for old programs: see their pages.",
			},
			{
				"Zu Port 995 und 465 gehört SSL/TLS, zu Port 110 und 587 STARTTLS.",
				"Stellen Sie Datum und Uhrzeit Ihres Rechners richtig: Zertifikate gelten für eine Zeit.",
				"Tippen Sie den Namen des Servers genau so, wie er auf der Seite steht.",
				"Eudora, Outlook Express und Programme ihres Alters brauchen die Ports für alte Programme: siehe ihre Seiten.",
			},
		},
	},
	{
		numbers: []string{"0x800CCC18", "0x800CCC80", "504 5.5.4", "Secure Password Authentication", "SPA"},
		title:   both{"The way of logging in is not known here", "Diese Art der Anmeldung gibt es hier nicht"},
		meaning: both{
			"Your program wants to log in by a method of Windows networks, or with an “encrypted password”.",
			"Ihr Programm will sich mit einem Verfahren von Windows-Netzen anmelden oder mit „verschlüsseltem Passwort“.",
		},
		steps: lists{
			{
				"Turn off “Secure Password Authentication (SPA)”, or choose “Normal password”.",
				"Turn on encryption (SSL/TLS) instead: it protects password and messages.",
			},
			{
				"Schalten Sie „gesicherte Kennwortauthentifizierung (SPA)“ aus, oder wählen Sie „Passwort, normal“.",
				"Schalten Sie stattdessen die Verschlüsselung (SSL/TLS) ein: Sie schützt Passwort und Nachrichten.",
			},
		},
	},
	{
		numbers: []string{"538 5.7.11", "turn on encryption"},
		title:   both{"The password is not taken without encryption", "Ohne Verschlüsselung wird kein Passwort angenommen"},
		meaning: both{
			"Your program wanted to send the password in the clear, where others may listen.",
			"Ihr Programm wollte das Passwort unverschlüsselt schicken, wo andere mithören können.",
		},
		steps: lists{
			{"Turn on SSL/TLS with port 995 for incoming and 465 for outgoing mail.", "If your program has no encryption: see the pages on Eudora, Outlook Express and printers."},
			{"Schalten Sie SSL/TLS ein, mit Port 995 für den Eingang und 465 für den Ausgang.", "Hat Ihr Programm keine Verschlüsselung: siehe die Seiten zu Eudora, Outlook Express und Druckern."},
		},
	},
	{
		numbers: []string{"0x800CCC67", "421 4.3.2", "421 4.7.0", "Service is not available"},
		title:   both{"The server takes nothing just now", "Der Server nimmt gerade nichts an"},
		meaning: both{
			"It is being started, has too many connections, or your program was refused too often. It says which in its message.",
			"Er wird gerade gestartet, hat zu viele Verbindungen, oder Ihr Programm wurde zu oft abgelehnt. Was es ist, sagt seine Meldung.",
		},
		steps: lists{
			{
				"Wait some minutes and send again. Messages in the outbox are not lost.",
				"Close mail programs that run twice, also on other computers of the same connection.",
				"If it says “Relaying denied too often”, turn on “My server requires authentication”.",
			},
			{
				"Warten Sie einige Minuten, und senden Sie noch einmal. Nachrichten im Postausgang gehen nicht verloren.",
				"Schließen Sie E-Mail-Programme, die doppelt laufen, auch auf anderen Rechnern am selben Anschluss.",
				"Steht dort „Relaying denied too often“, schalten Sie „Server erfordert Authentifizierung“ ein.",
			},
		},
	},
	{
		numbers: []string{"0x800CCC68", "0x800CCC6A", "450 4.7.1", "450 4.2.1", "451 4.3.0"},
		title:   both{"Not now, but perhaps later", "Jetzt nicht, aber vielleicht später"},
		meaning: both{
			"A number that begins with 4 is a refusal for now. The same message may go through in a few minutes.",
			"Eine Nummer, die mit 4 beginnt, ist eine Absage für jetzt. Dieselbe Nachricht kann in einigen Minuten durchgehen.",
		},
		steps: lists{
			{
				"If it says “check mail first”: fetch mail, then send again.",
				"If it says that a mailbox or address named as many recipients as it may: wait as long as it says.",
				"Otherwise wait some minutes and send again.",
			},
			{
				"Steht dort „check mail first“: Rufen Sie ab, dann senden Sie noch einmal.",
				"Steht dort, dass ein Postfach oder eine Adresse genug Empfänger genannt hat (“as many recipients as it may”): Warten Sie so lange, wie dort steht.",
				"Sonst warten Sie einige Minuten, und senden Sie noch einmal.",
			},
		},
	},
	{
		numbers: []string{"0x800CCC69", "0x800CCC6B", "0x800CCC6E", "550 5.1.1", "553 5.1.3", "No such mailbox here"},
		title:   both{"A recipient does not exist", "Einen Empfänger gibt es nicht"},
		meaning: both{
			"One of the addresses that you wrote to is not known, or is not written as an address.",
			"Eine der Adressen, an die Sie schreiben, ist unbekannt oder nicht wie eine Adresse geschrieben.",
		},
		steps: lists{
			{"Look at each address for slips, blanks and commas.", "Remove addresses that the program completed by itself, and type them anew.", "Send to the others without the one that is refused."},
			{"Suchen Sie in jeder Adresse nach Tippfehlern, Leerzeichen und Kommas.", "Löschen Sie Adressen, die das Programm selbst ergänzt hat, und tippen Sie sie neu.", "Senden Sie an die anderen ohne die abgelehnte."},
		},
	},
	{
		numbers: []string{"0x800CCC6C", "0x800CCC6D", "552 5.3.4", "452 4.2.2", "452 4.3.1"},
		title:   both{"The message is too large, or a mailbox is full", "Die Nachricht ist zu groß, oder ein Postfach ist voll"},
		meaning: both{
			"552 is the message: it has more than may be sent here. 452 is the mailbox it is for.",
			"552 betrifft die Nachricht: Sie ist größer, als hier gesendet werden darf. 452 betrifft das Postfach, für das sie ist.",
		},
		steps: lists{
			{"Send fewer or smaller attachments, or a link to the file.", "If your own mailbox is full: fetch mail and have it deleted from the server."},
			{"Senden Sie weniger oder kleinere Anhänge oder einen Link auf die Datei.", "Ist Ihr eigenes Postfach voll: Rufen Sie ab, und lassen Sie die Nachrichten auf dem Server löschen."},
		},
	},
	{
		numbers: []string{
			"0x800CCC60", "0x800CCC61", "0x800CCC62", "0x800CCC63", "0x800CCC64", "0x800CCC65", "0x800CCC66", "0x800CCC6F", "500 5.5.1", "503 5.5.1", "554 5.6.0",
		},
		title: both{"Program and server do not understand each other", "Programm und Server verstehen sich nicht"},
		meaning: both{
			"The server did not understand a command, or something on the way changed it. An antivirus or a firewall with a “mail guard” does that.",
			"Der Server hat einen Befehl nicht verstanden, oder unterwegs wurde er verändert. Das tut ein Virenschutz oder eine Firewall mit „Mail Guard“.",
		},
		steps: lists{
			{
				"Use port 465 with SSL/TLS, so that nothing on the way can change what is said.",
				"Pause the mail scanner of your antivirus for one try.",
				"If it is one message only, copy its text into a new one.",
			},
			{
				"Nehmen Sie Port 465 mit SSL/TLS, dann kann unterwegs nichts verändert werden.",
				"Halten Sie den E-Mail-Schutz Ihres Virenschutzes für einen Versuch an.",
				"Ist es nur eine Nachricht, kopieren Sie ihren Text in eine neue.",
			},
		},
	},
	{
		numbers: []string{"0x800CCC0D", "11001", "11004", "host not found"},
		title:   both{"The server's name is not found", "Der Name des Servers wird nicht gefunden"},
		meaning: both{"The name is not written right, or your computer cannot look up names.", "Der Name ist falsch geschrieben, oder Ihr Rechner kann keine Namen nachschlagen."},
		steps: lists{
			{"Type the name again as it stands on the page of your program, without blanks.", "Look whether web pages open: if not, the Internet connection is down."},
			{"Tippen Sie den Namen noch einmal so, wie er auf der Seite zu Ihrem Programm steht, ohne Leerzeichen.", "Sehen Sie nach, ob sich Webseiten öffnen: Wenn nicht, fehlt der Internetanschluss."},
		},
	},
	{
		numbers: []string{"[IN-USE]", "[LOGIN-DELAY]", "maildrop is busy"},
		title:   both{"The mailbox is open elsewhere, or was a moment ago", "Das Postfach ist anderswo offen oder war es eben noch"},
		meaning: both{
			"The owner of the domain lets one program at a time into a mailbox, or wants some time between two fetches.",
			"Der Inhaber der Domain lässt immer nur ein Programm in ein Postfach oder verlangt Pausen zwischen dem Abrufen.",
		},
		steps: lists{
			{"Close other programs that have the mailbox, and telephones too.", "Set your program to fetch every ten minutes or less often."},
			{"Schließen Sie andere Programme, die das Postfach benutzen, auch auf Telefonen.", "Lassen Sie Ihr Programm alle zehn Minuten oder seltener abrufen."},
		},
	},
}

// Problems is the page on what mail programs say when something fails. Each problem has an anchor, its first number in lower case.
func (g *Guide) Problems(l clientsetup.Lang, v Values) (Fragment, error) {
	d := g.view(l, v)
	for i := range problems {
		d.Problems = append(d.Problems, problems[i].in(l))
	}
	title := "What error messages mean"
	if l == clientsetup.German {
		title = "Was Fehlermeldungen bedeuten"
	}
	return g.fragment(l, title, d, "problems.html")
}
