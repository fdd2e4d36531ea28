package pop3

import (
	"strconv"
	"strings"
)

// command handles one command: parse, check, do, reply.
type command func(c *Conn, arg string) reply

// The commands by state (RFC 1939 §4, §5; RFC 2449 §5; RFC 2595 §4; RFC 5034 §4).
var (
	authorizationCommands = map[string]command{
		"USER": cmdUser, "PASS": cmdPass, "APOP": cmdAPOP, "AUTH": cmdAuth, "STLS": cmdSTLS, "CAPA": cmdCapa, "QUIT": cmdQuitEarly,
	}
	transactionCommands = map[string]command{
		"STAT": cmdStat, "LIST": cmdList, "RETR": cmdRetr, "DELE": cmdDele, "NOOP": cmdNoop, "RSET": cmdRset,
		"TOP": cmdTop, "UIDL": cmdUidl, "CAPA": cmdCapa, "QUIT": cmdQuit,
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

// splitCommand takes a line apart at the first space: the keyword in upper case, and all that follows. Spaces are part of a password,
// so nothing more is done here.
func splitCommand(line string) (name, arg string) {
	name, arg, _ = strings.Cut(line, " ")
	return strings.ToUpper(name), arg
}

// fields splits arguments that are not passwords or names. Blanks at the end and between are tolerated: curl and others send "LIST ".
func fields(arg string) []string { return strings.Fields(arg) }

// number reads a message number or a count: decimal digits only.
func number(s string) (int, bool) {
	if s == "" || len(s) > 10 || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.Atoi(s)
	return n, err == nil
}
