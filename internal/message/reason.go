package message

import (
	"fmt"
	"strings"
)

// reason is why a recipient has no mail, or has it, and what whoever is told can do about it, in words for people who run no mail server.
type reason struct{ what, cure string }

// reasons are those that the status alone tells (RFC 3463 §3), by its last two numbers.
func reasons(detail string) (reason, bool) {
	switch detail {
	case "1.1", "1.6":
		return reason{
			"There is no mailbox of that name.",
			"Look whether the address is spelt right, and send the message again. If it is, the mailbox is gone: ask for the new address in another way.",
		}, true
	case "1.3":
		return reason{"The address is not one that mail can be sent to.", "Look whether it is spelt right, and send the message again."}, true
	case "1.2", "4.4":
		return reason{
			"The domain, which is the part behind the @, does not exist, or has no mail server.",
			"Look whether that part is spelt right, and send the message again.",
		}, true
	case "1.10":
		return reason{"The domain, which is the part behind the @, takes no mail at all: its owner says so.", "Ask for another address."}, true
	case "2.1":
		return reason{"The mailbox is closed.", "Reach the recipient in another way."}, true
	case "2.2":
		return reason{"The mailbox is full.", "Tell the recipient in another way, and send the message again when there is room."}, true
	case "2.3", "3.4":
		return reason{
			"The message is larger than the other server takes.",
			"Send less: without the attachments, or with a link to a place where they can be fetched.",
		}, true
	case "4.6":
		return reason{"The mail goes in circles: a mail server is set up wrongly.", "Tell the postmaster of that domain, in another way than by this address."}, true
	case "6.3", "6.7":
		return reason{
			"The other server is old, and takes only plain letters without accents and umlauts.",
			"Write addresses, names and subject in plain (ASCII) letters, and send the message again.",
		}, true
	case "7.4", "7.5", "7.10", "7.30":
		return reason{
			"There is no safe (encrypted and verified) connection to the other server, and without one the message may not go.",
			"You can do nothing about it but write to the postmaster below; the trouble is between the two servers.",
		}, true
	case "7.20", "7.21", "7.22", "7.23", "7.24", "7.25", "7.26", "7.27", "7.29":
		return reason{
			"The other server does not believe that the message comes from your domain: the proof of it is missing or does not fit.",
			"Write to the postmaster below: the records of your domain (SPF, DKIM, DMARC) have to be looked at.",
		}, true
	}
	return reason{}, false
}

// hint is a reason that servers say in words rather than by a status.
type hint struct {
	words []string
	reason
	// unknown is set if it says that there is no such mailbox.
	unknown bool
}

// hints are looked for, in this order, where the status says little.
func hints() []hint {
	return []hint{
		{
			words: []string{"blocklist", "block list", "blacklist", "black list", "dnsbl", "rbl", "spamhaus", "spamcop", "barracuda", "poor reputation", "low reputation"},
			reason: reason{
				"The other server takes no mail from this server at present, because this server's address is on a blocklist. That is not your message's fault.",
				"Write to the postmaster below, who can have the address taken off, and send the message again after that.",
			},
		},
		{
			words: []string{"greylist", "graylist", "grey list", "gray list"},
			reason: reason{
				"The other server asks to come back later, as many do with senders whom they do not know yet.",
				"Reach the recipient in another way, and ask that your address be let in.",
			},
		},
		{
			words: []string{"too large", "size limit", "message size exceeds"},
			reason: reason{
				"The message is larger than the other server takes.",
				"Send less: without the attachments, or with a link to a place where they can be fetched.",
			},
		},
		{
			words:  []string{"mailbox full", "mailbox is full", "over quota", "quota exceeded", "exceeded storage"},
			reason: reason{"The mailbox is full.", "Tell the recipient in another way, and send the message again when there is room."},
		},
		{
			words:  []string{"user unknown", "unknown user", "no such user", "does not exist", "no mailbox", "mailbox not found", "invalid recipient"},
			reason: reason{"There is no mailbox of that name.", "Look whether the address is spelt right, and send the message again."}, unknown: true,
		},
		{
			words: []string{"spam", "junk", "virus", "malware", "phish", "content"},
			reason: reason{
				"The other server took the message for spam, or for something harmful.",
				"Write it in other words and without links and attachments, or reach the recipient in another way.",
			},
		},
	}
}

// maxLink bounds a link that is shown apart, in octets.
const maxLink = 300

// reasonOf is why, by the status, by the words where the status says little, or by what may be said in any case.
func (b *Bounce) reasonOf(f *FailedRecipient) reason {
	_, detail, _ := strings.Cut(f.Status, ".")
	switch b.Report {
	case ReportRelayed:
		return reason{"Handed on to the next server, which gives no reports.", ""}
	case ReportDelivered:
		if f.Expanded {
			return reason{"Put into the mailboxes of all who stand behind that address.", ""}
		}
		return reason{"Put into the mailbox.", ""}
	case ReportDelayed:
		return delayReason(f, detail)
	}
	if r, known := reasons(detail); known {
		return r
	}
	if r, found := hinted(f); found {
		if detail == "4.7" {
			r.what += " It did so " + b.tried() + "."
		}
		return r
	}
	switch {
	case detail == "4.7":
		return reason{
			"The other server could not be reached, or put the message off again and again, " + b.tried() + ".",
			"Look whether the address is spelt right. If it is, reach the recipient in another way, or send the message again later.",
		}
	case f.RemoteMTA == "":
		return reason{"This server cannot deliver it.", ""}
	case strings.HasPrefix(detail, "7."):
		return reason{
			"The other server refuses the message by a rule of its own.",
			"Its answer may say why. Only the people who run that server can change it: reach the recipient in another way.",
		}
	}
	return reason{"The other server refuses the message.", "Its answer may say why. If it does not, reach the recipient in another way."}
}

// tried says for how long there were attempts.
func (b *Bounce) tried() string {
	days := int(b.Date.Sub(b.Arrived).Hours()+1) / 24
	switch {
	case b.Arrived.IsZero() || days < 1:
		return "until it was given up"
	case days == 1:
		return "for a day, and so it was given up"
	}
	return fmt.Sprintf("for %d days, and so it was given up", days)
}

// delayReason is what keeps a message that is tried on. There is nothing to do about it, so nothing is advised.
func delayReason(f *FailedRecipient, detail string) reason {
	if detail == "2.2" {
		return reason{"The mailbox is full at the moment.", ""}
	}
	if r, known := reasons(detail); known && strings.HasPrefix(detail, "7.") {
		return reason{r.what, ""}
	}
	if r, found := hinted(f); found {
		return reason{r.what, ""}
	}
	switch {
	case strings.HasPrefix(detail, "4."):
		return reason{"The other server cannot be reached at the moment.", ""}
	case f.RemoteMTA == "":
		return reason{"Something here keeps it back at the moment.", ""}
	}
	return reason{"The other server does not take it at the moment, and asks to come back later.", ""}
}

// hinted looks for a hint in what a server answered, unless the status is clearer than words.
func hinted(f *FailedRecipient) (reason, bool) {
	_, detail, _ := strings.Cut(f.Status, ".")
	if !f.Answered || detail != "0.0" && detail != "4.7" && detail != "1.0" && !strings.HasPrefix(detail, "7.") && !strings.HasPrefix(detail, "5.") {
		return reason{}, false
	}
	h, found := hintIn(f.Diagnostic)
	return h.reason, found
}

// hintIn is the first hint that a server's words give.
func hintIn(words string) (hint, bool) {
	words = strings.ToLower(words)
	for _, h := range hints() {
		for _, w := range h.words {
			if containsWord(words, w) {
				return h, true
			}
		}
	}
	return hint{}, false
}

// NoSuchMailbox reports whether a server's refusal of one recipient says that the mailbox does not exist, or is closed for good: by its status
// (RFC 3463 §3.2, §3.3) unless its words say something else, or by its words where the status says nothing. Policy and content never do.
func NoSuchMailbox(status, words string) bool {
	h, found := hintIn(words)
	switch status {
	case "5.1.1", "5.1.6", "5.1.10", "5.2.1":
		return !found || h.unknown
	case "5.0.0", "5.1.0":
		return found && h.unknown
	}
	return false
}

// containsWord reports whether a word stands in a text that is not a part of a longer one at its beginning.
func containsWord(text, word string) bool {
	for at := 0; ; {
		i := strings.Index(text[at:], word)
		if i < 0 {
			return false
		}
		if at += i; at == 0 || text[at-1] < 'a' || text[at-1] > 'z' {
			return true
		}
		at++
	}
}

// linkIn returns the first link of an answer, "" if there is none.
func linkIn(words string) string {
	for _, scheme := range []string{"https://", "http://"} {
		i := strings.Index(words, scheme)
		if i < 0 {
			continue
		}
		link := words[i:]
		if end := strings.IndexFunc(link, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`<>"'()[]{}`, r) }); end >= 0 {
			link = link[:end]
		}
		if link = strings.TrimRight(link, ".,;:!"); len(link) > len(scheme) && len(link) <= maxLink {
			return link
		}
	}
	return ""
}
