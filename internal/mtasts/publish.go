package mtasts

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
)

// Path is where a policy host serves its policy (RFC 8461 §3.3).
const Path = "/.well-known/mta-sts.txt"

// idLength is that of the ids made here, in octets.
const idLength = 20

// Host is the policy host of a domain (RFC 8461 §3.3).
func Host(domain string) string { return "mta-sts." + domain }

// RecordName is the name of the TXT record that names a domain's present policy (RFC 8461 §3.1).
func RecordName(domain string) string { return "_mta-sts." + domain }

// Text is the policy as its host serves it (RFC 8461 §3.2).
func (p Policy) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "version: STSv1\r\nmode: %s\r\n", p.Mode)
	for _, host := range p.MX {
		fmt.Fprintf(&b, "mx: %s\r\n", host)
	}
	fmt.Fprintf(&b, "max_age: %d\r\n", p.MaxAge/time.Second)
	return b.String()
}

// ID tells a policy from others: it is made of the text, so that it changes with it and with nothing else (RFC 8461 §3.1).
func (p Policy) ID() string {
	sum := sha256.Sum256([]byte(p.Text()))
	return hex.EncodeToString(sum[:])[:idLength]
}

// Record is the TXT record that names the policy (RFC 8461 §3.1).
func (p Policy) Record() string { return "v=STSv1; id=" + p.ID() + ";" }
