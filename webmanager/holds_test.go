package webmanager

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"latchkey/guard"
	"latchkey/internal/mailaddr"
	"latchkey/store"
)

// onHold sends from a mailbox, older than it is, to many at once, and commits what comes of it.
func (f *fixture) onHold(name string, n int) []store.JobID {
	f.Helper()
	account := f.account(name)
	conduct := guard.NewConduct(guard.ConductOptions{
		Store: f.store, Notices: &Notices{Store: f.store, Now: f.api.now, Logger: f.api.log},
		Now: f.api.now,
	})
	m := guard.Outgoing{Account: account.ID, Remote: netip.MustParseAddr("203.0.113.9"), NewRecipients: n - 1}
	e := store.Envelope{Submitter: account.ID, Received: f.api.now(), HeaderLen: 2}
	for i := range n {
		a, err := mailaddr.Parse(fmt.Sprintf("p%d@elsewhere.example", i))
		if err != nil {
			f.Fatal(err)
		}
		m.Recipients = append(m.Recipients, a)
		e.Recipients = append(e.Recipients, store.Recipient{Address: a})
	}
	opinion, err := conduct.Judge(f.Context(), m)
	if err != nil || opinion.Hold == "" {
		f.Fatalf("held for %q, %v", opinion.Hold, err)
	}
	e.Hold = string(opinion.Hold)
	d, err := f.store.NewDraft(f.Context())
	if err != nil {
		f.Fatal(err)
	}
	if _, err := d.Write([]byte("\r\nx\r\n")); err != nil {
		f.Fatal(err)
	}
	r, err := d.Commit(f.Context(), e)
	if err != nil {
		f.Fatal(err)
	}
	opinion.Took(f.Context())
	return r.Jobs
}

// age makes a mailbox old enough to have networks of its own.
func (f *fixture) age(name string) {
	f.Helper()
	a := f.account(name)
	if err := f.store.RemoveAccount(f.Context(), a.ID); err != nil {
		f.Fatal(err)
	}
	a.Created = f.api.now().AddDate(-1, 0, 0)
	if _, err := f.store.AddAccount(f.Context(), a); err != nil {
		f.Fatal(err)
	}
}

func (f *fixture) holds() []Hold {
	f.Helper()
	var holds []Hold
	f.do(http.MethodGet, "/v1/holds", nil, &holds)
	return holds
}

// TestReleaseSender: what is held goes, the network is the mailbox's own, owner and postmaster were told how, and the audit log has it.
func TestReleaseSender(t *testing.T) {
	f := newFixture(t)
	f.add("anna", "bert", "postmaster")
	f.age("anna")
	jobs := f.onHold("anna", 50)
	want := []Hold{{Mailbox: "anna", Network: "203.0.113.0/24", Reason: string(guard.HoldBurst), Since: f.api.now()}}
	if got := f.holds(); len(got) != 1 || got[0].Network != want[0].Network || got[0].Reason != want[0].Reason || got[0].Mailbox != "anna" {
		t.Errorf("holds %+v, want %+v", got, want)
	}
	for _, name := range []string{"anna", "postmaster"} {
		box := f.inbox(name)
		if len(box) != 1 || !strings.Contains(box[0], "Subject: Mail of anna is on hold\r\n") ||
			!strings.Contains(box[0], "\r\nlatchkey queue release --sender anna\r\n") || !strings.Contains(box[0], "\r\nlatchkey account purge anna\r\n") {
			t.Errorf("%s was told %q", name, box)
		}
	}
	var result SenderReleased
	f.do(http.MethodPost, "/v1/accounts/anna/release", nil, &result)
	if result.Released != len(jobs) || !slices.Equal(result.Networks, []string{"203.0.113.0/24"}) {
		t.Errorf("released %+v", result)
	}
	if got := f.holds(); len(got) != 0 {
		t.Errorf("holds after the release: %+v", got)
	}
	for _, id := range jobs {
		if f.job(id).Held {
			t.Fatalf("job %d is still held", id)
		}
	}
	if got := f.actions("sender."); len(got) != 1 {
		t.Errorf("audit: %v", got)
	}
	if err := f.client.Do(t.Context(), http.MethodPost, "/v1/accounts/nobody/release", nil, nil); !isCode(err, CodeNotFound) {
		t.Errorf("nobody: %v", err)
	}
}

// TestPurge: the password is another one, grants and devices end, what is held is gone, mail of others and what is not held stays.
func TestPurge(t *testing.T) {
	f := newFixture(t)
	f.add("anna", "bert", "postmaster")
	f.age("anna")
	f.onHold("anna", 50)
	others := f.onHold("bert", 60)
	f.grant("anna", "203.0.113.9/32", 1)
	f.device("anna", "of a thief")
	kept := f.device("bert", "scanner")
	before := f.account("anna")
	for _, body := range []string{`{"password":"short"}`, `{}`} {
		if code, answer := f.raw(http.MethodPost, "/v1/accounts/anna/purge", "application/json", body); code != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d %s", body, code, answer)
		}
	}
	var result Purged
	f.do(http.MethodPost, "/v1/accounts/anna/purge", Purge{Password: "quite another password"}, &result)
	if result != (Purged{Removed: 50, GrantsRevoked: 1, DevicesRevoked: 1}) {
		t.Errorf("purged %+v", result)
	}
	if after := f.account("anna"); after.Verifier == before.Verifier || after.CredentialVersion == before.CredentialVersion {
		t.Error("the password is the old one")
	}
	held := true
	left, _, err := f.store.ListJobs(t.Context(), store.QueueFilter{Held: &held}, 0, 1000)
	if err != nil || len(left) != len(others) {
		t.Errorf("%d are held, %v, want bert's %d", len(left), err, len(others))
	}
	if live := f.live(); len(live) != 0 {
		t.Errorf("grants %v", live)
	}
	for name, want := range map[string][]store.DeviceID{"anna": nil, "bert": {kept.ID}} {
		var ids []store.DeviceID
		devices, err := f.store.ListDevices(t.Context(), f.account(name).ID)
		for _, d := range devices {
			ids = append(ids, d.ID)
		}
		if err != nil || !slices.Equal(ids, want) {
			t.Errorf("%s has devices %v, %v, want %v", name, ids, err, want)
		}
	}
	if got := f.actions("account.purge"); len(got) != 1 {
		t.Errorf("audit: %v", got)
	}
	for _, e := range f.audit() {
		if strings.Contains(e.Before+e.After, "quite another") {
			t.Error("the audit log has the password")
		}
	}
}
