//go:build interop

package main

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"strings"
)

// popCommand is one line of a client.
type popCommand struct {
	verb string // in upper case, without what was done to it
	args string
	line []byte // as sent
	// response answers a continuation, with its line end.
	response []byte
}

// ending is how a client goes away.
type ending int

const (
	byQuit ending = iota
	byDrop
	// byHalfLine: QUIT without a line end, and the client's side closed.
	byHalfLine
)

// sequence is one connection.
type sequence struct {
	n         int
	commands  []popCommand
	ending    ending
	pipelined bool // all in one go, whatever is answered
	split     int  // octets in a write, 0 is all
}

func (s *sequence) how() string {
	how := "one by one"
	if s.pipelined {
		how = "pipelined"
	}
	if s.split > 0 {
		how += fmt.Sprintf(", %d octets a write", s.split)
	}
	return how
}

func (s *sequence) whole() []byte {
	var b []byte
	for i := range s.commands {
		b = append(b, s.commands[i].line...)
	}
	return b
}

// generator makes up one sequence.
type generator struct {
	*rand.Rand
	s *sequence
}

func mailboxName(n int) string { return fmt.Sprintf("u%04d", n) }

func newSequence(seed uint64, n int) *sequence {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, uint64(n))), s: &sequence{n: n}}
	switch g.IntN(20) {
	case 0:
		g.s.split = 1
	case 1, 2, 3, 4:
		g.s.split = 1 + g.IntN(40)
	}
	g.s.pipelined = g.IntN(2) == 0
	if g.authorization() {
		g.transaction()
	}
	switch {
	case g.IntN(3) > 0:
		g.add("QUIT", "")
	case g.IntN(3) > 0:
		g.s.ending = byDrop
		g.add("NOOP", "") // is the connection still there?
	default:
		g.s.ending = byHalfLine
		g.s.pipelined = false
	}
	return g.s
}

// add appends a command with the line end that the protocol asks for, or once in a while without CR.
func (g *generator) add(verb, args string) *popCommand {
	return g.addAs(verb, verb, args)
}

// addAs is add with the verb spelt differently.
func (g *generator) addAs(verb, spelt, args string) *popCommand {
	end := "\r\n"
	if g.IntN(40) == 0 {
		end = "\n"
	}
	g.s.commands = append(g.s.commands, popCommand{verb: verb, args: args, line: []byte(spelt + args + end)})
	return &g.s.commands[len(g.s.commands)-1]
}

func pick[T any](g *generator, of ...T) T { return of[g.IntN(len(of))] }

// spelling changes the case of a verb, sometimes.
func (g *generator) spelling(verb string) string {
	switch g.IntN(6) {
	case 0:
		return strings.ToLower(verb)
	case 1:
		return verb[:1] + strings.ToLower(verb[1:])
	}
	return verb
}

// authorization ends logged in if it returns true.
func (g *generator) authorization() bool {
	for range pick(g, 0, 0, 0, 1, 1, 2) {
		g.early()
	}
	switch g.IntN(20) {
	case 0: // only noise
		for range 1 + g.IntN(5) {
			g.early()
		}
		return false
	case 1:
		g.add("USER", " "+g.user())
		g.add("PASS", " "+pick(g, "wrong", "Open sesame", differentialPassword+" ", " "+differentialPassword, "", differentialPassword+"\x00"))
	case 2:
		g.add("PASS", " "+differentialPassword)
	case 3:
		g.auth()
		return true
	}
	g.addAs("USER", g.spelling("USER"), " "+g.user())
	if g.IntN(20) == 0 {
		g.early() // between USER and PASS
	}
	g.addAs("PASS", g.spelling("PASS"), " "+differentialPassword)
	return true
}

func (g *generator) user() string { return mailboxName(g.s.n) + "@" + differentialDomain }

func (g *generator) auth() {
	response := base64.StdEncoding.EncodeToString([]byte("\x00" + g.user() + "\x00" + differentialPassword))
	if g.IntN(2) == 0 {
		g.add("AUTH", " "+g.mechanism()+" "+response)
		return
	}
	g.s.pipelined = false
	g.add("AUTH", " "+g.mechanism()).response = []byte(pick(g, response, response, response, "*", "=", "!!!!") + "\r\n")
}

func (g *generator) mechanism() string { return pick(g, "PLAIN", "PLAIN", "plain", "Plain") }

// early is a command before login that is not meant to log in.
func (g *generator) early() {
	switch g.IntN(14) {
	case 0:
		g.addAs("CAPA", g.spelling("CAPA"), pick(g, "", "", "", " ", " x"))
	case 1:
		g.add("AUTH", pick(g, "", "", " ", " FOO", " NTLM"))
	case 2:
		g.add("NOOP", "")
	case 3:
		g.add(pick(g, "STAT", "LIST", "RETR", "DELE", "TOP", "UIDL", "RSET"), pick(g, "", " 1", " 1 1"))
	case 4:
		g.add("USER", pick(g, "", " ", "  ", " nobody", " "+g.user()))
	case 5:
		g.add("PASS", pick(g, "", " ", " x"))
	case 6:
		g.add("APOP", pick(g, "", " x", " "+g.user()+" 00112233445566778899aabbccddeeff", " "+g.user()+" zz"))
	case 7:
		g.add("STLS", pick(g, " x", " now please"))
	default:
		g.unknown()
	}
}

// unknown is a line that is no command in any state.
func (g *generator) unknown() {
	switch g.IntN(8) {
	case 0:
		g.add("", "")
	case 1:
		g.add("", pick(g, " ", "  ", "\t"))
	case 2:
		g.add("FOO", pick(g, "", " 1", " bar"))
	case 3:
		g.add("XTND", pick(g, " XLST subject", " XMIT", ""))
	case 4:
		g.add("LONG", " "+strings.Repeat("x", pick(g, 230, 300, 500, 506, 600, 1100, 5000, 9000)))
	case 5:
		g.add("FOO", "\x00")
	case 6:
		g.add("", "\x00\x01\xff\xfe")
	case 7:
		g.add("GET", " / HTTP/1.0")
	}
}

// transaction is what a client does with its mail.
func (g *generator) transaction() {
	noise := 12
	if g.IntN(40) == 0 {
		noise = 1 // until it is too much
	}
	for range pick(g, 2, 4, 6, 8, 12, 12, 16, 30) {
		if g.IntN(noise) == 0 {
			g.unknown()
			continue
		}
		g.late()
	}
}

func (g *generator) late() {
	verb := pick(g, "STAT", "STAT", "LIST", "LIST", "UIDL", "UIDL", "RETR", "RETR", "RETR", "TOP", "TOP", "TOP", "DELE", "DELE", "DELE",
		"RSET", "NOOP", "CAPA", "other")
	spelt := g.spelling(verb)
	switch verb {
	case "STAT", "RSET", "NOOP", "CAPA":
		g.addAs(verb, spelt, pick(g, "", "", "", "", " ", "  ", " 1", " x y", "\t"))
	case "LIST", "UIDL":
		g.addAs(verb, spelt, pick(g, "", "", "", " ", "  ", "\t", " "+g.number(), " "+g.number()))
	case "RETR", "DELE":
		g.addAs(verb, spelt, pick(g, " "+g.number(), " "+g.number(), " "+g.number(), " "+g.number(), " "+g.number(), "", " ",
			" "+g.number()+" 1", "  "+g.number(), "\t1"))
	case "TOP":
		lines := pick(g, "0", "0", "1", "2", "3", "10", "1000", "99999999", "2147483647",
			"2147483648", "4294967296", "99999999999", "-1", "x", "", "1 ", "01")
		g.addAs(verb, spelt, pick(g, " "+g.number()+" "+lines, " "+g.number()+" "+lines, " "+g.number()+" "+lines, " "+g.number(), "",
			" 1 1 1", " 1  2"))
	default:
		g.add(pick(g, "USER", "PASS", "AUTH", "APOP", "STLS"), pick(g, "", " x", " "+g.user()))
	}
}

// number is a message number, most of the time one that there is.
func (g *generator) number() string {
	if g.IntN(4) > 0 {
		return fmt.Sprint(1 + g.IntN(len(differentialMessages())))
	}
	return pick(g, "0", "-1", fmt.Sprint(len(differentialMessages())+1), "99", "2147483648", "4294967297",
		"99999999999", "18446744073709551617", "1 ", "1  ", "01", "0001",
		"+1", "1x", "x", "one", "0x1", "1.0", "1,2", "1-2", "1\t", "1\x00", "\x001", "\xd9\xa1")
}

// differentialMessages are the messages of every mailbox, with CRLF.
func differentialMessages() []string { return messagesOnce }

var messagesOnce = makeMessages()

func makeMessages() []string {
	header := func(subject string) string {
		return "From: anna@example.com\r\nTo: bert@example.com\r\nSubject: " + subject + "\r\n"
	}
	dice := rand.New(rand.NewPCG(differentialSeed, 0))
	var big strings.Builder
	for range 700 {
		big.WriteString(strings.Repeat(string(rune('a'+dice.IntN(26))), dice.IntN(140)))
		big.WriteString("\r\n")
	}
	return []string{
		header("plain") + "\r\nHello.\r\nSecond line.\r\n",
		header("dots") + "\r\n.\r\n..\r\n.x\r\n...y\r\n\r\n.\r\n",
		header("no body") + "\r\n",
		header("many lines") + "\r\n" + big.String(),
		header("long line") + "\r\n" + strings.Repeat("0123456789", 210) + "\r\nshort\r\n",
		header("eight bits, folded\r\n\tin the header") + "X-Empty:\r\n\r\n\r\n\r\ngr\xc3\xbc\xdfe \xa4\r\n\t\r\n \r\n\r\n",
	}
}
