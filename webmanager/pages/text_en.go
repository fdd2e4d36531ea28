package pages

// englishTexts are all texts of the pages. A key names its page first.
var englishTexts = map[string]string{
	"nav.skip": "Skip to the content", "nav.pages": "Pages", "nav.logout": "Sign out", "nav.help": "Help",

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
}
