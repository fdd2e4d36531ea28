package dialog

import (
	"io"
	"net"
	"strings"
	"testing"
)

// against plays a transcript against a server that says what it says whatever it hears.
func against(p Player, script, server string) (heard string, err error) {
	ours, theirs := net.Pipe()
	done := make(chan string)
	go func() {
		heard := make(chan string)
		go func() {
			b, _ := io.ReadAll(theirs)
			heard <- string(b)
		}()
		_, _ = io.WriteString(theirs, server)
		if !strings.Contains(script, "C") {
			_ = theirs.Close()
		}
		done <- <-heard
	}()
	err = p.play(ours, script)
	_ = ours.Close()
	return <-done, err
}

func TestForms(t *testing.T) {
	tests := []struct {
		name, script, server string
		protocol             Protocol
		wrong                bool
	}{
		{"ok", "S: +OK ready", "+OK ready\r\n", POP3, false},
		{"wildcard", "S: +OK {*} octets", "+OK 12 octets\r\n", POP3, false},
		{"two wildcards", "S: +OK {*} a {*} b", "+OK 1 a 2 b\r\n", POP3, false},
		{"wildcard does not match", "S: +OK {*} octets", "+OK 12\r\n", POP3, true},
		{"other text", "S: +OK ready", "+OK redy\r\n", POP3, true},
		{"plus ERR", "S: {*}", "+ERR no\r\n", POP3, true},
		{"plus ERR spelt out", "S: +ERR no", "+ERR no\r\n", POP3, true},
		{"no word after status", "S: {*}", "+OKready\r\n", POP3, true},
		{"bare LF", "S: +OK ready", "+OK ready\n", POP3, true},
		{"unknown response code", "S: -ERR [OOPS] no", "-ERR [OOPS] no\r\n", POP3, true},
		{"UTF-8 where it is expected", "S: +OK größer", "+OK größer\r\n", POP3, false},
		{"UTF-8 where it is not", "S: {*}", "+OK größer\r\n", POP3, true},
		{"broken UTF-8 where UTF-8 is expected", "S: +OK ö{*}", "+OK ö\xff\r\n", POP3, true},
		{"known response code", "S: -ERR [SYS/TEMP] no", "-ERR [SYS/TEMP] no\r\n", POP3, false},
		{"response code without an end", "S: {*}", "-ERR [AUTH no\r\n", POP3, true},
		{"response code without a blank", "S: {*}", "-ERR [AUTH]no\r\n", POP3, true},
		{"response code alone", "S: {*}", "-ERR [AUTH]\r\n", POP3, false},
		{"two blanks", "S: {*}", "-ERR  no\r\n", POP3, true},
		{"lower case", "S: {*}", "-err no\r\n", POP3, true},
		{"status alone", "S: -ERR", "-ERR\r\n", POP3, false},
		{"response code on +OK", "S: +OK [AUTH] yes", "+OK [AUTH] yes\r\n", POP3, true},
		{"control character", "S: {*}", "+OK a\tb\r\n", POP3, true},
		{"longest line", "S: {*}", "+OK " + strings.Repeat("a", 506) + "\r\n", POP3, false},
		{"line too long", "S: {*}", "+OK " + strings.Repeat("a", 507) + "\r\n", POP3, true},
		{"multi-line", "S: +OK list\nS: 1 10\nS: .", "+OK list\r\n1 10\r\n.\r\n", POP3, false},
		{"reply after multi-line", "S: +OK list\nS: 1 10\nS: .\nS: {*}", "+OK list\r\n1 10\r\n.\r\n+ERR\r\n", POP3, true},
		{"stuffed", "S: +OK list\nS: ..a\nS: .", "+OK list\r\n..a\r\n.\r\n", POP3, false},
		{"not stuffed", "S: +OK list\nS: .a\nS: .", "+OK list\r\n.a\r\n.\r\n", POP3, true},
		{"multi-line after -ERR", "S: -ERR no\nS: 1 10", "-ERR no\r\n1 10\r\n", POP3, true},
		{"multi-line out of nothing", "S: 1 10", "1 10\r\n", POP3, true},
		{"line of a message like a status", "S: +OK list\nS: a\nS: +ERR\nS: .", "+OK list\r\na\r\n+ERR\r\n.\r\n", POP3, false},
		{"continuation of no base64", "S: {*}", "+ VXN\r\n", POP3, true},
		{"empty continuation", "S: + ", "+ \r\n", POP3, false},
		{"continuation without a blank", "S: +", "+\r\n", POP3, true},
		{"continuation", "S: + VXNlcm5hbWU6", "+ VXNlcm5hbWU6\r\n", POP3, false},
		{"continuation as +OK base64", "S: + {*}", "+OK VXNl\r\n", POP3, true},
		{"closed", "S: EOF", "", POP3, false},
		{"not closed", "S: EOF", "+OK\r\n", POP3, true},
		{"smtp", "S: 250 2.0.0 ok", "250 2.0.0 ok\r\n", SMTP, false},
		{"smtp multi-line", "S: 250-a\nS: 250 b", "250-a\r\n250 b\r\n", SMTP, false},
		{"smtp codes change", "S: {*}\nS: {*}", "250-a\r\n251 b\r\n", SMTP, true},
		{"smtp codes disagree", "S: {*}", "450 5.1.1 no\r\n", SMTP, true},
		{"smtp no code", "S: {*}", "hello\r\n", SMTP, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := against(Player{Protocol: tt.protocol}, tt.script, tt.server)
			if (err != nil) != tt.wrong {
				t.Errorf("got %v, want an error: %v", err, tt.wrong)
			}
		})
	}
}

func TestSending(t *testing.T) {
	p := Player{Vars: map[string]string{"who": "alice"}, Split: 3}
	heard, err := against(p, "# RFC 1939\nC: USER {{who}}\nC+: PASS x\nC+!: \\x41\\0\\\\\\r\\n\nS: +OK", "+OK\r\n")
	if want := "USER alice\r\nPASS x\r\nA\x00\\\r\n"; err != nil || heard != want {
		t.Errorf("heard %q (%v), want %q", heard, err, want)
	}
}

// TestAnswers: what is sent may depend on the last line that was read.
func TestAnswers(t *testing.T) {
	p := Player{Answers: map[string]func(string) string{"reverse": func(line string) string {
		var b strings.Builder
		for i := range len(line) {
			b.WriteByte(line[len(line)-1-i])
		}
		return b.String()
	}}}
	heard, err := against(p, "S: +OK {*}\nS: +OK a\nC: <{{reverse}}>\nS!: +OK \\x61", "+OK x\r\n+OK a\r\n+OK a\r\n")
	if want := "<a KO+>\r\n"; err != nil || heard != want {
		t.Errorf("heard %q (%v), want %q", heard, err, want)
	}
}

// TestNew: a transcript may go over several connections.
func TestNew(t *testing.T) {
	dials := 0
	p := Player{Dial: func() (net.Conn, error) {
		dials++
		ours, theirs := net.Pipe()
		go func() {
			_, _ = io.WriteString(theirs, "+OK again\r\n")
			_, _ = io.ReadAll(theirs)
		}()
		return ours, nil
	}}
	if _, err := against(p, "S: +OK first\nNEW\nS: +OK again\nC: NOOP", "+OK first\r\n"); err != nil || dials != 1 {
		t.Errorf("%v, %d more connections, want 1", err, dials)
	}
	if _, err := against(Player{}, "S: +OK first\nNEW\nC: NOOP", "+OK first\r\n"); err == nil {
		t.Error("NEW without a way to connect was accepted")
	}
}

func TestBadTranscripts(t *testing.T) {
	for _, script := range []string{"X: a", "C+: a", "S: +OK\nC+: a", "C: a\nC+: EOF", `C!: \q`, `C!: \x1`, `C!: \`, "C: {{nobody}}"} {
		if _, err := (Player{}).parse(script); err == nil {
			t.Errorf("%q was accepted", script)
		}
	}
}
