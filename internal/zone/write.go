package zone

import (
	"fmt"
	"strings"
)

// maxString is the longest string of a TXT record, in octets (RFC 1035 §3.3).
const maxString = 255

// Text writes records as lines of a zone file, each under a comment that says what it is for. Optional ones are comments as a whole, so that
// all of it can be pasted.
func Text(p Place, records []Record) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("; Records of %s, as this server wants them. Lines that begin with ; do nothing.", p.Domain)
	if !p.ownsHost() {
		line("; %s is not in this zone: what is said of it belongs into the zone of whoever has that name.", p.Hostname)
	}
	if len(p.Keys) == 0 {
		line("; DKIM: there are no keys yet, and mail leaves unsigned. Make them first.")
	}
	if p.Smarthost != "" {
		line("; SPF: mail leaves through %s. Ask its operator what belongs into the record, as an include: or ip4:.", p.smarthostName())
	}
	for _, route := range p.Routes {
		line("; SPF: some of the mail leaves through %s. Ask its operator what belongs into the record, as an include: or ip4:.", hostOf(route))
	}
	for _, r := range records {
		line("\n; %s", r.Purpose)
		mark := ""
		if r.Optional {
			mark = "; "
		}
		line("%s%s", mark, Line(r))
	}
	line("\n; Reverse names are set by whoever gave you the addresses, not in this zone:")
	senders := p.senders()
	if len(senders) == 0 {
		line("; the public addresses of this server are not known: name them in reputation.addresses")
	}
	for _, s := range senders {
		line("; %s must have the name %s (PTR)", s.Addr, s.Hostname)
	}
	return b.String()
}

// Line is a record as a line of a zone file.
func Line(r Record) string {
	return fmt.Sprintf("%s. %d IN %s %s", r.Name, TTL, r.Type, zoneData(r))
}

// zoneData is the data of a record as a zone file has it: a text in strings of at most maxString octets (RFC 7208 §3.3, RFC 6376 §3.6.2.2).
func zoneData(r Record) string {
	if r.Type != "TXT" {
		return r.Data
	}
	var list []string
	for text := r.Data; text != "" || len(list) == 0; {
		n := min(len(text), maxString)
		list = append(list, quoted(text[:n]))
		text = text[n:]
	}
	return strings.Join(list, " ")
}

func quoted(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
