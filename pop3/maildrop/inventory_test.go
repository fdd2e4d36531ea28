package maildrop

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"latchkey/internal/dialog"
	"latchkey/store"
)

// names are the programs of testdata/clients that are told by what they say in one session at a usual door.
var names = map[string]string{
	"apple_mail": "Apple Mail", "curl": "curl", "eudora": "Eudora", "fetchmail": "fetchmail", "fetchmail_keep": "fetchmail, keeping mail",
	"k9": "K-9 Mail", "mailkit": "MailKit", "mpop": "mpop", "netscape": "Netscape or Mozilla", "outlook": "Outlook, asking for SPA",
	"outlook_express": "Outlook Express", "pegasus": "Pegasus Mail", "poplib": "Python's poplib", "printer": "only logs in, like a device",
	"ruby": "Ruby's net/pop", "getmail": "getmail", "javamail": "JavaMail", "mutt": "Mutt", "s_nail": "s-nail", "thunderbird": "Thunderbird",
}

// TestClientsAreNamed: every dialogue is told by its habits, and none by those of another.
func TestClientsAreNamed(t *testing.T) {
	files, err := filepath.Glob("testdata/clients/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	told := 0
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		if names[name] == "" {
			continue
		}
		told++
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			v := NewInventory(f.store, nil)
			t.Run("dialogue", func(inner *testing.T) { // at its end the door is closed, and all sessions have ended
				f.t = inner
				dialog.Player{Vars: f.vars}.Run(inner, f.dial(f.serve(Options{Inventory: v, Door: "pop3"}, nil)), file)
			})
			f.t = t
			v.Close()
			if seen := f.clients(); len(seen) != 1 || seen[0].Program != names[name] {
				t.Errorf("got %+v, want %q", seen, names[name])
			}
		})
	}
	if told < 15 {
		t.Errorf("%d dialogues were told", told)
	}
}

// ended waits for the end of a connection whose client says nothing more: then its session has ended.
func ended(t *testing.T, conn net.Conn) {
	t.Helper()
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		if err := half.CloseWrite(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := io.Copy(io.Discard, conn); err != nil {
		t.Fatal(err)
	}
}

// clients are those of alice in the store.
func (f *fixture) clients() []store.Client {
	f.t.Helper()
	seen, err := f.store.ListClients(f.t.Context(), 0, 1000)
	if err != nil {
		f.t.Fatal(err)
	}
	return seen
}

func TestProgramOf(t *testing.T) {
	for _, tt := range []struct{ commands, name, habit string }{
		{"CAPA, STLS, CAPA, AUTH *, RETR, QUIT", "curl", "CAPA, AUTH *"},
		{"CAPA, STLS, CAPA, STLS, USER, PASS, QUIT", "only logs in, like a device", "USER, PASS"},
		{"AUTH, USER, PASS, STAT, UIDL, LIST, RETR, RETR, DELE", "Outlook", "AUTH, USER, PASS, STAT, UIDL, LIST"},
		{"USER, PASS, STAT, QUIT", "", "USER, PASS, STAT"},
		{"USER, PASS, STAT, LIST *, RETR, RETR", "", "USER, PASS, STAT"},
		{"USER, PASS, STAT, UIDL, LIST *, TOP, QUIT", "", "USER, PASS, STAT, UIDL"}, // Eudora or fetchmail
		{"USER, PASS, STAT, UIDL *, RETR, QUIT", "", "USER, PASS, STAT"},
		{"USER, PASS, STAT, UIDL, RETR, DELE, RETR", "", "USER, PASS, STAT, UIDL"},
		{"USER, PASS, UIDL, LIST, UIDL, LIST, RETR, DELE", "getmail", "USER, PASS, UIDL, LIST, UIDL, LIST"},
		{"CAPA, USER, PASS, STAT, NOOP, UIDL, TOP, LIST *", "JavaMail", "CAPA, USER, PASS, STAT"},
		{"CAPA, USER, PASS, CAPA, STAT, UIDL, LIST *, TOP", "Mutt", "CAPA, USER, PASS, CAPA, STAT, UIDL"},
		{"USER, PASS, STAT, LIST *, LIST *, TOP, TOP, RETR", "s-nail", "USER, PASS, STAT"},
		{"CAPA, AUTH *, STAT, LIST, UIDL, RETR, DELE", "Thunderbird", "CAPA, AUTH *, STAT, LIST, UIDL"},
		{"XTND, ?, APOP, LAST", "", "XTND, ?, APOP, LAST"},
		{"CAPA, AUTH * *, RETR", "", "CAPA, AUTH * *"},
		{"", "", ""},
	} {
		p, habit := programOf(strings.Split(tt.commands, ", "))
		name := ""
		if p != nil {
			name = p.name
		}
		if name != tt.name || habit != tt.habit {
			t.Errorf("%s: got %q, %q, want %q, %q", tt.commands, name, habit, tt.name, tt.habit)
		}
	}
	for i, p := range programs {
		for j, q := range programs {
			if j != i && (beginsWith(p.begins, q.begins) || q.name == p.name) {
				t.Errorf("%s and %s are not told apart", p.name, q.name)
			}
		}
		if len(strings.Split(p.begins, ", ")) > 16 {
			t.Errorf("%s begins with more than is told", p.name)
		}
	}
}

// visit is one session of alice, told to an inventory: what it says after login, and how it ends.
func (f *fixture) visit(conn net.Conn, say ...string) {
	f.t.Helper()
	say = append([]string{"USER alice", "PASS open sesame"}, say...)
	if _, err := io.WriteString(conn, strings.Join(say, "\r\n")+"\r\n"); err != nil {
		f.t.Fatal(err)
	}
	ended(f.t, conn)
}

// TestInventorySessions: what sessions did with mail.
func TestInventorySessions(t *testing.T) {
	now := time.Date(2026, 4, 1, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name                    string
		say                     []string
		fetched, deleted, keeps int64
	}{
		{"looks", []string{"STAT", "QUIT"}, 0, 0, 0},
		{"leaves", []string{"RETR 1", "RETR 1", "QUIT"}, 1, 0, 1},
		{"deletes", []string{"RETR 1", "DELE 1", "RETR 2", "DELE 2", "QUIT"}, 2, 2, 0},
		{"leaves one", []string{"RETR 1", "RETR 2", "DELE 1", "QUIT"}, 2, 1, 1},
		{"deletes another", []string{"RETR 1", "DELE 2", "QUIT"}, 1, 1, 1},
		{"deletes unread", []string{"DELE 2", "QUIT"}, 0, 1, 0},
		{"a look at the header", []string{"TOP 1 0", "TOP 2 20", "QUIT"}, 0, 0, 0},
		{"fetches by TOP", []string{"TOP 1 1000001", "QUIT"}, 1, 0, 1},
		{"a long look", []string{"TOP 1 1000000", "QUIT"}, 0, 0, 0},
		{"fetches by TOP, and deletes", []string{"TOP 1 99999999", "DELE 1", "QUIT"}, 1, 1, 0},
		{"dropped", []string{"RETR 1", "DELE 1"}, 1, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t)
			v := NewInventory(f.store, nil)
			door := f.serve(Options{Inventory: v, Door: "pop3", Now: func() time.Time { return now }}, nil)
			f.visit(f.dial(door), tt.say...)
			v.Close()
			seen := f.clients()
			if len(seen) != 1 {
				t.Fatalf("seen: %+v", seen)
			}
			want := store.Client{
				Account: f.alice.ID, Program: "USER, PASS", Door: "pop3", Mechanism: "USER", Address: netip.MustParseAddr("127.0.0.1"), First: now, Last: now,
				Sessions: 1, Fetched: tt.fetched, Deleted: tt.deleted, Keeps: tt.keeps,
			}
			if tt.name == "looks" {
				want.Program += ", STAT"
			}
			if seen[0] != want {
				t.Errorf("got  %+v,\nwant %+v", seen[0], want)
			}
		})
	}
}

// TestInventoryOfDoors: the door, the mechanism, TLS and the address are told; who does not get in is not noted.
func TestInventoryOfDoors(t *testing.T) {
	f := oldDoor(t)
	v := NewInventory(f.store, nil)
	rule := ruleFor{account: f.alice.ID}
	old := f.serve(Options{Inventory: v, Door: "old_pop3", OldClients: rule}, func(l net.Listener) net.Listener { return outside{l} })
	shut := f.serve(Options{Inventory: v, Door: "shut", OldClients: only(f.alice.ID + 1)}, nil)
	secure := f.serve(Options{Inventory: v, Door: "pop3s", ImplicitTLS: true}, nil)
	f.visit(f.dial(old), "STAT", "QUIT")
	f.visit(f.dial(shut), "QUIT")
	f.visit(f.dial(secure))
	f.visit(tls.Client(f.dial(secure), &tls.Config{InsecureSkipVerify: true}), "STAT", "QUIT") // the test's own certificate
	conn := f.dial(secure)
	_, _ = io.WriteString(conn, "USER alice\r\nPASS wrong\r\n") // its end does not matter
	_ = conn.Close()
	for _, wrong := range []string{"USER alice\r\nPASS wrong\r\nQUIT\r\n", "QUIT\r\n"} {
		conn := f.dial(old)
		_, _ = io.WriteString(conn, wrong)
		ended(t, conn)
	}
	v.Close()
	seen := f.clients()
	slices.SortFunc(seen, func(a, b store.Client) int { return strings.Compare(a.Door, b.Door) })
	var got []string
	for _, c := range seen {
		got = append(got, strings.Join([]string{c.Door, c.Program, c.Mechanism, c.TLS, c.Address.String()}, "|"))
	}
	want := []string{"old_pop3|USER, PASS, STAT|USER||198.51.100.7", "pop3s|USER, PASS, STAT|USER|TLS 1.3|127.0.0.1"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q,\nwant %q", got, want)
	}
	text, err := json.Marshal(seen)
	if err != nil || bytes.Contains(text, []byte("alice")) || bytes.Contains(text, []byte("sesame")) {
		t.Errorf("%v: %s", err, text)
	}
}

// TestInventoryMechanisms: SASL and APOP are told by their names.
func TestInventoryMechanisms(t *testing.T) {
	f := oldDoor(t)
	v := NewInventory(f.store, nil)
	f.door = f.serve(Options{Inventory: v, Door: "old_pop3", OldClients: only(f.alice.ID)}, nil)
	c := f.dialTalk(t)
	c.reply("+OK")
	c.ask("AUTH PLAIN AGFsaWNlAG9wZW4gc2VzYW1l", "+OK") // seals
	c.ask("QUIT", "+OK")
	ended(t, c.conn)
	c = f.dialTalk(t)
	greeting := c.reply("+OK")
	c.ask("APOP alice "+digestOf(t, greeting, "open sesame"), "+OK")
	c.ask("QUIT", "+OK")
	ended(t, c.conn)
	v.Close()
	got := map[string]string{}
	for _, c := range f.clients() {
		got[c.Mechanism] = c.Program
	}
	if want := fmt.Sprint(map[string]string{"APOP": "APOP", "PLAIN": "AUTH * *"}); fmt.Sprint(got) != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestInventoryOfPolls: a session without mail is that of the program that came in the same way before, if it began alike.
func TestInventoryOfPolls(t *testing.T) {
	f := newFixture(t)
	v := NewInventory(f.store, nil)
	at := store.Client{Account: f.alice.ID, Door: "pop3", Mechanism: "USER", First: time.Unix(1, 0), Last: time.Unix(1, 0), Sessions: 1}
	note := func(c store.Client, commands string) { v.notePOP3(c, strings.Split(commands, ", ")) }
	elsewhere, secure := at, at
	elsewhere.Door, secure.TLS = "old_pop3", "TLS 1.3"
	note(at, "USER, PASS, STAT, QUIT") // before anything is known
	note(at, "USER, PASS, STAT, LIST *, RETR, DELE, QUIT")
	v.Close() // it is remembered beyond what is written down
	note(at, "USER, PASS, STAT, QUIT")
	note(at, "CAPA, STLS, USER, PASS, STAT, QUIT")
	note(at, "CAPA, USER, PASS, STAT, QUIT")
	note(at, "USER, PASS, STA, QUIT")
	note(elsewhere, "USER, PASS, STAT, QUIT")
	note(secure, "USER, PASS, STAT, QUIT")
	v.Close()
	got := map[string]int64{}
	for _, c := range f.clients() {
		got[c.Program] += c.Sessions
	}
	want := map[string]int64{"fetchmail": 3, "USER, PASS, STAT": 3, "CAPA, USER, PASS, STAT": 1, "USER, PASS, STA": 1}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// notes is a store of clients that may fail; during is called while it works.
type notes struct {
	during func()
	mu     sync.Mutex // protects what follows
	fail   error
	calls  [][]store.Client
}

func (n *notes) failWith(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fail = err
}

// made returns the calls so far.
func (n *notes) made() [][]store.Client {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.calls)
}

func (n *notes) NoteClients(_ context.Context, seen []store.Client) error {
	if n.during != nil {
		n.during()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.calls = append(n.calls, seen)
	return n.fail
}

func (*notes) ListClients(context.Context, store.AccountID, int) ([]store.Client, error) {
	return nil, errors.New("nobody asks")
}

// TestInventoryIsWrittenDown every minute, and at the end; what the store does not take is kept.
func TestInventoryIsWrittenDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &notes{}
		v := NewInventory(n, nil)
		ctx, end := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { v.Run(ctx); close(done) }()
		pass := func(d time.Duration, want int) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
			if got := len(n.made()); got != want {
				t.Fatalf("%d calls, want %d", got, want)
			}
		}
		one := store.Client{Account: 1, Program: "mpop", First: time.Now(), Last: time.Now(), Sessions: 1, Deleted: 2}
		pass(inventoryEvery, 0) // nothing was seen
		v.Note(one)
		pass(inventoryEvery-time.Nanosecond, 0)
		pass(time.Nanosecond, 1)
		pass(inventoryEvery, 1)
		n.failWith(errors.New("disk full"))
		v.Note(one)
		pass(inventoryEvery, 2)
		later := one
		later.First, later.Last = time.Now(), time.Now()
		n.failWith(nil)
		v.Note(later)
		pass(inventoryEvery, 3)
		both := later
		both.First, both.Sessions, both.Deleted = one.First, 2, 4
		if got := n.made()[2]; len(got) != 1 || got[0] != both {
			t.Errorf("got %+v, want %+v", got, both)
		}
		v.Note(one)
		end()
		<-done
		pass(inventoryEvery, 3)
		v.Close()
		v.Close()
		pass(0, 4)
	})
}

// TestInventoryIsNotInTheWay: while the store takes its time sessions are noted.
func TestInventoryIsNotInTheWay(t *testing.T) {
	n := &notes{}
	v := NewInventory(n, nil)
	n.during = func() {
		if !v.mu.TryLock() {
			t.Error("a session that ends now waits for the store")
			return
		}
		v.mu.Unlock()
		n.during = nil
		v.Note(store.Client{Account: 2, Sessions: 1})
	}
	v.Note(store.Client{Account: 1, Sessions: 1})
	v.Close()
	v.Close()
	if len(n.calls) != 2 || n.calls[0][0].Account != 1 || n.calls[1][0].Account != 2 {
		t.Errorf("calls: %+v", n.calls)
	}
}

// TestInventoryIsBounded, and says what it left out.
func TestInventoryIsBounded(t *testing.T) {
	var log bytes.Buffer
	n := &notes{}
	v := NewInventory(n, slog.New(slog.NewTextHandler(&log, nil)))
	for account := range store.AccountID(maxInventory) {
		v.Note(store.Client{Account: account, Sessions: 1})
	}
	v.Note(store.Client{Account: 1, Sessions: 1}) // known
	v.Close()
	if len(n.calls) != 1 || len(n.calls[0]) != maxInventory || log.Len() != 0 {
		t.Fatalf("%d calls, log %s", len(n.calls), &log)
	}
	if err := store.ValidateClients(n.calls[0]); err != nil {
		t.Error(err)
	}
	for account := range store.AccountID(maxInventory + 2) {
		v.Note(store.Client{Account: account, Sessions: 1})
	}
	v.Close()
	if len(n.calls[1]) != maxInventory || !strings.Contains(log.String(), "sessions_not_noted=2") {
		t.Errorf("%d clients, log %s", len(n.calls[1]), &log)
	}
	for account := range store.AccountID(maxPlaces) {
		v.notePOP3(store.Client{Account: account, Sessions: 1}, []string{"USER", "PASS", "QUIT"})
	}
	if len(v.places) != maxPlaces {
		t.Errorf("%d places, want %d", len(v.places), maxPlaces)
	}
	v.notePOP3(store.Client{Account: maxPlaces, Sessions: 1}, []string{"USER", "PASS", "QUIT"})
	if len(v.places) != 1 {
		t.Errorf("%d places beyond the bound", len(v.places))
	}
}
