//go:build interop

package main

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// differentialRule explains differences. The first one that covers a difference counts.
type differentialRule struct {
	name  string
	peers []string
	// client, ours and theirs say what happens, why cites what Latchkey follows.
	client, ours, theirs, why string
	match                     func(d *difference) bool
}

func (r *differentialRule) covers(d *difference) bool {
	return slices.Contains(r.peers, d.peer) && r.match(d)
}

// rule returns what explains a difference, or nil.
func (d *difference) rule() *differentialRule {
	for i := range differentialRules {
		if differentialRules[i].covers(d) {
			return &differentialRules[i]
		}
	}
	return nil
}

const (
	dovecot   = "Dovecot"
	mailutils = "Mailutils"
)

// weRefuse and theyRefuse: one of the two says -ERR and the other +OK.
func (d *difference) weRefuse() bool {
	return d.ours.class == negative && d.theirs.class == positive
}

func (d *difference) theyRefuse() bool {
	return d.ours.class == positive && d.theirs.class == negative
}

func (d *difference) verb(of ...string) bool { return slices.Contains(of, d.command.verb) }

// blanks reports whether there are more blanks among the arguments than the one space before each (RFC 1939 §3).
func (d *difference) blanks() bool {
	return d.command.args != "" && d.command.args != " "+strings.Join(strings.Fields(d.command.args), " ")
}

// tab reports whether a tab comes right after the verb.
func (d *difference) tab() bool { return strings.HasPrefix(d.command.args, "\t") }

// count is the number of arguments.
func (d *difference) count() int { return len(strings.Fields(d.command.args)) }

// wide is the number of octets in the longest line up to this one.
func (d *difference) wide() int {
	longest := len(d.command.line)
	for i := range d.before {
		longest = max(longest, len(d.before[i].line))
	}
	return longest
}

// nul reports whether there is a NUL octet up to this line.
func (d *difference) nul() bool {
	return strings.Contains(d.command.args, "\x00") ||
		slices.ContainsFunc(d.before, func(c popCommand) bool { return bytes.IndexByte(c.line, 0) >= 0 })
}

func (d *difference) after(verb string) bool {
	return slices.ContainsFunc(d.before, func(c popCommand) bool { return c.verb == verb })
}

func digits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// oddNumber reports whether an argument is no plain number.
func (d *difference) oddNumber() bool {
	return slices.ContainsFunc(strings.Fields(d.command.args), func(s string) bool { return !digits(s) })
}

var differentialRules = []differentialRule{
	{
		name: "a line of thousands of octets", peers: []string{dovecot},
		client: "a line of more than 1,000 octets", ours: "-ERR, once, however long, and goes on", theirs: "closes, or takes the end of it for a command",
		why:   "RFC 2449 §4: a command has 255 octets at most; no part of a longer line may be taken for a command",
		match: func(d *difference) bool { return d.wide() > 1000 },
	},
	{
		name: "a long line", peers: []string{mailutils},
		client: "a line of more than 255 octets", ours: "-ERR, once", theirs: "loses step: echoes it, or takes pieces of it for commands",
		why:   "RFC 2449 §4; RFC 1939 §3: one reply for each command, which begins with +OK or -ERR",
		match: func(d *difference) bool { return d.wide() > 255 },
	},
	{
		name: "bad commands, ours", peers: []string{dovecot, mailutils},
		client: "three bad commands before login, twenty after", ours: "closes after the reply to the last one",
		theirs: "goes on (Dovecot for one or two more)",
		why:    "a bound of our own; RFC 1939 §3 leaves it open",
		match: func(d *difference) bool {
			return d.ours.class == noReply && (!d.loggedIn && d.bad >= 3 || d.bad >= 20)
		},
	},
	{
		name: "QUIT without a line end", peers: []string{mailutils},
		client: "`QUIT` and the end of the connection", ours: "a lost connection: nothing is deleted", theirs: "answers, and deletes",
		why:   "RFC 1939 §3: a command ends with CRLF; §6: without QUIT nothing is deleted",
		match: func(d *difference) bool { return d.verb("END", "LEFT") && d.sequence.ending == byHalfLine },
	},
	{
		name: "NUL octets", peers: []string{dovecot, mailutils},
		client: "`DELE 1` and a NUL octet; the same in a password", ours: "-ERR", theirs: "takes what is before the octet",
		why:   "RFC 1939 §3: keywords and arguments are printable ASCII; §7: the whole argument is the password",
		match: func(d *difference) bool { return bytes.IndexByte(d.command.line, 0) >= 0 && d.weRefuse() },
	},
	{
		name: "after a NUL octet", peers: []string{mailutils},
		client: "anything after a line with a NUL octet", ours: "goes on", theirs: "loses step",
		why:   "RFC 1939 §3: one reply for each command",
		match: func(d *difference) bool { return d.nul() },
	},
	{
		name: "arguments that are not asked for", peers: []string{dovecot},
		client: "`STAT 1`, `NOOP 1`, `RSET 1`, `CAPA x`", ours: "-ERR", theirs: "+OK",
		why: "RFC 1939 §5, RFC 2449 §5: \"Arguments: none\"",
		match: func(d *difference) bool {
			return d.verb("STAT", "NOOP", "RSET", "CAPA", "QUIT") && d.count() > 0 && d.weRefuse()
		},
	},
	{
		name: "blanks after a message number", peers: []string{dovecot, mailutils},
		client: "`DELE 1 `, with blanks at the end, between, or a tab", ours: "as without", theirs: "-ERR",
		why:   "RFC 1939 §3 has one space; curl and others send more, and nothing else can be meant",
		match: func(d *difference) bool { return d.blanks() && d.theyRefuse() },
	},
	{
		name: "a tab for the space", peers: []string{mailutils},
		client: "`RETR` tab `1`", ours: "-ERR", theirs: "as a space",
		why:   "RFC 1939 §3: a keyword is separated by a single space",
		match: func(d *difference) bool { return d.tab() && d.weRefuse() },
	},
	{
		name: "USER without a name", peers: []string{dovecot},
		client: "`USER`, `USER `", ours: "-ERR", theirs: "+OK",
		why:   "RFC 1939 §7: the name is required",
		match: func(d *difference) bool { return d.verb("USER") && d.count() == 0 && d.weRefuse() },
	},
	{
		name: "a password with a blank at its end", peers: []string{mailutils},
		client: "the password and one blank more", ours: "-ERR", theirs: "+OK",
		why: "RFC 1939 §7: blanks may be part of a password, so they are",
		match: func(d *difference) bool {
			return d.verb("PASS") && strings.HasSuffix(d.command.args, " ") && d.weRefuse()
		},
	},
	{
		name: "PASS not right after USER", peers: []string{dovecot},
		client: "`USER`, a refused `PASS` or `AUTH`, then `PASS`", ours: "-ERR", theirs: "the name is remembered",
		why:   "RFC 1939 §7: PASS comes immediately after a successful USER",
		match: func(d *difference) bool { return d.verb("PASS") && !d.loggedIn && d.weRefuse() && d.after("USER") },
	},
	{
		name: "anything but PASS after USER", peers: []string{mailutils},
		client: "`USER` twice, or another command between `USER` and `PASS`", ours: "answers it, and takes the PASS",
		theirs: "-ERR to whatever it is, and to the PASS",
		why:    "RFC 1939 §4: every command of the state may be given in it; clients ask for CAPA in between",
		match:  func(d *difference) bool { return !d.loggedIn && d.theyRefuse() && d.after("USER") && !d.verb("AUTH") },
	},
	{
		name: "AUTH", peers: []string{mailutils},
		client: "`AUTH`, `AUTH PLAIN`", ours: "lists its mechanisms, logs in", theirs: "-ERR",
		why:   "RFC 5034 §4; the bare AUTH is what Outlook and Netscape ask",
		match: func(d *difference) bool { return d.verb("AUTH") && d.theyRefuse() },
	},
	{
		name: "numbers with something else", peers: []string{mailutils},
		client: "`RETR 1x`, `LIST +1`, `DELE 1,2`, `TOP 1 -1`", ours: "-ERR", theirs: "takes the digits",
		why: "RFC 1939 §5: a message number is a decimal number; DELE of a number that nobody meant loses mail",
		match: func(d *difference) bool {
			return d.verb("LIST", "UIDL", "RETR", "DELE", "TOP") && d.oddNumber() && d.weRefuse()
		},
	},
	{
		name: "a message that is marked already", peers: []string{mailutils},
		client: "`DELE 1` twice", ours: "-ERR", theirs: "+OK",
		why:   "RFC 1939 §5: any later reference to the message is an error",
		match: func(d *difference) bool { return d.verb("DELE") && d.weRefuse() && d.after("DELE") },
	},
	{
		name: "sizes", peers: []string{mailutils},
		client: "`STAT`, `LIST`", ours: "the octets that RETR sends", theirs: "others, and others again after RETR, which adds an X-UIDL field",
		why: "RFC 1939 §11: the size is that of the message as it is sent",
		match: func(d *difference) bool {
			return d.verb("STAT", "LIST") && d.ours.class == positive && d.theirs.class == positive && sameNumbers(d.ours.shape, d.theirs.shape)
		},
	},
	{
		name: "TOP", peers: []string{mailutils},
		client: "`TOP 1 2`", ours: "the header, the empty line, two lines", theirs: "the empty line twice, or not so many lines",
		why: "RFC 1939 §7: the blank line, and the number of lines",
		match: func(d *difference) bool {
			return d.verb("TOP") && d.ours.class == positive && d.theirs.class == positive
		},
	},
	{
		name: "header fields rewritten", peers: []string{mailutils},
		client: "`RETR` of a message with an empty field", ours: "the octets that came in", theirs: "a space more behind the colon",
		why: "RFC 1939 §5: the message as it is",
		match: func(d *difference) bool {
			return d.verb("RETR") && strings.ReplaceAll(d.theirs.shape, "X-Empty: \r\n", "X-Empty:\r\n") == d.ours.shape
		},
	},
}

// sameNumbers compares listings without their sizes.
func sameNumbers(a, b string) bool {
	numbers := func(shape string) string {
		var b strings.Builder
		for line := range strings.Lines(shape) {
			fields := strings.Fields(line)
			if strings.HasPrefix(line, "+OK ") || strings.HasPrefix(line, "one ") {
				fields = fields[:2]
			} else if len(fields) > 1 {
				fields = fields[:1]
			}
			fmt.Fprintln(&b, fields)
		}
		return b.String()
	}
	return numbers(a) == numbers(b)
}

// differencesDocument is docs/pop3-differences.md.
func differencesDocument() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, `# POP3: where Latchkey and others differ

`+"`TestInteropDifferential`"+` sends %d generated connections, valid and broken, whole and octet by octet, to Latchkey, to Dovecot's pop3d and to
GNU Mailutils' pop3d, all with the same messages. It compares how each reply begins, the lines of LIST and UIDL, every octet of RETR and TOP,
when the connection ends, and which messages are left. What differs is here, each line met at least once in every run; anything else fails the
test, which writes this page (`+"`-update`"+`). Of unique-ids only the form is compared, of CAPA and of texts nothing.

| | the client sends | Latchkey | the other | who | why |
|---|---|---|---|---|---|
`, differentialSequences)
	for i := range differentialRules {
		r := &differentialRules[i]
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", r.name, r.client, r.ours, r.theirs, strings.Join(r.peers, ", "), r.why)
	}
	return b.Bytes()
}
