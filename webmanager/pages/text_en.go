package pages

// englishTexts are all texts of the pages. A key names its page first.
var englishTexts = map[string]string{
	"nav.skip": "Skip to the content", "nav.pages": "Pages", "nav.logout": "Sign out", "nav.help": "Help", "nav.trail": "Find a message", "nav.explain": "Refusals",

	"form.save": "Save", "form.cancel": "Cancel", "form.optional": "May be left empty.", "form.nobound": "Empty: no limit.",
	"form.list": "One in each line.", "form.wrong": "Something is not right yet; nothing was changed.", "form.number": "is a number, or empty",
	"list.more": "Next page", "list.first": "To the beginning", "list.nomore": "Nothing (more) here.",

	"error.title": "That did not work", "error.notfound": "Not found", "error.forbidden": "Not for you",
	"error.nopage": "There is no such page.", "error.inside": "Something failed inside. The server's log has the cause; please try again.",
	"error.form": "The form could not be read.", "error.home": "To the start page",
	"error.foreign": "This came from a page of another site, so it was not done. If it was you, open the page here and try again.",

	"login.title": "Sign in", "login.name": "Mailbox", "login.namehint": "Your e-mail address, or what stands before the @.",
	"login.password": "Password", "login.go": "Sign in", "login.same": "It is the password that your mail program uses.",
	"login.wrong": "That did not let you in: the mailbox or the password is not right, or there were too many attempts. Wait a little, and try again.",
	"login.busy":  "Too many people sign in just now. Try again in a moment.",

	"signin.title": "Sign in as operator", "signin.text": "This link can be used once.", "signin.go": "Sign in",
	"signin.void": "This link was used already, or is too old.", "signin.how": "Make a new link on the server:",

	"mailboxes.title": "Mailboxes", "mailboxes.add": "Add a mailbox", "mailboxes.added": "%s is there.", "mailboxes.find": "Find a mailbox by its name",
	"mailboxes.open": "Open", "mailboxes.usage": "%d messages, %s", "mailboxes.of": "of %s",

	"mailbox.mine": "My mailbox", "mailbox.address": "Address", "mailbox.person": "Name of the person", "mailbox.messages": "Messages", "mailbox.size": "Size",
	"mailbox.state": "State", "mailbox.issuspended": "suspended", "mailbox.isopen": "open", "mailbox.isowner": "manages the domain", "mailbox.forwards": "forwards",
	"mailbox.name": "Name", "mailbox.namehint": "What stands before @%s.", "mailbox.about": "About this mailbox", "mailbox.holds": "It holds",
	"mailbox.created": "There since", "mailbox.sendas": "May also send as", "mailbox.trail": "Look up what became of a message", "mailbox.change": "Change this",
	"mailbox.quotamb": "Most it holds, in MB", "mailbox.quotamessages": "Most messages it holds",
	"mailbox.oldclient": "Old programs may use it: at the doors for old clients, where its password may pass without encryption.",
	"mailbox.changed":   "%s was changed.", "mailbox.suspended": "%s is suspended.", "mailbox.resumed": "%s is open again.",
	"mailbox.close": "Close it", "mailbox.suspend": "Suspend", "mailbox.resume": "Open it again",
	"mailbox.suspendtext": "While a mailbox is suspended nobody can fetch its mail or send with it. Mail for it waits at the senders, for some days.",
	"mailbox.resumetext":  "It is suspended: nobody can fetch its mail or send with it.",

	"remove.title": "Remove it for good", "remove.text": "The mailbox and all %d messages in it will be gone, and nobody can bring them back.",
	"remove.type": "To confirm, type %s", "remove.go": "Remove for good", "remove.done": "%s and its mail are gone.",

	"password.title": "Password", "password.text": "One password for fetching and for sending mail, and for these pages. Afterwards every mail program needs the new one.",
	"password.current": "Present password", "password.new": "New password", "password.repeat": "New password again", "password.hint": "At least 8 characters. Longer is better.",
	"password.devices": "Revoke the passwords of all devices too", "password.go": "Set the password", "password.set": "The password was set.",
	"password.differs": "is not the same as the one above", "password.again": "Sign in with it here, and put it into your mail programs.",

	"forward.title": "Forwarding", "forward.on": "Mail is sent on to %s.", "forward.keeps": "A copy stays here.", "forward.keepsnot": "No copy stays here.",
	"forward.off": "Mail stays here and is sent on to nobody.", "forward.to": "Send mail on to", "forward.hint": "Addresses at other domains, one in each line. Empty: do not forward.",
	"forward.keep": "Leave a copy in the mailbox",

	"device.title": "Passwords for devices", "device.text": "A scanner, a script or a telephone gets a password of its own, which does no more than it needs and can be revoked alone.",
	"device.name": "Device", "device.namehint": "Such as “Scanner, second floor”.", "device.may": "It may", "device.send": "send mail", "device.fetch": "fetch mail",
	"device.from": "From", "device.anywhere": "anywhere", "device.to": "To", "device.anybody": "anybody", "device.owndomain": "the own domain", "device.daily": "%d a day",
	"device.ends": "Ends", "device.never": "never", "device.expired": "expired", "device.revoke": "Revoke", "device.revokeone": "Revoke the password of %s",
	"device.revoked": "The password of the device was revoked.", "device.add": "Add a device", "device.go": "Make its password",
	"device.networks": "Only from these addresses", "device.networkshint": "Addresses or networks such as 192.0.2.0/24. Empty: from anywhere.",
	"device.onlyown": "It may send to the own domain, and else only to the addresses below", "device.recipients": "Only to these addresses",
	"device.recipientshint": "Addresses, or whole domains such as @example.com. Empty: to anybody.", "device.dailyrecipients": "Most recipients a day",
	"device.made": "The password of the device %s:", "device.once": "It is shown this once. User name: %s. Type it into the device now; hyphens and capitals do not matter.",

	"client.title": "Programs that use it", "client.program": "Program", "client.how": "How", "client.last": "Last seen", "client.none": "None was seen yet.",

	"aliases.title": "Aliases", "aliases.text": "Further addresses of the domain that lead to one or more mailboxes, or to addresses elsewhere.",
	"aliases.address": "Address", "aliases.leads": "Leads to", "aliases.catchall": "everything else", "aliases.remove": "Remove", "aliases.removeone": "Remove %s",
	"aliases.add": "Add or change an alias", "aliases.namehint": "What stands before @%s; * takes every address that nothing else takes.",
	"aliases.targetshint": "Mailboxes of the domain, and addresses elsewhere, one in each line.", "aliases.saved": "%s leads to %s.", "aliases.removed": "The alias %s was removed.",
	"form.needed": "is needed",

	"sending.title": "Who may send", "sending.authon": "Authenticated SMTP is on", "sending.authontext": "Whoever sends to other domains proves who he is.",
	"sending.authoff":     "Authenticated SMTP is off",
	"sending.authofftext": "Whoever is in the networks named below sends without a password. A password is taken as before.",
	"sending.outoff":      "Outgoing mail is off", "sending.outofftext": "Nobody sends to other domains.", "sending.timer": "It is on again by itself:",
	"sending.popon": "POP before SMTP is on: who fetched mail may send from the same address for a while.", "sending.popoff": "POP before SMTP is off.",
	"sending.popgrants": "Who may now", "sending.auth": "Authenticated SMTP",
	"sending.auth.on":  "On: mail programs give the password when they send. This is safe, and every mail program of the last twenty years can do it.",
	"sending.auth.off": "Off: whoever is in the networks named here sends without a password, as any address of the domain that exists.",
	"sending.networks": "These networks", "sending.networkshint": "Such as 192.0.2.0/24, one in each line; none wider than /16, or /48 for IPv6.",
	"sending.off": "If off: until when", "sending.offhint": "It switches itself on again, so that nothing stays open by oversight.", "sending.off.keep": "as it is set now",
	"sending.off.never": "until I switch it on again", "sending.off.1h": "one hour", "sending.off.4h": "four hours", "sending.off.24h": "one day",
	"sending.off.168h": "one week", "sending.off.720h": "30 days", "sending.pop": "POP before SMTP",
	"sending.pop.on": "Who fetched mail may send without a password from the same address for 20 minutes. For printers and old programs that know nothing else.",
	"sending.out":    "Outgoing mail", "sending.out.on": "Mailboxes may send to other domains.", "sending.see": "See what it would do",
	"sending.seehint": "Nothing is changed yet.", "sending.changed": "The settings were changed.", "sending.changedgrants": "The settings were changed; %d grants ended.",

	"settings.title": "All other settings", "settings.link": "All other settings", "settings.text": "What is changed is shown first, with what it would do.",

	"preview.title": "What this would do", "preview.nothing": "That is how it is already; nothing was changed.", "preview.consequences": "Consequences",
	"preview.none": "Nobody is concerned by it, as far as the last 30 days tell.", "preview.changes": "The settings in detail", "preview.setting": "Setting",
	"preview.before": "Before", "preview.after": "After", "preview.confirm": "To confirm, type the name of the domain: %s", "preview.go": "Do it",
	"preview.loosens":  "This allows more than before. Others could abuse it, so please read what follows.",
	"preview.destroys": "This removes mail for good.",

	"grants.title": "POP before SMTP", "grants.text": "Who fetched mail just now, and may send without a password from the same address.", "grants.off": "It is switched off:",
	"grants.login": "Last fetched", "grants.left": "Recipients left", "grants.none": "Nobody, just now.", "grants.revokeall": "Revoke all",
	"grants.revokeone": "Revoke the grant of %s from %s", "grants.revoked": "%d ended.", "grants.one": "may send from %s until",

	"holds.title": "On hold", "holds.text": "Mail of a mailbox that suddenly sends otherwise than usual is kept back, as its password may be in strange hands.",
	"holds.here": "What this mailbox sends is kept back:", "holds.decide": "Decide about it", "holds.from": "From", "holds.since": "since", "holds.waits": "What waits",
	"holds.to": "to", "holds.message": "what became of it", "holds.release": "It is fine: let it go", "holds.purge": "It was not me: take the mailbox back",
	"holds.none": "Nothing is on hold.", "holds.released": "It goes its way now: %d deliveries.",

	"purge.title": "Somebody else knows the password",
	"purge.text":  "Take the mailbox back: it gets a new password; the passwords of its devices end, and so does sending without one; what waits on hold is thrown away, and nobody is told. Mail in the mailbox stays.",
	"purge.go":    "Take it back", "purge.done": "The mailbox is yours again: %d deliveries thrown away, %d devices and %d grants ended.",

	"trail.title": "Where did my message go?", "trail.for": "Address, mailbox or number of the message",
	"trail.forhint": "The last 30 days. Empty: the newest. The number is what the mail program was told (“queued as …”); a Message-ID will do too.",
	"trail.go":      "Look", "trail.narrow": "Look more closely", "trail.from": "From", "trail.to": "To", "trail.subject": "Words of the subject", "trail.mailbox": "In or from the mailbox",
	"trail.since": "Not before", "trail.until": "Not after", "trail.none": "No such message in the last 30 days.", "trail.more": "Older ones", "trail.number": "Number %s",
	"trail.unreadable": "A part of the records cannot be read; what they say is missing here.", "trail.heading": "From %s to %s", "trail.system": "this server", "trail.andmore": "and %d more",

	"step.accepted": "This server took it from %s", "step.notice": "This server took a notice without a sender", "step.made": "This server wrote it", "step.by": ", sent by the mailbox %s",
	"step.device": " with the password of the device “%s”", "step.at": ", at the address %s", "step.clear": ", without encryption", "step.stored": "It was put into the mailbox of %s",
	"step.queued": "It waits to be sent to %s", "step.left out": "%s was left out", "step.delivered": "The server of %s took it: %s", "step.deferred": "Not yet delivered to %s; it is tried again",
	"step.failed": "It could not be delivered to %s; the sender is told", "step.held": "It is on hold for %s", "step.released": "Somebody let it go to %s",
	"step.removed": "Somebody took it out of the queue for %s; nobody was told", "step.given up": "Somebody gave it up for %s; the sender is told",
	"step.fetched": "%s fetched it", "step.deleted": "%s deleted it", "step.expired": "This server deleted it from the mailbox of %s, for its age",
	"step.reported": "The sender was told what became of it for %s", "step.words": "(%s)",

	"proof.title": "Proof of delivery", "proof.make": "Make a proof", "proof.made": "A proof of delivery", "proof.open": "See it as others do", "proof.back": "Back to the message",
	"proof.share": "Whoever has this link can read the proof, and this server says that it is genuine, for 30 days. It has nothing of what is in the message.",
	"proof.key":   "It can be checked without this server too, with the key", "proof.genuine": "This proof is genuine: this server signed it.", "proof.token": "The proof", "proof.check": "Check it",

	"explain.nav": "Explain a refusal", "explain.title": "Explain a refusal", "explain.of": "What %s means", "explain.why": "Why", "explain.cure": "What to do", "explain.said": "What the mail program was told",
	"explain.name": "Its name here is", "explain.lately": "When that happened lately", "explain.facts": "What was decided", "explain.code": "Code", "explain.go": "Explain",
	"explain.codehint": "It stands at the end of what your mail program shows, such as L-7QK.", "explain.login": "Sign in to see when it happened to you, and why.",

	"audit.title": "Changes", "audit.text": "Who changed what, the newest first. It cannot be changed here.", "audit.time": "When", "audit.who": "Who", "audit.from": "from", "audit.what": "What", "audit.change": "Before and after",

	"code.title": "One more step", "code.code": "Code", "code.hint": "The six digits that the authenticator on your telephone shows for this mailbox.",
	"code.wrong": "That is not right, or was used already. Wait for the next code.", "code.lost": "No telephone any more? The owner of the domain can switch codes off for you.",

	"factor.title": "Code from the telephone", "factor.on": "on", "factor.ontext": "Who signs in to these pages needs a code of the authenticator too. Mail programs do not.",
	"factor.offtext": "For these pages a code from an authenticator on your telephone can be needed beside the password. Mail programs do not need it.",
	"factor.make":    "Switch it on", "factor.end": "Switch it off", "factor.type": "Type this into the authenticator:", "factor.code": "The code that it shows then", "factor.go": "Switch it on",
	"factor.uri": "Or give it this address:", "factor.started": "From now on a code is needed.", "factor.ended": "No code is needed any more.",
}
