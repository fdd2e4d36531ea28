// Package relayprobe is the list of ways in which mail servers were made to relay for strangers, as dialogues to try on a server of the
// domain example.com with the mailboxes alice and bob. What a server answers does not matter: the proof is in what leaves it. The
// list is shared by the tests of package smtp, whose oracle is the queue, and those of the whole server, whose oracle is what arrives
// elsewhere.
package relayprobe

import (
	"encoding/base64"
	"strings"
)

// Victim is whom the probes want to reach, unless they say otherwise.
const Victim = "victim@elsewhere.example"

// Probe is one attempt.
type Probe struct {
	Name string
	// Hello, Mail and Rcpt are whole commands; empty ones are the usual. Hello may be several, with CRLF between. Before comes between MAIL
	// and RCPT.
	Hello, Mail string
	Before      []string
	Rcpt        string
	// Data is what ends the transaction; empty is DATA and a message.
	Data string
}

// Probes returns the list.
func Probes() []Probe {
	return append(dialogues(), recipients()...)
}

func dialogues() []Probe {
	wrong := base64.StdEncoding.EncodeToString([]byte("\x00alice\x00wrong"))
	return []Probe{
		{Name: "plain third party"},
		{Name: "from the null reverse-path", Mail: "MAIL FROM:<>"},
		{Name: "from our own domain", Mail: "MAIL FROM:<alice@example.com>"},
		{Name: "from a name without a domain", Mail: "MAIL FROM:<alice>"},
		{Name: "from localhost", Mail: "MAIL FROM:<alice@localhost>"},
		{Name: "from our address", Mail: "MAIL FROM:<alice@[127.0.0.1]>"},
		{Name: "after a valid recipient", Before: []string{"RCPT TO:<bob@example.com>"}},
		{Name: "after RSET", Before: []string{"RCPT TO:<bob@example.com>", "RSET", "MAIL FROM:<x@remote.example>"}},
		{Name: "after a failed AUTH", Hello: "EHLO client.example\r\nAUTH PLAIN " + wrong},
		{Name: "after an AUTH given up", Hello: "EHLO client.example\r\nAUTH LOGIN\r\n*"},
		{Name: "with HELO", Hello: "HELO client.example"},
		{Name: "with our own name in HELO", Hello: "HELO mail.example.com"},
		{Name: "with our domain in EHLO", Hello: "EHLO example.com"},
		{Name: "with EHLO localhost", Hello: "EHLO localhost"},
		{Name: "with NOTIFY and ORCPT", Rcpt: "RCPT TO:<" + Victim + "> NOTIFY=SUCCESS ORCPT=rfc822;bob@example.com"},
		{Name: "with AUTH=", Mail: "MAIL FROM:<x@remote.example> AUTH=alice@example.com"},
		{Name: "by chunks", Data: "BDAT 8 LAST\r\nA: 1\r\n\r\n"},
		{Name: "by chunks after a bad MAIL", Mail: "MAIL FROM:<bad", Data: "BDAT 8 LAST\r\nA: 1\r\n\r\n"},
		{Name: "by chunks without MAIL", Mail: "NOOP", Data: "BDAT 8 LAST\r\nA: 1\r\n\r\n"},
		{Name: "without brackets", Rcpt: "RCPT TO:" + Victim},
		{Name: "with blanks", Rcpt: "RCPT TO: < " + Victim + " >"},
		{Name: "two in one", Rcpt: "RCPT TO:<bob@example.com,victim@elsewhere.example>"},
		{Name: "two in brackets", Rcpt: "RCPT TO:<bob@example.com><victim@elsewhere.example>"},
	}
}

// recipients are probes by the form of the address; each is its own name.
func recipients() (list []Probe) {
	for _, rcpt := range []string{
		"victim%elsewhere.example@example.com", "victim%elsewhere.example@[127.0.0.1]", "victim%elsewhere.example",
		`"victim@elsewhere.example"`, `"victim%elsewhere.example"`, "victim@elsewhere.example@example.com",
		`"victim@elsewhere.example"@example.com`, `"victim%elsewhere.example"@example.com`,
		"@example.com:victim@elsewhere.example", "@[127.0.0.1]:victim@elsewhere.example", "@mail.example.com,@example.com:victim@elsewhere.example",
		"elsewhere.example!victim", "elsewhere.example!victim@example.com", "elsewhere.example!victim@[127.0.0.1]",
		"victim@elsewhere.example.", "VICTIM@ELSEWHERE.EXAMPLE", "victim@exаmple.com", "victim@example.com.elsewhere.example",
		"victim@elsewhere.example%example.com", "victim@[192.0.2.1]", "victim@[IPv6:2001:db8::1]", "victim@192.0.2.1", "victim@localhost",
		`"victim\@elsewhere.example"@example.com`, "bob@example.com@elsewhere.example", `"bob@example.com"@elsewhere.example`,
		"bob%example.com@elsewhere.example", "bob+victim@elsewhere.example@example.com", "victim@elsewhere.example\x00@example.com", "*@elsewhere.example",
	} {
		list = append(list, Probe{Name: rcpt, Rcpt: "RCPT TO:<" + rcpt + ">"})
	}
	return list
}

// Allowed are the only probes that may leave the domain when who sends them may relay, and for which recipient.
func Allowed() map[string]string {
	return map[string]string{
		"plain third party": Victim, "from the null reverse-path": Victim, "from our own domain": Victim, "after a valid recipient": Victim,
		"with HELO": Victim, "with our own name in HELO": Victim, "with our domain in EHLO": Victim, "with EHLO localhost": Victim,
		"with NOTIFY and ORCPT": Victim, "by chunks": Victim, "without brackets": Victim, "after a failed AUTH": Victim, "after an AUTH given up": Victim,
		"victim@elsewhere.example.":             Victim,
		"VICTIM@ELSEWHERE.EXAMPLE":              "VICTIM@elsewhere.example",
		"@example.com:victim@elsewhere.example": Victim, "@[127.0.0.1]:victim@elsewhere.example": Victim,
		"@mail.example.com,@example.com:victim@elsewhere.example": Victim,
		"victim@example.com.elsewhere.example":                    "victim@example.com.elsewhere.example",
		"victim@192.0.2.1":                                        "victim@192.0.2.1",
		"victim@localhost":                                        "victim@localhost",
		"*@elsewhere.example":                                     "*@elsewhere.example",
	}
}

// Play sends a probe with from as its usual reverse-path and author. say sends octets and returns the reply. The greeting has been read. It
// returns the reply to the probe's RCPT.
func (p Probe) Play(from string, say func(octets string) (reply string)) (rcpt string) {
	or := func(s, usual string) string {
		if s == "" {
			return usual
		}
		return s
	}
	for line := range strings.SplitSeq(or(p.Hello, "EHLO client.example"), "\r\n") {
		say(line + "\r\n")
	}
	for _, line := range append([]string{or(p.Mail, "MAIL FROM:<"+from+">")}, p.Before...) {
		say(line + "\r\n")
	}
	rcpt = say(or(p.Rcpt, "RCPT TO:<"+Victim+">") + "\r\n")
	if p.Data != "" {
		say(p.Data)
		return rcpt
	}
	if strings.HasPrefix(say("DATA\r\n"), "354 ") {
		say("From: " + from + "\r\nSubject: probe\r\n\r\n.\r\n")
	}
	return rcpt
}

// ReversePath is the one of the transaction in which a probe names its victim, from being the usual; "invalid" is one that MAIL does not
// take.
func (p Probe) ReversePath(from string) string {
	for _, line := range append([]string{p.Mail}, p.Before...) {
		if rest, ok := strings.CutPrefix(line, "MAIL FROM:<"); ok {
			addr, _, closed := strings.Cut(rest, ">")
			if from = addr; !closed {
				from = "invalid"
			}
		} else if line != "" && line == p.Mail {
			from = "invalid"
		}
	}
	return from
}
