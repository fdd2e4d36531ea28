//go:build interop

package main

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestInteropGuideRecordings: the dialogues of the help guide that say "recorded" are what the programs say today when they send.
func TestInteropGuideRecordings(t *testing.T) {
	for _, p := range []struct {
		name, program string
		send          func(t *testing.T, port string)
	}{
		{"msmtp_send", "msmtp", func(t *testing.T, port string) {
			run(t, "From: alice@example.com\nTo: friend@remote.example\nSubject: one\n\nbody\n", "msmtp", "--host=127.0.0.1", "--port="+port, "--tls=off",
				"--auth=plain", "--user=alice@example.com", "--passwordeval=echo 'open sesame'", "--from=alice@example.com", "friend@remote.example")
		}},
		{"thunderbird_send", "thunderbird", func(t *testing.T, port string) {
			startThunderbird(t, thunderbirdAccount{address: "alice@example.com", password: "open sesame", popPort: "1", smtpPort: port}).
				send("friend@remote.example", "one", "body\n")
		}},
	} {
		t.Run(p.name, func(t *testing.T) {
			need(t, p.program)
			s := startServer(t, "example.com")
			s.addAccount("alice", "open sesame")
			r, port := recordProxy(t, s.addr("submission"), nil)
			p.send(t, port)
			file := filepath.Join("..", "..", "webmanager", "guide", "testdata", p.name+".txt")
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			plain := base64.StdEncoding.EncodeToString([]byte("\x00alice@example.com\x00open sesame"))
			written := strings.Split(strings.ReplaceAll(string(text), "{{plain}}", plain), "\n")
			if got, want := spoken(r.dialogue()), spoken(written); !slices.Equal(got, want) {
				t.Errorf("%s says\n%s\nand its dialogue\n%s", p.program, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		})
	}
}

var sizeOf = regexp.MustCompile(`SIZE=[0-9]+`)

// spoken are the commands of a dialogue, without the message, and with one size for all messages. A program that keeps its connection says QUIT
// when it ends, which is not in its dialogue.
func spoken(dialogue []string) (commands []string) {
	message := false
	for _, line := range dialogue {
		line, ok := strings.CutPrefix(line, "C: ")
		switch {
		case !ok, line == "QUIT":
		case line == ".":
			message = false
		case !message:
			commands = append(commands, sizeOf.ReplaceAllString(line, "SIZE=0"))
			message = line == "DATA"
		}
	}
	return commands
}

// TestInteropAutoconfig: Thunderbird's own reader makes of an autoconfig document the accounts that it is meant to: POP3 and SMTP, the best way first.
func TestInteropAutoconfig(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "webmanager", "setup", "testdata", "autoconfig.xml"))
	if err != nil {
		t.Fatal(err)
	}
	tb := startThunderbird(t, thunderbirdAccount{address: "anna@example.com", password: "unused", popPort: "1", smtpPort: "1"})
	got := tb.script(`const { JXON } = ChromeUtils.importESModule("resource:///modules/JXON.sys.mjs");
const { readFromXML } = ChromeUtils.importESModule("resource:///modules/accountcreation/readFromXML.sys.mjs");
const w = Services.wm.getMostRecentWindow("mail:3pane");
const c = readFromXML(JXON.build(new w.DOMParser().parseFromString(args[0], "text/xml")), "test");
const line = s => [s.type, s.hostname, s.port, s.socketType, s.auth, s.username].join(" ");
return [c.incoming, ...c.incomingAlternatives, c.outgoing, ...c.outgoingAlternatives].map(line).join("\n");`, string(text))
	// A socketType of 3 is TLS, 2 STARTTLS; an auth of 3 is a normal password.
	want := strings.Join([]string{
		"pop3 mail.example.com 995 3 3 anna@example.com", "pop3 mail.example.com 110 2 3 anna@example.com", "smtp mail.example.com 465 3 3 anna@example.com",
		"smtp mail.example.com 587 2 3 anna@example.com", "smtp mail.example.com 25 2 3 anna@example.com",
	}, "\n")
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
