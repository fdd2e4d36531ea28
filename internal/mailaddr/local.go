package mailaddr

import "strings"

// IsLocalhost reports whether a host or domain, in canonical form, is a name of this machine wherever it is asked for, and stands in no DNS (RFC 6761 §6.3).
func IsLocalhost(name string) bool {
	return name == "localhost" || strings.HasSuffix(name, ".localhost")
}
