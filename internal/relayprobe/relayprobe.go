// Package relayprobe is the list of ways in which mail servers were made to relay for strangers, as dialogues to try on a server, a client
// that plays them, and the report of how that went. What a server answers is not all: where it can be seen, the proof is in what leaves it.
// The list is shared by the relay proof of package smtp, whose oracle is what a session would commit, by that of the command line, which
// sees replies only, and by the tests, whose oracles are the queue and what arrives elsewhere.
//
// Relevant RFCs: 5321 (the dialogue, §4.1.2 source routes), 3461 (NOTIFY and ORCPT), 3030 (BDAT), 6531 (SMTPUTF8).
package relayprobe

import (
	"cmp"
	"encoding/base64"
	"strings"
)

// Victim is whom the probes want to reach, unless they say otherwise.
const Victim = "victim@elsewhere.example"

// Stranger is the reverse-path of somebody who has nothing to do with the server.
const Stranger = "x@remote.example"

// Target is the server that is tried.
type Target struct {
	// Domain is the one that it serves, Host its name, Address its IP address.
	Domain, Host, Address string
	// Sender and Recipient are addresses of the domain: one that probes pretend to be, and one that takes mail.
	Sender, Recipient string
}

// Example is the target of the tests: example.com with the mailboxes alice and bob.
func Example() Target {
	return Target{
		Domain: "example.com", Host: "mail.example.com", Address: "127.0.0.1", Sender: "alice@example.com", Recipient: "bob@example.com",
	}
}

// literal is the target's address in an address (RFC 5321 §4.1.3).
func (t Target) literal() string {
	if strings.Contains(t.Address, ":") {
		return "[IPv6:" + t.Address + "]"
	}
	return "[" + t.Address + "]"
}

// lookAlike is the domain with a Cyrillic letter in place of the first Latin one that looks the same.
func (t Target) lookAlike() string {
	for i, c := range t.Domain {
		if j := strings.IndexRune("aceopx", c); j >= 0 {
			return t.Domain[:i] + string([]rune("асеорх")[j]) + t.Domain[i+1:]
		}
	}
	return t.Domain + "а"
}

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

// Probes returns the list for Example.
func Probes() []Probe { return Example().Probes() }

// Probes returns the list.
func (t Target) Probes() []Probe {
	return append(t.dialogues(), t.recipients()...)
}

func (t Target) dialogues() []Probe {
	local, _, _ := strings.Cut(t.Sender, "@")
	wrong := base64.StdEncoding.EncodeToString([]byte("\x00" + local + "\x00wrong"))
	const hello, chunk = "EHLO client.example", "BDAT 8 LAST\r\nA: 1\r\n\r\n"
	return []Probe{
		{Name: "plain third party"},
		{Name: "from the null reverse-path", Mail: "MAIL FROM:<>"},
		{Name: "from our own domain", Mail: "MAIL FROM:<" + t.Sender + ">"},
		{Name: "from a name without a domain", Mail: "MAIL FROM:<" + local + ">"},
		{Name: "from localhost", Mail: "MAIL FROM:<" + local + "@localhost>"},
		{Name: "from our address", Mail: "MAIL FROM:<" + local + "@" + t.literal() + ">"},
		{Name: "after a valid recipient", Before: []string{"RCPT TO:<" + t.Recipient + ">"}},
		{Name: "after RSET", Before: []string{"RCPT TO:<" + t.Recipient + ">", "RSET", "MAIL FROM:<" + Stranger + ">"}},
		{Name: "after a failed AUTH", Hello: hello + "\r\nAUTH PLAIN " + wrong},
		{Name: "after an AUTH given up", Hello: hello + "\r\nAUTH LOGIN\r\n*"},
		{Name: "with HELO", Hello: "HELO client.example"},
		{Name: "with our own name in HELO", Hello: "HELO " + t.Host},
		{Name: "with our domain in EHLO", Hello: "EHLO " + t.Domain},
		{Name: "with EHLO localhost", Hello: "EHLO localhost"},
		{Name: "with NOTIFY and ORCPT", Rcpt: "RCPT TO:<" + Victim + "> NOTIFY=SUCCESS ORCPT=rfc822;" + t.Recipient},
		{Name: "with AUTH=", Mail: "MAIL FROM:<" + Stranger + "> AUTH=" + t.Sender},
		{Name: "by chunks", Data: chunk},
		{Name: "by chunks after a bad MAIL", Mail: "MAIL FROM:<bad", Data: chunk},
		{Name: "by chunks without MAIL", Mail: "NOOP", Data: chunk},
		{Name: "without brackets", Rcpt: "RCPT TO:" + Victim},
		{Name: "with blanks", Rcpt: "RCPT TO: < " + Victim + " >"},
		{Name: "two in one", Rcpt: "RCPT TO:<" + t.Recipient + "," + Victim + ">"},
		{Name: "two in brackets", Rcpt: "RCPT TO:<" + t.Recipient + "><" + Victim + ">"},
		// Reverse-paths of mail that was sent on (package srs), as somebody makes them up.
		{Name: "a return address", Mail: "MAIL FROM:<>", Rcpt: "RCPT TO:<SRS0=aaaaaaaa=aa=elsewhere.example=victim@" + t.Domain + ">"},
		{Name: "a return address in small letters", Mail: "MAIL FROM:<>", Rcpt: "RCPT TO:<srs0=aaaaaaaa=aa=elsewhere.example=victim@" + t.Domain + ">"},
		{Name: "a return address of a chain", Mail: "MAIL FROM:<>", Rcpt: "RCPT TO:<SRS1=aaaaaaaa=elsewhere.example==victim@" + t.Domain + ">"},
		{Name: "a return address not for a report", Rcpt: "RCPT TO:<SRS0=aaaaaaaa=aa=elsewhere.example=victim@" + t.Domain + ">"},
		{Name: "look-alike of our domain with SMTPUTF8", Mail: "MAIL FROM:<" + Stranger + "> SMTPUTF8", Rcpt: "RCPT TO:<victim@" + t.lookAlike() + ">"},
	}
}

// recipients are probes by the form of the address; each is its own name.
func (t Target) recipients() (list []Probe) {
	domain, literal := t.Domain, t.literal()
	local, _, _ := strings.Cut(t.Recipient, "@")
	for _, rcpt := range []string{
		"victim%elsewhere.example@" + domain, "victim%elsewhere.example@" + literal, "victim%elsewhere.example",
		`"victim@elsewhere.example"`, `"victim%elsewhere.example"`, "victim@elsewhere.example@" + domain,
		`"victim@elsewhere.example"@` + domain, `"victim%elsewhere.example"@` + domain,
		"@" + domain + ":victim@elsewhere.example", "@" + literal + ":victim@elsewhere.example",
		"@" + t.Host + ",@" + domain + ":victim@elsewhere.example",
		"elsewhere.example!victim", "elsewhere.example!victim@" + domain, "elsewhere.example!victim@" + literal,
		"victim@elsewhere.example.", "VICTIM@ELSEWHERE.EXAMPLE", "ViCtIm@eLsEwHeRe.ExAmPlE", "victim@" + t.lookAlike(),
		"victim@" + domain + ".elsewhere.example", "victim@elsewhere.example%" + domain, "victim@[192.0.2.1]", "victim@[IPv6:2001:db8::1]",
		"victim@192.0.2.1", "victim@localhost", `"victim\@elsewhere.example"@` + domain, t.Recipient + "@elsewhere.example",
		`"` + t.Recipient + `"@elsewhere.example`, local + "%" + domain + "@elsewhere.example", local + "+victim@elsewhere.example@" + domain,
		"victim@elsewhere.example\x00@" + domain, "*@elsewhere.example",
	} {
		list = append(list, Probe{Name: rcpt, Rcpt: "RCPT TO:<" + rcpt + ">"})
	}
	return list
}

// Allowed are the only probes of Example that may leave the domain when who sends them may relay, and for which recipient.
func Allowed() map[string]string {
	return map[string]string{
		"plain third party": Victim, "from the null reverse-path": Victim, "from our own domain": Victim, "after a valid recipient": Victim,
		"with HELO": Victim, "with our own name in HELO": Victim, "with our domain in EHLO": Victim, "with EHLO localhost": Victim,
		"with NOTIFY and ORCPT": Victim, "by chunks": Victim, "without brackets": Victim, "after a failed AUTH": Victim, "after an AUTH given up": Victim,
		"victim@elsewhere.example.":             Victim,
		"VICTIM@ELSEWHERE.EXAMPLE":              "VICTIM@elsewhere.example",
		"ViCtIm@eLsEwHeRe.ExAmPlE":              "ViCtIm@elsewhere.example",
		"@example.com:victim@elsewhere.example": Victim, "@[127.0.0.1]:victim@elsewhere.example": Victim,
		"@mail.example.com,@example.com:victim@elsewhere.example": Victim,
		"victim@example.com.elsewhere.example":                    "victim@example.com.elsewhere.example",
		"victim@192.0.2.1":                                        "victim@192.0.2.1",
		"victim@localhost":                                        "victim@localhost",
		"*@elsewhere.example":                                     "*@elsewhere.example",
	}
}

// Play sends a probe with from as its usual reverse-path and author. say sends octets and returns the reply. The greeting has been read. It
// returns the reply to the probe's RCPT, and the last one.
func (p Probe) Play(from string, say func(octets string) (reply string)) (rcpt, last string) {
	rcpt = p.Ask(from, say)
	if p.Data != "" {
		return rcpt, say(p.Data)
	}
	if last = say("DATA\r\n"); strings.HasPrefix(last, "354 ") {
		last = say("From: " + from + "\r\nSubject: probe\r\n\r\n.\r\n")
	}
	return rcpt, last
}

// Ask is Play up to the reply to RCPT: whatever that is, no message is sent.
func (p Probe) Ask(from string, say func(octets string) (reply string)) (rcpt string) {
	for line := range strings.SplitSeq(cmp.Or(p.Hello, "EHLO client.example"), "\r\n") {
		say(line + "\r\n")
	}
	for _, line := range append([]string{cmp.Or(p.Mail, "MAIL FROM:<"+from+">")}, p.Before...) {
		say(line + "\r\n")
	}
	return say(p.Command() + "\r\n")
}

// Command is the RCPT with which a probe names whom it wants to reach.
func (p Probe) Command() string { return cmp.Or(p.Rcpt, "RCPT TO:<"+Victim+">") }

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
