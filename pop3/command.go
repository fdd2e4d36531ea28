package pop3

import (
	"bytes"
	"math"
)

// command handles one command: parse, check, do, reply. arg is what followed the keyword and its space; it is gone when the next line is read.
type command func(c *Conn, arg []byte) reply

// The commands by state (RFC 1939 §4, §5; RFC 1460 §5; RFC 2449 §5; RFC 2595 §4; RFC 5034 §4; RFC 6856 §2, §3).
var (
	authorizationCommands = map[string]command{
		"USER": cmdUser, "PASS": cmdPass, "APOP": cmdAPOP, "AUTH": cmdAuth, "STLS": cmdSTLS, "UTF8": cmdUTF8, "LANG": cmdLang, "CAPA": cmdCapa,
		"QUIT": cmdQuitEarly,
	}
	transactionCommands = map[string]command{
		"STAT": cmdStat, "LIST": cmdList, "RETR": cmdRetr, "DELE": cmdDele, "NOOP": cmdNoop, "RSET": cmdRset,
		"TOP": cmdTop, "UIDL": cmdUidl, "LAST": cmdLast, "LANG": cmdLang, "CAPA": cmdCapa, "QUIT": cmdQuit,
	}
	commandNames = names(authorizationCommands, transactionCommands)
)

func names(tables ...map[string]command) map[string]bool {
	all := map[string]bool{}
	for _, t := range tables {
		for name := range t {
			all[name] = true
		}
	}
	return all
}

var space = []byte(" ")

// splitCommand takes a line apart at the first space: the keyword, put in upper case where it is, and all that follows. Spaces are part of a
// password, so nothing more is done here.
func splitCommand(line []byte) (name, arg []byte) {
	name, arg, _ = bytes.Cut(line, space)
	for i, c := range name {
		if c >= 'a' && c <= 'z' {
			name[i] = c - 'a' + 'A'
		}
	}
	return name, arg
}

// maxArguments is the most that a command has.
const maxArguments = 2

// arguments are the n words behind a keyword; at has those that a command may have.
type arguments struct {
	n  int
	at [maxArguments][]byte
}

// words splits arguments that are not passwords or names. Blanks at the end and between are tolerated: curl and others send "LIST ".
func words(arg []byte) arguments {
	var a arguments
	for {
		for len(arg) > 0 && isBlank(arg[0]) {
			arg = arg[1:]
		}
		if len(arg) == 0 {
			return a
		}
		end := 0
		for end < len(arg) && !isBlank(arg[end]) {
			end++
		}
		if a.n < maxArguments {
			a.at[a.n] = arg[:end]
		}
		a.n++
		arg = arg[end:]
	}
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' }

// isEmpty reports whether there is no argument.
func isEmpty(arg []byte) bool {
	for _, c := range arg {
		if !isBlank(c) {
			return false
		}
	}
	return true
}

// number reads a message number or a count: decimal digits only. No number is too large to be one (a TOP of more lines than there are is the
// whole message, RFC 1939 §7), so what no int holds is the largest int.
func number(s []byte) (int, bool) {
	n := 0
	for _, c := range s {
		if c < '0' || c > '9' {
			return 0, false
		}
		digit := int(c - '0')
		if n > (math.MaxInt-digit)/10 {
			n = math.MaxInt
			continue
		}
		n = 10*n + digit
	}
	return n, len(s) > 0
}
