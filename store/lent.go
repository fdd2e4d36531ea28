package store

import "latchkey/internal/mailaddr"

// LentName is the form under which [Account.SendAs] is compared: in our own domain the mailbox that an address names, elsewhere octet for
// octet, because local parts of others are not ours to interpret (RFC 5321 §2.4).
func LentName(addr mailaddr.Address, domain string) string {
	if addr.Domain() == domain {
		if local, err := mailaddr.CanonicalLocal(addr.Local()); err == nil {
			return local + "@" + domain
		}
	}
	return addr.String()
}
