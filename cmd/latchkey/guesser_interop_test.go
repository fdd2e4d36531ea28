//go:build interop

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// nmapScript runs a script on a door and returns what nmap says.
func nmapScript(t *testing.T, s *testServer, door, script string, args ...string) string {
	t.Helper()
	_, port := hostPort(t, s.addr(door))
	return run(t, "", "nmap", "-n", "-Pn", "-p", port, "--script", "+"+script, "--script-args", strings.Join(args, ","), "127.0.0.1")
}

// wordList writes a list for nmap, one word a line.
func wordList(t *testing.T, words []string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "words")
	if err := os.WriteFile(path, []byte(strings.Join(words, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// nmapFound is how nmap reports a password that it found.
var nmapFound = regexp.MustCompile(`Valid credentials|Account is valid`)

// guessingTime bounds each of nmap's guessing scripts: without a throttle they would do thousands of guesses in it.
const guessingTime = "20s"

// The scanner that attackers use learns no list of mailboxes, and guesses no password: it is made to wait, and then it is not heard any more,
// also where the right password is among the next ones on its list. Owners log in meanwhile.
func TestInteropNmapGuessers(t *testing.T) {
	need(t, "nmap")
	s := interopServer(t)
	for range 2 { // their owners have been at home
		s.fetch("anna", annasPassword)
		s.fetch("bert", bertsPassword)
	}
	var names, passwords []string
	for i := range 200 {
		names, passwords = append(names, fmt.Sprintf("user%d", i)), append(passwords, fmt.Sprintf("guess-%d", i))
	}
	names = append(names[:100:100], append([]string{"anna", "bert"}, names[100:]...)...)
	passwords = append(passwords, bertsPassword)
	users := wordList(t, names)
	guesser := []string{"userdb=" + wordList(t, []string{"bert"}), "passdb=" + wordList(t, passwords), "unpwdb.timelimit=" + guessingTime, "brute.delay=0"}
	var scans sync.WaitGroup
	for _, method := range []string{"RCPT", "VRFY", "EXPN"} {
		scans.Go(func() {
			out := nmapScript(t, s, "mx", "smtp-enum-users", "smtp-enum-users.methods={"+method+"}", "smtp-enum-users.domain=example.com", "userdb="+users)
			if !strings.Contains(out, "smtp-enum-users") || strings.Contains(out, "anna") || strings.Contains(out, "bert") {
				t.Errorf("by %s: %s", method, out)
			}
		})
	}
	for door, script := range map[string]string{"submission": "smtp-brute", "pop3": "pop3-brute"} {
		scans.Go(func() {
			out := nmapScript(t, s, door, script, guesser...)
			if !strings.Contains(out, script) || nmapFound.MatchString(out) || strings.Contains(out, bertsPassword) {
				t.Errorf("%s: %s", script, out)
			}
		})
	}
	scans.Wait()
	heard, unheard := strings.Count(s.log.String(), "wrong name or password"), strings.Count(s.log.String(), "too many failed logins")
	if heard > 60 || heard+unheard < 20 {
		t.Errorf("%d guesses were looked at, %d refused unheard", heard, unheard)
	}
	t.Logf("%d guesses were looked at, %d refused unheard", heard, unheard)
	s.fetch("anna", annasPassword)
}

// The published ends of data that are none, against a running server: nothing is smuggled in, and nothing through it to a receiver that takes
// every one of them for an end.
func TestInteropSmuggling(t *testing.T) {
	world := newLenientSink(t)
	v := newTestServer(t, "example.com")
	v.sendsTo(world.port(), "other.example")
	v.start()
	v.addAccount("anna", "password of anna")
	v.addAccount("bert", "password of bert")
	v.smuggleIn(t)
	v.smuggleOut(t, world)
}
