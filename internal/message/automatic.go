package message

import (
	"strings"

	"latchkey/internal/mailaddr"
)

// Unanswerable says why nobody is to be answered automatically for a message with this header, in few words, or "" (RFC 3834 §2, RFC 5230 §4.6).
func Unanswerable(h *Header) string {
	switch {
	case h.hasPrefix("List-"): // RFC 2369, RFC 2919
		return "a mailing list"
	case has(h, "Precedence", func(v string) bool { return v == "bulk" || v == "list" || v == "junk" }):
		return "bulk mail"
	case has(h, "Auto-Submitted", func(v string) bool { return keyword(v) != "no" }): // RFC 3834 §5
		return "an automatic message"
	case h.Count("X-Autoreply") > 0 || h.Count("X-Autorespond") > 0:
		return "an automatic message"
	case has(h, "X-Auto-Response-Suppress", suppresses):
		return "no answer wanted"
	case has(h, "Content-Type", func(v string) bool { return keyword(v) == "multipart/report" }):
		return "a report"
	}
	return ""
}

// has reports whether a field of that name has a value that is found, in small letters.
func has(h *Header, name string, found func(value string) bool) bool {
	for _, v := range h.Values(name) {
		if found(strings.ToLower(v)) {
			return true
		}
	}
	return false
}

// keyword is the first word of a value: what is before parameters and comments.
func keyword(value string) string {
	if end := strings.IndexAny(value, "; \t("); end >= 0 {
		return value[:end]
	}
	return value
}

// suppresses reports whether a list of kinds of answers, as Exchange writes it, has one of an absent person among them.
func suppresses(value string) bool {
	for kind := range strings.SplitSeq(value, ",") {
		switch strings.TrimSpace(kind) {
		case "oof", "all", "autoreply":
			return true
		}
	}
	return false
}

// NoPerson reports whether an address is by its name not a person's, so that nobody would read an answer (RFC 3834 §2, RFC 5230 §4.6).
func NoPerson(a mailaddr.Address) bool {
	name, _, _ := strings.Cut(strings.ToLower(a.Local()), "+")
	switch name {
	case "mailer-daemon", "postmaster", "listserv", "majordomo", "noreply", "no-reply", "no_reply", "donotreply", "do-not-reply", "do_not_reply",
		"bounce", "bounces":
		return true
	}
	for _, prefix := range []string{"owner-", "noreply-", "no-reply-", "bounce-", "bounces-"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	for _, suffix := range []string{"-request", "-owner", "-bounce", "-bounces", "-noreply", "-no-reply"} {
		if strings.HasSuffix(name, suffix) {
			return true
		}
	}
	return false
}

// Names reports whether one of the addresses stands in To, Cc or Bcc, or in the same of a redirect (RFC 3834 §2). A field that cannot be read, or
// that has more than MaxFieldAddresses, names nobody.
func (h *Header) Names(addresses ...mailaddr.Address) bool {
	for _, field := range []string{"To", "Cc", "Bcc", "Resent-To", "Resent-Cc", "Resent-Bcc"} {
		for _, value := range h.Values(field) {
			list, err := Addresses(value)
			if err != nil {
				continue
			}
			for _, named := range list {
				for _, a := range addresses {
					if strings.EqualFold(named.String(), a.String()) {
						return true
					}
				}
			}
		}
	}
	return false
}

// hasPrefix reports whether the name of a field begins so.
func (h *Header) hasPrefix(prefix string) bool {
	for _, f := range h.fields {
		if f.name >= len(prefix) && strings.EqualFold(string(h.raw[f.start:f.start+len(prefix)]), prefix) {
			return true
		}
	}
	return false
}
