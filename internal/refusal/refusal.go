package refusal

import (
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"strings"
	"time"

	"latchkey/internal/mailaddr"
)

// Bounds of what is said to a client, in octets.
const (
	// MaxText bounds a text with the longest facts in it, without the help URL: a mail program that shows little shows this much, and the
	// cure is in it.
	MaxText = 200
	// MaxReply bounds a text with its help URL: with code and line end the line stays below 512 (RFC 5321 §4.5.3.1.5, RFC 2449 §4).
	MaxReply = 480
	// maxMailbox is the longest address that is repeated in a text.
	maxMailbox = 60
)

// Name names a refusal. Names never change and are never used again for something else.
type Name string

// Refusal is one row of the table.
type Refusal struct {
	Name Name
	// SMTP is what SMTP says; its Code is 0 where only POP3 refuses so. POP3 is what POP3 says; its Text is empty where only SMTP does.
	SMTP SMTP
	POP3 POP3
	// Cause is one sentence for whoever looks into it, Cure one for whoever it hit.
	Cause, Cure string
}

// SMTP is a reply of SMTP.
type SMTP struct {
	// Code has the first digit 4 or 5, and Status (RFC 3463) the same.
	Code   int
	Status [3]int
	// Text may have placeholders: see [Facts].
	Text string
}

// POP3 is a negative reply of POP3.
type POP3 struct {
	// Code is the response code (RFC 2449 §8) without brackets, empty for none.
	Code string
	Text string
	// Close ends the connection after the reply.
	Close bool
}

// codeLetters are those of a code: none that is taken for another one.
const codeLetters = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// Code is the short form of a name that stands at the end of what a client is told, such as L-7QK: people read it out, and latchkey explain
// takes it. It is made of the name, so it never changes either.
func (n Name) Code() string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(n)) // never fails
	sum := h.Sum32()
	sum ^= sum >> 15
	return string([]byte{'L', '-', codeLetters[sum>>10&31], codeLetters[sum>>5&31], codeLetters[sum&31]})
}

// mark is what stands behind a text.
func (n Name) mark() string { return " (" + n.Code() + ")" }

// SMTPText is what SMTP says, with its facts and its code.
func (r Refusal) SMTPText(f Facts) string { return Fill(r.SMTP.Text, f) + r.Name.mark() }

// POP3Text is what POP3 says behind the response code, with its code; "" if POP3 does not refuse so.
func (r Refusal) POP3Text() string {
	if r.POP3.Text == "" {
		return ""
	}
	return r.POP3.Text + r.Name.mark()
}

// Unmarked takes the code off a text; mark is what was taken, "" for none.
func Unmarked(text string) (plain, mark string) {
	const length = len(" (L-000)")
	if i := len(text) - length; i > 0 && strings.HasPrefix(text[i:], " (L-") && strings.HasSuffix(text, ")") {
		return text[:i], text[i:]
	}
	return text, ""
}

// POP3Line is the reply as it stands on the wire, without its line end.
func (r Refusal) POP3Line() string {
	if r.POP3.Code == "" {
		return "-ERR " + r.POP3Text()
	}
	return "-ERR [" + r.POP3.Code + "] " + r.POP3Text()
}

// Replies are what SMTP and POP3 say, with the placeholders of the facts; "" for one that does not refuse so.
func (r Refusal) Replies() (smtp, pop3 string) {
	if s := r.SMTP.Status; r.SMTP.Code != 0 {
		smtp = fmt.Sprintf("%d %d.%d.%d %s", r.SMTP.Code, s[0], s[1], s[2], r.SMTP.Text+r.Name.mark())
	}
	if r.POP3.Text != "" {
		pop3 = r.POP3Line()
	}
	return smtp, pop3
}

// Find finds a row by its name or its code, as somebody typed it.
func Find(text string) (r Refusal, ok bool) {
	text = strings.Trim(strings.TrimSpace(text), "()[].")
	for i := range rows {
		if strings.EqualFold(string(rows[i].Name), text) || strings.EqualFold(rows[i].Name.Code(), text) {
			return rows[i], true
		}
	}
	return Refusal{}, false
}

// Facts fill the placeholders of a text. They are facts of ours, or what the client knows of itself; never other text of a client.
type Facts struct {
	// Remote is {remote}, the client's address. {here} is its family, IPv4 or IPv6, and {there} the other one.
	Remote netip.Addr
	// Mailbox is {mailbox}: the address of our own domain that the client gave. What is long, quoted or not ASCII is not repeated.
	Mailbox mailaddr.Address
	// Wait is {wait}, how long until it may be tried again, in whole minutes or hours, rounded up.
	Wait time.Duration
	// Help is a URL that {help} puts behind the text, if it is set.
	Help string
}

// Fill puts the facts into a text. What comes out is one line of printable ASCII of at most MaxReply octets.
func Fill(text string, f Facts) string {
	if !strings.Contains(text, "{") {
		return Clean(text)
	}
	here, there := "IPv4", "IPv6"
	if f.Remote.Is6() {
		here, there = there, here
	}
	help := ""
	if f.Help != "" {
		help = " - see " + f.Help
	}
	remote := "this address"
	if f.Remote.IsValid() {
		remote = f.Remote.WithZone("").String()
	}
	return Clean(strings.NewReplacer(
		"{remote}", remote, "{here}", here, "{there}", there, "{mailbox}", mailbox(f.Mailbox), "{wait}", wait(f.Wait), "{help}", help,
	).Replace(text))
}

// Clean makes one line of printable ASCII of a text, at most MaxReply octets of it.
func Clean(text string) string {
	clean := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, text)
	return clean[:min(len(clean), MaxReply)]
}

// mailbox writes an address, or words for one that could not be read in a reply.
func mailbox(a mailaddr.Address) string {
	s := a.String()
	if a.IsZero() || len(s) > maxMailbox || !a.IsASCII() || strings.ContainsAny(s, "\" \\") {
		return "your mailbox"
	}
	return s
}

// wait writes a time in the unit that people use for it.
func wait(d time.Duration) string {
	unit, name := time.Minute, "minute"
	if d > 90*time.Minute {
		unit, name = time.Hour, "hour"
	}
	n := max((d+unit-1)/unit, 1)
	if n > 1 {
		name += "s"
	}
	return fmt.Sprintf("%d %s", n, name)
}

// All returns the table, in the order of the document.
func All() []Refusal { return slices.Clone(rows[:]) }

// Of returns a row. A name that is not in the table yields the row of TemporaryFailure: whatever it was about, nothing was done.
func Of(name Name) Refusal {
	r, ok := Lookup(name)
	if !ok {
		r, _ = Lookup(TemporaryFailure)
	}
	return r
}

// Lookup finds a row by a name that somebody typed.
func Lookup(name Name) (r Refusal, ok bool) {
	// By index: to range over the array's values would copy all of it to the stack of every connection.
	for i := range rows {
		if rows[i].Name == name {
			return rows[i], true
		}
	}
	return Refusal{}, false
}
