package webmanager

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"latchkey/guard"
	"latchkey/store"
)

// desk gives the API a desk of bans over its store.
func (f *fixture) desk() *guard.BanDesk {
	f.Helper()
	logins := guard.NewLogins(guard.LoginLimits{})
	desk := &guard.BanDesk{
		Logins: logins, Keeper: guard.NewBanKeeper(logins, f.store, f.api.now, nil), Strangers: guard.NewStrangers(guard.StrangerLimits{}, nil),
	}
	f.api.bans = desk
	return desk
}

// bans are those that the API lists.
func (f *fixture) bans() (list []string) {
	f.Helper()
	var answer BanList
	f.do("GET", "/v1/bans", nil, &answer)
	for _, b := range answer.Bans {
		list = append(list, strings.TrimSpace(fmt.Sprintln(b.Network, b.Door, b.Mailbox, b.NoMailbox, b.Reason, b.By, b.Until.Sub(noon))))
	}
	return list
}

// TestBans: those after guesses, those from port 25 and those that somebody made are listed, made and lifted, and all that somebody did is audited.
func TestBans(t *testing.T) {
	f := newFixture(t)
	f.add("anna")
	desk := f.desk()
	client := netip.MustParseAddr("198.51.100.9")
	for i := range guard.DefaultLoginLimits().Pair.N {
		desk.Logins.Failed(noon, client, "anna", 1, fmt.Sprint(i))
		desk.Logins.Failed(noon, client, "secret typed", 0, fmt.Sprint(i))
	}
	for range 3 {
		desk.Strangers.Relayed(noon, client)
	}
	var made Ban
	f.do("POST", "/v1/bans", NewBan{Network: "203.0.113.7/24", Mailbox: "Anna@example.com", Reason: "stolen phone", For: "2d"}, &made)
	f.do("POST", "/v1/bans", NewBan{Network: "2001:db8::5"}, &made)
	if made.Until != noon.Add(DefaultBanTime) || made.By != "tester" {
		t.Errorf("made %+v", made)
	}
	want := []string{
		"198.51.100.9/32 mx  false tried to relay  30m0s", "198.51.100.9/32 login anna false wrong passwords  15m0s",
		"198.51.100.9/32 login  true wrong passwords  15m0s", "203.0.113.0/24 login anna false stolen phone tester 48h0m0s",
		"2001:db8::/64 login  false  tester 24h0m0s",
	}
	if got := f.bans(); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	again := guard.NewLogins(guard.LoginLimits{})
	if err := guard.NewBanKeeper(again, f.store, f.api.now, nil).Load(t.Context()); err != nil || len(again.Bans(noon)) != 4 {
		t.Errorf("kept are %+v (%v)", again.Bans(noon), err)
	}
	var lifted BanList
	f.do("POST", "/v1/bans/lift", BanLift{Mailbox: "anna"}, &lifted)
	if len(lifted.Bans) != 2 || len(f.bans()) != 3 {
		t.Errorf("lifted %+v", lifted)
	}
	f.do("POST", "/v1/bans/lift", BanLift{Network: "198.51.100.9"}, &lifted)
	if len(lifted.Bans) != 2 || len(f.bans()) != 1 {
		t.Errorf("lifted %+v", lifted)
	}
	f.do("POST", "/v1/bans/lift", BanLift{Network: "2001:db8::/32", Mailbox: "anna"}, &lifted)
	if len(lifted.Bans) != 0 {
		t.Errorf("lifted %+v", lifted)
	}
	var objects []string
	for _, e := range f.audit() {
		if strings.HasPrefix(e.Action, "ban.") {
			objects = append(objects, e.Action+" "+e.Object)
		}
		if strings.Contains(e.Before+e.After, "typed") {
			t.Errorf("a name that is nobody's is in the audit log: %+v", e)
		}
	}
	wantObjects := []string{
		"ban.lift 2001:db8::/32 anna", "ban.lift 198.51.100.9/32", "ban.lift anna", "ban.add 2001:db8::/64", "ban.add 203.0.113.0/24",
	}
	if !slices.Equal(objects, wantObjects) {
		t.Errorf("audit: got %q, want %q", objects, wantObjects)
	}
}

// TestBansRefused: everything that is no ban, and an API without bans.
func TestBansRefused(t *testing.T) {
	f := newFixture(t)
	f.add("anna")
	for _, path := range []string{"GET /v1/bans", "POST /v1/bans", "POST /v1/bans/lift"} {
		method, path, _ := strings.Cut(path, " ")
		if err := f.client.Do(t.Context(), method, path, NewBan{}, nil); !isCode(err, CodeUnavailable) {
			t.Errorf("%s %s: %v", method, path, err)
		}
	}
	f.desk()
	for _, tt := range []struct {
		path  string
		body  any
		code  Code
		words string
	}{
		{"", NewBan{}, CodeInvalid, "network: is an address or a network"},
		{"", NewBan{Network: "example.com"}, CodeInvalid, "network: is"},
		{"", NewBan{Network: "198.48.0.0/12"}, CodeInvalid, "a network is at most a /16 wide"},
		{"", NewBan{Network: "198.51.100.7", For: "0s"}, CodeInvalid, "for: is a time such as"},
		{"", NewBan{Network: "198.51.100.7", For: "367d"}, CodeInvalid, "for: is a time such as"},
		{"", NewBan{Network: "198.51.100.7", For: "soon"}, CodeInvalid, "for: is a time such as"},
		{"", NewBan{Network: "198.51.100.7", Reason: strings.Repeat("x", 101)}, CodeInvalid, "a reason has at most"},
		{"", NewBan{Network: "198.51.100.7", Mailbox: "nobody"}, CodeNotFound, "there is no mailbox nobody@example.com"},
		{"/lift", BanLift{}, CodeInvalid, "say which bans"},
		{"/lift", BanLift{Network: "x"}, CodeInvalid, "network: is"},
		{"/lift", BanLift{Mailbox: "nobody"}, CodeNotFound, "there is no mailbox"},
	} {
		err := f.client.Do(t.Context(), "POST", "/v1/bans"+tt.path, tt.body, nil)
		if !isCode(err, tt.code) || !strings.Contains(err.Error(), tt.words) {
			t.Errorf("%+v: got %v, want %s %q", tt.body, err, tt.code, tt.words)
		}
	}
	for i := range guard.MaxBanRules {
		f.do("POST", "/v1/bans", NewBan{Network: fmt.Sprintf("198.51.%d.%d", i/200, i%200), For: "366d"}, nil)
	}
	if err := f.client.Do(t.Context(), "POST", "/v1/bans", NewBan{Network: "203.0.113.1"}, nil); !isCode(err, CodeConflict) {
		t.Errorf("one too many: %v", err)
	}
}

// TestTellStale: the owner reads which address, door, login and program, how often, and what to do; who is gone is not told.
func TestTellStale(t *testing.T) {
	f := newFixture(t)
	f.add("anna")
	a := f.account("anna")
	remote := netip.MustParseAddr("198.51.100.9")
	if err := f.store.NoteClients(t.Context(), []store.Client{
		{Account: a.ID, Program: "Sylpheed", Door: "pop3s", Mechanism: "USER", Address: remote, First: noon, Last: noon, Sessions: 1},
		{Account: a.ID, Program: "fetchmail", Door: "pop3s", Mechanism: "PLAIN", Address: netip.MustParseAddr("203.0.113.1"), First: noon, Last: noon.Add(1), Sessions: 1},
	}); err != nil {
		t.Fatal(err)
	}
	d := guard.StaleDevice{
		Account: a.ID, Mailbox: "anna", Remote: remote, Door: "pop3", Mechanism: "USER", Previous: true, Times: 7, First: noon.Add(-time.Hour), Last: noon,
	}
	if err := TellStale(t.Context(), f.store, d, noon); err != nil {
		t.Fatal(err)
	}
	drop, err := f.store.OpenMaildrop(t.Context(), a.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = drop.Close() }()
	messages, err := drop.Messages(t.Context())
	if err != nil || len(messages) != 1 {
		t.Fatalf("%d messages (%v)", len(messages), err)
	}
	r, err := drop.OpenMessage(t.Context(), messages[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	raw, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	for _, words := range []string{
		"Return-Path: <>\r\n", "To: <anna@example.com>\r\n", "Auto-Submitted: auto-generated\r\n", "with a password of\r\nthis mailbox that was changed since",
		"It came 7 times", noon.Add(-time.Hour).Format(time.RFC3339), "address: 198.51.100.9\r\n", "for: incoming mail (POP3)\r\n", "login: USER\r\n",
		"program seen there before: Sylpheed\r\n", "give it the new one, or remove", "Nothing is locked",
	} {
		if !strings.Contains(text, words) {
			t.Errorf("no %q in\n%s", words, text)
		}
	}
	for line := range strings.SplitSeq(text, "\r\n") {
		if len(line) > noticeWidth+2 || strings.ContainsAny(line, "\r\n") {
			t.Errorf("line %q", line)
		}
	}
	d.Account = 99
	if err := TellStale(context.Background(), f.store, d, noon); err == nil {
		t.Error("somebody who does not exist was told")
	}
}
