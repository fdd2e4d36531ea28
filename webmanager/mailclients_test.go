package webmanager

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"latchkey/store"
	"latchkey/store/memstore"
)

func TestOldAbout(t *testing.T) {
	near, far := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("192.0.2.1")
	for _, tt := range []struct {
		c    store.Client
		want string
	}{
		{store.Client{Door: "pop3", Mechanism: "PLAIN", TLS: "TLS 1.3", Address: far}, ""},
		{store.Client{Door: "pop3", Mechanism: "SCRAM-SHA-256", TLS: "TLS 1.2", Address: far}, ""},
		{store.Client{Door: "pop3", Mechanism: "USER", Address: near}, ""},
		{store.Client{Door: "pop3", Mechanism: "USER", Address: netip.MustParseAddr("::1")}, ""},
		{store.Client{Door: "pop3", Mechanism: "USER", Address: far}, "cleartext"},
		{store.Client{Door: "submission", Mechanism: "PLAIN", TLS: "TLS 1.0", Address: near}, "TLS 1.0"},
		{store.Client{Door: "submission", Mechanism: "PLAIN", TLS: "TLS 1.1", Address: far}, "TLS 1.1"},
		{store.Client{Door: "pop3s", Mechanism: "APOP", TLS: "TLS 1.3", Address: far}, "APOP"},
		{store.Client{Door: "old_smtps", Mechanism: "CRAM-MD5", TLS: "TLS 1.2", Address: far}, "old-client door|CRAM-MD5"},
		{store.Client{Door: "old_pop3", Mechanism: "APOP", Address: far}, "old-client door|cleartext|APOP"},
		{store.Client{Door: "old_pop3", Mechanism: "USER", Address: near}, "old-client door"},
	} {
		if got := oldAbout(tt.c); got == nil || strings.Join(got, "|") != tt.want {
			t.Errorf("%+v: got %q, want %q", tt.c, got, tt.want)
		}
	}
}

// noteClients makes n clients for each mailbox; every second one is old.
func (f *fixture) noteClients(n int, names ...string) {
	f.Helper()
	for _, name := range names {
		var seen []store.Client
		for i := range n {
			c := store.Client{Account: f.account(name).ID, Program: fmt.Sprint(name, i), Door: "pop3s", TLS: "TLS 1.3", Sessions: 1, First: noon, Last: noon}
			if i%2 == 0 {
				c.TLS = "TLS 1.0"
			}
			seen = append(seen, c)
		}
		if err := f.store.NoteClients(f.Context(), seen); err != nil {
			f.Fatal(err)
		}
	}
}

// TestListClients: of one mailbox, or of all, so many mailboxes at a time; with old=true only the old ones.
func TestListClients(t *testing.T) {
	f := newFixture(t)
	f.add("anna", "bert", "carl")
	f.noteClients(store.MaxClients, "anna", "carl")
	for _, tt := range []struct {
		query, next string
		want        int
		first, last string
	}{
		{"?limit=1", "anna", 32, "anna", "anna"},
		{"?limit=1&after=anna", "bert", 0, "", ""},
		{"?limit=2&after=anna", "carl", 32, "carl", "carl"},
		{"?limit=1&after=carl", "", 0, "", ""},
		{"?limit=3", "carl", 64, "anna", "carl"},
		{"?limit=4", "", 64, "anna", "carl"},
		{"?old=true", "", 32, "anna", "carl"},
		{"?old=false&mailbox=anna", "", 32, "anna", "anna"},
		{"?old=true&mailbox=CARL@example.com", "", 16, "carl", "carl"},
		{"?mailbox=bert", "", 0, "", ""},
	} {
		var page ClientPage
		f.do(http.MethodGet, "/v1/clients"+tt.query, nil, &page)
		if len(page.Clients) != tt.want || page.Next != tt.next {
			t.Errorf("%s: %d clients, next %q", tt.query, len(page.Clients), page.Next)
			continue
		}
		if tt.want == 0 {
			continue
		}
		first, last := page.Clients[0], page.Clients[tt.want-1]
		if first.Mailbox != tt.first || last.Mailbox != tt.last || last.Address.String() != tt.last+"@example.com" {
			t.Errorf("%s: from %+v to %+v", tt.query, first, last)
		}
		if strings.Contains(tt.query, "old=true") && slices.ContainsFunc(page.Clients, func(c MailClient) bool { return len(c.Old) == 0 }) {
			t.Errorf("%s: some are not old", tt.query)
		}
	}
}

// TestListClientsRefusals, and that an empty list is one.
func TestListClientsRefusals(t *testing.T) {
	f := newFixture(t)
	f.add("anna")
	for query, words := range map[string]string{
		"old=yes": "is true or false", "limit=0": "whole number", "limit=1001": "whole number", "mailbox=nobody": "there is no mailbox nobody@example.com",
		"mailbox=anna@elsewhere.example": "another domain",
	} {
		if status, answer := f.raw(http.MethodGet, "/v1/clients?"+query, "", ""); status < 400 || status >= 500 || !strings.Contains(answer, words) {
			t.Errorf("%s: %d %s", query, status, answer)
		}
	}
	if status, answer := f.raw(http.MethodGet, "/v1/clients", "", ""); status != 200 || strings.TrimSpace(answer) != `{"clients":[]}` {
		t.Errorf("%d %s", status, answer)
	}
}

// noClients is a store whose clients cannot be read.
type noClients struct{ *memstore.Store }

func (noClients) ListClients(context.Context, store.AccountID, int) ([]store.Client, error) {
	return nil, context.DeadlineExceeded
}

func TestListClientsFails(t *testing.T) {
	f := newFixture(t)
	f.add("anna")
	f.api.store = noClients{f.store}
	if status, answer := f.raw(http.MethodGet, "/v1/clients", "", ""); status < 500 || strings.Contains(answer, "deadline") {
		t.Errorf("%d %s", status, answer)
	}
}
