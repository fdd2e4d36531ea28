package maildrop

import (
	"slices"
	"strings"
)

// program is one whose habits are known: how its sessions begin, in the words of [pop3.Conn.Commands], up to where no other known program goes on
// in the same way. STLS and what was said before it do not count.
type program struct {
	name   string
	begins string
}

// programs are those whose dialogues were recorded or are documented, see testdata/clients. None begins as another does.
var programs = []program{
	{"Apple Mail", "CAPA, AUTH * *, UIDL, LIST"},
	{"curl", "CAPA, AUTH *, RETR"},
	{"Eudora", "USER, PASS, STAT, UIDL, LIST *, TOP, RETR"},
	{"fetchmail", "USER, PASS, STAT, LIST *, RETR, DELE"},
	{"fetchmail, keeping mail", "USER, PASS, STAT, UIDL, LIST *, TOP, LIST *, TOP"},
	{"getmail", "USER, PASS, UIDL, LIST, UIDL, LIST"},
	{"JavaMail", "CAPA, USER, PASS, STAT, NOOP"},
	{"K-9 Mail", "AUTH, AUTH *, AUTH * *, STAT, UIDL *"},
	{"MailKit", "CAPA, AUTH * *, CAPA, STAT, UIDL"},
	{"mpop", "CAPA, USER, PASS, STAT, LIST, UIDL"},
	{"Mutt", "CAPA, USER, PASS, CAPA, STAT, UIDL"},
	{"Netscape or Mozilla", "AUTH, CAPA, AUTH *, STAT, XTND"},
	{"Outlook", "AUTH, USER, PASS, STAT, UIDL, LIST"},
	{"Outlook, asking for SPA", "AUTH, AUTH *, USER, PASS, STAT, UIDL, LIST"},
	{"Outlook Express", "USER, PASS, STAT, LIST, RETR, DELE"},
	{"Pegasus Mail", "USER, PASS, STAT, LIST *, TOP, LIST *, TOP"},
	{"Python's poplib", "USER, PASS, STAT, UIDL, RETR, DELE, RETR, DELE"},
	{"Ruby's net/pop", "USER, PASS, STAT, LIST, UIDL, RETR, DELE"},
	{"s-nail", "USER, PASS, STAT, LIST *, LIST *, TOP, TOP"},
	{"Thunderbird", "CAPA, AUTH *, STAT, LIST, UIDL"},
	{"only logs in, like a device", "USER, PASS, QUIT"},
}

// mayBegin reports whether sessions of the program may begin as text says.
func (p *program) mayBegin(text string) bool { return beginsWith(p.begins, text) }

// beginsWith reports whether a list of commands begins with another.
func beginsWith(list, beginning string) bool {
	return strings.HasPrefix(list+", ", beginning+", ")
}

// programOf returns the program that a session's commands are like, nil if they are like no known one, and the habit that they show without mail:
// what was said before the first command about one message. That is the same however much mail there was.
func programOf(commands []string) (*program, string) {
	if i := lastIndex(commands, "STLS"); i >= 0 {
		commands = commands[i+1:]
	}
	all := strings.Join(commands, ", ")
	var is *program
	if i := slices.IndexFunc(programs, func(p program) bool { return beginsWith(all, p.begins) }); i >= 0 {
		is = &programs[i]
	}
	if i := slices.IndexFunc(commands, isAboutOne); i >= 0 {
		commands = commands[:i]
	}
	return is, strings.Join(commands, ", ")
}

// isAboutOne reports whether a command is about one message, or ends a session: with it ends what is the same every time.
func isAboutOne(command string) bool {
	switch command {
	case "LIST *", "UIDL *", "RETR", "TOP", "DELE", "NOOP", "RSET", "QUIT":
		return true
	}
	return false
}

func lastIndex(list []string, text string) int {
	for i := len(list) - 1; i >= 0; i-- {
		if list[i] == text {
			return i
		}
	}
	return -1
}
