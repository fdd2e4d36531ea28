package guard

import "latchkey/store"

// holdNotice tells of mail that was put on hold.
func holdNotice(id store.AccountID, network string, reason HoldReason) Notice {
	from := "It came from the network " + network + "."
	if network == everywhere {
		from = "It is held wherever it comes from."
	}
	return Notice{
		Account: id, Owner: true, Postmaster: true, Subject: "Mail of {mailbox} is on hold",
		Lines: []string{
			"Mail that the mailbox {mailbox} sends to other domains is kept back for now: " + string(reason) + ". " + from,
			"Nothing is lost, and incoming mail can be fetched as always.",
			"If the owner of the mailbox sent it, the owner of the domain lets it go, and the network counts as the mailbox's own: on the page On hold, or by",
			"latchkey queue release --sender {mailbox}",
			"If not, somebody else knows the password. On the same page the mailbox is taken back: that removes what is held, makes a new password, and " +
				"ends what the old one opened. The command is",
			"latchkey account purge {mailbox}",
		},
	}
}

// reviewNotice tells the owner of the domain that a mailbox sends to many who cannot be reached.
func reviewNotice(id store.AccountID) Notice {
	return Notice{
		Account: id, Postmaster: true, Subject: "Please look at how {mailbox} sends",
		Lines: []string{
			"Many recipients of the mailbox {mailbox} failed or do not exist, today and yesterday. That is how a stolen mailbox or a sick " +
				"computer shows; an old list of addresses looks the same.",
			"The page Waiting mail shows what waits, and the page of the mailbox sets a new password and suspends it. The commands are latchkey queue list " +
				"--from {mailbox}, and latchkey account purge {mailbox}, which ends it all.",
		},
	}
}

// grantNotice tells the owner of a mailbox that somebody fetched its mail from a new place, and may send from there.
func grantNotice(id store.AccountID, network string) Notice {
	return Notice{
		Account: id, Owner: true, Subject: "{mailbox}: mail was fetched from a new place",
		Lines: []string{
			"Somebody who knows the password of {mailbox} fetched its mail from " + network + ", where nobody did so before. For a while the mailbox " +
				"can send from there without logging in (POP before SMTP).",
			"If that was you or one of your devices, there is nothing to do. If not, change the password now.",
		},
	}
}
