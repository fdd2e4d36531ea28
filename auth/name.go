package auth

import (
	"strings"

	"latchkey/internal/mailaddr"
)

// MaxNameLen bounds a login name in octets.
const MaxNameLen = 320

// mailboxName brings a login name to the mailbox's canonical local part. Programs send user, user@domain, user%domain, user#domain,
// domain/user and DOMAIN\user, with capitals and blanks around. ok is false if it can be no mailbox of the domain.
//
// A domain that is not ours makes the name unknown after "@"; beside another separator it may be part of a mailbox's name, which then
// has to exist.
func mailboxName(login, domain string) (name string, ok bool) {
	login = strings.TrimSpace(login)
	if login == "" || len(login) > MaxNameLen {
		return "", false
	}
	for _, form := range []struct {
		separator   string
		domainFirst bool
	}{{"@", false}, {"%", false}, {"#", false}, {"/", true}, {`\`, true}} {
		i := strings.LastIndex(login, form.separator)
		if form.domainFirst {
			i = strings.Index(login, form.separator)
		}
		if i < 0 {
			continue
		}
		user, host := login[:i], login[i+1:]
		if form.domainFirst {
			user, host = host, user
		}
		d, err := mailaddr.CanonicalDomain(strings.TrimSpace(host))
		if err == nil && d == domain {
			return canonicalUser(user)
		}
		if form.separator == "@" {
			return "", false
		}
	}
	return canonicalUser(login)
}

func canonicalUser(user string) (string, bool) {
	name, err := mailaddr.CanonicalLocal(strings.TrimSpace(user))
	return name, err == nil
}

// mailboxKey is the name that attempts at a login name are counted under: the mailbox's canonical one, which need not exist, or the
// beginning of what was typed, if that can be no mailbox's.
func mailboxKey(username, domain string) (mailbox string, ok bool) {
	if name, ok := mailboxName(username, domain); ok {
		return name, true
	}
	return username[:min(len(username), mailaddr.MaxLocalLen)], false
}
