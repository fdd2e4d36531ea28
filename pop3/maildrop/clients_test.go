package maildrop

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"latchkey/internal/dialog"
	"latchkey/store"
)

// clientNeeds says what a dialogue needs besides the usual domain.
var clientNeeds = map[string]struct {
	// old makes it a door for old clients, and alice's password sealed.
	old bool
	set func(f *fixture)
}{
	"apple_mail_cram_md5": {old: true},
	"eudora_apop_last":    {old: true, set: func(f *fixture) { f.update(func(a *store.Account) { a.POP3.Last = true }) }},
	"eudora_status": {set: func(f *fixture) {
		c := f.hello(f.serve(Options{}, nil))
		c.login("open sesame")
		c.say("RETR 1", "+OK")
		for range 5 {
			c.read("")
		}
		c.say("QUIT", "+OK")
		f.update(func(a *store.Account) { a.POP3.StatusHeader = true })
		f.grows(1, len("Status: RO\r\n"))
	}},
	"eudora_stls": {old: true},
	"outlook_2002_login_delay": {set: func(f *fixture) {
		f.set(func(s *store.Settings) { s.LoginDelay = store.MaxLoginDelay })
	}},
	"outlook_express_nul_eoh": {set: func(f *fixture) {
		f.deliver("Subject: nul\r\n\r\n", "a\x00b\r\n")
		f.deliver("Subject: header only\r\n", "")
		f.update(func(a *store.Account) { a.POP3.ReplaceNUL, a.POP3.EndHeader = true, true })
		f.count()
		f.grows(4, len("\r\n"))
	}},
	"poplib_long_line": {set: func(f *fixture) {
		f.vars["long"] = strings.Repeat("long ", 1000)
		f.deliver("Subject: three\r\n\r\n", f.vars["long"]+"\r\n")
		f.count()
	}},
	"printer_apop": {old: true},
}

// grows makes the variables those of a message that gets so many octets more.
func (f *fixture) grows(message, octets int) {
	f.t.Helper()
	for _, name := range []string{"size" + strconv.Itoa(message), "octets"} {
		n, err := strconv.Atoi(f.vars[name])
		if err != nil {
			f.t.Fatal(err)
		}
		f.vars[name] = strconv.Itoa(n + octets)
	}
}

// answers are what clients answer to challenges.
var answers = map[string]func(line string) string{
	"apop": func(greeting string) string {
		_, stamp, _ := strings.Cut(greeting, "<")
		sum := md5.Sum([]byte("<" + stamp + "open sesame"))
		return hex.EncodeToString(sum[:])
	},
	"cram_md5": func(line string) string {
		challenge, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(line, "+ "))
		if err != nil {
			return err.Error()
		}
		mac := hmac.New(md5.New, []byte("open sesame"))
		mac.Write(challenge)
		return base64.StdEncoding.EncodeToString([]byte("alice " + hex.EncodeToString(mac.Sum(nil))))
	},
	"scram_sha_1": func(line string) string {
		final, _ := scramFinal(sha1.New, "n=alice,r=client", line, "open sesame")
		return final
	},
	"scram_sha_256": func(line string) string {
		final, _ := scramFinal(sha256.New, "n=alice,r=client", line, "open sesame")
		return final
	},
}

// TestClients plays what mail programs say, whole and octet by octet.
func TestClients(t *testing.T) {
	files, err := filepath.Glob("testdata/clients/*.txt")
	if err != nil || len(files) < 30 {
		t.Fatalf("%d dialogues (%v)", len(files), err)
	}
	found := 0
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		need, special := clientNeeds[name]
		if special {
			found++
		}
		for _, split := range []int{0, 1} {
			t.Run(name, func(t *testing.T) {
				f := newFixture(t)
				if need.old {
					f = oldDoor(t)
					c := f.hello(f.door)
					c.login("open sesame") // and is sealed
					c.say("QUIT", "+OK")
				}
				if need.set != nil {
					need.set(f)
				}
				if f.door == "" {
					f.door = f.serve(Options{}, nil)
				}
				dial := func() (net.Conn, error) { return f.dial(f.door), nil }
				dialog.Player{Vars: f.vars, Answers: answers, Dial: dial, Split: split}.Run(t, f.dial(f.door), file)
			})
		}
	}
	if found != len(clientNeeds) {
		t.Errorf("of %d dialogues with needs %d are there", len(clientNeeds), found)
	}
}

// TestClientsAreDocumented: the table beside the dialogues names each of them.
func TestClientsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("testdata/clients/README.md")
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{}
	for _, name := range regexp.MustCompile(`\(([a-z0-9_]+)\.txt\)`).FindAllStringSubmatch(string(text), -1) {
		named[name[1]] = true
	}
	files, err := filepath.Glob("testdata/clients/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		if !named[name] {
			t.Errorf("%s is not in the table", name)
		}
		delete(named, name)
	}
	for name := range named {
		t.Errorf("there is no dialogue %s", name)
	}
}

// TestManySessionsFromOneAddress: Eudora looks into twenty mailboxes at once, Apple Mail into one more than once.
func TestManySessionsFromOneAddress(t *testing.T) {
	f := newFixture(t)
	address := f.serve(Options{}, nil)
	var clients []*lines
	for range 40 {
		clients = append(clients, f.hello(address))
	}
	for _, c := range clients {
		c.login("open sesame")
	}
	for _, c := range clients {
		c.say("QUIT", "+OK")
	}
}
