package maildrop

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"latchkey/pop3"
	"latchkey/store"
)

// TestSplitSelection: what stands in brackets behind a name chooses, in any case; a name with anything else there is left alone.
func TestSplitSelection(t *testing.T) {
	for _, tt := range []struct {
		login, name string
		want        store.Selection
		chosen      bool
	}{
		{"anna", "anna", store.Selection{}, false},
		{"anna(new)", "anna", store.Selection{New: true}, true},
		{"anna(NEW)@example.com", "anna@example.com", store.Selection{New: true}, true},
		{"anna@example.com(7d)", "anna@example.com", store.Selection{Days: 7}, true},
		{"anna(max=200) ", "anna ", store.Selection{Max: 200}, true},
		{"anna()", "anna", store.Selection{}, true},
		{"anna(0d)", "anna(0d)", store.Selection{}, false},
		{"anna(old)", "anna(old)", store.Selection{}, false},
		{"anna(new", "anna(new", store.Selection{}, false},
		{"anna(new)x", "anna(new)x", store.Selection{}, false},
		{"(new)", "", store.Selection{New: true}, true},
	} {
		if name, s, chosen := splitSelection(tt.login); name != tt.name || s != tt.want || chosen != tt.chosen {
			t.Errorf("%q: %q, %+v, %v", tt.login, name, s, chosen)
		}
	}
}

// talker is a client that speaks line by line.
type talker struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
}

// talk connects to a door of the fixture's.
func (f *fixture) talk(t *testing.T) *talker {
	t.Helper()
	if f.door == "" {
		f.door = f.serve(Options{}, nil)
	}
	c := f.dialTalk(t)
	c.reply("+OK")
	return c
}

// dialTalk is talk before the greeting is read.
func (f *fixture) dialTalk(t *testing.T) *talker {
	t.Helper()
	conn := f.dial(f.door)
	t.Cleanup(func() { _ = conn.Close() })
	return &talker{t, conn, bufio.NewReader(conn)}
}

func (c *talker) reply(prefix string) string {
	c.t.Helper()
	line, err := c.r.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, prefix) {
		c.t.Fatalf("%q, want %q...: %v", line, prefix, err)
	}
	return strings.TrimSuffix(line, "\r\n")
}

// ask sends a command and returns the first line of the reply.
func (c *talker) ask(command, prefix string) string {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, command+"\r\n"); err != nil {
		c.t.Fatal(err)
	}
	return c.reply(prefix)
}

// lines sends a command and returns what follows the first line.
func (c *talker) lines(command string) (list []string) {
	c.t.Helper()
	c.ask(command, "+OK")
	for {
		line := c.reply("")
		if line == "." {
			return list
		}
		list = append(list, line)
	}
}

// listed logs in on the fixture's door and returns what STAT, LIST and UIDL say.
func (f *fixture) listed(t *testing.T, user string) (stat string, list, uidl []string) {
	t.Helper()
	c := f.talk(t)
	c.ask("USER "+user, "+OK")
	c.ask("PASS open sesame", "+OK")
	stat = c.ask("STAT", "+OK")
	list, uidl = c.lines("LIST"), c.lines("UIDL")
	c.ask("QUIT", "+OK")
	return stat, list, uidl
}

// TestSelection: a login that chooses lists that part of the maildrop, with numbers from 1, sizes that add up, and the unique-ids of the whole.
func TestSelection(t *testing.T) {
	f := newFixture(t)
	f.deliver("Subject: three\r\n\r\n", "3\r\n")
	all := f.messages()
	c := f.talk(t)
	c.ask("USER alice", "+OK")
	c.ask("PASS open sesame", "+OK 3 messages")
	c.lines("RETR 2")
	c.ask("QUIT", "+OK")

	check := func(user string, want ...int) {
		t.Helper()
		stat, list, uidl := f.listed(t, user)
		octets := int64(0)
		var wantList, wantUIDL []string
		for i, n := range want {
			octets += all[n-1].Size
			wantList = append(wantList, fmt.Sprintf("%d %d", i+1, all[n-1].Size))
			wantUIDL = append(wantUIDL, fmt.Sprintf("%d %s", i+1, all[n-1].UID))
		}
		if wantStat := fmt.Sprintf("+OK %d %d", len(want), octets); stat != wantStat {
			t.Errorf("%s: STAT %q, want %q", user, stat, wantStat)
		}
		if fmt.Sprint(list) != fmt.Sprint(wantList) || fmt.Sprint(uidl) != fmt.Sprint(wantUIDL) {
			t.Errorf("%s: LIST %v, UIDL %v; want %v, %v", user, list, uidl, wantList, wantUIDL)
		}
	}
	check("alice", 1, 2, 3)
	check("alice(new)", 1, 3)
	check("alice(new)@example.com", 1, 3)
	check("alice(max=2)", 2, 3)
	check("alice(max=3)", 1, 2, 3)
	check("alice(1d)", 1, 2, 3)
	f.update(func(a *store.Account) { a.POP3.Select = "new" })
	check("alice", 1, 3)
	check("alice()", 1, 2, 3)
	c = f.talk(t) // deletes what is listed, by its number
	c.ask("USER alice(max=1)", "+OK")
	c.ask("PASS open sesame", "+OK 1 message")
	c.ask("DELE 1", "+OK")
	c.ask("QUIT", "+OK")
	check("alice()", 1, 2)
}

// TestWorkarounds: each changes what it says and nothing else, and sizes are those of what is sent.
func TestWorkarounds(t *testing.T) {
	f := newFixture(t)
	f.deliver("Subject: nul\r\n\r\n", "a\x00b\x00\r\n")
	f.deliver("Subject: no end\r\n", "")
	f.deliver("Subject: empty\r\n\r\n", "")
	c := f.talk(t)
	c.ask("USER alice", "+OK")
	c.ask("PASS open sesame", "+OK 5 messages")
	c.lines("RETR 1")
	c.ask("QUIT", "+OK")
	plain := f.texts(t)

	check := func(name string, o store.POP3Options, change func(texts []string)) {
		t.Helper()
		f.update(func(a *store.Account) { a.POP3 = o })
		want := append([]string(nil), plain...)
		change(want)
		got := f.texts(t)
		if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	check("none", store.POP3Options{}, func([]string) {})
	check("NUL", store.POP3Options{ReplaceNUL: true}, func(texts []string) { texts[2] = strings.ReplaceAll(texts[2], "\x00", "\x80") })
	check("end of header", store.POP3Options{EndHeader: true}, func(texts []string) { texts[3] += "\r\n" })
	check("Status", store.POP3Options{StatusHeader: true}, func(texts []string) { texts[0] = "Status: RO\r\n" + texts[0] })
	check("all", store.POP3Options{ReplaceNUL: true, EndHeader: true, StatusHeader: true}, func(texts []string) {
		texts[0] = "Status: RO\r\n" + texts[0]
		texts[2] = strings.ReplaceAll(texts[2], "\x00", "\x80")
		texts[3] += "\r\n"
	})
}

// texts opens alice's maildrop by the backend and returns what RETR yields; it checks every size, and the sum.
func (f *fixture) texts(t *testing.T) (texts []string) {
	t.Helper()
	b := &backend{store: f.store, auth: f.auth, delays: new(Delays), now: time.Now, log: slog.New(slog.DiscardHandler)}
	s := &session{conn: new(pop3.Conn), backend: b}
	s.who.Account, s.who.Name = f.alice.ID, "alice"
	m, err := s.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = m.Close() }()
	count, octets := m.Stat()
	list, err := m.Messages(t.Context())
	if err != nil || len(list) != count {
		t.Fatalf("%d messages, Stat says %d: %v", len(list), count, err)
	}
	for i := range list {
		text := read(t, m.Retrieve, i+1, -1)
		if int64(len(text)) != list[i].Size {
			t.Errorf("message %d has %d octets, listed %d", i+1, len(text), list[i].Size)
		}
		octets -= list[i].Size
		top := read(t, m.Retrieve, i+1, 0)
		if !strings.HasPrefix(text, top) {
			t.Errorf("message %d: TOP 0 %q of %q", i+1, top, text)
		}
		texts = append(texts, text)
	}
	if octets != 0 {
		t.Errorf("Stat and the list differ by %d octets", octets)
	}
	return texts
}

func read(t *testing.T, retrieve func(context.Context, int, int) (io.ReadCloser, error), n, lines int) string {
	t.Helper()
	r, err := retrieve(t.Context(), n, lines)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestDelays: a second login within the delay is let in, a third is not; each mailbox has its own time.
func TestDelays(t *testing.T) {
	var d Delays
	base := time.Unix(1_000_000, 0)
	for i, tt := range []struct {
		account store.AccountID
		at      time.Duration
		want    bool
	}{
		{1, 0, true}, {2, 0, true}, {1, time.Second, true}, {1, 2 * time.Second, false}, {2, 9 * time.Second, true},
		{1, 10*time.Second - 1, false}, {1, 10 * time.Second, true}, {1, 11 * time.Second, true}, {1, 12 * time.Second, false},
	} {
		if got := d.admit(base.Add(tt.at), tt.account, 10*time.Second); got != tt.want {
			t.Errorf("%d: account %d after %v: %v", i, tt.account, tt.at, got)
		}
	}
	if !d.admit(base, 1, 0) {
		t.Error("refused without a delay")
	}
}

// TestDelaysBound: what is remembered is bounded, and what no longer matters goes first.
func TestDelaysBound(t *testing.T) {
	var d Delays
	base := time.Unix(1_000_000, 0)
	for id := range store.AccountID(maxDelays) {
		d.admit(base, id, time.Minute)
	}
	if d.admit(base, maxDelays, time.Minute); len(d.last) != maxDelays {
		t.Errorf("%d logins are remembered", len(d.last))
	}
	d.admit(base.Add(time.Minute), maxDelays, time.Minute)
	if len(d.last) != 1 {
		t.Errorf("%d logins are remembered when all but one are too old", len(d.last))
	}
}

// TestLoginDelay: where the owner wants time between logins CAPA says so, and a third login within it is told, behind the right password only.
func TestLoginDelay(t *testing.T) {
	f := newFixture(t)
	f.set(func(s *store.Settings) { s.LoginDelay = 3600 })
	for range 2 {
		c := f.talk(t)
		if capa := strings.Join(c.lines("CAPA"), "\n"); !strings.Contains(capa, "LOGIN-DELAY 3600") {
			t.Errorf("CAPA: %s", capa)
		}
		c.ask("USER alice", "+OK")
		c.ask("PASS open sesame", "+OK")
		c.ask("QUIT", "+OK")
	}
	c := f.talk(t)
	c.ask("USER alice", "+OK")
	c.ask("PASS wrong", "-ERR [AUTH]")
	c.ask("USER alice", "+OK")
	c.ask("PASS open sesame", "-ERR [LOGIN-DELAY]")
	f.set(func(s *store.Settings) { s.LoginDelay = 0 })
	c.ask("USER alice", "+OK")
	c.ask("PASS open sesame", "+OK")
}

// TestPolicy: CAPA tells how long messages are kept.
func TestPolicy(t *testing.T) {
	f := newFixture(t)
	for _, tt := range []struct {
		days int
		want string
	}{{0, "EXPIRE NEVER"}, {30, "EXPIRE 30"}} {
		f.set(func(s *store.Settings) { s.ExpireDays = tt.days })
		c := f.talk(t)
		if capa := c.lines("CAPA"); !slices.Contains(capa, tt.want) || slices.ContainsFunc(capa, func(l string) bool { return strings.HasPrefix(l, "LOGIN-DELAY") }) {
			t.Errorf("%d days: %q", tt.days, capa)
		}
	}
}

// TestPolicyOfAMailbox: before login CAPA tells of the mailbox whose mail goes soonest, and that others differ; after it of the client's own.
func TestPolicyOfAMailbox(t *testing.T) {
	f := newFixture(t)
	other := f.add(store.Account{Name: "other"})
	for _, tt := range []struct {
		domain, alice, other int
		before, after        string
	}{
		{0, 0, 0, "EXPIRE NEVER", "EXPIRE NEVER"},
		{30, 0, 7, "EXPIRE 7 USER", "EXPIRE 30"},
		{30, 90, 0, "EXPIRE 30 USER", "EXPIRE 90"},
		{30, store.ExpireNever, 0, "EXPIRE 30 USER", "EXPIRE NEVER"},
		{30, 30, 0, "EXPIRE 30", "EXPIRE 30"},
		{0, 7, 0, "EXPIRE 7 USER", "EXPIRE 7"},
		{0, store.ExpireNever, 0, "EXPIRE NEVER", "EXPIRE NEVER"},
		{0, 0, 1, "EXPIRE 1 USER", "EXPIRE NEVER"},
	} {
		f.set(func(s *store.Settings) { s.ExpireDays = tt.domain })
		f.update(func(a *store.Account) { a.ExpireDays = tt.alice })
		other.ExpireDays = tt.other
		var err error
		if other, err = f.store.UpdateAccount(t.Context(), other); err != nil {
			t.Fatal(err)
		}
		c := f.talk(t)
		if capa := c.lines("CAPA"); !slices.Contains(capa, tt.before) {
			t.Errorf("%+v: before login %q", tt, capa)
		}
		c.ask("USER alice", "+OK")
		c.ask("PASS open sesame", "+OK")
		if capa := c.lines("CAPA"); !slices.Contains(capa, tt.after) {
			t.Errorf("%+v: after login %q", tt, capa)
		}
		c.ask("QUIT", "+OK")
	}
}

// TestLast: LAST is for mailboxes that have it, and knows what earlier sessions fetched.
func TestLast(t *testing.T) {
	f := newFixture(t)
	c := f.talk(t)
	c.ask("USER alice", "+OK")
	c.ask("PASS open sesame", "+OK")
	c.ask("LAST", "-ERR")
	c.lines("RETR 1")
	c.ask("QUIT", "+OK")
	f.update(func(a *store.Account) { a.POP3.Last = true })
	c = f.talk(t)
	c.ask("USER alice", "+OK")
	c.ask("PASS open sesame", "+OK")
	c.ask("LAST", "+OK 1")
	c.lines("RETR 2")
	c.ask("LAST", "+OK 2")
}
