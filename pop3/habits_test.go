package pop3

import (
	"slices"
	"strings"
	"testing"
)

// said are the lines of a client, and what is told of them.
var said = []struct{ line, told string }{
	{"CAPA", "CAPA"},
	{"capa ", "CAPA"},
	{"AUTH", "AUTH"},
	{"AUTH PLAIN", "AUTH *"},
	{"AUTH PLAIN AGFsaWNlAHNlY3JldA==", "AUTH * *"},
	{"AUTH PLAIN secret of alice", "AUTH * *"},
	{"USER alice", "USER"},
	{"PASS open sesame", "PASS"},
	{"open sesame", "?"},
	{"", "?"},
	{"APOP alice 00112233445566778899aabbccddeeff", "APOP"},
	{"LIST", "LIST"},
	{"LIST 1", "LIST *"},
	{"UIDL 7 ", "UIDL *"},
	{"LANG en", "LANG *"},
	{"TOP 1 0", "TOP"},
	{"XTND XLST Message-Id", "XTND"},
	{"QUIT", "QUIT"},
}

// TestHabits: keywords, and how many arguments there are where that tells programs apart; never what they are.
func TestHabits(t *testing.T) {
	for _, tt := range said {
		c, _ := loggedIn(newSteadyDrop(false), tt.line)
		if got := c.Commands(); len(got) != 0 {
			t.Errorf("%q: %q before a command", tt.line, got)
		}
		_ = c.step() // whatever it answers
		if got := c.Commands(); !slices.Equal(got, []string{tt.told}) {
			t.Errorf("%q: %q, want %q", tt.line, got, tt.told)
		}
	}
}

// TestHabitsNameEveryCommand: a command that is new has its place.
func TestHabitsNameEveryCommand(t *testing.T) {
	for name := range commandNames {
		if !slices.Contains(habitNames, name) {
			t.Errorf("%s is told as ?", name)
		}
	}
	if len(habitNames) > 1<<habitBits {
		t.Errorf("%d names do not fit in %d bits", len(habitNames), habitBits)
	}
}

// TestHabitsAreBounded: the first MaxCommands are told, and the first of all is kept; none costs an allocation.
func TestHabitsAreBounded(t *testing.T) {
	var h habits
	c := &Conn{}
	list := []byte("7")
	for n := 1; n <= MaxCommands+1; n++ {
		name := []byte("NOOP")
		if n == MaxCommands {
			name = []byte("LIST")
		}
		c.habits.note(name, list)
		if got := len(c.Commands()); got != min(n, MaxCommands) {
			t.Errorf("%d of %d commands are told", got, n)
		}
	}
	if got := strings.Join(c.Commands(), " "); got != strings.Repeat("NOOP ", MaxCommands-1)+"LIST *" {
		t.Errorf("told: %s", got)
	}
	auth, arg := []byte("AUTH"), []byte("PLAIN initial")
	if got := testing.AllocsPerRun(100, func() { h = habits{}; h.note(auth, arg) }); got != 0 {
		t.Errorf("%v allocations", got)
	}
}
