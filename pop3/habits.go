package pop3

// MaxCommands is how many commands of a connection Conn.Commands tells.
const MaxCommands = 16

// maxTold is how many arguments of a command Conn.Commands tells apart.
const maxTold = 2

// toldArguments are the commands that are said with and without arguments, so that whether there is one is a habit; AUTH may have two.
var toldArguments = map[string]bool{"AUTH": true, "LIST": true, "UIDL": true, "LANG": true}

// habitOf numbers the commands: a habit is one of these and, in the bits above habitBits, how many arguments it had.
var (
	habitNames = []string{
		"?", "USER", "PASS", "APOP", "AUTH", "STLS", "UTF8", "LANG", "CAPA", "QUIT", "STAT", "LIST", "RETR", "DELE", "NOOP", "RSET", "TOP", "UIDL", "LAST",
		"XTND",
	}
	habitOf = numbered(habitNames)
)

// habitBits are those of a command's number.
const habitBits = 5

func numbered(names []string) map[string]uint8 {
	numbers := make(map[string]uint8, len(names))
	for i, name := range names {
		numbers[name] = uint8(i)
	}
	return numbers
}

// habits are the first commands of a connection. What a client said beside the keywords of POP3 is not among it: neither arguments, nor words that
// are no command, which may be a password in the wrong place.
type habits struct {
	said [MaxCommands]uint8
	n    uint8
}

// note adds a command, as splitCommand left it.
func (h *habits) note(name, arg []byte) {
	if int(h.n) == len(h.said) {
		return
	}
	number := habitOf[string(name)]
	if toldArguments[string(name)] {
		number |= uint8(min(words(arg).n, maxTold)) << habitBits //nolint:gosec // it is at most maxTold
	}
	h.said[h.n] = number
	h.n++
}

// Commands returns what the client has said so far, at most MaxCommands keywords in upper case, from which programs can be told apart. An asterisk
// stands for each of at most two arguments of AUTH, LIST, UIDL and LANG, which are said without too; other arguments are not told, and what is no
// command is "?". Only what the server calls may call it: a Backend, its Session and its Maildrop.
func (c *Conn) Commands() []string {
	list := make([]string, c.habits.n)
	for i, said := range c.habits.said[:c.habits.n] {
		list[i] = habitNames[said&(1<<habitBits-1)]
		for range said >> habitBits {
			list[i] += " *"
		}
	}
	return list
}
