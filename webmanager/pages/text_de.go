package pages

// germanTexts are those texts of the pages that the owner of a mailbox sees.
var germanTexts = map[string]string{
	"nav.skip": "Zum Inhalt", "nav.pages": "Seiten", "nav.logout": "Abmelden", "nav.help": "Hilfe", "nav.trail": "Nachricht suchen", "nav.explain": "Ablehnungen",

	"form.save": "Speichern", "form.cancel": "Abbrechen", "form.optional": "Darf leer bleiben.", "form.nobound": "Leer: keine Grenze.",
	"form.list": "Eine je Zeile.", "form.wrong": "Etwas stimmt noch nicht; es wurde nichts geändert.", "form.number": "ist eine Zahl oder leer", "form.needed": "wird gebraucht",
	"list.more": "Nächste Seite", "list.first": "Zum Anfang", "list.nomore": "Hier ist nichts (mehr).",

	"error.title": "Das hat nicht geklappt", "error.notfound": "Nicht gefunden", "error.forbidden": "Nicht für Sie",
	"error.nopage": "Diese Seite gibt es nicht.", "error.inside": "Innen ist etwas schiefgegangen. Die Ursache steht im Protokoll des Servers; bitte versuchen Sie es noch einmal.",
	"error.form": "Das Formular konnte nicht gelesen werden.", "error.home": "Zur Startseite",
	"error.foreign": "Das kam von einer fremden Seite und wurde deshalb nicht getan. Waren Sie es selbst, so öffnen Sie die Seite hier und versuchen es noch einmal.",

	"login.title": "Anmelden", "login.name": "Postfach", "login.namehint": "Ihre E-Mail-Adresse, oder was vor dem @ steht.",
	"login.password": "Kennwort", "login.go": "Anmelden", "login.same": "Es ist das Kennwort, das auch Ihr Mailprogramm benutzt.",
	"login.wrong": "Damit kommen Sie nicht hinein: Postfach oder Kennwort stimmen nicht, oder es waren zu viele Versuche. Warten Sie ein wenig und versuchen Sie es dann noch einmal.",
	"login.busy":  "Gerade melden sich zu viele an. Versuchen Sie es gleich noch einmal.",

	"signin.title": "Als Betreiber anmelden", "signin.text": "Dieser Link gilt ein einziges Mal.", "signin.go": "Anmelden",
	"signin.void": "Dieser Link wurde schon benutzt oder ist zu alt.", "signin.how": "Ein neuer Link entsteht auf dem Server:",

	"mailboxes.usage": "%d Nachrichten, %s", "mailboxes.of": "von %s",

	"mailbox.mine": "Mein Postfach", "mailbox.address": "Adresse", "mailbox.person": "Name der Person", "mailbox.issuspended": "gesperrt", "mailbox.isopen": "offen",
	"mailbox.isowner": "verwaltet die Domain", "mailbox.about": "Über dieses Postfach", "mailbox.holds": "Darin liegen", "mailbox.created": "Vorhanden seit",
	"mailbox.sendas": "Darf auch senden als", "mailbox.trail": "Nachsehen, was aus einer Nachricht wurde", "mailbox.change": "Das ändern", "mailbox.changed": "%s wurde geändert.",

	"password.title":   "Kennwort",
	"password.text":    "Ein Kennwort zum Abholen, zum Senden und für diese Seiten. Danach braucht jedes Mailprogramm das neue.",
	"password.current": "Bisheriges Kennwort", "password.new": "Neues Kennwort", "password.repeat": "Neues Kennwort noch einmal", "password.hint": "Mindestens 8 Zeichen. Länger ist besser.",
	"password.devices": "Auch die Kennwörter aller Geräte widerrufen", "password.go": "Kennwort setzen", "password.set": "Das Kennwort wurde gesetzt.",
	"password.differs": "ist nicht dasselbe wie oben", "password.again": "Melden Sie sich hier damit an, und tragen Sie es in Ihre Mailprogramme ein.",

	"forward.title": "Weiterleitung", "forward.on": "Post wird an %s weitergeleitet.", "forward.keeps": "Eine Kopie bleibt hier.", "forward.keepsnot": "Hier bleibt keine Kopie.",
	"forward.off": "Post bleibt hier und wird an niemanden weitergeleitet.", "forward.to": "Post weiterleiten an",
	"forward.hint": "Adressen anderer Domains, eine je Zeile. Leer: nicht weiterleiten.", "forward.keep": "Eine Kopie im Postfach lassen",

	"device.title": "Kennwörter für Geräte",
	"device.text":  "Ein Scanner, ein Skript oder ein Telefon bekommt ein eigenes Kennwort, das nicht mehr kann als nötig und für sich allein widerrufen werden kann.",
	"device.name":  "Gerät", "device.namehint": "Etwa „Scanner, zweiter Stock“.", "device.may": "Es darf", "device.send": "Post senden", "device.fetch": "Post abholen",
	"device.from": "Von", "device.anywhere": "überall", "device.to": "An", "device.anybody": "alle", "device.owndomain": "die eigene Domain", "device.daily": "%d am Tag",
	"device.ends": "Endet", "device.never": "nie", "device.expired": "abgelaufen", "device.revoke": "Widerrufen", "device.revokeone": "Das Kennwort von %s widerrufen",
	"device.revoked": "Das Kennwort des Geräts wurde widerrufen.", "device.add": "Ein Gerät hinzufügen", "device.go": "Sein Kennwort erzeugen",
	"device.networks": "Nur von diesen Adressen", "device.networkshint": "Adressen oder Netze wie 192.0.2.0/24. Leer: von überall.",
	"device.onlyown": "Es darf an die eigene Domain senden und sonst nur an die Adressen darunter", "device.recipients": "Nur an diese Adressen",
	"device.recipientshint": "Adressen, oder ganze Domains wie @example.com. Leer: an alle.", "device.dailyrecipients": "Höchstens so viele Empfänger am Tag",
	"device.made": "Das Kennwort des Geräts %s:", "device.once": "Es wird nur dieses eine Mal gezeigt. Benutzername: %s. Tippen Sie es jetzt in das Gerät; Bindestriche und Großbuchstaben sind gleichgültig.",

	"client.title": "Programme, die es benutzen", "client.program": "Programm", "client.how": "Wie", "client.last": "Zuletzt gesehen", "client.none": "Noch wurde keines gesehen.",

	"grants.title": "POP before SMTP", "grants.one": "darf senden von %s bis", "grants.revokeall": "Alle widerrufen", "grants.revoked": "%d beendet.",
	"holds.title": "Angehalten", "holds.text": "Post eines Postfachs, das plötzlich anders sendet als sonst, wird zurückgehalten: Sein Kennwort ist vielleicht in fremden Händen.",
	"holds.here": "Was dieses Postfach sendet, wird zurückgehalten:", "holds.none": "Nichts ist angehalten.",
	"holds.from": "Von", "holds.since": "seit", "holds.waits": "Was wartet", "holds.to": "an", "holds.message": "was daraus wurde",

	"trail.title": "Wo ist meine Nachricht?", "trail.for": "Adresse, Postfach oder Nummer der Nachricht",
	"trail.forhint": "Die letzten 30 Tage. Leer: die neuesten. Die Nummer ist, was dem Mailprogramm gesagt wurde („queued as …“); auch eine Message-ID genügt.",
	"trail.go":      "Nachsehen", "trail.narrow": "Genauer suchen", "trail.from": "Von", "trail.to": "An", "trail.subject": "Wörter des Betreffs",
	"trail.since": "Nicht vor dem", "trail.until": "Nicht nach dem", "trail.none": "In den letzten 30 Tagen gab es keine solche Nachricht.", "trail.more": "Ältere", "trail.number": "Nummer %s",
	"trail.unreadable": "Ein Teil der Aufzeichnungen ist nicht lesbar; was darin steht, fehlt hier.", "trail.heading": "Von %s an %s", "trail.system": "diesem Server",
	"trail.andmore": "und %d weitere",

	"step.accepted": "Dieser Server nahm sie an von %s", "step.notice": "Dieser Server nahm eine Meldung ohne Absender an", "step.made": "Dieser Server hat sie geschrieben",
	"step.by": ", gesendet vom Postfach %s", "step.device": " mit dem Kennwort des Geräts „%s“", "step.at": ", von der Adresse %s", "step.clear": ", unverschlüsselt",
	"step.stored": "Sie kam in das Postfach von %s", "step.queued": "Sie wartet darauf, an %s gesendet zu werden", "step.left out": "%s wurde ausgelassen",
	"step.delivered": "Der Server von %s nahm sie an: %s", "step.deferred": "Noch nicht zugestellt an %s; es wird wieder versucht",
	"step.failed": "Sie war an %s nicht zustellbar; der Absender erfährt es", "step.held": "Sie ist angehalten für %s", "step.released": "Jemand gab sie frei an %s",
	"step.removed": "Jemand nahm sie aus der Warteschlange für %s; niemand erfuhr es", "step.given up": "Jemand gab sie auf für %s; der Absender erfährt es",
	"step.fetched": "%s hat sie abgeholt", "step.deleted": "%s hat sie gelöscht", "step.expired": "Dieser Server hat sie im Postfach von %s gelöscht, ihres Alters wegen",
	"step.reported": "Der Absender erfuhr, was für %s daraus wurde", "step.words": "(%s)",

	"proof.title": "Zustellnachweis", "proof.make": "Nachweis ausstellen", "proof.made": "Ein Zustellnachweis", "proof.open": "So sehen ihn andere", "proof.back": "Zurück zur Nachricht",
	"proof.share": "Wer diesen Link hat, kann den Nachweis lesen, und dieser Server bestätigt 30 Tage lang, dass er echt ist. Vom Inhalt der Nachricht steht nichts darin.",
	"proof.key":   "Er lässt sich auch ohne diesen Server prüfen, mit dem Schlüssel", "proof.genuine": "Dieser Nachweis ist echt: Dieser Server hat ihn unterschrieben.",
	"proof.token": "Der Nachweis", "proof.check": "Prüfen",

	"explain.nav": "Ablehnung erklären", "explain.title": "Eine Ablehnung erklären", "explain.of": "Was %s bedeutet", "explain.why": "Warum", "explain.cure": "Was zu tun ist",
	"explain.said": "Was dem Mailprogramm gesagt wurde", "explain.name": "Ihr Name ist hier", "explain.lately": "Wann das zuletzt geschah", "explain.facts": "Was entschieden wurde",
	"explain.code": "Kürzel", "explain.go": "Erklären", "explain.codehint": "Es steht am Ende dessen, was Ihr Mailprogramm zeigt, etwa L-7QK.",
	"explain.login": "Melden Sie sich an, um zu sehen, wann und warum es Ihnen geschah.",

	"audit.time": "Wann",

	"code.title": "Noch ein Schritt", "code.code": "Code", "code.hint": "Die sechs Ziffern, die der Authenticator auf Ihrem Telefon für dieses Postfach zeigt.",
	"code.wrong": "Das stimmt nicht oder wurde schon benutzt. Warten Sie auf den nächsten Code.",
	"code.lost":  "Kein Telefon mehr? Wer die Domain verwaltet, kann den Code für Sie abschalten.",

	"factor.title": "Code vom Telefon", "factor.on": "an", "factor.ontext": "Wer sich auf diesen Seiten anmeldet, braucht auch einen Code des Authenticators. Mailprogramme nicht.",
	"factor.offtext": "Für diese Seiten kann neben dem Kennwort ein Code vom Authenticator auf Ihrem Telefon nötig sein. Mailprogramme brauchen ihn nicht.",
	"factor.make":    "Einschalten", "factor.end": "Abschalten", "factor.type": "Tippen Sie dies in den Authenticator:", "factor.code": "Der Code, den er dann zeigt", "factor.go": "Einschalten",
	"factor.uri": "Oder geben Sie ihm diese Adresse:", "factor.started": "Von jetzt an ist ein Code nötig.", "factor.ended": "Ein Code ist nicht mehr nötig.",
}
