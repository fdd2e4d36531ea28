package main

import (
	"context"
	"crypto/hmac"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"latchkey/internal/clientsetup"
	"latchkey/internal/dialog"
	"latchkey/internal/mailaddr"
	"latchkey/store"
	"latchkey/webmanager"
	"latchkey/webmanager/guide"
)

// The pages of the help guide are tied to dialogues, webmanager/guide/testdata. Each says in its head at which ports, by which encryption and at
// which doors its program speaks so ("at"); how it logs in is in what it says. A page may tell of exactly what its dialogues show, and each is
// played at the very doors of a whole server, whole and octet by octet.

// guideDoors are the doors of the ports that are told of.
var guideDoors = map[string]string{
	"110": "pop3", "995": "pop3s", "25": "mx", "587": "submission", "465": "smtps",
	"2110": "old_pop3", "2995": "old_pop3s", "2587": "old_submission", "2465": "old_smtps",
}

// guideDialogue is one file.
type guideDialogue struct {
	name     string
	protocol clientsetup.Protocol
	login    clientsetup.Login
	// at are lines of "port security" or "port security old".
	at []string
	// like is a dialogue of pop3/maildrop that has the same commands, after one that is played before, both may be "".
	like, after string
	lines       []string
}

// shows are the ways of a dialogue, as lines that stated makes too.
func (d guideDialogue) shows() (ways []string) {
	for _, at := range d.at {
		ways = append(ways, fmt.Sprintf("%s %s %s", d.protocol, at, d.login))
	}
	return ways
}

func readGuideDialogue(t *testing.T, name string) guideDialogue {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "webmanager", "guide", "testdata", name+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	d := guideDialogue{name: name, protocol: clientsetup.SMTP}
	if !strings.Contains(string(text), "recorded") && !strings.Contains(string(text), "after its documentation") &&
		!strings.Contains(string(text), "after their documentation") && !strings.Contains(string(text), "after vendors' manuals") {
		t.Errorf("%s does not say where it comes from", name)
	}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		key, value, _ := strings.Cut(strings.TrimPrefix(line, "# "), ": ")
		switch {
		case !strings.HasPrefix(line, "#"):
			d.lines = append(d.lines, line)
		case key == "at":
			d.at = append(d.at, value)
		case key == "like":
			d.like = value
		case key == "after":
			d.after, d.login = value, clientsetup.FetchFirst
		case key == "proof" && value == "network":
			d.login = clientsetup.Network
		}
	}
	if strings.HasPrefix(d.lines[0], "S: +OK") {
		d.protocol = clientsetup.POP3
	}
	for _, line := range d.lines {
		switch {
		case strings.HasPrefix(line, "C: APOP "), line == "C: AUTH CRAM-MD5":
			d.login = clientsetup.Challenge
		case strings.HasPrefix(line, "C: PASS "), strings.HasPrefix(line, "C: AUTH PLAIN"), line == "C: AUTH LOGIN":
			d.login = clientsetup.Password
		}
	}
	if d.login == "" || len(d.at) == 0 {
		t.Fatalf("%s shows no login, or no door", name)
	}
	return d
}

// text is the dialogue with an encryption: at once, or by the command that the protocol has for it.
func (d guideDialogue) text(at string) string {
	_, security, _ := strings.Cut(at, " ")
	security, old, _ := strings.Cut(security, " ")
	encrypted := security == string(clientsetup.TLS)
	var lines []string
	if encrypted {
		lines = append(lines, "TLS")
	}
	begun := security != string(clientsetup.STARTTLS)
	for i, line := range d.lines {
		switch {
		case old != "" && line == "S: +OK mail.example.com POP3 server ready":
			lines = append(lines, line+" <{*}@mail.example.com>") // who knows APOP takes it, and others pass it over
		case line != "S: {capabilities}":
			lines = append(lines, line)
		case d.protocol == clientsetup.POP3:
			lines = append(lines, popCapabilities(encrypted, old != "")...)
		default:
			lines = append(lines, smtpCapabilities(encrypted, old != "")...)
		}
		switch {
		case begun:
		case d.protocol == clientsetup.POP3 && i == 0:
			lines = append(append(lines, "C: CAPA", "S: +OK capabilities follow"), popCapabilities(false, old != "")...)
			lines = append(lines, "C: STLS", "S: +OK begin TLS", "TLS")
			begun, encrypted = true, true
		case line == "S: {capabilities}":
			lines = append(lines, "C: STARTTLS", "S: 220 2.0.0 Ready to start TLS", "TLS", d.lines[i-1])
			lines = append(lines, smtpCapabilities(true, old != "")...)
			begun, encrypted = true, true
		}
	}
	return strings.Join(lines, "\n") + "\n"
}

func popCapabilities(encrypted, old bool) []string {
	lines := []string{"S: TOP", "S: UIDL", "S: RESP-CODES", "S: AUTH-RESP-CODE", "S: PIPELINING", "S: USER", "S: SASL PLAIN LOGIN"}
	if old {
		lines[len(lines)-1] += " SCRAM-{*}"
	}
	if !encrypted {
		lines = append(lines, "S: STLS")
	}
	return append(lines, "S: EXPIRE NEVER", "S: UTF8", "S: LANG", "S: IMPLEMENTATION Latchkey", "S: .")
}

func smtpCapabilities(encrypted, old bool) []string {
	lines := []string{"S: 250-Hello {*}", "S: 250-PIPELINING", "S: 250-8BITMIME", "S: 250-ENHANCEDSTATUSCODES", "S: 250-CHUNKING"}
	if !encrypted {
		lines = append(lines, "S: 250-STARTTLS")
	}
	if old {
		lines = append(lines, "S: 250-AUTH {*}CRAM-MD5{*}", "S: 250-AUTH={*}")
	} else {
		lines = append(lines, "S: 250-AUTH PLAIN LOGIN")
	}
	lines = append(lines, "S: 250-SMTPUTF8")
	if encrypted && !old {
		lines = append(lines, "S: 250-REQUIRETLS")
	}
	return append(lines, "S: 250-DSN", "S: 250-SIZE {*}", "S: 250 LIMITS RCPTMAX=1000")
}

// guideSetup has every way that there can be.
func guideSetup() clientsetup.Setup {
	return clientsetup.New(clientsetup.Place{
		Domain: "example.com", Host: "mail.example.com", POP3: 110, POP3S: 995, MX: 25, Submission: 587, Submissions: 465,
		OldPOP3: 2110, OldPOP3S: 2995, OldSubmission: 2587, OldSubmissions: 2465, TLS: true,
	}, clientsetup.Rules{
		POPBeforeSMTP: true, OutgoingMail: true, AuthOnMX: true, CleartextLogin: true, TrustedNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/16")},
	}, clientsetup.Mailbox{Address: "alice@example.com", OldClientLogin: true})
}

// stated are the ways that a page may tell of.
func stated(t *testing.T, c guide.Client) (ways []string) {
	t.Helper()
	s := guideSetup()
	for _, k := range slices.Concat(c.Fetch, c.Send, c.Also) {
		w, ok := clientsetup.Pick(slices.Concat(s.Fetch, s.Send), k)
		if !ok {
			t.Errorf("the page %s tells of %+v, which there never is", c.Name, k)
		}
		old := ""
		if w.Old {
			old = " old"
		}
		ways = append(ways, fmt.Sprintf("%s %d %s%s %s", w.Protocol, w.Port, w.Security, old, w.Login))
	}
	return ways
}

// TestGuideTellsWhatIsShown: a page tells of the ports, encryption and logins of its dialogues, and of no others; each dialogue has a page.
func TestGuideTellsWhatIsShown(t *testing.T) {
	used := map[string]bool{}
	for _, c := range guide.Clients() {
		var shown []string
		for _, name := range c.Dialogues {
			used[name] = true
			shown = append(shown, readGuideDialogue(t, name).shows()...)
		}
		slices.Sort(shown)
		told := stated(t, c)
		slices.Sort(told)
		told, shown = slices.Compact(told), slices.Compact(shown)
		if !slices.Equal(told, shown) {
			t.Errorf("the page %s tells of\n\t%s\nand its dialogues show\n\t%s", c.Name, strings.Join(told, "\n\t"), strings.Join(shown, "\n\t"))
		}
	}
	files, err := filepath.Glob("../../webmanager/guide/testdata/*.txt")
	if err != nil || len(files) < 30 {
		t.Fatalf("%d dialogues (%v)", len(files), err)
	}
	for _, file := range files {
		if name := strings.TrimSuffix(filepath.Base(file), ".txt"); !used[name] {
			t.Errorf("%s belongs to no page", name)
		}
	}
	if len(used) != len(files) {
		t.Errorf("%d dialogues are named, and %d are there", len(used), len(files))
	}
}

// TestGuideDialoguesAreTheRecorded: those that say so have the commands of a dialogue of pop3/maildrop, which TestInteropRecordings holds against the
// program.
func TestGuideDialoguesAreTheRecorded(t *testing.T) {
	names := strings.NewReplacer("{{user}}", "alice", "{{password}}", "open sesame", "{{plain}}", base64.StdEncoding.EncodeToString([]byte("\x00alice\x00open sesame")))
	compared := 0
	for _, c := range guide.Clients() {
		for _, name := range c.Dialogues {
			d := readGuideDialogue(t, name)
			if d.like == "" {
				continue
			}
			text, err := os.ReadFile(filepath.Join("..", "..", d.like))
			if err != nil {
				t.Error(err)
				continue
			}
			compared++
			commands := func(lines []string) (list []string) {
				for _, line := range lines {
					if strings.HasPrefix(line, "C") {
						list = append(list, line)
					}
				}
				return list
			}
			got, want := commands(strings.Split(names.Replace(strings.Join(d.lines, "\n")), "\n")), commands(strings.Split(string(text), "\n"))
			if !slices.Equal(got, want) {
				t.Errorf("%s says\n%s\nand %s\n%s", name, strings.Join(got, "\n"), d.like, strings.Join(want, "\n"))
			}
		}
	}
	if compared < 10 {
		t.Errorf("%d compared", compared)
	}
}

// guideAnswers answer challenges as alice@example.com.
var guideAnswers = map[string]func(line string) string{
	"apop": func(greeting string) string {
		_, stamp, _ := strings.Cut(greeting, "<")
		sum := md5.Sum([]byte("<" + stamp + "open sesame"))
		return hex.EncodeToString(sum[:])
	},
	"cram_md5": func(line string) string {
		_, challenge, _ := strings.Cut(line, " ")
		text, err := base64.StdEncoding.DecodeString(challenge)
		if err != nil {
			return err.Error()
		}
		mac := hmac.New(md5.New, []byte("open sesame"))
		mac.Write(text)
		return base64.StdEncoding.EncodeToString([]byte("alice@example.com " + hex.EncodeToString(mac.Sum(nil))))
	},
}

// guideServer is a server with every door, for alice, who may use the old ones.
type guideServer struct {
	*testServer
	store store.Store
	dir   string
}

func newGuideServer(t *testing.T) *guideServer {
	t.Helper()
	const loopback = "127.0.0.1:0"
	g := &guideServer{testServer: newTestServer(t, "example.com"), dir: t.TempDir()}
	l := &g.config.Listen
	l.OldPOP3, l.OldPOP3S, l.OldSubmission, l.OldSMTPS = []string{loopback}, []string{loopback}, []string{loopback}, []string{loopback}
	g.wrap = func(st store.Store) store.Store { g.store = st; return st }
	g.start()
	g.addAccount("alice", "open sesame")
	yes := true
	g.do("PATCH", webmanager.Path("accounts", "alice"), webmanager.AccountChange{OldClientLogin: &yes}, nil)
	g.fetch("alice", "open sesame") // the password is kept for challenges
	return g
}

// play plays a dialogue at a door, with two messages in the mailbox and no grant.
func (g *guideServer) play(t *testing.T, d guideDialogue, at string, split int) {
	t.Helper()
	port, _, _ := strings.Cut(at, " ")
	uids := g.refill(t)
	file := filepath.Join(g.dir, "dialogue.txt")
	if err := os.WriteFile(file, []byte(d.text(at)), 0o600); err != nil {
		t.Fatal(err)
	}
	b64 := base64.StdEncoding.EncodeToString
	vars := map[string]string{
		"user": "alice@example.com", "password": "open sesame", "plain": b64([]byte("\x00alice@example.com\x00open sesame")),
		"user64": b64([]byte("alice@example.com")), "password64": b64([]byte("open sesame")),
		"octets": "110", "size1": "55", "size2": "55", "uid1": uids[0], "uid2": uids[1],
	}
	protocol := dialog.SMTP
	if d.protocol == clientsetup.POP3 {
		protocol = dialog.POP3
	}
	conn := g.dialFrom("127.0.0.1", guideDoors[port])
	dialog.Player{Protocol: protocol, Vars: vars, Answers: guideAnswers, Split: split}.Run(t, conn, file)
}

// refill empties alice's mailbox and gives her the two messages.
func (g *guideServer) refill(t *testing.T) (uids []string) {
	t.Helper()
	ctx := t.Context()
	account, err := g.store.AccountByName(ctx, "alice")
	if err != nil {
		t.Fatal(err)
	}
	drop, err := g.store.OpenMaildrop(ctx, account.ID)
	if err != nil {
		t.Fatal(err)
	}
	list, err := drop.Messages(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var ids []store.CopyID
	for m := range list {
		ids = append(ids, m.ID)
	}
	if err := drop.Expunge(ctx, ids, nil); err != nil {
		t.Fatal(err)
	}
	if err := drop.Close(); err != nil {
		t.Fatal(err)
	}
	return deliverToAlice(t, g.store)
}

// refusedNow reports whether alice cannot send without a login.
func (g *guideServer) refusedNow(t *testing.T) bool {
	t.Helper()
	return g.sendFrom("127.0.0.1", "alice@example.com", "friend@remote.example") != nil
}

// TestGuideDialogues plays every dialogue of every page at the doors that it names. Where there is no login, sending is refused before.
func TestGuideDialogues(t *testing.T) {
	g := newGuideServer(t)
	played := map[string]bool{}
	var network []guideDialogue
	for _, c := range guide.Clients() {
		for _, name := range c.Dialogues {
			d := readGuideDialogue(t, name)
			if d.login == clientsetup.Network {
				network = append(network, d)
				continue
			}
			for _, at := range d.at {
				port, _, _ := strings.Cut(at, " ")
				if old := strings.HasSuffix(at, " old"); old != strings.HasPrefix(guideDoors[port], "old_") {
					t.Fatalf("%s: port %s is at %s", name, port, guideDoors[port])
				}
				for _, split := range []int{0, 1} {
					t.Run(fmt.Sprintf("%s %s %d", name, at, split), func(t *testing.T) {
						if d.after != "" {
							g.revokeAll(t)
							if !g.refusedNow(t) {
								t.Fatal("sending without a login is not refused before")
							}
							before := readGuideDialogue(t, d.after)
							g.play(t, before, before.at[0], 0)
						}
						g.play(t, d, at, split)
					})
				}
			}
			played[name] = true
		}
	}
	g.revokeAll(t)
	if !g.refusedNow(t) {
		t.Fatal("sending from a network is not refused before it is named")
	}
	if status, _, errs := g.latchkey("settings", "set", "require_auth=off", "trusted_networks=127.0.0.0/16", "--confirm", "example.com"); status != 0 {
		t.Fatal(errs)
	}
	for _, d := range network {
		g.play(t, d, d.at[0], 0)
		played[d.name] = true
	}
	if len(played) < 30 {
		t.Errorf("only %v were played", slices.Sorted(maps.Keys(played)))
	}
}

// revokeAll ends every grant.
func (g *guideServer) revokeAll(t *testing.T) {
	t.Helper()
	if status, _, errs := g.latchkey("grant", "revoke", "--all"); status != 0 {
		t.Fatal(errs)
	}
}

// deliverToAlice gives her the two messages that she has in the tests of pop3/maildrop, and returns their unique-ids.
func deliverToAlice(t *testing.T, st store.Store) (uids []string) {
	t.Helper()
	ctx := context.Background()
	account, err := st.AccountByName(ctx, "alice")
	if err != nil {
		t.Fatal(err)
	}
	to, err := mailaddr.New("alice", "example.com")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []struct{ header, body string }{{"Subject: one\r\n\r\n", ".dot\r\n"}, {"Subject: two\r\n\r\n", "body\r\n"}} {
		d, err := st.NewDraft(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Write([]byte(m.header + m.body)); err != nil {
			t.Fatal(err)
		}
		recipient := store.Recipient{Address: to, Account: account.ID, Prefix: []byte("Delivered-To: alice@example.com\r\n")}
		envelope := store.Envelope{Received: time.Now(), HeaderLen: int64(len(m.header)), Recipients: []store.Recipient{recipient}}
		if _, err := d.Commit(ctx, envelope); err != nil {
			t.Fatal(err)
		}
	}
	drop, err := st.OpenMaildrop(ctx, account.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = drop.Close() }()
	list, err := drop.Messages(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for message := range list {
		uids = append(uids, message.UID)
	}
	return uids
}
